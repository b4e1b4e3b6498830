"""Token frequencies of the answers beside those of people, by the tokenizer of the model to be trained.

Every part keeps an exact histogram of token ids, how many rows hold each token, and how many rows hold each phrase of
known assistant boilerplate (`pyrite.audit.flaws.tokens.boilerplate`): whole numbers, which merge exactly. The same
counts on a sample give the measures. A text's tokens come from a cache of its pieces
(`pyrite.audit.flaws.tokens.tokenise`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Difference, Draws, Extras, Floats, Statistic
from pyrite.audit.flaws.tokens.boilerplate import phrases_in
from pyrite.audit.flaws.tokens.frequencies import RANKS, log_odds, slope
from pyrite.audit.flaws.tokens.tokenise import Array, Pieces, Tokenize
from pyrite.audit.rows import Row

DISTANCE = Statistic(
    "tokens", "distance", "Are tokens used at other rates than in the references?", "bits",
    "Look at the most over- and under-used tokens, and mix in human text until the rates come nearer.", ceiling=1.0,
    advice_by_kind={
        "code": "Look at the most over- and under-used tokens, and mix in code that people wrote in this language.",
    },
)  # fmt: skip
ZIPF = Statistic(
    "tokens", "zipf_slope", "Does frequency fall faster from common to rare tokens than in the references?", "slope",
    "Ask the generator for more varied wording (temperature, personas, seeds), or add human text.",
    advice_by_kind={"code": "Ask for more varied tasks and libraries, or add code that people wrote."},
)  # fmt: skip
TAIL = Statistic(
    "tokens", "tail_mass", "Has the data lost the rare tokens of the references?", "share",
    "Add text that holds rare words: names, numbers, subject matter that the generator left out.",
    advice_by_kind={"code": "Add code with names, libraries and constructs that the generator left out."},
)  # fmt: skip
OVERUSE = Statistic(
    "tokens", "overuse", "Is some token held by far more rows than in the references?", "z",
    "Rewrite or drop the rows that hold the over-used tokens, or ban those words at generation.",
    advice_by_kind={
        "code": "Keep keywords and names that the tasks need; where a name is the generator's habit, vary the tasks.",
        "labelled": "Rewrite the rows that hold the over-used tokens, under every label alike.",
    },
)  # fmt: skip
PHRASES = Statistic(
    "tokens", "boilerplate", "Do more rows hold stock phrases of assistants than in the references?", "share",
    "Strip the stock phrases from the answers, or drop the rows.",
    advice_by_kind={"code": "Strip the stock phrases around the code, or drop the rows."},
)  # fmt: skip
STATISTICS: tuple[Statistic, ...] = (DISTANCE, ZIPF, TAIL, OVERUSE, PHRASES)


HEAD = 1000
"""`tail_mass`: the tail is all but so many of the commonest tokens, or but a tenth of the sample's distinct tokens."""
HELD = 5
"""`overuse` looks at tokens that so many rows of the sample hold: none rarer can reach a large z."""


@dataclass(frozen=True)
class Sample:
    """Token counts of a sample: `counts` sparse [tokens, rows] fp32, `ids` of the tokens that occur."""

    counts: Any
    ids: Array

    @property
    def held(self) -> Any:
        """1 where a row holds a token."""
        presence = self.counts.copy()
        presence.data[:] = 1
        return presence


def token_counts(rows: Sequence[Row], tokenize: Tokenize) -> Sample:
    """The token counts of a sample's answers."""
    from scipy.sparse import csr_matrix

    ids, bounds = Pieces(tokenize).ids([row.answer for row in rows])
    kinds, at = np.unique(ids, return_inverse=True)
    row = np.repeat(np.arange(len(rows)), np.diff(bounds))
    counts = csr_matrix((np.ones(len(ids), dtype=np.float32), (at, row)), shape=(len(kinds), len(rows)))
    counts.sum_duplicates()
    return Sample(counts, kinds)


def sums(counts: Any, a: Draws, b: Draws) -> tuple[Array, Array]:
    """Sums of sparse [tokens, rows] over groups of rows: two of [tokens, draws]."""
    ours = counts @ np.ascontiguousarray(a.T)
    both = a + b
    if (both == both[0]).all():
        return ours, (counts @ both[0])[:, None] - ours
    return ours, counts @ np.ascontiguousarray(b.T)


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """The five measures; without a tokenizer, boilerplate alone."""
    marked = np.array([bool(phrases_in(row.answer)) for row in rows], dtype=np.float64)

    def boilerplate(a: Draws, b: Draws) -> Floats:
        return np.asarray((a @ marked) / a.sum(axis=1) - (b @ marked) / b.sum(axis=1), dtype=np.float64)

    answered = [at for at, row in enumerate(rows) if row.answer.strip()]
    of_phrases = [Difference(PHRASES, boilerplate, answered)]
    if extras.tokenize is None:
        return of_phrases
    sample = token_counts(rows, extras.tokenize)
    if len(sample.ids) <= 2 * RANKS[0]:
        return of_phrases
    return [
        Difference(DISTANCE, divergence(sample), answered),
        Difference(ZIPF, steeper(sample), answered),
        Difference(TAIL, tail(sample), answered),
        Difference(OVERUSE, overuse(sample), answered),
        *of_phrases,
    ]


