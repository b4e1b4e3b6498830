"""Grouping of rows by shared prefix, so that each prefix is computed once."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

OVERHEAD = 1024
"""What a group of its own costs, in tokens: a pass for its prefix, and batches that are not full."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Rows (by number, in order of their tokens) whose first `prefix` tokens are the same."""

    rows: tuple[int, ...]
    prefix: int


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens at the beginning are the same?"""
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return size
    low, high = 0, size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low


@dataclass(slots=True)
class PrefixRun:
    """Neighbours in sorted order that agree in at least `agree` tokens, and the runs inside that agree in more."""

    first: int
    last: int
    agree: int
    inner: "list[PrefixRun]"
    apart: "list[PrefixRun]"
    """The inner runs that save more on their own than with the rest of this run."""
    saved: int = 0

    @property
    def size(self) -> int:
        """How many rows."""
        return self.last - self.first + 1


def group(rows: Sequence[Sequence[int]], overhead: int = OVERHEAD) -> list[Shared]:
    """Split rows into groups with a prefix each, such that the tokens saved, less the groups' overhead, are the most.

    At least one token of every row stays outside the prefix. Rows are sorted by their tokens, so rows with a common
    prefix are neighbours, and runs of neighbours that agree in more and more tokens form a tree. From its leaves up,
    a run leaves its parent's group if it saves more on its own.
    """
    if not rows:
        return []
    order = sorted(range(len(rows)), key=lambda at: (list(rows[at]), at))
    agree = [
        min(common_length(rows[first], rows[second]), len(rows[first]) - 1, len(rows[second]) - 1)
        for first, second in itertools.pairwise(order)
    ]
    runs = [PrefixRun(0, len(order) - 1, 0, [], [])]
    for run in runs:  # grows while it is read: parents before their inner runs
        run.agree = min(agree[run.first : run.last], default=0)
        if run.size > 1:
            cuts = [at for at in range(run.first, run.last) if agree[at] == run.agree]
            edges = [run.first, *(at + 1 for at in cuts), run.last + 1]
            run.inner = [PrefixRun(a, b - 1, 0, [], []) for a, b in itertools.pairwise(edges) if b - a > 1]
            runs.extend(run.inner)
    for run in reversed(runs):
        run.apart = [inner for inner in run.inner if inner.saved > run.agree * inner.size]
        n_rest = run.size - sum(inner.size for inner in run.apart)
        run.saved = sum(inner.saved for inner in run.apart) + (run.agree * (n_rest - 1) - overhead if n_rest else 0)
    groups = []
    todo = [runs[0]]
    while todo:
        run = todo.pop()
        away = {at for inner in run.apart for at in range(inner.first, inner.last + 1)}
        rest_rows = tuple(order[at] for at in range(run.first, run.last + 1) if at not in away)
        if rest_rows:
            groups.append(Shared(rest_rows, run.agree if len(rest_rows) > 1 else 0))
        todo.extend(run.apart)
    return sorted(groups, key=lambda first: first.rows)
