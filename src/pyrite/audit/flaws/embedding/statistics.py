"""How far the data lies from human data in the space of a sentence embedder.

Four questions on `extras.embeddings`: can a classifier tell the two apart, how far apart are they, how much of human
data has no like in the data, and how much less varied is the data? Statistics look at group membership only. All that
depends on the rows alone (cosines, folds, neighbours) is computed once per set of rows: the permutations of a null
share one set."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pyrite.audit.flaw import Difference, Draws, Extras, Floats, Statistic, without_answers
from pyrite.audit.rows import Row
from pyrite.audit.wording import UNKNOWN_WORDS

CLASSIFIER = Statistic(
    "embedding",
    "classifier_auc",
    "Can a linear classifier tell the data from the references?",
    "AUC above 0.5",
    "Look at the clusters that only the data has, and thin them out or rewrite them.",
    ceiling=0.5,
)
MMD = Statistic(
    "embedding",
    "mmd",
    "Is the data's distribution of meanings another than the references'?",
    "squared MMD",
    "Bring the mix of topics and styles nearer to that of the references.",
)
COVERAGE = Statistic(
    "embedding",
    "coverage_loss",
    "Is there human data that has nothing like it in the data?",
    "share",
    "Add data of the kinds that the references have and the data lacks.",
)
DIVERSITY = Statistic(
    "embedding",
    "diversity_loss",
    "Is the data less varied in meaning than the references?",
    "log ratio",
    "Remove rows that say nearly the same, and ask for more varied ones.",
)
STATISTICS = (CLASSIFIER, MMD, COVERAGE, DIVERSITY)

FOLDS = 5
RIDGE = 1.0
"""The classifier's penalty, for rows centred and scaled to a mean squared length of 1."""
NEIGHBOURS = 5
LISTED = 128
"""Nearest neighbours listed for each row; where a group has too few among them, they are looked up anew."""
MEDIAN_ROWS = 1000
"""Rows that the kernel's width is taken from."""
BLOCK = 512
MAP_ROWS = 2000

Indices = np.ndarray[Any, np.dtype[np.int64]]
Points = np.ndarray[Any, np.dtype[np.float32]]
GroupStatistic = Callable[[Draws, Draws], Floats]


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """The four measures; none without embeddings.

    Rows are first brought into an order drawn from the seed, since the order of the sample tells the sources apart:
    folds, and ties between equal rows, must not.
    """
    if extras.embeddings is None or len(rows) < 2:
        return []
    order = np.random.default_rng([extras.seed, 17]).permutation(len(rows))
    points = sample_embeddings(extras.embeddings, len(rows))[order]
    answered = [at for at, row in enumerate(rows) if row.answers]
    only = None if len(answered) == len(rows) else answered
    cosines = points @ points.T

    def reordered(statistic: GroupStatistic) -> GroupStatistic:
        return lambda a, b: statistic(a[:, order], b[:, order])

    return [
        Difference(CLASSIFIER, reordered(classifier_auc(points)), only),
        Difference(MMD, reordered(squared_mmd(cosines)), only),
        Difference(COVERAGE, reordered(coverage_loss(cosines)), only),
        Difference(DIVERSITY, reordered(diversity_loss(cosines)), only),
    ]


def sample_embeddings(embeddings: np.ndarray[Any, Any], count: int) -> Points:
    """The embeddings of all rows of the sample, fp32."""
    if embeddings.shape[0] != count:
        raise ValueError(f"{embeddings.shape[0]} embeddings of {count} rows")
    return np.ascontiguousarray(embeddings, dtype=np.float32)


def row_sets(a: Draws, b: Draws) -> Iterator[tuple[bytes, Indices]]:
    """Draws that divide the same rows: a key of the rows (see `places_of`), and the numbers of the draws."""
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for draw, line in enumerate(np.packbits((a + b) > 0, axis=1)):
        by_key[line.tobytes()].append(draw)
    for key, draws in by_key.items():
        yield key, np.array(draws, dtype=np.int64)


