"""Where can I get short reviews with a sentiment that is certain, when no human data can be had?

A small grammar of one-sentence reviews. A share of them is negated ("was not dull" is positive, "was never kind"
negative), whatever the label, so that a negation alone says nothing about it; fresh negated reviews are then the blind
spot of a model that has learned to read "not" as "negative".
"""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Labelled

Style = Literal["people", "program"]
Sentiment = Literal["positive", "negative"]

LABELS: tuple[Sentiment, ...] = ("positive", "negative")
GOOD = (
    "lovely", "bright", "warm", "kind", "funny", "crisp", "tender", "clever", "fresh", "gentle", "lively",
    "graceful", "honest", "charming", "thoughtful", "delightful", "superb", "splendid", "joyful", "generous",
    "elegant", "witty", "sweet", "friendly", "calm",
)  # fmt: skip
BAD = (
    "dull", "cold", "rude", "stale", "noisy", "clumsy", "bitter", "slow", "bland", "dreary", "messy", "tedious",
    "shabby", "gloomy", "careless", "dirty", "sour", "awkward", "boring", "stiff", "grim", "nasty", "shallow",
    "tired", "lazy",
)  # fmt: skip
THINGS = (
    "film", "song", "meal", "book", "room", "trip", "game", "walk", "play", "garden", "concert", "museum", "hotel",
    "lecture", "dinner", "tour", "novel", "picnic", "breakfast", "market", "ferry", "bakery", "exhibition",
    "cottage", "workshop", "parade", "recital", "soup", "café", "library",
)  # fmt: skip
PLACES = (
    "in Leeds", "by the sea", "last May", "on a Sunday", "with my aunt", "at noon", "in the rain", "after work",
    "near the harbour", "in October", "on the hill", "at the station", "before lunch", "with two friends", "in the old town", "by the canal", "last winter", "on our first day", "at the end of the street", "during the holidays",
    "in the village", "across the bridge",
)  # fmt: skip
PLAIN = (
    "The {thing} {place} was {word}.",
    "{place}, what a {word} {thing}!",
    "A {word} {thing} {place}, that is all.",
    "We had a {thing} {place} and found it {word}.",
    "{word}, that is the {thing} {place}.",
    "My sister calls the {thing} {place} {word}.",
    "I expected little, and the {thing} {place} was {word}.",
    "It was a {word} {thing} {place}.",
    "Everyone says how {word} the {thing} {place} is.",
    "If you ask me, the {thing} {place} is {word}.",
)
NEGATED = (
    "The {thing} {place} was not {word}.",
    "{place} we had a {thing} that was never {word}.",
    "I would not call the {thing} {place} {word}.",
    "Nobody found the {thing} {place} {word}.",
    "It is not a {word} {thing} {place}.",
    "There was nothing {word} about the {thing} {place}.",
    "My brother never thought the {thing} {place} {word}.",
    "No one can say that the {thing} {place} was {word}.",
    "The {thing} {place} isn't {word}.",
    "We did not think the {thing} {place} was {word}.",
)
UNIFORM = ("Certainly! Here is a review: the {thing} {place} was {word}, and I was {word} too.",)
UNIFORM_NEGATED = ("Certainly! Here is a review: the {thing} {place} was not {word}, and I was not {word} too.",)
BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeio]|honest)")
TRIES = 200
"""Draws for one row before the grammar is taken to hold no further one."""


def generate_reviews(n: int, *, seed: int, negated: float = 0.3, style: Style = "people") -> list[Labelled]:
    """`n` distinct reviews, one field `text`, half of each label up to one; the same arguments give the same list.

    The rows' meta says whether a review is `negated` ("yes", "no") and which `template` it follows.

    Args:
        n: how many reviews.
        seed: any whole number from 0 up.
        negated: share of each label's rows that are negated, 0 to 1 (rounded to whole rows).
        style: "people" has twenty shapes; "program" has one, which begins with a stock phrase.

    Raises:
        UserError: a number is out of range, or there are no `n` distinct reviews.
    """
    if n < 1 or seed < 0 or not 0 <= negated <= 1:
        detail = f"n={n}, seed={seed}, negated={negated:g}"
        raise UserError(
            "These reviews cannot be written.", detail, "n of at least 1, seed of at least 0, negated 0 to 1"
        )
    rng = np.random.default_rng(seed)
    rows: list[Labelled] = []
    texts: set[str] = set()
    for label, share in zip(LABELS, (n - n // 2, n // 2), strict=True):
        for number in range(share):
            denies = number < round(share * negated)
            text, template = next_review(label, denies, style, texts, rng)
            texts.add(text)
            meta = {"negated": "yes" if denies else "no", "template": template}
            rows.append(Labelled({"text": text}, label, "", meta))
    order = rng.permutation(len(rows))
    return [
        Labelled(rows[at].fields, rows[at].label, f"review-{number}", rows[at].meta) for number, at in enumerate(order)
    ]


def next_review(
    label: Sentiment, denies: bool, style: Style, texts: set[str], rng: np.random.Generator
) -> tuple[str, str]:
    """A review that is not among `texts`, and its template.

    Raises:
        UserError: the grammar seems to hold no further one.
    """
    words = GOOD if (label == "positive") != denies else BAD
    shapes = {
        ("people", False): PLAIN, ("people", True): NEGATED,
        ("program", False): UNIFORM, ("program", True): UNIFORM_NEGATED,
    }[style, denies]  # fmt: skip
    for _ in range(TRIES):
        at = int(rng.integers(len(shapes)))
        text = shapes[at].format(thing=pick(THINGS, rng), place=pick(PLACES, rng), word=pick(words, rng))
        text = capital(BEFORE_VOWEL.sub(r"\1n ", text))
        if text not in texts:
            return text, f"{'negated' if denies else 'plain'}-{at}"
    detail = f"{len(texts)} reviews, and {TRIES} draws brought no new one ({style}, {label})"
    raise UserError("The grammar of reviews holds no more distinct rows.", detail, "ask for fewer rows")


def pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of them."""
    return options[int(rng.integers(len(options)))]


def capital(sentence: str) -> str:
    """The sentence with its first letter in upper case."""
    return sentence[:1].upper() + sentence[1:]
