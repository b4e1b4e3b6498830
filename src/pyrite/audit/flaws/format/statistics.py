"""Concentration of answers on few shapes: openings, closings, layouts and lengths that come again and again.

A model that wrote a whole data set writes in few ways, and a model trained on it overfits to the pattern ("Unveiling
the Flaws", Chen et al. 2024, arXiv 2406.12397). Every answer counts; answers of one row stay together. What an opening,
a closing and a skeleton are is in `pyrite.audit.flaws.format.answer_shape`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Difference, Draws, Extras, Floats, Statistic
from pyrite.audit.flaws.format.answer_shape import (
    Shape,
    Words,
    shape_of,
)
from pyrite.audit.flaws.format.stream import EDGE, edge_key
from pyrite.audit.rows import Row

STATISTICS: tuple[Statistic, ...] = (
    Statistic(
        "format",
        "opening_concentration",
        "Do more answers begin in one of the ten commonest ways (first three words) than in the references?",
        "share",
        "Drop or rewrite the opening words of the flagged answers, or ask the generator to begin in varied ways.",
        advice_by_kind={
            "code": "Keep what programs need to begin with (imports, a given signature); of the rest, ask for varied tasks.",
            "text": "Take out what is not part of the texts (headers, datelines); of the rest, ask for varied beginnings.",
        },
    ),
    Statistic(
        "format",
        "closing_concentration",
        "Do more answers end in one of the ten commonest ways (last three words) than in the references?",
        "share",
        "Read how the flagged answers end: cut off what says nothing (offers of help, summaries), keep what answers.",
        advice_by_kind={
            "code": "Read how the flagged programs end, and keep what they need to run: code ends alike by its grammar.",
            "text": "Take out what is not part of the texts (footers, signatures, licence lines); keep their last sentences.",
            "labelled": "Read how the flagged rows end, and rewrite endings that say nothing about the label.",
        },
    ),
    Statistic(
        "format",
        "skeleton_concentration",
        "Do more answers have one of the three commonest layouts than in the references?",
        "share",
        "Thin out the flagged layouts, or ask the generator for other ones.",
        advice_by_kind={
            "code": "Compare with code that people wrote in this language for such tasks, and ask for varied tasks.",
        },
    ),
    Statistic(
        "format",
        "shape_entropy",
        "Are there fewer kinds of layout and mark-up than in the references (bits of entropy that are missing)?",
        "bits",
        "Generate with prompts that ask for varied formats, and thin out the commonest ones.",
        advice_by_kind={
            "code": "Ask for varied tasks, with and without explanations: the layout of code follows from what it does.",
        },
    ),
    Statistic(
        "format",
        "shape_distance",
        "Do the shapes of the answers (opening, layout, end) occur with other shares than in the references?",
        "bits",
        "Weight or rewrite the over-represented shapes towards the references' shares.",
        ceiling=1.0,
        advice_by_kind={
            "code": "Take references in the same programming language, then weight the tasks towards theirs.",
        },
    ),
    Statistic(
        "format",
        "length_spread",
        "Do the answers' lengths vary less than the references' (log of the ratio of the spreads of log length)?",
        "log ratio",
        "Ask the generator for answers of varied length, or sample rows so that the lengths spread as people's do.",
        advice_by_kind={
            "code": "Ask for tasks of varied size, or sample rows so that the lengths spread as people's do.",
        },
    ),
)
OPENING, CLOSING, SKELETON, ENTROPY, DISTANCE, LENGTH = STATISTICS

TOP = 10
"""Concentration is the share of answers under this many commonest openings or closings,"""
TOP_LAYOUTS = 3
"""and under this many layouts: people's ten commonest hold 95 % of their answers already, which leaves no room."""
_LEAST_SD = 0.01


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """The six measures, on the rows that have an answer; none where no row has one."""
    shapes = [[shape_of(answer) for answer in row.answers] for row in rows]
    used = [at for at, row_shapes in enumerate(shapes) if row_shapes]
    if not used:
        return []
    every = [shape for row_shapes in shapes for shape in row_shapes]
    common = _common_keys([edge_key(shape.opening, EDGE) for shape in every])

    def template(shape: Shape) -> str:
        opening = edge_key(shape.opening, EDGE)
        return f"{opening if opening in common else ''} {shape.structure}"

    counts = np.array([len(row_shapes) for row_shapes in shapes], dtype=np.float32)
    by_statistic = {
        OPENING: partial(_concentration, _table(shapes, lambda shape: edge_key(shape.opening, EDGE)), counts, TOP),
        CLOSING: partial(_concentration, _table(shapes, lambda shape: edge_key(shape.closing, EDGE)), counts, TOP),
        SKELETON: partial(_concentration, _table(shapes, lambda shape: shape.skeleton), counts, TOP_LAYOUTS),
        ENTROPY: partial(_missing_entropy, _table(shapes, lambda shape: shape.structure)),
        DISTANCE: partial(_distance, _table(shapes, template)),
        LENGTH: partial(_narrowing, _log_lengths(shapes)),
    }
    only = None if len(used) == len(rows) else used
    return [Difference(measure, statistic, only) for measure, statistic in by_statistic.items()]


