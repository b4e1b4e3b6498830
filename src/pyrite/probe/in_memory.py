"""Tasks asked of a model in memory, which may be in training: the engine of `pyrite probe` without its loading."""

import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.answers import Writing, read_answers
from pyrite.models.hardware import Compute
from pyrite.models.load import ModelRef
from pyrite.models.positions import token_limit, tokens_read
from pyrite.probe.generative import GenerativeProbe
from pyrite.probe.generative_steps import configured_prompts
from pyrite.probe.labels import LabelTask
from pyrite.probe.perplexity import Perplexity, measured_rows
from pyrite.probe.perplexity_rows import records_of
from pyrite.probe.predict import check_finite, prepared
from pyrite.probe.probe_task import Cuts, ModelUnderTest, ProbeTask, Result
from pyrite.probe.texts import texts_of, thought_notes
from pyrite.steps import Source, Store
from pyrite.tasks.generative_tasks import GENERATIVE
from pyrite.tasks.rows import read_rows

NAME = "the model in training"
"""What the model is called in scorecards."""


@dataclass(frozen=True)
class ModelInMemory:
    """The model in memory, as it is asked: unwrapped, its tokenizer, and a folder that holds its config.json only."""

    model: Any
    tokenizer: Any
    compute: Compute
    folder: Path

    @property
    def subject(self) -> ModelUnderTest:
        """Who is asked, as the tasks plan for it."""
        return ModelUnderTest(NAME, ModelRef(NAME, self.folder, "in memory"))


@contextmanager
def model_in_memory(trainer: Any, tokenizer: Any = None) -> Iterator[ModelInMemory]:
    """The trainer's model without its wrappings (accelerate, torch.compile); adapters stay in it."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    reader = tokenizer or trainer.processing_class
    reader = getattr(reader, "tokenizer", None) or reader
    if reader is None:
        fix = "give the tokenizer: ProbeCallback(trainer, tokenizer=…), or the trainer's processing_class"
        raise UserError("The trainer has no tokenizer to ask the model with.", type(trainer).__name__, fix)
    device = next(model.parameters()).device.type
    if device not in ("cpu", "cuda", "mps"):
        raise UserError("The callback knows cpu, cuda and mps.", f"the model is on {device}", "probe its checkpoints")
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    written = json.loads(base.config.to_json_string(use_diff=False)) | {"architectures": [type(base).__name__]}
    with tempfile.TemporaryDirectory(prefix="pyrite-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(written), encoding="utf-8")
        yield ModelInMemory(model, reader, Compute(device, "bf16-mixed" if trainer.args.bf16 else "fp32"), Path(folder))


def check_task(task: ProbeTask, model: ModelInMemory) -> None:
    """Refuse a task that this model cannot be asked."""
    judged = isinstance(task, GenerativeProbe) and GENERATIVE[task.name].by_rule is None
    if judged or not isinstance(task, LabelTask | Perplexity | GenerativeProbe):
        fix = "use tasks of labels, perplexity=FILE, ifeval=FILE or gsm8k=FILE"
        raise UserError("That task is not asked during training.", task.name, fix)
    task.step(model.subject)


def key_of(task: ProbeTask, model: ModelInMemory) -> str:
    """Which question is a task? A hash of its options and its items, whatever the model has learned meanwhile."""
    return task.step(model.subject).key


def probe_now(task: ProbeTask, model: ModelInMemory, store: Store) -> Result:
    """What does a task measure on the model in memory?"""
    if isinstance(task, LabelTask):
        return probe_labels(task, model, store)
    if isinstance(task, Perplexity):
        return probe_perplexity(task, model)
    assert isinstance(task, GenerativeProbe)
    return probe_generative(task, model)


def probe_labels(task: LabelTask, model: ModelInMemory, store: Store) -> Result:
    """By the classifier's head, or by the label words of a language model; also cut by the gold label alone."""
    items = read_rows(store.path(task.items.key) / "items.jsonl")
    config = task.step(model.subject).config
    labels: list[str] = config["labels"]
    by_head = config["by"] == "head"
    order = load.label_order(load.read_config(model.folder), labels, NAME) if by_head else []
    longest = token_limit(model.model.config, model.tokenizer)
    reading = prepared(config, model.tokenizer, items, order=order, longest=longest)
    logits, work = reading.logits(model.model, model.compute, list(range(len(reading.ids))), ignore_progress)
    check_finite(logits)
    answers: dict[str, str | None] = dict.fromkeys(item.id for item in items)
    answers |= {items[place].id: labels[at] for place, at in zip(reading.kept, logits.argmax(1), strict=True)}
    result = task.scored(items, answers, labels, {**work.as_json(), **reading.counts})
    by_label: Cuts = ((), ("gold",))
    return replace(result, cuts={name: tuple(dict.fromkeys(by_label + cuts)) for name, cuts in result.cuts.items()})


