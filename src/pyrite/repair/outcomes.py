"""Three models, item by item: what did the repair heal, what did it break anew, which part of the gain did it keep?

    healed         right before, wrong harmed, right now
    newly broken   right harmed, wrong now
    kept gain      wrong before, right harmed, right now

Each is a share with its interval: of the items that the harm broke, of those that the harmed model got right, and of
those that the harm brought. Of a blind spot the items are those that its verdicts look at (`frontier.headline_items`). They count
items, not points: an item that a model answers rightly now and then changes sides by itself, so some of what the harm broke
would also be right again in another model of the same kind. What came back on the whole is the recovered share of the change
(`repair.frontier`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyrite.probe.probe_task import Result
from pyrite.repair.frontier import headline_items
from pyrite.stats.missing import too_many_missing
from pyrite.tasks.scoring import ItemScore, Metric, is_grouped, mean

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


NO_ANSWER, SPLIT_VOTES = "no answer", "votes split"
"""Of an item that has no three sides: a model gave no answer, or judges' votes were split."""


def sorted_items(results: Sequence[Mapping[str, Result]], task: str) -> Iterator[tuple[Metric, ItemScore, Sides | str]]:
    """Every item of a task's metrics of right and wrong, with its three sides, or why it has none. `results`: before, harmed,
    repaired."""
    three = [results_of_model[task] for results_of_model in results]
    for metric in three[0].metrics:
        if metric.scale != "share" or metric.direction == "none":
            continue
        by_item = [{item.item: item for item in headline_items(result, metric)} for result in three]
        for name, item in by_item[0].items():
            values = [side[name].value if name in side else None for side in by_item]
            if None in values:
                yield metric, item, NO_ANSWER
            elif any(value not in (0, 1) for value in values):
                yield metric, item, SPLIT_VOTES
            else:
                right = [(value == 1) == (metric.direction == "higher") for value in values]
                yield metric, item, (right[0], right[1], right[2])


def shares_of(results: Sequence[Mapping[str, Result]], tasks: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """One entry for each task and metric of right and wrong: the number of items of each outcome, and the three shares with
    their intervals (over groups, where items come in such). More than a tenth of the items without three sides: no shares,
    since which items are left would decide."""
    table = []
    for task in tasks:
        by_metric: dict[str, list[tuple[Metric, ItemScore, Sides | str]]] = {}
        for metric, item, sides in sorted_items(results, task):
            by_metric.setdefault(metric.name, []).append((metric, item, sides))
        cluster = results[0][task].cluster
        for name, entries in by_metric.items():
            sorted_entries = [(item, sides) for _, item, sides in entries if not isinstance(sides, str)]
            lost = len(entries) - len(sorted_entries)
            counts = {word: sum(sides == outcome for _, sides in sorted_entries) for outcome, word in WORDS.items()}
            counts |= {why: sum(sides == why for _, _, sides in entries) for why in (NO_ANSWER, SPLIT_VOTES)}
            row: dict[str, Any] = {"task": task, "metric": name, "items": len(sorted_entries), "missing": lost}
            grouped = is_grouped([item.group for item, _ in sorted_entries])
            for share, (counted, of) in SHARES.items():
                among = [replace(item, value=float(sides in counted)) for item, sides in sorted_entries if sides in of]
                if why := too_many_missing(lost, len(entries)):
                    row[share] = {"value": None, "low": None, "high": None, "n": len(among), "method": why}
                else:
                    row[share] = as_share(among, entries[0][0], grouped=grouped, seed=seed, cluster=cluster)
            table.append({**row, "counts": counts})
    return table


def as_share(items: Sequence[ItemScore], metric: Metric, *, grouped: bool, seed: int, cluster: str) -> dict[str, Any]:
    """A share of some items with its interval, as plain values; no value where there is no item."""
    if not items:
        return {"value": None, "low": None, "high": None, "n": 0, "method": "no such item"}
    estimate = mean(items, replace(metric, direction="higher"), grouped=grouped, seed=seed, cluster=cluster)
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "method": estimate.method,
    }


def sides_or_none(sides: Sides | str) -> tuple[bool | None, ...]:
    """An item's three sides, or three times none."""
    return (None, None, None) if isinstance(sides, str) else sides


def outcome_rows(results: Sequence[Mapping[str, Result]], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each task, metric and item: what became of it."""
    return [
        {
            "task": task,
            "metric": metric.name,
            "item": item.item,
            **dict(zip(("before", "harmed", "repaired"), sides_or_none(sides), strict=True)),
            "outcome": sides if isinstance(sides, str) else WORDS[sides],
        }
        for task in tasks
        for metric, item, sides in sorted_items(results, task)
    ]
