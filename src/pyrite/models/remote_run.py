"""Asking many prompts at once: bounded in number, every answer kept as it comes, stopped in an orderly way."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pyrite.errors import OutOfTime, UserError
from pyrite.models.answers import Answer, AnswerFile, Writing
from pyrite.models.remote_endpoint import Endpoint, Usage
from pyrite.models.remote_pace import Pace
from pyrite.models.remote_reply import FILTERED, model_names, read_json, reply_answer, reply_tokens
from pyrite.models.remote_wire import Fault, Wire
from pyrite.records import Chat

Job = tuple[Chat, int]
"""A prompt and the number of the attempt at it."""


def seed_of(seed: int, prompt: str, attempt: int) -> int:
    """The seed that goes with a request: 31 bits of a hash of the run's seed, the prompt's id and the attempt."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{attempt}\0{prompt}".encode()).digest()[:4]) >> 1


class Unanswered(UserError):
    """Some prompts got no answer, though all were asked."""


class RemoteRun:
    """Asks the missing answers of one file.

    The first error that no retry can mend, the time limit, or failures without an answer between them (twice as many
    as requests go out at once, at least eight) end the asking; requests under way are finished and kept.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        writing: Writing,
        file: AnswerFile,
        usage: Usage,
        *,
        answered: Callable[[], None],
        expired: Callable[[], bool],
        base_wait: float,
    ) -> None:
        self.endpoint, self.writing, self.file, self.usage = endpoint, writing, file, usage
        self.answered, self.expired, self.base_wait = answered, expired, base_wait
        self.jobs: deque[Job] = deque()
        self.unasked = 0
        self.failed: list[tuple[Job, Fault]] = []
        self.fatal: tuple[str, Fault] | None = None
        self.in_a_row = 0
        self.given_up = self.out_of_time = self.interrupted = False
        self.model = endpoint.model or ""
        self.limit = "max_tokens"

    async def all(self, jobs: Sequence[Job]) -> None:
        """Ask every job; afterwards `raise_trouble` says what went wrong."""
        self.jobs.extend(jobs)
        async with Wire(self.endpoint) as wire:
            if not self.model and not self.stopping():
                await self.find_model(wire)
            if self.model:
                pace: Pace[Answer] = Pace(self.endpoint, self.usage, self.stopping, self.base_wait)
                count = min(self.endpoint.concurrency, len(jobs))
                await asyncio.gather(*(self.worker(wire, pace) for _ in range(count)))

    async def find_model(self, wire: Wire) -> None:
        """Take the only model that the endpoint lists."""

        async def ask() -> list[str] | Fault:
            raw = await wire.models()
            body = raw if isinstance(raw, Fault) else read_json(raw)
            return body if isinstance(body, Fault) else model_names(body)

        pace: Pace[list[str]] = Pace(self.endpoint, self.usage, self.stopping, self.base_wait)
        models = await pace.retried(ask, seed_of(self.writing.seed, "/models", 0))
        if isinstance(models, Fault):
            fix = f"{models.fix}; or name the model, where the endpoint cannot list its models"
            self.fatal = "the list of models", replace(models, reason=wire.clean(models.reason), fix=fix)
        elif models is not None and len(models) != 1:
            names = wire.clean(", ".join(models)) if models else "none"
            fix = "name one of them as the model" if models else "name the model; this endpoint lists none"
            raise UserError("The endpoint does not list exactly one model.", f"{len(models)} models: {names}", fix)
        elif models:
            self.model = models[0]

    async def worker(self, wire: Wire, pace: Pace[Answer]) -> None:
        """Take one job after the other."""
        while self.jobs and not self.stopping():
            job = self.jobs.popleft()
            seed = seed_of(self.writing.seed, job[0].id, job[1])

            async def ask(job: Job = job, seed: int = seed) -> Answer | Fault:
                return await self.ask(wire, job, seed)

            self.settle(job, await pace.retried(ask, seed))

    async def ask(self, wire: Wire, job: Job, seed: int) -> Answer | Fault:
        """One request for one answer."""
        prompt, attempt = job
        limit = self.limit
        raw = await wire.chat(self.body(prompt, limit, seed))
        if isinstance(raw, Fault) and raw.param == "max_tokens" and limit == "max_tokens":
            # Newer OpenAI models refuse this name and ask for the other; many servers know only this one.
            self.limit = "max_completion_tokens"
            self.usage.requests += 1
            return await self.ask(wire, job, seed)
        if isinstance(raw, Fault):
            withheld = raw.status == 400 and raw.code in FILTERED
            return Answer(prompt.id, "", "refused", attempt=attempt, meta={"refusal": raw.reason}) if withheld else raw
        body = read_json(raw)
        answer: Answer | Fault = body if isinstance(body, Fault) else self.read(body, job)
        if isinstance(answer, Fault):
            return replace(answer, reason=wire.clean(answer.reason))
        if wire.holds_key(answer.text):
            return Fault(f"the answer repeats the key in ${self.endpoint.key_variable}, so it is not written")
        meta = {key: wire.redact(value) if isinstance(value, str) else value for key, value in answer.meta.items()}
        return replace(answer, meta=meta)

    def read(self, body: dict[str, Any], job: Job) -> Answer | Fault:
        """Count what a reply cost, usable or not, and take the answer out of it."""
        size = reply_tokens(body)
        self.usage.charge(self.endpoint, size.prompt_tokens, size.tokens)
        return reply_answer(body, job[0].id, job[1], self.writing)

    def body(self, prompt: Chat, limit: str, seed: int) -> dict[str, Any]:
        """What a request says."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            limit: self.writing.max_new_tokens,
            "temperature": self.writing.temperature,
            "top_p": self.writing.top_p,
            "seed": seed,
        }
        if self.writing.stop:
            body["stop"] = list(self.writing.stop)
        return body

    def settle(self, job: Job, outcome: Answer | Fault | None) -> None:
        """Keep an answer, or remember why there is none."""
        if outcome is None:
            self.unasked += 1
        elif isinstance(outcome, Answer):
            self.file.add(outcome)
            self.in_a_row = 0
            self.usage.settled(outcome)
            self.answered()
        elif not outcome.again:
            self.unasked += 1
            self.fatal = self.fatal or (f"prompt {job[0].id!r}", outcome)
        else:
            self.failed.append((job, outcome))
            self.usage.failed += 1
            self.in_a_row += 1
            self.given_up = self.given_up or self.in_a_row >= max(2 * self.endpoint.concurrency, 8)

    def stopping(self) -> bool:
        """Is the asking to end?"""
        self.out_of_time = self.out_of_time or self.expired()
        return self.out_of_time or self.given_up or self.interrupted or self.fatal is not None

    def raise_trouble(self) -> None:
        """Say why answers are missing, if any are."""
        n_unasked = len(self.jobs) + self.unasked
        stored = f"{len(self.file.done)} answers are kept in {self.file.path}"
        if self.fatal is not None:
            request, fault = self.fatal
            raise UserError(
                "The endpoint does not answer as asked.", f"{request}: {fault.reason} ({stored})", fault.fix
            )
        if self.out_of_time and n_unasked + len(self.failed):
            raise OutOfTime(f"--max-time is over; {stored}, {n_unasked + len(self.failed)} are left")
        if self.failed:
            (prompt, attempt), fault = self.failed[0]
            unasked = f", {n_unasked} were then not asked" if n_unasked else ""
            detail = (
                f"{len(self.failed)} failed{unasked}; first: prompt {prompt.id!r}, attempt {attempt}: {fault.reason}"
            )
            fix = f"{fault.fix}; {stored}, only the rest is asked then"
            raise (UserError if n_unasked else Unanswered)("Some prompts got no answer.", detail, fix)
        assert not n_unasked, n_unasked
