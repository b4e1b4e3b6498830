"""The one scorer: tasks of labels, one item's value of one metric, and the lines of a scorecard with their intervals.

The same answers get the same estimate and interval from a probe, a study, a repair, a gate and a report: items that share
something (a template, a passage, the prompt of several instructions, a column that the user names) are resampled together;
where they share nothing, a share has Wilson's interval. No model in sight.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from pyrite.data.keys import label_key
from pyrite.errors import UserError
from pyrite.records import Direction, Estimate, Labelled
from pyrite.stats.clustered import mean_of_items

Scale = Literal["share", "real"]
"""`share`: every item is 0 or 1, or the share of several votes; `real`: any number (a judge's points, nats)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured on each item, and which way is better."""

    name: str
    scale: Scale = "share"
    direction: Direction = "higher"
    says: str = ""
    least: float | None = None
    most: float | None = None
    """What a real value can be at least and at most, where that is known (a judge's points); a share lies in 0-1."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the most that a value can be; None where it has no end."""
        if self.scale == "share":
            return 0.0, 1.0
        return None if self.least is None or self.most is None else (self.least, self.most)


@dataclass(frozen=True, slots=True)
class ItemScore:
    """An item's value of a metric. None: asked, but no answer (or the judge refused); never filled in.

    `group` names what the item shares with items that are alike (a template, the prompt of an instruction, a
    document); items of one group are not independent. `slices` are the columns that a scorecard can cut by.
    `weight` is the item's share in the mean (tokens, for a mean over tokens).
    """

    item: str
    metric: str
    value: float | None
    group: str
    slices: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """How answers are scored: the gold labels, how model labels merge into them, and which slices are scored apart.

    A slice is a tuple of columns of the items' meta; the column `gold` is the gold label.
    """

    name: str
    labels: tuple[str, ...]
    merge: Mapping[str, str] = field(default_factory=dict)
    slices: tuple[tuple[str, ...], ...] = ()
    template: str | None = None
    also_merged: tuple[str, Mapping[str, str]] | None = None
    """A second metric's name and its merging of both gold and predicted labels (NLI: two-way)."""
    headline: Mapping[str, str] = field(default_factory=dict)
    """The slice that verdicts look at where nobody names another; empty: all items."""
    headline_by: str | None = None
    """The column whose values are judged apart within it."""

    @property
    def answers(self) -> tuple[str, ...]:
        """Every label that a model may answer with: the task's own, those that merge into them, and those that they merge
        into."""
        merged = self.also_merged[1].values() if self.also_merged else ()
        return tuple(dict.fromkeys((*self.labels, *self.merge, *merged)))

    def spelled(self, label: str) -> str:
        """A label as the task spells it (`data.keys.label_key`); another label stays as it is."""
        answers = self.answers
        if label in answers:
            return label
        return next((answer for answer in answers if label_key(answer) == label_key(label)), label)

    def answer(self, predicted: str | None) -> str | None:
        """A model's label in the task's own labels."""
        if predicted is None:
            return None
        label = self.spelled(predicted)
        return self.merge.get(label, label)

    def is_merged(self, labels: Iterable[str]) -> bool:
        """Are these the labels of a model that tells the merged labels only (of NLI: entailment or not)?"""
        spelled = {self.spelled(label) for label in labels}
        return self.also_merged is not None and not spelled <= set(self.labels) and spelled <= set(self.answers)


def slice_names(item: Labelled, columns: Sequence[str], task: Task | None = None) -> tuple[str, ...]:
    """An item's values in the columns of a slice; with a task, its gold label is the one of the task's that it merges into."""
    gold = str(item.label if task is None else task.answer(item.label))
    return tuple(gold if column == "gold" else str(item.meta.get(column, "?")) for column in columns)


def right(item: Labelled, predicted: str | None, task: Task, merge: Mapping[str, str] | None = None) -> bool | None:
    """Was the answer right? None where there is none."""
    answer = task.answer(predicted)
    if answer is None:
        return None
    gold = task.answer(item.label)
    if merge is not None:
        return merge.get(str(gold), gold) == merge.get(answer, answer)
    return answer == gold


def matching(items: Sequence[Labelled], values: Mapping[str, Any], task: Task | None = None) -> list[bool]:
    """Which items have these values (meta columns, or `gold`)? With a task, a gold label counts also as what it merges into."""

    def has(item: Labelled, column: str, value: str) -> bool:
        merged = task is not None and column == "gold" and task.answer(item.label) == value
        return merged or slice_names(item, [column])[0] == value

    return [all(has(item, column, str(value)) for column, value in values.items()) for item in items]


OVERALL = "overall"
STRATUM = "gold"
"""The column within whose values groups are resampled."""
UNKNOWN = "?"
"""The value of an item in a column that it does not have."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a scorecard: a metric on the items whose `by` columns have the values `name`.

    `note` says what the interval speaks of, or why there is none; `values` holds each column's value.
    """

    metric: str
    by: str
    name: str
    estimate: Estimate
    note: str
    values: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The line as plain values; `value` is null where nothing was answered."""
        estimate = self.estimate.as_json()
        if self.estimate.n == 0:
            estimate["value"] = None
        return {"metric": self.metric, "by": self.by, "name": self.name, **estimate, "note": self.note}


def summarise(
    measured: Sequence[ItemScore],
    metrics: Sequence[Metric],
    cuts: Sequence[tuple[str, ...]],
    *,
    seed: int,
    cluster: str = "groups",
) -> list[Line]:
    """How well does this one model do: each of `metrics`, overall first, then by each cut in order of first appearance?

    A cut is a tuple of slice columns; a metric none of whose items has a cut's columns gets no lines for it, and an
    item that lacks a column counts under "?". `cluster` is what groups are called ("templates", "prompts"). Intervals are
    those of `mean_of_items`; every line draws from its own generator of `seed`, so no line depends on which others
    are asked for. An item without a value counts in `n_missing`, never as 0. Metrics that are not asked for are left out.

    Raises:
        UserError: a metric without items, an item measured twice, a share that is neither 0 nor 1, a number that is
            not finite, a weight that is not above 0, a column that no item has.
    """
    check_columns(measured, cuts)
    lines = []
    for metric in metrics:
        items = of_metric(measured, metric)
        grouped = is_grouped([item.group for item in items])
        for values, members in slice_places([item.slices for item in items], cuts):
            estimate = mean([items[at] for at in members], metric, grouped=grouped, seed=seed, cluster=cluster)
            by, name = title(values)
            lines.append(Line(metric.name, by, name, estimate, note(estimate, cluster), values))
    return lines


def is_grouped(groups: Sequence[str]) -> bool:
    """Does any group hold more than one item?"""
    return len(set(groups)) < len(groups)


def mean(items: Sequence[ItemScore], metric: Metric, *, grouped: bool, seed: int, cluster: str = "groups") -> Estimate:
    """The estimate of one metric over these items, all of that metric; `grouped` as `is_grouped` says of all of its
    items, of which these may be a slice.

    Where groups lie within the gold labels (a HANS template has one), the balance of the labels is the task's choice
    and no accident: groups are then resampled within each label, and the labels' intervals are joined by their shares.
    """
    answered = [item for item in items if item.value is not None]
    missing = len(items) - len(answered)
    if not answered:
        return Estimate(math.nan, None, None, 0, missing, metric.direction, method="no answers")
    overall = clustered_mean(answered, metric, grouped, seed, missing, cluster)
    strata: dict[str, list[ItemScore]] = {}
    for item in answered:
        strata.setdefault(item.slices.get(STRATUM, ""), []).append(item)
    within = len({(item.group, item.slices.get(STRATUM)) for item in answered}) == len(
        {item.group for item in answered}
    )
    if not grouped or len(strata) < 2 or not within or overall.low is None or overall.high is None:
        return overall
    reach = [0.0, 0.0]
    total = sum(item.weight for item in answered)
    for part in strata.values():
        worst = clustered_mean(part, metric, grouped, seed, 0, cluster)
        if worst.low is None or worst.high is None:
            return overall
        share = sum(item.weight for item in part) / total
        reach[0] += (share * (worst.value - worst.low)) ** 2
        reach[1] += (share * (worst.high - worst.value)) ** 2
    low, high = overall.value - math.sqrt(reach[0]), overall.value + math.sqrt(reach[1])
    if metric.scale == "share":
        low, high = max(low, 0.0), min(high, 1.0)
    count = len({item.group for item in answered})
    return replace(overall, low=low, high=high, method=f"bootstrap over {count} {cluster}, within each {STRATUM} label")


def clustered_mean(
    answered: Sequence[ItemScore], metric: Metric, grouped: bool, seed: int, missing: int, cluster: str
) -> Estimate:
    """The estimate over items that all have a value."""
    return mean_of_items(
        [item.value for item in answered if item.value is not None],
        [item.group for item in answered],
        weights=[item.weight for item in answered],
        share=metric.scale == "share" and all(item.value in (0, 1) for item in answered),
        grouped=grouped,
        n_missing=missing,
        direction=metric.direction,
        cluster=cluster,
        rng=np.random.default_rng(seed),
    )


def note(estimate: Estimate, cluster: str) -> str:
    """What does this interval speak of? Where there is none: why."""
    if estimate.low is None:
        return estimate.method
    if cluster in estimate.method:
        return f"this model, on other {cluster} such as these"
    return "this model, on items such as these"


def of_metric(measured: Sequence[ItemScore], metric: Metric) -> list[ItemScore]:
    """The items of one metric, each checked to be there once with a value and a weight that fit."""
    items = [item for item in measured if item.metric == metric.name]
    if not items:
        has = ", ".join(dict.fromkeys(item.metric for item in measured)) or "nothing"
        raise UserError(
            f"No item has the metric {metric.name}.", f"measured: {has}", "ask for a metric that is measured"
        )
    items_so_far: set[str] = set()
    for item in items:
        where = f"item {item.item}, metric {metric.name}"
        if item.item in items_so_far:
            raise UserError("An item is measured twice.", where, "give every item its own id")
        items_so_far.add(item.item)
        if not (math.isfinite(item.weight) and item.weight > 0):
            raise UserError("A weight is a number above 0.", f"{where}: weight {item.weight}", "leave such items out")
        if item.value is None:
            continue
        if not math.isfinite(item.value):
            raise UserError("A value is not a number.", f"{where}: {item.value}", "an item without a value is None")
        if metric.scale == "share" and not 0 <= item.value <= 1:
            raise UserError("A share lies between 0 and 1.", f"{where}: {item.value}", 'use the scale "real"')
    return items


def check_columns(measured: Sequence[ItemScore], cuts: Sequence[tuple[str, ...]]) -> None:
    """Refuse a cut by a column that no item has: a slip of the pen would otherwise lose its lines."""
    columns = columns_of(measured)
    for column in (column for columns_ in cuts for column in columns_):
        if column not in columns:
            has = ", ".join(columns) or "none"
            raise UserError("No item has that column.", f"{column}; there are: {has}", "cut by a column that is there")


def columns_of(measured: Sequence[ItemScore]) -> dict[str, None]:
    """Every slice column of any item, in order of first appearance."""
    return {column: None for item in measured for column in item.slices}


def slice_places(
    slices: Sequence[Mapping[str, str]], cuts: Sequence[tuple[str, ...]]
) -> list[tuple[tuple[tuple[str, str], ...], list[int]]]:
    """(column values, positions of the items that have them): all items first, then each cut by first appearance."""
    parts: dict[tuple[tuple[str, str], ...], list[int]] = {(): list(range(len(slices)))}
    for columns in cuts:
        if not columns or any(all(column not in row_slices for row_slices in slices) for column in columns):
            continue
        for at, row_slices in enumerate(slices):
            parts.setdefault(tuple((column, row_slices.get(column, UNKNOWN)) for column in columns), []).append(at)
    return list(parts.items())


def title(values: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """A slice's columns and its values, as a scorecard names them."""
    if not values:
        return OVERALL, OVERALL
    return " x ".join(column for column, _ in values), " / ".join(value for _, value in values)


def label_metrics(task: Task, *, merged_only: bool = False) -> tuple[Metric, ...]:
    """The metrics of a task of labels: accuracy first, then the merged one where the task has it; or that one only."""
    says = "the share of items whose label is right"
    merged = () if task.also_merged is None else (Metric(task.also_merged[0], says=f"{says}, labels merged"),)
    return merged if merged_only else (Metric("accuracy", says=says), *merged)


def from_labels(
    items: Sequence[Labelled], predictions: Mapping[str, str | None], task: Task, *, merged_only: bool = False
) -> list[ItemScore]:
    """Each item's 1 (right) or 0 (wrong) under the metrics of `label_metrics`; no prediction: no value.

    Items of one template are one group, so that their intervals speak of other templates; where the task has no
    template column, or none of these items has it, each item is its own group. An item that lacks it while others have
    it joins the group "?". With `merged_only`, the model tells merged labels only, and so does its metric. Slices are the
    items' plain meta columns and `gold`, the task's label that the file's merges into.

    Raises:
        UserError: no items, or a gold or predicted label that is not one of the task's.
    """
    _check_labels(items, predictions, task)
    grouped = task.template is not None and any(task.template in item.meta for item in items)
    merges: list[tuple[str, Mapping[str, str] | None]] = [] if merged_only else [("accuracy", None)]
    if task.also_merged:
        merges.append(task.also_merged)
    measured = []
    for metric, merge in merges:
        for item in items:
            outcome = right(item, predictions.get(item.id), task, merge)
            value = None if outcome is None else float(outcome)
            group = str(item.meta.get(str(task.template), UNKNOWN)) if grouped else item.id
            measured.append(ItemScore(item.id, metric, value, group, _slices(item, task)))
    return measured


def _slices(item: Labelled, task: Task) -> dict[str, str]:
    """An item's plain columns and its gold label; "?" in a column that the task cuts by and the item lacks."""
    lacking = {column: UNKNOWN for columns in task.slices for column in columns}
    plain = {name: str(value) for name, value in item.meta.items() if isinstance(value, str | int | float)}
    return {**lacking, **plain, "gold": str(task.answer(item.label))}


def _check_labels(items: Sequence[Labelled], predictions: Mapping[str, str | None], task: Task) -> None:
    """An unknown label is a mistake to mend, never a wrong answer."""
    if not items:
        raise UserError("There is nothing to score.", f"task {task.name} has no items", "check the task's file")
    labels = {*task.labels, *task.merge}
    fix = f"use one of: {', '.join(sorted(labels))}"
    for item in items:
        if task.answer(item.label) not in task.labels:
            raise UserError("An item's gold label is none of the task's.", f"item {item.id}: '{item.label}'", fix)
        label = predictions.get(item.id)
        if label is not None and task.answer(label) not in task.answers:
            raise UserError("A prediction's label is none of the task's.", f"item {item.id}: '{label}'", fix)
