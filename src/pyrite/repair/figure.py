"""A repair's curves: the losses of every step, and what the guard saw, over the tokens processed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.charts import PRINTED, Palette, dressed, save

TERMS = {"forget": (1, [1, 0]), "replay": (0, [5, 3]), "kl": (2, [2, 2])}
"""Which colour of the palette's series, and dashes of a term."""
SEEN = {"forget_nats": "forget", "replay_nats": "replay", "kl": "kl"}
PANELS = (("curve", "The loss of each step, by term (weights not applied)"), ("guard", "What the guard saw"))
WIDTH, HEIGHT = 620, 220  # pixels of a panel


def draw_curves(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw curves.svg and curves.png into a folder; nothing where no step was made. Returns the files written."""
    drawn = chart(record)
    return [] if drawn is None else save(drawn, folder, "curves")


def chart(record: Mapping[str, Any], palette: Palette = PRINTED) -> Any:
    """The curves of a repair, as an Altair chart; None where no step was made."""
    import altair as alt

    panels = [
        curve_panel(panel_points(record, name), title, palette) for name, title in PANELS if panel_points(record, name)
    ]
    if not panels:
        return None
    heading = f"Repair of {record['model']} with {record['method']}"
    panels_chart = alt.vconcat(*panels, spacing=24).resolve_scale(color="shared", x="shared")
    return dressed(panels_chart, heading, "Means over a step's tokens, or over the guard's rows.", palette)


def alt_text(record: Mapping[str, Any]) -> str:
    """What the curves show, for someone who cannot see them: where each term began and ended."""
    sentences = []
    for name, title in PANELS:
        rows = panel_points(record, name)
        ends = []
        for term in TERMS:
            term_rows = [row for row in rows if row["term"] == term]
            if term_rows:
                first, last = term_rows[0], term_rows[-1]
                ends.append(
                    f"{term} from {first['nats']:.3g} at {first['tokens']:,} tokens to {last['nats']:.3g} at {last['tokens']:,}"
                )
        if ends:
            sentences.append(f"{title}, in nats per token: {'; '.join(ends)}.")
    return " ".join(sentences)


def panel_points(record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The values of one panel, one for each point and term; what was not measured is absent.

    >>> panel_points({"guard": [{"tokens": 8, "replay_nats": 2.0, "forget_nats": None}]}, "guard")
    [{'tokens': 8, 'term': 'replay', 'nats': 2.0}]
    """
    names = SEEN if name == "guard" else {term: term for term in TERMS}
    return [
        {"tokens": row["tokens"], "term": term, "nats": row[column]}
        for row in record[name]
        for column, term in names.items()
        if isinstance(row.get(column), int | float)
    ]


def curve_panel(rows: Sequence[Mapping[str, Any]], title: str, palette: Palette = PRINTED) -> Any:
    """One panel: a line and points for each term."""
    import altair as alt

    terms = [term for term in TERMS if any(row["term"] == term for row in rows)]
    legend = alt.Legend(orient="top", symbolType="stroke", symbolSize=500, symbolStrokeWidth=2, labelFontSize=12)
    colours = alt.Scale(domain=terms, range=[palette.series[TERMS[term][0]] for term in terms])
    dashes = alt.Scale(domain=terms, range=[TERMS[term][1] for term in terms])
    return (
        alt.Chart(alt.InlineData(values=[dict(row) for row in rows]), width=WIDTH, height=HEIGHT, title=title)
        .mark_line(strokeWidth=2, point=len({row["tokens"] for row in rows}) < 40)
        .encode(
            x=alt.X("tokens:Q", title="tokens processed"),
            y=alt.Y("nats:Q", title="nats per token", scale=alt.Scale(zero=False)),
            color=alt.Color("term:N", title=None, scale=colours, legend=legend),
            strokeDash=alt.StrokeDash("term:N", title=None, scale=dashes, legend=legend),
        )
    )


COLOURS = {"interpolate": 0, "negate": 3}
"""Of the palette's series, by method; any other method has the second."""
SQUARE = 400  # pixels


def draw_frontier(frontier: Mapping[str, Any] | None, folder: Path) -> list[Path]:
    """Draw frontier.svg and frontier.png into a folder; where no repair has a place on both axes, older ones go."""
    drawn = frontier_chart(frontier)
    if drawn is not None:
        return save(drawn, folder, "frontier")
    for kind in ("svg", "png"):
        (folder / f"frontier.{kind}").unlink(missing_ok=True)
    return []


def frontier_chart(frontier: Mapping[str, Any] | None, palette: Palette = PRINTED) -> Any:
    """Every repair's recovered share against its kept share, both with 95 % intervals, and the two models between which
    they lie: harmed at (0, 1), before at (1, 0). None where no repair has both."""
    import altair as alt

    rows = frontier_points(frontier)
    if not rows or frontier is None:
        return None
    x = {"scale": alt.Scale(zero=False), "axis": alt.Axis(format="%", titlePadding=6)}
    across = alt.X("recovered:Q", title=f"recovered of what was lost ({frontier['lost']})", **x)
    up = alt.Y("kept:Q", title=f"kept of what was gained ({frontier['gained']})", **x)
    data = alt.InlineData(values=rows)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    colours = [palette.series[COLOURS.get(name, 1)] for name in methods]
    colour = alt.Color("method:N", title=None, scale=alt.Scale(domain=methods, range=colours),
                       legend=alt.Legend(orient="top", labelFontSize=12))  # fmt: skip
    base = alt.Chart(data)
    limit = alt.Chart(alt.InlineData(values=[{"keep": frontier["keep"]}]))
    ends = alt.Chart(alt.InlineData(values=[
        {"recovered": 0.0, "kept": 1.0, "name": "harmed"}, {"recovered": 1.0, "kept": 0.0, "name": "before"},
    ]))  # fmt: skip
    layers = [
        limit.mark_rule(strokeDash=[4, 3], color=palette.line).encode(y="keep:Q"),
        base.mark_rule(strokeWidth=1.2, opacity=0.7).encode(x=alt.X("recovered_low:Q", **x), x2="recovered_high:Q", y=up, color=colour),
        base.mark_rule(strokeWidth=1.2, opacity=0.7).encode(y=alt.Y("kept_low:Q", **x), y2="kept_high:Q", x=across, color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=across, y=up, color=colour,
            shape=alt.Shape("chosen:N", scale=alt.Scale(domain=[False, True], range=["circle", "diamond"]), legend=None),
        ),
        base.mark_text(align="left", dx=8, dy=-8, fontSize=11, color=palette.ink).encode(x=across, y=up, text="name:N"),
        ends.mark_point(shape="cross", filled=True, size=60, color=palette.muted, opacity=1).encode(x="recovered:Q", y="kept:Q"),
        ends.mark_text(align="left", dx=8, dy=-9, fontSize=11, color=palette.muted).encode(x="recovered:Q", y="kept:Q", text="name:N"),
    ]  # fmt: skip
    drawn = alt.layer(*layers, width=SQUARE, height=SQUARE)
    subtitle = f"Bars: 95 % intervals. Dashed: {frontier['keep']:.0%} of the gain. Diamond: the one that was taken."
    return dressed(drawn, "What repairs bring back, and what they keep", subtitle, palette)


def frontier_points(frontier: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The repairs that have a place on both axes, as rows to draw."""
    rows = []
    for point in (frontier or {}).get("points", ()):
        sides = {name: point[name] for name in ("recovered", "kept")}
        if all(side is not None and side["value"] is not None for side in sides.values()):
            rows.append(
                {name: point[name] for name in ("name", "method", "chosen")}
                | {f"{name}{end}": side[key] if side[key] is not None else side["value"]
                   for name, side in sides.items() for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))}
            )  # fmt: skip
    return rows


def frontier_alt(frontier: Mapping[str, Any]) -> str:
    """What the frontier shows, for someone who cannot see it."""
    return " ".join(frontier["sentences"])
