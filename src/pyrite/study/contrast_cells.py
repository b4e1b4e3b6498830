"""One contrast's models, pair by pair, as the cells that are judged: each start and size, and each part of a label probe's
headline. A contrast between cells that are not a grid has one cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pyrite.stats import MAX_MISSING, Answered, ContrastCell, Share, answered_by_both, gap
from pyrite.stats.missing import UNBOUNDED, too_many_missing
from pyrite.study.cells import CellKey
from pyrite.study.label_probes import LabelProbe, Mask
from pyrite.study.scores import Array, Scores, answered
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
