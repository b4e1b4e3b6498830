"""A chart in the page: the page's colours, ids of its own, no size, and text that stays text."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from pyrite.audit.figures import alt_text, charts
from pyrite.audit.flaws.embedding.figure import embedding_map
from pyrite.audit.flaws.format.figure import shape_bars
from pyrite.charts import PRINTED
from pyrite.repair.figure import chart as curves
from pyrite.report.draw import NAMES, SCREEN, page_figure, svg

HOSTILE = '</svg><script>alert(1)</script>" onload="x" #0a0b01'
SHAPES = [{"text": HOSTILE, "share": 0.5, "reference": 0.1}, {"text": "plain", "share": 0.25, "reference": None}]
NAMED = {"var(--ink)", "var(--muted)", "var(--grid)", "var(--panel)", *(f"var(--c{at})" for at in range(1, 9))}


@pytest.fixture(scope="module")
def bars() -> str:
    return svg(shape_bars(SHAPES, "How answers begin", SCREEN).to_dict(), "bars")


def test_every_colour_is_the_pages_own(bars: str) -> None:
    told = {"model": "m", "method": "lbf", "guard": [], "curve": [
        {"tokens": at, "forget": 1.0, "replay": 2.0, "kl": 0.5} for at in (10, 20)]}  # fmt: skip
    for text in (bars, svg(curves(told, SCREEN).to_dict(), "curves")):
        painted = re.findall(r'(?:fill|stroke)="([^"]+)"', text)
        assert {one for one in painted if one not in ("none", "transparent")} <= NAMED
        assert {"var(--ink)", "var(--c1)", "var(--c2)"} <= set(painted)
    assert set(NAMES.values()) == NAMED


def test_text_of_the_data_never_becomes_markup(bars: str) -> None:
    root = ElementTree.fromstring(bars)
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "</svg><script>" in "".join(root.itertext())  # it is there, as text
    assert "<script" not in bars
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on")]


def test_a_drawing_scales_and_its_ids_are_its_own(bars: str) -> None:
    assert set(ElementTree.fromstring(bars).attrib) == {"viewBox"}
    clipped = shape_bars(SHAPES, "How answers begin", SCREEN).mark_bar(clip=True).to_dict()
    one, other = svg(clipped, "one"), svg(clipped, "other")
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other)]
    assert ids[0], "the drawing has clip paths"
    assert not ids[0] & ids[1]
    assert set(re.findall(r"url\(#([^)]+)\)", one)) == ids[0]
    assert not re.search(r"\d\.\d{3,}", re.sub(r">[^<]*<", "><", bars))  # pixels with two decimals at most


def test_the_heading_becomes_the_caption() -> None:
    chart = shape_bars(SHAPES, "How answers begin", SCREEN)
    made = page_figure(chart, "bars", "what it shows")
    assert (made.alt, made.caption) == ("what it shows", "How answers begin. The commonest of what stands out.")
    assert "How answers begin" not in made.svg
    assert page_figure(chart, "bars", "", titled=False).caption == "The commonest of what stands out."


def test_the_same_chart_gives_the_same_drawing(bars: str) -> None:
    assert svg(shape_bars(SHAPES, "How answers begin", SCREEN).to_dict(), "bars") == bars


def test_a_map_has_no_more_points_than_asked() -> None:
    points = [{"x": at % 7, "y": at % 11, "group": "data" if at % 2 else "human"} for at in range(4001)]
    rows = next(iter(embedding_map(points, most=1500).to_dict()["datasets"].values()))
    assert 1300 < len(rows) <= 1500
    assert "1,334 of 4,001" in str(embedding_map(points, most=1500).to_dict()["title"]["subtitle"])


def test_shapes_are_left_out_where_texts_are() -> None:
    told: dict[str, Any] = {"findings": [{"flaw": "format", "evidence": {"values": {"openings": SHAPES}}}]}
    assert list(charts(told)) == ["openings"]
    assert charts(told, shapes=False) == {}
    assert alt_text(told, "openings").endswith("50 % (references 10 %); plain 25 %.")


def test_saved_figures_keep_their_colours() -> None:
    spec = shape_bars(SHAPES, "How answers begin").to_dict()
    assert spec["background"] == PRINTED.panel == "white"
    assert spec["encoding"]["color"]["scale"]["range"] == ["#D55E00", "#0072B2"]
