"""Lines of a scorecard: values and intervals worked by hand, missing items, groups, weights, and honest coverage."""

import doctest
import math
from collections.abc import Sequence

import numpy as np
import pytest

from pyrite.errors import UserError
from pyrite.records import Estimate, Labelled
from pyrite.stats import cluster_bootstrap, clustered
from pyrite.stats.clustered import change_of_items, mean_of_items
from pyrite.tasks import HANS, NLI
from pyrite.tasks.scoring import ItemScore, Line, Metric, Task, from_labels, label_metrics, summarise

RIGHT = Metric("right")
POINTS = Metric("points", scale="real")
Z2 = 1.959964**2


def shares(values: Sequence[float | None], *, per_group: int = 1, **columns: Sequence[str]) -> list[ItemScore]:
    return [
        ItemScore(f"i{n}", "right", value, f"g{n // per_group}", {name: column[n] for name, column in columns.items()})
        for n, value in enumerate(values)
    ]


def points(values: Sequence[float | None], *, weights: Sequence[float] | None = None, per_group: int = 1):  # type: ignore[no-untyped-def]
    heavy = weights or [1.0] * len(values)
    return [
        ItemScore(f"i{n}", "points", value, f"g{n // per_group:03}", {}, heavy[n]) for n, value in enumerate(values)
    ]


def only(lines: list[Line]) -> Estimate:
    assert len(lines) == 1
    return lines[0].estimate


