"""A study's tables: results (one model a row), summary over seeds, items, predictions; and the summary to compute with.

Rows name their cell by `start`, `arm` and `size` where the study is written so, else by `cell`; all tables of a study have
the same columns for that. Shares are fractions.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyrite.probe.result import slice_title
from pyrite.records import Estimate
from pyrite.runs import read_results
from pyrite.stats import answered_by_both, paired_t, t_interval
from pyrite.study.cells import CellKey
from pyrite.study.contrasts import Answer
from pyrite.study.scores import Array, Scores, number_or_none, over_items, reference_of, within
from pyrite.study.spec import StudySpec
from pyrite.study.spec_steps import START_ROWS
from pyrite.tasks.scoring import Metric, mean, note, slice_places

if TYPE_CHECKING:
    import altair
    import polars

    from pyrite.charts import Palette

PANELS = "panels.parquet"
"""The numbers of a figure of starts × arms × sizes, in a run folder's results."""
INTERVALS = ("", "_low", "_high", "_items_low", "_items_high")
"""Of a difference: itself, its interval over seeds, and that over items of these models."""


def cell_columns(cell: CellKey, spec: StudySpec) -> dict[str, Any]:
    """The columns that name a cell."""
    return {"start": cell.start, "arm": cell.name, "size": cell.size} if spec.has_grid else {"cell": cell.name}


def results_table(results: Iterable[Scores], spec: StudySpec) -> list[dict[str, Any]]:
    """One row for each model, probe, metric and slice, with the interval of that one model over items: of clusters (a
    template, a prompt) where items share one, Wilson's where they share nothing."""
    table = []
    for model in results:
        for values, members in slice_places([item.slices for item in model.items], known_cuts(model)):
            items = [model.items[at] for at in members]
            estimate = mean(items, model.metric, grouped=model.grouped, seed=0, cluster=model.cluster)
            table.append(
                {
                    **cell_columns(model.cell, spec),
                    "seed": model.seed,
                    "probe": model.probe,
                    "metric": model.metric.name,
                    **slice_title(values),
                    "scale": model.metric.scale,
                    "direction": model.metric.direction,
                    "value": number_or_none(estimate.value),
                    "low": estimate.low,
                    "high": estimate.high,
                    "n": estimate.n,
                    "n_missing": estimate.n_missing,
                    "method": estimate.method,
                    "interval": note(estimate, model.cluster),
                }
            )
    return table


def known_cuts(model: Scores) -> tuple[tuple[str, ...], ...]:
    """The slices whose columns some item has."""
    columns = {column for item in model.items for column in item.slices}
    return tuple(columns_ for columns_ in model.cuts if set(columns_) <= columns)


def items_table(results: Iterable[Scores], spec: StudySpec) -> list[dict[str, Any]]:
    """One row for each model, probe, metric and item whose answer is no label; no value where there was no answer."""
    return [
        {
            **cell_columns(model.cell, spec),
            "seed": model.seed,
            "probe": model.probe,
            "metric": model.metric.name,
            "item": item.item,
            "value": None if item.value is None else float(item.value),
            "weight": float(item.weight),
        }
        for model in results
        if model.label_probe is None
        for item in model.items
    ]


def prediction_rows(results: Iterable[Scores], spec: StudySpec) -> list[dict[str, Any]]:
    """One row for each model and item whose answer is a label: the right one, the model's, and whether it was right."""
    rows = []
    for model in results:
        if not model.is_headline_metric or model.label_probe is None:
            continue
        for item, score, predicted in zip(model.label_probe.items, model.items, model.predicted, strict=True):
            rows.append(
                {
                    **cell_columns(model.cell, spec),
                    "seed": model.seed,
                    "probe": model.probe,
                    "id": item.id,
                    "gold": item.label,
                    "predicted": predicted,
                    "correct": None if score.value is None else bool(score.value),
                }
            )
    return rows


@dataclass(frozen=True)
class Aligned:
    """All models of one probe and metric on the same items: by cell and seed each item's value and weight [items], the
    scores themselves, and the slices as positions of items."""

    metric: Metric
    values: Mapping[CellKey, Mapping[int, Array]]
    weights: Mapping[CellKey, Mapping[int, Array]]
    models: Mapping[CellKey, Mapping[int, Scores]]
    slices: Sequence[tuple[dict[str, Any], list[int]]]


def aligned_models(models: Sequence[Scores]) -> Aligned:
    """The models of one probe and metric, items found by name."""
    place = {name: at for at, name in enumerate(dict.fromkeys(item.item for model in models for item in model.items))}
    first: dict[str, Mapping[str, str]] = {}
    values: dict[CellKey, dict[int, Array]] = defaultdict(dict)
    weights: dict[CellKey, dict[int, Array]] = defaultdict(dict)
    by_cell: dict[CellKey, dict[int, Scores]] = defaultdict(dict)
    for model in models:
        at = [place[item.item] for item in model.items]
        row, weight = np.full(len(place), np.nan), np.ones(len(place))
        row[at], weight[at] = model.values, [item.weight for item in model.items]
        values[model.cell][model.seed], weights[model.cell][model.seed] = row, weight
        by_cell[model.cell][model.seed] = model
        for item in model.items:
            first.setdefault(item.item, item.slices)
    cuts = slice_places([first[name] for name in place], known_cuts(models[0]))
    named = [(slice_title(columns), members) for columns, members in cuts]
    return Aligned(models[0].metric, values, weights, by_cell, named)


