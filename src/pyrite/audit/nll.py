"""How surprising answers are to a causal model: the mean negative log-likelihood of each, with its prompt and alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Floats
from pyrite.audit.rows import Row
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.perplexity import EncodedText as Tokens
from pyrite.models.perplexity import text_nlls
from pyrite.models.template import BETWEEN, render_chat
from pyrite.models.work import ReportProgress, unique_rows
from pyrite.records import Message

PROMPTED, ALONE = "with_prompt", "without_prompt"
CHARACTERS = 32
"""A text is read up to so many characters for each token: a row of 100 MB is cut before the tokenizer sees it."""


def answer_nll(
    model_folder: Path, rows: Sequence[Row], *, compute: Compute, max_tokens: int = 256, report_progress: ReportProgress
) -> dict[str, Floats]:
    """The mean negative log-likelihood of each row's answer to a causal model: {"with_prompt", "without_prompt"}: nats
    per token [rows].

    The prompt is opened by the model's chat template, where it has one, and the answer's tokens follow: the same
    tokens, cut off at the same place, with the prompt and without. What the template puts after an answer does not
    count (`pyrite.models.perplexity.encode` counts it): an end marker would weigh most in the shortest answers. Read
    are the first `max_tokens` tokens of the answer after the last `max_tokens` of the prompt. Without a prompt the
    answer follows only what the tokenizer puts at the beginning of any text; where that is nothing, its first token is
    not counted. nan: no prompt, or no token to count. bf16 where `compute` says so.

    Raises:
        UserError: the folder holds no causal model, or the chat template refuses a plain question.
    """
    tokenizer = load.load_tokenizer(model_folder)
    model, compute = load.for_generation(load.load_causal(model_folder, compute), compute)
    longest = load.longest_input(model) or 2 * max_tokens + 1
    room = max(2, min(max_tokens, (longest - 1) // 2))
    unique, numbers = unique_rows((row.prompt, row.answer) for row in rows)
    names = {(row.prompt, row.answer): f"row {row.id}" for row in reversed(rows)}
    pieces = [tokens_of(tokenizer, prompt, answer, room, names[prompt, answer]) for prompt, answer in unique]
    pieces += [tokens_of(tokenizer, "", answer, room, names[prompt, answer]) for prompt, answer in unique]
    with compute.autocast():
        losses = text_nlls(model, pieces, max_tokens=2 * room + 1, report_progress=report_progress)
    nats = np.array([loss.nats / loss.tokens if loss.tokens else np.nan for loss in losses], dtype=np.float64)
    prompted = np.where([bool(prompt) for prompt, _ in unique], nats[: len(unique)], np.nan)
    return {PROMPTED: prompted[numbers], ALONE: nats[len(unique) :][numbers]}


def tokens_of(tokenizer: Any, prompt: str, answer: str, room: int, where: str) -> Tokens:
    """A question with its answer, or an answer alone, as the model reads it: only the answer's tokens count."""
    before = beginning(tokenizer)
    if prompt:
        opened = render_chat(
            tokenizer, [Message("user", well_formed_text(prompt[-CHARACTERS * room :]))], opened=True, row_name=where
        )
        text = opened if tokenizer.chat_template else opened + BETWEEN
        prompt_ids = tokenizer(text, add_special_tokens=False)["input_ids"][-room:]
        before = prompt_ids if tokenizer.chat_template else before + prompt_ids
    ids = tokenizer(well_formed_text(answer[: CHARACTERS * room]), add_special_tokens=False)["input_ids"][:room]
    counted = [False] * len(before) + [True] * len(ids)
    return Tokens([*before, *ids], counted, [0] * len(counted))


def beginning(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before any text."""
    ids: list[int] = tokenizer("")["input_ids"]
    return ids[:1] if ids[:1] == [tokenizer.bos_token_id] else []


def well_formed_text(text: str) -> str:
    """Halves of surrogate pairs, which no tokenizer reads, become '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")
