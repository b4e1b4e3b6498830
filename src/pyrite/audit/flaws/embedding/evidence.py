"""What shows that the data lies where human data does not: clusters with examples, and the figures behind."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.audit.flaw import Evidence, Extras, Population, answered
from pyrite.audit.flaws.embedding.statistics import (
    CLASSIFIER,
    COVERAGE,
    DIVERSITY,
    FOLDS,
    MEDIAN_ROWS,
    NEIGHBOURS,
    Points,
    cross_validation,
    map_2d,
    median_width,
    rank_wins,
    sample_embeddings,
    scaled,
)
from pyrite.audit.rows import Row
from pyrite.audit.wording import excerpt, percent


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
    """What shows a finding: clusters that the data has and the references lack (for lost coverage, the other way
    round), the rows that show it most, and the numbers behind. Embeddings are those of the data, then of the references
    in their order. Without references, only the variety of the data is told."""
    people = [row for population in references.values() for row in population.rows]
    if extras.embeddings is None or not answered(data).rows:
        return Evidence()
    points = sample_embeddings(extras.embeddings, len(data.rows) + len(people))
    has_answer = np.array([bool(row.answers) for row in (*data.rows, *people)])
    ours, human = (
        rows_points[its]
        for rows_points, its in zip(
            np.split(points, [len(data.rows)]), np.split(has_answer, [len(data.rows)]), strict=True
        )
    )
    people = [row for row in people if row.answers]
    sides = Sides(answered(data).rows, people, ours, human, extras.seed)
    if measure == DIVERSITY.name:
        return of_diversity(sides)
    if not people:
        return Evidence()
    if measure == COVERAGE.name:
        return of_coverage(sides)
    return of_classifier(sides) if measure == CLASSIFIER.name else of_mmd(sides)


def drawn_values(
    measure: str, data: Population, references: Mapping[str, Population], extras: Extras
) -> dict[str, Any]:
    """The map of the sample's embeddings, with the classifier's finding: {`x`, `y`, `group`} for each row."""
    if measure != CLASSIFIER.name or extras.embeddings is None:
        return {}
    rows = [*data.rows, *(row for population in references.values() for row in population.rows)]
    places = [at for at, row in enumerate(rows) if row.answers]
    plane = map_2d(extras.embeddings[places], seed=extras.seed)
    groups = ("data" if at < len(data.rows) else "references" for at in places)
    return {
        "map": [{"x": float(x), "y": float(y), "group": group} for (x, y), group in zip(plane, groups, strict=True)]
    }


def of_classifier(sides: Sides) -> Evidence:
    """The data's rows that a classifier, trained on other rows, is surest of."""
    features = scaled(np.concatenate([sides.ours, sides.human]))
    order = np.random.default_rng([sides.seed, 19]).permutation(len(features))
    labels = np.where(order < len(sides.ours), 1, -1).astype(np.float32)[:, None]
    scores = np.empty(len(features))
    wins = pairs = 0.0
    for fold, fold_scores in cross_validation(features[order], min(FOLDS, len(order)))(labels):
        won, compared = rank_wins(fold_scores, labels[fold] > 0)
        wins, pairs = wins + float(won[0]), pairs + float(compared[0])
        scores[order[fold]] = fold_scores[:, 0]
    auc = wins / pairs if pairs else 0.5
    told_line = (
        f"a row of the data and one of the references are told apart in {percent(auc)} of pairs (50 % by chance)"
    )
    listed = clusters(sides)
    return Evidence(
        (told_line, *cluster_lines(sides, listed)),
        worst_rows(sides.data, scores[: len(sides.ours)]),
        {"auc": auc, "clusters": listed},
    )


def of_mmd(sides: Sides) -> Evidence:
    """The data's rows that lie most among the data and least among the references (the witness function)."""
    ours, human = sides.equal()
    few = np.concatenate([ours[: MEDIAN_ROWS // 2], human[: MEDIAN_ROWS // 2]])
    width = median_width(few @ few.T)
    witness = np.exp((sides.ours @ ours.T - 1) / width).mean(1) - np.exp((sides.ours @ human.T - 1) / width).mean(1)
    listed = clusters(sides)
    return Evidence(cluster_lines(sides, listed), worst_rows(sides.data, witness), {"clusters": listed})


def of_coverage(sides: Sides) -> Evidence:
    """Kinds of human rows that the data lacks; precision and recall (Kynkaanniemi et al. 2019) and density and coverage
    (Naeem et al. 2020), all with the 5 nearest neighbours, at equal n. Human examples stand in the lines: the data has
    no rows to show."""
    listed = clusters(sides)
    values = fidelity(*sides.equal())
    line = f"{percent(1 - values['coverage'])} of the reference rows have nothing like them in the data (3 % by chance)"
    return Evidence((line, *cluster_lines(sides, listed, lacking=True)), (), {**values, "clusters": listed})


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
    cosines_at_k: Points = np.partition(cosines, len(points) - k, axis=1)[:, len(points) - k]
    return cosines_at_k


def of_diversity(sides: Sides) -> Evidence:
    """Vendi scores at equal n, and the data's rows that are most like its other rows."""
    ours, human = sides.equal()
    values: dict[str, Any] = {"vendi_data": vendi(ours), "n": len(ours)}
    line = f"the data is as varied as {values['vendi_data']:.1f} texts that have nothing in common"
    if len(human):
        values["vendi_references"] = vendi(human)
        line += f" (references {values['vendi_references']:.1f})"
    crowded = ((sides.ours @ ours.T) ** 2).mean(1, dtype=np.float64)
    listed = clusters(sides)
    lines = (f"{line}, in {len(ours)} rows", *cluster_lines(sides, listed))
    return Evidence(lines, worst_rows(sides.data, crowded), {**values, "clusters": listed})


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
    listed = []
    for number in range(count):
        cluster_values: dict[str, Any] = {}
        for name, places, rows in (("data", ours, sides.data), ("references", human, sides.references)):
            members = places[fitted.labels_[places] == number]
            cluster_values[name] = len(members) / max(1, len(places))
            nearest_rows = members[np.argsort(off[members], kind="stable")[:3]] - (places[0] if len(places) else 0)
            cluster_values[f"{name}_rows"] = [rows[at].number for at in nearest_rows]
            cluster_values[f"{name}_example"] = excerpt(rows[nearest_rows[0]].text) if len(members) else None
        listed.append(cluster_values)
    return sorted(listed, key=lambda cluster: cluster["references"] - cluster["data"])


def cluster_lines(sides: Sides, listed: Sequence[Mapping[str, Any]], *, lacking: bool = False) -> tuple[str, ...]:
    """At most three clusters that the data has too much of, or (lacking) too little, in words."""
    side, other_side = ("references", "data") if lacking else ("data", "references")
    lines = []
    for cluster in listed[::-1] if lacking else listed:
        if cluster[side] <= cluster[other_side]:
            break
        shares = f"{percent(cluster['data'])} of the data"
        shares += f" (references {percent(cluster['references'])})" if sides.references else ""
        lines.append(f"“{cluster[f'{side}_example']}” and rows like it: {shares}")
    return tuple(lines[:3])


def worst_rows(rows: Sequence[Row], strength: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """The numbers of the twenty rows that show a flaw most."""
    return tuple(rows[at].number for at in np.argsort(-strength, kind="stable")[:20])
