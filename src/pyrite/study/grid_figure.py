"""A study's figure: how accurate is every model, on the general task and in its blind spots?

One column of panels for each start, one row for each kind of panel. `draw` takes plain rows, and its chart carries
the numbers that it shows, so that the figure can be checked and drawn again from the Vega-Lite file alone.
Altair and vl-convert are imported when something is drawn.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pyrite.charts import OKABE_ITO, PRINTED, Palette, themed
from pyrite.errors import UserError
from pyrite.records import Estimate
from pyrite.stats import t_interval

START = "start"
"""The arm name of the start model itself (size 0)."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")

START_SHAPE = "M-1.3,0L1.3,0"

MAX_WIDTH = 1100  # pixels, all panels of a line with their axis
AXIS_WIDTH = 58  # pixels, left of the first panel
GAP = 14  # pixels between panels of a line
CHARACTER = 6.2  # pixels, the width of an average character at 11 points
MAX_SLOT = 26  # pixels that an arm takes at a size, at most
Y_DOMAIN = (-0.04, 1.04)  # room for markers at 0 and 1
CLUSTER = 0.76  # share of the room between two sizes that the arms of one size spread over


@dataclass(frozen=True)
class PanelRow:
    """One row of panels: `name` is what results call it; `chance` is the accuracy of guessing, None for no line."""

    name: str
    title: str
    chance: float | None


@dataclass(frozen=True)
class Cell:
    """One start, arm and size in one panel, with the value of every seed and their mean over seeds."""

    start: str
    arm: str
    size: int
    panel: str
    seeds: Mapping[int, float]
    mean: Estimate


@dataclass(frozen=True)
class Layout:
    """Where things go: positions on the x axis (the start's is 0) and the size of a panel, in pixels."""

    starts: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    places: Mapping[int, float]
    slot: float
    has_start: bool
    columns: int
    width: int
    height: int
    palette: Palette = PRINTED

    @property
    def x_domain(self) -> tuple[float, float]:
        """From half a size before the first position to half a size after the last."""
        return (-0.5 if self.has_start else 0.5, max(self.places.values(), default=0.0) + 0.5)

    @property
    def total_width(self) -> int:
        """Of a line of panels with their axis."""
        return AXIS_WIDTH + self.columns * self.width + (self.columns - 1) * GAP

    @property
    def marker(self) -> float:
        """Area of a mean's marker, square pixels, so that it leaves room for the seeds beside it."""
        left, right = self.x_domain
        return round(min(40.0, max(16.0, (0.64 * self.slot * self.width / (right - left)) ** 2)), 1)

    @property
    def legend_columns(self) -> int:
        """How many names fit into a line of the legend."""
        longest = max(len(arm) for arm in (START, *self.arms))
        names = len(self.arms) + self.has_start
        fit = max(1, min(names, int(self.total_width / (longest * 6.6 + 34))))
        return math.ceil(names / math.ceil(names / fit))

    def x_of(self, arm: str, size: int) -> float:
        """The middle of an arm's slot at a size."""
        if arm == START:
            return 0.0
        return self.places[size] + (self.arms.index(arm) - (len(self.arms) - 1) / 2) * self.slot

    def shift(self, seed: int | None) -> float:
        """How far a seed's point, or the mean (None), stands from the middle of its slot: points left, mean right."""
        if len(self.seeds) < 2:
            return 0.0
        if seed is None:
            return 0.25 * self.slot
        return (-0.5 + 0.35 * self.seeds.index(seed) / (len(self.seeds) - 1)) * self.slot


