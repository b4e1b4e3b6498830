"""Does the data lie where human data lies, in the space of a sentence embedder?

Four questions on `extras.embeddings`: can a classifier tell the two apart, how far apart are they, how much of human data
has no like in the data, and how much less varied is the data? Statistics look at group membership only. All that depends
on the rows alone (cosines, folds, neighbours) is computed once per set of rows: the permutations of a null share one set.
"""

import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pyrite.audit.family import Contrast, Draws, Evidence, Extras, Floats, Measure, Population
from pyrite.audit.rows import Row

CLASSIFIER = Measure(
    "embedding",
    "classifier_auc",
    "Can a linear classifier tell the data from the references?",
    "AUC above 0.5",
    "Look at the clusters that only the data has, and thin them out or rewrite them.",
)
MMD = Measure(
    "embedding",
    "mmd",
    "Is the data's distribution of meanings another than the references'?",
    "squared MMD",
    "Bring the mix of topics and styles nearer to that of the references.",
)
COVERAGE = Measure(
    "embedding",
    "coverage_loss",
    "Is there human data that has nothing like it in the data?",
    "share",
    "Add data of the kinds that the references have and the data lacks.",
)
DIVERSITY = Measure(
    "embedding",
    "diversity_loss",
    "Is the data less varied in meaning than the references?",
    "log ratio",
    "Remove rows that say nearly the same, and ask for more varied ones.",
)
MEASURES = (CLASSIFIER, MMD, COVERAGE, DIVERSITY)

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
Statistic = Callable[[Draws, Draws], Floats]


def contrasts(rows: Sequence[Row], extras: Extras) -> list[Contrast]:
    """The four measures; none without embeddings.

    Rows are first brought into an order drawn from the seed, since the order of the sample tells the sources apart:
    folds, and ties between equal rows, must not.
    """
    if extras.embeddings is None or len(rows) < 2:
        return []
    order = np.random.default_rng([extras.seed, 17]).permutation(len(rows))
    points = checked(extras.embeddings, len(rows))[order]
    cosines = points @ points.T

    def reordered(statistic: Statistic) -> Statistic:
        return lambda a, b: statistic(a[:, order], b[:, order])

    return [
        Contrast(CLASSIFIER, reordered(classifier_auc(points))),
        Contrast(MMD, reordered(squared_mmd(cosines))),
        Contrast(COVERAGE, reordered(coverage_loss(cosines))),
        Contrast(DIVERSITY, reordered(diversity_loss(cosines))),
    ]


def checked(embeddings: np.ndarray[Any, Any], count: int) -> Points:
    """The embeddings of all rows of the sample, fp32."""
    if embeddings.shape[0] != count:
        raise ValueError(f"{embeddings.shape[0]} embeddings of {count} rows")
    return np.ascontiguousarray(embeddings, dtype=np.float32)


def row_sets(a: Draws, b: Draws) -> Iterator[tuple[bytes, Indices]]:
    """Draws that divide the same rows: a key of the rows (see `places_of`), and the numbers of the draws."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for draw, line in enumerate(np.packbits((a + b) > 0, axis=1)):
        found[line.tobytes()].append(draw)
    for key, draws in found.items():
        yield key, np.array(draws, dtype=np.int64)


def places_of(key: bytes, count: int) -> Indices:
    """The rows that a key stands for."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(key, dtype=np.uint8), count=count))


def by_row_set(prepare: Callable[[Indices], Callable[[Draws, Draws], Floats]], count: int) -> Statistic:
    """A statistic from what `prepare` computes once for a set of rows: a function of groups [draws, rows of the set]."""

    @lru_cache(maxsize=1)
    def prepared(key: bytes) -> tuple[Indices, Callable[[Draws, Draws], Floats]]:
        places = places_of(key, count)
        return places, prepare(places)

    def statistic(a: Draws, b: Draws) -> Floats:
        made = np.empty(len(a))
        for key, draws in row_sets(a, b):
            places, evaluate = prepared(key)
            made[draws] = evaluate(a[np.ix_(draws, places)], b[np.ix_(draws, places)])
        return made

    return statistic


