"""Steps: the items of a probe, and one model's answer to each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from pyrite.errors import UserError
from pyrite.io import write_parquet
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.positions import token_limit
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

    stored = None
    if "lower" in context.inputs:
        from pyrite.models.lower import Stored

        stored = Stored([context.inputs["lower"]])
    tokenizer = load.load_tokenizer(folder)
    longest = token_limit(load.parsed_config(base), tokenizer)
    reading = prepared(config, tokenizer, rows, order=order, longest=longest, stored=stored)

    def score(model: Any, compute: Compute, places: list[int]) -> tuple[np.ndarray[Any, Any], Work]:
        if len(places) < len(reading.ids):
            return reading.logits(model, compute, places, context.report_progress)

        def part(members: list[int], report_progress: ReportProgress) -> tuple[list[Any], dict[str, Any]]:
            logits, work = reading.logits(model, compute, members, report_progress)
            return logits.tolist(), asdict(work)

        weights = str(next(model.parameters()).dtype).removeprefix("torch.")
        alike = sorted(
            range(len(reading.ids)), key=lambda at: (reading.ids[at], at)
        )  # those that begin alike in one part
        scored, work_records = in_parts(
            context, f"logits-{compute.precision}-{weights}", reading.ids, [len(ids) for ids in reading.ids], part,
            tokens=PART_TOKENS[compute.device], order=alike,
        )  # fmt: skip
        return np.array(scored, dtype=np.float32), sum((Work(**work) for work in work_records), Work())

    logits, record = score_in_fast_precision(load_model, compute, len(reading.ids), score)
    check_finite(logits)
    (context.out / "reading.json").write_bytes(orjson.dumps({**record, **reading.counts}))
    return reading.of_all_rows(logits)


Logits = Callable[[Any, Compute, list[int], "ReportProgress"], tuple[np.ndarray[Any, Any], "Work"]]


@dataclass(frozen=True)
class Reading:
    """Rows as a model reads them (token ids), and how a loaded model is asked for the logits of some of them.

    `kept` are the places of these rows among all `rows`; the others are left out, `dropped` by reason. `cut` rows were
    cut at `max_tokens` tokens.
    """

    ids: list[list[int]]
    logits: Logits
    rows: int
    kept: Sequence[int]
    max_tokens: int
    cut: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Any]:
        """How many rows were cut, and at how many tokens; where rows were left out, how many by reason."""
        record: dict[str, Any] = {"rows_cut": self.cut, "max_tokens": self.max_tokens}
        if self.dropped:
            refused = {"rows_refused": sum(self.dropped.values()), "dropped": dict(self.dropped)}
            record |= {"rows": self.rows, **refused}
        return record

    def of_all_rows(self, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The logits of the rows that were read [kept rows, labels] as those of all [rows, labels]: nan where left out."""
        if len(self.kept) == self.rows:
            return logits
        filled = np.full((self.rows, logits.shape[1]), np.nan, dtype=logits.dtype)
        filled[list(self.kept)] = logits
        return filled


def prepared(
    config: Mapping[str, Any],
    tokenizer: Any,
    rows: Sequence[Labelled],
    *,
    order: Sequence[int],
    longest: int | None,
    stored: "Stored | None" = None,
) -> Reading:
    """How is a loaded model asked for the labels of these rows?

    `config` is that of the step (`labels`, `by`, `reads`, `max_tokens`, and `on_bad_row` where that is "skip"). `order`,
    the output of each label, is looked at only when the model is asked. `longest` is how many tokens the model reads at
    most: a classifier's longer rows are cut, a language model's are refused, as their label would follow the cut.
    `stored`: states of an encoder's lower layers.

    Raises:
        UserError: rows that fill a language model's positions, and `on_bad_row` is not "skip"; or nothing else is left.
    """
    from pyrite.models.score import class_logits
    from pyrite.train.classifier_rows import encode_classifier_rows

    labels: list[str] = config["labels"]
    if config["by"] == "words":
        return read_by_words(config, tokenizer, rows, longest)
    size = min(config["max_tokens"], longest or config["max_tokens"])
    encoded = encode_classifier_rows(tokenizer, rows, labels, config["reads"], size)

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

    return Reading(encoded.ids, by_head, len(rows), range(len(rows)), size, encoded.cut)


def read_by_words(config: Mapping[str, Any], tokenizer: Any, rows: Sequence[Labelled], longest: int | None) -> Reading:
    """Prompts with each label word after them, as tokens of one text."""
    from pyrite.models.refusals import TOO_LONG, encode_each
    from pyrite.models.score import label_word_logits
    from pyrite.models.template import RowRefused
    from pyrite.models.tokenise import encode_choices
    from pyrite.models.trees import ContinuationRequest

    labels: list[str] = config["labels"]
    encoded = encode_choices(
        tokenizer,
        [classify(row.fields, labels) for row in rows],
        [" " + label for label in labels],
        add_special_tokens=True,
    )

    def request_of(place: int) -> ContinuationRequest:
        context, words = encoded[place]
        if not all(words):
            fix = "name others, with --labels"
            raise UserError("A label word has no token of its own.", ", ".join(labels), fix)
        size = len(context) + max(map(len, words)) - 1  # a word's last token is predicted, never read
        if longest is not None and size > longest:
            detail = f"row {rows[place].id}: {size} tokens; the model reads {longest}"
            raise RowRefused("A row is longer than the model can read.", detail, "shorten it", reason=TOO_LONG)
        return ContinuationRequest(tuple(context), tuple(map(tuple, words)))

    skip = config.get("on_bad_row") == "skip"
    kept, requests, dropped = encode_each(range(len(rows)), request_of, skip=skip)
    if not kept:
        raise UserError("No row is left to read.", f"{len(rows)} rows, dropped: {dict(dropped)}", "shorten the rows")

    def by_words(
        model: Any, compute: Compute, places: list[int], report_progress: "ReportProgress"
    ) -> tuple[np.ndarray[Any, Any], "Work"]:
        with compute.autocast():
            return label_word_logits(model, [requests[at] for at in places], report_progress=report_progress)

    ids = [[*request.context, *(token for word in request.continuations for token in word)] for request in requests]
    return Reading(ids, by_words, len(rows), kept, longest or max(map(len, ids)), dropped=dropped)


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
    lines = [None if np.isnan(line).any() else line.tolist() for line in logits]
    write_parquet(prediction_rows(items, labels, lines), context.out / "predictions.parquet")


def prediction_rows(
    items: Sequence[Labelled], labels: Sequence[str], logits: Sequence[Sequence[float] | None]
) -> list[dict[str, Any]]:
    """Each item with its right label, the one of the largest logit, and all logits; nothing where an item was not asked."""
    rows = []
    for item, line in zip(items, logits, strict=True):
        values = [None] * len(labels) if line is None else line
        best = None if line is None else labels[int(np.argmax(line))]
        columns = {f"logit_{label}": value for label, value in zip(labels, values, strict=True)}
        rows.append({"id": item.id, "gold": item.label, "predicted": best, **columns})
    return rows


PREDICT = StepType("probe.predict", 4, predict_step)
