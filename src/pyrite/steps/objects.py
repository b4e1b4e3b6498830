"""Objects of a store by name: a thin layer over fsspec, with writes that happen only while an object is as it was seen.

`create` and `replace` are one request each where the server compares (S3: If-None-Match and If-Match; Google Cloud Storage:
ifGenerationMatch). On other file systems they look, write and look again, which two writers at the same moment can defeat.
"""

import glob
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson

from pyrite.errors import UserError
from pyrite.io.urls import filesystem_of, patiently

Tag = str
"""Which content of an object was seen: it changes with every write."""
Answer = TypeVar("Answer")
PROBE = "store.json"
"""An object that tells whether the server compares before it writes."""
SETTLE = 1.0
"""Seconds after which a write that nothing compared is looked at again."""
KEPT = 16
"""Contents of a name that stay in a folder. A number is free only where it is new, or older than these: so a writer can tell that
it had seen an old list."""
PRECONDITION = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_in_memory = threading.RLock()


class Register(Protocol):
    """Named contents that are written only by who saw what stands there."""

    def read(self, name: str) -> tuple[bytes, Tag] | None:
        """The content and its tag; None where there is none."""

    def create(self, name: str, content: bytes) -> Tag | None:
        """Write what is not there yet; None where it is."""

    def replace(self, name: str, content: bytes, tag: Tag) -> Tag | None:
        """Write over what has this tag; None where it has another by now."""


class Objects:
    """The objects below one URL. Servers that do not answer are asked again (`io.urls.patiently`)."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.filesystem, path = filesystem_of(self.url)
        self.base = path.rstrip("/")
        self._writer: Register | None = None

    def path(self, name: str) -> str:
        """An object's path in the file system."""
        return f"{self.base}/{name}"

    @property
    def writer(self) -> "Register":
        """How conditional writes are made here."""
        if self._writer is None:
            self._writer = self._patiently(lambda: writer_of(self.filesystem, self.base))
        return self._writer

    def read(self, name: str) -> tuple[bytes, Tag] | None:
        """An object's content and its tag; None where there is no such object."""
        return self._patiently(lambda: self.writer.read(name))

    def create(self, name: str, content: bytes) -> Tag | None:
        """Write an object that is not there yet; None where it is. Contents differ from writer to writer."""
        return self._patiently(lambda: self._written(self.writer.create(name, content), name, content))

    def replace(self, name: str, content: bytes, tag: Tag) -> Tag | None:
        """Write over an object that has this tag; None where it has another by now, or is gone."""
        return self._patiently(lambda: self._written(self.writer.replace(name, content, tag), name, content))

    def _written(self, tag: Tag | None, name: str, content: bytes) -> Tag | None:
        """A write that was refused may be our own, whose answer was lost."""
        if tag is None and (now := self.writer.read(name)) is not None and now[0] == content:
            return now[1]
        return tag

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The contents of those objects that are there."""
        paths = {self.path(name): name for name in names}
        if not paths:
            return {}

        def read() -> dict[str, bytes]:
            contents = self.filesystem.cat(list(paths), on_error="return")
            contents = contents if isinstance(contents, dict) else {next(iter(paths)): contents}
            present = {
                path: content for path, content in contents.items() if not isinstance(content, FileNotFoundError)
            }
            broken = next((content for content in present.values() if isinstance(content, Exception)), None)
            if broken is not None:
                raise broken
            return {paths[path if path in paths else f"/{path}"]: content for path, content in present.items()}

        return self._patiently(read)

    def sizes(self, prefix: str) -> dict[str, int]:
        """The objects whose names begin with a folder's, and their sizes in bytes."""

        def listed() -> dict[str, int]:
            self.filesystem.invalidate_cache()
            entries = self.filesystem.find(self.path(prefix), detail=True)
            if (
                not entries and "s3" in self.filesystem.protocol
            ):  # s3fs finds nothing, too, in a bucket that is not there
                self.filesystem.call_s3("list_objects_v2", Bucket=self.base.split("/")[0], MaxKeys=1)
            return {path.removeprefix(f"{self.base}/"): int(entry["size"]) for path, entry in entries.items()}

        return dict(sorted(self._patiently(listed).items()))

    def upload(self, file: Path, name: str) -> None:
        """Write a file's content."""
        self._patiently(lambda: self.filesystem.put_file(str(file), self.path(name)))

    def download(self, name: str, file: Path) -> None:
        """Write an object's content into a file.

        Raises:
            FileNotFoundError: there is no such object.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self._patiently(lambda: self.filesystem.get_file(self.path(name), str(file)))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, whether they are there or not."""
        for name in names:
            self._patiently(lambda name=name: self._delete(name))  # type: ignore[misc]

    def _delete(self, name: str) -> None:
        try:
            self.filesystem.rm_file(self.path(name))
        except FileNotFoundError:
            return

    def _patiently(self, action: Callable[[], Answer]) -> Answer:
        return patiently(action, self.url)


