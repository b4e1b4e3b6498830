"""Rows of files written back as they are: every column and type, in the format that the new file's name says.

Rows are named by their file and their number there. The source is read a second time, in step with those numbers, so
that memory stays small. Between files of one kind the text of a row is copied (of parquet and arrow the columns with
their schema; a table that stands in JSON by its columns stays one); between kinds its values are written anew.
"""

import codecs
import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from pyrite.errors import UserError
from pyrite.io.delimited import dialect_of, header_and_rows, plain_lines, table_cells
from pyrite.io.dialect import Dialect
from pyrite.io.encodings import BYTE_ORDER_MARK, encoding_of, peeked
from pyrite.io.files import ALIASES, File, data_suffix, open_uncompressed
from pyrite.io.formats import raw_rows
from pyrite.io.json_dump import dump_json, plain_value
from pyrite.io.json_texts import Surroundings, document_table, document_texts, line_texts, on_one_line, with_member
from pyrite.io.json_values import parse_values
from pyrite.io.raw_row import BadRow, as_text, is_nan
from pyrite.io.write import atomic_write, open_packed

if TYPE_CHECKING:
    import pyarrow

Value = TypeVar("Value")
Chosen = Iterator[tuple[int, str | None]]
"""The rows of a file that are written, by their numbers (ascending), each with what stands in the added column."""
WRITABLE = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow")


@dataclass(frozen=True, slots=True)
class Part:
    """A file, and those of its rows that are written."""

    file: File
    chosen: Chosen


def check_target(path: Path, files: Sequence[File] = ()) -> None:
    """Refuse a name that says no format in which rows of these files can be written.

    Raises:
        UserError: no known suffix, or `.txt` for what is no plain text.
    """
    suffixes = data_suffix(path.name)
    if suffixes is None:
        known = " ".join((*WRITABLE, *ALIASES))
        fix = f"end the name in one of {known}, such as {path.stem or 'rows'}.jsonl"
        raise UserError("The name does not say in which format rows are written.", str(path), fix)
    if suffixes[0] == ".txt" and any(file.suffix != ".txt" for file in files):
        raise UserError("Rows with columns are no plain text.", str(path), f"such as {path.stem}.jsonl")


def copy_rows(
    parts: Sequence[Part], path: Path, *, column: str | None = None, all_rows: Callable[[], Sequence[Part]]
) -> int:
    """Write rows in their order; returns how many. `column` is added to each, with what the part says of it.
    `all_rows` gives the rows whose columns the new file has, where rows of several kinds of files come together.

    Raises:
        UserError: the name says no format, or the columns of the files cannot stand in one table.
    """
    check_target(path, [part.file for part in parts])
    suffix = (data_suffix(path.name) or ("", ""))[0]
    with atomic_write(path) as temporary, open_packed(temporary) as out:
        if suffix == ".jsonl":
            return _write_lines(parts, out, column)
        if suffix == ".json":
            return _write_document(parts, out, column)
        if suffix in (".parquet", ".arrow"):
            return _write_arrow(parts, out, column, path, all_rows)
        if suffix == ".txt" and all(dialect_of(part.file) is None for part in parts):
            return _write_text(parts, out)
        return _write_table(parts, out, column, suffix, all_rows)


def picked(rows: Iterable[tuple[int, Value]], chosen: Iterable[tuple[int, str | None]]) -> Iterator[tuple[Value, str | None]]:  # fmt: skip
    """Those of the numbered rows that are chosen.

    Raises:
        UserError: one is not there.
    """
    iterator = iter(rows)
    for number, extra in chosen:
        for at, row in iterator:
            if at == number:
                yield row, extra
                break
        else:
            fix = "write to a .jsonl file, or run again if the file was changed meanwhile"
            raise UserError("A row that was read cannot be written back.", f"row {number}", fix)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _json_texts(file: File) -> Iterable[tuple[int, str]]:
    if file.suffix == ".jsonl":
        return line_texts(file)
    if file.suffix == ".json":
        return enumerate(document_texts(file)[1], 1)
    return ((number, dump_json(values).decode()) for number, values in raw_rows(file) if not isinstance(values, BadRow))


