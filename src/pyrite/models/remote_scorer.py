"""Asking an endpoint for the log-probabilities of prompts: what it can is found out first, many requests are under way at once."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pyrite.errors import UserError
from pyrite.models.remote_endpoint import Endpoint, Usage
from pyrite.models.remote_fault import FAILED, Fault
from pyrite.models.remote_pace import Pace
from pyrite.models.remote_reply import listed_models, read_reply
from pyrite.models.remote_run import seed_of
from pyrite.models.remote_scores import HALF, WAYS, Prompt, PromptScores, Way, read_scores, score_body
from pyrite.models.remote_wire import Wire

PLAIN = "The sun rises in the"
"""What is scored to find out what an endpoint can."""
AGREES = 0.25
"""Nats by which the log-probability of a token may differ between writing it and reading it: servers round."""
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Ability:
    """How an endpoint tells the log-probabilities of a prompt, of which model, and whether those of a token that it wrote itself
    were found to be the same when it read it (None: it could not be asked)."""

    way: Way
    model: str
    same_as_written: bool | None = None


class Scorer:
    """Scores prompts at one endpoint. Token ids are sent where prompts are such, and the server must then say the same."""

    def __init__(self, endpoint: Endpoint, usage: Usage | None = None, *, base_wait: float = 1.0) -> None:
        self.endpoint, self.usage, self.base_wait = endpoint, usage or Usage(), base_wait
        self.ability: Ability | None = None
        self.fatal: Fault | None = None

    def find_ability(self, plain: Prompt = PLAIN) -> Ability:
        """What the endpoint can; asked once, with `plain` (of the kind that prompts will be).

        Raises:
            UserError: it has no way to tell a prompt's log-probabilities, with what it answered to each; or it does not
                answer at all.
        """
        if self.ability is None:
            self.ability = run_async(lambda: self._find_ability(plain))
        return self.ability

    def scores(self, prompts: Sequence[Prompt], answered: Callable[[], None]) -> list[PromptScores | Fault]:
        """The scores of each prompt, in order; a fault that is the prompt's own stands in its place.

        Raises:
            UserError: a fault that is not the prompt's, or (`on_failure: stop`) that lasted through all retries.
        """
        ability = self.find_ability()
        outcomes = run_async(lambda: self._scores(ability, prompts, answered))
        if self.fatal is not None:
            raise UserError("The endpoint does not score as asked.", self.fatal.reason, self.fatal.fix)
        return [outcome for outcome in outcomes if outcome is not None]

    async def _find_ability(self, plain: Prompt) -> Ability:
        async with Wire(self.endpoint) as wire:
            pace: Pace[Any] = Pace(self.endpoint, self.usage, lambda: False, self.base_wait)
            model = self.endpoint.model or await self._only_model(wire, pace)
            refusals = []
            for way in WAYS[str if isinstance(plain, str) else list]:
                outcome = await pace.retried(partial(self._ask, wire, model, plain, way), 0)
                if isinstance(outcome, PromptScores):
                    same = await self._same_as_written(wire, pace, model, plain, way, outcome)
                    if same is False:
                        refusals.append(f"{way}: a token that it wrote has another log-probability where it is read")
                        continue
                    return Ability(way, model, same)
                assert outcome is not None, "nothing stops this"
                if not outcome.missing and outcome.status != 404:
                    raise UserError("The endpoint does not score as asked.", f"{way}: {outcome.reason}", outcome.fix)
                refusals.append(f"{way}: {outcome.reason}")
        fix = (
            "serve the model with one that does (vllm serve), or ask it for tasks whose answers are texts; a model on this "
            "machine needs no endpoint"
        )
        raise UserError("The endpoint does not tell the log-probabilities of a prompt.", "; ".join(refusals), fix)

    async def _only_model(self, wire: Wire, pace: Pace[Any]) -> str:
        """The only model that the endpoint lists."""
        models = await pace.retried(lambda: listed_models(wire), 0)
        if isinstance(models, Fault):
            raise UserError("The endpoint does not list its models.", models.reason, f"{models.fix}; or name the model")
        if models is None or len(models) != 1:
            detail = f"{len(models or [])} models: {wire.clean(', '.join(models or []))}"
            raise UserError("The endpoint does not list exactly one model.", detail, "name one of them as the model")
        return str(models[0])

    async def _same_as_written(
        self, wire: Wire, pace: Pace[Any], model: str, plain: Prompt, way: Way, scores: PromptScores
    ) -> bool | None:
        """Has the token that was written next the same log-probability where it stands in the prompt? None where it cannot be
        put there."""
        if not isinstance(plain, str) or scores.next is None or not scores.next[0] or HALF in scores.next[0]:
            return None
        text, written = scores.next
        longer = await pace.retried(lambda: self._ask(wire, model, plain + text, way), 0)
        if not isinstance(longer, PromptScores) or longer.tokens[-1] != text:
            return None
        if len(longer.tokens) != len(scores.tokens) + 1 or longer.logprobs[-1] is None:
            return None
        return abs(longer.logprobs[-1] - written) <= AGREES

    async def _scores(
        self, ability: Ability, prompts: Sequence[Prompt], answered: Callable[[], None]
    ) -> list[PromptScores | Fault | None]:
        outcomes: list[PromptScores | Fault | None] = [None] * len(prompts)
        todo = list(reversed(range(len(prompts))))

        def stopping() -> bool:
            return self.fatal is not None

        async def worker(wire: Wire, pace: Pace[PromptScores]) -> None:
            while todo and not stopping():
                at = todo.pop()
                outcomes[at] = await pace.retried(
                    partial(self._ask, wire, ability.model, prompts[at], ability.way), seed_of(0, str(at), 0)
                )
                self._settle(outcomes, at)
                answered()

        async with Wire(self.endpoint) as wire:
            pace: Pace[PromptScores] = Pace(self.endpoint, self.usage, stopping, self.base_wait)
            await asyncio.gather(*(worker(wire, pace) for _ in range(min(self.endpoint.concurrency, len(prompts)))))
        return outcomes

    def _settle(self, outcomes: list[PromptScores | Fault | None], at: int) -> None:
        """Is a fault the prompt's own, or the run's?"""
        outcome = outcomes[at]
        if not isinstance(outcome, Fault):
            return
        if outcome.again:
            self.usage.failed += 1
            outcome = replace(outcome, missing=FAILED if self.endpoint.on_failure == "missing" else "")
            outcomes[at] = outcome
        if outcome.missing:
            self.usage.missing += 1
        else:
            self.fatal = self.fatal or outcome

    async def _ask(self, wire: Wire, model: str, prompt: Prompt, way: Way) -> PromptScores | Fault:
        """One request for the scores of one prompt."""
        raw = await wire.completion(score_body(model, prompt, way))
        body = raw if isinstance(raw, Fault) else read_reply(wire, raw, self.usage)
        if isinstance(body, Fault):
            return replace(body, reason=wire.clean(body.reason))
        scores = read_scores(body, way)
        if isinstance(scores, Fault):
            return replace(scores, reason=wire.clean(scores.reason), again=False)
        return scores if isinstance(prompt, str) else as_sent(scores, prompt)


def as_sent(scores: PromptScores, ids: Sequence[int]) -> PromptScores | Fault:
    """The scores of token ids that were sent, if the server read those and no others."""
    if len(scores.tokens) != len(ids):
        reason = f"{len(ids)} token ids were sent, and the server read {len(scores.tokens)} tokens"
        return Fault(
            reason, again=False, fix="leave out --tokenizer: this server adds tokens to those that it is given"
        )
    if scores.ids is not None and list(scores.ids[1:]) != list(ids[1:]):
        fix = "give the tokenizer of the model that is served: --tokenizer MODEL"
        return Fault("the server read other token ids than were sent", again=False, fix=fix)
    return replace(scores, ids=tuple(ids))


def run_async(start: Callable[[], Coroutine[Any, Any, Made]]) -> Made:
    """Run a coroutine in an event loop of its own; beside one that runs already (a notebook's), in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(start())).result()
