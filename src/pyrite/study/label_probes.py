"""A probe whose answers are labels: its items and task, the slice that contrasts look at, and the parts of it that are judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.probe.labels import GRAMMAR as BY_GRAMMAR
from pyrite.records import Labelled
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import ProbeSpec
from pyrite.tasks import NLI, NLI_TWO_WAY, TASKS
from pyrite.tasks.scoring import ItemScore, Task, from_labels, matching

Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""Which items of a probe, [items]."""


def by_grammar(probe: ProbeSpec) -> bool:
    """Are the probe's items written by a grammar?"""
    return (probe.file or "").startswith(BY_GRAMMAR)


def task_of(probe: ProbeSpec, spec: StudySpec) -> Task:
    """The task that scores a probe."""
    if probe.task != "labelled":
        task = TASKS[probe.task]
        return NLI_TWO_WAY if task is NLI and task.is_merged(spec.labels) else task
    merge = probe.merge or {}
    labels = tuple(dict.fromkeys(merge.get(label, label) for label in spec.labels))
    return Task("labelled", labels, merge=merge, slices=probe.slices, template=probe.template)


@dataclass(frozen=True)
class LabelProbe:
    """A probe's items and task, with the mask of its headline slice (the number that contrasts look at).

    `parts` divides the headline where the task asks for it (HANS: by heuristic), so that a part at the floor is seen.
    """

    name: str
    items: list[Labelled]
    task: Task
    headline: Mask
    headline_name: str
    parts: Mapping[str, Mask]

    @classmethod
    def of(cls, name: str, items: list[Labelled], task: Task, headline: Mapping[str, str]) -> "LabelProbe":
        """A probe; `headline` maps columns to the values that an item of the headline slice has.

        Raises:
            UserError: an empty headline slice, or an item with a label that the task does not have.
        """
        mask = np.array(matching(items, headline, task), dtype=bool)
        if not mask.any():
            raise UserError(
                "A probe's headline slice is empty.", f"{name}: no item has {dict(headline)}", "check headline"
            )
        strange = next((item for item in items if task.answer(item.label) not in task.labels), None)
        if strange is not None:
            fix = f"use one of: {', '.join(sorted({*task.labels, *task.merge}))}"
            raise UserError("A probe's item has an unknown label.", f"{name}: {strange.id}: {strange.label!r}", fix)
        return cls(name, items, task, mask, ", ".join(headline.values()) or "overall", slice_parts(items, task, mask))

    @property
    def headline_is_overall(self) -> bool:
        """Is the headline all of the items?"""
        return bool(self.headline.all())

    @cached_property
    def slices(self) -> dict[str, Mapping[str, str]]:
        """Each item's columns, shared by the scores of all models."""
        return {score.item: score.slices for score in from_labels(self.items, {}, self.task)}

    def scores(self, predictions: Mapping[str, str | None]) -> list[ItemScore]:
        """Each item's score under the task's metrics, by one model's labels."""
        slices = self.slices
        return [
            ItemScore(score.item, score.metric, score.value, score.group, slices[score.item])
            for score in from_labels(self.items, predictions, self.task)
        ]

    def golds(self, mask: Mask) -> dict[str, Mask]:
        """The items of a mask by gold label, as masks of the masked items."""
        labels = [str(self.task.answer(item.label)) for item, on in zip(self.items, mask, strict=True) if on]
        return {gold: np.array([label == gold for label in labels]) for gold in dict.fromkeys(labels)}

    @property
    def templates(self) -> list[str] | None:
        """Which items are alike: each item's template; None where the task has none."""
        return None if self.task.template is None else [str(item.meta.get(self.task.template)) for item in self.items]


def slice_parts(items: Sequence[Labelled], task: Task, headline: Mask) -> dict[str, Mask]:
    """The parts of a headline slice: one for each value of the task's column, where it holds one gold label and several
    such values; else all of it, under no name."""
    inside = [item for item, on in zip(items, headline, strict=True) if on]
    if task.headline_by is None or len({task.answer(item.label) for item in inside}) > 1:
        return {"": headline}
    values = dict.fromkeys(str(item.meta.get(task.headline_by)) for item in inside)
    if len(values) < 2:
        return {"": headline}
    return {value: headline & np.array(matching(items, {task.headline_by: value}), dtype=bool) for value in values}
