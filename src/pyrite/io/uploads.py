"""What is written to a URL: on this machine first, beside what was there, and uploaded once all of it is there."""

import json
import re
import shutil
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from pyrite.errors import UserError
from pyrite.io.copies import fetch_file, listed, note_url, outs_folder, state_of
from pyrite.io.urls import filesystem_of, patiently, shown_url

_MODEL = re.compile(r"(adapter_)?model(-\d+-of-\d+)?\.safetensors")
LEFT_THERE = (".safetensors", ".gguf", ".bin", ".pt")
"""Weights that stand at a URL are not brought here: they are written anew, or not at all."""


class Upload:
    """A file or folder that is to stand at a URL. What stands there before is brought here, as one who goes on, or is asked
    whether it may be written over, has to see it; weights and hidden files are left there, and stay.

    With `runs`, a folder is a run's own: one that holds others, and none of these names, is refused before it is brought.
    """

    def __init__(self, url: str, *, runs: Collection[str] = ()) -> None:
        self.url, self.runs = url.rstrip("/"), runs
        folder = outs_folder() / sha256(self.url.encode()).hexdigest()[:32]
        self.path = folder / (PurePosixPath(self.url.partition("://")[2]).name or "out")
        self.states, self.sending = folder.with_suffix(".states"), folder.with_suffix(".sending")
        folder.parent.mkdir(parents=True, exist_ok=True)
        note_url(folder.with_suffix(".json"), self.url, self.path.name)
        self.lock = FileLock(folder.with_suffix(".lock"))
        with self.lock:
            self.before = self._bring()
        self.brought = self._stamps()

    def _bring(self) -> Mapping[str, Mapping[str, Any]]:
        """Have here what stands at the URL, but for what a run that was cut off has added here since.

        Raises:
            UserError: other files stand in what is to be a run's own folder.
        """
        listing = listed(self.url)
        is_ours = self.sending.exists() or any(name in self.runs for name in listing)
        if self.runs and listing and "" not in listing and not is_ours:
            detail = f"{shown_url(self.url)} holds {', '.join(list(listing)[:3])}" + ", …" * (len(listing) > 3)
            raise UserError("The run folder is in use.", detail, "name another with --out, or move it away")
        states = {name: state_of(info, unsaid=False) for name, info in listing.items()}
        if self.states.is_file() and json.loads(self.states.read_text()) == states:
            return listing
        shutil.rmtree(self.path.parent, ignore_errors=True)
        for name, info in listing.items():
            if not is_left_there(name):
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
        gone = [name for name in self.before if name in marks or (name not in files and may_go(name, files))]

        def place(name: str) -> str:
            return f"{base}/{name}" if name else base

        self.sending.touch()  # a folder that an upload left without its marker is ours
        for name in gone:
            patiently(lambda name=name: delete_if_there(filesystem, place(name)), self.url)  # type: ignore[misc]
        for name in [*(name for name in files if name not in marks), *marks]:
            patiently(lambda name=name: filesystem.put_file(str(files[name]), place(name)), self.url)  # type: ignore[misc]
        self._note({name: state_of(info, unsaid=False) for name, info in listed(self.url).items()})
        self.sending.unlink()
        return len(files)

    def files(self) -> dict[str, Path]:
        """The files that are here, by their names at the URL; no hidden ones, and no links."""
        if self.path.is_file():
            return {"": self.path}
        below = {file.relative_to(self.path).as_posix(): file for file in sorted(self.path.rglob("*"))}
        return {
            name: file
            for name, file in below.items()
            if file.is_file() and not file.is_symlink() and not is_hidden(name)
        }


def is_hidden(name: str) -> bool:
    """Is a file hidden, or in a hidden folder?"""
    return any(part.startswith(".") for part in name.split("/"))


def is_left_there(name: str) -> bool:
    """Is a file at a URL left where it is?"""
    return name.endswith(LEFT_THERE) or is_hidden(name)


def may_go(name: str, files: Collection[str]) -> bool:
    """May a file at a URL be deleted of which there is none among the `files` here? What was brought here, since it was deleted
    here; a model's weights where another model's are written in their place; nothing else that was left there.

    >>> may_go("old.csv", []), may_go("a.gguf", []), may_go("m/model.safetensors", ["m/model-00001-of-00002.safetensors"])
    (True, False, True)
    >>> may_go("model.safetensors", ["m/model.safetensors"]), may_go("mine.safetensors", ["model.safetensors"])
    (False, False)
    """
    if not is_left_there(name):
        return True
    folder, _, last = name.rpartition("/")
    beside = [file.rpartition("/")[2] for file in files if file.rpartition("/")[0] == folder]
    return bool(_MODEL.fullmatch(last)) and any(map(_MODEL.fullmatch, beside))


def delete_if_there(filesystem: Any, path: str) -> None:
    """Delete a file, whether it is there or not."""
    try:
        filesystem.rm_file(path)
    except FileNotFoundError:
        return
