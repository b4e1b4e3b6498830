"""Rows of delimited text: CSV, TSV and the tables that are called .txt, quoted or split as they are, one row at a time."""

import csv
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pyrite.errors import UserError
from pyrite.io.dialect import FIELD_LIMIT, Dialect, csv_dialect, tsv_dialect, txt_dialect
from pyrite.io.encodings import text_lines
from pyrite.io.files import File, Raw, not_utf8, open_uncompressed
from pyrite.io.raw_row import BadRow, short_value
from pyrite.io.undecodable import first_undecodable, undecodable_error

Cells = tuple[int, list[str] | BadRow, Sequence[bytes]]
"""A row of a table: the number of its first line, its cells, and its lines as they are (until the next row is read)."""


_RETURN = "\udc0d"
"""Stands for a carriage return within a line, which would end the row for the csv module; no text in UTF-8 has it."""


@dataclass(frozen=True, slots=True)
class Header:
    """The names of a table's columns (None: a column without a name), the lines that hold them (none where the columns are
    named by number), and how the first line ends."""

    names: tuple[str | None, ...]
    lines: tuple[bytes, ...]
    end: str = "\n"


def csv_rows(file: File) -> Iterator[Raw]:
    """The rows of a CSV file, in the dialect in which it is written."""
    yield from table_rows(file, csv_dialect(file))


def tsv_rows(file: File) -> Iterator[Raw]:
    """The rows of tab-separated text."""
    yield from table_rows(file, tsv_dialect(file))


def txt_rows(file: File) -> Iterator[Raw]:
    """HANS, MultiNLI and Excel call their tables `.txt`; any other text is one row a line."""
    dialect = txt_dialect(file)
    if dialect is not None:
        yield from table_rows(file, dialect)
        return
    for number, line in plain_lines(file):
        yield number, not_utf8(line) or {"text": _without_end(line.decode("utf-8"))}


def plain_lines(file: File) -> Iterator[tuple[int, bytes]]:
    """The lines of plain text that are not blank."""
    with open_uncompressed(file) as source:
        for number, line in enumerate(text_lines(source, file.encoding), 1):
            if not line.isspace():
                yield number, line


def dialect_of(file: File) -> Dialect | None:
    """How a file is written as a table; None where it is plain text."""
    by_suffix = {".csv": csv_dialect, ".tsv": tsv_dialect, ".txt": txt_dialect}
    return by_suffix[file.suffix](file)


def table_rows(file: File, dialect: Dialect) -> Iterator[Raw]:
    """The rows under the first one, which names the columns; all rows where columns are named by number. Where all cells
    are empty there is no row."""
    header, rows = header_and_rows(file, dialect)
    if header is None:
        return
    width = len(header.names)
    names = [name for name in header.names if name is not None]
    for number, cells, _ in rows:
        if isinstance(cells, BadRow):
            yield number, cells
        elif len(cells) == width == len(names) and any(cells):
            yield number, dict(zip(names, cells, strict=True))
        elif any(cells):
            yield number, by_name(header.names, cells)


def by_name(names: Sequence[str | None], cells: Sequence[str]) -> dict[str, str] | BadRow:
    """The cells of a row by their names. Beyond the last name cells must be empty, and may be left out; between names
    a cell without one is called by its place."""
    least = max(at for at, name in enumerate(names, 1) if name is not None)
    if len(cells) < least or any(cells[len(names) :]):
        return BadRow("wrong number of columns", f"{len(cells)} columns, the header has {len(names)}")
    row: dict[str, str] = {}
    for at, (name, cell) in enumerate(zip(names, cells, strict=False), 1):
        if name is not None:
            row[name] = cell
        elif cell and at > least:
            return BadRow("wrong number of columns", f"column {at} has no name, and holds {short_value(cell)}")
        elif cell:
            row[f"column {at}"] = cell
    return row


def header_and_rows(file: File, dialect: Dialect) -> tuple[Header | None, Iterator[Cells]]:
    """The names of a table's columns (None: it is empty), and its rows. Where the user names columns by number, and the
    first row has no such names, it is a row, and the columns are called 1, 2, …

    A first column without a name (an index, as pandas and R write it) is called "".

    Raises:
        UserError: the first row cannot be read, names no column, or one twice.
    """
    rows = table_cells(file, dialect)
    first = next(rows, None)
    if first is None:
        return None, rows
    number, cells, lines = first
    if isinstance(cells, BadRow):
        what, at = "the header cannot be read", first_undecodable(file) if cells.reason == "not UTF-8" else None
        if at is not None:
            raise undecodable_error(file, at, what=what)
        raise UserError(what, f"{file.location(number)}: {cells.detail}", "mend the first line")
    end = next((mark for mark in ("\r\n", "\n", "\r") if lines[-1].endswith(mark.encode())), "\n")
    if file.numbers and file.numbers.isdisjoint(cell.strip() for cell in cells):
        header = Header(tuple(str(at) for at in range(1, len(cells) + 1)), (), end)
        return header, itertools.chain([(number, cells, tuple(lines))], rows)
    return Header(_column_names(file, number, cells, dialect), tuple(lines), end), rows


