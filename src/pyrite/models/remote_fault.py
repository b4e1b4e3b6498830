"""Why a request brought no answer, and whom that concerns: the endpoint, the settings, or this one prompt."""

import email.utils
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyrite.models.answers import WITHHELD

LONGEST_WAIT = 600.0
"""Seconds: an endpoint that asks for a longer break stops the run."""
BUSY = {408, 409, 425, 429}
SPENT = {"insufficient_quota", "billing_hard_limit_reached"}
FILTERED = {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}
"""Error codes that withhold an answer because of the prompt."""
ABOUT_PROMPT = {400, 413, 422, 451}
"""Statuses with which a server refuses one request; whether it would refuse every other, too, they do not say."""
NO_VERSION = {404, 405}
"""Statuses of an address that lacks its version."""
WRONG_MODEL = {"model_not_found", "invalid_model", "unknown_model"}

TOO_LONG = "longer than the model reads"
REFUSED = "refused by the endpoint"
UNREADABLE = "a reply that cannot be read"
NO_TEXT = "a reply without text"
CUT = "cut at the limit before any text"
FAILED = "failed through all retries"
"""Why an item is missing, beside `answers.WITHHELD`."""

LENGTH = re.compile(
    r"context[\s_-]*(length|size|window|limit)|exceed_context|too (long|many (input )?tokens)|maximum (input|prompt|sequence)"
    r"|(prompt|input|sequence)\b.{0,40}\b(exceeds?|longer than)|(exceeds?|larger than)\b.{0,60}\b(context|token limit)",
    re.IGNORECASE,
)
ABOUT_KEY = re.compile(
    r"\b(invalid|incorrect|missing|no|wrong)\b.{0,20}\bapi[ _-]?key|api[ _-]?key.{0,20}\bnot valid", re.I
)
ABOUT_CREDIT = re.compile(
    r"credit balance|insufficient (credit|balance|fund|quota)|exceeded your (current )?quota", re.I
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request brought no answer; `again`: asking once more may help. `wait` is what the endpoint asks, seconds.

    `missing` says as what the item counts if the fault is the prompt's own and lasts; "" where it is the endpoint's.
    `status`, `code` and `param` are the endpoint's own, where it gives them; `about_model` where it does not know the
    model.
    """

    reason: str
    again: bool = True
    fix: str = "look at the endpoint's log, then run the same command again"
    wait: float | None = None
    status: int | None = None
    code: str = ""
    param: str = ""
    missing: str = ""
    about_model: bool = False


@dataclass(frozen=True, slots=True)
class ErrorText:
    """What the body of an error says: in words, its code, the parameter that it names; `flagged` by a content filter."""

    message: str = ""
    code: str = ""
    param: str = ""
    status: int | None = None
    """A status that stands in the body."""
    flagged: bool = False


def read_error(body: object) -> ErrorText:
    """What an endpoint says about an error, wherever it says it.

    >>> read_error({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]})
    ErrorText(message='seed: Extra inputs are not permitted', code='', param='seed', status=None, flagged=False)
    >>> read_error({"error": {"message": "slow down", "code": 429}})
    ErrorText(message='slow down', code='', param='', status=429, flagged=False)
    """
    if isinstance(body, str):
        return ErrorText(body)
    if isinstance(body, list):  # of a validator: [{"loc": ["body", "seed"], "msg": "..."}]
        rows = [row for row in body if isinstance(row, dict)]
        named = [(_last(row.get("loc")), str(row.get("msg") or row.get("message") or "")) for row in rows]
        words = "; ".join(f"{place}: {says}" if place else says for place, says in named)
        return ErrorText(words or str(body)[:300], param=named[0][0] if named else "")
    if not isinstance(body, dict):
        return ErrorText()
    code, param = str(body.get("code") or ""), str(body.get("param") or "").rpartition(".")[2]
    status = int(code) if code.isdecimal() and len(code) == 3 else None
    code = str(body.get("type") or "") if status or not code else code
    metadata, inner = body.get("metadata"), body.get("innererror")
    flagged = isinstance(metadata, dict) and bool(metadata.get("flagged_input"))
    if isinstance(inner, dict) and inner.get("code") in FILTERED:
        code = str(inner["code"])
    for key in ("message", "detail", "error", "msg"):
        value = body.get(key)
        if value:
            within = read_error(value) if isinstance(value, dict | list) else ErrorText(str(value))
            return ErrorText(
                within.message, code or within.code, param or within.param, status or within.status,
                flagged or within.flagged,
            )  # fmt: skip
    return ErrorText("", code, param, status, flagged)


def _last(place: object) -> str:
    """The last name of a place such as ["body", "seed"]."""
    names = [name for name in place if isinstance(name, str)] if isinstance(place, list) else []
    return names[-1] if names else ""


def fault_of(
    status: int | None, error: ErrorText, headers: Mapping[str, str], now: float, *, key: str, reason: str
) -> Fault:
    """What the status of a reply and the words beside it mean; None of an error in a good reply without a status.

    `reason` is what to show of them, `key` names where the key is from, `now` is the time in seconds since 1970.
    """
    fault = Fault(reason, status=status, code=error.code, param=error.param, again=False)
    refused = status is None or status in ABOUT_PROMPT
    if error.code in SPENT or status == 402 or (refused and ABOUT_CREDIT.search(error.message)):
        fix = "see to the account's credit, then run the same command again; finished answers are kept"
        return replace(fault, fix=fix)
    if error.code in FILTERED or (error.flagged and status == 403):
        return replace(fault, missing=WITHHELD)
    too_long = error.param not in ("stop", "seed", "temperature", "top_p") and LENGTH.search(error.message)
    if too_long and (refused or status == 500):
        fix = "shorten the prompts, let answers have fewer tokens (max_new_tokens), or serve a longer context"
        return replace(fault, missing=TOO_LONG, fix=fix)
    if status in (401, 403) or (refused and ABOUT_KEY.search(error.message)):
        return replace(fault, fix=f"check {key} and what it may use")
    if status == 404 or error.code in WRONG_MODEL or (refused and error.param == "model"):
        return replace(fault, fix="check base_url (most end in /v1) and the name of the model", about_model=True)
    if status is None:
        return replace(fault, again=True, missing=UNREADABLE)
    if status in BUSY or status >= 500:
        return busy_fault(fault, retry_after(headers, now))
    fix = "mend what the endpoint names in the prompt or in the settings"
    return replace(fault, fix=fix, missing=REFUSED if refused else "")


def busy_fault(fault: Fault, wait: float | None) -> Fault:
    """The fault of an endpoint that may answer later: asked again, unless it asks for too long a break."""
    if wait is not None and wait > LONGEST_WAIT:
        fix = f"run the same command again in {math.ceil(wait / 60)} minutes; finished answers are kept"
        return replace(fault, reason=f"{fault.reason} (asks to wait {wait:.0f} s)", fix=fix)
    fix = "run the same command again later, perhaps with a smaller concurrency or requests_per_minute"
    return replace(fault, again=True, wait=wait, fix=fix)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """How many seconds does the endpoint ask to wait? `Retry-After` in seconds or as a date; None where not said.

    RFC 9110, section 10.2.3; `retry-after-ms` (milliseconds) is read first where an endpoint sends it.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
            except ValueError:
                continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None


def about_body(body: Mapping[str, Any]) -> ErrorText | None:
    """The error within a reply of status 200, where there is one."""
    error = body if body.get("object") == "error" else body.get("error")
    if not error:
        choices = body.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        error = first.get("error") if isinstance(first, dict) else None
    return read_error(error) if error else None
