"""Words and n-grams of answers, known by 64-bit hashes."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from pyrite.data.words import plain_words

Array = np.ndarray[Any, Any]
FIRST = 60
"""Words of an answer that `distinct_2` and `distinct_3` look at, so that lengths matter little."""
LONGEST = 20_000
"""Words of an answer that anything here looks at; compression looks at its first megabyte."""
ODD = np.random.default_rng(4).integers(0, 2**63, 5, dtype=np.uint64) * 2 + 1
"""Odd multipliers, one for each place of an n-gram."""


class Hashes(dict[str, int]):
    """A word's 64-bit hash, worked out once."""

    def __missing__(self, word: str) -> int:
        number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        self[word] = number
        return number


@dataclass(frozen=True)
class Words:
    """The words of some texts as hashes: `flat` [words] uint64, and each text's bounds [texts + 1]."""

    flat: Array
    bounds: Array

    def grams(self, n: int, first: int | None = None) -> tuple[Array, Array]:
        """All n-grams (hashes), and the text that each stands in; of the first so many words of each text."""
        lengths = np.diff(self.bounds)
        if first is not None:
            lengths = np.minimum(lengths, first)
        many = np.maximum(lengths - (n - 1), 0)
        text = np.repeat(np.arange(len(many)), many)
        done = np.cumsum(many) - many
        at = np.arange(len(text)) - np.repeat(done, many) + np.repeat(self.bounds[:-1], many)
        hashes = np.zeros(len(text), dtype=np.uint64)
        for step in range(n):
            hashes += self.flat[at + step] * ODD[step]
        return hashes ^ (hashes >> np.uint64(29)), text


def words_of(texts: Sequence[str], cache: Hashes | None = None) -> Words:
    """The texts' words."""
    number = (cache if cache is not None else Hashes()).__getitem__
    hashes = [np.fromiter(map(number, words_in(text)), np.uint64) for text in texts]
    return Words(
        np.concatenate(hashes) if hashes else np.empty(0, np.uint64),
        np.cumsum([0, *(len(of_text) for of_text in hashes)]),
    )


def words_in(text: str) -> list[str]:
    """The words of a text, the first `LONGEST`."""
    return plain_words(text[: 40 * LONGEST].lower())[:LONGEST]


def self_repetition(words: Words) -> tuple[Array, Array]:
    """The share of each text's 4-grams that stood in the text before [texts] fp32, and how many 4-grams it has."""
    grams, text = words.grams(4)
    count = np.bincount(text, minlength=len(words.bounds) - 1)
    order = np.lexsort((grams, text))
    grams, text = grams[order], text[order]
    again = (grams[1:] == grams[:-1]) & (text[1:] == text[:-1])
    repeats = np.bincount(text[1:][again], minlength=len(count))
    return np.where(count > 0, repeats / np.maximum(count, 1), np.nan).astype(np.float32), count
