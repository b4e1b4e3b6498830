"""What is written to a URL: on this machine first, beside what was there, and uploaded once all of it is there."""

import json
import shutil
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from pyrite.io.copies import cache_folder, fetch_file, files_at, state_of
from pyrite.io.urls import filesystem_of, patiently

LEFT_THERE = (".safetensors", ".gguf", ".bin", ".pt")
"""Weights that stand at a URL are not brought here: they are written anew, or not at all."""


class Upload:
    """A file or folder that is to stand at a URL. What stands there before is brought here, as one who goes on, or is asked
    whether it may be written over, has to see it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        folder = cache_folder() / "outs" / sha256(self.url.encode()).hexdigest()[:24]
        self.path = folder / (PurePosixPath(self.url.partition("://")[2]).name or "out")
        self.states = folder.with_suffix(".json")
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder.with_suffix(".lock"))
        with self.lock:
            self.before = self._bring()
        self.brought = self._stamps()

    def _bring(self) -> Mapping[str, Mapping[str, Any]]:
        """Have here what stands at the URL, but for what a run that was cut off has added here since."""
        listing = patiently(lambda: files_at(self.url), self.url)
        states = {name: state_of(info) for name, info in listing.items()}
        if self.states.is_file() and json.loads(self.states.read_text()) == states:
            return listing
        shutil.rmtree(self.path.parent, ignore_errors=True)
        for name, info in listing.items():
            if not name.endswith(LEFT_THERE):
                target = self.path / name if name else self.path
                target.parent.mkdir(parents=True, exist_ok=True)
                fetch_file(self.url, str(info["name"]), target, info.get("size"))
        self._note(states)
        return listing

    def _stamps(self) -> dict[str, tuple[int, int]]:
        return {name: (file.stat().st_size, file.stat().st_mtime_ns) for name, file in self.files().items()}

    def _note(self, states: Mapping[str, Any]) -> None:
        self.states.write_text(json.dumps(states))

    def send(self, last: Collection[str]) -> int:
        """Upload what is here by now, and delete what is gone; how many files, 0 where nothing was written here. Those of the
        names in `last` say that a folder is whole: they go first where they stand there, and come last."""
        if self._stamps() == self.brought:
            return 0
        with self.lock:
            return self._send(last)

    def _send(self, last: Collection[str]) -> int:
        filesystem, base = filesystem_of(self.url)
        files = self.files()
        marks = [name for name in files if PurePosixPath(name).name in last]
        marks.sort(key=lambda name: -name.count("/"))
        gone = [name for name in self.before if name not in files or name in marks]

        def place(name: str) -> str:
            return f"{base}/{name}" if name else base

        for name in gone:
            patiently(lambda name=name: delete_if_there(filesystem, place(name)), self.url)  # type: ignore[misc]
        for name in [*(name for name in files if name not in marks), *marks]:
            patiently(lambda name=name: filesystem.put_file(str(files[name]), place(name)), self.url)  # type: ignore[misc]
        self._note({name: state_of(info) for name, info in patiently(lambda: files_at(self.url), self.url).items()})
        return len(files)

    def files(self) -> dict[str, Path]:
        """The files that are here, by their names at the URL; no hidden ones, and no links."""
        if self.path.is_file():
            return {"": self.path}
        below = {file.relative_to(self.path).as_posix(): file for file in sorted(self.path.rglob("*"))}
        return {
            name: file
            for name, file in below.items()
            if file.is_file() and not file.is_symlink() and not any(part.startswith(".") for part in name.split("/"))
        }


def delete_if_there(filesystem: Any, path: str) -> None:
    """Delete a file, whether it is there or not."""
    try:
        filesystem.rm_file(path)
    except FileNotFoundError:
        return
