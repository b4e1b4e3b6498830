"""The pilot: of several damages, which one does harm that stands clear of the noise of the items?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyrite.errors import UserError
from pyrite.runs.pilot import PilotRecord
from pyrite.study.cells import CellKey
from pyrite.study.scores import Scores, by_seed, over_items, within
from pyrite.study.sentences import amount
from pyrite.study.spec import StudySpec


@dataclass(frozen=True)
class Tried:
    """One damage: the metric with it and without, the difference (damaged minus not) with its paired 95 % interval over
    items, and the tokens that its training read. Of shares in 0-1."""

    name: str
    value: float
    before: float
    difference: float
    low: float | None
    high: float | None
    n: int
    tokens: int


@dataclass(frozen=True)
class Pilot:
    """A pilot's table, the seed that it trained with, and the damage that its rule names; None where no interval excludes
    0 on the bad side."""

    study: str
    seed: int
    metric: str
    share: bool
    against: str
    tried: tuple[Tried, ...]
    chosen: str | None
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        table = [asdict(candidate) for candidate in self.tried]
        header = {
            "study": self.study,
            "seed": self.seed,
            "metric": self.metric,
            "against": self.against,
            "tried": table,
        }
        return {**header, "chosen": self.chosen, "sentence": self.sentence}


def answer_pilot(spec: StudySpec, values: Sequence[Scores], costs: Sequence[Mapping[str, Any]]) -> Pilot:
    """Each damage of the grid against the undamaged model, item by item, and the one that the rule names.

    Raises:
        UserError: the metric was not measured, or it has no preferred direction.
    """
    assert spec.pilot is not None
    scores_by_cell = by_seed(values)
    name, against, seed = spec.pilot.metric, spec.pilot.against, spec.pilot.seed
    before = scores_by_cell.get((CellKey(against), "pilot", name), {}).get(seed)
    if before is None:
        metrics = sorted({value.metric.name for value in values})
        raise UserError(
            "The pilot's metric was not measured.", f"{name}; there is {', '.join(metrics)}", "name one of these"
        )
    if before.metric.direction == "none":
        raise UserError("That metric has no preferred direction.", name, "name another for the pilot")
    read = {row["step"]: int(row["tokens"] or 0) for row in costs}
    tried = []
    for damage in spec.pilot.grid:
        after = scores_by_cell.get((CellKey(damage), "pilot", name), {}).get(seed)
        if after is None:  # it destroyed the model: nothing of it is a number
            tried.append(Tried(damage, math.nan, before.estimate.value, math.nan, None, None, 0, read.get(damage, 0)))
            continue
        change = over_items([after], [before])
        low, high = within(change, after.metric, -1.0)
        found_here = (after.estimate.value, before.estimate.value, change.value, low, high, change.n)
        tried.append(Tried(damage, *found_here, read.get(damage, 0)))
    worse = before.metric.direction == "higher"
    best = choose_damage(tried, falls=worse)
    share = before.metric.scale == "share"
    return Pilot(
        spec.study, seed, name, share, against, tuple(tried), best, pilot_sentence(best, tried, name, share=share)
    )


def picked_seeds(spec: StudySpec, pilot: PilotRecord | None) -> tuple[int, ...]:
    """Which of the study's seeds did the pilot train with, on whose models it then chose the study's damage?

    Of such a seed the same model, row by row, comes back as a replicate, and the choice among several makes it look worse
    than another training of the same kind would. Pilots have a seed of their own; older ones took the study's first.
    """
    if pilot is None or spec.damage not in {damage.name for damage in pilot.tried}:
        return ()
    seed = pilot.training_seed
    return (seed,) if seed in spec.seeds else ()


def choose_damage(tried: Sequence[Tried], *, falls: bool) -> str | None:
    """The damage whose interval lies wholly on the bad side of 0 and ends farthest from it; of equals, fewer tokens.

    `falls`: the bad side is below 0. None where no interval excludes 0 there.
    """
    ends = [
        (
            candidate.high if falls else None if candidate.low is None else -candidate.low,
            candidate.tokens,
            candidate.name,
        )
        for candidate in tried
    ]
    sure = sorted((end, tokens, name) for end, tokens, name in ends if end is not None and end < 0)
    return sure[0][2] if sure else None


def pilot_sentence(best: str | None, tried: Sequence[Tried], metric: str, *, share: bool) -> str:
    """What the pilot found, in words."""
    items = max(candidate.n for candidate in tried)
    if best is None:
        return (
            f"No damage is found: on these {items} items no training of the grid harms {metric} with a 95 % interval "
            "that excludes 0. Nothing to repair can be shown with it: try stronger damages, or more items."
        )
    winner = next(winner for winner in tried if winner.name == best)
    low, high = (amount(bound, share) for bound in (winner.low or 0.0, winner.high or 0.0))
    flattered = " It was picked among several, which flatters it: the study's own items judge it." * (len(tried) > 1)
    return (
        f"The damage is {best}: {metric} changes by {amount(winner.difference, share)} (95 % interval {low} to {high}, "
        f"{items} items).{flattered} Write `damage: {best}` into the study file."
    )


def same_items(scores: Iterable[Scores], probe: str) -> set[str]:
    """The items that a probe asked."""
    return {item.item for model in scores if model.probe == probe for item in model.items}


def check_apart(scores: Iterable[Scores], probes: Iterable[str], pilot_items: Iterable[str]) -> None:
    """Refuse a study on items that its pilot has seen."""
    every = list(scores)
    for probe in probes:
        both = same_items(every, probe) & set(pilot_items)
        if both:
            shared = f"probe {probe}: {len(both)} items, the first: {min(both)}"
            raise UserError("The study asks items that chose the damage.", shared, "skip the pilot's items: skip: N")
