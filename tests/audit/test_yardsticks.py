"""The two yardsticks: p-values of true nulls, distances between sources, standard errors, severities worked by hand."""

import itertools
from typing import Any

import numpy as np
import pytest

from pyrite.audit.baselines import DrawSettings, measure_alone, measure_difference
from pyrite.audit.compare import measurement_json
from pyrite.audit.decide import Human, decide
from pyrite.audit.flaw import Alone, Difference, Statistic

MEAN = Statistic("format", "opening_concentration", "Is it larger?", "units", "Do something.")


def difference(values: np.ndarray) -> Difference:
    """How much larger is the mean of one group?"""

    def statistic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ values) / a.sum(1) - (b @ values) / b.sum(1)

    return Difference(MEAN, statistic)


def split(values: np.ndarray, *sizes: int) -> list[list[int]]:
    """Consecutive places."""
    ends = np.cumsum([0, *sizes])
    return [list(range(a, b)) for a, b in itertools.pairwise(ends)]


def test_a_true_null_is_called_as_often_as_stated() -> None:
    draws = DrawSettings(permutations=199, halves=4, subsamples=2)
    p = []
    for seed in range(200):
        values = np.random.default_rng(seed).standard_normal(120)
        data, human = split(values, 60, 60)
        found = measure_difference(difference(values), data, {"human": human}, draws)
        assert found is not None
        p.append(found.p)
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.1  # 5 % of 200: 10 +- 3
    assert 0.4 <= np.mean(p) <= 0.6


def test_a_shift_is_real_and_its_error_is_right() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.standard_normal(400) + 1, rng.standard_normal(400)])
    data, human = split(values, 400, 400)
    found = measure_difference(difference(values), data, {"human": human}, DrawSettings(permutations=999))
    assert found is not None
    assert found.p == 0.001
    assert found.n == 400
    assert found.between is not None
    assert found.between.distances == {}  # one source has no others
    assert (found.between.n, found.between.value_of_data) == (150, pytest.approx(1, abs=0.1))
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
    found = measure_difference(difference(values), data, {"one": one, "other": other}, DrawSettings(permutations=199))
    assert found is not None
    assert found.between is not None
    assert found.between.distances == pytest.approx({"one": -3, "other": 3}, abs=0.4)
    assert found.between.n == 150
    assert found.between.value_of_data == pytest.approx(0.8 - 1.5, abs=0.3)


def told_by(difference: Difference, data: list[int], references: dict[str, list[int]], size: int) -> dict[str, Any]:
    """What a family's step tells of a measure."""
    made = measure_difference(difference, data, references, DrawSettings(permutations=199), size=size)
    assert made is not None
    return {**measurement_json(made), "evidence": {"rule": None}}


def test_severities() -> None:
    """Five human sources at 0, 0.1, … 0.4: each lies from the mean of the others by -0.25, -0.125, 0, 0.125, 0.25, whose
    spread s is 0.198 (noise of 150 rows beside it). Student's t(4) at 95 % is 2.132: the next one shows at most
    2.132 * s * sqrt(1.2), about 0.5. Data at 3.2 lies 3.0 above them; data at 0.35 is real but within."""
    rng = np.random.default_rng(3)
    places = [list(range(200 * at, 200 * at + 200)) for at in range(7)]
    values = np.concatenate([0.1 * rng.standard_normal(200) + at for at in (3.2, 0.35, 0.0, 0.1, 0.2, 0.3, 0.4)])
    human = {f"s{at}": places[2 + at] for at in range(5)}
    far, near = (told_by(difference(values), places[at], human, len(values)) for at in (0, 1))

    def severity(told: dict[str, Any], known: Human, least: float | None = None) -> str:
        limits = {} if least is None else {"format.opening_concentration": least}
        return decide([told], alpha=0.05, thresholds=limits, human=known)[0].severity

    assert severity(far, Human(5)) == "fail"
    assert severity(near, Human(5)) == "warn"
    (found,) = decide([far], alpha=0.05, thresholds={}, human=Human(5))
    between = found.record["between_human"]
    assert (between["source"], between["sources"], between["table"]) == ("s4", 5, False)
    assert between["high"] == pytest.approx(
        2.132 * np.std([-0.25, -0.125, 0, 0.125, 0.25], ddof=1) * 1.2**0.5, abs=0.05
    )
    assert found.record["excess"]["value"] == pytest.approx(3.0 - between["high"], abs=0.05)
    assert severity(far, Human(5), least=2) == "fail"
    assert severity(far, Human(5), least=3) == "ok"
    # another task than the references, or too few of them: never worse than a warning, and it says why
    (other,) = decide([far], alpha=0.05, thresholds={}, human=Human(5, task="another task"))
    assert (other.severity, other.record["why"], other.record["capped"]) == ("warn", "another task", True)
    four = {name: human[name] for name in list(human)[:4]}
    (few,) = decide(
        [told_by(difference(values), places[0], four, len(values))], alpha=0.05, thresholds={}, human=Human(4)
    )
    assert few.severity == "warn"
    assert few.record["why"].startswith("4 human sources, and the table of human sources is not used")
    assert "5 sources would do" in few.record["why"]


