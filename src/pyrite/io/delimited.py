"""Rows of delimited text: CSV, TSV and the tables that are called .txt, quoted or split as they are, one row at a time."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator

from pyrite.errors import UserError
from pyrite.io.files import File, Raw, not_utf8, open_uncompressed, text_lines
from pyrite.io.raw_row import BadRow, short_value

FIELD_LIMIT = 256 * 1024 * 1024
"""Characters that one quoted CSV field may have; beyond it a quote was never closed."""


def csv_rows(file: File) -> Iterator[Raw]:
    """The rows of a CSV file, quoted as its cells are."""
    with open_uncompressed(file) as source:
        yield from _table(file, _quoted_rows(text_lines(source), ","))


def tsv_rows(file: File) -> Iterator[Raw]:
    """Tab-separated text has no quoting (MultiNLI's has stray quotes in plenty), unless its header is quoted."""
    with open_uncompressed(file) as source:
        lines = text_lines(source)
        first = next(lines, None)
        if first is None:
            return
        all_lines = _with_first(first, lines)
        quoted = first.startswith(b'"')
        yield from _table(file, _quoted_rows(all_lines, "\t") if quoted else _split_rows(all_lines))


def txt_rows(file: File) -> Iterator[Raw]:
    """HANS and MultiNLI call their tables `.txt`; any other text is one row a line."""
    with open_uncompressed(file) as source:
        lines = text_lines(source)
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
            bad = not_utf8(line)
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
            yield number, not_utf8(line) or _without_end(line.decode("utf-8")).split("\t")


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
            self.bad = self.bad or not_utf8(line)
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
        raise UserError(
            "two columns have the same name", f"{file.location(number)}: {short_value(repeated)}", "rename one"
        )
    for number, cells in rows:
        if isinstance(cells, BadRow):
            yield number, cells
        elif len(cells) != len(header):
            yield number, BadRow("wrong number of columns", f"{len(cells)} columns, the header has {len(header)}")
        else:
            yield number, dict(zip(header, cells, strict=True))
