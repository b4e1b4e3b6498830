"""Perplexity of answers: how much easier they are for a model than human ones, and how much less they differ in it.

Measured on `extras.nll`: the mean negative log-likelihood of each row's answer in nats per token, given its prompt
and alone. The measures compare the answers *given the prompt* where every measured row of the sample has one; otherwise
the answers alone, for all rows alike.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import WITH_PROMPT, WITHOUT_PROMPT, Difference, Draws, Extras, Floats, Statistic, without_answers
from pyrite.audit.rows import Row

SHIFT = Statistic(
    "perplexity",
    "shift",
    "Is the data easier for the model than the references?",
    "nats per token",
    "Read the easiest rows, and judge them by what they say: easy answers alone do no harm, and models that were trained on "
    "them forgot less (arXiv 2501.14315).",
)
NARROWING = Statistic(
    "perplexity",
    "narrowing",
    "Do the data's answers differ less in how hard they are?",
    "log variance ratio",
    "Add answers of other kinds, or sample them at a higher temperature.",
)
TAIL = Statistic(
    "perplexity",
    "tail_loss",
    "Does the data lack the hard answers that people write?",
    "nats per token",
    "Keep rare and difficult answers: where models learn from models, these are lost first (arXiv 2305.17493).",
)
WASSERSTEIN = Statistic(
    "perplexity",
    "wasserstein",
    "How far is the distribution of perplexity from the references'?",
    "nats per token",
    "Mix human answers in where easy and hard rows should be as frequent as people's; the distance alone is no harm.",
)
DIFFICULTY = Statistic(
    "perplexity",
    "instruction_difficulty",
    "Do the instructions give more of the answer away?",
    "ratio",
    "Read the rows whose prompts give most away; where fewer rows will do, those of a higher difficulty taught more "
    "(arXiv 2308.12032).",
)
STATISTICS = (SHIFT, NARROWING, TAIL, WASSERSTEIN, DIFFICULTY)

CUT = (0.05, 0.95)
"""Quantiles of the pooled values at which values are clipped, where one odd row could otherwise decide."""
TAIL_AT = 0.95


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """The measures that can be taken: none where no answer was read, instruction difficulty only where rows have
    prompts."""
    if extras.nll is None:
        return []
    measurable = []
    values = compared_nll(extras.nll, len(rows))[1]
    measured = np.flatnonzero(np.isfinite(values))
    if len(measured) >= 2:
        places = measured.tolist()
        measurable += [
            Difference(SHIFT, mean_loss(values), places),
            Difference(NARROWING, narrowing(values), places),
            Difference(TAIL, tail_loss(values), places),
            Difference(WASSERSTEIN, wasserstein(values), places),
        ]
    ratios = difficulty(extras.nll, len(rows))
    prompted = np.flatnonzero(np.isfinite(ratios))
    if len(prompted) >= 2:
        measurable.append(Difference(DIFFICULTY, mean_loss(winsorised(ratios)), prompted.tolist()))
    return measurable


def compared_nll(nll: Mapping[str, Floats], count: int) -> tuple[str, Floats]:
    """Which of the two is compared, and its values [rows]: given the prompt, if every measured row has one."""
    alone, prompted = column(nll, WITHOUT_PROMPT, count), column(nll, WITH_PROMPT, count)
    measured = np.isfinite(alone)
    usable = np.isfinite(prompted)
    if usable.any() and not (measured & ~usable).any():
        return WITH_PROMPT, prompted
    return WITHOUT_PROMPT, alone


def column(nll: Mapping[str, Floats], name: str, count: int) -> Floats:
    """One kind of likelihood [rows], nan where it was not measured."""
    if name not in nll:
        return np.full(count, np.nan)
    values = np.asarray(nll[name], dtype=np.float64)
    if len(values) != count:
        raise ValueError(f"{len(values)} values {name} for {count} rows")
    return values


def difficulty(nll: Mapping[str, Floats], count: int) -> Floats:
    """Instruction-following difficulty of each row: the answer's loss given the prompt over its loss alone (Li et al.
    2024, "From Quantity to Quality", equation 3); nan where a row has no prompt or its answer is certain anyway."""
    alone, prompted = column(nll, WITHOUT_PROMPT, count), column(nll, WITH_PROMPT, count)
    ratios: Floats = np.divide(prompted, alone, out=np.full(count, np.nan), where=alone > 1e-6)
    return ratios


def winsorised(values: Floats) -> Floats:
    """Values clipped at the 5 % and 95 % quantiles of all (the groups pooled), so that one odd row does not decide."""
    low, high = np.nanquantile(values, CUT)
    clipped: Floats = np.clip(values, low, high)
    return clipped


def mean_loss(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The mean of b less the mean of a."""
    filled = centred(values)

    def statistic(a: Draws, b: Draws) -> Floats:
        differences: Floats = b @ filled / b.sum(1) - a @ filled / a.sum(1)
        return differences

    return statistic


