"""Diversity of answers: word n-grams that are repeated within rows and across rows.

Words are lower-case runs of letters, digits and low lines (`pyrite.data.words.plain_words`). Words and n-grams are known
by 64-bit hashes (two of a million n-grams are taken for one with probability below 1e-7)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Difference, Draws, Extras, Floats, Statistic
from pyrite.audit.flaws.diversity.words import FIRST, Array, Words, self_repetition, words_of
from pyrite.audit.rows import Row

DISTINCT_2 = Statistic(
    "diversity", "distinct_2", "Are fewer of the word pairs different than in the references?", "share",
    "Vary what the generator is asked for (topics, personas, seeds), or raise its temperature.",
    advice_by_kind={"code": "Vary the tasks, libraries and languages that the generator is asked for."},
)  # fmt: skip
DISTINCT_3 = Statistic(
    "diversity", "distinct_3", "Are fewer of the word triples different than in the references?", "share",
    "Vary what the generator is asked for (topics, personas, seeds), or raise its temperature.",
    advice_by_kind={"code": "Vary the tasks, libraries and languages that the generator is asked for."},
)  # fmt: skip
CROSS_ROW = Statistic(
    "diversity", "cross_row_repetition", "Do answers share more of their five-word stretches than in the references?",
    "share", "Drop rows that repeat other rows' sentences, or ask the generator not to reuse them.",
    advice_by_kind={
        "code": "Look at what is repeated: imports and set-up may stay; drop rows that repeat whole functions.",
        "text": "Take repeated boilerplate out of the texts, and drop texts that repeat others' sentences.",
    },
)  # fmt: skip
NOVELTY = Statistic(
    "diversity", "novelty", "Do the data's four-word stretches stand in the references already?", "share",
    "Add rows on subjects that the references leave out; what is there says little that is new.",
)  # fmt: skip
SELF = Statistic(
    "diversity", "self_repetition", "Do answers repeat themselves more than in the references?", "share",
    "Drop the rows that loop, and set a repetition penalty or a shorter limit at generation.",
    advice_by_kind={
        "code": "Read the rows that repeat themselves most: tests and tables do by nature; drop those that loop.",
        "text": "Read the texts that repeat themselves most, and drop those that loop.",
    },
)  # fmt: skip
STATISTICS: tuple[Statistic, ...] = (DISTINCT_2, DISTINCT_3, CROSS_ROW, NOVELTY, SELF)

ABOVE = 0.3
"""The least self-repetition for which a row is marked."""


@dataclass(frozen=True)
class Grams:
    """n-grams of a sample, once for each row that holds them: `shared` sparse [n-grams in two rows or more, rows] 0 or
    1; `lone` [rows] how many n-grams no other row of the sample holds; `size` [rows] distinct n-grams of each row;
    `all` [rows] with repeats; `kinds` the hashes of the shared ones."""

    shared: Any
    lone: Floats
    size: Floats
    all: Floats
    kinds: Array


def grams_of(words: Words, n: int, first: int | None = None) -> Grams:
    """The n-grams of a sample."""
    from scipy.sparse import csr_matrix

    grams, row = words.grams(n, first)
    rows = len(words.bounds) - 1
    kinds, at = np.unique(grams, return_inverse=True)
    table = csr_matrix((np.ones(len(at), dtype=np.float32), (at, row)), shape=(len(kinds), rows))
    table.sum_duplicates()
    table.data[:] = 1
    many = np.diff(table.indptr) > 1
    size = np.asarray(table.sum(axis=0), dtype=np.float64).ravel()
    shared = table[many]
    lone = size - np.asarray(shared.sum(axis=0), dtype=np.float64).ravel()
    return Grams(shared, lone, size, np.bincount(row, minlength=rows).astype(np.float64), kinds[many])


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """The five measures, each of the rows that have an n-gram."""
    words = words_of([row.answer for row in rows])
    repeated, count = self_repetition(words)

    def of(
        measure: Statistic, grams: Grams, statistic: Callable[[Grams], Callable[[Draws, Draws], Floats]]
    ) -> Difference:
        return Difference(measure, statistic(grams), np.flatnonzero(grams.size > 0).tolist())

    return [
        of(DISTINCT_2, grams_of(words, 2, FIRST), distinct),
        of(DISTINCT_3, grams_of(words, 3, FIRST), distinct),
        of(CROSS_ROW, grams_of(words, 5), cross_row),
        of(NOVELTY, grams_of(words, 4), novelty),
        Difference(SELF, mean_difference(np.nan_to_num(repeated).astype(np.float64)), np.flatnonzero(count).tolist()),
    ]


def _rows_holding(grams: Grams, a: Draws, b: Draws) -> tuple[Array, Array]:
    """In how many rows of each group each shared n-gram stands [n-grams, draws]."""
    ours = grams.shared @ np.ascontiguousarray(a.T)
    both = a + b
    if (both == both[0]).all():
        return ours, (grams.shared @ both[0])[:, None] - ours
    return ours, grams.shared @ np.ascontiguousarray(b.T)


def distinct(grams: Grams) -> Callable[[Draws, Draws], Floats]:
    """Distinct n-grams over n-grams (Li et al. 2016) of b minus that of a."""

    def statistic(a: Draws, b: Draws) -> Floats:
        shares = [
            (np.count_nonzero(held, axis=0) + group @ grams.lone) / np.maximum(group @ grams.all, 1)
            for held, group in zip(_rows_holding(grams, a, b), (a, b), strict=True)
        ]
        return np.asarray(shares[1] - shares[0], dtype=np.float64)

    return statistic


def cross_row(grams: Grams) -> Callable[[Draws, Draws], Floats]:
    """The share of the n-grams (each counted once for a row) that stand in another row of the group: a's minus b's.

    A stand-in for the compression ratio of a group's text, which cannot be taken for thousands of draws.
    """

    def statistic(a: Draws, b: Draws) -> Floats:
        shares = [
            np.where(held > 1, held, 0).sum(axis=0, dtype=np.float64) / np.maximum(group @ grams.size, 1)
            for held, group in zip(_rows_holding(grams, a, b), (a, b), strict=True)
        ]
        return np.asarray(shares[0] - shares[1], dtype=np.float64)

    return statistic


def novelty(grams: Grams) -> Callable[[Draws, Draws], Floats]:
    """How little of a is new: the share of a's n-grams that b has (each counted once for a row)."""

    def statistic(a: Draws, b: Draws) -> Floats:
        ours, theirs = _rows_holding(grams, a, b)
        repeated = np.where(theirs > 0, ours, 0).sum(axis=0, dtype=np.float64)
        return np.asarray(repeated / np.maximum(a @ grams.size, 1), dtype=np.float64)

    return statistic


