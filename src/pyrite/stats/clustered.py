"""How sure is one fixed model's mean, and the change between two fixed models, over items of which some are alike?

These speak of the very models that were measured; other training seeds are another question (`judge`). Items of one
group (a template, the prompt of several instructions, a document) are alike, so groups are resampled, not items.
Letters in names: G groups, P sums that are resampled, R resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pyrite.errors import UserError
from pyrite.records import Direction, Estimate
from pyrite.stats._checks import Values, no_spread, positive, same_length, vector
from pyrite.stats.bootstrap import MIN_TEMPLATES
from pyrite.stats.equivalence import tost
from pyrite.stats.intervals import mean_over_seeds, t_quantile, wilson
from pyrite.stats.paired import mcnemar, paired_t_pvalue, wilson_difference

RESAMPLES = 2000
_AT_ONCE = 4_000_000
"""Resampled counts that are held in memory together."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """Second model minus first, with the p-values of "no difference" and of "as large as the margin or larger".

    A p-value is None where none can be given: fewer than ten groups, one item, or (equivalence) no margin.
    """

    difference: Estimate
    p_difference: float | None
    p_equivalence: float | None


def mean_of_items(
    values: Values,
    groups: Sequence[str],
    *,
    rng: np.random.Generator,
    weights: Values | None = None,
    share: bool = False,
    grouped: bool = False,
    n_missing: int = 0,
    confidence: float = 0.95,
    direction: Direction = "higher",
    cluster: str = "groups",
    resamples: int = RESAMPLES,
) -> Estimate:
    """What is one fixed model's mean over items, and where would it lie for more items, or groups, like these?

    `values`, `groups` and `weights` have shape [items]; `share` says that every value is 0 or 1; `grouped` that
    the items were drawn from some that come in groups, so that fewer than ten groups give no interval even where each
    holds one item; `cluster` is what groups are called in `method`. The value is sum(weight * value) / sum(weight).

    Every item its own group and no weights: Wilson for a share, t over items for a real value. Otherwise groups are
    resampled as in `cluster_bootstrap` (standard error times sqrt(G / (G - 1)), t with G - 1 degrees of freedom; fewer
    than ten groups give no interval), of the ratio of resampled sums. An interval of a share is cut at 0 and 1.

    Where a share is 0 (or 1) in every group, resampling shows no spread, yet the model that gets nothing right is the
    one that a gate must be able to tell. Then each group counts as one item of a Wilson interval, as if its items
    always fell together; groups of unequal weight count for fewer, (sum w)^2 / sum w^2 rounded down.

    Raises:
        UserError: no items, lists of different length, values that are not finite, weights that are not above 0.

    Source: Davison & Hinkley (1997), Bootstrap Methods and their Application, section 3.8 (clusters), 2.4 (a ratio);
    Kish (1965), Survey Sampling, section 11.7 (how many equal weights unequal ones are worth).

    >>> mean_of_items([1, 0, 1, 1], list("abcd"), rng=np.random.default_rng(0), share=True).method
    'Wilson'
    """
    x, w, index_I = _items(values, weights, groups, share)
    k = int(index_I.max()) + 1
    alone = k == x.size and no_spread(w) and not (grouped and k < MIN_TEMPLATES)
    if alone and share:
        right = int(x.sum())
        return wilson(right, x.size, n_missing=n_missing, confidence=confidence, direction=direction)
    if alone:
        return _t_over_items(x, "t over items", n_missing, confidence, direction)
    sums_GP = _sums(index_I, w * x, w)
    value = float(sums_GP[:, 0].sum() / sums_GP[:, 1].sum())
    none = Estimate(value, None, None, x.size, n_missing, direction, confidence)
    if k < MIN_TEMPLATES:
        return replace(none, method=_too_few(k, cluster))
    error = _standard_error(sums_GP, lambda s: s[..., 0] / s[..., 1], rng, resamples)
    if error == 0 and share and no_spread(x):
        counted = _worth(sums_GP[:, 1])
        bounds = wilson(round(value) * counted, counted, confidence=confidence)
        return replace(none, low=bounds.low, high=bounds.high, method=f"Wilson, {counted} {cluster} counted once each")
    if error == 0:
        return replace(none, method=f"identical in all {k} {cluster}: no interval")
    half = t_quantile(confidence, k - 1) * error
    low, high = value - half, value + half
    if share:
        low, high = max(low, 0.0), min(high, 1.0)
    return replace(none, low=low, high=high, method=f"bootstrap over {k} {cluster}")


def change_of_items(
    first: Values,
    second: Values,
    groups: Sequence[str],
    *,
    rng: np.random.Generator,
    margin: float | None = None,
    first_weights: Values | None = None,
    second_weights: Values | None = None,
    share: bool = False,
    grouped: bool = False,
    n_missing: int = 0,
    confidence: float = 0.95,
    direction: Direction = "higher",
    cluster: str = "groups",
    resamples: int = RESAMPLES,
) -> Change:
    """By how much does the second of two fixed models differ from the first on the same items, and is that chance?

    All rows have shape [items], the same items in the same order; `margin` is in units of the values; the rest is as in
    `mean_of_items`. The difference is the second mean minus the first, each weighted by its own weights (two models may cut a text into other tokens).

    Every item its own group and no weights: Newcombe's interval and McNemar's exact test for a share, paired t for a
    real value. Otherwise groups are resampled, both models' items together, as in `mean_of_items`. The p-value of
    equivalence is the smallest alpha at which the 1 - 2 alpha interval lies within the margin (two one-sided tests);
    for Newcombe's interval it is found by bisection, between 1e-6 and 0.5, and said as 1 above that.

    No spread between groups: where not one item changed, each group counts as one item that could have, and the
    difference lies within the Wilson bound of 0 changed; otherwise there is no interval, and the sign test speaks, as
    in `paired_t_pvalue`.

    Raises:
        UserError: no items, lists of different length, values that are not finite, weights or a margin not above 0.

    Source: Newcombe (1998); McNemar (1947); Schuirmann (1987); Davison & Hinkley (1997), section 3.8.

    >>> a, b, items = [0] * 20 + [1] * 20, [1] * 8 + [0] * 12 + [1] * 20, [str(i) for i in range(40)]
    >>> change = change_of_items(a, b, items, rng=np.random.default_rng(0), share=True)
    >>> change.difference.value, change.p_difference
    (0.2, 0.0078125)
    """
    if margin is not None:
        positive(margin, "margin")
    a, wa, index_I = _items(first, first_weights, groups, share)
    b, wb, _ = _items(second, second_weights, groups, share)
    k = int(index_I.max()) + 1
    if k == a.size and no_spread(wa) and no_spread(wb) and not (grouped and k < MIN_TEMPLATES):
        return _alone(a, b, share, margin, n_missing, confidence, direction)
    sums_GP = _sums(index_I, wa * a, wa, wb * b, wb)
    value = float(_ratio_change(sums_GP.sum(axis=0)))
    none = Estimate(value, None, None, a.size, n_missing, direction, confidence)
    if k < MIN_TEMPLATES:
        return Change(replace(none, method=_too_few(k, cluster)), None, None)
    error = _standard_error(sums_GP, _ratio_change, rng, resamples)
    if error > 0:
        half = t_quantile(confidence, k - 1) * error
        low, high = value - half, value + half
        if share:
            low, high = max(low, -1.0), min(high, 1.0)
        estimate = replace(none, low=low, high=high, method=f"paired bootstrap over {k} {cluster}")
        p_difference = 2 * float(special.stdtr(k - 1, -abs(value) / error))
        p_equivalence = None if margin is None else float(special.stdtr(k - 1, (abs(value) - margin) / error))
        return Change(estimate, p_difference, p_equivalence)
    if share and np.array_equal(a, b) and np.allclose(wa, wb):
        counted = _worth(sums_GP[:, 1])

        def reach(level: float) -> tuple[float, float]:
            high = wilson(0, counted, confidence=level).high
            assert high is not None
            return -high, high

        low, high = reach(confidence)
        method = f"no item changed: Wilson, {counted} {cluster} counted once each"
        within = None if margin is None else _smallest_alpha(reach, margin)
        return Change(replace(none, low=low, high=high, method=method), 1.0, within)
    equal_changes = np.full(k, value)
    within = None if margin is None else tost(equal_changes, margin)
    method = f"the same change in all {k} {cluster}: no interval"
    return Change(replace(none, method=method), paired_t_pvalue(equal_changes), within)


def _alone(
    a: Array, b: Array, share: bool, margin: float | None, n_missing: int, confidence: float, direction: Direction
) -> Change:
    """The change over items of which no two are alike."""
    if share:

        def newcombe(level: float) -> tuple[float, float]:
            estimate = wilson_difference(b, a, confidence=level)
            assert estimate.low is not None
            assert estimate.high is not None
            return estimate.low, estimate.high

        estimate = wilson_difference(b, a, n_missing=n_missing, confidence=confidence, direction=direction)
        within = None if margin is None else _smallest_alpha(newcombe, margin)
        return Change(estimate, mcnemar(a, b).p_value, within)
    difference = b - a
    estimate = _t_over_items(difference, "paired t over items", n_missing, confidence, direction)
    if difference.size < 2:
        return Change(estimate, None, None)
    return Change(estimate, paired_t_pvalue(difference), None if margin is None else tost(difference, margin))


def _smallest_alpha(interval: Callable[[float], tuple[float, float]], margin: float) -> float:
    """The smallest alpha, between 1e-6 and 0.5, at which the 1 - 2 alpha interval lies within the margin; else 1."""

    def inside(alpha: float) -> bool:
        low, high = interval(1 - 2 * alpha)
        return -margin < low and high < margin

    lowest, highest = 1e-6, 0.49
    if not inside(highest):
        return 1.0
    if inside(lowest):
        return lowest
    for _ in range(12):
        middle = (lowest * highest) ** 0.5
        lowest, highest = (lowest, middle) if inside(middle) else (middle, highest)
    return highest


def _items(
    values: Values, weights: Values | None, groups: Sequence[str], share: bool
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Values and weights as arrays [items], and each item's group as a number, groups in sorted order."""
    x = vector(values, "item values")
    odd = x[(x != 0) & (x != 1)]
    if share and odd.size:
        raise UserError(
            "A share is 0 or 1 on every item.", f"the value {odd[0]:g}", "Pass share=False for real values."
        )
    w = np.ones_like(x) if weights is None else vector(weights, "weights")
    same_length(x, w, "values and weights")
    if w.min() <= 0:
        raise UserError("A weight is a number above 0.", f"{w.min():g}", "Leave out items that weigh nothing.")
    if len(groups) != x.size:
        detail = f"{x.size} items, {len(groups)} group names"
        raise UserError(
            "Every item needs its group.", detail, "Pass one group name per item, in the order of the items."
        )
    number = {name: at for at, name in enumerate(sorted(set(groups)))}
    return x, w, np.array([number[name] for name in groups], dtype=np.int64)


