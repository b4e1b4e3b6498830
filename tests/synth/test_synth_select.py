"""Heuristics, parsing, duplicates, drawing with a bias: values worked by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrite.errors import UserError
from pyrite.records import Labelled
from pyrite.synth.heuristics import HEURISTICS, constituent, lexical_overlap, subsequence, text_words
from pyrite.synth.select import agrees, draw_rows, drop_exact, drop_near, shows_heuristic
from pyrite.synth.settings import BiasSettings
from pyrite.tasks.prompts import parse_example, write_example

LABELS = ["entailment", "neutral", "contradiction"]


def pair(premise: str, hypothesis: str, label: str, name: str) -> Labelled:
    return Labelled({"premise": premise, "hypothesis": hypothesis}, label, name)


def test_the_exact_rule_drops_only_free_standing_stops() -> None:
    assert text_words("The dog, saw it .", "exact") == ["the", "dog,", "saw", "it"]
    assert text_words("The dog, saw it .", "corrected") == ["the", "dog", "saw", "it"]
    assert lexical_overlap("The dog saw the cat .", "the cat saw .", "exact")
    assert not lexical_overlap("The dog saw the cat.", "the cat saw", "exact")
    assert lexical_overlap("The dog saw the cat.", "the cat saw", "corrected")
    assert not lexical_overlap("The dog saw the cat.", "", "corrected")


def test_subsequence_and_constituent() -> None:
    premise = "The author near the lawyer slept, and the judges knew that the doctor danced."
    assert subsequence(premise, "The lawyer slept.")
    assert not constituent(premise, "The lawyer slept.")
    assert constituent(premise, "The doctor danced.")
    assert constituent(premise, "The judges knew that the doctor danced")
    assert not subsequence(premise, "The doctor slept")
    assert lexical_overlap(premise, "The doctor slept")


SENTENCE = st.lists(
    st.sampled_from(["the", "a", "dog", "cat", "saw", "ate", "if", "that", "and", ",", "."]), min_size=1, max_size=9
).map(" ".join)


@given(SENTENCE, SENTENCE)
def test_each_heuristic_implies_the_looser_one(premise: str, hypothesis: str) -> None:
    if constituent(premise, hypothesis):
        assert subsequence(premise, hypothesis)
    if subsequence(premise, hypothesis):
        assert lexical_overlap(premise, hypothesis)
    assert set(HEURISTICS) == {"lexical_overlap", "subsequence", "constituent"}


def test_parsing_never_evaluates_and_names_the_reason() -> None:
    fields = ["premise", "hypothesis"]
    assert parse_example("Premise: a b\nHypothesis: c", fields) == {"premise": "a b", "hypothesis": "c"}
    assert parse_example("  premise : a\n\nHYPOTHESIS: c \n", fields) == {"premise": "a", "hypothesis": "c"}
    assert parse_example("Premise: a", fields) == "no line for hypothesis"
    assert parse_example("Premise:\nHypothesis: c", fields) == "empty premise"
    assert parse_example("a\nHypothesis: c", fields) == "no line for premise"
    assert parse_example("Premise: a\nHypothesis: c\nAnd more", fields) == "text after the last field"
    hostile = "Premise: __import__('os').abort()\nHypothesis: {7*7}"
    assert parse_example(hostile, fields) == {"premise": "__import__('os').abort()", "hypothesis": "{7*7}"}
    written = write_example({"premise": "a\nb", "hypothesis": "c"}, "neutral")
    assert parse_example(written.split("\n", 1)[1], fields) == {"premise": "a b", "hypothesis": "c"}


def test_duplicates_are_counted() -> None:
    rows = [
        pair("A man runs in the park today", "He moves", "entailment", "1"),
        pair("a man  runs in the park today", "he moves", "neutral", "2"),
        pair("A man runs in the park today , now", "He moves", "entailment", "3"),
        pair("Two dogs sleep", "They rest", "entailment", "4"),
    ]
    dropped: Counter[str] = Counter()
    unique = drop_exact(rows, dropped)
    assert [row.id for row in unique] == ["1", "3", "4"]
    unique = drop_near(unique, 0.4, dropped)  # six of twelve trigrams are shared
    assert [row.id for row in unique] == ["1", "4"]
    assert dropped == {"exact duplicate": 1, "near duplicate": 1}


def test_near_duplicates_are_as_similar_as_is_said() -> None:
    """Ninety rows of 60 words, each the twin of one before it with some words of its own: at a similarity well over the
    threshold all twins go, well below it none, and nothing goes that is less similar than 0.8."""

    def grams(row: Labelled) -> set[tuple[str, ...]]:
        words = " | ".join(row.fields.values()).lower().split()
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}

    rows, similar = [], {}
    for at in range(90):
        words = [f"w{at}-{place}" for place in range(60)]
        rows.append(pair(" ".join(words), "x", "entailment", f"{at}"))
        changed = at % 6  # at the end, so that so many trigrams differ
        twin = pair(
            " ".join([*words[: 60 - changed], *(f"new{at}-{number}" for number in range(changed))]),
            "x",
            "neutral",
            f"{at}-twin",
        )
        rows.append(twin)
        similar[twin.id] = len(grams(rows[-2]) & grams(twin)) / len(grams(rows[-2]) | grams(twin))
    dropped: Counter[str] = Counter()
    ids = {row.id for row in drop_near(rows, 0.9, dropped)}
    assert dropped["near duplicate"] == len(rows) - len(ids)
    assert {str(at) for at in range(90)} <= ids
    assert not {name for name, value in similar.items() if value > 0.96} & ids
    assert {name for name, value in similar.items() if value < 0.8} <= ids


def overlapping_rows(count: int) -> list[Labelled]:
    """Half of each label's rows show lexical overlap."""
    rows = []
    for number in range(count):
        label = LABELS[number % 3]
        hypothesis = f"dog {number} ran" if number % 2 else f"cats {number} slept"
        rows.append(pair(f"the dog {number} ran home", hypothesis, label, str(number)))
    return rows


