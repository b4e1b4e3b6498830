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
from pyrite.probe.probe_task import Result
from pyrite.stats import MAX_MISSING, ShareOfChange, share_over_items
from pyrite.stats.missing import too_many_missing
from pyrite.stats.ratio import OTHER_SIDE
from pyrite.tasks.scoring import ItemScore, Metric

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
        first = {side: next((axis for axis in axes if axis.side == side), None) for side in (LOST, GAINED)}
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


def headline_items(result: Result, metric: Metric) -> list[ItemScore]:
    """The items of a metric that its verdicts look at: its headline slices, where the task has such (a blind spot: the
    items on which the heuristic is wrong), else all."""
    items = [item for item in result.measured if item.metric == metric.name]
    headlines = result.headlines.get(metric.name) or ()
    if not headlines:
        return items
    return [
        item
        for item in items
        if any(all(item.slices.get(name) == value for name, value in headline.items()) for headline in headlines)
    ]


def share_of_change(
    origin: Sequence[ItemScore],
    goal: Sequence[ItemScore],
    now: Sequence[ItemScore],
    metric: Metric,
    *,
    cluster: str = "groups",
    max_missing: float = MAX_MISSING,
) -> ShareOfChange:
    """Which share of the change from origin to goal does `now` hold, over the items that all three models answered?

    Raises:
        UserError: the models were not asked the same items.
    """
    sides = [{item.item: item for item in side} for side in (origin, goal, now)]
    names = list(sides[0])
    if any(set(side) != set(names) for side in sides):
        detail = f"{metric.name}: {', '.join(str(len(side)) for side in sides)} items"
        raise UserError("The models were not asked the same items.", detail, "ask them with the same task and --items")
    first, second, third = ([side[name].value for name in names] for side in sides)
    return share_over_items(
        first,
        second,
        third,
        [sides[0][name].group for name in names],
        weights=[sides[0][name].weight for name in names],
        higher=metric.direction != "lower",
        bounds=metric.bounds,
        cluster=cluster,
        max_missing=max_missing,
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
        first, second, third = (headline_items(result, axis.metric) for result in three)
        shares[axis.name] = share_of_change(first, second, third, axis.metric, cluster=three[0].cluster)
    return Point(name, method, alpha, shares, chosen)


def divided(result: Result, share: float, seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """A task's items in two parts, whole groups each: those that a choice may look at, about `share` of the groups, and the
    rest. A function of the items and the seed alone.

    Raises:
        UserError: a part would be empty.
    """
    groups = sorted({item.group for item in result.measured})
    first = round(share * len(groups))
    if not 0 < first < len(groups):
        detail = f"--select {share:g} of {len(groups)} {result.cluster}"
        raise UserError("The items cannot be divided that way.", detail, "ask more items, or another --select")
    order = np.random.default_rng([seed, 0x5E1EC7]).permutation(len(groups))
    picked = {groups[int(at)] for at in order[:first]}
    return (
        frozenset(item.item for item in result.measured if item.group in picked),
        frozenset(item.item for item in result.measured if item.group not in picked),
    )


Scores = Mapping[str, float | None]
"""Every model's mean on the items of a choice; None of a model that lacks so many answers that it cannot be taken."""


def scores(items: Mapping[str, Sequence[ItemScore]], metric: Metric, fixed: Sequence[str]) -> dict[str, float | None]:
    """Every model's mean, by model, over the items that the `fixed` models (before, harmed) answered.

    An item that another model did not answer counts as the worst that it could be: a candidate must not win by losing its
    failures. None of a model that lacks more than a tenth of the answers, or any where values have no worst.

    Raises:
        UserError: no item was answered by the fixed models.
    """
    sides = {model: {item.item: item for item in measured} for model, measured in items.items()}
    first = sides[fixed[0]]
    shared = [
        name for name in first if all(name in sides[model] and sides[model][name].value is not None for model in fixed)
    ]
    if not shared:
        detail, fix = metric.name, "ask more items"
        raise UserError("No item that chooses was answered by the model before and the harmed one.", detail, fix)
    worst = None if metric.bounds is None else metric.bounds[metric.direction == "lower"]
    weights = [first[name].weight for name in shared]
    means: dict[str, float | None] = {}
    for model, side in sides.items():
        values = [side[name].value if name in side else None for name in shared]
        lost = values.count(None)
        if lost and (worst is None or too_many_missing(lost, len(values))):
            means[model] = None
            continue
        means[model] = float(np.average([worst if value is None else value for value in values], weights=weights))
    return means


@dataclass(frozen=True)
class Choice:
    """Which of several candidates is taken, why, and each one's scores and shares on the items of the choice."""

    name: str
    why: str
    tried: list[dict[str, Any]]


def choose_candidate(
    lost: Scores, gained: Scores, candidates: Sequence[str], *, models: tuple[str, str], axes: tuple[Axis, Axis],
    middle: str, unclear: str = "", keep: float = KEEP,
) -> Choice:  # fmt: skip
    """Of the candidates that keep at least `keep` of the gain, the one that recovers most; where none keeps so much, the one
    that keeps most. Equal ones: the one that keeps more.

    `lost` and `gained` are all models' scores on the items of the choice, `models` names the one before and the harmed
    one, `axes` what was lost and what was gained. Where these items do not show clearly that something was lost and
    something gained (`unclear` says which), noise would choose: the candidate in the `middle` is then taken.

    Raises:
        UserError: no candidate answered enough to be taken.
    """
    before, harmed = models
    rising = [-1.0 if axis.metric.direction == "lower" else 1.0 for axis in axes]

    def way(scored: Scores, sign: float, start: str, end: str) -> float | None:
        ends = scored[start], scored[end]
        return None if ends[0] is None or ends[1] is None else sign * (ends[1] - ends[0])

    recovered = {name: way(lost, rising[0], harmed, name) for name in (before, harmed, *candidates)}
    kept_change = {name: way(gained, rising[1], before, name) for name in (before, harmed, *candidates)}
    loss, gain = recovered[before], kept_change[harmed]
    tried = [
        {
            "name": name,
            LOST: lost[name],
            GAINED: gained[name],
            "recovered": None if (back := recovered[name]) is None or not loss or loss < 0 else back / loss,
            "kept": None if (kept_part := kept_change[name]) is None or not gain or gain < 0 else kept_part / gain,
        }
        for name in (before, harmed, *candidates)
    ]
    eligible = {
        name: (back, kept_part)
        for name in candidates
        if (back := recovered[name]) is not None and (kept_part := kept_change[name]) is not None
    }
    if not eligible:
        fix = "look at their answers: too many are missing"
        raise UserError("No candidate answered enough of the items that choose.", ", ".join(candidates), fix)
    left_out = [name for name in candidates if name not in eligible]
    lacking = f"; {', '.join(left_out)} left out, as too many of their answers are missing" * bool(left_out)
    if unclear or not gain or gain < 0:
        name = middle if middle in eligible else next(iter(eligible))
        why = f"it is the name in the middle, since noise would choose: on the items that choose {unclear or 'nothing was gained'}"
        return Choice(name, why + lacking, tried)
    able = [name for name, (_, kept_part) in eligible.items() if kept_part >= keep * gain - 1e-12]
    if not able:
        name = max(eligible, key=lambda cell: (eligible[cell][1], eligible[cell][0]))
        return Choice(name, f"none keeps {keep:.0%} of the gain; it keeps most of it{lacking}", tried)
    name = max(able, key=lambda cell: eligible[cell])
    why = f"of those that keep at least {keep:.0%} of the gain it brings back the largest share there"
    if eligible[name][0] <= 0:
        why += ", which is nothing"
    return Choice(name, why + lacking, tried)


def unclear_of(
    before: Sequence[Sequence[ItemScore]], harmed: Sequence[Sequence[ItemScore]], axes: tuple[Axis, Axis]
) -> str:
    """What is not clear of 0 on the items that choose: that something was lost, or gained? Empty where both are clear.

    `before` and `harmed` are the two models' items on the axis of what was lost and on that of what was gained.
    """
    reasons = []
    for old, new, axis in zip(before, harmed, axes, strict=True):
        origin, goal = (new, old) if axis.side == LOST else (old, new)
        share = share_of_change(origin, goal, goal, axis.metric)
        if share.why == OTHER_SIDE:
            reasons.append(f"nothing was {axis.side} ({axis.name} went the other way)")
        elif share.estimate is None:
            reasons.append(f"it is not clear that something was {axis.side} ({axis.name})")
    return " and ".join(reasons)


def point_sentence(point: Mapping[str, Any], axes: Mapping[str, Any]) -> str:
    """What a point says, in one sentence; `point` is `Point.as_json`, `axes` the names of what was lost and gained."""
    clauses = [share_clause(point["recovered"], "recovers", f"of what was lost ({axes[LOST]})")]
    if point["kept"] is not None:
        clauses.append(share_clause(point["kept"], "keeps", f"of what was gained ({axes[GAINED]})"))
    return f"{point['name']} {' and '.join(clauses)}."


def share_clause(share: Mapping[str, Any], verb: str, of: str) -> str:
    """'recovers 92% [35% to 160%] of what was lost (ifeval.prompt_strict)', or why that is not testable."""
    if share["value"] is None:
        return f"{verb} an untestable share {of}: {share['why']}"
    of += ", a change that is barely clear itself, which flatters" * bool(share.get("barely"))
    between = share["method"] if share["low"] is None else f"{percent(share['low'])} to {percent(share['high'])}"
    return f"{verb} {percent(share['value'])} [{between}] {of}"


def percent(value: float) -> str:
    """A share in whole percent, never as minus nothing.

    >>> percent(-0.001), percent(0.917)
    ('0%', '92%')
    """
    return f"{round(value, 2) + 0.0:.0%}"


def with_interval(share: Mapping[str, Any]) -> str:
    """'92% [35%, 160%]', of a study's share also its interval over items; 'not testable' where there is no value.

    >>> with_interval({"value": 0.44, "low": 0.22, "high": 0.64, "over_items": {"low": 0.21, "high": 0.74}})
    '44% [22%, 64%]; items [21%, 74%]'
    """
    if share["value"] is None:
        return "not testable"
    text = percent(share["value"])
    for title, ends in (("", share), ("; items", share.get("over_items") or {"low": None})):
        if ends["low"] is not None:
            text += f"{title} [{percent(ends['low'])}, {percent(ends['high'])}]"
    return text


def swapped(points: Sequence[Mapping[str, Any]]) -> str:
    """A question to the reader where what was lost had risen and what was gained had fallen; empty elsewhere."""
    for point in points:
        sides = [point[name] for name in ("recovered", "kept")]
        if all(side is not None and side["why"] == OTHER_SIDE for side in sides):
            return (
                "what should have been lost is larger in the harmed model than in the one before, and what should have been "
                "gained smaller: are MODEL and --before swapped, or --task and --gain?"
            )
    return ""
