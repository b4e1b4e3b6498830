"""The record of `pyrite study`."""

from pyrite.runs.schema import Bounds, Frontier, GateOutcome, Measured, Number, Plain, Record, RowCounts, RunRecord


class ContrastNames(Record):
    """What a primary contrast compares: an arm, or a cell that is not of a grid, with another, on a probe."""

    arm: str | None = None
    cell: str | None = None
    against: str
    probe: str

    @property
    def name(self) -> str:
        """The arm or the cell."""
        return self.arm or self.cell or ""


class SeedDifference(Measured):
    """A difference over seeds, or over items; `n` is their number."""

    n: int = 0


class LeftOutCell(Record):
    """A cell that could not answer, and why."""

    cell: str
    why: str = ""


class PrimaryContrast(Record):
    """A primary contrast and its verdict."""

    contrast: ContrastNames
    verdict: str
    difference: SeedDifference
    p_difference_adjusted: Number | None = None
    p_equivalence_adjusted: Number | None = None
    why: str
    cell_names: list[str] = []
    left_out: list[LeftOutCell] = []
    missing: int = 0
    unlike: str | None = None
    bounds: Bounds | None = None
    """The ends of the difference if every item without an answer were counted against one side."""
    sentence: str = ""
    margin: Number | None = None
    scale: str | None = None
    """`share` or `real`; not in older runs, whose contrasts between arms were all of shares."""
    seeds: int | list[int] = 0
    """The number of seeds; of a contrast between cells that are not a grid, the seeds themselves."""
    over_items: SeedDifference | None = None
    over_items_per_seed: list[SeedDifference] = []

    @property
    def is_share(self) -> bool:
        """Whether a contrast between arms is one of shares."""
        return self.scale != "real"

    @property
    def seed_count(self) -> int:
        """How many seeds the verdict rests on."""
        return self.seeds if isinstance(self.seeds, int) else len(self.seeds)

    @property
    def seed_list(self) -> list[int]:
        """The seeds, where they are known."""
        return [] if isinstance(self.seeds, int) else self.seeds

    @property
    def silent_cells(self) -> list[str]:
        """The cells that could not answer, where the contrast has several."""
        return [left.cell for left in self.left_out] if self.cell_names else []


class ProbeSpec(Record):
    """A probe of the study file."""

    headline: dict[str, str] | None = None


class TaskModel(Record):
    """The model that is trained on labels."""

    model: str


class StudyFile(Record):
    """The study file as it was resolved."""

    study: str = ""
    says: str | None = None
    seeds: list[int] = []
    margin: Number = 0.0
    model: str | None = None
    task_model: TaskModel | None = None
    cells: Plain | list[Plain] = {}
    probes: dict[str, ProbeSpec]

    def is_arm(self, name: str) -> bool:
        """Whether a name of a grid is an arm's, not that of a cell that was written out."""
        return not isinstance(self.cells, list) or name not in [cell["name"] for cell in self.cells]

    @property
    def trained_model(self) -> str | None:
        """The model that the study trains."""
        return self.model if self.task_model is None else self.task_model.model


class SourceCounts(RowCounts):
    """The rows of a source: read, kept, dropped by reason, and the pools that they fill."""

    pools: Plain | None = None


class Timing(Record):
    """How long the steps took."""

    this_run_seconds: Number
    steps_run: int
    steps_reused: int
    seconds_of_all_steps: Number


class LookRecord(Record):
    """A look at a study's verdicts; older ones know the number of seeds only, and no change."""

    at: str
    asked: str
    seeds: int | list[int]
    question: str | None = None
    changed: list[str] = []


class LabelQuality(Record):
    """How far a judge agrees with one label of synthetic rows; null where no row has it."""

    agreement: Number | None
    n: int


class SourceQuality(Record):
    """How far a judge agrees with the labels of synthetic rows, and with those of people."""

    agreement: Number
    n: int
    judge_accuracy_on_human: Number
    n_human: int
    by_label: dict[str, LabelQuality]


class SharedRows(Record):
    """Rows that stand in two sets of a study."""

    a: str
    b: str
    rows_a: int
    rows_b: int
    shared: int


class CutRows(Record):
    """Rows longer than what the model reads: cut, or left out; and those that it cannot be given at all."""

    rows: int
    rows_cut: int = 0
    rows_too_long: int = 0
    rows_refused: int = 0


class StudyRecord(RunRecord):
    """A run of `pyrite study`. `about` is `language` where the cells are not written as starts × arms × sizes."""

    verb: str = "study"
    study: str
    about: str | None = None
    spec: StudyFile
    counts: dict[str, SourceCounts]
    rows_cut: dict[str, CutRows] = {}
    quality: dict[str, SourceQuality] = {}
    overlap: list[SharedRows]
    probes: dict[str, dict[str, list[str]]] = {}
    """By probe: what must be known of it, and the models of which it is said."""
    looks: list[LookRecord] = []
    notes: list[str]
    primary: list[PrimaryContrast]
    frontier: Frontier | None = None
    timing: Timing
    steps: Plain
    gates: list[GateOutcome] = []

    @property
    def title(self) -> str | None:
        """The study's name."""
        return self.study

    @property
    def date(self) -> str | None:
        """When its verdicts were looked at last."""
        return self.looks[-1].at if self.looks else None
