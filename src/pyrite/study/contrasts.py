"""From every model's answers to the study's tables and verdicts. Arms are compared within a seed.

`Scored` is one model on one probe; a study's results are a list of them. Everything here is arithmetic on that list.
"""

import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Estimate, Labelled
from pyrite.stats import (
    Answered,
    ContrastCell,
    Judgement,
    Share,
    answered_by_both,
    crossed_bootstrap,
    gap,
    judge_family,
    paired_t,
    t_interval,
)
from pyrite.stats.missing import too_many_missing
from pyrite.study.spec import ContrastSpec, StudySpec
from pyrite.tasks.score import Slice, Task, matching, right, score

START = "start"

Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""Which items of a probe, [items]."""


@dataclass(frozen=True)
class Scored:
    """One model's answers to one probe: `correct` [items] is 1, 0, or NaN where there is no answer."""

    start: str
    arm: str
    size: int
    seed: int
    probe: str
    slices: list[Slice]
    correct: np.ndarray[Any, Any]
    predicted: list[str | None]

    @property
    def cell(self) -> tuple[str, str, int]:
        """Which cell this is, whatever the seed."""
        return (self.start, self.arm, self.size)


@dataclass(frozen=True)
class Probe:
    """A probe's items and task, with the mask of its headline slice (the number that contrasts look at).

    `parts` divides the headline where the task asks for it (HANS: by heuristic), so that a part at the floor is seen.
    """

    name: str
    items: list[Labelled]
    task: Task
    headline: Mask
    headline_name: str
    parts: Mapping[str, Mask]

    @classmethod
    def make(cls, name: str, items: list[Labelled], task: Task, headline: Mapping[str, str]) -> "Probe":
        """A probe; `headline` maps columns to the values that an item of the headline slice has."""
        mask = np.array(matching(items, headline, task), dtype=bool)
        if not mask.any():
            raise UserError(
                "A probe's headline slice is empty.", f"{name}: no item has {dict(headline)}", "check headline"
            )
        strange = next((item for item in items if item.label not in {*task.labels, *task.merge}), None)
        if strange is not None:
            fix = f"use one of: {', '.join(sorted({*task.labels, *task.merge}))}"
            raise UserError("A probe's item has an unknown label.", f"{name}: {strange.id}: {strange.label!r}", fix)
        return cls(name, items, task, mask, ", ".join(headline.values()) or "overall", parts_of(items, task, mask))

    def golds(self, mask: Mask) -> dict[str, Mask]:
        """The items of a mask by gold label, as masks of the masked items."""
        labels = [str(self.task.answer(item.label)) for item, on in zip(self.items, mask, strict=True) if on]
        return {gold: np.array([label == gold for label in labels]) for gold in dict.fromkeys(labels)}


def parts_of(items: Sequence[Labelled], task: Task, headline: Mask) -> dict[str, Mask]:
    """The parts of a headline slice: one for each value of the task's column, where it holds one gold label and several
    such values; else all of it, under no name."""
    inside = [item for item, on in zip(items, headline, strict=True) if on]
    if task.headline_by is None or len({task.answer(item.label) for item in inside}) > 1:
        return {"": headline}
    values = dict.fromkeys(str(item.meta.get(task.headline_by)) for item in inside)
    if len(values) < 2:
        return {"": headline}
    return {value: headline & np.array(matching(items, {task.headline_by: value}), dtype=bool) for value in values}


def score_model(
    probe: Probe, predictions: Mapping[str, str | None], *, start: str, arm: str, size: int, seed: int
) -> Scored:
    """Score one model's answers to one probe."""
    said = [predictions.get(item.id) for item in probe.items]
    outcomes = [right(item, label, probe.task) for item, label in zip(probe.items, said, strict=True)]
    correct = np.array([np.nan if outcome is None else float(outcome) for outcome in outcomes])
    return Scored(start, arm, size, seed, probe.name, score(probe.items, predictions, probe.task), correct, said)


def headline(scored: Scored, probe: Probe) -> float:
    """The accuracy on the probe's headline slice."""
    return float(np.nanmean(scored.correct[probe.headline]))