def classifier_auc(points: Points) -> Statistic:
    """The cross-validated AUC, less 0.5, of a linear classifier that tells a from b (a two-sample test by a classifier,
    Lopez-Paz and Oquab 2017, with AUC for accuracy).

    Ridge regression on labels +1 and -1 with an intercept, 5 folds that are fixed by the rows' order and know nothing of
    the labels. The folds' normal equations depend on the rows only, so a draw costs its right-hand sides. AUC is counted
    over the pairs of rows within a fold, where scores come from one classifier.
    """
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
    made: Points = (centred / size if size > 1e-6 else np.zeros_like(centred)).astype(np.float32)
    return made


Predictions = Iterator[tuple[slice, Any]]


def cross_validation(features: Any, folds: int, ridge: float = RIDGE) -> Callable[[Any], Predictions]:
    """Ridge regression of labels [rows, draws]: for each fold (a stretch of rows), the scores of its rows [rows of the
    fold, draws] by the regression on all other rows. The same as sklearn's RidgeClassifier, for many labellings at once."""
    from scipy.linalg import cho_factor, cho_solve

    edges = np.linspace(0, len(features), folds + 1).round().astype(int)
    stretches = [slice(int(first), int(last)) for first, last in itertools.pairwise(edges)]
    grams = [features[one].T @ features[one] for one in stretches]
    whole, total = np.sum(grams, axis=0), features.sum(0)
    means, factors = [], []
    for one, own in zip(stretches, grams, strict=True):
        count = max(1, len(features) - (one.stop - one.start))
        mean = (total - features[one].sum(0)) / count
        normal = whole - own
        normal -= np.outer(count * mean, mean)
        normal[np.diag_indices_from(normal)] += ridge
        means.append(mean)
        factors.append(cho_factor(normal, overwrite_a=True, check_finite=False))

    def predict(labels: Any) -> Predictions:
        sides = [features[one].T @ labels[one] for one in stretches]
        total, sums = np.sum(sides, axis=0), labels.sum(0)
        for one, side, mean, factor in zip(stretches, sides, means, factors, strict=True):
            left = sums - labels[one].sum(0)
            weights = cho_solve(factor, total - side - np.outer(mean, left), check_finite=False)
            level = left / max(1, len(features) - (one.stop - one.start))
            yield one, (features[one] - mean) @ weights + level

    return predict


def rank_wins(scores: Any, ours: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Floats, Floats]:
    """Per draw (column): in how many pairs of one of ours and one of the others is ours scored higher (a tie is half a
    pair), and how many pairs there are."""
    from scipy.stats import rankdata

    ranks = rankdata(scores.round(5), axis=0)
    count = ours.sum(0).astype(np.float64)
    wins: Floats = (ranks * ours).sum(0) - count * (count + 1) / 2
    return wins, count * (len(scores) - count)


def squared_mmd(cosines: Points) -> Statistic:
    """The squared maximum mean discrepancy, unbiased (Gretton et al. 2012, "A Kernel Two-Sample Test", equation 3), with
    a Gaussian kernel whose width is the median distance between rows of the sample."""
    width = median_width(cosines)

    def prepare(places: Indices) -> Callable[[Draws, Draws], Floats]:
        kernel = np.exp((cosines[np.ix_(places, places)] - 1) / width)
        kernel -= kernel.mean()  # changes nothing in theory; keeps sums small
        np.fill_diagonal(kernel, 0)

        def evaluate(a: Draws, b: Draws) -> Floats:
            n = a.sum(1, dtype=np.float64)
            aa, ab, bb = quadratics(kernel, a, b)
            made: Floats = (aa + bb) / (n * (n - 1)) - 2 * ab / n**2
            return made

        return evaluate

    return by_row_set(prepare, len(cosines))


def median_width(cosines: Points) -> float:
    """The median squared distance between rows, from the first thousand; 1 where all rows are the same."""
    few = cosines[:MEDIAN_ROWS, :MEDIAN_ROWS]
    median = float(np.median(2 - 2 * few[np.triu_indices(len(few), 1)]))
    return median if median > 1e-6 else 1.0


