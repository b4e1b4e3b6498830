"""Tasks whose answers are labels: the step that chooses their items, the model that is asked, and what its answers come to."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import ReadOptions, file_hash, open_records, read_settings, stored_options, with_split
from pyrite.models import hardware, load
from pyrite.models.hardware import Compute
from pyrite.probe.config import ProbeConfig
from pyrite.probe.int8_check import changed_note
from pyrite.probe.predict import PREDICT
from pyrite.probe.predictions import match, read_predictions, stored_predictions
from pyrite.probe.probe_task import ModelUnderTest, Result, local_ref, source
from pyrite.probe.remote_labels import REMOTE_LABELS
from pyrite.probe.remote_scoring import scoring_inputs, scoring_notes
from pyrite.probe.texts import Texts, of_labels
from pyrite.records import Labelled
from pyrite.steps import Context, Source, Step, StepType, Store
from pyrite.tasks import TASKS, WRITTEN_BY_GRAMMAR, nli
from pyrite.tasks.custom import load_custom
from pyrite.tasks.generative_tasks import GENERATIVE
from pyrite.tasks.grammar import generate_pairs, generate_reviews
from pyrite.tasks.rows import as_labelled, read_rows, write_counts, write_rows
from pyrite.tasks.scoring import ItemScore, Metric, Task, from_labels, label_metrics, matching, slice_names

GRAMMAR = "grammar:"
"""Before the name of a grammar, in the place of a file."""
TWO_WAY_NOTE = (
    "the model tells entailment from what is not: read as two-way, gold neutral and contradiction are not_entailment"
)
NAMELESS = ("LABEL_0", "LABEL_1")
NEGATED = {"negation": 1.0, "reviews": 0.3}
"""Share of negated rows among the items of the reviews' tasks."""


