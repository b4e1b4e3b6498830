"""From every model's items to the study's tables. Cells are compared within a seed; items speak of these models only.

`Value` is one model on one metric; everything here is arithmetic on a list of them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.probe.compare import change_of, pair
from pyrite.probe.probe_task import Result
from pyrite.records import Estimate
from pyrite.stats import Answered, answered_by_both, paired_t, t_interval
from pyrite.tasks.measure import ItemScore, Metric
from pyrite.tasks.summary import is_grouped, mean


@dataclass(frozen=True)
class Value:
    """One model (cell and seed) on one metric of one probe: its items, their mean with the interval of this model."""

    cell: str
    seed: int
    probe: str
    metric: Metric
    items: tuple[ItemScore, ...]
    estimate: Estimate
    alike: str = "groups"

    @property
    def known(self) -> bool:
        """Was any item answered?"""
        return self.estimate.n > 0

    @property
    def missing(self) -> frozenset[str]:
        """The items without a value, over which the mean is not taken."""
        return frozenset(item.item for item in self.items if item.value is None)


def values_of(cell: str, seed: int, probe: str, result: Result) -> list[Value]:
    """One model's result on a probe, metric by metric; a metric that nothing was measured of is left out.

    A value that is not finite (the loss of a model that a repair destroyed) is none, and counts as missing.
    """
    made = []
    for metric in result.metrics:
        items = tuple(finite(one) for one in result.measured if one.metric == metric.name)
        if items:
            grouped = is_grouped([item.group for item in items])
            estimate = mean(items, metric, grouped=grouped, seed=0, alike=result.alike)
            made.append(Value(cell, seed, probe, metric, items, estimate, result.alike))
    return made


def finite(item: ItemScore) -> ItemScore:
    """The item, without a value that is no number."""
    return item if item.value is None or math.isfinite(item.value) else replace(item, value=None)


def results_table(values: Iterable[Value]) -> list[dict[str, Any]]:
    """One row for each model, probe and metric, with the interval of that one model over items."""
    return [
        {
            "cell": value.cell,
            "seed": value.seed,
            "probe": value.probe,
            "metric": value.metric.name,
            "scale": value.metric.scale,
            "direction": value.metric.direction,
            "value": number(value.estimate.value),
            "low": value.estimate.low,
            "high": value.estimate.high,
            "n": value.estimate.n,
            "n_missing": value.estimate.n_missing,
            "method": value.estimate.method,
        }
        for value in values
    ]


def items_table(values: Iterable[Value]) -> list[dict[str, Any]]:
    """One row for each model, probe, metric and item; no value where there was no answer."""
    return [
        {
            "cell": one.cell,
            "seed": one.seed,
            "probe": one.probe,
            "metric": one.metric.name,
            "item": item.item,
            "value": None if item.value is None else float(item.value),
            "weight": float(item.weight),
        }
        for one in values
        for item in one.items
    ]


def number(value: float) -> float | None:
    """A value, or none where nothing was answered."""
    return None if math.isnan(value) else value


def within(estimate: Estimate, metric: Metric, least: float) -> tuple[float | None, float | None]:
    """An interval, cut at what a share (or, with least = -1, a difference of shares) can be."""
    if estimate.low is None or estimate.high is None or metric.scale != "share":
        return estimate.low, estimate.high
    return max(estimate.low, least), min(estimate.high, 1.0)


Key = tuple[str, str, str]
"""Cell, probe, metric."""


def by_seed(values: Iterable[Value], *, unknown: bool = False) -> dict[Key, dict[int, Value]]:
    """Values that are known (or all of them), by cell, probe and metric, then by seed."""
    found: dict[Key, dict[int, Value]] = defaultdict(dict)
    for one in values:
        if one.known or unknown:
            found[one.cell, one.probe, one.metric.name][one.seed] = one
    return found


def shared_seeds(a: Mapping[int, Value], b: Mapping[int, Value]) -> list[int]:
    """The seeds that both have."""
    return sorted(a.keys() & b.keys())


def answered(a: Sequence[Value], b: Sequence[Value]) -> Answered:
    """What do both sides score, seed by seed, on the items that both answered in every seed?"""
    metric = a[0].metric
    names = list(dict.fromkeys(item.item for value in (*a, *b) for item in value.items))

    def column(side: Sequence[Value], of: Callable[[ItemScore], float | None], without: float) -> Any:
        rows = [{item.item: of(item) for item in value.items} for value in side]
        return np.array([[without if (x := row.get(name)) is None else x for name in names] for row in rows])

    values = [column(side, lambda item: item.value, math.nan) for side in (a, b)]
    weights = [column(side, lambda item: item.weight, 1.0) for side in (a, b)]
    return answered_by_both(*values, bounds=metric.bounds, a_weights=weights[0], b_weights=weights[1])


def differences(a: Mapping[int, Value], b: Mapping[int, Value]) -> list[float]:
    """Cell minus the other, within each seed that both have, over the items that both answered in all of them."""
    seeds = shared_seeds(a, b)
    both = answered([a[seed] for seed in seeds], [b[seed] for seed in seeds])
    return [float(value) for value in both.a - both.b] if both.items else []


def pooled(values: Sequence[Value]) -> tuple[ItemScore, ...]:
    """Each item's mean over the models of several seeds; none where any of them has no value."""
    items: dict[str, list[ItemScore]] = defaultdict(list)
    for value in values:
        for one in value.items:
            items[one.item].append(one)
    made = []
    for name, some in items.items():
        answered = [one.value for one in some if one.value is not None]
        whole = len(answered) == len(values)
        mean_value = sum(answered) / len(answered) if whole else None
        weight = sum(one.weight for one in some) / len(some)
        made.append(ItemScore(name, some[0].metric, mean_value, some[0].group, some[0].slices, weight))
    return tuple(made)