def places_of_key(key: bytes, count: int) -> Indices:
    """The rows that a key stands for."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(key, dtype=np.uint8), count=count))


def by_row_set(prepare: Callable[[Indices], Callable[[Draws, Draws], Floats]], count: int) -> GroupStatistic:
    """A statistic from what `prepare` computes once for a set of rows: a function of groups [draws, rows of the
    set]."""

    @lru_cache(maxsize=1)
    def prepared(key: bytes) -> tuple[Indices, Callable[[Draws, Draws], Floats]]:
        places = places_of_key(key, count)
        return places, prepare(places)

    def statistic(a: Draws, b: Draws) -> Floats:
        values = np.empty(len(a))
        for key, draws in row_sets(a, b):
            places, evaluate = prepared(key)
            values[draws] = evaluate(a[np.ix_(draws, places)], b[np.ix_(draws, places)])
        return values

    return statistic


def classifier_auc(points: Points) -> GroupStatistic:
    """The cross-validated AUC, less 0.5, of a linear classifier that tells a from b (a two-sample test by a classifier,
    Lopez-Paz and Oquab 2017, with AUC for accuracy).

    Ridge regression on labels +1 and -1 with an intercept, 5 folds that are fixed by the rows' order and know nothing
    of the labels. The folds' normal equations depend on the rows only, so a draw costs its right-hand sides. AUC is
    counted over the pairs of rows within a fold, where scores come from one classifier."""
    features = scaled(points)

    def prepare(places: Indices) -> Callable[[Draws, Draws], Floats]:
        predict = cross_validation(features[places], min(FOLDS, len(places)))

        def evaluate(a: Draws, b: Draws) -> Floats:
            wins, pairs = np.zeros(len(a)), np.zeros(len(a))
            for fold, scores in predict((a - b).T):
                won, compared = rank_wins(scores, a[:, fold].T > 0)
                wins += won
                pairs += compared
            return np.where(pairs > 0, wins / np.maximum(pairs, 1), 0.5) - 0.5

        return evaluate

    return by_row_set(prepare, len(points))


def scaled(points: Points) -> Points:
    """Centred, and scaled so that the mean squared length is 1: what the classifier's penalty is set for."""
    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    size = float(np.sqrt((centred**2).sum(1).mean()))
    features: Points = (centred / size if size > 1e-6 else np.zeros_like(centred)).astype(np.float32)
    return features


Predictions = Iterator[tuple[slice, Any]]


def cross_validation(features: Any, folds: int, ridge: float = RIDGE) -> Callable[[Any], Predictions]:
    """Ridge regression of labels [rows, draws]: for each fold (a stretch of rows), the scores of its rows [rows of the
    fold, draws] by the regression on all other rows. The same as sklearn's RidgeClassifier, for many labellings at
    once."""
    from scipy.linalg import cho_factor, cho_solve

    edges = np.linspace(0, len(features), folds + 1).round().astype(int)
    stretches = [slice(int(first), int(last)) for first, last in itertools.pairwise(edges)]
    grams = [features[stretch].T @ features[stretch] for stretch in stretches]
    gram_of_all, total = np.sum(grams, axis=0), features.sum(0)
    means, factors = [], []
    for fold, gram in zip(stretches, grams, strict=True):
        count = max(1, len(features) - (fold.stop - fold.start))
        mean = (total - features[fold].sum(0)) / count
        normal = gram_of_all - gram
        normal -= np.outer(count * mean, mean)
        normal[np.diag_indices_from(normal)] += ridge
        means.append(mean)
        factors.append(cho_factor(normal, overwrite_a=True, check_finite=False))

    def predict(labels: Any) -> Predictions:
        sides = [features[stretch].T @ labels[stretch] for stretch in stretches]
        total, sums = np.sum(sides, axis=0), labels.sum(0)
        for fold, side, mean, factor in zip(stretches, sides, means, factors, strict=True):
            left = sums - labels[fold].sum(0)
            weights = cho_solve(factor, total - side - np.outer(mean, left), check_finite=False)
            level = left / max(1, len(features) - (fold.stop - fold.start))
            yield fold, (features[fold] - mean) @ weights + level

    return predict


def rank_wins(scores: Any, ours: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Floats, Floats]:
    """Per draw (column): in how many pairs of one of ours and one of the others is ours scored higher (a tie is half a
    pair), and how many pairs there are."""
    from scipy.stats import rankdata

    ranks = rankdata(scores.round(5), axis=0)
    count = ours.sum(0).astype(np.float64)
    wins: Floats = (ranks * ours).sum(0) - count * (count + 1) / 2
    return wins, count * (len(scores) - count)


def squared_mmd(cosines: Points) -> GroupStatistic:
    """The squared maximum mean discrepancy, unbiased (Gretton et al. 2012, "A Kernel Two-Sample Test", equation 3),
    with a Gaussian kernel whose width is the median distance between rows of the sample."""
    width = median_width(cosines)

    def prepare(places: Indices) -> Callable[[Draws, Draws], Floats]:
        kernel = np.exp((cosines[np.ix_(places, places)] - 1) / width)
        kernel -= kernel.mean()  # changes nothing in theory; keeps sums small
        np.fill_diagonal(kernel, 0)

        def evaluate(a: Draws, b: Draws) -> Floats:
            n = a.sum(1, dtype=np.float64)
            aa, ab, bb = quadratics(kernel, a, b)
            values: Floats = (aa + bb) / (n * (n - 1)) - 2 * ab / n**2
            return values

        return evaluate

    return by_row_set(prepare, len(cosines))


def median_width(cosines: Points) -> float:
    """The median squared distance between rows, from the first thousand; 1 where all rows are the same."""
    few = cosines[:MEDIAN_ROWS, :MEDIAN_ROWS]
    median = float(np.median(2 - 2 * few[np.triu_indices(len(few), 1)]))
    return median if median > 1e-6 else 1.0


