"""The heuristics grammar: labels' preconditions by construction, balance, and nothing to learn from hypotheses."""

import re
import time
from collections import Counter

import numpy as np
import pytest

from pyrite.errors import UserError
from pyrite.records import Pair
from pyrite.tasks.grammar import SUBCASES, as_three_way, generate_pairs, lexicon
from pyrite.tasks.grammar.lexicon import Word
from pyrite.tasks.grammar.templates import SLOTS

HANS_SUBCASES = {
    "lexical_overlap": {
        "entailment": "around_prepositional_phrase around_relative_clause conjunction passive relative_clause",
        "non-entailment": "conjunction passive preposition relative_clause subject/object_swap",
    },
    "subsequence": {
        "entailment": "PP_on_obj adjective conjunction relative_clause_on_obj understood_object",
        "non-entailment": "NP/S NP/Z PP_on_subject past_participle relative_clause_on_subject",
    },
    "constituent": {
        "entailment": "adverb after_since_clause conjunction embedded_under_since embedded_under_verb",
        "non-entailment": "adverb after_if_clause disjunction embedded_under_if embedded_under_verb",
    },
}
VERBS = (
    *lexicon.TRANSITIVE,
    *lexicon.OBJECT_OPTIONAL,
    *lexicon.CLAUSE_OR_PERSON,
    *lexicon.INTRANSITIVE,
    *lexicon.UNDERSTOOD_OBJECTS,
    *lexicon.FACTIVE,
    *lexicon.NON_FACTIVE,
    *lexicon.FACTIVE_EXPERIENCE,
    *lexicon.VISITED,
)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return generate_pairs(10_000, seed=7)


def tokens(sentence: str) -> list[str]:
    return re.findall(r"[a-z']+", sentence.lower())


def contains(tokens_of_sentence: list[str], part: list[str]) -> bool:
    return any(tokens_of_sentence[i : i + len(part)] == part for i in range(len(tokens_of_sentence) - len(part) + 1))


def test_ten_thousand_pairs_without_a_duplicate_in_ten_seconds() -> None:
    start = time.perf_counter()
    pairs = generate_pairs(10_000, seed=3)
    assert time.perf_counter() - start < 10
    assert len({(pair.premise, pair.hypothesis) for pair in pairs}) == 10_000
    assert len({pair.id for pair in pairs}) == 10_000


def test_subcases_are_those_of_hans() -> None:
    expected = {
        f"{heuristic[0]}{label[0]}_{name}": (heuristic, label)
        for heuristic, labels in HANS_SUBCASES.items()
        for label, names in labels.items()
        for name in names.split()
    }
    assert {name: (subcase.heuristic, subcase.label) for name, subcase in SUBCASES.items()} == expected


def test_subcases_and_templates_are_balanced(pairs: list[Pair]) -> None:
    by_subcase = Counter(pair.meta["subcase"] for pair in pairs)
    by_template = Counter(pair.meta["template"] for pair in pairs)
    assert set(by_subcase) == set(SUBCASES)
    assert max(by_subcase.values()) - min(by_subcase.values()) <= 1
    assert abs(Counter(pair.label for pair in pairs)["entailment"] - 5_000) <= 1
    for subcase in SUBCASES.values():
        counts = [by_template[template.name] for template in subcase.templates]
        assert len(counts) >= 3
        assert max(counts) - min(counts) <= 1


def test_vocabulary() -> None:
    noun_lemmas = [word.base for word in lexicon.PEOPLE]
    verb_lemmas = {word.base for word in VERBS}
    assert len(noun_lemmas) == len(set(noun_lemmas)) >= 100
    assert len(verb_lemmas) >= 60
    objects = {noun.base for group in lexicon.UNDERSTOOD_OBJECTS.values() for noun in group}
    nouns = set(noun_lemmas) | objects | {word.base for word in (*lexicon.PLACES, *lexicon.CARRIED)}
    assert not nouns & verb_lemmas
    for pools in SLOTS.values():
        for pool in pools:
            assert len(set(pool)) == len(pool)
    assert all(word.forms[1] == word.forms[2] for word in lexicon.OBJECT_OPTIONAL)
    assert not set(lexicon.TRANSITIVE) & set(lexicon.OBJECT_OPTIONAL)


