"""The record of `pyrite repair`, `repair.json` in the folder of the repaired model."""

from collections.abc import Iterable

from pyrite.runs.schema import (
    Comparison,
    Frontier,
    InputFile,
    Interval,
    Number,
    Plain,
    Record,
    Scorecard,
    ScoredRecord,
)


class RepairPoint(Record):
    """A point of the training: its step, and the rule by which it was taken."""

    step: int
    rule: str = ""


class GuardStop(Record):
    """Where the guard stopped the training, and why."""

    step: int
    why: str


class RepairTraining(Record):
    """How the training ended."""

    steps: int | None
    planned_steps: int | None
    stopped: GuardStop | None
    point: RepairPoint | None


class UndoneTraining(Record):
    """The training that the repair undoes, and the repair's cost as a share of it."""

    tokens: Number
    share_of_tokens: Number
    share_of_flops: Number | None


class RepairTokens(Record):
    """The tokens that the repair processed, of which roles, and those that the guard read beside them."""

    processed: int
    guard: int
    forget: int = 0
    replay: int = 0
    preferred: int = 0


class CurvePoint(Record):
    """What was measured once so many tokens were processed; beside it a value for each name."""

    tokens: Number


class RepairCost(Record):
    """What the repair took."""

    tokens: RepairTokens
    undoes: UndoneTraining | None
    flops: Number
    seconds: Number
    peak_bytes: int


class SideRows(Record):
    """The rows of one side: read, dropped by reason, and the pools that they fill."""

    read: int
    dropped: dict[str, int]
    pools: dict[str, int]


class SideOverlap(Record):
    """Rows that stand on both sides."""

    rows: int
    shared: int
    left_out: int
    shared_prompts: int


class RepairRows(Record):
    """The rows of the sides that were given, and their overlap."""

    forget: SideRows | None = None
    replay: SideRows | None = None
    overlap: SideOverlap


class Proof(Record):
    """Whether the repair lasts: the repaired model after it was changed once more."""

    proof: str
    scorecards: list[Scorecard] = []
    against_repaired: list[Comparison]
    against_before: list[Comparison]


class NamedModel(Record):
    """A model and what identifies it."""

    model: str
    identity: str = ""


class MixedWeights(Record):
    """What a method of weights added, and how much that changed."""

    method: str
    alpha: Number
    groups: dict[str, Number] = {}
    tensors: int
    tensors_changed: int
    rms_change: Number


class ShareOfItems(Interval):
    """A share of some items."""

    n: int


class ItemOutcomes(Record):
    """What became of the items of one metric under three models."""

    task: str
    metric: str
    items: int
    missing: int
    healed: ShareOfItems
    newly_broken: ShareOfItems
    kept_gain: ShareOfItems


class RepairOptimiser(Record):
    """How a repair trains."""

    method: str
    learning_rate: Number
    schedule: str


class GuardSettings(Record):
    """How often the guard looks, in tokens; 0: never."""

    every_tokens: int


class RepairSettings(Record):
    """The options of the repair; those of a training are absent where weights were added."""

    save: str = ""
    forget_rows: int | None = None
    replay_rows: int | None = None
    max_tokens: int | None = None
    long_rows: str | None = None
    training: RepairOptimiser | None = None
    guard: GuardSettings | None = None


class RepairRecord(ScoredRecord):
    """A folder of `pyrite repair`; with a model before the harm also what that changed, and the frontier."""

    verb: str
    model: str
    model_identity: str
    before: NamedModel | None = None
    forgetter: NamedModel | None = None
    base_model: str | None = None
    licence: str | None = None
    method: str
    weights: dict[str, Number]
    options: Plain
    mixed: MixedWeights | None = None
    training: RepairTraining
    labels: list[str] = []
    settings: RepairSettings
    seed: int
    files: list[InputFile]
    rows: RepairRows
    cost: RepairCost
    curve: list[CurvePoint]
    guard: list[CurvePoint]
    notes: list[str]
    harm: list[Comparison] | None = None
    against_original: list[Comparison] | None = None
    outcomes: list[ItemOutcomes] | None = None
    frontier: Frontier | None = None
    proofs: list[Proof]
    written: list[str] = []
    """The names of the files in the folder."""

    def all_scorecards(self) -> Iterable[Scorecard]:
        """Every scorecard, those of the proofs last."""
        return [*self.scorecards, *(card for proof in self.proofs for card in proof.scorecards)]