def writer_of(filesystem: Any, base: str) -> Register:
    """The conditional writes that a file system has.

    Raises:
        UserError: a server of a kind that compares before it writes does not; without, locks hold nobody off.
    """
    protocols = {filesystem.protocol} if isinstance(filesystem.protocol, str) else set(filesystem.protocol)
    if not protocols & {"s3", "gs", "gcs"}:
        return PlainWriter(filesystem, base, atomic="memory" in protocols)
    writer: Register = S3Writer(filesystem, base) if "s3" in protocols else GcsWriter(filesystem, base)
    content = orjson.dumps({"schema_version": 1})
    if writer.create(PROBE, content) is not None and writer.create(PROBE, content) is not None:
        found = f"{base}: what was to be written only where nothing is was written over an object that was there"
        fix = "a server with conditional writes (Amazon S3, SeaweedFS …), or a store in a folder: --store DIR"
        raise UserError("This server has no conditional writes.", found, fix)
    return writer


class S3Writer:
    """Conditional writes of S3: the tag is the object's ETag."""

    def __init__(self, filesystem: Any, base: str) -> None:
        self.filesystem = filesystem
        self.bucket, _, self.prefix = base.partition("/")

    def where(self, name: str) -> dict[str, str]:
        """An object's bucket and key, as S3's calls name them."""
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{name}".lstrip("/")}

    def read(self, name: str) -> tuple[bytes, Tag] | None:
        """The content and its ETag, of one request."""
        from fsspec.asyn import sync

        async def get() -> tuple[bytes, Tag]:
            reply = await self.filesystem._call_s3("get_object", **self.where(name))
            async with reply["Body"] as body:
                return bytes(await body.read()), str(reply["ETag"])

        try:
            return sync(self.filesystem.loop, get)  # type: ignore[no-any-return]
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise
            return None

    def create(self, name: str, content: bytes) -> Tag | None:
        """One PUT with If-None-Match."""
        return self._put(name, content, {"IfNoneMatch": "*"})

    def replace(self, name: str, content: bytes, tag: Tag) -> Tag | None:
        """One PUT with If-Match."""
        return self._put(name, content, {"IfMatch": tag})

    def _put(self, name: str, content: bytes, condition: dict[str, str]) -> Tag | None:
        try:
            reply = self.filesystem.call_s3("put_object", Body=content, **self.where(name), **condition)
            return str(reply["ETag"])
        except OSError as error:
            code = code_of(error)
            absent = code == "NoSuchKey" and "IfMatch" in condition  # Amazon's answer where the object is gone
            if code in PRECONDITION or isinstance(error, FileExistsError) or absent:
                return None
            raise


