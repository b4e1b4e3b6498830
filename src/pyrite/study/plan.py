"""From a study file to the graph of steps that answers it. Nothing is read but what is there; nothing is run.

A cell is a start and the arms it is trained on, for one size and seed. Cells share every step that they can: a start
is trained once for each seed, an arm's rows are drawn once, a probe's items are chosen once.

Rows that a study lets vary (`pools_vary`, `texts_vary`) are those of a seed; seed 0 has the rows that all seeds share
where they do not vary, and probes and judges always read those.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.models import load, packaged
from pyrite.models.hardware import FLOPS, Compute
from pyrite.probe.predict import GRAMMAR as BY_GRAMMAR
from pyrite.probe.predict import ITEMS, PREDICT
from pyrite.steps import Cost, Source, Step, Store
from pyrite.study.contrasts import check_contrasts
from pyrite.study.data import ARM, GRAMMAR, POOLS, QUALITY
from pyrite.study.files import arm_title, file_of
from pyrite.study.sources import Sources, StepPlan
from pyrite.study.spec import START_ROWS, ArmSpec, ProbeSpec, SourceSpec, StudySpec, as_pool
from pyrite.study.uses import HELD_OUT, pools_held_out, pools_kept, rows_of_judge
from pyrite.synth.rows import READ
from pyrite.synth.run import WEIGHTS, ExampleRows, portable_name, synth_steps
from pyrite.tasks import TASKS
from pyrite.tasks.score import Task
from pyrite.train.causal import TRAIN_GENERATOR
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.lower import LOWER
from pyrite.train.settings import ClassifierSettings

WHOLE_POOL, DRAWS_SHARE = 20_000, 20
"""What frozen layers make of rows is computed for a whole pool of at most so many rows, and at most so many times the rows
of a draw."""
MATMUL_PARAMETERS = {"packaged:minilm-l6": 10.7e6, "packaged:smollm2-135m-instruct": 135e6}


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


@dataclass(frozen=True, slots=True)
class Lower:
    """The lower layers that a trained model left as they are: so many of this model (None: of the base model)."""

    model: Step | None
    layers: int


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
        self.lower: dict[str, Lower] = {}

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

    def source(self, name: str, seed: int = 0) -> Step:
        """All rows of a source, for one seed."""
        spec = self.spec.data[name]
        if spec.synth:
            return self.synthetic(name, spec, seed if self.spec.texts_vary else 0)
        if spec.grammar:
            written = {"grammar": spec.grammar.as_config(), "fields": list(self.spec.fields)}
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

    def data(self, name: str, seed: int = 0) -> tuple[Step, str]:
        """The step and file that hold the rows of a source or pool, for one seed."""
        source, _, pool = name.partition(".")
        step = self.source(source, seed)
        if not pool:
            return step, "rows.jsonl"
        config = self.division(source)
        label = f"{source}: divide into pools"
        kept = pools_kept(self.spec, source)
        if self.spec.pools_vary and seed and pool not in kept:
            config |= {"division": seed, "kept": sorted(kept)}
            label += f", seed {seed}"
        return self.keep(Step(POOLS, config, {"rows": step}, label=label, cost=Cost(seconds=2))), f"{pool}.jsonl"

    def division(self, source: str) -> dict[str, Any]:
        """How a source is divided. What the file does not ask for is left out, so that older divisions are found again."""
        spec = self.spec.data[source]
        pools = {name: as_pool(pool) for name, pool in spec.pools.items()}
        held_out = pools_held_out(self.spec, source)
        wanted = {name: pool.model_dump(mode="json", exclude={"shares_with", "where"}) for name, pool in pools.items()}
        for name, pool in pools.items():
            shares = sorted(held_out & set(pool.shares_with))
            wanted[name] |= {"shares_with": shares} if shares else {}
            wanted[name] |= {"where": pool.where} if pool.where else {}
        config: dict[str, Any] = {"pools": wanted, "labels": list(self.spec.labels), "seed": 0}
        if held_out - set(HELD_OUT) and not all(pool.disjoint for pool in pools.values()):
            config["held_out"] = sorted(held_out)
        return config | ({"group": spec.group} if spec.group is not None else {})

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

    def synthetic(self, name: str, spec: SourceSpec, seed: int) -> Step:
        """A generator's rows: train it (or show it rows), sample, parse, drop duplicates, judge the labels."""
        synth = spec.synth
        assert synth is not None
        assert spec.train_on is not None
        step, file = self.data(spec.train_on, seed)
        is_first = seed == (self.spec.seeds[0] if self.spec.texts_vary else 0)
        title = name if is_first else f"{name}, seed {seed}"
        rows = synth_steps(
            title,
            synth,
            base=self.model(synth.model),
            examples=ExampleRows(step, file, self.rows_in(spec.train_on)),
            labels=list(self.spec.labels),
            fields=list(self.spec.fields),
            compute=self.compute,
            tokens_per_row=self.spec.tokens_per_row,
            cost=lambda tokens, training: self.cost(synth.model, tokens, training=training),
            texts_seed=seed_of_texts(synth.seed, seed),
        )
        rows = self.keep(rows)
        self.plan.counts[title] = rows
        if spec.judge and is_first and name not in self.plan.quality:
            self.plan.quality[name] = self.judged(name, rows)
        return rows

    def judged(self, name: str, rows: Step) -> Step:
        """How good the labels of a generator's rows are."""
        spec = self.spec.data[name]
        known = self.plan.quality.get(name)
        if known is not None and known.inputs["rows"] is rows:
            return known
        assert spec.synth is not None
        assert spec.judge is not None
        judge = self.start(spec.judge, self.spec.seeds[0])
        held, held_file = self.held_out(spec.train_on)
        config = {**self.reading(self.spec.seeds[0]), "human_file": held_file}
        given: dict[str, Step | Source] = {"base": self.model(self.spec.task_model.model), "rows": rows, "human": held}
        if judge is not None:
            given["model"] = judge
        texts = sum(spec.synth.raw_per_label(list(self.spec.labels)).values())
        cost = self.cost(self.spec.task_model.model, texts * self.spec.tokens_per_row, training=False)
        label = f"{rows.label.partition(':')[0]}: judge the labels"
        return self.keep(Step(QUALITY, config, given, label=label, cost=cost))

    def held_out(self, train_on: str | None) -> tuple[Step, str]:
        """The rows that a judge is tried on (`rows_of_judge`).

        Raises:
            UserError: there are none.
        """
        name = rows_of_judge(self.spec, train_on)
        if name is None:
            fix = "add one to the human source's pools"
            raise UserError("A judge needs held-out human rows.", "no pool named validation", fix)
        return self.data(name)

    # models

    def drawn(
        self,
        parts: list[dict[str, Any]],
        *,
        seed: int,
        order: int,
        balance: bool,
        noise: float | str | None,
        label: str,
        start: str = "",
    ) -> Step:
        """The rows of an arm or start for one seed; `order` is the seed that draws them from their pools."""
        inputs: dict[str, Step | Source] = {}
        for number, part in enumerate(parts):
            if part["name"] == START_ROWS:
                if not self.spec.starts[start].rows:
                    found = f"start {start} is the base model"
                    raise UserError(
                        "An arm of the start's own rows needs a start with rows.", found, "leave this start out"
                    )
                inputs[f"part{number}"], part["file"] = self.start_rows(start, seed)[0], "rows.jsonl"
            else:
                inputs[f"part{number}"], part["file"] = self.data(part["name"], seed)
        if isinstance(noise, str):
            inputs["quality"] = self.judged(noise, self.source(noise, seed))
            noise = None
        config = {"parts": parts, "labels": list(self.spec.labels), "seed": order, "balance": balance, "noise": noise}
        return self.keep(Step(ARM, config, inputs, label=label, cost=Cost(seconds=1)))

    def train(
        self, rows: Step, settings: ClassifierSettings, *, start: Step | None, seed: int, count: float, label: str
    ) -> Step:
        """A classifier trained on rows, from the base model or further from a start."""
        spec = self.spec.task_model
        config = {
            "labels": list(self.spec.labels),
            "rows_file": "rows.jsonl",
            "reads": self.reads,
            "settings": settings.as_config(),
            "compute": self.compute.as_config(),
            "seed": seed,
            "base_name": portable_name(spec.model, self.model(spec.model)),
        }
        inputs: dict[str, Step | Source] = {"base": self.model(spec.model), "rows": rows}
        if start is not None:
            inputs["start"] = start
        lower = self.lower_of(start, settings.freeze)
        if lower is not None:
            inputs |= {f"lower{at}": one for at, one in enumerate(self.stored_of(rows, lower, settings.max_tokens))}
        tokens = count * settings.epochs * self.spec.tokens_per_row
        cost = self.cost(spec.model, tokens * self.share_trained(settings.freeze), training=True)
        trained = self.keep(Step(TRAIN_CLASSIFIER, config, inputs, label=label, cost=cost, weights=WEIGHTS))
        if lower is not None:
            self.lower[trained.key] = lower
        return trained

    def share_trained(self, frozen: int) -> float:
        """The share of the task model's layers above the frozen ones; 1 where the model is not at hand."""
        layers = self.task_config().get("num_hidden_layers") if frozen else None
        return 1 - frozen / layers if isinstance(layers, int) and layers > frozen else 1.0

    def task_config(self) -> dict[str, Any]:
        """The task model's config.json; empty where the model is not at hand."""
        folder = Path(self.model(self.spec.task_model.model).path)
        return load.read_config(folder) if (folder / "config.json").is_file() else {}

    def lower_of(self, start: Step | None, layers: int) -> Lower | None:
        """Whose lower layers are those of a model that is trained from `start` with so many frozen? None: its own."""
        if not layers:
            return None
        before = None if start is None else self.lower.get(start.key)
        if before is not None and before.layers >= layers:
            return Lower(before.model, layers)
        return Lower(start, layers)

    def stored_of(self, rows: Step, lower: Lower, max_tokens: int) -> list[Step]:
        """The steps that hold what the frozen layers make of drawn rows: one for each pool that they are drawn from, so
        that all draws share it, or for the drawn rows themselves where a pool holds far more."""
        parts = [(rows.inputs[f"part{at}"], part) for at, part in enumerate(rows.config["parts"])]
        whole = [self.shares_states(part) for _, part in parts]
        made = {}
        for (step, part), all_rows in zip(parts, whole, strict=True):
            assert isinstance(step, Step)
            source, file, name = (step, part["file"], part["name"]) if all_rows else (rows, "rows.jsonl", rows.label)
            count = self.rows_in(name) if all_rows and name != START_ROWS else int(part["rows"])
            stored = self.stored(source, file, lower, max_tokens, f"{name}: lower {lower.layers} layers", count)
            made[stored.key] = stored
        return list(made.values())

    def shares_states(self, part: Mapping[str, Any]) -> bool:
        """Are states computed for all rows that a part is drawn from, so that other draws find them? Where it is not far
        more than is drawn; said by the draw alone, so that another seed changes no key."""
        if part["name"] == START_ROWS or part["rows"] == "all":
            return True
        drawn: int = part["rows"]
        return self.rows_in(part["name"]) <= min(WHOLE_POOL, DRAWS_SHARE * drawn)

    def stored(self, rows: Step, file: str, lower: Lower, max_tokens: int, label: str, count: int) -> Step:
        """The step that holds what the frozen layers make of the rows of a file."""
        config = {
            "labels": list(self.spec.labels),
            "rows_file": file,
            "reads": self.reads,
            "freeze": lower.layers,
            "max_tokens": max_tokens,
            "compute": self.compute.as_config(),
            "seed": 0,
        }
        inputs: dict[str, Step | Source] = {"base": self.model(self.spec.task_model.model), "rows": rows}
        if lower.model is not None:
            inputs["model"] = lower.model
        tokens = count * self.spec.tokens_per_row
        cost = self.cost(
            self.spec.task_model.model,
            tokens * (1 - self.share_trained(lower.layers)),
            training=False,
            keeps=4 * self.task_config().get("hidden_size", 1024) * tokens,  # fp32
        )
        return self.keep(Step(LOWER, config, inputs, label=label, cost=cost, weights=("states.npy",)))

    def seed_of(self, start: str, seed: int) -> int:
        """The seed of a start's model where the study's is `seed`: the first of all where there is one model for all."""
        return self.spec.seeds[0] if self.spec.starts[start].seeds == "one" else seed

    def start(self, name: str, seed: int) -> Step | None:
        """A start's model for one seed; None where it is the base model itself."""
        spec = self.spec.starts[name]
        seed = self.seed_of(name, seed)
        before = self.start(spec.after, seed) if spec.after else None
        if not spec.rows or all(count == 0 for count in spec.rows.values()):
            return before
        rows, count = self.start_rows(name, seed)
        settings = spec.training or self.spec.training.start
        self.plan.rows.setdefault(f"start {name}", (rows, "rows.jsonl"))
        return self.train(rows, settings, start=before, seed=seed, count=count, label=f"start {name}, seed {seed}")

    def start_rows(self, name: str, seed: int) -> tuple[Step, int]:
        """The rows that a start is trained on for one seed, and how many they are."""
        spec, seed = self.spec.starts[name], self.seed_of(name, seed)
        parts = [{"name": used, "rows": count, "bias": None} for used, count in spec.rows.items()]
        count = sum(self.rows_in(used) if n == "all" else n for used, n in spec.rows.items())
        order = seed if self.spec.pools_vary else 0
        label = f"start {name}: rows{f', seed {seed}' if self.rows_vary else ''}"
        return self.drawn(parts, seed=seed, order=order, balance=False, noise=None, label=label), count

    @property
    def rows_vary(self) -> bool:
        """Does each seed have rows of its own to draw from?"""
        return self.spec.pools_vary or self.spec.texts_vary

    def arm_rows(self, name: str, size: int, seed: int, start: str) -> tuple[Step, int]:
        """An arm's rows of one size and seed, and how many they are."""
        arm = self.spec.all_arms()[name]
        counts = arm_counts(arm, size)
        parts = []
        for used, count in counts.items():
            bias = arm.bias if arm.bias and arm.bias_on in (None, used) else None
            parts.append({"name": used, "rows": count, "bias": bias.as_config() if bias else None})
        order = seed if self.spec.arm_rows_vary else 0
        label = f"arm {name}, {size} rows, seed {seed if self.rows_vary else order}: draw"
        rows = self.drawn(parts, seed=seed, order=order, balance=True, noise=arm.noise, label=label, start=start)
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
            "file": probe.file if by_grammar(probe) else None,
            "grammar_rows": probe.grammar_rows if by_grammar(probe) else None,
        }
        inputs: dict[str, Step | Source] = {}
        if probe.data:
            inputs["rows"], config["rows_file"] = self.data(probe.data)
        elif not by_grammar(probe):
            assert probe.file is not None
            inputs["file"] = found = self.file(probe.file)
            config["hub"] = pinned(found) or None
        step = self.keep(Step(ITEMS, config, inputs, label=f"{name}: choose items", cost=Cost(seconds=2)))
        self.plan.counts[f"probe {name}"] = step
        return step

    def items_in(self, probe: ProbeSpec) -> int:
        """How many items a plan expects a probe to have."""
        there = self.rows_in(probe.data) if probe.data else probe.grammar_rows if by_grammar(probe) else 10_000
        return min(there, probe.items or there)

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
            items = self.items_in(probe)
            lower = None if model is None or self.reads != "pair" else self.lower.get(model.key)
            if lower is not None:
                most = self.spec.training.arm.max_tokens
                inputs["lower"] = self.stored(
                    self.plan.items[name], "items.jsonl", lower, most, f"{name}: lower {lower.layers} layers", items
                )
            tokens = items * self.spec.tokens_per_row * (self.share_trained(lower.layers) if lower else 1)
            cost = self.cost(self.spec.task_model.model, tokens, training=False, keeps=60 * items)
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
                self.plan.cells.append(
                    Cell(start, "start", 0, seed, model, self.answers(model, self.seed_of(start, seed), label), True)
                )
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
                self.plan.rows[f"{name}.{pool}"] = self.data(f"{name}.{pool}", spec.seeds[0])
            if not source.pools:
                self.plan.rows[name] = self.data(name, spec.seeds[0])
            if source.train_on:
                self.plan.rows.setdefault(source.train_on, self.data(source.train_on, spec.seeds[0]))
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


def by_grammar(probe: ProbeSpec) -> bool:
    """Are the probe's items written by a grammar?"""
    return (probe.file or "").startswith(BY_GRAMMAR)


def pinned(source: Source) -> str:
    """How a step opens a data set on the hub: its name and commit; nothing for a file, which is opened by its path."""
    return f"{source.path}#{source.identity}" if source.path.startswith("hf://") else ""


def seed_of_texts(seed: int, study_seed: int) -> int:
    """The seed that samples a generator's texts for one seed of the study: its own for 0, else another for each."""
    return seed if study_seed == 0 else int(np.random.SeedSequence([seed, study_seed]).generate_state(1)[0])


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
