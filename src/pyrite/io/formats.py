"""How do the bytes of a file become raw rows, one at a time, with the place of each?

A raw row is a mapping of columns to values, or the `BadRow` that stands in its place. JSON lines, CSV, TSV, plain text,
parquet and arrow are streamed; a JSON array is parsed whole. Blank lines are no rows. Nothing here is ever evaluated,
unpickled or normalised.
"""

import contextlib
import csv
import difflib
import gzip
import io
import json
import os
import tempfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import orjson

from pyrite.errors import UserError
from pyrite.io.raw_row import BadRow, show

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow")
PACKED = (".gz", ".zst")
FIELD_LIMIT = 256 * 1024 * 1024
"""Characters that one quoted CSV field may have; beyond it a quote was never closed."""
BATCH_ROWS = 1024

Raw = tuple[int, Mapping[str, Any] | BadRow]
"""A row's number (its line in a text file, else its place from 1), and what stands there."""

_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 16
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


@dataclass(frozen=True, slots=True)
class File:
    """One data file: its path, what it is (a suffix out of `SUFFIXES`), how it is compressed, what messages call it."""

    path: Path
    suffix: str
    packed: str
    display_name: str

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
        suffixes = data_suffix(name)
        return name[: -len("".join(suffixes))] if suffixes else name

    @property
    def stringly(self) -> bool:
        """Is every value of this file text, numbers too?"""
        return self.suffix in (".csv", ".tsv", ".txt")


def data_suffix(name: str) -> tuple[str, str] | None:
    """The (suffix, compression) of a data file's name, None if it is none of ours."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    return (suffixes[-1], packed) if suffixes and suffixes[-1] in SUFFIXES else None


def find_file(path: Path, display_name: str | None = None) -> File:
    """The data file at this path, with its real kind: `.json` may hold JSON lines, `.txt` a table with tabs.

    Raises:
        UserError: there is no such file, or its suffix is not one of ours.
    """
    display_name = display_name or str(path)
    if not path.exists():
        raise missing_file(path)
    suffixes = data_suffix(path.name)
    if suffixes is None:
        raise UserError(
            "this kind of file cannot be read",
            f"{display_name} ends in {path.suffix or 'nothing'}",
            f"Pyrite reads {' '.join(SUFFIXES)}, each also with {' or '.join(PACKED)}",
        )
    file = File(path, *suffixes, display_name)
    if file.suffix == ".json" and _holds_lines(file):
        return File(path, ".jsonl", file.packed, display_name)
    return file


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


def raw_rows(file: File) -> Iterator[Raw]:
    """The rows of one file in order.

    Raises:
        UserError: the file as a whole cannot be read: damaged compression, a JSON array that is not JSON, no header.
    """
    readers = {
        ".jsonl": _jsonl,
        ".json": _json,
        ".csv": _csv,
        ".tsv": _tsv,
        ".txt": _txt,
        ".parquet": _parquet,
        ".arrow": _arrow,
    }
    with _damage_named(file):
        yield from readers[file.suffix](file)


def label_names(file: File) -> dict[str, Sequence[str]]:
    """What the file itself says about its integer columns: column -> the names of 0, 1, …; mostly nothing."""
    if file.suffix not in (".parquet", ".arrow"):
        return {}
    with _damage_named(file), _seekable(file) as source:
        if file.suffix == ".parquet":
            from pyarrow import parquet

            schema = parquet.read_schema(source)
        else:
            schema = _open_arrow(source)[0]
    return _names_in_schema(schema)


def names_in_features(features: object) -> dict[str, Sequence[str]]:
    """The label names in a data set's features, as they are written into arrow files and `dataset_info.json`."""
    if not isinstance(features, Mapping):
        return {}
    names_by_column: dict[str, Sequence[str]] = {}
    for column, feature in features.items():
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            if (
                isinstance(names, Sequence)
                and not isinstance(names, str)
                and all(isinstance(name, str) for name in names)
            ):
                names_by_column[str(column)] = tuple(names)
    return names_by_column


def _names_in_schema(schema: "Schema") -> dict[str, Sequence[str]]:
    noted = (schema.metadata or {}).get(b"huggingface")
    if noted is None:
        return {}
    try:
        note = orjson.loads(noted)
    except orjson.JSONDecodeError:
        return {}
    info = note.get("info") if isinstance(note, dict) else None
    return names_in_features(info.get("features") if isinstance(info, dict) else None)


