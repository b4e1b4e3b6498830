"""Log-probabilities of a prompt's own tokens, as completion endpoints tell them. Trusts no field.

There are two ways, and no server is known by its name: `prompt_logprobs` (vLLM's), and `echo` with `logprobs` (of the first
completion API; vLLM has it, too, llama.cpp does not). Which of them a server has, a request tells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyrite.models.remote_fault import Fault
from pyrite.models.remote_json import unreadable
from pyrite.models.remote_reply import reply_tokens

Way = Literal["prompt_logprobs", "echo"]
WAYS: dict[type, tuple[Way, ...]] = {str: ("echo", "prompt_logprobs"), list: ("prompt_logprobs", "echo")}
"""Which way is tried first: of texts the one that shows the first token, of token ids the one that shows ids."""
Prompt = str | Sequence[int]
"""What is scored: a text, whose tokens are the server's affair, or token ids."""
HALF = "\ufffd"
"""What stands for a part of a character, where a token holds no whole one."""
LEAST = -1e4
"""Servers write this instead of minus infinity."""


@dataclass(frozen=True, slots=True)
class PromptScores:
    """The tokens of a prompt, as the server writes them; the log-probability of each after those before it (nats), None of the
    first; their ids, where the server tells them; and what it wrote next, with that token's log-probability."""

    tokens: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    ids: tuple[int, ...] | None = None
    next: tuple[str, float] | None = None

    def total(self, start: int) -> float:
        """The log-probability of all tokens from the `start`-th (at least 1), given those before it."""
        return sum(value for value in self.logprobs[max(1, start) :] if value is not None)

    def identities(self) -> tuple[int, ...] | tuple[str, ...]:
        """What tells tokens apart: their ids, else their texts."""
        return self.tokens if self.ids is None else self.ids


def score_body(model: str, prompt: Prompt, way: Way) -> dict[str, Any]:
    """A request for the log-probabilities of a prompt; it asks for one token more, since most servers write at least one."""
    text = prompt if isinstance(prompt, str) else list(prompt)
    body: dict[str, Any] = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0}
    if way == "echo":
        return body | {"echo": True, "logprobs": 1}
    return body | {"logprobs": 1, "extra_body": {"prompt_logprobs": 0}}


def read_scores(body: dict[str, Any], way: Way) -> PromptScores | Fault:
    """The scores in a reply; a `Fault` says what it holds instead."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    if choice is None:
        return unreadable("the reply has no choices")
    scores = read_echo(body, choice) if way == "echo" else read_prompt_logprobs(choice)
    if isinstance(scores, Fault):
        return scores
    if len(scores.tokens) > 1 and all(value is None for value in scores.logprobs):
        return unreadable("the prompt's tokens have no log-probabilities")
    holes = [at for at, value in enumerate(scores.logprobs) if at and value is None]
    if holes:
        return unreadable(f"{len(holes)} of {len(scores.tokens)} tokens of the prompt have no log-probability")
    if any(value is not None and value > 1e-3 for value in scores.logprobs):
        return unreadable("a log-probability is positive")
    return scores


def read_echo(body: dict[str, Any], choice: dict[str, Any]) -> PromptScores | Fault:
    """`echo`: lists of tokens and log-probabilities, of the prompt and then of what was written."""
    pair = token_lists(choice)
    if pair is None:
        return unreadable("the reply has no log-probabilities")
    tokens, values = pair
    size = reply_tokens(body)
    written = 1 if size.tokens is None else size.tokens
    prompt = len(tokens) - written if size.prompt_tokens is None else size.prompt_tokens
    if len(tokens) <= max(1, written) or prompt > len(tokens) or len(tokens) - prompt > max(1, written):
        counts = f"{len(tokens)} tokens; the prompt has {prompt}"
        return unreadable(f"only what was written has log-probabilities, not the prompt ({counts})")
    after = (tokens[prompt], values[prompt]) if len(tokens) > prompt else None
    following = None if after is None or after[1] is None else (after[0], after[1])
    return PromptScores(tokens[:prompt], values[:prompt], next=following)


def token_lists(choice: dict[str, Any]) -> tuple[tuple[str, ...], tuple[float | None, ...]] | None:
    """The tokens of a choice and their log-probabilities; None where it has no such lists of one length."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if isinstance(content, list):  # the newer shape, of chats, which llama.cpp has here, too
        rows = [row if isinstance(row, dict) else {} for row in content]
        logprobs = {
            "tokens": [row.get("token") for row in rows],
            "token_logprobs": [row.get("logprob") for row in rows],
        }
    tokens, values = (
        logprobs.get(name) if isinstance(logprobs, dict) else None for name in ("tokens", "token_logprobs")
    )
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        return None
    return tuple(map(str, tokens)), tuple(map(number, values))


