"""Do the answers share one shape? Openings, closings, layouts and lengths that come again and again.

A model that wrote a whole data set writes in few ways, and a model trained on it overfits to the pattern ("Unveiling the
Flaws", Chen et al. 2024, arXiv 2406.12397). Every answer counts; answers of one row stay together. What an opening, a
closing and a skeleton are is in `pyrite.audit.flaws.format.answer_shape`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Contrast, Draws, Extras, Floats, Measure
from pyrite.audit.flaws.format.answer_shape import (
    Shape,
    Words,
    drawn,
    joined,
    phrase,
    shape_of,
)
from pyrite.audit.flaws.format.patterns import readable
from pyrite.audit.rows import Row

MEASURES: tuple[Measure, ...] = (
    Measure(
        "format",
        "opening_concentration",
        "Do more answers begin in one of the ten commonest ways (first three words) than in the references?",
        "share",
        "Drop or rewrite the opening words of the flagged answers, or ask the generator to begin in varied ways.",
    ),
    Measure(
        "format",
        "closing_concentration",
        "Do more answers end in one of the ten commonest ways (last three words) than in the references?",
        "share",
        "Cut stock endings off the flagged answers.",
    ),
    Measure(
        "format",
        "skeleton_concentration",
        "Do more answers have one of the three commonest layouts than in the references?",
        "share",
        "Thin out the flagged layouts, or ask the generator for other ones.",
    ),
    Measure(
        "format",
        "shape_entropy",
        "Are there fewer kinds of layout and mark-up than in the references (bits of entropy that are missing)?",
        "bits",
        "Generate with prompts that ask for varied formats, and thin out the commonest ones.",
    ),
    Measure(
        "format",
        "shape_distance",
        "Do the shapes of the answers (opening, layout, end) occur with other shares than in the references?",
        "bits",
        "Weight or rewrite the over-represented shapes towards the references' shares.",
    ),
    Measure(
        "format",
        "length_spread",
        "Do the answers' lengths vary less than the references' (log of the ratio of the spreads of log length)?",
        "log ratio",
        "Ask the generator for answers of varied length, or sample rows so that the lengths spread as people's do.",
    ),
)
OPENING, CLOSING, SKELETON, ENTROPY, DISTANCE, LENGTH = MEASURES

TOP = 10
"""Concentration is the share of answers under this many commonest openings or closings,"""
TOP_LAYOUTS = 3
"""and under this many layouts: people's ten commonest hold 95 % of their answers already, which leaves no room."""
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
_FINE = 2048
_SKETCHES = (*(f"{edge}{size}" for edge, sizes in SIZES.items() for size in sizes), "skeleton")
_LEAST_SD = 0.01


def key_of(words: Words, size: int) -> str:
    """The first words as text of bounded length, for a sketch to keep."""
    return " ".join(words[:size])[:_KEY]


class Stream:
    """Counts the openings, closings, skeletons and lengths of a part of a data set, within bounded memory.

    Patterns are counted by a frequent-items sketch (Anderson et al. 2017, "A high-performance algorithm for identifying
    frequent items in data streams"; datasketches), lengths exactly (above 4,095 words to the nearest 0.1 % below): the
    library's quantile sketch draws random numbers that nobody can seed, and would differ from run to run.

    Columns: `format_words` (words of all answers), `format_skeleton` and `format_opening`: hashes (xxh3, 64 bits) of the
    answers' skeletons, and of the first answer's first three words.
    """

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
                self.lengths[rounded(shape.words)] += 1
                skeleton(shape.skeleton)
                if shape.words:
                    for size, update in openings_of:
                        update(key_of(shape.opening, size))
                    for size, update in closings_of:
                        update(key_of(shape.closing, size))
            words.append(sum(shape.words for shape in shapes))
            skeletons.append(xxh3_64_intdigest(" ".join([shape.skeleton for shape in shapes]).encode()))
            openings.append(xxh3_64_intdigest((key_of(shapes[0].opening, EDGE) if shapes else "").encode()))
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


def rounded(words: int) -> int:
    """A length as it is counted: exact below 4,096, above it its first twelve binary digits.

    >>> rounded(120), rounded(4099), rounded(1_000_001)
    (120, 4098, 999936)
    """
    coarse = max(0, words.bit_length() - _EXACT.bit_length() + 1)
    return words >> coarse << coarse


