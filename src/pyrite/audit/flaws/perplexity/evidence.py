"""What shows that the data is easier for a model: densities, quantiles, the easiest rows, the answers that are
missing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyrite.audit.flaw import WITH_PROMPT, WITHOUT_PROMPT, Evidence, Extras, Floats, Population
from pyrite.audit.flaws.perplexity.statistics import (
    DIFFICULTY,
    NARROWING,
    SHIFT,
    TAIL,
    TAIL_AT,
    WASSERSTEIN,
    compared_nll,
    difficulty,
)
from pyrite.audit.rows import Row
from pyrite.audit.wording import excerpt, percent

SAYS = {WITH_PROMPT: "answers given their prompts", WITHOUT_PROMPT: "answers without their prompts"}
EASY = 0.01
"""Rows easier than this quantile of the references are flagged."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
GRID = 128


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """What shows a finding: densities on one grid, quantiles, and the rows at fault. Likelihoods are those of the data,
    then of the references in their order. Rows are the easiest for the model; for narrowing those nearest to the data's
    median; none for the lost tail, whose examples are the references' and stand in the lines."""
    people = [row for population in references.values() for row in population.rows]
    if extras.nll is None:
        return Evidence()
    count = len(data.rows) + len(people)
    name, values = compared_nll(extras.nll, count)
    if measure == DIFFICULTY.name:
        name, values = DIFFICULTY.name, difficulty(extras.nll, count)
    ours, human = values[: len(data.rows)], values[len(data.rows) :]
    finite_nats, human_nats = ours[np.isfinite(ours)], human[np.isfinite(human)]
    if not len(finite_nats):
        return Evidence()
    numbers: dict[str, Any] = {
        "compared": name,
        **nats_densities(finite_nats, human_nats),
        "quantiles": quantiles(finite_nats, human_nats),
    }
    lines = [summary(measure, name, finite_nats, human_nats)]
    strength = -np.abs(ours - np.median(finite_nats)) if measure == NARROWING.name else -ours
    order = np.argsort(-strength, kind="stable")[: len(finite_nats)]
    if measure == TAIL.name:
        lines += tail_lines(people, human, finite_nats)
        return Evidence(tuple(lines), (), numbers)
    lines += [f"{ours[at]:.2f}: “{excerpt(data.rows[at].answer)}”" for at in order[:3]]
    rule = None
    if measure == SHIFT.name and len(human_nats):
        below = float(np.quantile(human_nats, EASY))
        easy = np.flatnonzero(ours <= below).tolist()  # nan is not
        marked = [data.rows[at].number for at in easy]
        rule = {"numbers": marked, "strengths": (1 - 0.5 * ours[easy] / max(below, 1e-9)).tolist()}
        share = float((finite_nats <= below).mean())
        lines.insert(1, f"{percent(share)} of the data is easier than 99 % of the references")
    return Evidence(tuple(lines), tuple(data.rows[at].number for at in order[:20]), numbers, rule)


def summary(measure: str, name: str, nats: Floats, human_nats: Floats) -> str:
    """The one line that says how the data and the references differ."""
    low, middle, high = np.quantile(nats, (0.05, 0.5, 0.95))
    if measure == DIFFICULTY.name:
        line = f"with the instruction, an answer keeps {percent(float(nats.mean()))} of its loss"
        return line + (f" (references {percent(float(human_nats.mean()))})" if len(human_nats) else "")
    if measure in (SHIFT.name, WASSERSTEIN.name):
        line = f"{SAYS[name]} cost {nats.mean():.2f} nats per token"
        return line + (f" (references {human_nats.mean():.2f})" if len(human_nats) else f", median {middle:.2f}")
    line = f"nine in ten of the {SAYS[name]} cost between {low:.2f} and {high:.2f} nats per token"
    return line + (
        " (references {:.2f} and {:.2f})".format(*np.quantile(human_nats, (0.05, 0.95))) if len(human_nats) else ""
    )


def tail_lines(people: Sequence[Row], human: Floats, nats: Floats) -> list[str]:
    """Reference answers that are harder than nearly all of the data."""
    if not np.isfinite(human).any():
        return []
    bound = float(np.quantile(nats, TAIL_AT))
    hard = np.flatnonzero(np.nan_to_num(human, nan=-np.inf) > bound)
    share = len(hard) / np.isfinite(human).sum()
    lines = [f"{percent(share)} of the references are harder than 95 % of the data"]
    middle = hard[np.argsort(human[hard], kind="stable")][len(hard) // 2 :][:2]  # the hardest of all are often broken
    return lines + [f"missing, say: {human[at]:.2f}: “{excerpt(people[at].answer)}”" for at in middle]


def nats_densities(nats: Floats, human_nats: Floats) -> dict[str, Any]:
    """Gaussian kernel densities on a grid over the middle 99 % of all values, bandwidth by Silverman's rule."""
    pooled = np.concatenate([nats, human_nats])
    low, high = np.quantile(pooled, (0.005, 0.995))
    room = 0.1 * (high - low) + 1e-3
    grid = np.linspace(max(0.0, low - room), high + room, GRID)
    curves = {"grid": grid.tolist(), "data": nats_density(nats, grid)}
    return curves | ({"references": nats_density(human_nats, grid)} if len(human_nats) else {})


def nats_density(values: Floats, grid: Floats) -> list[float]:
    """One density on the grid."""
    spread = min(values.std(), (np.quantile(values, 0.75) - np.quantile(values, 0.25)) / 1.34) or values.std()
    width = max(0.9 * spread * len(values) ** -0.2, float(grid[1] - grid[0]))
    bumps = np.exp(-0.5 * ((grid[:, None] - values[None]) / width) ** 2)
    heights: list[float] = (bumps.mean(1) / (width * np.sqrt(2 * np.pi))).tolist()
    return heights


def quantiles(nats: Floats, human_nats: Floats) -> dict[str, Any]:
    """Quantiles of both."""
    levels = {"levels": list(QUANTILES), "data": np.quantile(nats, QUANTILES).tolist()}
    return levels | ({"references": np.quantile(human_nats, QUANTILES).tolist()} if len(human_nats) else {})
