"""Is the arm worse, better, equivalent, or can nobody tell yet?"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrite.errors import UserError
from pyrite.records import Direction, Estimate
from pyrite.stats._checks import Values, fraction, no_spread, positive, same_length, vector
from pyrite.stats.equivalence import tost
from pyrite.stats.multiplicity import holm
from pyrite.stats.paired import paired_t, paired_t_pvalue

MAX_PRIMARY = 3
"""A study names at most this many primary contrasts; anything further is exploratory."""


class Verdict(StrEnum):
    """What a contrast says."""

    WORSE = "worse"
    BETTER = "better"
    EQUIVALENT = "equivalent"
    CANNOT_TELL = "cannot tell yet"
    NOT_TESTABLE = "not testable"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the numbers behind it and, in `why`, one sentence fragment that gives the reason.

    `difference` is arm minus comparison with its plain 95 % interval. The p-values are None with fewer than two seeds;
    the adjusted ones (Holm over the family, equal to the raw ones for a single contrast) decided the verdict.
    """

    verdict: Verdict
    difference: Estimate
    p_difference: float | None
    p_equivalence: float | None
    why: str
    p_difference_adjusted: float | None = None
    p_equivalence_adjusted: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The judgement as plain values, for `--json` and run folders."""
        return {
            "verdict": self.verdict.value,
            "difference": self.difference.as_json(),
            "p_difference": self.p_difference,
            "p_equivalence": self.p_equivalence,
            "p_difference_adjusted": self.p_difference_adjusted,
            "p_equivalence_adjusted": self.p_equivalence_adjusted,
            "why": self.why,
        }


def judge(
    a: Values,
    b: Values,
    *,
    margin: float,
    alpha: float = 0.05,
    direction: Direction = "higher",
    bounded: bool = True,
) -> Judgement:
    """Is the arm `a` worse than, better than or equivalent to the comparison `b`, over training seeds?

    `a` and `b` have shape [seeds], one value per seed, the same seeds in the same order. In this order:

    1. "not testable": the mean of either side lies within `margin` of 0 or of 1. Asked only where `bounded`, which
       says that values are fractions 0-1; gap contrasts (differences of differences) pass `bounded=False`.
    2. "cannot tell yet": fewer than two seeds.
    3. "equivalent": TOST within +-margin, p < alpha. It goes before a difference that is real but too small to matter.
    4. "worse" or "better": two-sided paired t, p < alpha, by the sign of the mean difference and `direction`.
    5. "cannot tell yet".

    Raises:
        UserError: no seeds, rows of different length, values that are not finite (or not fractions, where `bounded`),
            a margin not above 0, alpha outside 0-1, or direction "none".

    Source: Schuirmann (1987) for the margin; Student (1908) for the difference.

    >>> judge([0.50, 0.52, 0.51], [0.60, 0.61, 0.62], margin=0.02).verdict
    <Verdict.WORSE: 'worse'>
    """
    return judge_family({"contrast": (a, b)}, margin, alpha, direction=direction, bounded=bounded)["contrast"]


def judge_family(
    contrasts: Mapping[str, tuple[Values, Values]],
    margin: float,
    alpha: float = 0.05,
    *,
    direction: Direction = "higher",
    bounded: bool = True,
    unbounded: Collection[str] = (),
) -> dict[str, Judgement]:
    """What do a study's primary contrasts say, when all of them are asked at once?

    `contrasts` maps a name to (a, b) as in `judge`: at most three. Holm goes over the difference p-values and,
    separately, over the equivalence p-values; verdicts come from the adjusted ones. A contrast that is not testable,
    or has one seed, still counts in the family (with p = 1 where it has none), so that no contrast gets easier because
    another one failed. The intervals stay at the plain 95 %, so one may exclude 0 where the verdict is
    "cannot tell yet". `unbounded` names contrasts of a bounded family that are no fractions (gaps).

    Raises:
        UserError: no contrasts, more than three, or anything that `judge` refuses.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65.
    """
    positive(margin, "margin")
    fraction(alpha, "alpha")
    if direction == "none":
        raise UserError('"worse" and "better" need a direction.', 'direction = "none"', 'Pass "higher" or "lower".')
    if not 1 <= len(contrasts) <= MAX_PRIMARY:
        raise UserError(
            f"A study has one to {MAX_PRIMARY} primary contrasts.",
            f"{len(contrasts)}: {', '.join(contrasts) or 'none'}",
            "Name the ones that decide; report the rest as exploratory, each with `judge`.",
        )
    fractions = {name: bounded and name not in unbounded for name in contrasts}
    sides = {name: _sides(a, b, fractions[name]) for name, (a, b) in contrasts.items()}
    differences = {name: a - b for name, (a, b) in sides.items()}
    p_difference = {name: paired_t_pvalue(d) if d.size > 1 else None for name, d in differences.items()}
    p_equivalence = {name: tost(d, margin) if d.size > 1 else None for name, d in differences.items()}
    adjusted_difference = _holm(p_difference)
    adjusted_equivalence = _holm(p_equivalence)

    judgements = {}
    for name, (a, b) in sides.items():
        difference = paired_t(differences[name], direction=direction)
        verdict, why = _edge(a, b, margin) if fractions[name] else (None, "")
        if verdict is None:
            verdict, why = _decide(
                difference,
                no_spread(differences[name]),
                adjusted_difference[name],
                adjusted_equivalence[name],
                margin,
                alpha,
                "adjusted p" if len(contrasts) > 1 else "p",
            )
        judgements[name] = Judgement(
            verdict,
            difference,
            p_difference[name],
            p_equivalence[name],
            why,
            adjusted_difference[name],
            adjusted_equivalence[name],
        )
    return judgements


def _sides(a: Values, b: Values, bounded: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sides as arrays [seeds], checked to be paired and, where bounded, to be fractions."""
    arm, comparison = vector(a, "per-seed values"), vector(b, "per-seed values")
    same_length(arm, comparison, "seeds")
    if bounded:
        for side in (arm, comparison):
            outside = side[(side < 0) | (side > 1)]
            if outside.size:
                raise UserError(
                    "Bounded values are fractions between 0 and 1.",
                    f"{outside[0]:g}",
                    "Divide percentages by 100; pass bounded=False for gaps and other differences.",
                )
    return arm, comparison


