"""An audit's figures: densities of data and references over each other, a map of rows, bars of the commonest shapes.

Each is drawn from plain values of the findings' evidence, and left out where they are absent. Altair and vl-convert are
imported when something is drawn; nothing is fetched.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.audit.show import clean
from pyrite.audit.wording import percent
from pyrite.charts import PRINTED, Palette, dressed, save
from pyrite.names import unlike

PLACES = {"data": 1, "references": 0}
"""Which colour of the series; lines differ in their dashes, points in their shape too."""
DASHES = {"data": [1, 0], "references": [5, 3]}
WIDTH, HEIGHT = 620, 300  # pixels of a panel
BARS = 12
"""Shapes that are drawn, the commonest first."""
LABEL = 44
"""Characters of a shape that are drawn."""
SHAPE_KINDS = {"openings": "How answers begin", "closings": "How answers end", "skeletons": "How answers are laid out"}
POINTS = 4000
"""Points of the map at most, evenly taken."""


def figures(told: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw the charts of an audit into `out`/figures; returns the files written, an SVG and a PNG each."""
    return [path for name, chart in charts(told).items() for path in save(chart, out / "figures", name)]


def charts(
    told: Mapping[str, Any], palette: Palette = PRINTED, *, shapes: bool = True, points: int = POINTS
) -> dict[str, Any]:
    """A chart of everything that the evidence of an audit has values for, by name.

    `shapes` are drawn with text of the data; `points` is how many the map has at most. `told` is what `Audit.as_json`
    tells. Of a finding's `evidence.values`:

    - of flaw `tokens`, `density`: {`grid` (token ids), `data`, `reference`}, densities at the grid: `tokens.svg`
    - of flaw `perplexity`, {`grid` (nats per token), `data`, `references`} or the same as `density`: `perplexity.svg`
    - of flaw `embedding`, `map`: a list of points {`x`, `y`, `group`}, group "data" or another name: `map.svg`
    - of flaw `format`, `openings`, `closings`, `skeletons`: lists of {`text`, `share`, `reference`}: `openings.svg`, …
    """
    drawn = {}
    if found := density_of(told, "tokens"):
        drawn["tokens"] = densities(found, "Which tokens are used", "token id", "token id", palette)
    if found := density_of(told, "perplexity"):
        title = "How surprising the answers are to the model"
        drawn["perplexity"] = densities(found, title, "nats per token", "nat", palette)
    if maps := values_of(told, "embedding", "map"):
        drawn["map"] = embedding_map(maps[0], palette, points)
    for kind, title in SHAPE_KINDS.items():
        if shapes and (bars := values_of(told, "format", kind)):
            drawn[kind] = shape_bars(bars[0], title, palette)
    return drawn


def alt_text(told: Mapping[str, Any], name: str) -> str:
    """What one of the charts shows, for someone who cannot see it."""
    if name == "map":
        groups = [one["group"] for one in values_of(told, "embedding", "map")[0]]
        own = sum(group == "data" for group in groups)
        return f"Map of rows by meaning: {own:,} of the data and {len(groups) - own:,} of the references."
    if name in SHAPE_KINDS:
        bars = sorted(values_of(told, "format", name)[0], key=lambda one: -one["share"])
        told_bars = [f"{cut(one['text'])} {percent(one['share'])}{reference(one)}" for one in bars[:3]]
        return f"{SHAPE_KINDS[name]}, share of answers: {'; '.join(told_bars)}."
    highest = [
        f"{group} at {max(curve, key=lambda point: point[1])[0]:.4g}" for group, curve in density_of(told, name).items()
    ]
    unit = "token id" if name == "tokens" else "nats per token"
    return f"Densities over {unit}; each curve is highest: {', '.join(highest)}."


def reference(shape: Mapping[str, Any]) -> str:
    """A shape's share of the references, where it is known."""
    return "" if shape.get("reference") is None else f" (references {percent(shape['reference'])})"


def values_of(told: Mapping[str, Any], flaw: str, key: str) -> list[Any]:
    """What findings of a flaw have under a name, worst first, of those that have it."""
    values = (finding["evidence"]["values"] for finding in told["findings"] if finding["flaw"] == flaw)
    return [value[key] for value in values if value.get(key)]


def density_of(told: Mapping[str, Any], flaw: str) -> dict[str, list[tuple[float, float]]]:
    """Points (where, density) of the data, and of the references where they are told; empty where nothing is."""
    own = [finding["evidence"]["values"] for finding in told["findings"] if finding["flaw"] == flaw]
    own = [value for value in own if value.get("compared") != "instruction_difficulty"]  # a ratio, not nats
    for value in (value.get("density") or value for value in own):
        if isinstance(value, Mapping) and value.get("grid") and value.get("data"):
            both = {"data": value["data"], "references": value.get("references") or value.get("reference") or []}
            return {name: list(zip(value["grid"], some, strict=True)) for name, some in both.items() if len(some)}
    return {}


