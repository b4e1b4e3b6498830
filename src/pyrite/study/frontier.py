"""A study's frontier: what does every cell bring back of what the harm took, and keep of what it brought?

The same shares as in a single repair (`repair.frontier`), over training seeds, on which they rest, and over the items of these
very models. A cell that was chosen among others was chosen on other items, and on the same seeds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrite.repair.choose import choose_candidate, scores, unclear_of
from pyrite.repair.frontier import GAINED, LOST, Axis, point_sentence, share_of_change
from pyrite.stats import ShareOfChange, share_over_answers
from pyrite.study.cells import CellKey
from pyrite.study.scores import Scores, ScoresKey, by_seed, pooled, reference_of
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import FrontierSpec

Sides = Mapping[int, Scores]
"""One cell's values of one metric, by seed."""


def frontier_record(results: Sequence[Scores], spec: StudySpec, judged: Sequence[int]) -> dict[str, Any] | None:
    """The frontier as plain values, in the shape of a repair's; None where the file asks for none. Its points are the
    written-out cells.

    `judged` are the seeds that count: not those on whose models a pilot chose the harm.
    """
    spec_of_frontier = spec.frontier
    if spec_of_frontier is None:
        return None
    table = by_seed([model.of_headline() for model in results if model.seed in judged], unknown=True)
    selection = None if spec_of_frontier.choose is None else chosen(table, spec_of_frontier, spec)
    points = []
    for cell in spec.cells:
        key = CellKey(cell.name, cell.start or "", cell.size)
        sides = {
            side: sides_of(table, getattr(spec_of_frontier, side), key, spec_of_frontier) for side in (LOST, GAINED)
        }
        if cell.name in (spec_of_frontier.before, spec_of_frontier.harmed) or sides[LOST] is None:
            continue
        mix = next((spec.merge[step] for step in cell.steps if step in spec.merge), None)
        is_mix = mix is not None and cell.steps[-1] in spec.merge
        shares = {
            word: None if sides[side] is None else both(side, sides[side], spec.max_missing)  # type: ignore[arg-type]
            for word, side in (("recovered", LOST), ("kept", GAINED))
        }
        axes = {getattr(spec_of_frontier, side): shares[word] for word, side in (("recovered", LOST), ("kept", GAINED))}
        points.append(
            {
                "name": point_name(key, spec),
                "method": "interpolate" if is_mix else method_of(spec, cell.steps),
                "alpha": None if mix is None or len(cell.steps) > 2 else mix.alpha,
                "chosen": selection is not None and cell.name == selection["name"],
                **shares,
                "shares": {name: share for name, share in axes.items() if share is not None},
            }
        )
    names: dict[str, str | None] = {LOST: spec_of_frontier.lost, GAINED: spec_of_frontier.gained}
    record: dict[str, Any] = {**names, "keep": spec_of_frontier.keep, "points": points, "selection": selection}
    return {
        **record,
        "over": "seeds" if len(judged) > 1 else "items of one seed's models",
        "sentences": [point_sentence(point, names) for point in points],
    }


def point_name(key: CellKey, spec: StudySpec) -> str:
    """What a point is called: its cell, with its start and size where there are several of the name."""
    several = sum(cell.name == key.name for cell in spec.cells) > 1
    return f"{key.name} (start {key.start}, {key.size:,} rows)" if several else key.name


def method_of(spec: StudySpec, steps: Sequence[str]) -> str:
    """How a cell's last repair worked; the name of its last step where it has none."""
    repairs = [spec.repairs[name].settings.method for name in steps if name in spec.repairs]
    return repairs[-1] if repairs else steps[-1] if steps else "given"


def sides_of(
    table: Mapping[ScoresKey, Sides], named: str, key: CellKey, spec_of_frontier: FrontierSpec
) -> tuple[Sides, Sides, Sides] | None:
    """A metric's scores of the cells before, harmed, and of this one, in the seeds that all have; None where it was not
    asked."""
    probe, _, metric = named.partition(".")
    cells = (reference_of(key, spec_of_frontier.before), reference_of(key, spec_of_frontier.harmed), key)
    three = [table.get((cell, probe, metric), {}) for cell in cells]
    seeds = sorted(set.intersection(*(set(side) for side in three)))
    if not seeds:
        return None
    before, harmed, now = ({seed: side[seed] for seed in seeds} for side in three)
    return before, harmed, now