def probe_perplexity(task: Perplexity, model: ModelInMemory) -> Result:
    """By the negative log-likelihood of each row."""
    from pyrite.models.perplexity import encode_record, text_nlls
    from pyrite.models.refusals import encode_each

    step = task.step(model.subject)
    file = step.inputs["file"]
    assert isinstance(file, Source)
    records, part, counts = records_of(step.config, Path(file.path))
    asked, template_kwargs = len(records), step.config.get("chat_template_kwargs")
    records, rows, refused = encode_each(
        records,
        lambda record: encode_record(model.tokenizer, record, part, template_kwargs=template_kwargs),
        skip=step.config["on_bad_row"] == "skip",
    )
    size = tokens_read(step.config["max_tokens"], model.model.config, model.tokenizer)
    with model.compute.autocast():
        nlls = text_nlls(model.model, rows, max_tokens=size, report_progress=ignore_progress)
    measured = measured_rows(
        {"id": record.id, "nats": nll.nats, "tokens": nll.tokens, "bytes": nll.bytes}
        for record, nll in zip(records, nlls, strict=True)
    )
    notes = [
        f"{counts.read} rows read, {asked} asked, dropped: {dict(Counter(counts.dropped) + refused)}",
        f"{part} counts",
    ]
    return Result(measured, task.metrics, {}, "rows", tuple(notes))


def probe_generative(task: GenerativeProbe, model: ModelInMemory) -> Result:
    """By what the model writes, checked by rule."""
    from pyrite.models.write import answer_prompts

    benchmark = GENERATIVE[task.name]
    assert benchmark.by_rule is not None
    step = task.answers(model.subject)
    items, _ = configured_prompts(Path(task.source), step.config)
    writing = Writing.model_validate(step.config["writing"])
    file = model.folder / f"{task.name}.jsonl"
    with model.compute.autocast():
        usage = answer_prompts(
            model.model, model.tokenizer, items, writing, file,
            template_kwargs=step.config.get("chat_template_kwargs"),
            report_progress=ignore_progress, skip=step.config.get("on_bad_row") == "skip",
        )  # fmt: skip
    answers = list(read_answers(file))
    measured = benchmark.by_rule(items, texts_of(answers))
    notes = tuple(thought_notes(answers))
    return Result(measured, benchmark.metrics, benchmark.cuts, benchmark.cluster, notes, {"answers": usage})


def ignore_progress(done: float, total: float, unit: str) -> None:
    """No progress is shown: the trainer's bar is on the screen."""


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Evaluation mode for the time of a probe; then every module and every random state are as they were.

    A module's attributes (its mode among them) and its table of buffers are put back, so that what a forward pass in
    inference mode leaves behind, such as rescaled rotary frequencies, is not met by the training.
    """
    before = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    with same_chances():
        try:
            model.eval()
            yield
        finally:
            for module, attributes, buffers in before:
                for name in set(vars(module)) - set(attributes):
                    del vars(module)[name]
                vars(module).update(attributes)
                module._buffers.clear()
                module._buffers.update(buffers)


@contextmanager
def same_chances() -> Iterator[None]:
    """Python's, NumPy's and torch's random states, on every device, are afterwards what they were before."""
    python, numpy = random.getstate(), np.random.get_state()
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            if mps is not None:
                torch.mps.set_rng_state(mps)
