"""Do the statistics keep their word? Coverage, false verdicts and power, by drawing studies whose truth is known.

Every rate is compared with its bound allowing for three standard errors of the simulation itself. The realistic model
draws, per training seed, how good it is, how much the arm's data harm it, and how each seed takes to each template;
then every item is right or wrong by chance. Both arms of a seed see the same items.
"""

import doctest
import importlib

import numpy as np
import pytest
from numpy.typing import NDArray

from pyrite import stats as pyrite_stats
from pyrite.records import Estimate
from pyrite.stats import (
    ContrastCell,
    Verdict,
    answered_by_both,
    cluster_bootstrap,
    crossed_bootstrap,
    holm,
    judge,
    judge_family,
    paired_t,
    paired_t_pvalue,
    sd_from_pilot,
    seeds_needed,
    tost,
)

Array = NDArray[np.float64]
SEEDS = (3, 5, 10)


def _noise(rate: float, repetitions: int) -> float:
    return float(3 * np.sqrt(rate * (1 - rate) / repetitions))


def _at_least(rate: float, bound: float, repetitions: int) -> bool:
    return rate >= bound - _noise(bound, repetitions)


def _at_most(rate: float, bound: float, repetitions: int) -> bool:
    return rate <= bound + _noise(bound, repetitions)


def _covered(estimates: list[Estimate], truth: float) -> float:
    """How often does the interval hold the truth? An estimate without an interval counts as a miss."""
    return float(np.mean([e.low is not None and e.high is not None and e.low <= truth <= e.high for e in estimates]))


def _chances(rng: np.random.Generator, shape: tuple[int, int, int], template_sd: float) -> tuple[Array, Array]:
    """Chance to be right, per study, seed and template, for the arm (5 points worse on average) and the comparison."""
    studies, seeds, k = shape
    base = rng.uniform(0.4, 0.7, (studies, 1, k)) + 0.02 * rng.standard_normal((studies, seeds, 1))
    harm = -0.05 + template_sd * rng.standard_normal((studies, 1, k)) + 0.02 * rng.standard_normal((studies, seeds, 1))
    arm, comparison = (base + 0.04 * rng.standard_normal(shape) for _ in range(2))
    return np.clip(arm + harm, 0, 1), np.clip(comparison, 0, 1)


@pytest.mark.parametrize("seeds", SEEDS)
def test_paired_t_covers_normal_differences(seeds: int) -> None:
    repetitions = 20_000
    differences = np.random.default_rng(seeds).normal(-0.03, 0.01, (repetitions, seeds))
    covered = _covered([paired_t(row) for row in differences], -0.03)
    assert _at_least(covered, 0.95, repetitions)


@pytest.mark.parametrize("seeds", SEEDS)
def test_paired_t_covers_realistic_studies(seeds: int) -> None:
    """20 templates of 8 items; the truth is the mean over seeds on these very templates."""
    repetitions, k, items = 6_000, 20, 8
    rng = np.random.default_rng(10 + seeds)
    arm, comparison = _chances(rng, (repetitions, seeds, k), template_sd=0.0)
    differences = (rng.binomial(items, arm) - rng.binomial(items, comparison)).mean(axis=2) / items
    covered = _covered([paired_t(row) for row in differences], -0.05)
    assert _at_least(covered, 0.93, repetitions)


@pytest.mark.parametrize(("seeds", "template_sd"), [(3, 0.0), (3, 0.1), (5, 0.1), (10, 0.0), (10, 0.1)])
def test_crossed_bootstrap_covers_other_seeds_and_templates(seeds: int, template_sd: float) -> None:
    """24 templates of 3 to 12 items, whose harm differs; the truth is the mean over all seeds and templates."""
    repetitions = 1200
    rng = np.random.default_rng(20 + seeds)
    index = np.repeat(np.arange(24), rng.integers(3, 13, 24))
    names = [f"t{t:02}" for t in index]
    arm, comparison = (p[:, :, index] for p in _chances(rng, (repetitions, seeds, 24), template_sd))
    differences = (rng.random(arm.shape) < arm) * 1.0 - (rng.random(arm.shape) < comparison)
    estimates = [crossed_bootstrap(d, names, rng=rng, resamples=300) for d in differences]
    covered = _covered(estimates, -0.05)
    assert _at_least(covered, 0.95, repetitions)


