"""From a study file to the graph of steps that answers it. Nothing is read but what is there; nothing is run.

A cell is a path of steps from a start, or from the model as given; cells that begin alike share those steps: a start is
trained once for each seed, an arm's rows are drawn once, a probe's items are chosen once.
"""

from collections import Counter
from pathlib import Path

from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.study.cells import Cell, CellKey, Plan
from pyrite.study.contrasts import refuse_empty_contrasts
from pyrite.study.plan_chats import Chats
from pyrite.study.plan_graph import StepGraph
from pyrite.study.plan_labelled import LabelledRows
from pyrite.study.plan_lower import FrozenLayers
from pyrite.study.plan_probes import Probes
from pyrite.study.plan_steps import CellSteps
from pyrite.study.plan_training import Trainings
from pyrite.study.row_files import file_of
from pyrite.study.spec import StudySpec
from pyrite.study.spec_steps import DAMAGE, START_ROWS, CellSpec


class Planner:
    """Builds the plan of one study, by parts that each know only those before them: `labelled` rows and `chats`, `trainings`
    (with the frozen layers that they share), the `steps` of cells, and the `probes` of the models that come of them."""

    def __init__(self, graph: StepGraph, store: Path | None) -> None:
        self.spec, self.plan = graph.spec, graph.plan
        self.labelled, self.chats = LabelledRows(graph), Chats(graph)
        frozen = FrozenLayers(graph, self.labelled)
        self.trainings = Trainings(graph, self.labelled, self.chats, frozen)
        self.steps = CellSteps(graph, self.labelled, self.chats, self.trainings)
        self.probes = Probes(graph, self.labelled, self.chats, frozen, self.trainings, store)

    def build(self) -> Plan:
        """The whole plan: the probes' items, then seed by seed, cell by cell."""
        spec = self.spec
        if self.plan.damage is None and needs_damage(spec):
            fix = f"find one (pyrite study {spec.study} --pilot), then write `damage: NAME` into the study file"
            raise UserError("No damage is chosen.", "damage: is empty, and cells or probes need one", fix)
        for name, probe in spec.probes.items():
            self.probes.prepare(name, probe)
        for seed in spec.seeds:
            for start in spec.starts:
                self.grid_of(start, seed)
            for cell in spec.cells:
                self.cell(cell, seed)
        self.row_files()
        self.label_quality()
        refuse_empty_contrasts(self.plan.cells, spec)
        return self.plan

    def grid_of(self, start: str, seed: int) -> None:
        """A start, and every arm of every size that follows it."""
        at = self.steps.beginning(start, 0, seed)
        key, label = CellKey(START_ROWS, start), f"start {start}, seed {seed}"
        path = () if at.model is None else ((f"start {start}", at.model),)
        answers = self.probes.answers(key, at.model, self.spec.seed_of_start(start, seed), label)
        self.plan.cells.append(Cell(key, seed, path, answers, is_start=True))
        for size in self.spec.sizes:
            for arm in self.spec.all_arms():
                self.cell(CellSpec(name=arm, start=start, steps=(arm,), size=size), seed, one_step=True)

    def cell(self, cell: CellSpec, seed: int, *, one_step: bool = False) -> None:
        """One cell for one seed: its path and its answers."""
        at = self.steps.beginning(cell.start, cell.size, seed)
        label = f"{cell.start} + {cell.name} {cell.size}, seed {seed}"
        if cell.start is None:
            label = f"{cell.name}, seed {seed}" if cell.steps else cell.name
        labels = tuple(self.label_of(cell, number, seed, one_step=one_step) for number in range(len(cell.steps)))
        path, end = self.steps.path(cell.name, cell.steps, at, labels)
        key = CellKey(cell.name, cell.start or "", cell.size)
        self.plan.cells.append(Cell(key, seed, path, self.probes.answers(key, end.model, seed, label)))

    def label_of(self, cell: CellSpec, number: int, seed: int, *, one_step: bool) -> str:
        """What one step of a cell is called; cells of the model as given share the names of what they share."""
        if cell.start is None:
            return f"{' + '.join(cell.steps[: number + 1])}, seed {seed}"
        return f"{cell.start} + {cell.name} {cell.size}, seed {seed}" + ("" if one_step else f", step {number + 1}")

    def row_files(self) -> None:
        """The labelled row files that the run folder holds, and whose overlaps are reported."""
        spec = self.spec
        for name, source in spec.data.items():
            if spec.holds(name) == "chats":
                continue
            for pool in source.pools:
                self.plan.rows[f"{name}.{pool}"] = self.labelled.data(f"{name}.{pool}", spec.seeds[0])
            if not source.pools:
                self.plan.rows[name] = self.labelled.data(name, spec.seeds[0])
            if source.train_on:
                self.plan.rows.setdefault(source.train_on, self.labelled.data(source.train_on, spec.seeds[0]))
        files = Counter(file_of(title) for title in self.plan.rows)
        twice = [title for title in self.plan.rows if files[file_of(title)] > 1]
        if twice:
            shared = f"{', '.join(twice)}: all {file_of(twice[0])}"
            raise UserError("Two names of this study would share a file.", shared, "give one of them another name")

    def label_quality(self) -> None:
        """How good the labels of each generator that has a judge are, on the rows of the first seed."""
        for name, source in self.spec.data.items():
            if source.judge:
                self.plan.quality[name] = self.trainings.label_quality(name, self.spec.seeds[0])


def make_plan(
    spec: StudySpec, data_folder: Path | None, compute: Compute, *, store: Path | None = None, only_plan: bool = False
) -> Plan:
    """The graph of steps of a study. With `only_plan`, what is absent is listed in it; else it is a `UserError`."""
    grid = list(spec.pilot.grid) if spec.pilot else []
    plan = Plan(spec, spec.damage or (grid[0] if grid and only_plan else None))
    return Planner(StepGraph(plan, data_folder, compute, lenient=only_plan), store).build()


def needs_damage(spec: StudySpec) -> bool:
    """Does any cell or probe of the study hang on what the damage is?"""
    rows = [probe.data or "" for probe in spec.probes.values()]
    return any(DAMAGE in cell.steps for cell in spec.cells) or any(
        spec.rows(name).partition(".")[0] == DAMAGE for name in rows
    )


def pilot_spec(spec: StudySpec) -> StudySpec:
    """The study that a pilot is: a seed of its own, one probe, the grid's trainings and the cell that they are compared
    with. The study trains the chosen damage anew: a model that was picked for its result is no replicate.

    Raises:
        UserError: the file has no pilot.
    """
    if spec.pilot is None:
        raise UserError(
            "This study has no pilot.", f"study {spec.study}", "add pilot: (probe, metric, grid) to the file"
        )
    against = next(cell for cell in spec.cells if cell.name == spec.pilot.against)
    cells = (against, *(CellSpec(name=name, steps=(name,)) for name in spec.pilot.grid))
    probe = spec.pilot.probe.model_copy(update={"only_cells": None})
    changed = {"cells": cells, "probes": {"pilot": probe}, "contrasts": (), "seeds": (spec.pilot.seed,)}
    return spec.model_copy(update=changed)
