"""A seeded source of varied text that stands in for what people write, and the flaws that tests plant in it.

Words are made of syllables and follow Zipf's law; every writer has a taste (length, lists, headings, how an answer
begins), so that rows differ as people's do. Nothing planted occurs in the source by chance: see `PLANT`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyrite.audit.rows import Row

SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
PLANT = "Certainly! Here is what I found for you:"
"""An opening that stands nowhere in the source."""
TOPIC = ["quixotry", "zephyrine", "jubilancy", "oxymoronic"]
"""Words that stand nowhere in the source."""


def vocabulary(size: int = 4000) -> list[str]:
    """Made-up words, the same in every run."""
    rng = np.random.default_rng(7)
    words = {"".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(size * 2)}
    return sorted(words)[:size]


WORDS = vocabulary()
_RANKS = np.random.default_rng(8).permutation(len(WORDS))
_SHARES = 1 / (_RANKS + 2.7)
_SHARES = _SHARES / _SHARES.sum()


def sentence(rng: np.random.Generator, low: int = 4, high: int = 16, shares: np.ndarray | None = None) -> str:
    """A sentence of random words."""
    words = rng.choice(WORDS, rng.integers(low, high), p=_SHARES if shares is None else shares).tolist()
    return " ".join([words[0].capitalize(), *words[1:]]) + str(rng.choice([".", ".", ".", "!", "?"]))


def answer(rng: np.random.Generator, shares: np.ndarray | None = None) -> str:
    """An answer of some shape: a sentence, paragraphs, a list, headings."""
    taste = rng.random()
    count = int(np.clip(rng.lognormal(1.0, 0.8), 1, 24))
    sentences = [sentence(rng, shares=shares) for _ in range(count)]
    if taste < 0.55 or count < 3:
        return " ".join(sentences)
    if taste < 0.7:
        return "\n\n".join(sentences)
    if taste < 0.8:
        return sentences[0] + "\n" + "\n".join(f"- {one}" for one in sentences[1:])
    if taste < 0.9:
        return "\n".join(f"{at}. {one}" for at, one in enumerate(sentences, 1))
    return f"# {sentences[0]}\n\n" + " ".join(sentences[1:])


def human_rows(n: int, seed: int, *, source: str = "human", topic: int | None = None) -> list[Row]:
    """Rows of question and answer. `topic` shifts the words' shares, so that two sources differ as two people's would."""
    rng = np.random.default_rng([seed, 99])
    shares = None
    if topic is not None:
        shares = _SHARES * np.exp(0.5 * np.random.default_rng([topic, 5]).standard_normal(len(WORDS)))
        shares = shares / shares.sum()
    made = []
    for number in range(n):
        prompt = " ".join(sentence(rng, shares=shares) for _ in range(rng.integers(1, 3)))
        made.append(Row(number, f"{source}-{number}", prompt, (answer(rng, shares),), source=source))
    return made


def chosen(rows: Sequence[Row], share: float, seed: int) -> np.ndarray:
    """Which rows a flaw is planted in."""
    rng = np.random.default_rng([seed, 3])
    return np.sort(rng.choice(len(rows), round(share * len(rows)), replace=False))


def with_opening(rows: Sequence[Row], share: float, seed: int, opening: str = PLANT) -> tuple[list[Row], set[int]]:
    """A share of the answers is given one opening; returns the rows and the numbers of those planted."""
    made = list(rows)
    where = chosen(rows, share, seed)
    for at in where:
        made[at] = replace(made[at], answers=tuple(f"{opening} {one}" for one in made[at].answers))
    return made, {made[at].number for at in where}


def with_near_duplicates(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], set[int]]:
    """A share of the rows becomes an earlier row's answer with one word in twenty changed; the original stays."""
    rng = np.random.default_rng([seed, 4])
    made = list(rows)
    where = chosen(rows, share, seed)
    long = [at for at in range(len(rows)) if at not in set(where.tolist()) and len(rows[at].answer.split()) >= 20]
    for at in where:
        other = rows[int(rng.choice([one for one in long if one < at] or long))]
        words = other.answer.split(" ")
        for spot in rng.choice(len(words), max(1, len(words) // 20), replace=False):
            words[spot] = str(rng.choice(WORDS))
        made[at] = replace(made[at], prompt=other.prompt, answers=(" ".join(words),))
    return made, {made[at].number for at in where}


def with_topic(
    rows: Sequence[Row], share: float, seed: int, words: Sequence[str] = TOPIC
) -> tuple[list[Row], set[int]]:
    """A share of the answers has some words of one topic put in."""
    rng = np.random.default_rng([seed, 6])
    made = list(rows)
    where = chosen(rows, share, seed)
    for at in where:
        some = made[at].answer.split(" ")
        for _ in range(3):
            some.insert(int(rng.integers(len(some) + 1)), str(rng.choice(words)))
        made[at] = replace(made[at], answers=(" ".join(some),))
    return made, {made[at].number for at in where}


def with_less_spread(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], set[int]]:
    """A share of the answers is cut or filled up to near the median length, so that lengths vary less."""
    rng = np.random.default_rng([seed, 8])
    made = list(rows)
    where = chosen(rows, share, seed)
    middle = int(np.median([len(row.answer.split()) for row in rows]))
    for at in where:
        words = made[at].answer.split(" ")
        while len(words) < middle:
            words += sentence(rng).split(" ")
        made[at] = replace(made[at], answers=(" ".join(words[: middle + int(rng.integers(-2, 3))]),))
    return made, {made[at].number for at in where}


def with_leak(rows: Sequence[Row], share: float, seed: int, texts: Sequence[str]) -> tuple[list[Row], set[int]]:
    """A share of the answers quotes an evaluation text in full."""
    rng = np.random.default_rng([seed, 9])
    made = list(rows)
    where = chosen(rows, share, seed)
    for at in where:
        made[at] = replace(made[at], answers=(f"{made[at].answer} {rng.choice(list(texts))}",))
    return made, {made[at].number for at in where}


def pair_rows(n: int, seed: int, *, source: str = "human") -> list[Row]:
    """NLI-like rows in which the label follows from nothing that can be seen."""
    rng = np.random.default_rng([seed, 11])
    made = []
    for number in range(n):
        premise = sentence(rng, 8, 18)
        words = premise.rstrip(".!?").lower().split()
        kept = [word for word in words if rng.random() < rng.uniform(0.2, 0.9)] or words[:1]
        extra = rng.choice(WORDS, rng.integers(0, 5), p=_SHARES).tolist()
        hypothesis = " ".join([*kept, *extra]).capitalize() + "."
        label = str(rng.choice(["entailment", "neutral", "contradiction"]))
        fields = {"premise": premise, "hypothesis": hypothesis}
        made.append(Row(number, f"{source}-{number}", premise, (hypothesis,), label, fields, source))
    return made


def with_overlap_label(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], set[int]]:
    """In a share of the pairs the label follows overlap: half of them repeat words of the premise only and are entailed,
    the other half share no word with it and are not."""
    rng = np.random.default_rng([seed, 12])
    made = list(rows)
    where = chosen(rows, share, seed)
    for at in where:
        premise = made[at].fields["premise"]
        words = premise.rstrip(".!?").lower().split()
        if rng.random() < 0.5:
            some, label = words[: max(3, len(words) // 2)], "entailment"
        else:
            some = [word for word in rng.choice(WORDS, 8, p=_SHARES).tolist() if word not in words]
            label = str(rng.choice(["neutral", "contradiction"]))
        hypothesis = " ".join(some).capitalize() + "."
        fields = {"premise": premise, "hypothesis": hypothesis}
        made[at] = replace(made[at], answers=(hypothesis,), label=label, fields=fields)
    return made, {made[at].number for at in where}
