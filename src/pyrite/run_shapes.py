"""What the JSON file of a run must hold, by verb: what reports, gates and cards look at. More may stand in it.

Keys that older runs lack have a default. Only the shape is checked: text stays whatever it is.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Plain = dict[str, Any]


class Shape(BaseModel):
    """What must be there, of these very types: nothing is converted."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Bounds(Shape):
    """A value and its interval; null where there is none."""

    value: float | None
    low: float | None
    high: float | None


class Measure(Bounds):
    """An estimate with what it rests on."""

    n: int
    method: str


class Gate(Shape):
    """A condition and how it came out."""

    gate: str
    outcome: str
    why: str


class Row(Shape):
    """A row that shows a finding."""

    id: Any
    excerpt: str


class Evidence(Shape):
    """Lines and rows that show a finding."""

    lines: list[str]
    rows: list[Row]


class Between(Shape):
    """What human sources differ by."""

    value: float | None
    value_of_data: float | None
    source: str
    n: int
    high: float | None = None
    table: bool = False
    sources: int = 2


class Null(Shape):
    """What chance gives."""

    high: float | None
    p: float | None


class Counted(Shape):
    """A share over all rows."""

    value: float
    threshold: float
    rows: int


class Finding(Shape):
    """One measure of an audit."""

    flaw: str
    measure: str
    severity: str
    question: str
    value: float | None
    unit: str
    n: int
    excess: Bounds | None
    null: Null | None
    between_human: Between | None
    counted: Counted | None = None
    why: str | None
    advice: str | None
    evidence: Evidence


class NotMeasured(Shape):
    """A measure that could not be taken."""

    measure: str
    why: str


class Flagged(Shape):
    """How many rows show a finding."""

    rows: int
    flagged: int
    by: dict[str, int]


class Sample(Shape):
    """The rows that were compared."""

    n: int
    of: int
    model_n: int
    precision: str


class Counts(Shape):
    """Rows read = kept + dropped by reason."""

    read: int
    kept: int
    dropped: dict[str, int]


class AuditSettings(Shape):
    """Options of an audit that its readers name."""

    only: list[str]
    seed: int
    alpha: float
    flag_at: float


class Audit(Shape):
    """A run of `pyrite audit --out`."""

    data: list[str]
    references: list[Plain]
    rows: Counts
    reference_rows: Counts
    sample: Sample
    findings: list[Finding]
    not_measured: list[NotMeasured]
    needs_reference: list[str]
    flagged: Flagged | None
    gates: list[Gate]
    settings: AuditSettings
    notes: list[str]
    files: list[Plain] = []
    command: str | None = None
    made_with: Plain | None = None


class Line(Measure):
    """A metric's value on a slice."""

    metric: str
    by: str
    name: str
    gold: str | None
    n_missing: int


class Card(Shape):
    """A scorecard."""

    about: str
    task: str
    source: str
    metric: str
    overall: Measure
    slices: list[Line]
    unmatched: int
    notes: list[str]
    judge_noise: dict[str, Plain] | None = None


class Contrast(Shape):
    """Two subjects on one metric."""

    metric: str
    by: str
    name: str
    primary: bool
    first: float | None
    second: float | None
    difference: Measure
    verdict: str | None
    sentence: str


class Flip(Shape):
    """An item that changed sides."""

    item: str
    metric: str
    way: Literal["lost", "gained", "changed"]
    first: float | None
    second: float | None
    slices: dict[str, str]


class Compared(Shape):
    """Two subjects on one task."""

    task: str
    first: str
    second: str
    contrasts: list[Contrast]
    flips: list[Flip]


class Metric(Shape):
    """What is measured."""

    name: str
    scale: str
    direction: str


class Scored(Shape):
    """What probes and repairs have in common."""

    scorecards: list[Card]
    compared: list[Compared]
    metrics: dict[str, list[Metric]]
    alike: dict[str, str]
    gates: list[Gate]
    command: str | None = None
    made_with: Plain | None = None