def densities(
    found: Mapping[str, Sequence[tuple[float, float]]], title: str, axis: str, unit: str, palette: Palette = PRINTED
) -> Any:
    """Densities over each other. `unit`: of the axis."""
    import altair as alt

    rows = [{"x": x, "density": y, "group": name} for name, some in found.items() for x, y in some]
    x = alt.X("x:Q", title=axis, scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("density:Q", title=f"density (share of the whole per {unit})", axis=alt.Axis(format=".2~g"))
    base = alt.Chart(alt.InlineData(values=rows), width=WIDTH, height=HEIGHT)
    area = base.mark_area(opacity=0.12, line=False).encode(
        x=x, y=y.stack(None), color=colour(found, palette, of_lines=True)
    )
    line = base.mark_line(strokeWidth=2).encode(
        x=x, y=y, color=colour(found, palette, of_lines=True), strokeDash=dash(found)
    )
    return dressed(area + line, title, "Each curve holds an area of 1.", palette)


def colour(groups: Iterable[str], palette: Palette = PRINTED, *, of_lines: bool = False) -> Any:
    """Colours of data and references."""
    import altair as alt

    names = [name for name in PLACES if name in set(groups)]
    scale = alt.Scale(domain=names, range=[palette.series[PLACES[name]] for name in names])
    return alt.Color("group:N", title=None, scale=scale, legend=legend(of_lines=of_lines))


def dash(groups: Iterable[str]) -> Any:
    """Dashes of data and references."""
    import altair as alt

    names = [name for name in DASHES if name in set(groups)]
    scale = alt.Scale(domain=names, range=[DASHES[name] for name in names])
    return alt.StrokeDash("group:N", title=None, scale=scale, legend=legend(of_lines=True))


def legend(*, of_lines: bool) -> Any:
    """A legend above the panel; for lines it shows them as they are drawn."""
    import altair as alt

    lines = {"symbolType": "stroke", "symbolOpacity": 1, "symbolSize": 500, "symbolStrokeWidth": 2} if of_lines else {}
    return alt.Legend(orient="top", labelFontSize=12, **lines)


def embedding_map(points: Sequence[Mapping[str, Any]], palette: Palette = PRINTED, most: int = POINTS) -> Any:
    """Rows as points, at most so many; those of any group but "data" are references."""
    import altair as alt

    step = -(-len(points) // most)
    rows = [
        {"x": one["x"], "y": one["y"], "group": "data" if one["group"] == "data" else "references"}
        for one in points[::step]
    ]
    groups = {row["group"] for row in rows}
    names = [name for name in PLACES if name in groups]
    shape = alt.Shape(
        "group:N", title=None, scale=alt.Scale(domain=names, range=["circle", "triangle-up"][: len(names)])
    )
    plain = alt.Axis(labels=False, ticks=False, grid=False)
    scale = alt.Scale(zero=False)
    chart = (
        alt.Chart(alt.InlineData(values=rows), width=480, height=480)
        .mark_point(filled=True, size=22, opacity=0.55)
        .encode(
            x=alt.X("x:Q", title="first direction of the map (no unit)", axis=plain, scale=scale),
            y=alt.Y("y:Q", title="second direction of the map (no unit)", axis=plain, scale=scale),
            color=colour(groups, palette),
            shape=shape,
        )
    )
    said = "Each point is a row; rows that mean the same lie near each other."
    if step > 1:
        said += f" {len(rows):,} of {len(points):,} rows are drawn."
    return dressed(chart, "Where rows lie", said, palette)


def shape_bars(shapes: Sequence[Mapping[str, Any]], title: str, palette: Palette = PRINTED) -> Any:
    """Shares of the commonest shapes, in the data and in the references."""
    import altair as alt

    shown = sorted(shapes, key=lambda one: -one["share"])[:BARS]
    labels = unlike([cut(one["text"]) for one in shown])
    rows: list[dict[str, Any]] = []
    for label, one in zip(labels, shown, strict=True):
        rows.append({"shape": label, "group": "data", "share": one["share"]})
        if one.get("reference") is not None:
            rows.append({"shape": label, "group": "references", "share": one["reference"]})
    groups = [name for name in PLACES if any(row["group"] == name for row in rows)]
    axis = alt.Axis(labelLimit=320, title=None, labelFontSize=11)
    chart = (
        alt.Chart(alt.InlineData(values=rows), width=WIDTH - 200, height=alt.Step(11 if len(groups) > 1 else 18))
        .mark_bar()
        .encode(
            y=alt.Y("shape:N", sort=labels, axis=axis, scale=alt.Scale(paddingInner=0.25)),
            yOffset=alt.YOffset("group:N", sort=groups),
            x=alt.X("share:Q", title="share of answers", axis=alt.Axis(format="%")),
            color=colour(groups, palette),
        )
    )
    return dressed(chart, title, "The commonest of what stands out.", palette)


def cut(text: str) -> str:
    """A shape on one line, of a readable length, with nothing unseen in it."""
    plain = clean(str(text).replace("\n", " | ")) or "(empty)"
    return plain if len(plain) <= LABEL else plain[: LABEL - 1] + "…"
