"""Written answers by way of a batch file: its requests, and the step that reads its responses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.io import atomic_write
from pyrite.models.answers import Answer, Writing, write_answers
from pyrite.models.remote_fault import Fault
from pyrite.probe.batch_files import Asking, Batch, read_batch, settled
from pyrite.probe.generative_steps import configured_prompts, counts_of, own_temperatures, second_turns, task_of_step
from pyrite.records import Chat
from pyrite.steps import Context, StepType


def asking_of(config: Mapping[str, Any], items: Sequence[Chat]) -> Asking:
    """How a step's configuration asks."""
    return Asking(
        config["task"],
        Writing.model_validate(config["writing"]),
        config["names"],
        config.get("chat_template_kwargs"),
        own_temperatures(config, items),
    )


def batch_answers_step(context: Context) -> None:
    """Step: a batch's output file → `answers.jsonl` in the order of the prompts, and `run.json`."""
    config, path = context.config, context.inputs["batch"]
    items, _ = configured_prompts(context.inputs["file"], config)
    asking = asking_of(config, items)
    batch = read_batch(path, skip=config.get("on_bad_row") == "skip")
    replies = first_answers(batch, asking, items, config["on_failure"])
    if task_of_step(config).turns == 2:
        second = second_turns(items, replies)
        outcomes = batch.take(asking, second)
        if second and all(isinstance(outcome, Fault) for outcome in outcomes):
            fix = (
                "write their requests with --export FOLDER beside --predictions, run them, and give the lines of both files "
                "in one: cat FIRST SECOND"
            )
            raise UserError("The batch file holds no second turn.", f"{path}: {len(second)} are asked", fix)
        replies += settled(second, outcomes, path, on_failure=config["on_failure"])
    write_answers(replies, context.out / "answers.jsonl")
    lines = {"read": batch.read, "left_out": batch.reasons, "of_other_items": len(batch.lines)}
    tokens = {
        "prompt_tokens": sum(reply.prompt_tokens or 0 for reply in replies),
        "tokens": sum(reply.tokens or 0 for reply in replies),
    }
    record = {**tokens, **counts_of(replies), "batch": lines}
    (context.out / "run.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))


def first_answers(batch: Batch, asking: Asking, items: Sequence[Chat], on_failure: str) -> list[Answer]:
    """The answers to the first turns, or to all of a benchmark that has no others."""
    return settled(items, batch.take(asking, items), batch.path, on_failure=on_failure)


def write_requests(config: Mapping[str, Any], file: Path, model: str, folder: Path, first: Path | None) -> Path:
    """Write a task's requests into a folder; with the output file of the `first` turns, those of the second ones.

    Raises:
        UserError: a second turn of a task that has one only.
    """
    items, _ = configured_prompts(file, config)
    asking, name = asking_of(config, items), config["task"]
    if first is not None:
        if task_of_step(config).turns == 1:
            detail = f"{name}, --export and --predictions {first}"
            raise UserError("This task has one turn.", detail, "leave out --export to score the answers")
        batch = read_batch(first, skip=config.get("on_bad_row") == "skip")
        items, name = second_turns(items, first_answers(batch, asking, items, config["on_failure"])), f"{name}-turn-2"
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{name}.jsonl"
    with atomic_write(out) as part:
        part.write_bytes(b"".join(asking.line(item, model) for item in items))
    return out


BATCH_ANSWERS = StepType("probe.answers_of_batch", 1, batch_answers_step)
