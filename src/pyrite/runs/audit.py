"""The record of `pyrite audit --out`."""

from typing import Any, Literal

from pyrite.runs.schema import Bounds, GateOutcome, InputFile, Number, Plain, Record, RowCounts, RunRecord


class Reference(Record):
    """A human source, with its rows in the sample."""

    source: str = ""
    rows_sampled: int | None = None


class Sample(Record):
    """The rows that were compared, of how many, and those that the model read."""

    n: int
    of: int
    model_n: int
    precision: str


class ChanceLevel(Record):
    """What chance gives."""

    high: Number | None
    p: Number | None
    p_adjusted: Number | None = None


class HumanDifference(Record):
    """What human sources differ by, and the data from them at the same number of rows."""

    value: Number | None
    value_of_data: Number | None
    source: str
    n: int
    high: Number | None = None
    """What one more source would hardly exceed."""
    table: bool = False
    sources: int = 2


class Excess(Bounds):
    """How far a measure lies beyond its yardstick."""

    value: Number | None


class CountedShare(Record):
    """A share that was counted over all rows."""

    value: Number
    threshold: Number
    rows: int


class EvidenceRow(Record):
    """A row that shows a finding."""

    id: Any
    excerpt: str


class Evidence(Record):
    """Lines and rows that show a finding, and the values behind figures."""

    lines: list[str]
    rows: list[EvidenceRow]
    values: Plain = {}


class FindingRecord(Record):
    """One measure of an audit."""

    flaw: str
    measure: str
    severity: Literal["fail", "warn", "ok"]
    question: str
    value: Number | None
    unit: str
    n: int
    excess: Excess | None
    null: ChanceLevel | None
    between_human: HumanDifference | None
    counted: CountedShare | None = None
    why: str | None
    advice: str | None
    evidence: Evidence

    @property
    def full_name(self) -> str:
        """FLAW.MEASURE."""
        return f"{self.flaw}.{self.measure}"


class MissingMeasure(Record):
    """A measure that could not be taken, and why."""

    measure: str
    why: str


class FlaggedRows(Record):
    """How many rows show a finding."""

    rows: int
    flagged: int
    by: dict[str, int]


class AuditSettings(Record):
    """The options of the audit."""

    only: list[str]
    seed: int
    alpha: Number
    flag_at: Number


class AuditRecord(RunRecord):
    """A run of `pyrite audit --out`."""

    verb: str
    data: list[str]
    references: list[Reference]
    rows: RowCounts
    records: int | None = None
    reference_rows: RowCounts
    sample: Sample
    findings: list[FindingRecord]
    not_measured: list[MissingMeasure]
    needs_reference: list[str]
    flagged: FlaggedRows | None
    gates: list[GateOutcome]
    settings: AuditSettings
    notes: list[str]
    files: list[InputFile] = []
