"""Verdicts: each rule on its own, their order, families, and what is refused."""

import math
from typing import Any

import pytest

from pyrite.errors import UserError
from pyrite.stats import ContrastCell, Verdict, holm, judge, judge_family

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
    judgement = judge([0.5950, 0.6048, 0.6152], BASE, margin=0.02)
    assert judgement.p_difference is not None
    assert judgement.p_difference < 0.05
    assert judgement.verdict == "equivalent"
    assert "equivalence goes first" in judgement.why


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        ([0.01, 0.0, 0.0], [0.0, 0.01, 0.01], "both sides lie within the margin of 0.02 of 0 (the arm 0.003, the"),
        ([0.985, 1.0, 0.99], [0.99, 1.0, 0.98], "both sides lie within the margin of 0.02 of 1"),
        (
            [0.00, 0.06, 0.03],
            [0.01, 0.02, 0.0],
            "the comparison at 0.010 leaves no room for a fall of the margin of 0.02",
        ),
    ],
)
def test_floor_and_ceiling_are_not_testable(a: list[float], b: list[float], named: str) -> None:
    judgement = judge(a, b, margin=0.02)
    assert judgement.verdict == "not testable"
    assert named in judgement.why
    assert judgement.cells == ()
    assert judge(a, b, margin=0.02, bounded=False).verdict != "not testable"


def test_room_is_asked_for_in_the_direction_of_harm() -> None:
    """The comparison stands at 0.98: a fall has all the room there is, a rise of a share of refusals has none."""
    a, b = [0.96, 0.90, 0.93], [0.98, 0.99, 0.97]
    assert judge(a, b, margin=0.03).verdict == "cannot tell yet"
    lower = judge(a, b, margin=0.03, direction="lower")
    assert lower.verdict == "not testable"
    assert "leaves no room for a rise of the margin of 0.03" in lower.why


@pytest.mark.parametrize("spread", [0.0, 0.004])
def test_the_largest_harm_is_worse(spread: float) -> None:
    """An arm at 1 % against one at 60 % over five seeds: -59 points."""
    jitter = [spread * at for at in (-1, 0, 1, 0.5, -0.5)]
    floor = [0.01 + value for value in jitter]
    high = [0.60 - value for value in jitter]
    worse = judge(floor, high, margin=0.03)
    assert worse.verdict == "worse"
    assert worse.difference.value == pytest.approx(-0.59)
    assert worse.difference.low is not None
    assert judge([0.98 + value for value in jitter], high, margin=0.03).verdict == "better"
    assert judge(high, floor, margin=0.03).verdict == "better"
    assert judge([0.0, 0.01, 0.01, 0.0, 0.01], [0.01, 0.01, 0.0, 0.0, 0.0], margin=0.03).verdict == "not testable"


def test_identical_differences_on_a_fine_grid_have_the_spread_of_one_step() -> None:
    """0.01 and 0.60 lie on a grid of 0.01: -0.59 in five seeds, standard error 0.01 / sqrt(5), t(4) at 97.5 % 2.7764."""
    judgement = judge([0.01] * 5, [0.60] * 5, margin=0.03)
    assert judgement.difference.low == pytest.approx(-0.59 - 2.7764 * 0.01 / 5**0.5, abs=1e-5)
    assert "one step of the values, 0.01" in judgement.difference.method
    # four seeds, or a difference of a few steps: the sign test
    assert judge([0.01] * 4, [0.60] * 4, margin=0.03).verdict == "cannot tell yet"
    assert judge([0.50] * 5, [0.60] * 5, margin=0.03).verdict == "cannot tell yet"


