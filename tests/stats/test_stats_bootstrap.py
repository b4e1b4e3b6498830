"""Bootstraps over templates: equality with a slow obvious version, limiting cases, degenerate input."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pyrite.errors import UserError
from pyrite.stats import cluster_bootstrap, crossed_bootstrap


def _data(seeds: int = 3, k: int = 12) -> tuple[NDArray[np.float64], list[str]]:
    """Differences in {-1, 0, 1} for templates of 1 to 6 items."""
    rng = np.random.default_rng(7)
    templates = [f"t{t}" for t in range(k) for _ in range(1 + t % 6)]
    return rng.integers(-1, 2, (seeds, len(templates))).astype(float), templates


def _slow_crossed_half(d: NDArray[np.float64], templates: list[str], seed: int, resamples: int) -> float:
    """Half the interval, by copying rows and items one by one for every resample."""
    rng = np.random.default_rng(seed)
    seeds, names = len(d), sorted(set(templates))
    columns = {name: [i for i, t in enumerate(templates) if t == name] for name in names}
    all_rows, all_names = list(range(seeds)), names

    def mean(rows: list[int], drawn: list[str]) -> float:
        return float(np.mean([d[s, i] for s in rows for name in drawn for i in columns[name]]))

    times_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    times_template = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    by_seed, by_template, cross = [], [], []
    for r in range(resamples):
        rows = [s for s in all_rows for _ in range(times_seed[r, s])]
        drawn = [name for t, name in enumerate(names) for _ in range(times_template[r, t])]
        by_seed.append(mean(rows, all_names))
        by_template.append(mean(all_rows, drawn))
        cross.append(mean(rows, drawn) - by_seed[-1] - by_template[-1])
    k, s1, k1 = len(names), seeds / (seeds - 1), len(names) / (len(names) - 1)
    v_seed, v_template = np.var(by_seed, ddof=1) * s1, np.var(by_template, ddof=1) * k1
    variance = max(v_seed + v_template - np.var(cross, ddof=1) * s1 * k1, v_seed, v_template)
    return float(stats.t.ppf(0.975, min(seeds, k) - 1) * np.sqrt(variance))


def test_crossed_equals_the_slow_version() -> None:
    d, templates = _data()
    fast = crossed_bootstrap(d, templates, rng=np.random.default_rng(5), resamples=150)
    half = _slow_crossed_half(d, templates, seed=5, resamples=150)
    assert fast.value == pytest.approx(d.mean())
    assert (fast.low, fast.high) == pytest.approx((d.mean() - half, d.mean() + half))
    assert (fast.n, fast.method) == (3, "crossed bootstrap (3 seeds x 12 templates)")


def test_crossed_approaches_the_variance_components() -> None:
    """With equally large templates the bootstrap estimates, up to its own noise, the analysis of variance.

    v = s^2(seed means) / S + s^2(template means) / T - s^2(interaction) / (S T), here with 4 seeds and 15 templates.
    """
    rng = np.random.default_rng(11)
    cell_ST = rng.normal(0, 1, (4, 1)) + rng.normal(0, 1, (1, 15)) + rng.normal(0, 0.5, (4, 15))
    estimate = crossed_bootstrap(
        np.repeat(cell_ST, 2, axis=1),
        [f"t{t:02}" for t in range(15) for _ in range(2)],
        rng=np.random.default_rng(0),
        resamples=40_000,
    )
    interaction = cell_ST - cell_ST.mean(1, keepdims=True) - cell_ST.mean(0) + cell_ST.mean()
    variance = (
        cell_ST.mean(1).var(ddof=1) / 4
        + cell_ST.mean(0).var(ddof=1) / 15
        - (interaction**2).sum() / (3 * 14) / (4 * 15)
    )
    assert estimate.high is not None
    assert estimate.high - estimate.value == pytest.approx(stats.t.ppf(0.975, 3) * np.sqrt(variance), rel=0.02)


def test_crossed_ignores_the_order_of_items() -> None:
    d, templates = _data()
    order = np.random.default_rng(1).permutation(len(templates))
    a = crossed_bootstrap(d, templates, rng=np.random.default_rng(5), resamples=200)
    b = crossed_bootstrap(d[:, order], [templates[i] for i in order], rng=np.random.default_rng(5), resamples=200)
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


def test_crossed_is_wider_than_seeds_alone() -> None:
    """Asking about other templates, too, cannot make the answer surer than the seeds' own standard error."""
    d, templates = _data(seeds=6)
    estimate = crossed_bootstrap(d, templates, rng=np.random.default_rng(5), resamples=5000)
    seeds_only = stats.t.ppf(0.975, 5) * d.mean(axis=1).std(ddof=1) / 6**0.5
    assert estimate.high is not None
    assert estimate.high - estimate.value > 0.97 * seeds_only


