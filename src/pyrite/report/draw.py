"""A chart as SVG that stands in the page: its colours are the page's own, light or dark, and it scales.

A chart is drawn with colours that stand for others (`SCREEN`). In the drawing they become CSS custom properties, which
the page defines: --ink, --muted, --grid, --panel, --c1 to --c8. Nothing is fetched, and text stays text.
"""

import re
from typing import Any

from pyrite.charts import Palette
from pyrite.report.page import Figure

STAND_INS = {
    "ink": "#0a0b01", "muted": "#0a0b02", "grid": "#0a0b03", "panel": "#0a0b04",
    **{f"c{at}": f"#0a0c0{at}" for at in range(1, 9)},
}  # fmt: skip
"""The page's colours by name, and the colour that stands for each while a chart is drawn."""
SCREEN = Palette(
    ink=STAND_INS["ink"],
    muted=STAND_INS["muted"],
    line=STAND_INS["muted"],
    grid=STAND_INS["grid"],
    frame=STAND_INS["grid"],
    panel=STAND_INS["panel"],
    series=tuple(STAND_INS[f"c{at}"] for at in range(1, 9)),
)
"""Every chart of a report is drawn with this palette."""
NAMES = {colour: f"var(--{name})" for name, colour in STAND_INS.items()}
PAINTED = ("fill", "stroke", "stop-color")
KEPT = ("d", "transform", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "cx", "cy", "r", "points", "viewBox")
"""Attributes of numbers; they are rounded, so that the page stays small."""
DROPPED = ("class", "role", "version", "style", "aria-label", "aria-roledescription", "aria-hidden")
SPACE = "http://www.w3.org/2000/svg"


def page_figure(chart: Any, name: str, alt: str, *, titled: bool = True) -> Figure:
    """A chart's drawing; its heading (unless not `titled`: what explains it only) becomes the caption, which wraps where
    the page is narrow.

    `name` makes the drawing's ids unique on the page: letters, digits and dashes.
    """
    spec = chart.to_dict()
    heading = spec.pop("title", None) or {}
    lines = [line for part in ("text", "subtitle")[not titled :] if (line := one_line(heading.get(part)))]
    return Figure(svg(spec, name), alt, ". ".join(lines))


def one_line(lines: Any) -> str:
    """A title on one line."""
    return " ".join(lines) if isinstance(lines, list) else str(lines or "")


def svg(spec: dict[str, Any], name: str) -> str:
    """A Vega-Lite chart, drawn with the colours of `SCREEN`, as SVG in the page's colours, without a size of its own."""
    from xml.etree import ElementTree

    import vl_convert

    # The drawing is our own converter's: no document type, no entities.
    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key: rounded(key, painted(key, value, name)) for key, value in element.attrib.items()
                          if key not in DROPPED}  # fmt: skip
    width, height = (root.attrib.pop(side, "0") for side in ("width", "height"))
    root.attrib = {"xmlns": SPACE, "viewBox": root.get("viewBox") or f"0 0 {width} {height}"}
    return ElementTree.tostring(root, encoding="unicode")


def painted(key: str, value: str, name: str) -> str:
    """An attribute with the page's colours, and with ids of its own."""
    if key in PAINTED:
        value = NAMES.get(value.lower(), value)
    if key == "id" or key.endswith("href"):
        return f"{value[: value.startswith('#')]}{name}-{value.removeprefix('#')}"
    return re.sub(r"url\(#", f"url(#{name}-", value)


def rounded(key: str, value: str) -> str:
    """Numbers with two decimals; they are pixels."""
    if key not in KEPT:
        return value
    return re.sub(r"-?\d+\.\d{3,}", lambda match: f"{round(float(match[0]), 2):g}", value)
