"""A study as objects: a table to look at and compute with, a chart that shows itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrite.runs import read_results

if TYPE_CHECKING:
    import altair
    import polars

    from pyrite.charts import Palette

PANELS = "panels.parquet"
"""The figure's numbers, in a run folder's results."""
COLUMNS = {
    "probe": "probe", "metric": "metric", "by": "slice_by", "name": "slice", "gold": "gold", "start": "start", "arm": "arm",
    "size": "size", "n_seeds": "seeds", "n_items": "items", "mean": "value", "low": "low", "high": "high",
    "minus_start": "against_start", "minus_start_low": "against_start_low", "minus_start_high": "against_start_high",
    "minus_human": "against_human_arm", "minus_human_low": "against_human_arm_low",
    "minus_human_high": "against_human_arm_high",
}  # fmt: skip
"""The summary's columns, and what a table calls them. Values are fractions, intervals 95 % t over seeds."""


def headline_rows(summary: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a summary that are the headline of their probe."""
    from pyrite.study.show import is_shown

    probes = spec["probes"]
    return [row for row in summary if row["probe"] in probes and is_shown(dict(row), probes[row["probe"]]["headline"])]


def table(summary: Sequence[Mapping[str, Any]], spec: Mapping[str, Any], *, slices: bool = False) -> "polars.DataFrame":
    """How accurate is every cell, and how does it stand to its start and to the human arm of its size?

    One row for each probe, start, arm and size (and slice): the mean over seeds, differences within seeds, their
    intervals, and `per_seed` in the order of the seeds.
    """
    import polars

    rows = summary if slices else headline_rows(summary, spec)
    made = [
        {ours: row[theirs] for theirs, ours in COLUMNS.items()}
        | {"per_seed": [float(value) for value in row["per_seed"].split()]}
        for row in rows
    ]
    return polars.DataFrame(made, infer_schema_length=None)


def panels(folder: Path) -> list[dict[str, Any]]:
    """The figure's numbers out of a run folder; none where the folder does not hold them.

    Raises:
        UserError: a file that is no whole table.
    """
    file = folder / "results" / PANELS
    return read_results(file, ()) if file.is_file() else []


def figure(folder: Path, spec: Mapping[str, Any], palette: "Palette | None" = None) -> "altair.VConcatChart":
    """The panels of a study, from its run folder.

    Raises:
        UserError: the folder holds no values.
    """
    from pyrite.charts import PRINTED
    from pyrite.study.figure import draw, panels_in

    rows = panels(folder)
    chart: altair.VConcatChart = draw(
        rows, panels_in(rows), title=spec["study"], margin=spec["margin"], palette=palette or PRINTED
    )
    return chart
