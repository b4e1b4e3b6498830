"""How much of what was lost does a repair bring back, and how much of what was gained does it keep?

Three models stand on every task: before the harmful training, harmed, and repaired. Every repair, trained or not, is a point:

    recovered   (repaired - harmed) / (before - harmed)    on the tasks of which something was lost
    kept        (repaired - before) / (harmed - before)    on the tasks of which something was gained

both with Fieller's interval (`stats.ratio`). The model that was harmed lies at (0, 1), the one before at (1, 0). Of several
candidates one is chosen on a part of the items and judged on the rest: what was picked for its result on some items looks
better there than it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.probe.asked import Result
from pyrite.stats import ShareOfChange, share_over_items
from pyrite.tasks.measure import Measured, Metric

LOST, GAINED = "lost", "gained"
KEEP = 0.9
"""The share of the gain that a repair should keep."""


@dataclass(frozen=True)
class Axis:
    """A metric of which something was lost or gained."""

    side: str
    """`LOST` or `GAINED`."""
    task: str
    metric: Metric

    @property
    def name(self) -> str:
        """TASK.METRIC."""
        return f"{self.task}.{self.metric.name}"

    def ends(self, before: str, harmed: str) -> tuple[str, str]:
        """The models at 0 and at 1: what was lost comes back from harmed to before, what was gained goes the other way."""
        return (harmed, before) if self.side == LOST else (before, harmed)


@dataclass(frozen=True)
class Point:
    """One repair on all axes, the first lost and the first gained one being its place on the frontier."""

    name: str
    method: str
    alpha: float | None
    shares: Mapping[str, ShareOfChange]
    """By the axis's name."""
    chosen: bool = False

    def as_json(self, axes: Sequence[Axis]) -> dict[str, Any]:
        """Plain values; `recovered` and `kept` are the first axes' shares, `shares` all of them."""
        first = {side: next((one for one in axes if one.side == side), None) for side in (LOST, GAINED)}
        headline = {
            word: None if first[side] is None else self.shares[first[side].name].as_json()  # type: ignore[union-attr]
            for word, side in (("recovered", LOST), ("kept", GAINED))
        }
        about = {"name": self.name, "method": self.method, "alpha": self.alpha, "chosen": self.chosen}
        return {**about, **headline, "shares": {name: share.as_json() for name, share in self.shares.items()}}


def axes_of(side: str, results: Mapping[str, Result], tasks: Sequence[str]) -> list[Axis]:
    """Every metric of some tasks that has a better end, in their order."""
    return [
        Axis(side, task, metric) for task in tasks for metric in results[task].metrics if metric.direction != "none"
    ]


def items_of(result: Result, metric: Metric) -> list[Measured]:
    """The items of a metric that its verdicts look at: its headline slices, where the task has such (a blind spot: the
    items on which the heuristic is wrong), else all."""
    items = [one for one in result.measured if one.metric == metric.name]
    headlines = result.headlines.get(metric.name) or ()
    if not headlines:
        return items
    return [
        one
        for one in items
        if any(all(one.slices.get(name) == value for name, value in wanted.items()) for wanted in headlines)
    ]


def share_of_change(
    origin: Sequence[Measured],
    goal: Sequence[Measured],
    now: Sequence[Measured],
    metric: Metric,
    *,
    alike: str = "groups",
) -> ShareOfChange:
    """Which share of the change from origin to goal does `now` hold, over the items that all three models answered?

    Raises:
        UserError: the models were not asked the same items.
    """
    sides = [{one.item: one for one in side} for side in (origin, goal, now)]
    names = list(sides[0])
    if any(set(side) != set(names) for side in sides):
        found = f"{metric.name}: {', '.join(str(len(side)) for side in sides)} items"
        raise UserError("The models were not asked the same items.", found, "ask them with the same task and --items")
    first, second, third = ([side[name].value for name in names] for side in sides)
    return share_over_items(
        first,
        second,
        third,
        [sides[0][name].group for name in names],
        weights=[sides[0][name].weight for name in names],
        higher=metric.direction != "lower",
        bounds=metric.bounds,
        alike=alike,
    )


def point_of(
    name: str, method: str, alpha: float | None, axes: Sequence[Axis], results: Mapping[str, Mapping[str, Result]], *,
    models: tuple[str, str], chosen: bool = False,
) -> Point:  # fmt: skip
    """One repair's place. `results` holds every model's, by model and task; `models` names the one before and the harmed
    one among them."""
    shares = {}
    for axis in axes:
        three = [results[model][axis.task] for model in (*axis.ends(*models), name)]
        first, second, third = (items_of(one, axis.metric) for one in three)
        shares[axis.name] = share_of_change(first, second, third, axis.metric, alike=three[0].alike)
    return Point(name, method, alpha, shares, chosen)


