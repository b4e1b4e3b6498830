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


def curves(told: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw curves.svg and curves.png into a folder; nothing where no step was made. Returns the files written."""
    drawn = chart(told)
    return [] if drawn is None else save(drawn, folder, "curves")


def chart(told: Mapping[str, Any], palette: Palette = PRINTED) -> Any:
    """The curves of a repair, as an Altair chart; None where no step was made."""
    import altair as alt

    panels = [panel(points(told, name), title, palette) for name, title in PANELS if points(told, name)]
    if not panels:
        return None
    heading = f"Repair of {told['model']} with {told['method']}"
    both = alt.vconcat(*panels, spacing=24).resolve_scale(color="shared", x="shared")
    return dressed(both, heading, "Means over a step's tokens, or over the guard's rows.", palette)


def alt_text(told: Mapping[str, Any]) -> str:
    """What the curves show, for someone who cannot see them: where each term began and ended."""
    said = []
    for name, title in PANELS:
        rows = points(told, name)
        ends = []
        for term in TERMS:
            own = [row for row in rows if row["term"] == term]
            if own:
                first, last = own[0], own[-1]
                ends.append(
                    f"{term} from {first['nats']:.3g} at {first['tokens']:,} tokens to {last['nats']:.3g} at {last['tokens']:,}"
                )
        if ends:
            said.append(f"{title}, in nats per token: {'; '.join(ends)}.")
    return " ".join(said)


def points(told: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The values of one panel, one for each point and term; what was not measured is absent.

    >>> points({"guard": [{"tokens": 8, "replay_nats": 2.0, "forget_nats": None}]}, "guard")
    [{'tokens': 8, 'term': 'replay', 'nats': 2.0}]
    """
    names = SEEN if name == "guard" else {term: term for term in TERMS}
    return [
        {"tokens": row["tokens"], "term": term, "nats": row[column]}
        for row in told[name]
        for column, term in names.items()
        if row.get(column) is not None
    ]


def panel(rows: Sequence[Mapping[str, Any]], title: str, palette: Palette = PRINTED) -> Any:
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
