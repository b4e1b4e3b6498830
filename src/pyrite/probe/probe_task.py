"""What does a `--task` name? Each kind knows the step that asks a model, and how to read what the step left."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import file_hash
from pyrite.models import hardware, load
from pyrite.models.load import ModelRef
from pyrite.probe.config import ProbeConfig
from pyrite.probe.predict import GRAMMAR, ITEMS, PREDICT
from pyrite.probe.predictions import match, read_predictions, stored_predictions
from pyrite.probe.texts import Texts, of_labels
from pyrite.records import Chat, Estimate
from pyrite.steps import Context, Source, Step, Store
from pyrite.tasks import TASKS, WRITTEN_BY_GRAMMAR
from pyrite.tasks.custom import load_custom
from pyrite.tasks.generative_tasks import GENERATIVE
from pyrite.tasks.rows import read_rows
from pyrite.tasks.scoring import ItemScore, Metric, Task, from_labels, label_metrics
from pyrite.train.adapters import has_adapter

Cuts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ModelUnderTest:
    """Who is asked: a model on this machine, a model that a step will make, or (neither) a name at an endpoint."""

    name: str
    ref: ModelRef | None
    step: Step | None = None
    """Publishes the folder of a whole language model; it is asked in place of `ref`."""

    @property
    def remote(self) -> bool:
        """Is it asked through an endpoint?"""
        return self.ref is None and self.step is None


@dataclass(frozen=True)
class Result:
    """What a task measured on one subject: the items, what can be said of them, and what a reader must know."""

    measured: list[ItemScore]
    metrics: tuple[Metric, ...]
    cuts: Mapping[str, Cuts]
    """The slices of each metric, by its name; a metric that is not named has none."""
    cluster: str = "groups"
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Estimate] = field(default_factory=dict)
    """A judge's own noise, by metric: a change smaller than it says nothing."""
    unmatched: int = 0
    headlines: Mapping[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)
    """The slices that a metric's verdicts look at, by its name, in the place of all items."""


class ProbeTask(Protocol):
    """One `--task`: its name, and where its items come from."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def metrics(self) -> tuple[Metric, ...] | None:
        """What will be measured; None where only the run can say."""
        ...

    @property
    def margins(self) -> Mapping[str, float]:
        """Margins, by metric, where `--margin` is of another scale."""
        ...

    def step(self, subject: ModelUnderTest) -> Step:
        """The step whose result is measured."""
        ...

    def read(self, store: Store, step: Step) -> Result:
        """Measure a finished step."""
        ...

    def texts(self, store: Store, step: Step) -> Texts:
        """What a finished step was asked and answered, in words; nothing where that was not kept."""
        ...


def label_task(text: str, config: ProbeConfig) -> "LabelTask":
    """A task whose answers are labels."""
    name, _, where = text.partition("=")
    common: dict[str, Any] = {
        "items": config.items,
        "in_full": {},
        "seed": config.seed,
        "columns": mapping("--columns", config.columns),
        "label_map": mapping("--label-map", config.label_map),
        "on_bad_row": config.on_bad_row,
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


def opened(step: Step) -> list[Step]:
    """The steps that reading a probe's result opens: its own, and that of its items or of the answers that it judges."""
    beneath = (step.inputs.get(name) for name in ("items", "answers"))
    return [step, *(source for source in beneath if isinstance(source, Step))]


def source(path: str) -> Source:
    """A data file or folder as an input."""
    if not path.startswith("hf://") and not Path(path).exists():
        raise UserError("That file is not there.", path, "give the path of the task's data")
    return Source(path, file_hash(path))


def draw_prompts(items: list[Chat], count: int | None, skip: int, seed: int) -> list[Chat]:
    """So many prompts, drawn by the seed, in file order; those that `count=skip` would draw are left out before.

    FollowBench keeps examples whole. Elsewhere a larger draw holds every smaller one of the same seed.
    """
    if count is not None and count >= len(items):
        count = None
    if count is None and not skip:
        return items
    if skip >= len(items):
        raise UserError("--skip leaves no item.", f"--skip {skip}, {len(items)} items", "skip fewer")
    examples: dict[str, list[Chat]] = defaultdict(list)
    for item in items:
        examples[str(item.meta.get("example", item.id))].append(item)
    groups = list(examples.values())
    order = [groups[int(at)] for at in np.random.default_rng(seed).permutation(len(groups))]
    left_out = fill(order, skip) if skip else set()
    left = [members for members in order if members[0].id not in left_out]
    chosen = fill(left, len(items) if count is None else count)
    return [item for item in items if item.id in chosen]


def fill(groups: Sequence[Sequence[Chat]], count: int) -> set[str]:
    """The ids of whole groups, in order, as long as they fit into so many items."""
    chosen: set[str] = set()
    for members in groups:
        if len(chosen) + len(members) <= count:
            chosen |= {item.id for item in members}
    if not chosen:
        detail = f"{count} items; an example has up to {max(map(len, groups))}"
        raise UserError("So few items hold no whole example.", detail, "give a larger number")
    return chosen


def local_ref(subject: ModelUnderTest, doing: str) -> ModelRef:
    """The subject's model folder, where a task needs the model itself."""
    if subject.step is not None:
        fix = "ask it for written answers, perplexity or a harness task"
        raise UserError(f"{doing} needs a model that is there already.", f"{subject.name} is still to be made", fix)
    if subject.ref is None:
        raise UserError(f"{doing} needs the model itself.", f"an endpoint: {subject.name}", "use --backend local")
    refuse_adapters(subject.ref.folder)
    return subject.ref


