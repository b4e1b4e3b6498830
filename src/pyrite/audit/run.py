"""`pyrite audit`: reads every file once, compares a sample flaw by flaw, and decides what is a finding."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrite.audit import gate as gating
from pyrite.audit.config import AuditConfig
from pyrite.audit.decide import Decision, Finding, decision_of
from pyrite.audit.flag_scores import flag_rows
from pyrite.audit.flaws.registry import FLAWS, full_names
from pyrite.audit.gather import DATA, Sampled
from pyrite.audit.input_files import files_in, reference_files
from pyrite.audit.plan import Planned, comparisons, model_reads, nll_reading, plan, readers, selected_flaws
from pyrite.audit.reading import FIRST_LOOK, INPUT_NAMES
from pyrite.audit.record import (
    audit_record,
    not_measured,
    notes_on_reading,
    notes_on_rows,
    notes_on_sources,
    notes_on_thoughts,
)
from pyrite.audit.rows import PART_WORDS
from pyrite.audit.run_folder import write_run
from pyrite.audit.runner import StepRunner
from pyrite.audit.show import show_so_far
from pyrite.audit.spans import FILE
from pyrite.audit.two_looks import divides_rows, note_on_looks, number_of_looks, settled_at_first_look, two_look_flaws
from pyrite.audit.wording import NEEDS_REFERENCE
from pyrite.conditions import exit_code
from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import LAYOUTS, check_target, is_hub, with_split
from pyrite.io.copies import is_within, whole_place
from pyrite.io.files import data_suffix
from pyrite.io.sources import parse_source
from pyrite.models import hardware
from pyrite.outputs import check_folder, takes_urls
from pyrite.steps import Step, Store, for_several_runs, open_store
from pyrite.steps.shard import Shard, ShardDone, shard_of, steps_left

if TYPE_CHECKING:
    import altair
    import polars


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


@takes_urls(outs=("out", "flagged", "clean"), runs=("out",))
def audit(config: AuditConfig) -> "Audit | ShardDone":
    """Measure the data against its references; nothing that was measured before is measured again. With `shard`, read one part of
    the files; the job that finds all of them read does the rest.

    Raises:
        UserError: a file that cannot be read, an unknown flaw, a gate or threshold on no measure, no model to read with.
    """
    shard = shard_of(config.shard)
    return run_audit(config) if shard is None else read_shard(config, shard)


def run_audit(config: AuditConfig) -> Audit:
    """A whole audit."""
    begun = checked_plan(config)
    with for_several_runs(config.engine):
        begun.runner.read(begun.planned.reading_steps())
        return after_reading(begun)


def read_shard(config: AuditConfig, shard: Shard) -> "Audit | ShardDone":
    """One part of the reading of an audit, and the rest of the audit where all files are read."""
    begun = checked_plan(config)
    steps = begun.planned.reading_steps()
    with for_several_runs(config.engine):
        begun.runner.read(shard.of(steps))
        with begun.store.lock(f"audit-{begun.planned.totals.key}"):
            left = steps_left(steps, begun.store)
            names = ", ".join(Path(path).name for path in begun.config.data)
            return ShardDone(shard, "audit", names, left) if left else after_reading(begun)


@dataclass(frozen=True)
class Begun:
    """An audit whose options are checked: its plan, who runs its steps, least excesses and gates."""

    config: AuditConfig
    planned: Planned
    store: Store
    runner: StepRunner
    limits: Mapping[str, float]
    gates: Sequence[gating.Gate]


def checked_plan(config: AuditConfig) -> Begun:
    """Everything that can be refused before a file is read is refused here."""
    config = config.model_copy(update={"data": data_files(config), "split": None})
    flaws = selected_flaws(config.only)
    names = full_names(flaws)
    limits = thresholds(config.thresholds, names)
    gates = [gating.parse(text, names) for text in config.gate]
    check_outputs(config)
    store = open_store(config.store)
    return Begun(config, plan(config, flaws), store, StepRunner(config, store), limits, gates)


def after_reading(begun: Begun) -> Audit:
    """What follows once every file is read: merge, compare, decide, divide the rows, write."""
    config, planned, store, runner = begun.config, begun.planned, begun.store, begun.runner
    runner.run([step for step in planned.files.values() if step.kind is FILE])
    check_kinds(config, planned, store)
    runner.run([planned.totals, planned.sample])
    check_part(config, store, planned)
    check_cluster(config, store, planned)
    sampled = Sampled.read(store.path(planned.sample.key))
    looks = number_of_looks(config, sampled)

    def compare_and_decide(compare: Mapping[str, Step]) -> Decision:
        pace = hardware.pace(hardware.choose(config.precision)) if model_reads(compare) else 1.0
        workers = readers(config, list(compare), len(sampled.rows))
        runner.run(list(compare.values()), workers=workers, threads=1, pace=pace)
        return decision_of(config, store, compare, sampled, begun.limits, looks=looks)

    quick = [name for name in planned.flaws if not FLAWS[name].model_reads]
    if quick and len(quick) < len(planned.flaws) and not config.quiet:
        so_far = compare_and_decide(comparisons(config, replace(planned, flaws=quick)))
        show_so_far([finding.as_json() for finding in so_far.findings], quick)
    compared = dict(comparisons(config, planned))
    decision, rows_read = compare_and_decide(compared), min(FIRST_LOOK, config.model_sample)
    staged = two_look_flaws(compared)
    twice = bool(staged) and looks > 1
    divide = config.flagged or config.clean or config.out
    if twice and (not settled_at_first_look(decision.findings) or (divide and divides_rows(decision.findings))):
        earlier = compared[staged[0]].inputs[INPUT_NAMES["nll"]]
        assert isinstance(earlier, Step)
        rows_read = config.model_sample
        second = comparisons(config, planned, nll_reading(config, planned, rows_read, earlier))
        compared |= {name: second[name] for name in staged}
        decision = compare_and_decide(compared)
    lacking = [
        entry["measure"] for entry in not_measured(decision.measured) if entry["why"].startswith(NEEDS_REFERENCE)
    ]
    gate_results = [
        gating.check_gate(gate, decision.findings, sources=len(decision.sources), lacking=lacking)
        for gate in begun.gates
    ]
    code = exit_code([result.outcome for result in gate_results], config.undecided)
    flagged = flag_rows(config, planned, store, decision, runner.read) if divide else None
    notes = notes_on_sources(config, decision) + notes_on_rows(config, planned, sampled, decision.sources)
    notes += notes_on_thoughts(config, planned, store) + notes_on_reading(store, compared)
    if twice:
        notes.append(note_on_looks(staged, rows_read, config.model_sample))
    model_rows = rows_read if staged else config.model_sample
    record = audit_record(
        config, planned, store, sampled, decision, flagged, gate_results, code, notes, model_rows=model_rows
    )
    if config.out is not None:
        write_run(config, config.out, record, planned, store, flagged)
    return Audit(decision.findings, record, code)


def data_files(config: AuditConfig) -> tuple[str, ...]:
    """The files of the data, each with the split that is read of it in its name.

    Raises:
        UserError: a folder without data, or with several splits of which none was named.
    """
    return tuple(path for text in config.data for path in files_in(with_split(text, config.split), "--split"))


def check_outputs(config: AuditConfig) -> None:
    """Refuse, before anything runs, to write flagged or clean rows over each other or over what is read, or the run
    folder over something else."""
    outs = [path for path in (config.flagged, config.clean) if path is not None]
    texts = [
        *config.data,
        *reference_files(config.reference),
        *(text.partition("=")[2] or text for text in config.against),
    ]
    ins = [parse_source(text).place for text in texts if not is_hub(text)]
    for path in (config.flagged, config.clean):
        if path is not None:
            check_target(path)
    for at, out in enumerate(outs):
        if whole_place(out) in map(whole_place, outs[:at]):
            raise UserError("Flagged and clean rows need a file each.", str(out), "name another file")
        if any(is_within(out, place) for place in ins):
            raise UserError("That would be written over a file that is read.", str(out), "name another file")
    if config.out is not None:
        check_folder(config.out, "audit")


def check_kinds(config: AuditConfig, planned: Planned, store: Store) -> None:
    """Refuse to divide shards of several kinds of rows: one file holds one kind."""
    counts = {name: store.read_json(step, "counts.json") for name, step in planned.files.items()}
    kinds = {
        LAYOUTS[counted_rows["layout"]].kind.__name__ for (name, _), counted_rows in counts.items() if name == DATA
    }
    layouts = {counted_rows["layout"] for (name, _), counted_rows in counts.items() if name == DATA}
    targets = [path for path in (config.flagged, config.clean) if path is not None]
    other = [path for path in targets if (data_suffix(path.name) or ("",))[0] != ".jsonl"]
    if len(layouts) > 1 and other:
        fix = f"name a .jsonl file, such as {other[0].stem}.jsonl, or audit the shards of each layout apart"
        raise UserError("The shards have several layouts, and are written as chats.", ", ".join(sorted(layouts)), fix)
    if len(kinds) > 1 and (config.flagged or config.clean):
        raise UserError(
            "The shards hold several kinds of rows, and one file of flagged or clean rows holds one kind.",
            ", ".join(sorted(kinds)),
            "audit the shards of each kind apart",
        )


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


def check_part(config: AuditConfig, store: Store, planned: Planned) -> None:
    """Refuse data without a row that has the part of its answers that is to be measured (`--part`)."""
    counts = [store.read_json(step, "counts.json") for (name, _), step in planned.files.items() if name == DATA]
    rows, without = (sum(count[what] for count in counts) for what in ("rows", "without_part"))
    if without and without == rows:
        what, markers = PART_WORDS[config.part], "<think>…</think> and the like"
        detail = f"none of {rows:,} rows, --part {config.part} (thoughts are told by their marks: {markers})"
        raise UserError(f"No row of the data has a {what}.", detail, "leave out --part to measure whole answers")


def check_cluster(config: AuditConfig, store: Store, planned: Planned) -> None:
    """Refuse a `--cluster` column that no row has."""
    if config.cluster is not None and Sampled.read(store.path(planned.sample.key)).clusters is None:
        missing = f"no sampled row of the data or the references has a column {config.cluster}"
        raise UserError("The column that names the clusters is not there.", missing, "--cluster COLUMN")
