"""The study's figure: what is drawn, from which numbers, in which bytes."""

import json
import math
from typing import Any

import pytest

from pyrite.charts import OKABE_ITO, save
from pyrite.errors import UserError
from pyrite.study.grid_figure import (
    MAX_WIDTH,
    SHAPES,
    PanelRow,
    alt_text,
    cells_of,
    draw,
    explain,
    lay_out,
    places_of,
    shorten,
    style_of,
    tick_labels,
)

PANELS = [
    PanelRow("general", "General task: accuracy", 1 / 3),
    PanelRow("blind_spot", "Blind spot: accuracy", 0.5),
]


def rows(
    starts: list[str], arms: list[str], sizes: list[int], seeds: int, *, panels: list[PanelRow] = PANELS
) -> list[dict[str, Any]]:
    """A full grid of made-up accuracies; the start model comes first in each start."""
    made = []
    for i, start in enumerate(starts):
        models = [("start", 0)] + [(arm, size) for arm in arms for size in sizes]
        for k, (arm, size) in enumerate(models):
            for seed in range(seeds):
                for panel in panels:
                    value = 0.4 + 0.02 * i + 0.01 * k + 0.005 * seed
                    made.append(
                        {"start": start, "arm": arm, "size": size, "seed": seed, "panel": panel.name, "value": value}
                    )
    return made


def panels_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Every panel of a chart: the parts that have layers."""
    if "layer" in spec:
        return [spec]
    return [panel for part in spec.get("vconcat", []) + spec.get("hconcat", []) for panel in panels_of(part)]


def data_rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Every data row of a chart."""
    return [*spec["datasets"]["means"], *spec["datasets"]["seeds"]]


