"""Statistics of token counts: over-use, the slope over ranks, the density over ids. Pure functions of counts."""

from typing import Any

import numpy as np

from pyrite.audit.flaw import Floats

Array = np.ndarray[Any, Any]
RANKS = (10, 1000)
Z_RULE = 3.0
"""With the pooled counts as prior, z has a standard deviation of 0.58 under the null, so 3 is five of them."""


def log_odds(ours: Array, theirs: Array, all_ours: Any, all_theirs: Any) -> Array:
    """How far each token is over-used, as a z-score.

    Log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, "Fightin' Words", eq. 16, 20
    and 22). The counts are rows that hold the token, so that one odd row cannot make a score, and the prior is the
    pooled counts. ours, theirs: [tokens, …]; all_ours, all_theirs: their sums over all tokens [...]. 0 where no row
    holds the token. Under the null its standard deviation is 1 / sqrt(3), since the prior counts each row twice.
    """
    prior = ours + theirs
    safe = np.where(prior > 0, prior, 1)
    every = all_ours + all_theirs
    up, down = ours + safe, theirs + safe
    ratio = np.log(up / (all_ours + every - up + 1e-9)) - np.log(down / (all_theirs + every - down + 1e-9))
    return np.where(prior > 0, ratio / np.sqrt(1 / up + 1 / down), 0)


def at_equal_rows(ours: Array, theirs: Array, n_ours: int, n_theirs: int) -> Array:
    """`log_odds` [tokens] as if the larger side had as many rows as the smaller: its counts would make up the prior."""
    n = min(n_ours, n_theirs)
    mine, theirs_at_n = ours * (n / max(n_ours, 1)), theirs * (n / max(n_theirs, 1))
    return log_odds(mine, theirs_at_n, mine.sum(), theirs_at_n.sum())


def slope(counts: Array) -> Floats:
    """The slope of log frequency over log rank (Zipf's law: about -1), for each line of counts [lines, tokens].

    Least squares over 40 ranks from 10 to 1000, evenly spaced in their logarithm; ranks without a token are left out,
    and a line with fewer than two ranks has slope 0.
    """
    high = min(RANKS[1], counts.shape[1])
    ranks = np.unique(np.geomspace(min(RANKS[0], high), high, 40).round().astype(int)) if high else np.empty(0, int)
    commonest = np.sort(np.partition(counts, -high, axis=1)[:, -high:], axis=1) if high else counts
    y = commonest[:, high - ranks].astype(np.float64)
    used = (y > 0).astype(np.float64)
    n = np.maximum(used.sum(axis=1), 1)
    x, y = np.log(np.maximum(ranks, 1))[None, :], np.log(np.maximum(y, 1))
    away = (x - ((used * x).sum(axis=1) / n)[:, None]) * used
    squares = (away * away).sum(axis=1)
    return np.where(squares > 0, (away * y).sum(axis=1) / np.maximum(squares, 1e-12), 0.0)


def id_density(histogram: Array, grid: Floats) -> Floats:
    """The density of occurrences over token ids: a Gaussian kernel density estimate at the points of the grid.

    What `scipy.stats.gaussian_kde` gives for every occurrence as a point of its own, with Scott's bandwidth (standard
    deviation times n^(-1/5), n occurrences), computed from the histogram. Zeros where there is no spread.
    """
    ids = np.flatnonzero(histogram)
    weights = histogram[ids].astype(np.float64)
    n = weights.sum()
    if len(ids) < 2:
        return np.zeros(len(grid))
    mean = (weights * ids).sum() / n
    width = float(np.sqrt((weights * (ids - mean) ** 2).sum() / (n - 1)) * n ** (-1 / 5))
    heights = [np.exp(-0.5 * ((at - ids) / width) ** 2) @ weights for at in grid]
    return np.asarray(np.array(heights) / (n * width * np.sqrt(2 * np.pi)), dtype=np.float64)