def _column_names(file: File, number: int, cells: Sequence[str], dialect: Dialect) -> tuple[str | None, ...]:
    """The names in a first row."""
    named = [cell.strip() for cell in cells]
    last = max((at for at, name in enumerate(named, 1) if name), default=0)
    fix = "mend the first line; where it is a row, name the columns by number"
    if last == 0:
        raise UserError("the header names no column", file.location(number), f"{fix}{first_columns(cells)}")
    names: list[str | None] = [name if name or at == 1 else None for at, name in enumerate(named[:last], 1)]
    repeated = sorted({name for name in names if name is not None and names.count(name) > 1})
    if repeated:
        detail = f"{file.location(number)}: {short_value(repeated)}"
        raise UserError("two columns have the same name", detail, f"{fix}{first_columns(cells)}, else rename one")
    return (*([""] if dialect.row_names else []), *names, *[None] * (len(named) - last))


def header_cells(file: File) -> list[str]:
    """The cells of the first row, which names the columns; none where the file is no table, is empty, or has no names."""
    dialect = dialect_of(file) if file.stringly else None
    if dialect is None:
        return []
    header, _ = header_and_rows(file, dialect)
    return [name or "" for name in header.names] if header is not None and header.lines else []


def has_no_names(file: File) -> bool:
    """Is this a table whose columns are named by number?"""
    return bool(file.numbers) and file.suffix in (".csv", ".tsv") and not header_cells(file)


def first_columns(cells: Sequence[str]) -> str:
    """Columns by number as an example: two that hold text, else the first."""
    texts = [at for at, cell in enumerate(cells, 1) if " " in cell.strip()] or [at for at, cell in enumerate(cells, 1) if cell.strip()]  # fmt: skip
    ours = ("prompt", "answer") if len(texts) > 1 else ("text",)
    flags = [f"--columns {name}={at}" for name, at in zip(ours, texts, strict=False)]
    return f", such as `{' '.join(flags)}`" if flags else ""


def table_cells(file: File, dialect: Dialect) -> Iterator[Cells]:
    """Every row of a table, the header first."""
    with open_uncompressed(file) as source:
        lines = text_lines(source, file.encoding, quotes=dialect.quoted)
        for _ in range(dialect.preamble):
            next(lines, None)
        before = dialect.preamble
        rows = _quoted_rows(lines, dialect) if dialect.quoted else _split_rows(lines, dialect.delimiter)
        for number, cells, taken in rows:
            yield number + before, cells, taken


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _split_rows(lines: Iterable[bytes], delimiter: str) -> Iterator[Cells]:
    for number, line in enumerate(lines, 1):
        if line.strip(b"\r\n"):
            yield number, not_utf8(line) or _without_end(line.decode("utf-8")).split(delimiter), (line,)


class _Feed:
    """Lines for the csv module, which can be handed back: after a broken row, reading goes on at its second line."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._waiting: deque[bytes] = deque()
        self.taken: list[bytes] = []
        self.number = 0
        self.bad: BadRow | None = None
        self.has_returns = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self.taken.append(line)
        self.number += 1
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            self.bad = self.bad or not_utf8(line)
            text = line.decode("utf-8", "replace")
        if text.find("\r", 0, len(text) - 2) != -1:
            self.has_returns = True
            end = "\r\n" if text.endswith("\r\n") else text[-1]
            text = text.removesuffix(end).replace("\r", _RETURN) + end
        return text

    def start(self) -> None:
        """A new row begins."""
        self.taken.clear()
        self.bad = None
        self.has_returns = False

    @property
    def first(self) -> int:
        """The line on which the current row began."""
        return self.number - len(self.taken) + 1

    def give_back(self) -> None:
        """Keep only the first line of the current row; the others are read again."""
        self._waiting.extendleft(reversed(self.taken[1:]))
        self.number -= max(len(self.taken) - 1, 0)
        del self.taken[1:]


def _quoted_rows(lines: Iterator[bytes], dialect: Dialect) -> Iterator[Cells]:
    """Rows of a CSV file, with quoted newlines, of any width.

    After a quote that was never closed, or is followed by text, reading goes on at the next line, so that it costs its
    own line and not the rest of the file. A row that is well quoted keeps all its lines, however many cells it has.
    """
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=dialect.delimiter, strict=True)
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
            yield first, BadRow("broken CSV", f"{error}{over}"), feed.taken
            continue
        if not cells:
            continue
        if feed.has_returns:
            cells = [cell.replace(_RETURN, "\r") for cell in cells]
        yield feed.first, feed.bad or cells, feed.taken
