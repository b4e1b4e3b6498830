"""The share of a change that is undone or kept: Fieller's interval by hand, by inverting the t test, and by simulation."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pyrite.stats import share_over_answers, share_over_items, share_over_seeds
from pyrite.stats.ratio import Moments, fieller


def inverted(numerator: Any, denominator: Any, level: float = 0.05) -> tuple[float, float]:
    """The ratios whose t test is not rejected, looked for on a grid of thousandths."""
    grid = np.linspace(-1, 2, 3001)
    accepted = [q for q in grid if scipy_stats.ttest_1samp(numerator - q * denominator, 0.0).pvalue >= level]
    return min(accepted), max(accepted)


def test_the_interval_inverts_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2):
        denominator = rng.normal(1.0, 0.3, 6)
        numerator = 0.6 * denominator + rng.normal(0, 0.2, 6)
        share = share_over_seeds(np.zeros(6), denominator, numerator)
        assert share.estimate is not None
        low, high = inverted(numerator, denominator)
        assert share.estimate.low == pytest.approx(low, abs=2e-3)
        assert share.estimate.high == pytest.approx(high, abs=2e-3)
        assert share.estimate.value == pytest.approx(numerator.mean() / denominator.mean())


def test_a_denominator_that_may_be_nothing_gives_no_share() -> None:
    assert fieller(Moments(1.0, 0.5, 0.01, 0.0, 0.25, 10)) is None
    share = share_over_seeds([0.0, 0.0, 0.0], [0.1, -0.1, 0.05], [0.1, 0.0, 0.0])
    assert share.estimate is None
    assert "not clear of 0" in share.why
    assert share.as_json()["value"] is None


def test_a_change_for_the_worse_is_nothing_to_bring_back() -> None:
    """What was said to be lost had risen: clear of 0, and of the wrong sign."""
    origin, goal, now = [0.5] * 5, [0.2, 0.21, 0.2, 0.19, 0.2], [0.3] * 5
    wrong = share_over_seeds(origin, goal, now)
    assert (wrong.estimate, "the other way" in wrong.why) == (None, True)
    lower = share_over_seeds(origin, goal, now, higher=False)
    assert lower.estimate is not None
    assert lower.estimate.value == pytest.approx(2 / 3)


def test_a_model_that_differs_on_no_item_from_an_end_has_no_interval() -> None:
    """It may be that end itself or another that agrees on these items: no item says how sure 0 or 1 is."""
    rng = np.random.default_rng(1)
    origin, goal = (rng.random(60) < 0.2).astype(float), (rng.random(60) < 0.7).astype(float)
    groups = [str(at) for at in range(60)]
    for now, value in ((origin, 0.0), (goal, 1.0)):
        share = share_over_items(list(origin), list(goal), list(now), groups)
        assert share.estimate is not None
        assert (share.estimate.value, share.estimate.low) == (value, None)
        assert "not one item differs" in share.estimate.method


def test_one_seed_and_few_groups_show_nothing() -> None:
    """A change of a hair's breadth in one seed would otherwise have 20,000 % of it brought back."""
    one_seed = share_over_seeds([0.5], [0.5001], [0.52])
    assert (one_seed.estimate, "one seed" in one_seed.why) == (None, True)
    few_groups = share_over_items([0.0] * 20, [1.0] * 20, [1.0] * 10 + [0.0] * 10, ["a", "b"] * 10)
    assert (few_groups.estimate, "few groups" in few_groups.why) == (None, True)


def test_items_of_one_group_do_not_count_as_many() -> None:
    rng = np.random.default_rng(2)
    origin, goal = np.zeros(20), (rng.random(20) < 0.8).astype(float)
    now = goal * (rng.random(20) < 0.5)
    names = [str(at) for at in range(20)]
    alone = share_over_items(list(origin), list(goal), list(now), names)
    copies = [list(np.repeat(side, 5)) for side in (origin, goal, now)]
    grouped = share_over_items(copies[0], copies[1], copies[2], list(np.repeat(names, 5)))
    assert alone.estimate is not None
    assert grouped.estimate is not None
    assert grouped.estimate.low == pytest.approx(alone.estimate.low)
    assert grouped.estimate.high == pytest.approx(alone.estimate.high)
    naive = share_over_items(copies[0], copies[1], copies[2], [str(at) for at in range(100)])
    assert naive.estimate is not None
    assert naive.estimate.low is not None
    assert alone.estimate.low is not None
    assert naive.estimate.low > alone.estimate.low


