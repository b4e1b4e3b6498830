"""The record of `pyrite study --pilot`, `pilot.json` in the folder of the study."""

from pyrite.runs.schema import Number, Plain, Record, RunRecord
from pyrite.runs.study import SharedRows


class TriedDamage(Record):
    """A damage of the pilot's grid."""

    name: str


class PilotFile(Record):
    """What the study file said when the pilot ran."""

    seeds: list[int] = []


class PilotRecord(RunRecord):
    """A pilot: which damage does harm that shows, on which items."""

    study: str = ""
    spec: PilotFile = PilotFile()
    seed: int | None = None
    """The seed that it trained with; older ones took the study's first."""
    metric: str = ""
    against: str = ""
    tried: list[TriedDamage]
    chosen: str | None = None
    sentence: str = ""
    items: list[str] = []
    notes: dict[str, list[str]] = {}
    overlap: list[SharedRows] = []
    steps: Plain = {}
    seconds: Number = 0

    @property
    def training_seed(self) -> int:
        """The seed that it trained with, whatever its age."""
        return self.spec.seeds[0] if self.seed is None else self.seed
