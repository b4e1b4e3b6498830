"""How every figure looks and is saved: its colours, its type, its title, and the same bytes each time.

Altair and vl-convert are imported when something is drawn; nothing is fetched.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito (2008), told apart with any kind of colour vision; yellow, faint on white, comes last."""


@dataclass(frozen=True)
class Palette:
    """The colours of a figure: `ink` of text, `muted` of what stands behind it, `line` of axes, `grid`, `frame` of a
    panel, `panel` behind everything, and of what is drawn, in order."""

    ink: str = "#000000"
    muted: str = "#444444"
    line: str = "#888888"
    grid: str = "#EEEEEE"
    frame: str = "#CCCCCC"
    panel: str = "white"
    series: tuple[str, ...] = OKABE_ITO


PRINTED = Palette()
"""Dark on white: the figures of run folders."""


def dressed(chart: Any, title: str, subtitle: str, palette: Palette = PRINTED) -> Any:
    """A chart with its title, our type and our colours."""
    import altair as alt

    heading = alt.TitleParams(
        text=textwrap.wrap(title, 70), subtitle=textwrap.wrap(subtitle, 100), anchor="start", offset=10
    )
    axis = {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"}
    config = themed(palette, title={"fontSize": 15, "subtitleFontSize": 11}, axis=axis)
    return chart.properties(title=heading, background=palette.panel, padding=12).configure(**config)


def themed(palette: Palette, *, title: Mapping[str, Any], axis: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a chart: our type, the palette's colours, and sizes as given."""
    ink = {"labelColor": palette.ink, "titleColor": palette.ink}
    lines = {"gridColor": palette.grid, "domainColor": palette.line, "tickColor": palette.line}
    return {
        "font": FONT,
        "title": {"color": palette.ink, "subtitleColor": palette.muted, **title},
        "axis": {**axis, **ink, **lines},
        "legend": ink,
        "view": {"stroke": palette.frame},
    }


def save(chart: Any, folder: Path, stem: str, *, spec: bool = False) -> list[Path]:
    """Write the chart as STEM.svg and STEM.png (twice the size), and with `spec` as STEM.vl.json; returns their paths.

    Nothing is fetched, and the same chart gives the same bytes on the same machine.

    Raises:
        UserError: the folder cannot be written to.
    """
    import orjson
    import vl_convert

    from pyrite.io import atomic_write

    drawn = chart.to_dict()
    svg = vl_convert.vegalite_to_svg(drawn, allowed_base_urls=[])
    written = {folder / f"{stem}.svg": svg.encode(), folder / f"{stem}.png": bytes(vl_convert.svg_to_png(svg, scale=2))}
    if spec:
        written[folder / f"{stem}.vl.json"] = orjson.dumps(drawn, option=orjson.OPT_SORT_KEYS)
    for path, content in written.items():
        with atomic_write(path) as temporary:
            Path(temporary).write_bytes(content)
    return list(written)