def _texts(parts: Sequence[Part], column: str | None) -> Iterator[str]:
    for part in parts:
        for text, extra in picked(_json_texts(part.file), part.chosen):
            yield text if column is None or extra is None else with_member(text, column, extra)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _write_lines(parts: Sequence[Part], out: BinaryIO, column: str | None) -> int:
    count = 0
    for text in _texts(parts, column):
        out.write(_bytes(on_one_line(text) if "\n" in text or "\r" in text else text) + b"\n")
        count += 1
    return count


def _write_document(parts: Sequence[Part], out: BinaryIO, column: str | None) -> int:
    alone = len(parts) == 1 and parts[0].file.suffix == ".json"
    if alone and (table := document_table(parts[0].file)) is not None:
        text, count = table.document(parts[0].chosen, column)
        out.write(_bytes(f"{text}\n"))
        return count
    around = document_texts(parts[0].file)[0] if alone else Surroundings()
    out.write(_bytes(f"{around.before}["))
    count = 0
    for text in _texts(parts, column):
        out.write(_bytes(f"{',' if count else ''}\n{text}"))
        count += 1
    out.write(_bytes(f"\n]{around.after or chr(10)}"))
    return count


# --- tables and plain text --------------------------------------------------------------------------------------------


def _write_text(parts: Sequence[Part], out: BinaryIO) -> int:
    count = 0
    for part in parts:
        for line, _ in picked(plain_lines(part.file), part.chosen):
            out.write(line.rstrip(b"\r\n") + b"\n")
            count += 1
    return count


@dataclass(frozen=True, slots=True)
class _Table:
    """How a table is written: its dialect, its columns, its first lines where they are copied (those before the header
    and the header's own), and its encoding. `left_out` is the place of a column that is not written; `named`: has it a
    header?"""

    dialect: Dialect
    names: Sequence[str | None]
    preamble: str
    header: str | None
    encoding: str
    end: str = "\n"
    left_out: int | None = None
    named: bool = True

    def without(self, column: str | None) -> "_Table":
        """The table without a column of this name, for another comes in its place."""
        return replace(self, left_out=self.names.index(column)) if column in self.names and column else self

    def written(self, cells: Sequence[Value]) -> list[Value]:
        """Those of a row's cells that are written."""
        return [cell for at, cell in enumerate(cells) if at != self.left_out]


def _write_table(
    parts: Sequence[Part], out: BinaryIO, column: str | None, suffix: str, all_rows: Callable[[], Sequence[Part]]
) -> int:
    tables = [_table_of(part.file, suffix) for part in parts]
    first = tables[0]
    alike = first is not None and all(
        table is not None and table.names == first.names and table.encoding == first.encoding for table in tables
    )
    if first is None or not alike:
        names = list(dict.fromkeys(str(name) for values in _chosen_values(all_rows()) for name in values))
        mark = "\t" if suffix in (".tsv", ".txt") else ","
        first = _Table(Dialect(mark, quoted=True), [name for name in names if name != column], "", None, "utf-8")
    first = first.without(column)
    encoder = codecs.getincrementalencoder(first.encoding)()
    header = first.header if first.left_out is None else None
    header = header if header is not None else _rendered([name or "" for name in first.written(first.names)], first)
    added = [] if column is None else [column]
    out.write(encoder.encode(first.preamble + (_appended(header, added, first) if first.named else "")))
    count = 0
    for part, table in zip(parts, tables, strict=True):
        same = table is not None and table.dialect.delimiter == first.dialect.delimiter
        same = same and table is not None and table.dialect.quoted == first.dialect.quoted and first.header is not None
        rows = _raw_lines(part, table, column is not None, first) if same and table else _cells(part, first)
        for text, extra in rows:
            out.write(encoder.encode(_appended(text, [] if column is None else [extra or ""], first)))
            count += 1
    return count


def _table_of(file: File, suffix: str) -> _Table | None:
    """A file as a table whose lines can be copied into one with this suffix; None where they cannot."""
    if file.suffix not in (".csv", ".tsv", ".txt") or (file.suffix == ".csv") != (suffix == ".csv"):
        return None
    dialect = dialect_of(file)
    if dialect is None:
        return None
    header, _ = header_and_rows(file, dialect)
    if header is None:
        return None
    with open_uncompressed(file) as source:
        head = peeked(source)
        encoding = file.encoding or encoding_of(head) or ("utf-8-sig" if head.startswith(BYTE_ORDER_MARK) else "utf-8")
        lines = list(itertools.islice(_decoded_lines(file), dialect.preamble))
    text = "".join(line.decode("utf-8") for line in header.lines)
    if dialect.row_names:  # said by a name: the rows of the new file may be too few to show it
        text = ('""' if dialect.quoted else "") + dialect.delimiter + text
    return _Table(dialect, header.names, "".join(lines), text, encoding, header.end, named=bool(header.lines))


