"""The records of `pyrite study`: of labels, and of a language model."""

from pyrite.runs.schema import Bounds, Frontier, GateOutcome, Measured, Number, Plain, Record, RowCounts, RunRecord


class ContrastNames(Record):
    """What a primary contrast compares: an arm (labels) or a cell (language) with another, on a probe."""

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

    @property
    def silent_cells(self) -> list[str]:
        """The cells that could not answer, where the contrast has several."""
        return [left.cell for left in self.left_out] if self.cell_names else []


class LabelContrast(PrimaryContrast):
    """A primary contrast of a study of labels; `seeds` is their number."""

    seeds: int = 0
    over_items: SeedDifference | None = None


class LanguageContrast(PrimaryContrast):
    """A primary contrast of a study of a language model: over seeds, and over the items of these very models."""

    margin: Number | None = None
    seeds: list[int] = []
    over_items: SeedDifference | None = None
    over_items_per_seed: list[SeedDifference] = []


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
    probes: dict[str, ProbeSpec]

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
    """Rows longer than what the model reads: cut, or left out."""

    rows: int
    rows_cut: int = 0
    rows_too_long: int = 0


class StudyRecord(RunRecord):
    """A run of `pyrite study` on labels."""

    verb: str = "study"
    study: str
    spec: StudyFile
    counts: dict[str, SourceCounts]
    rows_cut: dict[str, CutRows] = {}
    quality: dict[str, SourceQuality] = {}
    overlap: list[SharedRows]
    looks: list[LookRecord] = []
    notes: list[str]
    primary: list[LabelContrast]
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


class LanguageStudyRecord(RunRecord):
    """A run of `pyrite study` on a language model (`about: language`)."""

    verb: str = "study"
    study: str
    about: str
    spec: StudyFile
    counts: dict[str, SourceCounts]
    overlap: list[SharedRows]
    probes: dict[str, dict[str, list[str]]] = {}
    """By probe: what must be known of it, and the models of which it is said."""
    looks: list[LookRecord] = []
    notes: list[str]
    primary: list[LanguageContrast]
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
