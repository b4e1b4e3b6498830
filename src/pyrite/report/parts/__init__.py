"""How the runs of each kind are reported: one module for each kind, one entry in `PARTS`."""

from typing import Any

from pyrite.report.config import ReportConfig
from pyrite.report.parts import audit, cells, probe, repair, study
from pyrite.report.parts.shared import Part, ReportKind
from pyrite.runs import Run

PARTS: dict[str, ReportKind] = {
    "audit": audit.KIND, "probe": probe.KIND, "study": study.KIND, "cells": cells.KIND, "repair": repair.KIND,
}  # fmt: skip
"""The kinds of run (`Run.kind`); a loop is a page of its parts."""


def part_of(run: Run[Any], config: ReportConfig, anchor: str) -> Part:
    """One run's part of the page; not for loops."""
    return PARTS[run.kind].part(run, config, anchor)
