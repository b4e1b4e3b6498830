"""How sure is a number when items come in templates: would it hold for other templates, and for other seeds?

Letters in names: S seeds, I items, T templates, R resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrite.errors import UserError
from pyrite.records import Direction, Estimate
from pyrite.stats._checks import Values, fraction, no_spread, require_finite, vector
from pyrite.stats.intervals import t_quantile

MIN_TEMPLATES = 10
"""With fewer templates no interval over templates is given."""


def crossed_bootstrap(
    differences: NDArray[Any],
    templates: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
    direction: Direction = "higher",
) -> Estimate:
    """How large is the difference over the items, and would it hold for other seeds *and* other templates?

    `differences` has shape [seeds, items]: arm minus comparison per item, the same items in every seed; `templates`
    has shape [items]. The value is the plain mean over both. `n` counts seeds, the unit of replication.

    Seeds and templates are crossed, so each is resampled on its own and a drawn template brings its items in every
    drawn seed. What is kept from the draws is not their percentiles but a standard error: the variance from drawing
    seeds, plus that from drawing templates, minus what both count twice (the seed-by-template part, the cross term of
    the joint draws), each multiplied by n / (n - 1), and never below either of the two alone; the interval is t with
    min(seeds, templates) - 1 degrees of freedom.

    Why so: over a grid of simulated variance mixes, 95 % intervals from the uncorrected joint variance and a normal
    quantile cover as little as 59 % at 2 seeds and 74 % at 3, and Satterthwaite degrees of freedom 87 % and 92 %; this
    one covered 94 % at worst at 2, 3, 5 and 10 seeds. The price is a needlessly wide interval (coverage near 100 %)
    where seeds are few and hardly differ.

    No interval, and `method` says why: fewer than 10 templates, one seed, or no spread at all.

    Raises:
        UserError: no seeds, no items, values that are not finite, or a template list of another length.

    Source: Owen (2007), "The pigeonhole bootstrap", Annals of Applied Statistics 1:386 (resampling both factors; its
    joint variance counts the interaction up to three times, hence the subtraction); Cameron, Gelbach & Miller (2011),
    JBES 29:238, eq. 2.11 (sum minus intersection).
    """
    fraction(confidence, "confidence")
    d_SI = np.asarray(differences, dtype=np.float64)
    if d_SI.ndim != 2 or d_SI.size == 0:
        raise UserError(
            "Differences must be a table of seeds by items.",
            f"an array of shape {d_SI.shape}",
            "Pass one row per seed and one column per item, at least one of each.",
        )
    require_finite(d_SI, "differences")
    sum_ST, count_T = _by_template(d_SI, templates)
    seeds, k = sum_ST.shape
    value = float(d_SI.mean())
    if k < MIN_TEMPLATES:
        return _no_interval(value, seeds, direction, confidence, f"these templates only ({k} < {MIN_TEMPLATES})")
    if seeds == 1:
        return _no_interval(value, seeds, direction, confidence, "one seed: no interval")
    _check_resamples(resamples)

    drawn_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    drawn_RT = rng.multinomial(k, np.full(k, 1 / k), size=resamples)
    items_R = drawn_RT @ count_T
    only_seeds_R = drawn_RS @ sum_ST.sum(axis=1) / (seeds * count_T.sum())
    only_templates_R = drawn_RT @ sum_ST.sum(axis=0) / (seeds * items_R)
    joint_R = ((drawn_RS @ sum_ST) * drawn_RT).sum(axis=1) / (seeds * items_R)
    cross_R = joint_R - only_seeds_R - only_templates_R

    more_seeds, more_templates = seeds / (seeds - 1), k / (k - 1)
    from_seeds = _variance(only_seeds_R) * more_seeds
    from_templates = _variance(only_templates_R) * more_templates
    counted_twice = _variance(cross_R) * more_seeds * more_templates
    variance = max(from_seeds + from_templates - counted_twice, from_seeds, from_templates)
    if variance == 0:
        return _no_interval(value, seeds, direction, confidence, "identical in all seeds and templates: no interval")
    half = t_quantile(confidence, min(seeds, k) - 1) * variance**0.5
    method = f"crossed bootstrap ({seeds} seeds x {k} templates)"
    return Estimate(value, value - half, value + half, seeds, 0, direction, confidence, method)


def cluster_bootstrap(
    correct: Values,
    templates: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
    n_missing: int = 0,
    direction: Direction = "higher",
) -> Estimate:
    """How well does one fixed model do on these items, and would that hold for other templates?

    `correct` has shape [items] (1/0, or any score per item), `templates` the same. Items of a template rise and fall
    together, so templates are resampled, not items. The interval is the bootstrap standard error, times
    sqrt(T / (T - 1)), with a t quantile of T - 1 degrees of freedom; it is cut at 0 and 1 where all scores lie between.
    Percentiles of the draws were tried and cover 90 % at 10 templates and 92 % at 20, where this covers 94 %. `n`
    counts items.

    No interval, and `method` says why: fewer than 10 templates, or no spread between them.

    Raises:
        UserError: no items, scores that are not finite, or a template list of another length.

    Source: Davison & Hinkley (1997), Bootstrap Methods and their Application, section 3.8; Cameron, Gelbach & Miller
    (2008), Review of Economics and Statistics 90:414 (few clusters).
    """
    fraction(confidence, "confidence")
    x_I = vector(correct, "item scores")
    sum_1T, count_T = _by_template(x_I[None, :], templates)
    n, k = int(x_I.size), int(count_T.size)
    value = float(x_I.mean())
    if k < MIN_TEMPLATES:
        method = f"these templates only ({k} < {MIN_TEMPLATES})"
        return _no_interval(value, n, direction, confidence, method, n_missing)
    _check_resamples(resamples)
    drawn_RT = rng.multinomial(k, np.full(k, 1 / k), size=resamples)
    variance = _variance(drawn_RT @ sum_1T[0] / (drawn_RT @ count_T)) * k / (k - 1)
    if variance == 0:
        return _no_interval(value, n, direction, confidence, "identical in all templates: no interval", n_missing)
    half = t_quantile(confidence, k - 1) * variance**0.5
    low, high = value - half, value + half
    if x_I.min() >= 0 and x_I.max() <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(value, low, high, n, n_missing, direction, confidence, f"bootstrap over {k} templates")


def _by_template(x_SI: NDArray[np.float64], templates: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums per seed and template [S, T] and items per template [T], templates in sorted order."""
    names = np.asarray(templates, dtype=np.str_)
    if names.shape != x_SI.shape[1:]:
        raise UserError(
            "Every item needs its template.",
            f"{x_SI.shape[1]} items, {names.size} template names",
            "Pass one template name per item, in the order of the items.",
        )
    distinct, index_I = np.unique(names, return_inverse=True)
    sum_ST = np.stack([np.bincount(index_I, weights=row, minlength=len(distinct)) for row in x_SI], dtype=np.float64)
    return sum_ST, np.bincount(index_I, minlength=len(distinct)).astype(np.int64)


def _variance(draws_R: NDArray[np.float64]) -> float:
    """Variance of the draws; exactly 0 where they differ by rounding only."""
    return 0.0 if no_spread(draws_R) else float(draws_R.var(ddof=1))


def _check_resamples(resamples: int) -> None:
    if resamples < 100:
        raise UserError("Too few resamples for an interval.", f"{resamples}", "Pass at least 100; 2000 is the default.")


def _no_interval(
    value: float, n: int, direction: Direction, confidence: float, method: str, n_missing: int = 0
) -> Estimate:
    return Estimate(value, None, None, n, n_missing, direction, confidence, method)