@pytest.mark.parametrize("seeds", SEEDS)
def test_crossed_bootstrap_covers_where_seeds_decide(seeds: int) -> None:
    """The hard case for few seeds: nearly all spread is between seeds, as with runs that now and then collapse."""
    repetitions = 2000
    rng = np.random.default_rng(30 + seeds)
    names = [f"t{t:02}" for t in range(20)]
    differences = rng.normal(0, 0.1, (repetitions, seeds, 1)) + rng.normal(0, 0.02, (repetitions, seeds, 20))
    estimates = [crossed_bootstrap(d, names, rng=rng, resamples=300) for d in differences]
    covered = _covered(estimates, 0)
    assert _at_least(covered, 0.93, repetitions)


def test_cluster_bootstrap_covers_other_templates() -> None:
    repetitions, k = 2000, 20
    rng = np.random.default_rng(40)
    index = np.repeat(np.arange(k), rng.integers(4, 13, k))
    names = [f"t{t:02}" for t in index]
    chances = 0.7 + rng.uniform(-0.25, 0.25, (repetitions, k))
    correct = (rng.random((repetitions, len(index))) < chances[:, index]) * 1.0
    estimates = [cluster_bootstrap(row, names, rng=rng, resamples=300) for row in correct]
    covered = _covered(estimates, 0.7)
    assert _at_least(covered, 0.93, repetitions)


@pytest.mark.parametrize("seeds", SEEDS)
def test_false_worse_is_rare(seeds: int) -> None:
    """No true difference: "worse" and "better" together in at most 5 % (so "worse" in about half of that)."""
    repetitions = 6_000
    rng = np.random.default_rng(50 + seeds)
    shared = 0.6 + 0.02 * rng.standard_normal((repetitions, seeds))
    a, b = (shared + 0.02 * rng.standard_normal((repetitions, seeds)) for _ in range(2))
    verdicts = [judge(x, y, margin=0.01).verdict for x, y in zip(a, b, strict=True)]
    worse, better = (np.mean([v is verdict for v in verdicts]) for verdict in (Verdict.WORSE, Verdict.BETTER))
    assert _at_most(float(worse + better), 0.05, repetitions)
    assert _at_most(float(worse), 0.025, repetitions)


@pytest.mark.parametrize("seeds", SEEDS)
def test_false_equivalent_is_rare(seeds: int) -> None:
    """The true difference equals the margin, for the smallest and the largest spread: at most 5 %."""
    repetitions = 12_000
    rng = np.random.default_rng(60 + seeds)
    for sd in (0.002, 0.02):
        differences = rng.normal(-0.02, sd, (repetitions, seeds))
        rate = float(np.mean([tost(row, 0.02) < 0.05 for row in differences]))
        assert _at_most(rate, 0.05, repetitions)


