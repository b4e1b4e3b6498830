"""Two models item by item: differences, p-values and verdicts worked by hand, missing items, flips."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from pyrite.errors import UserError
from pyrite.probe.compare import Comparison, Contrast, compare, flips
from pyrite.stats import Verdict, cluster_bootstrap, wilson, wilson_difference
from pyrite.tasks.scoring import ItemScore, Metric

RIGHT = Metric("right")
LOSS = Metric("loss", scale="real", direction="lower")


def items(
    values: Sequence[float | None], metric: str = "right", *, per_group: int = 1, kinds: Sequence[str] = ("k",)
) -> list[ItemScore]:
    return [
        ItemScore(f"i{n:03}", metric, value, f"g{n // per_group:03}", {"kind": kinds[n % len(kinds)]})
        for n, value in enumerate(values)
    ]


def table(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[float | None], list[float | None]]:
    a: list[float | None] = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    b: list[float | None] = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    return a, b


def only(made: Comparison) -> Contrast:
    assert len(made.lines) == 1
    return made.lines[0]


def run(a: Sequence[float | None], b: Sequence[float | None], margin: float = 0.02, metric: Metric = RIGHT) -> Contrast:
    return only(compare(items(a, metric.name), items(b, metric.name), [metric], [], margin=margin, seed=0))


def test_the_difference_is_the_second_model_minus_the_first_with_newcombes_interval() -> None:
    a, b = table(20, 0, 10, 20)
    line = run(a, b)
    assert (line.first, line.second) == (0.4, 0.6)
    difference = line.change.difference
    assert (difference.value, difference.method) == (pytest.approx(0.2), "Newcombe paired")
    assert (difference.low, difference.high) == pytest.approx((0.080, 0.307), abs=5e-4)
    assert line.change.p_difference == pytest.approx(2 / 2**10)
    assert line.verdict is Verdict.BETTER


def test_worse_by_mcnemar_and_the_sentence_speaks_of_these_two_models() -> None:
    """26 items differ, 6 for B: 2 * sum of C(26, 0..6) / 2^26 = 2 * 313912 / 67108864 = 0.00936."""
    a, b = table(50, 20, 6, 24)
    made = compare(items(a), items(b), [RIGHT], [], margin=0.02, seed=0, names=("base", "tuned"))
    line = only(made)
    assert line.change.p_difference == pytest.approx(2 * 313912 / 67108864)
    assert line.verdict is Verdict.WORSE
    assert line.sentence.startswith("tuned against base on right, these two models: worse (-14.0 points, 95 % interval")
    assert "100 items): chance would seldom make such a difference (p = 0.009)." in line.sentence


def test_where_lower_is_better_a_rise_is_worse() -> None:
    """Differences 1, 2, 3, 2: mean 2, sd 0.8165, t(3) 3.1824, half 1.2992; t = 4.899, p = 0.0163."""
    line = run([1, 1, 1, 1], [2, 3, 4, 3], 0.1, LOSS)
    assert line.change.difference.method == "paired t over items"
    assert (line.change.difference.low, line.change.difference.high) == pytest.approx((0.7008, 3.2992), abs=1e-4)
    assert line.change.p_difference == pytest.approx(0.0163, abs=1e-4)
    assert (line.verdict, "lower is better" in line.why) == (Verdict.WORSE, True)
    assert run([2, 3, 4, 3], [1, 1, 1, 1], 0.1, LOSS).verdict is Verdict.BETTER
    assert "+2.000, 95 % interval +0.701 to +3.299; 4 items" in line.sentence


def test_equivalent_within_a_wide_margin_and_untold_with_few_items() -> None:
    a, b = table(200, 5, 5, 190)
    line = run(a, b, 0.05)
    assert (line.verdict, "equivalent within the margin" in line.sentence) == (Verdict.EQUIVALENT, True)
    assert run(*table(10, 1, 1, 8), 0.05).verdict is Verdict.CANNOT_TELL


def test_the_p_of_equivalence_is_the_alpha_whose_interval_just_fits_the_margin() -> None:
    a, b = table(200, 5, 5, 190)
    p = run(a, b, 0.02).change.p_equivalence
    assert p is not None
    assert 0.001 < p < 0.05
    fits = wilson_difference(b, a, confidence=1 - 2 * p)  # type: ignore[arg-type]
    assert fits.high == pytest.approx(0.02, abs=1e-4)
    assert run(*table(200, 40, 5, 150), 0.02).change.p_equivalence == 1.0


def test_too_small_to_matter_is_equivalent() -> None:
    a, b = table(5000, 0, 30, 4970)
    line = run(a, b, 0.02)
    assert line.change.p_difference is not None
    assert line.change.p_difference < 1e-6
    assert (line.verdict, "too small to matter" in line.why) == (Verdict.EQUIVALENT, True)


def test_not_testable_near_the_floor_or_the_ceiling() -> None:
    floor = run(*table(1, 0, 1, 98), 0.02)
    assert (floor.verdict, "not testable here" in floor.sentence) == (Verdict.NOT_TESTABLE, True)
    assert "both sides lie within the margin of 0.02 of 0 (B 0.020, A 0.010)" in floor.why
    assert run(*table(99, 0, 1, 0), 0.02).why.startswith("both sides lie within the margin of 0.02 of 1")
    # from the floor upwards no fall has room: 1 of 100 against 4 of 100, p = 0.25
    assert "leaves no room for a fall" in run(*table(1, 0, 3, 96), 0.02).why
    assert run([0.001] * 3, [0.5, 0.4, 0.6], 0.02, LOSS).verdict is Verdict.WORSE  # a loss has no floor to speak of


def test_the_largest_change_has_a_verdict_wherever_its_ends_lie() -> None:
    """From 60 % to 1 % and from 60 % to 99 %: 59 items lost, 39 gained."""
    lost = run(*table(1, 59, 0, 40), 0.03)
    assert (lost.verdict, lost.change.difference.value) == (Verdict.WORSE, pytest.approx(-0.59))
    assert run(*table(60, 0, 39, 1), 0.03).verdict is Verdict.BETTER
    assert run(*table(1, 0, 59, 40), 0.03).verdict is Verdict.BETTER


def golds(values: Sequence[float | None], labels: Sequence[str]) -> list[ItemScore]:
    return [
        ItemScore(f"i{at}", "right", value, f"g{at}", {"gold": label})
        for at, (value, label) in enumerate(zip(values, labels, strict=True))
    ]


def test_two_models_with_one_answer_to_everything_are_not_equivalent() -> None:
    """100 items, half of them entailment: both say "entailment" throughout and stand at one half."""
    labels = ["entailment", "non-entailment"] * 50
    same = golds([1, 0] * 50, labels)
    line = only(compare(same, same, [RIGHT], [], margin=0.03, seed=0))
    assert line.verdict is Verdict.NOT_TESTABLE
    assert "entailment 1.000 and 1.000, non-entailment 0.000 and 0.000" in line.why
    # at 70 % of each label they can be compared
    some = golds([float(at % 10 < 7) for at in range(100)], ["a"] * 50 + ["b"] * 50)
    assert only(compare(some, some, [RIGHT], [], margin=0.06, seed=0)).verdict is Verdict.EQUIVALENT


def test_headline_slices_carry_the_verdict_in_the_place_of_all_items() -> None:
    labels = ["entailment", "non-entailment"] * 100
    a = golds([float(at % 2 == 0 or at % 8 < 6) for at in range(200)], labels)
    b = golds([float(at % 2 == 0) for at in range(200)], labels)
    made = compare(a, b, [RIGHT], [("gold",)], margin=0.03, seed=0, headlines={"right": [{"gold": "non-entailment"}]})
    assert [(line.name, line.primary) for line in made.lines] == [
        ("overall", False), ("entailment", False), ("non-entailment", True)
    ]  # fmt: skip
    (headline,) = made.primary
    assert headline.verdict is Verdict.WORSE
    assert "right where gold is non-entailment" in headline.sentence
    assert "Exploratory" not in headline.sentence


def test_missing_answers_decide_no_verdict() -> None:
    """Two models that are equal on all 300 items; of B's 90 failures some have no answer. A third of them is a tenth of
    the items: no verdict. Ten of them leave 290 items, on which the models are equal; if all ten were right, B would
    have 220 of 300 against 210 (3.3 points)."""
    a = [1.0] * 210 + [0.0] * 90
    third = run(a, [1.0] * 210 + [None] * 31 + [0.0] * 59, 0.03)
    assert (third.verdict, "31 of 300 items have no answer" in third.why) == (Verdict.NOT_TESTABLE, True)
    ten = run(a, [1.0] * 210 + [None] * 10 + [0.0] * 80, 0.03)
    assert (ten.change.difference.value, ten.change.difference.n) == (0.0, 290)
    assert ten.verdict is Verdict.CANNOT_TELL
    assert "10 of 300 items lack an answer; without them it would be equivalent" in ten.why
    assert ten.worst is not None
    assert [one.difference.value for one in ten.worst] == pytest.approx([0.0, 10 / 300])
    one = run(a, [1.0] * 210 + [None] + [0.0] * 89, 0.03)
    assert one.verdict is Verdict.EQUIVALENT
    bounds = one.as_json()["bounds"]
    assert bounds["high"] > one.as_json()["difference"]["high"]
    # the flaw of comparing each model's own answers: 210 of 269 against 210 of 300 would be +8.1 points
    assert run(a, a, 0.03).as_json()["bounds"] is None


RATING = Metric("score", "real", least=1, most=10)


def test_ratings_that_are_missing_decide_nothing() -> None:
    """160 answers rated alike (5 and 7 in turn); B's 16 worst have no rating. They could have been 1: 16 * 4 / 160 = 0.4
    points worse; or 10."""
    a = [5.0, 7.0] * 80
    b: list[float | None] = [None if at < 32 and at % 2 == 0 else value for at, value in enumerate(a)]
    line = run(a, b, 0.3, RATING)
    assert (line.verdict, line.change.difference.n_missing) == (Verdict.CANNOT_TELL, 16)
    assert line.worst is not None
    assert line.worst[0].difference.value == pytest.approx(-16 * 4 / 160)
    assert line.worst[1].difference.value == pytest.approx(16 * 5 / 160)
    assert run(a, [None, *a[1:]], 0.3, RATING).verdict is Verdict.EQUIVALENT
    # without a least and a most anything may be missing
    unknown = run(a, [None, *a[1:]], 0.3, Metric("score", "real"))
    assert unknown.verdict is Verdict.NOT_TESTABLE
    assert "no least and most" in unknown.why


def test_lines_that_are_not_testable_make_no_other_easier() -> None:
    """One line with p = 0.0078 (7 of 7 items for B), one that cannot be tested and has p = 1 in the family: 0.0156."""
    a, b = table(40, 0, 8, 52)
    zero = items([0.0] * 100, "floor")
    both = [RIGHT, Metric("floor")]
    made = compare([*items(a), *zero], [*items(b), *zero], both, [], margin=0.02, seed=0)
    right, floor = made.lines
    assert floor.verdict is Verdict.NOT_TESTABLE
    assert floor.p_difference_adjusted is None
    assert right.p_difference_adjusted == pytest.approx(2 * 2 / 2**8)


def test_items_of_one_model_only_are_missing_and_never_wrong() -> None:
    a = items([1, 0, 1, None, 1, 0])
    b = items([1, 1, 0, 1])
    line = only(compare(a, [*b, ItemScore("late", "right", 1, "g9", {"kind": "k"})], [RIGHT], [], margin=0.02, seed=0))
    difference = line.change.difference
    assert (difference.n, difference.n_missing) == (3, 4)
    assert (line.first, line.second) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    nothing = run([None, 1], [1, None])
    assert (nothing.verdict, nothing.change.difference.n_missing) == (Verdict.NOT_TESTABLE, 2)
    assert nothing.as_json()["difference"]["value"] is None
    assert "2 items, none answered by both" in nothing.sentence


def test_grouped_items_are_resampled_together() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 2, 120).tolist(), rng.integers(0, 2, 120).tolist()
    left, right = items(a, per_group=4), items(b, per_group=4)
    line = only(compare(left, right, [RIGHT], [], margin=0.02, seed=9, cluster="templates"))
    gained = [float(y - x) for x, y in zip(a, b, strict=True)]
    known = cluster_bootstrap(gained, [one.group for one in left], rng=np.random.default_rng(9))
    difference = line.change.difference
    assert (difference.value, difference.low, difference.high) == pytest.approx((known.value, known.low, known.high))
    assert difference.method == "paired bootstrap over 30 templates"


def test_fewer_than_ten_groups_cannot_tell() -> None:
    line = only(
        compare(items([1, 0] * 8, per_group=2), items([0, 1] * 8, per_group=2), [RIGHT], [], margin=0.1, seed=0)
    )
    assert (line.verdict, line.why) == (Verdict.CANNOT_TELL, "these groups only (8 < 10)")
    assert "no interval; 16 items): these groups only (8 < 10)." in line.sentence


def test_where_no_item_changed_each_group_could_have() -> None:
    """200 groups of 2 answered alike: within Wilson's bound of 0 in 200, which is 0.0188 at 95 %."""
    same = [1.0, 0.0] * 200
    line = only(compare(items(same, per_group=2), items(same, per_group=2), [RIGHT], [], margin=0.02, seed=0))
    difference = line.change.difference
    high = wilson(0, 200).high
    assert (difference.low, difference.high) == (-high if high else None, high)
    assert high == pytest.approx(0.0188, abs=1e-4)
    assert (line.change.p_difference, line.verdict) == (1.0, Verdict.EQUIVALENT)
    few = [1.0, 0.0] * 15
    line = only(compare(items(few, per_group=2), items(few, per_group=2), [RIGHT], [], margin=0.02, seed=0))
    assert line.verdict is Verdict.CANNOT_TELL


