"""How is a table of text written? Its delimiter, and whether its cells are quoted."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pyrite.io.encodings import text_lines
from pyrite.io.files import File, open_uncompressed
from pyrite.io.layouts import detect

FIELD_LIMIT = 256 * 1024 * 1024
"""Characters that one quoted cell may have; beyond it a quote was never closed."""
DELIMITERS = ",;\t|"
FIRST_ROWS = 20
"""Lines that tell the delimiter where the header could have several."""
ROW_NAME_LINES = 200
"""Lines that show whether rows have a name more than the header."""
QUOTED_BYTES = 64 * 1024 * 1024
"""So much of a file with tabs is looked at for cells in quotes."""
_IN_QUOTES = re.compile(r'"(?:[^"]|"")*"')
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """`delimiter` between cells; `quoted`: may cells stand in double quotes? `preamble` lines come before the header.

    `row_names`: rows begin with a number for which the header has no name, as R's write.table writes them.
    """

    delimiter: str
    quoted: bool
    preamble: int = 0
    row_names: bool = False


def csv_dialect(file: File) -> Dialect:
    """The dialect of a `.csv` file: a first line `sep=;` (Excel's) names the delimiter, else the first lines show it."""
    with open_uncompressed(file) as source:
        lines = [
            line.decode("utf-8", "replace")
            for line in itertools.islice(text_lines(source, file.encoding, quotes=True), FIRST_ROWS)
        ]
    named = _SEP_LINE.fullmatch(lines[0]) if lines else None
    if named is not None:
        return Dialect(named[1], quoted=True, preamble=1)
    return _with_row_names(file, Dialect(_delimiter(lines), quoted=True))


def _with_row_names(file: File, dialect: Dialect) -> Dialect:
    """The dialect with `row_names` where the first rows all have one cell more than the header, first a number that no
    other row has."""
    with open_uncompressed(file) as source:
        lines = list(itertools.islice(text_lines(source, file.encoding, quotes=dialect.quoted), ROW_NAME_LINES))
    texts = (line.decode("utf-8", "replace") for line in lines)
    try:
        if dialect.quoted:
            rows = [cells for cells in csv.reader(texts, delimiter=dialect.delimiter) if cells]
        else:
            rows = [text.rstrip("\r\n").split(dialect.delimiter) for text in texts if text.strip("\r\n")]
    except csv.Error:
        return dialect
    if len(lines) == ROW_NAME_LINES:  # the last may go on
        rows.pop()
    numbers = [cells[0] for cells in rows[1:] if len(cells) == len(rows[0]) + 1 and cells[0].isdecimal()]
    wider = any(cells[-1] for cells in rows[1:])  # a delimiter at the end of every row names none
    return replace(dialect, row_names=wider and 1 < len(set(numbers)) == len(rows) - 1)


def _delimiter(lines: list[str]) -> str:
    header = next((line for line in lines if line.strip()), "")
    bare = _IN_QUOTES.sub("", header)
    inside = [delimiter for delimiter in DELIMITERS if delimiter in bare]
    if len(inside) < 2:
        return inside[0] if inside else ","
    return max(inside, key=lambda delimiter: _share_as_wide(lines, delimiter))


def _share_as_wide(lines: Iterable[str], delimiter: str) -> float:
    """The share of rows that have as many cells as the header."""
    try:
        widths = [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if cells]
    except csv.Error:
        return 0.0
    return sum(width == widths[0] for width in widths) / len(widths)


def tsv_dialect(file: File) -> Dialect:
    """The dialect of text with tabs: as it is, unless its quotes are a writer's (pandas, Excel)."""
    return _with_row_names(file, Dialect("\t", quoted=_has_quoted_cells(file)))


def txt_dialect(file: File) -> Dialect | None:
    """The dialect of a `.txt` that is a table: its first line names, between tabs, the columns of a layout. HANS and
    MultiNLI are published so, and Excel writes "Unicode text" so. Any other text is no table."""
    with open_uncompressed(file) as source:
        header = next(text_lines(source, file.encoding), b"").decode("utf-8", "replace").rstrip("\r\n")
    names = [name.strip('"') for name in header.split("\t")]
    is_table = len(names) > 1 and detect([name for name in names if name], {}) is not None
    return tsv_dialect(file) if is_table else None


def _has_quoted_cells(file: File) -> bool:
    """Are the double quotes of this table a writer's? A header in quotes says so; else every cell that has a quote must
    be written by the rules, and at least one of them show what they are for (a quote, a tab, a newline in it).

    MultiNLI's tables have stray quotes in plenty and no quoting.
    """
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    with open_uncompressed(file) as source:
        lines = text_lines(source, file.encoding)
        first = next(lines, b"")
        if first.startswith(b'"'):
            return True
        if not _any_quote(itertools.chain([first], lines)):
            return False
    with open_uncompressed(file) as source:
        lines = text_lines(source, file.encoding)
        return _by_the_rules(line.decode("utf-8", "replace") for line in _first_bytes(lines, QUOTED_BYTES))


def _first_bytes(lines: Iterator[bytes], most: int) -> Iterator[bytes]:
    for line in lines:
        most -= len(line)
        if most < 0:
            return
        yield line


def _any_quote(lines: Iterator[bytes]) -> bool:
    return any(b'"' in line for line in _first_bytes(lines, QUOTED_BYTES))


def _by_the_rules(lines: Iterator[str]) -> bool:
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    width, proof = 0, False
    try:
        for cells in csv.reader(noted(), delimiter="\t", strict=True):
            width = width or len(cells)
            if cells and len(cells) < width:
                return False
            quotes = sum(line.count('"') for line in taken)
            if quotes:
                with_quote = [cell for cell in cells if '"' in cell]
                left = quotes - sum(2 + 2 * cell.count('"') for cell in with_quote)
                if left < 0 or left % 2 or left > 2 * (len(cells) - len(with_quote)):
                    return False
                proof = proof or bool(with_quote) or any("\t" in cell or "\n" in cell for cell in cells)
            taken.clear()
    except csv.Error:
        return False
    return proof