def divergence(sample: Sample) -> Callable[[Draws, Draws], Floats]:
    """Jensen-Shannon divergence of two groups' token frequencies, in bits (Lin 1991).

    A token that one row alone holds is in one group alone, where it adds half its share: those are summed by row.
    """
    held = np.diff(sample.counts.indptr)
    lone = np.asarray(sample.counts[held == 1].sum(axis=0)).ravel().astype(np.float64)
    size = np.asarray(sample.counts.sum(axis=0)).ravel().astype(np.float64)
    shared = sample.counts[held > 1]
    least = np.float32(1e-30)

    def statistic(a: Draws, b: Draws) -> Floats:
        n_a, n_b = np.maximum(a @ size, 1), np.maximum(b @ size, 1)
        p, q = sums(shared, a, b)
        p, q = p / n_a.astype(np.float32), q / n_b.astype(np.float32)
        middle = np.maximum((p + q) / 2, least)
        bits = p * np.log2(np.maximum(p / middle, least)) + q * np.log2(np.maximum(q / middle, least))
        return np.asarray((bits.sum(axis=0, dtype=np.float64) + (a @ lone) / n_a + (b @ lone) / n_b) / 2)

    return statistic


def steeper(sample: Sample) -> Callable[[Draws, Draws], Floats]:
    """How much steeper than b's a's frequency falls with rank."""

    def statistic(a: Draws, b: Draws) -> Floats:
        ours, theirs = sums(sample.counts, a, b)
        return slope(np.ascontiguousarray(theirs.T)) - slope(np.ascontiguousarray(ours.T))

    return statistic


def tail(sample: Sample) -> Callable[[Draws, Draws], Floats]:
    """How much more of b's text than of a's are tokens outside the commonest of both together."""
    size = np.asarray(sample.counts.sum(axis=0)).ravel().astype(np.float64)
    head = max(1, min(HEAD, len(sample.ids) // 10))

    def in_head(pooled: Array) -> Array:
        """How many tokens of each row are of the commonest."""
        common = np.argsort(-(sample.counts @ pooled), kind="stable")[:head]
        chosen = np.zeros(len(sample.ids), dtype=np.float32)
        chosen[common] = 1
        return np.asarray(sample.counts.T @ chosen, dtype=np.float64)

    def statistic(a: Draws, b: Draws) -> Floats:
        n_a, n_b = np.maximum(a @ size, 1), np.maximum(b @ size, 1)
        both = a + b
        if (both == both[0]).all():
            common = in_head(both[0])
            return np.asarray((a @ common) / n_a - (b @ common) / n_b)
        each = [in_head(pooled) for pooled in both]
        heads = [(float(x @ pooled), float(y @ pooled)) for x, y, pooled in zip(a, b, each, strict=True)]
        return np.array([x for x, _ in heads]) / n_a - np.array([y for _, y in heads]) / n_b

    return statistic


def overuse(sample: Sample) -> Callable[[Draws, Draws], Floats]:
    """The largest z-score (`log_odds`) of any token that at least `HELD` rows of the sample hold."""
    held = sample.held
    size = np.asarray(held.sum(axis=0)).ravel().astype(np.float32)
    often = held[np.diff(held.indptr) >= HELD]

    def statistic(a: Draws, b: Draws) -> Floats:
        if not often.shape[0]:
            return np.zeros(len(a))
        return np.asarray(log_odds(*sums(often, a, b), a @ size, b @ size).max(axis=0), dtype=np.float64)

    return statistic


def flag_scores(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Array]:
    """How strongly each row shows over-used tokens and boilerplate.

    Overuse: the sum of the weights (a quarter or a half) of the over-used tokens that the row holds. Boilerplate: a
    half for one phrase, a quarter for each further one. Both up to 1."""
    scores: dict[str, Array] = {}
    if PHRASES.name in rules:
        count = np.array([len(phrases_in(row.answer)) for row in rows], dtype=np.float32)
        scores[PHRASES.name] = np.where(count > 0, np.minimum(0.25 + 0.25 * count, 1), 0).astype(np.float32)
    if OVERUSE.name in rules and extras.tokenize is not None:
        rule = rules[OVERUSE.name]
        sample = token_counts(rows, extras.tokenize)
        weight = dict(zip(rule["tokens"], rule["weights"], strict=True))
        each = np.array([weight.get(token, 0.0) for token in sample.ids.tolist()])
        scores[OVERUSE.name] = np.minimum(sample.held.T @ each, 1).astype(np.float32)
    return scores
