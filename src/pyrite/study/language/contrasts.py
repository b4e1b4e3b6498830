"""The primary contrasts of a study of a language model, judged over seeds as one family, and said in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyrite.errors import UserError
from pyrite.records import Estimate
from pyrite.stats import Judgement, judge_family
from pyrite.study.language.spec import LanguageContrast, LanguageSpec
from pyrite.study.language.tables import Value, by_seed, over_items, shared_seeds, within
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

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "contrast": self.contrast.model_dump(mode="json"),
            "margin": self.margin,
            **self.judgement.as_json(),
            "seeds": list(self.seeds),
            "per_seed": list(self.per_seed),
            "over_items": self.items.as_json(),
            "over_items_per_seed": [one.as_json() for one in self.items_per_seed],
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Sides:
    """A contrast's values of the seeds that both cells have."""

    contrast: LanguageContrast
    metric: Metric
    margin: float
    seeds: tuple[int, ...]
    a: tuple[Value, ...]
    b: tuple[Value, ...]


def sides(values: Sequence[Value], spec: LanguageSpec) -> list[Sides]:
    """The two sides of every primary contrast.

    Raises:
        UserError: a metric that was not measured on both cells in any seed, or of which neither way is better.
    """
    found = by_seed(values)
    made = []
    for contrast in spec.contrasts:
        probe, _, name = contrast.probe.partition(".")
        a, b = (found.get((cell, probe, name), {}) for cell in (contrast.cell, contrast.against))
        both = shared_seeds(a, b)
        if not both:
            known = sorted({f"{one.probe}.{one.metric.name}" for one in values})
            seen = f"{contrast.cell} against {contrast.against} on {contrast.probe}; measured: {', '.join(known)}"
            raise UserError("A contrast compares nothing.", seen, "name a metric that both cells have")
        metric = a[both[0]].metric
        if metric.direction == "none":
            fix = "take another metric; this one is in the tables"
            raise UserError("Of that metric neither way is better.", contrast.probe, fix)
        margin = contrast.margin or (spec.margin if metric.scale == "share" else spec.margin_real)
        made.append(Sides(contrast, metric, margin, tuple(both), tuple(a[s] for s in both), tuple(b[s] for s in both)))
    return made


def judge_all(asked: Sequence[Sides]) -> list[Judgement]:
    """One family (Holm) of contrasts whose metrics, margins and directions differ.

    The p-values of a difference and of equivalence do not change when a contrast's values and margin are multiplied
    by the same number. So each contrast is judged in its own units, beside the others brought to its margin.
    """
    judged = []
    for number, own in enumerate(asked):
        family: dict[str, tuple[list[float], list[float]]] = {}
        for at, one in enumerate(asked):
            scale = 1.0 if at == number else own.margin / one.margin
            family[str(at)] = tuple([value.estimate.value * scale for value in side] for side in (one.a, one.b))  # type: ignore[assignment]
        fractions = {str(number)} if own.metric.scale == "share" else set()
        made = judge_family(family, own.margin, direction=own.metric.direction, unbounded=set(family) - fractions)
        judged.append(made[str(number)])
    return judged


def answer_primary(values: Sequence[Value], spec: LanguageSpec) -> list[Answer]:
    """The study's primary contrasts. The verdict rests on seeds; the intervals over items stand beside it."""
    asked = sides(values, spec)
    if not asked:
        return []
    answers = []
    for one, judgement in zip(asked, judge_all(asked), strict=True):
        per_seed = tuple(a.estimate.value - b.estimate.value for a, b in zip(one.a, one.b, strict=True))
        each = tuple(over_items([a], [b]) for a, b in zip(one.a, one.b, strict=True))
        items = over_items(one.a, one.b)
        sentence = say(one, judgement, items)
        answers.append(
            Answer(one.contrast, one.metric, one.margin, judgement, one.seeds, per_seed, each, items, sentence)
        )
    return answers


def say(one: Sides, judgement: Judgement, items: Estimate) -> str:
    """One plain sentence on a contrast."""
    count = len(one.seeds)
    share = one.metric.scale == "share"
    same = f"equivalent within ±{amount(one.margin, share, signed=False)}"
    verdict = same if judgement.verdict.value == "equivalent" else judgement.verdict.value
    over_seeds = between(judgement.difference, one.metric) or "no interval from one seed"
    return (
        f"{one.contrast.cell} against {one.contrast.against} on {one.contrast.probe}: {verdict} "
        f"({amount(judgement.difference.value, share)}, {over_seeds}, {count} seed{'s' * (count != 1)}): "
        f"{judgement.why}. These very models on other items like these {items.n}: "
        f"{amount(items.value, share)}, {between(items, one.metric) or items.method}."
    )


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
            told: Mapping[str, Any] = {"seed": seed, "over": over, "difference": one.value, "low": low, "high": high}
            rows.append(
                {**about, **told, "n": one.n, "verdict": answer.judgement.verdict.value if over == "seeds" else ""}
            )
    return rows
