"""One large file in several spans that can be read apart: JSON lines by bytes, at the ends of lines; parquet by row groups.

A span says what stands before it, so that its rows have the numbers that they have in the whole file. Other formats, packed
files and text that is not UTF-8 have no place where reading could begin: they are read whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO

from pyrite.io.encodings import is_utf8_in_lines
from pyrite.io.files import File, damage_named

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file: bytes (of parquet: row groups) from `start` to before `end`; `before`: lines (rows) of the file before
    it."""

    start: int
    end: int
    before: int

    def as_json(self) -> dict[str, int]:
        """As plain values."""
        return asdict(self)


def span_from_json(values: Mapping[str, Any]) -> Span:
    """The span that `Span.as_json` wrote."""
    return Span(values["start"], values["end"], values["before"])


def most_spans(file: File) -> int:
    """Into how many spans can a file be divided? 1: it is read whole."""
    if file.packed:
        return 1
    if file.suffix == ".parquet":
        return max(1, len(_row_groups(file)))
    if file.suffix != ".jsonl":
        return 1
    with file.path.open("rb") as source:
        return max(1, file.path.stat().st_size) if is_utf8_in_lines(source, file.encoding) else 1


def spans_of(file: File, count: int) -> list[Span]:
    """A file in so many spans (at most `most_spans`) of about the same size; where lines or row groups are long, some are
    empty."""
    if file.suffix != ".parquet":
        return _at_line_ends(file.path, count)
    groups = _row_groups(file)
    rows = [0, *accumulate(number for number, _ in groups)]
    ends = _even_ends([size for _, size in groups], count)
    return [Span(start, end, rows[start]) for start, end in pairwise([0, *ends])]


def _row_groups(file: File) -> list[tuple[int, int]]:
    """Rows and bytes of each row group."""
    from pyarrow import parquet

    with damage_named(file), parquet.ParquetFile(file.path) as table:
        groups = [table.metadata.row_group(at) for at in range(table.metadata.num_row_groups)]
        return [(group.num_rows, group.total_byte_size) for group in groups]


def _even_ends(sizes: Sequence[int], count: int) -> list[int]:
    """How many of these sizes stand before the end of each of `count` runs that are about equally large."""
    reached = list(accumulate(sizes))
    total, ends = sum(sizes), []
    for number in range(1, count):
        aim = total * number / count
        ends.append(sum(middle <= aim for middle in (end - size / 2 for end, size in zip(reached, sizes, strict=True))))
    return [*ends, len(sizes)]


def _at_line_ends(path: Path, count: int) -> list[Span]:
    """A text file in spans that end after a newline."""
    size = path.stat().st_size
    spans, before = [], 0
    with path.open("rb") as source:
        cuts = [0]
        for number in range(1, count):
            cuts.append(_end_of_line(source, max(cuts[-1], size * number // count)))
        for start, end in pairwise([*cuts, size]):
            spans.append(Span(start, end, before))
            before += _newlines(source, start, end)
    return spans


def _end_of_line(source: BinaryIO, place: int) -> int:
    """Where the line ends that holds the byte before a place."""
    at = max(0, place - 1)
    source.seek(at)
    while chunk := source.read(1 << 16):
        if (offset := chunk.find(b"\n")) >= 0:
            return at + offset + 1
        at += len(chunk)
    return at


def _newlines(source: BinaryIO, start: int, end: int) -> int:
    """How many newlines stand between two places."""
    source.seek(start)
    return sum(source.read(min(_CHUNK, end - at)).count(b"\n") for at in range(start, end, _CHUNK))