def test_weights_of_each_model_are_its_own() -> None:
    """(1 * 1 + 3 * 2) / 4 = 1.75 against (2 * 1 + 2 * 2) / 4 = 1.5."""
    a = [ItemScore("x", "loss", 1.0, "x", {}, 1), ItemScore("y", "loss", 2.0, "y", {}, 3)]
    b = [ItemScore("x", "loss", 1.0, "x", {}, 2), ItemScore("y", "loss", 2.0, "y", {}, 2)]
    line = only(compare(a, b, [LOSS], [], margin=0.1, seed=0))
    assert (line.first, line.second, line.change.difference.value) == (1.75, 1.5, -0.25)


def test_primary_lines_are_one_family_and_slices_are_exploratory() -> None:
    """9 items differ, 8 for B: p = 2 * 10 / 512 = 0.039, twice; Holm makes it 0.078, and nobody can tell."""
    a, b = table(20, 1, 8, 20)
    two = Metric("other")
    made = compare(
        [*items(a), *items(a, "other")], [*items(b), *items(b, "other")], [RIGHT, two], [("kind",)], margin=0.02, seed=0
    )
    assert [(line.metric, line.by, line.name, line.primary) for line in made.lines] == [
        ("right", "overall", "overall", True),
        ("right", "kind", "k", False),
        ("other", "overall", "overall", True),
        ("other", "kind", "k", False),
    ]
    assert [line.p_difference_adjusted for line in made.primary] == pytest.approx([2 * 20 / 512] * 2)
    assert [line.verdict for line in made.lines] == [Verdict.CANNOT_TELL, Verdict.BETTER] * 2
    assert made.lines[1].p_difference_adjusted is None
    assert made.lines[1].sentence.endswith("Exploratory.")
    assert run(a, b).verdict is Verdict.BETTER


