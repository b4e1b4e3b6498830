"""Copies among the rows of a whole data set: rows with the same words, and clusters of those with nearly the same, out of
sketches on disk. What is sorted at a time is a partition; what is told of every row lies in arrays that are mapped from disk.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pyrite.audit.minhash import BANDS, WINDOW, band_order, neighbours
from pyrite.audit.sketch_files import CHUNK, Parts
from pyrite.audit.word_hashes import Array

PARTITION = 1 << 21
"""Rows that are sorted at a time (about 60 bytes each)."""


def partitions(rows: int) -> int:
    """The number of partitions (by hash) that so many rows must be divided into to be sorted in memory."""
    return max(1, -(-rows // PARTITION))


def in_partition(hashes: Array, number: int, count: int) -> Array:
    """Whether each 32-bit hash is of this partition."""
    inside: Array = (hashes.astype(np.uint64) * np.uint64(count)) >> np.uint64(32) == np.uint64(number)
    return inside


def first_of_each(chunks: Iterable[tuple[Array, Array]]) -> tuple[Array, Array, Array]:
    """Of (keys, ids): the distinct keys in order, the least id of each and how often it occurs. Memory grows with the
    distinct keys, not with the rows."""
    held: list[tuple[Array, Array, Array]] = []
    waiting = 0
    for keys, ids in chunks:
        held.append(_distinct(keys, ids, np.ones(len(keys), dtype=np.int64)))
        waiting += len(held[-1][0])
        if waiting > 2 * len(held[0][0]) + CHUNK:
            held, waiting = [_distinct(*map(np.concatenate, zip(*held, strict=True)))], 0
    if not held:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return _distinct(*map(np.concatenate, zip(*held, strict=True)))


def _distinct(keys: Array, ids: Array, counts: Array) -> tuple[Array, Array, Array]:
    order = np.lexsort((ids, keys))
    keys, ids = keys[order], ids[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, np.int64)
    return keys[starts], ids[starts], np.add.reduceat(counts[order], starts) if len(keys) else counts


def unite(roots: Array, a: Array, b: Array) -> None:
    """Join the clusters of the pairs (a, b). `roots[x]` is the least member of x's cluster, before and after."""
    join_roots(roots, a, b)
    flatten_roots(roots)


def join_roots(roots: Array, a: Array, b: Array) -> None:
    """Join the clusters of the pairs (a, b). From `roots[x]`, the least member of x's cluster is topmost by going on to
    `roots[roots[x]]` (`roots_of`): only the roots of the pairs are touched, not every row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, ends = np.unique(np.concatenate([roots_of(roots, a), roots_of(roots, b)]), return_inverse=True)
    left, right = np.split(ends, 2)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    _, groups = connected_components(graph, directed=False)
    least = np.full(groups.max() + 1, len(nodes))
    np.minimum.at(least, groups, np.arange(len(nodes)))
    roots[nodes] = nodes[least[groups]]


def roots_of(roots: Array, at: Array) -> Array:
    """The least member of the cluster of each of these; the way to it is short afterwards."""
    topmost: Array = np.asarray(roots[at])
    while not np.array_equal(above := np.asarray(roots[topmost]), topmost):
        topmost = above
    roots[at] = topmost
    return topmost


def flatten_roots(roots: Array) -> None:
    """Let every row name the least member of its cluster."""
    for at in range(0, len(roots), CHUNK):
        roots_of(roots, np.arange(at, min(at + CHUNK, len(roots))))


def keys_of_texts(parts: Parts, at: int, count: int, column: str) -> Iterator[tuple[Array, Array]]:
    """Hashes of words and numbers (or places) of the rows of one partition."""
    for places, keys, numbers in parts.chunks("text", "number"):
        inside = in_partition(keys >> np.uint64(32), at, count)
        yield keys[inside], (numbers if column == "number" else places)[inside]


def merge_exact(data: Parts, exact_of: Array, column: str = "number") -> tuple[int, int]:
    """Sets `exact_of`: of each row, the first of the same words. Returns rows that share theirs, and groups."""
    rows = groups = 0
    count = partitions(data.rows)
    for at in range(count):
        keys, first, times = first_of_each(keys_of_texts(data, at, count, column))
        rows += int(times[times > 1].sum())
        groups += int(np.count_nonzero(times > 1))
        for keys_here, numbers in keys_of_texts(data, at, count, column):
            exact_of[numbers] = first[np.searchsorted(keys, keys_here)]
    return rows, groups


def band_of(parts: Parts, band: int, at: int, count: int, exact_of: Array, column: str) -> tuple[Array, Array, Array]:
    """The texts of a partition in the order of a band: keys, numbers (or places), places. Each text once."""
    held: list[tuple[Array, ...]] = []
    names = ("long", f"band{band:02}", f"next{band:02}", "number", "text")
    for places, long, band_hashes, following, numbers, texts in parts.chunks(*names):
        ids = numbers if column == "number" else places
        chosen = (long > 0) & in_partition(band_hashes, at, count)
        chosen[chosen] = exact_of[ids[chosen]] == ids[chosen]
        ties = ids if column == "number" else texts
        held.append(tuple(column_values[chosen] for column_values in (band_hashes, following, ties, ids, places)))
    band_hashes, following, ties, ids, places = map(np.concatenate, zip(*held, strict=True))
    order, keys = band_order(band_hashes, following, ties)
    return keys, ids[order], places[order]


def merge_near(data: Parts, exact_of: Array, copy_of: Array) -> None:
    """Joins clusters in `copy_of` (as `exact_of` at first) along near-duplicates, band by band."""
    count = partitions(data.rows)
    for band, at in np.ndindex(BANDS, count):
        keys, ids, places = band_of(data, band, at, count, exact_of, "number")
        for lefts, rights in neighbours(keys):
            for start in range(0, len(lefts), CHUNK):
                left, right = lefts[start : start + CHUNK], rights[start : start + CHUNK]
                new = roots_of(copy_of, ids[left]) != roots_of(copy_of, ids[right])
                left, right = left[new], right[new]
                is_near = data.alike(places[left], data, places[right])
                if is_near.any():
                    join_roots(copy_of, ids[left[is_near]], ids[right[is_near]])
    flatten_roots(copy_of)


def near_reference(data: Parts, reference_parts: Parts, ours: Any, theirs: Any, reference_of: Array) -> None:
    """Sets `reference_of` of texts that a reference text nearly equals, in one band (`band_of` of either side)."""
    keys, ids, places = ours
    their_keys, _, their_places = theirs
    if not len(their_keys):
        return
    at = np.searchsorted(their_keys, keys)
    half, hash_bits = WINDOW // 2, np.uint64(32)
    for step in range(-half, half):
        place = np.clip(at + step, 0, len(their_keys) - 1)
        same = (place == at + step) & (their_keys[place] >> hash_bits == keys >> hash_bits) & (reference_of[ids] < 0)
        lefts = np.flatnonzero(same)
        for start in range(0, len(lefts), CHUNK):
            left = lefts[start : start + CHUNK]
            right = their_places[place[left]]
            is_near = data.alike(places[left], reference_parts, right)
            reference_of[ids[left[is_near]]] = right[is_near]