def diversity_loss(cosines: Points) -> Statistic:
    """The log of how much less varied a is than b: the ratio of their Vendi scores of order 2, 1 / sum of (K / n)^2
    (Friedman and Dieng 2023; Pasarkar and Dieng 2024), K the cosines. Order 2 needs no eigenvalues."""

    def prepare(places: Indices) -> Callable[[Draws, Draws], Floats]:
        squares = cosines[np.ix_(places, places)] ** 2

        def evaluate(a: Draws, b: Draws) -> Floats:
            aa, _, bb = quadratics(squares, a, b)
            made: Floats = np.log(np.maximum(aa, 1e-9) / np.maximum(bb, 1e-9))  # embeddings of nothing are zeros
            return made

        return evaluate

    return by_row_set(prepare, len(cosines))


def quadratics(kernel: Points, a: Draws, b: Draws) -> tuple[Floats, Floats, Floats]:
    """a'Ka, a'Kb and b'Kb for groups [draws, rows] that together are all rows, K symmetric: one product for all."""
    total = kernel.sum(1, dtype=np.float64)
    z = a - b
    mixed = z @ total
    same = ((z @ kernel) * z).sum(1, dtype=np.float64)
    everything = total.sum()
    aa, bb = (everything + 2 * mixed + same) / 4, (everything - 2 * mixed + same) / 4
    return aa, (everything - same) / 4, bb


def coverage_loss(cosines: Points) -> Statistic:
    """The share of b's rows that no row of a is near to: nearer than the row's 5th nearest neighbour in b (one less
    coverage, Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics").

    A row is uncovered just when its 5 nearest neighbours in a and b together are all b's, and those do not depend on who
    is whose. With equal groups of one population about 1 in 32 rows is.
    """
    count = len(cosines)
    listed = neighbour_lists(cosines, min(LISTED, count - 1))

    def prepare(places: Indices) -> Callable[[Draws, Draws], Floats]:
        near = nearest(cosines, listed, places, min(NEIGHBOURS, len(places) - 1))

        def evaluate(a: Draws, b: Draws) -> Floats:
            alone = b > 0
            uncovered = alone.copy()
            for column in near.T:
                uncovered &= alone[:, column]
            made: Floats = uncovered.sum(1) / alone.sum(1)
            return made

        return evaluate

    return by_row_set(prepare, count)


def neighbour_lists(cosines: Points, kept: int) -> Indices:
    """For each row its nearest others, nearest first [rows, kept]."""
    made = np.empty((len(cosines), kept), dtype=np.int64)
    for first in range(0, len(cosines), BLOCK):
        some = -cosines[first : first + BLOCK]
        some[np.arange(len(some)), np.arange(first, first + len(some))] = np.inf
        near = np.argpartition(some, kept - 1, axis=1)[:, :kept]
        order = np.argsort(np.take_along_axis(some, near, 1), axis=1, kind="stable")
        made[first : first + BLOCK] = np.take_along_axis(near, order, 1)
    return made


def nearest(cosines: Points, listed: Indices, places: Indices, wanted: int) -> Indices:
    """The nearest others among `places`, for each of them [places, wanted], as positions in `places`."""
    position = np.full(len(cosines), -1)
    position[places] = np.arange(len(places))
    told = position[listed[places]]
    rank = np.cumsum(told >= 0, axis=1)
    enough = rank[:, -1] >= wanted
    made = np.empty((len(places), wanted), dtype=np.int64)
    made[enough] = told[(told >= 0) & (rank <= wanted) & enough[:, None]].reshape(-1, wanted)
    lacking = np.flatnonzero(~enough)
    if len(lacking):
        some = -cosines[np.ix_(places[lacking], places)]
        some[np.arange(len(lacking)), lacking] = np.inf
        made[lacking] = np.argpartition(some, wanted - 1, axis=1)[:, :wanted]
    return made


