"""Every stored answer scored: one model on every probe, item by item, and the arithmetic on it. Cells are compared within a seed.

`Scores` is one model on one metric; a study's results are a list of them, whatever a probe asks.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrite.probe.compare import change_of, pair
from pyrite.probe.probe_task import Cuts, Result
from pyrite.records import Estimate
from pyrite.stats import Answered, answered_by_both
from pyrite.steps import Store
from pyrite.study.cells import CellKey, Plan
from pyrite.study.label_probes import LabelProbe
from pyrite.study.spec_steps import START_ROWS
from pyrite.tasks.rows import read_rows
from pyrite.tasks.scoring import ItemScore, Metric, is_grouped, label_metrics, mean

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One model (cell and seed) on one metric of one probe: its items, in the probe's order.

    `cluster` is what items that are alike share ("templates", "prompts"); `cuts` are the slices that tables show beside the
    mean over all items; `label_probe` is there where the answers are labels, `predicted` are then the model's.
    """

    cell: CellKey
    seed: int
    probe: str
    metric: Metric
    items: tuple[ItemScore, ...]
    cluster: str = "groups"
    cuts: Cuts = ((),)
    label_probe: LabelProbe | None = None
    predicted: tuple[str | None, ...] = field(default=(), repr=False)
    model: str = ""
    """The key of the step that made the model, or `given`; empty where it is not known."""

    @cached_property
    def estimate(self) -> Estimate:
        """The mean over the items that have a value, with the interval of this one model."""
        return mean(self.items, self.metric, grouped=self.grouped, seed=0, cluster=self.cluster)

    @cached_property
    def grouped(self) -> bool:
        """Do items come in clusters?"""
        return is_grouped([item.group for item in self.items])

    @cached_property
    def values(self) -> Array:
        """Each item's value, NaN where there is none, [items]."""
        return np.array([math.nan if item.value is None else item.value for item in self.items])

    @property
    def known(self) -> bool:
        """Was any item answered?"""
        return any(item.value is not None for item in self.items)

    @property
    def missing(self) -> frozenset[str]:
        """The items without a value, over which the mean is not taken."""
        return frozenset(item.item for item in self.items if item.value is None)

    @property
    def is_headline_metric(self) -> bool:
        """Is it the metric of a task of labels whose headline slice verdicts look at?"""
        return self.label_probe is not None and self.metric.name == "accuracy"

    def of_headline(self) -> "Scores":
        """The scores of the items that verdicts look at: of labels the headline slice, else all."""
        if not self.is_headline_metric:
            return self
        assert self.label_probe is not None
        items = tuple(item for item, on in zip(self.items, self.label_probe.headline, strict=True) if on)
        return replace(self, items=items, cuts=((),), label_probe=None, predicted=())


Notes = dict[str, dict[str, list[str]]]
"""By probe: what a reader must know, and the models of which it is said."""


def label_probe(steps: Plan, name: str, store: Store) -> LabelProbe:
    """A probe of labels with its items, which are stored by now."""
    items = read_rows(store.path(steps.items[name].key) / "items.jsonl")
    return LabelProbe.of(name, items, steps.tasks[name], steps.spec.probes[name].headline_slice)


def score_answers(steps: Plan, store: Store) -> tuple[list[Scores], Notes]:
    """Score every stored answer; what a reader must know of each probe."""
    from pyrite.probe.predictions import stored_predictions

    probes = {name: label_probe(steps, name, store) for name in steps.items}
    results: list[Scores] = []
    notes: Notes = {}
    read: dict[str, Result] = {}
    for cell in steps.cells:
        for name, step in cell.answers.items():
            model = cell.model.key if cell.model else "given"
            if name in probes:
                answers = stored_predictions(store.path(step.key) / "predictions.parquet")
                scores = scores_of_labels(cell.key, cell.seed, probes[name], answers)
                results += [replace(metric_scores, model=model) for metric_scores in scores]
                continue
            if step.key not in read:
                read[step.key] = steps.probe_tasks[name].read(store, step)
            written = scores_of_result(cell.key, cell.seed, name, read[step.key])
            results += [replace(metric_scores, model=model) for metric_scores in written]
            for note in read[step.key].notes:
                notes.setdefault(name, {}).setdefault(note, []).append(f"{cell.name}, seed {cell.seed}")
    return results, notes


def scores_of_result(cell: CellKey, seed: int, probe: str, result: Result) -> list[Scores]:
    """One model's result on a probe that asks for text, metric by metric; a metric that nothing was measured of is left out.

    A value that is not finite (the loss of a model that a repair destroyed) is none, and counts as missing.
    """
    return [
        Scores(cell, seed, probe, metric, items, result.cluster)
        for metric in result.metrics
        if (items := tuple(finite(item) for item in result.measured if item.metric == metric.name))
    ]