def model_input(subject: ModelUnderTest, doing: str) -> Step | Source:
    """The language model as a step's input `base`: its folder, or the step that will make it.

    Raises:
        UserError: an endpoint, an adapter, or a model that does not write. Of a model that is still to be made, the
            step that reads it says so (`model_folder`).
    """
    if subject.step is not None:
        return subject.step
    ref = local_ref(subject, doing)
    check_writes(ref.folder, doing)
    return Source(str(ref.folder), ref.identity)


def model_folder(context: Context, doing: str) -> Path:
    """A running step's input `base`, which is a whole language model also where another step made it."""
    folder = context.inputs["base"]
    refuse_adapters(folder)
    check_writes(folder, doing)
    return folder


def refuse_adapters(folder: Path) -> None:
    """Refuse a folder of adapters: which base they belong to, it does not safely say."""
    if has_adapter(folder):
        fix = "merge it into its base first (peft: merge_and_unload, save_pretrained)"
        raise UserError("That folder holds an adapter, not a model.", str(folder), fix)


def check_writes(folder: Path, doing: str) -> None:
    """Refuse a model that is no language model."""
    if not load.is_causal(folder):
        raise UserError(f"{doing} needs a language model.", str(folder), "give a model that generates text")


@dataclass(frozen=True)
class LabelTask:
    """A task whose answers are labels: by a classifier's head, by a language model's label words, or from a file."""

    task: Task
    source: str
    items: Step
    config: ProbeConfig
    called: str | None = None

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
        ref = local_ref(subject, "A task of labels")
        written = load.read_config(ref.folder)
        has_head = any("SequenceClassification" in name for name in written.get("architectures") or [])
        allowed = {*self.task.labels, *self.task.merge}
        if has_head:
            outputs = sorted((written.get("id2label") or {}).items(), key=lambda kv: int(kv[0]))
            labels = [str(name).lower() for _, name in outputs]
            strange = [label for label in labels if label not in allowed]
            if strange:
                what = "The classifier's outputs do not carry the task's labels."
                fix = f"name the outputs in config.json (id2label) after the labels {sorted(allowed)}"
                raise UserError(what, f"{ref.folder} has outputs {labels}", fix)
        elif load.is_causal(ref.folder):
            default = TASKS["nli"].labels if self.task.name == "hans" else self.task.labels
            labels = list(self.config.labels or default)
        else:
            what = "That model has no classification head and cannot name labels."
            fix = "train it first (pyrite study), or give a classifier or a language model"
            raise UserError(what, str(ref.folder), fix)
        chosen = {
            "labels": labels,
            "by": "head" if has_head else "words",
            "reads": "prompt" if load.is_causal(ref.folder) else "pair",
            "compute": hardware.choose(self.config.precision).as_config(),
            "max_tokens": self.config.max_tokens,
            "four_bit": False,
            "seed": 0,
        }
        inputs: dict[str, Step | Source] = {"base": Source(str(ref.folder), ref.identity), "items": self.items}
        return Step(PREDICT, chosen, inputs, label=f"{subject.name}: {self.name}")

    def read(self, store: Store, step: Step) -> Result:
        """The model's answers, scored."""

        items = read_rows(store.path(self.items.key) / "items.jsonl")
        answers = stored_predictions(store.path(step.key) / "predictions.parquet")
        reading = store.read_json(step, "reading.json")
        notes = (
            [f"{reading['rows_cut']} rows were cut at {self.config.max_tokens} tokens"] if reading["rows_cut"] else []
        )
        return self.result(from_labels(items, answers, self.task), 0, {"reading": reading}, notes)

    def read_file(self, store: Store, path: Path) -> Result:
        """Answers from a file, scored."""
        items = read_rows(store.path(self.items.key) / "items.jsonl")
        answers, unmatched = match(read_predictions(path), items, path)
        return self.result(from_labels(items, answers, self.task), unmatched, {}, [])

    def texts(self, store: Store, step: Step) -> Texts:
        """The items, the model's labels, and the right ones."""
        items = read_rows(store.path(self.items.key) / "items.jsonl")
        return of_labels(items, stored_predictions(store.path(step.key) / "predictions.parquet"))

    def texts_of_file(self, store: Store, path: Path) -> Texts:
        """The same of answers from a file."""
        items = read_rows(store.path(self.items.key) / "items.jsonl")
        return of_labels(items, match(read_predictions(path), items, path)[0])

    def result(
        self, measured: list[ItemScore], unmatched: int, details: Mapping[str, Any], notes: Sequence[str]
    ) -> Result:
        """Accuracy by every slice of the task; the merged accuracy overall only."""
        metrics = label_metrics(self.task)
        cuts = {metrics[0].name: ((), *self.task.slices)}
        cluster = f"{self.task.template}s" if self.task.template else "groups"
        headlines = {metrics[0].name: headline_slices(measured, self.task)}
        return Result(measured, metrics, cuts, cluster, tuple(notes), details, unmatched=unmatched, headlines=headlines)


def headline_slices(measured: Sequence[ItemScore], task: Task) -> tuple[Mapping[str, str], ...]:
    """The slices of a task that verdicts look at: its headline for each value of the column that it is judged by; none
    where no item is in it (verdicts then look at all items)."""
    if not task.headline or task.headline_by is None:
        return ()
    inside = [item for item in measured if all(item.slices.get(name) == value for name, value in task.headline.items())]
    values = dict.fromkeys(item.slices[task.headline_by] for item in inside if task.headline_by in item.slices)
    return tuple({task.headline_by: value, **task.headline} for value in values)