# --- bytes ------------------------------------------------------------------------------------------------------------


class _ZstdFrames(io.RawIOBase):
    """The content of all frames of a `.zst` file; one that is cut off raises, where the library's stream just ends."""

    def __init__(self, source: BinaryIO) -> None:
        import zstandard

        self._new = zstandard.ZstdDecompressor().decompressobj
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
def _open(file: File) -> Iterator[BinaryIO]:
    """The uncompressed bytes of a file."""
    with contextlib.ExitStack() as stack:
        source: BinaryIO = stack.enter_context(open(file.path, "rb"))
        if file.packed == ".gz":
            source = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=source, mode="rb")))
        elif file.packed == ".zst":
            source = cast(BinaryIO, stack.enter_context(io.BufferedReader(_ZstdFrames(source), _CHUNK)))
        yield source


@contextlib.contextmanager
def _seekable(file: File) -> Iterator[Any]:
    """The same for formats that jump about in a file: compressed ones are unpacked into a temporary file."""
    if not file.packed:
        with open(file.path, "rb") as source:
            yield source
        return
    with tempfile.TemporaryFile() as unpacked, _open(file) as source:
        while chunk := source.read(_CHUNK * 16):
            unpacked.write(chunk)
        unpacked.seek(0)
        yield unpacked


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends, split at newlines only; a byte order mark is taken off the first."""
    first = next(source, None)
    if first is None:
        return
    first = first.removeprefix(_BOM)
    if first:
        yield first
    yield from source


@contextlib.contextmanager
def _damage_named(file: File) -> Iterator[None]:
    """Turn what a library says about a file that is no such file into a `UserError` that names the file."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(file, error) from error
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
        f"{file.display_name}: {show(str(error) or type(error).__name__, 200)}",
        "copy it again",
    )


# --- JSON -------------------------------------------------------------------------------------------------------------


def _jsonl(file: File) -> Iterator[Raw]:
    with _open(file) as source:
        for number, line in enumerate(_lines(source), 1):
            if not line.isspace():
                yield number, _json_row(line)


