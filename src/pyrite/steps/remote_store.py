"""A store on objects: finished steps under a URL, with a store on this machine as the cache in front of it.

    URL/files/ab/abcdef…/ATTEMPT/…      what one attempt at a step wrote
    URL/done/ab/abcdef…/step.json       the marker: which attempt's files are the step's, with sizes and hashes; written last
    URL/locks/abcdef….json              the lease of who works on the step

What the marker names can be downloaded whole, so a step is finished when its marker is there; the marker is one object, created
or replaced on condition that nobody else has. What an attempt uploaded that no marker names is collected by `pyrite store gc`.
"""

import contextlib
import fnmatch
import re
import secrets
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
from filelock import FileLock

from pyrite.errors import UserError
from pyrite.io.copies import cache_folder, local_copy
from pyrite.io.urls import stays_within
from pyrite.steps import store
from pyrite.steps.lease import Lease, LeaseLost, is_held, taken
from pyrite.steps.objects import Objects
from pyrite.steps.step import Step
from pyrite.steps.store import (
    DROPPED,
    MANIFEST,
    Entry,
    Store,
    droppable,
    folder_bytes,
    make_folder,
    manifest_bytes,
    manifest_of,
    write_manifest,
)

AT_ONCE = 8
"""Files that are uploaded or downloaded side by side."""
Marker = Mapping[str, Any]


