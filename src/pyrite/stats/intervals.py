"""How sure is a single number: a share of items, or a mean over seeds?"""

from scipy import special, stats

from pyrite.errors import UserError
from pyrite.records import Direction, Estimate
from pyrite.stats._checks import Values, fraction, no_spread, vector


def wilson(
    successes: int,
    n: int,
    *,
    n_missing: int = 0,
    confidence: float = 0.95,
    direction: Direction = "higher",
) -> Estimate:
    """What share of independent items did one fixed model get right, and how sure is that?

    `n` counts the items that were scored; `n_missing` is only carried along. The interval is about more items like
    these, not about retraining the model.

    Raises:
        UserError: no items, or counts that cannot be.

    Source: Wilson (1927), JASA 22:209, eq. 3, without continuity correction.

    >>> share = wilson(8, 10)
    >>> f"{share.value:.2f} [{share.low:.3f}, {share.high:.3f}]"
    '0.80 [0.490, 0.943]'
    """
    fraction(confidence, "confidence")
    if n <= 0:
        raise UserError("A share needs at least one item.", f"n = {n}", "Check that the slice is not empty.")
    if not 0 <= successes <= n or n_missing < 0:
        raise UserError(
            "The counts do not fit together.",
            f"{successes} of {n}, {n_missing} missing",
            "Pass 0 <= successes <= n and n_missing >= 0.",
        )
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence_level=confidence, method="wilson")
    return Estimate(
        value=successes / n,
        low=float(interval.low),
        high=float(interval.high),
        n=int(n),
        n_missing=int(n_missing),
        direction=direction,
        confidence=confidence,
        method="Wilson",
    )


def t_interval(
    values: Values, *, n_missing: int = 0, confidence: float = 0.95, direction: Direction = "higher"
) -> Estimate:
    """What is the mean over training seeds, and where would the mean over many more seeds lie?

    `values` has shape [seeds], one number per seed; n - 1 degrees of freedom. `n_missing` counts seeds without a
    result. With one seed, or with the same value in every seed, there is no spread to build an interval from: `low`
    and `high` are None and `method` says so, rather than an interval of width 0.

    Raises:
        UserError: no values, or values that are not finite.

    Source: Student (1908), Biometrika 6:1.

    >>> mean = t_interval([0.70, 0.72, 0.74])
    >>> f"{mean.value:.2f} [{mean.low:.3f}, {mean.high:.3f}] {mean.method}"
    '0.72 [0.670, 0.770] t over seeds'
    """
    return mean_over_seeds(values, "t over seeds", n_missing, confidence, direction)


def mean_over_seeds(values: Values, method: str, n_missing: int, confidence: float, direction: Direction) -> Estimate:
    """The t interval behind `t_interval` and `paired_t`; `method` names it where an interval can be given."""
    fraction(confidence, "confidence")
    x = vector(values, "per-seed values")
    mean, low, high = float(x.mean()), None, None
    if x.size == 1:
        method = "one seed: no interval"
    elif no_spread(x):
        method = f"identical in all {x.size} seeds: no interval"
    else:
        half = t_quantile(confidence, x.size - 1) * float(x.std(ddof=1)) / x.size**0.5
        low, high = mean - half, mean + half
    return Estimate(mean, low, high, int(x.size), n_missing, direction, confidence, method)


def t_quantile(confidence: float, df: float) -> float:
    """How many standard errors wide is one half of a two-sided t interval?"""
    return float(special.stdtrit(df, (1 + confidence) / 2))