def test_rows_of_a_cluster_change_places_together() -> None:
    """Ten clusters of ten equal rows on each side: 20 numbers, not 200. The standard error of a difference of means of ten
    is sqrt(2 / 10) = 0.45, and chance makes a difference of 0.5 easily; taken row by row it would be 0.14."""
    of = [f"c{at // 10}" for at in range(200)]
    p, alone, errors = [], [], []
    for seed in range(60):
        values = np.repeat(np.random.default_rng(seed).standard_normal(20), 10)
        data, human = split(values, 100, 100)
        draws = DrawSettings(permutations=99, halves=60, subsamples=2, seed=seed)
        found = measure_difference(difference(values), data, {"human": human}, draws, clusters=of)
        apart = measure_difference(difference(values), data, {"human": human}, draws)
        assert found is not None
        assert apart is not None
        assert found.low is not None
        p.append(found.p)
        alone.append(apart.p)
        errors.append((found.excess - found.low) / 1.96)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5
    assert np.mean(np.array(alone) <= 0.05) > 0.2
    assert np.mean(errors) == pytest.approx((2 / 10) ** 0.5, rel=0.25)


def test_rows_that_cannot_be_measured_are_left_out() -> None:
    values = np.arange(20.0)
    few = Difference(MEAN, difference(values).statistic, rows=[0, 1, 2, 10, 11])
    found = measure_difference(few, range(10), {"human": range(10, 20)}, DrawSettings(permutations=99))
    assert found is not None
    assert found.n == 2
    assert (
        measure_difference(
            Difference(MEAN, few.statistic, rows=[0, 10]), range(10), {"human": range(10, 20)}, DrawSettings()
        )
        is None
    )


def test_a_value_that_is_no_number_is_loud() -> None:
    broken = Difference(MEAN, lambda a, b: np.full(len(a), np.nan))
    with pytest.raises(FloatingPointError, match=r"format\.opening_concentration"):
        measure_difference(broken, range(10), {"human": range(10, 20)}, DrawSettings(permutations=99))


def test_a_measure_with_its_own_null() -> None:
    null = np.linspace(0, 1, 99)
    made = measure_alone(Alone(MEAN, 2.0, null, 50, low=1.5, high=2.5))
    assert made.p == 0.01
    assert made.excess == pytest.approx(1.5)
    assert made.low == pytest.approx(1.0)
    without = measure_alone(Alone(MEAN, 0.03, None, 50, threshold=0.01))
    assert np.isnan(without.p)
    assert without.excess == pytest.approx(0.02)


def test_the_same_seed_gives_the_same_numbers() -> None:
    values = np.random.default_rng(5).standard_normal(300)
    data, one, other = split(values, 100, 100, 100)
    made = [
        measure_difference(
            difference(values), data, {"one": one, "other": other}, DrawSettings(permutations=99, seed=seed)
        )
        for seed in (4, 4, 5)
    ]
    assert made[0] == made[1] != made[2]
