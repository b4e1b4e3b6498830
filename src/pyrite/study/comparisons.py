"""The two sides of every primary contrast, model by model within seeds, and how they are judged as one family.

A contrast between arms is judged cell by cell: each start and size, and each part of a label probe's headline. A contrast
between cells that are not a grid has one cell.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Estimate
from pyrite.stats import (
    MAX_MISSING,
    Answered,
    ContrastCell,
    Judgement,
    Share,
    Verdict,
    answered_by_both,
    gap,
    judge_family,
)
from pyrite.stats.missing import UNBOUNDED, too_many_missing
from pyrite.study.cells import Cell as StudyCell
from pyrite.study.cells import CellKey
from pyrite.study.label_probes import LabelProbe, Mask
from pyrite.study.scores import Array, Scores, answered, by_seed, reference_of, shared_seeds
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import GAP, ContrastSpec
from pyrite.tasks.scoring import Metric

Pair = tuple[Scores, Scores]
"""One seed's models: the one in question, and the one that it is compared with."""


@dataclass(frozen=True)
class Comparison:
    """A contrast's models, pair by pair in every seed that both sides have, by the cell in question; the general task's pairs
    too where it is a gap. `uneven` says which items are missing on one side only, where that is the model's doing."""

    contrast: ContrastSpec
    metric: Metric
    margin: float
    pairs: Mapping[CellKey, Mapping[int, Pair]]
    general: Mapping[CellKey, Mapping[int, Pair]] = field(default_factory=dict)
    uneven: str = ""
    max_missing: float = MAX_MISSING

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of any cell."""
        return tuple(sorted({seed for by_seed_ in self.pairs.values() for seed in by_seed_}))

    @property
    def probe(self) -> LabelProbe | None:
        """The items and parts of a probe of labels, on the metric that has a headline."""
        model = next(iter(next(iter(self.pairs.values())).values()))[0]
        return model.label_probe if model.is_headline_metric else None

    @property
    def is_gap(self) -> bool:
        """Is it how much further the blind spot fell than the general task?"""
        return self.contrast.probe == GAP

    @property
    def one_model(self) -> bool:
        """Is each side the same model in every seed, in all cells (nothing of it was trained)?"""
        return len(self.seeds) > 1 and all(map(is_one_model, self.pairs.values()))

    def cells(self, scale: float = 1.0) -> list[ContrastCell]:
        """Every cell as it is judged, values multiplied by `scale`: each start and size, and each part of a headline."""
        judged = []
        for key, pairs in self.pairs.items():
            cells = self.cells_at(key, pairs)
            judged += [first_seed(cell) for cell in cells] if is_one_model(pairs) else cells
        return judged if scale == 1.0 else [in_units(cell, scale) for cell in judged]

    def cells_at(self, key: CellKey, pairs: Mapping[int, Pair]) -> list[ContrastCell]:
        """The cells of one start and size."""
        each = [pairs[seed] for seed in sorted(pairs)]
        if self.uneven:
            both = answered([a for a, _ in each], [b for _, b in each])
            nothing = [0.0] * len(each)
            return [ContrastCell(cell_name(self.contrast, key), nothing, nothing, items=0, missing=max(1, both.missing), unanswered=both.unanswered)]  # fmt: skip
        if self.probe is None:
            return [whole_cell(cell_name(self.contrast, key), each)]
        items = len(self.probe.items)
        if self.is_gap:
            general = [self.general[key][seed] for seed in sorted(pairs)]
            return [
                gap_cell(
                    cell_name(self.contrast, key, part),
                    general,
                    each,
                    mask,
                    float(mask.sum()) / items,
                    self.max_missing,
                )
                for part, mask in self.probe.parts.items()
            ]
        return [
            share_cell(cell_name(self.contrast, key, part), each, mask, weight=float(mask.sum()) / items)
            for part, mask in self.probe.parts.items()
        ]


def is_one_model(pairs: Mapping[int, Pair]) -> bool:
    """Is each side the same model in all of several seeds, by the steps that made it?"""
    return len(pairs) > 1 and all(
        bool(model.model) and model.model == side[0].model
        for side in zip(*pairs.values(), strict=True)
        for model in side
    )


def first_seed(cell: ContrastCell) -> ContrastCell:
    """The cell with one seed: the same models in every seed are no replicates."""
    low, high = (None if bound is None else bound[:1] for bound in (cell.low, cell.high))
    return replace(cell, a=cell.a[:1], b=cell.b[:1], low=low, high=high)


def in_units(cell: ContrastCell, scale: float) -> ContrastCell:
    """The cell in other units."""
    a, b = np.asarray(cell.a) * scale, np.asarray(cell.b) * scale
    low, high = (None if bound is None else np.asarray(bound) * scale for bound in (cell.low, cell.high))
    return replace(cell, a=a, b=b, low=low, high=high)


def cell_name(contrast: ContrastSpec, key: CellKey, part: str = "") -> str:
    """What a cell is called in a verdict."""
    name = f"start {key.start}, {key.size:,} rows" if key.start else contrast.about
    return name + (f", {part}" if part else "")


def whole_cell(name: str, pairs: Sequence[Pair]) -> ContrastCell:
    """One cell over all items."""
    both = answered([a for a, _ in pairs], [b for _, b in pairs])
    if not both.items:
        nothing = [0.0] * len(pairs)
        return ContrastCell(name, nothing, nothing, items=0, missing=max(1, both.missing), unanswered=both.unanswered)
    unable = f"{both.missing} items have no answer on a side, and {UNBOUNDED}" if both.unbounded else ""
    cell = ContrastCell(name, both.a, both.b, both.low, both.high, both.items, both.missing)
    return replace(cell, unanswered=both.unanswered, unable=unable)


def share_cell(name: str, pairs: Sequence[Pair], mask: Mask, *, weight: float) -> ContrastCell:
    """One cell on some items of a probe of labels: shares right per seed, over the items that both sides answered in every
    seed."""
    both, share = compared_items(pairs, mask)
    low, high = (None, None) if both.low is None or both.high is None else (both.low.tolist(), both.high.tolist())
    if not both.items:
        nothing = [0.0] * len(pairs)
        return ContrastCell(name, nothing, nothing, low, high, 0, both.missing, weight, unanswered=both.unanswered)
    a, b = both.a.tolist(), both.b.tolist()
    return ContrastCell(name, a, b, low, high, both.items, both.missing, weight, (share,), both.unanswered)


def compared_items(pairs: Sequence[Pair], mask: Mask) -> tuple[Answered, Share]:
    """Both sides on the items of a mask that both answered in every seed, and their mean shares, also by gold label."""
    probe = pairs[0][0].label_probe
    assert probe is not None
    ours_SI = np.array([a.values[mask] for a, _ in pairs])
    theirs_SI = np.array([b.values[mask] for _, b in pairs])
    both = answered_by_both(ours_SI, theirs_SI, bounds=(0.0, 1.0))
    by_gold = {}
    for gold, of_gold in probe.golds(mask).items():
        counted = of_gold & both.counted
        if counted.any():
            by_gold[gold] = (float(ours_SI[:, counted].mean()), float(theirs_SI[:, counted].mean()))
    return both, Share(float(both.a.mean()), float(both.b.mean()), by_gold)


def gap_cell(
    name: str, general_pairs: Sequence[Pair], spot_pairs: Sequence[Pair], mask: Mask, weight: float, max_missing: float
) -> ContrastCell:
    """One cell of the gap on a part of the blind spot, its sign turned so that negative means it opened: change on the blind
    spot minus change on the general task. A harm is looked for in the blind spot, which must have room for it."""
    general_probe, blind = general_pairs[0][0].label_probe, spot_pairs[0][0].label_probe
    assert general_probe is not None
    assert blind is not None
    general, general_share = compared_items(general_pairs, general_probe.headline)
    spot, spot_share = compared_items(spot_pairs, mask)
    items, missing = general.items + spot.items, general.missing + spot.missing
    if not general.items or not spot.items:
        nothing = [0.0] * len(spot_pairs)
        return ContrastCell(name, nothing, nothing, items=0, missing=max(1, missing), weight=weight)
    unable = [too_many_missing(both.missing, both.missing + both.items, max_missing) for both in (general, spot)]
    closed = -gap(general.a, spot.a, general.b, spot.b)
    low, high = bounds(spot)[0] - bounds(general)[1], bounds(spot)[1] - bounds(general)[0]
    shares = (replace(general_share, harm=False, name="general"), replace(spot_share, name=blind.name))
    lost = next((f"on {where} {why}" for where, why in zip(("general", blind.name), unable, strict=True) if why), "")
    unanswered_items = general.unanswered + spot.unanswered
    return ContrastCell(
        name, closed, np.zeros(len(spot_pairs)), low, high, items, missing, weight, shares, unanswered_items, unable=lost
    )  # fmt: skip


def bounds(both: Answered) -> tuple[Array, Array]:
    """The per-seed difference of two sides at worst and at best, whatever the missing answers would have been."""
    return (both.a - both.b, both.a - both.b) if both.low is None or both.high is None else (both.low, both.high)


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


def refuse_empty_contrasts(cells: Sequence[StudyCell], spec: StudySpec) -> None:
    """Refuse, before anything runs, a primary contrast of which no two models can be compared."""
    models = {(cell.key, cell.seed) for cell in cells}
    for contrast in spec.primary():
        if not any(
            (reference_of(key, contrast.against), seed) in models for key, seed in models if concerns(contrast, key)
        ):
            raise compares_nothing(contrast)


def compares_nothing(contrast: ContrastSpec) -> UserError:
    """The message of a contrast without a pair of models."""
    pairs = f"{contrast.about} against {contrast.against}: no two cells of the same start, size and seed"
    return UserError("A contrast compares nothing.", pairs, "check contrasts against starts, arms and sizes")


def concerns(contrast: ContrastSpec, key: CellKey) -> bool:
    """Is this a cell in question of the contrast?"""
    return (
        key.name == contrast.about
        and (not contrast.starts or key.start in contrast.starts)
        and (not contrast.sizes or key.size in contrast.sizes)
    )


def comparisons(results: Sequence[Scores], spec: StudySpec) -> list[Comparison]:
    """The pairs of models of every primary contrast.

    Raises:
        UserError: a metric that was not measured on both sides in any seed, or of which neither way is better.
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
    is_loss = spec.probes[probe].task == "perplexity"
    uneven = ""
    if is_loss:
        uneven = "; ".join(filter(None, (unevenly(*sides(by_seed_)) for by_seed_ in pairs.values())))
    if contrast.probe == GAP and general.keys() != pairs.keys():
        raise compares_nothing(contrast)
    known = [both for by_seed_ in pairs.values() for both in by_seed_.values() if both[0].known and both[1].known]
    if not pairs or (not uneven and not known and not spec.has_grid):
        if spec.has_grid:
            raise compares_nothing(contrast)
        measured = sorted({f"{model.probe}.{model.metric.name}" for model in results})
        detail = f"{contrast.about} against {contrast.against} on {contrast.probe}; measured: {', '.join(measured)}"
        raise UserError("A contrast compares nothing.", detail, "name a metric that both cells have")
    metrics = [model.metric for sides_by_seed in pairs.values() for both in sides_by_seed.values() for model in both]
    metric = next(
        (metric for metric in metrics if metric.scale == "real"), metrics[0]
    )  # of a model never right all is 0
    if metric.direction == "none":
        fix = "take another metric; this one is in the tables"
        raise UserError("Of that metric neither way is better.", contrast.probe, fix)
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


def sides(pairs: Mapping[int, Pair]) -> tuple[dict[int, Scores], dict[int, Scores]]:
    """Both sides of one cell, by seed."""
    return {seed: both[0] for seed, both in pairs.items()}, {seed: both[1] for seed, both in pairs.items()}


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