@dataclass(frozen=True)
class Sides:
    """The data's and the references' rows and embeddings; `n` rows of each, drawn from the seed, are compared where a
    value depends on how many there are."""

    data: Sequence[Row]
    references: Sequence[Row]
    ours: Points
    human: Points
    seed: int

    def equal(self) -> tuple[Points, Points]:
        """As many rows of the one as of the other; all of the data where there is no reference."""
        n = min(len(self.ours), len(self.human)) or len(self.ours)
        rng = np.random.default_rng([self.seed, 18])
        return self.ours[rng.permutation(len(self.ours))[:n]], self.human[rng.permutation(len(self.human))[:n]]


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """What shows a finding: clusters that the data has and the references lack (for lost coverage, the other way round),
    the rows that show it most, and the numbers behind. Embeddings are those of the data, then of the references in
    their order. Without references, only the variety of the data is told.
    """
    people = [row for one in references.values() for row in one.rows]
    if extras.embeddings is None or not data.rows:
        return Evidence()
    points = checked(extras.embeddings, len(data.rows) + len(people))
    sides = Sides(data.rows, people, points[: len(data.rows)], points[len(data.rows) :], extras.seed)
    if measure == DIVERSITY.name:
        return of_diversity(sides)
    if not people:
        return Evidence()
    if measure == COVERAGE.name:
        return of_coverage(sides)
    return of_classifier(sides) if measure == CLASSIFIER.name else of_mmd(sides)


def of_classifier(sides: Sides) -> Evidence:
    """The data's rows that a classifier, trained on other rows, is surest of."""
    features = scaled(np.concatenate([sides.ours, sides.human]))
    order = np.random.default_rng([sides.seed, 19]).permutation(len(features))
    labels = np.where(order < len(sides.ours), 1, -1).astype(np.float32)[:, None]
    scores = np.empty(len(features))
    wins = pairs = 0.0
    for fold, told in cross_validation(features[order], min(FOLDS, len(order)))(labels):
        won, compared = rank_wins(told, labels[fold] > 0)
        wins, pairs = wins + float(won[0]), pairs + float(compared[0])
        scores[order[fold]] = told[:, 0]
    auc = wins / pairs if pairs else 0.5
    told_line = (
        f"a row of the data and one of the references are told apart in {percent(auc)} of pairs (50 % by chance)"
    )
    found = clusters(sides)
    return Evidence(
        (told_line, *cluster_lines(sides, found)),
        worst(sides.data, scores[: len(sides.ours)]),
        {"auc": auc, "clusters": found},
    )


