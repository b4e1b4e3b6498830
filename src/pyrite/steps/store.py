"""Finished steps, each in a folder named by its key and published by one atomic rename.

    STORE/done/ab/abcdef…/      what the step wrote, and step.json (recipe, versions, seconds)
    STORE/attempts/abcdef…/     an attempt under way or cut off: out/ is thrown away, checkpoint-…/ is resumed from while
                                the inputs are those that its name is a hash of
    STORE/locks/abcdef….lock    held while a process works on that step

A folder under `done` is complete by construction, so any number of processes and machines may share a store. Where the file
system has no locks, they are leases (`lease.py`); on an object store all of it is `remote_store.py`.
"""

import contextlib
import errno
import functools
import os
import platform
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

import pyrite
from pyrite.errors import UserError
from pyrite.io import atomic_write
from pyrite.steps.lease import Lease, is_held, taken
from pyrite.steps.objects import FolderRegister
from pyrite.steps.step import Step, digest

MANIFEST = "step.json"
DROPPED = "weights-dropped"
BY_LEASE = "by-lease"
"""A file among the locks of a store whose file system has none: there, everybody locks by lease."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "scikit-learn")


def default_store() -> Path:
    """Where is the store? `$PYRITE_STORE`, else a folder in the user's cache."""
    import platformdirs

    return Path(os.environ.get("PYRITE_STORE") or Path(platformdirs.user_cache_dir("pyrite")) / "store")


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished step as `pyrite store ls` lists it; `bytes` counts what it holds on disk."""

    key: str
    step: str
    label: str
    seconds: float
    finished: float
    bytes: int
    weights_dropped: bool


class Store:
    """Reads and publishes finished steps under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.leases: dict[str, Lease] = {}

    @property
    def place(self) -> str:
        """What `open_store` opens this store by."""
        return str(self.root)

    def beside(self, name: str, content: bytes) -> Path:
        """A small file of the store's that is no step's, as it lies on this machine; written where it is not there yet."""
        file = self.root / name
        make_folder(file.parent)
        with atomic_write(file) as part:
            part.write_bytes(content)
        return file

    def absolute(self) -> "Store":
        """The same store, whatever the working folder."""
        return Store(self.root.absolute())

    def folder(self, key: str) -> Path:
        """Where a step lies on this machine, or would lie."""
        return self.root / "done" / key[:2] / key

    def path(self, key: str) -> Path:
        """Where the finished step of this key lies, or would lie; its droppable files may not be there."""
        return self.folder(key)

    def has(self, step: Step, *, weights: bool = False) -> bool:
        """Is this step finished here? With `weights`, also its droppable files."""
        folder = self.folder(step.key)
        return (folder / MANIFEST).is_file() and not (weights and (folder / DROPPED).exists())

    def fetch(self, step: Step) -> bool:
        """Have a finished step with its droppable files on this machine; False where there is none that has them."""
        return self.has(step, weights=True)

    def survey(self, steps: Iterable[Step]) -> dict[str, bool]:
        """Which of these steps are finished? By key, whether the droppable files are there."""
        return {step.key: self.has(step, weights=True) for step in steps if self.has(step)}

    def file_sizes(self, key: str) -> dict[str, int]:
        """The files of a finished step, in bytes."""
        folder = self.folder(key)
        return {
            file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()
        }

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the right to work on a step; waits while another process has it. A lease where the file system has no locks.

        Raises:
            UserError: the file system has no locks here, and others use its locks.
        """
        folder = self.root / "locks"
        make_folder(folder)
        lock = None if (folder / BY_LEASE).exists() else flocked(folder, key)
        if lock is None:
            with self.leased(key, Lease(FolderRegister(folder), f"{key}.lease")):
                yield
            return
        try:
            yield
        finally:
            lock.release()

    def is_locked(self, key: str) -> bool | None:
        """Does a process hold this lock, as far as this machine sees? None where it sees no such lock."""
        folder = self.root / "locks"
        if (folder / BY_LEASE).exists():
            return is_held(FolderRegister(folder).read(f"{key}.lease"))
        if not (folder / f"{key}.lock").is_file():
            return None
        try:
            with FileLock(folder / f"{key}.lock", timeout=0):
                return False
        except Timeout:
            return True

    def forget_lock(self, key: str) -> None:
        """Remove what a lock that nobody will ask for again has left."""
        (self.root / "locks" / f"{key}.lock").unlink(missing_ok=True)
        FolderRegister(self.root / "locks").delete(f"{key}.lease")

    @contextlib.contextmanager
    def leased(self, key: str, lease: Lease) -> Iterator[None]:
        """Hold a lease, without which nothing is published under this key."""
        lease.acquire()
        self.leases[key] = lease
        try:
            yield
        finally:
            self.leases.pop(key, None)
            lease.release()

    def attempt(self, step: Step, *, anew: bool = False) -> tuple[Path, Path]:
        """An empty `out` folder and the checkpoint folder that a cut-off attempt may have left something in.

        What it left is thrown away where an input was made again since (a key names what an input is made of, not the
        bytes that it has), and where this attempt is to begin `anew` and that one was not begun so.
        """
        work = self.root / "attempts" / step.key
        inputs_digest = digest({parent.key: self.manifest(parent.key)["finished"] for parent in step.parents()})[:16]
        fresh = work / f"checkpoint-{inputs_digest}-anew"
        checkpoint = fresh if anew or fresh.is_dir() else work / f"checkpoint-{inputs_digest}"
        for leftover in work.glob("*"):
            if leftover != checkpoint:
                shutil.rmtree(leftover)
        make_folder(work / "out")
        make_folder(checkpoint)
        return work / "out", checkpoint

    def publish(self, step: Step, out: Path, seconds: float) -> None:
        """Make an attempt's `out` the finished step: write its manifest, flush, rename once, forget the attempt.

        Raises:
            LeaseLost: the lock was a lease, and another process has it by now.
        """
        write_manifest(out, manifest_of(step, seconds))
        boundary("before-publish", step)
        if step.key in self.leases:
            self.leases[step.key].verify()
        self.settle(step.key, out)
        boundary("after-publish", step)
        shutil.rmtree(self.root / "attempts" / step.key, ignore_errors=True)

    def settle(self, key: str, out: Path) -> None:
        """Put a folder that is whole in its place, by one rename; what was there before goes."""
        final, stale = self.folder(key), out.parent / "stale"
        make_folder(final.parent)
        if final.exists():  # redone because its weights had been dropped, or on request
            shutil.rmtree(stale, ignore_errors=True)
            final.rename(stale)
        out.rename(final)
        flush(final.parent)
        shutil.rmtree(stale, ignore_errors=True)

    def drop_weights(self, step: Step, *, spare_adapters: bool = False) -> None:
        """Free a step's droppable files; a later step that needs them makes it run again."""
        folder = self.folder(step.key)
        names = droppable(step, spare_adapters=spare_adapters)
        if any(file for name in names for file in folder.glob(name)):
            (folder / DROPPED).touch()
            for name in names:
                for file in folder.glob(name):
                    file.unlink()

    def manifest(self, key: str) -> dict[str, Any]:
        """What is known of a finished step."""
        loaded: dict[str, Any] = orjson.loads((self.path(key) / MANIFEST).read_bytes())
        return loaded

    def read_json(self, step: Step, name: str) -> Any:
        """A JSON file of a finished step."""
        return orjson.loads((self.path(step.key) / name).read_bytes())

    def entries(self) -> list[Entry]:
        """Everything finished, newest first."""
        entries = []
        for file in self.root.glob(f"done/*/*/{MANIFEST}"):
            manifest = orjson.loads(file.read_bytes())
            entries.append(
                Entry(
                    key=manifest["key"],
                    step=manifest["recipe"]["step"],
                    label=manifest["label"],
                    seconds=manifest["seconds"],
                    finished=manifest["finished"],
                    bytes=folder_bytes(file.parent),
                    weights_dropped=(file.parent / DROPPED).exists(),
                )
            )
        return sorted(entries, key=lambda entry: -entry.finished)

    def finished_keys(self) -> set[str]:
        """The keys of everything finished."""
        return {file.parent.name for file in self.root.glob(f"done/*/*/{MANIFEST}")}

    def find(self, prefix: str) -> str:
        """The one full key that starts with these digits."""
        keys = [key for key in self.finished_keys() if key.startswith(prefix)]
        if len(keys) != 1:
            detail = f"{len(keys)} finished steps start with '{prefix}' in {self.place}"
            fix = f"list the keys with: pyrite store ls --store {shlex.quote(self.place)}"
            raise UserError("That is not the key of one step.", detail, fix)
        return keys[0]

    def remove(self, key: str) -> int:
        """Delete one finished step and what a cut-off attempt at it left; returns the bytes freed."""
        freed = 0
        with self.lock(key):
            for folder in (self.path(key), self.root / "attempts" / key):
                if folder.exists():
                    freed += folder_bytes(folder)
                    shutil.rmtree(folder)
        return freed

    def collect(self, *, older_than_days: float | None) -> tuple[int, int]:
        """Delete cut-off attempts that nobody works on and, with an age, finished steps older than it: count, bytes."""
        count = freed = 0
        for key in self.unlocked([work.name for work in self.root.glob("attempts/*")]):
            work = self.root / "attempts" / key
            count, freed = count + 1, freed + folder_bytes(work)
            shutil.rmtree(work)
        count_old, freed_old = self.remove_old(older_than_days)
        return count + count_old, freed + freed_old

    def unlocked(self, keys: Iterable[str]) -> Iterator[str]:
        """Those of the keys that nobody works on, each under its lock."""
        folder = self.root / "locks"
        if (folder / BY_LEASE).exists():
            register = FolderRegister(folder)
            for key, lease in taken(keys, lambda key: Lease(register, f"{key}.lease")):
                yield key
                register.delete(lease.name)
            return
        for key in keys:
            with contextlib.suppress(TimeoutError), FileLock(folder / f"{key}.lock", timeout=0):
                yield key

    def remove_old(self, older_than_days: float | None) -> tuple[int, int]:
        """Delete finished steps of more than this age: count, bytes."""
        count = freed = 0
        if older_than_days is not None:
            limit = time.time() - older_than_days * 86400
            for entry in self.entries():
                if entry.finished < limit:
                    count, freed = count + 1, freed + self.remove(entry.key)
        return count, freed


