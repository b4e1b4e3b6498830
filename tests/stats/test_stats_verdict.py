"""Verdicts: each rule on its own, their order, families, and what is refused."""

import math

import pytest

from pyrite.errors import UserError
from pyrite.stats import Verdict, holm, judge, judge_family

BASE = [0.600, 0.610, 0.620]
HARMED = [0.502, 0.509, 0.519]
CLOSE = [0.601, 0.609, 0.621]
NOISY = [0.560, 0.650, 0.610]


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1 = 0.03, 0.06, 0.04; never below the one before: 0.03, 0.06, 0.06."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_holm_limits() -> None:
    assert holm([0.2]) == [0.2]
    assert holm([0.5, 0.9, 0.6]) == [1.0, 1.0, 1.0]
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])


@pytest.mark.parametrize("p_values", [[], [0.5, 1.1], [-0.1], [math.nan]])
def test_holm_refuses_what_is_no_pvalue(p_values: list[float]) -> None:
    with pytest.raises(UserError):
        holm(p_values)


def test_worse_and_better_follow_the_direction() -> None:
    worse = judge(HARMED, BASE, margin=0.02)
    assert worse.verdict is Verdict.WORSE
    assert worse.difference.value == pytest.approx(-0.1)
    assert worse.difference.method == "paired t"
    assert worse.why.startswith("the arm lies 0.100 below the comparison on average over 3 seeds (p < 0.001)")
    assert judge(BASE, HARMED, margin=0.02).verdict == "better"
    lower = judge(HARMED, BASE, margin=0.02, direction="lower")
    assert lower.verdict == "better"
    assert lower.difference.direction == "lower"


def test_equivalent_and_cannot_tell() -> None:
    equivalent = judge(CLOSE, BASE, margin=0.02)
    assert equivalent.verdict == "equivalent"
    assert equivalent.p_equivalence is not None
    assert equivalent.p_equivalence < 0.05
    unclear = judge(NOISY, BASE, margin=0.02)
    assert unclear.verdict == "cannot tell yet"
    assert "neither clearly different from 0" in unclear.why


def test_equivalence_goes_before_a_small_real_difference() -> None:
    """Differences -0.0050, -0.0052, -0.0048: surely not 0, and surely within 0.02."""
    both = judge([0.5950, 0.6048, 0.6152], BASE, margin=0.02)
    assert both.p_difference is not None
    assert both.p_difference < 0.05
    assert both.verdict == "equivalent"
    assert "equivalence goes first" in both.why


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        ([0.01, 0.0, 0.02], BASE, "the arm's mean of 0.010"),
        (BASE, [0.99, 1.0, 0.98], "the comparison's mean of 0.990"),
        ([0.98] * 3, [0.5] * 3, "the arm's mean of 0.980 lies within the margin of 0.02 of 1"),
    ],
)
def test_floor_and_ceiling_are_not_testable(a: list[float], b: list[float], named: str) -> None:
    judgement = judge(a, b, margin=0.02)
    assert judgement.verdict == "not testable"
    assert named in judgement.why
    assert judge(a, b, margin=0.02, bounded=False).verdict != "not testable"


def test_one_seed_cannot_tell() -> None:
    judgement = judge([0.2], [0.6], margin=0.02)
    assert judgement.verdict == "cannot tell yet"
    assert judgement.why == "one seed cannot show how much seeds differ"
    assert judgement.p_difference is None
    assert judgement.p_equivalence is None
    assert judgement.difference.low is None


def test_identical_differences_are_not_certainty() -> None:
    """Three equal differences: the sign test gives 0.25 and 0.125. Ten: 2 / 1024 and 1 / 1024."""
    judgement = judge([0.5] * 3, [0.6] * 3, margin=0.02)
    assert judgement.verdict == "cannot tell yet"
    assert "sign test" in judgement.why
    assert judge([0.5] * 10, [0.6] * 10, margin=0.02).verdict == "worse"
    assert judge([0.6] * 10, [0.6] * 10, margin=0.02).verdict == "equivalent"


def test_gaps_may_be_negative_without_bounds() -> None:
    gaps = [0.18, 0.21, 0.16]
    assert judge(gaps, [0.0] * 3, margin=0.02, direction="lower", bounded=False).verdict == "worse"
    with pytest.raises(UserError, match="bounded=False"):
        judge([-0.1, 0.1], [0.1, 0.2], margin=0.02)


def test_the_order_of_seeds_does_not_matter() -> None:
    a, b = judge(NOISY, BASE, margin=0.02), judge(NOISY[::-1], BASE[::-1], margin=0.02)
    assert a.verdict == b.verdict
    assert a.p_difference == pytest.approx(b.p_difference)


def test_a_family_of_one_equals_judge() -> None:
    assert judge_family({"x": (NOISY, BASE)}, 0.02)["x"] == judge(NOISY, BASE, margin=0.02)


def test_a_family_adjusts_the_verdict_but_not_the_interval() -> None:
    """A difference with p = 0.035 alone (mean -0.03, s = 0.01, 3 seeds) becomes 0.105 or 0.070 among three."""
    borderline = ([0.56, 0.59, 0.59], BASE)
    alone = judge(*borderline, margin=0.005)
    assert alone.verdict == "worse"
    family = judge_family({"a": borderline, "b": (NOISY, BASE), "c": (NOISY, BASE)}, 0.005, 0.05)
    assert list(family) == ["a", "b", "c"]
    a = family["a"]
    assert a.verdict == "cannot tell yet"
    assert a.p_difference == alone.p_difference == pytest.approx(1 - math.sqrt(27 / 29))
    assert a.p_difference_adjusted == pytest.approx(3 * (1 - math.sqrt(27 / 29)))
    assert "adjusted p = 0.105" in a.why
    assert a.difference == alone.difference


def test_contrasts_without_an_answer_still_count_in_the_family() -> None:
    """The floor contrast has the smallest p, the single seed counts as 1: the one in between is doubled."""
    borderline = ([0.56, 0.59, 0.59], BASE)
    family = judge_family({"a": borderline, "floor": ([0.0] * 3, BASE), "one": ([0.2], [0.6])}, 0.005)
    assert family["floor"].verdict == "not testable"
    assert family["one"].p_difference_adjusted is None
    assert family["a"].p_difference_adjusted == pytest.approx(2 * (1 - math.sqrt(27 / 29)))


def test_a_judgement_becomes_plain_values() -> None:
    plain = judge(HARMED, BASE, margin=0.02).as_json()
    assert plain["verdict"] == "worse"
    assert type(plain["verdict"]) is str
    assert plain["difference"]["n"] == 3


@pytest.mark.parametrize(
    "settings",
    [{"margin": 0.0}, {"margin": 0.02, "alpha": 0.0}, {"margin": 0.02, "direction": "none"}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError):
        judge(HARMED, BASE, **settings)  # type: ignore[arg-type]


def test_data_that_do_not_pair_are_refused() -> None:
    for a, b in (([], []), ([0.1, 0.2], [0.1]), ([0.1, math.nan], [0.1, 0.2])):
        with pytest.raises(UserError):
            judge(a, b, margin=0.02)


def test_a_fourth_primary_contrast_is_refused() -> None:
    with pytest.raises(UserError, match="a, b, c, d"):
        judge_family(dict.fromkeys("abcd", (BASE, BASE)), 0.02)
    with pytest.raises(UserError):
        judge_family({}, 0.02)
