"""A loaded model writes answers to prompts, each one to disk as it is finished."""

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pyrite.errors import OutOfTime, UserError
from pyrite.models.answers import Answer, AnswerFile, Writing, check_ids
from pyrite.models.load import longest_input
from pyrite.models.template import opening_ids, render_chat
from pyrite.records import Chat
from pyrite.thoughts import MARKERS, open_marker

ReportProgress = Callable[[float, float, str], None]

TAIL = 24
"""Stop strings are looked for in the last so many tokens, plus the stop strings' own length in bytes."""


def opened_prompt(
    tokenizer: Any, prompt: Chat, template_kwargs: Mapping[str, Any] | None = None
) -> tuple[str, list[int]]:
    """The prompt as the model reads it, the answer opened: its text and token ids. A chat template brings its own special
    tokens; before plain text stands the tokenizer's first."""
    text = render_chat(
        tokenizer, prompt.messages, opened=True, row_name=f"prompt {prompt.id}",
        tools=prompt.meta.get("tools"), template_kwargs=template_kwargs,
    )  # fmt: skip
    ids: list[int] = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return text, ids if tokenizer.chat_template else opening_ids(tokenizer) + ids


def written_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """What a model wrote, without special tokens but for those that stand around a thought."""
    markers = {token: text for token, text in special_markers(tokenizer).items() if token in ids}
    if not markers:
        return str(tokenizer.decode(ids, skip_special_tokens=True))
    parts, start = [], 0
    for at, token in enumerate(ids):
        if token in markers:
            parts += [tokenizer.decode(ids[start:at], skip_special_tokens=True), markers[token]]
            start = at + 1
    return "".join([*parts, tokenizer.decode(ids[start:], skip_special_tokens=True)])


def special_markers(tokenizer: Any) -> dict[int, str]:
    """The special tokens that stand around a thought, by id."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {number: str(token) for number, token in added.items() if token.special and str(token) in MARKERS}


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the tokenizer's end marker and those of the model's generation settings."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    return sorted({tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None})


def seed_of(seed: int, prompt: str, attempt: int) -> list[int]:
    """A prompt's own seed: the same whatever else is asked, and another one for every attempt."""
    return [seed, int.from_bytes(sha256(prompt.encode()).digest()[:8], "big"), attempt]


def cut_at(text: str, stops: Sequence[str]) -> str | None:
    """The text before the first stop string; None where none occurs."""
    places = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return text[: min(places)] if places else None


def answer_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Chat],
    writing: Writing,
    out: Path,
    *,
    attempt: int = 0,
    temperatures: Mapping[str, float] | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
    report_progress: ReportProgress,
    expired: Callable[[], bool] = lambda: False,
    rows: int | None = None,
) -> dict[str, Any]:
    """Answer every prompt that `out` (an `AnswerFile`) does not hold yet; returns what it took.

    `answers`, `tokens` and `capped` (answers with less room than the limit) are of all prompts, `kept` of them found in
    the file; `seconds` and `engine` are those of this attempt.

    `temperatures` maps a prompt's id to a temperature of its own, `template_kwargs` are variables of the chat template.
    A thought is part of the text, between its markers, also where the prompt opened it (see `pyrite.thoughts`). A killed run goes on with the prompts that are
    missing: in fp32 with the same texts, in bf16 a near tie may fall differently in another batch.

    Raises:
        OutOfTime: `expired` says that the time is up; what is finished is in the file.
    """
    from pyrite.models.generate import generate
    from pyrite.models.rows import reader_of
    from pyrite.models.sampling import Drawing

    check_ids(prompts)
    groups: dict[float, list[Chat]] = {}
    began, tokens = time.monotonic(), 0
    with AnswerFile(out) as file:
        for prompt in file.missing(prompts, attempt):
            temperature = (temperatures or {}).get(prompt.id, writing.temperature)
            groups.setdefault(temperature, []).append(prompt)
        n_done = n_stored = len(prompts) - sum(map(len, groups.values()))
        for temperature, group in sorted(groups.items()):
            opened = [opened_prompt(tokenizer, prompt, template_kwargs) for prompt in group]
            ids = [prompt_ids for _, prompt_ids in opened]
            limits = [
                room_for(model, prompt.id, len(row), writing.max_new_tokens)
                for prompt, row in zip(group, ids, strict=True)
            ]
            finished = generate(
                model,
                ids,
                max_new_tokens=limits,
                end_ids=end_ids(model, tokenizer),
                drawing=Drawing(temperature, writing.top_p),
                seeds=[seed_of(writing.seed, prompt.id, attempt) for prompt in group],
                ended=stopper(tokenizer, writing.stop) if writing.stop else None,
                rows=rows,
            )
            for number, sampled in finished:
                marker = open_marker(opened[number][0])  # a thought that the prompt opened is the answer's own
                text = marker + "\n" * bool(marker) + written_text(tokenizer, sampled.ids)
                cut = cut_at(text, writing.stop)
                size = len(sampled.ids) + (sampled.ended and cut is None)
                file.add(
                    Answer(
                        group[number].id,
                        text if cut is None else cut,
                        "stop" if sampled.ended or cut is not None else "length",
                        size,
                        len(ids[number]),
                        attempt,
                    )
                )
                tokens += size
                n_done += 1
                report_progress(n_done, len(prompts), f"answers; {tokens / (time.monotonic() - began):,.0f} tokens/s")
                if expired() and n_done < len(prompts):
                    raise OutOfTime("--max-time is over; writing goes on after the finished answers")
        answers = [file.done[prompt.id, attempt] for prompt in prompts]
    longest = longest_input(model)
    room = [writing.max_new_tokens if longest is None else longest - (answer.prompt_tokens or 0) for answer in answers]
    return {
        "answers": len(answers),
        "kept": n_stored,
        "tokens": sum(answer.tokens or 0 for answer in answers),
        "seconds": time.monotonic() - began,
        "engine": "none" if n_stored == n_done else "rows" if reader_of(model) is not None else "library",
        "capped": sum(answer_room < writing.max_new_tokens for answer_room in room),
    }


def room_for(model: Any, prompt: str, length: int, limit: int) -> int:
    """How many tokens may follow a prompt: the limit, or what the model's positions leave.

    Raises:
        UserError: an empty prompt, or one that fills the model's positions.
    """
    longest = longest_input(model)
    if not length:
        raise UserError("A prompt is empty.", f"prompt {prompt}", "leave it out, or give it a text")
    if longest is not None and length >= longest:
        detail = f"prompt {prompt}: {length} tokens; the model reads {longest}"
        raise UserError("A prompt is longer than the model can read.", detail, "shorten it, or choose another model")
    return limit if longest is None else min(limit, longest - length)


def stopper(tokenizer: Any, stops: Sequence[str]) -> Callable[[int, list[int]], bool]:
    """Does a stop string occur in the text that these tokens end?"""
    reach = TAIL + max(len(stop.encode()) for stop in stops)

    def ended(number: int, ids: list[int]) -> bool:
        return cut_at(tokenizer.decode(ids[-reach:], skip_special_tokens=True), stops) is not None

    return ended