def results_table(results: Sequence[Scored]) -> list[dict[str, Any]]:
    """The tidy table: one row for each model, probe, metric and slice, with the Wilson interval of that one model."""
    table = []
    for scored in results:
        for line in scored.slices:
            estimate = line.estimate()
            table.append(
                {
                    "start": scored.start,
                    "arm": scored.arm,
                    "size": scored.size,
                    "seed": scored.seed,
                    "probe": scored.probe,
                    "metric": line.metric,
                    "by": line.by,
                    "name": line.name,
                    "gold": line.gold,
                    "value": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "n": line.n,
                    "n_missing": line.n_missing,
                }
            )
    return table


def summary_table(results: Sequence[Scored], human_arm: str) -> list[dict[str, Any]]:
    """One row for each cell, probe, metric and slice: the mean over seeds, and its change against the start and
    against the human arm of the same size, each paired within seeds, with t intervals."""
    values: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    items: dict[tuple[Any, ...], int] = {}
    for scored in results:
        for line in scored.slices:
            key = (*scored.cell, scored.probe, line.metric, line.by, line.name, line.gold)
            values[key][scored.seed] = line.estimate().value
            items[key] = line.n
    table = []
    for key, by_seed in values.items():
        start, arm, size, *rest = key
        row: dict[str, Any] = dict(
            zip(("start", "arm", "size", "probe", "metric", "by", "name", "gold"), key, strict=True)
        )
        mean = t_interval(list(by_seed.values()))
        row |= {"n_seeds": len(by_seed), "n_items": items[key], "mean": mean.value}
        row |= {"low": within(mean.low, 0, 1), "high": within(mean.high, 0, 1)}
        row["per_seed"] = " ".join(f"{value:.4f}" for _, value in sorted(by_seed.items()))
        references = {"minus_start": (start, START, 0), "minus_human": (start, human_arm, size)}
        for name, cell in references.items():
            other = values.get((*cell, *rest), {})
            shared = sorted(by_seed.keys() & other.keys())
            if not shared or cell == (start, arm, size):
                row |= {name: None, f"{name}_low": None, f"{name}_high": None}
                continue
            change = paired_t([by_seed[seed] - other[seed] for seed in shared])
            row |= {name: change.value}
            row |= {f"{name}_low": within(change.low, -1, 1), f"{name}_high": within(change.high, -1, 1)}
        table.append(row)
    return table


def within(bound: float | None, least: float, most: float) -> float | None:
    """An interval's bound cut at what the quantity can be: an accuracy lies in 0-1, a difference in -1 to 1."""
    return None if bound is None else min(max(bound, least), most)


@dataclass(frozen=True)
class Answer:
    """A primary contrast, answered: the judgement, its seeds and their differences, the item-level interval (seeds and
    templates resampled), and one plain sentence. `per_seed` is averaged over the cells of the judgement."""

    contrast: ContrastSpec
    judgement: Judgement
    seeds: tuple[int, ...]
    per_seed: tuple[float, ...]
    over_items: Estimate | None
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "contrast": self.contrast.model_dump(mode="json"),
            **self.judgement.as_json(),
            "seeds": len(self.seeds),
            "cells": len(self.judgement.cells),
            "per_seed": list(self.per_seed),
            "over_items": self.over_items.as_json() if self.over_items else None,
            "sentence": self.sentence,
        }


def answer_primary(results: Sequence[Scored], probes: Mapping[str, Probe], spec: StudySpec) -> list[Answer]:
    """The study's primary contrasts, judged as one family (Holm), each cell by cell (`judge_family`)."""
    contrasts = spec.primary()
    if not contrasts:
        return []
    names = [f"{at}:{one.arm} - {one.against} on {one.probe}" for at, one in enumerate(contrasts)]
    cells = {name: cells_of(results, probes, one, spec) for name, one in zip(names, contrasts, strict=True)}
    unbounded = [name for name, one in zip(names, contrasts, strict=True) if one.probe == "gap"]
    judgements = judge_family(cells, spec.margin, unbounded=unbounded, max_missing=spec.max_missing)
    answers = []
    for name, contrast in zip(names, contrasts, strict=True):
        judgement = judgements[name]
        seeds = tuple(sorted({seed for seed, _, _ in matched(results, contrast, spec)}))
        per_seed = per_seed_differences([one for one in cells[name] if one.name in judgement.cells])
        over_items = None
        if contrast.probe != "gap":
            over_items = item_interval(results, probes[contrast.probe], contrast, spec, judgement.cells)
        sentence = say(contrast, judgement, len(seeds), probes, spec)
        answers.append(Answer(contrast, judgement, seeds, per_seed, over_items, sentence))
    return answers


