"""An audit's figures: the charts of every flaw that its findings' evidence has values for.

Each is drawn from plain values, and left out where they are absent. Altair and vl-convert are imported when something
is drawn; nothing is fetched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyrite.audit.drawing import POINTS
from pyrite.audit.flaw import EvidenceValues, Figure
from pyrite.audit.flaws.registry import FLAWS
from pyrite.charts import PRINTED, Palette, save


def write_figures(audit: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw the charts of an audit into `out`/figures; returns the files written, an SVG and a PNG each."""
    return [path for name, chart in charts(audit).items() for path in save(chart, out / "figures", name)]


def charts(
    audit: Mapping[str, Any], palette: Palette = PRINTED, *, shapes: bool = True, points: int = POINTS
) -> dict[str, Any]:
    """A chart of everything that the evidence of an audit has values for, by name; those that quote the data come last.

    `audit` is what `Audit.as_json` returns; `shapes`: charts with text of the data are drawn, too; `points` is how many
    a map has at most. What each chart is drawn from stands with the `FIGURE` of its flaw."""
    drawn: dict[str, Any] = {}
    for name, figure in sorted(flaw_figures().items(), key=lambda entry: entry[1].quotes):
        if shapes or not figure.quotes:
            drawn |= figure.draw(evidence_values(audit, name), palette, points)
    return drawn


def alt_text(audit: Mapping[str, Any], name: str) -> str:
    """What one of the charts shows, for someone who cannot see it."""
    flaw, figure = next(entry for entry in flaw_figures().items() if name in entry[1].charts)
    return figure.alt_text(evidence_values(audit, flaw), name)


def flaw_figures() -> dict[str, Figure]:
    """The figure of each flaw that has one."""
    return {name: flaw.figure for name, flaw in FLAWS.items() if flaw.figure is not None}


def evidence_values(audit: Mapping[str, Any], flaw: str) -> EvidenceValues:
    """The evidence values of a flaw's findings, worst first."""
    return [finding["evidence"]["values"] for finding in audit["findings"] if finding["flaw"] == flaw]
