"""What a plan is: the cells of a study, each a model with its answers, and every step that they stand on."""

from dataclasses import dataclass, field

from pyrite.probe.probe_task import ProbeTask, opened
from pyrite.repair.quantise import QUANTISE
from pyrite.repair.train import REPAIR
from pyrite.repair.weights import COMBINE
from pyrite.steps import Step, closure
from pyrite.study.labelled_steps import POOLS
from pyrite.study.spec import StudySpec
from pyrite.tasks.scoring import Task
from pyrite.train.language import TRAIN_LANGUAGE

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
    repairs should take, by key; `model_bytes` is how large the weights of models as given are in fp32, by identity, and `widening` how many times larger that
    of the model as given is than its files; `absent` names what a plan mentions and this machine does not have.
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
    model_bytes: dict[str, int] = field(default_factory=dict)
    widening: float = 1.0
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
    def rows_first(self) -> list[Step]:
        """The steps of rows and items that need no model: they run first, and are then checked, so that no model is trained
        for a study that is to be refused."""
        divided = [step for step in self.steps if step.kind is POOLS]
        return [
            step
            for step in (*self.items.values(), *self.counts.values(), *self.pool_steps, *divided)
            if needs_no_model(step)
        ]

    @property
    def steps(self) -> list[Step]:
        """Every step, inputs first."""
        return closure(self.targets)


def needs_no_model(step: Step) -> bool:
    """Can this step run before any model is loaded?"""
    return not any("compute" in before.config for before in closure([step]))