def centred(values: Floats) -> Floats:
    """Less the mean; 0 where nothing was measured (such rows are in no group)."""
    return np.nan_to_num(values - np.nanmean(values))


def narrowing(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The log of the variance of b over that of a, values clipped at the pooled 5 % and 95 % quantiles."""
    filled = centred(winsorised(values))
    powers = np.stack([filled, filled**2], axis=1)
    least = 1e-6 * float(filled.var()) + 1e-12

    def variance(group: Draws) -> Floats:
        mean, square = (group @ powers / group.sum(1)[:, None]).T
        variances: Floats = np.maximum(square - mean**2, 0) + least
        return variances

    return lambda a, b: np.log(variance(b) / variance(a))


def in_order(values: Floats) -> Callable[[Draws], Floats]:
    """Each group's values in rising order [draws, rows of the group]; sorted once for all groups."""
    order = np.argsort(values, kind="stable")
    rising = values[order]

    def sort(group: Draws) -> Floats:
        places = np.nonzero(group[:, order])[1]
        rising_values: Floats = rising[places].reshape(len(group), -1)
        return rising_values

    return sort


def tail_loss(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The 95 % quantile of b less that of a (linear between values, as numpy's)."""
    sort = in_order(values)

    def quantile(group: Draws) -> Floats:
        rising = sort(group)
        at = TAIL_AT * (rising.shape[1] - 1)
        low = int(at)
        high = min(low + 1, rising.shape[1] - 1)
        quantiles: Floats = rising[:, low] + (at - low) * (rising[:, high] - rising[:, low])
        return quantiles

    return lambda a, b: quantile(b) - quantile(a)


def wasserstein(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The Wasserstein-1 distance of two groups of equal size: the mean difference of their values in rising order."""
    sort = in_order(values)

    def statistic(a: Draws, b: Draws) -> Floats:
        distances: Floats = np.abs(sort(a) - sort(b)).mean(1)
        return distances

    return statistic


def flag_scores(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, np.ndarray[Any, Any]]:
    """How much easier each row is than the easiest 1 % of the references: 0.5 at that bound, 1 at no surprise at all.

    Only rows of the sample are marked: no others were measured.
    """
    scores = {}
    for name, rule in rules.items():
        if name != SHIFT.name:
            continue
        strengths = dict(zip(rule["numbers"], rule["strengths"], strict=True))
        scores[name] = np.array([strengths.get(row.number, 0.0) for row in rows], dtype=np.float32)
    return scores


def lacking_prompts(rows: Sequence[Row], extras: Extras) -> dict[str, str]:
    """What keeps these rows from being measured: no answers, or no prompts."""
    why = dict(without_answers(STATISTICS)(rows, extras))
    if sum(bool(row.whole_prompt) for row in rows) < 2:
        why.setdefault(DIFFICULTY.name, "fewer than two rows have a prompt")
    return why