def _json_row(line: bytes) -> Mapping[str, Any] | BadRow:
    try:
        return _object(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        hint = " (an array of rows belongs into a .json file)" if line.startswith(b"[") else ""
        problem = f"{error.msg} at column {error.pos + 1} of {_start(line)}{hint}"
        return _not_utf8(line) or BadRow("broken JSON", problem)


def _object(value: object) -> Mapping[str, Any] | BadRow:
    if isinstance(value, dict):
        return value
    return BadRow("not an object", f"a row is an object with columns, this is {type(value).__name__} {show(value)}")


def _not_utf8(line: bytes) -> BadRow | None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow("not UTF-8", f"byte {line[error.start]:#04x} at column {error.start + 1} of {_start(line)}")
    return None


def _start(line: bytes) -> str:
    return show(line[:200].decode("utf-8", "replace").rstrip("\r\n"), 60)


def _holds_lines(file: File) -> bool:
    """Is this `.json` really JSON lines? Its first line is then an object of its own."""
    with _damage_named(file), _open(file) as source:
        first = next((line.strip() for line in _lines(source) if not line.isspace()), b"")
    return first.startswith(b"{") and first.endswith(b"}")


def _json(file: File) -> Iterator[Raw]:
    with _open(file) as source:
        content = source.read().removeprefix(_BOM)
    if not content or content.isspace():
        return
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        bad = _not_utf8(content)
        line = _line_of_bad_byte(content) if bad else error.lineno
        problem = "it has bytes that are not UTF-8" if bad else f"{error.msg} at column {error.colno}"
        raise UserError(
            "this is not JSON",
            f"{file.display_name}:{line}: {problem}",
            "mend the file; with one object a line (.jsonl), single bad rows can be left out by `--on-bad-row skip`",
        ) from error
    del content
    for number, row in enumerate(parsed if isinstance(parsed, list) else [parsed], 1):
        yield number, _object(row)


def _line_of_bad_byte(content: bytes) -> int:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


# --- tables with lines ------------------------------------------------------------------------------------------------


def _csv(file: File) -> Iterator[Raw]:
    with _open(file) as source:
        yield from _table(file, _quoted_rows(_lines(source), ","))


def _tsv(file: File) -> Iterator[Raw]:
    """Tab-separated text has no quoting (MultiNLI's has stray quotes in plenty), unless its header is quoted."""
    with _open(file) as source:
        lines = _lines(source)
        first = next(lines, None)
        if first is None:
            return
        all_lines = _with_first(first, lines)
        quoted = first.startswith(b'"')
        yield from _table(file, _quoted_rows(all_lines, "\t") if quoted else _split_rows(all_lines))


def _txt(file: File) -> Iterator[Raw]:
    """HANS and MultiNLI call their tables `.txt`; any other text is one row a line."""
    with _open(file) as source:
        lines = _lines(source)
        first = next(lines, None)
        if first is None:
            return
        all_lines = _with_first(first, lines)
        if {b"gold_label", b"sentence1", b"sentence2"} <= set(first.rstrip(b"\r\n").split(b"\t")):
            yield from _table(file, _split_rows(all_lines))
            return
        for number, line in enumerate(all_lines, 1):
            if line.isspace():
                continue
            bad = _not_utf8(line)
            yield number, bad if bad else {"text": _without_end(line.decode("utf-8"))}


def _with_first(first: bytes, following: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from following


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


Cells = tuple[int, list[str] | BadRow]


def _split_rows(lines: Iterable[bytes]) -> Iterator[Cells]:
    for number, line in enumerate(lines, 1):
        if line.strip(b"\r\n"):
            yield number, _not_utf8(line) or _without_end(line.decode("utf-8")).split("\t")


class _Feed:
    """Lines for the csv module, which can be handed back: after a broken row, reading goes on at its second line."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._waiting: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self.number = 0
        self.bad: BadRow | None = None

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self._taken.append(line)
        self.number += 1
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.bad = self.bad or _not_utf8(line)
            return line.decode("utf-8", "replace")

    def start(self) -> None:
        """A new row begins."""
        self._taken.clear()
        self.bad = None

    @property
    def first(self) -> int:
        """The line on which the current row began."""
        return self.number - len(self._taken) + 1

    def give_back(self) -> None:
        """Keep only the first line of the current row; the others are read again."""
        self._waiting.extendleft(reversed(self._taken[1:]))
        self.number -= max(len(self._taken) - 1, 0)
        del self._taken[1:]


def _quoted_rows(lines: Iterator[bytes], delimiter: str) -> Iterator[Cells]:
    """Rows of a CSV file, with quoted newlines. A stray quote costs its own line, not the rest of the file."""
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    width: int | None = None
    while True:
        feed.start()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            first, last = feed.first, feed.number
            feed.give_back()
            over = f"; the row was read on to line {last}" if last > first else ""
            yield first, BadRow("broken CSV", f"{error}{over}")
            continue
        if not cells:
            continue
        first = feed.first
        width = width or len(cells)
        if feed.bad is not None or len(cells) != width:
            feed.give_back()
        yield first, feed.bad or cells


def _table(file: File, rows: Iterator[Cells]) -> Iterator[Raw]:
    """Rows of cells under the first row, which names the columns."""
    number, header = next(rows, (0, None))
    if header is None:
        return
    if isinstance(header, BadRow):
        raise UserError("the header cannot be read", f"{file.location(number)}: {header.detail}", "mend the first line")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError("two columns have the same name", f"{file.location(number)}: {show(repeated)}", "rename one")
    for number, cells in rows:
        if isinstance(cells, BadRow):
            yield number, cells
        elif len(cells) != len(header):
            yield number, BadRow("wrong number of columns", f"{len(cells)} columns, the header has {len(header)}")
        else:
            yield number, dict(zip(header, cells, strict=True))


# --- arrow ------------------------------------------------------------------------------------------------------------


def _parquet(file: File) -> Iterator[Raw]:
    from pyarrow import parquet

    with _seekable(file) as source, parquet.ParquetFile(source) as table:
        promised, number = table.metadata.num_rows, 0
        for number, row in _batches(file, table.schema_arrow, table.iter_batches(batch_size=BATCH_ROWS)):
            yield number, row
        if number != promised:
            raise EOFError(f"it has {number} rows and says that it has {promised}")


def _arrow(file: File) -> Iterator[Raw]:
    with _seekable(file) as source:
        schema, batches = _open_arrow(source)
        yield from _batches(file, schema, batches)


def _open_arrow(source: Any) -> "tuple[Schema, Iterator[RecordBatch]]":
    """Arrow's file format and its stream format (what `save_to_disk` writes) share a suffix."""
    from pyarrow import ipc

    magic = source.read(6)
    source.seek(0)
    if magic == b"ARROW1":
        table = ipc.open_file(source)
        return table.schema, (table.get_batch(index) for index in range(table.num_record_batches))
    source.seek(0, os.SEEK_END)
    source.seek(max(source.tell() - len(_STREAM_END), 0))
    if source.read() != _STREAM_END:
        raise EOFError("the stream has no end mark")
    source.seek(0)
    stream = ipc.open_stream(source)
    return stream.schema, iter(stream)


def _batches(file: File, schema: "Schema", batches: "Iterable[RecordBatch]") -> Iterator[Raw]:
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        raise UserError("two columns have the same name", f"{file.display_name}: {show(repeated)}", "rename one")
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            for row in _rows_of(batch.slice(start, BATCH_ROWS)):
                number += 1
                yield number, row


def _rows_of(batch: "RecordBatch") -> Iterator[Mapping[str, Any] | BadRow]:
    """Rows as plain values. Arrow believes a file's own offsets, so they are checked before anything follows them."""
    from pyarrow import ArrowInvalid

    try:
        batch.validate(full=True)
    except ArrowInvalid as error:
        if batch.num_rows > 1:
            for index in range(batch.num_rows):
                yield from _rows_of(batch.slice(index, 1))
        elif "UTF8" in str(error):
            yield BadRow("not UTF-8", "bytes in a text column")
        else:
            raise
    else:
        yield from batch.to_pylist()


# --- folders saved with `save_to_disk` --------------------------------------------------------------------------------


def saved_files(folder: Path, split: str | None) -> tuple[list[File], dict[str, Sequence[str]], str]:
    """The arrow files of a saved data set, the names of its labels, and the split that they are.

    Raises:
        UserError: this is no saved data set, it has no such split, or it has several and none was named.
    """
    splits = _note(folder / "dataset_dict.json").get("splits")
    if isinstance(splits, list):
        chosen = choose_split([str(name) for name in splits], split, str(folder))
        inner = folder / chosen
        if Path(chosen).name != chosen or chosen == ".." or not inner.is_dir():
            raise UserError("a split is missing from this saved data set", str(inner), "save the data set again")
        files, names, _ = saved_files(inner, None)
        return files, names, chosen
    state = _note(folder / "state.json")
    listed = state.get("_data_files")
    if not isinstance(listed, list):
        entries = sorted(entry.name for entry in folder.iterdir())
        raise UserError(
            "this folder is not a data set saved with `save_to_disk`",
            f"{folder} has {show(entries, 200)}",
            "name one of its files, or a folder with dataset_dict.json or state.json",
        )
    if state.get("_indices_data_files"):
        raise UserError("this saved data set is a selection by indices", str(folder), "save it with flatten_indices()")
    if split is not None and split != state.get("_split"):
        raise UserError("the saved data set has no splits", f"{folder}, split {show(split)}", "leave the split out")
    listed = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed]
    if any(not isinstance(name, str) or Path(name).name != name for name in listed):
        raise UserError("a saved data set names files outside its folder", f"{folder}: {show(listed)}", "save it again")
    files = [File(folder / name, ".arrow", "", str(folder / name)) for name in listed]
    for file in files:
        if not file.path.is_file():
            raise missing_file(file.path)
    return files, names_in_features(_note(folder / "dataset_info.json").get("features")), str(state.get("_split") or "")


def choose_split(splits: Sequence[str], split: str | None, source: str) -> str:
    """The split that is read: the one named, or the only one."""
    if split is None and len(splits) == 1:
        return splits[0]
    if split is not None and split in splits:
        return split
    raise UserError(
        "say which split to read" if split is None else "there is no such split",
        f"{source}" + ("" if split is None else f", split {show(split)}"),
        f"its splits: {', '.join(splits)}",
    )


def _note(path: Path) -> dict[str, Any]:
    """A small JSON file beside the data; an absent one is empty."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError("this is not JSON", f"{path}: {show(str(error), 200)}", "save the data set again") from error
    return value if isinstance(value, dict) else {}
