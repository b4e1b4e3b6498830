"""Tasks whose answers are texts: what the code must know of one. Each stands in its own file, as `TASK`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pyrite.io import Counts
from pyrite.records import Chat
from pyrite.tasks.scoring import ItemScore, Metric

OnBadRow = Literal["stop", "skip"]
Cuts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class GenerativeTask:
    """One benchmark of texts.

    `read` gives the prompts of a file and its rows by their fate; `by_rule` the scores that a program finds of prompts and
    answers (None: a judge has a say; only by rule can bad rows be left out), `checkers` what its verdicts hang on beside the
    answers. `cuts` are the slices of each metric, `cluster` is what items that are alike share. `usual` is for plans: items,
    and tokens of an answer. `plugin` is the module that registers a task from outside; other processes import it.
    """

    name: str
    read: Callable[[Path, OnBadRow], tuple[list[Chat], Counts]]
    standard_tokens: int
    metrics: tuple[Metric, ...]
    usual: tuple[int, int]
    cluster: str
    cuts: Mapping[str, Cuts] = field(default_factory=dict)
    turns: int = 1
    by_rule: Callable[[Sequence[Chat], Mapping[str, str | None]], list[ItemScore]] | None = None
    checkers: Callable[[], str] | None = None
    plugin: str = ""


def published(read: Callable[[Path], list[Chat]]) -> Callable[[Path, OnBadRow], tuple[list[Chat], Counts]]:
    """A reader of files that are taken as they were published: a bad row always stops."""

    def counted(path: Path, on_bad_row: OnBadRow) -> tuple[list[Chat], Counts]:
        items = read(path)
        return items, Counts(len(items), len(items))

    return counted
