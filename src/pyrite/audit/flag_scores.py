"""Flag scores: how strongly every row shows every finding, and the data divided by them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from pyrite.audit.config import AuditConfig
from pyrite.audit.decide import Decision
from pyrite.audit.extras import extras_of
from pyrite.audit.flaws.registry import flaw_of, plugin_settings
from pyrite.audit.gather import DATA
from pyrite.audit.plan import Planned
from pyrite.audit.rows import audit_row, lacks_part
from pyrite.audit.spans import all_spans, span_of
from pyrite.audit.stream import Batches, read_options
from pyrite.errors import OutOfTime
from pyrite.io import Part, Reader, ReadOptions, SourceRow, Span, atomic_write, copy_rows, open_records, write_jsonl
from pyrite.io.urls import name_in_place
from pyrite.outputs import storable
from pyrite.records import Record
from pyrite.steps import Context, Step, StepType, Store

LONGEST = 2000
"""Characters of a text in the table of flagged rows."""
ROWS_AT_ONCE = 2000


def flag_scores_step(context: Context) -> None:
    """Step: `marks.parquet`: for each row of one file, or of a span of it, its number and, by measure, how strongly it shows it (0 to 1);
    0 of a row without the part of the answers that is measured."""
    config = context.config
    extras = extras_of(config, context.inputs)
    batches = Batches(
        config.get("hub") or context.inputs["file"],
        read_options(config),
        source=config["source"],
        column=None,
        part=config.get("part", "answer"),
        span=span_of(context),
    )
    rules: Mapping[str, Mapping[str, Any]] = config["rules"]
    names = [f"{flaw}.{rule}" for flaw, flaw_rules in rules.items() for rule in flaw_rules]
    schema = pyarrow.schema([("number", pyarrow.int64()), *((name, pyarrow.float32()) for name in names)])
    with parquet.ParquetWriter(context.out / "marks.parquet", schema, compression="zstd") as writer:
        for batch in batches:
            rows = [replace(row, number=row.number + config["offset"]) for row in batch]
            columns: dict[str, Any] = {"number": [row.number for row in rows]}
            for name, flaw_rules in rules.items():
                folder = context.inputs["whole"] / name
                flaw = flaw_of(name, config)
                assert flaw.flag_scores is not None, name
                places = [at for at, row in enumerate(rows) if flaw.reads_prompts or not lacks_part(row, batches.part)]
                measured = [rows[at] for at in places]
                scores = flaw.flag_scores(measured, flaw_rules, extras, folder if folder.is_dir() else None)
                for rule in flaw_rules:
                    columns[f"{name}.{rule}"] = np.zeros(len(rows), dtype=np.float32)
                    columns[f"{name}.{rule}"][places] = scores[rule]
            writer.write_table(pyarrow.table(columns, schema=schema))
            context.report_progress(batches.rows, max(config["rows"], batches.rows), "rows")
            if context.expired():
                raise OutOfTime("--max-time is over; the flag scores of this file start again")


@dataclass(frozen=True)
class Flags:
    """Rows that show a finding: for each file, for each row in order, the names of the findings (empty: clean)."""

    files: Sequence[Sequence[tuple[str, ...]]]

    def as_json(self) -> dict[str, Any]:
        """How many rows are flagged, and by which finding; a row can have several."""
        by = Counter(name for rows in self.files for names in rows for name in names)
        flagged = sum(bool(names) for rows in self.files for names in rows)
        total = sum(map(len, self.files))
        return {"rows": total, "flagged": flagged, "clean": total - flagged, "by": dict(sorted(by.items()))}


def flags(tables: Sequence[Sequence[Path]], names: Sequence[str], at_least: float) -> Flags:
    """Which rows are flagged by which of these findings, out of the tables of flag scores, one or more for each file."""
    return Flags([[row for path in of_file for row in _flags_of(path, names, at_least)] for of_file in tables])


def _flags_of(path: Path, names: Sequence[str], at_least: float) -> list[tuple[str, ...]]:
    """The same of one table."""
    present = [name for name in names if name in parquet.read_schema(path).names]
    table = parquet.read_table(path, columns=present or ["number"])
    marked = [np.asarray(table[name]) >= at_least for name in present]
    lines = np.array(marked).T if marked else np.zeros((table.num_rows, 0), dtype=bool)
    sets: dict[bytes, tuple[str, ...]] = {}
    rows = []
    for line in lines:
        key = line.tobytes()
        if key not in sets:
            sets[key] = tuple(name for name, on in zip(present, line, strict=True) if on)
        rows.append(sets[key])
    return rows


@dataclass(frozen=True)
class DataFile:
    """A file of the data, how it is read, and its spans (None: read whole), one after the other: the rows have the ids that
    they have in its tables."""

    path: str
    options: ReadOptions
    spans: Sequence[Span | None]

    def readers(self) -> list[Reader]:
        """A reader of each span."""
        return [open_records(self.path, self.options, span) for span in self.spans]

    def records(self) -> Iterator[Record]:
        """All records in order."""
        return chain.from_iterable(self.readers())

    def rows(self) -> Iterator[SourceRow]:
        """All rows in order."""
        return chain.from_iterable(reader.rows() for reader in self.readers())


def write_split(sources: Sequence[DataFile], row_flags: Flags, *, flagged: Path | None, clean: Path | None) -> None:
    """Write flagged rows, with the names of their findings under `flagged_by`, and clean ones, each row to one of them:
    every column as it is in the data.

    Rows of files in several layouts, which no reader could read from one file, are written as records (`write_jsonl`).
    """
    layouts = {layout_of(source) for source in sources} if len(sources) > 1 else set()
    if len(layouts) > 1:
        for path, side in ((flagged, True), (clean, False)):
            if path is not None:
                write_jsonl(records_of_side(sources, row_flags, flagged=side), path)
        return
    for path, column in ((flagged, "flagged_by"), (clean, None)):
        if path is not None:
            parts = parts_of_side(sources, row_flags, flagged=column is not None)
            copy_rows(parts, path, column=column, all_rows=partial(parts_of_side, sources, row_flags, flagged=None))


def layout_of(source: DataFile) -> str | None:
    """The layout of a source, by its first rows."""
    reader = open_records(source.path, source.options)
    next(iter(reader.rows()), None)
    return reader.layout


def records_of_side(sources: Sequence[DataFile], row_flags: Flags, *, flagged: bool) -> Iterator[Record]:
    """The records of one side, in order."""
    for source, rows in zip(sources, row_flags.files, strict=True):
        for record, names in zip(source.records(), rows, strict=True):
            if flagged and names:
                yield replace(record, meta={**record.meta, "flagged_by": ", ".join(names)})
            elif not flagged and not names:
                yield record


def parts_of_side(sources: Sequence[DataFile], row_flags: Flags, *, flagged: bool | None) -> list[Part]:
    """The rows of one side (None: of both), by the files of the data. A row that holds several records is flagged where one of them
    is."""
    parts = []
    for source, names in zip(sources, row_flags.files, strict=True):
        files = open_records(source.path, source.options).data_files
        numbered = numbers_of_side(source.rows(), names, flagged)
        ahead = RowsAhead(numbered)
        parts += [Part(file, ahead.of_file(at)) for at, file in enumerate(files)]
    return parts


def numbers_of_side(
    rows: Iterator[SourceRow], names: Sequence[tuple[str, ...]], flagged: bool | None
) -> Iterator[tuple[int, int, str | None]]:
    """File, number in it, and names of findings of the rows of one side."""
    names_of_records = iter(names)
    for row in rows:
        row_names = list(dict.fromkeys(name for of_record in islice(names_of_records, len(row.records)) for name in of_record))  # fmt: skip
        if flagged is None or bool(row_names) == flagged:
            yield row.file, row.number, ", ".join(row_names) if flagged else None
    assert next(names_of_records, None) is None, "the data has changed since it was measured"


class RowsAhead:
    """Rows in the order of their files, handed out file by file; some files may have none."""

    def __init__(self, rows: Iterator[tuple[int, int, str | None]]) -> None:
        self.rows = rows
        self.ahead = next(rows, None)

    def of_file(self, at: int) -> Iterator[tuple[int, str | None]]:
        """The rows of this file: number and names."""
        while self.ahead is not None and self.ahead[0] == at:
            _, number, names = self.ahead
            self.ahead = next(self.rows, None)
            yield number, names


def write_flagged(sources: Sequence[DataFile], row_flags: Flags, path: Path) -> None:
    """Write every flagged row as a table for readers: `number` (its place among all rows of the data), `id`,
    `flagged_by`, `prompt`, `answer` and `label`; texts are cut at `LONGEST` characters.

    Rows of several kinds may stand together. They are read again and written as they come, so memory stays small.
    """
    texts = ("id", "flagged_by", "prompt", "answer", "label")
    schema = pyarrow.schema([("number", pyarrow.int64()), *((name, pyarrow.string()) for name in texts)])
    rows = flagged_rows(sources, row_flags)
    with atomic_write(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))


def flagged_rows(sources: Sequence[DataFile], row_flags: Flags) -> Iterator[dict[str, Any]]:
    """The flagged rows in order."""
    number = 0
    for source, rows in zip(sources, row_flags.files, strict=True):
        for record, names in zip(source.records(), rows, strict=True):
            if names:
                row = audit_row(record, number)
                texts = {"id": row.id, "prompt": row.prompt, "answer": row.answer, "label": row.label}
                cells = {name: None if text is None else storable(text, LONGEST) for name, text in texts.items()}
                yield {"number": number, **cells, "flagged_by": ", ".join(names)}
            number += 1


def flag_rows(
    config: AuditConfig,
    planned: Planned,
    store: Store,
    decision: Decision,
    finish: Callable[[Sequence[Step]], None],
) -> Flags:
    """Score every row by every rule, then divide the data by the findings that are warnings or worse."""
    rules: dict[str, dict[str, Any]] = {}
    for flaw, result in decision.measured.items():
        rules_of_flaw = {
            entry["measure"]["name"]: entry["evidence"]["rule"]
            for entry in result["measures"]
            if entry["evidence"]["rule"]
        }
        if rules_of_flaw:
            rules[flaw] = rules_of_flaw
    steps: list[list[Step]] = []
    offset = 0
    for (name, shard), spans in planned.spans.items():
        if name != DATA:
            continue
        steps.append([])
        for step in spans:
            rows = store.read_json(step, "counts.json")["rows"]
            label = f"{name_in_place(config.data[shard])}: flag scores{step.label.rpartition(': read')[2]}"
            steps[-1].append(scoring_step(step, planned, rules, (offset, rows), label))
            offset += rows
    finish([step for of_file in steps for step in of_file])
    names = [finding.full_name for finding in decision.findings if finding.severity != "ok"]
    tables = [[store.path(step.key) / "marks.parquet" for step in of_file] for of_file in steps]
    row_flags = flags(tables, names, config.flag_at)
    write_split(data_sources(config, planned, store), row_flags, flagged=config.flagged, clean=config.clean)
    return row_flags


READ_SETTINGS = (
    *("against", "layout", "columns", "label_map", "text_fields", "on_bad_row"),
    *("source", "hub", "revision", "file", "seed", "part", "encoding", "roles", "tool_calls", "flags", "span"),
)
"""What of a reading step's configuration says how it reads."""


def scoring_step(
    step: Step, planned: Planned, rules: Mapping[str, Mapping[str, Any]], place: tuple[int, int], label: str
) -> Step:
    """The step that scores the rows that a step read; `place`: how many rows of the data stand before them, and how many they
    are."""
    settings = {key: step.config[key] for key in READ_SETTINGS if key in step.config}
    settings |= {"rules": rules, "offset": place[0], "rows": place[1], **plugin_settings(rules)}
    inputs = {name: step.inputs[name] for name in ("file", "spans") if name in step.inputs}
    return Step(
        FLAG_SCORES, settings, {**inputs, "whole": planned.totals, **planned.resources}, label=label, cost=step.cost
    )


def data_sources(config: AuditConfig, planned: Planned, store: Store) -> list[DataFile]:
    """Every file of the data, and how it is read."""
    files = []
    for (name, shard), steps in planned.spans.items():
        if name == DATA:
            places = steps[0].inputs.get("spans")
            spans = all_spans(store.path(places.key)) if isinstance(places, Step) else [None]
            files.append(DataFile(config.data[shard], read_options(steps[0].config), spans))
    return files


FLAG_SCORES = StepType("audit.marks", 3, flag_scores_step, plain=True)