def scores_of_labels(
    cell: CellKey, seed: int, probe: LabelProbe, predictions: Mapping[str, str | None]
) -> list[Scores]:
    """One model's labels on a probe, metric by metric: the first by every slice of the task, others overall."""
    items = probe.scores(predictions)
    task, cluster = probe.task, f"{probe.task.template}s" if probe.task.template else "groups"
    predicted = tuple(predictions.get(item.id) for item in probe.items)
    return [
        Scores(
            cell,
            seed,
            probe.name,
            metric,
            tuple(item for item in items if item.metric == metric.name),
            cluster,
            ((), *task.slices) if metric.name == "accuracy" else ((),),
            probe,
            predicted,
        )
        for metric in label_metrics(task)
    ]


def finite(item: ItemScore) -> ItemScore:
    """The item, without a value that is no number."""
    return item if item.value is None or math.isfinite(item.value) else replace(item, value=None)


def reference_of(cell: CellKey, name: str) -> CellKey:
    """The cell that a reference names, seen from a cell: of the same start and size; `start` is the start itself."""
    if not cell.start:
        return CellKey(name)
    return CellKey(START_ROWS, cell.start) if name == START_ROWS else CellKey(name, cell.start, cell.size)


def within(estimate: Estimate, metric: Metric, least: float) -> tuple[float | None, float | None]:
    """An interval, cut at what a share (or, with least = -1, a difference of shares) can be."""
    if estimate.low is None or estimate.high is None or metric.scale != "share":
        return estimate.low, estimate.high
    return max(estimate.low, least), min(estimate.high, 1.0)


ScoresKey = tuple[CellKey, str, str]
"""Cell, probe, metric."""


def by_seed(scores: Iterable[Scores], *, unknown: bool = False) -> dict[ScoresKey, dict[int, Scores]]:
    """Scores that are known (or all of them), by cell, probe and metric, then by seed."""
    table: dict[ScoresKey, dict[int, Scores]] = defaultdict(dict)
    for model in scores:
        if unknown or model.known:
            table[model.cell, model.probe, model.metric.name][model.seed] = model
    return table


def shared_seeds(a: Mapping[int, Scores], b: Mapping[int, Scores]) -> list[int]:
    """The seeds that both have."""
    return sorted(a.keys() & b.keys())


def answered(a: Sequence[Scores], b: Sequence[Scores]) -> Answered:
    """What do both sides score, seed by seed, on the items that both answered in every seed?"""
    names = list(dict.fromkeys(item.item for model in (*a, *b) for item in model.items))
    metric = a[0].metric
    values = [aligned_values(side, names, "value", math.nan) for side in (a, b)]
    weights = [aligned_values(side, names, "weight", 1.0) for side in (a, b)]
    return answered_by_both(*values, bounds=metric.bounds, a_weights=weights[0], b_weights=weights[1])


def aligned_values(side: Sequence[Scores], names: Sequence[str], what: str, without: float) -> Array:
    """A column of several models' items [models, names], the items found by name."""
    rows = [{item.item: getattr(item, what) for item in model.items} for model in side]
    return np.array([[without if (value := row.get(name)) is None else value for name in names] for row in rows])


def differences(a: Mapping[int, Scores], b: Mapping[int, Scores]) -> list[float]:
    """One cell minus the other, within each seed that both have, over the items that both answered in all of them."""
    seeds = shared_seeds(a, b)
    both = answered([a[seed] for seed in seeds], [b[seed] for seed in seeds])
    return [float(value) for value in both.a - both.b] if both.items else []


def pooled(models: Sequence[Scores]) -> tuple[ItemScore, ...]:
    """Each item's mean over the models of several seeds; none where any of them has no value."""
    items: dict[str, list[ItemScore]] = defaultdict(list)
    for model in models:
        for item in model.items:
            items[item.item].append(item)
    means = []
    for name, each in items.items():
        values = [item.value for item in each if item.value is not None]
        value = sum(values) / len(values) if len(values) == len(models) else None
        weight = sum(item.weight for item in each) / len(each)
        means.append(ItemScore(name, each[0].metric, value, each[0].group, each[0].slices, weight))
    return tuple(means)


def over_items(a: Sequence[Scores], b: Sequence[Scores]) -> Estimate:
    """The difference (a minus b) of these very models with the paired interval over items, seeds averaged item by item.

    Its interval asks about other items, not about other training seeds: a narrow one is no verdict on the recipe.
    """
    pairs = pair(pooled(b), pooled(a), a[0].metric)
    grouped = is_grouped([both.group for both in pairs])
    return change_of(pairs, a[0].metric, grouped=grouped, seed=0, cluster=a[0].cluster).difference


def number_or_none(value: float) -> float | None:
    """A value, or none where nothing was answered."""
    return None if math.isnan(value) else value


def headline_value(scores: Scores) -> Any:
    """The mean over the items that verdicts look at; NaN where none was answered."""
    values = scores.of_headline().values
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
