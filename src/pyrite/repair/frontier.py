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

from pyrite.errors import UserError
from pyrite.probe.probe_task import Result
from pyrite.stats import MAX_MISSING, ShareOfChange, share_over_items
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
