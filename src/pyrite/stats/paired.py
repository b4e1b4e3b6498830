"""Do two sides that share their seeds, or their items, differ?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from pyrite.errors import UserError
from pyrite.records import Direction, Estimate
from pyrite.stats._checks import Values, no_spread, same_length, vector
from pyrite.stats.intervals import mean_over_seeds, wilson

Alternative = Literal["two-sided", "less", "greater"]
Correct = Sequence[bool] | Sequence[int] | NDArray[Any]
"""Per item, in a fixed order: was the answer right? True/False or 1/0."""


def paired_t(
    differences: Values, *, n_missing: int = 0, confidence: float = 0.95, direction: Direction = "higher"
) -> Estimate:
    """How large is the difference between two arms, averaged over training seeds, and how sure is that?

    `differences` has shape [seeds]: arm minus comparison within each seed (same start, same order, same items), so
    that what a seed does to both sides cancels. n - 1 degrees of freedom. The interval covers the mean over more seeds
    on *these* items; `crossed_bootstrap` also asks about other templates. One seed, or identical differences: no
    interval, and `method` says so.

    Raises:
        UserError: no differences, or some that are not finite.

    Source: Student (1908), Biometrika 6:1.

    >>> d = paired_t([-0.04, -0.02, -0.03])
    >>> f"{d.value:.3f} [{d.low:.3f}, {d.high:.3f}]"
    '-0.030 [-0.055, -0.005]'
    """
    return mean_over_seeds(differences, "paired t", n_missing, confidence, direction)


FINE = 10
"""Identical differences of so many steps of their values' grid are no accident of a coarse grid."""
MOST_ITEMS = 100_000
FEWEST_IDENTICAL = 5
"""With fewer seeds, runs that collapse or do not (each for a reason of its own) fall on one side too often."""


def grid_step(*sides: Values) -> float | None:
    """On which grid do these shares of one set of items lie? The largest step of which all are multiples: 0.01 for 0.01 and
    0.60. None where they lie on none of at most a hundred thousand items.

    A share of n items lies on a grid of 1/n, or of a coarser one by accident; so the step is an upper bound of 1/n. That
    does not hold for averages of shares of different items: their step is the average of the steps.

    >>> grid_step([0.01, 0.02], [0.60])
    0.01
    >>> round(grid_step([1 / 3], [2 / 3]), 4)
    0.3333
    """
    values = {float(value) for side in sides for value in np.asarray(side, dtype=np.float64)}
    nearest = [Fraction(value).limit_denominator(MOST_ITEMS) for value in values]
    if any(abs(float(near) - value) > 1e-12 for near, value in zip(nearest, values, strict=True)):
        return None
    items = math.lcm(*(near.denominator for near in nearest))
    return 1 / items if items <= MOST_ITEMS else None


def fine_grid(differences: Values, step: float | None, null: float = 0.0) -> bool:
    """Are identical differences so many steps of a grid away from `null` that the grid cannot have made them identical?"""
    x = np.asarray(differences, dtype=np.float64)
    if step is None or x.size < FEWEST_IDENTICAL or not no_spread(x):
        return False
    return bool(abs(float(x.mean()) - null) >= FINE * step - 1e-12)


def paired_t_pvalue(
    differences: Values, null: float = 0.0, alternative: Alternative = "two-sided", *, step: float | None = None
) -> float:
    """How surprising would these per-seed differences be if their true mean were `null`?

    `differences` has shape [seeds], at least two. "less" asks for evidence that the mean lies below `null`, "greater"
    that it lies above. `step` is the step of the grid that the values lie on (`grid_step`), where it is known.

    Identical differences (often a coarse grid of items: -0.02 in three seeds out of three) leave no spread, and t would
    be infinite. We do not call that p = 0: the exact sign test speaks instead, which asks only on which side of `null`
    the seeds fall: p = 0.5^n one-sided, 2 * 0.5^n two-sided (0.25 for three seeds), and 1 where the differences equal
    `null` or fall on the other side. But five or more seeds that all lost 59 points on a grid of 1 point differ by less
    than the grid shows: where `null` is at least ten steps away, the spread is taken as one step, its upper bound.

    Raises:
        UserError: fewer than two differences, some that are not finite, or an unknown alternative.

    Source: Student (1908), Biometrika 6:1; the sign test, Arbuthnot (1710), Phil. Trans. 27:186.

    >>> round(paired_t_pvalue([-0.04, -0.02, -0.03]), 3)
    0.035
    >>> paired_t_pvalue([-0.02, -0.02, -0.02])
    0.25
    """
    x = vector(differences, "per-seed differences")
    if alternative not in ("two-sided", "less", "greater"):
        raise UserError("Unknown alternative.", repr(alternative), 'Use one of "two-sided", "less" or "greater".')
    if x.size < 2:
        raise UserError("A p-value needs at least two seeds.", "1 seed", "Run more seeds; nothing finished is rerun.")
    shift = float(x.mean()) - null
    if fine_grid(x, step, null):
        assert step is not None
        t = shift / (step / x.size**0.5)
        below, above = float(special.stdtr(x.size - 1, t)), float(special.stdtr(x.size - 1, -t))
    elif no_spread(x):
        if no_spread(np.append(x, null)):
            return 1.0
        below = above = 0.5**x.size
        below, above = (below, 1.0) if shift < 0 else (1.0, above)
    else:
        t = shift / (float(x.std(ddof=1)) / x.size**0.5)
        below, above = float(special.stdtr(x.size - 1, t)), float(special.stdtr(x.size - 1, -t))
    return {"less": below, "greater": above, "two-sided": min(1.0, 2 * min(below, above))}[alternative]


