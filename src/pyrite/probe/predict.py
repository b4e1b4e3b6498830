"""Steps: the items of a probe, and one model's answer to each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from pyrite.errors import UserError
from pyrite.io import write_parquet
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.records import Labelled
from pyrite.steps import PART_TOKENS, Context, StepType, in_parts
from pyrite.tasks.prompts import classify
from pyrite.tasks.rows import read_rows

if TYPE_CHECKING:
    from pyrite.models.lower import Stored
    from pyrite.models.work import ReportProgress, Work


def predict_with(context: Context, rows: Sequence[Labelled]) -> list[str]:
    """The label that the step's model gives to each row (the most probable one)."""
    labels: list[str] = context.config["labels"]
    logits = logits_with(context, rows)
    return [labels[at] for at in logits.argmax(1)]


def logits_with(context: Context, rows: Sequence[Labelled]) -> np.ndarray[Any, Any]:
    """What the step's model says to each row [rows, labels], in the order of the step's labels.

    `by` is `head`: the logits of a classification head; or `words`: a language model's log-probability of each label
    word after the task's prompt.
    """
    from pyrite.models.score import score_in_fast_precision
    from pyrite.models.work import ReportProgress, Work
    from pyrite.train.classifier_rows import load_trained

    load.quiet_libraries()
    config = context.config
    compute = Compute(**config["compute"])
    base = context.inputs["base"]
    folder = base if config["by"] == "words" else context.inputs.get("model", base)
    order: list[int] = []

    def load_model() -> Any:
        if config["by"] == "words":
            return load.load_causal(base, compute)
        model, order[:], _ = load_trained(
            folder, base, config["labels"], compute, seed=config["seed"], four_bit=config["four_bit"]
        )
        return model

    longest = load.read_config(base).get("max_position_embeddings") if config["by"] == "words" else None
    stored = None
    if "lower" in context.inputs:
        from pyrite.models.lower import Stored

        stored = Stored([context.inputs["lower"]])
    reading, cut = prepared(config, load.load_tokenizer(folder), rows, order=order, longest=longest, stored=stored)

    def score(model: Any, compute: Compute, places: list[int]) -> tuple[np.ndarray[Any, Any], Work]:
        if len(places) < len(rows):
            return reading.logits(model, compute, places, context.report_progress)

        def part(members: list[int], report_progress: ReportProgress) -> tuple[list[Any], dict[str, Any]]:
            logits, work = reading.logits(model, compute, members, report_progress)
            return logits.tolist(), asdict(work)

        weights = str(next(model.parameters()).dtype).removeprefix("torch.")
        alike = sorted(range(len(rows)), key=lambda at: (reading.ids[at], at))  # those that begin alike in one part
        scored, work_records = in_parts(
            context, f"logits-{compute.precision}-{weights}", reading.ids, [len(ids) for ids in reading.ids], part,
            tokens=PART_TOKENS[compute.device], order=alike,
        )  # fmt: skip
        return np.array(scored, dtype=np.float32), sum((Work(**work) for work in work_records), Work())

    logits, record = score_in_fast_precision(load_model, compute, len(rows), score)
    check_finite(logits)
    (context.out / "reading.json").write_bytes(orjson.dumps({**record, "rows_cut": cut}))
    return logits


Logits = Callable[[Any, Compute, list[int], "ReportProgress"], tuple[np.ndarray[Any, Any], "Work"]]


@dataclass(frozen=True)
class Reading:
    """Rows as a model reads them (token ids), and how a loaded model is asked for the logits of some of them."""

    ids: list[list[int]]
    logits: Logits


def prepared(
    config: Mapping[str, Any],
    tokenizer: Any,
    rows: Sequence[Labelled],
    *,
    order: Sequence[int],
    longest: Any,
    stored: "Stored | None" = None,
) -> tuple[Reading, int]:
    """How is a loaded model asked for the labels of these rows? And how many rows had to be cut for it.

    `config` is that of the step (`labels`, `by`, `reads`, `max_tokens`). `order`, the output of each label, is looked
    at only when the model is asked. `longest` is how many tokens a language model reads at most. `stored`: states of an
    encoder's lower layers.

    Raises:
        UserError: a row that fills a language model's positions.
    """
    from pyrite.models.score import class_logits, label_word_logits
    from pyrite.train.classifier_rows import encode_classifier_rows

    labels: list[str] = config["labels"]
    if config["by"] == "words":
        prompts = tokenizer([classify(row.fields, labels) for row in rows])["input_ids"]
        for row, prompt in zip(rows, prompts, strict=True):
            if isinstance(longest, int) and len(prompt) >= longest:
                detail = f"row {row.id}: {len(prompt)} tokens; the model reads {longest}"
                raise UserError("A row is longer than the model can read.", detail, "shorten it, or leave it out")
        words = [tokenizer(" " + label, add_special_tokens=False)["input_ids"] for label in labels]

        def by_words(
            model: Any, compute: Compute, places: list[int], report_progress: "ReportProgress"
        ) -> tuple[np.ndarray[Any, Any], "Work"]:
            with compute.autocast():
                return label_word_logits(model, [prompts[at] for at in places], words, report_progress=report_progress)

        return Reading(prompts, by_words), 0
    encoded = encode_classifier_rows(tokenizer, rows, labels, config["reads"], config["max_tokens"])

    made_in = config["compute"]["precision"] if stored is not None else "fp32"

    def by_head(
        model: Any, compute: Compute, places: list[int], report_progress: "ReportProgress"
    ) -> tuple[np.ndarray[Any, Any], "Work"]:
        as_made = (
            made_in == "fp32" or next(model.parameters()).element_size() < 4
        )  # not in the fp32 pass that checks bf16
        return class_logits(
            model, [encoded.ids[at] for at in places],
            segments=None if encoded.segments is None else [encoded.segments[at] for at in places],
            order=order, pad_id=tokenizer.pad_token_id, compute=compute, report_progress=report_progress, stored=stored if as_made else None, stored_in=made_in,
        )  # fmt: skip

    return Reading(encoded.ids, by_head), encoded.cut


def check_finite(logits: np.ndarray[Any, Any]) -> None:
    """Refuse logits [rows, labels] that are no numbers: their largest would be an answer that nobody gave."""
    broken = int((~np.isfinite(logits)).any(1).sum())
    if broken:
        detail = f"{broken} of {len(logits)} items have logits that are no finite numbers"
        fix = "the model is broken: train it with a lower learning rate"
        raise UserError("The model's answers are no numbers.", detail, fix)


def predict_step(context: Context) -> None:
    """Step: one model's answers → `predictions.parquet` (id, gold, predicted, one logit column for each label)."""
    items = read_rows(context.inputs["items"] / "items.jsonl")
    labels: list[str] = context.config["labels"]
    logits = logits_with(context, items)
    rows: list[dict[str, Any]] = [
        {"id": item.id, "gold": item.label, "predicted": labels[int(line.argmax())]}
        | {f"logit_{label}": float(value) for label, value in zip(labels, line, strict=True)}
        for item, line in zip(items, logits, strict=True)
    ]
    write_parquet(rows, context.out / "predictions.parquet")


PREDICT = StepType("probe.predict", 3, predict_step)
