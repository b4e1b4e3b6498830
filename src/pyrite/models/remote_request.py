"""What a request says, and under which names: servers refuse parameters that others want.

A server that refuses a parameter by its name gets the same request without it (of the token limit first under its newer
name). What was changed stands with every answer, as `meta["request"]`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pyrite.models.answers import Writing
from pyrite.models.remote_endpoint import PARAMETERS
from pyrite.models.remote_fault import Fault
from pyrite.records import Chat, Message

NEWER_LIMIT = "max_completion_tokens"
LEFT_OUT = "left out"
UNWANTED = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not (permitted|allowed|accepted|available|implemented)"
    r"|no(t a)? valid (parameter|argument|field)|extra (inputs|fields)|forbidden|cannot both|deprecated|removed|no longer"
    r"|only the default|invalid (parameter|argument|field|name)|strictly positive|does not (exist|accept|take)",
    re.IGNORECASE,
)
"""Words with which a server refuses a parameter."""
TOO_LARGE = re.compile(r"too (large|big|high)|at most|maximum|exceed|greater|less than or equal|context", re.IGNORECASE)
"""Words about a limit's value, which leaving the limit out would not mend."""
DROPPED_FIRST = ("top_p", "seed", "stop", "temperature", "max_tokens")
"""Where a server refuses two together, in this order: those first that change answers least."""


def request_body(
    model: str,
    prompt: Chat,
    writing: Writing,
    names: Mapping[str, str],
    *,
    temperature: float,
    seed: int,
    template_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A request, each parameter under its name; one without a name is left out, and so is `stop` where there is none.

    Variables of the chat template go as `chat_template_kwargs`, which vLLM, SGLang and llama.cpp's server read.
    """
    values: dict[str, Any] = {
        "max_tokens": writing.max_new_tokens,
        "temperature": temperature,
        "top_p": writing.top_p,
        "seed": seed,
        "stop": list(writing.stop),
    }
    body: dict[str, Any] = {"model": model, "messages": [as_message(message) for message in prompt.messages]}
    body |= {"tools": tools} if isinstance(tools := prompt.meta.get("tools"), list) and tools else {}
    body |= {"chat_template_kwargs": dict(template_kwargs)} if template_kwargs else {}
    return body | {
        names[name]: values[name] for name in PARAMETERS if name in names and (name != "stop" or writing.stop)
    }


def as_message(message: Message) -> dict[str, Any]:
    """A turn as the API has it, with the calls of tools in it."""
    calls = {"tool_calls": json.loads(message.tool_calls)} if message.tool_calls else {}
    return {"role": message.role, "content": message.content, **calls}


def extra_names(body: dict[str, Any]) -> dict[str, Any]:
    """The request as the client takes it: names that it does not know stand in its `extra_body`."""
    usual = {"model", "messages", "tools", NEWER_LIMIT, *PARAMETERS}
    extra = {name: value for name, value in body.items() if name not in usual}
    plain = {name: value for name, value in body.items() if name in usual}
    return {**plain, "extra_body": extra} if extra else plain


def without_refused(names: Mapping[str, str], fault: Fault) -> dict[str, str] | None:
    """The names without the parameter that a server refuses by its name; None where it refuses none.

    >>> names = {"max_tokens": "max_tokens", "seed": "seed"}
    >>> without_refused(names, Fault("status 400: property 'seed' is unsupported", status=400))
    {'max_tokens': 'max_tokens'}
    >>> without_refused(names, Fault("status 400: max_tokens is not supported", status=400))
    {'max_tokens': 'max_completion_tokens', 'seed': 'seed'}
    >>> without_refused(names, Fault("status 400: max_tokens is too large: 5000", status=400))
    """
    if fault.status not in (400, 422):
        return None
    for name in DROPPED_FIRST:
        if name not in names or not _refuses(fault, names[name]):
            continue
        if name == "max_tokens" and names[name] == "max_tokens":
            return {**names, name: NEWER_LIMIT}
        return {other: sent for other, sent in names.items() if other != name}
    return None


def _refuses(fault: Fault, sent: str) -> bool:
    """Does a server refuse this parameter? By its own field for it, or in words that name it.

    Of a limit and of `stop` (a common word) only where the words refuse it. Others may be named for any reason: what is
    then left out stays so only if that helps.
    """
    words = UNWANTED.search(fault.reason)
    if sent in ("max_tokens", NEWER_LIMIT) and TOO_LARGE.search(fault.reason) and not words:
        return False
    if fault.param:
        return fault.param == sent
    common = sent in ("max_tokens", NEWER_LIMIT, "stop")
    return names_word(fault.reason, sent) and (words is not None or not common)


def names_word(text: str, name: str) -> bool:
    """Does a text name a parameter?

    >>> names_word("`top_p` is odd", "top_p"), names_word("no max_tokens_here", "max_tokens")
    (True, False)
    """
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def parameter_fix(names: Mapping[str, str], fault: Fault) -> str:
    """What to do about a refusal of every prompt: about the parameter that it names, where it names one that was sent."""
    for name, sent in names.items():
        if fault.param == sent or (name != "stop" and names_word(fault.reason, sent)):
            return f"set {sent} as the endpoint wants it, or leave it out (leave_out) or rename it (rename)"
    return fault.fix


def changes(names: Mapping[str, str]) -> dict[str, str]:
    """What a request says otherwise than usual, by parameter: another name, or `left out`."""
    return {name: names.get(name, LEFT_OUT) for name in PARAMETERS if names.get(name) != name}