class _Merged:
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
        found = self.sketches[name].get_frequent_items(kind, max(1, self.answers // 2000))
        found = sorted(((text, count) for text, count, *_ in found), key=lambda one: (-one[1], one[0]))
        return dict(found[: 10 * LISTED])

    def bounds(self, name: str, text: str) -> tuple[float, float]:
        """Between which shares of the answers a pattern lies for certain."""
        sketch, n = self.sketches[name], max(1, self.answers)
        return sketch.get_lower_bound(text) / n, min(1.0, sketch.get_upper_bound(text) / n)


def whole(folders: Sequence[Path], out: Path, extras: Extras, reference: Sequence[Path] = ()) -> dict[str, Any]:
    """What are the commonest openings, closings and skeletons of the whole data set, and how long are its answers?

    Each pattern comes with its share of the answers and certain bounds of it (`low`, `high`; `count_error` is the
    largest error in answers), and, given references, with the bounds of its share there. Openings are those of
    1 (where a mark sets it off), 3 and 6 words, closings of 3 and 6, the longest that stands for four fifths of its
    shorter one. Counts are the same for every
    division into parts as long as no sketch is full (12,288 patterns), and within `count_error` after that.
    """
    merged, other = _Merged(folders), _Merged(reference) if reference else None
    told: dict[str, Any] = {"answers": merged.answers, "count_error": merged.error()}
    for edge, sizes in SIZES.items():
        counts = [merged.commonest(f"{edge}{size}") for size in sizes]
        counts = [{text: count for text, count in some.items() if phrase(tuple(text.split(" ")))} for some in counts]
        names = {text: f"{edge}{size}" for size, some in zip(sizes, counts, strict=True) for text in some}
        told[f"{edge}s"] = _listed(merged, other, readable(counts), names, partial(_shown, edge))
    skeletons = merged.commonest("skeleton")
    told["skeletons"] = _listed(merged, other, skeletons, dict.fromkeys(skeletons, "skeleton"), drawn)
    told["length"] = _quantiles(merged.lengths)
    return told


def _shown(edge: str, text: str) -> str:
    return joined(tuple(text.split(" ")), edge == "closing")


def _listed(
    merged: _Merged,
    other: _Merged | None,
    counts: Mapping[str, int],
    names: Mapping[str, str],
    show: Callable[[str], str],
) -> list[dict[str, Any]]:
    made = []
    for text, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:LISTED]:
        low, high = merged.bounds(names[text], text)
        one: dict[str, Any] = {"text": show(text), "share": high, "low": low, "high": high}
        if other:
            one["reference"] = dict(zip(("low", "high"), other.bounds(names[text], text), strict=True))
        made.append(one)
    return made


def _quantiles(lengths: Mapping[int, int]) -> dict[str, Any]:
    """Quantiles of the lengths in words, exact in rank."""
    told: dict[str, Any] = {"quantiles": {}, "rank_error": 0.0}
    if lengths:
        values = np.array(sorted(lengths))
        upto = np.cumsum([lengths[value] for value in values.tolist()])
        for share in (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0):
            at = int(np.searchsorted(upto, share * upto[-1]))
            told["quantiles"][f"{share:g}"] = int(values[at])
    return told


def contrasts(rows: Sequence[Row], extras: Extras) -> list[Contrast]:
    """The six measures, on the rows that have an answer; none where no row has one."""
    shapes = [[shape_of(answer) for answer in row.answers] for row in rows]
    used = [at for at, some in enumerate(shapes) if some]
    if not used:
        return []
    every = [shape for some in shapes for shape in some]
    common = _common([key_of(shape.opening, EDGE) for shape in every])

    def template(shape: Shape) -> str:
        opening = key_of(shape.opening, EDGE)
        return f"{opening if opening in common else ''} {shape.structure}"

    counts = np.array([len(some) for some in shapes], dtype=np.float32)
    made = {
        OPENING: partial(_concentration, _table(shapes, lambda shape: key_of(shape.opening, EDGE)), counts, TOP),
        CLOSING: partial(_concentration, _table(shapes, lambda shape: key_of(shape.closing, EDGE)), counts, TOP),
        SKELETON: partial(_concentration, _table(shapes, lambda shape: shape.skeleton), counts, TOP_LAYOUTS),
        ENTROPY: partial(_missing_entropy, _table(shapes, lambda shape: shape.structure)),
        DISTANCE: partial(_distance, _table(shapes, template)),
        LENGTH: partial(_narrowing, _log_lengths(shapes)),
    }
    only = None if len(used) == len(rows) else used
    return [Contrast(measure, statistic, only) for measure, statistic in made.items()]


def _common(keys: Sequence[str]) -> set[str]:
    """Those that 1 % of all have, and five at the least."""
    floor = max(5, 0.01 * len(keys))
    return {key for key, count in Counter(keys).items() if count >= floor}


def _table(shapes: Sequence[Sequence[Shape]], key: Callable[[Shape], str]) -> Any:
    """How many answers of each row have each pattern: sparse [rows, patterns]. Empty patterns are left out."""
    from scipy.sparse import csr_matrix

    numbers: dict[str, int] = {}
    pairs = [
        (at, numbers.setdefault(pattern, len(numbers)))
        for at, some in enumerate(shapes)
        for pattern in map(key, some)
        if pattern
    ]
    lines, columns = zip(*pairs, strict=True) if pairs else ((), ())
    size = (len(shapes), max(1, len(numbers)))
    return csr_matrix((np.ones(len(pairs), dtype=np.float32), (lines, columns)), shape=size)


def _counts(group: Draws, table: Any) -> Floats:
    """How many answers of each draw have each pattern [draws, patterns]."""
    return np.asarray((table.T @ group.T).T, dtype=np.float64)


def _concentration(table: Any, answers: Any, top: int, a: Draws, b: Draws) -> Floats:
    """The share of answers under each group's own `top` commonest patterns, a's less b's."""
    return _top(_counts(a, table), a @ answers, top) - _top(_counts(b, table), b @ answers, top)


def _top(counts: Floats, answers: Any, top: int) -> Floats:
    if counts.shape[1] > top:
        counts = np.partition(counts, -top, axis=1)[:, -top:]
    return np.asarray(counts.sum(axis=1) / np.maximum(answers, 1), dtype=np.float64)


def bits(counts: Floats) -> Floats:
    """Shannon entropy of counts, in bits (the plain estimate: its bias falls out between groups of one size)."""
    from scipy.special import xlogy

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray(-xlogy(shares, shares).sum(axis=1) / np.log(2), dtype=np.float64)


def _missing_entropy(table: Any, a: Draws, b: Draws) -> Floats:
    return bits(_counts(b, table)) - bits(_counts(a, table))


def _distance(table: Any, a: Draws, b: Draws) -> Floats:
    """Jensen-Shannon divergence, bits (Lin 1991, eq. 4.1)."""
    p, q = _counts(a, table), _counts(b, table)
    p, q = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for counts in (p, q))
    return bits((p + q) / 2) - (bits(p) + bits(q)) / 2