def over_items(a: Sequence[Value], b: Sequence[Value]) -> Estimate:
    """The difference (a minus b) of these very models with the paired interval over items, seeds averaged item by item.

    Its interval asks about other items, not about other training seeds: a narrow one is no verdict on the recipe.
    """
    pairs = pair(pooled(b), pooled(a), a[0].metric)
    grouped = is_grouped([one.group for one in pairs])
    return change_of(pairs, a[0].metric, grouped=grouped, seed=0, alike=a[0].alike).difference


def summary_table(values: Sequence[Value], references: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each cell, probe and metric: the mean over seeds with its t interval, and for each reference cell the
    difference within seeds: t interval over seeds, and interval over items of these models. All exploratory."""
    found = by_seed(values)
    table = []
    for (cell, probe, name), seeds in found.items():
        metric = next(iter(seeds.values())).metric
        each = {seed: one.estimate.value for seed, one in sorted(seeds.items())}
        average = t_interval(list(each.values()))
        row: dict[str, Any] = {"cell": cell, "probe": probe, "metric": name, "scale": metric.scale}
        row |= {"direction": metric.direction, "n_seeds": len(each), "n_items": next(iter(seeds.values())).estimate.n}
        low, high = within(average, metric, 0.0)
        row |= {"mean": average.value, "low": low, "high": high}
        row["per_seed"] = " ".join(f"{value:.4f}" for value in each.values())
        for reference in references:
            row |= against(reference, cell, seeds, found.get((reference, probe, name), {}), metric)
        table.append(row)
    return table


def against(
    reference: str, cell: str, seeds: Mapping[int, Value], other: Mapping[int, Value], metric: Metric
) -> dict[str, float | None]:
    """The columns of one reference: the difference within seeds, both its intervals."""
    name = f"minus_{reference}"
    columns = (name, f"{name}_low", f"{name}_high", f"{name}_items_low", f"{name}_items_high")
    both = shared_seeds(seeds, other)
    if not both or reference == cell:
        return dict.fromkeys(columns)
    within_seeds = differences(seeds, other)
    if not within_seeds:
        return dict.fromkeys(columns)
    change = paired_t(within_seeds)
    items = over_items([seeds[seed] for seed in both], [other[seed] for seed in both])
    told = (change.value, *within(change, metric, -1.0), *within(items, metric, -1.0))
    return dict(zip(columns, told, strict=True))


def same_items(values: Iterable[Value], probe: str) -> set[str]:
    """The items that a probe asked."""
    return {item.item for one in values if one.probe == probe for item in one.items}


def check_apart(values: Iterable[Value], probes: Iterable[str], seen: Iterable[str]) -> None:
    """Refuse a study on items that its pilot has seen."""
    kept = list(values)
    for probe in probes:
        both = same_items(kept, probe) & set(seen)
        if both:
            found = f"probe {probe}: {len(both)} items, the first: {min(both)}"
            raise UserError("The study asks items that chose the damage.", found, "skip the pilot's items: skip: N")
