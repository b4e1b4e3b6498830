"""Which rows does each step of a repair read? A function of the rows, the settings and the seed alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.repair.model_type import RepairRows
from pyrite.repair.settings import RepairSettings


def plan_steps(rows: RepairRows, settings: RepairSettings, reads: Sequence[str], seed: int) -> list[list[Any]]:
    """Which rows does each step read? Forget and replay rows are shuffled anew in every pass, each with its own seed, and
    paired step by step; the budget in tokens counts every token that is read.

    Raises:
        UserError: a budget in which not even one step fits.
    """
    sides = []
    if "forget" in reads or "preferred" in reads:
        sides.append((rows.forget, settings.forget_rows, 0))
    if "replay" in reads and rows.replay:
        sides.append((rows.replay, settings.replay_rows, 1))
    sides = [(side_rows, count, stream) for side_rows, count, stream in sides if count]
    if not sides:
        return []
    steps = settings.steps
    if steps is None and settings.tokens is None:
        steps = -(-len(rows.forget) // settings.forget_rows)
    preferred = {row.number: row for row in rows.preferred}
    planned: list[list[Any]] = []
    read = 0
    streams = [draws(side_rows, count, [seed, stream]) for side_rows, count, stream in sides]
    while steps is None or len(planned) < steps:
        step = [row for stream in streams for row in next(stream)]
        if preferred:
            step += [preferred[row.number] for row in step if row.role == "forget"]
            step = [row for row in step if row.role in reads]
        read += sum(len(row.ids) for row in step)
        if settings.tokens is not None and read > settings.tokens:
            break
        planned.append(step)
    if not planned:
        detail = f"{settings.tokens} tokens; the first step reads {read}"
        raise UserError("Not even one step fits into the budget.", detail, "raise --tokens, or take fewer rows a step")
    return planned


def draws(rows: Sequence[Any], count: int, seed: Sequence[int]) -> Iterator[list[Any]]:
    """Endless lists of `count` rows, none twice in a list (all rows where there are fewer): pass after pass, each in an
    order of its own."""
    queue: list[Any] = []
    passes = 0
    while True:
        drawn: list[Any] = []
        later: list[Any] = []
        while len(drawn) < min(count, len(rows)):
            if not queue:
                order = np.random.default_rng([*seed, passes]).permutation(len(rows))
                queue, passes = [rows[at] for at in order], passes + 1
            row = queue.pop(0)
            (later if row in drawn else drawn).append(row)
        yield drawn
        queue = later + queue
