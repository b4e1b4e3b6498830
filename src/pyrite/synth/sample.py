"""Step: a generator writes raw texts for each label."""

import os
import time
from typing import Any

import numpy as np
import orjson

from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.records import Labelled
from pyrite.steps import Context, Kind
from pyrite.synth.settings import SynthSettings
from pyrite.tasks.prompts import few_shot, label_first
from pyrite.tasks.rows import by_label, read_rows
from pyrite.train import adapters


def prompt_for(
    config: SynthSettings, tokenizer: Any, label: str, shown: list[Labelled], fields: list[str]
) -> tuple[str, list[int]]:
    """The prompt for one label, as text and token ids (with the chat template and the answer's first words)."""
    if config.mode == "finetuned":
        text = label_first(label)
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return text, start + list(tokenizer(text, add_special_tokens=False)["input_ids"])
    text = few_shot(label, [row.fields for row in shown])
    if not tokenizer.chat_template:
        raise UserError("few_shot needs a chat model.", f"{config.model} has no chat template", "use mode: finetuned")
    messages = [{"role": "user", "content": text}]
    opened = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) + opening(fields)
    return text, list(tokenizer(opened, add_special_tokens=False)["input_ids"])


def opening(fields: list[str]) -> str:
    """The words that a chat model's answer is made to begin with, so that it keeps to the layout."""
    return f"{fields[0].capitalize()}:"


def sample_step(context: Context) -> None:
    """Step: `raw.jsonl`, one sampled text a line with its provenance. Finished batches survive a kill."""
    from pyrite.models.generate import sample

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
    shown = (
        by_label(read_rows(context.inputs["rows"] / context.config["rows_file"]), labels)
        if "rows" in context.inputs
        else {}
    )
    ends = {tokenizer.eos_token_id, *listed(model.generation_config.eos_token_id)} - {None}
    begun = opening(fields) if config.mode == "few_shot" else ""
    breaks = [at for at in range(len(tokenizer)) if "\n" in tokenizer.decode([at])] if config.mode == "few_shot" else []
    total, done = sum(config.raw_per_label(labels).values()), 0
    for number, together in enumerate(batches(config, labels)):
        done += len(together)
        part = context.checkpoint / f"{number:06d}.jsonl"
        if part.exists():
            continue
        if context.expired():
            raise OutOfTime("--max-time is over; sampling goes on after the finished batches")
        rng = np.random.default_rng([config.seed, number])
        prompts: dict[str, tuple[str, list[int]]] = {}
        for label in dict.fromkeys(labels[at] for at, _ in together):
            pool = shown.get(label, [])
            chosen: list[int] = (
                rng.choice(len(pool), min(config.shots, len(pool)), replace=False).tolist() if pool else []
            )
            prompts[label] = prompt_for(config, tokenizer, label, [pool[at] for at in chosen], fields)
        seeds = [[config.seed, at, count] for at, count in together]
        texts = sample(
            model,
            [prompts[labels[at]][1] for at, _ in together],
            seeds=seeds,
            max_new_tokens=config.sampling.max_new_tokens,
            temperature=config.sampling.temperature,
            top_p=config.sampling.top_p,
            end_ids=sorted(ends),
            compute=compute,
            newline_ids=breaks,
            max_lines=len(fields) if config.mode == "few_shot" else 0,
        )
        lines = [
            {
                "id": f"{labels[at]}-{count}",
                "label": labels[at],
                "text": begun + tokenizer.decode(text.ids, skip_special_tokens=True),
                "ended": text.ended,
                "mean_logprob": text.mean_logprob,
                "tokens": len(text.ids),
                "seed": seed,
                "prompt": prompts[labels[at]][0],
                "model": context.config["model_identity"],
                "sampled_at": time.time(),
            }
            for (at, count), text, seed in zip(together, texts, seeds, strict=True)
        ]
        temporary = part.with_suffix(".tmp")
        temporary.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
        os.replace(temporary, part)
        context.tick(done, total, "texts")
    parts = sorted(context.checkpoint.glob("*.jsonl"))
    (context.out / "raw.jsonl").write_bytes(b"".join(part.read_bytes() for part in parts))
    (context.out / "fields.json").write_bytes(orjson.dumps(fields))


def batches(config: SynthSettings, labels: list[str]) -> list[list[tuple[int, int]]]:
    """What is sampled together, as (number of the label, number of the text): a trained generator's prompts are alike
    and share their batches; rows that are shown belong to one label."""
    raw = config.raw_per_label(labels)
    jobs = [[(number, at) for at in range(raw[label])] for number, label in enumerate(labels)]
    if config.mode == "finetuned":
        jobs = [[job for some in jobs for job in some]]
    size = config.together
    return [some[at : at + size] for some in jobs for at in range(0, len(some), size)]


def listed(value: Any) -> list[Any]:
    """A value or list of values as a list."""
    return value if isinstance(value, list) else [value]


SAMPLE = Kind("synth.sample", 3, sample_step)
