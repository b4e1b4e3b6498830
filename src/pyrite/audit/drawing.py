"""Charts of data and references that several flaws share: densities over each other, and how both sides are drawn.

Altair is imported when something is drawn; nothing is fetched.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyrite.audit.flaw import EvidenceValues
from pyrite.audit.show import clean
from pyrite.audit.wording import percent
from pyrite.charts import PRINTED, Palette, dressed

PLACES = {"data": 1, "references": 0}
"""Which colour of the series; lines differ in their dashes, points in their shape too."""
DASHES = {"data": [1, 0], "references": [5, 3]}
WIDTH, HEIGHT = 620, 300  # pixels of a panel
LABEL = 44
"""Characters of a shape that are drawn."""
POINTS = 4000
"""Points of the map at most, evenly taken."""
Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Points (where, density) of the data, and of the references where there are any."""


def share_of_references(shape: Mapping[str, Any]) -> str:
    """A shape's share of the references, where it is known."""
    return "" if shape.get("reference") is None else f" (references {percent(shape['reference'])})"


def densities(curves: Curves, title: str, axis: str, unit: str, palette: Palette = PRINTED) -> Any:
    """Densities over each other. `unit`: of the axis."""
    import altair as alt

    rows = [{"x": x, "density": y, "group": name} for name, curve in curves.items() for x, y in curve]
    x = alt.X("x:Q", title=axis, scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("density:Q", title=f"density (share of the whole per {unit})", axis=alt.Axis(format=".2~g"))
    base = alt.Chart(alt.InlineData(values=rows), width=WIDTH, height=HEIGHT)
    area = base.mark_area(opacity=0.12, line=False).encode(
        x=x, y=y.stack(None), color=colour(curves, palette, of_lines=True)
    )
    line = base.mark_line(strokeWidth=2).encode(
        x=x, y=y, color=colour(curves, palette, of_lines=True), strokeDash=dash(curves)
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


def one_line(text: str) -> str:
    """A shape on one line, of a readable length, with nothing unseen in it."""
    plain = clean(str(text).replace("\n", " | ")) or "(empty)"
    return plain if len(plain) <= LABEL else plain[: LABEL - 1] + "…"


def density_curves(values: EvidenceValues) -> Curves:
    """The curves of the first values that hold a `grid` with densities of the `data`; empty where none do."""
    for value in values:
        if value.get("grid") and value.get("data"):
            sides = {"data": value["data"], "references": value.get("references") or value.get("reference") or []}
            return {name: list(zip(value["grid"], side, strict=True)) for name, side in sides.items() if len(side)}
    return {}


def density_text(curves: Curves, unit: str) -> str:
    """What densities show, for someone who cannot see them."""
    highest = [f"{group} at {max(curve, key=lambda point: point[1])[0]:.4g}" for group, curve in curves.items()]
    return f"Densities over {unit}; each curve is highest: {', '.join(highest)}."
