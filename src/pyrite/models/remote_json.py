"""The bytes of a reply as JSON: also of servers that stream though not asked to, and of texts cut within a character."""

import json
import re
from typing import Any

import orjson

from pyrite.io.json_dump import without_halves
from pyrite.models.remote_fault import UNREADABLE, Fault
from pyrite.models.remote_wire import as_words

MENDED = "mended"
"""The key of a reply whose text was no Unicode and was mended; it is in no reply that a server sends."""


def read_json(raw: bytes) -> dict[str, Any] | Fault:
    """The reply as a mapping; events of a stream are joined into one reply."""
    if re.match(rb"\s*(data|event|id|retry)?:", raw.removeprefix(b"\xef\xbb\xbf")):
        return joined_events(raw)
    body = lenient_json(raw)
    if isinstance(body, ValueError):
        text = as_words(raw[:10_000].decode(errors="replace"), "")
        fix = "check base_url: a web page or a proxy may stand there (most end in /v1)"
        return Fault(f"the reply is not JSON ({body}): {text}", fix=fix, missing=UNREADABLE)
    return body if isinstance(body, dict) else unreadable(f"the reply is no JSON object but {type(body).__name__}")


def unreadable(reason: str) -> Fault:
    """A reply that holds no answer."""
    return Fault(reason, missing=UNREADABLE)


def lenient_json(raw: bytes) -> Any:
    """What JSON bytes hold, the error where they are none. Bytes that are no Unicode become the replacement character.

    A server that cuts an answer at its token limit may cut it within a character.

    >>> lenient_json(b'{"a": "caf\\xc3"}')
    {'a': 'caf\ufffd', 'mended': True}
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        first = error
    try:
        whole = without_halves(json.loads(raw.decode("utf-8-sig", errors="replace")))
    except (ValueError, RecursionError):
        return first
    return {**whole, MENDED: True} if isinstance(whole, dict) else whole


def joined_events(raw: bytes) -> dict[str, Any] | Fault:
    """One reply from the events of a stream (`data: {…}` lines): texts joined, the last reason for ending, usage, names.

    A stream that neither says why it ended nor sends `[DONE]` is torn.
    """
    texts: dict[str, str] = {}
    body: dict[str, Any] = {}
    ended, whole = None, False
    for line in raw.splitlines():
        name, _, data = line.partition(b":")
        data = data.strip()
        if name.strip() != b"data" or not data:
            continue
        if data == b"[DONE]":
            whole = True
            continue
        event = lenient_json(data)
        if not isinstance(event, dict):
            return unreadable("an event of the reply's stream is no JSON object")
        if event.get("error"):
            return event
        body |= {key: event[key] for key in ("model", "system_fingerprint", "usage", MENDED) if event.get(key)}
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        ended = choice.get("finish_reason") or ended
        part = choice.get("delta") or choice.get("message")
        for key, text in part.items() if isinstance(part, dict) else ():
            if isinstance(text, str):
                texts[key] = texts.get(key, "") + text
    if not whole and ended is None:
        return unreadable("the reply's stream ends in its middle")
    return {**body, "choices": [{"message": texts, "finish_reason": ended}]}
