"""Which of several candidates becomes the repaired model? One is chosen on a part of the items, and judged on the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.probe.probe_task import Result
from pyrite.repair.candidates import BEFORE, HARMED, Candidate
from pyrite.repair.check import ALPHA
from pyrite.repair.frontier import GAINED, KEEP, LOST, Axis, headline_items, share_of_change
from pyrite.repair.plan import RepairPlan
from pyrite.repair.scorecard import ScoredModel
from pyrite.stats.missing import too_many_missing
from pyrite.stats.ratio import OTHER_SIDE
from pyrite.tasks.scoring import ItemScore, Metric


def divide_items(result: Result, share: float, seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """A task's items in two parts, whole groups each: those that a choice may look at, about `share` of the groups, and the
    rest. A function of the items and the seed alone.

    Raises:
        UserError: a part would be empty.
    """
    groups = sorted({item.group for item in result.measured})
    first = round(share * len(groups))
    if not 0 < first < len(groups):
        detail = f"--select {share:g} of {len(groups)} {result.cluster}"
        raise UserError("The items cannot be divided that way.", detail, "ask more items, or another --select")
    order = np.random.default_rng([seed, 0x5E1EC7]).permutation(len(groups))
    picked = {groups[int(at)] for at in order[:first]}
    return (
        frozenset(item.item for item in result.measured if item.group in picked),
        frozenset(item.item for item in result.measured if item.group not in picked),
    )


Scores = Mapping[str, float | None]
"""Every model's mean on the items of a choice; None of a model that lacks so many answers that it cannot be taken."""


def scores(items: Mapping[str, Sequence[ItemScore]], metric: Metric, fixed: Sequence[str]) -> dict[str, float | None]:
    """Every model's mean, by model, over the items that the `fixed` models (before, harmed) answered.

    An item that another model did not answer counts as the worst that it could be: a candidate must not win by losing its
    failures. None of a model that lacks more than a tenth of the answers, or any where values have no worst.

    Raises:
        UserError: no item was answered by the fixed models.
    """
    sides = {model: {item.item: item for item in measured} for model, measured in items.items()}
    first = sides[fixed[0]]
    shared = [
        name for name in first if all(name in sides[model] and sides[model][name].value is not None for model in fixed)
    ]
    if not shared:
        detail, fix = metric.name, "ask more items"
        raise UserError("No item that chooses was answered by the model before and the harmed one.", detail, fix)
    worst = None if metric.bounds is None else metric.bounds[metric.direction == "lower"]
    weights = [first[name].weight for name in shared]
    means: dict[str, float | None] = {}
    for model, side in sides.items():
        values = [side[name].value if name in side else None for name in shared]
        lost = values.count(None)
        if lost and (worst is None or too_many_missing(lost, len(values))):
            means[model] = None
            continue
        means[model] = float(np.average([worst if value is None else value for value in values], weights=weights))
    return means


@dataclass(frozen=True)
class Choice:
    """Which of several candidates is taken, why, and each one's scores and shares on the items of the choice."""

    name: str
    why: str
    tried: list[dict[str, Any]]


