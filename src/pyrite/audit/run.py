"""What is wrong with this data set, before anyone trains on it?"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.audit import gate as gating
from pyrite.audit.compare import same_labels
from pyrite.audit.config import AuditConfig, AuditOptions
from pyrite.audit.decide import Finding, Human, few_sources
from pyrite.audit.families import measures
from pyrite.audit.gather import DATA, Sampled
from pyrite.audit.judge import Judged, clear, judge, looks, marks_rows, note_on_looks, say_so_far, task_of
from pyrite.audit.marks import MARKS, Flags, flags, write_flagged, write_split
from pyrite.audit.plan import (
    FIRST_LOOK,
    MODELS_READ,
    Planned,
    comparisons,
    files_in,
    plan,
    readers,
    reference_files,
    source_labels,
    surprises,
    wanted,
)
from pyrite.audit.sources import FEWEST, table
from pyrite.audit.stream import LONGEST, read_options
from pyrite.audit.yardsticks import LEAST
from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import LAYOUTS, ReadOptions, atomic_write, is_hub
from pyrite.models import hardware
from pyrite.names import redact_existing_path, unlike
from pyrite.outputs import check_folder, command_line
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
    told: Mapping[str, Any]
    exit_code: int = 0

    def table(self) -> "polars.DataFrame":
        """Every measure, worst first, with its yardsticks."""
        from pyrite.audit.objects import table

        return table(self.told)

    def figures(self) -> "dict[str, altair.TopLevelMixin]":
        """A chart of everything that there are values for, by name."""
        from pyrite.audit.figures import charts

        return charts(self.told)

    def as_json(self) -> dict[str, Any]:
        """The shape that `--json` promises."""
        return dict(self.told)


def audit(config: AuditConfig) -> Audit:
    """Measure the data against its references; nothing that was measured before is measured again.

    Raises:
        UserError: a file that cannot be read, an unknown flaw, a gate or threshold on no measure, no model to read with.
    """
    config = config.model_copy(update={"data": tuple(path for text in config.data for path in files_in(text))})
    flaws = wanted(config.only)
    known = [one.full_name for flaw in flaws for one in measures(flaw)]
    limits = thresholds(config.thresholds, known)
    gates = [gating.parse(text, known) for text in config.gate]
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
    finish([planned.whole, planned.sample])
    check_cluster(config, store, planned)
    sampled = Sampled.read(store.path(planned.sample.key))

    def judged(compare: Mapping[str, Step]) -> Judged:
        read = any(flaw in MODELS_READ for flaw in compare)
        pace = hardware.pace(hardware.choose(config.precision)) if read else 1.0
        finish(list(compare.values()), workers=readers(config, list(compare), len(sampled.rows)), threads=1, pace=pace)
        return judge(config, store, planned, compare, sampled, limits)

    quick = [flaw for flaw in planned.flaws if flaw not in MODELS_READ]
    if quick and len(quick) < len(planned.flaws) and not config.quiet:
        say_so_far(judged(comparisons(config, replace(planned, flaws=quick))).findings, quick)
    first = comparisons(config, planned)
    whole, read = judged(first), min(FIRST_LOOK, config.model_sample)
    twice = "perplexity" in first and looks(config, sampled) > 1
    wanted_rows = config.flagged or config.clean or config.out
    if twice and (not clear(whole.findings) or (wanted_rows and marks_rows(whole.findings))):
        earlier = first["perplexity"].inputs["surprises"]
        assert isinstance(earlier, Step)
        read = config.model_sample
        more = comparisons(config, planned, surprises(config, planned, read, earlier))
        whole = judged({**first, "perplexity": more["perplexity"]})
    measured, findings, human = whole.measured, whole.findings, whole.human
    sources, one_source = whole.sources, whole.one_source
    lacking = [one["measure"] for one in not_measured(measured) if one["why"].startswith("needs a reference")]
    gate_results = [gating.ask(gate, findings, sources=len(sources), lacking=lacking) for gate in gates]
    code = exit_code([result.outcome for result in gate_results], config.undecided)
    flagged = split(config, planned, store, findings, measured, finish) if wanted_rows else None
    notes = notes_on_sources(config, findings, human, one_source)
    notes += notes_on_rows(config, planned, sampled, sources)
    if twice:
        notes.append(note_on_looks(read, config.model_sample))
    record = report(config, planned, store, findings, measured, sources, flagged, gate_results, code, notes)
    record["sample"]["model_n"] = min(record["sample"]["n"], read if "perplexity" in first else config.model_sample)
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
    kinds = {LAYOUTS[one["layout"]].kind.__name__ for (name, _), one in counts.items() if name == DATA}
    if len(kinds) > 1 and (config.flagged or config.clean):
        raise UserError(
            "The shards hold several kinds of rows, and one file of flagged or clean rows holds one kind.",
            ", ".join(sorted(kinds)),
            "audit the shards of each kind apart",
        )


def not_measured(measured: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every measure that could not be taken, and why."""
    return [
        {"measure": f"{flaw}.{one['measure']}", "why": one["why"]}
        for flaw in measured
        for one in measured[flaw]["not_measured"]
    ]


