"""What do two models' answers say where some are missing? Items that both answered in every seed, and the worst case.

An answer is seldom missing at random: a judge cannot read the garbled ones, a parser loses the long ones. Comparing each
model's own answered items then rewards the model whose failures were lost. So a comparison looks at the items that both
sides answered in every seed, and its verdict must survive the worst case: every missing answer counted against one side
and for the other, and the other way round. Letters: S seeds, I items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrite.errors import UserError
from pyrite.stats._checks import fraction

MAX_MISSING = 0.1
"""Beyond this share of items without an answer on either side in any seed a comparison is not testable."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answered:
    """Both sides' means per seed [S] over the items that both answered in every seed, and what was missing.

    `low` and `high` [S] bound the difference a - b whatever the missing answers would have been: every missing answer of
    a counted as the least value and of b as the most, and the reverse; over all items. None where nothing is missing or
    values have no bounds (`unbounded`: something is missing, and they have none).
    `counted` [I] marks the items of the means, `nobody` [I] those that no model answered in any seed: they say nothing of
    either side, and are in no number but their own.
    """

    a: Array
    b: Array
    counted: NDArray[np.bool_]
    nobody: NDArray[np.bool_]
    low: Array | None
    high: Array | None

    @property
    def unbounded(self) -> bool:
        """Is something missing of which no worst case is known?"""
        return self.missing > 0 and self.low is None

    @property
    def items(self) -> int:
        """Items that both sides answered in every seed."""
        return int(self.counted.sum())

    @property
    def missing(self) -> int:
        """Items that some model did not answer, and another did."""
        return int((~self.counted & ~self.nobody).sum())

    @property
    def unanswered(self) -> int:
        """Items that no model answered."""
        return int(self.nobody.sum())


def answered_by_both(
    a: NDArray[Any], b: NDArray[Any], *, bounds: tuple[float, float] | None, a_weights: NDArray[Any] | None = None, b_weights: NDArray[Any] | None = None
) -> Answered:  # fmt: skip
    """What do both sides score on the items that both answered in every seed?

    `a` and `b` have shape [S, I], NaN where there is no answer, the same items in the same order; weights too (tokens,
    for a mean over tokens), 1 by default. `bounds` are the least and the most that a value can be (0 and 1 for a share);
    None where it has no end, so that there is no worst case.

    Raises:
        UserError: no items, or tables of different shape.

    >>> both = answered_by_both(np.array([[1.0, np.nan, 0.0]]), np.array([[1.0, 0.0, 0.0]]), bounds=(0, 1))
    >>> both.a, both.items, both.missing
    (array([0.5]), 2, 1)
    >>> both.low, both.high
    (array([0.]), array([0.33333333]))
    """
    a_SI, b_SI = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a_SI.ndim != 2 or a_SI.shape != b_SI.shape or a_SI.size == 0:
        raise UserError(
            "Both sides must be tables of the same seeds and items.",
            f"shapes {a_SI.shape} and {b_SI.shape}",
            "Pass one row per seed and one column per item, at least one of each.",
        )
    wa, wb = (np.ones_like(a_SI) if w is None else np.asarray(w, np.float64) for w in (a_weights, b_weights))
    counted_I = np.array(np.isfinite(a_SI).all(axis=0) & np.isfinite(b_SI).all(axis=0), dtype=np.bool_)
    means = [
        (side[:, counted_I] * w[:, counted_I]).sum(axis=1) / w[:, counted_I].sum(axis=1)
        if counted_I.any()
        else np.full(len(side), np.nan)
        for side, w in ((a_SI, wa), (b_SI, wb))
    ]
    nobody_I = np.array(~(np.isfinite(a_SI).any(axis=0) | np.isfinite(b_SI).any(axis=0)), dtype=np.bool_)
    low = high = None
    if bounds is not None and (~counted_I & ~nobody_I).any():
        smallest, largest = bounds
        sides = (a_SI[:, ~nobody_I], wa[:, ~nobody_I]), (b_SI[:, ~nobody_I], wb[:, ~nobody_I])
        low = _filled(*sides[0], smallest) - _filled(*sides[1], largest)
        high = _filled(*sides[0], largest) - _filled(*sides[1], smallest)
    return Answered(means[0], means[1], counted_I, nobody_I, low, high)


MOST_CORNERS = 10
"""Seeds up to which every corner of the worst case is looked at."""


def vertices(low: Array, high: Array) -> Iterator[Array]:
    """The corners of what per-seed values [S] can be between two bounds: each seed at its lower or its upper one.

    A t test is at its worst where some seeds are at one end and some at the other, which spreads them. Of more than ten
    seeds not all corners: those in which the smallest are at one end and the largest at the other.

    >>> [list(map(float, corner)) for corner in vertices(np.array([0.0, 1.0]), np.array([0.5, 1.0]))]
    [[0.0, 1.0], [0.5, 1.0]]
    """
    open_ends = np.flatnonzero(low != high)
    if open_ends.size <= MOST_CORNERS:
        for ends in product((False, True), repeat=open_ends.size):
            corner = low.copy()
            chosen = open_ends[np.array(ends, dtype=np.bool_)]
            corner[chosen] = high[chosen]
            yield corner
        return
    order = np.argsort((low + high)[open_ends])
    for count in range(open_ends.size + 1):
        lowest, highest = open_ends[order[:count]], open_ends[order[count:]]
        for chosen in (lowest, highest):
            corner = low.copy()
            corner[chosen] = high[chosen]
            yield corner


def too_many_missing(missing: int, of: int, limit: float = MAX_MISSING) -> str:
    """Why can a comparison with so many items missing not be answered? Empty where it can.

    Raises:
        UserError: `limit` is not between 0 and 1.
    """
    fraction(limit, "max_missing")
    if missing == 0 or (of and missing / of <= limit):
        return ""
    return f"{missing} of {of} items have no answer on one side or both, more than the share of {limit:g} that a verdict bears"


UNBOUNDED = "values have no least and most, so that the missing answers could have been anything"


def _filled(side_SI: Array, weights_SI: Array, value: float) -> Array:
    """Means per seed [S] with missing answers counted as `value`."""
    filled_SI = np.where(np.isfinite(side_SI), side_SI, value)
    mean_S: Array = (filled_SI * weights_SI).sum(axis=1) / weights_SI.sum(axis=1)
    return mean_S
