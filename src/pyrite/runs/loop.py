"""The record of `pyrite run`."""

from pyrite.runs.schema import GateOutcome, InputFile, Plain, RunRecord


class LoopRecord(RunRecord):
    """A run of `pyrite run`: its parts by name, and where each lies in its folder."""

    verb: str
    loop: str
    says: str | None = None
    state: str = "finished"
    parts: dict[str, str]
    not_run: list[str] = []
    gates: list[GateOutcome] = []
    settings: Plain = {}
    files: list[InputFile] = []
    notes: list[str] = []

    @property
    def title(self) -> str | None:
        """The loop's name."""
        return self.loop
