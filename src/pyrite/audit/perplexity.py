"""Is the data easier for a model than human data is, and less varied in how hard it is?

Measured on `extras.surprises`: the mean negative log-likelihood of each row's answer in nats per token, given its prompt
and alone. The measures compare the answers *given the prompt* where every measured row of the sample has one; otherwise
the answers alone, for all rows alike.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.family import Contrast, Draws, Extras, Floats, Measure
from pyrite.audit.rows import Row
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.perplexity import EncodedText as Tokens
from pyrite.models.perplexity import text_nlls
from pyrite.models.template import BETWEEN, render_chat
from pyrite.models.work import ReportProgress, distinct
from pyrite.records import Message

SHIFT = Measure(
    "perplexity",
    "shift",
    "Is the data easier for the model than the references?",
    "nats per token",
    "Replace the easiest answers: the model already writes them by itself.",
)
NARROWING = Measure(
    "perplexity",
    "narrowing",
    "Do the data's answers differ less in how hard they are?",
    "log variance ratio",
    "Add answers of other kinds, or sample them at a higher temperature.",
)
TAIL = Measure(
    "perplexity",
    "tail_loss",
    "Does the data lack the hard answers that people write?",
    "nats per token",
    "Keep rare and difficult answers; do not filter by likelihood.",
)
WASSERSTEIN = Measure(
    "perplexity",
    "wasserstein",
    "How far is the distribution of perplexity from the references'?",
    "nats per token",
    "Mix human answers in, so that easy and hard rows occur as often as they do there.",
)
DIFFICULTY = Measure(
    "perplexity",
    "instruction_difficulty",
    "Do the instructions give more of the answer away?",
    "ratio",
    "Choose rows with a higher instruction-following difficulty.",
)
MEASURES = (SHIFT, NARROWING, TAIL, WASSERSTEIN, DIFFICULTY)

PROMPTED, ALONE = "with_prompt", "without_prompt"
CUT = (0.05, 0.95)
"""Quantiles of the pooled values at which values are clipped, where one odd row could otherwise decide."""
TAIL_AT = 0.95
CHARACTERS = 32
"""A text is read up to so many characters for each token: a row of 100 MB is cut before the tokenizer sees it."""


def contrasts(rows: Sequence[Row], extras: Extras) -> list[Contrast]:
    """The measures that can be taken: none without surprises, instruction difficulty only where rows have prompts."""
    if extras.surprises is None:
        return []
    made = []
    values = compared(extras.surprises, len(rows))[1]
    measured = np.flatnonzero(np.isfinite(values))
    if len(measured) >= 2:
        places = measured.tolist()
        made += [
            Contrast(SHIFT, mean_loss(values), places),
            Contrast(NARROWING, narrowing(values), places),
            Contrast(TAIL, tail_loss(values), places),
            Contrast(WASSERSTEIN, wasserstein(values), places),
        ]
    ratios = difficulty(extras.surprises, len(rows))
    prompted = np.flatnonzero(np.isfinite(ratios))
    if len(prompted) >= 2:
        made.append(Contrast(DIFFICULTY, mean_loss(winsorised(ratios)), prompted.tolist()))
    return made


def compared(told: Mapping[str, Floats], count: int) -> tuple[str, Floats]:
    """Which of the two is compared, and its values [rows]: given the prompt, if every measured row has one."""
    alone, prompted = column(told, ALONE, count), column(told, PROMPTED, count)
    measured = np.isfinite(alone)
    usable = np.isfinite(prompted)
    if usable.any() and not (measured & ~usable).any():
        return PROMPTED, prompted
    return ALONE, alone


def column(told: Mapping[str, Floats], name: str, count: int) -> Floats:
    """One kind of surprise [rows], nan where it was not measured."""
    if name not in told:
        return np.full(count, np.nan)
    values = np.asarray(told[name], dtype=np.float64)
    if len(values) != count:
        raise ValueError(f"{len(values)} values {name} for {count} rows")
    return values


def difficulty(told: Mapping[str, Floats], count: int) -> Floats:
    """Instruction-following difficulty of each row: the answer's loss given the prompt over its loss alone (Li et al.
    2024, "From Quantity to Quality", equation 3); nan where a row has no prompt or its answer is certain anyway."""
    alone, prompted = column(told, ALONE, count), column(told, PROMPTED, count)
    made: Floats = np.divide(prompted, alone, out=np.full(count, np.nan), where=alone > 1e-6)
    return made


def winsorised(values: Floats) -> Floats:
    """Values clipped at the 5 % and 95 % quantiles of all (the groups pooled), so that one odd row does not decide."""
    low, high = np.nanquantile(values, CUT)
    clipped: Floats = np.clip(values, low, high)
    return clipped


def mean_loss(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The mean of b less the mean of a."""
    filled = centred(values)

    def statistic(a: Draws, b: Draws) -> Floats:
        made: Floats = b @ filled / b.sum(1) - a @ filled / a.sum(1)
        return made

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
        made: Floats = np.maximum(square - mean**2, 0) + least
        return made

    return lambda a, b: np.log(variance(b) / variance(a))


