"""The two steps of tasks whose answers are texts: a model or an endpoint answers, a judge reads the answers."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyrite.errors import UserError
from pyrite.io import Counts
from pyrite.models import load
from pyrite.models.answers import Answer, Writing, read_answers, write_answers
from pyrite.models.hardware import Compute
from pyrite.models.remote import Endpoint, Usage, chat, ordered
from pyrite.probe.int8_check import CHECKED_ANSWERS, same_texts
from pyrite.probe.probe_task import model_folder
from pyrite.probe.texts import texts_of
from pyrite.records import Chat
from pyrite.steps import Context, Step, StepType
from pyrite.tasks import followbench, mt_bench
from pyrite.tasks.generative import GenerativeTask
from pyrite.tasks.generative_tasks import generative_task

JUDGE_TOKENS = 1024
"""What a judge may write about one answer."""


def task_of_step(config: Mapping[str, Any]) -> GenerativeTask:
    """The task that a step's configuration names."""
    return generative_task(config["task"], config.get("plugin", ""))


def configured_prompts(path: Path, config: Mapping[str, Any]) -> tuple[list[Chat], Counts]:
    """The prompts that a step's configuration names (task, items, skip, seed), and the file's rows by their fate."""
    items, counts = task_of_step(config).read(path, config.get("on_bad_row", "stop"))
    return draw_prompts(items, config["items"], config.get("skip", 0), config["seed"]), counts