def code_of(error: BaseException) -> str:
    """S3's name of what went wrong; empty where the error does not come from its server."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


class GcsWriter:
    """Conditional writes of Google Cloud Storage: the tag is the object's generation."""

    def __init__(self, filesystem: Any, base: str) -> None:
        self.filesystem, self.base = filesystem, base

    def read(self, name: str) -> tuple[bytes, Tag] | None:
        """The content of the newest generation."""
        path = f"{self.base}/{name}"
        try:
            generation = str(self.filesystem.info(path)["generation"])
            return bytes(self.filesystem.cat_file(path)), generation
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> Tag | None:
        """An upload that expects no generation."""
        return self._upload(name, content, "0")

    def replace(self, name: str, content: bytes, tag: Tag) -> Tag | None:
        """An upload that expects this generation."""
        return self._upload(name, content, tag)

    def _upload(self, name: str, content: bytes, generation: str) -> Tag | None:
        from urllib.parse import quote

        bucket, _, prefix = self.base.partition("/")
        place = f"{self.filesystem._location}/upload/storage/v1/b/{quote(bucket)}/o"
        mark = secrets.token_hex(16)
        parts = [orjson.dumps({"name": f"{prefix}/{name}".lstrip("/")}), content]
        kinds = ["application/json; charset=UTF-8", "application/octet-stream"]
        body = b"".join(
            b"--%s\nContent-Type: %s\n\n%s\n" % (mark.encode(), kind.encode(), part)
            for kind, part in zip(kinds, parts, strict=True)
        )
        headers = {"Content-Type": f'multipart/related; boundary="{mark}"'}
        condition = {"uploadType": "multipart", "ifGenerationMatch": generation}
        data = body + b"--%s--" % mark.encode()
        try:
            reply = self.filesystem.call("POST", place, **condition, headers=headers, data=data, json_out=True)
            return str(reply["generation"])
        except Exception as error:
            if getattr(error, "code", None) in (409, 412) or isinstance(error, FileExistsError):
                return None
            raise


class PlainWriter:
    """Writes that nothing compares but we: look, write, and after a moment look whether it stayed. In memory (tests, one
    process) nobody can come between."""

    def __init__(self, filesystem: Any, base: str, *, atomic: bool) -> None:
        self.filesystem, self.base, self.atomic = filesystem, base, atomic

    def read(self, name: str) -> tuple[bytes, Tag] | None:
        """The content, which is its own tag."""
        try:
            content = bytes(self.filesystem.cat_file(f"{self.base}/{name}"))
        except FileNotFoundError:
            return None
        return content, content.hex()

    def create(self, name: str, content: bytes) -> Tag | None:
        """Look, write, look."""
        return self._write(name, content, None)

    def replace(self, name: str, content: bytes, tag: Tag) -> Tag | None:
        """Look, write, look."""
        return self._write(name, content, tag)

    def _write(self, name: str, content: bytes, tag: Tag | None) -> Tag | None:
        with _in_memory:
            now = self.read(name)
            if (None if now is None else now[1]) != tag:
                return None
            self.filesystem.pipe_file(f"{self.base}/{name}", content)
        if not self.atomic:
            time.sleep(SETTLE)
        after = self.read(name)
        return after[1] if after is not None and after[0] == content else None


class FolderRegister:
    """The same on a file system of this machine that has no locks: a content is a numbered file, and the next number is
    taken by a hard link, which one writer gets. The tag is the number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self, name: str) -> list[int]:
        """The numbers of a name's contents, oldest first."""
        return sorted(int(file.name.rpartition(".")[2]) for file in self.folder.glob(f"{glob.escape(name)}.[0-9]*"))

    def read(self, name: str) -> tuple[bytes, Tag] | None:
        """The newest content."""
        while numbers := self.numbers(name):
            try:
                return (self.folder / f"{name}.{numbers[-1]}").read_bytes(), str(numbers[-1])
            except FileNotFoundError:  # a newer one was written, and this one cleared away
                continue
        return None

    def delete(self, name: str) -> None:
        """Forget a name; its lease is held by whoever does."""
        for number in self.numbers(name):
            (self.folder / f"{name}.{number}").unlink(missing_ok=True)

    def create(self, name: str, content: bytes) -> Tag | None:
        """The first content."""
        return None if self.numbers(name) else self._link(name, content, 1)

    def replace(self, name: str, content: bytes, tag: Tag) -> Tag | None:
        """The next content."""
        return self._link(name, content, int(tag) + 1)

    def _link(self, name: str, content: bytes, number: int) -> Tag | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting, ours = self.folder / f".{name}.{secrets.token_hex(8)}", self.folder / f"{name}.{number}"
        waiting.write_bytes(content)
        try:
            ours.hardlink_to(waiting)
        except FileExistsError:
            return None
        finally:
            waiting.unlink()
        numbers = self.numbers(name)
        gone = number > 1 and number - 1 not in numbers
        if (
            gone or numbers[-1] >= number + KEPT
        ):  # we had seen an old list, and the number was free since it is long over
            ours.unlink(missing_ok=True)
            return None
        for older in numbers[:-KEPT]:
            (self.folder / f"{name}.{older}").unlink(missing_ok=True)
        return str(number)