def in_order(values: Floats) -> Callable[[Draws], Floats]:
    """Each group's values in rising order [draws, rows of the group]; sorted once for all groups."""
    order = np.argsort(values, kind="stable")
    rising = values[order]

    def sort(group: Draws) -> Floats:
        places = np.nonzero(group[:, order])[1]
        made: Floats = rising[places].reshape(len(group), -1)
        return made

    return sort


def tail_loss(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The 95 % quantile of b less that of a (linear between values, as numpy's)."""
    sort = in_order(values)

    def quantile(group: Draws) -> Floats:
        rising = sort(group)
        at = TAIL_AT * (rising.shape[1] - 1)
        low = int(at)
        high = min(low + 1, rising.shape[1] - 1)
        made: Floats = rising[:, low] + (at - low) * (rising[:, high] - rising[:, low])
        return made

    return lambda a, b: quantile(b) - quantile(a)


def wasserstein(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The Wasserstein-1 distance of two groups of equal size: the mean difference of their values in rising order."""
    sort = in_order(values)

    def statistic(a: Draws, b: Draws) -> Floats:
        made: Floats = np.abs(sort(a) - sort(b)).mean(1)
        return made

    return statistic


def marks(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, np.ndarray[Any, Any]]:
    """How much easier is each row than the easiest 1 % of the references? 0.5 at that bound, 1 at no surprise at all.

    Only rows of the sample are marked: no others were measured.
    """
    made = {}
    for name, rule in rules.items():
        if name != SHIFT.name:
            continue
        strengths = dict(zip(rule["numbers"], rule["strengths"], strict=True))
        made[name] = np.array([strengths.get(row.number, 0.0) for row in rows], dtype=np.float32)
    return made


def measure_surprises(
    model_folder: Path, rows: Sequence[Row], *, compute: Compute, max_tokens: int = 256, report_progress: ReportProgress
) -> dict[str, Floats]:
    """How surprising is each row's answer to a causal model? {"with_prompt", "without_prompt"}: nats per token [rows].

    The prompt is opened by the model's chat template, where it has one, and the answer's tokens follow: the same tokens,
    cut off at the same place, with the prompt and without. What the template puts after an answer does not count
    (`pyrite.models.perplexity.encode` counts it): an end marker would weigh most in the shortest answers. Read are the
    first `max_tokens` tokens of the answer after the last `max_tokens` of the prompt. Without a prompt the answer follows
    only what the tokenizer puts at the beginning of any text; where that is nothing, its first token is not counted.
    nan: no prompt, or no token to count. bf16 where `compute` says so.

    Raises:
        UserError: the folder holds no causal model, or the chat template refuses a plain question.
    """
    tokenizer = load.load_tokenizer(model_folder)
    model, compute = load.for_generation(load.load_causal(model_folder, compute), compute)
    longest = load.longest_input(model) or 2 * max_tokens + 1
    room = max(2, min(max_tokens, (longest - 1) // 2))
    unique, numbers = distinct((row.prompt, row.answer) for row in rows)
    names = {(row.prompt, row.answer): f"row {row.id}" for row in reversed(rows)}
    pieces = [tokens(tokenizer, prompt, answer, room, names[prompt, answer]) for prompt, answer in unique]
    pieces += [tokens(tokenizer, "", answer, room, names[prompt, answer]) for prompt, answer in unique]
    with compute.autocast():
        found = text_nlls(model, pieces, max_tokens=2 * room + 1, report_progress=report_progress)
    nats = np.array([one.nats / one.tokens if one.tokens else np.nan for one in found], dtype=np.float64)
    prompted = np.where([bool(prompt) for prompt, _ in unique], nats[: len(unique)], np.nan)
    return {PROMPTED: prompted[numbers], ALONE: nats[len(unique) :][numbers]}


def tokens(tokenizer: Any, prompt: str, answer: str, room: int, where: str) -> Tokens:
    """A question with its answer, or an answer alone, as the model reads it: only the answer's tokens count."""
    before = beginning(tokenizer)
    if prompt:
        opened = render_chat(
            tokenizer, [Message("user", clean(prompt[-CHARACTERS * room :]))], opened=True, row_name=where
        )
        text = opened if tokenizer.chat_template else opened + BETWEEN
        told = tokenizer(text, add_special_tokens=False)["input_ids"][-room:]
        before = told if tokenizer.chat_template else before + told
    ids = tokenizer(clean(answer[: CHARACTERS * room]), add_special_tokens=False)["input_ids"][:room]
    counted = [False] * len(before) + [True] * len(ids)
    return Tokens([*before, *ids], counted, [0] * len(counted))


def beginning(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before any text."""
    made: list[int] = tokenizer("")["input_ids"]
    return made[:1] if made[:1] == [tokenizer.bos_token_id] else []


def clean(text: str) -> str:
    """Halves of surrogate pairs, which no tokenizer reads, become '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")
