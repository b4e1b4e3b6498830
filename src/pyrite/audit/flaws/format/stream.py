"""Counts over a whole data set of how answers open, close and are laid out (sketches), and of their lengths."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Extras
from pyrite.audit.flaws.format.answer_shape import Words, joined, phrase, shape_of, template_text
from pyrite.audit.flaws.format.patterns import readable
from pyrite.audit.rows import Row

EDGE = 3
"""Concentration of openings and closings is taken over this many words."""
SIZES = {"opening": (1, EDGE, 6), "closing": (EDGE, 6)}
"""The whole data set's openings and closings are counted at these numbers of words."""
LG = 14
"""Binary logarithm of the size of a sketch: it holds up to 3/4 of 2^LG patterns, its counts are too high by at most
3.5 / 2^LG of all that it counted (0.02 %)."""
LISTED = 50
"""Patterns of a kind that `whole` lists at most."""
_KEY = 160
_EXACT = 4096
_SKETCHES = (*(f"{edge}{size}" for edge, sizes in SIZES.items() for size in sizes), "skeleton")


def edge_key(words: Words, size: int) -> str:
    """The first words as text of bounded length, for a sketch to keep."""
    return " ".join(words[:size])[:_KEY]


class Stream:
    """Counts the openings, closings, skeletons and lengths of a part of a data set, within bounded memory.

    Patterns are counted by a frequent-items sketch (Anderson et al. 2017, "A high-performance algorithm for identifying
    frequent items in data streams"; datasketches), lengths exactly (above 4,095 words to the nearest 0.1 % below): the
    library's quantile sketch draws random numbers that nobody can seed, and would differ from run to run.

    Columns: `format_words` (words of all answers), `format_skeleton` and `format_opening`: hashes (xxh3, 64 bits) of
    the answers' skeletons, and of the first answer's first three words."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        from datasketches import frequent_strings_sketch

        self.folder = folder
        self.sketches = {name: frequent_strings_sketch(LG) for name in _SKETCHES}
        self.lengths: Counter[int] = Counter()

    def add(self, rows: Sequence[Row]) -> Mapping[str, np.ndarray[Any, Any]]:
        """Take rows in; returns the columns."""
        from xxhash import xxh3_64_intdigest

        words, skeletons, openings = [], [], []
        skeleton = self.sketches["skeleton"].update
        openings_of, closings_of = (
            [(size, self.sketches[f"{edge}{size}"].update) for size in sizes] for edge, sizes in SIZES.items()
        )
        for row in rows:
            shapes = [shape_of(answer) for answer in row.answers]
            for shape in shapes:
                self.lengths[length_bucket(shape.words)] += 1
                skeleton(shape.skeleton)
                if shape.words:
                    for size, update in openings_of:
                        update(edge_key(shape.opening, size))
                    for size, update in closings_of:
                        update(edge_key(shape.closing, size))
            words.append(sum(shape.words for shape in shapes))
            skeletons.append(xxh3_64_intdigest(" ".join([shape.skeleton for shape in shapes]).encode()))
            openings.append(xxh3_64_intdigest((edge_key(shapes[0].opening, EDGE) if shapes else "").encode()))
        return {
            "format_words": np.array(words, dtype=np.uint32),
            "format_skeleton": np.array(skeletons, dtype=np.uint64),
            "format_opening": np.array(openings, dtype=np.uint64),
        }

    def close(self) -> None:
        """Write the sketches and the lengths."""
        for name, sketch in self.sketches.items():
            (self.folder / f"{name}.sketch").write_bytes(sketch.serialize())
        lengths = np.array(sorted(self.lengths.items()), dtype=np.int64).reshape(-1, 2)
        np.save(self.folder / "lengths.npy", lengths, allow_pickle=False)
        self.sketches, self.lengths = {}, Counter()


def length_bucket(words: int) -> int:
    """A length as it is counted: exact below 4,096, above it its first twelve binary digits.

    >>> length_bucket(120), length_bucket(4099), length_bucket(1_000_001)
    (120, 4098, 999936)
    """
    coarse = max(0, words.bit_length() - _EXACT.bit_length() + 1)
    return words >> coarse << coarse


class MergedCounts:
    """The merged counts of some parts."""

    def __init__(self, folders: Sequence[Path]) -> None:
        from datasketches import frequent_strings_sketch

        self.sketches = {name: frequent_strings_sketch(LG) for name in _SKETCHES}
        self.lengths: Counter[int] = Counter()
        for folder in folders:
            for name, sketch in self.sketches.items():
                sketch.merge(frequent_strings_sketch.deserialize((folder / f"{name}.sketch").read_bytes()))
            for length, count in np.load(folder / "lengths.npy", allow_pickle=False).tolist():
                self.lengths[length] += count
        self.answers = self.lengths.total()

    def error(self) -> int:
        """A count is too high by at most this: what any pattern that was never seen would be given."""
        return max(int(sketch.get_upper_bound("\0never seen")) for sketch in self.sketches.values())

    def commonest(self, name: str) -> dict[str, int]:
        """The commonest patterns of a sketch with their counts, at most ten for each one that can be listed."""
        from datasketches import frequent_items_error_type

        kind = frequent_items_error_type.NO_FALSE_NEGATIVES
        items = self.sketches[name].get_frequent_items(kind, max(1, self.answers // 2000))
        items = sorted(((text, count) for text, count, *_ in items), key=lambda item: (-item[1], item[0]))
        return dict(items[: 10 * LISTED])

    def bounds(self, name: str, text: str) -> tuple[float, float]:
        """Between which shares of the answers a pattern lies for certain."""
        sketch, n = self.sketches[name], max(1, self.answers)
        return sketch.get_lower_bound(text) / n, min(1.0, sketch.get_upper_bound(text) / n)


def merge(
    folders: Sequence[Path],
    out: Path,
    extras: Extras,
    reference: Sequence[Path] = (),
    offsets: Sequence[int] = (),
) -> dict[str, Any]:
    """The commonest openings, closings and skeletons of the whole data set, and the lengths of its answers.

    Each pattern comes with its share of the answers and certain bounds of it (`low`, `high`; `count_error` is the
    largest error in answers), and, given references, with the bounds of its share there. Openings are those of
    1 (where a mark sets it off), 3 and 6 words, closings of 3 and 6, the longest that stands for four fifths of its
    shorter one. Counts are the same for every
    division into parts as long as no sketch is full (12,288 patterns), and within `count_error` after that.
    """
    merged, references = MergedCounts(folders), MergedCounts(reference) if reference else None
    totals: dict[str, Any] = {"answers": merged.answers, "count_error": merged.error()}
    for edge, sizes in SIZES.items():
        counts = [merged.commonest(f"{edge}{size}") for size in sizes]
        counts = [
            {text: count for text, count in patterns.items() if phrase(tuple(text.split(" ")))} for patterns in counts
        ]
        names = {text: f"{edge}{size}" for size, patterns in zip(sizes, counts, strict=True) for text in patterns}
        totals[f"{edge}s"] = _listed(merged, references, readable(counts), names, partial(_shown, edge))
    skeletons = merged.commonest("skeleton")
    totals["skeletons"] = _listed(merged, references, skeletons, dict.fromkeys(skeletons, "skeleton"), template_text)
    totals["length"] = length_quantiles(merged.lengths)
    return totals


def _shown(edge: str, text: str) -> str:
    return joined(tuple(text.split(" ")), edge == "closing")


def _listed(
    merged: MergedCounts,
    references: MergedCounts | None,
    counts: Mapping[str, int],
    names: Mapping[str, str],
    show: Callable[[str], str],
) -> list[dict[str, Any]]:
    listed = []
    for text, _ in sorted(counts.items(), key=lambda line: (-line[1], line[0]))[:LISTED]:
        low, high = merged.bounds(names[text], text)
        line: dict[str, Any] = {"text": show(text), "share": high, "low": low, "high": high}
        if references:
            line["reference"] = dict(zip(("low", "high"), references.bounds(names[text], text), strict=True))
        listed.append(line)
    return listed


def length_quantiles(lengths: Mapping[int, int]) -> dict[str, Any]:
    """Quantiles of the lengths in words, exact in rank."""
    result: dict[str, Any] = {"quantiles": {}, "rank_error": 0.0}
    if lengths:
        values = np.array(sorted(lengths))
        upto = np.cumsum([lengths[value] for value in values.tolist()])
        for share in (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0):
            at = int(np.searchsorted(upto, share * upto[-1]))
            result["quantiles"][f"{share:g}"] = int(values[at])
    return result
