"""The primary contrasts of a study of a language model, judged over seeds as one family, and said in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyrite.errors import UserError
from pyrite.records import Estimate
from pyrite.stats import MAX_MISSING, Answered, ContrastCell, Judgement, Verdict, judge_family
from pyrite.stats.missing import UNBOUNDED
from pyrite.study.contrasts import unanswered
from pyrite.study.language.spec import LanguageContrast, LanguageSpec
from pyrite.study.language.tables import Value, answered, by_seed, number, over_items, shared_seeds, within
from pyrite.tasks.measure import Metric


@dataclass(frozen=True)
class Answer:
    """A contrast, answered: the judgement over seeds, on which the verdict rests; the paired interval over items of
    each seed's two models and of all seeds' averaged (these models only); one plain sentence."""

    contrast: LanguageContrast
    metric: Metric
    margin: float
    judgement: Judgement
    seeds: tuple[int, ...]
    per_seed: tuple[float, ...]
    items_per_seed: tuple[Estimate, ...]
    items: Estimate
    sentence: str
    uneven: str = ""
    """Why a mean over the items that have a value compares nothing; nothing where it does."""
    left_out: tuple[int, ...] = ()
    """Seeds that do not count: the pilot chose the damage on the results of their models."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "contrast": self.contrast.model_dump(mode="json"),
            "margin": self.margin,
            **self.judgement.as_json(),
            "seeds": list(self.seeds),
            "seeds_left_out": list(self.left_out),
            "per_seed": list(self.per_seed),
            "over_items": self.items.as_json(),
            "over_items_per_seed": [one.as_json() for one in self.items_per_seed],
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Sides:
    """A contrast's models in the seeds that both cells have, and what both sides score on the items that both answered in
    every seed. `uneven` says which items are missing on one side only, where that is the model's doing (see `unevenly`)."""

    contrast: LanguageContrast
    metric: Metric
    margin: float
    seeds: tuple[int, ...]
    a: tuple[Value, ...]
    b: tuple[Value, ...]
    both: Answered
    uneven: str = ""

    def cell(self, scale: float = 1.0) -> ContrastCell:
        """The sides as a contrast's only cell, values multiplied by `scale`."""
        both, name = self.both, self.contrast.cell
        if self.uneven or not both.items:
            nothing = [0.0] * len(self.seeds)
            return ContrastCell(
                name, nothing, nothing, items=0, missing=max(1, both.missing), unanswered=both.unanswered
            )
        low, high = (None if bound is None else bound * scale for bound in (both.low, both.high))
        unable = f"{both.missing} items have no answer on a side, and {UNBOUNDED}" if both.unbounded else ""
        a, b = both.a * scale, both.b * scale
        if self.one_model:  # the same models in every seed are no replicates
            a, b, low, high = a[:1], b[:1], None if low is None else low[:1], None if high is None else high[:1]
        cell = ContrastCell(name, a, b, low, high, both.items, both.missing)
        return replace(cell, unanswered=both.unanswered, unable=unable)

    @property
    def one_model(self) -> bool:
        """Are both sides' items the same in every seed, so that each side is one model (nothing of it was trained)?"""
        return len(self.seeds) > 1 and all(
            [(item.item, item.value) for item in one.items] == [(item.item, item.value) for item in side[0].items]
            for side in (self.a, self.b)
            for one in side
        )


def unevenly(a: Mapping[int, Value], b: Mapping[int, Value]) -> str:
    """Which items have a value in one cell and none in the other, within a seed? In words; nothing where none has.

    A model always gives text a probability: a loss that is missing was not finite, so the items that are left are the
    ones that a destroyed model still bears, and their mean flatters it.
    """
    told = []
    for seed in shared_seeds(a, b):
        for one, other in ((a[seed], b[seed]), (b[seed], a[seed])):
            lost = len(one.missing - other.missing)
            if lost:
                told.append(f"{one.cell}, seed {seed}: {lost} of {len(one.items)} items")
    return "; ".join(told)


