"""Counts over a whole data set: rows that touch an evaluation text, and texts that are touched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyrite.audit.flaw import Extras
from pyrite.audit.flaws.contamination.index import SIZES, Told, index_of, runs_by_row
from pyrite.audit.rows import Row
from pyrite.audit.word_hashes import Array


class Stream:
    """Counts the rows that touch each evaluation set, and the items that are touched. Columns: `contamination_13` and
    `contamination_8`, how many runs of evaluation texts a row holds (at most 65,535)."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        self.folder, self.index = folder, index_of(extras.against)
        self.rows = 0
        self.hit = {name: np.zeros(1 + len(self.index.names), dtype=np.int64) for name in SIZES}
        self.touched = {name: np.zeros(int(self.index.starts[-1]), dtype=bool) for name in SIZES}

    def add(self, rows: Sequence[Row]) -> Mapping[str, Array]:
        """Take rows in; returns the columns; none without evaluation sets."""
        self.rows += len(rows)
        if not self.index.names:
            return {}
        sets = {name: np.zeros((len(self.index.names), len(rows)), dtype=bool) for name in SIZES}

        def recorder(name: str) -> Told:
            def record(places: Array, items: Array) -> None:
                self.touched[name][items] = True
                sets[name][np.searchsorted(self.index.starts, items, side="right") - 1, places] = True

            return record

        counts = runs_by_row(rows, self.index, {name: recorder(name) for name in SIZES})
        for name in SIZES:
            self.hit[name][1:] += sets[name].sum(1)
            self.hit[name][0] += np.count_nonzero(counts[name])
        return {
            f"contamination_{name.removeprefix('ngram_')}": np.minimum(counts[name], 65535).astype(np.uint16)
            for name in SIZES
        }

    def close(self) -> None:
        """Write the counts."""
        counts = {"rows": self.rows} | {name: self.hit[name].tolist() for name in SIZES}
        (self.folder / "counts.json").write_bytes(orjson.dumps(counts))
        np.save(self.folder / "touched.npy", np.array([self.touched[name] for name in SIZES]))


def merge(
    folders: Sequence[Path],
    out: Path,
    extras: Extras,
    reference: Sequence[Path] = (),
    offsets: Sequence[int] = (),
) -> dict[str, Any]:
    """The rows of the whole data set that touch an evaluation text.

    Returns `rows`; by measure {rows, share} over all sets; `sets`: name -> {items, and by measure {rows, share,
    items_touched}}; `boilerplate`: 8-grams left out. Exact, and the same however rows were divided into parts.
    """
    index = index_of(extras.against)
    counts = [orjson.loads((folder / "counts.json").read_bytes()) for folder in folders]
    total = sum(count["rows"] for count in counts)
    totals: dict[str, Any] = {"rows": total}
    if not total or not index.names:
        return totals
    hit = {name: np.sum([count[name] for count in counts], axis=0).tolist() for name in SIZES}
    touched = np.any([np.load(folder / "touched.npy", allow_pickle=False) for folder in folders], axis=0)
    totals |= {name: {"rows": hit[name][0], "share": hit[name][0] / total} for name in SIZES}
    totals |= {"boilerplate": index.boilerplate, "sets": {}}
    for at, name in enumerate(index.names):
        items = slice(index.starts[at], index.starts[at + 1])
        totals["sets"][name] = {"items": int(index.starts[at + 1] - index.starts[at])} | {
            size: {
                "rows": hit[size][at + 1],
                "share": hit[size][at + 1] / total,
                "items_touched": int(touched[number, items].sum()),
            }
            for number, size in enumerate(SIZES)
        }
    return totals
