"""The primary contrasts of a study, answered: the judgement over seeds, the intervals over items, a sentence each."""

import warnings
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.records import Estimate
from pyrite.stats import (
    ContrastCell,
    Judgement,
    crossed_bootstrap,
)
from pyrite.study.cells import CellKey
from pyrite.study.comparisons import Comparison, cell_name, comparisons, judge_all
from pyrite.study.scores import Array, Scores, answered, by_seed, number_or_none, over_items, within
from pyrite.study.sentences import say_of_arms, say_of_cells, without_seeds
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import ContrastSpec
from pyrite.tasks.scoring import Metric


@dataclass(frozen=True)
class Answer:
    """A contrast, answered: the judgement over seeds, on which the verdict rests, and one plain sentence. `per_seed` holds
    the differences, averaged over the cells of the judgement; `items` the interval over items (crossed with seeds where
    items have templates; between cells of these very models, `items_per_seed` also seed by seed)."""

    contrast: ContrastSpec
    metric: Metric | None
    margin: float
    judgement: Judgement
    seeds: tuple[int, ...]
    per_seed: tuple[float, ...]
    items: Estimate | None
    sentence: str
    items_per_seed: tuple[Estimate, ...] = ()
    uneven: str = ""
    """Why a mean over the items that have a value compares nothing; nothing where it does."""
    left_out: tuple[int, ...] = ()
    """Seeds that do not count: the pilot chose the damage on the results of their models."""

    def as_json(self) -> dict[str, Any]:
        """Plain values; a contrast between arms has its number of seeds and cells, one between cells its seeds."""
        scale = self.metric.scale if self.metric is not None else "share"
        values = {
            "contrast": self.contrast.as_json(),
            "margin": self.margin,
            "scale": scale,
            **self.judgement.as_json(),
        }
        over_items_ = self.items.as_json() if self.items else None
        if self.contrast.arm:
            counts = {"seeds": len(self.seeds), "cells": len(self.judgement.cells)}
            per_seed = {"per_seed": list(self.per_seed), "over_items": over_items_}
            return {**values, **counts, **per_seed, "sentence": self.sentence}
        return {
            **values,
            "seeds": list(self.seeds),
            "seeds_left_out": list(self.left_out),
            "per_seed": list(self.per_seed),
            "over_items": over_items_,
            "over_items_per_seed": [estimate.as_json() for estimate in self.items_per_seed],
            "sentence": self.sentence,
        }


def missing_items(results: Sequence[Scores], spec: StudySpec) -> list[str]:
    """Of each cell and metric that a primary contrast between cells reads: the items that its mean leaves out."""
    table = by_seed([model.of_headline() for model in results], unknown=True)
    notes: dict[str, None] = {}
    for contrast in spec.primary():
        if contrast.arm:
            continue
        first = next((model.metric.name for model in results if model.probe == contrast.probe_name), "")
        for cell in (contrast.cell, contrast.against):
            key = (CellKey(cell), contrast.probe_name, contrast.metric or first)
            seeds = sorted(table.get(key, {}).items())
            lost = [
                f"{len(model.missing)} of {len(model.items)} (seed {seed})" for seed, model in seeds if model.missing
            ]
            if lost:
                note = (
                    f"{cell} on {contrast.probe}: items without a value, which its mean leaves out: {', '.join(lost)}"
                )
                notes[note] = None
    return list(notes)


def answer_primary(results: Sequence[Scores], spec: StudySpec, left_out: Sequence[int] = ()) -> list[Answer]:
    """The study's primary contrasts. The verdict rests on seeds; the intervals over items stand beside it.

    `left_out` are seeds that do not count, since the pilot chose the damage on their models (`pilot.picked_seeds`).
    """
    compared = comparisons([model for model in results if model.seed not in left_out], spec)
    judgements = judge_all(compared, spec.max_missing) if compared else []
    return [
        answer_of(comparison, judgement, spec, left_out) for comparison, judgement in zip(compared, judgements, strict=True)
    ]  # fmt: skip


def answer_of(compared: Comparison, judgement: Judgement, spec: StudySpec, left_out: Sequence[int]) -> Answer:
    """One contrast with its judgement."""
    contrast = compared.contrast
    cells = [cell for cell in compared.cells() if cell.name in judgement.cells]
    items = None if compared.is_gap else interval_over_items(compared, judgement.cells)
    if contrast.arm:
        sentence = say_of_arms(compared, judgement, spec)
        per_seed = per_seed_differences(cells)
        return Answer(contrast, compared.metric, compared.margin, judgement, compared.seeds, per_seed, items, sentence)
    pairs = next(iter(compared.pairs.values()))
    complete = {seed: both for seed, both in pairs.items() if both[0].known and both[1].known}
    answers = answered([a for a, _ in pairs.values()], [b for _, b in pairs.values()])
    per_seed = (
        tuple(float(value) for value in answers.a - answers.b) if judgement.cells and compared.probe is None else ()
    )
    if judgement.cells and compared.probe is not None:
        per_seed = per_seed_differences(cells) if not compared.one_model else ()
    each = tuple(over_items([a.of_headline()], [b.of_headline()]) for a, b in complete.values())
    sentence = say_of_cells(compared, judgement, items) + without_seeds(left_out)
    return Answer(
        contrast, compared.metric, compared.margin, judgement, tuple(complete), per_seed, items, sentence, each,
        compared.uneven, tuple(left_out),
    )  # fmt: skip


def per_seed_differences(cells: Sequence[ContrastCell]) -> tuple[float, ...]:
    """One side minus the other in each seed, averaged over cells by their weights; nothing without cells."""
    if not cells:
        return ()
    each = np.array([np.asarray(cell.a) - np.asarray(cell.b) for cell in cells])
    return tuple(float(value) for value in np.average(each, axis=0, weights=[cell.weight for cell in cells]))


def interval_over_items(compared: Comparison, judged: Collection[str]) -> Estimate | None:
    """The interval over items: between arms with seeds and templates resampled as crossed factors, None without templates;
    between cells that of these very models, seeds averaged item by item."""
    if compared.contrast.arm:
        return crossed_interval(compared, judged)
    pairs = next(iter(compared.pairs.values())).values()
    return over_items([a.of_headline() for a, _ in pairs], [b.of_headline() for _, b in pairs])


def crossed_interval(compared: Comparison, judged: Collection[str]) -> Estimate | None:
    """The difference with seeds and templates resampled, over the items that both sides answered in some cell of every seed,
    each item averaged over its cells (the judgement averages cells)."""
    probe = compared.probe
    if probe is None or probe.templates is None:
        return None
    mask = np.zeros(len(probe.items), dtype=bool)
    rows: dict[int, list[Array]] = defaultdict(list)
    for key, pairs in compared.pairs.items():
        parts = [part for name, part in probe.parts.items() if cell_name(compared.contrast, key, name) in judged]
        if not parts:
            continue
        inside = np.any(parts, axis=0)
        mask |= inside
        for seed, (ours, theirs) in pairs.items():
            rows[seed].append(np.where(inside, ours.values - theirs.values, np.nan))
    if not rows:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # items that no cell of a seed answered
        averaged = np.array([np.nanmean(rows[seed], axis=0) for seed in sorted(rows)])
    mask &= np.isfinite(averaged).all(axis=0)
    if not mask.any():
        return None
    templates = [template for template, on in zip(probe.templates, mask, strict=True) if on]
    return crossed_bootstrap(averaged[:, mask], templates, rng=np.random.default_rng(0))


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