def test_a_share_of_independent_items_has_wilsons_interval_and_counts_what_is_missing() -> None:
    estimate = only(summarise(shares([1] * 8 + [0] * 2 + [None] * 3), [RIGHT], [], seed=0))
    assert (estimate.value, estimate.n, estimate.n_missing, estimate.method) == (0.8, 10, 3, "Wilson")
    assert (estimate.low, estimate.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_lines_come_overall_first_then_by_cut_in_order_of_first_appearance() -> None:
    measured = shares([1, 0, 1, None], kind=["b", "a", "b", "c"], gold=["x", "x", "y", "y"])
    lines = summarise(measured, [RIGHT], [("kind",), ("kind", "gold")], seed=0)
    found_lines = [(line.by, line.name, line.estimate.n, line.estimate.n_missing) for line in lines]
    assert found_lines == [
        ("overall", "overall", 3, 1),
        ("kind", "b", 2, 0),
        ("kind", "a", 1, 0),
        ("kind", "c", 0, 1),
        ("kind x gold", "b / x", 1, 0),
        ("kind x gold", "a / x", 1, 0),
        ("kind x gold", "b / y", 1, 0),
        ("kind x gold", "c / y", 0, 1),
    ]
    assert lines[1].estimate.value == 1.0
    assert lines[4].values == (("kind", "b"), ("gold", "x"))
    nothing = lines[3]
    assert math.isnan(nothing.estimate.value)
    assert (nothing.note, nothing.as_json()["value"]) == ("no answers", None)


def test_an_item_without_a_column_counts_under_a_question_mark_and_a_column_of_nobody_is_refused() -> None:
    measured = [*shares([1, 0], kind=["a", "a"]), ItemScore("late", "right", 1, "g9", {})]
    lines = summarise([*measured, ItemScore("i0", "points", 3.0, "g0", {})], [RIGHT, POINTS], [("kind",)], seed=0)
    assert [(line.metric, line.name, line.estimate.n) for line in lines] == [
        ("right", "overall", 3),
        ("right", "a", 2),
        ("right", "?", 1),
        ("points", "overall", 1),
    ]
    with pytest.raises(UserError, match="kin; there are: kind"):
        summarise(measured, [RIGHT], [("kin",)], seed=0)


def test_real_values_of_independent_items_have_a_t_interval() -> None:
    """Mean 2.5, sd 1.2910, t(3) 3.1824: half is 2.0543."""
    estimate = only(summarise(points([1, 2, 3, 4, None]), [POINTS], [], seed=0))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((2.5, 0.4457, 4.5543), abs=1e-4)
    assert (estimate.method, estimate.n_missing) == ("t over items", 1)
    assert only(summarise(points([3.0]), [POINTS], [], seed=0)).method == "one item: no interval"
    assert only(summarise(points([3.0, 3.0]), [POINTS], [], seed=0)).method == "identical in all 2 items: no interval"


def test_grouped_shares_are_the_bootstrap_over_templates() -> None:
    values = [float(n % 3 == 0 or n % 7 == 0) for n in range(60)]
    measured = shares(values, per_group=4)
    estimate = only(summarise(measured, [RIGHT], [], seed=5, cluster="templates"))
    expected = cluster_bootstrap(values, [item.group for item in measured], rng=np.random.default_rng(5))
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.method == expected.method == "bootstrap over 15 templates"


def test_fewer_than_ten_groups_give_no_interval_and_the_note_says_so() -> None:
    line = summarise(shares([1, 0] * 9, per_group=2), [RIGHT], [], seed=0, cluster="templates")[0]
    assert (line.estimate.low, line.note) == (None, "these templates only (9 < 10)")


def test_few_groups_give_no_interval_even_where_a_slice_has_one_item_of_each() -> None:
    """Three items of three templates, of a metric that has more of each; with ten or more, items are independent."""
    kind = ["a", "b"] * 12
    lines = summarise(shares([1, 0, 0] * 8, per_group=2, kind=kind)[:6], [RIGHT], [("kind",)], seed=0)
    assert [line.estimate.method for line in lines] == ["these groups only (3 < 10)"] * 3
    lines = summarise(shares([1, 0, 0] * 8, per_group=2, kind=kind), [RIGHT], [("kind",)], seed=0)
    assert [line.estimate.method for line in lines] == ["bootstrap over 12 groups", "Wilson", "Wilson"]


def test_a_share_of_zero_in_every_group_still_has_an_interval() -> None:
    """40 groups of 3, nothing right: Wilson of 0 in 40, whose upper bound is z^2 / (40 + z^2)."""
    estimate = only(summarise(shares([0] * 120, per_group=3), [RIGHT], [], seed=0))
    assert (estimate.value, estimate.low) == (0, 0)
    assert (estimate.high, estimate.n) == (pytest.approx(Z2 / (40 + Z2), abs=1e-6), 120)
    all_right = only(summarise(shares([1] * 120, per_group=3), [RIGHT], [], seed=0))
    assert (all_right.low, all_right.high) == (pytest.approx(40 / (40 + Z2), abs=1e-6), 1)
    # one group of 10 beside 30 of 1: 40^2 / (10^2 + 30) = 12.3 groups of equal size
    groups = ["big"] * 10 + [f"g{n}" for n in range(30)]
    uneven = mean_of_items([0] * 40, groups, rng=np.random.default_rng(0), share=True)
    assert uneven.high == pytest.approx(Z2 / (12 + Z2), abs=1e-6)


def test_weights_give_the_ratio_of_sums_and_its_linearised_error() -> None:
    """(2 * 1 + 4 * 3) / 4 = 3.5; the bootstrap error nears sqrt(k / (k - 1) * sum w^2 (x - r)^2) / sum w."""
    assert only(summarise(points([2, 4], weights=[1, 3]), [POINTS], [], seed=0)).value == 3.5
    rng = np.random.default_rng(3)
    w = rng.integers(5, 50, 200).astype(float)
    x = rng.normal(2, 1, 200) + w / 50
    estimate = only(summarise(points(list(x), weights=list(w)), [POINTS], [], seed=0))
    ratio = (w * x).sum() / w.sum()
    error = np.sqrt(200 / 199 * (w**2 * (x - ratio) ** 2).sum()) / w.sum()
    assert estimate.high is not None
    assert estimate.value == pytest.approx(ratio)
    assert (estimate.high - estimate.value) / 1.97196 == pytest.approx(error, rel=0.06)  # t(199)


def test_real_values_between_0_and_1_are_not_cut_there() -> None:
    values = [0.0] * 40 + [1.0] * 2
    estimate = mean_of_items(values, [str(n // 2) for n in range(42)], rng=np.random.default_rng(0))
    assert estimate.low is not None
    assert estimate.low < 0
    share = mean_of_items(values, [str(n // 2) for n in range(42)], rng=np.random.default_rng(0), share=True)
    assert share.low == 0


def test_a_line_does_not_depend_on_which_others_are_asked_for_or_on_the_order_of_items() -> None:
    columns = {"kind": ["a", "b", "b"] * 20}
    measured = shares([float(n % 4 > 1) for n in range(60)], per_group=3, **columns)
    alone = summarise(measured, [RIGHT], [], seed=1)[0]
    assert alone == summarise(measured, [RIGHT], [("kind",)], seed=1)[0]
    back = summarise(measured[::-1], [RIGHT], [], seed=1)[0].estimate
    assert (back.low, back.high) == pytest.approx((alone.estimate.low, alone.estimate.high))


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        ([ItemScore("a", "right", 1.5, "a")], "between 0 and 1"),
        ([ItemScore("a", "right", math.nan, "a")], "not a number"),
        ([ItemScore("a", "right", 1, "a"), ItemScore("a", "right", 0, "b")], "twice"),
        ([ItemScore("a", "right", 1, "a", {}, 0.0)], "above 0"),
        ([ItemScore("a", "wrong", 1, "a")], "measured: wrong"),
    ],
)
def test_what_cannot_be_is_refused(measured: list[ItemScore], says: str) -> None:
    with pytest.raises(UserError, match=says):
        summarise(measured, [RIGHT], [], seed=0)


def label_items(count: int, templates: int) -> list[Labelled]:
    meta = [{"template": f"t{n % templates}", "heuristic": "h", "subcase": "s", "parse": ["x"]} for n in range(count)]
    gold = ["entailment", "non-entailment"]
    return [Labelled({}, gold[n // templates % 2], f"i{n}", meta[n]) for n in range(count)]


def test_labels_become_measured_items_grouped_by_template() -> None:
    items = label_items(48, 12)
    predicted: dict[str, str | None] = {item.id: "neutral" for item in items[2:]} | {"i1": "entailment"}
    measured = from_labels(items, predicted, HANS)
    assert [item.value for item in measured[:3]] == [None, 1.0, 0.0]
    assert (measured[0].group, dict(measured[0].slices)) == (
        "t0",
        {"heuristic": "h", "subcase": "s", "template": "t0", "gold": "entailment"},
    )
    lines = summarise(measured, label_metrics(HANS), HANS.slices, seed=0, cluster="templates")
    assert lines[0].estimate.method == "bootstrap over 12 templates"
    by_template = {line.estimate.method for line in lines if line.by == "template x gold"}
    assert by_template == {"these templates only (1 < 10)"}  # one of them has a single answer
    # 48 items in two labels of 24; "neutral" is right on the 24 others but i0, i1, which has the answer "entailment"
    overall, *by_slice = lines
    assert (overall.estimate.n, overall.estimate.n_missing) == (47, 1)
    right = sum(item.label == "non-entailment" for item in items[2:]) + 1
    assert overall.estimate.value == pytest.approx(right / 47)
    gold = {line.name: line.estimate for line in by_slice if line.by == "gold"}
    assert gold["non-entailment"].value == 1.0
    assert (gold["entailment"].value, gold["entailment"].n_missing) == (pytest.approx(1 / 23), 1)


def test_labels_of_a_task_without_templates_are_one_by_one_and_merged_labels_are_a_second_metric() -> None:
    items = [
        Labelled({}, gold, f"i{n}") for n, gold in enumerate(["neutral", "contradiction", "entailment", "neutral"])
    ]
    predicted = dict.fromkeys((item.id for item in items), "contradiction")
    lines = summarise(from_labels(items, predicted, NLI), label_metrics(NLI), [], seed=0)
    assert [(line.metric, line.estimate.value) for line in lines] == [("accuracy", 0.25), ("accuracy_2way", 0.75)]
    assert lines[0].estimate.method == "Wilson"
    plain = [Labelled({}, "entailment", "a"), Labelled({}, "entailment", "b")]
    measured = from_labels(plain, {}, HANS)  # no item has a template
    assert [item.group for item in measured] == ["a", "b"]
    assert measured[0].slices["subcase"] == "?"


def test_unknown_labels_are_refused() -> None:
    task = Task("t", ("yes", "no"))
    with pytest.raises(UserError, match="item a: 'maybe'"):
        from_labels([Labelled({}, "yes", "a")], {"a": "maybe"}, task)
    with pytest.raises(UserError, match="gold"):
        from_labels([Labelled({}, "perhaps", "a")], {}, task)
    with pytest.raises(UserError, match="no items"):
        from_labels([], {}, task)


def covered(estimates: list[Estimate], truth: float) -> float:
    return float(np.mean([e.low is not None and e.high is not None and e.low <= truth <= e.high for e in estimates]))


DRAWS = 1000
NOISE = 3 * math.sqrt(0.95 * 0.05 / DRAWS)


def test_simulated_intervals_of_grouped_and_weighted_means_cover() -> None:
    """30 groups of 2 to 8 items whose chances differ between groups; weights between 1 and 20 that the value feels.

    95 % within three standard errors of the simulation and one point of bias: neither too narrow nor far too wide.
    """
    rng = np.random.default_rng(11)
    index = np.repeat(np.arange(30), rng.integers(2, 9, 30))
    names = [f"g{at:02}" for at in index]
    chances = 0.6 + rng.uniform(-0.3, 0.3, (DRAWS, 30))
    correct = (rng.random((DRAWS, len(index))) < chances[:, index]) * 1.0
    plain = [mean_of_items(row, names, rng=rng, share=True, resamples=300) for row in correct]
    assert covered(plain, 0.6) == pytest.approx(0.95, abs=NOISE + 0.01)

    weights = rng.integers(1, 21, (DRAWS, len(index))).astype(float)
    x = weights / 10 + rng.normal(0, 1, (DRAWS, 30))[:, index] + rng.normal(0, 1, weights.shape)
    heavy = [mean_of_items(row, names, weights=w, rng=rng, resamples=300) for row, w in zip(x, weights, strict=True)]
    truth = np.mean(np.arange(1, 21) ** 2) / np.mean(np.arange(1, 21)) / 10  # E[w * w / 10] / E[w]
    assert covered(heavy, float(truth)) == pytest.approx(0.95, abs=NOISE + 0.01)


def test_simulated_intervals_of_paired_grouped_changes_cover() -> None:
    """30 groups of 2 to 8 items: a drop of 10 points that differs between groups, answers shared between models."""
    rng = np.random.default_rng(12)
    index = np.repeat(np.arange(30), rng.integers(2, 9, 30))
    names = [f"g{at:02}" for at in index]
    luck = rng.random((DRAWS, len(index)))
    base = rng.uniform(0.4, 0.8, (DRAWS, 30))
    drop = -0.1 + rng.uniform(-0.1, 0.1, (DRAWS, 30))
    first, second = (luck < base[:, index]) * 1.0, (luck < (base + drop)[:, index]) * 1.0
    changes = [
        change_of_items(a, b, names, rng=rng, share=True, margin=0.02, resamples=300)
        for a, b in zip(first, second, strict=True)
    ]
    assert covered([change.difference for change in changes], -0.1) == pytest.approx(0.95, abs=NOISE + 0.01)


def test_simulated_false_calls_of_grouped_changes_are_rare() -> None:
    """No change at all: "differs" in at most 5 %; a change as large as the margin: "equivalent" in at most 5 %."""
    rng = np.random.default_rng(13)
    names = [f"g{n // 4:02}" for n in range(160)]
    base = np.repeat(rng.uniform(0.3, 0.7, (DRAWS, 40)), 4, axis=1)
    pairs = [(rng.random(base.shape) < base) * 1.0 for _ in range(2)]
    moved = (rng.random(base.shape) < base - 0.15) * 1.0
    differs, equal = 0, 0
    for a, b, c in zip(*pairs, moved, strict=True):
        p = change_of_items(a, b, names, rng=rng, share=True, resamples=300).p_difference
        q = change_of_items(a, c, names, rng=rng, share=True, margin=0.15, resamples=300).p_equivalence
        differs += p is not None and p < 0.05
        equal += q is not None and q < 0.05
    assert differs / DRAWS <= 0.05 + NOISE
    assert equal / DRAWS <= 0.05 + NOISE


def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(clustered).failed == 0