def test_all_wrong_against_all_right_has_the_grid_of_its_items() -> None:
    """0 and 1 lie on a grid of 1 as well; that they are shares of 100 items is known from the cell. By hand: -1 in five
    seeds, standard error 0.01 / sqrt(5), t(4) at 97.5 % 2.7764."""

    def verdict(seeds: int, items: int | None) -> Any:
        return judge_family({"c": [ContrastCell("x", [0.0] * seeds, [1.0] * seeds, items=items)]}, 0.1)["c"]

    assert verdict(5, 100).verdict == "worse"
    assert verdict(5, 100).difference.low == pytest.approx(-1 - 2.7764 * 0.01 / 5**0.5, abs=1e-5)
    assert verdict(4, 100).verdict == "cannot tell yet"
    assert verdict(5, None).verdict == "cannot tell yet"
    assert verdict(5, 5).verdict == "cannot tell yet"  # five items: a coarse grid


def test_a_cell_at_the_floor_does_not_dilute_the_others() -> None:
    """The robust start alone: -0.043, -0.039, -0.047, -0.044, -0.042 (mean -0.043). Averaged with a start at the floor,
    where neither arm gets anything right, it would be -0.0215, "equivalent" within 0.03."""
    comparison = [0.70, 0.71, 0.69, 0.70, 0.72]
    robust = [x - d for x, d in zip(comparison, (0.043, 0.039, 0.047, 0.044, 0.042), strict=True)]
    floor = [0.001, 0.0, 0.002, 0.001, 0.0]
    cells = [ContrastCell("robust", robust, comparison), ContrastCell("base", floor, floor[::-1])]
    judgement = judge_family({"c": cells}, 0.03)["c"]
    assert judgement.verdict == "worse"
    assert judgement.difference.value == pytest.approx(-0.043)
    assert judgement.cells == ("robust",)
    assert judgement.left_out["base"].startswith("both sides lie within the margin of 0.03 of 0")
    averaged = [(x + y) / 2 for x, y in zip(robust, floor, strict=True)]
    against = [(x + y) / 2 for x, y in zip(comparison, floor[::-1], strict=True)]
    assert judge(averaged, against, margin=0.03).verdict == "equivalent"
    judgement_of_floors = judge_family(
        {"c": [ContrastCell("base", floor, floor[::-1]), ContrastCell("other", floor, floor[::-1])]}, 0.03
    )["c"]
    assert judgement_of_floors.verdict == "not testable"
    assert "base: both sides" in judgement_of_floors.why
    assert "other: both sides" in judgement_of_floors.why


def test_cells_are_averaged_by_their_weights() -> None:
    """0.1 with weight 1 and 0.2 with weight 3: 0.175."""
    cells = [
        ContrastCell("a", [0.6, 0.61], [0.5, 0.51], weight=1),
        ContrastCell("b", [0.7, 0.72], [0.5, 0.52], weight=3),
    ]
    assert judge_family({"c": cells}, 0.03)["c"].difference.value == pytest.approx(0.175)


def test_a_contrast_that_is_not_testable_makes_no_other_easier() -> None:
    """Its own p-value would take the first step of Holm; it counts as 1, and tells none."""
    borderline = ([0.56, 0.59, 0.59], BASE)
    raw = 1 - math.sqrt(27 / 29)
    empty = [ContrastCell("x", [0.0] * 3, [0.0] * 3, items=0, missing=4)]
    family = judge_family({"a": borderline, "empty": empty}, 0.005)
    assert family["empty"].verdict == "not testable"
    assert (family["empty"].p_difference, family["empty"].p_equivalence_adjusted) == (None, None)
    assert math.isnan(family["empty"].difference.value)
    assert family["a"].p_difference_adjusted == pytest.approx(2 * raw)


def test_a_cell_that_lost_its_answers_takes_the_contrast_with_it() -> None:
    lost = ContrastCell("A", [0.1, 0.11, 0.12], [0.6, 0.61, 0.62], items=85, missing=15)
    fine = ContrastCell("B", CLOSE, BASE, items=100)
    judgement = judge_family({"c": [lost, fine]}, 0.03)["c"]
    assert (judgement.verdict, judgement.cells) == ("not testable", ())
    assert judgement.why.startswith("15 of 100 items have no answer")


