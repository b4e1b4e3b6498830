"""Train a language model further: on chats (loss on the answers) or on plain text (loss on all of it)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from pyrite.errors import UserError
from pyrite.io import ReadOptions, open_records
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.positions import tokens_read
from pyrite.models.quantised import refuse_quantised
from pyrite.records import Chat, Record, Text
from pyrite.steps import Context, StepType
from pyrite.train import adapters
from pyrite.train.settings import TrainSettings

Trains = Literal["chat", "text"]
PARTS = {"chat": "answers", "text": "all"}


def read_language(file: Path) -> list[Chat | Text]:
    """Chats or texts of a row file that a step wrote."""
    records: Sequence[Record] = list(open_records(str(file), ReadOptions()))
    wrong = next((record for record in records if not isinstance(record, Chat | Text)), None)
    if wrong is not None:
        fix = "give chats (messages, Alpaca, ShareGPT, question and answer) or plain text"
        raise UserError(
            "A language model is trained on chats or texts.", f"{file.name}: row {wrong.id} is labelled", fix
        )
    return [record for record in records if isinstance(record, Chat | Text)]


def load_to_train(base: Path, compute: Compute, method: str) -> Any:
    """A language model in the weights that training computes with: where all weights move, fp32 (matrix products in
    bf16 where the machine has it); under adapters the frozen weights are bf16 there, which saves re-casting them."""
    import torch

    model = load.load_causal(base, compute, four_bit=method == "qlora")
    if method == "lora" and compute.precision == "bf16-mixed":
        model = model.to(torch.bfloat16)
    model.config.use_cache = False
    return model


def save_full_model(
    model: Any, tokenizer: Path, base: Path, out: Path, base_name: str, *, beneath: Path | None = None
) -> None:
    """Write a trained model as one whole model folder in its source's number format, with what stands beside that one's
    weights and the tokenizer that lies in the folder `tokenizer`; adapters are merged into the weights as they were given,
    not into those that training had rounded.

    `beneath` is the folder of an adapter that lay under the trained one: it is merged first.
    """
    import tempfile

    if hasattr(model, "peft_config"):
        with tempfile.TemporaryDirectory(dir=out) as adapter_folder:
            trained = model.active_adapters[-1]
            adapters.save_trained(model, tokenizer, Path(adapter_folder), base_name, only=trained)
            merged = load.load_causal(base, Compute("cpu", "fp32"))
            for folder in [] if beneath is None else [beneath]:
                merged = adapters.with_adapter(merged, folder, train=False).merge_and_unload()
            model = adapters.with_adapter(merged, Path(adapter_folder), train=False).merge_and_unload()
    adapters.write_full_model(model, tokenizer, base, out)


def next_tokens(module: Any, rows: Any, normalisers: Any) -> tuple[Any, dict[str, float]]:
    """The objective of plain training: mean cross-entropy (nats) over the learned tokens of a step."""
    from pyrite.models.head import fused
    from pyrite.train.packed import flatten, hidden_states

    pack = flatten(rows, module.reader.device)
    matrix = module.reader.head
    hidden = hidden_states(module.reader, pack)[pack.at]
    total = sum(normalisers.tokens.values())
    result = fused(hidden, matrix.weight, matrix.bias, pack.targets, lambda stats, kl, at: -stats.logp / total)
    return result.total, {}


@dataclass(frozen=True)
class LanguageTraining:
    """A language model that is ready to train, its steps, and what is told of its rows."""

    model: Any
    steps: list[list[Any]]
    settings: TrainSettings
    rows: int
    summary: dict[str, Any]

    def run(self, context: Context) -> Any:
        """Train it: an `Ended`."""
        from pyrite.train.packed import Trained, fit_packed

        config = context.config
        return fit_packed(
            Trained(self.model, next_tokens), self.steps, optim=self.settings, pack_tokens=config["pack_tokens"],
            compute=Compute(**config["compute"]), seed=config["seed"], context=context,
        )  # fmt: skip

    def history(self, steps: int, curve: Any) -> dict[str, Any]:
        """What the training did, for `history.json`."""
        from pyrite.train.cost import model_shape

        read = [(len(row.ids), row.targets) for step in self.steps for row in step]
        tokens, targets = (sum(counts_of_rows) for counts_of_rows in zip(*read, strict=True))
        flops = model_shape(self.model).training(tokens, targets, full=self.settings.method == "full")
        totals = {"rows": self.rows, "tokens": tokens, "targets": targets, "flops": flops}
        return {**totals, "steps": steps, "losses": curve}


def language_training(context: Context) -> LanguageTraining:
    """The training of a step.

    Raises:
        UserError: too few rows, rows of another kind, a model that cannot be trained.
    """
    from pyrite.train.rows import encode_rows, shuffled

    config = context.config
    settings = TrainSettings.model_validate(config["settings"])
    base = context.inputs["base"]
    refuse_quantised(base)
    records = read_language(context.inputs["rows"] / config["rows_file"])
    if config["first"] is not None:
        if config["first"] > len(records):
            detail = f"{config['first']:,} rows of {config['rows_file']}, which has {len(records):,}"
            raise UserError(
                "There are too few rows for this training.", detail, "ask for fewer (first), or provide more rows"
            )
        records = records[: config["first"]]
    tokenizer = load.load_tokenizer(base)
    long_rows = "split" if config["trains"] == "text" else "drop"
    longest = tokens_read(settings.max_tokens, load.parsed_config(base), tokenizer)
    rows, counts = encode_rows(
        tokenizer, records, PARTS[config["trains"]], longest, long_rows=long_rows,
        on_bad_row=config.get("on_bad_row", "stop"), template_kwargs=config.get("chat_template_kwargs"),
    )  # fmt: skip
    model = load_to_train(base, Compute(**config["compute"]), settings.method)
    if settings.method != "full":
        model = adapters.add_adapter(
            model, settings.lora, "CAUSAL_LM", seed=config["seed"], four_bit=settings.method == "qlora"
        )
    steps = shuffled(rows, settings.batch_size, settings.epochs, config["seed"])
    too_long = counts["longer than max_tokens"]
    refused = counts["read"] - counts["used"] - too_long - counts["no tokens to learn"]
    summary = {"rows": len(records), "rows_too_long": too_long, "rows_refused": refused, **counts}
    return LanguageTraining(model, steps, settings, len(rows), summary)


def train_language_step(context: Context) -> None:
    """Step: rows → a trained whole model, `history.json` and `training.json`."""
    load.quiet_libraries()
    config, base = context.config, context.inputs["base"]
    settings = TrainSettings.model_validate(config["settings"])
    if settings.processes > 1:
        from pyrite.train.together import take_weights, to_save, train_together

        compute = Compute(**config["compute"])
        record = train_together(settings.processes, compute, train_language_in_process, context)
        training = language_training(to_save(context))
        model = take_weights(context, training.model)
    else:
        training = language_training(context)
        ended = training.run(context)
        model, record = ended.model, {"steps": ended.steps, "curve": ended.curve, "seconds": ended.seconds}
    history = training.history(record["steps"], record["curve"])
    save_full_model(model, base, base, context.out, config["base_name"])
    seconds = {"seconds": record["seconds"]}  # apart: it is never the same twice
    (context.out / "took.json").write_bytes(orjson.dumps(seconds))
    (context.out / "history.json").write_bytes(orjson.dumps(history, option=orjson.OPT_INDENT_2))
    (context.out / "training.json").write_bytes(orjson.dumps(training.summary, option=orjson.OPT_INDENT_2))


def train_language_in_process(context: Context) -> None:
    """What each of several processes does."""
    from pyrite.train.together import leave

    load.quiet_libraries()
    ended = language_training(context).run(context)
    leave(context, {"steps": ended.steps, "curve": ended.curve, "seconds": ended.seconds}, ended.model)


TRAIN_LANGUAGE = StepType("train.language", 2, train_language_step)