def diversity_loss(cosines: Points) -> GroupStatistic:
    """The log of how much less varied a is than b: the ratio of their Vendi scores of order 2, 1 / sum of (K / n)^2
    (Friedman and Dieng 2023; Pasarkar and Dieng 2024), K the cosines. Order 2 needs no eigenvalues."""

    def prepare(places: Indices) -> Callable[[Draws, Draws], Floats]:
        squares = cosines[np.ix_(places, places)] ** 2

        def evaluate(a: Draws, b: Draws) -> Floats:
            aa, _, bb = quadratics(squares, a, b)
            values: Floats = np.log(np.maximum(aa, 1e-9) / np.maximum(bb, 1e-9))  # embeddings of nothing are zeros
            return values

        return evaluate

    return by_row_set(prepare, len(cosines))


def quadratics(kernel: Points, a: Draws, b: Draws) -> tuple[Floats, Floats, Floats]:
    """a'Ka, a'Kb and b'Kb for groups [draws, rows] that together are all rows, K symmetric: one product for all."""
    total = kernel.sum(1, dtype=np.float64)
    z = a - b
    mixed = z @ total
    same = ((z @ kernel) * z).sum(1, dtype=np.float64)
    grand_total = total.sum()
    aa, bb = (grand_total + 2 * mixed + same) / 4, (grand_total - 2 * mixed + same) / 4
    return aa, (grand_total - same) / 4, bb


def coverage_loss(cosines: Points) -> GroupStatistic:
    """The share of b's rows that no row of a is near to: nearer than the row's 5th nearest neighbour in b (one less
    coverage, Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics").

    A row is uncovered just when its 5 nearest neighbours in a and b together are all b's, and those do not depend on
    who is whose. With equal groups of one population about 1 in 32 rows is."""
    count = len(cosines)
    listed = neighbour_lists(cosines, min(LISTED, count - 1))

    def prepare(places: Indices) -> Callable[[Draws, Draws], Floats]:
        near = nearest(cosines, listed, places, min(NEIGHBOURS, len(places) - 1))

        def evaluate(a: Draws, b: Draws) -> Floats:
            alone = b > 0
            uncovered = alone.copy()
            for column in near.T:
                uncovered &= alone[:, column]
            values: Floats = uncovered.sum(1) / alone.sum(1)
            return values

        return evaluate

    return by_row_set(prepare, count)


def neighbour_lists(cosines: Points, count: int) -> Indices:
    """For each row its nearest others, nearest first [rows, kept]."""
    lists = np.empty((len(cosines), count), dtype=np.int64)
    for first in range(0, len(cosines), BLOCK):
        distances = -cosines[first : first + BLOCK]
        distances[np.arange(len(distances)), np.arange(first, first + len(distances))] = np.inf
        near = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distances, near, 1), axis=1, kind="stable")
        lists[first : first + BLOCK] = np.take_along_axis(near, order, 1)
    return lists


def nearest(cosines: Points, listed: Indices, places: Indices, count: int) -> Indices:
    """The nearest others among `places`, for each of them [places, wanted], as positions in `places`."""
    position = np.full(len(cosines), -1)
    position[places] = np.arange(len(places))
    positions = position[listed[places]]
    rank = np.cumsum(positions >= 0, axis=1)
    enough = rank[:, -1] >= count
    neighbours = np.empty((len(places), count), dtype=np.int64)
    neighbours[enough] = positions[(positions >= 0) & (rank <= count) & enough[:, None]].reshape(-1, count)
    lacking = np.flatnonzero(~enough)
    if len(lacking):
        distances = -cosines[np.ix_(places[lacking], places)]
        distances[np.arange(len(lacking)), lacking] = np.inf
        neighbours[lacking] = np.argpartition(distances, count - 1, axis=1)[:, :count]
    return neighbours


def map_2d(embeddings: np.ndarray[Any, Any], *, seed: int) -> Points:
    """A plane in which rows that mean the same lie near each other [rows, 2]: t-SNE up to 2,000 rows (van der Maaten
    and Hinton 2008, as in the paper's figure), the first two principal components beyond, or where there are fewer than
    10 rows."""
    points = np.asarray(embeddings, dtype=np.float32)
    centred = points - points.mean(0) if len(points) else points
    if 10 <= len(points) <= MAP_ROWS and centred.any():
        from sklearn.manifold import TSNE

        settings = {"init": "pca", "perplexity": min(30.0, (len(points) - 1) / 3), "random_state": seed}
        plane_points: Points = TSNE(2, **settings).fit_transform(points)
        return plane_points
    _, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1, 1)  # one sign of two
    plane = (centred @ axes).astype(np.float32)
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))


def lacking_meanings(rows: Sequence[Row], extras: Extras) -> dict[str, str]:
    """What keeps these rows from being measured: no answers, or an embedder that does not know their words."""
    if extras.embeddings is None:
        return {statistic.name: UNKNOWN_WORDS for statistic in STATISTICS}
    return dict(without_answers(STATISTICS)(rows, extras))
