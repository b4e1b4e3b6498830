"""Inputs that lie elsewhere: each URL is downloaded once, while its server says that it is the same, and named by its URL."""

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from pyrite.errors import PyriteError, UserError
from pyrite.io.urls import (
    SAME,
    WEB,
    filesystem_of,
    local_path,
    name_in_place,
    patiently,
    shown_url,
    stays_within,
    url_of,
)

CONTENT_FIELDS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "Content-MD5",
    "checksum",
    "sha",
    "blob_id",
    "oid",
    "xet_hash",
)
TIME_FIELDS = (
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "modify", "modificationTime"),
    *("last_write_time", "created"),
)
"""What file systems say of a file by which a changed one is known: of its content, else of its time; and its size."""
TRUSTED = 30.0
"""Seconds for which what a server said of a URL is not asked again."""
_PATTERN = re.compile(r"[*?\[]")
_DIGITS = 32
_seen: dict[str, str] = {}
"""What stands for the state of a file of which its server says nothing, in this process."""
_looked: dict[tuple[str, str], tuple[float, Path]] = {}


def cache_folder() -> Path:
    """Where what lies elsewhere is kept on this machine: `$PYRITE_STORE_CACHE`, else a folder in the user's cache."""
    import platformdirs

    chosen = os.environ.get("PYRITE_STORE_CACHE")
    return Path(chosen or Path(platformdirs.user_cache_dir("pyrite")) / "elsewhere").absolute()


def inputs_folder() -> Path:
    """Where inputs are kept."""
    return cache_folder() / "inputs"


def outs_folder() -> Path:
    """Where what is written to URLs is kept."""
    return cache_folder() / "outs"


def local_place(place: str | Path) -> Path:
    """The path on this machine of an input: itself, or the copy of a URL.

    Raises:
        UserError: there is nothing at the URL, or it cannot be opened.
    """
    url = url_of(place)
    return Path(place) if url is None else local_copy(url)


def local_copy(url: str) -> Path:
    """The copy of a URL on this machine: of a file, of a folder with all below it, or (as a pattern) of the files that a
    pattern names.

    Raises:
        UserError: there is nothing at the URL, or it cannot be opened.
    """
    copy = copy_if_there(url)
    if copy is None:
        raise UserError(
            "there is nothing at this URL", shown_url(url), "check the name, and that you may list and read it"
        )
    return copy


def copy_or_path(place: str | Path) -> Path:
    """The path of an input on this machine, whether it is there or not; of a URL its copy, where there is something."""
    url = url_of(place)
    return Path(place) if url is None else copy_if_there(url) or Path(place)


def path_in(folder: str | Path, name: str) -> str:
    """A name as it is read in a folder: a URL as it is, a path below the folder, which may be a URL itself.

    >>> path_in("data", "rows.jsonl"), path_in("s3://bucket/data", "rows.jsonl"), path_in("data", "s3://bucket/rows.jsonl")
    ('data/rows.jsonl', 's3://bucket/data/rows.jsonl', 's3://bucket/rows.jsonl')
    """
    joined = str(Path(folder) / name)
    return url_of(name) or url_of(joined) or joined


def copy_if_there(url: str) -> Path | None:
    """The same; None where there is nothing at the URL.

    Raises:
        UserError: it cannot be opened.
    """
    if (path := local_path(url)) is not None:
        return path if path.exists() or _PATTERN.search(path.name) else None
    folder = inputs_folder()
    at, copy = _looked.get((url, str(folder)), (0.0, Path()))
    if at and time.monotonic() - at < TRUSTED and (copy.exists() or _PATTERN.search(copy.name)):
        return copy
    listing = listed(url)
    if not listing:
        return None
    copy = downloaded(url, listing, folder)
    _looked[url, str(folder)] = (time.monotonic(), copy)
    return copy