def per_seed_differences(cells: Sequence[ContrastCell]) -> tuple[float, ...]:
    """Arm minus comparison in each seed, averaged over cells by their weights; nothing without cells."""
    if not cells:
        return ()
    differences = np.array([np.asarray(cell.a) - np.asarray(cell.b) for cell in cells])
    return tuple(float(value) for value in np.average(differences, axis=0, weights=[cell.weight for cell in cells]))


def cells_of(
    results: Sequence[Scored], probes: Mapping[str, Probe], contrast: ContrastSpec, spec: StudySpec
) -> list[ContrastCell]:
    """Every cell of a contrast: each start and size, and each part of the probe's headline within it."""
    by_cell: dict[tuple[str, int], dict[int, tuple[Scored, Scored]]] = defaultdict(dict)
    for seed, x, y in matched(results, contrast, spec):
        by_cell[x.start, x.size][seed] = (x, y)
    cells = []
    for (start, size), by_seed in by_cell.items():
        pairs = [by_seed[seed] for seed in sorted(by_seed)]
        if contrast.probe == "gap":
            blind = probes[next(probe for probe in probes if probe != "general")]
            for part, mask in blind.parts.items():
                weight = float(mask.sum()) / len(blind.items)
                cells.append(
                    gap_cell(cell_name(start, size, part), pairs, results, probes, mask, weight, spec.max_missing)
                )
            continue
        probe = probes[contrast.probe]
        cells += [
            share_cell(cell_name(start, size, part), pairs, probe, mask, weight=float(mask.sum()) / len(pairs[0][0].correct))
            for part, mask in probe.parts.items()
        ]  # fmt: skip
    return cells


def cell_name(start: str, size: int, part: str = "") -> str:
    """What a cell is called in a verdict."""
    return f"start {start}, {size:,} rows" + (f", {part}" if part else "")


def share_cell(
    name: str, pairs: Sequence[tuple[Scored, Scored]], probe: Probe, mask: Mask, *, weight: float
) -> ContrastCell:
    """One cell on some items of a probe: shares right per seed, over the items that both sides answered in every seed."""
    both, share = compared_items(pairs, probe, mask)
    low, high = (None, None) if both.low is None or both.high is None else (both.low.tolist(), both.high.tolist())
    if not both.items:
        nothing = [0.0] * len(pairs)
        return ContrastCell(name, nothing, nothing, low, high, 0, both.missing, weight, unanswered=both.unanswered)
    a, b = both.a.tolist(), both.b.tolist()
    return ContrastCell(name, a, b, low, high, both.items, both.missing, weight, (share,), both.unanswered)


def compared_items(pairs: Sequence[tuple[Scored, Scored]], probe: Probe, mask: Mask) -> tuple[Answered, Share]:
    """Both sides on the items of a mask that both answered in every seed, and their mean shares, also by gold label."""
    arm_SI = np.array([x.correct[mask] for x, _ in pairs])
    comparison_SI = np.array([y.correct[mask] for _, y in pairs])
    both = answered_by_both(arm_SI, comparison_SI, bounds=(0.0, 1.0))
    by_gold = {}
    for gold, own in probe.golds(mask).items():
        counted = own & both.counted
        if counted.any():
            by_gold[gold] = (float(arm_SI[:, counted].mean()), float(comparison_SI[:, counted].mean()))
    return both, Share(float(both.a.mean()), float(both.b.mean()), by_gold)