def test_few_templates_one_seed_or_no_spread_give_no_interval() -> None:
    rng = np.random.default_rng(0)
    d, templates = _data(k=9)
    nine = crossed_bootstrap(d, templates, rng=rng)
    assert (nine.low, nine.high, nine.method) == (None, None, "these templates only (9 < 10)")
    d, templates = _data(seeds=1)
    assert crossed_bootstrap(d, templates, rng=rng).method == "one seed: no interval"
    d, templates = _data()
    identical = crossed_bootstrap(np.full_like(d, 0.1), templates, rng=rng)
    assert (identical.low, identical.method) == (None, "identical in all seeds and templates: no interval")


def test_crossed_refuses_what_it_cannot_use() -> None:
    d, templates = _data()
    rng = np.random.default_rng(0)
    for bad in (np.empty((0, 5)), np.empty((3, 0)), d[0]):
        with pytest.raises(UserError):
            crossed_bootstrap(bad, templates, rng=rng)
    with pytest.raises(UserError, match="template"):
        crossed_bootstrap(d, templates[:-1], rng=rng)
    with pytest.raises(UserError, match="100"):
        crossed_bootstrap(d, templates, rng=rng, resamples=10)
    d[1, 4] = np.nan
    with pytest.raises(UserError, match="position 1, 4"):
        crossed_bootstrap(d, templates, rng=rng)


def test_cluster_equals_the_slow_version() -> None:
    d, templates = _data()
    correct = (d[0] > 0).astype(float)
    fast = cluster_bootstrap(correct, templates, rng=np.random.default_rng(5), resamples=200, n_missing=2)
    names = sorted(set(templates))
    times = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=200)
    means = []
    for row in times:
        drawn = [name for t, name in enumerate(names) for _ in range(row[t])]
        means.append(np.mean([correct[i] for name in drawn for i, t in enumerate(templates) if t == name]))
    half = stats.t.ppf(0.975, 11) * np.sqrt(np.var(means, ddof=1) * 12 / 11)
    assert (fast.low, fast.high) == pytest.approx((max(correct.mean() - half, 0), min(correct.mean() + half, 1)))
    assert (fast.n, fast.n_missing, fast.method) == (len(templates), 2, "bootstrap over 12 templates")


def test_cluster_stays_within_fractions_and_is_silent_without_spread() -> None:
    templates = [f"t{t}" for t in range(12) for _ in range(4)]
    nearly = np.ones(48)
    nearly[:3] = 0
    estimate = cluster_bootstrap(nearly, templates, rng=np.random.default_rng(0))
    assert estimate.high == 1.0
    perfect = cluster_bootstrap(np.ones(48), templates, rng=np.random.default_rng(0))
    assert (perfect.low, perfect.method) == (None, "identical in all templates: no interval")
    two_templates = cluster_bootstrap(np.ones(8), templates[:8], rng=np.random.default_rng(0))
    assert two_templates.method == "these templates only (2 < 10)"


def test_cluster_refuses_empty_and_unpaired_input() -> None:
    with pytest.raises(UserError):
        cluster_bootstrap([], [], rng=np.random.default_rng(0))
    with pytest.raises(UserError):
        cluster_bootstrap([1.0, 0.0], ["a"], rng=np.random.default_rng(0))
