"""The general grammar: balance, exact dials, agreement, and nothing to learn from hypotheses."""

import re
from collections import Counter

import numpy as np
import pytest

from pyrite.errors import UserError
from pyrite.records import Pair
from pyrite.tasks.grammar import generate_general, scenes
from pyrite.tasks.grammar.general import RELATIONS
from pyrite.tasks.grammar.scenes import with_article

SINGULAR = {
    noun.singular.split()[0] for groups in (scenes.AGENTS, scenes.THINGS) for group in groups.values() for noun in group
}
PLURAL = {
    noun.plural.split()[0] for groups in (scenes.AGENTS, scenes.THINGS) for group in groups.values() for noun in group
}


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return generate_general(6_000, seed=2, overlap_entailment=0.5, overlap_other=0.2)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z-]+", text.lower()))


def overlaps(pair: Pair) -> bool:
    return words(pair.hypothesis) <= words(pair.premise)


def test_labels_are_balanced_and_pairs_distinct(pairs: list[Pair]) -> None:
    assert Counter(pair.label for pair in pairs) == {"entailment": 2_000, "neutral": 2_000, "contradiction": 2_000}
    assert len({(pair.premise, pair.hypothesis) for pair in pairs}) == len({pair.id for pair in pairs}) == len(pairs)


def test_every_relation_comes_up(pairs: list[Pair]) -> None:
    label_of = {relation.name: relation.label for relation in RELATIONS}
    assert {pair.meta["relation"] for pair in pairs} == set(label_of)
    assert all(pair.label == label_of[pair.meta["relation"]] for pair in pairs)
    assert all(pair.meta["template"] for pair in pairs)


@pytest.mark.parametrize(
    ("entailment", "others_overlap"), [(0.0, 0.0), (0.25, 0.0), (1.0, 0.0), (0.5, 1.0), (0.9, 0.1)]
)
def test_dials_are_exact(entailment: float, others_overlap: float) -> None:
    pairs = generate_general(600, seed=4, overlap_entailment=entailment, overlap_other=others_overlap)
    shares = {
        label: [overlaps(p) for p in pairs if p.label == label] for label in ("entailment", "neutral", "contradiction")
    }
    assert sum(shares["entailment"]) == round(200 * entailment)
    assert sum(shares["neutral"]) == sum(shares["contradiction"]) == round(200 * others_overlap)


def test_same_arguments_same_list() -> None:
    assert generate_general(300, seed=1) == generate_general(300, seed=1)
    assert generate_general(300, seed=1) != generate_general(300, seed=2)


def test_there_are_more_than_half_a_million_pairs() -> None:
    """Two lists of m rows from N equally likely pairs share about m² / N of them; unequal ones share more."""
    rows = [{(p.premise, p.hypothesis) for p in generate_general(5_000, seed=seed)} for seed in (1, 2)]
    repeats = len(rows[0] & rows[1])
    assert 5_000**2 / max(repeats, 1) > 500_000


def test_vocabulary(pairs: list[Pair]) -> None:
    function = set(
        re.findall("[a-z]+", "a an the is are in on at by of for while that with not being to out and near it")
    )
    used = set().union(*(words(pair.premise) for pair in pairs)) - function
    assert len(used) >= 200


def test_agreement_and_articles(pairs: list[Pair]) -> None:
    for pair in pairs:
        for sentence in (pair.premise, pair.hypothesis):
            assert re.fullmatch(r"[A-Z][A-Za-z -]+(, [A-Za-z -]+)?\.", sentence), sentence
            assert "  " not in sentence
            assert not re.search(r"\b[Aa] (?!uniform)[aeiou]|\b[Aa]n (?![aeiou])|\ba uniforms\b", sentence), sentence
            numbered = re.findall(r"\b(two|three|four|five|six|a|an) (?:[a-z-]+ )??([a-z]+)\b", sentence.lower())
            for number, noun in numbered:
                if noun in SINGULAR | PLURAL:
                    assert noun in (SINGULAR if number in ("a", "an") else PLURAL), sentence
    assert (with_article("a", "old hat"), with_article("a", "uniform")) == ("an old hat", "a uniform")


def test_opposites_are_mutual() -> None:
    for name, act in scenes.TRANSITIVE.items() | scenes.AWAKE.items():
        acts = scenes.TRANSITIVE if name in scenes.TRANSITIVE else scenes.AWAKE
        if act.opposite:
            assert acts[act.opposite].opposite == name
        assert len(act.ways) >= 2
    for kind, adjectives in scenes.ADJECTIVES.items():
        assert all(adjectives[opposite] == adjective for adjective, opposite in adjectives.items()), kind
    assert not set(scenes.INDOORS) & set(scenes.OUTDOORS)


def test_no_bystander_is_of_the_subjects_kind() -> None:
    """What a pianist does is done by a musician, too, so a pianist can't stand by in a neutral or contradicting row."""
    members_of = {members[0].singular: {noun.singular for noun in members[1:]} for members in scenes.AGENTS.values()}
    checked = 0
    for pair in generate_general(3_000, seed=8, overlap_other=1.0):
        if pair.meta["relation"] in ("neighbour", "someone else did"):
            assert not words(pair.hypothesis) & {"person", "people"}, pair
            for group in words(pair.hypothesis) & set(members_of):
                checked += 1
                assert not members_of[group] & words(pair.premise), pair
    assert checked > 20


@pytest.mark.parametrize(
    "arguments", [{"n": 0}, {"n": 3, "seed": -1}, {"n": 3, "overlap_entailment": 1.1}, {"n": 3, "overlap_other": -0.1}]
)
def test_user_errors(arguments: dict[str, object]) -> None:
    with pytest.raises(UserError):
        generate_general(**{"seed": 0, **arguments})  # type: ignore[arg-type]


def test_hypotheses_alone_tell_little() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    for entailment, others_overlap in ((0.5, 0.0), (1.0, 0.5)):
        pairs = generate_general(4_500, seed=6, overlap_entailment=entailment, overlap_other=others_overlap)
        model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), LogisticRegression(C=0.1, max_iter=100))
        labels = np.array([pair.label for pair in pairs])
        assert cross_val_score(model, [pair.hypothesis for pair in pairs], labels, cv=3).mean() <= 0.42
