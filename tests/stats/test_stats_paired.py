"""Two sides on the same seeds or items: values by hand, equality with scipy, degenerate input."""

import math

import numpy as np
import pytest
from scipy import stats

from pyrite.errors import UserError
from pyrite.stats import gap, mcnemar, paired_t, paired_t_pvalue, tost, wilson_difference
from pyrite.stats.paired import Alternative


def test_paired_t_by_hand() -> None:
    """-0.04, -0.02, -0.03: mean -0.03, s = 0.01, half = 4.302653 * 0.01 / sqrt(3) = 0.024841."""
    d = paired_t([-0.04, -0.02, -0.03], n_missing=1)
    assert (d.value, d.low, d.high) == pytest.approx((-0.03, -0.054841, -0.005159), abs=1e-6)
    assert (d.n, d.n_missing, d.method) == (3, 1, "paired t")


def test_pvalue_by_hand() -> None:
    """The same three: t = -0.03 / (0.01 / sqrt(3)) = -sqrt(27), 2 df.

    With 2 df, P(T < t) = (1 + t / sqrt(2 + t^2)) / 2 = (1 - sqrt(27 / 29)) / 2 = 0.017549; two-sided 0.035099.
    """
    d = [-0.04, -0.02, -0.03]
    assert paired_t_pvalue(d) == pytest.approx(1 - math.sqrt(27 / 29))
    assert paired_t_pvalue(d, alternative="less") == pytest.approx((1 - math.sqrt(27 / 29)) / 2)
    assert paired_t_pvalue(d, alternative="greater") == pytest.approx((1 + math.sqrt(27 / 29)) / 2)


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_pvalue_equals_scipy(alternative: Alternative) -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 10):
        d = rng.normal(0.3, 1, n)
        slow = stats.ttest_1samp(d, 0.1, alternative=alternative).pvalue
        assert paired_t_pvalue(d, 0.1, alternative) == pytest.approx(slow)


def test_identical_differences_get_the_sign_test_not_certainty() -> None:
    """Three seeds on the same side: 0.5^3 = 0.125 one-sided, 0.25 two-sided; five seeds 0.0625."""
    d = [0.81 - 0.83, 0.71 - 0.73, 0.61 - 0.63]
    assert paired_t_pvalue(d) == 0.25
    assert paired_t_pvalue(d, alternative="less") == 0.125
    assert paired_t_pvalue(d, alternative="greater") == 1.0
    assert paired_t_pvalue([-0.02] * 5) == 0.0625
    assert paired_t_pvalue(d, null=-0.02) == 1.0
    assert paired_t_pvalue([0.0] * 3) == 1.0


@pytest.mark.parametrize("d", [[], [0.1], [0.1, math.nan]])
def test_pvalue_needs_two_numbers(d: list[float]) -> None:
    with pytest.raises(UserError):
        paired_t_pvalue(d)


def test_pvalue_names_an_unknown_alternative() -> None:
    with pytest.raises(UserError, match="both"):
        paired_t_pvalue([0.1, 0.2], alternative="both")  # type: ignore[arg-type]


def test_tost_by_hand() -> None:
    """-0.01, 0, 0.01 with margin 0.03: mean 0, se = 0.01 / sqrt(3), both t = sqrt(27): p = 0.017549 as above."""
    assert tost([-0.01, 0.0, 0.01], 0.03) == pytest.approx((1 - math.sqrt(27 / 29)) / 2)


def test_tost_takes_the_worse_side_and_mirrors() -> None:
    d = np.array([0.004, 0.010, 0.007, 0.012])
    assert tost(d, 0.02) == pytest.approx(stats.ttest_1samp(d, 0.02, alternative="less").pvalue)
    assert tost(-d, 0.02) == pytest.approx(tost(d, 0.02))
    assert tost(d, 0.005) > 0.5


def test_tost_of_identical_differences() -> None:
    """Inside the margin the sign test gives 0.5^3; on the margin or outside there is no evidence at all."""
    assert tost([0.0] * 3, 0.02) == 0.125
    assert tost([0.02] * 3, 0.02) == 1.0
    assert tost([0.05] * 3, 0.02) == 1.0


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_tost_needs_a_margin(margin: float) -> None:
    with pytest.raises(UserError):
        tost([0.1, 0.2], margin)