def test_no_content_word_twice_in_a_sentence(pairs: list[Pair]) -> None:
    lemma_of: dict[str, str] = {}
    graded = [Word(word.base, (word.base,)) for word in lexicon.ADJECTIVES_WITH_COMPLEMENT]
    objects = [noun for group in lexicon.UNDERSTOOD_OBJECTS.values() for noun in group]
    for word in (
        *VERBS, *lexicon.PEOPLE, *lexicon.PLACES, *lexicon.CARRIED, *lexicon.ADJECTIVES, *lexicon.GRADED, *lexicon.BOLD,
        *lexicon.THING_ADJECTIVES, *graded, *objects,
    ):  # fmt: skip
        for form in word.forms:
            assert lemma_of.setdefault(form, word.base) == word.base, form
    for pair in pairs:
        for sentence in (pair.premise, pair.hypothesis):
            counts = Counter(lemma_of[token] for token in tokens(sentence) if token in lemma_of)
            assert not counts or max(counts.values()) == 1, sentence


def test_lexical_overlap_holds_and_is_not_subsequence(pairs: list[Pair]) -> None:
    for pair in pairs:
        premise, hypothesis = tokens(pair.premise), tokens(pair.hypothesis)
        assert set(hypothesis) <= set(premise), pair
        assert contains(premise, hypothesis) == (pair.meta["heuristic"] != "lexical_overlap"), pair


def test_constituents_are_whole_clauses() -> None:
    for subcase in SUBCASES.values():
        for template in subcase.templates:
            slots = re.fullmatch(r"\{(c\d)\} \.", template.hypothesis)
            assert (slots is not None) == (subcase.heuristic == "constituent"), template
            if slots:
                assert f"{{{slots[1]}}}" in template.premise


def test_sentences_are_well_formed(pairs: list[Pair]) -> None:
    for pair in pairs:
        for sentence in (pair.premise, pair.hypothesis):
            assert re.fullmatch(r"[A-Z][A-Za-z' ]*( , [A-Za-z' ]+)* \.", sentence), sentence
            assert "  " not in sentence
    closed = generate_pairs(300, seed=7, spaced_period=False)
    assert all(not re.search(r" [.,]", pair.premise + pair.hypothesis) for pair in closed)


def test_same_arguments_same_list() -> None:
    assert generate_pairs(500, seed=11) == generate_pairs(500, seed=11)
    assert generate_pairs(500, seed=11) != generate_pairs(500, seed=12)
    assert generate_pairs(1_000, seed=11)[:500] == generate_pairs(500, seed=11)
    assert generate_pairs(500, seed=11, balance=False) == generate_pairs(500, seed=11, balance=False)


def test_leaving_out() -> None:
    pairs = generate_pairs(400, seed=1, leave_out_heuristics=["constituent"], leave_out_subcases=["sn_NP/S"])
    named = {pair.meta["subcase"] for pair in pairs}
    assert named == {name for name in SUBCASES if not name.startswith("c") and name != "sn_NP/S"}
    assert {pair.meta["subcase"] for pair in generate_pairs(50, seed=1, subcases=["ln_passive"])} == {"ln_passive"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 0},
        {"n": 1, "seed": -1},
        {"n": 1, "subcases": []},
        {"n": 1, "subcases": ["ln_pasive"]},
        {"n": 1, "subcases": "ln_passive"},
        {"n": 1, "leave_out_heuristics": ["lexical_overlap", "subsequence", "constituent"]},
    ],
)
def test_user_errors(arguments: dict[str, object]) -> None:
    with pytest.raises(UserError):
        generate_pairs(**{"seed": 0, **arguments})  # type: ignore[arg-type]


def test_more_pairs_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SLOTS, "n", (lexicon.PEOPLE[:3],))  # type: ignore[arg-type]
    monkeypatch.setitem(SLOTS, "r", (lexicon.TRANSITIVE[:1],))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="distinct"):
        generate_pairs(1_000, seed=0, subcases=["ln_passive"])


def test_three_way(pairs: list[Pair]) -> None:
    turned = as_three_way(pairs)
    assert [pair.id for pair in turned] == [pair.id for pair in pairs]
    for before, after in zip(pairs, turned, strict=True):
        assert after.label == ("entailment" if before.label == "entailment" else "neutral")
    with pytest.raises(UserError):
        as_three_way(turned)


def test_hypotheses_alone_tell_nothing() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    pairs = generate_pairs(6_000, seed=5)

    def accuracy(chosen: list[Pair]) -> float:
        model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=300))
        texts, labels = [pair.hypothesis for pair in chosen], np.array([pair.label for pair in chosen])
        return float(cross_val_score(model, texts, labels, cv=5).mean())

    assert accuracy(pairs) <= 0.55
    for heuristic in HANS_SUBCASES:
        assert accuracy([pair for pair in pairs if pair.meta["heuristic"] == heuristic]) <= 0.55, heuristic
