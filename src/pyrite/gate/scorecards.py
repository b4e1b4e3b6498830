"""Conditions on a probe or a repair: those of `--gate`, worked out again from the items in the run folder."""

from collections.abc import Sequence

from pyrite.conditions import GateOutcome
from pyrite.errors import UserError
from pyrite.gate.outcome import GateKind, condition_outcome
from pyrite.probe import gate as gating
from pyrite.probe.run_folder import ITEMS, read_items
from pyrite.repair.candidates import BEFORE, HARMED, REPAIRED
from pyrite.runs import Run
from pyrite.runs.probe import ProbeRecord
from pyrite.runs.repair import RepairRecord
from pyrite.tasks.scoring import Metric


def check_scorecards(run: Run[ProbeRecord] | Run[RepairRecord], texts: Sequence[str]) -> list[GateOutcome]:
    """How each condition comes out; the same items and the same seed give the interval that the run gave.

    Raises:
        UserError: a text that is no condition, that names an unknown task, metric or slice, that asks for a change
            where there is one model, or a run folder without items.
    """
    record = run.record
    metrics = task_metrics(record)
    *first, last = compared_models(record)
    gates = [gating.parse(text, metrics) for text in texts]
    for gate in gates:
        gating.gate_metric(gate, metrics, two_models=bool(first))
    file = run.result(ITEMS)
    if not file.is_file():
        fix = "run it again with this Pyrite: probe with --out FOLDER, or repair"
        raise UserError("The run folder holds no items.", f"{run.folder}: no {ITEMS}", fix)
    outcomes = []
    for gate in gates:
        sides = [read_items(file, gate.task, name) for name in (last, *first)]
        measurements = {gate.task: gating.Measurements(metrics[gate.task], *sides)}
        result = gating.check_gate(gate, measurements, seed=record.seed, cluster=record.clusters[gate.task])
        outcomes.append(condition_outcome(gate.text, result.outcome, result.why, result.estimate, hint=gate.hint))
    return outcomes


def scorecard_examples(run: Run[ProbeRecord] | Run[RepairRecord]) -> list[str]:
    """Conditions that this run can be asked."""
    record = run.record
    tasks = [(task, metrics[0]) for task, metrics in task_metrics(record).items() if metrics]
    values = {card.task: card.overall.value for card in record.scorecards if card.overall.value is not None}
    examples = []
    for task, metric in tasks[:1]:
        bound = "0.5" if metric.scale == "share" else f"{values.get(task, 1):.3g}"
        examples.append(f"{task}.{metric.name} {'<=' if metric.direction == 'lower' else '>='} {bound}")
        if len(compared_models(record)) == 2:
            change = "<= 0.02" if metric.direction == "lower" else ">= -0.02"
            examples.append(f"{task}.{metric.name}[against=before] {change}")
    return examples


def task_metrics(record: ProbeRecord | RepairRecord) -> dict[str, tuple[Metric, ...]]:
    """What was measured, by task."""
    return {
        task: tuple(
            Metric(metric.name, metric.scale, metric.direction, metric.says, metric.least, metric.most)
            for metric in metrics
        )
        for task, metrics in record.metrics.items()
    }


def compared_models(record: ProbeRecord | RepairRecord) -> list[str]:
    """Whose items are looked at: of two models the second, and the first for a change; of a repair the repaired one, and
    the one that was given to be repaired."""
    if isinstance(record, RepairRecord):
        return [HARMED if record.harm is not None else BEFORE, REPAIRED]
    return record.models


KIND = GateKind(check_scorecards, scorecard_examples)