def test_a_size_has_no_verdict_and_a_metric_may_have_its_own_margin() -> None:
    size = Metric("tokens", scale="real", direction="none")
    line = run([1, 2, 3, 5], [2, 4, 4, 9], 0.1, size)
    assert (line.verdict, line.as_json()["verdict"]) == (None, None)
    assert "no verdict (+2.000" in line.sentence
    a, b = items([1.0, 2.0, 3.0], "loss"), items([1.1, 2.0, 2.9], "loss")
    assert only(compare(a, b, [LOSS], [], margin=0.02, seed=0, margins={"loss": 1.0})).verdict is Verdict.EQUIVALENT


def test_other_items_and_unknown_names_are_refused() -> None:
    a, b = items([1, 0]), items([1, 0], kinds=("other",))
    with pytest.raises(UserError, match="i000, metric right"):
        compare(a, b, [RIGHT], [], margin=0.02, seed=0)
    with pytest.raises(UserError, match="measured: right"):
        compare(a, a, [LOSS], [], margin=0.02, seed=0)
    with pytest.raises(UserError, match="there are: kind"):
        compare(a, a, [RIGHT], [("kid",)], margin=0.02, seed=0)
    with pytest.raises(UserError, match="margin"):
        compare(a, a, [RIGHT], [], margin=0, seed=0)


