"""The null and the baseline of a difference between data and human references, at an equal number of rows.

(a) Is it real? The null, by permutation: rows of the data and of the references change places at random, and the
    measure is taken again; the p-value counts how often chance alone gives as much.
(b) Is it large? The baseline: the same statistic between each human source and the others, from which
    `pyrite.audit.next_source` predicts what the next human source would show. Data beyond that differs by more than people
    do.

Every measure is one-sided: larger is worse. A value at n rows is compared with values at n rows only, since most
measures of difference shrink as n grows. Standard errors come from half-samples: over random halves of a data set of n
rows, a statistic varies as much as it would over fresh samples of n rows (the delete-d jackknife with d = n / 2, Shao
and Wu 1989), and no row is ever repeated, as it would be in a bootstrap, where copies look like duplicates.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.audit.flaw import Alone, Difference, Draws, Floats, Statistic

CHUNK = 128
"""Draws given to a statistic at a time."""
LEAST = 50
"""References of fewer rows than this say too little."""
SIZES = (50, 100, 150)
"""Numbers of rows on each side at which human sources are compared: those of the table of human sources."""
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """How often to draw: permutations of the null, subsamples of the distances between sources, half-samples."""

    permutations: int = 1999
    subsamples: int = 25
    halves: int = 100
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Between:
    """How far the data, and each human source, lies from (the other) human sources, at `n` rows on each side.

    `distances` maps a source to its distance from all others pooled; empty where there is one source. `error` is the
    standard error of the data's own distance. What the next human source would show is worked out of these and of the
    prior (`pyrite.audit.next_source`); nothing is decided here.
    """

    n: int
    value_of_data: float
    error: float
    distances: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Counted:
    """The same measure counted over all rows of the data, against no one: a share above `threshold` is a warning."""

    value: float
    rows: int
    threshold: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """A statistic beside its null and baseline. `n`: rows on each side. `null_mean`, `null_high`: mean and 95 % point
    of the null. `p`: its one-sided p-value, nan without a null. `excess`: above the null's mean (without a null, above
    `threshold`); `low` and `high` bound its 95 % interval. `between`: what human sources differ by, None without a
    reference of enough rows. `alone`: measured on the data alone. `least_p`: the smallest p-value that the null can
    give, which is large where rows come in few clusters."""

    measure: Statistic
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
    least_p: float = 0.0


def measure_difference(
    difference: Difference,
    data: Sequence[int],
    references: Mapping[str, Sequence[int]],
    settings: DrawSettings,
    *,
    size: int | None = None,
    clusters: Sequence[str] | None = None,
    sizes: Sequence[int] = SIZES,
) -> Measurement | None:
    """Compare a statistic with its null and baseline; None where fewer than two rows of either side can be measured.

    `data` and each of `references` are places of rows in the sample that the difference was prepared on, `size` is its
    number of rows (by default these are all there are). `clusters` [rows of the sample] names what each row belongs to
    (empty: itself): rows of a cluster change places together. `sizes`: numbers of rows at which human sources are
    compared."""
    allowed = None if difference.rows is None else set(difference.rows)
    ours = np.array([at for at in data if allowed is None or at in allowed], dtype=np.int64)
    sources = {
        name: np.array([at for at in places if allowed is None or at in allowed], dtype=np.int64)
        for name, places in references.items()
    }
    sources = {name: places for name, places in sources.items() if len(places)}
    human = np.concatenate(list(sources.values())) if sources else np.empty(0, dtype=np.int64)
    n = min(len(ours), len(human))
    if n < 2:
        return None
    size = size or 1 + max([*data, *(at for places in references.values() for at in places)])
    rng = np.random.default_rng([settings.seed, 1])
    groups = Groups.of(clusters)
    ours, human = groups.shuffled(ours, rng), groups.shuffled(human, rng)
    pooled = np.concatenate([ours[:n], human[:n]])
    value = float(evaluate(difference, [(ours[:n], human[:n])], size)[0])
    orders = (groups.shuffled(pooled, rng) for _ in range(settings.permutations))
    null = evaluate(difference, ((order[:n], order[n:]) for order in orders), size)
    p = float((1 + np.count_nonzero(null >= value - 1e-12)) / (1 + len(null)))
    error = half_error(difference, ours, human, n, size, settings, 2, groups)
    mean, top = float(null.mean()), float(np.quantile(null, 0.95))
    between = between_sources(difference, ours, sources, size, settings, groups, sizes)
    excess = value - mean
    low, high = excess - Z95 * error, excess + Z95 * error
    least = groups.least_p(ours[:n], human[:n])
    return Measurement(difference.measure, value, n, mean, top, p, between, excess, low, high, least_p=least)


@dataclass(frozen=True, slots=True)
class Groups:
    """Which rows come together: `of_row` [rows of the sample] numbers each row's cluster; None: every row is its
    own."""

    of_row: Any = None

    @classmethod
    def of(cls, clusters: Sequence[str] | None) -> "Groups":
        """From the clusters' names, empty for a row that is its own."""
        if clusters is None or not any(clusters):
            return cls()
        numbers = {name: at for at, name in enumerate(dict.fromkeys(filter(None, clusters)))}
        alone = itertools.count(len(numbers))
        return cls(np.array([numbers[name] if name else next(alone) for name in clusters], dtype=np.int64))

    def shuffled(self, rows: Any, rng: np.random.Generator) -> Any:
        """Rows in random order, those of a cluster next to each other."""
        if self.of_row is None:
            return rng.permutation(rows)
        rows = rng.permutation(rows)
        _, cluster_of = np.unique(self.of_row[rows], return_inverse=True)
        place = rng.permutation(int(cluster_of.max()) + 1)
        return rows[np.argsort(place[cluster_of], kind="stable")]

    def least_p(self, ours: Any, human: Any) -> float:
        """The smallest p-value of a null in which these two sides' clusters change places: one over the number of
        ways."""
        if self.of_row is None:
            return 0.0
        mine, theirs = (len(np.unique(self.of_row[side])) for side in (ours, human))
        return 1 / math.comb(mine + theirs, mine)

    def subsample(self, rows: Any, count: int, rng: np.random.Generator) -> Any:
        """So many rows at random, clusters as whole as the number allows."""
        if self.of_row is None:
            return rng.choice(rows, count, replace=False)
        return self.shuffled(rows, rng)[:count]


