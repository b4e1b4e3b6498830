"""The embedding family: values worked by hand, the slow obvious versions, planted flaws found, their twins silent."""

import json

import numpy as np
import pytest

from pyrite.audit.baselines import DrawSettings, Measurement, measure_difference
from pyrite.audit.flaw import Evidence, Extras, Population
from pyrite.audit.flaws.embedding import statistics as embedding
from pyrite.audit.flaws.embedding.evidence import evidence, fidelity, vendi
from pyrite.audit.flaws.embedding.statistics import (
    STATISTICS,
    coverage_loss,
    cross_validation,
    differences,
    diversity_loss,
    map_2d,
    scaled,
    squared_mmd,
)
from pyrite.audit.rows import Row

WIDTH = 24
N = 150


def on_sphere(points: np.ndarray) -> np.ndarray:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def cloud(n: int, seed: int) -> np.ndarray:
    """Points of one population: eight topics, unequal directions."""
    rng = np.random.default_rng([seed, 1])
    centres = np.random.default_rng(5).standard_normal((8, WIDTH))
    return centres[rng.integers(0, 8, n)] + rng.standard_normal((n, WIDTH)) * np.linspace(1.2, 0.3, WIDTH)


def some_rows(n: int, text: str = "row") -> list[Row]:
    return [Row(at, f"{text}-{at}", "what?", (f"{text} {at}",), source=text) for at in range(n)]


def weighed(ours: np.ndarray, human: np.ndarray, permutations: int = 1999) -> dict[str, Measurement]:
    rows = some_rows(len(ours), "data") + some_rows(len(human), "human")
    found = differences(rows, Extras(embeddings=on_sphere(np.concatenate([ours, human]))))
    settings = DrawSettings(permutations=permutations, halves=10, subsamples=5)
    places = range(len(ours)), {"human": range(len(ours), len(rows))}
    made = {one.measure.name: measure_difference(one, *places, settings) for one in found}
    assert all(made.values())
    return {name: one for name, one in made.items() if one is not None}