def test_identical_differences_of_cells_with_unlike_items() -> None:
    """97, 89 and 83 items, one item lost in the first cell in all five seeds: -1 / (3 * 97) = -0.0034. The step of the
    average is the mean of 1/97, 1/89 and 1/83, a hundredth: no fine grid, so the sign test speaks, and nothing is worse."""
    cells = [
        ContrastCell(name, [(n // 2 - loss) / n] * 5, [n // 2 / n] * 5)
        for name, n, loss in (("a", 97, 1), ("b", 89, 0), ("c", 83, 0))
    ]
    family = judge_family({"c": cells, "d": (BASE, NOISY), "e": (NOISY, BASE)}, 0.03)
    assert family["c"].verdict == "cannot tell yet"
    assert family["c"].p_difference == 2 * 0.5**5
    assert family["c"].difference.low is None
    # values that lie on no grid of items have no step: five equal differences of losses are a sign test
    nats = judge_family(
        {"c": ([2.345612] * 5, [2.345590] * 5), "d": (BASE, NOISY)}, 0.05, direction="lower", bounded=False
    )
    assert nats["c"].p_difference == 2 * 0.5**5
    assert nats["c"].verdict != "worse"


def test_an_average_is_not_equivalent_while_a_cell_differs() -> None:
    """-0.06 at one start and +0.06 at another: 0 on average, and no "equivalent"."""
    base, jitter = [0.5, 0.52, 0.51, 0.5, 0.53], [0.001, -0.001, 0.0, 0.002, -0.002]
    down = [x - 0.06 + e for x, e in zip(base, jitter, strict=True)]
    up = [x + 0.06 - e for x, e in zip(base, jitter, strict=True)]
    judgement = judge_family({"c": [ContrastCell("one", down, base), ContrastCell("two", up, base)]}, 0.03)["c"]
    assert judgement.difference.value == pytest.approx(0.0)
    assert judgement.verdict == "cannot tell yet"
    assert "one -0.060 (p < 0.001), two +0.060" in judgement.why
    near = [x - 0.01 + e for x, e in zip(base, jitter, strict=True)]
    assert (
        judge_family({"c": [ContrastCell("one", near, base), ContrastCell("two", near, base)]}, 0.03)["c"].verdict
        == "equivalent"
    )


def test_missing_answers_must_not_be_able_to_change_a_verdict() -> None:
    a, b = [0.60, 0.61, 0.62], [0.70, 0.71, 0.73]
    two_missing = ContrastCell("x", a, b, low=[-0.11, -0.11, -0.12], high=[-0.08, -0.08, -0.09], items=98, missing=2)
    judgement = judge_family({"c": [two_missing]}, 0.03)["c"]
    assert (judgement.verdict, judgement.items, judgement.missing) == ("worse", 98, 2)
    nine_missing = ContrastCell("x", a, b, low=[-0.2, -0.2, -0.2], high=[-0.02, 0.01, -0.01], items=91, missing=9)
    judgement = judge_family({"c": [nine_missing]}, 0.03)["c"]
    assert judgement.verdict == "cannot tell yet"
    assert "9 of 100 items have no answer on one side or both; without them it would be worse" in judgement.why
    assert judgement.bounds is not None
    assert judgement.bounds[1] > 0  # type: ignore[operator]
    eleven_missing = ContrastCell(
        "x", a, b, low=[-0.11, -0.11, -0.12], high=[-0.08, -0.08, -0.09], items=89, missing=11
    )
    judgement = judge_family({"c": [eleven_missing]}, 0.03)["c"]
    assert judgement.verdict == "not testable"
    assert "more than the share of 0.1" in judgement.why
    assert judge_family({"c": [eleven_missing]}, 0.03, max_missing=0.2)["c"].verdict == "worse"


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
    """The floor contrast's p is 1, as is that of the single seed: the third is tripled."""
    borderline = ([0.56, 0.59, 0.59], BASE)
    family = judge_family({"a": borderline, "floor": ([0.0] * 3, [0.0] * 3), "one": ([0.2], [0.6])}, 0.005)
    assert family["floor"].verdict == "not testable"
    assert family["one"].p_difference_adjusted is None
    assert family["a"].p_difference_adjusted == pytest.approx(3 * (1 - math.sqrt(27 / 29)))


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
