"""From a study file to the graph of steps that answers it. Nothing is read but what is there; nothing is run.

A cell is a start and the arms it is trained on, for one size and seed. Cells share every step that they can: a start
is trained once for each seed, an arm's rows are drawn once, a probe's items are chosen once.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models import load, packaged
from pyrite.models.hardware import Compute
from pyrite.probe.predict import ITEMS, PREDICT
from pyrite.steps import Cost, Source, Step, Store
from pyrite.study.contrasts import check_contrasts
from pyrite.study.data import ARM, GRAMMAR, POOLS, QUALITY
from pyrite.study.files import arm_title, file_of
from pyrite.study.sources import Sources, StepPlan
from pyrite.study.spec import START_ROWS, ArmSpec, PoolSpec, ProbeSpec, SourceSpec, StudySpec
from pyrite.synth.rows import READ
from pyrite.synth.run import WEIGHTS, Shown, portable_name, synth_steps
from pyrite.tasks import TASKS
from pyrite.tasks.score import Task
from pyrite.train.causal import TRAIN_GENERATOR
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.settings import TrainSettings

MATMUL_PARAMETERS = {"packaged:minilm-l6": 10.7e6, "packaged:smollm2-135m-instruct": 135e6}
FLOPS = {
    ("cpu", "bf16-mixed"): 1.5e11,
    ("cpu", "fp32"): 7e10,
    ("cuda", "bf16-mixed"): 1.2e14,
    ("cuda", "fp32"): 2e13,
    ("mps", "fp32"): 2e12,
}
"""Sustained FLOP/s that plans assume for one worker (measured on one core with AVX-512 bf16; GPUs: 0.15 of an H100's peak)."""


@dataclass(frozen=True)
class Cell:
    """One model of the study: where it began, what it was trained on since, and its answers to every probe."""

    start: str
    arm: str
    size: int
    seed: int
    model: Step | None
    answers: dict[str, Step]
    is_start: bool = False


@dataclass
class Plan(StepPlan):
    """A study as steps. `rows` are the row files whose overlaps are reported: name → (step, file)."""

    spec: StudySpec
    cells: list[Cell] = field(default_factory=list)
    items: dict[str, Step] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    rows: dict[str, tuple[Step, str]] = field(default_factory=dict)
    quality: dict[str, Step] = field(default_factory=dict)
    counts: dict[str, Step] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[Step]:
        """The steps whose results the report reads."""
        answers = [step for cell in self.cells for step in cell.answers.values()]
        return [
            *answers,
            *self.items.values(),
            *self.quality.values(),
            *self.counts.values(),
            *(s for s, _ in self.rows.values()),
        ]

    @property
    def trainings(self) -> list[Step]:
        """The steps that train a model."""
        return [step for step in self.steps if step.kind in (TRAIN_CLASSIFIER, TRAIN_GENERATOR)]

    def summary(self, store: Store, refresh: Collection[str] = ()) -> dict[str, Any]:
        """What `study --plan` says, as plain values."""
        generators = sum(step.kind is TRAIN_GENERATOR for step in self.trainings)
        starts = sum(cell.is_start and cell.model is not None for cell in self.cells)
        return {
            "study": self.spec.study,
            "cells": sum(not cell.is_start for cell in self.cells),
            "models_probed": len(self.cells),
            "trainings": len(self.trainings),
            "trainings_of": {
                "starts": starts,
                "generators": generators,
                "arms": len(self.trainings) - starts - generators,
            },
            **self.takes(store, refresh),
            "primary": [contrast.model_dump(mode="json") for contrast in self.spec.primary()],
        }


class Planner(Sources):
    """Builds the plan of one study; every method returns the step that makes what it is named after."""

    def __init__(self, spec: StudySpec, data_folder: Path | None, compute: Compute, *, offline_names: bool) -> None:
        self.spec = spec
        self.compute = compute
        self.plan = Plan(spec)
        super().__init__(data_folder, self.plan.absent, lenient=offline_names)
        self.reads = self._reads()

    def _reads(self) -> str:
        chosen = self.spec.task_model.reads
        if chosen != "auto":
            return chosen
        name = self.spec.task_model.model
        if name.startswith(packaged.PREFIX):
            return "prompt" if packaged.lookup(name).gguf else "pair"
        folder = Path(name).expanduser()
        if folder.is_dir():
            return "prompt" if load.is_causal(folder) else "pair"
        if self.lenient and load.identity_without_files(name).startswith("absent:"):
            return "prompt"
        return "prompt" if load.is_causal(load.resolve(name).folder) else "pair"

    def model(self, name: str) -> Source:
        """A model as an input."""
        if not self.lenient:
            found = load.resolve(name)
            return Source(str(found.folder), found.identity)
        identity = load.identity_without_files(name)
        here = Path(name).expanduser().is_dir() or (
            name.startswith(packaged.PREFIX) and packaged.is_fetched(name.removeprefix(packaged.PREFIX))
        )
        if not here and (not load.is_hub_name(name) or identity.startswith("absent:")):
            self.miss(f"model {name}")
        return Source(name, identity)

    def cost(self, model: str, tokens: float, *, training: bool, keeps: float = 0) -> Cost:
        """Six FLOPs for each weight and token in training, two in reading; at the rates above."""
        weights = self.spec.task_model.parameters if model == self.spec.task_model.model else None
        weights = weights or MATMUL_PARAMETERS.get(model) or parameters_in_name(model) or 1e8
        rate = FLOPS.get((self.compute.device, self.compute.precision), 1e11)
        return Cost(int(tokens), 2.0 + (6 if training else 2) * weights * tokens / rate, int(keeps))

    # data

    def source(self, name: str) -> Step:
        """All rows of a source."""
        spec = self.spec.data[name]
        if spec.synth:
            return self.synthetic(name, spec)
        if spec.grammar:
            written = {"grammar": spec.grammar.model_dump(mode="json"), "fields": list(self.spec.fields)}
            step = self.keep(Step(GRAMMAR, written, label=f"{name}: write rows by grammar", cost=Cost(seconds=2)))
        else:
            config: dict[str, Any] = {
                "fields": list(self.spec.fields),
                "labels": list(self.spec.labels),
                "columns": spec.columns,
                "label_map": spec.label_map,
                "on_bad_row": spec.on_bad_row,
                "duplicates": spec.duplicates,
                "layout": None if tuple(self.spec.fields) == ("premise", "hypothesis") else "labelled",
                "first": None,
            }
            inputs = {f"file{number}": self.file(file) for number, file in enumerate(spec.files)}
            config["names"] = {key: pinned(source) for key, source in inputs.items()}
            step = self.keep(Step(READ, config, inputs, label=f"{name}: read and clean", cost=Cost(seconds=5)))
        self.plan.counts[name] = step
        return step

    def data(self, name: str) -> tuple[Step, str]:
        """The step and file that hold the rows of a source or pool."""
        source, _, pool = name.partition(".")
        step = self.source(source)
        if not pool:
            return step, "rows.jsonl"
        pools = {key: as_pool(value).model_dump(mode="json") for key, value in self.spec.data[source].pools.items()}
        config = {"pools": pools, "labels": list(self.spec.labels), "seed": 0}
        divided = Step(POOLS, config, {"rows": step}, label=f"{source}: divide into pools", cost=Cost(seconds=2))
        return self.keep(divided), f"{pool}.jsonl"

    def rows_in(self, name: str) -> int:
        """How many rows a plan expects this data to have."""
        source, _, pool = name.partition(".")
        spec = self.spec.data[source]
        if pool and isinstance(as_pool(spec.pools[pool]).rows, int):
            return int(as_pool(spec.pools[pool]).rows)
        if spec.grammar:
            return spec.grammar.rows
        if spec.synth:
            return sum(spec.synth.raw_per_label(list(self.spec.labels)).values())
        return spec.expected_rows or 10_000

    def synthetic(self, name: str, spec: SourceSpec) -> Step:
        """A generator's rows: train it (or show it rows), sample, parse, drop duplicates, judge the labels."""
        synth = spec.synth
        assert synth is not None
        assert spec.train_on is not None
        step, file = self.data(spec.train_on)
        rows = synth_steps(
            name,
            synth,
            base=self.model(synth.model),
            shown=Shown(step, file, self.rows_in(spec.train_on)),
            labels=list(self.spec.labels),
            fields=list(self.spec.fields),
            compute=self.compute,
            tokens_per_row=self.spec.tokens_per_row,
            cost=lambda tokens, training: self.cost(synth.model, tokens, training=training),
        )
        rows = self.keep(rows)
        self.plan.counts[name] = rows
        if spec.judge and name not in self.plan.quality:
            judge = self.start(spec.judge, self.spec.seeds[0])
            held, held_file = self.held_out(spec.train_on)
            config = {**self.reading(self.spec.seeds[0]), "human_file": held_file}
            given: dict[str, Step | Source] = {
                "base": self.model(self.spec.task_model.model),
                "rows": rows,
                "human": held,
            }
            if judge is not None:
                given["model"] = judge
            texts = sum(synth.raw_per_label(list(self.spec.labels)).values())
            cost = self.cost(self.spec.task_model.model, texts * self.spec.tokens_per_row, training=False)
            self.plan.quality[name] = self.keep(
                Step(QUALITY, config, given, label=f"{name}: judge the labels", cost=cost)
            )
        return rows

    def held_out(self, near: str | None) -> tuple[Step, str]:
        """Rows that no generator wrote and no model was trained on: a validation pool, first that of the source of
        `near` (which the generator learned from); else the general probe's data."""
        known = [source for source, spec in self.spec.data.items() if not spec.synth]
        for source in sorted(known, key=lambda source: source != (near or "").partition(".")[0]):
            if "validation" in self.spec.data[source].pools:
                return self.data(f"{source}.validation")
        general = self.spec.probes["general"].data
        if general is None or general.partition(".")[0] not in known:
            fix = "add one to the human source's pools"
            raise UserError("A judge needs held-out human rows.", "no pool named validation", fix)
        return self.data(general)

    # models

    def drawn(
        self,
        parts: list[dict[str, Any]],
        *,
        seed: int,
        balance: bool,
        noise: float | str | None,
        label: str,
        start: str = "",
    ) -> Step:
        """The rows of an arm or start."""
        inputs: dict[str, Step | Source] = {}
        for number, part in enumerate(parts):
            if part["name"] == START_ROWS:
                if not self.spec.starts[start].rows:
                    found = f"start {start} is the base model"
                    raise UserError(
                        "An arm of the start's own rows needs a start with rows.", found, "leave this start out"
                    )
                inputs[f"part{number}"], part["file"] = self.start_rows(start)[0], "rows.jsonl"
            else:
                inputs[f"part{number}"], part["file"] = self.data(part["name"])
        if isinstance(noise, str):
            self.source(noise)
            inputs["quality"] = self.plan.quality[noise]
            noise = None
        config = {"parts": parts, "labels": list(self.spec.labels), "seed": seed, "balance": balance, "noise": noise}
        return self.keep(Step(ARM, config, inputs, label=label, cost=Cost(seconds=1)))

    def train(
        self, rows: Step, settings: TrainSettings, *, start: Step | None, seed: int, count: float, label: str
    ) -> Step:
        """A classifier trained on rows, from the base model or further from a start."""
        spec = self.spec.task_model
        config = {
            "labels": list(self.spec.labels),
            "rows_file": "rows.jsonl",
            "reads": self.reads,
            "settings": settings.model_dump(mode="json"),
            "compute": self.compute.as_config(),
            "seed": seed,
            "base_name": portable_name(spec.model, self.model(spec.model)),
        }
        inputs: dict[str, Step | Source] = {"base": self.model(spec.model), "rows": rows}
        if start is not None:
            inputs["start"] = start
        tokens = count * settings.epochs * self.spec.tokens_per_row
        cost = self.cost(spec.model, tokens, training=True)
        return self.keep(Step(TRAIN_CLASSIFIER, config, inputs, label=label, cost=cost, weights=WEIGHTS))

    def start(self, name: str, seed: int) -> Step | None:
        """A start's model for one seed; None where it is the base model itself."""
        spec = self.spec.starts[name]
        before = self.start(spec.after, seed) if spec.after else None
        if not spec.rows or all(count == 0 for count in spec.rows.values()):
            return before
        rows, count = self.start_rows(name)
        settings = spec.training or self.spec.training.start
        self.plan.rows[f"start {name}"] = (rows, "rows.jsonl")
        return self.train(rows, settings, start=before, seed=seed, count=count, label=f"start {name}, seed {seed}")

    def start_rows(self, name: str) -> tuple[Step, int]:
        """The rows that a start is trained on, and how many they are."""
        spec = self.spec.starts[name]
        parts = [{"name": used, "rows": count, "bias": None} for used, count in spec.rows.items()]
        count = sum(self.rows_in(used) if n == "all" else n for used, n in spec.rows.items())
        return self.drawn(parts, seed=0, balance=False, noise=None, label=f"start {name}: rows"), count

    def arm_rows(self, name: str, size: int, seed: int, start: str) -> tuple[Step, int]:
        """An arm's rows of one size and seed, and how many they are."""
        arm = self.spec.all_arms()[name]
        counts = arm_counts(arm, size)
        parts = []
        for used, count in counts.items():
            bias = arm.bias if arm.bias and arm.bias_on in (None, used) else None
            parts.append({"name": used, "rows": count, "bias": bias.model_dump(mode="json") if bias else None})
        seed = seed if self.spec.arm_rows_vary else 0
        label = f"arm {name}, {size} rows, seed {seed}: draw"
        rows = self.drawn(parts, seed=seed, balance=True, noise=arm.noise, label=label, start=start)
        self.plan.rows.setdefault(arm_title(name, size), (rows, "rows.jsonl"))
        return rows, sum(counts.values())

    def trained(self, start: Step | None, arm: str, size: int, seed: int, label: str, begun: str) -> Step:
        """A start trained further on an arm."""
        rows, count = self.arm_rows(arm, size, seed, begun)
        return self.train(rows, self.spec.training.arm, start=start, seed=seed, count=count, label=label)

    # probes

    def reading(self, seed: int) -> dict[str, Any]:
        """How the task model is asked, for the steps that ask it."""
        settings = self.spec.training.arm
        return {
            "labels": list(self.spec.labels),
            "by": "head",
            "reads": self.reads,
            "compute": self.compute.as_config(),
            "max_tokens": settings.max_tokens,
            "four_bit": settings.method == "qlora",
            "seed": seed,
        }

    def probe_items(self, name: str, probe: ProbeSpec) -> Step:
        """The items of a probe, and the task that scores them."""
        task = task_of(probe, self.spec)
        self.plan.tasks[name] = task
        strata = list(task.slices[-1]) if task.slices else []
        if task.name == "hans":
            strata = ["subcase", "gold"]
        config = {
            "task": probe.task,
            "fields": list(self.spec.fields),
            "labels": list(task.labels) if not probe.data else None,
            "items": probe.items,
            "in_full": probe.in_full,
            "strata": strata,
            "seed": probe.seed,
            "columns": probe.columns,
            "label_map": probe.label_map,
            "on_bad_row": probe.on_bad_row,
            "hub": None,
            "file": "grammar:heuristics" if probe.file == "grammar:heuristics" else None,
            "grammar_rows": probe.grammar_rows if probe.file == "grammar:heuristics" else None,
        }
        inputs: dict[str, Step | Source] = {}
        if probe.data:
            inputs["rows"], config["rows_file"] = self.data(probe.data)
        elif probe.file != "grammar:heuristics":
            assert probe.file is not None
            inputs["file"] = found = self.file(probe.file)
            config["hub"] = pinned(found) or None
        step = self.keep(Step(ITEMS, config, inputs, label=f"{name}: choose items", cost=Cost(seconds=2)))
        self.plan.counts[f"probe {name}"] = step
        return step

    def answers(self, model: Step | None, seed: int, label: str) -> dict[str, Step]:
        """One model's answers to every probe."""
        made = {}
        for name, probe in self.spec.probes.items():
            inputs: dict[str, Step | Source] = {
                "base": self.model(self.spec.task_model.model),
                "items": self.plan.items[name],
            }
            if model is not None:
                inputs["model"] = model
            tokens = (probe.items or 10_000) * self.spec.tokens_per_row
            cost = self.cost(self.spec.task_model.model, tokens, training=False, keeps=60 * (probe.items or 10_000))
            made[name] = self.keep(Step(PREDICT, self.reading(seed), inputs, label=f"{label}: {name}", cost=cost))
        return made

    def build(self) -> Plan:
        """The whole plan."""
        spec = self.spec
        for name, probe in spec.probes.items():
            self.plan.items[name] = self.probe_items(name, probe)
        for seed in spec.seeds:
            for start in spec.starts:
                model = self.start(start, seed)
                label = f"start {start}, seed {seed}"
                self.plan.cells.append(Cell(start, "start", 0, seed, model, self.answers(model, seed, label), True))
                for size in spec.sizes:
                    for arm in spec.all_arms():
                        label = f"{start} + {arm} {size}, seed {seed}"
                        further = self.trained(model, arm, size, seed, label, start)
                        self.plan.cells.append(
                            Cell(start, arm, size, seed, further, self.answers(further, seed, label))
                        )
            for cell in spec.cells:
                end = self.start(cell.start, seed)
                label = f"{cell.start} + {cell.name} {cell.size}, seed {seed}"
                for number, arm in enumerate(cell.steps):
                    end = self.trained(end, arm, cell.size, seed, f"{label}, step {number + 1}", cell.start)
                self.plan.cells.append(
                    Cell(cell.start, cell.name, cell.size, seed, end, self.answers(end, seed, label))
                )
        for name, source in spec.data.items():
            for pool in source.pools:
                self.plan.rows[f"{name}.{pool}"] = self.data(f"{name}.{pool}")
            if not source.pools:
                self.plan.rows[name] = self.data(name)
        files = Counter(file_of(title) for title in self.plan.rows)
        twice = [title for title in self.plan.rows if files[file_of(title)] > 1]
        if twice:
            found = f"{', '.join(twice)}: all {file_of(twice[0])}"
            raise UserError("Two names of this study would share a file.", found, "give one of them another name")
        check_contrasts([(cell.start, cell.arm, cell.size, cell.seed) for cell in self.plan.cells], spec)
        return self.plan


def make_plan(spec: StudySpec, data_folder: Path | None, compute: Compute, *, only_plan: bool = False) -> Plan:
    """The graph of steps of a study. With `only_plan`, what is absent is listed in it; else it is a `UserError`."""
    return Planner(spec, data_folder, compute, offline_names=only_plan).build()


def pinned(source: Source) -> str:
    """How a step opens a data set on the hub: its name and commit; nothing for a file, which is opened by its path."""
    return f"{source.path}#{source.identity}" if source.path.startswith("hf://") else ""


def as_pool(value: int | PoolSpec) -> PoolSpec:
    """A pool written as a number, or in full."""
    return value if isinstance(value, PoolSpec) else PoolSpec(rows=value)


def arm_counts(arm: ArmSpec, size: int) -> dict[str, int]:
    """How many rows of each data are in an arm of this size?

    `replace`: the shares divide the size (the first takes what rounding leaves). `add`: each share is in parts of the
    size, so human 1.0 and synthetic 0.5 make one and a half times the size.
    """
    counts = {name: round(size * share) for name, share in arm.mix.items()}
    if arm.combine == "replace":
        first = next(iter(counts))
        counts[first] += size - sum(counts.values())
    return {name: count for name, count in counts.items() if count}


def task_of(probe: ProbeSpec, spec: StudySpec) -> Task:
    """The task that scores a probe."""
    if probe.task != "labelled":
        return TASKS[probe.task]
    merge = probe.merge or {}
    labels = tuple(dict.fromkeys(merge.get(label, label) for label in spec.labels))
    return Task("labelled", labels, merge=merge, slices=probe.slices, template=probe.template)


def parameters_in_name(name: str) -> float | None:
    """The size that a model's name states: 7e9 for 'Llama-2-7b-hf'."""
    import re

    match = re.search(r"(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])", name)
    return float(match[1]) * {"b": 1e9, "m": 1e6}[match[2].lower()] if match else None