def summary_table(results: Sequence[Scores], spec: StudySpec) -> list[dict[str, Any]]:
    """One row for each cell, probe, metric and slice: the mean over seeds with its t interval, and the difference to each
    reference cell within seeds, over the items that both answered in every seed, with a t interval over seeds; for cells
    that are not a grid, over all items, also with the interval over items of these models. All exploratory."""
    by_metric: dict[tuple[str, str], list[Scores]] = defaultdict(list)
    for model in results:
        if model.known:
            by_metric[model.probe, model.metric.name].append(model)
    rows: dict[CellKey, list[dict[str, Any]]] = {model.cell: [] for model in results}
    for (probe, metric), models in by_metric.items():
        table = aligned_models(models)
        for cell in table.values:
            for number_of_slice, (title, members) in enumerate(table.slices):
                row = {**cell_columns(cell, spec), "probe": probe, "metric": metric, **title}
                line = summary_line(table, cell, members, spec, items=number_of_slice == 0 and not spec.has_grid)
                if line is not None:
                    rows[cell].append(row | line)
    return [row for cell_rows in rows.values() for row in cell_rows]


def contrast_rows(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """One row for each contrast between cells and seed, and one for the seeds together: difference, interval, over what."""
    rows = []
    for answer in answers:
        about = {"cell": answer.contrast.about, "against": answer.contrast.against, "probe": answer.contrast.probe}
        lines: list[tuple[str, str, Estimate]] = [
            (str(seed), "items", estimate) for seed, estimate in zip(answer.seeds, answer.items_per_seed, strict=False)
        ]
        lines += [("all", "items", answer.items)] if answer.items is not None else []
        lines += [("all", "seeds", answer.judgement.difference)]
        for seed, over, estimate in lines:
            low, high = within(estimate, answer.metric or Metric("share"), -1.0)
            interval = {"difference": number_or_none(estimate.value), "low": low, "high": high, "n": estimate.n}
            verdict = answer.judgement.verdict.value if over == "seeds" else ""
            rows.append({**about, "seed": seed, "over": over, **interval, "verdict": verdict})
    return rows


def references_of(cell: CellKey, spec: StudySpec) -> dict[str, CellKey]:
    """The cells that a cell is compared with in the tables, by the name of their columns."""
    if spec.has_grid:
        return {"start": CellKey(START_ROWS, cell.start), "human": CellKey(spec.human_arm, cell.start, cell.size)}
    return {name: reference_of(cell, name) for name in spec.references()}


def summary_line(
    table: Aligned, cell: CellKey, members: list[int], spec: StudySpec, *, items: bool
) -> dict[str, Any] | None:
    """What the summary says of one cell on some items; None where no seed has an answer to any. `items`: differences also
    with the interval over items."""
    metric = table.metric
    each: dict[int, float] = {}
    for seed, row in sorted(table.values[cell].items()):
        value, weight = row[members], table.weights[cell][seed][members]
        is_measured = np.isfinite(value)
        if is_measured.any():
            each[seed] = float((value[is_measured] * weight[is_measured]).sum() / weight[is_measured].sum())
    if not each:
        return None
    average = t_interval(list(each.values()))
    low, high = within(average, metric, 0.0)
    first = table.values[cell][next(iter(each))][members]
    line: dict[str, Any] = {"scale": metric.scale, "direction": metric.direction, "n_seeds": len(each)}
    line |= {"n_items": int(np.isfinite(first).sum()), "mean": average.value, "low": low, "high": high}
    line["per_seed"] = " ".join(f"{value:.4f}" for value in each.values())
    for name, reference in references_of(cell, spec).items():
        line |= against(table, cell, reference, name, members, items=items, grid=spec.has_grid)
    return line


def against(
    table: Aligned, cell: CellKey, reference: CellKey, name: str, members: list[int], *, items: bool, grid: bool
) -> dict[str, float | None]:
    """The columns of one reference: the difference within seeds, with its intervals."""
    columns = [f"minus_{name}{end}" for end in (INTERVALS[:3] if grid else INTERVALS)]
    empty: dict[str, float | None] = dict.fromkeys(columns)
    seeds = sorted(table.values[cell].keys() & table.values.get(reference, {}).keys())
    if not seeds or reference == cell:
        return empty
    sides = [np.array([table.values[key][seed][members] for seed in seeds]) for key in (cell, reference)]
    weights = [np.array([table.weights[key][seed][members] for seed in seeds]) for key in (cell, reference)]
    both = answered_by_both(*sides, bounds=table.metric.bounds, a_weights=weights[0], b_weights=weights[1])
    if not both.items:
        return empty
    change = paired_t([float(value) for value in both.a - both.b])
    numbers: list[float | None] = [change.value, *within(change, table.metric, -1.0)]
    if items:
        ours, theirs = ([table.models[key][seed] for seed in seeds] for key in (cell, reference))
        numbers += within(over_items(ours, theirs), table.metric, -1.0)
    return empty | dict(zip(columns, numbers, strict=False))


# the summary as an object

GRID_COLUMNS = {
    "probe": "probe", "metric": "metric", "by": "slice_by", "name": "slice", "gold": "gold", "start": "start", "arm": "arm",
    "size": "size", "n_seeds": "seeds", "n_items": "items", "mean": "value", "low": "low", "high": "high",
    "minus_start": "against_start", "minus_start_low": "against_start_low", "minus_start_high": "against_start_high",
    "minus_human": "against_human_arm", "minus_human_low": "against_human_arm_low",
    "minus_human_high": "against_human_arm_high",
}  # fmt: skip
"""The summary's columns, and what a table calls them. Values are fractions, intervals 95 % t over seeds."""
CELL_COLUMNS = {"probe": "probe", "metric": "metric", "cell": "cell", "n_seeds": "seeds", "n_items": "items",
                "mean": "value", "low": "low", "high": "high"}  # fmt: skip


def is_overall(row: Mapping[str, Any]) -> bool:
    """Is this line of all items? Tables of older studies of cells have no other lines, and no columns for slices."""
    return bool(row.get("by", "overall") == "overall")


def is_headline(row: Mapping[str, Any], probe: Mapping[str, Any]) -> bool:
    """Is this row of a summary the headline of its probe (its plain values): of labels the headline slice's accuracy, else
    every metric over all items?"""
    headline = probe.get("headline") or {}
    if not headline:
        return is_overall(row) and bool(row["metric"] == "accuracy" or probe["task"] not in ("nli", "hans", "labelled"))
    gold = headline.get("gold")
    columns = " x ".join(column for column in headline if column != "gold") or "gold"
    names = " / ".join(value for column, value in headline.items() if column != "gold") or gold
    return bool(row["metric"] == "accuracy" and row["by"] == columns and row["name"] == names and row["gold"] == gold)


def shown_rows(rows: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a table that stand for a probe and metric where slices are not shown: of labels the headline slice's
    accuracy, of every other metric the line of all items. `spec` is the study's plain values."""
    return [
        row
        for row in rows
        if (
            is_headline(row, spec["probes"].get(row["probe"], {}))
            if row["metric"] == "accuracy" and spec["probes"].get(row["probe"], {}).get("headline")
            else is_overall(row)
        )
    ]


def headline_rows(summary: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a summary that are the headline of their probe."""
    probes = spec["probes"]
    return [row for row in summary if row["probe"] in probes and is_headline(row, probes[row["probe"]])]


def has_grid(spec: Mapping[str, Any]) -> bool:
    """Were the cells of a study (its plain values) written as starts × arms × sizes?"""
    return bool(spec.get("starts"))


def reference_cells(spec: Mapping[str, Any]) -> list[str]:
    """The cells that every cell of a study (its plain values) is compared with, where it is no grid."""
    named = spec["compare_with"]
    return [name for name in (("start", "damaged") if named is None else named) if name in spec["cells"]]


def table(summary: Sequence[Mapping[str, Any]], spec: Mapping[str, Any], *, slices: bool = False) -> "polars.DataFrame":
    """How does every cell stand, and how to the cells that it is compared with (its start and the human arm of its size, or
    the study's reference cells)?

    One row for each probe, metric and cell (and, with `slices`, slice): the mean over seeds, differences within seeds,
    their intervals, and `per_seed` in the order of the seeds.
    """
    import polars

    if has_grid(spec):
        columns = GRID_COLUMNS
        rows = list(summary) if slices else headline_rows(summary, spec)
    else:
        names = [f"{name}{end}" for name in reference_cells(spec) for end in INTERVALS]
        columns = CELL_COLUMNS | {f"minus_{name}": f"against_{name}" for name in names}
        rows = list(summary) if slices else [row for row in summary if is_overall(row)]
    lines = [
        {ours: row[theirs] for theirs, ours in columns.items()}
        | {"per_seed": [float(value) for value in row["per_seed"].split()]}
        for row in rows
    ]
    return polars.DataFrame(lines, infer_schema_length=None)


def panels(folder: Path) -> list[dict[str, Any]]:
    """The numbers of a grid's figure out of a run folder; none where the folder does not hold them.

    Raises:
        UserError: a file that is no whole table.
    """
    file = folder / "results" / PANELS
    return read_results(file, ()) if file.is_file() else []


def grid_figure(folder: Path, spec: Mapping[str, Any], palette: "Palette | None" = None) -> "altair.VConcatChart":
    """The panels of a study of starts × arms × sizes, from its run folder.

    Raises:
        UserError: the folder holds no values.
    """
    from pyrite.charts import PRINTED
    from pyrite.study.grid_figure import draw, panels_in

    rows = panels(folder)
    chart: altair.VConcatChart = draw(
        rows, panels_in(rows), title=spec["study"], margin=spec["margin"], palette=palette or PRINTED
    )
    return chart
