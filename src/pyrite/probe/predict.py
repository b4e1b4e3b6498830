"""Steps: the items of a probe, and one model's answer to each of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from pyrite.errors import UserError
from pyrite.io import ReadOptions, open_records, write_parquet
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.records import Labelled
from pyrite.steps import PART_TOKENS, Context, StepType, in_parts
from pyrite.tasks import nli
from pyrite.tasks.grammar import generate_pairs, generate_reviews
from pyrite.tasks.prompts import classify
from pyrite.tasks.rows import as_labelled, read_rows, write_counts, write_rows
from pyrite.tasks.scoring import matching, slice_names

if TYPE_CHECKING:
    from pyrite.models.lower import Stored
    from pyrite.models.work import ReportProgress, Work


def choose_items(
    items: Sequence[Labelled], count: int | None, *, in_full: Mapping[str, str], strata: Sequence[str], seed: int
) -> list[Labelled]:
    """About `count` items: all that match `in_full` (however many), then others spread evenly over the strata up to
    `count`; in file order."""
    if count is None or count >= len(items):
        return list(items)
    forced = matching(items, in_full) if in_full else [False] * len(items)
    chosen = {at for at, must in enumerate(forced) if must}
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at in rng.permutation(len(items)):
        if at not in chosen:
            groups[slice_names(items[at], strata)].append(int(at))
    for round_ in range(max((len(group) for group in groups.values()), default=0)):
        for group in groups.values():
            if round_ < len(group) and len(chosen) < count:
                chosen.add(group[round_])
    return [items[at] for at in sorted(chosen)]


def items_step(context: Context) -> None:
    """Step: a probe's items, from rows of the study, a file, or a bundled grammar → `items.jsonl` and `counts.json`."""
    config = context.config
    dropped: Counter[str] = Counter()
    if "rows" in context.inputs:
        items = read_rows(context.inputs["rows"] / config["rows_file"])
        items = [hans_item(item) for item in items] if config["task"] == "hans" else items
        read = len(items)
    elif (config["file"] or "").startswith(GRAMMAR):
        items = written_items(config["file"].removeprefix(GRAMMAR), config)
        read = len(items)
    else:
        labelled = config["task"] == "labelled"
        hub, _, revision = (config["hub"] or "").partition("#")
        options = ReadOptions(
            columns=config["columns"],
            label_map=config["label_map"],
            labels=[*config["labels"], nli.NO_LABEL] if config["labels"] else None,
            text_fields=config["fields"] if labelled else None,
            layout="labelled" if labelled else None,
            on_bad_row=config["on_bad_row"],
            revision=revision or None,
        )
        reader = open_records(hub or context.inputs["file"], options)
        rows = [as_labelled(record, config["fields"]) for record in reader]
        read = reader.counts.read
        dropped.update(reader.counts.dropped)
        items = nli.clean_labelled(rows, dropped, duplicates="keep")
        if config["task"] == "hans":
            items = [hans_item(item) for item in items]
    if not items:
        raise UserError(
            "A probe has no items.", f"{read} rows read, dropped: {dict(dropped)}", "check the probe's data"
        )
    chosen = choose_items(
        items, config["items"], in_full=config["in_full"], strata=config["strata"], seed=config["seed"]
    )
    if len(chosen) < len(items):
        dropped["not among the items asked for"] += len(items) - len(chosen)
    write_rows(chosen, context.out / "items.jsonl")
    write_counts(context.out, read, chosen, dropped, sorted({str(item.label) for item in chosen}))


GRAMMAR = "grammar:"
"""Before the name of a grammar, in the place of a file."""
NEGATED = {"negation": 1.0, "reviews": 0.3}
"""Share of negated rows among the items of the reviews' tasks."""


def written_items(name: str, config: Mapping[str, Any]) -> list[Labelled]:
    """Fresh items that a grammar writes (`pyrite.tasks.WRITTEN_BY_GRAMMAR`)."""
    if name == "heuristics":
        pairs = generate_pairs(config["grammar_rows"], seed=config["seed"])
        return [hans_item(as_labelled(pair, config["fields"])) for pair in pairs]
    rows = generate_reviews(config["grammar_rows"], seed=config["seed"], negated=NEGATED[name])
    return [as_labelled(row, config["fields"]) for row in rows]


def hans_item(item: Labelled) -> Labelled:
    """A HANS item whose template is named with its subcase: the authors number templates within subcases."""
    lacking = [name for name in ("heuristic", "subcase", "template") if name not in item.meta]
    if lacking:
        fix = "give a file of the HANS layout (heuristic, subcase, template), or describe your own task in a YAML"
        raise UserError("A HANS item lacks columns.", f"item {item.id}: no {', '.join(lacking)}", fix)
    meta = {**item.meta, "template": f"{item.meta['subcase']}/{item.meta['template']}"}
    return Labelled(item.fields, item.label, item.id, meta)


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


ITEMS = StepType("probe.items", 2, items_step)
PREDICT = StepType("probe.predict", 3, predict_step)
