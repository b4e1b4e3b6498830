"""The share of rows that hold text that models are to be evaluated on.

A row touches an evaluation text if they share a run of 13 words (GPT-3's overlap, Brown et al. 2020, appendix C, on
words as `pyrite.audit.word_hashes.words` finds them) or, more sensitive, of 8. Unlike there nothing is removed around a
match, and an 8-gram that stands in `BOILERPLATE` or more different evaluation texts ("answer with one of the following
options") is no evidence; such 8-grams are left out and counted. An evaluation text of 5 to 7 words counts for the
8-grams if all of it stands in the row as one run. Runs are compared by 64-bit hashes. Of a row, the first
`word_hashes.WORDS` words are read.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Alone, Difference, Draws, Extras, Floats, Statistic
from pyrite.audit.flaws.contamination.index import index_of, runs_by_row
from pyrite.audit.rows import Row
from pyrite.audit.word_hashes import Array

_ADVICE = "Take these rows out before training (`--clean` does), or leave this evaluation set out of the results."
STATISTICS = tuple(
    Statistic("contamination", name, f"Do rows hold {n} words in a row of an evaluation text?", "share", _ADVICE)
    for name, n in (("ngram_13", 13), ("ngram_8", 8))
)
FEW = {"ngram_13": 0.0, "ngram_8": 0.005}
"""Up to this share of rows is no finding."""


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """The share of rows that touch an evaluation text, data minus references; none without evaluation sets."""
    if not extras.against:
        return []
    counts = runs_by_row(rows, index_of(extras.against))
    return [
        Difference(measure, hit_difference((counts[measure.name] > 0).astype(np.float32))) for measure in STATISTICS
    ]


def hit_difference(hit: Array) -> Callable[[Draws, Draws], Floats]:
    """The share of rows that are hit, a's less b's."""

    def statistic(a: Draws, b: Draws) -> Floats:
        values: Floats = (a @ hit / a.sum(1) - b @ hit / b.sum(1)).astype(np.float64)
        return values

    return statistic


def alone(rows: Sequence[Row], extras: Extras) -> list[Alone]:
    """The share of rows that touch an evaluation text; any is a warning. Intervals are Wilson's."""
    from pyrite.stats.intervals import wilson

    if not extras.against or not rows:
        return []
    counts = runs_by_row(rows, index_of(extras.against))
    shares = {measure: wilson(int(np.count_nonzero(counts[measure.name])), len(rows)) for measure in STATISTICS}
    return [
        Alone(measure, share.value, None, len(rows), FEW[measure.name], share.low, share.high)
        for measure, share in shares.items()
    ]


def alone_from_totals(totals: Mapping[str, Any]) -> list[Alone]:
    """The share of all rows that touch an evaluation text. One row with thirteen words is a finding; eight words in a
    row come about by chance, so a few rows are not."""
    return [
        Alone(measure, totals[measure.name]["share"], None, totals["rows"], FEW[measure.name])
        for measure in STATISTICS
        if measure.name in totals
    ]


def flag_scores(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Array]:
    """1 for a row that holds a run of an evaluation text."""
    counts = runs_by_row(rows, index_of(extras.against))
    return {name: (counts[name] > 0).astype(np.float32) for name in rules}
