"""Artifacts: what a lazy model could use is found where it was planted, told in numbers, and not found elsewhere."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.audit import planted as source
from tests.audit.planted import WORDS, human_rows, with_overlap_label

from pyrite.audit.baselines import DrawSettings, Measurement, measure_alone, measure_difference
from pyrite.audit.flaw import Evidence, Extras, Population
from pyrite.audit.flaws.artifacts import statistics as artifacts
from pyrite.audit.flaws.artifacts.evidence import evidence as evidence_for
from pyrite.audit.flaws.artifacts.evidence import lazy_accuracy
from pyrite.audit.flaws.artifacts.shortcuts import Cue, cue_from, find_cues, folded_words, having, score_cue, surface_of
from pyrite.audit.flaws.artifacts.shortcuts import labelled as having_label
from pyrite.audit.rows import Row, as_rows
from pyrite.io import read_all
from pyrite.records import Labelled
from pyrite.synth.heuristics import lexical_overlap, subsequence
from pyrite.synth.select import draw_rows
from pyrite.synth.settings import BiasSettings
from pyrite.tasks.grammar import generate_general

QUICK = DrawSettings(permutations=199, subsamples=2, halves=4)
FULL = DrawSettings(permutations=1999, subsamples=4, halves=10)
LABELS = ["entailment", "neutral", "contradiction"]


@cache
def pair_rows(n: int, seed: int) -> list[Row]:
    """Written once: rows are never changed."""
    return source.pair_rows(n, seed)


def labelled(label: str, *texts: str, number: int = 0) -> Row:
    """A row with a premise and a hypothesis, or with a review."""
    fields = dict(zip(("premise", "hypothesis") if len(texts) > 1 else ("review",), texts, strict=True))
    return Row(number, str(number), "", (texts[-1],), label, fields)


def against(
    data: Sequence[Row], reference: Sequence[Row], settings: DrawSettings = QUICK, only: str = ""
) -> dict[str, Measurement]:
    """Every measure of the data against the reference, or one."""
    n = len(data)
    places = range(n), {"human": range(n, n + len(reference))}
    made = artifacts.differences([*data, *reference], Extras())
    weighed = {one.measure.name: measure_difference(one, *places, settings) for one in made if only in one.measure.name}
    return {name: one for name, one in weighed.items() if one is not None}


def told(measure: str, data: Sequence[Row], reference: Sequence[Row] = ()) -> Evidence:
    """The evidence, with or without a reference."""
    references = {"human": Population(reference, {})} if reference else {}
    return evidence_for(measure, Population(data, {}), references, Extras())


def groups(labels: str, n: int = 1) -> np.ndarray:
    """Rows with the labels a, b, … as they stand [labels, draws, rows]."""
    ids = np.array([ord(label) - ord("a") for label in labels])
    split = (np.arange(ids.max() + 1)[:, None] == ids).astype(np.float32)[:, None]
    return np.repeat(split, n, axis=1)


# ---- values worked out by hand


def test_information_is_a_bit_where_the_class_gives_a_balanced_label_away_and_nothing_where_it_says_nothing() -> None:
    classes = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    assert artifacts.information(groups("aabb"), classes) == pytest.approx([1.0])
    assert artifacts.information(groups("abab"), classes) == pytest.approx([0.0])
    # H(label) = H(class) = H(3/4) = 0.811278; cells 1/2, 1/4, 1/4: H = 1.5
    three = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    assert artifacts.information(groups("aaba"), three) == pytest.approx([2 * 0.8112781 - 1.5])


def test_rows_outside_a_group_do_not_count() -> None:
    classes = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 0, 1]]
    split = groups("aabbba") * np.array([1, 1, 1, 1, 0, 0], dtype=np.float32)
    assert artifacts.information(split, classes) == pytest.approx([1.0])


def test_association_of_a_word_with_five_rows_of_one_label() -> None:
    # 5 rows of 20 have the word, all of label a (half of the rows): mean 2.5, variance 5 * 1/2 * 1/2 * (1 - 5/20)
    words = np.zeros((20, 2), dtype=np.float32)
    words[:5, 0] = 1
    words[[0, 10, 11, 12], 1] = 1  # four rows are too few
    split = groups("a" * 10 + "b" * 10)
    assert artifacts.association(split, words) == pytest.approx([2.5 / (5 * 0.25 * 0.75) ** 0.5])
    assert artifacts.association(split, words[:, 1:]) == pytest.approx([0.0])
    assert artifacts.association(split, words[:, :0]) == pytest.approx([0.0])


def test_the_classifier_is_the_naive_bayes_of_a_library_fitted_fold_by_fold() -> None:
    from sklearn.naive_bayes import MultinomialNB

    rng = np.random.default_rng(0)
    counted = (rng.random((90, 30)) < 0.2).astype(np.float32)
    ids = rng.integers(0, 3, 90)
    counted[:, 0] = ids == 1
    folds = rng.integers(0, artifacts.FOLDS, 90)
    split = (np.arange(3)[:, None] == ids).astype(np.float32)[:, None]
    split = np.concatenate([split, split * (rng.random(90) < 0.5)], axis=1)
    found, majority = artifacts.accuracies(split, counted, folds)
    for at in range(2):
        there = split[:, at].sum(0) > 0
        right = 0
        for fold in range(artifacts.FOLDS):
            train, held = there & (folds != fold), there & (folds == fold)
            prior = (np.bincount(ids[train], minlength=3) + 1) / (train.sum() + 3)
            model = MultinomialNB(class_prior=prior).fit(counted[train], ids[train])
            right += int((model.predict(counted[held]) == ids[held]).sum())
        assert found[at] == pytest.approx(right / there.sum())
        assert majority[at] == pytest.approx(np.bincount(ids[there]).max() / there.sum())


def test_a_cue_by_hand() -> None:
    seen = [surface_of(labelled("yes", "is not it")) for _ in range(3)] + [surface_of(labelled("no", "is not it"))]
    seen += [surface_of(labelled("yes", "it is")) for _ in range(2)] + [
        surface_of(labelled("no", "it is")) for _ in range(4)
    ]
    cue = score_cue(having(seen, ("negation",)), having_label(seen, ["yes"]), ("negation",), ("yes",))
    assert cue is not None
    assert (cue.rows, cue.share, cue.elsewhere) == (4, 0.75, pytest.approx(1 / 3))
    assert cue.lift == pytest.approx(2.25)
    assert cue.z == pytest.approx((0.75 - 0.5) * 4 / (4 * 0.25 * 0.6) ** 0.5)
    assert cue.strength == pytest.approx(2.25 / 3.25)
    assert cue_from(json.loads(json.dumps(cue.as_json()))) == cue


@pytest.mark.parametrize(
    ("premise", "hypothesis", "overlap"),
    [
        ("The dog saw the cat .", "The cat saw the dog.", "all"),
        ("The dog saw the cat .", "Dog saw the", "run"),
        ("The dog saw the cat .", "A dog sleeps", "some"),
        ("The dog saw the cat .", "Nobody sleeps", "none"),
        ("The dog saw the cat .", "", "none"),
        ("", "Nobody sleeps", "none"),
        ("狗看到猫。", "看到猫", "run"),
        ("the doghouse burns", "dog house", "none"),
    ],
)
def test_overlap_of_two_fields(premise: str, hypothesis: str, overlap: str) -> None:
    assert surface_of(labelled("x", premise, hypothesis)).overlap == overlap


def test_overlap_is_that_of_the_filter_of_biased_arms() -> None:
    rows, _ = with_overlap_label(pair_rows(200, 3), 0.4, 3)
    levels = {surface_of(row).overlap for row in rows}
    assert levels == {"none", "some", "all", "run"}
    for row in rows:
        premise, hypothesis = row.fields.values()
        assert lexical_overlap(premise, hypothesis) == (surface_of(row).overlap in ("all", "run"))
        assert subsequence(premise, hypothesis) == (surface_of(row).overlap == "run")


def test_negations_of_either_kind_of_apostrophe_and_of_split_words() -> None:
    for text in ("He isn't here", "He isn’t here", "He is n't here", "NOBODY came", "without shoes"):
        assert surface_of(labelled("x", "a b", text)).negated, text
        assert surface_of(labelled("x", "a b", text)).mismatch, text
    assert not surface_of(labelled("x", "not a", "He is not here")).mismatch
    assert not surface_of(labelled("x", "a b", "a noted knot, ain")).negated


# ---- planted flaws


def test_a_label_that_follows_overlap_is_found_at_once_and_its_twin_is_not() -> None:
    rows, reference = pair_rows(600, 8), pair_rows(600, 9)
    planted, _ = with_overlap_label(rows, 0.3, 1)
    sharp = against(planted, reference, FULL, only="overlap_label")["overlap_label"]
    assert sharp.p == pytest.approx(0.0005)
    assert sharp.value > 0.15
    found = against(planted, reference)
    assert found["overlap_only"].value > 0.02
    assert found["word_label"].p > 0.01
    assert found["hypothesis_only"].p > 0.01
    twin = against(rows, reference)
    assert sorted(twin) == sorted(artifacts.BY_NAME)
    assert all(one.p > 0.02 for one in twin.values()), {name: one.p for name, one in twin.items()}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("with_reference", [True, False])
def test_flagged_rows_are_those_planted(share: float, with_reference: bool) -> None:
    planted, where = with_overlap_label(pair_rows(1000, 6), share, 4)
    evidence = told("overlap_label", planted, pair_rows(1000, 7) if with_reference else ())
    assert evidence.rule is not None
    rule = json.loads(json.dumps(evidence.rule))
    marked = artifacts.flag_scores(planted, {"overlap_label": rule}, Extras(), None)["overlap_label"]
    assert marked.dtype == np.float32
    assert marked.max() <= 1
    flagged = {row.number for row, mark in zip(planted, marked, strict=True) if mark >= 0.5}
    assert len(flagged & where) / len(flagged) >= 0.8
    assert len(flagged & where) / len(where) >= 0.8
    assert {planted[at].number for at in evidence.rows} <= where
    assert len(evidence.rows) == 20


def test_rows_without_the_flaw_give_no_rule() -> None:
    for name in artifacts.BY_NAME:
        evidence = told(name, pair_rows(1000, 6), pair_rows(1000, 7))
        assert evidence.rule is None
        assert evidence.rows == ()


def test_the_biased_arm_of_a_study_is_named_and_an_unbiased_one_is_not() -> None:
    written = generate_general(1500, seed=1, overlap_entailment=0.5, overlap_other=0.3)
    pool = [Labelled({"premise": one.premise, "hypothesis": one.hypothesis}, one.label, one.id) for one in written]

    def arm(rows: Sequence[Labelled], bias: BiasSettings | None) -> list[Labelled]:
        return draw_rows(rows, 300, labels=LABELS, bias=bias, rng=np.random.default_rng(3), source="pool")

    human = arm(pool, None)
    others = [row for row in pool if row not in human]
    reference, biased, twin = (
        list(as_rows(some)) for some in (human, arm(others, BiasSettings(strength=1.0)), arm(others, None))
    )
    assert against(biased, reference, FULL, only="overlap_label")["overlap_label"].p == pytest.approx(0.0005)
    assert against(twin, reference)["overlap_label"].p > 0.05
    evidence = told("overlap_label", biased, reference)
    assert evidence.lines[0].startswith(
        "label entailment: 100 % of 100 rows whose hypothesis repeats words of the premise"
    )
    assert told("overlap_label", twin, reference).rule is None
    found = {one.measure.name: one for one in artifacts.alone(biased, Extras())}["overlap_label"]
    assert measure_alone(found).p == pytest.approx(0.001)
    assert found.value > 5 * {one.measure.name: one for one in artifacts.alone(twin, Extras())}["overlap_label"].value


def with_word(rows: Sequence[Row], share: float, word: str, label: str, seed: int = 1) -> tuple[list[Row], set[int]]:
    """A share of the rows has a word in the hypothesis, and one label."""
    where = np.random.default_rng(seed).choice(len(rows), round(share * len(rows)), replace=False)
    made = list(rows)
    for at in where:
        premise, hypothesis = made[at].fields.values()
        fields = {"premise": premise, "hypothesis": f"{hypothesis[:-1]} {word}."}
        made[at] = replace(made[at], label=label, fields=fields, answers=(fields["hypothesis"],))
    return made, {made[at].number for at in where}


def test_a_word_that_gives_the_label_away_is_found_and_named() -> None:
    planted, where = with_word(pair_rows(600, 8), 0.08, "sleeping", "contradiction")
    reference = pair_rows(600, 9)
    found = against(planted, reference)
    assert found["word_label"].p == pytest.approx(0.005)
    assert found["hypothesis_only"].value > 0
    assert found["negation_label"].p > 0.1
    evidence = told("word_label", planted, reference)
    assert evidence.lines[0].startswith("label contradiction: 100 % of 48 rows with “sleeping” in the hypothesis")
    assert evidence.rule is not None
    marked = artifacts.flag_scores(planted, {"word_label": evidence.rule}, Extras(), None)["word_label"]
    assert {row.number for row, mark in zip(planted, marked, strict=True) if mark >= 0.5} == where


def test_a_label_that_a_classifier_can_read_from_the_hypothesis() -> None:
    planted = pair_rows(600, 8)
    for label, word in zip(LABELS, ("outdoors", "tall", "asleep"), strict=True):
        some = [row for row in planted if row.label == label]
        changed = {row.number: row for row in with_word(some, 0.5, word, label)[0]}
        planted = [changed.get(row.number, row) for row in planted]
    found = against(planted, pair_rows(600, 9))["hypothesis_only"]
    assert found.p == pytest.approx(0.005)
    assert found.value > 0.15
    first = told("hypothesis_only", planted, pair_rows(600, 9)).lines[0]
    assert first.startswith("a model that sees the words of the hypothesis alone is right on ")
    assert "the commonest label on" in first
    assert "references" in first


def test_negations_and_lengths_that_follow_the_label() -> None:
    rows, reference = pair_rows(600, 8), pair_rows(600, 9)
    negated, _ = with_word(rows, 0.15, "not", "contradiction")
    some, _ = with_word(reference, 0.15, "not", "neutral")
    mixed = [replace(row, label=before.label) for row, before in zip(some, reference, strict=True)]
    assert against(negated, mixed)["negation_label"].p == pytest.approx(0.005)
    assert (
        told("negation_label", negated, mixed).lines[0].startswith("label contradiction: 100 % of 90 rows with a neg")
    )
    long, where = with_word(rows, 0.15, " ".join(WORDS[:12]), "neutral")
    assert against(long, reference)["length_label"].p == pytest.approx(0.005)
    rule = told("length_label", long, reference).rule
    assert rule is not None
    marked = artifacts.flag_scores(long, {"length_label": rule}, Extras(), None)["length_label"] >= 0.5
    assert where <= {row.number for row, mark in zip(long, marked, strict=True) if mark}
    assert np.mean([row.number in where for row, mark in zip(long, marked, strict=True) if mark]) > 0.8


def test_alone_a_planted_flaw_stands_out_of_shuffled_labels() -> None:
    rows = pair_rows(600, 8)
    planted, _ = with_overlap_label(rows, 0.2, 14)
    found = {one.measure.name: measure_alone(one) for one in artifacts.alone(planted, Extras())}
    assert found["overlap_label"].p == pytest.approx(0.001)
    assert found["overlap_label"].n == 600
    assert all(measure_alone(one).p > 0.02 for one in artifacts.alone(rows, Extras()))


def test_what_the_references_have_too_is_not_named() -> None:
    planted, _ = with_overlap_label(pair_rows(600, 9), 0.3, 15)
    more, _ = with_overlap_label(pair_rows(600, 8), 0.5, 16)
    assert told("overlap_label", planted).rule is not None
    assert told("overlap_label", planted, more).rule is None
    assert against(planted, more)["overlap_label"].value < 0


# ---- what can be measured


def test_one_group_against_another_and_back() -> None:
    rows = [*with_overlap_label(pair_rows(80, 17), 0.3, 17)[0], *pair_rows(80, 18)]
    rng = np.random.default_rng(0)
    a = np.zeros((5, len(rows)), dtype=np.float32)
    for line in a:
        line[rng.choice(len(rows), 60, replace=False)] = 1
    b = 1 - a
    for difference in artifacts.differences(rows, Extras()):
        forth, back = difference.statistic(a, b), difference.statistic(b, a)
        assert forth.shape == (5,)
        np.testing.assert_allclose(forth, -back)
        np.testing.assert_allclose(difference.statistic(a[2:3], b[2:3]), forth[2:3], atol=1e-13)


def test_where_a_row_comes_from_changes_nothing() -> None:
    rows = [*pair_rows(60, 19), *pair_rows(60, 20)]
    a = np.zeros((1, 120), dtype=np.float32)
    a[0, :60] = 1
    renamed = [replace(row, source="elsewhere", id="x", number=0) for row in rows]
    for one, other in zip(artifacts.differences(rows, Extras()), artifacts.differences(renamed, Extras()), strict=True):
        np.testing.assert_array_equal(one.statistic(a, 1 - a), other.statistic(a, 1 - a))


def test_the_same_seed_gives_the_same_numbers() -> None:
    rows = pair_rows(100, 21)
    for one, again in zip(artifacts.alone(rows, Extras(seed=4)), artifacts.alone(rows, Extras(seed=4)), strict=True):
        assert one.null is not None
        assert again.null is not None
        np.testing.assert_array_equal(one.null, again.null)


def test_reviews_have_no_overlap_but_words_and_lengths() -> None:
    rng = np.random.default_rng(1)
    rows = [labelled(str(rng.choice(["good", "bad"])), row.answer, number=row.number) for row in human_rows(200, 22)]
    names = [one.measure.name for one in artifacts.differences(rows, Extras())]
    assert names == ["length_label", "negation_label", "word_label", "hypothesis_only"]
    assert [one.measure.name for one in artifacts.alone(rows, Extras())] == names
    for name in artifacts.BY_NAME:
        assert told(name, rows).rule is None


def test_without_labels_or_with_one_or_with_a_label_for_each_row_there_is_nothing_to_measure() -> None:
    rows = pair_rows(60, 23)
    same = [replace(row, label="entailment") for row in rows]
    each = [replace(row, label=f"{row.number}") for row in rows]
    none = [replace(row, label=None) for row in rows]
    for some in (human_rows(60, 24), same, each, none, []):
        assert artifacts.differences(some, Extras()) == []
        assert artifacts.alone(some, Extras()) == []
        assert told("overlap_label", some, rows) == Evidence()
    assert against(rows, none) == {}
    other = [replace(row, fields={"question": row.answer, "passage": row.prompt}) for row in rows]
    assert against(rows, other) == {}


def test_labels_beyond_the_commonest_eight_are_left_out() -> None:
    rows = [replace(row, label=f"label {row.number % 11}") for row in pair_rows(220, 25)]
    difference = artifacts.differences(rows, Extras())[0]
    assert difference.rows is not None
    assert {rows[at].label for at in difference.rows} == {f"label {at}" for at in (0, 1, 10, 2, 3, 4, 5, 6)}


def test_hostile_text_is_measured_like_any_other() -> None:
    nasty = ["", "\x00", "🙂" * 3, "\ud83d", "مرحبا بالعالم", "狗 看到 猫", "[bold]no[/]", "\u202eabc", "a" * 1_000_000]
    nasty.append("word " * 200_000)
    rows = [
        labelled(LABELS[at % 3], nasty[at % 10], nasty[(at * 7) % 10], number=at)
        for at in range(60)
        if at % 3 != 2 or at % 2
    ]
    began = time.perf_counter()
    found = against(rows, pair_rows(60, 26), DrawSettings(permutations=9, subsamples=2, halves=3))
    assert set(found) == set(artifacts.BY_NAME)
    for name in artifacts.BY_NAME:
        evidence = told(name, rows, pair_rows(60, 26))
        json.dumps(evidence.values, allow_nan=False)
        assert all(len(line) < 250 for line in evidence.lines)
    assert time.perf_counter() - began < 8
    same = [labelled(LABELS[at % 2], "the same", "the same", number=at) for at in range(40)]
    assert all(abs(one.value) < 1 for one in against(same, same).values())


def test_words() -> None:
    assert folded_words(" “Hello”, said-he... O'Neil! -- ") == ("hello", "said-he", "o'neil")
    assert folded_words("ねこがいる。") == ("ねこ", "が", "いる")
    assert folded_words("“किताबें!”") == ("किताबें",)


def test_a_cue_needs_rows_a_lift_and_certainty() -> None:
    def some(having: int, elsewhere: int, n: int = 100) -> list[Cue]:
        """Of n rows with a negation `having` are a, of n without it `elsewhere`."""
        texts = [("a" if at < having else "b", "not") for at in range(n)]
        texts += [("a" if at < elsewhere else "b", "so") for at in range(n)]
        return find_cues([surface_of(labelled(label, text)) for label, text in texts], [], [("negation",)])

    assert [cue.labels for cue in some(60, 30)] == [("a",), ("b",)][:1]
    assert some(42, 30) == []  # a lift of 1.4
    assert some(5, 1, n=9) == []  # nine rows
    assert some(7, 4, n=12) == []  # a lift of 1.75, by chance


# ---- public data


@pytest.mark.real
@pytest.mark.parametrize(("name", "low", "high"), [("snli_dev", 0.15, 0.3), ("mnli_dev_matched_part", 0.05, 0.2)])
def test_what_is_known_of_public_data(data_folder: Path, name: str, low: float, high: float) -> None:
    path = data_folder / "nli" / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"nli/{name}.jsonl is not in PYRITE_DATA")
    rows = list(as_rows(read_all(path)[0]))
    found = lazy_accuracy("hypothesis_only", rows)
    assert found is not None
    assert low < found["accuracy"] - found["majority"] < high
    cues = {(cue["feature"][-1], *cue["labels"]) for cue in told("word_label", rows).values["cues"]}
    if name == "snli_dev":  # Gururangan et al. 2018, table 4
        assert {("sleeping", "contradiction"), ("outdoors", "entailment")} <= cues
    else:
        assert ("never", "contradiction") in cues