def sides(values: Sequence[Value], spec: LanguageSpec) -> list[Sides]:
    """The two sides of every primary contrast.

    Raises:
        UserError: a metric that was not measured on both cells in any seed, or of which neither way is better.
    """
    everything = by_seed(values, unknown=True)
    made = []
    for contrast in spec.contrasts:
        probe, _, name = contrast.probe.partition(".")
        a, b = (everything.get((cell, probe, name), {}) for cell in (contrast.cell, contrast.against))
        seeds = shared_seeds(a, b)
        uneven = unevenly(a, b) if spec.probes[probe].task == "perplexity" else ""
        if not uneven and not any(a[seed].known and b[seed].known for seed in seeds):
            known = sorted({f"{one.probe}.{one.metric.name}" for one in values})
            seen = f"{contrast.cell} against {contrast.against} on {contrast.probe}; measured: {', '.join(known)}"
            raise UserError("A contrast compares nothing.", seen, "name a metric that both cells have")
        every = [one.metric for side in (a, b) for one in side.values()]
        metric = next(
            (one for one in every if one.scale == "real"), every[0]
        )  # of a model that is never right all is 0
        if metric.direction == "none":
            fix = "take another metric; this one is in the tables"
            raise UserError("Of that metric neither way is better.", contrast.probe, fix)
        margin = contrast.margin or (spec.margin if metric.scale == "share" else spec.margin_real)
        values_a, values_b = tuple(a[s] for s in seeds), tuple(b[s] for s in seeds)
        both = answered(values_a, values_b)
        made.append(Sides(contrast, metric, margin, tuple(seeds), values_a, values_b, both, uneven))
    return made


def judge_all(asked: Sequence[Sides], max_missing: float = MAX_MISSING) -> list[Judgement]:
    """One family (Holm) of contrasts whose metrics, margins and directions differ.

    The p-values of a difference and of equivalence do not change when a contrast's values and margin are multiplied
    by the same number. So each contrast is judged in its own units, beside the others brought to its margin. One whose
    items are missing on one side is not judged, and counts in the family as any other without an answer.
    """
    judgements = []
    for place, own in enumerate(asked):
        if own.uneven:
            judgements.append(not_testable(own))
            continue
        family = {str(at): [one.cell(1.0 if at == place else own.margin / one.margin)] for at, one in enumerate(asked)}
        fractions = {str(place)} if own.metric.scale == "share" else set()
        unbounded = set(family) - fractions
        judged = judge_family(
            family, own.margin, direction=own.metric.direction, unbounded=unbounded, max_missing=max_missing
        )
        judgements.append(judged[str(place)])
    return judgements


def not_testable(one: Sides) -> Judgement:
    """The judgement on a contrast whose items are missing on one side."""
    why = f"items without a value on one side ({one.uneven}): the mean of the others compares nothing"
    none = Estimate(math.nan, None, None, 0, one.both.missing, one.metric.direction, method="items missing on one side")
    return Judgement(
        Verdict.NOT_TESTABLE, none, None, None, why, missing=one.both.missing, unanswered=one.both.unanswered
    )


def missing_items(values: Sequence[Value], spec: LanguageSpec) -> list[str]:
    """Of each cell and metric that a primary contrast reads: the items that its mean leaves out, for the reader."""
    found = by_seed(values, unknown=True)
    told: dict[str, None] = {}
    for contrast in spec.contrasts:
        probe, _, name = contrast.probe.partition(".")
        for cell in (contrast.cell, contrast.against):
            seeds = sorted(found.get((cell, probe, name), {}).items())
            lost = [f"{len(one.missing)} of {len(one.items)} (seed {seed})" for seed, one in seeds if one.missing]
            if lost:
                told[
                    f"{cell} on {contrast.probe}: items without a value, which its mean leaves out: {', '.join(lost)}"
                ] = None
    return list(told)