def divided(result: Result, share: float, seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """A task's items in two parts, whole groups each: those that a choice may look at, about `share` of the groups, and the
    rest. A function of the items and the seed alone.

    Raises:
        UserError: a part would be empty.
    """
    groups = sorted({one.group for one in result.measured})
    first = round(share * len(groups))
    if not 0 < first < len(groups):
        found = f"--select {share:g} of {len(groups)} {result.alike}"
        raise UserError("The items cannot be divided that way.", found, "ask more items, or another --select")
    order = np.random.default_rng([seed, 0x5E1EC7]).permutation(len(groups))
    picked = {groups[int(at)] for at in order[:first]}
    return (
        frozenset(one.item for one in result.measured if one.group in picked),
        frozenset(one.item for one in result.measured if one.group not in picked),
    )


def scores(results: Mapping[str, Result], metric: Metric) -> dict[str, float]:
    """Every model's mean over the items that all of them answered, by model.

    Raises:
        UserError: no item was answered by all.
    """
    sides = {model: {one.item: one for one in items_of(result, metric)} for model, result in results.items()}
    first = next(iter(sides.values()))
    shared = [
        name for name in first if all(name in side and side[name].value is not None for side in sides.values())
    ]  # fmt: skip
    if not shared:
        raise UserError("No item was answered by all models.", metric.name, "ask more items, or fewer candidates")
    weights = [first[name].weight for name in shared]
    return {
        model: float(np.average([side[name].value for name in shared], weights=weights))
        for model, side in sides.items()
    }


@dataclass(frozen=True)
class Choice:
    """Which of several candidates is taken, why, and each one's scores and shares on the items of the choice."""

    name: str
    why: str
    tried: list[dict[str, Any]]


def choose(
    lost: Mapping[str, float], gained: Mapping[str, float], candidates: Sequence[str], *, models: tuple[str, str],
    axes: tuple[Axis, Axis], keep: float = KEEP,
) -> Choice:  # fmt: skip
    """Of the candidates that keep at least `keep` of the gain, the one that recovers most; where none keeps so much, the one
    that keeps most. Equal ones: the one that keeps more.

    `lost` and `gained` are all models' scores on the items of the choice, `models` names the one before and the harmed one,
    `axes` what was lost and what was gained. Where those items show no gain at all, it limits nothing.
    """
    before, harmed = models
    signs = [-1.0 if axis.metric.direction == "lower" else 1.0 for axis in axes]
    gain = signs[1] * (gained[harmed] - gained[before])
    loss = signs[0] * (lost[before] - lost[harmed])

    def kept(name: str) -> float:
        return signs[1] * (gained[name] - gained[before])

    def recovered(name: str) -> float:
        return signs[0] * (lost[name] - lost[harmed])

    tried = [
        {
            "name": name,
            LOST: lost[name],
            GAINED: gained[name],
            "recovered": recovered(name) / loss if loss > 0 else None,
            "kept": kept(name) / gain if gain > 0 else None,
        }
        for name in (before, harmed, *candidates)
    ]
    able = [name for name in candidates if gain <= 0 or kept(name) >= keep * gain - 1e-12]
    if not able:
        name = max(candidates, key=lambda one: (kept(one), recovered(one)))
        return Choice(name, f"none keeps {keep:.0%} of the gain; it keeps most of it", tried)
    name = max(able, key=lambda one: (recovered(one), kept(one)))
    why = f"it recovers most of those that keep at least {keep:.0%} of the gain"
    if gain <= 0:
        why = "it recovers most; on these items nothing was gained, so that the gain limits nothing"
    return Choice(name, why, tried)


def sentence(point: Mapping[str, Any], axes: Mapping[str, Any]) -> str:
    """What a point says, in one sentence; `point` is `Point.as_json`, `axes` the names of what was lost and gained."""
    said = [said_of(point["recovered"], "recovers", f"of what was lost ({axes[LOST]})")]
    if point["kept"] is not None:
        said.append(said_of(point["kept"], "keeps", f"of what was gained ({axes[GAINED]})"))
    return f"{point['name']} {' and '.join(said)}."


def said_of(share: Mapping[str, Any], verb: str, of: str) -> str:
    """'recovers 92 % [35 %, 160 %] of what was lost (ifeval.prompt_strict)', or why that is not testable."""
    if share["value"] is None:
        return f"{verb} an untestable share {of}: {share['why']}"
    between = "no interval" if share["low"] is None else f"{share['low']:.0%} to {share['high']:.0%}"
    return f"{verb} {share['value']:.0%} [{between}] {of}"
