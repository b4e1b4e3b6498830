"""What did lm-evaluation-harness find? Its aggregates as it gives them, and each document's value as a `ItemScore`."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from pyrite.records import Direction
from pyrite.tasks.scoring import ItemScore, Metric


@dataclass(frozen=True, slots=True)
class Number:
    """lm-eval's own aggregate of one metric over a task or group.

    `metric` is lm-eval's name, with the answer filter after a comma where it has one (`exact_match,strict-match`).
    `of_items`: it is the mean of the `ItemScore` of that task or group, so that an interval can be had from them;
    otherwise it comes without interval, and `says` tells why.
    """

    task: str
    metric: str
    value: float
    n: int
    direction: Direction
    of_items: bool
    says: str = ""


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """What came out: each document's values, lm-eval's aggregates, and what a reader must know to trust them.

    `cut` requests lost the beginning of their context to fit the model. `samples` are lm-eval's records of each
    document by subtask (prompt, answer, filtered answer, metrics); `notes` its warnings and ours.
    """

    task: str
    lm_eval: str
    measured: tuple[ItemScore, ...]
    metrics: tuple[Metric, ...]
    numbers: tuple[Number, ...]
    shots: Mapping[str, int]
    versions: Mapping[str, Any]
    cut: int
    notes: tuple[str, ...] = ()
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, repr=False)


def convert_results(
    task: str, results: Mapping[str, Any], loaded: Mapping[str, Any], *, cut: int, notes: Sequence[str]
) -> HarnessResult:
    """lm-eval's results as ours. `loaded` holds its task and group objects, which know how metrics are aggregated."""
    import lm_eval  # type: ignore[import-untyped]

    averaged = {name: averages(task_object, results["samples"][name]) for name, task_object in loaded["tasks"].items()}
    parents = parent_groups(task, results.get("group_subtasks", {}))
    alone = len(loaded["tasks"]) == 1
    measured: list[ItemScore] = []
    for name in loaded["tasks"]:
        where = {} if alone else {"subtask": name} | ({"group": parents[name]} if name in parents else {})
        measured += item_scores(name, results["samples"][name], averaged[name], where)
    return HarnessResult(
        task=task,
        lm_eval=str(lm_eval.__version__),
        measured=tuple(measured),
        metrics=tuple(describe(measured, results)),
        numbers=tuple(read_numbers(results, loaded, averaged)),
        shots={name: int(results["n-shot"].get(name) or 0) for name in loaded["tasks"]},
        versions={name: results["versions"].get(name) for name in loaded["tasks"]},
        cut=cut,
        notes=tuple(notes),
        samples=results["samples"],
    )


def label(metric: str, answer_filter: str) -> str:
    """lm-eval's name of a metric under an answer filter; without one, the metric's own."""
    return metric if answer_filter == "none" else f"{metric},{answer_filter}"


def averages(task_object: Any, samples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """How a task aggregates each metric that its documents have: `mean`, or the name of another function.

    A metric for which a task names no function is averaged, as lm-eval does.
    """
    from lm_eval.api.metrics import mean  # type: ignore[import-untyped]

    ways: dict[str, str] = {}
    for sample in samples:
        for metric in sample["metrics"]:
            function = task_object.aggregation().get(metric, mean)
            ways[metric] = "mean" if function is mean else str(getattr(function, "__name__", "another function"))
    return ways


def parent_groups(task: str, children: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The group that each subtask is directly in, where that is not the whole task."""
    return {name: group for group, names in children.items() if group != task for name in names}


def item_scores(
    name: str, samples: Sequence[Mapping[str, Any]], ways: Mapping[str, str], where: Mapping[str, str]
) -> Iterator[ItemScore]:
    """Each document's value of each averaged metric; a value that is no number is missing."""
    for sample in samples:
        item = f"{name}-{sample['doc_id']}"
        for metric in sample["metrics"]:
            if ways[metric] == "mean":
                value = sample[metric]
                is_number = isinstance(value, (Real, bool)) and not math.isnan(float(value))
                metric_label = label(metric, sample["filter"])
                yield ItemScore(item, metric_label, float(value) if is_number else None, group=item, slices=where)


def describe(measured: Sequence[ItemScore], results: Mapping[str, Any]) -> Iterator[Metric]:
    """The metrics of the measured values: 0/1 or any number, and which way is better (by all subtasks' word)."""
    values: dict[str, list[float]] = defaultdict(list)
    for each in measured:
        values[each.metric] += [] if each.value is None else [each.value]
    for name, task_values in values.items():
        directions = {direction(results, task, name) for task in results["samples"]}
        known_ways = directions - {"none"}
        way: Direction = known_ways.pop() if len(known_ways) == 1 else "none"
        share = bool(task_values) and all(value in (0.0, 1.0) for value in task_values)
        yield Metric(name, "share" if share else "real", way, says=f"lm-eval's {name}")


def direction(results: Mapping[str, Any], task: str, metric: str) -> Direction:
    """Which way is better, by lm-eval's word; none where it has none."""
    better = results["higher_is_better"].get(task, {}).get(metric.partition(",")[0])
    return "none" if better is None else "higher" if better else "lower"


def read_numbers(
    results: Mapping[str, Any], loaded: Mapping[str, Any], averaged: Mapping[str, Mapping[str, str]]
) -> Iterator[Number]:
    """lm-eval's aggregates of tasks and groups, in its order."""
    for name, row in results["results"].items():
        for key, value in row.items():
            metric, comma, answer_filter = key.rpartition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            why = why_no_interval(name, metric, loaded, averaged)
            metric_label = label(metric, answer_filter)
            n = int((row.get("sample_count") or {}).get(key, row.get("sample_len", 0)))
            yield Number(
                name, metric_label, float(value), n, direction(results, name, metric), of_items=not why, says=why
            )


def why_no_interval(
    name: str, metric: str, loaded: Mapping[str, Any], averaged: Mapping[str, Mapping[str, str]]
) -> str:
    """Why a number is not the mean of its documents' values; empty where it is."""
    group = loaded["groups"].get(name)
    tasks = [name] if group is None else [task_object.task_name for task_object in group.get_all_tasks()]
    ways = {averaged[task][metric] for task in tasks if metric in averaged[task]}
    if ways != {"mean"}:
        other_ways = ", ".join(sorted(ways - {"mean"}))
        return f"lm-eval's number; aggregated by {other_ways}, which is no mean over documents, so without interval"
    rules = [] if group is None else [rule for rule in group.aggregate_metric_list or [] if rule.metric == metric]
    if any(not rule.weight_by_size or callable(rule.aggregation) for rule in rules):
        return "lm-eval's number; every subtask counts the same whatever its size, so without interval"
    return ""