def answer_primary(values: Sequence[Value], spec: LanguageSpec, left_out: Sequence[int] = ()) -> list[Answer]:
    """The study's primary contrasts. The verdict rests on seeds; the intervals over items stand beside it.

    `left_out` are seeds that do not count, since the pilot chose the damage on their models (`pilot.picked_seeds`).
    """
    asked = sides([value for value in values if value.seed not in left_out], spec)
    if not asked:
        return []
    answers = []
    for one, judgement in zip(asked, judge_all(asked, spec.max_missing), strict=True):
        known = [pair for pair in zip(one.seeds, one.a, one.b, strict=True) if pair[1].known and pair[2].known]
        seeds = tuple(seed for seed, _, _ in known)
        per_seed: tuple[float, ...] = ()
        if judgement.cells:
            per_seed = tuple(float(value) for value in one.both.a - one.both.b)
        each = tuple(over_items([a], [b]) for _, a, b in known)
        items = over_items(one.a, one.b)
        told = (one.contrast, one.metric, one.margin, judgement, seeds, per_seed, each, items)
        sentence = say(one, judgement, items) + without_seeds(left_out)
        answers.append(Answer(*told, sentence, one.uneven, tuple(left_out)))
    return answers


def say(one: Sides, judgement: Judgement, items: Estimate) -> str:
    """One plain sentence on a contrast."""
    about = f"{one.contrast.cell} against {one.contrast.against} on {one.contrast.probe}"
    if one.uneven:
        return f"{about}: not testable here: {judgement.why}."
    count = len(one.seeds)
    if not judgement.cells:
        return f"{about}: not testable here ({count} seed{'s' * (count != 1)}): {judgement.why}."
    if one.one_model:
        why = "both models are the same in every seed, so nothing is known of other trainings"
        judgement = replace(judgement, why=why)
    share = one.metric.scale == "share"
    same = f"equivalent within ±{amount(one.margin, share, signed=False)}"
    verdict = same if judgement.verdict.value == "equivalent" else judgement.verdict.value
    over_seeds = between(judgement.difference, one.metric) or judgement.difference.method
    return (
        f"{about}: {verdict} "
        f"({amount(judgement.difference.value, share)}, {over_seeds}, {count} seed{'s' * (count != 1)}): "
        f"{judgement.why}.{unanswered(judgement)} These very models on other items like these {items.n}: "
        f"{amount(items.value, share)}, {between(items, one.metric) or items.method}."
    )


def without_seeds(left_out: Sequence[int]) -> str:
    """A sentence on the seeds that do not count; nothing where all do."""
    if not left_out:
        return ""
    which = f"Seed{'s' * (len(left_out) > 1)} {', '.join(map(str, left_out))}"
    return f" {which} left out: the pilot chose the damage on that model's result."


def between(estimate: Estimate, metric: Metric) -> str:
    """'95 % interval -3.0 to +1.2'; nothing where there is none."""
    low, high = within(estimate, metric, -1.0)
    share = metric.scale == "share"
    if low is None or high is None:
        return ""
    unit = " points" * share
    return f"95 % interval {amount(low, share).removesuffix(unit)} to {amount(high, share)}"


def amount(value: float, share: bool, *, signed: bool = True) -> str:
    """A difference: of shares in points, of anything else as it is."""
    sign = "+" if signed else ""
    return f"{value * 100:{sign}.1f} points" if share else f"{value:{sign}.3f}"


def contrast_rows(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """One row for each contrast and seed, and one for the seeds together: difference, interval, what it is over."""
    rows = []
    for answer in answers:
        about = {"cell": answer.contrast.cell, "against": answer.contrast.against, "probe": answer.contrast.probe}
        per_seed = zip(answer.seeds, answer.items_per_seed, strict=True)
        lines: list[tuple[str, str, Estimate]] = [(str(seed), "items", one) for seed, one in per_seed]
        lines += [("all", "items", answer.items), ("all", "seeds", answer.judgement.difference)]
        for seed, over, one in lines:
            low, high = within(one, answer.metric, -1.0)
            told: Mapping[str, Any] = {
                "seed": seed,
                "over": over,
                "difference": number(one.value),
                "low": low,
                "high": high,
            }
            rows.append(
                {**about, **told, "n": one.n, "verdict": answer.judgement.verdict.value if over == "seeds" else ""}
            )
    return rows
