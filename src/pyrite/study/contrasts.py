"""The primary contrasts of a study, answered: which models are compared, the judgement of all contrasts as one family, and a
sentence on each.

A contrast compares one cell with another within seeds, on one metric; the verdict rests on its differences over seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyrite.errors import UserError
from pyrite.records import Estimate
from pyrite.stats import MAX_MISSING, Judgement, Verdict, judge_family
from pyrite.study.cells import Cell, CellKey
from pyrite.study.contrast_cells import Comparison, Pair
from pyrite.study.contrast_intervals import interval_over_items, per_seed_differences
from pyrite.study.scores import Scores, answered, by_seed, over_items, reference_of, shared_seeds
from pyrite.study.sentences import say_of_arms, say_of_cells, without_seeds
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import GAP, ContrastSpec
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


def answer_primary(results: Sequence[Scores], spec: StudySpec, left_out: Sequence[int] = ()) -> list[Answer]:
    """The study's primary contrasts. The verdict rests on seeds; the intervals over items stand beside it.

    `left_out` are seeds that do not count, since the pilot chose the damage on their models (`pilot.picked_seeds`).
    """
    compared = comparisons([model for model in results if model.seed not in left_out], spec)
    judgements = judge_all(compared, spec.max_missing) if compared else []
    return [
        answer_of(comparison, judgement, spec, left_out) for comparison, judgement in zip(compared, judgements, strict=True)
    ]  # fmt: skip


# which models are compared


def comparisons(results: Sequence[Scores], spec: StudySpec) -> list[Comparison]:
    """The pairs of models of every primary contrast.

    Raises:
        UserError: a metric that was not measured on both sides in any seed, or one without a preferred direction.
    """
    every = by_seed(results, unknown=True)
    return [comparison(contrast, every, results, spec) for contrast in spec.primary()]


def comparison(
    contrast: ContrastSpec, every: Mapping[tuple[CellKey, str, str], Mapping[int, Scores]], results: Sequence[Scores],
    spec: StudySpec,
) -> Comparison:  # fmt: skip
    """The pairs of one contrast."""
    probe = contrast.probe_name
    if contrast.probe == GAP:
        probe = next(name for name in spec.probes if name != "general")
    metric_name = contrast.metric or next((model.metric.name for model in results if model.probe == probe), "")
    pairs = pairs_of(contrast, probe, metric_name, every)
    general = pairs_of(contrast, "general", "accuracy", every) if contrast.probe == GAP else {}
    if (spec.has_grid and not pairs) or (contrast.probe == GAP and general.keys() != pairs.keys()):
        raise compares_nothing(contrast)
    both_sides = [both for by_seed_ in pairs.values() for both in by_seed_.values()]
    uneven = ""
    if spec.probes[probe].task == "perplexity":
        uneven = "; ".join(filter(None, (unevenly(*sides(by_seed_)) for by_seed_ in pairs.values())))
    if not spec.has_grid and not uneven and not any(ours.known and theirs.known for ours, theirs in both_sides):
        measured = sorted({f"{model.probe}.{model.metric.name}" for model in results})
        detail = f"{contrast.about} against {contrast.against} on {contrast.probe}; measured: {', '.join(measured)}"
        raise UserError("A contrast compares nothing.", detail, "name a metric that both cells have")
    metrics = [model.metric for both in both_sides for model in both]
    metric = next(
        (metric for metric in metrics if metric.scale == "real"), metrics[0]
    )  # of a model never right all is 0
    if metric.direction == "none":
        fix = "take another metric; this one is in the tables"
        raise UserError("That metric has no preferred direction.", contrast.probe, fix)
    margin = contrast.margin or (spec.margin if metric.scale == "share" else spec.margin_real)
    return Comparison(contrast, metric, margin, pairs, general, uneven, spec.max_missing)


def pairs_of(
    contrast: ContrastSpec, probe: str, metric: str, every: Mapping[tuple[CellKey, str, str], Mapping[int, Scores]]
) -> dict[CellKey, dict[int, Pair]]:
    """Every model in question with the one that it is compared with: same start, size and seed."""
    pairs: dict[CellKey, dict[int, Pair]] = {}
    for (key, name, measured), ours in every.items():
        if name != probe or measured != metric or not concerns(contrast, key):
            continue
        theirs = every.get((reference_of(key, contrast.against), probe, metric), {})
        seeds = shared_seeds(ours, theirs)
        if seeds:
            pairs[key] = {seed: (ours[seed], theirs[seed]) for seed in seeds}
    return pairs


def concerns(contrast: ContrastSpec, key: CellKey) -> bool:
    """Is this a cell in question of the contrast?"""
    return (
        key.name == contrast.about
        and (not contrast.starts or key.start in contrast.starts)
        and (not contrast.sizes or key.size in contrast.sizes)
    )


def sides(pairs: Mapping[int, Pair]) -> tuple[dict[int, Scores], dict[int, Scores]]:
    """Both sides of one cell, by seed."""
    return {seed: both[0] for seed, both in pairs.items()}, {seed: both[1] for seed, both in pairs.items()}


def unevenly(a: Mapping[int, Scores], b: Mapping[int, Scores]) -> str:
    """Which items have a value in one cell and none in the other, within a seed? In words; nothing where none has.

    A model always gives text a probability: a loss that is missing was not finite, so the items that are left are the
    ones that a destroyed model still bears, and their mean flatters it.
    """
    lost_items = []
    for seed in shared_seeds(a, b):
        for model, counterpart in ((a[seed], b[seed]), (b[seed], a[seed])):
            lost = len(model.missing - counterpart.missing)
            if lost:
                lost_items.append(f"{model.cell.name}, seed {seed}: {lost} of {len(model.items)} items")
    return "; ".join(lost_items)


def compares_nothing(contrast: ContrastSpec) -> UserError:
    """The message of a contrast without a pair of models."""
    pairs = f"{contrast.about} against {contrast.against}: no two cells of the same start, size and seed"
    return UserError("A contrast compares nothing.", pairs, "check contrasts against starts, arms and sizes")


def refuse_empty_contrasts(cells: Sequence[Cell], spec: StudySpec) -> None:
    """Refuse, before anything runs, a primary contrast of which no two models can be compared."""
    models = {(cell.key, cell.seed) for cell in cells}
    for contrast in spec.primary():
        if not any(
            (reference_of(key, contrast.against), seed) in models for key, seed in models if concerns(contrast, key)
        ):
            raise compares_nothing(contrast)


# the judgement


def judge_all(compared: Sequence[Comparison], max_missing: float = MAX_MISSING) -> list[Judgement]:
    """One family (Holm) of contrasts whose metrics, margins and directions may differ.

    The p-values of a difference and of equivalence do not change when a contrast's values and margin are multiplied
    by the same number. So where margins differ, each contrast is judged in its own units, beside the others brought to its
    margin. One whose items are missing on one side is not judged, and counts in the family as any other without an answer.
    """
    units = {(entry.margin, entry.metric.direction) for entry in compared}
    together = len(units) == 1 and not any(entry.uneven for entry in compared)
    judgements = []
    judged: dict[str, Judgement] = {}
    for place, comparison_of_place in enumerate(compared):
        if comparison_of_place.uneven:
            judgements.append(not_testable_judgement(comparison_of_place))
            continue
        if not together or not judged:
            family = {
                str(at): entry.cells(comparison_of_place.margin / entry.margin) for at, entry in enumerate(compared)
            }
            fractions = {
                str(at) for at, entry in enumerate(compared) if is_fraction(entry) and (together or at == place)
            }
            judged = judge_family(
                family, comparison_of_place.margin, direction=comparison_of_place.metric.direction, unbounded=set(family) - fractions,
                max_missing=max_missing,
            )  # fmt: skip
        judgements.append(judged[str(place)])
    return judgements


def is_fraction(compared: Comparison) -> bool:
    """Does the difference lie in -1 to 1? A gap is a difference of differences."""
    return compared.metric.scale == "share" and not compared.is_gap


def not_testable_judgement(compared: Comparison) -> Judgement:
    """The judgement on a contrast whose items are missing on one side."""
    why = f"items without a value on one side ({compared.uneven}): the mean of the others compares nothing"
    missing = [cell.missing for cell in compared.cells()]
    unanswered_items = sum(cell.unanswered for cell in compared.cells())
    none = Estimate(
        math.nan, None, None, 0, sum(missing), compared.metric.direction, method="items missing on one side"
    )
    return Judgement(Verdict.NOT_TESTABLE, none, None, None, why, missing=sum(missing), unanswered=unanswered_items)


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
