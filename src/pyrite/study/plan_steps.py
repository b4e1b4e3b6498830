"""The steps of a study's cells: what each makes of the model before it.

`STEP_TYPES` lists every section of a study file that names steps, with the method that plans one of them: a new type of step
is one method and one entry.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pyrite.errors import UserError
from pyrite.models.load import WEIGHTS
from pyrite.models.template import for_step
from pyrite.repair.quantise import QUANTISE
from pyrite.repair.self_replay import SELF_REPLAY
from pyrite.repair.train import REPAIR
from pyrite.repair.weights import COMBINE
from pyrite.steps import Context, Cost, Source, Step, StepType
from pyrite.study.labelled_uses import data_of
from pyrite.study.other_steps import OTHER_STEPS
from pyrite.study.plan_chats import Chats
from pyrite.study.plan_graph import BYTES_PER_TOKEN, WRITING, StepGraph, left_out_if_bad
from pyrite.study.plan_labelled import LabelledRows
from pyrite.study.plan_training import Trainings
from pyrite.study.spec import StudySpec
from pyrite.study.spec_steps import DAMAGE, START_ROWS, TRAINED, MergeStep, RepairStep, TrainingStep


@dataclass(frozen=True)
class Standing:
    """A point of a cell's path: the model (None: as given), the model at its beginning, the labelled rows of the last training
    (step and number), and the cell's coordinates."""

    model: Step | None
    begun: Step | None
    start: str
    size: int
    seed: int
    rows: "TrainedOn | None" = None


@dataclass(frozen=True)
class TrainedOn:
    """The rows of a training: the step and file that hold them, their number, and tokens in each, for plans."""

    step: Step
    file: str
    count: int
    tokens_each: int


@dataclass(frozen=True)
class Place:
    """Where in the plan a step stands: what it is called, and the cells that need it."""

    label: str
    cells: tuple[str, ...]