def _decoded_lines(file: File) -> Iterator[str]:
    from pyrite.io.encodings import text_lines

    with open_uncompressed(file) as source:
        for line in text_lines(source, file.encoding, quotes=True):
            yield line.decode("utf-8", "replace")


def _raw_lines(part: Part, table: _Table, fill: bool, target: _Table) -> Iterator[tuple[str, str | None]]:
    """The chosen rows as they are written; with `fill` a row that has fewer cells than the header, or more, gets as
    many, so that a column can follow."""
    width = len(target.names)
    rows = table_cells(part.file, table.dialect)
    texts = ((number, (b"".join(lines).decode("utf-8"), cells)) for number, cells, lines in rows if not isinstance(cells, BadRow))  # fmt: skip
    for (text, cells), extra in picked(texts, part.chosen):
        if target.left_out is not None or (fill and len(cells) != width):
            text = _rendered(target.written([*cells, *[""] * (width - len(cells))][:width]), target)
        yield text, extra


def _cells(part: Part, target: _Table) -> Iterator[tuple[str, str | None]]:
    rows = ((number, values) for number, values in _exact_rows(part.file) if not isinstance(values, BadRow))
    names = target.written([name if name is not None else f"column {at}" for at, name in enumerate(target.names, 1)])
    for values, extra in picked(rows, part.chosen):
        yield _rendered([as_cell(values.get(name)) for name in names], target), extra


def _rendered(cells: Sequence[str], table: _Table) -> str:
    if not table.dialect.quoted:
        return table.dialect.delimiter.join(cells) + table.end
    sink = io.StringIO()
    csv.writer(sink, delimiter=table.dialect.delimiter, lineterminator=table.end).writerow(cells)
    return sink.getvalue()


def _appended(text: str, cells: Sequence[str], table: _Table) -> str:
    """The line of a row with further cells."""
    bare = text.rstrip("\r\n")
    if not cells:
        return bare + table.end if bare == text else text
    return bare + table.dialect.delimiter + _rendered(cells, table)


def as_cell(value: Any) -> str:
    """A value as a cell of a table: text as it is, nothing for null and NaN, lists and objects as JSON, anything else as it
    is written in JSON, without the quotes."""
    if value is None or is_nan(value):
        return ""
    text = as_text(value)
    if text is not None:
        return text
    return (
        dump_json(value).decode()
        if isinstance(value, (Sequence, Mapping)) and not isinstance(value, bytes)
        else str(plain_value(value))
    )


def _exact_rows(file: File) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    """The rows of a file, with whole numbers of any size."""
    if file.suffix not in (".jsonl", ".json"):
        yield from raw_rows(file)
        return
    for number, text in _json_texts(file):
        try:
            values = parse_values(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict):
            yield number, values
        elif isinstance(values, list):
            yield number, {"messages": values}


def _chosen_values(parts: Sequence[Part]) -> Iterator[Mapping[str, Any]]:
    for part in parts:
        rows = ((number, values) for number, values in _exact_rows(part.file) if not isinstance(values, BadRow))
        yield from (values for values, _ in picked(rows, part.chosen))


# --- parquet and arrow ------------------------------------------------------------------------------------------------

ROWS_AT_ONCE = 10_000


def _write_arrow(
    parts: Sequence[Part], out: BinaryIO, column: str | None, path: Path, all_rows: Callable[[], Sequence[Part]]
) -> int:
    import pyarrow

    from pyrite.io.formats import arrow_schema

    arrow = all(part.file.suffix in (".parquet", ".arrow") for part in parts)
    try:
        if arrow:
            schemas = [arrow_schema(part.file) for part in parts]
            schema = schemas[0] if len(schemas) == 1 else pyarrow.unify_schemas(schemas, promote_options="permissive")
        else:
            schema = _inferred_schema(all_rows())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        names = ", ".join(part.file.display_name for part in parts)
        fix = "audit the files apart, or name a .jsonl file"
        raise UserError("The columns of these files are of several types.", f"{names}: {error}", fix) from error
    if column is not None:
        if column in schema.names:
            schema = schema.remove(schema.get_field_index(column))
        schema = schema.append(pyarrow.field(column, pyarrow.string()))
    count = 0
    with _arrow_writer(out, schema, path, parts) as writer:
        for part in parts:
            batches = _chosen_batches(part, column) if part.file.suffix in (".parquet", ".arrow") else _built(part, schema, column)  # fmt: skip
            for table in batches:
                table = _as_schema(table, schema)
                writer.write_table(table)
                count += table.num_rows
    return count