def both(side: str, sides: tuple[Sides, Sides, Sides], max_missing: float) -> dict[str, Any]:
    """A share over seeds, beside the same over the items of these models, and each seed's own. With one seed the share is
    that over items."""
    before, harmed, now = sides
    origin, goal = (harmed, before) if side == LOST else (before, harmed)
    metric = next(iter(now.values())).metric
    first, second, third = (pooled(list(scores_by_seed.values())) for scores_by_seed in (origin, goal, now))
    items = share_of_change(first, second, third, metric, max_missing=max_missing)
    headline = items if len(now) == 1 else share_of_seeds(origin, goal, now, max_missing)
    each = [
        share_of_change(origin[seed].items, goal[seed].items, now[seed].items, metric, max_missing=max_missing)
        for seed in now
    ]
    per_seed = [None if share.estimate is None else share.estimate.value for share in each]
    return {**headline.as_json(), "over_items": items.as_json(), "seeds": list(now), "per_seed": per_seed}


def share_of_seeds(origin: Sides, goal: Sides, now: Sides, max_missing: float) -> ShareOfChange:
    """The share over seeds, on the items that all models answered in all of them."""
    metric = next(iter(now.values())).metric
    names = list(dict.fromkeys(item.item for value in now.values() for item in value.items))

    def table(side: Sides) -> NDArray[np.float64]:
        rows = [{item.item: item.value for item in value.items} for value in side.values()]
        return np.array([[math.nan if (x := row.get(name)) is None else x for name in names] for row in rows])

    weights = {item.item: item.weight for item in next(iter(now.values())).items}
    weight = np.array([[weights.get(name, 1.0) for name in names]] * len(now))
    return share_over_answers(
        table(origin), table(goal), table(now),
        weights=weight, higher=metric.direction != "lower", bounds=metric.bounds, max_missing=max_missing,
    )  # fmt: skip


def chosen(table: Mapping[ScoresKey, Sides], spec_of_frontier: FrontierSpec, spec: StudySpec) -> dict[str, Any] | None:
    """Which of the cells in question is taken, by their means over seeds on the items that choose; None where not all were
    asked in a common seed."""
    assert spec_of_frontier.choose is not None
    ends, among = (spec_of_frontier.before, spec_of_frontier.harmed), spec_of_frontier.choose.among
    first_cell = next(cell for cell in spec.cells if cell.name == among[0])
    key = CellKey(first_cell.name, first_cell.start or "", first_cell.size)
    sides: dict[str, dict[str, Sides]] = {}
    for side in (LOST, GAINED):
        probe, _, name = getattr(spec_of_frontier.choose, side).partition(".")
        sides[side] = {cell: table.get((reference_of(key, cell), probe, name), {}) for cell in (*ends, *among)}
    seeds = sorted(set.intersection(*(set(models) for side in sides.values() for models in side.values())))
    if not seeds:
        return None
    means: dict[str, dict[str, float | None]] = {}
    axes = {}
    for side, models in sides.items():
        metric = next(iter(models[spec_of_frontier.before].values())).metric
        axes[side] = Axis(side, getattr(spec_of_frontier.choose, side).partition(".")[0], metric)
        each = [scores({cell: models[cell][seed].items for cell in models}, metric, ends) for seed in seeds]
        means[side] = {cell: mean_or_none([by_cell[cell] for by_cell in each]) for cell in models}
    both_axes = (axes[LOST], axes[GAINED])
    old, new = (
        [pooled([sides[axis.side][cell][seed] for seed in seeds]) for axis in both_axes] for cell in ends
    )  # fmt: skip
    choice = choose_candidate(
        means[LOST], means[GAINED], among, models=ends, axes=both_axes, keep=spec_of_frontier.keep, middle=middle_of(among, spec),
        unclear=unclear_of(old, new, both_axes),
    )  # fmt: skip
    by = {LOST: spec_of_frontier.choose.lost, GAINED: spec_of_frontier.choose.gained}
    return {"share": None, "name": choice.name, "why": choice.why, "tried": choice.tried, "by": by, "seeds": seeds}


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if len(present) == len(values) else None


def middle_of(cells: Sequence[str], spec: StudySpec) -> str:
    """The cell whose merge is nearest to one half; of cells without a merge the one in the middle of their list."""
    steps = {cell.name: cell.steps for cell in spec.cells}
    alphas = {cell: spec.merge[step].alpha for cell in cells for step in steps[cell] if step in spec.merge}
    if not alphas:
        return cells[len(cells) // 2]
    return min(alphas, key=lambda cell: abs(alphas[cell] - 0.5))