def style_of(arms: Sequence[str], colours: Sequence[str] = OKABE_ITO) -> dict[str, tuple[str, str]]:
    """Which colour and shape has each arm? Both differ for eight arms; their pairs still do for sixty-four.

    >>> style_of(["human", "synthetic"])
    {'human': ('#0072B2', 'circle'), 'synthetic': ('#D55E00', 'square')}
    """
    n = len(colours)
    return {arm: (colours[i % n], SHAPES[(i + i // n) % n]) for i, arm in enumerate(arms)}


def panel_table(rows: Sequence[Mapping[str, Any]], panels: Sequence[PanelRow]) -> list[dict[str, Any]]:
    """What `draw` draws, as one table: every model's value in every panel, with the panel's title and chance."""
    order = {panel.name: (at, panel) for at, panel in enumerate(panels)}
    table = []
    for row in sorted(rows, key=lambda row: order[row["panel"]][0]):
        panel = order[row["panel"]][1]
        table.append({**row, "title": panel.title, "chance": panel.chance})
    return table


def panels_in(table: Sequence[Mapping[str, Any]]) -> list[PanelRow]:
    """The panels of such a table, in order."""
    return list(dict.fromkeys(PanelRow(row["panel"], row["title"], row["chance"]) for row in table))


def cells_of(results: Sequence[Mapping[str, Any]], panels: Sequence[PanelRow]) -> tuple[list[Cell], int]:
    """The cells in the order of the results, and how many values are missing (NaN); rows of other panels are left out.

    Raises:
        UserError: nothing to draw, a value outside 0–1, or the same model twice.
    """
    names = [panel.name for panel in panels]
    values: dict[tuple[str, str, int, str], dict[int, float]] = {}
    missing = 0
    for row in results:
        if row["panel"] not in names:
            continue
        key, seed, value = (row["start"], row["arm"], row["size"], row["panel"]), row["seed"], row["value"]
        model = f"start {key[0]}, arm {key[1]}, size {key[2]}, seed {seed}, panel {key[3]}"
        if value is None or math.isnan(value):
            missing += 1
            continue
        if not 0 <= value <= 1:
            raise UserError("An accuracy is outside 0 to 1.", f"{value} at {model}", "Pass fractions, not percentages.")
        if seed in values.setdefault(key, {}):
            raise UserError("A model has two values in one panel.", model, "Pass one row for each model and panel.")
        values[key][seed] = float(value)
    if not values:
        detail = f"{len(results)} rows, {missing} without a value, none with one for {', '.join(names) or 'no panel'}"
        raise UserError(
            "There is nothing to draw.", detail, "Check that the study has finished cells and these probes."
        )
    cells = [Cell(*key, seeds, t_interval([seeds[s] for s in sorted(seeds)])) for key, seeds in values.items()]
    return cells, missing


def draw(
    results: Sequence[Mapping[str, Any]],
    panels: Sequence[PanelRow],
    *,
    title: str,
    margin: float,
    palette: Palette = PRINTED,
) -> Any:
    """How accurate is every model: an Altair chart of all starts, arms, sizes and seeds.

    `results` has one row for each model and panel: `start`, `arm` ("start" for the start model itself, of size 0),
    `size` (training rows), `seed`, `panel` (a `PanelRow.name`) and `value` (accuracy, fraction 0–1; NaN or None where
    there is none). `margin` is the difference that does not matter (fraction 0–1).

    Raises:
        UserError: nothing to draw, a value outside 0–1, or the same model twice.
    """
    import altair as alt

    cells, missing = cells_of(results, panels)
    layout = lay_out(cells, len(panels), palette)
    blocks = []
    for first in range(0, len(layout.starts), layout.columns):
        starts = layout.starts[first : first + layout.columns]
        blocks.append(alt.vconcat(*(panel_row(row, panels, starts, layout) for row in range(len(panels))), spacing=12))
    heading = alt.TitleParams(
        text=wrap(title, layout.total_width, 8.5),
        subtitle=wrap(" ".join(explain(cells, panels, margin, missing)), layout.total_width, 5.7),
        anchor="start",
        offset=14,
    )
    config = themed(
        palette,
        title={"fontSize": 15, "subtitleFontSize": 11, "subtitlePadding": 6, "subtitleLineHeight": 15},
        axis={"labelFontSize": 10, "titleFontSize": 11, "titleFontWeight": "normal"},
    )
    names = [panel.name for panel in panels]
    datasets = {
        "means": [mean_row(cell, names, layout) for cell in cells],
        "seeds": [row for cell in cells for row in seed_rows(cell, names, layout)],
    }
    return alt.vconcat(
        *blocks, spacing=28, title=heading, background=palette.panel, padding=12, config=config, datasets=datasets
    )


def lay_out(cells: Sequence[Cell], n_rows: int, palette: Palette = PRINTED) -> Layout:
    """Where do the panels and the arms in them go, so that nothing covers anything?"""
    starts = tuple(dict.fromkeys(cell.start for cell in cells))
    arms = tuple(dict.fromkeys(cell.arm for cell in cells if cell.arm != START))
    seeds = tuple(sorted({seed for cell in cells for seed in cell.seeds}))
    has_start = any(cell.arm == START for cell in cells)
    places = places_of(sorted({cell.size for cell in cells if cell.arm != START}))
    at = sorted(places.values())
    closest = min((b - a for a, b in pairwise(at)), default=1.0)
    slot = CLUSTER * closest / max(len(arms), 1)
    positions = len(places) + has_start
    narrowest = math.ceil(positions * max(30.0, (6.0 if len(seeds) < 2 else 7.5) / slot))
    room = MAX_WIDTH - AXIS_WIDTH
    fit = max(1, (room + GAP) // (narrowest + GAP))
    lines = math.ceil(len(starts) / fit)
    columns = math.ceil(len(starts) / lines)
    width = min((room - (columns - 1) * GAP) // columns, max(narrowest, 420))
    slot = min(slot, MAX_SLOT * positions / width)
    height = {1: 240, 2: 190}.get(n_rows, 155)
    return Layout(starts, arms, seeds, places, slot, has_start, columns, width, height, palette)


def places_of(sizes: Sequence[int]) -> dict[int, float]:
    """Where does each size stand on the axis? From 1 to their number, on a log scale; evenly where that crowds them.

    >>> places_of([1000, 2000, 4000])
    {1000: 1.0, 2000: 2.0, 4000: 3.0}
    >>> places_of([1000, 1100, 90000])
    {1000: 1.0, 1100: 2.0, 90000: 3.0}
    """
    evenly = {size: 1.0 + i for i, size in enumerate(sizes)}
    if len(sizes) < 3 or sizes[0] <= 0:
        return evenly
    log_range = math.log(sizes[-1] / sizes[0])
    places = {size: round(1 + (len(sizes) - 1) * math.log(size / sizes[0]) / log_range, 6) for size in sizes}
    at = list(places.values())
    return places if min(b - a for a, b in pairwise(at)) >= 0.7 else evenly


def tick_labels(sizes: Sequence[int]) -> list[str]:
    """Short names of sizes, or full ones where short ones would be the same.

    >>> tick_labels([600, 1800, 36000]), tick_labels([36010, 36020])
    (['600', '1.8k', '36k'], ['36,010', '36,020'])
    """
    short = [shorten(size) for size in sizes]
    return short if len(set(short)) == len(short) else [f"{size:,}" for size in sizes]


def shorten(size: int) -> str:
    """36,000 as 36k."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if size >= unit:
            return f"{size / unit:.0f}{letter}" if size >= 100 * unit else f"{size / unit:.3g}{letter}"
    return str(size)


def panel_row(row: int, panels: Sequence[PanelRow], starts: Sequence[str], layout: Layout) -> Any:
    """One kind of panel for the starts of a line; the first row names the starts, the last has the sizes."""
    import altair as alt

    charts = []
    for start in starts:
        named = {}
        if row == 0:
            text = wrap(f"start: {start}", layout.width)
            named["title"] = alt.TitleParams(text=text, fontSize=11, fontWeight="normal", anchor="middle", offset=5)
        layers = panel_layers(
            f"datum.row === {row} && datum.column === {layout.starts.index(start)}",
            panels[row].chance,
            layout,
            x_axis=x_axis(layout, is_shown=row == len(panels) - 1),
            y_axis=y_axis(is_shown=start == starts[0]),
        )
        charts.append(alt.layer(*layers, width=layout.width, height=layout.height, **named))
    text = wrap(panels[row].title, layout.total_width, 7.0)
    return alt.hconcat(*charts, spacing=GAP, title=alt.TitleParams(text=text, fontSize=12, anchor="start", offset=4))


def panel_layers(panel_condition: str, chance: float | None, layout: Layout, *, x_axis: Any, y_axis: Any) -> list[Any]:
    """What is drawn, from back to front: chance, the start and its range, lines, every seed, bars, means.

    `panel_condition` is the condition that picks a panel's rows out of the two tables, `means` and `seeds`.
    """
    import altair as alt

    means, seeds = (alt.Chart(alt.NamedData(name)).transform_filter(panel_condition) for name in ("means", "seeds"))
    colour, shape = arm_encodings(layout)
    x = alt.X("x:Q", axis=x_axis, scale=alt.Scale(domain=layout.x_domain, nice=False, zero=False))
    y_scale = alt.Scale(domain=Y_DOMAIN, nice=False)
    y, lowest, low = (alt.Y(f"{field}:Q", axis=y_axis, scale=y_scale) for field in ("value", "lowest", "from"))
    across = {"x": alt.value(0), "x2": alt.value("width")}
    outline = alt.condition("datum.size > 0", alt.value(0.4), alt.value(2.5))
    layers = []
    if chance is not None:
        rule = alt.Chart(alt.InlineData(values=[{"chance": chance}])).mark_rule(
            color=layout.palette.line, strokeWidth=1
        )
        layers.append(rule.encode(y=alt.Y("chance:Q", axis=y_axis, scale=y_scale), **across))
    if layout.has_start:
        start = means.transform_filter("datum.size === 0")
        band = start.mark_rect(color=layout.palette.muted, opacity=0.1)
        rule = start.mark_rule(color=layout.palette.muted, strokeDash=[4, 3], strokeWidth=1.2)
        layers += [band.encode(y=lowest, y2="highest:Q", **across), rule.encode(y=y, **across)]
    line = means.transform_filter("datum.size > 0").mark_line(strokeWidth=1.3, opacity=0.75)
    bar = means.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.3)
    marker = means.mark_point(size=layout.marker, filled=True, opacity=1, stroke=layout.palette.muted)
    return [
        *layers,
        line.encode(x=x, y=y, color=colour),
        seeds.mark_circle(size=13, opacity=0.5).encode(x=x, y=y, color=colour),
        bar.encode(x=x, y=low, y2="to:Q", color=colour),
        marker.encode(x=x, y=y, color=colour, shape=shape, strokeWidth=outline),
    ]


def arm_encodings(layout: Layout) -> tuple[Any, Any]:
    """Colour and shape of the arms, with one legend for both."""
    import altair as alt

    styles = {START: (layout.palette.muted, START_SHAPE)} if layout.has_start else {}
    styles |= style_of(layout.arms, layout.palette.series)
    legend = alt.Legend(
        title=None,
        orient="top",
        direction="horizontal",
        columns=layout.legend_columns,
        labelFontSize=12,
        labelLimit=layout.total_width - 40,
        symbolSize=70,
        symbolStrokeWidth=2,
        symbolOpacity=1,
    )
    colours, shapes = (alt.Scale(domain=list(styles), range=list(kind)) for kind in zip(*styles.values(), strict=True))
    return alt.Color("arm:N", legend=legend, scale=colours), alt.Shape("arm:N", legend=legend, scale=shapes)


def x_axis(layout: Layout, *, is_shown: bool) -> Any:
    """The axis of sizes, with the start left of them."""
    import altair as alt

    sizes = sorted(layout.places)
    ticks = {layout.places[size]: label for size, label in zip(sizes, tick_labels(sizes), strict=True)}
    if layout.has_start:
        ticks = {0.0: "start"} | ticks
    return alt.Axis(
        title=wrap("training rows in the arm", layout.width) if is_shown else None,
        values=list(ticks),
        labelExpr=" : ".join(f"datum.value === {place!r} ? '{label}'" for place, label in ticks.items()) + " : ''",
        labels=is_shown,
        ticks=is_shown,
        grid=False,
        labelOverlap=False,
        labelAngle=0,
    )


def y_axis(*, is_shown: bool) -> Any:
    """The axis of accuracy."""
    import altair as alt

    title = "accuracy" if is_shown else None
    return alt.Axis(title=title, labels=is_shown, ticks=is_shown, values=[0, 0.25, 0.5, 0.75, 1], format=".2f")


def mean_row(cell: Cell, panels: Sequence[str], layout: Layout) -> dict[str, Any]:
    """The mean of a cell with its interval (`from` and `to`: as drawn, cut at 0 and 1), and where it stands."""
    low, high = cell.mean.low, cell.mean.high
    return place_of(cell, panels, layout, None) | {
        "seeds": len(cell.seeds),
        "value": cell.mean.value,
        "low": low,
        "high": high,
        "from": None if low is None else max(low, 0.0),
        "to": None if high is None else min(high, 1.0),
        "lowest": min(cell.seeds.values()),
        "highest": max(cell.seeds.values()),
    }


def seed_rows(cell: Cell, panels: Sequence[str], layout: Layout) -> list[dict[str, Any]]:
    """The models of a cell, and where they stand."""
    return [
        place_of(cell, panels, layout, seed) | {"seed": seed, "value": value}
        for seed, value in sorted(cell.seeds.items())
    ]


def place_of(cell: Cell, panels: Sequence[str], layout: Layout, seed: int | None) -> dict[str, Any]:
    """Which cell this is, in which panel (row and column) it stands, and where in it."""
    return {
        "panel": cell.panel,
        "start": cell.start,
        "arm": cell.arm,
        "size": cell.size,
        "row": panels.index(cell.panel),
        "column": layout.starts.index(cell.start),
        "x": round(layout.x_of(cell.arm, cell.size) + layout.shift(seed), 4),
    }


def explain(cells: Sequence[Cell], panels: Sequence[PanelRow], margin: float, missing: int) -> list[str]:
    """The sentences that say what a point, a line and a bar are."""
    counts = sorted({len(cell.seeds) for cell in cells})
    has_start = any(cell.arm == START for cell in cells)
    lines = "; lines join the sizes of an arm" if len({cell.size for cell in cells if cell.arm != START}) > 1 else ""
    if counts == [1]:
        sentences = [f"One training seed in each cell: each marker is one model, and no interval can be given{lines}."]
    else:
        number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        sentences = [
            f"Small point: one model (one training seed). Large marker: mean over {number} seeds{lines}.",
            "Bar: 95 % t interval over seeds, where longer than the marker.",
        ]
    bars = [edge for cell in cells for edge in (cell.mean.low, cell.mean.high) if edge is not None]
    if bars and not 0 <= min(bars) <= max(bars) <= 1:
        sentences.append("Bars are cut at 0 and 1.")
    if has_start:
        sentences.append(
            "Dashed line: the start" + ("." if counts == [1] else " (mean), its band the range over seeds.")
        )
    if any(panel.chance is not None for panel in panels):
        sentences.append("Thin grey line: chance.")
    sentences.append(f"Differences below {margin:g} do not matter here (the margin).")
    if missing:
        sentences.append(f"{missing} missing {'value is' if missing == 1 else 'values are'} not shown.")
    return sentences


def alt_text(results: Sequence[Mapping[str, Any]], panels: Sequence[PanelRow]) -> str:
    """What does the figure show, for someone who cannot see it? One paragraph with the numbers that matter.

    Raises:
        UserError: as `draw`.
    """
    cells, missing = cells_of(results, panels)
    starts = list(dict.fromkeys(cell.start for cell in cells))
    arms = [arm for arm in dict.fromkeys(cell.arm for cell in cells) if arm != START]
    seeds = len({seed for cell in cells for seed in cell.seeds})
    sentences = [
        f"Accuracy of {counted(len(starts), 'start')} and {counted(len(arms), 'arm')} ({', '.join(arms)}), "
        f"{counted(seeds, 'training seed')}; numbers are "
        + ("single models" if seeds == 1 else "means over seeds with their 95 % t interval")
        + ", each arm at its largest size."
    ]
    for panel in panels:
        chance = "" if panel.chance is None else f" (chance {panel.chance:.3f})"
        parts = []
        for start in starts:
            panel_cells = [cell for cell in cells if cell.panel == panel.name and cell.start == start]
            values = [f"start model {in_words(cell.mean)}" for cell in panel_cells if cell.arm == START]
            for arm in arms:
                largest = max(
                    (cell for cell in panel_cells if cell.arm == arm), key=lambda cell: cell.size, default=None
                )
                if largest is not None:
                    values.append(f"{arm} with {largest.size:,} rows {in_words(largest.mean)}")
            parts.append(f"start {start}: {', '.join(values) or 'no value'}")
        sentences.append(f"{panel.title}{chance}: {'; '.join(parts)}.")
    if missing:
        sentences.append(f"{counted(missing, 'value')} missing.")
    return " ".join(" ".join(sentences).split())


def counted(n: int, what: str) -> str:
    """'1 seed', '2 seeds'."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def in_words(mean: Estimate) -> str:
    """'0.720 [0.670, 0.770]', or the value alone where there is no interval."""
    return f"{mean.value:.3f}" + ("" if mean.low is None else f" [{mean.low:.3f}, {mean.high:.3f}]")


def wrap(text: str, width: float, character: float = CHARACTER) -> list[str]:
    """Text in lines that fit so many pixels."""
    return textwrap.wrap(text, max(8, int(width / character))) or [""]
