"""Copies in a whole data set, by sketches on disk, within bounded memory."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit import copy_clusters, minhash, sketch_files
from pyrite.audit.flaw import Extras
from pyrite.audit.minhash import BANDS, NEAR
from pyrite.audit.rows import Row
from pyrite.audit.sketch_files import CHUNK, Parts
from pyrite.audit.word_hashes import Array
from pyrite.audit.wording import percent


class Stream:
    """Writes a sketch of every row: `sketch_files.BYTES` (328) bytes, and 40 for each sentence of its prompt. Column:
    `duplicates_hash`, the hash of its words."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        self.folder = folder

    def add(self, rows: Sequence[Row]) -> Mapping[str, Array]:
        """Take rows in; returns the column."""
        asked, answered = zip(*(row.parts for row in rows), strict=True) if rows else ((), ())
        sketches = minhash.sketches(answered, asked)
        sketch_files.append_rows(self.folder, [row.number for row in rows], sketches)
        return {"duplicates_hash": sketches.keys}

    def close(self) -> None:
        """Everything is written already."""


def merge(
    folders: Sequence[Path],
    out: Path,
    extras: Extras,
    reference: Sequence[Path] = (),
    offsets: Sequence[int] = (),
) -> dict[str, Any]:
    """The rows of the whole data set that are copies, and of which rows.

    Returns `rows`; `exact` and `near`: {rows: that have a partner, share, groups, copies: rows that are no group's
    first}, where a group of near-duplicates may hold exact ones too; `against_reference` (with a reference): {rows,
    share, numbers: of at most 20}; `bytes_per_row`: on disk, `threshold`, `recall_at_threshold`: with which
    probability a pair of just this similarity becomes a candidate, `standard_error` of its similarity.

    Writes int64 [rows] by number: `exact_of.npy`, the first row of the same words; `copy_of.npy`, the first row of the
    cluster; `reference_of.npy` (with a reference), the place of a (near-)copied row among all reference rows, else -1.
    Sorting is by partitions of 2 million rows (about 460 MB in all, however many rows there are); the arrays are mapped
    from disk.
    """
    data = Parts(folders, offsets)
    if not data.rows:
        return {"rows": 0}
    numbers = 1 + max(int(column.max()) for _, column in data.chunks("number"))
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        exact_of = _array(out / "exact_of.npy", numbers)
        exact_rows, exact_groups = copy_clusters.merge_exact(data, exact_of)
        copy_of = _array(out / "copy_of.npy", numbers)
        for at in range(0, numbers, CHUNK):
            copy_of[at : at + CHUNK] = exact_of[at : at + CHUNK]
        copy_clusters.merge_near(data, exact_of, copy_of)
        near = _near_counts(data, exact_of, copy_of, _array(Path(temporary) / "several.npy", numbers, bool))
        reference_parts, arrays = Parts(reference), 2
        totals: dict[str, Any] = {
            "rows": data.rows,
            "exact": group_counts(data.rows, exact_rows, exact_groups, exact_rows - exact_groups),
            "near": near,
        }
        if reference_parts.rows:
            arrays = 3
            reference_of = _array(out / "reference_of.npy", numbers)
            totals["against_reference"] = _merge_reference(data, reference_parts, exact_of, reference_of)
    return totals | {
        "bytes_per_row": (data.size_on_disk() + arrays * 8 * numbers) / data.rows,
        "threshold": NEAR,
        "recall_at_threshold": 1 - (1 - NEAR**minhash.BAND) ** BANDS,
        "standard_error": (NEAR * (1 - NEAR) / minhash.SLOTS) ** 0.5,
    }


def _array(path: Path, size: int, kind: Any = np.int64) -> Array:
    """An array in a file: 0, 1, 2, … or False."""
    array = np.asarray(np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(size,)))
    for at in range(0, size if kind is np.int64 else 0, CHUNK):
        array[at : at + CHUNK] = np.arange(at, min(at + CHUNK, size))
    return array


def group_counts(total: int, rows: int, groups: int, copies: int) -> dict[str, Any]:
    """Rows in groups of copies, as plain values."""
    return {"rows": int(rows), "share": rows / total, "groups": int(groups), "copies": int(copies)}


def _near_counts(data: Parts, exact_of: Array, copy_of: Array, several: Array) -> dict[str, Any]:
    """Rows of clusters that hold more than one text."""
    for _, numbers in data.chunks("number"):
        joined = exact_of[numbers] != copy_of[numbers]
        several[copy_of[numbers[joined]]] = True
    rows = groups = 0
    for _, numbers in data.chunks("number"):
        near = several[copy_of[numbers]]
        rows += int(np.count_nonzero(near))
        groups += int(np.count_nonzero(several[numbers]))
    return group_counts(data.rows, rows, groups, rows - groups)


def _merge_reference(data: Parts, reference_parts: Parts, exact_of: Array, reference_of: Array) -> dict[str, Any]:
    """Copies of reference rows. A text is compared with the next few reference texts on either side in each band."""
    reference_of[:] = -1
    with tempfile.TemporaryFile() as file:
        first = np.memmap(file, np.int64, "w+", shape=(reference_parts.rows,))
        copy_clusters.merge_exact(reference_parts, first, "place")
        count = copy_clusters.partitions(data.rows + reference_parts.rows)
        for at in range(count):
            keys, numbers, _ = copy_clusters.first_of_each(copy_clusters.keys_of_texts(data, at, count, "number"))
            theirs, places, _ = copy_clusters.first_of_each(
                copy_clusters.keys_of_texts(reference_parts, at, count, "place")
            )
            _, ours, at_place = np.intersect1d(keys, theirs, assume_unique=True, return_indices=True)
            reference_of[numbers[ours]] = places[at_place]
        for band, at in np.ndindex(BANDS, count):
            ours_here = copy_clusters.band_of(data, band, at, count, exact_of, "number")
            copy_clusters.near_reference(
                data,
                reference_parts,
                ours_here,
                copy_clusters.band_of(reference_parts, band, at, count, first, "place"),
                reference_of,
            )
    rows, examples = 0, list[int]()
    for _, numbers in data.chunks("number"):
        reference_of[numbers] = reference_of[exact_of[numbers]]
        copied = numbers[reference_of[numbers] >= 0]
        rows += len(copied)
        examples = sorted([*examples, *copied.tolist()])[:20]
    return {"rows": rows, "share": rows / data.rows, "numbers": examples}


def notes(totals: Mapping[str, Any]) -> list[str]:
    """How many rows of the whole data set are copies: in a sample most pairs are apart, so few would be seen there."""
    lines = []
    for name, what in (("exact", "repeat another row word for word"), ("near", "are nearly another row")):
        counts = totals.get(name)
        if counts and counts["rows"]:
            share, groups = percent(counts["share"], fine=True), f"in {counts['groups']:,} groups"
            lines.append(f"of all rows, {counts['rows']:,} ({share}) {what} ({groups})")
    return lines
