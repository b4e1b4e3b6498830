"""Asking many prompts at once: bounded in number, every answer kept as it comes, stopped in an orderly way."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyrite.errors import OutOfTime, UserError
from pyrite.models.answers import WITHHELD, Answer, AnswerFile, Writing
from pyrite.models.remote_endpoint import Endpoint, Usage
from pyrite.models.remote_fault import FAILED, Fault
from pyrite.models.remote_pace import Pace
from pyrite.models.remote_reply import listed_models, read_reply, reply_answer
from pyrite.models.remote_request import changes, extra_names, parameter_fix, request_body, without_refused
from pyrite.models.remote_wire import Wire
from pyrite.records import Chat, Message

Job = tuple[Chat, int]
"""A prompt and the number of the attempt at it."""
CONTROL = Chat((Message("user", "Say yes."),), "a plain short prompt")
"""What is asked to tell prompts that an endpoint refuses from an endpoint that refuses all."""
FIRST_REFUSALS = 3
"""So many prompts without an answer, and none with one, make the control be asked."""


def seed_of(seed: int, prompt: str, attempt: int) -> int:
    """The seed that goes with a request: 31 bits of a hash of the run's seed, the prompt's id and the attempt."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{attempt}\0{prompt}".encode()).digest()[:4]) >> 1


class Unanswered(UserError):
    """Some prompts got no answer, though all were asked."""