def mean_difference(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The mean of a's rows minus that of b's."""

    def statistic(a: Draws, b: Draws) -> Floats:
        return np.asarray((a @ values) / a.sum(axis=1) - (b @ values) / b.sum(axis=1), dtype=np.float64)

    return statistic


def flag_scores(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Array]:
    """How strongly each row repeats itself: 0.5 at the rule's bound, 1 where every 4-gram is a repeat."""
    if SELF.name not in rules:
        return {}
    above = float(rules[SELF.name]["above"])
    share = np.nan_to_num(self_repetition(words_of([row.answer for row in rows]))[0])
    over = 0.5 + 0.5 * (share - above) / max(1 - above, 1e-6)
    return {SELF.name: np.where(share > above, np.minimum(over, 1), 0.49 * share / max(above, 1e-6)).astype(np.float32)}


def lacking_words(rows: Sequence[Row], extras: Extras) -> dict[str, str]:
    """What keeps these rows from being measured: answers too short for a statistic's stretches."""
    words = words_of([row.answer for row in rows])
    long_enough = {
        DISTINCT_2: (2, grams_of(words, 2, FIRST).size > 0),
        DISTINCT_3: (3, grams_of(words, 3, FIRST).size > 0),
        CROSS_ROW: (5, grams_of(words, 5).size > 0),
        NOVELTY: (4, grams_of(words, 4).size > 0),
        SELF: (4, self_repetition(words)[1] > 0),
    }
    return {
        statistic.name: f"fewer than two rows have an answer of {least} words or more"
        for statistic, (least, enough) in long_enough.items()
        if np.count_nonzero(enough) < 2
    }