def choose_candidate(
    lost: Scores, gained: Scores, candidates: Sequence[str], *, models: tuple[str, str], axes: tuple[Axis, Axis],
    middle: str, unclear: str = "", keep: float = KEEP,
) -> Choice:  # fmt: skip
    """Of the candidates that keep at least `keep` of the gain, the one that recovers most; where none keeps so much, the one
    that keeps most. Equal ones: the one that keeps more.

    `lost` and `gained` are all models' scores on the items of the choice, `models` names the one before and the harmed
    one, `axes` what was lost and what was gained. Where these items do not show clearly that something was lost and
    something gained (`unclear` says which), noise would choose: `middle` is then taken (the alpha nearest to one half, or of a list without alphas the middle).

    Raises:
        UserError: no candidate answered enough to be taken.
    """
    before, harmed = models
    rising = [-1.0 if axis.metric.direction == "lower" else 1.0 for axis in axes]

    def way(scored: Scores, sign: float, start: str, end: str) -> float | None:
        ends = scored[start], scored[end]
        return None if ends[0] is None or ends[1] is None else sign * (ends[1] - ends[0])

    recovered = {name: way(lost, rising[0], harmed, name) for name in (before, harmed, *candidates)}
    kept_change = {name: way(gained, rising[1], before, name) for name in (before, harmed, *candidates)}
    loss, gain = recovered[before], kept_change[harmed]
    tried = [
        {
            "name": name,
            LOST: lost[name],
            GAINED: gained[name],
            "recovered": None if (back := recovered[name]) is None or not loss or loss < 0 else back / loss,
            "kept": None if (kept_part := kept_change[name]) is None or not gain or gain < 0 else kept_part / gain,
        }
        for name in (before, harmed, *candidates)
    ]
    eligible = {
        name: (back, kept_part)
        for name in candidates
        if (back := recovered[name]) is not None and (kept_part := kept_change[name]) is not None
    }
    if not eligible:
        fix = "look at their answers: too many are missing"
        raise UserError("No candidate answered enough of the items that choose.", ", ".join(candidates), fix)
    left_out = [name for name in candidates if name not in eligible]
    lacking = f"; {', '.join(left_out)} left out, as too many of their answers are missing" * bool(left_out)
    if unclear or not gain or gain < 0:
        name = middle if middle in eligible else next(iter(eligible))
        how = "the alpha nearest to one half, or without alphas the middle of the list"
        how = how if name == middle else "the first that answered enough"
        why = f"noise would choose, so it is {how}: on the items that choose {unclear or 'nothing was gained'}"
        return Choice(name, why + lacking, tried)
    able = [name for name, (_, kept_part) in eligible.items() if kept_part >= keep * gain - 1e-12]
    if not able:
        name = max(eligible, key=lambda cell: (eligible[cell][1], eligible[cell][0]))
        return Choice(name, f"none keeps {keep:.0%} of the gain; it keeps most of it{lacking}", tried)
    name = max(able, key=lambda cell: eligible[cell])
    why = f"of those that keep at least {keep:.0%} of the gain it brings back the largest share there"
    if eligible[name][0] <= 0:
        why += ", which is nothing"
    return Choice(name, why + lacking, tried)


def unclear_of(
    before: Sequence[Sequence[ItemScore]], harmed: Sequence[Sequence[ItemScore]], axes: tuple[Axis, Axis]
) -> str:
    """What is not clear of 0 on the items that choose: that something was lost, or gained? Empty where both are clear.

    `before` and `harmed` are the two models' items on the axis of what was lost and on that of what was gained.
    """
    reasons = []
    for old, new, axis in zip(before, harmed, axes, strict=True):
        origin, goal = (new, old) if axis.side == LOST else (old, new)
        share = share_of_change(origin, goal, goal, axis.metric)
        if share.why == OTHER_SIDE:
            reasons.append(f"nothing was {axis.side} ({axis.name} went the other way)")
        elif share.estimate is None:
            reasons.append(f"it is not clear that something was {axis.side} ({axis.name})")
    return " and ".join(reasons)


ItemsLeft = Mapping[str, frozenset[str]]
"""By task: the items that judge, where other ones chose."""


def selected_candidate(
    planned: RepairPlan, scored: Mapping[str, ScoredModel], tried: Sequence[Candidate], axes: Sequence[Axis]
) -> tuple[Choice | None, ItemsLeft]:
    """Which candidate is taken, and the items that are left to judge it; None where there is one candidate only."""
    if not planned.chooses:
        return None, {}
    picks, judged = {}, {}
    for task in (*planned.lost, *planned.gained):
        picks[task], judged[task] = divide_items(scored[BEFORE].results[task], planned.select, planned.config.seed)
    lost, gained = (next((axis for axis in axes if axis.side == side), None) for side in (LOST, GAINED))
    if lost is None or gained is None:
        fix = "give a --task and a --gain with a metric of which one way is better, or one --alpha"
        raise UserError("There is nothing to choose an alpha by.", "no metric of which one way is better", fix)
    selection = {name: model.on_items(picks) for name, model in scored.items()}
    first = (lost, gained)
    items = [
        {name: headline_items(scored_model.results[axis.task], axis.metric) for name, scored_model in selection.items()}
        for axis in first
    ]
    lost_means, gained_means = (
        scores(axis_items, axis.metric, (BEFORE, HARMED)) for axis_items, axis in zip(items, first, strict=True)
    )
    before, harmed = ([axis_items[name] for axis_items in items] for name in (BEFORE, HARMED))
    choice = choose_candidate(
        lost_means, gained_means, [candidate.name for candidate in tried],
        models=(BEFORE, HARMED), axes=first, keep=planned.config.keep,
        middle=min(tried, key=lambda candidate: abs((candidate.alpha or 0.0) - ALPHA)).name,
        unclear=unclear_of(before, harmed, first),
    )  # fmt: skip
    return choice, judged
