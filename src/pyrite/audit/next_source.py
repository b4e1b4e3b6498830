"""A prediction of what the next human source would show, from the references, and from a table of human sources.

People differ from people. Before data is called flawed for being far from the references, we ask how far one more human
source would lie from them. Each reference in turn is compared with the others (leave one source out); the distances of
K sources predict the next one. With few sources that says little, so the table that comes with Pyrite stands beside
them: how far 77 public human sources of 17 genres lie apart, measure by measure, at 50, 100 and 150 rows. The
table's mean counts as one more source (`MEAN_WORTH`), its spread as ten (`SPREAD_WORTH`): a normal-inverse-gamma prior,
whose prediction has the centre

    (m0 + K m) / (1 + K)    with the variance    (10 s0^2 + (K - 1) s^2 + K / (1 + K) (m - m0)^2) / (10 + K) * (1 + 1 /
    (1 + K))

for table mean and spread m0, s0 and the sources' own m, s (Murphy 2007, "Conjugate Bayesian analysis of the Gaussian
distribution", section 3). Distances between human sources have heavy tails, so no normal quantile is put on top: the
table also holds the limit, in units of that spread, that the largest of an audit's measures crossed in one of twenty
audits of a human source (`tools/human_sources.py`). So a *fail* says: fewer than one human source of twenty would show
any of these.

Without the table the prediction is Student's, of K distances (K - 1 degrees of freedom, Bonferroni over the audit's
measures), and needs five sources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from scipy import special

TABLE = Path(__file__).with_name("human_sources.json")
MEAN_WORTH = 1.0
SPREAD_WORTH = 10.0
FEWEST = 5
"""Human sources that a prediction needs without the table."""
TASK_TOLERANCE = 0.02
TASK_CLEAR = 0.05
TASK_ALONE = 0.4
"""Of prompts, as AUC above 0.5: how far below the answers' they may lie; how far beyond the references' own they must
lie; and, beside one reference, what they must reach."""


@dataclass(frozen=True, slots=True)
class Prior:
    """How far human sources lie from others, by one measure at one number of rows: mean and spread over the table."""

    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class NextSource:
    """What the next human source would show: the `centre`, and the `high` that fewer than one of twenty audits of a
    human source crosses in any measure. `sources` human sources of the audit's own stand behind it, and the table or
    not. `at_end`: it lies at the end of the measure's scale, so that nothing can lie beyond it."""

    centre: float
    high: float
    sources: int
    table: bool
    at_end: bool = False


@lru_cache(maxsize=1)
def source_table() -> Mapping[str, Any]:
    """The table of human sources: `measures` (name -> rows -> mean, spread, audits), `limits`, `sources`,
    `definitions` (name -> that of its statistic)."""
    values: Mapping[str, Any] = orjson.loads(TABLE.read_bytes())
    return values


def prior_of(measure: str, n: int) -> Prior | None:
    """The table's entry for a measure at n rows on each side; None where it has none."""
    entry = source_table()["measures"].get(measure, {}).get(str(n))
    return None if entry is None else Prior(entry["mean"], entry["spread"])


def definition_in_table(measure: str) -> int | None:
    """By which definition (`Statistic.definition`) the table holds a measure; None where it does not hold it."""
    definition: int | None = source_table()["definitions"].get(measure)
    return definition


def sizes_of(measure: str) -> tuple[int, ...]:
    """The numbers of rows at which the table holds a measure, smallest first; empty where it does not hold it."""
    return tuple(sorted(map(int, source_table()["measures"].get(measure, {}))))


def limit_of(sources: int) -> float:
    """How many spreads above the centre a *fail* lies, beside so many sources: of the largest number in the table that
    is not above it."""
    limits = {int(count): value for count, value in source_table()["limits"].items()}
    return float(limits[max(count for count in limits if count <= max(1, sources))])


def within_scale(prediction: NextSource | None, ceiling: float | None) -> NextSource | None:
    """The prediction, cut at what the measure can be at most."""
    if prediction is None or ceiling is None or prediction.high < ceiling:
        return prediction
    return replace(prediction, high=ceiling, at_end=True)


def predict(
    distances: Sequence[float],
    prior: Prior | None,
    *,
    n: int,
    measures: int,
    limit: float | None = None,
    alpha: float = 0.05,
) -> NextSource | None:
    """The prediction of what the next human source would show; None where too little is known.

    `distances` [K] are those of the references, each from the others at n rows on each side (none where there is one
    source); `measures` counts those of the audit; `limit` is that of `limit_of`, with a prior.
    """
    x = np.asarray(distances, dtype=np.float64)
    k = x.size
    if prior is not None and limit is not None:
        centre, spread = posterior(x, prior, n)
        return NextSource(centre, centre + limit * spread, max(1, k), True)
    if k < FEWEST:
        return None
    spread = float(x.std(ddof=1) * (1 + 1 / k) ** 0.5)
    quantile = float(special.stdtrit(k - 1, 1 - alpha / max(1, measures)))
    return NextSource(float(x.mean()), float(x.mean()) + quantile * max(spread, 1 / n), k, False)


def posterior(x: np.ndarray[Any, Any], prior: Prior, n: int) -> tuple[float, float]:
    """Centre and spread of the prediction from a prior and the references' distances [K]: the prior's own where K = 0.
    The spread is at least one row of n."""
    k = x.size
    if k == 0:
        return prior.mean, max(prior.spread, 1 / n)
    mean = float(x.mean())
    centre = (MEAN_WORTH * prior.mean + k * mean) / (MEAN_WORTH + k)
    squares = float(((x - mean) ** 2).sum())
    apart = MEAN_WORTH * k / (MEAN_WORTH + k) * (mean - prior.mean) ** 2
    variance = (SPREAD_WORTH * prior.spread**2 + squares + apart) / (SPREAD_WORTH + k)
    return centre, max(float((variance * (1 + 1 / (MEAN_WORTH + k))) ** 0.5), 1 / n)


def another_task(prompts: Mapping[str, Any] | None, answers: Mapping[str, Any] | None) -> str:
    """What says that the data is of another task than the references; empty where it is not, or cannot be told.

    Both are what `Between` holds of the AUC above 0.5 of a classifier of prompts, and of answers. Prompts that can be
    told from the references' as well as the answers can, and better than the references' own from each other, say that
    something else was asked; then far answers are no flaw."""
    if not prompts or not answers:
        return ""
    theirs, of_data = list(prompts["distances"].values()), float(prompts["value_of_data"])
    least = max(theirs) + TASK_CLEAR if theirs else TASK_ALONE
    if of_data < float(answers["value_of_data"]) - TASK_TOLERANCE or of_data <= least:
        return ""
    among = f", those of the references from each other with at most {0.5 + max(theirs):.2f}" if theirs else ""
    auc = f"{0.5 + of_data:.2f}"
    return (
        f"the data is of another task than the references: its prompts can be told from theirs with an AUC of {auc}"
        f"{among}, its answers with {0.5 + float(answers['value_of_data']):.2f}"
    )