def _at_the_floor(rng: np.random.Generator, shape: tuple[int, ...], level: float) -> Array:
    """Shares of 1,000 items of models that stand at `level`, give or take half of it from seed to seed."""
    chance = np.clip(level * (1 + 0.5 * rng.standard_normal(shape)), 0, 1)
    return rng.binomial(1000, chance) / 1000


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("level", [0.005, 0.025, 0.035])
def test_cells_at_the_floor_make_no_false_verdict(seeds: int, level: float) -> None:
    """Two cells at the floor (below, near and just above the margin of 0.03) beside a robust one.

    No true difference anywhere, with and without the robust cell: "worse" and "better" in at most 5 %. The robust cell
    harmed by the margin: "equivalent" in at most 5 %. Nothing but cells at the floor: never "equivalent".
    """
    repetitions, margin = 1_200, 0.03
    rng = np.random.default_rng(int(55 + seeds + 1000 * level))
    shape = (repetitions, seeds)
    shared = 0.6 + 0.02 * rng.standard_normal(shape)
    a, b = (np.clip(shared + 0.01 * rng.standard_normal(shape), 0, 1) for _ in range(2))
    floors = [tuple(_at_the_floor(rng, shape, level) for _ in range(2)) for _ in range(2)]

    def verdicts(harm: float, *, robust: bool) -> list[Verdict]:
        outcomes = []
        for at in range(repetitions):
            cells = [ContrastCell(f"floor {n}", x[at], y[at]) for n, (x, y) in enumerate(floors)]
            if robust:
                cells.append(ContrastCell("robust", a[at] - harm, b[at]))
            outcomes.append(judge_family({"c": cells}, margin)["c"].verdict)
        return outcomes

    null = verdicts(0.0, robust=True)
    assert _at_most(float(np.mean([verdict in (Verdict.WORSE, Verdict.BETTER) for verdict in null])), 0.05, repetitions)
    nothing = verdicts(0.0, robust=False)
    assert _at_most(
        float(np.mean([verdict in (Verdict.WORSE, Verdict.BETTER) for verdict in nothing])), 0.05, repetitions
    )
    if level < margin / 2:  # near the margin some floors can answer, and rightly say that nothing changed there
        harmed = verdicts(margin, robust=True)
        assert _at_most(float(np.mean([verdict is Verdict.EQUIVALENT for verdict in harmed])), 0.05, repetitions)
        assert Verdict.EQUIVALENT not in nothing


@pytest.mark.parametrize("seeds", [3, 5, pytest.param(10, marks=pytest.mark.slow)])  # 2^10 fillings a verdict
def test_answers_missing_not_at_random_make_no_false_verdict(seeds: int) -> None:
    """250 items; a judge cannot read some of the arm's failures, the same items or others in every seed.

    Equal models: "worse" and "better" in at most 5 %, where comparing each model's own answers says "better" nearly
    always. An arm worse by the margin: "equivalent" in at most 5 %, where own answers nearly always say so.
    """
    repetitions, items, margin = 400, 250, 0.04
    rng = np.random.default_rng(65 + seeds)
    false_difference, false_equivalent, naive_better, naive_equivalent = [], [], [], []
    for _ in range(repetitions):
        difficulty = rng.beta(3, 2, items)
        hidden = rng.random((1 if rng.random() < 0.5 else seeds, items)) < rng.uniform(0.02, 0.2)
        for harm in (0.0, margin):
            chance = np.clip(difficulty - harm / max(0.2, float(np.mean(difficulty > 0.1))) * (difficulty > 0.1), 0, 1)
            a = (rng.random((seeds, items)) < chance) * 1.0
            b = (rng.random((seeds, items)) < difficulty) * 1.0
            a[(a == 0) & hidden] = np.nan
            answered = answered_by_both(a, b, bounds=(0, 1))
            cell = ContrastCell(
                "x", answered.a, answered.b, answered.low, answered.high, answered.items, answered.missing
            )
            verdict = judge_family({"c": [cell]}, margin, max_missing=0.5)["c"].verdict
            naive = judge(np.nanmean(a, axis=1), b.mean(axis=1), margin=margin).verdict
            if harm:
                false_equivalent.append(verdict is Verdict.EQUIVALENT)
                naive_equivalent.append(naive is Verdict.EQUIVALENT)
            else:
                false_difference.append(verdict in (Verdict.WORSE, Verdict.BETTER))
                naive_better.append(naive is Verdict.BETTER)
    assert _at_most(float(np.mean(false_difference)), 0.05, repetitions)
    assert _at_most(float(np.mean(false_equivalent)), 0.05, repetitions)
    if seeds == 10:
        assert float(np.mean(naive_better)) > 0.3
        assert float(np.mean(naive_equivalent)) > 0.2