def test_the_json_holds_every_line() -> None:
    made = compare(items([1, 0, 1]), items([0, 0, None]), [RIGHT], [("kind",)], margin=0.02, seed=0)
    told = json.loads(json.dumps(made.as_json(), allow_nan=False))
    assert (told["first"], told["second"], len(told["contrasts"])) == ("A", "B", 2)
    assert told["contrasts"][0]["difference"]["n_missing"] == 1
    assert told["contrasts"][0]["first"] == 0.5


def test_flips_name_the_items_on_which_the_models_part() -> None:
    a = [*items([1, 1, 0, 0, 1, None]), *items([1.0, 2.0], "loss")]
    b = [*items([0, 1, 1, 0, 0, 1]), *items([2.0, 2.0], "loss")]
    told = [(flip.item, flip.way, flip.first, flip.second) for flip in flips(a, b, [RIGHT, LOSS])]
    assert told == [("i000", "lost", 1, 0), ("i004", "lost", 1, 0), ("i002", "gained", 0, 1)]
    lower = flips(a, b, [Metric("right", direction="lower")])
    assert [(flip.item, flip.way) for flip in lower] == [("i002", "lost"), ("i000", "gained"), ("i004", "gained")]
    assert lower[0].as_json()["slices"] == {"kind": "k"}
    assert {flip.way for flip in flips(a, b, [Metric("right", direction="none")])} == {"changed"}