def test_mcnemar_by_hand() -> None:
    """Only a right: 6, only b right: 1. Two-sided: 2 * P(X >= 6 of 7) = 2 * (7 + 1) / 128 = 0.125."""
    a = [1] * 6 + [0] + [1, 1, 0]
    b = [0] * 6 + [1] + [1, 1, 0]
    result = mcnemar(a, b)
    assert (result.only_a, result.only_b) == (6, 1)
    assert result.p_value == pytest.approx(0.125)
    assert mcnemar(b, a).p_value == pytest.approx(0.125)


def test_mcnemar_of_the_same_answers_is_one() -> None:
    assert mcnemar([True, False], [True, False]).p_value == 1.0


def test_newcombe_by_hand() -> None:
    """50 items: both 20, only a 10, only b 0, neither 20; difference 0.2.

    Wilson 30/50 = [0.461814, 0.723916] and 20/50 = [0.276084, 0.538186]: 0.138186 towards 1/2, 0.123916 away.
    phi = (20 * 20 - 10 * 0 - 50 / 2) / sqrt(30 * 20 * 20 * 30) = 375 / 600 = 0.625
    low = 0.2 - sqrt(0.138186^2 * (2 - 2 * 0.625)) = 0.2 - 0.138186 * sqrt(0.75) = 0.080328
    high = 0.2 + 0.123916 * sqrt(0.75) = 0.307314
    """
    d = wilson_difference([1] * 30 + [0] * 20, [1] * 20 + [0] * 30)
    assert (d.value, d.low, d.high) == pytest.approx((0.2, 0.080328, 0.307314), abs=2e-6)
    assert (d.n, d.method) == (50, "Newcombe paired")


def test_newcombe_agrees_with_published_intervals_on_many_items() -> None:
    """Approval of a prime minister, 794/150/86/570 (Agresti, Categorical Data Analysis, 10.1): [0.021, 0.059]."""
    a = np.repeat([1, 1, 0, 0], [794, 150, 86, 570])
    b = np.repeat([1, 0, 1, 0], [794, 150, 86, 570])
    d = wilson_difference(a, b)
    assert (d.value, d.low, d.high) == pytest.approx((0.04, 0.021, 0.059), abs=1e-3)


def test_newcombe_mirrors_and_ignores_item_order() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    order = rng.permutation(40)
    d, shuffled, swapped = wilson_difference(a, b), wilson_difference(a[order], b[order]), wilson_difference(b, a)
    assert d == shuffled
    assert d.low is not None
    assert d.high is not None
    assert (swapped.low, swapped.high) == pytest.approx((-d.high, -d.low))


def test_newcombe_at_the_edges() -> None:
    equal = wilson_difference([1] * 10, [1] * 10)
    assert equal.low is not None
    assert equal.high is not None
    assert equal.low < 0 < equal.high
    opposite = wilson_difference([1] * 10, [0] * 10)
    assert opposite.value == 1.0
    assert opposite.high == pytest.approx(1.0)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1, 0], [1]), ([2, 0], [1, 0])])
def test_item_results_must_pair_and_be_right_or_wrong(a: list[int], b: list[int]) -> None:
    with pytest.raises(UserError):
        mcnemar(a, b)
    with pytest.raises(UserError):
        wilson_difference(a, b)


def test_gap_by_hand() -> None:
    """Seed 1: (0.80 - 0.82) - (0.30 - 0.50) = 0.18. Seed 2: both fell by 0.1: 0. Seed 3: only the blind spot rose."""
    opened = gap([0.80, 0.70, 0.8], [0.30, 0.40, 0.6], [0.82, 0.80, 0.8], [0.50, 0.50, 0.5])
    assert opened == pytest.approx([0.18, 0.0, -0.1])


def test_gap_changes_sign_with_its_sides() -> None:
    rows = np.random.default_rng(2).random((4, 5))
    assert gap(rows[2], rows[3], rows[0], rows[1]) == pytest.approx(-gap(*rows))
    assert gap(rows[0], rows[1], rows[0], rows[1]) == pytest.approx(np.zeros(5))


def test_gap_needs_the_same_seeds_everywhere() -> None:
    with pytest.raises(UserError):
        gap([0.1, 0.2], [0.1, 0.2], [0.1], [0.1, 0.2])
    with pytest.raises(UserError):
        gap([], [], [], [])
