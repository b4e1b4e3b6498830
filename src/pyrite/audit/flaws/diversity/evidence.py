"""What shows that answers say the same again: the stretches of words that come back, and in how many rows."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pyrite.audit.flaw import Evidence, Extras, Population, answered, numbered
from pyrite.audit.flaws.diversity.statistics import (
    ABOVE,
    CROSS_ROW,
    DISTINCT_2,
    DISTINCT_3,
    NOVELTY,
    SELF,
    grams_of,
)
from pyrite.audit.flaws.diversity.words import FIRST, self_repetition, words_in, words_of
from pyrite.audit.rows import Row
from pyrite.audit.wording import percent


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """The stretches of words that make a finding, in how many rows; for self-repetition also the rule for rows."""
    data = answered(data)
    human = [row for population in references.values() for row in answered(population).rows]
    if measure == SELF.name:
        return numbered(self_evidence(data.rows, human), data)
    n, first = {DISTINCT_2.name: (2, FIRST), DISTINCT_3.name: (3, FIRST), CROSS_ROW.name: (5, None)}.get(
        measure, (4, None)
    )
    return numbered(gram_evidence(measure, data.rows, human, n, first), data)


def gram_evidence(measure: str, data: Sequence[Row], human: Sequence[Row], n: int, first: int | None) -> Evidence:
    """The n-grams that stand in many more rows of the data than of the references (`novelty`: in many rows of both)."""
    rows = [*data, *human]
    grams = grams_of(words_of([row.answer for row in rows]), n, first)
    a = np.zeros(len(rows), dtype=np.float32)
    a[: len(data)] = 1
    ours = (grams.shared @ a) / max(len(data), 1)
    theirs = (grams.shared @ (1 - a)) / max(len(human), 1)
    score = np.minimum(ours, theirs) if measure == NOVELTY.name else ours - theirs
    order = np.argsort(-score, kind="stable")
    top = [at for at in order[:50].tolist() if score[at] > 0]
    names = dict(_gram_texts([row.answer for row in data], n, first, set(grams.kinds[top].tolist())))
    lines, values = [], []
    for at in top[:8]:
        text = names.get(int(grams.kinds[at]), "?")[:80]
        end = f" (references {percent(theirs[at], fine=True)})" if human else ""
        lines.append(f"“{text}” is in {percent(ours[at], fine=True)} of answers{end}")
        values.append({"text": text, "data": float(ours[at]), "reference": float(theirs[at]) if human else None})
    held = np.asarray(grams.shared[top].sum(axis=0)).ravel()[: len(data)] if top else np.zeros(len(data))
    worst = tuple(int(at) for at in np.argsort(-held, kind="stable")[:20] if held[at])
    return Evidence(tuple(lines), worst, {"ngrams": values})


def _gram_texts(texts: Sequence[str], n: int, first: int | None, lacking: set[int]) -> Iterator[tuple[int, str]]:
    """The words of n-grams that are known by their hashes."""
    for text in texts:
        if not lacking:
            return
        its_words = words_in(text)
        for at, gram in enumerate(words_of([text]).grams(n, first)[0].tolist()):
            if gram in lacking:
                lacking.discard(gram)
                yield gram, " ".join(its_words[at : at + n])


def self_evidence(data: Sequence[Row], human: Sequence[Row]) -> Evidence:
    """The answers that repeat themselves most. The rule: above 0.3 and above the references' 99 % point."""
    ours, theirs = (self_repetition(words_of([row.answer for row in rows]))[0] for rows in (data, human))
    ours, defined = np.nan_to_num(ours), theirs[~np.isnan(theirs)]
    above = max(ABOVE, float(np.quantile(defined, 0.99)) if len(defined) else 0.0)
    worst = [int(at) for at in np.argsort(-ours, kind="stable")[:20] if ours[at] > 0]
    share, share_human = (
        float(np.mean(ours > above)) if len(ours) else 0.0,
        float(np.mean(defined > above)) if len(defined) else 0.0,
    )
    lines = [
        f"{percent(share, fine=True)} of answers repeat more than {percent(above, fine=True)} of their four-word stretches"
    ]
    lines[0] += f" (references {percent(share_human, fine=True)})" if len(defined) else ""
    for at in worst[:4]:
        lines.append(f"row {data[at].id}: {percent(ours[at], fine=True)} repeats, “{_often(data[at].answer)}”")
    values = {"above": above, "data": share, "reference": share_human if len(defined) else None}
    return Evidence(tuple(lines), tuple(worst), values, {"above": above})


def _often(text: str) -> str:
    """The 4-gram that stands most often in a text."""
    its_words = words_in(text)
    grams, _ = words_of([text]).grams(4)
    kinds, first, count = np.unique(grams, return_index=True, return_counts=True)
    at = int(first[np.argmax(count)]) if len(kinds) else 0
    return " ".join(its_words[at : at + 4])[:80]