def flocked(folder: Path, key: str) -> FileLock | None:
    """A lock file among the locks, held; None where the file system has no locks, and everybody locks by lease from now on.

    Raises:
        UserError: the file system has no locks here, and others use its locks.
    """
    lock = FileLock(folder / f"{key}.lock", fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        (folder / f"{key}.lock").unlink(missing_ok=True)
        if any(folder.glob("*.lock")):
            fix = "mount it with locks (NFSv4; Lustre: -o flock), or choose another folder: --store DIR"
            raise UserError("The store's file system has no locks.", f"{folder}: {error.strerror}", fix) from error
        (folder / BY_LEASE).touch()
        return None
    return lock


def droppable(step: Step, *, spare_adapters: bool = False) -> list[str]:
    """The patterns of the files of a step that may be dropped, with or without those of adapters."""
    return [name for name in step.weights if not (spare_adapters and name.startswith("adapter"))]


def manifest_of(step: Step, seconds: float) -> dict[str, Any]:
    """What is written down of a step that took so long and ends now."""
    manifest = {"key": step.key, "label": step.label, "recipe": step.recipe, "seconds": seconds}
    return manifest | {"finished": time.time(), "made_with": made_with()}


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """A manifest as it is stored."""
    return orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest beside a step's files, and force all of them to disk."""
    (out / MANIFEST).write_bytes(manifest_bytes(manifest))
    for file in out.rglob("*"):
        if file.is_file():
            flush(file)


def boundary(point: str, step: Step) -> None:
    """A named point of the publishing protocol. Does nothing: tests replace it to kill the process exactly there."""


def made_with() -> dict[str, Any]:
    """Which software and machine made this: package versions, Python, platform (not part of any key)."""
    versions = {"pyrite": pyrite.__version__, "python": platform.python_version(), "platform": platform.platform()}
    return versions | package_versions()


@functools.cache
def package_versions() -> dict[str, str]:
    """The versions of the packages that results may depend on, read once: it takes longer than a short step."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def folder_bytes(folder: Path) -> int:
    """How many bytes do the files below this folder hold?"""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def flush(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, or say what stands in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UserError(
            "The store cannot be written.", f"{folder}: {error.strerror}", "choose another folder: --store DIR"
        ) from error
