"""Data files: found by path, opened through their compression, and named in every error about their bytes."""

import contextlib
import difflib
import gzip
import io
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from pyrite.errors import UserError
from pyrite.io.copies import named_by_url
from pyrite.io.encodings import NotInEncoding, text_lines
from pyrite.io.raw_row import BadRow, short_value

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow")
TEXT_SUFFIXES = SUFFIXES[:5]
"""Those of text."""
ALIASES = {".ndjson": ".jsonl", ".feather": ".arrow"}
"""Other names of the same kinds."""
PACKED = (".gz", ".zst")
Raw = tuple[int, Mapping[str, Any] | BadRow]
"""A row's number (its line in a text file, else its place from 1), and what stands there."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_OPENS_ROWS = re.compile(rb"\[\s*(\{|$)")
LONGEST_WINDOW = 1 << 31
"""Bytes that a `.zst` file may look back: all that `zstd --ultra --long=31` writes."""
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class File:
    """One data file: its path, what it is (a suffix out of `SUFFIXES`), how it is compressed, what messages call it.

    `encoding` is that of its text where the user names one (else its first bytes tell), `split` the name of the list of
    rows to read where a JSON file holds several, `numbers` the columns that the user names where all are numbers: a
    table whose first line has none of them is one without names.
    """

    path: Path
    suffix: str
    packed: str
    display_name: str
    encoding: str | None = None
    split: str | None = None
    numbers: frozenset[str] = frozenset()

    def location(self, number: int) -> str:
        """A row's place in words: `file.csv:12`, or `file.parquet: row 12` (counted from 1) where there are no lines."""
        return (
            f"{self.display_name}: row {number}"
            if self.suffix in (".json", ".parquet", ".arrow")
            else f"{self.display_name}:{number}"
        )

    @property
    def stem(self) -> str:
        """The file's name without its suffixes, so that compressing a file changes no id."""
        name = self.path.name
        if data_suffix(name) is None:
            return name
        stem = name[: -len(self.packed)] if self.packed else name
        return stem.rpartition(".")[0]

    @property
    def stringly(self) -> bool:
        """Is every value of this file text, numbers too?"""
        return self.suffix in (".csv", ".tsv", ".txt")


def data_suffix(name: str) -> tuple[str, str] | None:
    """The (suffix, compression) of a data file's name, None if it is none of ours."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    suffix = ALIASES.get(suffixes[-1], suffixes[-1]) if suffixes else ""
    return (suffix, packed) if suffix in SUFFIXES else None


def find_file(
    path: Path, display_name: str | None = None, *, encoding: str | None = None, split: str | None = None
) -> File:
    """The data file at this path, with its real kind: `.json` may hold JSON lines, `.jsonl` an array.

    Raises:
        UserError: there is no such file, or its suffix is not one of ours.
    """
    display_name = display_name or named_by_url(str(path))
    if not path.exists():
        raise missing_file(path)
    suffixes = data_suffix(path.name)
    if suffixes is None:
        raise UserError(
            "this kind of file cannot be read",
            f"{display_name} ends in {path.suffix or 'nothing'}",
            f"Pyrite reads {' '.join((*SUFFIXES, *ALIASES))}, each also with {' or '.join(PACKED)}",
        )
    file = File(path, *suffixes, display_name, encoding, split)
    with damage_named(file), open(path, "rb") as source:
        head = source.read(len(LFS_POINTER))
    _check_kind(file, head)
    is_pointer = head == LFS_POINTER
    if is_pointer:
        fix = "get the data: `git lfs pull` in that folder, or download the file"
        raise UserError("this is a pointer of Git LFS, not the data", display_name, fix)
    if file.suffix in (".json", ".jsonl"):
        return replace(file, suffix=_json_kind(file))
    return file


_MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
"""The first bytes of formats that are no text."""


def _check_kind(file: File, head: bytes) -> None:
    """Refuse what is called text, and begins as another format does."""
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None or file.packed or file.suffix in (".parquet", ".arrow"):
        return
    name = file.path.name + kind if kind in PACKED else f"{file.stem}{kind}"
    found = f"{file.display_name} begins as a {kind} file does"
    raise UserError("the file is not what its name says", found, f"call it {short_value(name)}")


def missing_file(path: Path) -> UserError:
    """Nothing is at this path: say what is near it."""
    folder = path.parent
    if not folder.is_dir():
        detail, near = f"{path}: the folder {folder} is not there either", []
    else:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
        detail = f"{path}; the folder has {len(names)} entries"
    fix = f"did you mean {' or '.join(str(folder / name) for name in near)}?" if near else "check the path"
    if len(path.parts) == 2 and not path.suffix and not path.is_absolute():
        fix += f" (a data set on the hub is hf://{path.as_posix()})"
    return UserError("there is no such file", detail, fix)


class _ZstdFrames(io.RawIOBase):
    """The content of all frames of a `.zst` file; one that is cut off raises, where the library's stream just ends."""

    def __init__(self, source: BinaryIO) -> None:
        import zstandard

        self._new = zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW).decompressobj
        self._source = source
        self._frame: Any = None
        self._left = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._left or self._source.read(_CHUNK)
            self._left = b""
            if not packed:
                if self._frame is not None:
                    raise EOFError("the file ends in the middle of a compressed frame")
                return 0
            if self._frame is None:
                self._frame = self._new()
            self._ready = memoryview(self._frame.decompress(packed))
            if self._frame.eof:
                self._left, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