def _log_lengths(shapes: Sequence[Sequence[Shape]]) -> Floats:
    """For each row: how many answers, the sum of their log lengths, the sum of the squares [rows, 3]."""
    logs = [np.log([max(1, shape.words) for shape in some]) for some in shapes]
    middle = float(np.concatenate(logs).mean())
    return np.array([[len(log), (log - middle).sum(), ((log - middle) ** 2).sum()] for log in logs])


def _narrowing(sums: Floats, a: Draws, b: Draws) -> Floats:
    """Log of the standard deviation of log length in b over that in a."""
    return np.log(_spread(b.astype(np.float64) @ sums) / _spread(a.astype(np.float64) @ sums))


def _spread(sums: Floats) -> Floats:
    n, first, second = np.maximum(sums[:, 0], 1), sums[:, 1], sums[:, 2]
    return np.sqrt(np.maximum(second / n - (first / n) ** 2, _LEAST_SD**2))


def opening_of(shape: Shape) -> Words:
    """Its first words."""
    return shape.opening


def closing_of(shape: Shape) -> Words:
    """Its last words, the last one first."""
    return shape.closing


def marks(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, np.ndarray[Any, Any]]:
    """1 where one of a row's answers has an opening, closing, skeleton or structure that the rule names."""
    made = {}
    for name, rule in rules.items():
        edges = [
            (key, _by_size(rule.get(kind, ()))) for key, kind in ((opening_of, "openings"), (closing_of, "closings"))
        ]
        layouts = [
            (key, set(rule.get(kind, ()))) for key, kind in ((_skeleton, "skeletons"), (_structure, "structures"))
        ]

        def has(shape: Shape, edges: Any = edges, layouts: Any = layouts) -> bool:
            return any(key(shape) in some for key, some in layouts) or any(
                key(shape)[:size] in some for key, sizes in edges for size, some in sizes.items()
            )

        made[name] = np.array([any(has(shape_of(answer)) for answer in row.answers) for row in rows], dtype=np.float32)
    return made


def _skeleton(shape: Shape) -> str:
    return shape.skeleton


def _structure(shape: Shape) -> str:
    return shape.structure


def _by_size(texts: Iterable[str]) -> dict[int, set[Words]]:
    sizes: dict[int, set[Words]] = {}
    for text in texts:
        words = tuple(text.split(" "))
        sizes.setdefault(len(words), set()).add(words)
    return sizes
