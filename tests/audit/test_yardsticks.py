"""The two yardsticks: p-values of true nulls, distances between sources, standard errors, severities worked by hand."""

import itertools

import numpy as np
import pytest

from pyrite.audit.decide import decide
from pyrite.audit.family import Alone, Contrast, Measure
from pyrite.audit.yardsticks import Yardsticks, weigh, weigh_alone

MEAN = Measure("format", "opening_concentration", "Is it larger?", "units", "Do something.")


def difference(values: np.ndarray) -> Contrast:
    """How much larger is the mean of one group?"""

    def statistic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ values) / a.sum(1) - (b @ values) / b.sum(1)

    return Contrast(MEAN, statistic)


def split(values: np.ndarray, *sizes: int) -> list[list[int]]:
    """Consecutive places."""
    ends = np.cumsum([0, *sizes])
    return [list(range(a, b)) for a, b in itertools.pairwise(ends)]


def test_a_true_null_is_called_as_often_as_stated() -> None:
    draws = Yardsticks(permutations=199, halves=4, subsamples=2)
    p = []
    for seed in range(200):
        values = np.random.default_rng(seed).standard_normal(120)
        data, human = split(values, 60, 60)
        found = weigh(difference(values), data, {"human": human}, draws)
        assert found is not None
        p.append(found.p)
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.1  # 5 % of 200: 10 +- 3
    assert 0.4 <= np.mean(p) <= 0.6


def test_a_shift_is_real_and_its_error_is_right() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.standard_normal(400) + 1, rng.standard_normal(400)])
    data, human = split(values, 400, 400)
    found = weigh(difference(values), data, {"human": human}, Yardsticks(permutations=999))
    assert found is not None
    assert found.p == 0.001
    assert found.n == 400
    assert found.between is None
    assert found.value == pytest.approx(1, abs=0.2)
    assert found.low is not None
    assert found.high is not None
    error = (found.high - found.low) / (2 * 1.96)
    assert error == pytest.approx(np.sqrt(2 / 400), rel=0.25)  # the mean's own standard error, by hand


def test_sources_that_differ_more_than_the_data_does() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate(
        [rng.standard_normal(300) + 0.8, rng.standard_normal(200), rng.standard_normal(200) + 3]
    )  # the data lies between two human sources
    data, one, other = split(values, 300, 200, 200)
    found = weigh(difference(values), data, {"one": one, "other": other}, Yardsticks(permutations=199))
    assert found is not None
    assert found.between is not None
    assert found.between.source == "other"
    assert found.between.value == pytest.approx(3, abs=0.4)
    assert found.between.n == 200
    assert found.excess < 0


def test_severities() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.standard_normal(300) + 3, rng.standard_normal(200), rng.standard_normal(200) + 0.5])
    data, one, other = split(values, 300, 200, 200)
    contrast, draws = difference(values), Yardsticks(permutations=199)

    def severity(references: dict[str, list[int]], least: float = 0.0) -> str:
        from pyrite.audit.compare import weighed_json

        made = weigh(contrast, data, references, draws, size=len(values))
        assert made is not None
        told = {**weighed_json(made), "evidence": {"rule": None}}
        limits = {"format.opening_concentration": least}
        return decide([told], alpha=0.05, thresholds=limits, sources=len(references))[0].severity

    assert severity({"one": one, "other": other}) == "fail"
    assert severity({"one": one}) == "warn"  # one source: never worse
    assert severity({"one": one}, least=5) == "ok"
    assert severity({"one": one, "other": other}, least=2.5) == "ok"  # the excess over the sources is about 2.25
    assert severity({"one": one, "other": other}, least=2) == "fail"


def test_rows_that_cannot_be_measured_are_left_out() -> None:
    values = np.arange(20.0)
    contrast = Contrast(MEAN, difference(values).statistic, rows=[0, 1, 2, 10, 11])
    found = weigh(contrast, range(10), {"human": range(10, 20)}, Yardsticks(permutations=99))
    assert found is not None
    assert found.n == 2
    assert (
        weigh(Contrast(MEAN, contrast.statistic, rows=[0, 10]), range(10), {"human": range(10, 20)}, Yardsticks())
        is None
    )


def test_a_value_that_is_no_number_is_loud() -> None:
    broken = Contrast(MEAN, lambda a, b: np.full(len(a), np.nan))
    with pytest.raises(FloatingPointError, match=r"format\.opening_concentration"):
        weigh(broken, range(10), {"human": range(10, 20)}, Yardsticks(permutations=99))


def test_a_measure_with_its_own_null() -> None:
    null = np.linspace(0, 1, 99)
    made = weigh_alone(Alone(MEAN, 2.0, null, 50, low=1.5, high=2.5))
    assert made.p == 0.01
    assert made.excess == pytest.approx(1.5)
    assert made.low == pytest.approx(1.0)
    without = weigh_alone(Alone(MEAN, 0.03, None, 50, threshold=0.01))
    assert np.isnan(without.p)
    assert without.excess == pytest.approx(0.02)


def test_the_same_seed_gives_the_same_numbers() -> None:
    values = np.random.default_rng(5).standard_normal(300)
    data, one, other = split(values, 100, 100, 100)
    made = [
        weigh(difference(values), data, {"one": one, "other": other}, Yardsticks(permutations=99, seed=seed))
        for seed in (4, 4, 5)
    ]
    assert made[0] == made[1] != made[2]
