"""How many seeds does a question need?"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from scipy import integrate, special, stats

from pyrite.errors import UserError
from pyrite.stats._checks import Values, fraction, no_spread, positive, vector


@dataclass(frozen=True, slots=True)
class SeedsNeeded:
    """The smallest numbers of seeds that reach `power`; None where not asked, or where `max_seeds` do not suffice.

    `effect` and `margin` tell the two apart: they are None where the question was not asked.
    """

    for_difference: int | None
    for_equivalence: int | None
    sd: float
    effect: float | None
    margin: float | None
    power: float
    alpha: float
    max_seeds: int


class PilotSd(NamedTuple):
    """A pilot's standard deviation of per-seed differences, and an 80 % upper bound on the true one."""

    sd: float
    upper: float


def seeds_needed(
    sd: float,
    *,
    effect: float | None,
    margin: float | None,
    power: float = 0.8,
    alpha: float = 0.05,
    max_seeds: int = 1000,
) -> SeedsNeeded:
    """How many seeds find a difference of `effect`, or show that there is none as large as `margin`?

    `sd` is the standard deviation of per-seed paired differences, in the units of `effect` and `margin`; pass the
    upper bound of `sd_from_pilot` to be on the safe side, and alpha divided by the number of primary contrasts where
    Holm will be applied. At least two seeds.

    Both powers are exact for normal differences. Difference: the two-sided paired t test, noncentral t, counting only
    calls in the right direction. Equivalence: both one-sided tests of `tost` at a true difference of 0, integrated
    over the chi distribution of the sample SD (for which a product of two one-sided powers is only an approximation).

    Raises:
        UserError: neither effect nor margin given, an SD of 0, or settings out of range.

    Source: Owen (1965), Biometrika 52:437; Phillips (1990), J. Pharmacokinetics and Biopharmaceutics 18:137.

    >>> seeds_needed(0.02, effect=0.02, margin=0.02).for_difference
    10
    """
    positive(sd, "sd")
    fraction(alpha, "alpha")
    if not 0.5 <= power < 1:
        raise UserError("`power` must lie between 0.5 and 1.", f"{power}", "Pass for example power=0.8.")
    if effect is None and margin is None:
        raise UserError(
            "There is no question to size.", "effect and margin are None", "Pass an effect, a margin or both."
        )
    if max_seeds < 2:
        raise UserError("A comparison needs at least two seeds.", f"max_seeds = {max_seeds}", "Pass max_seeds >= 2.")
    for_difference = for_equivalence = None
    if effect is not None:
        size = abs(effect) / sd
        positive(size, "effect")
        for_difference = _smallest(lambda n: _difference_power(n, size, alpha), power, max_seeds)
    if margin is not None:
        positive(margin, "margin")
        width = margin / sd
        for_equivalence = _smallest(lambda n: _equivalence_power(n, width, alpha), power, max_seeds)
    return SeedsNeeded(for_difference, for_equivalence, sd, effect, margin, power, alpha, max_seeds)


def sd_from_pilot(differences: Values) -> PilotSd:
    """How much do seeds differ, judged from a pilot, and how much might they differ at worst?

    `differences` has shape [seeds], at least two. `upper` is the one-sided 80 % bound: a pilot this small
    understates the true SD by more than that in one case of five. It is wide for few seeds (3 seeds: 2.1 times the SD),
    and assumes normal differences.

    Raises:
        UserError: fewer than two differences, some that are not finite, or all identical.

    Source: (n - 1) s^2 / sigma^2 is chi-square; Browne (1995), Statistics in Medicine 14:1933 (the 80 % bound).

    >>> sd, upper = sd_from_pilot([-0.01, 0.0, 0.01])
    >>> round(sd, 4), round(upper, 4)
    (0.01, 0.0212)
    """
    x = vector(differences, "pilot differences")
    if x.size < 2 or no_spread(x):
        raise UserError(
            "This pilot does not show how much seeds differ.",
            "1 seed" if x.size < 2 else f"the same difference in all {x.size} seeds",
            "Run more pilot seeds, or measure on more items.",
        )
    df = x.size - 1
    sd = float(x.std(ddof=1))
    return PilotSd(sd, sd * float((df / stats.chi2.ppf(0.2, df)) ** 0.5))


def _smallest(power_at: Callable[[int], float], power: float, max_seeds: int) -> int | None:
    """The smallest n in 2..max_seeds with power_at(n) >= power, found by bisection.

    That works because the powers grow with n wherever they matter: only a power of equivalence of a few percent may
    first fall, and `power` is at least one half.
    """
    sizes = range(2, max_seeds + 1)
    index = bisect_left(sizes, power, key=power_at)
    return sizes[index] if index < len(sizes) else None


def _difference_power(n: int, size: float, alpha: float) -> float:
    """How often do n seeds show a true difference of `size` SDs, in its own direction?"""
    critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
    return float(stats.nct.sf(critical, n - 1, size * n**0.5))


def _equivalence_power(n: int, width: float, alpha: float) -> float:
    """How often do n seeds show equivalence within `width` SDs when the true difference is 0?

    With u = s / sigma, equivalence is shown where |mean| < margin - t s / sqrt(n), that is, given u, with probability
    2 Phi(width sqrt(n) - t u) - 1, for u below width sqrt(n) / t; u sqrt(df) is chi(df).
    """
    df = n - 1
    critical = float(special.stdtrit(df, 1 - alpha))
    reach = width * n**0.5
    scale = df**-0.5
    low, high = stats.chi.ppf([1e-13, 1 - 1e-13], df) * scale

    def density(u: float) -> float:
        return float((2 * special.ndtr(reach - critical * u) - 1) * stats.chi.pdf(u / scale, df) / scale)

    end = min(reach / critical, float(high))
    return float(integrate.quad(density, float(low), end, limit=200)[0]) if end > low else 0.0
