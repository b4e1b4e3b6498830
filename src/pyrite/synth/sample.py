"""Step: a generator writes raw texts for each label."""

import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.template import render_chat
from pyrite.models.tokenise import encode_after
from pyrite.records import Labelled, Message
from pyrite.steps import Context, StepType
from pyrite.synth.settings import SynthSettings
from pyrite.tasks.prompts import few_shot, label_first, one_line
from pyrite.tasks.rows import by_label, read_rows
from pyrite.train import adapters

SENTENCE = re.compile(r"""(.+?)([.!?।]+["'”’»)\]]*(?=\s|$)|[。！？]+["'”’»」』)\]]*)""", re.DOTALL)
"""A text's first sentence, by its punctuation."""
END_OF_SENTENCE = frozenset(".!?。！？।\n")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a text is sampled from: the prompt as text and as token ids, what of the parsed text it holds already, and the
    id of the row that is continued."""

    text: str
    ids: list[int]
    begun: str = ""
    row: str | None = None


def prompt_for(
    config: SynthSettings, tokenizer: Any, label: str, examples: list[Labelled], fields: list[str]
) -> Prompt:
    """The prompt for one label (with the chat template and the answer's first words)."""
    if config.mode == "finetuned":
        text = label_first(label)
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        ((ids, _),) = encode_after(tokenizer, [(text, answer_opening(fields))], add_special_tokens=False)
        return Prompt(text, start + ids)
    text = few_shot(label, [row.fields for row in examples])
    if not tokenizer.chat_template:
        raise UserError("few_shot needs a chat model.", f"{config.model} has no chat template", "use mode: finetuned")
    prompt = render_chat(tokenizer, [Message("user", text)], opened=True, row_name=f"{config.model}: label {label}")
    opened = prompt + answer_opening(fields)
    return Prompt(text, list(tokenizer(opened, add_special_tokens=False)["input_ids"]), answer_opening(fields))


def continued_prompt(
    config: SynthSettings, tokenizer: Any, pool: list[Labelled], number: int, fields: list[str]
) -> Prompt:
    """The beginning of a label's row number `number` (from the first again after the last): its fields, of the last one
    the first sentence.

    Raises:
        UserError: there is no row of the label.
    """
    if not pool:
        raise UserError("There is no row to go on from.", f"{config.model}, mode continued", "give rows of every label")
    row = pool[number % len(pool)]
    *before, last = [one_line(row.fields[name]) for name in fields]
    first = SENTENCE.match(last)
    text = "\n".join([*before, first.group(0) if first else last])
    lines = [f"{name.capitalize()}: {value}" for name, value in zip(fields, text.split("\n"), strict=True)]
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return Prompt(text, start + list(tokenizer(text, add_special_tokens=False)["input_ids"]), "\n".join(lines), row.id)


def continuation_text(tokenizer: Any, prompt: Prompt, ids: list[int]) -> str:
    """What a model wrote. After a row's own words, with the blank before it, which some tokenizers drop at a beginning."""
    if prompt.row is None:
        return str(tokenizer.decode(ids, skip_special_tokens=True))
    before = tokenizer.decode(prompt.ids, skip_special_tokens=True)
    full_text: str = tokenizer.decode([*prompt.ids, *ids], skip_special_tokens=True)
    return (
        full_text[len(before) :]
        if full_text.startswith(before)
        else str(tokenizer.decode(ids, skip_special_tokens=True))
    )


def stop_tokens(config: SynthSettings, tokenizer: Any) -> list[int]:
    """Tokens that end a line of a chat model's answer, or the sentence that a row is continued with."""
    if config.mode == "finetuned":
        return []
    marks = END_OF_SENTENCE if config.mode == "continued" else {"\n"}
    return [at for at in range(len(tokenizer)) if not marks.isdisjoint(tokenizer.decode([at]))]


def answer_opening(fields: list[str]) -> str:
    """The words that a chat model's answer is made to begin with, so that it keeps to the layout."""
    return f"{fields[0].capitalize()}:"


def sample_texts_step(context: Context) -> None:
    """Step: `raw.jsonl`, one sampled text a line with its provenance. Finished batches survive a kill. With `batches`, only those
    from the first of the two numbers to before the second."""
    from pyrite.models.generate import sample
    from pyrite.models.write import room_for

    load.quiet_libraries()
    config = SynthSettings.model_validate(context.config["synth"])
    labels: list[str] = context.config["labels"]
    fields: list[str] = context.config["fields"]
    compute = Compute(**context.config["compute"])
    base = context.inputs["base"]
    trained = context.inputs.get("generator")
    tokenizer = load.load_tokenizer(trained or base)
    if trained and not adapters.has_adapter(trained):
        model = load.load_causal(trained, compute)
    else:
        model = load.load_causal(base, compute, four_bit=trained is not None and config.training.method == "qlora")
        if trained:
            model = adapters.with_adapter(model, trained, train=False)
            model = model if config.training.method == "qlora" else model.merge_and_unload()
    model, compute = load.for_generation(model, compute)
    examples = (
        by_label(read_rows(context.inputs["rows"] / context.config["rows_file"]), labels)
        if "rows" in context.inputs
        else {}
    )
    ends = {tokenizer.eos_token_id, *as_list(model.generation_config.eos_token_id)} - {None}
    last_tokens = stop_tokens(config, tokenizer)
    batches = list(enumerate(sampling_batches(config, labels)))
    batches = batches[slice(*context.config["batches"])] if "batches" in context.config else batches
    total, n_done = sum(len(together) for _, together in batches), 0
    for number, together in batches:
        n_done += len(together)
        part = context.checkpoint / f"{number:06d}.jsonl"
        if part.exists():
            continue
        if context.expired():
            raise OutOfTime("--max-time is over; sampling goes on after the finished batches")
        rng = np.random.default_rng([config.seed, number])
        if config.mode == "continued":
            prompts = [
                continued_prompt(config, tokenizer, examples[labels[at]], count, fields) for at, count in together
            ]
        else:
            of_label: dict[str, Prompt] = {}
            for label in dict.fromkeys(labels[at] for at, _ in together):
                pool = examples.get(label, [])
                chosen: list[int] = (
                    rng.choice(len(pool), min(config.shots, len(pool)), replace=False).tolist() if pool else []
                )
                of_label[label] = prompt_for(config, tokenizer, label, [pool[at] for at in chosen], fields)
            prompts = [of_label[labels[at]] for at, _ in together]
        seeds = [[config.seed, at, count] for at, count in together]
        limits = [
            room_for(model, tokenizer, f"{labels[at]}-{count}", len(prompt.ids), config.sampling.max_new_tokens)
            for (at, count), prompt in zip(together, prompts, strict=True)
        ]
        texts = sample(
            model,
            [prompt.ids for prompt in prompts],
            seeds=seeds,
            max_new_tokens=limits,
            temperature=config.sampling.temperature,
            top_p=config.sampling.top_p,
            end_ids=sorted(ends),
            compute=compute,
            newline_ids=last_tokens,
            max_lines={"finetuned": 0, "few_shot": len(fields), "continued": 1}[config.mode],
            keep_last=config.mode == "continued",
        )
        lines = [
            {
                "id": f"{labels[at]}-{count}",
                "label": labels[at],
                "text": prompt.begun + continuation_text(tokenizer, prompt, text.ids),
                "ended": text.ended,
                "mean_logprob": text.mean_logprob,
                "tokens": len(text.ids),
                "seed": seed,
                "prompt": prompt.text,
                "model": context.config["model_identity"],
                **({} if prompt.row is None else {"row": prompt.row}),
            }
            for (at, count), prompt, text, seed in zip(together, prompts, texts, seeds, strict=True)
        ]
        temporary = part.with_suffix(".tmp")
        temporary.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
        os.replace(temporary, part)
        context.report_progress(n_done, total, "texts")
    parts = sorted(context.checkpoint.glob("*.jsonl"))
    (context.out / "raw.jsonl").write_bytes(b"".join(part.read_bytes() for part in parts))
    (context.out / "fields.json").write_bytes(orjson.dumps(fields))


def sampling_batches(config: SynthSettings, labels: list[str]) -> list[list[tuple[int, int]]]:
    """What is sampled together, as (number of the label, number of the text): a trained generator's prompts are alike
    and share their batches; rows that are shown belong to one label."""
    raw = config.raw_per_label(labels)
    jobs = [[(number, at) for at in range(raw[label])] for number, label in enumerate(labels)]
    if config.mode == "finetuned":
        jobs = [[job for label_jobs in jobs for job in label_jobs]]
    size = config.together
    return [label_jobs[at : at + size] for label_jobs in jobs for at in range(0, len(label_jobs), size)]


def join_texts_step(context: Context) -> None:
    """Step: `raw.jsonl` and `fields.json`, as `sample_texts_step` writes them, out of those of several parts."""
    folders = [context.inputs[f"{PART}{at}"] for at in range(context.config["parts"])]
    with (context.out / "raw.jsonl").open("wb") as sink:
        for folder in folders:
            sink.write((folder / "raw.jsonl").read_bytes())
    (context.out / "fields.json").write_bytes((folders[0] / "fields.json").read_bytes())


def as_list(value: Any) -> list[Any]:
    """A value or list of values as a list."""
    return value if isinstance(value, list) else [value]


PART = "part "
"""What the names of the inputs begin with that hold the parts of the texts."""
SAMPLE = StepType("synth.sample", 4, sample_texts_step)
JOIN = StepType("synth.texts", 1, join_texts_step, plain=True)
