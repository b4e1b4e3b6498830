"""How far does a store grow while a plan runs? By what its steps are expected to write, and when."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pyrite.repair.train import REPAIR
from pyrite.steps import Keep, Step
from pyrite.steps.layout import Schedule
from pyrite.train.causal import TRAIN_GENERATOR
from pyrite.train.classifier import TRAIN_CLASSIFIER

CHECKPOINT_EVERY = 300.0
"""Seconds of a training after which its first checkpoint is written."""


def peak_bytes(todo: Sequence[Step], schedule: Schedule, keep: Keep) -> int:
    """The most that the store grows by during a run: what finished steps wrote and the checkpoints of running ones, less the
    weights that `keep` lets go once all that reads them is done."""
    written: dict[float, int] = defaultdict(int)
    freed: dict[float, int] = defaultdict(int)
    last_read: dict[str, float] = {}
    for step in todo:
        begin, end = schedule.spans[step.key]
        written[end] += stays(step) + step.cost.rows + droppable(step)
        if end - begin > CHECKPOINT_EVERY:
            written[begin] += step.cost.checkpoint
            freed[end] += step.cost.checkpoint  # once the step is published
        for key in (step.key, *(parent.key for parent in step.parents())):
            last_read[key] = max(last_read.get(key, 0.0), end)
    for step in todo:
        if keep == "predictions" or (keep == "adapters" and not is_adapter(step)):
            freed[last_read[step.key]] += droppable(step)
    most = now = 0
    for at in sorted({*written, *freed}):
        now += written[at]
        most = max(most, now)
        now -= freed[at]
    return most


def stays(step: Step) -> int:
    """Bytes of answers that a step leaves in the store."""
    return 0 if step.weights else step.cost.bytes


def droppable(step: Step) -> int:
    """Bytes of a step's files that `keep` may drop: weights, states of frozen layers."""
    return step.cost.weights + (step.cost.bytes if step.weights else 0)


def is_adapter(step: Step) -> bool:
    """Are a step's weights those of an adapter?"""
    if step.kind.name == REPAIR.name:
        return bool(step.config["settings"].get("save") == "adapter")
    return (
        step.kind.name in (TRAIN_CLASSIFIER.name, TRAIN_GENERATOR.name) and step.config["settings"]["method"] != "full"
    )


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of a folder that may not be there yet."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def bytes_in_words(count: float) -> str:
    """Bytes, in the largest unit of which there is one.

    >>> bytes_in_words(900), bytes_in_words(3.2e6), bytes_in_words(5.74e9), bytes_in_words(5.7e10), bytes_in_words(1.2e12)
    ('0 MB', '3 MB', '5.7 GB', '57 GB', '1.2 TB')
    """
    unit, name = (1e6, "MB") if count < 1e9 else (1e9, "GB") if count < 1e12 else (1e12, "TB")
    return f"{count / unit:,.{int(unit > 1e6 and count < 10 * unit)}f} {name}"
