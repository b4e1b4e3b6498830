"""When a request may go out, and when again: turns spread over the minute, growing waits after failures."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pyrite.models.remote_endpoint import Endpoint, Usage
from pyrite.models.remote_fault import Fault

Found = TypeVar("Found")
LONGEST_BACKOFF = 60.0
POLL = 0.2
"""Seconds after which a wait looks whether the run is to stop."""


class Pace(Generic[Found]):
    """Lets requests out one by one. All waits end early when `stopping` says so; no request follows then."""

    def __init__(self, endpoint: Endpoint, usage: Usage, stopping: Callable[[], bool], base_wait: float) -> None:
        self.endpoint, self.usage, self.stopping, self.base_wait = endpoint, usage, stopping, base_wait
        self.next_at = self.held_until = 0.0

    async def retried(self, send: Callable[[], Awaitable[Found | Fault]], seed: int) -> Found | Fault | None:
        """What the last of several tries brought; None where the run stopped while there was nothing final.

        The wait after try n is `base_wait` times 2^(n-1), at most a minute, times a number drawn between 0.5 and 1;
        after a break that the endpoint asked for, it is that and a part of `base_wait`.
        """
        from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_exponential

        growing = wait_exponential(multiplier=self.base_wait, max=LONGEST_BACKOFF)
        jitter = random.Random(seed)
        tries = 0

        async def once() -> Found | Fault | None:
            nonlocal tries
            await self.slot()
            if self.stopping():
                return None
            self.usage.requests += 1
            self.usage.retries += tries > 0
            tries += 1
            outcome = await send()
            if isinstance(outcome, Fault) and outcome.again and outcome.wait:
                self.hold(outcome.wait)
            return outcome

        def wait(state: RetryCallState) -> float:
            outcome = state.outcome.result() if state.outcome else None
            if isinstance(outcome, Fault) and outcome.wait is not None:
                return outcome.wait + jitter.uniform(0, self.base_wait)
            return growing(state) * jitter.uniform(0.5, 1)

        def last(state: RetryCallState) -> Found | Fault | None:
            outcome: Found | Fault | None = state.outcome.result() if state.outcome else None
            return outcome

        retrying = AsyncRetrying(
            sleep=self.pause,
            stop=stop_after_attempt(self.endpoint.retries + 1),
            wait=wait,
            retry=retry_if_result(lambda outcome: isinstance(outcome, Fault) and outcome.again),
            retry_error_callback=last,
        )
        return await retrying(once)

    def hold(self, seconds: float) -> None:
        """No request goes out for so long, not even one whose turn was given before."""
        self.held_until = max(self.held_until, asyncio.get_running_loop().time() + seconds)

    async def slot(self) -> None:
        """Wait for the turn of a request; for another one, where the endpoint asked for a break meanwhile."""
        loop = asyncio.get_running_loop()
        at = -1.0
        while at < self.held_until and not self.stopping():
            at = max(loop.time(), self.next_at, self.held_until)
            self.next_at = at + (60 / self.endpoint.requests_per_minute if self.endpoint.requests_per_minute else 0.0)
            await self.pause(at - loop.time())

    async def pause(self, seconds: float) -> None:
        """Sleep so long, or until the run is to stop."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (remaining := until - loop.time()) > 0 and not self.stopping():
            await asyncio.sleep(min(remaining, POLL))
