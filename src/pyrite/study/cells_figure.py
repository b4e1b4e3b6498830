"""A figure of cells that are not a grid: where does every cell stand on every headline metric, seed by seed?

One panel for each metric, one line in it for each cell. `draw` takes plain rows, as the run folder holds them.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrite.charts import PRINTED, Palette, save, themed
from pyrite.study.tables import reference_cells, shown_rows

if TYPE_CHECKING:
    import altair

Row = Mapping[str, Any]
WIDTH, STEP = 460, 20
"""Pixels of a panel, and of a cell in it."""
REFERENCE = (1, 2, 3, 4)
"""Colours of the reference cells' lines, out of the palette's series; cells have the first."""
DASHES = ([5, 3], [2, 2], [8, 3, 2, 3], [1, 3])
BETTER = {"higher": "higher is better", "lower": "lower is better", "none": "no preferred direction"}


def headline_metrics(spec: Mapping[str, Any], summary: Sequence[Row]) -> list[tuple[str, str]]:
    """(probe, metric) of every panel: those of the primary contrasts first, then those that the probes show."""
    measured = list(dict.fromkeys((row["probe"], row["metric"]) for row in summary))
    primary = [tuple(contrast["probe"].split(".", 1)) for contrast in spec["contrasts"]]
    configured = [
        (probe, metric) for probe, settings in spec["probes"].items() for metric in settings.get("metrics", ())
    ]
    unconfigured = [panel for panel in measured if not spec["probes"].get(panel[0], {}).get("metrics")]
    return [panel for panel in dict.fromkeys([*primary, *configured, *unconfigured]) if panel in measured]


def draw(
    results: Sequence[Row], summary: Sequence[Row], spec: Mapping[str, Any], palette: Palette = PRINTED
) -> "altair.VConcatChart":
    """The values of every cell: seeds as points, their mean with its t interval, the reference cells as lines.

    `results` and `summary` are the rows of the study's tables, `spec` its plain values.
    """
    import altair as alt

    cells = [name for name in spec["cells"] if any(row["cell"] == name for row in summary)]
    panels = [
        panel(
            name,
            metric,
            cells,
            rows_of(results, name, metric, spec),
            rows_of(summary, name, metric, spec),
            reference_cells(spec),
            palette,
        )
        for name, metric in headline_metrics(spec, summary)
    ]
    heading = alt.TitleParams(
        text=textwrap.wrap(spec["study"], 70), subtitle=textwrap.wrap(explain(summary, spec), 95), anchor="start", offset=12
    )  # fmt: skip
    config = themed(
        palette,
        title={"fontSize": 13, "subtitleFontSize": 11, "subtitleLineHeight": 15},
        axis={"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelLimit": 200},
    )
    return (
        alt.vconcat(*panels, spacing=20)
        .resolve_scale(x="independent", color="shared", strokeDash="shared")
        .properties(title=heading, background=palette.panel, padding=12)
        .configure(**config)
    )


def rows_of(rows: Sequence[Row], probe: str, metric: str, spec: Mapping[str, Any]) -> list[Row]:
    """The rows of one metric: of labels those of the probe's headline slice, else over all items."""
    return shown_rows([row for row in rows if (row["probe"], row["metric"]) == (probe, metric)], spec)


def panel(
    probe: str,
    metric: str,
    cells: Sequence[str],
    results: Sequence[Row],
    summary: Sequence[Row],
    lines: Sequence[str],
    palette: Palette,
) -> Any:
    """One metric: a line for each cell that was asked."""
    import altair as alt

    share = summary[0]["scale"] == "share"
    probed_cells = [name for name in cells if any(row["cell"] == name for row in summary)]
    x = {"scale": alt.Scale(zero=False), "axis": alt.Axis(format="%" if share else "~g", titlePadding=4)}
    better = BETTER.get(summary[0]["direction"], BETTER["none"])
    y = alt.Y("cell:N", sort=probed_cells, title=None, axis=alt.Axis(grid=True, labelLimit=200))
    means = [{name: row[name] for name in ("cell", "mean", "low", "high")} for row in summary]
    seeds = [{name: row[name] for name in ("cell", "seed", "value")} for row in results if row["value"] is not None]
    rules = [{"reference": row["cell"], "mean": row["mean"]} for row in summary if row["cell"] in lines]
    chart = alt.Chart(alt.InlineData(values=means))
    value = alt.X("mean:Q", title=f"{probe}.{metric} ({better})", **x)
    layers = [
        rule(rules, lines, value, palette),
        chart.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.4, color=palette.series[0])
        .encode(x=alt.X("low:Q", **x), x2="high:Q", y=y),
        alt.Chart(alt.InlineData(values=seeds))
        .mark_circle(size=26, opacity=0.55, color=palette.series[0])
        .encode(x=alt.X("value:Q", **x), y=y),
        chart.mark_point(shape="diamond", filled=True, size=70, opacity=1, color=palette.series[0]).encode(
            x=value, y=y
        ),
    ]
    return alt.layer(*layers, width=WIDTH, height=alt.Step(STEP))


def rule(rows: Sequence[Row], names: Sequence[str], x: Any, palette: Palette) -> Any:
    """The means of the reference cells, as lines through the whole panel."""
    import altair as alt

    n = len(REFERENCE)
    colours = [palette.series[REFERENCE[at % n]] for at in range(len(names))]
    dashes = [DASHES[at % n] for at in range(len(names))]
    legend = alt.Legend(orient="top", symbolType="stroke", symbolSize=400, symbolStrokeWidth=2, labelFontSize=11)
    style = {"title": "mean of", "legend": legend}
    return (
        alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))
        .mark_rule(strokeWidth=1.4)
        .encode(
            x=x,
            color=alt.Color("reference:N", scale=alt.Scale(domain=list(names), range=colours), **style),
            strokeDash=alt.StrokeDash("reference:N", scale=alt.Scale(domain=list(names), range=dashes), **style),
        )
    )


def explain(summary: Sequence[Row], spec: Mapping[str, Any]) -> str:
    """What a point, a diamond and a bar are."""
    counts = sorted({row["n_seeds"] for row in summary})
    if counts == [1]:
        return "One training seed: each diamond is one model, and no interval over seeds can be given."
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    sentence = f"Small point: one model (one training seed). Diamond: mean over {number} seeds; bar: 95 % t interval over seeds."
    lost = sum(row["n_seeds"] < len(spec["seeds"]) for row in summary)
    return sentence + (
        f" {lost} cells have fewer seeds than the study: what was not measured is not shown." if lost else ""
    )


def alt_text(summary: Sequence[Row], spec: Mapping[str, Any]) -> str:
    """What does the figure show, for someone who cannot see it? Every cell's mean with its interval, metric by metric."""
    sentences = [
        f"Every cell of the study {spec['study']} on its headline metrics, mean over seeds with 95 % t interval."
    ]
    for probe, metric in headline_metrics(spec, summary):
        values = []
        for row in rows_of(summary, probe, metric, spec):
            between = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
            values.append(f"{row['cell']} {row['mean']:.3f}{between}")
        sentences.append(f"{probe}.{metric}: {', '.join(values)}.")
    return " ".join(sentences)


def write_figure(results: Sequence[Row], summary: Sequence[Row], spec: Mapping[str, Any], folder: Path) -> None:
    """figure.svg, figure.png and figure.txt of a run folder; nothing where nothing was measured."""
    if not headline_metrics(spec, summary):
        return
    save(draw(results, summary, spec), folder, "figure")
    (folder / "figure.txt").write_text(alt_text(summary, spec) + "\n", encoding="utf-8")