@dataclass(frozen=True)
class LabelTask:
    """A task whose answers are labels: by a classifier's head, by a language model's label words, or from a file."""

    task: Task
    source: str
    items: Step
    config: ProbeConfig
    called: str | None = None

    def __post_init__(self) -> None:
        strange = [label for label in self.config.labels if self.task.spelled(label) not in self.task.answers]
        if strange:
            known = f"the labels of {self.name} are {', '.join(self.task.answers)}"
            fix = f"such as {' '.join(f'--labels {label}' for label in self.task.labels)}; or leave --labels out"
            raise UserError("--labels names what is no label of the task.", f"{', '.join(strange)}; {known}", fix)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.called or self.task.name

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, and the merged one where the task has it."""
        return label_metrics(self.task)

    @property
    def margins(self) -> Mapping[str, float]:
        """Shares take `--margin` as it is."""
        return {}

    def step(self, subject: ModelUnderTest) -> Step:
        """The step in which a model answers: by its head where it has one, else by label words."""
        if subject.remote:
            return self.remote_step(subject)
        ref = local_ref(subject, "A task of labels")
        written = load.read_config(ref.folder)
        has_head = any("SequenceClassification" in name for name in written.get("architectures") or [])
        allowed = self.task.answers
        if has_head:
            named = written.get("id2label") or dict(
                enumerate(NAMELESS)
            )  # the library leaves these names out of the file
            outputs = sorted(named.items(), key=lambda kv: int(kv[0]))
            labels = [self.task.spelled(str(name).lower()) for _, name in outputs]
            strange = [label for label in labels if label not in allowed]
            if strange:
                what = "The classifier's outputs do not carry the task's labels."
                fix = f"name the outputs in config.json (id2label) after the labels {sorted(allowed)}"
                raise UserError(what, f"{ref.folder} has outputs {labels}", fix)
        elif load.is_causal(ref.folder):
            labels = self.words
        else:
            what = "That model has no classification head and cannot name labels."
            fix = "train it first (pyrite study), or give a classifier or a language model"
            raise UserError(what, str(ref.folder), fix)
        chosen = {
            "labels": labels,
            "by": "head" if has_head else "words",
            "reads": "prompt" if load.is_causal(ref.folder) else "pair",
            "compute": self.compute().as_config(),
            "max_tokens": self.config.max_tokens,
            "four_bit": False,
            "seed": 0,
        }
        if self.config.on_bad_row == "skip" and not has_head:
            chosen["on_bad_row"] = "skip"
        inputs: dict[str, Step | Source] = {"base": Source(str(ref.folder), ref.identity), "items": self.items}
        return Step(PREDICT, chosen, inputs, label=f"{subject.name}: {self.name}")

    def compute(self) -> Compute:
        """What the model is read with.

        Raises:
            UserError: it would be spread over devices.
        """
        if self.config.device_map != "one":
            detail = f"{self.name}, with --device-map auto"
            fix = "ask it by itself without --device-map; perplexity, written answers and harness tasks take it"
            raise UserError("A task of labels is asked on one device.", detail, fix)
        return hardware.choose(self.config.precision)

    @property
    def words(self) -> list[str]:
        """The labels that a language model chooses among."""
        default = TASKS["nli"].labels if self.task.name == "hans" else self.task.labels
        return list(self.config.labels or default)

    def remote_step(self, subject: ModelUnderTest) -> Step:
        """The step in which a language model behind an endpoint answers, by label words."""
        inputs = {**scoring_inputs(self.config, subject), "items": self.items}
        return Step(REMOTE_LABELS, {"labels": self.words}, inputs, label=f"{subject.name}: {self.name}")

    def read(self, store: Store, step: Step) -> Result:
        """The model's answers, scored."""
        items = read_rows(store.path(self.items.key) / "items.jsonl")
        answers = stored_predictions(store.path(step.key) / "predictions.parquet")
        result = self.scored(items, answers, step.config["labels"], store.read_json(step, "reading.json"))
        return replace(result, notes=(*result.notes, *self.read_note(store)))

    def scored(
        self,
        items: Sequence[Labelled],
        answers: Mapping[str, str | None],
        labels: Sequence[str],
        reading: Mapping[str, Any],
    ) -> Result:
        """The answers of a model that chose among `labels`, scored, with what is known of how it read the items."""
        notes = []
        if reading["rows_cut"]:
            notes.append(f"{reading['rows_cut']} rows were cut at {reading['max_tokens']} tokens")
        if reading.get("dropped"):
            notes.append(
                f"{sum(reading['dropped'].values())} of {len(items)} items were left out: {reading['dropped']}"
            )
        notes += [*scoring_notes(reading), *changed_note(reading)]
        return self.result(items, answers, labels, 0, {"reading": reading}, notes)

    def read_file(self, store: Store, path: Path) -> Result:
        """Answers from a file, scored."""
        items = read_rows(store.path(self.items.key) / "items.jsonl")
        answers, unmatched = match(read_predictions(path), items, path)
        labels = dict.fromkeys(label for label in answers.values() if label is not None)
        return self.result(items, answers, list(labels), unmatched, {}, self.read_note(store))

    def read_note(self, store: Store) -> list[str]:
        """How the items' file was read; nothing where they come from no file."""
        path = store.path(self.items.key) / "read_as.json"
        words = json.loads(path.read_text("utf-8"))["words"] if path.is_file() else ""
        return [words] if words else []

    def texts(self, store: Store, step: Step) -> Texts:
        """The items, the model's labels, and the right ones."""
        items = read_rows(store.path(self.items.key) / "items.jsonl")
        return of_labels(items, stored_predictions(store.path(step.key) / "predictions.parquet"))

    def texts_of_file(self, store: Store, path: Path) -> Texts:
        """The same of answers from a file."""
        items = read_rows(store.path(self.items.key) / "items.jsonl")
        return of_labels(items, match(read_predictions(path), items, path)[0])

    def result(
        self,
        items: Sequence[Labelled],
        answers: Mapping[str, str | None],
        labels: Sequence[str],
        unmatched: int,
        details: Mapping[str, Any],
        notes: Sequence[str],
    ) -> Result:
        """Accuracy by every slice of the task; the merged accuracy overall only. Of a model that tells merged labels only
        (NLI: entailment or not), there is the merged accuracy alone, by every slice."""
        merged_only = self.task.is_merged(labels)
        measured = from_labels(items, answers, self.task, merged_only=merged_only)
        if self.two_way(labels):
            details = {**details, "two_way": True}
            notes = [*notes, TWO_WAY_NOTE]
        metrics = label_metrics(self.task, merged_only=merged_only)
        cuts = {metrics[0].name: ((), *self.task.slices)}
        cluster = f"{self.task.template}s" if self.task.template else "groups"
        headlines = {metrics[0].name: headline_slices(measured, self.task)}
        return Result(measured, metrics, cuts, cluster, tuple(notes), details, unmatched=unmatched, headlines=headlines)

    def two_way(self, labels: Sequence[str]) -> bool:
        """Does a model of NLI tell only entailment from what is not?"""
        is_nli = self.task.name in TASKS
        return is_nli and nli.TWO_LABELS[1] in {self.task.spelled(label) for label in labels}


