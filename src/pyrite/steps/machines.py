"""What a machine of a cluster must have in common with the one that gives the command: the store, its locks, the inputs, the code.

A machine without the store would write a store of its own and say that all went well; one without its locks would work on a
step beside another; other code would publish under the keys of this one. Each is found before a step runs there.
"""

import functools
import hashlib
import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

import pyrite
from pyrite.errors import UserError
from pyrite.steps.step import Source, Step
from pyrite.steps.store import make_folder

PASSED_ON = ("HF_HUB_OFFLINE", "PYRITE_CHECKPOINT_SECONDS")
"""Variables of the command's environment that change what a step does."""


@dataclass(frozen=True)
class Shared:
    """What the other machines compare with what they see."""

    root: Path
    """The store."""
    witness: str
    """A file among the store's locks that the command holds locked."""
    folder: Path
    """Where the command was given: relative paths begin there."""
    code: str
    environment: tuple[tuple[str, str], ...]


class Witness:
    """A lock in the store that is held while a run lasts."""

    def __init__(self, root: Path) -> None:
        make_folder(root / "locks")
        self.file = root / "locks" / f"cluster-{uuid.uuid4().hex}.lock"
        self.lock = FileLock(self.file)
        self.lock.acquire()
        environment = tuple((name, os.environ[name]) for name in PASSED_ON if name in os.environ)
        self.shared = Shared(root, self.file.name, Path.cwd(), code_digest(), environment)

    def close(self) -> None:
        """Let go of it."""
        self.file.unlink(missing_ok=True)
        self.lock.release()


def files_of(step: Step) -> tuple[str, ...]:
    """The files and folders outside the store that a step reads, as this machine sees them."""
    paths = (os.path.abspath(source.path) for source in step.inputs.values() if isinstance(source, Source))
    return tuple(path for path in paths if os.path.exists(path))


def enter(shared: Shared, files: Sequence[str]) -> None:
    """Take on the command's environment, once it is sure that this machine sees what that one sees.

    Raises:
        UserError: the store, its locks, an input or the code is another one here.
    """
    here = socket.gethostname()
    if (code := code_digest()) != shared.code:
        found = f"{here}: pyrite {pyrite.__version__}, files {code}; the command's: {shared.code}"
        raise UserError("A machine of the cluster has another Pyrite.", found, "install the same on every machine")
    lock = shared.root / "locks" / shared.witness
    if not lock.is_file():
        fix = "mount the store under the same path on every machine, and name it with --store"
        raise UserError("A machine of the cluster does not see the store.", f"{here}: {shared.root}", fix)
    try:
        with FileLock(lock, timeout=0):
            held = False
    except Timeout:
        held = True
    if not held:
        fix = "mount it with locks: NFSv4, or Lustre with -o flock"
        raise UserError("Machines do not see each other's locks in the store.", f"{here}: {shared.root}", fix)
    for file in files:
        if not os.path.exists(file):
            fix = "put it under the same path on every machine"
            raise UserError("A machine of the cluster does not see an input.", f"{here}: {file}", fix)
    if shared.folder.is_dir():
        os.chdir(shared.folder)
    os.environ.update(shared.environment)


@functools.cache
def code_digest() -> str:
    """Which Pyrite is this? A hash of its Python files, 12 hex digits."""
    folder = Path(pyrite.__file__).parent
    content = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        content.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return content.hexdigest()[:12]