def of_mmd(sides: Sides) -> Evidence:
    """The data's rows that lie most among the data and least among the references (the witness function)."""
    ours, human = sides.equal()
    few = np.concatenate([ours[: MEDIAN_ROWS // 2], human[: MEDIAN_ROWS // 2]])
    width = median_width(few @ few.T)
    witness = np.exp((sides.ours @ ours.T - 1) / width).mean(1) - np.exp((sides.ours @ human.T - 1) / width).mean(1)
    found = clusters(sides)
    return Evidence(cluster_lines(sides, found), worst(sides.data, witness), {"clusters": found})


def of_coverage(sides: Sides) -> Evidence:
    """Kinds of human rows that the data lacks; precision and recall (Kynkaanniemi et al. 2019) and density and coverage
    (Naeem et al. 2020), all with the 5 nearest neighbours, at equal n. Human examples stand in the lines: the data has no
    rows to show."""
    found = clusters(sides)
    values = fidelity(*sides.equal())
    line = f"{percent(1 - values['coverage'])} of the reference rows have nothing like them in the data (3 % by chance)"
    return Evidence((line, *cluster_lines(sides, found, lacking=True)), (), {**values, "clusters": found})


def fidelity(ours: Points, human: Points) -> dict[str, Any]:
    """Precision, recall, density and coverage of ours as a likeness of human; two rows or more of each."""
    k = min(NEIGHBOURS, len(ours) - 1, len(human) - 1)
    if k < 1:
        return {"precision": None, "recall": None, "density": None, "coverage": None, "k": k, "n": len(ours)}
    cross = human @ ours.T
    within_human, within_ours = kth_cosine(human, k)[:, None] <= cross, kth_cosine(ours, k)[None] <= cross
    return {
        "precision": float(within_human.any(0).mean()),
        "recall": float(within_ours.any(1).mean()),
        "density": float(within_human.sum() / (k * len(ours))),
        "coverage": float(within_human.any(1).mean()),
        "k": k,
        "n": len(ours),
    }


def kth_cosine(points: Points, k: int) -> Points:
    """The cosine of each row with its k-th nearest other."""
    cosines = points @ points.T
    np.fill_diagonal(cosines, -np.inf)
    made: Points = np.partition(cosines, len(points) - k, axis=1)[:, len(points) - k]
    return made


def of_diversity(sides: Sides) -> Evidence:
    """Vendi scores at equal n, and the data's rows that are most like its other rows."""
    ours, human = sides.equal()
    values: dict[str, Any] = {"vendi_data": vendi(ours), "n": len(ours)}
    line = f"the data is as varied as {values['vendi_data']:.1f} texts that have nothing in common"
    if len(human):
        values["vendi_references"] = vendi(human)
        line += f" (references {values['vendi_references']:.1f})"
    crowded = ((sides.ours @ ours.T) ** 2).mean(1, dtype=np.float64)
    found = clusters(sides)
    lines = (f"{line}, in {len(ours)} rows", *cluster_lines(sides, found))
    return Evidence(lines, worst(sides.data, crowded), {**values, "clusters": found})


def vendi(points: Points) -> float:
    """The Vendi score of order 2: how many texts that have nothing in common would be as varied."""
    return float(len(points) ** 2 / ((points @ points.T) ** 2).sum(dtype=np.float64))


def clusters(sides: Sides) -> list[dict[str, Any]]:
    """The pooled rows in clusters (k-means, one for every 30 rows, at most 16): the share of the data and of the
    references in each, and their rows nearest to its centre. Those with most data and fewest references first."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    points = np.concatenate([sides.ours, sides.human])
    count = int(np.clip(len(points) // 30, 1, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        fitted = KMeans(count, n_init=1, random_state=sides.seed).fit(points)
    off = ((points - fitted.cluster_centers_[fitted.labels_]) ** 2).sum(1)
    ours, human = np.arange(len(sides.ours)), np.arange(len(sides.ours), len(points))
    made = []
    for number in range(count):
        told: dict[str, Any] = {}
        for name, some, rows in (("data", ours, sides.data), ("references", human, sides.references)):
            members = some[fitted.labels_[some] == number]
            told[name] = len(members) / max(1, len(some))
            nearest_rows = members[np.argsort(off[members], kind="stable")[:3]] - (some[0] if len(some) else 0)
            told[f"{name}_rows"] = [rows[at].number for at in nearest_rows]
            told[f"{name}_example"] = excerpt(rows[nearest_rows[0]]) if len(members) else None
        made.append(told)
    return sorted(made, key=lambda one: one["references"] - one["data"])


def cluster_lines(sides: Sides, found: Sequence[Mapping[str, Any]], *, lacking: bool = False) -> tuple[str, ...]:
    """At most three clusters that the data has too much of, or (lacking) too little, in words."""
    side, other = ("references", "data") if lacking else ("data", "references")
    lines = []
    for one in found[::-1] if lacking else found:
        if one[side] <= one[other]:
            break
        shares = f"{percent(one['data'])} of the data"
        shares += f" (references {percent(one['references'])})" if sides.references else ""
        lines.append(f"“{one[f'{side}_example']}” and rows like it: {shares}")
    return tuple(lines[:3])


def worst(rows: Sequence[Row], strength: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """The numbers of the twenty rows that show a flaw most."""
    return tuple(rows[at].number for at in np.argsort(-strength, kind="stable")[:20])


def excerpt(row: Row, length: int = 80) -> str:
    """The beginning of a row, prompt first, on one line and safe to print."""
    plain = "".join(letter if letter.isprintable() else " " for letter in row.text[: 40 * length])
    line = " ".join(plain.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def percent(share: float) -> str:
    """A share as a person would say it."""
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.1 else f"{100 * share:.1f} %"


def map_2d(embeddings: np.ndarray[Any, Any], *, seed: int) -> Points:
    """A plane in which rows that mean the same lie near each other [rows, 2]: t-SNE up to 2,000 rows (van der Maaten and
    Hinton 2008, as in the paper's figure), the first two principal components beyond, or where there are fewer than 10
    rows."""
    points = np.asarray(embeddings, dtype=np.float32)
    centred = points - points.mean(0) if len(points) else points
    if 10 <= len(points) <= MAP_ROWS and centred.any():
        from sklearn.manifold import TSNE

        settings = {"init": "pca", "perplexity": min(30.0, (len(points) - 1) / 3), "random_state": seed}
        made: Points = TSNE(2, **settings).fit_transform(points)
        return made
    _, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1, 1)  # one sign of two
    plane = (centred @ axes).astype(np.float32)
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
