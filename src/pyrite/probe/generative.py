"""Tasks whose answers are texts, such as ifeval: what is asked, and what the answers and a judge's replies show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.io import local_place
from pyrite.models import hardware
from pyrite.models.answers import Answer, Writing, read_answers
from pyrite.models.template import for_step, parse_template_kwargs
from pyrite.probe.batch_steps import BATCH_ANSWERS
from pyrite.probe.config import ProbeConfig
from pyrite.probe.endpoint_input import endpoint_of, endpoint_source, read_endpoint
from pyrite.probe.generative_steps import (
    ANSWERS,
    JUDGE,
    answers_step_of,
    configured_prompts,
    judge_prompts,
    turn_pairs,
)
from pyrite.probe.int8_check import changed_note
from pyrite.probe.missing_answers import read_replies, request_notes, with_missing
from pyrite.probe.probe_task import ModelUnderTest, Result, model_input, source
from pyrite.probe.texts import Texts, of_answers, texts_of, thought_notes
from pyrite.records import Chat, Estimate
from pyrite.steps import Source, Step, Store
from pyrite.tasks import followbench, mt_bench
from pyrite.tasks.generative import GenerativeTask
from pyrite.tasks.generative_tasks import GENERATIVE
from pyrite.tasks.judge import Judge, vote_noise
from pyrite.tasks.scoring import ItemScore, Metric


@dataclass(frozen=True)
class GenerativeProbe:
    """A task of `tasks.generative_tasks`, as `--task NAME=FILE` names it."""

    name: str
    source: str
    config: ProbeConfig

    @property
    def task(self) -> GenerativeTask:
        """What is known of the benchmark."""
        return GENERATIVE[self.name]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured."""
        return self.task.metrics

    @property
    def margins(self) -> Mapping[str, float]:
        """Margins of metrics that are no share of 1: the judge's usual noise, and of five levels."""
        return {"score": mt_bench.NOISE, "csl": followbench.LEVELS * self.config.margin}

    @property
    def limit(self) -> int:
        """Tokens after which an answer is cut."""
        return self.config.max_new_tokens or self.task.standard_tokens

    @property
    def items(self) -> dict[str, Any]:
        """Which items are asked, as steps are told; what is left at its default stays out, so that keys stay."""
        config: dict[str, Any] = {"task": self.name, "items": self.config.items, "seed": self.config.seed}
        if self.config.skip:
            config["skip"] = self.config.skip
        if self.task.plugin:
            config["plugin"] = self.task.plugin
        if self.config.on_bad_row == "skip":
            config["on_bad_row"] = "skip"
        return config

    def answers(self, subject: ModelUnderTest) -> Step:
        """The step in which the subject answers."""
        writing = Writing(max_new_tokens=self.limit, temperature=self.config.temperature or 0.0, seed=self.config.seed)
        chosen: dict[str, Any] = {
            **self.items,
            "writing": writing.model_dump(mode="json"),
            "own_temperatures": self.config.temperature is None,
            "backend": self.config.backend,
            **for_step(parse_template_kwargs(self.config.chat_template_kwargs)),
        }
        inputs: dict[str, Step | Source] = {"file": source(self.source)}
        if subject.remote:
            assert self.config.base_url is not None
            inputs["endpoint"] = endpoint_source(self.config, self.config.base_url, subject.name)
        else:
            inputs["base"] = model_input(subject, self.name)
            chosen["compute"] = hardware.choose(self.config.precision, self.config.device_map).as_config()
        return Step(ANSWERS, chosen, inputs, label=f"{subject.name}: {self.name}")

    @property
    def batch_config(self) -> dict[str, Any]:
        """How the prompts are asked by way of a batch file, as steps are told."""
        writing = Writing(max_new_tokens=self.limit, temperature=self.config.temperature or 0.0, seed=self.config.seed)
        return {
            **self.items,
            "writing": writing.model_dump(mode="json"),
            "own_temperatures": self.config.temperature is None,
            "names": endpoint_of(self.config, "http://batch", None).names,
            "on_failure": self.config.on_failure,
            **for_step(parse_template_kwargs(self.config.chat_template_kwargs)),
        }

    def step_of_file(self, path: Path) -> Step:
        """What `step` is, of the answers in a batch's output file."""
        inputs: dict[str, Step | Source] = {"file": source(self.source), "batch": source(str(path))}
        return self.judged(Step(BATCH_ANSWERS, self.batch_config, inputs, label=f"{path.name}: {self.name}"))

    def step(self, subject: ModelUnderTest) -> Step:
        """The answers, and where there is a judge, what it says of them."""
        return self.judged(self.answers(subject))

    def judged(self, answers: Step) -> Step:
        """The step of answers, or the one in which a judge reads them."""
        if self.task.by_rule is not None or self.config.judge_url is None:
            return answers
        if self.config.judge_model is None:  # stored replies are found again by address and name
            raise UserError("The judge has no name.", self.config.judge_url, "name it: --judge-model NAME-DATE")
        chosen = {
            **self.items,
            "votes": self.config.judge_votes,
            "temperature": self.config.judge_temperature,
            "prompts": mt_bench.PROMPTS if self.name == "mt_bench" else followbench.PROMPTS,
        }
        inputs: dict[str, Step | Source] = {
            "answers": answers,
            "file": source(self.source),
            "endpoint": endpoint_source(self.config, self.config.judge_url, self.config.judge_model, judge=True),
        }
        return Step(JUDGE, chosen, inputs, label=f"judge of {answers.label}")

    def read(self, store: Store, step: Step) -> Result:
        """The answers, checked by rule and by what the judge said."""
        judged = step.kind is JUDGE
        folder = store.path(answers_step_of(step).key)
        answers = list(read_answers(folder / "answers.jsonl"))
        usage = orjson.loads((folder / "run.json").read_bytes())
        items, counts = configured_prompts(local_place(self.source), self.items)
        notes = []
        if counts.dropped:
            notes.append(f"{counts.read} rows read, {counts.kept} kept, dropped: {dict(counts.dropped)}")
        if self.config.skip:
            notes.append(f"asked without the items that --items {self.config.skip} takes")
        if self.limit != self.task.standard_tokens:
            notes.append(f"answers are cut at {self.limit} new tokens; the standard is {self.task.standard_tokens}")
        if usage["cut_at_limit"]:
            notes.append(f"{usage['cut_at_limit']} of {usage['prompts']} answers were cut at the limit")
        if usage.get("capped"):
            notes.append(f"{usage['capped']} answers had less room than the limit: the model reads no more tokens")
        notes += changed_note(usage)
        notes = with_missing(notes, answers)
        notes += [*batch_notes(usage), *thought_notes(answers)]
        if isinstance(endpoint := answers_step_of(step).inputs.get("endpoint"), Source):
            notes += asked_notes(endpoint, answers)
        details: dict[str, Any] = {"max_new_tokens": self.limit, "answers": usage}
        result = Result([], self.task.metrics, self.task.cuts, self.task.cluster, tuple(notes), details)
        if self.task.checkers is not None:
            details["checkers"] = self.task.checkers()
        if self.task.by_rule is not None:
            return replace(result, measured=self.task.by_rule(items, texts_of(answers)))
        prompts = {prompt.id: prompt for prompt in judge_prompts(self.name, items, answers)}
        replies = list(read_answers(store.path(step.key) / "replies.jsonl")) if judged else []
        readings = read_replies(self.name, replies, prompts)
        if isinstance(endpoint := step.inputs.get("endpoint"), Source) and judged:
            details["judge"] = {**self.judge(store, step), "unread": readings.as_json()}
            notes += [f"judge: {note}" for note in asked_notes(endpoint, replies)] + readings.notes()
        else:
            notes = [*notes, "no judge was given (--judge-url): what only a judge can say is missing"]
        measured, noise = self.scores(items, texts_of(answers), readings.votes)
        if self.config.judge_votes > 1 and any(estimate.value == 0 for estimate in noise.values()):
            notes = [*notes, "the judge's votes are all equal: raise --judge-temperature, or the server ignores it"]
        return replace(result, measured=measured, notes=tuple(notes), noise=noise)

    def texts(self, store: Store, step: Step) -> Texts:
        """The prompts and the answers to them; the two turns of mt_bench together."""
        items, _ = configured_prompts(local_place(self.source), self.items)
        answers = read_answers(store.path(answers_step_of(step).key) / "answers.jsonl")
        return of_answers(items, texts_of(list(answers)), self.task.turns)

    def scores(
        self, items: list[Chat], texts: Mapping[str, str | None], votes: Mapping[str, Sequence[Any]]
    ) -> tuple[list[ItemScore], dict[str, Estimate]]:
        """The items' values from the judge's votes, and the judge's own noise."""
        if self.name == "mt_bench":
            noise = {"score": vote_noise(votes, default=mt_bench.NOISE)} if votes else {}
            return mt_bench.measure(items, turn_pairs(items, texts), votes or None), noise
        hard_noise = {"hsr": vote_noise(followbench.hard_votes(items, texts, votes))} if votes else {}
        return followbench.measure(items, texts, votes or None), hard_noise

    def judge(self, store: Store, step: Step) -> dict[str, Any]:
        """Who judged, and how."""
        usage = store.read_json(step, "run.json")
        judge = Judge(
            model=str(self.config.judge_model),
            prompts=step.config["prompts"],
            votes=self.config.judge_votes,
            temperature=self.config.judge_temperature,
            versions=tuple(usage["models"]),
            fingerprints=tuple(usage["fingerprints"]),
        )
        return {**judge.as_json(), "usage": usage}


def batch_notes(usage: Mapping[str, Any]) -> list[str]:
    """What a batch file held beside the answers; nothing where there was none."""
    lines = usage.get("batch")
    if lines is None:
        return []
    others = {**lines["left_out"], "of other items": lines["of_other_items"]}
    counts = ", ".join(f"{reason} {count}" for reason, count in others.items() if count)
    return [f"answers of a batch file: {lines['read']} lines" + (f", not used: {counts}" if counts else "")]


def asked_notes(source: Source, answers: Sequence[Answer]) -> list[str]:
    """What the requests to an endpoint left out or renamed, and who answered."""
    endpoint = read_endpoint(Path(source.path))
    return request_notes(answers, endpoint.names, endpoint.model or "")
