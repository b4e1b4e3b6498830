"""`pyrite audit`: reads every file once, compares a sample flaw by flaw, and judges what was measured."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrite.audit import gate as gating
from pyrite.audit.baselines import LEAST
from pyrite.audit.compare import same_labels
from pyrite.audit.config import AuditConfig, AuditOptions
from pyrite.audit.decide import Finding, Human, few_sources
from pyrite.audit.flag_scores import FLAG_SCORES, Flags, flags, write_flagged, write_split
from pyrite.audit.flaws.registry import FLAWS, full_names, plugin_settings
from pyrite.audit.gather import DATA, Sampled
from pyrite.audit.judge import Judged, clear, divides_rows, judge, looks, note_on_looks, say_so_far, task_of, two_looks
from pyrite.audit.plan import (
    FIRST_LOOK,
    Planned,
    comparisons,
    files_in,
    model_reads,
    needing,
    nll_reading,
    plan,
    readers,
    reference_files,
    selected_flaws,
    source_labels,
)
from pyrite.audit.reading import INPUT_NAMES
from pyrite.audit.sources import FEWEST, source_table
from pyrite.audit.stream import LONGEST, read_options
from pyrite.conditions import GateOutcome
from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import LAYOUTS, ReadOptions, atomic_write, is_hub
from pyrite.models import hardware
from pyrite.names import redact_existing_path, unlike
from pyrite.outputs import check_folder, command_line
from pyrite.runs.audit import AuditRecord
from pyrite.runs.schema import InputFile
from pyrite.runs.write import write_record
from pyrite.stats.gates import exit_code
from pyrite.steps import Progress, RunOptions, Source, Step, Store, default_store, run_steps
from pyrite.steps.store import made_with

if TYPE_CHECKING:
    import altair
    import polars

UNSAID = ("out", "store", "quiet", "workers", "max_time", "flagged", "clean")
"""Flags that change nothing in what is found."""


@dataclass(frozen=True)
class Audit:
    """What was found, worst first, and everything that `--json` tells."""

    findings: Sequence[Finding]
    record: Mapping[str, Any]
    exit_code: int = 0

    def table(self) -> "polars.DataFrame":
        """Every statistic, worst first, with its null and baseline."""
        from pyrite.audit.tables import table

        return table(self.record)

    def figures(self) -> "dict[str, altair.TopLevelMixin]":
        """A chart of everything that there are values for, by name."""
        from pyrite.audit.figures import charts

        return charts(self.record)

    def as_json(self) -> dict[str, Any]:
        """The shape that `--json` promises."""
        return dict(self.record)


def audit(config: AuditConfig) -> Audit:
    """Statistic the data against its references; nothing that was measured before is measured again.

    Raises:
        UserError: a file that cannot be read, an unknown flaw, a gate or threshold on no measure, no model to read with.
    """
    config = config.model_copy(update={"data": tuple(path for text in config.data for path in files_in(text))})
    flaws = selected_flaws(config.only)
    names = full_names(flaws)
    limits = thresholds(config.thresholds, names)
    gates = [gating.parse(text, names) for text in config.gate]
    check_outputs(config)
    store = Store(config.store or default_store())
    planned = plan(config, flaws)
    end = time.monotonic() + config.max_time * 60 if config.max_time else None

    def finish(steps: Sequence[Step], workers: int = 1, threads: int = 0, pace: float = 1.0) -> None:
        left = None if end is None else max(0.0, end - time.monotonic())
        options = RunOptions(workers=workers, threads=threads, max_seconds=left)
        run_steps(list(steps), store, options, Progress(quiet=config.quiet, pace=pace))

    finish(list(planned.streams.values()))
    check_kinds(config, planned, store)
    finish([planned.totals, planned.sample])
    check_cluster(config, store, planned)
    sampled = Sampled.read(store.path(planned.sample.key))

    def judged(compare: Mapping[str, Step]) -> Judged:
        pace = hardware.pace(hardware.choose(config.precision)) if model_reads(compare) else 1.0
        finish(list(compare.values()), workers=readers(config, list(compare), len(sampled.rows)), threads=1, pace=pace)
        return judge(config, store, planned, compare, sampled, limits)

    quick = [name for name in planned.flaws if not FLAWS[name].model_reads]
    if quick and len(quick) < len(planned.flaws) and not config.quiet:
        say_so_far(judged(comparisons(config, replace(planned, flaws=quick))).findings, quick)
    first = comparisons(config, planned)
    verdicts, read = judged(first), min(FIRST_LOOK, config.model_sample)
    staged = two_looks(first)
    twice = bool(staged) and looks(config, sampled) > 1
    wanted_rows = config.flagged or config.clean or config.out
    if twice and (not clear(verdicts.findings) or (wanted_rows and divides_rows(verdicts.findings))):
        earlier = first[staged[0]].inputs[INPUT_NAMES["nll"]]
        assert isinstance(earlier, Step)
        read = config.model_sample
        second = comparisons(config, planned, nll_reading(config, planned, read, earlier))
        verdicts = judged({**first, **{name: second[name] for name in staged}})
    measured, findings, human = verdicts.measured, verdicts.findings, verdicts.human
    sources, one_source = verdicts.sources, verdicts.one_source
    lacking = [entry["measure"] for entry in not_measured(measured) if entry["why"].startswith("needs a reference")]
    gate_results = [gating.check_gate(gate, findings, sources=len(sources), lacking=lacking) for gate in gates]
    code = exit_code([result.outcome for result in gate_results], config.undecided)
    flagged = split(config, planned, store, findings, measured, finish) if wanted_rows else None
    notes = notes_on_sources(config, findings, human, one_source)
    notes += notes_on_rows(config, planned, sampled, sources)
    if twice:
        notes.append(note_on_looks(staged, read, config.model_sample))
    record = audit_record(config, planned, store, findings, measured, sources, flagged, gate_results, code, notes)
    record["sample"]["model_n"] = min(record["sample"]["n"], read if staged else config.model_sample)
    if config.out is not None:
        write_run(config, config.out, record, planned, store, flagged)
    return Audit(findings, record, code)


def check_outputs(config: AuditConfig) -> None:
    """Refuse, before anything runs, to write flagged or clean rows over each other or over what is read, or the run
    folder over something else."""
    outs = [path.resolve() for path in (config.flagged, config.clean) if path is not None]
    texts = [
        *config.data,
        *reference_files(config.reference),
        *(text.partition("=")[2] or text for text in config.against),
    ]
    ins = [Path(text).resolve() for text in texts if not is_hub(text)]
    for at, out in enumerate(outs):
        if out in outs[:at]:
            raise UserError("Flagged and clean rows need a file each.", str(out), "name another file")
        if any(out == path or (path.is_dir() and out.is_relative_to(path)) for path in ins):
            raise UserError("That would be written over a file that is read.", str(out), "name another file")
    if config.out is not None:
        check_folder(config.out, "audit")


def check_kinds(config: AuditConfig, planned: Planned, store: Store) -> None:
    """Refuse to divide shards of several kinds of rows: one file holds one kind."""
    counts = {name: store.read_json(step, "counts.json") for name, step in planned.streams.items()}
    kinds = {
        LAYOUTS[counted_rows["layout"]].kind.__name__ for (name, _), counted_rows in counts.items() if name == DATA
    }
    if len(kinds) > 1 and (config.flagged or config.clean):
        raise UserError(
            "The shards hold several kinds of rows, and one file of flagged or clean rows holds one kind.",
            ", ".join(sorted(kinds)),
            "audit the shards of each kind apart",
        )


def not_measured(measured: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every measure that could not be taken, and why."""
    return [
        {"measure": f"{flaw}.{entry['measure']}", "why": entry["why"]}
        for flaw in measured
        for entry in measured[flaw]["not_measured"]
    ]


