"""The page of one run or of several: run folders in, plain text out.

Reads what was stored and words it; computes nothing.
"""

from collections.abc import Sequence
from typing import Any

import pyrite
from pyrite.report.config import ReportConfig
from pyrite.report.page import Page
from pyrite.report.parts import part_of, shared
from pyrite.report.parts.compare import comparison_page
from pyrite.report.parts.loop import loop_page
from pyrite.runs import Run

LEFT_OUT = (
    "Texts were left out (--no-rows): no row, answer, prompt, row id, template or n-gram stands on this page. Names of "
    "files, labels and slices do."
)


def page_of(runs: Sequence[Run[Any]], config: ReportConfig) -> Page:
    """The page of one run, of a loop with its parts, or of several runs side by side.

    Raises:
        UserError: a run folder that is not whole.
    """
    if len(runs) == 1 and runs[0].verb == "loop":
        title, verdicts, sections = loop_page(runs[0], config)
    elif len(runs) == 1:
        part = part_of(runs[0], config, runs[0].verb)
        title, verdicts, sections = part.title, list(part.verdicts), shared.all_sections(part, runs[0].verb)
    else:
        title, verdicts, sections = comparison_page(runs, config)
    source = f"Pyrite {pyrite.__version__}, from {', '.join(origin(run) for run in runs)}"
    return Page(config.title or title, verdicts, sections, source, (LEFT_OUT,) if config.no_rows else ())


def origin(run: Run[Any]) -> str:
    """A run's folder, with the version that made it and when, where it tells."""
    version = (run.record.made_with or {}).get("pyrite")
    facts = [f"a {run.verb}", f"made by {version}" if version else "", run.record.date or ""]
    return f"{run.folder.resolve().name} ({', '.join(fact for fact in facts if fact)})"
