"""Answers from any OpenAI-compatible chat endpoint: OpenAI, `vllm serve`, `transformers serve`, llama.cpp and others.

Every answer is in the file before the next is waited for; an interrupted run asks only for what is missing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pyrite.models.answers import Answer, AnswerFile, Writing, check_ids
from pyrite.models.remote_endpoint import Endpoint, Usage
from pyrite.models.remote_run import Job, RemoteRun, Unanswered
from pyrite.records import Chat

__all__ = ["Endpoint", "Unanswered", "Usage", "chat", "ordered"]


def chat(
    endpoint: Endpoint,
    prompts: Sequence[Chat],
    writing: Writing,
    out: Path,
    *,
    attempts: int = 1,
    temperatures: Mapping[str, float] | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
    report_progress: Callable[[float, float, str], None],
    expired: Callable[[], bool] = lambda: False,
    usage: Usage | None = None,
    base_wait: float = 1.0,
) -> Usage:
    """Ask each prompt `attempts` times and append every answer to `out`; what `out` already holds is not asked again.

    Each request carries a seed that follows from the writing's seed, the prompt's id and the attempt; whether an
    endpoint heeds it is its own affair, so answers are not promised to repeat. Answers arrive in any order: see
    `ordered`. A busy or failing endpoint is asked again after `base_wait` seconds, then twice as many, up to a minute,
    each time cut by a random share of at most a half; a break that it asks for (`Retry-After`) holds all requests.
    `temperatures` goes by prompt id, for prompts whose temperature is not the writing's; `template_kwargs` are variables of
    the server's chat template.
    A prompt that the endpoint refuses, or to which its replies hold no answer, while it answers others, has an answer
    of finish "refused" or "missing", which says why. Parameters that a server refuses by name are left out or renamed,
    and stand in the `meta` of each answer.
    The usage of a run that raises is in the given `usage`.

    Raises:
        UserError: a fault of the endpoint or the settings that no retry can mend (its status, a break of more than ten
            minutes, no credit), at once; an endpoint that fails or refuses only, after a few. What was answered is
            kept, requests under way included.
        Unanswered: prompts that failed through all retries, after all others are finished.
        OutOfTime: `expired` said so; nothing is asked any more and requests under way are finished first.
    """
    assert attempts >= 1, attempts
    check_ids(prompts)
    usage = usage if usage is not None else Usage()
    if endpoint.price_in is not None:
        usage.cost = usage.cost or 0.0
    total, began = len(prompts) * attempts, time.monotonic()
    with AnswerFile(out) as file:
        jobs = [(prompt, at) for prompt in prompts for at in range(attempts) if (prompt.id, at) not in file.done]
        n_done = total - len(jobs)
        for prompt in prompts:
            for at in range(attempts):
                if (prompt.id, at) in file.done:
                    usage.keep(endpoint, file.done[prompt.id, at])

        def answered() -> None:
            nonlocal n_done
            n_done += 1
            report_progress(n_done, total, "answers")

        report_progress(n_done, total, "answers")
        run = RemoteRun(
            endpoint, writing, file, usage,
            temperatures=temperatures, template_kwargs=template_kwargs, answered=answered, expired=expired, base_wait=base_wait,
        )  # fmt: skip
        try:
            if jobs:
                to_the_end(run, jobs)
        finally:
            usage.seconds += time.monotonic() - began
        run.raise_trouble()
    return usage


def to_the_end(run: RemoteRun, jobs: Sequence[Job]) -> None:
    """Run an event loop of our own; beside one that runs already (a notebook's), in a thread."""
    try:
        asyncio.get_running_loop()
        beside = True
    except RuntimeError:
        beside = False
    if not beside:
        asyncio.run(run.all(jobs))
        return
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(asyncio.run, run.all(jobs)).result()
        except KeyboardInterrupt:
            run.interrupted = True
            raise


def ordered(path: Path, prompts: Sequence[Chat], attempts: int = 1) -> list[Answer | None]:
    """The answers of a file in the order of the prompts, all attempts at one prompt together; None where one lacks."""
    if not path.exists():
        return [None] * (len(prompts) * attempts)
    with AnswerFile(path) as file:
        return [file.done.get((prompt.id, attempt)) for prompt in prompts for attempt in range(attempts)]
