"""What is in a reply of an endpoint: an answer, its size in tokens, or why it cannot be used. Trusts no field."""

from dataclasses import dataclass, replace
from typing import Any

from pyrite.models.answers import Answer, Finish, Writing
from pyrite.models.remote_endpoint import Usage
from pyrite.models.remote_fault import CUT, NO_TEXT, Fault, about_body, read_error
from pyrite.models.remote_json import MENDED, lenient_json, read_json, unreadable
from pyrite.models.remote_wire import Wire
from pyrite.thoughts import KEYS

AT_LIMIT = {"length", "max_tokens", "max_output_tokens", "model_length"}
"""Reasons for ending that mean the token limit, as servers call them, in lower case."""
WITHHOLDING = {"content_filter", "safety", "prohibited_content", "recitation", "blocklist"}
"""Those that mean that the answer is withheld."""


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of the prompt and of the answer, None where the endpoint does not tell."""

    prompt_tokens: int | None = None
    tokens: int | None = None


def reply_tokens(body: dict[str, Any]) -> Size:
    """The tokens that a reply tells."""
    usage = body.get("usage")
    counts = [(usage if isinstance(usage, dict) else {}).get(key) for key in ("prompt_tokens", "completion_tokens")]
    prompt, answer = (
        value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None for value in counts
    )
    return Size(prompt, answer)


def read_reply(wire: Wire, raw: bytes, usage: Usage) -> dict[str, Any] | Fault:
    """A reply as JSON, its tokens charged to `usage` whatever it says; a fault where it is unreadable or an error."""
    body = read_json(raw)
    if isinstance(body, Fault):
        return replace(body, reason=wire.clean(body.reason))
    size = reply_tokens(body)
    usage.charge(wire.endpoint, size.prompt_tokens, size.tokens)
    error = about_body(body)
    return body if error is None else wire.fault_within(error)


async def listed_models(wire: Wire) -> list[str] | Fault:
    """The models that the endpoint lists; some servers answer with the bare list."""
    raw = await wire.models()
    if isinstance(raw, Fault):
        return raw
    plain = lenient_json(raw)
    body = {"data": plain} if isinstance(plain, list) else read_json(raw)
    return body if isinstance(body, Fault) else model_names(body)


def model_names(body: dict[str, Any]) -> list[str]:
    """The models that a reply of `/models` lists, sorted."""
    rows = body.get("data")
    rows = rows if isinstance(rows, list) else []
    return sorted({str(row["id"]) for row in rows if isinstance(row, dict) and row.get("id")})


def reply_answer(body: dict[str, Any], prompt: str, attempt: int, writing: Writing) -> Answer | Fault:
    """The first choice of a reply as an answer.

    An endpoint that leaves the stop string at the end of a text is helped: the text is cut before it. A reason for
    ending that is none of these counts as "length" at the token limit, else as "stop", and is kept in `meta`. What the
    model thought stands apart from its answer; where the limit fell into the thought, the answer is missing.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        message_text = read_error(body).message
        return unreadable("the reply has no choices" + (f": {message_text}" if message_text else ""))
    message = choices[0].get("message")
    message = message if isinstance(message, dict) else {}
    ended, size, meta = choices[0].get("finish_reason"), reply_tokens(body), meta_of(body)
    parts = read_content(message.get("content"))
    thoughts = [text for text in (message.get(key) for key in KEYS) if isinstance(text, str) and text]
    thought = "\n".join(dict.fromkeys([*thoughts, *([parts.thought] if parts.thought else [])]))
    answer = Answer(prompt, "", "stop", size.tokens, size.prompt_tokens, attempt, meta, thought)
    refusal = message.get("refusal") or parts.refusal
    reason = str(ended).lower()
    if reason in WITHHOLDING or refusal:
        return replace(answer, finish="refused", meta=meta | ({"refusal": str(refusal)} if refusal else {}))
    text = parts.text
    finish: Finish = "stop"
    if reason in AT_LIMIT:
        finish = "length"
    elif ended != "stop":
        meta["finish_reason"] = None if ended is None else str(ended)
        finish = "length" if size.tokens is not None and size.tokens >= writing.max_new_tokens else "stop"
    if finish == "length" and not (text or "").strip():
        return replace(answer, finish="missing", meta=meta | {"missing": CUT})
    if text is None:
        return Fault(f"the reply's content is {parts.shape} (finish_reason: {ended})", missing=NO_TEXT)
    cut = min((at for at in (text.find(mark) for mark in writing.stop if mark) if at >= 0), default=None)
    if cut is not None:
        text, finish = text[:cut], "stop"
    return replace(answer, text=text, finish=finish)


@dataclass(frozen=True, slots=True)
class Content:
    """What a message holds: its text (None where there is none, `shape` says what there is), a thought, a refusal."""

    text: str | None
    thought: str = ""
    refusal: str = ""
    shape: str = ""


def read_content(content: object) -> Content:
    """A message's content: a text, or a list of parts, whose texts are joined.

    >>> read_content([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]).text
    'Yes.'
    """
    if isinstance(content, str):
        return Content(content)
    if not isinstance(content, list):
        return Content(None, shape="null" if content is None else f"a {type(content).__name__}")
    texts: dict[str, list[str]] = {"text": [], "thinking": [], "refusal": []}
    shapes = []
    for part in content:
        sort = str(part.get("type", "text")) if isinstance(part, dict) else "text"
        kind = {"output_text": "text", "reasoning": "thinking"}.get(sort, sort)
        value = part if isinstance(part, str) else part.get(kind, part.get("text")) if isinstance(part, dict) else None
        text = read_content(value).text
        shapes.append(sort)
        if kind in texts and text is not None:
            texts[kind].append(text)
    text, thought, refusal = ("".join(texts[kind]) for kind in ("text", "thinking", "refusal"))
    return Content(text if texts["text"] else None, thought, refusal, f"a list of {', '.join(shapes) or 'no parts'}")


def meta_of(body: dict[str, Any]) -> dict[str, Any]:
    """Which model answered, and on which version of the endpoint's system, where the reply says so.

    `mended` where bytes of the reply were no Unicode and became the replacement character.
    """
    names = {key: body[key] for key in ("model", "system_fingerprint") if isinstance(body.get(key), str) and body[key]}
    return names | ({MENDED: True} if body.get(MENDED) is True else {})
