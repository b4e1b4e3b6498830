"""Two models on the same items, item by item: which is better, and on which items did they part?

Every difference is the second model named (B) minus the first (A).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Estimate
from pyrite.stats import Verdict, no_room
from pyrite.stats.clustered import Change, change_of_items
from pyrite.stats.decision import adjusted, p_text, verdict_of
from pyrite.stats.missing import UNBOUNDED, too_many_missing
from pyrite.tasks.scoring import (
    OVERALL,
    STRATUM,
    ItemScore,
    Metric,
    check_columns,
    is_grouped,
    of_metric,
    slice_places,
    title,
)

ALPHA = 0.05
WORDS = {Verdict.EQUIVALENT: "equivalent within the margin", Verdict.NOT_TESTABLE: "not testable here"}
"""A verdict in a sentence, where its own value is too short."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One item's values of one metric under both models; None where a model has no answer to it."""

    item: str
    metric: str
    first: float | None
    second: float | None
    group: str
    slices: Mapping[str, str]
    weights: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Contrast:
    """One metric on one slice: both means over the items that both answered, B - A, and what that says.

    A metric's overall line is primary, or the lines of its headline slices where the task names such (HANS: the
    non-entailment of each heuristic); verdicts of primary lines rest on p-values adjusted (Holm) over all of them, those
    of the others are exploratory and rest on their own. `verdict` is None for a metric without a preferred direction.
    `worst` holds the least and the largest change that the missing answers could make, where an item has an answer on one
    side only and values are shares.
    """

    metric: str
    by: str
    name: str
    primary: bool
    first: float | None
    second: float | None
    change: Change
    margin: float
    verdict: Verdict | None
    why: str
    sentence: str
    p_difference_adjusted: float | None = None
    p_equivalence_adjusted: float | None = None
    worst: tuple[Change, Change] | None = None

    @property
    def bounds(self) -> dict[str, float | None] | None:
        """The ends of the interval whatever the missing answers would have been; None where none is missing."""
        if self.worst is None:
            return None
        return {"low": self.worst[0].difference.low, "high": self.worst[1].difference.high}

    def as_json(self) -> dict[str, Any]:
        """The contrast as plain values; `value` is null where no item was answered by both."""
        difference = self.change.difference.as_json()
        if self.change.difference.n == 0:
            difference["value"] = None
        return {
            "metric": self.metric,
            "by": self.by,
            "name": self.name,
            "primary": self.primary,
            "first": self.first,
            "second": self.second,
            "difference": difference,
            "bounds": self.bounds,
            "margin": self.margin,
            "p_difference": self.change.p_difference,
            "p_equivalence": self.change.p_equivalence,
            "p_difference_adjusted": self.p_difference_adjusted,
            "p_equivalence_adjusted": self.p_equivalence_adjusted,
            "verdict": None if self.verdict is None else self.verdict.value,
            "why": self.why,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Model B against model A: every metric overall and by slice."""

    names: tuple[str, str]
    lines: list[Contrast]

    @property
    def primary(self) -> list[Contrast]:
        """The lines that verdicts rest on: each metric's overall one, or those of its headline slices."""
        return [line for line in self.lines if line.primary]

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        lines = [line.as_json() for line in self.lines]
        return {"first": self.names[0], "second": self.names[1], "difference": "second - first", "contrasts": lines}


@dataclass(frozen=True, slots=True)
class Flip:
    """An item whose value of a share metric differs: `gained` is for the better under B, `lost` for the worse."""

    item: str
    metric: str
    way: Literal["lost", "gained", "changed"]
    first: int
    second: int
    slices: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """The flip as plain values."""
        values = {"item": self.item, "metric": self.metric, "way": self.way, "first": self.first, "second": self.second}
        return values | {"slices": dict(self.slices)}


def compare(
    a: Sequence[ItemScore],
    b: Sequence[ItemScore],
    metrics: Sequence[Metric],
    cuts: Sequence[tuple[str, ...]],
    *,
    margin: float,
    seed: int,
    margins: Mapping[str, float] | None = None,
    names: tuple[str, str] = ("A", "B"),
    cluster: str = "groups",
    headlines: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
) -> Comparison:
    """Is model B worse than, better than or equivalent to model A on the items that both answered?

    An item that only one of them answered counts as missing. `margin` is in units of the metric; `margins` names
    others by metric; `headlines` names the slices that a metric's verdicts look at in the place of all items. Intervals
    and p-values are those of `change_of_items`. The verdict, in this order: "not testable" where more than a tenth of the
    items have an answer on one side only, where both shares lie near the same edge (on all items, or on every gold
    label), or where no difference is clear and the first model leaves no room for a harm as large as the margin
    (`stats.edges`); "equivalent" where the p of equivalence is below 0.05, which goes before a difference too small to
    matter; "worse" or "better" where that of the difference is, by its sign and by which way is better; else "cannot
    tell yet". A verdict that the missing answers could change is "cannot tell yet", too; of a metric without a least and
    a most, one missing answer on one side leaves nothing to test. It speaks of these two models, not of training others.

    Raises:
        UserError: a metric that neither has, the same item with another group or other slices, a margin not above 0,
            or anything that `summarise` refuses.
    """
    check_columns([*a, *b], cuts)
    plain = []
    for metric in metrics:
        pairs = pair(a, b, metric)
        grouped = is_grouped([item.group for item in pairs])
        metric_margin = (margins or {}).get(metric.name, margin)
        for values, members in slice_places([item.slices for item in pairs], cuts):
            slice_pairs = [pairs[at] for at in members]
            change = change_of(slice_pairs, metric, grouped=grouped, seed=seed, margin=metric_margin, cluster=cluster)
            first, second = means(slice_pairs)
            by, name = title(values)
            slices = (headlines or {}).get(metric.name) or ({},)
            primary = any(dict(values) == dict(headline) for headline in slices)
            line = Contrast(metric.name, by, name, primary, first, second, change, metric_margin, None, "", "")
            line = replace(
                line,
                worst=at_worst(slice_pairs, metric, grouped=grouped, seed=seed, margin=metric_margin, cluster=cluster),
            )
            plain.append((metric, slice_pairs, line))
    family = {at: line for at, (metric, _, line) in enumerate(plain) if line.primary and metric.direction != "none"}
    unable = {}
    for at, (metric, slice_pairs, line) in enumerate(plain):
        p = line.change.p_difference
        clear = p is not None and p < (ALPHA / max(1, len(family)) if at in family else ALPHA)
        unable[at] = not_testable(line, slice_pairs, metric, names, clear=clear)
    difference = {at: None if unable[at] else line.change.p_difference for at, line in family.items()}
    equivalence = {at: None if unable[at] else line.change.p_equivalence for at, line in family.items()}
    lines = []
    for at, (metric, _, line) in enumerate(plain):

        def counted(change: Change, at: int = at) -> tuple[float | None, float | None]:
            """The p-values of a line's change that count, adjusted where it is primary."""
            if at not in family or unable[at]:
                return change.p_difference, change.p_equivalence
            return (
                adjusted({**difference, at: change.p_difference})[at],
                adjusted({**equivalence, at: change.p_equivalence})[at],
            )

        p, q = counted(line.change)
        if at in family:
            adjusted_p = (None, None) if unable[at] else (p, q)
            line = replace(line, p_difference_adjusted=adjusted_p[0], p_equivalence_adjusted=adjusted_p[1])
        verdict, why = judge_line(line, metric, p, q, unable[at])
        if line.worst and verdict not in (None, Verdict.CANNOT_TELL, Verdict.NOT_TESTABLE):
            for worst in line.worst:
                if worded_verdict(worst, metric, *counted(worst), line.margin)[0] is not verdict:
                    of = line.change.difference.n + line.change.difference.n_missing
                    why = (
                        f"{line.change.difference.n_missing} of {of} items lack an answer; without them it would be "
                        f"{verdict.value if verdict else 'none'}, but counted against one side they could change that"
                    )
                    verdict = Verdict.CANNOT_TELL
                    break
        lines.append(replace(line, verdict=verdict, why=why, sentence=say(line, metric, verdict, why, names)))
    return Comparison(names, lines)


def at_worst(
    pairs: Sequence[Pair],
    metric: Metric,
    *,
    grouped: bool,
    seed: int,
    margin: float | None = None,
    cluster: str = "groups",
) -> tuple[Change, Change] | None:
    """B - A at the least and at the most that it could be: every missing answer counted as the least for B and the
    most for A, and the reverse. None where values have no bounds or no item has an answer on one side only; items that neither answered
    are left out."""
    if metric.bounds is None or not one_sided(pairs):
        return None
    least, most = metric.bounds
    answered = [item for item in pairs if item.first is not None or item.second is not None]

    def filled(first: float, second: float) -> Change:
        filled_pairs = [
            replace(
                item,
                first=first if item.first is None else item.first,
                second=second if item.second is None else item.second,
            )
            for item in answered
        ]
        return change_of(filled_pairs, metric, grouped=grouped, seed=seed, margin=margin, cluster=cluster)

    return filled(most, least), filled(least, most)


def one_sided(pairs: Sequence[Pair]) -> int:
    """How many items have an answer on one side only?"""
    return sum((item.first is None) != (item.second is None) for item in pairs)


def pair(a: Sequence[ItemScore], b: Sequence[ItemScore], metric: Metric) -> list[Pair]:
    """The items of one metric under both models, in A's order, then those that only B has."""
    if not any(item.metric == metric.name for item in [*a, *b]):
        of_metric([*a, *b], metric)  # says what there is
    sides = [{item.item: item for item in side if item.metric == metric.name} for side in (a, b)]
    for side in (a, b):
        if any(item.metric == metric.name for item in side):
            of_metric(side, metric)
    pairs = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        x, y = sides[0].get(name), sides[1].get(name)
        either = x or y
        assert either is not None
        if x and y and (x.group != y.group or dict(x.slices) != dict(y.slices)):
            detail = f"item {name}, metric {metric.name}: {x.group} {dict(x.slices)} and {y.group} {dict(y.slices)}"
            raise UserError("The two models were not asked the same items.", detail, "measure both on the same task")
        values = (x.value if x else None, y.value if y else None)
        weights = (x.weight if x else 1.0, y.weight if y else 1.0)
        pairs.append(Pair(name, metric.name, *values, either.group, either.slices, weights))
    return pairs


def change_of(
    pairs: Sequence[Pair],
    metric: Metric,
    *,
    grouped: bool,
    seed: int,
    margin: float | None = None,
    cluster: str = "groups",
) -> Change:
    """B - A over the items that both answered; the others count as missing."""
    both = [(item, item.first, item.second) for item in pairs if item.first is not None and item.second is not None]
    missing = len(pairs) - len(both)
    if not both:
        none = Estimate(math.nan, None, None, 0, missing, metric.direction, method="no item answered by both")
        return Change(none, None, None)
    return change_of_items(
        [first for _, first, _ in both],
        [second for _, _, second in both],
        [item.group for item, _, _ in both],
        first_weights=[item.weights[0] for item, _, _ in both],
        second_weights=[item.weights[1] for item, _, _ in both],
        share=metric.scale == "share" and all({first, second} <= {0, 1} for _, first, second in both),
        grouped=grouped,
        margin=margin,
        n_missing=missing,
        direction=metric.direction,
        cluster=cluster,
        rng=np.random.default_rng(seed),
    )


def means(pairs: Sequence[Pair]) -> tuple[float | None, float | None]:
    """Both models' weighted means over the items that both answered."""
    both = [(item, item.first, item.second) for item in pairs if item.first is not None and item.second is not None]
    if not both:
        return None, None
    first = np.average([x for _, x, _ in both], weights=[item.weights[0] for item, _, _ in both])
    second = np.average([y for _, _, y in both], weights=[item.weights[1] for item, _, _ in both])
    return float(first), float(second)


def judge_line(
    line: Contrast, metric: Metric, p: float | None, q: float | None, unable: str
) -> tuple[Verdict | None, str]:
    """What does a line say, given the p-values of difference (p) and equivalence (q) that count, and why? `unable`: why it
    cannot be tested."""
    if metric.direction == "none":
        return None, "this metric has no preferred direction"
    if unable:
        return Verdict.NOT_TESTABLE, unable
    return worded_verdict(line.change, metric, p, q, line.margin)


def not_testable(line: Contrast, pairs: Sequence[Pair], metric: Metric, names: tuple[str, str], *, clear: bool) -> str:
    """Why can a line not be answered? Empty where it can. `clear`: its difference is beyond chance."""
    lost = one_sided(pairs)
    if why := too_many_missing(lost, lost + line.change.difference.n):
        return why
    if lost and metric.bounds is None:
        return f"{lost} items have an answer on one side only, and {UNBOUNDED}"
    if metric.scale != "share" or line.first is None or line.second is None:
        return ""
    return no_room(
        line.second,
        line.first,
        line.margin,
        clear=clear,
        direction=metric.direction,
        names=(names[1], names[0]),
        by_gold=by_gold(pairs),
    )


def by_gold(pairs: Sequence[Pair]) -> dict[str, tuple[float, float]]:
    """The second model's and the first one's share on each gold label, where the items have such."""
    golds: dict[str, list[Pair]] = {}
    for item in pairs:
        if STRATUM in item.slices:
            golds.setdefault(item.slices[STRATUM], []).append(item)
    shares = {gold: means(pairs_of_gold) for gold, pairs_of_gold in golds.items()}
    return {gold: (b, a) for gold, (a, b) in shares.items() if a is not None and b is not None}


def worded_verdict(
    change: Change, metric: Metric, p: float | None, q: float | None, margin: float
) -> tuple[Verdict, str]:
    """Equivalent, worse, better, or cannot tell yet (`stats.decision`), by the p-values of difference (p) and equivalence
    (q) that count; and why, in words about items."""
    difference = change.difference
    if p is None or q is None:
        return Verdict.CANNOT_TELL, difference.method
    verdict = verdict_of(difference.value, p, q, direction=metric.direction, alpha=ALPHA)
    if verdict is Verdict.EQUIVALENT:
        why = f"the difference lies within ±{margin:g} ({p_text(q)} for equivalence)"
        if p < ALPHA:
            why += f", and although it differs from 0 ({p_text(p)}) it is too small to matter"
    elif verdict is Verdict.CANNOT_TELL:
        why = f"it is neither clearly different from 0 ({p_text(p)}) nor shown to lie within ±{margin:g} ({p_text(q)})"
    else:
        why = f"chance would seldom make such a difference ({p_text(p)})"
        why += ", and lower is better" * (metric.direction == "lower")
    return verdict, why


def say(line: Contrast, metric: Metric, verdict: Verdict | None, why: str, names: tuple[str, str]) -> str:
    """One plain sentence on a line."""
    difference = line.change.difference
    share = metric.scale == "share"
    where = line.metric if line.by == OVERALL else f"{line.metric} where {line.by} is {line.name}"
    sentence = f"{names[1]} against {names[0]} on {where}, these two models: "
    sentence += "no verdict" if verdict is None else WORDS.get(verdict, verdict.value)
    if difference.n == 0:
        return f"{sentence} ({difference.n_missing} items, none answered by both)."
    numbers = f"{_signed(difference.value, share)}{' points' * share}, "
    if difference.low is None or difference.high is None:
        numbers += "no interval" if why == difference.method else f"no interval ({difference.method})"
    else:
        numbers += f"95 % interval {_signed(difference.low, share)} to {_signed(difference.high, share)}"
    numbers += f"; {difference.n} items" + f", {difference.n_missing} more missing" * (difference.n_missing > 0)
    return f"{sentence} ({numbers}): {why}." + (" Exploratory." if not line.primary else "")


def flips(a: Sequence[ItemScore], b: Sequence[ItemScore], metrics: Sequence[Metric]) -> list[Flip]:
    """On which items of the share metrics do the models part? By metric, those that B lost first, then by item.

    Where lower is better (a share of refusals), 0 under A and 1 under B is lost; where neither is, it is "changed".
    """
    order = {"lost": 0, "gained": 1, "changed": 2}
    flipped = []
    for metric in metrics:
        if metric.scale != "share":
            continue
        flips_of_metric = []
        for item in pair(a, b, metric):
            if item.first is None or item.second is None or item.first == item.second:
                continue
            if not {item.first, item.second} <= {0, 1}:  # judges' votes were split: no side to change
                continue
            way: Literal["lost", "gained", "changed"] = "changed"
            if metric.direction != "none":
                way = "gained" if (item.second > item.first) == (metric.direction == "higher") else "lost"
            flips_of_metric.append(Flip(item.item, metric.name, way, int(item.first), int(item.second), item.slices))
        flipped += sorted(flips_of_metric, key=lambda flip: (order[flip.way], flip.item))
    return flipped


def _signed(value: float, share: bool) -> str:
    return f"{value * 100:+.1f}" if share else f"{value:+.3f}"
