"""The parts that records of runs are built of: estimates, conditions, counts of rows, scorecards and their changes.

A *record* is what a verb writes into its run folder as JSON. Its verb builds it (`AuditRecord(…)`), `write_record`
writes it, `read_run` reads it back, and whoever looks at a run uses its fields: `record.findings[0].excess.low`.

- Fields are what readers look at. A field with a default is one that older runs lack.
- More may stand in a record, and is carried along: `as_json` gives everything that stood in it, in its order. So a
  record that is read and written again is the same file.
- Types are strict: nothing is converted, and text stays whatever it is.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

Plain = dict[str, Any]
"""JSON of any shape."""
Number = int | float
"""A number as it stands in the file: 1 stays 1."""


class Record(BaseModel):
    """A part of a run's record, or all of it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, protected_namespaces=())

    _keys: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def remember_keys(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Remember which keys were given, in their order."""
        record = handler(values)
        if isinstance(values, Mapping):
            record._keys = tuple(values)
        return record

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The record of plain values."""
        return cls.model_validate(values)

    @classmethod
    def list_of(cls, rows: Iterable[Mapping[str, Any]]) -> list[Self]:
        """The records of several plain values."""
        return [cls.model_validate(row) for row in rows]

    def as_json(self) -> Plain:
        """Plain values: every key that the record was built or read with, in that order."""
        return {key: json_value(getattr(self, key)) for key in self._keys}

    def replaced_by(self, **values: Any) -> Self:
        """A copy with other values in some fields; they are not checked."""
        copy = self.model_copy(update=values)
        copy._keys = tuple(dict.fromkeys((*self._keys, *values)))
        return copy


def json_value(value: Any) -> Any:
    """A value of a record as JSON."""
    if isinstance(value, Record):
        return value.as_json()
    if isinstance(value, Mapping):
        return {key: json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return value


class Bounds(Record):
    """An interval."""

    low: Number | None
    high: Number | None


class Interval(Bounds):
    """A value and its interval; null where there is none."""

    value: Number | None
    method: str = ""
    """Which interval it is, or why there is none."""
    confidence: Number = 0.95

    @property
    def is_known(self) -> bool:
        """Whether there are a value and an interval."""
        return all(number is not None and math.isfinite(number) for number in (self.value, self.low, self.high))


class Measured(Interval):
    """An estimate with the number of items that it rests on."""

    n: int
    n_missing: int = 0
    direction: str = ""


class GateOutcome(Record):
    """A condition and how it came out."""

    gate: str
    outcome: str
    why: str
    part: str | None = None
    """Of a loop: the part that was asked."""


class RowCounts(Record):
    """Rows read = kept + dropped by reason."""

    read: int
    kept: int
    dropped: dict[str, int]
    kept_by_label: dict[str, int] | None = None


class InputFile(Record):
    """A file that was read, with what identifies its content."""

    side: str | None = None
    file: str | None = None
    name: str | None = None
    hash: str | None = None
    bytes: int | None = None

    @property
    def path(self) -> str:
        """The file as it was named."""
        return self.file or self.name or ""


class Hardware(Record):
    """The hardware that models ran on."""

    device: str | None = None
    precision: str | None = None


class RunRecord(Record):
    """What the records of all verbs have in common."""

    schema_version: int = 0
    compute: Hardware | None = None
    command: str | None = None
    made_with: Plain | None = None
    """Versions of the software, by name."""

    @property
    def title(self) -> str | None:
        """What the run is called, where its record says so."""
        return None

    @property
    def date(self) -> str | None:
        """When its verdicts were looked at last, where its record says so."""
        return None


class SliceScore(Measured):
    """A metric's value on a slice."""

    metric: str
    by: str
    name: str
    gold: str | None


class JudgeNoise(Record):
    """How much a judge's verdicts vary by themselves."""

    value: Number | None
    method: str = ""


class Scorecard(Record):
    """A model's scores on one task."""

    about: str
    task: str
    source: str
    metric: str
    overall: Measured
    slices: list[SliceScore]
    unmatched: int
    notes: list[str]
    judge_noise: dict[str, JudgeNoise] | None = None

    def lines(self) -> list[SliceScore]:
        """Every line of the card; overall of its first metric first."""
        overall = {"metric": self.metric, "by": "overall", "name": "overall", "gold": None}
        measured = {name: value for name, value in self.overall.as_json().items() if name not in overall}
        return [SliceScore.from_json(overall | measured), *self.slices]


class Contrast(Record):
    """Two models on one metric, overall or on a slice."""

    metric: str
    by: str
    name: str
    primary: bool
    first: Number | None
    second: Number | None
    difference: Measured
    verdict: str | None
    sentence: str


class Flip(Record):
    """An item that changed sides."""

    item: str
    metric: str
    way: Literal["lost", "gained", "changed"]
    first: Number | None
    second: Number | None
    slices: dict[str, str]


class Comparison(Record):
    """Two models on one task."""

    task: str
    first: str
    second: str
    contrasts: list[Contrast]
    flips: list[Flip]


class MetricScale(Record):
    """A metric: its name, whether it is a share, which way is better, and the ends of its scale."""

    name: str
    scale: Literal["share", "real"]
    direction: Literal["higher", "lower", "none"]
    says: str = ""
    least: Number | None = None
    most: Number | None = None


class ScoredRecord(RunRecord):
    """What probes and repairs have in common."""

    scorecards: list[Scorecard]
    compared: list[Comparison]
    metrics: dict[str, list[MetricScale]]
    clusters: dict[str, str] = Field(validation_alias=AliasChoices("clusters", "alike"))
    """By task: what items that share something share ("templates"); `alike` in records of older runs."""
    gates: list[GateOutcome]

    @property
    def alike(self) -> dict[str, str]:
        """`clusters`, under the key of an older record, which is written back as it was."""
        return self.clusters

    def subjects(self) -> list[str]:
        """The models as scorecards name them, in their order."""
        return list(dict.fromkeys(card.about for card in self.all_scorecards()))

    def all_scorecards(self) -> Iterable[Scorecard]:
        """Every scorecard of the run."""
        return self.scorecards


class Share(Interval):
    """A share of a change: recovered, or kept; `why` says why it is not testable."""

    why: str = ""


class FrontierPoint(Record):
    """One repair's place on the frontier."""

    name: str
    method: str
    alpha: Number | None
    chosen: bool
    recovered: Share | None
    kept: Share | None


class Selection(Record):
    """How one of several repairs was chosen."""

    name: str
    why: str
    share: Number | None = None
    """The share of the items that chose; null where other items chose, named in `by`."""
    by: dict[str, str] = {}


class Frontier(Record):
    """What repairs bring back of what was lost, and keep of what was gained."""

    lost: str | None
    gained: str | None
    keep: Number
    points: list[FrontierPoint]
    selection: Selection | None = None
    sentences: list[str]
    over: str = "items"
    """What the intervals are over: items, or seeds."""