def _holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm over a family in which a contrast without a p-value counts as p = 1 and stays without."""
    adjusted = holm([1.0 if p is None else p for p in p_values.values()])
    return {name: None if raw is None else new for (name, raw), new in zip(p_values.items(), adjusted, strict=True)}


def _edge(a: NDArray[np.float64], b: NDArray[np.float64], margin: float) -> tuple[Verdict | None, str]:
    """Does either side sit so near the floor or the ceiling that a fall or a rise could not show?"""
    for name, side in (("arm", a), ("comparison", b)):
        mean = float(side.mean())
        for edge in (0, 1):
            if abs(mean - edge) <= margin + 1e-12:
                near = f"the {name}'s mean of {mean:.3f} lies within the margin of {margin:g} of {edge}"
                return Verdict.NOT_TESTABLE, f"{near}, where a difference has no room to show"
    return None, ""


def _decide(
    difference: Estimate,
    identical: bool,
    p_difference: float | None,
    p_equivalence: float | None,
    margin: float,
    alpha: float,
    p_name: str,
) -> tuple[Verdict, str]:
    """Rules 2 to 5 of `judge`, on the p-values that count."""
    if p_difference is None or p_equivalence is None:
        return Verdict.CANNOT_TELL, "one seed cannot show how much seeds differ"
    mean, seeds = difference.value, difference.n
    differs, equivalent = p_difference < alpha, p_equivalence < alpha
    p_diff, p_equi = _p(p_name, p_difference), _p(p_name, p_equivalence)
    if equivalent:
        why = (
            f"the mean difference of {mean:+.3f} over {seeds} seeds lies within ±{margin:g} ({p_equi} for equivalence)"
        )
        if differs:
            why += f", and although it differs from 0 ({p_diff}) it is too small to matter: equivalence goes first"
        return Verdict.EQUIVALENT, why
    if differs:
        wanted = mean > 0 if difference.direction == "higher" else mean < 0
        side = "above" if mean > 0 else "below"
        why = f"the arm lies {abs(mean):.3f} {side} the comparison on average over {seeds} seeds ({p_diff})"
        if difference.direction == "lower":
            why += ", and lower is better"
        return (Verdict.BETTER if wanted else Verdict.WORSE), why
    why = (
        f"the mean difference of {mean:+.3f} over {seeds} seeds is neither clearly different from 0 ({p_diff}) "
        f"nor shown to lie within ±{margin:g} ({p_equi})"
    )
    if identical:
        why += ", as it is the same in every seed and leaves only a sign test"
    return Verdict.CANNOT_TELL, why


def _p(name: str, p: float) -> str:
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.3f}"
