"""One request to an endpoint: the bytes of its reply, or a fault in words. The key is in no text that leaves here.

Faults are values and not exceptions, because an exception of the HTTP client carries the request with its key.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pyrite.errors import UserError
from pyrite.models.remote_endpoint import Endpoint, api_key
from pyrite.models.remote_fault import NO_VERSION, REFUSED, ErrorText, Fault, fault_of, read_error

SHORTEST_KEY = 8
"""Shorter keys (EMPTY, none) are placeholders, and are not looked for in texts."""


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
        self._bases = versioned(endpoint.base_url)
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._bases[0],
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

    async def completion(self, body: Mapping[str, Any]) -> bytes | Fault:
        """Ask for a continuation of a text or of token ids.

        Of an address without a path, the one below /v1 is asked first: llama.cpp answers above it, too, in another shape.
        """
        if len(self._bases) > 1 and not self._bases[0].endswith("/v1"):
            self._bases = self._bases[::-1]
            self._client.base_url = self._bases[0]
        create: Callable[..., Awaitable[Any]] = self._client.completions.with_raw_response.create
        return await self._reply(lambda: create(**body))

    async def models(self) -> bytes | Fault:
        """Ask which models there are."""
        listing: Callable[..., Awaitable[Any]] = self._client.models.with_raw_response.list
        return await self._reply(listing)

    async def _reply(self, send: Callable[[], Awaitable[Any]]) -> bytes | Fault:
        """The reply; where the address has no path and nothing is there, the one below /v1, from then on."""
        used = self._bases[0]
        reply = await self._sent(send)
        if not isinstance(reply, Fault) or reply.status not in NO_VERSION:
            return reply
        if used == self._bases[0] and len(self._bases) > 1:
            self._bases = self._bases[1:]
            self._client.base_url = self._bases[0]
        return reply if used == self._bases[0] else await self._reply(send)

    async def _sent(self, send: Callable[[], Awaitable[Any]]) -> bytes | Fault:
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
        except UnicodeEncodeError as error:
            fix = "mend the text: half of a character stands alone"
            return Fault(f"the prompt is no Unicode text: {error.reason}", again=False, fix=fix, missing=REFUSED)

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
        plain = body if isinstance(body, str) and body else text
        error = read_error(body if isinstance(body, dict | list) else as_words(plain, headers.get("content-type", "")))
        words = self.clean(error.message or text)
        if 300 <= status < 400:
            target = urlsplit(headers.get("location", ""))._replace(query="", fragment="").geturl()
            fix = "redirects are not followed; give the final address as base_url"
            reason = f"status {status}: {words or 'no message'} (points to {self.clean(target) or 'nowhere'})"
            return Fault(reason, again=False, fix=fix, status=status)
        return fault_of(
            status, error, headers, time.time(), key=self.key_name, reason=f"status {status}: {words or 'no message'}"
        )

    def fault_within(self, error: ErrorText) -> Fault:
        """What an error within a reply of status 200 means."""
        reason = f"an error in the reply: {self.clean(error.message) or 'no message'}"
        return fault_of(error.status, error, {}, time.time(), key=self.key_name, reason=reason)

    @property
    def key_name(self) -> str:
        """Where the key is from, for messages."""
        return f"the key in ${self.endpoint.key_variable} ({'set' if self._key else 'not set'})"


def versioned(base_url: str) -> tuple[str, ...]:
    """The addresses to try, in order: one without a path may lack its version.

    >>> versioned("http://localhost:8000"), versioned("http://localhost:8000/v1")
    (('http://localhost:8000', 'http://localhost:8000/v1'), ('http://localhost:8000/v1',))
    """
    return (base_url,) if urlsplit(base_url).path else (base_url, f"{base_url}/v1")


def as_words(text: str, content_type: str) -> str:
    """The words of a body that is no JSON: of a web page its text without the markup.

    >>> as_words("<html><style>b {}</style><title>502</title><b>Bad gateway</b></html>", "text/html")
    'a web page: 502 Bad gateway'
    """
    if "html" not in content_type and not re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE):
        return text
    hidden = re.sub(r"<(script|style)\b.*?</\1\s*>", " ", text[:20_000], flags=re.IGNORECASE | re.DOTALL)
    return "a web page: " + " ".join(re.sub(r"<[^>]*>", " ", hidden).split())
