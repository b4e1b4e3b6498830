"""A flaw from outside, as a plug-in has it: rows that shout ("!!")."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Contrast, Draws, Evidence, Extras, Flaw, Floats, Population, Statistic
from pyrite.audit.flaws.registry import register_flaw
from pyrite.audit.rows import Row

SHARE = Statistic("toy", "share", "Do more rows shout than in the references?", "share", "Rewrite the rows that shout.")


def shouting(rows: Sequence[Row]) -> Floats:
    """1 for a row whose answer holds "!!" [rows]."""
    return np.array(["!!" in row.answer for row in rows], dtype=np.float64)


def contrasts(rows: Sequence[Row], extras: Extras) -> list[Contrast]:
    """The share of rows that shout, data minus references."""
    hits = shouting(rows)

    def difference(a: Draws, b: Draws) -> Floats:
        values: Floats = a @ hits / a.sum(1) - b @ hits / b.sum(1)
        return values

    return [Contrast(SHARE, difference)]


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """The rows that shout."""
    rows = [row for row in data.rows if "!!" in row.answer]
    return Evidence(
        (f"{len(rows)} of {len(data.rows)} rows shout",), tuple(row.number for row in rows[:20]), rule={"mark": "!!"}
    )


def flag_scores(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Floats]:
    """1 for a row that shouts."""
    return {name: shouting(rows) for name in rules}


register_flaw(Flaw("toy", (SHARE,), evidence, contrasts=contrasts, flag_scores=flag_scores))