class ProbeSettings(Shape):
    """Options of a probe that its readers name."""

    seed: int = 0


class Probe(Scored):
    """A run of `pyrite probe --out`."""

    about: str
    models: list[str]
    settings: ProbeSettings


class Training(Shape):
    """How a repair's training ended."""

    steps: int | None
    planned_steps: int | None
    stopped: Plain | None
    point: Plain | None


class Cost(Shape):
    """What a repair took."""

    tokens: dict[str, int]
    undoes: Plain | None
    flops: float
    seconds: float
    peak_bytes: int


class Side(Shape):
    """The rows of one side of a repair."""

    read: int
    dropped: dict[str, int]
    pools: dict[str, int]


class Overlap(Shape):
    """Rows that stand on both sides of a repair."""

    rows: int
    shared: int
    left_out: int
    shared_prompts: int


class Sides(Shape):
    """The rows of the sides that were given."""

    forget: Side | None = None
    replay: Side | None = None
    overlap: Overlap


class Proof(Shape):
    """Whether a repair lasts."""

    proof: str
    against_repaired: list[Compared]
    against_before: list[Compared]


class Portion(Bounds):
    """A share of a change: recovered, or kept; `why` says why it is not testable."""

    why: str = ""


class Point(Shape):
    """One repair's place on the frontier."""

    name: str
    method: str
    alpha: float | None
    chosen: bool
    recovered: Portion | None
    kept: Portion | None


class Frontier(Shape):
    """What repairs bring back of what was lost, and keep of what was gained."""

    lost: str | None
    gained: str | None
    keep: float
    points: list[Point]
    selection: Plain | None = None
    sentences: list[str]


class Repair(Scored):
    """A folder of `pyrite repair`; with a model before the harm also what that changed, and the frontier."""

    model: str
    model_identity: str
    method: str
    weights: dict[str, float]
    options: Plain
    training: Training
    settings: Plain
    seed: int
    files: list[Plain]
    rows: Sides
    cost: Cost
    curve: list[Plain]
    guard: list[Plain]
    proofs: list[Proof]
    notes: list[str]
    before: Plain | None = None
    harm: list[Compared] | None = None
    against_original: list[Compared] | None = None
    outcomes: list[Plain] | None = None
    frontier: Frontier | None = None


class About(Shape):
    """Which question a primary contrast asks: of an arm (labels) or a cell (language)."""

    arm: str | None = None
    cell: str | None = None
    against: str
    probe: str


class Primary(Shape):
    """A primary contrast and its verdict."""

    contrast: About
    difference: Bounds
    verdict: str
    why: str


class Spec(Shape):
    """The study file as it was resolved."""

    probes: dict[str, Plain]


class Timing(Shape):
    """How long the steps took."""

    this_run_seconds: float
    steps_run: int
    steps_reused: int
    seconds_of_all_steps: float


class Look(Shape):
    """A look at a study's verdicts; older ones know the number of seeds only, and no change."""

    at: str
    asked: str
    seeds: int | list[int]
    question: str | None = None
    changed: list[str] = []


class Study(Shape):
    """A run of `pyrite study`."""

    study: str
    spec: Spec
    primary: list[Primary]
    counts: dict[str, Plain]
    overlap: list[Plain]
    notes: list[str]
    timing: Timing
    steps: Plain
    frontier: Frontier | None = None
    quality: dict[str, Plain] = {}
    rows_cut: dict[str, Plain] = {}
    looks: list[Look] = []
    compute: Plain | None = None
    made_with: Plain | None = None


class Loop(Shape):
    """A run of `pyrite run`."""

    loop: str
    parts: dict[str, str]
    gates: list[Gate] = []
    notes: list[str] = []
    settings: Plain = {}
    says: str | None = None
    not_run: list[str] = []
    files: list[Plain] = []
    command: str | None = None
    made_with: Plain | None = None


SHAPES: dict[str, type[Shape]] = {"audit": Audit, "probe": Probe, "repair": Repair, "study": Study, "loop": Loop}
