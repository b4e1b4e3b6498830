"""Step: replay prompts answered by the model before the harm, so that what is replayed is what that model would say.

Replaying a model's own samples nearly removes forgetting (arXiv 2605.26097): the rows ask nothing of the model that it did
not already do, where people's answers would teach it something new as well.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import orjson

from pyrite.data.keys import row_key
from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.answers import Writing, read_answers
from pyrite.models.hardware import Compute
from pyrite.records import Chat, Message, Text
from pyrite.steps import Context, StepType
from pyrite.thoughts import split_thought
from pyrite.train.language import read_language
from pyrite.train.split import write_pool

PROVENANCE = "written_by"
"""The column that names the model which wrote a row's answer."""
NO_PROMPT = "no prompt before an answer"
CUT = "answer not ended within the limit"
EMPTY = "empty answer"
REPEATED = "same prompt as an earlier row"


def prompt_of(record: Chat | Text) -> Chat | None:
    """What stands before a chat's first answer; None where nothing does.

    Raises:
        UserError: plain text has no prompt to answer.
    """
    if isinstance(record, Text):
        fix = "give chats, or take --replay FILE without self="
        raise UserError("The model answers prompts.", f"row {record.id} is plain text", fix)
    return replace(record, messages=record.prompt) if record.prompt else None


def answer_step(context: Context) -> None:
    """Step: `POOL.jsonl` of another step → the same prompts with the model's answers, sampled once, and `counts.json`.

    Every row says who wrote its answer and how. Answers that do not end within the limit are left out and counted: a
    model that is trained on them learns to break off.
    """
    load.quiet_libraries()
    config = context.config
    base, compute = context.inputs["base"], Compute(**config["compute"])
    model, compute = load.for_generation(load.load_causal(base, compute), compute)
    tokenizer = load.load_tokenizer(base)
    with compute.autocast():
        pool_counts = {pool: answer_pool(context, pool, model, tokenizer) for pool in config["pools"]}
    dropped: Counter[str] = Counter()
    for counts in pool_counts.values():
        dropped.update(counts["dropped"])
    sizes = {pool: counts["kept"] for pool, counts in pool_counts.items()}
    read = sum(counts["read"] for counts in pool_counts.values())
    counts = {"read": read, "kept": sum(sizes.values()), "dropped": dict(sorted(dropped.items())), "pools": sizes}
    assert counts["read"] == counts["kept"] + dropped.total()
    provenance = {name: config[name] for name in (PROVENANCE, "temperature", "max_new_tokens", "seed")}
    (context.out / "counts.json").write_bytes(orjson.dumps({**counts, **provenance}, option=orjson.OPT_INDENT_2))


def answer_pool(context: Context, pool: str, model: Any, tokenizer: Any) -> dict[str, Any]:
    """One pool's prompts, answered; what was read, kept and dropped."""
    from pyrite.models.write import answer_prompts

    config = context.config
    records = read_language(context.inputs["rows"] / f"{pool}.jsonl")
    prompts: dict[str, Chat] = {}
    dropped: Counter[str] = Counter()
    prompt_keys = set()
    for record in records:
        prompt = prompt_of(record)
        if prompt is None:
            dropped[NO_PROMPT] += 1
            continue
        key = row_key(prompt)
        if key in prompt_keys:
            dropped[REPEATED] += 1
            continue
        prompt_keys.add(key)
        prompts[record.id] = prompt
    writing = Writing(max_new_tokens=config["max_new_tokens"], temperature=config["temperature"], seed=config["seed"])
    context.checkpoint.mkdir(parents=True, exist_ok=True)
    file = context.checkpoint / f"{pool}.answers.jsonl"
    answer_prompts(
        model,
        tokenizer,
        list(prompts.values()),
        writing,
        file,
        template_kwargs=config.get("chat_template_kwargs"),
        report_progress=context.report_progress,
        expired=context.expired,
    )
    rows: list[Chat] = []
    answers = {answer.id: answer for answer in read_answers(file)}
    for prompt in prompts.values():
        text, ended = answers[prompt.id].text, answers[prompt.id].finish == "stop"
        thought = split_thought(text)
        if not ended or not thought.closed or not thought.answer.strip():
            dropped[CUT if not ended or not thought.closed else EMPTY] += 1
            continue
        meta = {
            **prompt.meta,
            PROVENANCE: config[PROVENANCE],
            "temperature": config["temperature"],
            "seed": config["seed"],
        }
        rows.append(replace(prompt, messages=(*prompt.messages, Message("assistant", text)), meta=meta))
    if not rows:
        detail = f"{pool}: {len(records)} rows, dropped: " + ", ".join(
            f"{count} {why}" for why, count in (+dropped).items()
        )
        fix = "raise --self-tokens, give more prompts, or another model before: one that was never taught to end its answers does not"
        raise UserError("The model's own answers leave no row.", detail, fix)
    write_pool(rows, context.out / f"{pool}.jsonl")
    return {"read": len(records), "kept": len(rows), "dropped": dict(+dropped)}


SELF_REPLAY = StepType("repair.self_replay", 2, answer_step)
