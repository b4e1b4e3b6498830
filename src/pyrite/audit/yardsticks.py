"""Two yardsticks for a difference between data and human references, at an equal number of rows.

(a) Is it real? A permutation null: rows of the data and of the references change places at random, and the measure is
    taken again; the p-value counts how often chance alone gives as much.
(b) Is it large? The same measure between each human source and the others. Data that differs from human data by more
    than human sources differ from each other differs by much.

Every measure is one-sided: larger is worse. A value at n rows is compared with values at n rows only, since most
measures of difference shrink as n grows. Standard errors come from half-samples: over random halves of a data set of n
rows, a statistic varies as much as it would over fresh samples of n rows (the delete-d jackknife with d = n / 2, Shao
and Wu 1989), and no row is ever repeated, as it would be in a bootstrap, where copies look like duplicates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.audit.family import Alone, Contrast, Draws, Floats, Measure

CHUNK = 128
"""Draws given to a statistic at a time."""
LEAST = 50
"""References of fewer rows than this say too little."""
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """How often to draw: permutations of the null, subsamples of the distances between sources, half-samples."""

    permutations: int = 1999
    subsamples: int = 25
    halves: int = 100
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Between:
    """The largest distance of a human source from the other human sources: which source, how large, at how many rows
    on each side, and the data's own value at that number of rows."""

    source: str
    value: float
    n: int
    value_of_data: float


@dataclass(frozen=True, slots=True)
class Counted:
    """The same measure counted over all rows of the data, against no one: a share above `threshold` is a warning."""

    value: float
    rows: int
    threshold: float


@dataclass(frozen=True, slots=True)
class Weighed:
    """A measure between its two yardsticks. `n`: rows on each side. `null_mean`, `null_high`: mean and 95 % point of the
    null. `p`: its one-sided p-value, nan without a null. `excess`: above the largest distance between human sources,
    or, with one source or none, above the null's mean (without a null, above `threshold`); `low` and `high` bound its
    95 % interval. `alone`: measured on the data alone."""

    measure: Measure
    value: float
    n: int
    null_mean: float | None
    null_high: float | None
    p: float
    between: Between | None
    excess: float
    low: float | None
    high: float | None
    threshold: float = 0.0
    alone: bool = False
    counted: Counted | None = None


def weigh(
    contrast: Contrast,
    data: Sequence[int],
    references: Mapping[str, Sequence[int]],
    settings: Yardsticks,
    *,
    size: int | None = None,
) -> Weighed | None:
    """Put a measure between its yardsticks; None where fewer than two rows of either side can be measured.

    `data` and each of `references` are places of rows in the sample that the contrast was prepared on, `size` is its
    number of rows (by default these are all there are).
    """
    allowed = None if contrast.rows is None else set(contrast.rows)
    ours = np.array([at for at in data if allowed is None or at in allowed], dtype=np.int64)
    sources = {
        name: np.array([at for at in some if allowed is None or at in allowed], dtype=np.int64)
        for name, some in references.items()
    }
    sources = {name: some for name, some in sources.items() if len(some)}
    human = np.concatenate(list(sources.values())) if sources else np.empty(0, dtype=np.int64)
    n = min(len(ours), len(human))
    if n < 2:
        return None
    size = size or 1 + max([*data, *(at for some in references.values() for at in some)])
    rng = np.random.default_rng([settings.seed, 1])
    ours, human = rng.permutation(ours), rng.permutation(human)
    pooled = np.concatenate([ours[:n], human[:n]])
    value = float(evaluate(contrast, [(ours[:n], human[:n])], size)[0])
    orders = (rng.permutation(pooled) for _ in range(settings.permutations))
    null = evaluate(contrast, ((one[:n], one[n:]) for one in orders), size)
    p = float((1 + np.count_nonzero(null >= value - 1e-12)) / (1 + len(null)))
    error = half_error(contrast, ours, human, n, size, settings, 2)
    mean, top = float(null.mean()), float(np.quantile(null, 0.95))
    between = between_sources(contrast, ours, sources, size, settings)
    if between is None:
        excess = value - mean
    else:
        found, other_error = between
        excess = found.value_of_data - found.value
        at_n = half_error(contrast, ours, human, found.n, size, settings, 3)
        error = float(np.hypot(at_n, other_error))
    told = between[0] if between else None
    return Weighed(
        contrast.measure, value, n, mean, top, p, told, excess, excess - Z95 * error, excess + Z95 * error
    )  # fmt: skip


