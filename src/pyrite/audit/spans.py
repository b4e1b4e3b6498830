"""Steps: a large file in spans, each of which is read by a step of its own; and what they come to for the file as a whole.

How many spans there are depends on the file alone, so the result does too: whatever runs the steps, in whatever order.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from pyrite.audit.crew import PARTS
from pyrite.audit.input_files import size_of
from pyrite.io import Counts, ReadOptions, Span, check_any_kept, most_spans, open_records, span_from_json, spans_of
from pyrite.steps import Context, StepType

ALONE_BYTES = 24_000_000
"""A file of at most so many bytes is read by one step; a larger one in spans of about so many."""
MOST_SPANS = 128
"""So many spans at most: what a span leaves behind beside its rows (a sample, sketches) stays small beside them."""
NUMBERED = "span "
"""What the names of the inputs begin with that are the spans of a file."""


def division_of(path: str, encoding: str | None) -> tuple[int, int]:
    """In how many spans is this file read, and among how many parts of a step are the rows of each divided? A large file that
    cannot be read in spans is read by one step in several parts."""
    size = size_of(path)
    if size <= ALONE_BYTES:
        return 1, 1
    files = open_records(path, ReadOptions(encoding=encoding)).data_files
    spans = min(most_spans(files[0]), MOST_SPANS, -(-size // ALONE_BYTES)) if len(files) == 1 else 1
    return spans, PARTS if spans == 1 else 1


def spans_step(context: Context) -> None:
    """Step: `spans.json`: where each span of a file begins and ends, and how many lines (rows) stand before it."""
    (file,) = open_records(context.inputs["file"]).data_files
    spans = [span.as_json() for span in spans_of(file, context.config["spans"])]
    (context.out / "spans.json").write_bytes(orjson.dumps(spans))


def all_spans(folder: Path) -> list[Span]:
    """What `spans_step` wrote."""
    return [span_from_json(values) for values in orjson.loads((folder / "spans.json").read_bytes())]


def span_of(context: Context) -> Span | None:
    """The span that a step reads; None: the whole file."""
    return all_spans(context.inputs["spans"])[context.config["span"][0]] if "span" in context.config else None


def file_step(context: Context) -> None:
    """Step: `counts.json` and `sample.jsonl` of a file, out of those of its spans.

    Raises:
        UserError: no row of the file could be read.
    """
    folders = [context.inputs[f"{NUMBERED}{at}"] for at in range(context.config["spans"])]
    counts = [orjson.loads((folder / "counts.json").read_bytes()) for folder in folders]
    rows_read = Counts(
        sum(count["read"] for count in counts),
        sum(count["kept"] for count in counts),
        dict(sum((Counter(count["dropped"]) for count in counts), Counter())),
    )
    check_any_kept(str(context.inputs["file"]), rows_read)
    summed = ("rows", "thoughts", "without_part", "bytes", "seconds")
    file_counts = {
        **counts[0],
        **rows_read.as_json(),
        **{name: sum(count[name] for count in counts) for name in summed},
    }
    file_counts["sources"] = sorted({name for count in counts for name in count["sources"]})
    (context.out / "counts.json").write_bytes(orjson.dumps(file_counts))
    lines = joined_samples(folders, [count["rows"] for count in counts], context.config["sample"])
    with (context.out / "sample.jsonl").open("wb") as sink:
        sink.writelines(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def joined_samples(folders: Sequence[Path], rows: Sequence[int], size: int) -> list[dict[str, Any]]:
    """Of each source, the sampled rows with the smallest numbers drawn, numbered as in the whole file."""
    held: dict[str, list[dict[str, Any]]] = {}
    for folder, before in zip(folders, itertools.accumulate(rows, initial=0), strict=False):
        for text in (folder / "sample.jsonl").read_bytes().splitlines():
            line = orjson.loads(text)
            line["row"]["number"] += before
            held.setdefault(line["row"]["source"], []).append(line)
        held = {name: heapq.nsmallest(size, lines, key=order_drawn) for name, lines in held.items()}
    return [line for name in sorted(held) for line in held[name]]


def order_drawn(line: dict[str, Any]) -> tuple[float, int]:
    """By what was drawn, then by the row's number."""
    return line["drawn"], line["row"]["number"]


SPANS = StepType("audit.spans", 1, spans_step, plain=True)
FILE = StepType("audit.file", 1, file_step, plain=True)
