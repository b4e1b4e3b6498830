"""Which share of a change was undone, or kept? A ratio of two paired differences, with Fieller's interval.

A model changes from `origin` to `goal` (instruction following before and after harm, say), and a third one stands somewhere
between: (now - origin) / (goal - origin). Numerator and denominator hang together, as both are measured on the same items
against the same origin. The ratio is testable only where the change from origin to goal is itself clear: a share of
nothing is no number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrite.records import Estimate
from pyrite.stats._checks import Values, fraction, same_length, vector
from pyrite.stats.bootstrap import MIN_TEMPLATES
from pyrite.stats.intervals import t_quantile
from pyrite.stats.missing import MAX_MISSING, UNBOUNDED, too_many_missing, vertices

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ShareOfChange:
    """A share of a change with its interval, or why there is none (`why`, empty where there is one).

    `change` is the denominator, goal minus origin, in units of the metric. `estimate` is None where the change is not
    clear, or where items or seeds are too few to say so. `barely`: the change is clear, but not by much; shares that are
    shown then lean towards "brought back", since an unlucky model at the origin makes both look large.
    """

    estimate: Estimate | None
    change: float
    why: str = ""
    barely: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        change: dict[str, Any] = {"change": self.change if math.isfinite(self.change) else None, "why": self.why}
        if self.estimate is None:
            return {
                "value": None,
                "low": None,
                "high": None,
                "n": 0,
                "n_missing": 0,
                "method": "",
                "barely": False,
                **change,
            }
        estimate = self.estimate
        return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n,
                "n_missing": estimate.n_missing, "method": estimate.method, "barely": self.barely, **change}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moments:
    """Two means and the covariance of their errors: numerator, denominator; `df` degrees of freedom behind them."""

    numerator: float
    denominator: float
    var_numerator: float
    covariance: float
    var_denominator: float
    df: int


def fieller(moments: Moments, confidence: float = 0.95) -> tuple[float, float] | None:
    """Between which values does the ratio of two means lie? None where the denominator is not clear of 0.

    All ratios q for which the t test of numerator - q * denominator = 0 does not reject. They are one interval exactly
    where the denominator differs from 0 at the same level; elsewhere they reach infinity, and nothing is said.

    Source: Fieller (1954), Some problems in interval estimation, JRSS B 16:175.

    >>> low, high = fieller(Moments(2.0, 4.0, 0.01, 0.0, 0.01, 1000))
    >>> f"{low:.3f} {high:.3f}"
    '0.446 0.556'
    """
    fraction(confidence, "confidence")
    t2 = t_quantile(confidence, moments.df) ** 2
    a = moments.denominator**2 - t2 * moments.var_denominator
    b = moments.numerator * moments.denominator - t2 * moments.covariance
    c = moments.numerator**2 - t2 * moments.var_numerator
    if a <= 0:
        return None
    root = max(b * b - a * c, 0.0) ** 0.5
    return (b - root) / a, (b + root) / a


def share_over_seeds(
    origin: Values, goal: Values, now: Values, *, higher: bool = True, confidence: float = 0.95
) -> ShareOfChange:
    """Which share of the change from origin to goal does `now` hold, on average over training seeds?

    All have shape [seeds], the means of the same items in every seed. The value is the ratio of the mean differences, not
    the mean of the ratios. `higher` says which way is better: goal must be the better end. One seed shows nothing; seeds
    whose differences are all the same have no spread, and give a value without an interval.

    Raises:
        UserError: no seeds, lists of different length, values that are not finite.

    Source: Fieller (1954), JRSS B 16:175.

    >>> share = share_over_seeds([0.1, 0.2, 0.1], [0.5, 0.6, 0.55], [0.3, 0.42, 0.34])
    >>> f"{share.estimate.value:.2f} [{share.estimate.low:.2f}, {share.estimate.high:.2f}]"
    '0.53 [0.46, 0.59]'
    """
    ends = [vector(values, "per-seed values") for values in (origin, goal, now)]
    same_length(ends[0], ends[1], "seeds")
    same_length(ends[0], ends[2], "seeds")
    numerator, denominator = ends[2] - ends[0], ends[1] - ends[0]
    count = numerator.size
    if count == 1:
        return ShareOfChange(None, float(denominator[0]), "one seed cannot show that the change is clear of 0")
    spread = np.cov(numerator, denominator, ddof=1) / count
    means = float(numerator.mean()), float(denominator.mean())
    moments = Moments(*means, float(spread[0, 0]), float(spread[0, 1]), float(spread[1, 1]), count - 1)
    return _share(moments, count, 0, f"Fieller over {count} seeds", higher=higher, confidence=confidence)


def share_over_answers(
    origin: NDArray[Any],
    goal: NDArray[Any],
    now: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    higher: bool = True,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    confidence: float = 0.95,
    max_missing: float = MAX_MISSING,
) -> ShareOfChange:
    """`share_over_seeds` from the items of every model.

    All have shape [seeds, items], NaN where there is no answer, the same items in the same order; weights too. The means
    are over the items that all models answered in every seed; items that no model answered say nothing. What else is
    missing is treated as in `share_over_items`; the worst case lets it be the least in one seed and the most in another,
    since that is what spreads seeds.
    """
    sides = [np.asarray(values, dtype=np.float64) for values in (origin, goal, now)]
    w = np.ones_like(sides[0]) if weights is None else np.asarray(weights, dtype=np.float64)
    nobody = ~np.any([np.isfinite(side).any(axis=0) for side in sides], axis=0)
    sides, w = [side[:, ~nobody] for side in sides], w[:, ~nobody]
    answered = np.all([np.isfinite(side).all(axis=0) for side in sides], axis=0)
    lost = int((~answered).sum())
    if not answered.any():
        return ShareOfChange(None, math.nan, "no item was answered by all three models in every seed")
    if why := too_many_missing(lost, answered.size, max_missing):
        return ShareOfChange(None, math.nan, why)
    if lost and bounds is None:
        return ShareOfChange(None, math.nan, f"{lost} items lack an answer, and {UNBOUNDED}")

    def share(first: Array, second: Array, third: Array) -> ShareOfChange:
        return share_over_seeds(first, second, third, higher=higher, confidence=confidence)

    observed = share(*((side[:, answered] * w[:, answered]).sum(axis=1) / w[:, answered].sum(axis=1) for side in sides))
    if not lost or observed.estimate is None or observed.estimate.low is None:
        return observed
    assert bounds is not None
    ends = [
        [(np.where(np.isfinite(side), side, fill) * w).sum(axis=1) / w.sum(axis=1) for fill in bounds] for side in sides
    ]
    open_ends = sum(int((lower != upper).sum()) for lower, upper in ends)
    if open_ends > MOST_OPEN:
        why = f"{lost} items lack an answer, in so many models that the worst case cannot be told"
        return ShareOfChange(None, observed.change, why)
    corners = product(*(list(vertices(lower, upper)) for lower, upper in ends))
    return _at_worst(observed, [share(*corner) for corner in corners], lost, answered.size)


def _at_worst(observed: ShareOfChange, worst: Sequence[ShareOfChange], lost: int, of: int) -> ShareOfChange:
    """A share with the union of its intervals at the worst of what is missing; none where some of these have none."""
    estimate = observed.estimate
    assert estimate is not None
    low, high = estimate.low, estimate.high
    for bound in (share.estimate for share in worst):
        if bound is None or bound.low is None or bound.high is None:
            why = f"{lost} of {of} items lack an answer, and counted against one side they leave no clear change"
            return ShareOfChange(None, observed.change, why)
        assert low is not None
        assert high is not None
        low, high = min(low, bound.low), max(high, bound.high)
    method = f"{estimate.method}; at worst for {lost} missing answers"
    return ShareOfChange(
        Estimate(estimate.value, low, high, estimate.n, lost, method=method), observed.change, barely=observed.barely
    )


def share_over_items(
    origin: Sequence[float | None],
    goal: Sequence[float | None],
    now: Sequence[float | None],
    groups: Sequence[str],
    *,
    weights: Values | None = None,
    higher: bool = True,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    cluster: str = "groups",
    confidence: float = 0.95,
    max_missing: float = MAX_MISSING,
) -> ShareOfChange:
    """Which share of the change from origin to goal does `now` hold, for these three models on other items like these?

    All have shape [items], the same items in the same order; `groups` names what items share (a template, a document), and
    errors are over groups (linearised, G / (G - 1)); fewer than ten show nothing. `weights` are the items'
    shares in the mean (tokens). `higher` says which way is better: goal must be the better end.

    An item without a value (None) under any of the three is left out; items that none of them answered say nothing. More
    than `max_missing` of them, or any at all where values have no `bounds`: nothing is testable. Fewer: the interval is the
    union of those with every missing value counted as the least and as the most, so that what is missing cannot flatter.

    Source: Fieller (1954), JRSS B 16:175; cluster-robust errors: Liang & Zeger (1986), Biometrika 73:13.
    """
    triples = list(zip(origin, goal, now, strict=True))
    answered_by_any = [at for at, values in enumerate(triples) if values != (None, None, None)]
    w = np.ones(len(triples)) if weights is None else vector(weights, "weights")
    origin, goal, now = ([side[at] for at in answered_by_any] for side in (origin, goal, now))
    groups, w = [groups[at] for at in answered_by_any], w[answered_by_any]
    answered_by_all = [None not in triples[at] for at in answered_by_any]
    lost = len(answered_by_all) - sum(answered_by_all)
    if not sum(answered_by_all):
        return ShareOfChange(None, math.nan, "no item was answered by all three models")
    if why := too_many_missing(lost, len(answered_by_all), max_missing):
        return ShareOfChange(None, math.nan, why)
    if lost and bounds is None:
        return ShareOfChange(None, math.nan, f"{lost} items lack an answer, and {UNBOUNDED}")
    complete = [at for at, is_complete in enumerate(answered_by_all) if is_complete]
    columns = [np.array([values[at] for at in complete], dtype=np.float64) for values in (origin, goal, now)]
    complete_groups = [groups[at] for at in complete]
    observed = _of_items(
        columns, w[complete], complete_groups, lost, higher=higher, cluster=cluster, confidence=confidence
    )
    if not lost or observed.estimate is None or observed.estimate.low is None:
        return observed
    assert bounds is not None
    worst = []
    for fills in product(bounds, repeat=3):
        filled = [
            np.array([fill if value is None else value for value in values], dtype=np.float64)
            for values, fill in zip((origin, goal, now), fills, strict=True)
        ]
        worst.append(_of_items(filled, w, list(groups), lost, higher=higher, cluster=cluster, confidence=confidence))
    return _at_worst(observed, worst, lost, len(answered_by_all))


NOTHING = "the change that it would be a share of is not clear of 0"
OTHER_SIDE = "the change that it would be a share of went the other way"
MOST_OPEN = 15
"""Means of models and seeds that missing answers leave open; their corners are counted."""
BARELY = 3.5
"""Standard errors; a change that is clear by less is barely so."""


def better(change: float, *, higher: bool) -> bool:
    """Is a change for the better?"""
    return change > 0 if higher else change < 0


def _of_items(
    columns: Sequence[Array], weights: Array, groups: Sequence[str], lost: int, *, higher: bool, cluster: str,
    confidence: float,
) -> ShareOfChange:  # fmt: skip
    """The share over items that all have values."""
    number = {name: at for at, name in enumerate(dict.fromkeys(groups))}
    index = np.array([number[name] for name in groups], dtype=np.int64)
    k = len(number)
    origin, goal, now = columns
    total = float(weights.sum())
    sides = [now - origin, goal - origin]
    means = [float((weights * side).sum() / total) for side in sides]
    grouped = k < index.size
    if k < MIN_TEMPLATES:
        cluster = cluster if grouped else "items"
        why = f"so few {cluster} cannot show that the change is clear of 0 ({k} < {MIN_TEMPLATES})"
        return ShareOfChange(None, means[1], why)
    errors = [
        np.bincount(index, weights=weights * (side - mean), minlength=k) / total
        for side, mean in zip(sides, means, strict=True)
    ]
    scale = k / (k - 1)
    rr, rl, ll = (float((a * b).sum()) * scale for a, b in ((errors[0], errors[0]), errors, (errors[1], errors[1])))
    moments = Moments(means[0], means[1], rr, rl, ll, k - 1)
    method = f"Fieller over {k} {cluster}" if grouped else "Fieller over items"
    end = next((name for name, values in (("origin", origin), ("goal", goal)) if np.array_equal(now, values)), "")
    no_spread = f"not one item differs from the {end}: no interval" if end else ""
    return _share(moments, index.size, lost, method, higher=higher, confidence=confidence, no_spread=no_spread)


def _share(
    moments: Moments, n: int, missing: int, method: str, *, higher: bool, confidence: float, no_spread: str = ""
) -> ShareOfChange:  # fmt: skip
    """The ratio with Fieller's interval, where its denominator is clear of 0 and has the right sign."""
    change = moments.denominator
    ends = fieller(moments, confidence)
    if ends is None:
        return ShareOfChange(None, change, NOTHING)
    if not better(change, higher=higher):
        return ShareOfChange(None, change, OTHER_SIDE)
    value = moments.numerator / change + 0.0
    if no_spread:
        return ShareOfChange(Estimate(value, None, None, n, missing, method=no_spread), change)
    if moments.var_numerator <= 1e-24 and moments.var_denominator <= 1e-24:
        return ShareOfChange(Estimate(value, None, None, n, missing, method="no spread: no interval"), change)
    barely = change**2 < BARELY**2 * moments.var_denominator
    return ShareOfChange(
        Estimate(value, *ends, n, missing, confidence=confidence, method=method), change, barely=barely
    )
