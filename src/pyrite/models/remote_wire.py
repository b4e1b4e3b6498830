"""One request to an endpoint: the bytes of its reply, or a fault in words. The key is in no text that leaves here.

Faults are values and not exceptions, because an exception of the HTTP client carries the request with its key.
"""

import asyncio
import email.utils
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyrite.errors import UserError
from pyrite.models.remote_endpoint import Endpoint, api_key

LONGEST_WAIT = 600.0
"""Seconds: an endpoint that asks for a longer break stops the run."""
BUSY = {408, 409, 425, 429}
SPENT = {"insufficient_quota", "billing_hard_limit_reached"}
SHORTEST_KEY = 8
"""Shorter keys (EMPTY, none) are placeholders, and are not looked for in texts."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request brought no answer; `again`: asking once more may help. `wait` is what the endpoint asks, seconds.

    `code` and `param` are the endpoint's own, where it gives them.
    """

    reason: str
    again: bool = True
    fix: str = "look at the endpoint's log, then run the same command again"
    wait: float | None = None
    status: int | None = None
    code: str = ""
    param: str = ""


class Wire:
    """The client of one endpoint; used as an async context manager. Follows no redirect, retries nothing itself."""

    def __init__(self, endpoint: Endpoint) -> None:
        try:
            import openai
        except ImportError as error:
            fix = "pip install 'pyrite[remote]'"
            raise UserError("Asking an endpoint needs the extra `remote`.", str(error), fix) from error
        self.endpoint = endpoint
        self._key = api_key(endpoint)
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=endpoint.timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )

    async def __aenter__(self) -> "Wire":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def chat(self, body: Mapping[str, Any]) -> bytes | Fault:
        """Ask for one answer."""
        create: Callable[..., Awaitable[Any]] = self._client.chat.completions.with_raw_response.create
        return await self._reply(lambda: create(**body))

    async def models(self) -> bytes | Fault:
        """Ask which models there are."""
        listing: Callable[..., Awaitable[Any]] = self._client.models.with_raw_response.list
        return await self._reply(listing)

    async def _reply(self, send: Callable[[], Awaitable[Any]]) -> bytes | Fault:
        import openai

        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                return bytes((await send()).http_response.content)
        except openai.APIStatusError as error:
            return self._status_fault(error.status_code, error.response.headers, error.body, error.response.text)
        except (TimeoutError, openai.APITimeoutError):
            fix = "allow more seconds (timeout_s) or fewer requests at once (concurrency), and run again"
            return Fault(f"no whole answer within {self.endpoint.timeout_s:g} s", fix=fix)
        except openai.APIError as error:
            why = self.clean(str(error.__cause__ or error)) or type(error.__cause__ or error).__name__
            fix = "check that the server runs and base_url is right, then run the same command again"
            return Fault(f"no connection: {why}", fix=fix)

    def clean(self, text: str) -> str:
        """Text from outside for a message: without the key, on one line, at most 300 characters."""
        text = self.redact(text)
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= 300 else text[:300] + " ..."

    def redact(self, text: str) -> str:
        """The text with the key taken out."""
        return text.replace(self._key, "[key]") if self.holds_key(text) else text

    def holds_key(self, text: str) -> bool:
        """Does the text repeat the key?"""
        return len(self._key) >= SHORTEST_KEY and self._key in text

    def _status_fault(self, status: int, headers: Mapping[str, str], body: object, text: str) -> Fault:
        record = body if isinstance(body, dict) else {}
        code, param = str(record.get("code") or ""), str(record.get("param") or "")
        reason = f"status {status}: {self.clean(message_of(record) or text) or 'no message'}"
        again = (status in BUSY or status >= 500) and code not in SPENT
        wait = retry_after(headers, time.time()) if again else None
        if wait is not None and wait > LONGEST_WAIT:
            fix = f"run the same command again in {math.ceil(wait / 60)} minutes; finished answers are kept"
            return Fault(f"{reason} (asks to wait {wait:.0f} s)", again=False, fix=fix, status=status)
        if 300 <= status < 400:
            reason += f" (points to {self.clean(headers.get('location', 'nowhere'))})"
        return Fault(reason, again, self._fix(status, code), wait, status, code, param)

    def _fix(self, status: int, code: str) -> str:
        variable = f"${self.endpoint.key_variable} ({'set' if self._key else 'not set'})"
        if code in SPENT:
            return "see to the account's credit, then run the same command again; finished answers are kept"
        if 300 <= status < 400:
            return "redirects are not followed; give the final address as base_url"
        if status in (401, 403):
            return f"check the key in {variable} and what it may use"
        if status == 404:
            return "check base_url (most end in /v1) and the name of the model"
        if status in BUSY or status >= 500:
            return "run the same command again later, perhaps with a smaller concurrency or requests_per_minute"
        return "mend what the endpoint names in the prompt or in the settings"


def message_of(body: Mapping[str, Any]) -> str:
    """What the endpoint says about an error, wherever it says it."""
    for key in ("message", "detail", "error"):
        value = body.get(key)
        if isinstance(value, dict):
            value = value.get("message")
        if value:
            return str(value)
    return ""


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