def label_task(text: str, config: ProbeConfig) -> LabelTask:
    """A task whose answers are labels."""
    name, _, where = text.partition("=")
    where = with_split(where, config.split) if where and not where.isdigit() else where
    common: dict[str, Any] = {
        "items": config.items,
        "in_full": {},
        "seed": config.seed,
        "columns": mapping("--columns", config.columns),
        "label_map": mapping("--label-map", config.label_map),
        "on_bad_row": config.on_bad_row,
        **read_settings(config, mapping("--roles", config.roles)),
        "name": Path(where or text).name,  # row ids begin with it
        "hub": f"{where}#{file_hash(where)}" if where.startswith("hf://") else None,
        "file": None,
        "grammar_rows": None,
        "fields": ["premise", "hypothesis"],
    }
    if name in WRITTEN_BY_GRAMMAR:
        task = WRITTEN_BY_GRAMMAR[name]
        rows = int(where) if where.isdigit() and int(where) >= 30 else 3000 if not where else 0
        if not rows:
            raise UserError(f"{name} takes a number of rows, 30 or more.", text, f"--task {name}=3000")
        options = {**common, "task": task.name, "labels": None, "file": f"{GRAMMAR}{name}", "grammar_rows": rows}
        if name == "heuristics":
            return LabelTask(
                task, text, make_items_step(options, {}, strata=["subcase", "gold"], label=text), config, name
            )
        options |= {"task": "labelled", "fields": ["text"]}
        return LabelTask(task, text, make_items_step(options, {}, strata=["gold"], label=text), config, name)
    if name in TASKS and where:
        task = TASKS[name]
        options = {**common, "task": name, "labels": list(task.labels)}
        strata = ["subcase", "gold"] if name == "hans" else ["gold"]
        return LabelTask(
            task, where, make_items_step(options, {"file": source(where)}, strata=strata, label=text), config
        )
    if text.endswith((".yaml", ".yml")):
        custom, file = load_custom(Path(text))
        task = custom.task(Path(text).stem)
        options = {**common, "task": "labelled", "labels": list(task.labels), "fields": list(custom.fields)}
        options["columns"] = {"label": custom.label, **(options["columns"] or {})}
        options["label_map"] = {**(custom.label_map or {}), **(options["label_map"] or {})} or None
        options["on_bad_row"] = "skip" if "skip" in (custom.on_bad_row, config.on_bad_row) else "stop"
        strata = list(task.slices[-1]) if task.slices else ["gold"]
        step = make_items_step(options, {"file": source(str(file))}, strata=strata, label=text)
        return LabelTask(task, str(file), step, config)
    fix = (
        "--task NAME=FILE with NAME one of "
        f"{', '.join((*TASKS, *GENERATIVE))}, perplexity; --task heuristics=3000 (or negation, "
        "reviews); "
        "--task harness:gsm8k; or --task FILE.yaml"
    )
    raise UserError("That is not a task.", text, fix)


def make_items_step(config: dict[str, Any], inputs: dict[str, Step | Source], *, strata: list[str], label: str) -> Step:
    """The step that chooses a task's items."""
    return Step(ITEMS, {**config, "strata": strata}, inputs, label=f"{label}: items")


def headline_slices(measured: Sequence[ItemScore], task: Task) -> tuple[Mapping[str, str], ...]:
    """The slices of a task that verdicts look at: its headline for each value of the column that it is judged by; none
    where no item is in it (verdicts then look at all items)."""
    if not task.headline or task.headline_by is None:
        return ()
    inside = [item for item in measured if all(item.slices.get(name) == value for name, value in task.headline.items())]
    values = dict.fromkeys(item.slices[task.headline_by] for item in inside if task.headline_by in item.slices)
    return tuple({task.headline_by: value, **task.headline} for value in values)


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
            **stored_options(config),
        )
        reader = open_records(hub or context.inputs["file"], options)
        rows = [as_labelled(record, config["fields"]) for record in reader]
        read = reader.counts.read
        dropped.update(reader.counts.dropped)
        words = reader.read_as.in_words() if reader.read_as else ""
        (context.out / "read_as.json").write_text(json.dumps({"words": words}), "utf-8")
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


ITEMS = StepType("probe.items", 3, items_step)
