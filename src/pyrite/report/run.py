"""Show my team: one page for one run, or for several side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io.copies import named_by_url
from pyrite.outputs import open_page, takes_urls
from pyrite.report.config import ReportConfig
from pyrite.report.page import Verdict
from pyrite.runs import Run, read_run

MARK = b'<meta name="generator" content="Pyrite">'
"""What every page of ours has near its beginning: only such a file is written over."""


@dataclass(frozen=True)
class Report:
    """The page, what it says first, and whatever else was written."""

    out: Path
    verdicts: Sequence[Verdict]
    written: Sequence[Path] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        verdicts = [{"label": verdict.label, "sentence": verdict.sentence} for verdict in self.verdicts]
        return {
            "schema_version": 1,
            "out": named_by_url(str(self.out)),
            "bytes": self.out.stat().st_size,
            "verdicts": verdicts,
            "written": [named_by_url(str(path)) for path in self.written],
        }


@takes_urls(ins=("runs",), outs=("out", "cards", "lm_eval"))
def report(config: ReportConfig) -> Report:
    """Write the page of one run, or of several side by side; cards and harness results where asked for.

    Raises:
        UserError: a folder without a run, the same run twice, or a file in the page's place that is no page of ours.
    """
    from pyrite.io import atomic_write
    from pyrite.report.assemble import page_of
    from pyrite.report.cards import planned_cards, write_cards
    from pyrite.report.html import render
    from pyrite.report.lm_eval import write_results

    check_out(config.out)
    runs = [read_run(Path(name)) for name in config.runs]
    refuse_twice(runs)
    if config.cards is not None:
        planned_cards(
            runs, config.cards, no_rows=config.no_rows
        )  # refuses what stands in their place, before anything is written
    page = page_of(runs, config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(config.out) as temporary:
        Path(temporary).write_text(render(page), encoding="utf-8")
    written = [] if config.cards is None else write_cards(runs, config.cards, no_rows=config.no_rows)
    written += [] if config.lm_eval is None else write_results(runs, config.lm_eval, no_rows=config.no_rows)
    if config.open:
        open_page(config.out)
    return Report(config.out, page.verdicts, written)


def check_out(out: Path) -> None:
    """Refuse to write over something that is no report."""
    if out.is_dir():
        raise UserError("The page needs a file name.", str(out), f"such as --out {out / 'report.html'}")
    if out.is_file():
        with out.open("rb") as handle:
            if MARK not in handle.read(4096):
                raise UserError("That file is no report of ours.", str(out), "name another with --out, or move it")


def refuse_twice(runs: Sequence[Run[Any]]) -> None:
    """Refuse the same folder named twice."""
    places: set[Path] = set()
    for run in runs:
        folder = run.folder.resolve()
        if folder in places:
            raise UserError("The same run is named twice.", str(run.folder), "name every run once")
        places.add(folder)