def _common_keys(keys: Sequence[str]) -> set[str]:
    """Those that 1 % of all have, and five at the least."""
    floor = max(5, 0.01 * len(keys))
    return {key for key, count in Counter(keys).items() if count >= floor}


def _table(shapes: Sequence[Sequence[Shape]], key: Callable[[Shape], str]) -> Any:
    """How many answers of each row have each pattern: sparse [rows, patterns]. Empty patterns are left out."""
    from scipy.sparse import csr_matrix

    numbers: dict[str, int] = {}
    pairs = [
        (at, numbers.setdefault(pattern, len(numbers)))
        for at, row_shapes in enumerate(shapes)
        for pattern in map(key, row_shapes)
        if pattern
    ]
    lines, columns = zip(*pairs, strict=True) if pairs else ((), ())
    size = (len(shapes), max(1, len(numbers)))
    return csr_matrix((np.ones(len(pairs), dtype=np.float32), (lines, columns)), shape=size)


def _pattern_counts(group: Draws, table: Any) -> Floats:
    """How many answers of each draw have each pattern [draws, patterns]."""
    return np.asarray((table.T @ group.T).T, dtype=np.float64)


def _concentration(table: Any, answers: Any, top: int, a: Draws, b: Draws) -> Floats:
    """The share of answers under each group's own `top` commonest patterns, a's less b's."""
    return _top(_pattern_counts(a, table), a @ answers, top) - _top(_pattern_counts(b, table), b @ answers, top)


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
    return bits(_pattern_counts(b, table)) - bits(_pattern_counts(a, table))


def _distance(table: Any, a: Draws, b: Draws) -> Floats:
    """Jensen-Shannon divergence, bits (Lin 1991, eq. 4.1)."""
    p, q = _pattern_counts(a, table), _pattern_counts(b, table)
    p, q = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for counts in (p, q))
    return bits((p + q) / 2) - (bits(p) + bits(q)) / 2


def _log_lengths(shapes: Sequence[Sequence[Shape]]) -> Floats:
    """For each row: how many answers, the sum of their log lengths, the sum of the squares [rows, 3]."""
    logs = [np.log([max(1, shape.words) for shape in row_shapes]) for row_shapes in shapes]
    middle = float(np.concatenate(logs).mean())
    return np.array([[len(log), (log - middle).sum(), ((log - middle) ** 2).sum()] for log in logs])


def _narrowing(sums: Floats, a: Draws, b: Draws) -> Floats:
    """Log of the standard deviation of log length in b over that in a."""
    return np.log(_length_spread(b.astype(np.float64) @ sums) / _length_spread(a.astype(np.float64) @ sums))


def _length_spread(sums: Floats) -> Floats:
    n, first, second = np.maximum(sums[:, 0], 1), sums[:, 1], sums[:, 2]
    return np.sqrt(np.maximum(second / n - (first / n) ** 2, _LEAST_SD**2))


def opening_of(shape: Shape) -> Words:
    """Its first words."""
    return shape.opening


def closing_of(shape: Shape) -> Words:
    """Its last words, the last one first."""
    return shape.closing


def flag_scores(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, np.ndarray[Any, Any]]:
    """1 where one of a row's answers has an opening, closing, skeleton or structure that the rule names."""
    scores = {}
    for name, rule in rules.items():
        edges = [
            (key, _by_size(rule.get(kind, ()))) for key, kind in ((opening_of, "openings"), (closing_of, "closings"))
        ]
        layouts = [
            (key, set(rule.get(kind, ()))) for key, kind in ((_skeleton, "skeletons"), (_structure, "structures"))
        ]

        def has(shape: Shape, edges: Any = edges, layouts: Any = layouts) -> bool:
            return any(key(shape) in patterns for key, patterns in layouts) or any(
                key(shape)[:size] in patterns for key, sizes in edges for size, patterns in sizes.items()
            )

        scores[name] = np.array(
            [any(has(shape_of(answer)) for answer in row.answers) for row in rows], dtype=np.float32
        )
    return scores


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