def gap_cell(
    name: str,
    pairs: Sequence[tuple[Scored, Scored]],
    results: Sequence[Scored],
    probes: Mapping[str, Probe],
    mask: Mask,
    weight: float,
    max_missing: float,
) -> ContrastCell:
    """One cell of the gap on a part of the blind spot, its sign turned so that negative means it opened: change on the blind
    spot minus change on the general task. A harm is looked for in the blind spot, which must have room for it."""
    blind = probes[next(probe for probe in probes if probe != "general")]
    index = {(*result.cell, result.seed): result for result in results if result.probe == blind.name}
    spots = [(index[(*x.cell, x.seed)], index[(*y.cell, y.seed)]) for x, y in pairs]
    general, general_share = compared_items(pairs, probes["general"], probes["general"].headline)
    spot, spot_share = compared_items(spots, blind, mask)
    items, missing = general.items + spot.items, general.missing + spot.missing
    if not general.items or not spot.items:
        nothing = [0.0] * len(pairs)
        return ContrastCell(name, nothing, nothing, items=0, missing=max(1, missing), weight=weight)
    unable = [too_many_missing(both.missing, both.missing + both.items, max_missing) for both in (general, spot)]
    closed = -gap(general.a, spot.a, general.b, spot.b)
    low, high = bounds(spot)[0] - bounds(general)[1], bounds(spot)[1] - bounds(general)[0]
    shares = (replace(general_share, harm=False, name="general"), replace(spot_share, name=blind.name))
    lost = next((f"on {where} {why}" for where, why in zip(("general", blind.name), unable, strict=True) if why), "")
    unanswered = general.unanswered + spot.unanswered
    return ContrastCell(
        name, closed, np.zeros(len(pairs)), low, high, items, missing, weight, shares, unanswered, unable=lost
    )  # fmt: skip


