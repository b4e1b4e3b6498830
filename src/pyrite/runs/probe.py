"""The record of `pyrite probe --out`."""

from pyrite.runs.schema import Number, Record, ScoredRecord


class ProbeSettings(Record):
    """The options of the probe."""

    model: str | None = None
    other: str | None = None
    seed: int = 0
    items: int | None = None
    num_fewshot: int | None = None


class ProbeRecord(ScoredRecord):
    """A run of `pyrite probe --out`."""

    verb: str
    about: str
    models: list[str]
    margin: Number | None = None
    settings: ProbeSettings

    def subjects(self) -> list[str]:
        """The models that were asked, then any other that a scorecard names."""
        return list(dict.fromkeys([*self.models, *super().subjects()]))

    @property
    def seed(self) -> int:
        """The seed of its intervals."""
        return self.settings.seed
