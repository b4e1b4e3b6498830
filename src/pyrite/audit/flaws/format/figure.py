"""Bars of the commonest shapes of answers, in the data and in the references."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.audit.drawing import PLACES, WIDTH, colour, one_line, share_of_references
from pyrite.audit.flaw import EvidenceValues, Figure
from pyrite.audit.wording import percent
from pyrite.charts import PRINTED, Palette, dressed
from pyrite.redact import unlike

BARS = 12
"""Shapes that are drawn, the commonest first."""
SHAPE_KINDS = {"openings": "How answers begin", "closings": "How answers end", "skeletons": "How answers are laid out"}


def shape_bars(shapes: Sequence[Mapping[str, Any]], title: str, palette: Palette = PRINTED) -> Any:
    """Shares of the commonest shapes, in the data and in the references."""
    import altair as alt

    bars = sorted(shapes, key=lambda entry: -entry["share"])[:BARS]
    labels = unlike([one_line(shape["text"]) for shape in bars])
    rows: list[dict[str, Any]] = []
    for label, entry in zip(labels, bars, strict=True):
        rows.append({"shape": label, "group": "data", "share": entry["share"]})
        if entry.get("reference") is not None:
            rows.append({"shape": label, "group": "references", "share": entry["reference"]})
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


def shapes_of(values: EvidenceValues, kind: str) -> Sequence[Mapping[str, Any]]:
    """The shapes of a kind that the worst finding which has any lists."""
    return next((value[kind] for value in values if value.get(kind)), ())


def charts(values: EvidenceValues, palette: Palette, points: int) -> dict[str, Any]:
    """Bars of each kind of shape that was found."""
    return {
        kind: shape_bars(shapes, title, palette)
        for kind, title in SHAPE_KINDS.items()
        if (shapes := shapes_of(values, kind))
    }


def alt_text(values: EvidenceValues, name: str) -> str:
    """The three commonest shapes of a kind."""
    commonest = sorted(shapes_of(values, name), key=lambda shape: -shape["share"])[:3]
    bars = [f"{one_line(shape['text'])} {percent(shape['share'])}{share_of_references(shape)}" for shape in commonest]
    return f"{SHAPE_KINDS[name]}, share of answers: {'; '.join(bars)}."


FIGURE = Figure(tuple(SHAPE_KINDS), charts, alt_text, quotes=True)
"""Lists of {`text`, `share`, `reference`} under `openings`, `closings`, `skeletons`."""
