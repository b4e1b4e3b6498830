"""The models of a study as steps: what each step of a cell makes of the model before it.

`STEP_TYPES` lists every section of a study file that names steps, with the method that plans one of them: a new type of step
is one method and one entry.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.load import WEIGHTS, ModelRef, portable_name
from pyrite.repair.quantise import QUANTISE
from pyrite.repair.self_replay import SELF_REPLAY
from pyrite.repair.train import REPAIR
from pyrite.repair.weights import COMBINE
from pyrite.steps import Context, Cost, Source, Step, StepType
from pyrite.study.labelled_uses import data_of
from pyrite.study.other_steps import OTHER_STEPS
from pyrite.study.plan_lower import LowerPlanner
from pyrite.study.spec import StudySpec
from pyrite.study.spec_steps import DAMAGE, START_ROWS, TRAINED, MergeStep, RepairStep, TrainingStep
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.language import TRAIN_LANGUAGE
from pyrite.train.settings import ClassifierSettings

WRITING = 0.2
"""Of the rate at which text is read, the share at which answers are written: for plans."""


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


def left_out_if_bad(*rows: Step | Source) -> dict[str, str]:
    """What a step on rows is told of those that the model refuses: nothing, or to leave them out where that is said of a
    file that the rows come from."""

    def skips(step: Step | Source) -> bool:
        if not isinstance(step, Step):
            return False
        of_rows = (beneath for name, beneath in step.inputs.items() if name != "base")
        return step.config.get("on_bad_row") == "skip" or any(map(skips, of_rows))

    return {"on_bad_row": "skip"} if any(map(skips, rows)) else {}


class ModelPlanner(LowerPlanner):
    """Every method returns the step that makes what it is named after."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parameters = self.weights_of(self.spec.given.model)

    @property
    def base_name(self) -> str:
        """The model as given, by a name that means the same on every machine."""
        return portable_name(self.spec.given.model, self.base)

    def reference(self) -> ModelRef | None:
        """The model as given, as a probe asks it; None where a plan is made without it."""
        name = self.spec.given.model
        if not self.lenient:
            return load.resolve(name)
        try:
            at_hand = Path(name).expanduser().is_dir() or name.startswith("packaged:")
            return load.resolve(name) if at_hand else load.resolve_hub(name, download=False)
        except UserError:
            return None

    # starts and arms

    def reading(self, seed: int) -> dict[str, Any]:
        """How a classifier is asked, for the steps that ask it."""
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

    def classifier(
        self, rows: Step, settings: ClassifierSettings, *, start: Step | None, seed: int, count: float, label: str
    ) -> Step:
        """A classifier trained on labelled rows, from the model as given or further from a start."""
        config = {
            "labels": list(self.spec.labels),
            "rows_file": "rows.jsonl",
            "reads": self.reads,
            "settings": settings.as_config(),
            "compute": self.compute.as_config(),
            "seed": seed,
            "base_name": self.base_name,
        }
        inputs: dict[str, Step | Source] = {"base": self.base, "rows": rows}
        if start is not None:
            inputs["start"] = start
        lower = self.lower_of(start, settings.freeze)
        if lower is not None:
            inputs |= {f"lower{at}": step for at, step in enumerate(self.stored_of(rows, lower, settings.max_tokens))}
        tokens = count * settings.epochs * self.spec.tokens_per_row
        model = self.spec.given.model
        cost = self.cost_of(model, tokens * self.share_trained(settings.freeze), training=True)
        trained = self.keep(Step(TRAIN_CLASSIFIER, config, inputs, label=label, cost=cost, weights=WEIGHTS))
        if lower is not None:
            self.lower[trained.key] = lower
        return trained

    def on_chats(
        self, rows: tuple[Step, str], tokens: float, settings: ClassifierSettings, *, first: int | None,
        start: Step | None, seed: int, label: str,
    ) -> Step:  # fmt: skip
        """A language model trained further on chats as a start or an arm."""
        plain = settings.model_dump(mode="json", exclude={"freeze"})
        config: dict[str, Any] = {
            "trains": "chat",
            "rows_file": rows[1],
            "first": first,
            "settings": plain,
            "pack_tokens": 0,
        }
        return self.language(config, rows[0], start or self.base, tokens * settings.epochs, seed, label)

    def start(self, name: str, seed: int) -> Step | None:
        """A start's model for one seed; None where it is the model as given."""
        start = self.spec.starts[name]
        seed = self.seed_of(name, seed)
        before = self.start(start.after, seed) if start.after else None
        if start.is_given:
            return before
        settings, label = start.training or self.spec.training.start, f"start {name}, seed {seed}"
        if not self.spec.labels:
            pool, count = next(iter(start.rows.items()))
            rows, each = self.tokens_of(pool)
            first = None if count == "all" else int(count)
            tokens = min(rows, first or rows) * each
            return self.on_chats(self.chats(pool), tokens, settings, first=first, start=before, seed=seed, label=label)
        drawn, drawn_count = self.start_rows(name, seed)
        self.plan.rows.setdefault(f"start {name}", (drawn, "rows.jsonl"))
        return self.classifier(drawn, settings, start=before, seed=seed, count=drawn_count, label=label)

    def arm(self, name: str, at: Standing, place: Place) -> Standing:
        """A model trained further on an arm."""
        settings = self.spec.training.arm
        if self.spec.labels:
            rows, count = self.arm_rows(name, at.size, at.seed, at.start)
            trained = self.classifier(rows, settings, start=at.model, seed=at.seed, count=count, label=place.label)
            learned = TrainedOn(rows, "rows.jsonl", count, self.spec.tokens_per_row)
            return replace(at, model=trained, rows=learned)
        counts = self.spec.all_arms()[name].counts(at.size)
        parts = [self.part_of_arm(pool, count, at.start) for pool, count in counts.items()]
        order = at.seed if self.spec.arm_rows_vary else 0
        drawn = self.drawn_chats(parts, order, f"arm {name}, {at.size} rows, seed {order}: draw")
        tokens = sum(part["rows"] * self.tokens_of(part["name"])[1] for part in parts)
        trained = self.on_chats(
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

    # other steps of cells

    def training(self, name: str, at: Standing, place: Place) -> Standing:
        """A language model trained further."""
        training: TrainingStep = self.spec.all_trainings()[
            self.plan.damage if name == DAMAGE and self.plan.damage else name
        ]
        rows, file, tokens = self.mixed(training)
        config: dict[str, Any] = {
            "trains": training.trains,
            "rows_file": file,
            "first": training.first,
            "settings": training.settings.model_dump(mode="json"),
            "pack_tokens": training.pack_tokens,
        }
        each = self.tokens_of(training.pools()[0])[1]
        learned = TrainedOn(rows, file, max(1, round(tokens / each)), each)
        tokens *= training.settings.epochs
        trained = self.language(config, rows, at.model or self.base, tokens, at.seed, place.label)
        return replace(at, model=trained, rows=learned)

    def language(
        self, config: dict[str, Any], rows: Step, base: Step | Source, tokens: float, seed: int, label: str
    ) -> Step:
        """The step that trains a language model on the tokens of its rows."""
        config |= {"compute": self.compute.as_config(), "seed": seed, "base_name": self.base_name}
        config |= left_out_if_bad(rows)
        flops = 6 * self.parameters * tokens
        inputs: dict[str, Step | Source] = {"base": base, "rows": rows}
        step = Step(TRAIN_LANGUAGE, config, inputs, label=label, cost=self.cost(flops, tokens), weights=WEIGHTS)
        return self.with_flops(step, flops)

    def with_flops(self, step: Step, flops: float) -> Step:
        """A step, with what it should take noted in the plan."""
        self.plan.flops[step.key] = flops
        return self.keep(step)

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
            "compute": self.compute.as_config(),
            "seed": at.seed,
            "base_name": self.base_name,
            **plugin_settings(settings.method),
            **left_out_if_bad(*(inputs[role] for role in names)),
        }
        flops = 8 * self.parameters * tokens
        kind, cost = repair_of(place.cells, place.label), self.cost(flops, tokens)
        step = Step(kind, config, inputs, label=place.label, cost=cost, weights=WEIGHTS)
        return replace(at, model=self.with_flops(step, flops))

    def rows_of(self, name: str, at: Standing) -> tuple[Step, str]:
        """The step and file that hold the rows that a repair names, at this point of a cell."""
        if name == TRAINED:
            assert at.rows is not None
            return at.rows.step, at.rows.file
        return self.data(name, at.seed) if name in data_of(self.spec) else self.chats(name)

    def sizes_of(self, name: str, at: Standing) -> tuple[int, int]:
        """How many rows a plan expects of what a repair names, and tokens in each."""
        if name == TRAINED:
            assert at.rows is not None
            return at.rows.count, at.rows.tokens_each
        if name in data_of(self.spec):
            return self.rows_in(name), self.spec.tokens_per_row
        return self.tokens_of(name)

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
        written_by = f"cell {repair.before}" if repair.before is not None else self.base_name
        if repair.before is None and at.begun is not None:
            written_by = f"start {at.start}"
        config: dict[str, Any] = {
            "pools": [pool],
            "written_by": written_by,
            "temperature": repair.self_temperature,
            "max_new_tokens": repair.self_tokens,
            "compute": self.compute.as_config(),
            "seed": at.seed,
            **left_out_if_bad(rows),
        }
        inputs: dict[str, Step | Source] = {"rows": rows, "base": self.before(repair.before, at)}
        name = repair.replay if repair.replay.endswith(f".{pool}") else repair.guard_replay
        tokens = self.tokens_of(name or repair.replay)[0] * repair.self_tokens
        cost = self.cost(2 * self.parameters * tokens, tokens, share=WRITING)
        label = f"{pool} rows answered by the model before, seed {at.seed}"
        step = self.keep(Step(SELF_REPLAY, config, inputs, label=label, cost=cost))
        self.plan.answered[label] = step
        return step

    def quantise(self, name: str, at: Standing, place: Place) -> Standing:
        """A model as rounding would leave it."""
        config = {"to": self.spec.quantise[name], "base_name": self.base_name}
        inputs = {"base": at.model or self.base}
        step = Step(QUANTISE, config, inputs, label=place.label, cost=Cost(seconds=20), weights=WEIGHTS)
        return replace(at, model=self.keep(step))

    def merge(self, name: str, at: Standing, place: Place) -> Standing:
        """The model between itself and the one before."""
        merge: MergeStep = self.spec.merge[name]
        called = merge.before or ("the model as given" if at.begun is None else f"start {at.start}")
        names = {"model": "the merged cell's model", "before": called}
        config = {"method": "interpolate", "alpha": merge.alpha, "groups": dict(merge.groups), "names": names}
        inputs: dict[str, Step | Source] = {"model": at.model or self.base, "before": self.before(merge.before, at)}
        step = Step(COMBINE, config, inputs, label=place.label, cost=Cost(seconds=20), weights=WEIGHTS)
        return replace(at, model=self.keep(step))

    def other(self, name: str, at: Standing, place: Place) -> Standing:
        """What a step of a type from outside makes of a model."""
        step = self.spec.steps[name]
        standing: Standing = OTHER_STEPS[step.type](self, step.options, at, place)
        return standing

    # paths

    def beginning(self, start: str | None, size: int, seed: int) -> Standing:
        """Where a cell begins: at a start's model, or at the model as given."""
        model = None if start is None else self.start(start, seed)
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
            return ModelPlanner.training
        return next(planner for names, planner in STEP_TYPES if name in names(self.spec))


StepPlanner = Callable[[ModelPlanner, str, Standing, Place], Standing]
STEP_TYPES: tuple[tuple[Callable[[StudySpec], Collection[str]], StepPlanner], ...] = (
    (lambda spec: spec.all_arms(), ModelPlanner.arm),
    (lambda spec: spec.all_trainings(), ModelPlanner.training),
    (lambda spec: spec.repairs, ModelPlanner.repair),
    (lambda spec: spec.quantise, ModelPlanner.quantise),
    (lambda spec: spec.merge, ModelPlanner.merge),
    (lambda spec: spec.steps, ModelPlanner.other),
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