def groups(n: int, draws: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws of two groups of equal size; half of the draws divide all rows, the others a subset each."""
    rng = np.random.default_rng(seed)
    a, b = np.zeros((draws, n), dtype=np.float32), np.zeros((draws, n), dtype=np.float32)
    for draw in range(draws):
        size = n // 2 if draw % 2 else int(rng.integers(6, n // 2))
        order = rng.permutation(n)
        a[draw, order[:size]] = 1
        b[draw, order[size : 2 * size]] = 1
    return a, b


def test_cross_validation_is_sklearns_ridge_classifier() -> None:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import KFold, cross_val_predict

    points = scaled(on_sphere(cloud(60, 0))).astype(np.float64)
    labels = np.random.default_rng(1).choice([-1.0, 1.0], (60, 3))
    made = np.empty_like(labels)
    for fold, scores in cross_validation(points, 5)(labels):
        made[fold] = scores
    for column in range(3):
        model = RidgeClassifier(alpha=embedding.RIDGE)
        told = cross_val_predict(model, points, labels[:, column], cv=KFold(5), method="decision_function")
        np.testing.assert_allclose(made[:, column], told, atol=1e-6)


def test_auc_of_draws_is_that_of_each_draw_alone() -> None:
    from sklearn.metrics import roc_auc_score

    points = on_sphere(cloud(80, 2))
    a, b = groups(80, 12)
    made = embedding.classifier_auc(points)(a, b)
    features = scaled(points)
    for draw in range(12):
        places = np.flatnonzero(a[draw] + b[draw])
        labels = (a - b)[draw, places]
        wins = pairs = 0.0
        for fold, scores in cross_validation(features[places], 5)(labels[:, None]):
            count = np.sum(labels[fold] > 0) * np.sum(labels[fold] < 0)
            if count:
                wins += roc_auc_score(labels[fold] > 0, scores[:, 0]) * count
                pairs += count
        assert made[draw] == pytest.approx(wins / pairs - 0.5, abs=2e-3)


def test_mmd_by_the_definition() -> None:
    points = on_sphere(cloud(40, 3))
    cosines = points @ points.T
    a, b = groups(40, 8)
    made = squared_mmd(cosines)(a, b)
    kernel = np.exp((cosines.astype(np.float64) - 1) / embedding.median_width(cosines))
    for draw in range(8):
        x, y = np.flatnonzero(a[draw]), np.flatnonzero(b[draw])
        n = len(x)
        within = [(kernel[np.ix_(some, some)].sum() - n) / (n * (n - 1)) for some in (x, y)]
        assert made[draw] == pytest.approx(sum(within) - 2 * kernel[np.ix_(x, y)].mean(), abs=1e-6)


def test_mmd_by_hand() -> None:
    """Two equal rows against two that stand at right angles to them, and are each other's equals: the median squared
    distance is 2, so a pair across has exp(-2 / (2 * 2)) and MMD^2 is 1 + 1 - 2 exp(-1 / 2)."""
    points = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    a, b = np.array([[1, 1, 0, 0]], dtype=np.float32), np.array([[0, 0, 1, 1]], dtype=np.float32)
    assert squared_mmd(points @ points.T)(a, b)[0] == pytest.approx(2 - 2 * np.exp(-0.5), abs=1e-6)


def test_diversity_by_hand() -> None:
    """Two equal rows are as varied as one text, two at right angles as two: the loss is log 2."""
    points = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    a, b = np.array([[1, 1, 0, 0]], dtype=np.float32), np.array([[0, 0, 1, 1]], dtype=np.float32)
    assert diversity_loss(points @ points.T)(a, b)[0] == pytest.approx(np.log(2), abs=1e-6)
    assert vendi(points[:2]) == pytest.approx(1)
    assert vendi(points[2:]) == pytest.approx(2)


@pytest.mark.parametrize("listed", [6, 128])
def test_coverage_by_the_definition(listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the listed neighbours do not suffice."""
    monkeypatch.setattr(embedding, "LISTED", listed)
    points = on_sphere(cloud(60, 4))
    cosines = points @ points.T
    a, b = groups(60, 20)
    made = coverage_loss(cosines)(a, b)
    for draw in range(20):
        x, y = np.flatnonzero(a[draw]), np.flatnonzero(b[draw])
        own = -np.sort(-(cosines[np.ix_(y, y)] - 9 * np.eye(len(y))), axis=1)[:, 4]
        covered = cosines[np.ix_(y, x)].max(1) > own
        assert made[draw] == pytest.approx(1 - covered.mean())
        if listed == 128:
            assert fidelity(points[x], points[y])["coverage"] == pytest.approx(covered.mean())


def test_fidelity_by_hand() -> None:
    """On a circle: human rows at 0, 10 and 20 degrees, ours at 5 and 90; with k = 1 the human radii are 10 degrees each
    and our two rows lie in each other's ball of 85. One of ours is near (precision 1/2), all human rows are in the ball
    of ours at 5 (recall 1), two human balls hold the row at 5 (density 2 / (1 * 2)), two of three are covered."""
    angles = np.radians([0, 10, 20, 5, 90])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    told = fidelity(points[3:], points[:3])
    assert told["k"] == 1
    assert (told["precision"], told["recall"], told["density"]) == (0.5, 1.0, 1.0)
    assert told["coverage"] == pytest.approx(2 / 3)


def test_lost_topics_are_found_by_all_measures() -> None:
    human = cloud(N, 10)
    ours, topic = cloud(8 * N, 11), np.random.default_rng(5).standard_normal(WIDTH)
    ours = ours[np.argsort(((ours - topic) ** 2).sum(1))[: N // 2]]  # half the rows from one topic
    ours = np.concatenate([ours, cloud(N - len(ours), 12)])
    for name, one in weighed(ours, human).items():
        assert one.p == pytest.approx(0.0005), name


def test_a_shift_is_found() -> None:
    found = weighed(cloud(N, 13) + 1.3 * np.eye(WIDTH)[0], cloud(N, 14))
    assert found["classifier_auc"].p == pytest.approx(0.0005)
    assert found["mmd"].p == pytest.approx(0.0005)


def test_the_twin_is_silent() -> None:
    for seed in (20, 30, 40):
        for name, one in weighed(cloud(N, seed), cloud(N, seed + 1), 299).items():
            assert one.p > 0.01, (seed, name)


def test_the_order_of_the_sample_tells_nothing() -> None:
    """Equal rows everywhere: ties must not follow the order of the sample, data first."""
    same = np.ones((40, WIDTH))
    found = weighed(same, same, 199)
    assert found["classifier_auc"].value == pytest.approx(0, abs=1e-9)
    assert found["mmd"].value == pytest.approx(0, abs=1e-6)
    assert found["diversity_loss"].value == pytest.approx(0, abs=1e-5)
    assert found["coverage_loss"].p > 0.005


def test_the_same_seed_gives_the_same_values() -> None:
    one, two = weighed(cloud(40, 1), cloud(40, 2), 49), weighed(cloud(40, 1), cloud(40, 2), 49)
    assert one == two


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_few_rows(size: int) -> None:
    found = differences(some_rows(2 * size), Extras(embeddings=on_sphere(cloud(2 * size, 1))))
    a = np.repeat([[1.0, 0.0]], size, axis=1).reshape(1, -1).astype(np.float32)
    for one in found:
        if size > 1 or one.measure.name != "mmd":
            assert np.isfinite(one.statistic(a, 1 - a)).all(), one.measure.name


def test_nothing_without_embeddings() -> None:
    assert differences(some_rows(4), Extras()) == []
    shown = evidence("mmd", Population(some_rows(4), {}), {"human": Population(some_rows(4), {})}, Extras())
    assert shown == Evidence()
    with pytest.raises(ValueError, match="3 embeddings of 4 rows"):
        differences(some_rows(4), Extras(embeddings=on_sphere(cloud(3, 1))))


HOSTILE = ["", "\x00\x1b[31m", "‮ שלום", "\ud83d", "你好" * 500_000, "  \n ", "A\nB" * 100]


def test_evidence_names_what_only_the_data_has() -> None:
    centre = 4 * np.eye(WIDTH)[3]
    ours = np.concatenate([cloud(60, 1), centre + 0.2 * cloud(40, 2)])
    points = on_sphere(np.concatenate([ours, cloud(90, 3)]))
    data = Population([Row(100 + at, str(at), "", ("odd one" if at >= 60 else "plain",)) for at in range(100)], {})
    human = {"a": Population(some_rows(50, "kind"), {}), "b": Population(some_rows(40, "other"), {})}
    for measure in STATISTICS:
        shown = evidence(measure.name, data, human, Extras(embeddings=points))
        json.dumps(shown.values)
        assert shown.lines
        assert shown.rule is None
        assert len(shown.rows) == (0 if measure.name == "coverage_loss" else 20)
        if measure.name != "coverage_loss":
            assert set(shown.rows) <= set(range(160, 200)), measure.name
            odd = [one for one in shown.values["clusters"] if one["data_example"] == "odd one"]
            assert sum(one["data"] for one in odd) == pytest.approx(0.4, abs=0.05)
            assert any(line.startswith("“odd one” and rows like it: ") for line in shown.lines)
        else:
            assert "plain" not in "".join(shown.lines)
            assert 0 <= shown.values["precision"] <= 1
        assert shown == evidence(measure.name, data, human, Extras(embeddings=points))


def test_evidence_of_hostile_text_and_without_references() -> None:
    rows = [Row(at, str(at), "", (text,)) for at, text in enumerate(HOSTILE)]
    points = on_sphere(cloud(2 * len(rows), 1))
    for measure in STATISTICS:
        for human in ({}, {"human": Population(rows, {})}):
            many = points if human else points[: len(rows)]
            shown = evidence(measure.name, Population(rows, {}), human, Extras(embeddings=many))
            assert all(line.isprintable() and len(line) < 160 for line in shown.lines)
    alone = evidence("diversity_loss", Population(rows, {}), {}, Extras(embeddings=points[: len(rows)]))
    assert alone.lines[0].startswith("the data is as varied as")
    assert "references" not in "".join(alone.lines)


def test_the_map_keeps_what_is_alike_together(monkeypatch: pytest.MonkeyPatch) -> None:
    points = on_sphere(np.concatenate([np.eye(WIDTH)[0] + 0.05 * cloud(30, 1), np.eye(WIDTH)[1] + 0.05 * cloud(30, 2)]))

    def apart(plane: np.ndarray) -> bool:
        one, two = plane[:30], plane[30:]
        gap = np.linalg.norm(one.mean(0) - two.mean(0))
        return bool(gap > 2 * max(one.std(0).max(), two.std(0).max()))

    tsne = map_2d(points, seed=0)
    assert tsne.shape == (60, 2)
    assert apart(tsne)
    assert np.array_equal(tsne, map_2d(points, seed=0))
    monkeypatch.setattr(embedding, "MAP_ROWS", 50)
    plane = map_2d(points, seed=0)
    assert plane.shape == (60, 2)
    assert apart(plane)
    assert map_2d(points[:1], seed=0).shape == (1, 2)
    assert map_2d(np.ones((30, 4)), seed=0).shape == (30, 2)


def test_importing_the_family_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, pyrite.audit.flaws.embedding.statistics, pyrite.audit.flaws.perplexity.statistics; print({'torch', 'sklearn', 'scipy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
