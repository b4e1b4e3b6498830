"""Train a sequence classifier on labelled rows, from a base model or further from a trained one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.positions import tokens_read
from pyrite.models.quantised import refuse_quantised
from pyrite.records import Labelled
from pyrite.steps import Context, StepType
from pyrite.tasks.rows import read_rows
from pyrite.train import adapters
from pyrite.train.classifier_rows import encode_classifier_rows
from pyrite.train.fit_together import train_and_leave, trained_by
from pyrite.train.lower import segments_for, stored_lower
from pyrite.train.settings import ClassifierSettings


@dataclass(frozen=True)
class ClassifierTraining:
    """A classifier that is ready to train, and the rows that it is trained on."""

    model: Any
    examples: list[Any]
    pad_id: int
    settings: ClassifierSettings
    rows_cut: int
    max_tokens: int
    lower: Any

    def run(self, context: Context) -> Any:
        """Train it; the model."""
        from pyrite.train.fit import fit

        return fit(
            self.model, self.examples, pad_id=self.pad_id, settings=self.settings,
            compute=Compute(**context.config["compute"]), seed=context.config["seed"], context=context, lower=self.lower,
        )  # fmt: skip


def classifier_training(context: Context) -> ClassifierTraining:
    """The training of a step.

    Raises:
        UserError: rows with unknown labels, a model that cannot be trained.
    """
    from pyrite.models.freeze import freeze
    from pyrite.train.fit import Example

    config = context.config
    settings = ClassifierSettings.model_validate(config["settings"])
    compute = Compute(**config["compute"])
    labels: list[str] = config["labels"]
    base = context.inputs["base"]
    refuse_quantised(base)
    start = context.inputs.get("start")
    rows = read_rows(context.inputs["rows"] / config["rows_file"])
    check_labels(rows, labels)
    tokenizer = load.load_tokenizer(start or base)
    size = tokens_read(settings.max_tokens, load.parsed_config(base), tokenizer)
    encoded = encode_classifier_rows(tokenizer, rows, labels, config["reads"], size)
    four_bit = settings.method == "qlora"
    if settings.method == "full":
        model, order = load.load_classifier(start or base, labels, compute, seed=config["seed"])
    else:
        model, order = load.load_classifier(base, labels, compute, seed=config["seed"], four_bit=four_bit)
        if start:
            model = adapters.with_adapter(model, start, train=True)
        else:
            model = adapters.add_adapter(model, settings.lora, "SEQ_CLS", seed=config["seed"], four_bit=four_bit)
    index = {label: at for at, label in enumerate(labels)}
    classes = [order[index[str(row.label)]] for row in rows]
    lower = None
    if settings.freeze:
        freeze(model, settings.freeze)
        lower = stored_lower(context, model, encoded, tokenizer.pad_token_id, compute)
    segments: Sequence[list[int] | None] = segments_for(model, encoded) or [None] * len(rows)
    states: Sequence[Any] = [None] * len(rows) if lower is None else lower[1]
    examples = [Example(*row) for row in zip(encoded.ids, classes, segments, states, strict=True)]
    injected = None if lower is None else lower[0]
    return ClassifierTraining(model, examples, tokenizer.pad_token_id, settings, encoded.cut, size, injected)


def train_classifier_step(context: Context) -> None:
    """Step: rows → a trained classifier in the step's folder, with `training.json` on what it was trained on."""
    load.quiet_libraries()
    config = context.config
    settings = ClassifierSettings.model_validate(config["settings"])
    training, model = trained_by(settings, context, classifier_training, train_classifier_in_process)
    folder = context.inputs.get("start") or context.inputs["base"]
    adapters.save_trained(model, folder, context.out, config["base_name"])
    rows = {"rows": len(training.examples), "rows_cut": training.rows_cut}
    summary: Mapping[str, Any] = {**rows, "max_tokens": training.max_tokens}
    if settings.freeze:
        summary = {**summary, "frozen_layers": settings.freeze, "from_stored_states": training.lower is not None}
    (context.out / "training.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))


def train_classifier_in_process(context: Context) -> None:
    """What each of several processes does."""
    train_and_leave(context, classifier_training)


def check_labels(rows: Sequence[Labelled], labels: Sequence[str]) -> None:
    """Refuse rows with a label that the task does not have."""
    for row in rows:
        if row.label not in labels:
            detail = f"row {row.id} has the label {row.label!r}"
            raise UserError("A training row has an unknown label.", detail, f"allowed labels: {', '.join(labels)}")


TRAIN_CLASSIFIER = StepType("train.classifier", 4, train_classifier_step)