def _arrow_writer(out: BinaryIO, schema: "pyarrow.Schema", path: Path, parts: Sequence[Part]) -> Any:
    from pyarrow import ipc, parquet

    from pyrite.io.formats import is_arrow_file

    if (data_suffix(path.name) or ("",))[0] == ".parquet":
        return parquet.ParquetWriter(out, schema, compression="zstd")
    stream = parts and parts[0].file.suffix == ".arrow" and not is_arrow_file(parts[0].file)
    return ipc.new_stream(out, schema) if stream and ".feather" not in path.suffixes else ipc.new_file(out, schema)


def _chosen_batches(part: Part, column: str | None) -> "Iterator[pyarrow.Table]":
    """The chosen rows of a parquet or arrow file, batch by batch."""
    import pyarrow

    from pyrite.io.formats import arrow_batches

    offset = 0
    waiting = next(part.chosen, None)
    for batch in arrow_batches(part.file):
        places, extras = [], []
        while waiting is not None and waiting[0] <= offset + batch.num_rows:
            places.append(waiting[0] - offset - 1)
            extras.append(waiting[1])
            waiting = next(part.chosen, None)
        offset += batch.num_rows
        mask = [False] * batch.num_rows
        for at in places:
            mask[at] = True
        table = pyarrow.Table.from_batches([batch]).filter(pyarrow.array(mask, pyarrow.bool_()))
        if column is not None:
            if column in table.schema.names:
                table = table.drop_columns([column])
            table = table.append_column(column, pyarrow.array(extras, pyarrow.string()))
        yield table


def _as_schema(table: "pyarrow.Table", schema: "pyarrow.Schema") -> "pyarrow.Table":
    import pyarrow

    if table.schema.equals(schema, check_metadata=True):
        return table
    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    columns = [
        table[name].cast(field.type) if name in table.schema.names else pyarrow.nulls(table.num_rows, field.type)
        for name, field in zip(schema.names, schema, strict=True)
    ]
    return pyarrow.Table.from_arrays(columns, schema=schema)


def _inferred_schema(parts: Sequence[Part]) -> "pyarrow.Schema":
    """A schema for rows that have none: the types of their values; text where a column has several."""
    import pyarrow

    types: dict[str, Any] = {}
    rows = _chosen_values(parts)
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        for name in dict.fromkeys(name for row in chunk for name in row):
            try:
                kind = pyarrow.array([row.get(name) for row in chunk]).type
                if name in types:
                    fields = [pyarrow.schema([pyarrow.field(name, each)]) for each in (types[name], kind)]
                    kind = pyarrow.unify_schemas(fields, promote_options="permissive").field(0).type
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError, TypeError, ValueError):
                kind = pyarrow.string()
            types[name] = kind
    return pyarrow.schema([pyarrow.field(name, _stored_type(kind)) for name, kind in types.items()])


def _stored_type(kind: Any) -> Any:
    """A type that a file can hold: an object without members has none in parquet."""
    import pyarrow

    empty = pyarrow.types.is_struct(kind) and kind.num_fields == 0
    return pyarrow.string() if empty else kind


def _built(part: Part, schema: "pyarrow.Schema", column: str | None) -> "Iterator[pyarrow.Table]":
    import pyarrow

    rows = ((number, values) for number, values in _exact_rows(part.file) if not isinstance(values, BadRow))
    chosen = picked(rows, part.chosen)
    while chunk := list(itertools.islice(chosen, ROWS_AT_ONCE)):
        arrays = []
        for field in schema:
            cells = [extra if field.name == column else values.get(field.name) for values, extra in chunk]
            if pyarrow.types.is_string(field.type):
                cells = [cell if cell is None or isinstance(cell, str) else as_cell(cell) for cell in cells]
            arrays.append(pyarrow.array(cells, field.type))
        yield pyarrow.Table.from_arrays(arrays, schema=schema)