def between_sources(
    difference: Difference,
    ours: Any,
    sources: Mapping[str, Any],
    size: int,
    settings: DrawSettings,
    groups: Groups,
    sizes: Sequence[int],
) -> Between | None:
    """How far the data is from all human sources, and each human source from the others: means over random subsamples
    of the largest of `sizes` that every side has; None where a side has fewer rows than the smallest."""
    big = {name: rows for name, rows in sources.items() if len(rows) >= min(sizes)}
    if not big or len(ours) < min(sizes):
        return None
    n = max(size for size in sizes if size <= min(len(ours), *map(len, big.values())))
    human = np.concatenate(list(big.values()))
    rng = np.random.default_rng([settings.seed, 5])
    value_of_data = float(subsampled(difference, ours, human, n, size, rng, settings, groups).mean())
    error = half_error(difference, ours, human, n, size, settings, 3, groups)
    distances = {}
    for number, name in enumerate(big if len(big) > 1 else ()):
        rest = np.concatenate([other_rows for key, other_rows in big.items() if key != name])
        rng = np.random.default_rng([settings.seed, 4, number])
        distances[name] = float(subsampled(difference, big[name], rest, n, size, rng, settings, groups).mean())
    return Between(n, value_of_data, error, distances)


def subsampled(
    difference: Difference,
    a: Any,
    b: Any,
    n: int,
    size: int,
    rng: np.random.Generator,
    settings: DrawSettings,
    groups: Groups,
) -> Floats:
    """The measure over random subsamples of n rows of each side."""
    pairs = ((groups.subsample(a, n, rng), groups.subsample(b, n, rng)) for _ in range(settings.subsamples))
    return evaluate(difference, pairs, size)


def half_error(
    difference: Difference, a: Any, b: Any, n: int, size: int, settings: DrawSettings, stream: int, groups: Groups
) -> float:
    """The standard error of the measure at n rows, from halves of n rows of each side."""
    half = n // 2
    if half < 2:
        return float("nan")
    rng = np.random.default_rng([settings.seed, stream])
    few_a, few_b = groups.subsample(a, n, rng), groups.subsample(b, n, rng)
    pairs = ((groups.subsample(few_a, half, rng), groups.subsample(few_b, half, rng)) for _ in range(settings.halves))
    return float(evaluate(difference, pairs, size).std(ddof=1))


def evaluate(difference: Difference, pairs: Any, size: int) -> Floats:
    """The measure for each pair of groups (numbers of rows)."""
    chunks = [difference.statistic(a, b) for a, b in matrices(pairs, size)]
    values = np.concatenate(chunks) if chunks else np.empty(0)
    if not np.isfinite(values).all():
        raise FloatingPointError(f"{difference.measure.full_name}: a value is not a finite number")
    return values.astype(np.float64)


def matrices(pairs: Any, size: int) -> Iterator[tuple[Draws, Draws]]:
    """Groups as 0-1 matrices [draws, rows], some draws at a time."""
    chunk: list[tuple[Any, Any]] = []
    for pair in pairs:
        chunk.append(pair)
        if len(chunk) == CHUNK:
            yield matrix([a for a, _ in chunk], size), matrix([b for _, b in chunk], size)
            chunk = []
    if chunk:
        yield matrix([a for a, _ in chunk], size), matrix([b for _, b in chunk], size)


def matrix(groups: Sequence[Any], size: int) -> Draws:
    """One group a line, 1 where a row belongs to it."""
    incidence = np.zeros((len(groups), size), dtype=np.float32)
    for line, members in zip(incidence, groups, strict=True):
        line[members] = 1
    return incidence


def measure_alone(alone: Alone) -> Measurement:
    """A measure with a null of its own, or none: the same shape, without a reference."""
    if alone.null is None:
        excess = alone.value - alone.threshold
        low = None if alone.low is None else alone.low - alone.threshold
        high = None if alone.high is None else alone.high - alone.threshold
        return Measurement(
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
    return Measurement(
        alone.measure, alone.value, alone.n, mean, top, p, None, alone.value - mean, low, high, alone=True
    )
