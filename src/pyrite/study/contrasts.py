"""From every model's answers to the study's tables and verdicts. Arms are compared within a seed.

`Scored` is one model on one probe; a study's results are a list of them. Everything here is arithmetic on that list.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Estimate, Labelled
from pyrite.stats import Judgement, Verdict, crossed_bootstrap, gap, judge_family, paired_t, t_interval
from pyrite.study.spec import ContrastSpec, StudySpec
from pyrite.tasks.score import Slice, Task, matching, right, score

START = "start"


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
    """A probe's items and task, with the mask of its headline slice (the number that contrasts look at)."""

    name: str
    items: list[Labelled]
    task: Task
    headline: np.ndarray[Any, Any]
    headline_name: str

    @classmethod
    def make(cls, name: str, items: list[Labelled], task: Task, headline: Mapping[str, str]) -> "Probe":
        """A probe; `headline` maps columns to the values that an item of the headline slice has."""
        mask = np.array(matching(items, headline), dtype=bool)
        if not mask.any():
            raise UserError(
                "A probe's headline slice is empty.", f"{name}: no item has {dict(headline)}", "check headline"
            )
        strange = next((item for item in items if item.label not in {*task.labels, *task.merge}), None)
        if strange is not None:
            fix = f"use one of: {', '.join(sorted({*task.labels, *task.merge}))}"
            raise UserError("A probe's item has an unknown label.", f"{name}: {strange.id}: {strange.label!r}", fix)
        return cls(name, items, task, mask, ", ".join(headline.values()) or "overall")


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
    """A primary contrast, answered: the judgement, how many seeds and cells it rests on, the item-level interval
    (seeds and templates resampled), and one plain sentence."""

    contrast: ContrastSpec
    judgement: Judgement
    seeds: int
    cells: int
    over_items: Estimate | None
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "contrast": self.contrast.model_dump(mode="json"),
            **self.judgement.as_json(),
            "seeds": self.seeds,
            "cells": self.cells,
            "over_items": self.over_items.as_json() if self.over_items else None,
            "sentence": self.sentence,
        }


def answer_primary(results: Sequence[Scored], probes: Mapping[str, Probe], spec: StudySpec) -> list[Answer]:
    """The study's primary contrasts, judged as one family (Holm)."""
    contrasts = spec.primary()
    if not contrasts:
        return []
    family: dict[str, tuple[list[float], list[float]]] = {}
    about: dict[str, tuple[ContrastSpec, int, int]] = {}
    unbounded = []
    for number, contrast in enumerate(contrasts):
        name = f"{number}:{contrast.arm} - {contrast.against} on {contrast.probe}"
        pairs = matched(results, contrast, spec)
        seeds = sorted({seed for seed, _, _ in pairs})
        if contrast.probe == "gap":
            a = [float(np.mean([openings(x, y, results, probes) for s, x, y in pairs if s == seed])) for seed in seeds]
            b = [0.0] * len(a)
            unbounded.append(name)
            a = [-value for value in a]
        else:
            probe = probes[contrast.probe]
            a = [float(np.mean([headline(x, probe) for s, x, _ in pairs if s == seed])) for seed in seeds]
            b = [float(np.mean([headline(y, probe) for s, _, y in pairs if s == seed])) for seed in seeds]
        family[name] = (a, b)
        about[name] = (contrast, len(seeds), len(pairs) // max(1, len(seeds)))
    judged = judge_family(family, spec.margin, unbounded=unbounded)
    answers = []
    for name, judgement in judged.items():
        contrast, seeds_used, cells = about[name]
        if contrast.probe == "gap":
            judgement = at_an_edge(judgement, matched(results, contrast, spec), results, probes, spec.margin)
        over_items = None if contrast.probe == "gap" else item_interval(results, probes[contrast.probe], contrast, spec)
        sentence = say(contrast, judgement, seeds_used, cells, probes, spec)
        answers.append(Answer(contrast, judgement, seeds_used, cells, over_items, sentence))
    return answers


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


def openings(arm: Scored, other: Scored, results: Sequence[Scored], probes: Mapping[str, Probe]) -> float:
    """How much further the blind spot fell than the general task, from `other` to `arm`; positive: the gap opened."""
    blind_name = next(name for name in probes if name != "general")
    blind = {(*r.cell, r.seed): headline(r, probes[blind_name]) for r in results if r.probe == blind_name}
    general = [headline(r, probes["general"]) for r in (arm, other)]
    spots = [blind[(*r.cell, r.seed)] for r in (arm, other)]
    return float(gap([general[0]], [spots[0]], [general[1]], [spots[1]])[0])


def at_an_edge(
    judgement: Judgement,
    pairs: Sequence[tuple[int, Scored, Scored]],
    results: Sequence[Scored],
    probes: Mapping[str, Probe],
    margin: float,
) -> Judgement:
    """A gap is not testable where any of the four means behind it lies within the margin of 0 or 1."""
    blind_name = next(name for name in probes if name != "general")
    blind = {(*r.cell, r.seed): headline(r, probes[blind_name]) for r in results if r.probe == blind_name}
    for side, models in (("arm", [x for _, x, _ in pairs]), ("comparison", [y for _, _, y in pairs])):
        means = {
            "general": np.mean([headline(model, probes["general"]) for model in models]),
            blind_name: np.mean([blind[(*model.cell, model.seed)] for model in models]),
        }
        for probe, mean in means.items():
            if min(mean, 1 - mean) <= margin:
                why = f"the {side}'s mean of {mean:.3f} on {probe} lies within the margin of {margin:g} of 0 or 1"
                return replace(judgement, verdict=Verdict.NOT_TESTABLE, why=why)
    return judgement


def item_interval(results: Sequence[Scored], probe: Probe, contrast: ContrastSpec, spec: StudySpec) -> Estimate | None:
    """The same difference with seeds and templates resampled as crossed factors; None without templates."""
    if probe.task.template is None:
        return None
    pairs = matched(results, contrast, spec)
    seeds = sorted({seed for seed, _, _ in pairs})
    rows = [
        np.nanmean([x.correct[probe.headline] - y.correct[probe.headline] for s, x, y in pairs if s == seed], axis=0)
        for seed in seeds
    ]
    templates = [
        str(item.meta.get(probe.task.template)) for item, on in zip(probe.items, probe.headline, strict=True) if on
    ]
    return crossed_bootstrap(np.array(rows), templates, rng=np.random.default_rng(0))


def say(
    contrast: ContrastSpec, judgement: Judgement, seeds: int, cells: int, probes: Mapping[str, Probe], spec: StudySpec
) -> str:
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
    return (
        f"Arm {contrast.arm} against {against} on {where}: {verdict} ({points(estimate.value)}, {interval}; "
        f"{seeds} seed{'s' * (seeds != 1)}, {cells} cell{'s' * (cells != 1)} averaged in each): {judgement.why}."
        f"{whose_data(contrast, spec)}"
    )


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
