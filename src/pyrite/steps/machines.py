"""What a machine of a cluster must have in common with the one that gives the command: the store, its locks, the inputs, the code.

A machine without the store would write a store of its own and say that all went well; one without its locks would work on a
step beside another; other code would publish under the keys of this one. Each is found before a step runs there.
"""

import contextlib
import functools
import hashlib
import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyrite
from pyrite.errors import UserError
from pyrite.io.copies import named_by_url
from pyrite.io.urls import on_this_machine
from pyrite.steps.step import Source, Step
from pyrite.steps.store import BY_LEASE, Store

PASSED_ON = ("HF_HUB_OFFLINE", "PYRITE_CHECKPOINT_SECONDS", "PYRITE_LEASE_SECONDS")
"""Variables of the command's environment that change what a step does."""


@dataclass(frozen=True)
class Shared:
    """What the other machines compare with what they see."""

    store: Store
    witness: str
    """A lock in the store that the command holds."""
    folder: Path
    """Where the command was given: relative paths begin there."""
    code: str
    environment: tuple[tuple[str, str], ...]


class Witness:
    """A lock in the store that is held while a run lasts."""

    def __init__(self, store: Store) -> None:
        self.store, self.key = store, f"cluster-{uuid.uuid4().hex}"
        environment = tuple((name, os.environ[name]) for name in PASSED_ON if name in os.environ)
        self.shared = Shared(store, self.key, Path.cwd(), code_digest(), environment)
        self.held = contextlib.ExitStack()
        self.held.enter_context(store.lock(self.key))

    def close(self) -> None:
        """Let go of it."""
        self.held.close()
        self.store.forget_lock(self.key)


def by_url(step: Step) -> Step:
    """The step with its copies of URLs called by their URLs, from which each machine has a copy of its own."""
    inputs = {
        name: replace(source, path=named_by_url(source.path, openable=True)) if isinstance(source, Source) else source
        for name, source in step.inputs.items()
    }
    return replace(step, inputs=inputs)


def files_of(step: Step) -> tuple[str, ...]:
    """The files and folders outside the store that a step reads, as this machine sees them."""
    paths = (
        os.path.abspath(source.path)
        for source in by_url(step).inputs.values()
        if isinstance(source, Source) and on_this_machine(source.path)
    )
    return tuple(path for path in paths if os.path.exists(path))


def enter(shared: Shared, files: Sequence[str]) -> None:
    """Take on the command's environment, once it is sure that this machine sees what that one sees.

    Raises:
        UserError: the store, its locks, an input or the code is another one here.
    """
    host = socket.gethostname()
    if (code := code_digest()) != shared.code:
        found = f"{host}: pyrite {pyrite.__version__}, files {code}; the command's: {shared.code}"
        raise UserError("A machine of the cluster has another Pyrite.", found, "install the same on every machine")
    check_store(shared.store, shared.witness, host)
    for file in files:
        if not os.path.exists(file):
            fix = "put it under the same path on every machine"
            raise UserError("A machine of the cluster does not see an input.", f"{host}: {file}", fix)
    if shared.folder.is_dir():
        os.chdir(shared.folder)
    os.environ.update(shared.environment)


def check_store(store: Store, name: str, host: str) -> None:
    """Does this machine see the store, with the command's witness?

    Raises:
        UserError: it sees another, or one whose locks are not the command's.
    """
    held = store.is_locked(name)
    if held is None:
        fix = "mount the store under the same path on every machine, and name it with --store"
        if not on_this_machine(store.place):
            fix = "set the same endpoint on every machine (AWS_ENDPOINT_URL)"
        raise UserError("A machine of the cluster does not see the store.", f"{host}: {store.place}", fix)
    if not held:
        fix = f"mount it with locks (NFSv4; Lustre: -o flock), or lock by lease: touch {store.place}/locks/{BY_LEASE}"
        raise UserError("Machines do not see each other's locks in the store.", f"{host}: {store.place}", fix)


@functools.cache
def code_digest() -> str:
    """Which Pyrite is this? A hash of its Python files, 12 hex digits."""
    folder = Path(pyrite.__file__).parent
    content = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        content.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return content.hexdigest()[:12]
