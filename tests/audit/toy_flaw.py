"""A flaw from outside, as a plug-in has it: rows that shout ("!!")."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Alone, Difference, Draws, Evidence, Extras, Flaw, Floats, Population, Statistic
from pyrite.audit.flaws.registry import register_flaw
from pyrite.audit.rows import Row

SHARE = Statistic("toy", "share", "Do more rows shout than in the references?", "share", "Rewrite the rows that shout.")


def shouting(rows: Sequence[Row]) -> Floats:
    """1 for a row whose answer holds "!!" [rows]."""
    return np.array(["!!" in row.answer for row in rows], dtype=np.float64)


class Stream:
    """Counts the rows of a part that shout. Column: `toy_shouts`."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        self.folder = folder
        self.counts = {"rows": 0, "shouting": 0}

    def add(self, rows: Sequence[Row]) -> Mapping[str, Floats]:
        """Take rows in; returns the column."""
        hits = shouting(rows)
        self.counts["rows"] += len(rows)
        self.counts["shouting"] += int(hits.sum())
        return {"toy_shouts": hits}

    def close(self) -> None:
        """Write the counts."""
        (self.folder / "counts.json").write_text(json.dumps(self.counts))


def merge(
    folders: Sequence[Path],
    out: Path,
    extras: Extras,
    reference: Sequence[Path] = (),
    offsets: Sequence[int] = (),
) -> dict[str, Any]:
    """The counts of all parts."""
    counts = [json.loads((folder / "counts.json").read_text()) for folder in folders]
    return {name: sum(count[name] for count in counts) for name in ("rows", "shouting")}


def alone_from_totals(totals: Mapping[str, Any]) -> list[Alone]:
    """The share of all rows; above one in a hundred it is a warning."""
    return [Alone(SHARE, totals["shouting"] / totals["rows"], None, totals["rows"], 0.01)]


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """The share of rows that shout, data minus references."""
    hits = shouting(rows)

    def difference(a: Draws, b: Draws) -> Floats:
        values: Floats = a @ hits / a.sum(1) - b @ hits / b.sum(1)
        return values

    return [Difference(SHARE, difference)]


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


FLAW = Flaw(
    "toy",
    (SHARE,),
    evidence,
    differences=differences,
    alone_from_totals=alone_from_totals,
    stream=Stream,
    merge=merge,
    flag_scores=flag_scores,
)
register_flaw(FLAW)