def between_sources(
    contrast: Contrast, ours: Any, sources: Mapping[str, Any], size: int, settings: Yardsticks
) -> tuple[Between, float] | None:
    """How far is each human source from the others, and the farthest of them; None where there is one source only, or
    too few rows. Each is the mean over random subsamples of equal size, and comes with its standard error."""
    big = {name: some for name, some in sources.items() if len(some) >= LEAST}
    if len(big) < 2:
        return None
    rest = {name: np.concatenate([other for key, other in big.items() if key != name]) for name in big}
    n = min(len(ours), *(min(len(big[name]), len(rest[name])) for name in big))
    if n < LEAST // 2:
        return None
    found: list[tuple[float, str]] = []
    for number, name in enumerate(big):
        rng = np.random.default_rng([settings.seed, 4, number])
        found.append((float(subsampled(contrast, big[name], rest[name], n, size, rng, settings).mean()), name))
    largest, name = max(found)
    rng = np.random.default_rng([settings.seed, 5])
    human = np.concatenate(list(big.values()))
    own = float(subsampled(contrast, ours, human, n, size, rng, settings).mean())
    error = half_error(contrast, big[name], rest[name], n, size, settings, 6)
    return Between(name, largest, n, own), error


def subsampled(contrast: Contrast, a: Any, b: Any, n: int, size: int, rng: Any, settings: Yardsticks) -> Floats:
    """The measure over random subsamples of n rows of each side."""
    pairs = (
        (rng.choice(a, n, replace=False), rng.choice(b, n, replace=False)) for _ in range(settings.subsamples)
    )  # fmt: skip
    return evaluate(contrast, pairs, size)


def half_error(contrast: Contrast, a: Any, b: Any, n: int, size: int, settings: Yardsticks, stream: int) -> float:
    """The standard error of the measure at n rows, from halves of n rows of each side."""
    half = n // 2
    if half < 2:
        return float("nan")
    rng = np.random.default_rng([settings.seed, stream])
    few_a, few_b = rng.choice(a, n, replace=False), rng.choice(b, n, replace=False)
    pairs = (
        (rng.choice(few_a, half, replace=False), rng.choice(few_b, half, replace=False)) for _ in range(settings.halves)
    )
    return float(evaluate(contrast, pairs, size).std(ddof=1))


def evaluate(contrast: Contrast, pairs: Any, size: int) -> Floats:
    """The measure for each pair of groups (numbers of rows)."""
    made = [contrast.statistic(a, b) for a, b in matrices(pairs, size)]
    values = np.concatenate(made) if made else np.empty(0)
    if not np.isfinite(values).all():
        raise FloatingPointError(f"{contrast.measure.full_name}: a value is not a finite number")
    return values.astype(np.float64)


def matrices(pairs: Any, size: int) -> Iterator[tuple[Draws, Draws]]:
    """Groups as 0-1 matrices [draws, rows], some draws at a time."""
    some: list[tuple[Any, Any]] = []
    for pair in pairs:
        some.append(pair)
        if len(some) == CHUNK:
            yield matrix([a for a, _ in some], size), matrix([b for _, b in some], size)
            some = []
    if some:
        yield matrix([a for a, _ in some], size), matrix([b for _, b in some], size)


def matrix(groups: Sequence[Any], size: int) -> Draws:
    """One group a line, 1 where a row belongs to it."""
    made = np.zeros((len(groups), size), dtype=np.float32)
    for line, members in zip(made, groups, strict=True):
        line[members] = 1
    return made


def weigh_alone(alone: Alone) -> Weighed:
    """A measure with a null of its own, or none: the same shape, without a reference."""
    if alone.null is None:
        excess = alone.value - alone.threshold
        low = None if alone.low is None else alone.low - alone.threshold
        high = None if alone.high is None else alone.high - alone.threshold
        return Weighed(
            alone.measure,
            alone.value,
            alone.n,
            None,
            None,
            float("nan"),
            None,
            excess,
            low,
            high,
            alone.threshold,
            True,
        )
    p = float((1 + np.count_nonzero(alone.null >= alone.value - 1e-12)) / (1 + len(alone.null)))
    mean, top = float(alone.null.mean()), float(np.quantile(alone.null, 0.95))
    low = None if alone.low is None else alone.low - mean
    high = None if alone.high is None else alone.high - mean
    return Weighed(alone.measure, alone.value, alone.n, mean, top, p, None, alone.value - mean, low, high, alone=True)
