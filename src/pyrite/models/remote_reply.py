"""What is in a reply of an endpoint: an answer, its size in tokens, or why it cannot be used. Trusts no field."""

from dataclasses import dataclass
from typing import Any

import orjson

from pyrite.models.answers import Answer, Finish, Writing
from pyrite.models.remote_wire import Fault, message_of

FILTERED = {"content_filter", "content_policy_violation"}
"""Error codes that withhold an answer because of the prompt; with these, some endpoints send status 400."""


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of the prompt and of the answer, None where the endpoint does not tell."""

    prompt_tokens: int | None = None
    tokens: int | None = None


def read_json(raw: bytes) -> dict[str, Any] | Fault:
    """The reply as a mapping."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return Fault(f"the reply is not JSON ({error}): {raw[:10_000].decode(errors='replace')}")
    return body if isinstance(body, dict) else Fault(f"the reply is no JSON object but {type(body).__name__}")


def reply_tokens(body: dict[str, Any]) -> Size:
    """The tokens that a reply tells."""
    usage = body.get("usage")
    counts = [(usage if isinstance(usage, dict) else {}).get(key) for key in ("prompt_tokens", "completion_tokens")]
    prompt, answer = (
        value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None for value in counts
    )
    return Size(prompt, answer)


def model_names(body: dict[str, Any]) -> list[str]:
    """The models that a reply of `/models` lists, sorted."""
    rows = body.get("data")
    rows = rows if isinstance(rows, list) else []
    return sorted({str(row["id"]) for row in rows if isinstance(row, dict) and row.get("id")})


def reply_answer(body: dict[str, Any], prompt: str, attempt: int, writing: Writing) -> Answer | Fault:
    """The first choice of a reply as an answer.

    An endpoint that leaves the stop string at the end of a text is helped: the text is cut before it. A reason for
    ending that is none of ours counts as "length" at the token limit, else as "stop", and is kept in `meta`.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        message_text = message_of(body)
        return Fault("the reply has no choices" + (f": {message_text}" if message_text else ""))
    message = choices[0].get("message")
    message = message if isinstance(message, dict) else {}
    ended, size, meta = choices[0].get("finish_reason"), reply_tokens(body), meta_of(body)
    if ended == "content_filter" or message.get("refusal"):
        if message.get("refusal"):
            meta["refusal"] = str(message["refusal"])
        return Answer(prompt, "", "refused", size.tokens, size.prompt_tokens, attempt, meta)
    text = message.get("content")
    if text is None and ended == "length":
        text = ""  # the limit fell into what a model thinks before it answers
    if not isinstance(text, str):
        shape = "null" if text is None else f"a {type(text).__name__}"
        return Fault(f"the reply's content is {shape} (finish_reason: {ended})")
    finish: Finish = "stop"
    if ended == "length":
        finish = "length"
    elif ended != "stop":
        meta["finish_reason"] = None if ended is None else str(ended)
        finish = "length" if size.tokens is not None and size.tokens >= writing.max_new_tokens else "stop"
    cut = min((at for at in (text.find(mark) for mark in writing.stop if mark) if at >= 0), default=None)
    if cut is not None:
        text, finish = text[:cut], "stop"
    return Answer(prompt, text, finish, size.tokens, size.prompt_tokens, attempt, meta)


def meta_of(body: dict[str, Any]) -> dict[str, Any]:
    """Which model answered, and on which version of the endpoint's system, where the reply says so."""
    return {key: body[key] for key in ("model", "system_fingerprint") if isinstance(body.get(key), str) and body[key]}