def bounds(both: Answered) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The per-seed difference of two sides at worst and at best, whatever the missing answers would have been."""
    return (both.a - both.b, both.a - both.b) if both.low is None or both.high is None else (both.low, both.high)


def matched(results: Sequence[Scored], contrast: ContrastSpec, spec: StudySpec) -> list[tuple[int, Scored, Scored]]:
    """Every (seed, model of the arm, model that it is compared with): same start, size and seed."""
    probe = "general" if contrast.probe == "gap" else contrast.probe
    index = {(*r.cell, r.seed): r for r in results if r.probe == probe}
    return [(one[-1], index[one], index[other]) for one, other in compared_cells(list(index), contrast)]


Key = tuple[str, str, int, int]
"""A model by start, arm, size and seed."""


def check_contrasts(cells: Sequence[Key], spec: StudySpec) -> None:
    """Refuse, before anything runs, a primary contrast of which no two models can be compared."""
    for contrast in spec.primary():
        compared_cells(cells, contrast)


def compared_cells(cells: Sequence[Key], contrast: ContrastSpec) -> list[tuple[Key, Key]]:
    """Every model of the contrast's arm with the one that it is compared with: same start, size and seed.

    Raises:
        UserError: there is no such pair.
    """
    known = set(cells)
    pairs = []
    for one in cells:
        start, arm, size, seed = one
        if arm != contrast.arm or (contrast.starts and start not in contrast.starts):
            continue
        if contrast.sizes and size not in contrast.sizes:
            continue
        other = (start, START, 0, seed) if contrast.against == START else (start, contrast.against, size, seed)
        if other in known:
            pairs.append((one, other))
    if not pairs:
        found = f"{contrast.arm} against {contrast.against}: no two cells of the same start, size and seed"
        raise UserError("A contrast compares nothing.", found, "check contrasts against starts, arms and sizes")
    return pairs


def item_interval(
    results: Sequence[Scored], probe: Probe, contrast: ContrastSpec, spec: StudySpec, cells: Collection[str]
) -> Estimate | None:
    """The difference with seeds and templates resampled as crossed factors, over the items that both sides answered in some
    cell of every seed, each item averaged over its cells (the judgement averages cells); None without templates."""
    if probe.task.template is None:
        return None
    mask = np.zeros(len(probe.items), dtype=bool)
    kept: dict[int, list[np.ndarray[Any, Any]]] = defaultdict(list)
    for seed, x, y in matched(results, contrast, spec):
        own = [part for name, part in probe.parts.items() if cell_name(x.start, x.size, name) in cells]
        if own:
            mask |= np.any(own, axis=0)
            kept[seed].append(np.where(np.any(own, axis=0), x.correct - y.correct, np.nan))
    if not kept:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # items that no cell of a seed answered
        rows = np.array([np.nanmean(kept[seed], axis=0) for seed in sorted(kept)])
    mask &= np.isfinite(rows).all(axis=0)
    if not mask.any():
        return None
    templates = [str(item.meta.get(probe.task.template)) for item, on in zip(probe.items, mask, strict=True) if on]
    return crossed_bootstrap(rows[:, mask], templates, rng=np.random.default_rng(0))


def say(contrast: ContrastSpec, judgement: Judgement, seeds: int, probes: Mapping[str, Probe], spec: StudySpec) -> str:
    """One plain sentence on a contrast."""
    estimate = judgement.difference
    interval = estimate.method  # why there is none
    if estimate.low is not None and estimate.high is not None:
        most = 2.0 if contrast.probe == "gap" else 1.0  # a gap is a difference of differences
        low, high = max(estimate.low, -most), min(estimate.high, most)
        interval = f"95 % interval {low * 100:+.1f} to {high * 100:+.1f}"
    where = "the gap between general task and blind spot (negative: it opened)"
    if contrast.probe != "gap":
        where = f"{contrast.probe} ({probes[contrast.probe].headline_name})"
    verdict = {
        "worse": "worse",
        "better": "better",
        "equivalent": f"equivalent within ±{spec.margin * 100:g} points",
    }.get(judgement.verdict.value, judgement.verdict.value)
    against = "the start" if contrast.against == START else f"arm {contrast.against}"
    about = f"Arm {contrast.arm} against {against} on {where}: {verdict}"
    cells = len(judgement.cells)
    if not cells:
        return f"{about} ({seeds} seed{'s' * (seeds != 1)}): {judgement.why}.{whose_data(contrast, spec)}"
    left_out = "; ".join(f"{cell}: {why}" for cell, why in judgement.left_out.items())
    return (
        f"{about} ({points(estimate.value)}, {interval}; "
        f"{seeds} seed{'s' * (seeds != 1)}, {cells} cell{'s' * (cells != 1)} averaged in each): {judgement.why}."
        f"{f' Left out, for they cannot answer: {left_out}.' * bool(left_out)}{unanswered(judgement)}"
        f"{whose_data(contrast, spec)}"
    )


def unanswered(judgement: Judgement) -> str:
    """How many items a judgement leaves out because some model, or every one, has no answer to them."""
    items = (judgement.items or 0) + judgement.missing + judgement.unanswered
    said = ""
    if judgement.missing:
        said += f" {judgement.missing} of {items} items lack an answer on a side and are left out."
    if judgement.unanswered:
        said += f" {judgement.unanswered} of {items} items were answered by no model and are left out."
    return said


def whose_data(contrast: ContrastSpec, spec: StudySpec) -> str:
    """What the verdict speaks of: data of this one generator, and whether it is of the task model's family."""
    arms = spec.all_arms()
    steps = {cell.name: cell.steps for cell in spec.cells}
    used = {name for arm in steps.get(contrast.arm, (contrast.arm,)) for name in arms[arm].mix}
    generators = {source.synth.model for name, source in spec.data.items() if source.synth and name in used}
    told = ""
    for generator in sorted(generators):
        told += f" This is about data of one generator, {generator}"
        if family(generator) != family(spec.task_model.model):
            told += f", of another family than the task model {spec.task_model.model}"
        told += "."
    return told


def family(model: str) -> str:
    """A model's family, as its name tells it: 'llama' for meta-llama/Llama-2-7b-hf."""
    return model.rpartition("/")[2].removeprefix("packaged:").lower().split("-")[0].rstrip("0123456789.")


def points(value: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{value * 100:+.1f} points"
