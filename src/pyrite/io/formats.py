"""How do the bytes of a file become raw rows, one at a time, with the place of each?

A raw row is a mapping of columns to values, or the `BadRow` that stands in its place. JSON lines, CSV, TSV, plain text,
parquet and arrow are streamed; a JSON array is parsed whole. Blank lines are no rows. Nothing here is ever evaluated,
unpickled or normalised.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from pyrite.errors import UserError
from pyrite.io.delimited import csv_rows, tsv_rows, txt_rows
from pyrite.io.encodings import BYTE_ORDER_MARK, text_lines
from pyrite.io.files import File, Raw, damage_named, missing_file, open_seekable, open_uncompressed
from pyrite.io.json_values import json_row, json_rows
from pyrite.io.raw_row import BadRow, short_value
from pyrite.io.spans import Span

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema
    from pyarrow.parquet import ParquetFile

BATCH_ROWS = 1024
READ_AHEAD = 1 << 20
"""Bytes of a parquet column that are read at a time."""


_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


def raw_rows(file: File, span: Span | None = None) -> Iterator[Raw]:
    """The rows of one file in order; with a `span` (`pyrite.io.spans`), those that stand there, with their numbers in the whole
    file.

    Raises:
        UserError: the file as a whole cannot be read: damaged compression, a JSON array that is not JSON, no header.
    """
    readers: dict[str, Callable[[File], Iterator[Raw]]] = {
        ".jsonl": partial(_jsonl, span=span),
        ".json": json_rows,
        ".csv": csv_rows,
        ".tsv": tsv_rows,
        ".txt": txt_rows,
        ".parquet": partial(_parquet, span=span),
        ".arrow": _arrow,
    }
    assert span is None or file.suffix in (".jsonl", ".parquet"), file
    with damage_named(file):
        yield from readers[file.suffix](file)


def label_names(file: File) -> dict[str, Sequence[str]]:
    """What the file itself says about its integer columns: column -> the names of 0, 1, …; mostly nothing."""
    if file.suffix not in (".parquet", ".arrow"):
        return {}
    return _names_in_schema(arrow_schema(file))


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


def _jsonl(file: File, span: Span | None = None) -> Iterator[Raw]:
    with open_uncompressed(file) as source:
        lines = text_lines(source, file.encoding) if span is None else _lines_of(source, span)
        for number, line in enumerate(lines, 1 if span is None else span.before + 1):
            if not line.isspace():
                yield number, json_row(line)


def _lines_of(source: BinaryIO, span: Span) -> Iterator[bytes]:
    """The lines of a span of UTF-8 text, without a byte order mark."""
    source.seek(span.start)
    left = span.end - span.start
    while left > 0 and (line := source.readline()):
        left -= len(line)
        yield line.removeprefix(BYTE_ORDER_MARK) if source.tell() == len(line) else line


def _parquet(file: File, span: Span | None = None) -> Iterator[Raw]:
    with open_seekable(file) as source, open_parquet(source) as table:
        groups = None if span is None else list(range(span.start, span.end))
        rows = [table.metadata.row_group(at).num_rows for at in groups or ()]
        promised, number = table.metadata.num_rows if groups is None else sum(rows), 0
        before = 0 if span is None else span.before
        batches = table.iter_batches(batch_size=BATCH_ROWS, row_groups=groups)
        for number, row in _batches(file, table.schema_arrow, batches if promised else ()):
            yield before + number, row
        if number != promised:
            raise EOFError(f"it has {number} rows and says that it has {promised}")


def open_parquet(source: Any) -> "ParquetFile":
    """A parquet file whose columns are read page by page. By default whole row groups are kept in memory, and many writers
    make one of the whole file."""
    from pyarrow import parquet

    return parquet.ParquetFile(source, pre_buffer=False, buffer_size=READ_AHEAD)


def arrow_schema(file: File) -> "Schema":
    """The schema of a parquet or arrow file, with its metadata."""
    with damage_named(file), open_seekable(file) as source:
        if file.suffix == ".parquet":
            from pyarrow import parquet

            return parquet.read_schema(source)
        return _open_arrow(source)[0]


def arrow_batches(file: File) -> "Iterator[RecordBatch]":
    """The rows of a parquet or arrow file as they are, batch by batch."""
    with damage_named(file), open_seekable(file) as source:
        if file.suffix == ".parquet":
            with open_parquet(source) as table:
                yield from table.iter_batches(batch_size=BATCH_ROWS)
        else:
            yield from _open_arrow(source)[1]


def is_arrow_file(file: File) -> bool:
    """Is this arrow's file format, and not its stream?"""
    with open_uncompressed(file) as source:
        return source.read(6) == b"ARROW1"


