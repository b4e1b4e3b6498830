"""Step: one file, or one span of a large one, is read once by every flaw that reads all rows.

The reader numbers the rows; what was gathered is merged later, so that files audited apart and together come to the same. A
seeded sample of the rows is kept on the way: every row draws a number, and those with the smallest stay, so that the samples
of two files join into a sample of both.
"""

import heapq
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyrite.audit.crew import Crew, PartsInTurn
from pyrite.audit.input_files import size_of
from pyrite.audit.rows import AnswerPart, Row, audit_row, cluster_of, holds_thought, lacks_part, part_of
from pyrite.audit.spans import span_of
from pyrite.errors import OutOfTime, UserError
from pyrite.io import ReadOptions, Span, open_records
from pyrite.steps import Context, StepType

BATCH_ROWS = 1000
BATCH_CHARS = 4_000_000


class Batches:
    """Rows of a file, or of a span of it, in batches of bounded size, with the `part` of their answers that is measured. Counted on the way:
    `rows`, those that have `thoughts`, and those that are `without_part`."""

    def __init__(
        self,
        path: Path | str,
        options: ReadOptions,
        *,
        source: str,
        column: str | None,
        cluster: str | None = None,
        part: AnswerPart = "answer",
        span: Span | None = None,
    ) -> None:
        self.reader = open_records(path, options, span)
        self.source, self.column, self.cluster, self.part = source, column, cluster, part
        self.rows = self.thoughts = self.without_part = 0

    def __iter__(self) -> Iterator[list[Row]]:
        batch: list[Row] = []
        size = 0
        for number, record in enumerate(self.reader):
            name = self.source
            if self.column is not None:
                if self.column not in record.meta:
                    missing = f"row {record.id} has no column {self.column}"
                    raise UserError("The column that names the source is not there.", missing, "--source-column NAME")
                name = str(record.meta[self.column])
            row = audit_row(record, number, name)
            if self.cluster is not None:
                row = replace(row, cluster=cluster_of(record, self.cluster))
            self.thoughts += holds_thought(row)
            row = part_of(row, self.part)
            self.without_part += lacks_part(row, self.part)
            batch.append(row)
            size += len(row.prompt) + sum(map(len, row.answers))
            if len(batch) >= BATCH_ROWS or size >= BATCH_CHARS:
                self.rows += len(batch)
                yield batch
                batch, size = [], 0
        if batch:
            self.rows += len(batch)
            yield batch


LONGEST = 100_000
"""Texts of the sample are cut to so many characters; what is counted over all rows reads them whole."""


def with_short_texts(row: Row) -> Row:
    """The row with its texts cut to `LONGEST` characters."""
    if max(len(row.prompt), len(row.system), *map(len, row.answers), *map(len, row.fields.values()), 0) <= LONGEST:
        return row
    fields = {name: text[:LONGEST] for name, text in row.fields.items()}
    answers = tuple(answer[:LONGEST] for answer in row.answers)
    return replace(row, prompt=row.prompt[:LONGEST], answers=answers, fields=fields, system=row.system[:LONGEST])


class Drawn:
    """The rows with the smallest random numbers so far, at most `size` of each source, their texts cut to `LONGEST`."""

    def __init__(self, size: int, seed: Sequence[int]) -> None:
        self.size, self.rng = size, np.random.default_rng(list(seed))
        self.held: dict[str, list[tuple[float, int, Row]]] = {}

    def add(self, rows: Sequence[Row]) -> None:
        """Let every row draw its number."""
        for row, number in zip(rows, self.rng.random(len(rows)).tolist(), strict=True):
            held = self.held.setdefault(row.source, [])
            if len(held) < self.size:
                heapq.heappush(held, (-number, row.number, with_short_texts(row)))
            elif -number > held[0][0]:
                heapq.heapreplace(held, (-number, row.number, with_short_texts(row)))

    def lines(self) -> Iterator[bytes]:
        """One JSON object a line, smallest number first: `drawn`, and the row."""
        for name in sorted(self.held):
            for minus, _, row in sorted(self.held[name], key=lambda entry: (-entry[0], entry[1])):
                yield orjson.dumps({"drawn": -minus, "row": row.as_json()}, option=orjson.OPT_APPEND_NEWLINE)


def read_options(config: Mapping[str, Any]) -> ReadOptions:
    """How the file is to be read."""
    return ReadOptions(
        layout=config["layout"],
        columns=config["columns"],
        label_map=config["label_map"],
        text_fields=config["text_fields"],
        on_bad_row=config["on_bad_row"],
        revision=config["revision"],
        encoding=config.get("encoding"),
        roles=config.get("roles"),
        tool_calls=config.get("tool_calls", "text"),
        flags=config.get("flags", ""),
    )


def stream_step(context: Context) -> None:
    """Step: of a file or a span of it, `part-K/FLAW/` (what each flaw's stream gathered), `part-K/rows.parquet`, `sample.jsonl`, `counts.json`."""
    config = context.config
    path: Path | str = config.get("hub") or context.inputs["file"]
    batches = Batches(
        path,
        read_options(config),
        source=config["source"],
        column=config["source_column"],
        cluster=config.get("cluster"),
        part=config.get("part", "answer"),
        span=span_of(context),
    )
    drawn = Drawn(config["sample"], [config["seed"], *config["file_seed"], *config.get("span", ())[:1]])
    inputs = {name: folder for name, folder in context.inputs.items() if name not in ("file", "spans")}
    began = time.monotonic()
    size = 0 if config.get("hub") else size_of(path) / (config["span"][1] if "span" in config else 1)
    folders = [context.out / f"part-{at}" for at in range(config["parts"])]
    count = min(context.cpus, len(folders))
    crew = Crew(folders, count, config, inputs) if count > 1 else PartsInTurn(folders, config, inputs)
    try:
        for batch in batches:
            drawn.add([row for row in batch if not lacks_part(row, batches.part)])
            crew.add(batch)
            context.report_progress(batches.rows, estimated_rows(size, batches.rows, batch), "rows")
            if context.expired():
                raise OutOfTime("--max-time is over; the file that was being read starts again")
        crew.close()
    finally:
        if isinstance(crew, Crew):
            crew.stop()
    (context.out / "sample.jsonl").write_bytes(b"".join(drawn.lines()))
    counts = batches.reader.counts
    summary = {
        **counts.as_json(),
        "rows": batches.rows,
        "thoughts": batches.thoughts,
        "without_part": batches.without_part,
        "layout": batches.reader.layout,
        "read_as": batches.reader.read_as.as_json() if batches.reader.read_as else None,
        "read_files": [file.name for file in batches.reader.files],
        "sources": sorted(drawn.held),
        "bytes": sum(file.stat().st_size for file in context.out.rglob("*") if file.is_file()),
        "seconds": time.monotonic() - began,
    }
    (context.out / "counts.json").write_bytes(orjson.dumps(summary))


def estimated_rows(size: float, rows: int, batch: Sequence[Row]) -> float:
    """An estimate of how many rows there will be: from the file's bytes and the rows of one batch; at least those
    read."""
    each = sum(len(row.prompt) + sum(map(len, row.answers)) for row in batch) / max(1, len(batch))
    return max(rows, size / max(1.0, each * 1.1))


STREAM = StepType("audit.stream", 4, stream_step, plain=True)
