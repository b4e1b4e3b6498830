"""The grammar of reviews: balance, exact dials, labels that hold, and nothing that gives them away but the words."""

import re
from collections import Counter

import pytest

from pyrite.errors import UserError
from pyrite.records import Labelled
from pyrite.synth.heuristics import is_negated
from pyrite.tasks.grammar import generate_reviews
from pyrite.tasks.grammar.reviews import BAD, GOOD


@pytest.fixture(scope="module")
def rows() -> list[Labelled]:
    return generate_reviews(2_000, seed=3, negated=0.4)


def words(row: Labelled) -> list[str]:
    return re.findall(r"[\w'’]+", row.fields["text"].lower())


def test_labels_are_balanced_and_rows_distinct(rows: list[Labelled]) -> None:
    assert Counter((row.label, row.meta["negated"]) for row in rows) == {
        ("positive", "yes"): 400, ("positive", "no"): 600, ("negative", "yes"): 400, ("negative", "no"): 600,
    }  # fmt: skip
    assert len({row.fields["text"] for row in rows}) == len({row.id for row in rows}) == 2_000


def test_the_label_is_the_words_turned_round_by_a_negation(rows: list[Labelled]) -> None:
    for row in rows:
        row_words = words(row)
        good, bad = bool(set(row_words) & set(GOOD)), bool(set(row_words) & set(BAD))
        assert good != bad, row.fields["text"]
        assert is_negated(row_words) == (row.meta["negated"] == "yes"), row.fields["text"]
        assert row.label == ("positive" if good != is_negated(row_words) else "negative"), row.fields["text"]


def test_articles_fit(rows: list[Labelled]) -> None:
    assert not any(re.search(r"\b[Aa] [aeio]", row.fields["text"]) for row in rows)
    assert not any(re.search(r"\b[Aa]n [^aeioh]", row.fields["text"]) for row in rows)


def test_a_program_has_one_shape_and_people_have_twenty(rows: list[Labelled]) -> None:
    assert len({row.meta["template"] for row in rows}) == 20
    program = generate_reviews(300, seed=1, negated=0, style="program")
    assert all(row.fields["text"].startswith("Certainly! Here is a review:") for row in program)
    assert {row.meta["template"] for row in program} == {"plain-0"}


def test_same_arguments_same_list() -> None:
    assert generate_reviews(100, seed=1) == generate_reviews(100, seed=1)
    assert generate_reviews(100, seed=1) != generate_reviews(100, seed=2)


@pytest.mark.parametrize(
    "arguments", [{"n": 0}, {"seed": -1}, {"negated": 1.5}, {"n": 40_000, "style": "program", "negated": 0.0}]
)
def test_what_cannot_be_written_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(UserError):
        generate_reviews(**{"n": 10, "seed": 0, **arguments})  # type: ignore[arg-type]
