"""Train a causal language model to write labelled examples, label first (the generator of arXiv 2502.07164)."""

from dataclasses import dataclass
from typing import Any

import orjson

from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.positions import tokens_read
from pyrite.models.quantised import refuse_quantised
from pyrite.models.tokenise import encode_after
from pyrite.records import Labelled
from pyrite.steps import Context, StepType
from pyrite.tasks.prompts import label_first, write_example
from pyrite.tasks.rows import read_rows
from pyrite.train import adapters
from pyrite.train.classifier import check_labels
from pyrite.train.fit_together import train_and_leave, trained_by
from pyrite.train.settings import TrainSettings


def encode_examples(
    tokenizer: Any, rows: list[Labelled], max_tokens: int
) -> tuple[list[list[int]], list[list[int]], int]:
    """Token ids and next-token labels of each example, and how many were left out as longer than `max_tokens`.

    Every text ends with the end marker, which is learned; the label sentence is given in sampling, so it is not.
    """
    ids, targets, too_long = [], [], 0
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    texts = []
    for row in rows:
        assert row.label is not None
        sentence = label_first(row.label)
        texts.append((sentence, write_example(row.fields, row.label).removeprefix(sentence)))
    for sentence_ids, body in encode_after(tokenizer, texts, add_special_tokens=False):
        opening = start + sentence_ids
        example_ids = [*opening, *body, tokenizer.eos_token_id]
        if len(example_ids) > max_tokens:
            too_long += 1
            continue
        ids.append(example_ids)
        targets.append([-100] * len(opening) + example_ids[len(opening) :])
    return ids, targets, too_long


@dataclass(frozen=True)
class GeneratorTraining:
    """A generator that is ready to train, and the examples that it learns to write."""

    model: Any
    examples: list[Any]
    pad_id: int
    settings: TrainSettings
    summary: dict[str, Any]

    def run(self, context: Context) -> Any:
        """Train it; the model."""
        from pyrite.train.fit import fit

        return fit(
            self.model, self.examples, pad_id=self.pad_id, settings=self.settings,
            compute=Compute(**context.config["compute"]), seed=context.config["seed"], context=context,
        )  # fmt: skip


def generator_training(context: Context) -> GeneratorTraining:
    """The training of a step.

    Raises:
        UserError: rows with unknown labels, a model that cannot be trained.
    """
    from pyrite.train.fit import Example

    config = context.config
    settings = TrainSettings.model_validate(config["settings"])
    compute = Compute(**config["compute"])
    rows = read_rows(context.inputs["rows"] / config["rows_file"])
    check_labels(rows, config["labels"])
    base = context.inputs["base"]
    refuse_quantised(base)
    tokenizer = load.load_tokenizer(base)
    size = tokens_read(settings.max_tokens, load.parsed_config(base), tokenizer)
    ids, targets, too_long = encode_examples(tokenizer, rows, size)
    model = load.load_causal(base, compute, four_bit=settings.method == "qlora")
    if settings.method != "full":
        model = adapters.add_adapter(
            model, settings.lora, "CAUSAL_LM", seed=config["seed"], four_bit=settings.method == "qlora"
        )
    examples = [Example(i, t) for i, t in zip(ids, targets, strict=True)]
    summary = {"rows": len(rows), "rows_too_long": too_long, "max_tokens": size}
    return GeneratorTraining(model, examples, tokenizer.pad_token_id, settings, summary)


def train_generator_step(context: Context) -> None:
    """Step: labelled rows → a generator (whole model or adapters) in the step's folder."""
    load.quiet_libraries()
    settings = TrainSettings.model_validate(context.config["settings"])
    training, model = trained_by(settings, context, generator_training, train_generator_in_process)
    adapters.save_trained(model, context.inputs["base"], context.out, context.config["base_name"])
    (context.out / "training.json").write_bytes(orjson.dumps(training.summary, option=orjson.OPT_INDENT_2))


def train_generator_in_process(context: Context) -> None:
    """What each of several processes does."""
    train_and_leave(context, generator_training)


TRAIN_GENERATOR = StepType("train.generator", 2, train_generator_step)