def _arrow(file: File) -> Iterator[Raw]:
    with open_seekable(file) as source:
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
        raise UserError("two columns have the same name", f"{file.display_name}: {short_value(repeated)}", "rename one")
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
        rows = batch.to_pylist()
    except (ValueError, KeyError, OverflowError) as error:  # what is no value of Python's, too
        if batch.num_rows > 1:
            for index in range(batch.num_rows):
                yield from _rows_of(batch.slice(index, 1))
        elif not isinstance(error, ArrowInvalid):
            yield BadRow("wrong type", f"a value that cannot be read: {error}")
        elif "UTF8" in str(error):
            yield BadRow("not UTF-8", "bytes in a text column")
        else:
            raise
    else:
        yield from rows


def saved_files(
    folder: Path, split: str | None, flag: str = "--split"
) -> tuple[list[File], dict[str, Sequence[str]], str]:
    """The arrow files of a saved data set, the names of its labels, and the split that they are.

    Raises:
        UserError: this is no saved data set, it has no such split, or it has several and none was named.
    """
    splits = _note(folder / "dataset_dict.json").get("splits")
    if isinstance(splits, list):
        chosen = choose_split([str(name) for name in splits], split, str(folder), flag)
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
            f"{folder} has {short_value(entries, 200)}",
            "name one of its files, or a folder with dataset_dict.json or state.json",
        )
    if state.get("_indices_data_files"):
        raise UserError("this saved data set is a selection by indices", str(folder), "save it with flatten_indices()")
    if split is not None and split != state.get("_split"):
        raise UserError(
            "the saved data set has no splits", f"{folder}, split {short_value(split)}", "leave the split out"
        )
    listed = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed]
    if any(not isinstance(name, str) or Path(name).name != name for name in listed):
        raise UserError(
            "a saved data set names files outside its folder", f"{folder}: {short_value(listed)}", "save it again"
        )
    files = [File(folder / name, ".arrow", "", str(folder / name)) for name in listed]
    for file in files:
        if not file.path.is_file():
            raise missing_file(file.path)
    return files, names_in_features(_note(folder / "dataset_info.json").get("features")), str(state.get("_split") or "")


def choose_split(splits: Sequence[str], split: str | None, source: str, flag: str = "--split") -> str:
    """The split that is read: the one named, or the only one; `flag` names one (empty: there is no flag)."""
    if split is None and len(splits) == 1:
        return splits[0]
    if split is not None and split in splits:
        return split
    raise UserError(
        "say which split to read" if split is None else "there is no such split",
        f"{source}" + ("" if split is None else f", split {short_value(split)}"),
        f"its splits: {', '.join(splits)}; " + " or ".join(_naming(name, source, flag) for name in splits),
    )


def _naming(split: str, source: str, flag: str) -> str:
    return f"`{flag} {split}`" if flag else f"{source}@{split}"


def _note(path: Path) -> dict[str, Any]:
    """A small JSON file beside the data; an absent one is empty."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(
            "this is not JSON", f"{path}: {short_value(str(error), 200)}", "save the data set again"
        ) from error
    return value if isinstance(value, dict) else {}