def thresholds(texts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Least excesses by measure."""
    numbers = {}
    for name, limit in (mapping("--thresholds", tuple(texts)) or {}).items():
        if name not in names:
            raise UserError("A threshold names no measure.", name, f"known: {', '.join(names)}")
        try:
            numbers[name] = float(limit)
        except ValueError:
            numbers[name] = math.nan
        if not math.isfinite(numbers[name]):
            raise UserError("A threshold is a number.", f"{name}={limit}", f"such as {name}=0.05")
    return numbers


def check_cluster(config: AuditConfig, store: Store, planned: Planned) -> None:
    """Refuse a `--cluster` column that no row has."""
    if config.cluster is not None and Sampled.read(store.path(planned.sample.key)).clusters is None:
        missing = f"no sampled row of the data or the references has a column {config.cluster}"
        raise UserError("The column that names the clusters is not there.", missing, "--cluster COLUMN")


def notes_on_sources(
    config: AuditConfig, findings: Sequence[Finding], human: Human, one_source: Sequence[Sequence[str]]
) -> list[str]:
    """What a reader must know of the human sources: which are one, what the table did, whether the task is another."""
    notes = [human.task] if human.task else []
    for names in one_source:
        called = ", ".join(redact_existing_path(name) for name in names)
        notes.append(f"{called} cannot be told from each other: they count as one human source")
    if any((finding.record["between_human"] or {}).get("table") for finding in findings):
        human_table = source_table()
        notes.append(
            f"how far human sources lie apart is taken from the references ({human.sources}) and from a table of "
            f"{len(human_table['sources'])} public human sources in English (--no-prior: from the references alone)"
        )
    elif 0 < human.sources < FEWEST and any(finding.record["between_human"] for finding in findings):
        notes.append(few_sources(human.sources, tabled=bool(human.tabled)))
    if not config.no_prior and human.sources and not human.tabled:
        notes.append(
            "the table of human sources holds English text, and this is written in other letters: it is not used"
        )
    return notes


def notes_on_rows(config: AuditConfig, planned: Planned, sampled: Sampled, sources: Mapping[str, int]) -> list[str]:
    """What a reader must know of the rows behind the sources: those that are too few, clusters of one side, the
    task."""
    notes = []
    small = [f"{redact_existing_path(name)} ({rows})" for name, rows in sources.items() if rows < LEAST]
    if small:
        listed = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
        notes.append(f"of fewer than {LEAST} sampled rows, and so no human source of their own: {listed}")
    if config.cluster is not None:
        sides = {
            "data": sampled.data,
            "references": [at for source_places in sampled.references.values() for at in source_places],
        }
        for side, places in sides.items():
            if places and not any(sampled.rows[at].cluster for at in places):
                notes.append(f"no row of the {side} has a column {config.cluster}: each counts by itself")
    by_task = [name for name, flaw in FLAWS.items() if flaw.tells_tasks_apart]
    if sources and not {*by_task} & {*planned.flaws} and all(row.prompt for row in sampled.rows):
        needed = " or ".join(by_task)
        notes.append(f"whether the references are of the data's task was not asked: that needs the family {needed}")
    return notes


def rows_counted(store: Store, planned: Planned, *, data: bool) -> dict[str, Any]:
    """Rows read, kept and dropped by reason, over the files of the data or of the references."""
    total: dict[str, Any] = {"read": 0, "kept": 0, "dropped": {}}
    for (name, _), step in planned.streams.items():
        if (name == DATA) == data:
            counts = store.read_json(step, "counts.json")
            total["read"] += counts["read"]
            total["kept"] += counts["kept"]
            for reason, count in counts["dropped"].items():
                total["dropped"][reason] = total["dropped"].get(reason, 0) + count
    return total


def split(
    config: AuditConfig,
    planned: Planned,
    store: Store,
    findings: Sequence[Finding],
    measured: Mapping[str, Any],
    finish: Callable[[Sequence[Step]], None],
) -> Flags:
    """Mark every row by every rule, then divide the data by the findings that are warnings or worse."""
    rules: dict[str, dict[str, Any]] = {}
    for flaw, result in measured.items():
        rules_of_flaw = {
            entry["measure"]["name"]: entry["evidence"]["rule"]
            for entry in result["measures"]
            if entry["evidence"]["rule"]
        }
        if rules_of_flaw:
            rules[flaw] = rules_of_flaw
    steps, offset = [], 0
    for (name, shard), step in planned.streams.items():
        if name != DATA:
            continue
        rows = store.read_json(step, "counts.json")["rows"]
        read_settings = (
            *("against", "layout", "columns", "label_map", "text_fields", "on_bad_row"),
            *("source", "hub", "revision", "file", "seed"),
        )
        settings = {**{key: step.config[key] for key in read_settings}, "rules": rules, "offset": offset, "rows": rows}
        settings |= plugin_settings(rules)
        inputs = {"file": step.inputs["file"], "whole": planned.totals, **planned.resources}
        steps.append(Step(FLAG_SCORES, settings, inputs, label=f"{config.data[shard]}: flag scores"))
        offset += rows
    finish(steps)
    names = [finding.full_name for finding in findings if finding.severity != "ok"]
    row_flags = flags([store.path(step.key) / "marks.parquet" for step in steps], names, config.flag_at)
    write_split(data_sources(config, planned), row_flags, flagged=config.flagged, clean=config.clean)
    return row_flags


def data_sources(config: AuditConfig, planned: Planned) -> list[tuple[str, ReadOptions]]:
    """Every file of the data, and how it is read."""
    ways = [read_options(step.config) for (name, _), step in planned.streams.items() if name == DATA]
    return list(zip(config.data, ways, strict=True))


def audit_record(
    config: AuditConfig,
    planned: Planned,
    store: Store,
    findings: Sequence[Finding],
    measured: Mapping[str, Any],
    sources: Mapping[str, int],
    flagged: Flags | None,
    gate_results: Sequence[GateOutcome],
    code: int,
    notes: list[str],
) -> dict[str, Any]:
    """Everything, as `--json` tells it; `notes` are those on the human sources."""
    sampled = Sampled.read(store.path(planned.sample.key))
    counts = [store.read_json(step, "counts.json") for step in planned.streams.values()]
    rows = rows_counted(store, planned, data=True)
    n = len(sampled.data)
    records = sum(entry["rows"] for (name, _), entry in zip(planned.streams, counts, strict=True) if name == DATA)
    lacking = not_measured(measured)
    files = {label for _, label in source_labels(config.reference)}
    plain = [redact_existing_path(name) if name in files else name for name in sources]  # else a column named it
    called = dict(zip(sources, unlike(plain), strict=True))
    if unread := [
        name for name in needing("evaluation_sets", selected_flaws(config.only)) if name not in planned.flaws
    ]:
        notes.append(f"{', '.join(unread)} was not looked for: name evaluation sets with --against")
    if config.against and not needing("evaluation_sets", planned.flaws):
        names = ", ".join(needing("evaluation_sets", FLAWS))
        notes.append(f"the evaluation sets of --against were not looked for: {names} is not in --only")
    silent = sum(not row.answer.strip() for row in sampled.rows)
    if silent:
        skipping = [flaw for flaw in FLAWS.values() if flaw.skips_unanswered]
        *most, last = [flaw.name for flaw in sorted(skipping, key=lambda flaw: (not flaw.needs, flaw.name))]
        names = f"{', '.join(most)} and {last}"
        notes.append(f"{silent} of the {len(sampled.rows)} sampled rows have no answer: {names} leave them out")
    long = sum(max(map(len, (row.prompt, *row.answers))) >= LONGEST for row in sampled.rows)
    if long:
        notes.append(f"{long} of the {len(sampled.rows)} sampled rows were cut to {LONGEST:,} characters a text")
    totals = store.read_json(planned.totals, "whole.json").get(DATA, {})
    for name, flaw in FLAWS.items():
        notes += flaw.notes(totals[name]) if flaw.notes and name in totals else []
    if len({row.label for row in sampled.rows}) > 1 and sources and not same_labels(sampled):
        notes += [note for name in measured if (note := FLAWS[name].where_labels_differ)]
    return {
        "schema_version": 1,
        "data": [redact_existing_path(text) for text in config.data],
        "references": [{"source": called[name], "rows_sampled": size} for name, size in sources.items()],
        "rows": rows,
        "records": records,
        "reference_rows": rows_counted(store, planned, data=False),
        "sample": {
            "n": n,
            "of": records,
            "model_n": min(n, config.model_sample),
            "precision": f"a share is known to ± {100 * 1.96 * math.sqrt(0.25 / max(1, n)):.1f} points",
        },
        "another_task": task_of(measured),
        "findings": [finding_json(finding, called) for finding in findings],
        "not_measured": lacking,
        "needs_reference": [entry["measure"] for entry in lacking if entry["why"] == "needs a reference"],
        "flagged": flagged.as_json() if flagged else None,
        "gates": [result.as_json() for result in gate_results],
        "exit_code": code,
        "disk_mb_per_million_rows": sum(count["bytes"] for count in counts)
        / max(1, sum(count["rows"] for count in counts)),
        "settings": config.model_dump(mode="json", exclude={"store", "out", "quiet", "workers", "max_time"}),
        "notes": notes,
    }


def finding_json(finding: Finding, called: Mapping[str, str]) -> dict[str, Any]:
    """A finding as plain values, its human source named without the folders of this machine."""
    values = finding.as_json()
    if between := values["between_human"]:
        distances = {called.get(name, name): value for name, value in between["distances"].items()}
        source = called.get(between["source"], between["source"])
        values["between_human"] = {**between, "source": source, "distances": distances}
    return values


def write_run(
    config: AuditConfig, folder: Path, record: Mapping[str, Any], planned: Planned, store: Store, flagged: Flags | None
) -> None:
    """The run folder: row-level tables of every data file, the flagged rows with their texts, figures, `run.json`."""
    import shutil

    from pyrite.audit.figures import write_figures

    (folder / "results").mkdir(parents=True, exist_ok=True)
    old = {*(folder / "results").glob("rows-*.parquet"), *(folder / "figures").glob("*")}  # of a run before this one
    for (name, shard), step in planned.streams.items():
        if name == DATA:
            for part in sorted(store.path(step.key).glob("part-*/rows.parquet")):
                target = folder / "results" / f"rows-{shard}-{part.parent.name}.parquet"
                with atomic_write(target) as temporary:
                    shutil.copyfile(part, temporary)
                old.discard(target)
    if flagged is not None:
        write_flagged(data_sources(config, planned), flagged, folder / "results" / "flagged.parquet")
    for path in write_figures(record, folder):
        print(path, file=sys.stderr)
        old.discard(path)
    for path in old:
        path.unlink()
    files = [InputFile(file=Path(source.path).name, hash=source.identity) for source in inputs(planned)]
    run = AuditRecord(**record, verb="audit", files=files, command=command(config), made_with=made_with())
    write_record(folder / "run.json", run)


def inputs(planned: Planned) -> list[Source]:
    """Every file that was read, with what identifies its content."""
    sources = [step.inputs["file"] for step in planned.streams.values()]
    sources += [source for name, source in planned.resources.items() if name.startswith("against ")]
    return [source for source in sources if isinstance(source, Source)]


def command(config: AuditConfig) -> str:
    """The command that makes this again, run where the files are."""
    words = ["pyrite", "audit", *(redact_existing_path(text) for text in config.data)]
    return command_line(words, config, AuditOptions, unsaid=UNSAID)