class RemoteStore(Store):
    """Reads and publishes finished steps under one URL; what was read or published here lies under `root`, too."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        name = re.sub(r"[^\w.-]+", "-", self.url.partition("://")[2])[:60]
        super().__init__(cache_folder() / "stores" / f"{name}-{sha256(self.url.encode()).hexdigest()[:12]}")
        self.objects = Objects(self.url)
        self.seen: dict[str, Marker] = {}
        """The markers as they were last seen."""
        self.here: dict[str, str] = {}
        """The attempts that lie in the cache, of steps that this process has looked at."""

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteStore, (self.url,)  # another machine has a cache of its own

    @property
    def place(self) -> str:
        """What `open_store` opens this store by."""
        return self.url

    def beside(self, name: str, content: bytes) -> Path:
        """A small file of the store's that is no step's: at the URL, so that other machines have it, and its copy here."""
        if self.objects.read(name) is None:
            self.objects.create(name, content)
        return local_copy(f"{self.url}/{name}")

    def absolute(self) -> "Store":
        """The same store."""
        return self

    def marker(self, key: str) -> Marker | None:
        """The marker of a finished step as it is now; None where the step is not finished."""
        stored = self.objects.read(marker_name(key))
        return self._noticed(key, None if stored is None else orjson.loads(stored[0]))

    def _noticed(self, key: str, marker: Marker | None) -> Marker | None:
        if marker is None:
            self.seen.pop(key, None)
            self.here.pop(key, None)
            return None
        if self.here.get(key, marker["attempt"]) != marker["attempt"]:
            del self.here[key]
        self.seen[key] = marker
        return marker

    def has(self, step: Step, *, weights: bool = False) -> bool:
        """Is this step finished? With `weights`, also its droppable files. Asks the server."""
        marker = self.marker(step.key)
        return marker is not None and not (weights and marker["weights_dropped"])

    def survey(self, steps: Iterable[Step]) -> dict[str, bool]:
        """The same of many steps at a time: by the key of each that is finished, whether its droppable files are there."""
        names = {marker_name(step.key): step.key for step in steps}
        stored = self.objects.read_many(names)
        for name, key in names.items():
            self._noticed(key, orjson.loads(stored[name]) if name in stored else None)
        return {key: not self.seen[key]["weights_dropped"] for key in names.values() if key in self.seen}

    def manifest(self, key: str) -> dict[str, Any]:
        """What is known of a finished step."""
        marker = self.seen.get(key) or self.marker(key)
        if marker is None:
            raise FileNotFoundError(f"{self.url}/{marker_name(key)}")
        return dict(marker)

    def path(self, key: str) -> Path:
        """Where a finished step lies on this machine, brought here if need be; its droppable files may not be there."""
        if key not in self.here:
            self.bring(key, weights=False)
        return self.folder(key)

    def fetch(self, step: Step) -> bool:
        """Bring a finished step with its droppable files to this machine; False where there is none that has them."""
        return self.bring(step.key, weights=True)

    def read_json(self, step: Step, name: str) -> Any:
        """A JSON file of a finished step."""
        return orjson.loads((self.path(step.key) / name).read_bytes())

    def file_sizes(self, key: str) -> dict[str, int]:
        """The files of a finished step, in bytes."""
        return {name: int(file["bytes"]) for name, file in self.manifest(key)["files"].items()}

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the right to work on a step; waits while another process has it, on whatever machine."""
        with super().lock(key), self.leased(key, Lease(self.objects, lease_name(key))):
            yield

    def is_locked(self, key: str) -> bool | None:
        """Does a process hold this lock? None where there is no such lock."""
        return is_held(self.objects.read(lease_name(key)))

    def forget_lock(self, key: str) -> None:
        """Remove what a lock that nobody will ask for again has left."""
        super().forget_lock(key)
        self.objects.delete([lease_name(key)])

    def bring(self, key: str, *, weights: bool) -> bool:
        """Have a finished step in the cache, with its droppable files or without; False where it, or they, are not there.

        Raises:
            UserError: files that the marker names are gone, or are others.
        """
        marker = self.marker(key)
        while marker is not None and not (weights and marker["weights_dropped"]):
            try:
                make_folder(self.root / "locks")
                with FileLock(self.root / "locks" / f"bring-{key}.lock"):
                    self._download(key, marker, weights=weights)
                self.here[key] = marker["attempt"]
                return True
            except FileNotFoundError as error:
                before, marker = marker, self.marker(key)
                if marker == before:  # else the step was redone, or lost its weights, meanwhile
                    fix = f"pyrite store rm {key[:12]} --store {self.url}, and run again"
                    raise UserError("The store lacks files of a finished step.", f"{self.url}: {error}", fix) from error
        return False

    def _download(self, key: str, marker: Marker, *, weights: bool) -> None:
        """Bring what the cache lacks of an attempt: beside what it has of the same one, else in one rename."""
        final = self.folder(key)
        outside = next((name for name in marker["files"] if not stays_within(name)), None)
        if outside is not None:
            fix = f"look who writes to this store; pyrite store rm {key[:12]} --store {self.url} takes the step away"
            raise UserError("A marker of the store names a file outside its step.", f"{self.url}: {outside!r}", fix)
        names = [name for name in marker["files"] if weights or name not in marker["droppable"]]
        same = attempt_in(final) == marker["attempt"]
        lacking = [name for name in names if not (same and (final / name).is_file())]
        waiting = self.root / "arriving" / f"{key}-{secrets.token_hex(4)}" / "out"
        try:
            make_folder(waiting)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda name: self._download_file(key, marker, name, waiting / name), lacking))
            if same:
                for name in lacking:
                    make_folder((final / name).parent)
                    (waiting / name).rename(final / name)
                if weights:
                    (final / DROPPED).unlink(missing_ok=True)
                return
            if len(names) < len(marker["files"]) or marker["weights_dropped"]:
                (waiting / DROPPED).touch()
            write_manifest(waiting, dict(marker))
            self.settle(key, waiting)
        finally:
            shutil.rmtree(waiting.parent, ignore_errors=True)

    def _download_file(self, key: str, marker: Marker, name: str, path: Path) -> None:
        remote, expected = f"{files_name(key)}/{marker['attempt']}/{name}", marker["files"][name]
        for _ in range(2):
            self.objects.download(remote, path)
            if size_and_hash(path) == expected:
                return
        fix = f"pyrite store rm {key[:12]} --store {self.url}, and run again"
        raise UserError("A file of the store is not the one that was stored.", f"{self.url}/{remote}", fix)

    def publish(self, step: Step, out: Path, seconds: float) -> None:
        """Make an attempt's `out` the finished step: upload its files, then write the marker, if the lease is still held.

        Raises:
            LeaseLost: another process has the lease by now, or has published.
        """
        key, attempt = step.key, uuid.uuid4().hex
        files = {file.relative_to(out).as_posix(): file for file in sorted(out.rglob("*")) if file.is_file()}
        patterns = droppable(step)
        marker = manifest_of(step, seconds) | {
            "attempt": attempt,
            "files": {name: size_and_hash(file) for name, file in files.items()},
            "droppable": [name for name in files if any(fits_pattern(name, pattern) for pattern in patterns)],
            "weights_dropped": False,
        }
        store.boundary("before-upload", step)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self.objects.upload(files[name], f"{files_name(key)}/{attempt}/{name}"), files))
        store.boundary("before-publish", step)
        before = self.objects.read(marker_name(key))  # before the lease: whoever takes it over later changes this
        self.leases[key].verify()
        content = manifest_bytes(marker)
        if before is None:
            tag = self.objects.create(marker_name(key), content)
        else:
            tag = self.objects.replace(marker_name(key), content, before[1])
        if tag is None:
            raise LeaseLost(f"{self.url}: another process published {key}")
        store.boundary("after-publish", step)
        with FileLock(self.root / "locks" / f"bring-{key}.lock"):
            write_manifest(out, marker)
            self.settle(key, out)
        self.seen[key], self.here[key] = marker, attempt
        if before is not None:
            self._delete_uploads(key, orjson.loads(before[0])["attempt"])
        shutil.rmtree(self.root / "attempts" / key, ignore_errors=True)

    def drop_weights(self, step: Step, *, spare_adapters: bool = False) -> None:
        """Free a step's droppable files, here and there; a later step that needs them makes it run again."""
        stored = self.objects.read(marker_name(step.key))
        patterns = droppable(step, spare_adapters=spare_adapters)
        if stored is None:
            return
        marker = orjson.loads(stored[0])
        gone = [name for name in marker["files"] if any(fits_pattern(name, pattern) for pattern in patterns)]
        if not gone:
            return
        kept = {name: file for name, file in marker["files"].items() if name not in gone}
        lesser = marker | {"files": kept, "weights_dropped": True}
        if self.objects.replace(marker_name(step.key), manifest_bytes(lesser), stored[1]) is None:
            return  # redone meanwhile, by somebody who needs them
        self.objects.delete(f"{files_name(step.key)}/{marker['attempt']}/{name}" for name in gone)
        self._noticed(step.key, lesser)
        super().drop_weights(step, spare_adapters=spare_adapters)

    def entries(self) -> list[Entry]:
        """Everything finished, newest first."""
        names = [name for name in self.objects.sizes("done") if name.endswith(f"/{MANIFEST}")]
        markers = [orjson.loads(content) for content in self.objects.read_many(names).values()]
        entries = [
            Entry(
                key=marker["key"],
                step=marker["recipe"]["step"],
                label=marker["label"],
                seconds=marker["seconds"],
                finished=marker["finished"],
                bytes=sum(file["bytes"] for file in marker["files"].values()),
                weights_dropped=marker["weights_dropped"],
            )
            for marker in markers
        ]
        return sorted(entries, key=lambda entry: -entry.finished)

    def finished_keys(self) -> set[str]:
        """The keys that have a marker."""
        return {name.split("/")[2] for name in self.objects.sizes("done") if name.endswith(f"/{MANIFEST}")}

    def remove(self, key: str) -> int:
        """Delete one finished step, its uploads and its copy on this machine; returns the bytes freed on the server."""
        with self.lock(key):
            self.objects.delete([marker_name(key)])
            freed = self._delete_uploads(key)
            for folder in (self.folder(key), self.root / "attempts" / key):
                shutil.rmtree(folder, ignore_errors=True)
        self._noticed(key, None)
        return freed

    def collect(self, *, older_than_days: float | None) -> tuple[int, int]:
        """Delete uploads that no marker names and nobody works on, leases that were let go of, what cut-off attempts left on
        this machine and copies of steps that are gone; with an age, finished steps older than it: count, bytes."""
        count, freed = super().collect(older_than_days=None)
        leases = {name.removeprefix("locks/").removesuffix(".json") for name in self.objects.sizes("locks")}
        orphans = {key for key, _ in self._orphans("files")}
        for key, lease in taken(sorted(leases | orphans), lambda key: Lease(self.objects, lease_name(key))):
            for _, attempt in self._orphans(files_name(key)) if key in orphans else ():
                count, freed = count + 1, freed + self._delete_uploads(key, attempt)
            self.objects.delete([lease.name])
        count_here, freed_here = self._clear_cache()
        count, freed = count + count_here, freed + freed_here
        count_old, freed_old = self.remove_old(older_than_days)
        return count + count_old, freed + freed_old

    def _orphans(self, folder: str) -> list[tuple[str, str]]:
        """The uploads in a folder that no marker names: key and attempt."""
        uploads = sorted({(name.split("/")[2], name.split("/")[3]) for name in self.objects.sizes(folder)})
        stored = self.objects.read_many({marker_name(key) for key, _ in uploads})
        named = {(marker["key"], marker["attempt"]) for marker in map(orjson.loads, stored.values())}
        return [upload for upload in uploads if upload not in named]

    def _clear_cache(self) -> tuple[int, int]:
        """Delete copies of steps that are gone from the server, and what cut-off downloads left: count, bytes."""
        count = freed = 0
        copies = list(self.root.glob("done/*/*"))  # before the listing, so that none is newer than that
        finished = self.finished_keys()
        gone = [folder for folder in copies if folder.name not in finished]
        for folder in (*gone, *self.root.glob("arriving/*")):
            lock = FileLock(self.root / "locks" / f"bring-{folder.name.partition('-')[0]}.lock", timeout=0)
            with contextlib.suppress(TimeoutError), lock:
                count, freed = count + 1, freed + folder_bytes(folder)
                shutil.rmtree(folder, ignore_errors=True)
        return count, freed

    def _delete_uploads(self, key: str, attempt: str | None = None) -> int:
        """Delete what one attempt (by default all) uploaded; the bytes freed."""
        sizes = self.objects.sizes(files_name(key) + (f"/{attempt}" if attempt else ""))
        self.objects.delete(sizes)
        return sum(sizes.values())


def marker_name(key: str) -> str:
    """The object that says that a step is finished."""
    return f"done/{key[:2]}/{key}/{MANIFEST}"


def files_name(key: str) -> str:
    """The folder of a step's uploads."""
    return f"files/{key[:2]}/{key}"


def lease_name(key: str) -> str:
    """The object of a lock."""
    return f"locks/{key}.json"


def size_and_hash(file: Path) -> dict[str, Any]:
    """A file's size and hash, as a marker names them."""
    with file.open("rb") as content:
        return {"bytes": file.stat().st_size, "sha256": file_digest(content, "sha256").hexdigest()}


def fits_pattern(name: str, pattern: str) -> bool:
    """Would a folder's `glob` of this pattern find this file?"""
    parts, pattern_parts = PurePosixPath(name).parts, PurePosixPath(pattern).parts
    return len(parts) == len(pattern_parts) and all(map(fnmatch.fnmatchcase, parts, pattern_parts))


def attempt_in(folder: Path) -> str | None:
    """Which attempt lies in a folder of the cache?"""
    try:
        return str(orjson.loads((folder / MANIFEST).read_bytes())["attempt"])
    except (OSError, orjson.JSONDecodeError, KeyError):
        return None
