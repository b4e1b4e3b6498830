"""Conditions that a model must meet: passed, failed, or undecided where the interval holds the bound.

    TASK[.METRIC][[COLUMN=VALUE]...] OP NUMBER[%]      OP is one of >= <= > <

such as `hans.accuracy[gold=non-entailment] >= 10%`, or `ifeval.prompt_strict[against=before] >= -0.02`, which looks at the
second model named minus the first. The grammar is that of `pyrite.conditions`.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyrite.conditions import AGAINST, BEFORE, GateOutcome, Op, Outcome, outcome_of, parse_condition
from pyrite.errors import UserError
from pyrite.probe.compare import at_worst, change_of, one_sided, pair
from pyrite.probe.probe_task import ProbeTask, Result
from pyrite.probe.result import common_scales
from pyrite.records import Estimate
from pyrite.stats.missing import UNBOUNDED, too_many_missing
from pyrite.tasks.scoring import ItemScore, Metric, columns_of, is_grouped, mean, of_metric

EXAMPLES = (
    "such as 'hans.accuracy >= 0.5', 'ifeval.prompt_strict >= 20%', 'hans.accuracy[gold=non-entailment] >= 0.1', "
    "or, of two models, 'ifeval.prompt_strict[against=before] >= -0.02'"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition as read. `metric` None: the task's first; `bound` is a fraction where the text gave a percentage."""

    text: str
    task: str
    metric: str | None
    slices: tuple[tuple[str, str], ...]
    change: bool
    op: Op
    bound: float
    percent: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a task offers a gate: its metrics, the items of the model that gates look at (of two: the second named),
    and those of the first model, None where there is one model only."""

    metrics: Sequence[Metric]
    measured: Sequence[ItemScore]
    before: Sequence[ItemScore] | None = None


def parse(text: str, tasks: Iterable[str] = ()) -> Gate:
    """What does a condition say? Read, not yet checked against what was measured (`gate_metric` does that).

    A task's name ends at the first dot, unless one of `tasks` is longer.

    Raises:
        UserError: the text is no condition, or names a column twice.

    >>> gate = parse("hans.accuracy[gold=non-entailment] >= 10%")
    >>> gate.task, gate.metric, gate.slices, gate.op, gate.bound
    ('hans', 'accuracy', (('gold', 'non-entailment'),), '>=', 0.1)
    """
    condition = parse_condition(text, EXAMPLES)
    named = [task for task in tasks if condition.name == task or condition.name.startswith(f"{task}.")]
    task = max(named, key=len, default=condition.name.partition(".")[0])
    metric = condition.name[len(task) + 1 :] or None
    if not task or condition.name == f"{task}.":
        raise UserError("That gate lacks a task or a metric.", text, f"write TASK.METRIC OP NUMBER, {EXAMPLES}")
    if not isinstance(condition.bound, float) or condition.op == "!=":
        raise UserError("That is no gate.", text, f"write TASK.METRIC OP NUMBER, {EXAMPLES}")
    change = (AGAINST, BEFORE) in condition.where
    slices = tuple(pair for pair in condition.where if pair != (AGAINST, BEFORE))
    return Gate(
        condition.text, task, metric, slices, change, condition.op, condition.bound, condition.percent, condition.hint
    )


def gate_metric(gate: Gate, tasks: Mapping[str, Sequence[Metric]], *, two_models: bool) -> Metric:
    """Can this gate be asked of these tasks? Returns its metric; to be called before anything is run.

    Raises:
        UserError: an unknown task or metric, a change without two models, or a bound that the metric cannot have.
    """
    if gate.task not in tasks:
        raise _unknown("task", gate.task, tasks, gate)
    metrics = {metric.name: metric for metric in tasks[gate.task]}
    name = gate.metric or next(iter(metrics), "")
    if name not in metrics:
        raise _unknown(f"metric of {gate.task}", name, metrics, gate)
    if gate.change and not two_models:
        raise UserError(
            "A gate on a change needs two models.", gate.text, "name two models, or leave out [against=before]"
        )
    metric = metrics[name]
    if metric.scale == "real" and gate.percent:
        raise UserError(f"{name} is no share.", gate.text, "write the bound in its own units, without %")
    least = -1 if gate.change else 0
    if metric.scale == "share" and not least <= gate.bound <= 1:
        meant = f"did you mean {gate.bound:g}%? " if not gate.percent else ""
        raise UserError(f"{name} lies between {least} and 1.", gate.text, f"{meant}20% is 0.2")
    return metric


def refuse_early(gate: Gate, tasks: Sequence[ProbeTask], *, two_models: bool) -> None:
    """Refuse, before anything runs, a gate on a task or metric that is not asked, or on a change from nothing."""
    metrics_of = {task.name: task.metrics for task in tasks}
    if metrics_of.get(gate.task, ()) is None:  # what a harness task measures, only its run can say
        if gate.change and not two_models:
            raise UserError("A gate on a change needs two models.", gate.text, "pyrite probe BEFORE AFTER --task …")
        return
    gate_metric(gate, {name: metrics or () for name, metrics in metrics_of.items()}, two_models=two_models)


def check_gate(
    gate: Gate, measurements: Mapping[str, Measurements], *, seed: int, cluster: str = "groups"
) -> GateOutcome:
    """Does what was measured meet the gate? Looks at exactly the items of its slice, whatever a scorecard cuts by.

    Raises:
        UserError: what `gate_metric` refuses, and a slice's column or value that no item has.
    """
    measured_task = measurements.get(gate.task)
    two = measured_task is not None and measured_task.before is not None
    metric = gate_metric(
        gate, {task: task_measurements.metrics for task, task_measurements in measurements.items()}, two_models=two
    )
    assert measured_task is not None
    every = of_metric(measured_task.measured, metric)
    grouped = is_grouped([item.group for item in every])
    measured = _slice(gate, every)
    if gate.change:
        assert measured_task.before is not None
        pairs = pair(_slice(gate, of_metric(measured_task.before, metric)), measured, metric)
        estimate = change_of(pairs, metric, grouped=grouped, seed=seed, cluster=cluster).difference
        lost = one_sided(pairs)
        ends = at_worst(pairs, metric, grouped=grouped, seed=seed, cluster=cluster)
        alternatives = [end.difference for end in ends or ()]
    else:
        estimate = mean(measured, metric, grouped=grouped, seed=seed, cluster=cluster)
        lost = estimate.n_missing
        alternatives = [
            mean(counted_as(measured, value), metric, grouped=grouped, seed=seed, cluster=cluster)
            for value in (metric.bounds or ())
            if lost
        ]
    outcome = gate_decision(gate, estimate)
    reason = why(gate, estimate, outcome)
    if estimate.n and outcome != "undecided" and (too_many := too_many_missing(lost, lost + estimate.n)):
        outcome, reason = "undecided", too_many
    elif estimate.n and lost and metric.bounds is None and outcome != "undecided":
        outcome, reason = "undecided", f"{lost} items have no answer, and {UNBOUNDED}"
    elif any(gate_decision(gate, alternative) != outcome for alternative in alternatives) and outcome != "undecided":
        reason = f"it {outcome} on the items that have answers ({reason}), but the missing ones could change that"
        outcome = "undecided"
    return gate_outcome(gate, metric.name, estimate, outcome, reason)


def answer_gate(gate: Gate, results: list[dict[str, Result]], seed: int) -> GateOutcome:
    """Does a gate hold? With two models, a plain gate looks at the second."""
    first, last = results[0][gate.task], results[-1][gate.task]
    before = first.measured if len(results) == 2 else None
    measurements = {gate.task: Measurements(common_scales(first.metrics, last.metrics), last.measured, before)}
    return check_gate(gate, measurements, seed=seed, cluster=last.cluster)


def gate_outcome(gate: Gate, metric: str, estimate: Estimate, outcome: Outcome, why: str) -> GateOutcome:
    """How a gate came out, with the estimate that it looked at; its value is null where nothing was answered."""
    details = {"task": gate.task, "metric": metric, "slice": dict(gate.slices), "change": gate.change, "op": gate.op,
               "bound": gate.bound}  # fmt: skip
    return GateOutcome(gate.text, outcome, why, estimate_values(estimate), details, hint=gate.hint)


def estimate_values(estimate: Estimate) -> dict[str, Any]:
    """An estimate as plain values; its value is null where nothing was answered."""
    values = estimate.as_json()
    return values if estimate.n else {**values, "value": None}


def counted_as(measured: Sequence[ItemScore], value: float) -> list[ItemScore]:
    """The items, with those that have no value counted as `value`."""
    return [replace(item, value=value) if item.value is None else item for item in measured]


def gate_decision(gate: Gate, estimate: Estimate) -> Outcome:
    """Passed where the whole interval meets the condition, failed where none of it does, else undecided."""
    return outcome_of(estimate.low, estimate.high, gate.op, gate.bound)


def why(gate: Gate, estimate: Estimate, outcome: Outcome) -> str:
    """The reason for an outcome, in one sentence fragment; what is missing is said, too."""
    missing = f"; {estimate.n_missing} of {estimate.n + estimate.n_missing} items are missing" * bool(
        estimate.n_missing
    )
    if estimate.n == 0:
        return f"no answers{missing}"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g} has no interval ({estimate.method}){missing}"
    interval = f"the {estimate.confidence:.0%} interval {estimate.low:.4g} to {estimate.high:.4g}"
    phrases = {"passed": "lies wholly on the right side of", "failed": "lies wholly on the wrong side of"}
    return f"{interval} {phrases.get(outcome, 'holds')} {gate.bound:g}{missing}"


def _slice(gate: Gate, items: Sequence[ItemScore]) -> list[ItemScore]:
    """The items that have the gate's values, each column and value checked to be there."""
    members = list(items)
    for column, value in gate.slices:
        columns = columns_of(items)
        if column not in columns:
            raise _unknown("column", column, columns, gate)
        values = {item.slices[column]: None for item in items if column in item.slices}
        if value not in values:
            raise _unknown(f"value of {column}", value, values, gate)
        members = [item for item in members if item.slices.get(column) == value]
    if not members:
        raise UserError("No item is in that gate's slice.", gate.text, "name columns that occur together")
    return members


def _unknown(kind: str, name: str, available: Iterable[str], gate: Gate) -> UserError:
    names = list(available)
    near = difflib.get_close_matches(name, names, 1)
    few = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none"
    guess = f"did you mean '{near[0]}'? " if near else ""
    return UserError(f"A gate names an unknown {kind}.", f"{gate.text}: '{name}'", f"{guess}known: {few}")
