"""What stands beside the verdict of a contrast: its differences seed by seed, and its interval over items."""

import warnings
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from pyrite.records import Estimate
from pyrite.stats import ContrastCell, crossed_bootstrap
from pyrite.study.contrast_cells import Comparison, cell_name
from pyrite.study.scores import Array, over_items


def per_seed_differences(cells: Sequence[ContrastCell]) -> tuple[float, ...]:
    """One side minus the other in each seed, averaged over cells by their weights; nothing without cells."""
    if not cells:
        return ()
    each = np.array([np.asarray(cell.a) - np.asarray(cell.b) for cell in cells])
    return tuple(float(value) for value in np.average(each, axis=0, weights=[cell.weight for cell in cells]))


def interval_over_items(compared: Comparison, judged: Collection[str]) -> Estimate | None:
    """The interval over items: between arms with seeds and templates resampled as crossed factors, None without templates;
    between cells that of these very models, seeds averaged item by item."""
    if compared.contrast.arm:
        return crossed_interval(compared, judged)
    pairs = next(iter(compared.pairs.values())).values()
    return over_items([a.of_headline() for a, _ in pairs], [b.of_headline() for _, b in pairs])


def crossed_interval(compared: Comparison, judged: Collection[str]) -> Estimate | None:
    """The difference with seeds and templates resampled, over the items that both sides answered in some cell of every seed,
    each item averaged over its cells (the judgement averages cells)."""
    probe = compared.probe
    if probe is None or probe.templates is None:
        return None
    mask = np.zeros(len(probe.items), dtype=bool)
    rows: dict[int, list[Array]] = defaultdict(list)
    for key, pairs in compared.pairs.items():
        parts = [part for name, part in probe.parts.items() if cell_name(compared.contrast, key, name) in judged]
        if not parts:
            continue
        inside = np.any(parts, axis=0)
        mask |= inside
        for seed, (ours, theirs) in pairs.items():
            rows[seed].append(np.where(inside, ours.values - theirs.values, np.nan))
    if not rows:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # items that no cell of a seed answered
        averaged = np.array([np.nanmean(rows[seed], axis=0) for seed in sorted(rows)])
    mask &= np.isfinite(averaged).all(axis=0)
    if not mask.any():
        return None
    templates = [template for template, on in zip(probe.templates, mask, strict=True) if on]
    return crossed_bootstrap(averaged[:, mask], templates, rng=np.random.default_rng(0))
