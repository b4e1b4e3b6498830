"""From predictions to numbers: accuracy overall and by slice, with nothing filled in. No model in sight."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyrite.errors import UserError
from pyrite.records import Estimate, Labelled
from pyrite.stats import wilson


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

    def answer(self, predicted: str | None) -> str | None:
        """A model's label in the task's own labels."""
        return None if predicted is None else self.merge.get(predicted, predicted)


@dataclass(frozen=True, slots=True)
class Slice:
    """One line of a scorecard: which items (`by` columns have the values `name`), how many were right."""

    metric: str
    by: str
    name: str
    gold: str | None
    correct: int
    n: int
    n_missing: int

    def estimate(self) -> Estimate:
        """The accuracy of this one model on these items, with a Wilson interval (items taken as independent)."""
        if self.n == 0:
            return Estimate(float("nan"), None, None, 0, self.n_missing, method="no answers")
        return wilson(self.correct, self.n, n_missing=self.n_missing)


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


def score(items: Sequence[Labelled], predictions: Mapping[str, str | None], task: Task) -> list[Slice]:
    """The scorecard of one model: overall first, then every slice, in order of first appearance.

    `predictions` maps item ids to labels of the model or of the task; an item without one counts as missing, never
    as wrong. A label that is neither is a `UserError`.
    """
    if not items:
        raise UserError("There is nothing to score.", f"task {task.name} has no items", "check the task's file")
    known = {*task.labels, *task.merge}
    for item in items:
        if item.label not in known:
            fix = f"the task's labels are: {', '.join(sorted(known))}"
            raise UserError("An item's gold label is not one of the task's.", f"item {item.id}: '{item.label}'", fix)
        label = predictions.get(item.id)
        if label is not None and label not in known:
            fix = f"use one of: {', '.join(sorted(known))}"
            raise UserError("A prediction has an unknown label.", f"item {item.id}: '{label}'", fix)
    lines = []
    metrics: list[tuple[str, Mapping[str, str] | None]] = [("accuracy", None)]
    if task.also_merged:
        metrics.append(task.also_merged)
    for metric, merge in metrics:
        cuts: Iterable[tuple[str, ...]] = [(), *(task.slices if merge is None else ())]
        for columns in cuts:
            counts: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
            for item in items:
                outcome = right(item, predictions.get(item.id), task, merge)
                count = counts[slice_names(item, columns, task)]
                count[0] += outcome is True
                count[1] += outcome is not None
                count[2] += outcome is None
            for names, (correct, n, missing) in counts.items():
                gold = names[columns.index("gold")] if "gold" in columns else None
                plain = [name for column, name in zip(columns, names, strict=True) if column != "gold"]
                by = " x ".join(column for column in columns if column != "gold") or ("gold" if gold else "overall")
                lines.append(Slice(metric, by, " / ".join(plain) or gold or "overall", gold, correct, n, missing))
    return lines


def matching(items: Sequence[Labelled], values: Mapping[str, Any], task: Task | None = None) -> list[bool]:
    """Which items have these values (meta columns, or `gold`)? With a task, a gold label counts also as what it merges into."""

    def has(item: Labelled, column: str, value: str) -> bool:
        merged = task is not None and column == "gold" and task.answer(item.label) == value
        return merged or slice_names(item, [column])[0] == value

    return [all(has(item, column, str(value)) for column, value in values.items()) for item in items]