class RemoteRun:
    """Asks the missing answers of one file.

    The first error that no prompt can be to blame for and no retry can mend, the time limit, or failures without an
    answer between them (twice as many as requests go out at once, at least eight) end the asking; requests under way
    are finished and kept.

    A prompt that is refused, or whose replies hold no answer, counts as missing once it is plain that the endpoint does
    answer others: after the next answer, or when a plain short prompt (`CONTROL`) is answered. It is asked after the
    first few refusals where nothing was answered yet, after a row of them, and at the end. If that is refused as well,
    the endpoint or the settings are at fault: the run stops, and of these refusals nothing is written.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        writing: Writing,
        file: AnswerFile,
        usage: Usage,
        *,
        temperatures: Mapping[str, float] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        answered: Callable[[], None],
        expired: Callable[[], bool],
        base_wait: float,
    ) -> None:
        self.endpoint, self.writing, self.file, self.usage = endpoint, writing, file, usage
        self.temperatures, self.template_kwargs = temperatures or {}, template_kwargs
        self.answered, self.expired, self.base_wait = answered, expired, base_wait
        self.jobs: deque[Job] = deque()
        self.unasked = 0
        self.failed: list[tuple[Job, Fault]] = []
        self.refusals: list[tuple[Job, Fault]] = []
        """Prompts without an answer, of which it is not yet plain that others are answered."""
        self.fatal: tuple[str, Fault] | None = None
        self.in_a_row = 0
        self.patience = max(2 * endpoint.concurrency, 8)
        self.works = any(not answer.why_missing for answer in file.done.values())
        self.given_up = self.out_of_time = self.interrupted = False
        self.model = endpoint.model or ""
        self.names = endpoint.names
        self.lock = asyncio.Lock()

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
                if self.endpoint.on_failure == "missing" and self.works and not self.stopping():
                    self.refusals += [(job, replace(fault, missing=FAILED)) for job, fault in self.failed]
                    self.failed.clear()
                await self.ask_control(wire, pace)
            if self.fatal is not None and self.fatal[1].about_model:
                await self.add_models(wire, *self.fatal)

    async def find_model(self, wire: Wire) -> None:
        """Take the only model that the endpoint lists."""
        pace: Pace[list[str]] = Pace(self.endpoint, self.usage, self.stopping, self.base_wait)
        models = await pace.retried(lambda: listed_models(wire), seed_of(self.writing.seed, "/models", 0))
        if isinstance(models, Fault):
            fix = f"{models.fix}; or name the model, where the endpoint cannot list its models"
            self.fatal = (
                "the list of models",
                replace(models, reason=wire.clean(models.reason), fix=fix, about_model=False),
            )
        elif models is not None and len(models) != 1:
            names = wire.clean(", ".join(models)) if models else "none"
            fix = "name one of them as the model" if models else "name the model; this endpoint lists none"
            raise UserError("The endpoint does not list exactly one model.", f"{len(models)} models: {names}", fix)
        elif models:
            self.model = models[0]

    async def add_models(self, wire: Wire, request: str, fault: Fault) -> None:
        """Say which models the endpoint lists, where it does not know the one that was asked for."""
        models = await listed_models(wire)
        if isinstance(models, list) and models:
            listed = f"{fault.reason}; asked for {wire.clean(self.model)!r}, it lists {wire.clean(', '.join(models))}"
            self.fatal = request, replace(fault, reason=listed)

    async def worker(self, wire: Wire, pace: Pace[Answer]) -> None:
        """Take one job after the other."""
        while self.jobs and not self.stopping():
            job = self.jobs.popleft()
            seed = seed_of(self.writing.seed, job[0].id, job[1])

            async def ask(job: Job = job, seed: int = seed) -> Answer | Fault:
                return await self.ask(wire, job, seed)

            self.settle(job, await pace.retried(ask, seed))
            if self.is_doubtful():
                await self.ask_control(wire, pace)

    async def ask(self, wire: Wire, job: Job, seed: int) -> Answer | Fault:
        """One request for one answer; again without a parameter that the server refuses by its name.

        What was left out counts for later requests as soon as one without it is answered: else the parameter was not
        at fault.
        """
        names = self.names
        while True:
            raw = await wire.chat(extra_names(self.body(job[0], names, seed)))
            outcome = raw if isinstance(raw, Fault) else self.read(wire, raw, job)
            fewer = without_refused(names, outcome) if isinstance(outcome, Fault) else None
            if fewer is None or self.stopping():
                break
            names = fewer
            self.usage.requests += 1
        if isinstance(outcome, Fault):
            return outcome
        self.names = names
        changed = changes(names)
        return replace(outcome, meta=outcome.meta | ({"request": changed} if changed else {}))

    def read(self, wire: Wire, raw: bytes, job: Job) -> Answer | Fault:
        """Count what a reply cost, usable or not, and take the answer out of it; the key goes into no answer."""
        body = read_reply(wire, raw, self.usage)
        if isinstance(body, Fault):
            return body
        answer = reply_answer(body, job[0].id, job[1], self.writing)
        if isinstance(answer, Fault):
            return replace(answer, reason=wire.clean(answer.reason))
        if wire.holds_key(answer.text):
            return Fault(f"the answer repeats the key in ${self.endpoint.key_variable}, so it is not written")
        meta = {key: wire.redact(value) if isinstance(value, str) else value for key, value in answer.meta.items()}
        return replace(answer, meta=meta, thought=wire.redact(answer.thought))

    def body(self, prompt: Chat, names: Mapping[str, str], seed: int) -> dict[str, Any]:
        """What a request says."""
        temperature = self.temperatures.get(prompt.id, self.writing.temperature)
        return request_body(
            self.model, prompt, self.writing, names,
            temperature=temperature, seed=seed, template_kwargs=self.template_kwargs,
        )  # fmt: skip

    def settle(self, job: Job, outcome: Answer | Fault | None) -> None:
        """Keep an answer, or remember why there is none."""
        if isinstance(outcome, Fault) and outcome.missing == WITHHELD:
            outcome = missing_answer(job, outcome)
            self.keep(outcome)
        elif outcome is None:
            self.unasked += 1
        elif isinstance(outcome, Answer):
            self.works = True
            self.in_a_row = 0
            self.keep(outcome)
            self.keep_refusals()
        elif outcome.missing:
            self.refusals.append((job, outcome))
        elif not outcome.again:
            self.unasked += 1
            self.fatal = self.fatal or (f"prompt {job[0].id!r}", outcome)
        else:
            self.failed.append((job, outcome))
            self.usage.failed += 1
            self.in_a_row += 1
            self.given_up = self.given_up or self.in_a_row >= self.patience

    def keep(self, answer: Answer) -> None:
        """Write an answer, or that there is none."""
        self.file.add(answer)
        self.usage.settled(answer)
        self.answered()

    def keep_refusals(self) -> None:
        """Count the refused prompts as missing: the endpoint answers others."""
        for job, fault in self.refusals:
            self.keep(missing_answer(job, fault))
        self.refusals.clear()

    def is_doubtful(self) -> bool:
        """May the endpoint refuse every prompt?"""
        return len(self.refusals) >= (self.patience if self.works else FIRST_REFUSALS) and not self.stopping()

    async def ask_control(self, wire: Wire, pace: Pace[Answer]) -> None:
        """Is it the prompts that are refused, or is everything?"""
        async with self.lock:
            refusals = list(self.refusals)
            if not refusals or self.stopping():
                return
            seed = seed_of(self.writing.seed, CONTROL.id, 0)
            outcome = await pace.retried(lambda: self.ask(wire, (CONTROL, 0), seed), seed)
            if isinstance(outcome, Answer) or (isinstance(outcome, Fault) and outcome.missing == WITHHELD):
                self.keep_refusals()
            elif outcome is not None and self.refusals:
                (prompt, _), fault = refusals[0]
                of = f"{len(refusals)} prompts got no answer, nor did {CONTROL.id} ({outcome.reason}); first: prompt {prompt.id!r}"
                self.fatal = of, replace(outcome, reason=fault.reason, fix=parameter_fix(self.names, outcome))

    def stopping(self) -> bool:
        """Is the asking to end?"""
        self.out_of_time = self.out_of_time or self.expired()
        return self.out_of_time or self.given_up or self.interrupted or self.fatal is not None

    def raise_trouble(self) -> None:
        """Say why answers are missing, if any are."""
        n_unasked = len(self.jobs) + self.unasked + len(self.refusals)
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
            if self.works and not n_unasked:
                fix += "; or count these as missing (on_failure)"
            raise (UserError if n_unasked else Unanswered)("Some prompts got no answer.", detail, fix)
        assert not n_unasked, n_unasked


def missing_answer(job: Job, fault: Fault) -> Answer:
    """What is written of a prompt that has no answer: why, and in the endpoint's words."""
    prompt, attempt = job
    if fault.missing == WITHHELD:
        return Answer(prompt.id, "", "refused", attempt=attempt, meta={"refusal": fault.reason})
    return Answer(prompt.id, "", "missing", attempt=attempt, meta={"missing": fault.missing, "detail": fault.reason})