def test_identical_differences_do_not_make_false_verdicts() -> None:
    """A coarse grid: each seed gains or loses one item of 50 by a coin flip, so one study in four looks certain."""
    repetitions = 10_000
    differences = np.random.default_rng(70).choice([-1, 1], (repetitions, 3)) / 50
    identical = np.ptp(differences, axis=1) == 0
    assert float(np.mean(identical)) == pytest.approx(0.25, abs=_noise(0.25, repetitions))
    rate = float(np.mean([paired_t_pvalue(row) < 0.05 for row in differences]))
    assert _at_most(rate, 0.05, repetitions)


def test_holm_keeps_the_family_honest() -> None:
    """Three contrasts that share their comparison, none true: any false call in at most 5 % of the studies."""
    repetitions, seeds = 12_000, 5
    rng = np.random.default_rng(80)
    comparison = rng.normal(0.6, 0.01, (repetitions, 1, seeds))
    differences = rng.normal(0.6, 0.01, (repetitions, 3, seeds)) - comparison
    p_values = np.array([[paired_t_pvalue(row) for row in study] for study in differences])
    adjusted = np.array([holm(row) for row in p_values])  # type: ignore[arg-type]
    assert _at_most(float(np.mean(adjusted.min(axis=1) < 0.05)), 0.05, repetitions)
    assert float(np.mean(p_values.min(axis=1) < 0.05)) > 0.09

    first = {str(i): (comparison[0, 0] + differences[0, i], comparison[0, 0]) for i in range(3)}
    through_family = [j.p_difference_adjusted for j in judge_family(first, 0.01).values()]
    assert through_family == pytest.approx(list(adjusted[0]))


@pytest.mark.parametrize(("sd", "effect", "margin"), [(0.02, 0.02, 0.02), (0.01, 0.03, 0.03)])
def test_power_is_what_was_promised(sd: float, effect: float, margin: float) -> None:
    """The number of seeds reaches 80 % power, and one seed fewer does not."""
    repetitions = 6_000
    rng = np.random.default_rng(90)
    needed = seeds_needed(sd, effect=effect, margin=margin)
    assert needed.for_difference is not None
    assert needed.for_equivalence is not None

    def difference_power(n: int) -> float:
        rows = rng.normal(-effect, sd, (repetitions, n))
        return float(np.mean([paired_t_pvalue(row) < 0.05 and row.mean() < 0 for row in rows]))

    def equivalence_power(n: int) -> float:
        return float(np.mean([tost(row, margin) < 0.05 for row in rng.normal(0, sd, (repetitions, n))]))

    for rate, n in ((difference_power, needed.for_difference), (equivalence_power, needed.for_equivalence)):
        assert _at_least(rate(n), 0.8, repetitions)
        assert _at_most(rate(n - 1), 0.8, repetitions)


def test_pilot_bound_holds_in_four_of_five() -> None:
    repetitions = 10_000
    pilots = np.random.default_rng(100).normal(0, 0.02, (repetitions, 3))
    share_held = float(np.mean([sd_from_pilot(row).upper >= 0.02 for row in pilots]))
    assert share_held == pytest.approx(0.8, abs=_noise(0.8, repetitions))


@pytest.mark.parametrize(
    "module",
    [
        *("bootstrap", "edges", "equivalence", "gap", "intervals", "missing", "multiplicity", "paired", "power"),
        "verdict",
    ],
)
def test_the_examples_in_the_docstrings_run(module: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(f"pyrite.stats.{module}"))
    assert failed == 0


def test_every_public_name_is_there() -> None:
    for name in pyrite_stats.__all__:
        assert getattr(pyrite_stats, name) is not None