def thresholds(texts: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """Least excesses by measure."""
    numbers = {}
    for name, limit in (mapping("--thresholds", tuple(texts)) or {}).items():
        if name not in known:
            raise UserError("A threshold names no measure.", name, f"known: {', '.join(known)}")
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
    if any((finding.told["between_human"] or {}).get("table") for finding in findings):
        human_table = table()
        notes.append(
            f"how far human sources lie apart is taken from the references ({human.sources}) and from a table of "
            f"{len(human_table['sources'])} public human sources in English (--no-prior: from the references alone)"
        )
    elif 0 < human.sources < FEWEST and any(finding.told["between_human"] for finding in findings):
        notes.append(few_sources(human.sources, tabled=bool(human.tabled)))
    if not config.no_prior and human.sources and not human.tabled:
        notes.append(
            "the table of human sources holds English text, and this is written in other letters: it is not used"
        )
    return notes


def notes_on_rows(config: AuditConfig, planned: Planned, sampled: Sampled, sources: Mapping[str, int]) -> list[str]:
    """What a reader must know of the rows behind the sources: those that are too few, clusters of one side, the task."""
    notes = []
    small = [f"{redact_existing_path(name)} ({rows})" for name, rows in sources.items() if rows < LEAST]
    if small:
        shown = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
        notes.append(f"of fewer than {LEAST} sampled rows, and so no human source of their own: {shown}")
    if config.cluster is not None:
        sides = {"data": sampled.data, "references": [at for some in sampled.references.values() for at in some]}
        for side, places in sides.items():
            if places and not any(sampled.rows[at].cluster for at in places):
                notes.append(f"no row of the {side} has a column {config.cluster}: each counts by itself")
    if sources and "embedding" not in planned.flaws and all(row.prompt for row in sampled.rows):
        notes.append("whether the references are of the data's task was not asked: that needs the family embedding")
    return notes


def counted(store: Store, planned: Planned, *, data: bool) -> dict[str, Any]:
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
    for flaw, some in measured.items():
        own = {
            entry["measure"]["name"]: entry["evidence"]["rule"]
            for entry in some["measures"]
            if entry["evidence"]["rule"]
        }
        if own:
            rules[flaw] = own
    steps, offset = [], 0
    for (name, shard), step in planned.streams.items():
        if name != DATA:
            continue
        rows = store.read_json(step, "counts.json")["rows"]
        kept = (
            *("against", "layout", "columns", "label_map", "text_fields", "on_bad_row"),
            *("source", "hub", "revision", "file", "seed"),
        )
        settings = {**{key: step.config[key] for key in kept}, "rules": rules, "offset": offset, "rows": rows}
        inputs = {"file": step.inputs["file"], "whole": planned.whole, **planned.given}
        steps.append(Step(MARKS, settings, inputs, label=f"{config.data[shard]}: marks"))
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


def report(
    config: AuditConfig,
    planned: Planned,
    store: Store,
    findings: Sequence[Finding],
    measured: Mapping[str, Any],
    sources: Mapping[str, int],
    flagged: Flags | None,
    gate_results: Sequence[gating.GateResult],
    code: int,
    notes: list[str],
) -> dict[str, Any]:
    """Everything, as `--json` tells it; `notes` are those on the human sources."""
    sampled = Sampled.read(store.path(planned.sample.key))
    counts = [store.read_json(step, "counts.json") for step in planned.streams.values()]
    rows = counted(store, planned, data=True)
    n = len(sampled.data)
    records = sum(one["rows"] for (name, _), one in zip(planned.streams, counts, strict=True) if name == DATA)
    lacking = not_measured(measured)
    files = {label for _, label in source_labels(config.reference)}
    plain = [redact_existing_path(name) if name in files else name for name in sources]  # else a column named it
    called = dict(zip(sources, unlike(plain), strict=True))
    if "contamination" in wanted(config.only) and "contamination" not in planned.flaws:
        notes.append("contamination was not looked for: name evaluation sets with --against")
    if config.against and "contamination" not in planned.flaws:
        notes.append("the evaluation sets of --against were not looked for: contamination is not in --only")
    silent = sum(not row.answer.strip() for row in sampled.rows)
    if silent:
        notes.append(
            f"{silent} of the {len(sampled.rows)} sampled rows have no answer: tokens, diversity and format leave them out"
        )
    long = sum(max(map(len, (row.prompt, *row.answers))) >= LONGEST for row in sampled.rows)
    if long:
        notes.append(f"{long} of the {len(sampled.rows)} sampled rows were cut to {LONGEST:,} characters a text")
    notes += copies(store.read_json(planned.whole, "whole.json").get(DATA, {}).get("duplicates"))
    if (
        len({row.label for row in sampled.rows}) > 1
        and "artifacts" in measured
        and not same_labels(sampled)
        and sources
    ):
        notes.append("data and references do not have the same labels: label artifacts were measured on the data alone")
    return {
        "schema_version": 1,
        "data": [redact_existing_path(text) for text in config.data],
        "references": [{"source": called[name], "rows_sampled": size} for name, size in sources.items()],
        "rows": rows,
        "records": records,
        "reference_rows": counted(store, planned, data=False),
        "sample": {
            "n": n,
            "of": records,
            "model_n": min(n, config.model_sample),
            "precision": f"a share is known to ± {100 * 1.96 * math.sqrt(0.25 / max(1, n)):.1f} points",
        },
        "another_task": task_of(measured),
        "findings": [finding_json(finding, called) for finding in findings],
        "not_measured": lacking,
        "needs_reference": [one["measure"] for one in lacking if one["why"] == "needs a reference"],
        "flagged": flagged.as_json() if flagged else None,
        "gates": [result.as_json() for result in gate_results],
        "exit_code": code,
        "disk_mb_per_million_rows": sum(count["bytes"] for count in counts)
        / max(1, sum(count["rows"] for count in counts)),
        "settings": config.model_dump(mode="json", exclude={"store", "out", "quiet", "workers", "max_time"}),
        "notes": notes,
    }


def finding_json(one: Finding, called: Mapping[str, str]) -> dict[str, Any]:
    """A finding as plain values, its human source named without the folders of this machine."""
    values = one.as_json()
    if between := values["between_human"]:
        distances = {called.get(name, name): value for name, value in between["distances"].items()}
        source = called.get(between["source"], between["source"])
        values["between_human"] = {**between, "source": source, "distances": distances}
    return values


def copies(counts: Mapping[str, Any] | None) -> list[str]:
    """What is said of copies in the whole data set: in a sample most pairs are apart, so few would be seen there."""
    said = []
    for name, what in (("exact", "repeat another row word for word"), ("near", "are nearly another row")):
        counted = (counts or {}).get(name)
        if counted and counted["rows"]:
            said.append(
                f"of all rows, {counted['rows']:,} ({100 * counted['share']:.2g} %) {what} (in {counted['groups']:,} groups)"
            )
    return said


def write_run(
    config: AuditConfig, folder: Path, record: Mapping[str, Any], planned: Planned, store: Store, flagged: Flags | None
) -> None:
    """The run folder: row-level tables of every data file, the flagged rows with their texts, figures, `run.json`."""
    import shutil

    from pyrite.audit.figures import figures

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
    for path in figures(record, folder):
        print(path, file=sys.stderr)
        old.discard(path)
    for path in old:
        path.unlink()
    files = [{"file": Path(one.path).name, "hash": one.identity} for one in inputs(planned)]
    run = {**record, "verb": "audit", "files": files, "command": command(config), "made_with": made_with()}
    with atomic_write(folder / "run.json") as temporary:
        temporary.write_bytes(orjson.dumps(run, option=orjson.OPT_INDENT_2))


def inputs(planned: Planned) -> list[Source]:
    """Every file that was read, with what identifies its content."""
    sources = [step.inputs["file"] for step in planned.streams.values()]
    sources += [one for name, one in planned.given.items() if name.startswith("against ")]
    return [source for source in sources if isinstance(source, Source)]


def command(config: AuditConfig) -> str:
    """The command that makes this again, run where the files are."""
    words = ["pyrite", "audit", *(redact_existing_path(text) for text in config.data)]
    return command_line(words, config, AuditOptions, unsaid=UNSAID)