class CellSteps:
    """Plans the steps of cells, one after the other: every method of a step takes where a cell stands, and returns where it
    stands after the step."""

    def __init__(self, graph: StepGraph, labelled: LabelledRows, chats: Chats, trainings: Trainings) -> None:
        self.graph, self.labelled, self.chats, self.trainings = graph, labelled, chats, trainings
        self.spec, self.plan, self.base = graph.spec, graph.plan, graph.base

    def keep(self, step: Step) -> Step:
        """The step, or the one with its key that is planned already."""
        return self.graph.keep(step)

    # paths

    def beginning(self, start: str | None, size: int, seed: int) -> Standing:
        """Where a cell begins: at a start's model, or at the model as given."""
        model = None if start is None else self.trainings.start(start, seed)
        return Standing(model, model, start or "", size, seed)

    def path(
        self, cell: str, names: tuple[str, ...], at: Standing, labels: tuple[str, ...]
    ) -> tuple[tuple[tuple[str, Step], ...], Standing]:
        """The steps of a cell from where it begins, and where it ends."""
        done: list[tuple[str, Step]] = []
        for number, name in enumerate(names):
            begun = names[: number + 1]
            sharing = tuple(
                spec_cell.name
                for spec_cell in self.spec.cells
                if spec_cell.start == (at.start or None) and spec_cell.steps[: number + 1] == begun
            )
            at = self.step_type(name)(self, name, at, Place(labels[number], sharing or (cell,)))
            assert at.model is not None
            done.append((name, at.model))
        return tuple(done), at

    def step_type(self, name: str) -> "StepPlanner":
        """How a step of this name is planned."""
        if name == DAMAGE:
            return CellSteps.training
        return next(planner for names, planner in STEP_TYPES if name in names(self.spec))

    # types of steps

    def arm(self, name: str, at: Standing, place: Place) -> Standing:
        """A model trained further on an arm."""
        settings = self.spec.training.arm
        if self.spec.labels:
            noise = self.spec.all_arms()[name].noise
            quality = self.trainings.label_quality(noise, at.seed) if isinstance(noise, str) else None
            rows, count = self.labelled.arm_rows(name, at.size, at.seed, at.start, quality)
            trained = self.trainings.classifier(
                rows, settings, start=at.model, seed=at.seed, count=count, label=place.label
            )
            learned = TrainedOn(rows, "rows.jsonl", count, self.spec.tokens_per_row)
            return replace(at, model=trained, rows=learned)
        counts = self.spec.all_arms()[name].counts(at.size)
        parts = [self.part_of_arm(pool, count, at.start) for pool, count in counts.items()]
        order = at.seed if self.spec.arm_rows_vary else 0
        drawn = self.chats.drawn(parts, order, f"arm {name}, {at.size} rows, seed {order}: draw")
        tokens = sum(part["rows"] * self.chats.size(part["name"])[1] for part in parts)
        trained = self.trainings.on_chats(
            (drawn, "rows.jsonl"), tokens, settings, first=None, start=at.model, seed=at.seed, label=place.label
        )
        learned = TrainedOn(drawn, "rows.jsonl", sum(counts.values()), max(1, tokens // max(1, sum(counts.values()))))
        return replace(at, model=trained, rows=learned)

    def part_of_arm(self, pool: str, count: int, start: str) -> dict[str, Any]:
        """What an arm of chats draws from a pool: so many of all its rows, or (`start`) of those that its start has learned.

        Raises:
            UserError: the start has learned none.
        """
        if pool != START_ROWS:
            return {"name": self.spec.rows(pool, self.plan.damage), "rows": count, "first": None}
        rows = self.spec.starts[start].rows
        if self.spec.starts[start].is_given:
            detail = f"start {start} is the model as given"
            raise UserError("An arm of the start's own rows needs a start with rows.", detail, "leave this start out")
        own, learned = next(iter(rows.items()))
        return {"name": own, "rows": count, "first": None if learned == "all" else learned}

    def training(self, name: str, at: Standing, place: Place) -> Standing:
        """A language model trained further."""
        training: TrainingStep = self.spec.all_trainings()[
            self.plan.damage if name == DAMAGE and self.plan.damage else name
        ]
        rows, file, tokens = self.chats.of_training(training)
        config: dict[str, Any] = {
            "trains": training.trains,
            "rows_file": file,
            "first": training.first,
            "settings": training.settings.model_dump(mode="json"),
            "pack_tokens": training.pack_tokens,
        }
        each = self.chats.size(training.pools()[0])[1]
        learned = TrainedOn(rows, file, max(1, round(tokens / each)), each)
        tokens *= training.settings.epochs
        trained = self.trainings.language(config, rows, at.model or self.base, tokens, at.seed, place.label)
        return replace(at, model=trained, rows=learned)

    def repair(self, name: str, at: Standing, place: Place) -> Standing:
        """A model repaired. Six FLOPs for each weight and token to learn, two to read with the model as given."""
        from pyrite.repair.methods import plugin_settings

        repair = self.spec.repairs[name]
        names = {"forget": self.spec.forgets(repair), **repair.pools()}
        inputs: dict[str, Step | Source] = {"base": at.model or self.base}
        files = {}
        for role, rows_name in names.items():
            inputs[role], files[role] = self.rows_of(rows_name, at)
        settings = repair.settings
        if repair.self_replay:
            for role in (role for role in ("replay", "guard_replay") if role in files):
                inputs[role] = self.self_replay(repair, at, inputs[role], files[role])
        if settings.kl_to == "before":
            inputs["before"] = self.before(repair.before, at)
        (rows, forget), (_, replay) = self.sizes_of(names["forget"], at), self.sizes_of(names["replay"], at)
        steps = settings.steps or -(-rows // settings.forget_rows)
        tokens = settings.tokens or steps * (settings.forget_rows * forget + settings.replay_rows * replay)
        config = {
            "files": files,
            "settings": settings.as_config(),
            "compute": self.graph.compute.as_config(),
            "seed": at.seed,
            "base_name": self.graph.base_name,
            **plugin_settings(settings.method),
            **left_out_if_bad(*(inputs[role] for role in names)),
            **for_step(self.spec.chat_template_kwargs),
        }
        flops = 8 * self.graph.parameters * tokens
        kind, cost = repair_of(place.cells, place.label), self.graph.cost(flops, tokens)
        model, merged = self.spec.given.model, settings.save == "merged"
        cost = self.graph.storing(cost, model, settings.training, merged=merged)
        step = Step(kind, config, inputs, label=place.label, cost=cost, weights=WEIGHTS)
        return replace(at, model=self.graph.keep(step, flops=flops))

    def rows_of(self, name: str, at: Standing) -> tuple[Step, str]:
        """The step and file that hold the rows that a repair names, at this point of a cell."""
        if name == TRAINED:
            assert at.rows is not None
            return at.rows.step, at.rows.file
        return self.labelled.data(name, at.seed) if name in data_of(self.spec) else self.chats.pool(name)

    def sizes_of(self, name: str, at: Standing) -> tuple[int, int]:
        """How many rows a plan expects of what a repair names, and tokens in each."""
        if name == TRAINED:
            assert at.rows is not None
            return at.rows.count, at.rows.tokens_each
        if name in data_of(self.spec):
            return self.labelled.rows_in(name), self.spec.tokens_per_row
        return self.chats.size(name)

    def before(self, cell: str | None, at: Standing) -> Step | Source:
        """The model before: that of a cell with the same seed, or the one at the beginning of the cell."""
        if cell is None:
            return at.begun or self.base
        steps = self.spec.paths[cell]
        labels = tuple(f"{' + '.join(steps[: number + 1])}, seed {at.seed}" for number in range(len(steps)))
        return self.path(cell, steps, self.beginning(None, 0, at.seed), labels)[1].model or self.base

    def self_replay(self, repair: RepairStep, at: Standing, rows: Step | Source, file: str) -> Step:
        """The prompts of a pool, answered by the model before, drawn with the repair's seed."""
        pool = file.removesuffix(".jsonl")
        written_by = f"cell {repair.before}" if repair.before is not None else self.graph.base_name
        if repair.before is None and at.begun is not None:
            written_by = f"start {at.start}"
        config: dict[str, Any] = {
            "pools": [pool],
            "written_by": written_by,
            "temperature": repair.self_temperature,
            "max_new_tokens": repair.self_tokens,
            "compute": self.graph.compute.as_config(),
            "seed": at.seed,
            **left_out_if_bad(rows),
            **for_step(self.spec.chat_template_kwargs),
        }
        inputs: dict[str, Step | Source] = {"rows": rows, "base": self.before(repair.before, at)}
        name = repair.replay if repair.replay.endswith(f".{pool}") else repair.guard_replay
        tokens = self.chats.size(name or repair.replay)[0] * repair.self_tokens
        cost = self.graph.cost(2 * self.graph.parameters * tokens, tokens, share=WRITING, written=True)
        cost = replace(cost, rows=BYTES_PER_TOKEN * tokens)
        label = f"{pool} rows answered by the model before, seed {at.seed}"
        step = self.keep(Step(SELF_REPLAY, config, inputs, label=label, cost=cost))
        self.plan.answered[label] = step
        return step

    def quantise(self, name: str, at: Standing, place: Place) -> Standing:
        """A model as rounding would leave it."""
        config = {"to": self.spec.quantise[name], "base_name": self.graph.base_name}
        inputs = {"base": at.model or self.base}
        cost = Cost(seconds=20, weights=self.graph.size.bytes)
        step = Step(QUANTISE, config, inputs, label=place.label, cost=cost, weights=WEIGHTS)
        return replace(at, model=self.keep(step))

    def merge(self, name: str, at: Standing, place: Place) -> Standing:
        """The model between itself and the one before."""
        merge: MergeStep = self.spec.merge[name]
        called = merge.before or ("the model as given" if at.begun is None else f"start {at.start}")
        names = {"model": "the merged cell's model", "before": called}
        config = {"method": "interpolate", "alpha": merge.alpha, "groups": dict(merge.groups), "names": names}
        inputs: dict[str, Step | Source] = {"model": at.model or self.base, "before": self.before(merge.before, at)}
        cost = Cost(seconds=20, weights=self.graph.size.bytes)
        step = Step(COMBINE, config, inputs, label=place.label, cost=cost, weights=WEIGHTS)
        return replace(at, model=self.keep(step))

    def other(self, name: str, at: Standing, place: Place) -> Standing:
        """What a step of a type from outside makes of a model."""
        step = self.spec.steps[name]
        standing: Standing = OTHER_STEPS[step.type](self, step.options, at, place)
        return standing


StepPlanner = Callable[[CellSteps, str, Standing, Place], Standing]
STEP_TYPES: tuple[tuple[Callable[[StudySpec], Collection[str]], StepPlanner], ...] = (
    (lambda spec: spec.all_arms(), CellSteps.arm),
    (lambda spec: spec.all_trainings(), CellSteps.training),
    (lambda spec: spec.repairs, CellSteps.repair),
    (lambda spec: spec.quantise, CellSteps.quantise),
    (lambda spec: spec.merge, CellSteps.merge),
    (lambda spec: spec.steps, CellSteps.other),
)
"""Every section of a study file that names steps of cells, and how one of its steps is planned."""


def repair_step(cells: tuple[str, ...], label: str, context: Context) -> None:
    """Step: what `REPAIR` does; its mistakes are told with the cells that wait for it, and how to go on without.

    Raises:
        UserError: the repair's own, such as a loss that is not finite.
    """
    try:
        REPAIR.run(context)
    except UserError as error:
        fix = (
            f"{error.fix}; or take {', '.join(cells)} out of the study's cells; a repair whose loss is not finite can be "
            "given a guard (settings: {guard: {every_tokens: N}}), which stops it before"
        )
        raise UserError(error.what, f"cells {', '.join(cells)} ({label}): {error.found}", fix) from error


def repair_of(cells: tuple[str, ...], label: str) -> StepType:
    """`REPAIR` for these cells; in the store it is the same."""
    return StepType(REPAIR.name, REPAIR.version, partial(repair_step, cells, label))