def answers_step(context: Context) -> None:
    """Step: a model's or an endpoint's answers → `answers.jsonl` in the order of the prompts, and `run.json`."""
    config = context.config
    items, _ = configured_prompts(context.inputs["file"], config)
    writing = Writing.model_validate(config["writing"])
    temperatures = own_temperatures(config, items)
    answers = remote_answers if config["backend"] == "openai" else local_answers
    answer = answers(context, writing, temperatures)
    replies, record = answer(items)
    if task_of_step(config).turns == 2:
        later, told_later = answer(second_turns(items, replies))
        replies = [*replies, *later]
        record = {**summed_usage(record, told_later), "turn_1": record}
    write_answers(replies, context.out / "answers.jsonl")
    record |= counts_of(replies)
    (context.out / "run.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))


def own_temperatures(config: Mapping[str, Any], items: Sequence[Chat]) -> dict[str, float] | None:
    """The temperatures that a benchmark has for each of its prompts; None where all are written at the same."""
    if config["task"] != "mt_bench" or not config["own_temperatures"]:
        return None
    temperatures = {item.id: mt_bench.TEMPERATURES[item.meta["category"]] for item in items}
    return temperatures | {f"{item.id}/2": temperatures[item.id] for item in items}


def second_turns(items: Sequence[Chat], replies: Sequence[Answer]) -> list[Chat]:
    """The second turns of a benchmark of two, where the first was answered."""
    first = texts_of(replies)
    return [mt_bench.second_turn(item, text) for item in items if (text := first[item.id]) is not None]


def counts_of(replies: Sequence[Answer]) -> dict[str, Any]:
    """How many answers there are, cut, refused and missing (by reason), and who gave them."""
    cut = sum(reply.finish == "length" for reply in replies)
    refused = sum(reply.finish == "refused" for reply in replies)
    missing = dict(Counter(reply.why_missing for reply in replies if reply.finish == "missing"))
    return {
        "prompts": len(replies),
        "cut_at_limit": cut,
        "refused": refused,
        "missing": missing,
        "models": served(replies),
    }


def summed_usage(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """What two turns took: numbers are added up, all else is the second's."""
    added = {
        name: value + second[name]
        for name, value in first.items()
        if isinstance(value, int | float) and isinstance(second.get(name), int | float)
    }
    return {**first, **second, **added}


def served(answers: Sequence[Answer]) -> dict[str, list[str]]:
    """Which models and versions the server says it used."""
    models = sorted({str(answer.meta["model"]) for answer in answers if answer.meta.get("model")})
    prints = sorted(
        {str(answer.meta["system_fingerprint"]) for answer in answers if answer.meta.get("system_fingerprint")}
    )
    return {"models": models, "fingerprints": prints}


AnswersAndUsage = tuple[list[Answer], dict[str, Any]]
Answering = Callable[[Sequence[Chat]], AnswersAndUsage]
"""Given prompts: the answers in their order, and what is told of them."""


def local_answers(context: Context, writing: Writing, temperatures: Mapping[str, float] | None) -> Answering:
    """The packaged, downloaded or own model, on this machine, loaded once for all turns."""
    from pyrite.models.write import answer_prompts

    load.quiet_libraries()
    compute = Compute(**context.config["compute"])
    base = model_folder(context, context.config["task"])
    tokenizer = load.load_tokenizer(base)
    loaded: list[tuple[Any, Compute]] = []

    def write(model: Any, used: Compute, prompts: Sequence[Chat], name: str) -> tuple[list[Answer], dict[str, Any]]:
        file = context.checkpoint / name
        with used.autocast():
            usage = answer_prompts(
                model, tokenizer, prompts, writing, file,
                temperatures=temperatures, template_kwargs=context.config.get("chat_template_kwargs"),
                report_progress=context.report_progress, expired=context.expired,
                skip=context.config.get("on_bad_row") == "skip",
            )  # fmt: skip
        by_id = {reply.id: reply for reply in read_answers(file)}
        return [by_id[prompt.id] for prompt in prompts], usage

    def answer(prompts: Sequence[Chat]) -> AnswersAndUsage:
        sure: list[Answer] = []
        if not loaded:
            plain = load.load_causal(base, compute)
            if compute.precision == "int8":
                sure, _ = write(plain, compute, prompts[:CHECKED_ANSWERS], "answers-fp32.jsonl")
            loaded.append(load.for_generation(plain, compute))
        model, used = loaded[0]
        answers, usage = write(model, used, prompts, "answers.jsonl")
        if sure:
            usage["int8_check"] = same_texts(
                [reply.text for reply in sure], [reply.text for reply in answers[: len(sure)]]
            )
        return answers, {**usage, "dtype": str(model.dtype).removeprefix("torch.")}

    return answer


def remote_answers(context: Context, writing: Writing, temperatures: Mapping[str, float] | None) -> Answering:
    """An endpoint."""
    endpoint = Endpoint.model_validate(orjson.loads(context.inputs["endpoint"].read_bytes()))
    file = context.checkpoint / "answers.jsonl"

    def answer(prompts: Sequence[Chat]) -> AnswersAndUsage:
        usage = ask_endpoint(context, endpoint, prompts, writing, temperatures, file, 1)
        replies = ordered(file, prompts)
        return [reply for reply in replies if reply is not None], asdict(usage)

    return answer


def ask_endpoint(
    context: Context,
    endpoint: Endpoint,
    prompts: Sequence[Chat],
    writing: Writing,
    temperatures: Mapping[str, float] | None,
    out: Path,
    attempts: int,
) -> Usage:
    """Ask an endpoint; an answer that could not be had is one of them, and says why."""
    usage = Usage()
    chat(
        endpoint, prompts, writing, out, attempts=attempts, temperatures=temperatures,
        template_kwargs=context.config.get("chat_template_kwargs"),
        report_progress=context.report_progress, expired=context.expired, usage=usage,
    )  # fmt: skip
    return usage


def judge_step(context: Context) -> None:
    """Step: a judge's replies about answers → `replies.jsonl` (every vote) and `run.json`."""
    config = context.config
    items, _ = configured_prompts(context.inputs["file"], config)
    prompts = judge_prompts(config["task"], items, list(read_answers(context.inputs["answers"] / "answers.jsonl")))
    endpoint = Endpoint.model_validate(orjson.loads(context.inputs["endpoint"].read_bytes()))
    writing = Writing(max_new_tokens=JUDGE_TOKENS, temperature=config["temperature"], seed=config["seed"])
    out = context.checkpoint / "replies.jsonl"
    began = time.monotonic()
    usage = ask_endpoint(context, endpoint, prompts, writing, None, out, config["votes"])
    replies = [reply for reply in ordered(out, prompts, config["votes"]) if reply is not None]
    write_answers(replies, context.out / "replies.jsonl")
    record = {**asdict(usage), "seconds": time.monotonic() - began, **served(replies)}
    (context.out / "run.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))


ANSWERS = StepType("probe.answers", 2, answers_step)
JUDGE = StepType("probe.judge", 1, judge_step)


def answers_step_of(step: Step) -> Step:
    """The step in which the subject answered: this one, or the one that this one judges."""
    answers = step.inputs["answers"] if step.kind is JUDGE else step
    assert isinstance(answers, Step)
    return answers


def turn_pairs(items: Sequence[Chat], texts: Mapping[str, str | None]) -> dict[str, tuple[str | None, str | None]]:
    """MT-Bench: the two answers to each question."""
    return {item.id: (texts.get(item.id), texts.get(f"{item.id}/2")) for item in items}


def judge_prompts(name: str, items: Sequence[Chat], answers: Sequence[Answer]) -> list[Chat]:
    """What the judge is asked."""
    texts = texts_of(answers)
    if name == "mt_bench":
        return mt_bench.judge_prompts(items, turn_pairs(items, texts))
    return followbench.judge_prompts(items, texts)


def draw_prompts(items: list[Chat], count: int | None, skip: int, seed: int) -> list[Chat]:
    """So many prompts, drawn by the seed, in file order; those that `count=skip` would draw are left out before.

    FollowBench keeps examples whole. Elsewhere a larger draw holds every smaller one of the same seed.
    """
    if count is not None and count >= len(items):
        count = None
    if count is None and not skip:
        return items
    if skip >= len(items):
        raise UserError("--skip leaves no item.", f"--skip {skip}, {len(items)} items", "skip fewer")
    examples: dict[str, list[Chat]] = defaultdict(list)
    for item in items:
        examples[str(item.meta.get("example", item.id))].append(item)
    groups = list(examples.values())
    order = [groups[int(at)] for at in np.random.default_rng(seed).permutation(len(groups))]
    left_out = fill(order, skip) if skip else set()
    left = [members for members in order if members[0].id not in left_out]
    chosen = fill(left, len(items) if count is None else count)
    return [item for item in items if item.id in chosen]


def fill(groups: Sequence[Sequence[Chat]], count: int) -> set[str]:
    """The ids of whole groups, in order, as long as they fit into so many items."""
    chosen: set[str] = set()
    for members in groups:
        if len(chosen) + len(members) <= count:
            chosen |= {item.id for item in members}
    if not chosen:
        detail = f"{count} items; an example has up to {max(map(len, groups))}"
        raise UserError("So few items hold no whole example.", detail, "give a larger number")
    return chosen
