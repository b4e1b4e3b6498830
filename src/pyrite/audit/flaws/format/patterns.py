"""Patterns of answers (openings, layouts, …) that are common, and those that are over-represented.

A pattern is a sequence of words, the outermost first, or anything else that an answer's `Shape` is given as a key.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import sqrt
from typing import NamedTuple

from pyrite.audit.flaws.format.answer_shape import Shape, Words, shape_of
from pyrite.audit.rows import Row

MOST = 0.8
"""A readable opening is lengthened while it still covers this share of its answers."""


class Counted(NamedTuple):
    """A pattern: its share among the data's answers, its share among the references' (None: there are none), a lower
    bound of the difference, and the places (row, answer) of the data's answers that have it."""

    key: Words
    share: float
    reference_share: float | None
    low: float
    where: tuple[tuple[int, int], ...]


class Answers(NamedTuple):
    """The shapes of all answers of some rows: `shapes` [answers], `places` [answers] (row, answer), and how many rows
    have an answer."""

    shapes: Sequence[Shape]
    places: Sequence[tuple[int, int]]
    rows: int


def answer_shapes(rows: Sequence[Row]) -> Answers:
    """The shapes of all answers of some rows."""
    places = [(at, number) for at, row in enumerate(rows) for number in range(len(row.answers))]
    shapes = [shape_of(rows[at].answers[number]) for at, number in places]
    return Answers(shapes, places, len({at for at, _ in places}))


def difference_low(p: float, n: int, q: float, m: int, z: float = 1.959963984540054) -> float:
    """The lower 95 % bound of p - q, shares of n and of m rows.

    Source: Newcombe (1998), Statistics in Medicine 17:873, method 10 (from the Wilson limits of both shares).
    """
    return p - q - sqrt((p - _wilson(p, n, -z)) ** 2 + (_wilson(q, m, z) - q) ** 2)


def _wilson(p: float, n: int, z: float) -> float:
    if n == 0:
        return 0.0 if z < 0 else 1.0
    middle = p + z * z / (2 * n) + z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return min(max(middle / (1 + z * z / n), 0.0), 1.0)


class Bar(NamedTuple):
    """The bar above which a pattern is over-represented. With references: `share` of the data's answers have it,
    `times` as many as of the references', and the lower bound of the difference is above 0. Without: `alone` of the
    answers have it."""

    share: float = 0.02
    times: float = 3.0
    alone: float = 0.05


BAR = Bar()


def over_represented(
    ours: Answers,
    theirs: Answers | None,
    key: Callable[[Shape], Words],
    *,
    bar: Bar = BAR,
    allowed: Callable[[Words], bool] = bool,
    most: int = 20,
) -> list[Counted]:
    """The word sequences (or other patterns) that stand at the edge of too many answers, the worst first.

    `key` gives an answer's words, the outermost first; all their prefixes that are `allowed` are candidates. Taken one
    after the other: the prefix with the largest excess over `bar.times` the references' share (the shortest of equals)
    is lengthened while it still covers `MOST` of its answers, and its answers are set aside. So a broad prefix is
    preferred where all of it is too common, a narrow one where only that is."""
    counted: list[Counted] = []
    left = {at: words for at, words in enumerate(map(key, ours.shapes)) if words}
    rest = {at: words for at, words in enumerate(map(key, theirs.shapes)) if words} if theirs else {}
    n, m = max(1, len(ours.shapes)), max(1, len(theirs.shapes)) if theirs else 0
    counts, rest_counts = prefixes(left.values()), prefixes(rest.values())
    floor = bar.share if theirs else bar.alone

    def judged(prefix: Words) -> tuple[bool, float, float]:
        p, q = counts[prefix] / n, rest_counts[prefix] / m if m else 0.0
        low = difference_low(p, ours.rows, q, theirs.rows if theirs else 0) if m else p
        return p >= floor and low > 0 and p >= bar.times * q, p - bar.times * q, low

    while len(counted) < most:
        passing = [
            (judged(candidate), candidate)
            for candidate, count in counts.items()
            if count >= floor * n and allowed(candidate)
        ]
        ranked = [(-excess, len(candidate), candidate) for (passes, excess, _), candidate in passing if passes]
        if not ranked:
            break
        best = min(ranked)[2]
        longer = [start for start in counts if start[: len(best)] == best and counts[start] >= MOST * counts[best]]
        best = max(
            (candidate for candidate in longer if judged(candidate)[0]),
            key=lambda candidate: (len(candidate), counts[candidate], candidate),
        )
        gone = [at for at, words in left.items() if words[: len(best)] == best]
        places = tuple(ours.places[at] for at in gone)
        share, reference_share = counts[best] / n, rest_counts[best] / m if m else None
        counted.append(Counted(best, share, reference_share, judged(best)[2], places))
        counts.subtract(prefixes(left.pop(at) for at in gone))
        lost = [at for at, words in rest.items() if words[: len(best)] == best]
        rest_counts.subtract(prefixes(rest.pop(at) for at in lost))
    return sorted(counted, key=lambda candidate: (-candidate.share, candidate.key))


def commonest(ours: Answers, theirs: Answers | None, key: Callable[[Shape], Words], most: int = 3) -> list[Counted]:
    """The commonest patterns of the data, over-represented or not."""
    where: dict[Words, list[tuple[int, int]]] = {}
    for shape, place in zip(ours.shapes, ours.places, strict=True):
        if key(shape):
            where.setdefault(key(shape), []).append(place)
    their_counts = Counter(map(key, theirs.shapes)) if theirs else Counter()
    top = sorted(where.items(), key=lambda pattern: (-len(pattern[1]), pattern[0]))[:most]
    n, m = len(ours.shapes), max(1, len(theirs.shapes)) if theirs else 1
    return [
        Counted(pattern, len(places) / n, their_counts[pattern] / m if theirs else None, 0.0, tuple(places))
        for pattern, places in top
    ]


def prefixes(sequences: Iterable[Words]) -> Counter[Words]:
    """How often each prefix occurs."""
    return Counter(words[:size] for words in sequences for size in range(1, len(words) + 1))


def readable(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Counted prefixes (as text) of growing lengths, one mapping for each length: those that a longer one of `MOST` of
    their count stands for are left out."""
    readable_counts: dict[str, int] = {}
    for shorter, longer in zip(counts, [*counts[1:], {}], strict=True):
        for text, count in shorter.items():
            lengthened = any(
                longer_text.startswith(f"{text} ") and number >= MOST * count for longer_text, number in longer.items()
            )
            if not lengthened:
                readable_counts[text] = max(count, readable_counts.get(text, 0))
    return readable_counts
