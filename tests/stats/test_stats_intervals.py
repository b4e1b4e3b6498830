"""Intervals for one number: values by hand, limiting cases, degenerate input."""

import math

import numpy as np
import pytest
from scipy import stats

from pyrite.errors import UserError
from pyrite.stats import t_interval, wilson


def test_wilson_by_hand() -> None:
    """8 of 10, z = 1.959964, z^2 = 3.841459.

    centre = (8 + z^2 / 2) / (10 + z^2) = 9.920729 / 13.841459 = 0.716740
    half = z / (10 + z^2) * sqrt(8 * 2 / 10 + z^2 / 4) = 0.141601 * sqrt(2.560365) = 0.226578
    """
    share = wilson(8, 10, n_missing=3)
    assert share.value == 0.8
    assert share.low == pytest.approx(0.716740 - 0.226578, abs=2e-6)
    assert share.high == pytest.approx(0.716740 + 0.226578, abs=2e-6)
    assert (share.n, share.n_missing, share.method) == (10, 3, "Wilson")


@pytest.mark.parametrize(("successes", "n"), [(1, 7), (50, 100), (999, 1000)])
def test_wilson_limits_solve_the_score_equation(successes: int, n: int) -> None:
    share = wilson(successes, n, confidence=0.9)
    z = stats.norm.ppf(0.95)
    for p in (share.low, share.high):
        assert p is not None
        assert abs(share.value - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n), rel=1e-9)


def test_wilson_at_the_edges_stays_inside_and_mirrors() -> None:
    none, all_right = wilson(0, 20), wilson(20, 20)
    assert none.low == pytest.approx(0, abs=1e-12)
    assert all_right.high == pytest.approx(1, abs=1e-12)
    assert none.high is not None
    assert none.high > 0.1
    assert all_right.low == pytest.approx(1 - none.high)


@pytest.mark.parametrize(("successes", "n", "missing"), [(0, 0, 0), (3, 2, 0), (-1, 2, 0), (1, 2, -1)])
def test_wilson_refuses_impossible_counts(successes: int, n: int, missing: int) -> None:
    with pytest.raises(UserError):
        wilson(successes, n, n_missing=missing)


def test_t_interval_by_hand() -> None:
    """0.70, 0.72, 0.74: mean 0.72, s = 0.02, t(2 df) = 4.302653, half = 4.302653 * 0.02 / sqrt(3) = 0.049683."""
    mean = t_interval([0.70, 0.72, 0.74], direction="lower")
    assert mean.value == pytest.approx(0.72)
    assert mean.low == pytest.approx(0.72 - 0.049683, abs=1e-6)
    assert mean.high == pytest.approx(0.72 + 0.049683, abs=1e-6)
    assert (mean.n, mean.direction, mean.method) == (3, "lower", "t over seeds")


def test_t_interval_ignores_the_order_of_seeds() -> None:
    values = [0.1, 0.4, 0.35, 0.2]
    a, b = t_interval(values), t_interval(values[::-1])
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


def test_one_seed_has_no_interval() -> None:
    mean = t_interval([0.7])
    assert (mean.value, mean.low, mean.high, mean.method) == (0.7, None, None, "one seed: no interval")


def test_identical_seeds_have_no_interval_even_with_rounding() -> None:
    for values in ([0.7] * 3, [0.81 - 0.80, 0.71 - 0.70, 0.61 - 0.60]):
        mean = t_interval(values)
        assert (mean.low, mean.high) == (None, None)
        assert mean.method == "identical in all 3 seeds: no interval"


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [0.1, math.inf], [[0.1, 0.2]]])
def test_t_interval_refuses_what_is_no_row_of_numbers(values: list[float]) -> None:
    with pytest.raises(UserError) as caught:
        t_interval(values)
    assert caught.value.found
    assert caught.value.fix


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_fraction(confidence: float) -> None:
    with pytest.raises(UserError):
        t_interval(np.array([0.1, 0.2]), confidence=confidence)
