"""A map of rows: those that mean the same lie near each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.audit.drawing import PLACES, POINTS, colour
from pyrite.audit.flaw import EvidenceValues, Figure
from pyrite.charts import PRINTED, Palette, dressed


def embedding_map(points: Sequence[Mapping[str, Any]], palette: Palette = PRINTED, most: int = POINTS) -> Any:
    """Rows as points, at most so many; those of any group but "data" are references."""
    import altair as alt

    step = -(-len(points) // most)
    rows = [
        {"x": point["x"], "y": point["y"], "group": "data" if point["group"] == "data" else "references"}
        for point in points[::step]
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
    subtitle = "Each point is a row; rows that mean the same lie near each other."
    if step > 1:
        subtitle += f" {len(rows):,} of {len(points):,} rows are drawn."
    return dressed(chart, "Where rows lie", subtitle, palette)


def map_points(values: EvidenceValues) -> Sequence[Mapping[str, Any]]:
    """The points of the worst finding that has a map."""
    return next((value["map"] for value in values if value.get("map")), ())


def charts(values: EvidenceValues, palette: Palette, points: int) -> dict[str, Any]:
    """The map, where there is one."""
    rows = map_points(values)
    return {"map": embedding_map(rows, palette, points)} if rows else {}


def alt_text(values: EvidenceValues, name: str) -> str:
    """How many rows of each side the map has."""
    groups = [point["group"] for point in map_points(values)]
    of_data = sum(group == "data" for group in groups)
    return f"Map of rows by meaning: {of_data:,} of the data and {len(groups) - of_data:,} of the references."


FIGURE = Figure(("map",), charts, alt_text)
"""A list of points {`x`, `y`, `group`} under `map`, group "data" or another name."""