def listed(url: str) -> dict[str, Mapping[str, Any]]:
    """The same as `files_at`, asked again while the server does not answer.

    Raises:
        UserError: it stays away, refuses us, or the file system of that protocol fails otherwise.
    """
    try:
        return patiently(lambda: files_at(url), url)
    except PyriteError:
        raise
    except Exception as error:
        detail = f"{shown_url(url)}: {type(error).__name__}: {error}"[:400]
        raise UserError(
            "That URL cannot be opened.", detail, "check the address, and what its protocol needs"
        ) from error


def files_at(url: str) -> dict[str, Mapping[str, Any]]:
    """The files of a URL by their names below it (of a file: the empty name), with what the file system tells of each."""
    filesystem, path = filesystem_of(url)
    if is_web(url):
        return page_at(filesystem, path)
    base, pattern = folder_and_pattern(path)
    if pattern:
        listing = filesystem.glob(path, detail=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            info = filesystem.info(path)
            if info["type"] == "file":
                return {"": info}
        listing = filesystem.find(path, detail=True)
    prefix = filesystem._strip_protocol(base).rstrip("/") + "/"
    files = {name.removeprefix(prefix): info for name, info in listing.items() if info["type"] == "file"}
    named = [name for name in sorted(files) if name and not name.endswith("/")]
    outside = next((name for name in named if not stays_within(name)), None)
    if outside is not None:  # objects may be called anything, and are copied below a folder of this machine
        raise UserError(
            "A name at this URL leads outside its folder.",
            f"{shown_url(url)}: {outside!r}",
            "name the files one by one",
        )
    return {name: files[name] for name in named}


def page_at(filesystem: Any, path: str) -> dict[str, Mapping[str, Any]]:
    """A page of the web as a file; nothing where there is none.

    Raises:
        PermissionError: the server refuses us.
        Exception: it does not answer, or fails; as its library raises it (fsspec takes all of these for a missing file).
    """
    try:
        return {"": filesystem.info(path)}
    except FileNotFoundError as error:
        cause = error.__cause__ or error.__context__
        status = getattr(cause, "status", None)
        if status in (401, 403, 407):
            raise PermissionError(f"status {status}") from error
        if cause is None or isinstance(cause, FileNotFoundError) or status in (404, 410):
            return {}
        raise cause from None


def is_web(url: str) -> bool:
    """Is this a page of the web, which lists nothing?"""
    return url.startswith(WEB)


def folder_and_pattern(path: str) -> tuple[str, str]:
    """The folders of a path that are no pattern, and the pattern below them (empty where there is none)."""
    parts = path.split("/")
    first = next((at for at, part in enumerate(parts) if _PATTERN.search(part)), len(parts))
    return "/".join(parts[:first]), "/".join(parts[first:])


def downloaded(url: str, listing: Mapping[str, Mapping[str, Any]], folder: Path) -> Path:
    """The copy of these files, downloaded if this state of them is not there yet. Files of a folder are copies of their own,
    too: whichever way a file is named, it is downloaded once."""
    states = {name: state_of(info) for name, info in listing.items()}
    digest = sha256(json.dumps([url, states], sort_keys=True).encode()).hexdigest()[:_DIGITS]
    address, pattern = (url, "") if is_web(url) else folder_and_pattern(url)
    name = name_in_place(address) or "input"
    if not (folder / digest).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        waiting = folder / f".{os.getpid()}-{secrets.token_hex(4)}"
        try:
            for below, info in listing.items():
                target = waiting / name / below
                target.parent.mkdir(parents=True, exist_ok=True)
                if below:
                    link_or_copy(downloaded(f"{address.rstrip('/')}/{below}", {"": info}, folder), target)
                else:
                    fetch_file(url, str(info["name"]), target, info.get("size"))
            note_url(folder / f"{digest}.json", address, name)
            with contextlib.suppress(OSError):  # another process was quicker
                waiting.rename(folder / digest)
        finally:
            shutil.rmtree(waiting, ignore_errors=True)
    return folder / digest / name / pattern


def note_url(file: Path, url: str, name: str) -> None:
    """Note which URL a copy is of, or is uploaded to: for this user alone, as a URL may hold a key."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as record:
        record.write(json.dumps({"url": url, "name": name}))


def state_of(info: Mapping[str, Any], *, unsaid: bool = True) -> list[str]:
    """What tells this state of a file from another. Where the server says nothing of it, what each process sees is another state;
    without `unsaid`, the size alone tells."""
    fields = [field for field in CONTENT_FIELDS if info.get(field)] or [
        field for field in TIME_FIELDS if info.get(field)
    ]
    if not fields and unsaid:  # nothing by which a change could be noticed
        return [f"seen {_seen.setdefault(str(info.get('name')), secrets.token_hex(8))}"]
    values = {field: info[field] for field in (*fields[:1], "size") if info.get(field) is not None}
    return [f"{name} {value.timestamp() if isinstance(value, datetime) else value}" for name, value in values.items()]


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def fetch_file(url: str, remote: str, path: Path, size: Any) -> None:
    """Download one file.

    Raises:
        UserError: fewer bytes came than were promised.
    """
    filesystem, _ = filesystem_of(url)
    patiently(lambda: filesystem.get_file(remote, str(path)), url)
    if isinstance(size, int) and path.stat().st_size != size:
        detail = f"{shown_url(url)}: {path.stat().st_size} of {size} bytes"
        raise UserError("A download ended early.", detail, "run the same command again")


def named_by_url(text: str, *, openable: bool = False) -> str:
    """A text in which copies of this machine are called by the URLs that they are copies of, or are uploaded to: as they may be
    shown, or `openable`."""
    spell = str if openable else shown_url
    for folder in map(str, (inputs_folder(), outs_folder())):
        if folder not in text:
            continue
        for digest in set(re.findall(re.escape(folder) + rf"/([0-9a-f]{{{_DIGITS}}})/", text)):
            with contextlib.suppress(OSError):
                copy_record = json.loads((Path(folder) / f"{digest}.json").read_text())
                text = text.replace(f"{folder}/{digest}/{copy_record['name']}", spell(copy_record["url"]))
    return text


def whole_place(place: str | Path) -> str:
    """A path or URL so that two of them can be compared: of a copy its URL, of a path the whole path."""
    named = named_by_url(str(place), openable=True)
    url = url_of(named)
    if url is not None and (path := local_path(url)) is None:
        protocol, _, rest = url.partition("://")
        return f"{SAME.get(protocol, protocol)}://{re.sub('/+', '/', rest).strip('/')}"
    return str((Path(named) if url is None else path).resolve())  # type: ignore[union-attr]


def is_within(place: str | Path, read: str | Path) -> bool:
    """Is a place one that is read, or in such a folder? `read` at a URL may be a pattern.

    >>> is_within("s3://bucket/data/a.jsonl", "s3a://bucket/data"), is_within("s3://bucket/data-2", "s3://bucket/data")
    (True, False)
    >>> is_within("s3://bucket/data/a.jsonl", "s3://bucket/**/*.jsonl"), is_within("s3://b/x/a.jsonl", "s3://b/*.jsonl")
    (True, False)
    """
    inner, outer = whole_place(place), whole_place(read)
    if inner == outer:
        return True
    if not url_of(outer):
        return inner.startswith(f"{outer}{os.sep}") and Path(outer).is_dir()
    if _PATTERN.search(outer):
        from fsspec.utils import glob_translate

        return bool(re.fullmatch(glob_translate(outer), inner))
    return inner.startswith(f"{outer}/")


@contextlib.contextmanager
def urls_named() -> Iterator[None]:
    """Errors that this block raises call copies by their URLs."""
    try:
        yield
    except UserError as error:
        words = [named_by_url(text) for text in (error.what, error.found, error.fix)]
        if words == [error.what, error.found, error.fix]:
            raise
        raise UserError(*words) from error
