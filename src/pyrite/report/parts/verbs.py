"""Which module words which verb's run."""

from collections.abc import Callable

from pyrite.report.config import ReportConfig
from pyrite.report.objects import is_cells
from pyrite.report.parts import audit, cells, probe, repair, study
from pyrite.report.parts.shared import Part
from pyrite.runs import Run

PARTS: dict[str, Callable[[Run, ReportConfig, str], Part]] = {
    "audit": audit.part, "probe": probe.part, "study": study.part, "repair": repair.part,
}  # fmt: skip
"""For each verb: the run, the report's options and the beginning of its anchors -> its part of the page."""


def part_of(run: Run, config: ReportConfig, anchor: str) -> Part:
    """One run's part of the page; not for loops."""
    return cells.part(run, config, anchor) if is_cells(run) else PARTS[run.verb](run, config, anchor)