@contextlib.contextmanager
def open_uncompressed(file: File) -> Iterator[BinaryIO]:
    """The uncompressed bytes of a file."""
    with contextlib.ExitStack() as stack:
        source: BinaryIO = stack.enter_context(open(file.path, "rb"))
        if file.packed == ".gz":
            source = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=source, mode="rb")))
        elif file.packed == ".zst":
            source = cast(BinaryIO, stack.enter_context(io.BufferedReader(_ZstdFrames(source), _CHUNK)))
        yield source


@contextlib.contextmanager
def open_seekable(file: File) -> Iterator[Any]:
    """A file for formats that jump about in it: compressed ones are unpacked into a temporary file."""
    if not file.packed:
        with open(file.path, "rb") as source:
            yield source
        return
    with tempfile.TemporaryFile() as unpacked, open_uncompressed(file) as source:
        while chunk := source.read(_CHUNK * 16):
            unpacked.write(chunk)
        unpacked.seek(0)
        yield unpacked


@contextlib.contextmanager
def damage_named(file: File) -> Iterator[None]:
    """Turn what a library says about a file that is no such file into a `UserError` that names the file."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(file, error) from error
    except NotInEncoding as error:
        raise UserError(
            "the file is not in the encoding that was named",
            f"{file.display_name}, `--encoding {file.encoding}`: {error}",
            "leave the encoding out, or name the one in which the file was written",
        ) from error
    except PermissionError as error:
        raise UserError("this file may not be read", file.display_name, "ask for permission to read it") from error
    except IsADirectoryError as error:
        raise UserError("this is a folder, not a file", file.display_name, "name a file") from error
    except Exception as error:
        # Arrow also says so by OSError without a number, or trips over a name or a size that cannot be.
        arrow = file.suffix in (".parquet", ".arrow") and (
            isinstance(error, (UnicodeDecodeError, MemoryError)) or (isinstance(error, OSError) and error.errno is None)
        )
        if arrow or type(error).__module__.split(".")[0] in ("pyarrow", "zstd", "zstandard"):
            raise _damaged(file, error) from error
        raise


def _damaged(file: File, error: Exception) -> UserError:
    kind = f"{file.suffix}{file.packed}"
    return UserError(
        f"this is not a whole {kind} file",
        f"{file.display_name}: {short_value(str(error) or type(error).__name__, 200)}",
        "copy it again",
    )


def not_utf8(line: bytes) -> BadRow | None:
    """The bad row that bytes which are not UTF-8 make; None where they are."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow("not UTF-8", f"byte {line[error.start]:#04x} at column {error.start + 1} of {line_start(line)}")
    return None


def line_start(line: bytes) -> str:
    """The beginning of a line, for a message."""
    return short_value(line[:200].decode("utf-8", "replace").rstrip("\r\n"), 60)


def _json_kind(file: File) -> str:
    """Does a JSON file hold a row a line, or an array or object over several lines? Its first line tells.

    A line that is a whole object is a row where more lines follow; alone in a `.json` file it may be a document, as
    `json.dump` and pandas write one (`json_values.rows_in` tells). In a `.jsonl` file only a line that opens an array of
    objects, and does not end it or ends the file with it, makes it a `.json` file.
    """
    with damage_named(file), open_uncompressed(file) as source:
        lines = (line.strip() for line in text_lines(source, file.encoding) if not line.isspace())
        first = next(lines, b"")
        second = next(lines, b"")
        if file.suffix == ".json":
            return ".jsonl" if second and first.startswith(b"{") and first.endswith(b"}") else ".json"
        if first == b"{":
            return ".json" if second.startswith(b'"') else ".jsonl"
        is_array = _OPENS_ROWS.match(first) is not None and not (first.endswith(b"]") and second)
        return ".json" if is_array else ".jsonl"