def read_prompt_logprobs(choice: dict[str, Any]) -> PromptScores | Fault:
    """`prompt_logprobs`: for each token of the prompt a mapping from ids to what is known of them, its own first; None or
    nothing for the first token."""
    rows = choice.get("prompt_logprobs")
    if not isinstance(rows, list) or not rows:
        return unreadable("the reply has no prompt_logprobs")
    tokens: list[str] = []
    values: list[float | None] = []
    ids: list[int] = []
    for at, row in enumerate(rows):
        entries = list(row.items()) if isinstance(row, dict) else []
        name, entry = entries[0] if entries else ("", {})
        if not entries and at:
            return unreadable(f"token {at + 1} of the prompt has no log-probability")
        if entries and (not isinstance(entry, dict) or not str(name).isdecimal()):
            return unreadable("prompt_logprobs are no mappings from token ids")
        tokens.append(str(entry.get("decoded_token") or ""))
        values.append(number(entry.get("logprob")))
        ids.append(int(name) if entries else -1)
    token_ids = choice.get("prompt_token_ids")
    if (
        isinstance(token_ids, list)
        and len(token_ids) == len(ids)
        and all(isinstance(token, int) for token in token_ids)
    ):
        ids = list(token_ids)
    pair = token_lists(choice)
    following = (pair[0][0], pair[1][0]) if pair is not None and pair[0] and pair[1][0] is not None else None
    return PromptScores(tuple(tokens), tuple(values), tuple(ids), following)


def number(value: object) -> float | None:
    """A finite number, or minus infinity as the least that servers write; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return max(float(value), LEAST)


def common_beginning(rows: Sequence[PromptScores]) -> int:
    """With how many tokens do all of these begin? Where only the tokens' texts are known, not beyond one that `is_unclear`: halves
    of different characters are written alike. The first token, which has no log-probability, may be unclear: a marker is."""
    alike = alike_tokens(rows)
    unclear = (at for at, token in enumerate(rows[0].identities()[:alike]) if at and is_unclear(token))
    return next(unclear, alike)


def alike_tokens(rows: Sequence[PromptScores]) -> int:
    """With how many tokens that are written alike do all of these begin?"""
    columns = zip(*(row.identities() for row in rows), strict=False)
    least = min(len(row.tokens) for row in rows)
    return next((at for at, column in enumerate(columns) if len(set(column)) > 1), least)


def is_unclear(token: object) -> bool:
    """Does a token's text not say which token it is: nothing, or a part of a character? Ids always say it."""
    return isinstance(token, str) and (not token or HALF in token)


def bytes_of_first(scores: PromptScores, text: str) -> int | None:
    """How many bytes of a text does its first token hold? 0 where that is a marker before the text; None where that cannot be
    told, or the last token is a marker after the text.

    >>> of = lambda *tokens: PromptScores(tokens, (None,) * len(tokens))
    >>> bytes_of_first(of("The", " cat"), "The cat"), bytes_of_first(of("<s>", "The", " cat"), "The cat")
    (3, 0)
    >>> bytes_of_first(of("The", " cat", "</s>"), "The cat"), bytes_of_first(of("\ufffd", "\ufffd"), "\u00e9")
    (None, None)
    >>> bytes_of_first(of("  ", "The", " cat"), "  The cat"), bytes_of_first(of("<s>", " The", " cat"), "The cat")
    (2, 0)
    """
    first, rest = scores.tokens[0], "".join(scores.tokens[1:])
    if HALF in first:
        return None
    if HALF not in rest:
        return first_of_whole(first, rest, text)
    last = scores.tokens[-1]
    if not first or not (HALF in last or (last and text.endswith(last))):
        return None
    start = next((part for part in (first, first.lstrip()) if part and text.startswith(part)), "")
    return len(start.encode())  # a character that is cut in pieces stands further on


def first_of_whole(first: str, rest: str, text: str) -> int | None:
    """The same where the tokens after the first are whole characters; `first` is empty where the server does not show it.

    Blanks at the beginning may lack: SentencePiece adds one to a text, and decoding takes it away.
    """
    before = len(text[: max(0, len(text) - len(rest))].encode())
    if first and (first + rest).lstrip() == text.lstrip() and text.endswith(rest):
        return before
    if rest.lstrip() == text.lstrip():
        return 0 if first or rest == text or not text[:1].isspace() else None
    return before if not first and text.endswith(rest) else None
