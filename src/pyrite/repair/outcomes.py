"""Three models, item by item: what did the repair heal, what did it break anew, which part of the gain did it keep?

    healed         right before, wrong harmed, right now
    newly broken   right harmed, wrong now
    kept gain      wrong before, right harmed, right now

Each is a share with its interval: of the items that the harm broke, of those that the harmed model got right, and of those that
the harm brought. They count items, not points: an item that a model answers rightly now and then changes sides by itself,
so some of what the harm broke would also be right again in another model of the same kind. What came back on the whole is the
recovered share of the change (`repair.frontier`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyrite.probe.asked import Result
from pyrite.tasks.measure import Measured, Metric
from pyrite.tasks.summary import is_grouped, mean

Sides = tuple[bool, bool, bool]
"""Right before, harmed, repaired."""
WORDS: dict[Sides, str] = {
    (True, True, True): "right throughout",
    (True, True, False): "newly broken",
    (True, False, True): "healed",
    (True, False, False): "still broken",
    (False, True, True): "gain kept",
    (False, True, False): "gain lost",
    (False, False, True): "newly right",
    (False, False, False): "wrong throughout",
}
SHARES: dict[str, tuple[tuple[Sides, ...], tuple[Sides, ...]]] = {
    "healed": (((True, False, True),), ((True, False, True), (True, False, False))),
    "newly_broken": (
        ((True, True, False), (False, True, False)),
        ((True, True, True), (True, True, False), (False, True, True), (False, True, False)),
    ),
    "kept_gain": (((False, True, True),), ((False, True, True), (False, True, False))),
}
"""Of each share: the items that are counted, and those that they are a share of."""


def sorted_items(results: Sequence[Mapping[str, Result]], task: str) -> Iterator[tuple[Metric, Measured, Sides | None]]:
    """Every item of a task's metrics of right and wrong, with its three sides; None where a model has no answer to it or
    judges' votes were split. `results`: before, harmed, repaired."""
    three = [one[task] for one in results]
    for metric in three[0].metrics:
        if metric.scale != "share" or metric.direction == "none":
            continue
        by_item = [{one.item: one for one in result.measured if one.metric == metric.name} for result in three]
        for name, item in by_item[0].items():
            values = [side[name].value if name in side else None for side in by_item]
            if any(value not in (0, 1) for value in values):
                yield metric, item, None
                continue
            right = [(value == 1) == (metric.direction == "higher") for value in values]
            yield metric, item, (right[0], right[1], right[2])


def shares_of(results: Sequence[Mapping[str, Result]], tasks: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """One entry for each task and metric of right and wrong: the number of items of each outcome, and the three shares with
    their intervals (over groups, where items come in such)."""
    table = []
    for task in tasks:
        by_metric: dict[str, list[tuple[Metric, Measured, Sides]]] = {}
        lost: dict[str, int] = {}
        for metric, item, sides in sorted_items(results, task):
            if sides is None:
                lost[metric.name] = lost.get(metric.name, 0) + 1
            else:
                by_metric.setdefault(metric.name, []).append((metric, item, sides))
        alike = results[0][task].alike
        for name, some in by_metric.items():
            counts = {word: sum(sides == own for _, _, sides in some) for own, word in WORDS.items()}
            row: dict[str, Any] = {"task": task, "metric": name, "items": len(some), "missing": lost.get(name, 0)}
            grouped = is_grouped([item.group for _, item, _ in some])
            for share, (counted, of) in SHARES.items():
                among = [replace(item, value=float(sides in counted)) for _, item, sides in some if sides in of]
                row[share] = as_share(among, some[0][0], grouped=grouped, seed=seed, alike=alike)
            table.append({**row, "counts": counts})
    return table


def as_share(items: Sequence[Measured], metric: Metric, *, grouped: bool, seed: int, alike: str) -> dict[str, Any]:
    """A share of some items with its interval, as plain values; no value where there is no item."""
    if not items:
        return {"value": None, "low": None, "high": None, "n": 0, "method": "no such item"}
    one = mean(items, replace(metric, direction="higher"), grouped=grouped, seed=seed, alike=alike)
    return {"value": one.value, "low": one.low, "high": one.high, "n": one.n, "method": one.method}


def rows_of(results: Sequence[Mapping[str, Result]], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each task, metric and item: what became of it."""
    return [
        {
            "task": task,
            "metric": metric.name,
            "item": item.item,
            **dict(zip(("before", "harmed", "repaired"), sides or (None, None, None), strict=True)),
            "outcome": "no answer" if sides is None else WORDS[sides],
        }
        for task in tasks
        for metric, item, sides in sorted_items(results, task)
    ]