def _sums(index_I: NDArray[np.int64], *parts: Array) -> Array:
    """The sum of each part within each group, shape [groups, parts]."""
    return np.stack([np.bincount(index_I, weights=part) for part in parts], axis=1).astype(np.float64)


def _ratio_change(sums: Array) -> Any:
    """Second ratio minus first, from sums [..., 4] of value and weight of either model."""
    return sums[..., 2] / sums[..., 3] - sums[..., 0] / sums[..., 1]


def _standard_error(sums_GP: Array, of: Callable[[Array], Any], rng: np.random.Generator, resamples: int) -> float:
    """The bootstrap standard error over groups of a function of their sums; 0 where draws differ by rounding only."""
    k = len(sums_GP)
    step = max(1, _AT_ONCE // k)
    draws = []
    for start in range(0, resamples, step):
        drawn_RG = rng.multinomial(k, np.full(k, 1 / k), size=min(step, resamples - start))
        draws.append(of(drawn_RG @ sums_GP))
    drawn_R = np.concatenate(draws)
    return 0.0 if no_spread(drawn_R) else float(drawn_R.std(ddof=1) * (k / (k - 1)) ** 0.5)


def _t_over_items(x: Array, method: str, n_missing: int, confidence: float, direction: Direction) -> Estimate:
    """The t interval of `mean_over_seeds`, in words of items."""
    estimate = mean_over_seeds(x, method, n_missing, confidence, direction)
    return replace(estimate, method=estimate.method.replace("seed", "item"))


def _worth(weight_G: Array) -> int:
    """How many groups of equal weight are these worth? At least one."""
    return max(1, int(weight_G.sum() ** 2 / (weight_G**2).sum() + 1e-9))


def _too_few(k: int, cluster: str) -> str:
    return f"these {cluster} only ({k} < {MIN_TEMPLATES})"
