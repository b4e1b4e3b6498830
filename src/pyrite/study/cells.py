"""What a plan is: the cells of a study, each a model with its answers, and every step that they stand on."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pyrite.models.hardware import FLOPS
from pyrite.probe.probe_task import ProbeTask, opened
from pyrite.repair.quantise import QUANTISE
from pyrite.repair.train import REPAIR
from pyrite.repair.weights import COMBINE
from pyrite.steps import Cost, Step, Store, closure, missing_steps
from pyrite.study.spec import StudySpec
from pyrite.tasks.scoring import Task
from pyrite.train.causal import TRAIN_GENERATOR
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.language import TRAIN_LANGUAGE

GPU_FLOPS = FLOPS["cuda", "bf16-mixed"]
COSTED = {kind.name for kind in (TRAIN_LANGUAGE, REPAIR, QUANTISE, COMBINE)}
"""Steps whose costs a study reports, so that their results are read."""


@dataclass(frozen=True)
class CellKey:
    """Which cell: the start, the arm (or written-out cell) and the rows of an arm. Cells that are not written as starts ×
    arms × sizes have a name only."""

    name: str
    start: str = ""
    size: int = 0


@dataclass(frozen=True)
class Cell:
    """One model of the study: which cell, its seed, the steps that made it (by name, in order), and its answers to each
    probe. `is_start`: nothing follows the start."""

    key: CellKey
    seed: int
    path: tuple[tuple[str, Step], ...]
    answers: dict[str, Step]
    is_start: bool = False

    @property
    def name(self) -> str:
        """The arm, or the name of a written-out cell."""
        return self.key.name

    @property
    def start(self) -> str:
        """The start where it begins; empty for the model as given."""
        return self.key.start

    @property
    def size(self) -> int:
        """The rows of an arm."""
        return self.key.size

    @property
    def model(self) -> Step | None:
        """The step that made the model; None where it is the model as given."""
        return self.path[-1][1] if self.path else None


@dataclass
class Plan:
    """A study as steps.

    `items` and `tasks` are those of probes whose answers are labels, `probe_tasks` of all others; `rows` are the labelled
    row files whose overlaps are reported (name → step, file), `pools` those of chats (DATA.POOL → step, file); `answered`
    are steps in which the model before answers replay prompts, which count their rows, too; `flops` is what trainings and
    repairs should take, by key; `absent` names what a plan mentions and this machine does not have.
    """

    spec: StudySpec
    damage: str | None = None
    cells: list[Cell] = field(default_factory=list)
    items: dict[str, Step] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    probe_tasks: dict[str, ProbeTask] = field(default_factory=dict)
    rows: dict[str, tuple[Step, str]] = field(default_factory=dict)
    pools: dict[str, tuple[Step, str]] = field(default_factory=dict)
    quality: dict[str, Step] = field(default_factory=dict)
    counts: dict[str, Step] = field(default_factory=dict)
    answered: dict[str, Step] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[Step]:
        """The steps whose results the report reads: one model after the other, so that its weights can go early."""
        models = [
            step
            for cell in self.cells
            for step in [
                *(step for _, step in cell.path if step.kind.name in COSTED),
                *(answer for step in cell.answers.values() for answer in opened(step)),
            ]
        ]
        return [
            *self.counts.values(),
            *self.pool_steps,
            *models,
            *self.items.values(),
            *self.quality.values(),
            *(step for step, _ in self.rows.values()),
        ]

    @property
    def pool_steps(self) -> list[Step]:
        """The steps that hold the pools of chats, which are compared before anything is trained."""
        return [step for step, _ in self.pools.values()]

    @property
    def steps(self) -> list[Step]:
        """Every step, inputs first."""
        return closure(self.targets)

    def cost(self, steps: list[Step] | None = None) -> Cost:
        """What these steps (all by default) should take, one after the other."""
        return sum((step.cost for step in (self.steps if steps is None else steps)), Cost())

    @property
    def width(self) -> int:
        """How many steps that run a model can be at work at a time, at most: those that are as far from the beginning."""
        depth: dict[str, int] = {}
        at: Counter[int] = Counter()
        for step in self.steps:
            below = max((depth[parent.key] for parent in step.parents()), default=0)
            works = "compute" in step.config
            depth[step.key] = below + works
            at[below] += works
        return max(at.values(), default=1)

    def takes(self, store: Store, refresh: Collection[str] = ()) -> dict[str, Any]:
        """What the plan should take, and what of it is stored, as plain values."""
        todo = {step.key for step in missing_steps(self.targets, store, refresh)}
        steps, cost = self.steps, self.cost()
        stored = [step for step in steps if step.key not in todo]
        return {
            "steps": len(steps),
            "tokens": cost.tokens,
            "seconds": round(cost.seconds, 1),
            "bytes": cost.bytes,
            "stored": {"steps": len(stored), "of": len(steps), "seconds_saved": round(self.cost(stored).seconds, 1)},
            "absent": self.absent,
        }

    def summary(self, store: Store, refresh: Collection[str] = ()) -> dict[str, Any]:
        """What `study --plan` says, as plain values."""
        sizes = self.size_of_grid() if self.spec.has_grid else self.size_of_paths()
        return {
            "study": self.spec.study,
            **sizes,
            **self.takes(store, refresh),
            "primary": [contrast.as_json() for contrast in self.spec.primary()],
        }

    def count(self, *names: str) -> int:
        """How many steps are of these types?"""
        return sum(step.kind.name in names for step in self.steps)

    def size_of_grid(self) -> dict[str, Any]:
        """How many cells and trainings; of what else cells hold, how much."""
        trainings = self.count(TRAIN_CLASSIFIER.name, TRAIN_GENERATOR.name, TRAIN_LANGUAGE.name)
        generators = self.count(TRAIN_GENERATOR.name)
        starts = sum(cell.is_start and cell.model is not None for cell in self.cells)
        size: dict[str, Any] = {
            "cells": sum(not cell.is_start for cell in self.cells),
            "models_probed": len(self.cells),
            "trainings": trainings,
            "trainings_of": {"starts": starts, "generators": generators, "arms": trainings - starts - generators},
        }
        more = {
            "repairs": self.count(REPAIR.name),
            "quantised": self.count(QUANTISE.name),
            "merged": self.count(COMBINE.name),
        }
        return size | ({**more, **self.of_steps()} if any(more.values()) else {})

    def size_of_paths(self) -> dict[str, Any]:
        """How many cells, and how often each of their steps runs."""
        kinds = {"trainings": TRAIN_LANGUAGE, "repairs": REPAIR, "quantised": QUANTISE, "merged": COMBINE}
        return {
            "about": "language",
            "cells": len(self.spec.cells),
            "seeds": list(self.spec.seeds),
            "models_probed": len({cell.model.key if cell.model else "" for cell in self.cells}),
            **{name: self.count(kind.name) for name, kind in kinds.items()},
            "damage": self.damage,
            "damage_chosen": self.spec.damage is not None,
            **self.of_steps(),
        }

    def of_steps(self) -> dict[str, Any]:
        """Each training, repair, merge and rounding: how often it runs; tokens, FLOPs and GPU hours of one run."""
        runs: dict[str, dict[str, Step]] = {}
        for cell in self.cells:
            for name, step in cell.path:
                if step.kind.name in COSTED:
                    runs.setdefault(name, {})[step.key] = step
        table, hours = [], 0.0
        for name, steps in runs.items():
            first = next(iter(steps.values()))
            flops = self.flops.get(first.key, 0.0)
            gpu_hours = round(flops / GPU_FLOPS / 3600, 6)
            row = {"step": name, "kind": first.kind.name, "times": len(steps), "tokens": first.cost.tokens}
            table.append({**row, "flops": flops, "gpu_hours": gpu_hours})
            hours += gpu_hours * len(steps)
        return {"of_steps": table, "gpu_hours": round(hours, 3)}