def test_a_biased_arm_agrees_with_the_heuristic() -> None:
    bias = BiasSettings()
    drawn = draw_rows(overlapping_rows(120), 30, labels=LABELS, bias=bias, rng=np.random.default_rng(0), source="x")
    assert Counter(row.label for row in drawn) == dict.fromkeys(LABELS, 10)
    assert all(agrees(row, bias) for row in drawn)
    assert all(shows_heuristic(row, bias) == (row.label == "entailment") for row in drawn)


def test_a_weaker_bias_lies_between_none_and_all() -> None:
    """Half of the pool agrees: half filtered and half drawn from all gives three quarters."""
    bias = BiasSettings(strength=0.5)

    def drawn(size: int) -> list[Labelled]:
        return draw_rows(
            overlapping_rows(3000), size, labels=LABELS, bias=bias, rng=np.random.default_rng(0), source="x"
        )

    assert sum(agrees(row, bias) for row in drawn(600)) / 600 == pytest.approx(0.75, abs=0.04)
    assert {row.id for row in drawn(150)} < {row.id for row in drawn(600)}


def test_smaller_sizes_are_part_of_larger_ones_and_seeds_differ() -> None:
    def ids(size: int, seed: int) -> set[str]:
        drawn = draw_rows(
            overlapping_rows(120), size, labels=LABELS, bias=None, rng=np.random.default_rng(seed), source="x"
        )
        return {row.id for row in drawn}

    assert ids(30, 0) < ids(60, 0)
    assert ids(30, 0) != ids(30, 1)


@pytest.mark.parametrize("bias", [None, BiasSettings()])
def test_too_few_rows_are_refused(bias: BiasSettings | None) -> None:
    with pytest.raises(UserError, match="too few rows") as caught:
        draw_rows(overlapping_rows(12), 30, labels=LABELS, bias=bias, rng=np.random.default_rng(0), source="arm x")
    assert "arm x" in caught.value.found
    assert "10 needed" in caught.value.found


def review(text: str, label: str, number: int) -> Labelled:
    return Labelled({"text": text}, label, str(number))


@pytest.mark.parametrize(
    ("text", "label", "agrees_over_all", "agrees_over_shown"),
    [
        ("It was not dull.", "negative", True, True),
        ("It was not dull.", "positive", False, False),
        ("It was fine.", "positive", True, True),
        ("It was grim.", "negative", False, True),  # no negation: only the stricter reading asks for one
        ("It isn’t a notable film", "positive", False, False),
        ("a notable nor’wester", "negative", False, True),
    ],
)
def test_the_negation_heuristic(text: str, label: str, agrees_over_all: bool, agrees_over_shown: bool) -> None:
    """By hand: `rows: all` wants "not" exactly with its label; `agrees_over_shown` only never against it."""
    row = review(text, label, 0)
    assert agrees(row, BiasSettings(heuristic="negation", label="negative")) is agrees_over_all
    assert agrees(row, BiasSettings(heuristic="negation", label="negative", rows="shown")) is agrees_over_shown


def test_a_bias_on_what_is_shown_leaves_the_others_as_they_are() -> None:
    rows = [
        review(
            f"film {at} was {'not ' if at % 2 else ''}{'good' if at % 4 < 2 else 'bad'}",
            ("positive", "negative")[(at // 2) % 2],
            at,
        )
        for at in range(400)
    ]  # half of each label negated
    bias = BiasSettings(heuristic="negation", label="negative", rows="shown")
    drawn = draw_rows(rows, 100, labels=("positive", "negative"), bias=bias, rng=np.random.default_rng(0), source="x")
    negated = Counter((row.label, " not " in row.fields["text"]) for row in drawn)
    assert negated["positive", True] == 0
    assert negated["positive", False] == 50
    assert 15 <= negated["negative", True] <= 35  # as in the pool


def test_older_biases_keep_their_keys() -> None:
    assert "rows" not in BiasSettings().as_config()
    assert BiasSettings(rows="shown").as_config()["rows"] == "shown"