def test_weights_are_those_of_the_mean() -> None:
    share = share_over_items([0.0, 0.0] * 10, [1.0, 0.9] * 10, [1.0, 0.0] * 10, list(map(str, range(20))), weights=[3.0, 1.0] * 10)  # fmt: skip
    assert share.estimate is not None
    assert share.estimate.value == pytest.approx(3.0 / 3.9)


def test_missing_answers_cannot_flatter() -> None:
    origin: list[float | None] = [0.0] * 40
    goal: list[float | None] = [1.0] * 30 + [0.0] * 10
    now: list[float | None] = [1.0] * 20 + [0.0] * 20
    groups = [str(at) for at in range(40)]
    complete = share_over_items(origin, goal, now, groups)
    lost = share_over_items(origin, goal, [*now[:37], None, None, None], groups)
    assert complete.estimate is not None
    assert lost.estimate is not None
    assert lost.estimate.n_missing == 3
    assert None not in (lost.estimate.low, lost.estimate.high, complete.estimate.low, complete.estimate.high)
    assert lost.estimate.low <= complete.estimate.low < complete.estimate.high < lost.estimate.high  # type: ignore[operator]
    assert share_over_items(origin, goal, [*now[:35], *[None] * 5], groups).estimate is None  # an eighth
    assert share_over_items(origin, goal, [*now[:39], None], groups, bounds=None).estimate is None  # nats have no end
    nobody = [[*side, *[None] * 9] for side in (origin, goal, now)]
    silent = share_over_items(*nobody, [str(at) for at in range(49)])
    assert silent == complete  # what no model answered says nothing of any


def test_seeds_with_missing_answers_as_items() -> None:
    origin = np.zeros((3, 30))
    goal = np.ones((3, 30))
    now = np.tile((np.arange(30) < 15).astype(float), (3, 1))
    now[1, 3] = 0.0
    complete = share_over_answers(origin, goal, now)
    assert complete.estimate is not None
    assert complete.estimate.value == pytest.approx((15 + 14 + 15) / 90)
    now[2, 29] = math.nan
    lost = share_over_answers(origin, goal, now)
    assert lost.estimate is not None
    assert (lost.estimate.value, lost.estimate.n_missing) == (pytest.approx((15 + 14 + 15) / 87), 1)
    assert lost.estimate.high is not None
    assert complete.estimate.high is not None
    assert lost.estimate.high > complete.estimate.high
    assert share_over_answers(origin, goal, now, bounds=None).estimate is None


def test_what_is_missing_may_differ_from_seed_to_seed() -> None:
    """Filled alike in all seeds the interval is 0.39 to 0.88; the worst of all 64 fillings spreads the seeds."""
    rng = np.random.default_rng(4)
    origin, goal = np.zeros((3, 20)), np.ones((3, 20))
    now = (rng.random((3, 20)) < 0.6).astype(float)
    now[:, :2] = np.nan
    share = share_over_answers(origin, goal, now)
    assert share.estimate is not None
    ends = []
    for fills in np.ndindex(*[2] * 6):
        filled = now.copy()
        filled[:, :2] = np.array(fills).reshape(3, 2)
        share_of_fill = share_over_seeds(origin.mean(axis=1), goal.mean(axis=1), filled.mean(axis=1))
        if share_of_fill.estimate is not None and share_of_fill.estimate.low is not None:
            ends.append((share_of_fill.estimate.low, share_of_fill.estimate.high))
    assert share.estimate.low == pytest.approx(min(low for low, _ in ends))
    assert share.estimate.high == pytest.approx(max(high for _, high in ends if high is not None))


@pytest.mark.parametrize("truth", [0.0, 0.5, 1.0])
def test_coverage_over_items(truth: float) -> None:
    """Three models on 200 items, 8 points lost of 40 %: the interval holds the truth in 92 % or more of the draws that give
    one. Of smaller losses the draws in which the loss is clear are picked ones, and the intervals hold it in 90 % only
    (docs/statistics.md); such shares say that the change is barely clear."""
    rng = np.random.default_rng(3)
    hits = n_intervals = 0
    groups = [str(at) for at in range(200)]
    for _ in range(300):
        ability = rng.normal(0, 1, 200)

        def model(mean: float, ability: Any = ability) -> list[float]:
            return list((ability + rng.normal(0, 0.5, 200) < scipy_stats.norm.ppf(mean, scale=1.25**0.5)).astype(float))

        before, harmed, now = model(0.40), model(0.32), model(0.32 + truth * 0.08)
        share = share_over_items(harmed, before, now, groups)
        if share.estimate is None or share.estimate.low is None or share.estimate.high is None:
            continue
        n_intervals += 1
        hits += share.estimate.low <= truth <= share.estimate.high
    assert n_intervals > 180
    assert hits / n_intervals > 0.92
