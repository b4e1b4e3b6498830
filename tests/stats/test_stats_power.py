"""How many seeds: textbook values, limiting cases, and what is refused. `test_stats_simulation` checks by drawing."""

import math
from itertools import pairwise

import pytest
from scipy import stats

from pyrite.errors import UserError
from pyrite.stats import sd_from_pilot, seeds_needed
from pyrite.stats.power import _difference_power, _equivalence_power


def test_textbook_sample_size() -> None:
    """A paired t test for half an SD, 80 % power, 5 % two-sided: 34 pairs (Cohen 1988, and every power program)."""
    needed = seeds_needed(0.02, effect=-0.01, margin=None)
    assert (needed.for_difference, needed.for_equivalence) == (34, None)


def test_one_degree_of_freedom_by_hand() -> None:
    """Two seeds, nothing to find: the right direction is called in half of alpha."""
    assert _difference_power(2, 1e-9, 0.05) == pytest.approx(0.025)


def test_equivalence_power_with_two_seeds_by_hand() -> None:
    """With 1 df, s / sigma = |Z'|: P(|Z| + t |Z'| < c), c = w sqrt(2), t = 6.313752; here w = 10 by a plain sum."""
    c, t = 10 * math.sqrt(2), stats.t.ppf(0.95, 1)
    step = 1e-4
    slow = (
        sum(
            (2 * stats.norm.cdf(c - t * u) - 1) * 2 * math.exp(-u * u / 2) / math.sqrt(2 * math.pi) * step
            for u in [step * (i + 0.5) for i in range(0, int(c / t / step), 50)]
        )
        * 50
    )
    assert _equivalence_power(2, 10.0, 0.05) == pytest.approx(slow, abs=2e-3)


def test_equivalence_meets_the_normal_approximation_on_many_seeds() -> None:
    """Large n: n = ((z_0.95 + z_0.90) / w)^2 = (2.926405 / 0.1)^2 = 856.4, plus about one for t."""
    needed = seeds_needed(1.0, effect=None, margin=0.1)
    assert needed.for_difference is None
    assert needed.for_equivalence in (857, 858, 859)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("size", [0.1, 0.6, 1.0, 3.0])
def test_power_only_grows_with_seeds_where_it_matters(size: float, alpha: float) -> None:
    """Bisection needs it from one half on; below, a power may fall (equivalence, 2 to 3 seeds) but stays below."""
    for power_at in (_difference_power, _equivalence_power):
        powers = [power_at(n, size, alpha) for n in range(2, 40)]
        reached = [p for p in powers if p >= 0.5]
        assert reached == powers[len(powers) - len(reached) :]
        assert all(0 <= a <= b + 1e-9 <= 1 + 1e-6 for a, b in pairwise(reached))


def test_the_answer_depends_on_ratios_only_and_is_the_smallest() -> None:
    a = seeds_needed(0.02, effect=0.02, margin=0.03)
    b = seeds_needed(2.0, effect=2.0, margin=3.0)
    assert (a.for_difference, a.for_equivalence) == (b.for_difference, b.for_equivalence)
    assert a.for_difference is not None
    assert a.for_equivalence is not None
    assert _difference_power(a.for_difference, 1.0, 0.05) >= 0.8 > _difference_power(a.for_difference - 1, 1.0, 0.05)
    assert (
        _equivalence_power(a.for_equivalence, 1.5, 0.05) >= 0.8 > _equivalence_power(a.for_equivalence - 1, 1.5, 0.05)
    )


def test_limits_two_seeds_at_least_and_none_beyond_the_maximum() -> None:
    easy = seeds_needed(1e-6, effect=1.0, margin=1.0)
    assert (easy.for_difference, easy.for_equivalence) == (2, 2)
    hard = seeds_needed(1.0, effect=0.01, margin=0.01, max_seeds=50)
    assert (hard.for_difference, hard.for_equivalence) == (None, None)


@pytest.mark.parametrize(
    ("sd", "settings"),
    [
        (0.0, {"effect": 0.1, "margin": None}),
        (math.nan, {"effect": 0.1, "margin": None}),
        (0.1, {"effect": None, "margin": None}),
        (0.1, {"effect": 0.0, "margin": None}),
        (0.1, {"effect": None, "margin": -0.1}),
        (0.1, {"effect": 0.1, "margin": None, "power": 1.0}),
        (0.1, {"effect": 0.1, "margin": None, "power": 0.3}),
        (0.1, {"effect": 0.1, "margin": None, "max_seeds": 1}),
    ],
)
def test_questions_without_an_answer_are_refused(sd: float, settings: dict[str, float | None]) -> None:
    with pytest.raises(UserError):
        seeds_needed(sd, **settings)  # type: ignore[arg-type]


def test_pilot_sd_by_hand() -> None:
    """-0.01, 0, 0.01: s = 0.01. With 2 df the 20 % point of chi-square is -2 ln 0.8 = 0.446287.

    upper = 0.01 * sqrt(2 / 0.446287) = 0.0211693
    """
    sd, upper = sd_from_pilot([-0.01, 0.0, 0.01])
    assert sd == pytest.approx(0.01)
    assert upper == pytest.approx(0.01 * math.sqrt(2 / (-2 * math.log(0.8))))


@pytest.mark.parametrize("pilot", [[], [0.1], [0.1, 0.1, 0.1], [0.1, math.nan]])
def test_a_pilot_without_spread_is_refused(pilot: list[float]) -> None:
    with pytest.raises(UserError):
        sd_from_pilot(pilot)