@dataclass(frozen=True, slots=True)
class McNemar:
    """Items that only one of two fixed models got right, and the exact p-value that the two are equally good."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar(a_correct: Correct, b_correct: Correct) -> McNemar:
    """Is one of these two fixed models better on independent items, or did they trade items by chance?

    Both rows have shape [items], the same items in the same order. The claim is about these two models only, not about
    the data they were trained on. Where no item separates them, p = 1.

    Raises:
        UserError: no items, rows of different length, or entries other than 0/1.

    Source: McNemar (1947), Psychometrika 12:153, in its exact form: binomial(only_a + only_b, 1/2), two-sided.

    >>> mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0])
    McNemar(only_a=6, only_b=0, p_value=0.03125)
    """
    _, only_a, only_b, _ = _two_by_two(a_correct, b_correct)
    differing = only_a + only_b
    p_value = float(stats.binomtest(only_a, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_a, only_b, p_value)


def wilson_difference(
    a_correct: Correct,
    b_correct: Correct,
    *,
    n_missing: int = 0,
    confidence: float = 0.95,
    direction: Direction = "higher",
) -> Estimate:
    """By how much does one fixed model beat another on the same independent items: share right of a minus of b?

    Both rows have shape [items], the same items in the same order. Like `mcnemar`, it speaks of these two models.

    Raises:
        UserError: no items, rows of different length, or entries other than 0/1.

    Source: Newcombe (1998), Statistics in Medicine 17:2635, method 10 (Wilson limits of both shares, combined with a
    continuity-corrected correlation).

    >>> d = wilson_difference([1] * 30 + [0] * 20, [1] * 20 + [0] * 30)
    >>> f"{d.value:.2f} [{d.low:.3f}, {d.high:.3f}]"
    '0.20 [0.080, 0.307]'
    """
    both_right, only_a, only_b, neither_right = _two_by_two(a_correct, b_correct)
    n = both_right + only_a + only_b + neither_right
    a = wilson(both_right + only_a, n, confidence=confidence)
    b = wilson(both_right + only_b, n, confidence=confidence)
    a_down, a_up = _reach(a)
    b_down, b_up = _reach(b)
    margins = (both_right + only_a) * (only_b + neither_right) * (both_right + only_b) * (only_a + neither_right)
    covariance: float = both_right * neither_right - only_a * only_b
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    phi = covariance / margins**0.5 if margins else 0.0
    difference = (only_a - only_b) / n
    down = max(a_down**2 - 2 * phi * a_down * b_up + b_up**2, 0.0) ** 0.5
    up = max(a_up**2 - 2 * phi * a_up * b_down + b_down**2, 0.0) ** 0.5
    return Estimate(
        difference, difference - down, difference + up, n, n_missing, direction, confidence, "Newcombe paired"
    )


def _reach(estimate: Estimate) -> tuple[float, float]:
    """How far does the interval reach below and above the value?"""
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.value - estimate.low, estimate.high - estimate.value


def _two_by_two(a_correct: Correct, b_correct: Correct) -> tuple[int, int, int, int]:
    """How many items did both, only a, only b and neither get right?"""
    a, b = vector(a_correct, "item results"), vector(b_correct, "item results")
    same_length(a, b, "items")
    odd = [value for value in np.unique(np.append(a, b)) if value not in (0.0, 1.0)]
    if odd:
        raise UserError(
            "An item is either right or wrong.", f"the value {odd[0]:g}", "Pass True/False or 1/0 per item."
        )
    right_a, right_b = a == 1, b == 1
    counts = (right_a & right_b, right_a & ~right_b, ~right_a & right_b, ~right_a & ~right_b)
    both_right, only_a, only_b, neither_right = (int(np.count_nonzero(mask)) for mask in counts)
    return both_right, only_a, only_b, neither_right