def legend_scales(spec: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Which colour and which shape the drawn markers have."""
    marks = [layer["encoding"] for panel in panels_of(spec) for layer in panel["layer"] if "shape" in layer["encoding"]]
    colour, shape = marks[0]["color"]["scale"], marks[0]["shape"]["scale"]
    assert all(mark["color"]["scale"] == colour and mark["shape"]["scale"] == shape for mark in marks)
    return (
        dict(zip(colour["domain"], colour["range"], strict=True)),
        dict(zip(shape["domain"], shape["range"], strict=True)),
    )


def test_eight_arms_have_eight_colours_of_the_palette_and_eight_shapes() -> None:
    arms = [f"arm {i}" for i in range(8)]
    colours, shapes = legend_scales(draw(rows(["s"], arms, [10], 1), PANELS, title="t", margin=0.03).to_dict())
    assert set(colours) == set(shapes) == {"start", *arms}
    assert {colours[arm] for arm in arms} == set(OKABE_ITO)
    assert {shapes[arm] for arm in arms} == set(SHAPES)
    assert colours["start"] not in OKABE_ITO
    assert shapes["start"] not in SHAPES


def test_more_than_eight_arms_still_differ() -> None:
    assert len(set(style_of([str(i) for i in range(64)]).values())) == 64


def test_every_panel_and_layer_shares_one_axis_from_0_to_1() -> None:
    spec = draw(rows(["a", "b", "c"], ["human"], [10, 20], 2), PANELS, title="t", margin=0.03).to_dict()
    domains = {
        tuple(layer["encoding"]["y"]["scale"]["domain"]) for panel in panels_of(spec) for layer in panel["layer"]
    }
    assert len(domains) == 1
    low, high = domains.pop()
    assert low <= 0 < 1 <= high


@pytest.mark.parametrize(("starts", "n_panels"), [(1, 1), (1, 3), (2, 3), (6, 2), (11, 1)])
def test_there_is_a_panel_for_each_start_and_kind_and_the_figure_stays_narrow(starts: int, n_panels: int) -> None:
    kinds = [PanelRow(f"p{i}", f"panel {i}", None) for i in range(n_panels)]
    made = rows(
        [f"s{i}" for i in range(starts)], ["human", "synthetic", "biased"], [18000, 36000, 73000], 1, panels=kinds
    )
    spec = draw(made, kinds, title="t", margin=0.03).to_dict()
    assert len(panels_of(spec)) == starts * n_panels
    assert lay_out(cells_of(made, kinds)[0], n_panels).total_width <= MAX_WIDTH


def test_six_starts_of_three_arms_and_sizes_fit_one_line() -> None:
    made = rows([f"s{i}" for i in range(6)], ["human", "synthetic", "biased"], [18000, 36000, 73000], 1)
    assert lay_out(cells_of(made, PANELS)[0], 3).columns == 6


def test_means_and_intervals_are_those_worked_by_hand() -> None:
    """0.70, 0.72, 0.74: mean 0.72, sd 0.02, t(0.975, 2) = 4.3027, half width 4.3027 · 0.02 / √3 = 0.04968."""
    made = [
        {"start": "a", "arm": "human", "size": 10, "seed": seed, "panel": "general", "value": value}
        for seed, value in enumerate([0.70, 0.72, 0.74])
    ]
    drawn = data_rows(draw(made, PANELS, title="t", margin=0.03).to_dict())
    (mean,) = [row for row in drawn if "low" in row]
    assert mean["value"] == pytest.approx(0.72)
    assert mean["low"] == pytest.approx(0.72 - 0.04968, abs=1e-5)
    assert mean["high"] == pytest.approx(0.72 + 0.04968, abs=1e-5)
    assert (mean["from"], mean["to"], mean["seeds"]) == (mean["low"], mean["high"], 3)
    assert sorted(row["value"] for row in drawn if "seed" in row) == [0.70, 0.72, 0.74]


def test_an_interval_beyond_1_is_drawn_up_to_1_and_kept_whole_in_the_data() -> None:
    """0.98, 1.00: mean 0.99, t(0.975, 1) = 12.706, half width 12.706 · 0.01 = 0.12706."""
    made = [
        {"start": "a", "arm": "human", "size": 10, "seed": seed, "panel": "general", "value": value}
        for seed, value in enumerate([0.98, 1.0])
    ]
    chart = draw(made, PANELS, title="t", margin=0.03).to_dict()
    (mean,) = [row for row in data_rows(chart) if "low" in row]
    assert mean["high"] == pytest.approx(0.99 + 0.12706, abs=1e-5)
    assert mean["to"] == 1.0
    assert "Bars are cut at 0 and 1." in " ".join(chart["title"]["subtitle"])


def test_one_seed_has_no_interval_and_says_so() -> None:
    chart = draw(rows(["a"], ["human"], [10], 1), PANELS, title="t", margin=0.03).to_dict()
    assert all(row["low"] is None and row["high"] is None for row in data_rows(chart) if "low" in row)
    assert "no interval can be given" in " ".join(chart["title"]["subtitle"])


def test_the_start_is_a_line_at_its_mean_with_the_range_of_its_seeds() -> None:
    made = [
        {"start": "a", "arm": "start", "size": 0, "seed": seed, "panel": "general", "value": value}
        for seed, value in enumerate([0.5, 0.6, 0.7])
    ]
    (span,) = draw(made, PANELS, title="t", margin=0.03).to_dict()["datasets"]["means"]
    assert span["value"] == pytest.approx(0.6)
    assert (span["lowest"], span["highest"]) == (0.5, 0.7)


def test_no_two_models_of_a_panel_stand_at_one_place() -> None:
    made = rows(["a"], ["human", "synthetic", "biased"], [600, 1800], 5, panels=PANELS[:1])
    drawn = data_rows(draw(made, PANELS[:1], title="t", margin=0.03).to_dict())
    places = [row["x"] for row in drawn if "seed" in row or "low" in row]
    assert len(places) == len(set(places)) == 7 * 5 + 7


def test_chance_is_a_line_only_where_it_is_known() -> None:
    kinds = [PanelRow("general", "General task", None)]
    made = rows(["a"], ["human"], [10], 1, panels=kinds)
    chart = draw(made, kinds, title="t", margin=0.03).to_dict()
    assert "chance" not in " ".join(chart["title"]["subtitle"])
    with_chance = [PanelRow("general", "General task", 0.25)]
    assert "chance" in " ".join(draw(made, with_chance, title="t", margin=0.03).to_dict()["title"]["subtitle"])


def test_the_subtitle_tells_seeds_margin_and_what_is_missing() -> None:
    made = rows(["a"], ["human"], [10, 20], 3)
    made[-1]["value"] = float("nan")
    cells, missing = cells_of(made, PANELS)
    said = " ".join(explain(cells, PANELS, 0.03, missing))
    assert "mean over 2 to 3 seeds" in said
    assert "0.03" in said
    assert "1 missing value is not shown." in said


def test_sizes_stand_on_a_log_scale_unless_that_crowds_them() -> None:
    assert places_of([10, 100]) == {10: 1.0, 100: 2.0}
    assert places_of([100, 1000, 10000]) == {100: 1.0, 1000: 2.0, 10000: 3.0}
    assert places_of([18000, 36000, 73000])[36000] == pytest.approx(1 + 2 * math.log(2) / math.log(73 / 18), abs=1e-6)
    assert places_of([1000, 1001, 90000]) == {1000: 1.0, 1001: 2.0, 90000: 3.0}


def test_every_size_is_named_on_the_axis() -> None:
    """The position of 36k is not a short number, so its label must be found by its exact value."""
    made = rows(["a"], ["human"], [18000, 36000, 73000], 1)
    axis = panels_of(draw(made, PANELS, title="t", margin=0.03).to_dict())[-1]["layer"][-1]["encoding"]["x"]["axis"]
    for place, label in zip(axis["values"], ["start", "18k", "36k", "73k"], strict=True):
        assert f"datum.value === {place!r} ? '{label}'" in axis["labelExpr"]


def test_short_names_of_sizes() -> None:
    assert [shorten(size) for size in (5, 600, 1800, 36000, 391722, 1_500_000)] == [
        "5",
        "600",
        "1.8k",
        "36k",
        "392k",
        "1.5M",
    ]
    assert tick_labels([36010, 36020]) == ["36,010", "36,020"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Any) -> None:
    made = rows(["a", "b"], ["human", "synthetic"], [10, 20], 2)
    first, second = (
        save(draw(made, PANELS, title="t", margin=0.03), tmp_path / name, "figure", spec=True)
        for name in ("one", "two")
    )
    assert [path.name for path in first] == ["figure.svg", "figure.png", "figure.vl.json"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_files_are_what_they_say_and_names_are_escaped(tmp_path: Any) -> None:
    made = rows(["<i>start"], ["<b>&", "quote\"'"], [10], 2)
    svg, png, spec = save(draw(made, PANELS, title="<script>", margin=0.03), tmp_path, "figure", spec=True)
    text = svg.read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;" in text
    assert "&lt;i&gt;start" in text
    assert "<b>" not in text
    assert "<script" not in text
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert json.loads(spec.read_bytes())["$schema"].startswith("https://vega.github.io/schema/vega-lite/")


def test_a_start_without_a_panel_is_drawn_empty(tmp_path: Any) -> None:
    made = [row for row in rows(["a", "b"], ["human"], [10], 2) if (row["start"], row["panel"]) != ("b", "general")]
    chart = draw(made, PANELS, title="t", margin=0.03)
    assert len(panels_of(chart.to_dict())) == 4
    assert save(chart, tmp_path, "figure")[1].stat().st_size > 1000


def test_without_a_start_model_there_is_no_place_for_it() -> None:
    made = [row for row in rows(["a"], ["human"], [10], 2) if row["arm"] != "start"]
    chart = draw(made, PANELS, title="t", margin=0.03).to_dict()
    assert "start" not in legend_scales(chart)[0]
    assert "Dashed" not in " ".join(chart["title"]["subtitle"])


@pytest.mark.parametrize(
    "made",
    [
        [],
        [{"start": "a", "arm": "human", "size": 1, "seed": 0, "panel": "elsewhere", "value": 0.5}],
        [{"start": "a", "arm": "human", "size": 1, "seed": 0, "panel": "general", "value": float("nan")}],
        [{"start": "a", "arm": "human", "size": 1, "seed": 0, "panel": "general", "value": None}],
    ],
)
def test_nothing_to_draw_is_a_user_error(made: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="nothing to draw"):
        draw(made, PANELS, title="t", margin=0.03)
    with pytest.raises(UserError, match="nothing to draw"):
        alt_text(made, PANELS)


def test_percentages_and_doubles_are_refused() -> None:
    row = {"start": "a", "arm": "human", "size": 1, "seed": 0, "panel": "general", "value": 72.0}
    with pytest.raises(UserError, match="outside 0 to 1"):
        draw([row], PANELS, title="t", margin=0.03)
    row["value"] = 0.72
    with pytest.raises(UserError, match="two values"):
        draw([row, row], PANELS, title="t", margin=0.03)


def test_the_alternative_text_has_the_numbers() -> None:
    made = [
        {"start": "plain", "arm": arm, "size": size, "seed": seed, "panel": "general", "value": value}
        for arm, size, values in [
            ("start", 0, [0.5, 0.5, 0.5]),
            ("human", 600, [0.1, 0.2, 0.3]),
            ("human", 1800, [0.70, 0.72, 0.74]),
        ]
        for seed, value in enumerate(values)
    ]
    text = alt_text(made, PANELS)
    assert "\n" not in text
    assert "1 start and 1 arm (human), 3 training seeds" in text
    assert (
        "General task: accuracy (chance 0.333): start plain: start model 0.500, "
        "human with 1,800 rows 0.720 [0.670, 0.770]." in text
    )
    assert "Blind spot: accuracy (chance 0.500): start plain: no value." in text
