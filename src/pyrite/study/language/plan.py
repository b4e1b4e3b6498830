"""From a study file to the graph of steps that answers it. Nothing is read but what is there; nothing is run.

A cell is a path of steps (train, repair, merge, quantise) from the model as given; cells that begin alike share those steps.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import FLOPS, Compute
from pyrite.models.load import ModelRef
from pyrite.probe.probe_task import ModelUnderTest, ProbeTask, ask, opened
from pyrite.repair.quantise import QUANTISE
from pyrite.repair.self_replay import SELF_REPLAY
from pyrite.repair.train import REPAIR
from pyrite.repair.weights import COMBINE
from pyrite.steps import Cost, Source, Step, Store
from pyrite.study.language.kinds import ABSENT, repair_of
from pyrite.study.language.mix import MIX
from pyrite.study.language.pool import PoolPerplexity
from pyrite.study.language.spec import (
    DAMAGE,
    LanguageMerge,
    LanguageProbe,
    LanguageRepair,
    LanguageSpec,
    LanguageTraining,
)
from pyrite.study.plan import MATMUL_PARAMETERS, parameters_in_name, pinned
from pyrite.study.sources import Sources, StepPlan
from pyrite.study.spec import data_path
from pyrite.synth.run import WEIGHTS, portable_name
from pyrite.train.language import TRAIN_LANGUAGE
from pyrite.train.split import SPLIT

GPU_FLOPS = FLOPS["cuda", "bf16-mixed"]
WRITING = 0.2
"""Of the rate at which text is read, the share at which answers are written: for plans."""
USUAL = {"ifeval": (541, 1280), "followbench": (820, 1024), "mt_bench": (160, 1024), "gsm8k": (1319, 512)}
"""Items of a task and tokens of an answer where the file does not say: for plans."""
UNKNOWN = (1000, 300)


@dataclass(frozen=True)
class Cell:
    """One model of the study: its name, seed, the steps that made it (by name, in order), its answers to each probe."""

    name: str
    seed: int
    path: tuple[tuple[str, Step], ...]
    answers: dict[str, Step]


@dataclass
class Plan(StepPlan):
    """A study as steps. `pools` says which step and file hold each DATA.POOL that is read; `flops` what trainings and
    repairs should take, by key; `absent` names what a plan mentions and this machine does not have."""

    spec: LanguageSpec
    damage: str | None
    cells: list[Cell] = field(default_factory=list)
    asked: dict[str, ProbeTask] = field(default_factory=dict)
    counts: dict[str, Step] = field(default_factory=dict)
    answered: dict[str, Step] = field(default_factory=dict)
    """Steps in which the model before answers replay prompts; they count their rows, too."""
    pools: dict[str, tuple[Step, str]] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[Step]:
        """The steps whose results the report reads: one model after the other, so that its weights can go early."""
        models = [
            step
            for cell in self.cells
            for step in [
                *(s for _, s in cell.path),
                *(one for answers in cell.answers.values() for one in opened(answers)),
            ]
        ]
        return [*self.counts.values(), *self.pool_steps, *models]

    @property
    def pool_steps(self) -> list[Step]:
        """The steps that hold the pools, which are compared before anything is trained."""
        return [step for step, _ in self.pools.values()]

    def summary(self, store: Store, refresh: Collection[str] = ()) -> dict[str, Any]:
        """What `study --plan` says, as plain values."""
        kinds = {"trainings": TRAIN_LANGUAGE, "repairs": REPAIR, "quantised": QUANTISE, "merged": COMBINE}
        return {
            "study": self.spec.study,
            "about": "language",
            "cells": len(self.spec.cells),
            "seeds": list(self.spec.seeds),
            "models_probed": len({cell.path[-1][1].key if cell.path else "" for cell in self.cells}),
            **{name: sum(step.kind.name == kind.name for step in self.steps) for name, kind in kinds.items()},
            "damage": self.damage,
            "damage_chosen": self.spec.damage is not None,
            "of_steps": self.named(),
            "gpu_hours": round(sum(row["gpu_hours"] * row["times"] for row in self.named()), 3),
            **self.takes(store, refresh),
            "primary": [contrast.model_dump(mode="json") for contrast in self.spec.contrasts],
        }

    def named(self) -> list[dict[str, Any]]:
        """Each training, repair and rounding: how often it runs; tokens, FLOPs and GPU hours of one run."""
        found: dict[str, dict[str, Step]] = {}
        for cell in self.cells:
            for name, step in cell.path:
                found.setdefault(name, {})[step.key] = step
        table = []
        for name, steps in found.items():
            first = next(iter(steps.values()))
            flops = self.flops.get(first.key, 0.0)
            told = {"step": name, "kind": first.kind.name, "times": len(steps), "tokens": first.cost.tokens}
            table.append({**told, "flops": flops, "gpu_hours": round(flops / GPU_FLOPS / 3600, 6)})
        return table


class Planner(Sources):
    """Builds the plan of one study; every method returns the step that makes what it is named after."""

    def __init__(
        self, spec: LanguageSpec, folder: Path | None, compute: Compute, store: Path | None, *, only_plan: bool
    ) -> None:
        grid = list(spec.pilot.grid) if spec.pilot else []
        self.plan = Plan(spec, spec.damage or (grid[0] if grid and only_plan else None))
        super().__init__(folder, self.plan.absent, lenient=only_plan)
        self.spec, self.compute, self.store = spec, compute, store
        self.base, self.subject = self.model()
        weights = spec.parameters or MATMUL_PARAMETERS.get(spec.model) or parameters_in_name(spec.model)
        self.parameters = weights or 1e8

    def model(self) -> tuple[Source, ModelRef | None]:
        """The model as given, as an input and as who is asked; nobody where a plan is made without it."""
        name = self.spec.model
        if not self.lenient:
            found = load.resolve(name)
            return Source(str(found.folder), found.identity), found
        try:
            at_hand = Path(name).expanduser().is_dir() or name.startswith("packaged:")
            found = load.resolve(name) if at_hand else load.resolve_hub(name, download=False)
            return Source(str(found.folder), found.identity), found
        except UserError:
            self.miss(f"model {name}")
            return Source(name, load.identity_without_files(name)), None

    def once(self, step: Step, flops: float = 0.0) -> Step:
        """Steps with the same key are the same object."""
        if flops:
            self.plan.flops[step.key] = flops
        return self.keep(step)

    def cost(self, flops: float, tokens: float, *, share: float = 1.0, keeps: float = 0.0) -> Cost:
        """So many FLOPs at a share of this machine's rate."""
        rate = FLOPS.get((self.compute.device, self.compute.precision), 1e11)
        return Cost(int(tokens), 2.0 + flops / rate / share, int(keeps))

    # rows

    def split(self, name: str) -> Step:
        """A source divided into its pools."""
        one = self.spec.data[name]
        inputs: dict[str, Step | Source] = {}
        names = {}
        for number, file in enumerate(one.files):
            found = self.file(file)
            inputs[f"file{number}"], names[f"file{number}"] = found, pinned(found) or Path(file).name
        config: dict[str, Any] = {
            "names": names,
            "columns": one.columns,
            "on_bad_row": one.on_bad_row,
            "duplicates": one.duplicates,
        }
        config |= {"pools": dict(one.pools), "seed": 0} | ({"group": one.group} if one.group is not None else {})
        step = self.once(Step(SPLIT, config, inputs, label=f"{name}: divide into pools", cost=Cost(seconds=2)))
        self.plan.counts[name] = step
        return step

    def rows(self, name: str) -> tuple[Step, str]:
        """The step and file that hold the rows of a pool."""
        resolved = self.spec.rows(name, self.plan.damage)
        source, _, pool = resolved.partition(".")
        return self.plan.pools.setdefault(resolved, (self.split(source), f"{pool}.jsonl"))

    def tokens_of(self, name: str) -> tuple[int, int]:
        """How many rows a plan expects in a pool, and tokens in each."""
        source, _, pool = self.spec.rows(name, self.plan.damage).partition(".")
        one = self.spec.data[source]
        taken = sum(rows for rows in one.pools.values() if isinstance(rows, int))
        rows = one.pools[pool]
        count = rows if isinstance(rows, int) else max(1, (one.expected_rows or taken + 1000) - taken)
        return count, one.tokens_per_row

    def mixed(self, training: LanguageTraining) -> tuple[Step, str, float]:
        """The rows of a training, and how many tokens they should have."""
        if isinstance(training.on, str):
            rows, each = self.tokens_of(training.on)
            return (*self.rows(training.on), min(rows, training.first or rows) * each)
        shares = {self.spec.rows(name, self.plan.damage): share for name, share in training.on.items()}
        inputs: dict[str, Step | Source] = {f"part{at}": self.rows(name)[0] for at, name in enumerate(shares)}
        config = {"shares": shares, "trains": training.trains, "seed": 0}
        label = "mix " + " + ".join(f"{share:g} {name}" for name, share in shares.items())
        step = self.once(Step(MIX, config, inputs, label=label, cost=Cost(seconds=5)))
        self.plan.counts[label] = step
        sizes = {name: self.tokens_of(name) for name in shares}
        tokens = min(rows * each / shares[name] for name, (rows, each) in sizes.items())
        mean = 1 / sum(share / sizes[name][1] for name, share in shares.items())
        return step, "rows.jsonl", min(tokens, (training.first or tokens) * mean)

    # models

    def train(self, training: LanguageTraining, base: Step | Source, seed: int, label: str) -> Step:
        """The model trained further."""
        rows, file, tokens = self.mixed(training)
        tokens *= training.settings.epochs
        config = {
            "trains": training.trains,
            "rows_file": file,
            "first": training.first,
            "settings": training.settings.model_dump(mode="json"),
            "pack_tokens": training.pack_tokens,
            "compute": self.compute.as_config(),
            "seed": seed,
            "base_name": portable_name(self.spec.model, self.base),
        }
        flops = 6 * self.parameters * tokens
        inputs: dict[str, Step | Source] = {"base": base, "rows": rows}
        made = Step(TRAIN_LANGUAGE, config, inputs, label=label, cost=self.cost(flops, tokens), weights=WEIGHTS)
        return self.once(made, flops)

    def repair(
        self, repair: LanguageRepair, base: Step | Source, seed: int, label: str, cells: tuple[str, ...]
    ) -> Step:
        """The model repaired. Six FLOPs for each weight and token to learn, two to read with the model as given."""
        inputs: dict[str, Step | Source] = {"base": base}
        files = {}
        for key in ("forget", "replay", "guard_forget", "guard_replay"):
            inputs[key], files[key] = self.rows(getattr(repair, key))
        settings = repair.settings
        if repair.self_replay:
            for key in ("replay", "guard_replay"):
                inputs[key] = self.self_replay(repair, seed, inputs[key], files[key])
        if settings.kl_to == "before":
            inputs["before"] = self.before(repair.before, seed)
        (rows, forget), (_, replay) = self.tokens_of(repair.forget), self.tokens_of(repair.replay)
        steps = settings.steps or -(-rows // settings.forget_rows)
        tokens = settings.tokens or steps * (settings.forget_rows * forget + settings.replay_rows * replay)
        config = {
            "files": files,
            "settings": settings.as_config(),
            "compute": self.compute.as_config(),
            "seed": seed,
            "base_name": portable_name(self.spec.model, self.base),
        }
        flops = 8 * self.parameters * tokens
        made = Step(
            repair_of(cells, label), config, inputs, label=label, cost=self.cost(flops, tokens), weights=WEIGHTS
        )
        return self.once(made, flops)

    def made_by(self, name: str, base: Step | Source, seed: int, label: str, cells: tuple[str, ...]) -> Step:
        """What one step makes of the model before it, for these cells."""
        spec = self.spec
        if name == DAMAGE:
            assert self.plan.damage is not None
            name = self.plan.damage
        if name in spec.repairs:
            return self.repair(spec.repairs[name], base, seed, label, cells)
        if name in spec.quantise:
            config = {"to": spec.quantise[name], "base_name": portable_name(spec.model, self.base)}
            return self.once(
                Step(QUANTISE, config, {"base": base}, label=label, cost=Cost(seconds=20), weights=WEIGHTS)
            )
        if name in spec.merge:
            return self.merge(spec.merge[name], base, seed, label)
        return self.train(spec.all_trainings()[name], base, seed, label)

    def merge(self, merge: LanguageMerge, base: Step | Source, seed: int, label: str) -> Step:
        """The model between itself and the one before."""
        before = self.before(merge.before, seed)
        names = {"model": "the merged cell's model", "before": merge.before or "the model as given"}
        config = {"method": "interpolate", "alpha": merge.alpha, "groups": dict(merge.groups), "names": names}
        inputs = {"model": base, "before": before}
        return self.once(Step(COMBINE, config, inputs, label=label, cost=Cost(seconds=20), weights=WEIGHTS))

    def before(self, cell: str | None, seed: int) -> Step | Source:
        """The model before: that of a cell with the same seed, or the model as given."""
        path = () if cell is None else self.path(self.spec.cells[cell], seed)
        return path[-1][1] if path else self.base

    def self_replay(self, repair: LanguageRepair, seed: int, rows: "Step | Source", file: str) -> Step:
        """The prompts of a pool, answered by the model before, drawn with the repair's seed."""
        pool = file.removesuffix(".jsonl")
        config: dict[str, Any] = {
            "pools": [pool],
            "written_by": portable_name(self.spec.model, self.base)
            if repair.before is None
            else f"cell {repair.before}",
            "temperature": repair.self_temperature,
            "max_new_tokens": repair.self_tokens,
            "compute": self.compute.as_config(),
            "seed": seed,
        }
        inputs: dict[str, Step | Source] = {"rows": rows, "base": self.before(repair.before, seed)}
        count, _ = self.tokens_of(repair.replay if repair.replay.endswith(f".{pool}") else repair.guard_replay)
        tokens = count * repair.self_tokens
        cost = self.cost(2 * self.parameters * tokens, tokens, share=WRITING)
        label = f"{pool} rows answered by the model before, seed {seed}"
        step = self.once(Step(SELF_REPLAY, config, inputs, label=label, cost=cost))
        self.plan.answered[label] = step
        return step

    def path(self, names: tuple[str, ...], seed: int) -> tuple[tuple[str, Step], ...]:
        """The steps of a cell for one seed."""
        made: list[tuple[str, Step]] = []
        for number, name in enumerate(names):
            begun = names[: number + 1]
            cells = tuple(cell for cell, path in self.spec.cells.items() if path[: number + 1] == begun)
            base = made[-1][1] if made else self.base
            made.append((name, self.made_by(name, base, seed, f"{' + '.join(begun)}, seed {seed}", cells)))
        return tuple(made)

    # probes

    def asking(self, name: str, probe: LanguageProbe) -> ProbeTask | None:
        """Who asks a probe; None where a plan is made without its file."""
        precision = self.spec.precision
        if probe.data:
            rows, file = self.rows(probe.data)
            return PoolPerplexity(file, probe.config(None, precision, self.store), rows=rows)
        path = data_path(probe.file, self.folder) if probe.file else ""
        if self.lenient and (probe.file is None or (not path.startswith("hf://") and not Path(path).exists())):
            self.miss(f"data {path}" if path else f"task {probe.task}")
            return None
        return ask(probe.text(path), probe.config(path, precision, self.store))

    def probe_cost(self, probe: LanguageProbe) -> Cost:
        """What asking one model should take."""
        items, tokens = USUAL.get(probe.task, UNKNOWN)
        if probe.data:
            items, tokens = self.tokens_of(probe.data)
        count = min(probe.items or items, items)
        writes = probe.task in USUAL
        total = count * ((probe.max_new_tokens or tokens) if writes else tokens)
        return self.cost(2 * self.parameters * total, total, share=WRITING if writes else 1.0, keeps=500 * count)

    def answers(self, cell: str, path: tuple[tuple[str, Step], ...], label: str) -> dict[str, Step]:
        """One model's answers to the probes that ask its cell."""
        from dataclasses import replace

        subject = ModelUnderTest(label, None, path[-1][1]) if path else ModelUnderTest(label, self.subject)
        made = {}
        for name, probe in self.spec.probes.items():
            if probe.only_cells is not None and cell not in probe.only_cells:
                continue
            if name not in self.plan.asked or (not path and self.subject is None):
                base = path[-1][1] if path else self.base
                step = Step(ABSENT, probe.model_dump(mode="json"), {"base": base})
            else:
                step = self.plan.asked[name].step(subject)
            made[name] = self.once(replace(step, label=f"{label}: {name}", cost=self.probe_cost(probe)))
        return made

    def build(self) -> Plan:
        """The whole plan: seed by seed, cell by cell."""
        if self.plan.damage is None and needs_damage(self.spec):
            fix = f"find one (pyrite study {self.spec.study} --pilot), then write `damage: NAME` into the study file"
            raise UserError("No damage is chosen.", "damage: is empty, and cells or probes need one", fix)
        for name, probe in self.spec.probes.items():
            asked = self.asking(name, probe)
            if asked is not None:
                self.plan.asked[name] = asked
        for seed in self.spec.seeds:
            for name, steps in self.spec.cells.items():
                path = self.path(steps, seed)
                label = f"{name}, seed {seed}" if steps else name
                self.plan.cells.append(Cell(name, seed, path, self.answers(name, path, label)))
        return self.plan


def make_plan(
    spec: LanguageSpec, folder: Path | None, compute: Compute, *, store: Path | None = None, only_plan: bool = False
) -> Plan:
    """The graph of steps of a study. With `only_plan`, what is absent is listed in it; else it is a `UserError`."""
    return Planner(spec, folder, compute, store, only_plan=only_plan).build()


def needs_damage(spec: LanguageSpec) -> bool:
    """Does any cell or probe of the study hang on what the damage is?"""
    read = [probe.data or "" for probe in spec.probes.values()]
    return any(DAMAGE in path for path in spec.cells.values()) or any(
        spec.rows(one).partition(".")[0] == DAMAGE for one in read
    )


def pilot_spec(spec: LanguageSpec) -> LanguageSpec:
    """The study that a pilot is: a seed of its own, one probe, the grid's trainings and the cell that they are compared
    with. The study trains the chosen damage anew: a model that was picked for its result is no replicate.

    Raises:
        UserError: the file has no pilot.
    """
    if spec.pilot is None:
        raise UserError(
            "This study has no pilot.", f"study {spec.study}", "add pilot: (probe, metric, grid) to the file"
        )
    cells = {spec.pilot.against: spec.cells[spec.pilot.against], **{name: (name,) for name in spec.pilot.grid}}
    probe = spec.pilot.probe.model_copy(update={"only_cells": None})
    changed = {"cells": cells, "probes": {"pilot": probe}, "contrasts": (), "seeds": (spec.pilot.seed,)}
    return spec.model_copy(update=changed)
