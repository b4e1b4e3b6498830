"""Is the arm worse, better, equivalent, or can nobody tell yet?"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrite.errors import UserError
from pyrite.records import Direction, Estimate
from pyrite.stats._checks import Values, fraction, no_spread, positive, same_length, vector
from pyrite.stats.decision import Verdict, adjusted, p_text, verdict_of
from pyrite.stats.edges import no_room
from pyrite.stats.equivalence import tost
from pyrite.stats.intervals import t_quantile
from pyrite.stats.missing import MAX_MISSING, too_many_missing, vertices
from pyrite.stats.paired import fine_grid, grid_step, paired_t, paired_t_pvalue

MAX_PRIMARY = 3
"""A study names at most this many primary contrasts; anything further is exploratory."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the numbers behind it and, in `why`, one sentence fragment that gives the reason.

    `difference` is arm minus comparison with its plain 95 % interval. The p-values are None with fewer than two seeds;
    the adjusted ones (Holm over the family, equal to the raw ones for a single contrast) decided the verdict.
    `cells` names the cells that were averaged, `left_out` those that could not answer, each with the reason. `items` are
    those that both sides answered in every seed (None: not known), `missing` the others.
    """

    verdict: Verdict
    difference: Estimate
    p_difference: float | None
    p_equivalence: float | None
    why: str
    p_difference_adjusted: float | None = None
    p_equivalence_adjusted: float | None = None
    cells: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    items: int | None = None
    missing: int = 0
    unanswered: int = 0
    """Items that no model answered, on either side; they are in no other number."""
    unlike: str = ""
    """Cells that clearly differ by more than the margin where the average does not; empty where there are none."""
    bounds: tuple[float | None, float | None] | None = None
    """Where answers are missing: the ends of the 95 % interval at the worst, seed by seed, of what they could have been."""

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
            "cell_names": list(self.cells),
            "left_out": [{"cell": cell, "why": why} for cell, why in self.left_out.items()],
            "items": self.items,
            "missing": self.missing,
            "unanswered": self.unanswered,
            "unlike": self.unlike,
            "bounds": None if self.bounds is None else dict(zip(("low", "high"), self.bounds, strict=True)),
        }


@dataclass(frozen=True, slots=True)
class Share:
    """Two mean shares behind a cell's values, whose floor and ceiling count.

    `by_gold`: both on each gold label. `harm` says that this is the share in which a harm is looked for, so that it must
    have room for one; of any other (the general task in a gap) only that both sides stand at one edge counts.
    `name` says what it is a share of, where a cell has several.
    """

    arm: float
    comparison: float
    by_gold: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    harm: bool = True
    name: str = ""


@dataclass(frozen=True, slots=True)
class ContrastCell:
    """One cell of a contrast (a start and a size, a heuristic): arm `a` and comparison `b`, one value per seed.

    `low` and `high` [seeds] bound a - b whatever the missing answers would have been (`stats.missing`); `items` were
    answered by both sides in every seed, `missing` were not, `unanswered` by no model. `weight` is the cell's share in the
    average. `shares`: what edges are judged by; None means `a` and `b` themselves where they are fractions. `unable` says
    why the cell cannot answer, where that is known from elsewhere: the whole contrast then cannot.
    """

    name: str
    a: Values
    b: Values
    low: Values | None = None
    high: Values | None = None
    items: int | None = None
    missing: int = 0
    weight: float = 1.0
    shares: tuple[Share, ...] | None = None
    unanswered: int = 0
    unable: str = ""


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

    1. "not testable": both sides' means lie within `margin` of the same edge (0 or 1); or no difference is clear and the
       comparison leaves no room for a harm as large as the margin (`stats.edges`). Asked only where `bounded`, which
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
    >>> judge([0.01, 0.0, 0.02], [0.60, 0.61, 0.62], margin=0.02).verdict
    <Verdict.WORSE: 'worse'>
    """
    return judge_family({"contrast": (a, b)}, margin, alpha, direction=direction, bounded=bounded)["contrast"]


def judge_family(
    contrasts: Mapping[str, tuple[Values, Values] | Sequence[ContrastCell]],
    margin: float,
    alpha: float = 0.05,
    *,
    direction: Direction = "higher",
    bounded: bool = True,
    unbounded: Collection[str] = (),
    max_missing: float = MAX_MISSING,
) -> dict[str, Judgement]:
    """What do a study's primary contrasts say, when all of them are asked at once?

    `contrasts` maps a name to (a, b) as in `judge`, or to cells that share their seeds: at most three contrasts. Holm
    goes over the difference p-values and, separately, over the equivalence p-values; verdicts come from the adjusted
    ones. A contrast that is not testable, or has one seed, still counts in the family, with p = 1, so that no contrast
    gets easier because another one failed. The intervals stay at the plain 95 %, so one may exclude 0
    where the verdict is "cannot tell yet". `unbounded` names contrasts of a bounded family that are no fractions (gaps).

    **Cells.** Floors are judged cell by cell: a start at the floor can only dilute the others. A cell that cannot answer
    is left out of the average and named; a contrast of which no cell can answer is not testable. Whether a cell's own
    difference is clear is asked at alpha divided by the number of all cells and contrasts (Bonferroni), so that looking
    for cells which answer makes no answer by itself. An average is not "equivalent" while one of its cells lies by more than
    the margin away and, asked at that level, clearly differs: it is then "cannot tell yet", and the cell is named.

    **Missing answers.** Where more than `max_missing` of a cell's items have no answer on some side in some seed, the whole
    contrast is not testable: which cells answer would hang on what was lost. Where fewer have none, the verdict must be the same with the missing answers of each seed counted against
    the arm and with every one counted for it; else it is "cannot tell yet".

    Raises:
        UserError: no contrasts, more than three, cells of different numbers of seeds, or anything that `judge` refuses.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65; worst-case bounds: Manski (1990), American Economic
    Review 80:319.
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
    sides = {
        name: [_side(cell, bounded and name not in unbounded) for cell in _cells(contrast)]
        for name, contrast in contrasts.items()
    }
    level = alpha / len(contrasts)
    lost = {name: _lost([side.cell for side in contrast_sides], max_missing) for name, contrast_sides in sides.items()}
    left_out = {
        name: lost[name] or {side.cell.name: why for side in contrast_sides if (why := _unable(side, margin, direction, level / len(contrast_sides)))}
        for name, contrast_sides in sides.items()
    }  # fmt: skip
    averages = {
        name: _average([side for side in contrast_sides if side.cell.name not in left_out[name]] or contrast_sides)
        for name, contrast_sides in sides.items()
    }
    testable = {
        name: not lost[name] and len(left_out[name]) < len(contrast_sides) for name, contrast_sides in sides.items()
    }
    p_values = {
        name: _p_values(side.difference, side.step, margin) if testable[name] else (None, None)
        for name, side in averages.items()
    }
    corrected = _adjusted(p_values)
    p_name = "adjusted p" if len(contrasts) > 1 else "p"
    judgements = {}
    for name, average in averages.items():
        out = left_out[name]
        counted = [side for side in sides[name] if side.cell.name not in out] if testable[name] else []
        estimate = _estimate(average, direction)
        unlike = ""
        if not testable[name]:
            verdict, why = Verdict.NOT_TESTABLE, _reasons(out)
        else:
            verdict, why = _worded_verdict(estimate, average.difference, *corrected[name], margin, alpha, p_name)
            unlike = _unlike(counted, margin, level / len(sides[name]))
            if unlike and verdict in (Verdict.EQUIVALENT, Verdict.CANNOT_TELL):
                verdict, why = Verdict.CANNOT_TELL, f"{why}; but an average hides what cells say: {unlike}"
            if average.missing and verdict is not Verdict.CANNOT_TELL:
                verdict, why = _verdict_at_worst(
                    verdict, why, average, {**p_values}, name, margin, alpha, p_name, direction
                )
        at_worst = [paired_t(corner, direction=direction) for corner in vertices(average.low, average.high)]
        judgements[name] = Judgement(
            verdict,
            estimate,
            *p_values[name],
            why,
            *corrected[name],
            cells=tuple(side.cell.name for side in counted),
            left_out=out,
            items=average.items,
            missing=average.missing,
            unanswered=average.unanswered,
            unlike=unlike,
            bounds=widest(at_worst) if average.missing and testable[name] else None,
        )
    return judgements


def widest(estimates: Sequence[Estimate]) -> tuple[float | None, float | None]:
    """The least and the most that any of several intervals holds; identical differences have none, and are passed over."""
    lows = [estimate.low for estimate in estimates if estimate.low is not None]
    highs = [estimate.high for estimate in estimates if estimate.high is not None]
    return (min(lows), max(highs)) if lows and highs else (None, None)


def _verdict_at_worst(
    verdict: Verdict,
    why: str,
    average: "_Average",
    p_values: "dict[str, PValues]",
    name: str,
    margin: float,
    alpha: float,
    p_name: str,
    direction: Direction,
) -> tuple[Verdict, str]:
    """The verdict, if it is the same with every missing answer counted against one side, and against the other."""
    for differences in vertices(average.low, average.high):
        worst = _adjusted({**p_values, name: _p_values(differences, None, margin)})[name]
        bound = paired_t(differences, direction=direction)
        if _worded_verdict(bound, differences, *worst, margin, alpha, p_name)[0] is not verdict:
            of = average.missing + (average.items or 0)
            lost = f"{average.missing} of {of} items have no answer on one side or both"
            return (
                Verdict.CANNOT_TELL,
                f"{lost}; without them it would be {verdict.value}, but counted against one side they could change that",
            )
    return verdict, why


PValues = tuple[float | None, float | None]
"""Of a difference, and of equivalence."""


@dataclass(frozen=True, slots=True)
class _Side:
    """A cell, checked: values [seeds], per-seed differences and their bounds, shares whose edges count."""

    cell: ContrastCell
    arm: NDArray[np.float64]
    comparison: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    shares: tuple[Share, ...]
    step: float | None


@dataclass(frozen=True, slots=True)
class _Average:
    """Per-seed differences [seeds] averaged over cells, their bounds, the step of the grid that the values lie on."""

    difference: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    step: float | None
    items: int | None
    missing: int
    unanswered: int


def _cells(contrast: tuple[Values, Values] | Sequence[ContrastCell]) -> Sequence[ContrastCell]:
    """A contrast's cells; a bare pair of sides is one."""
    if isinstance(contrast, tuple) and not any(isinstance(member, ContrastCell) for member in contrast):
        a, b = contrast
        return [ContrastCell("", a, b)]
    return contrast  # type: ignore[return-value]


def _side(cell: ContrastCell, bounded: bool) -> _Side:
    """A cell's values as arrays [seeds], checked to be paired and, where bounded, to be fractions."""
    arm, comparison = vector(cell.a, "per-seed values"), vector(cell.b, "per-seed values")
    same_length(arm, comparison, "seeds")
    shares = cell.shares or ()
    if bounded:
        for side in (arm, comparison):
            outside = side[(side < 0) | (side > 1)]
            if outside.size:
                raise UserError(
                    "Bounded values are fractions between 0 and 1.",
                    f"{outside[0]:g}",
                    "Divide percentages by 100; pass bounded=False for gaps and other differences.",
                )
        if cell.shares is None:
            shares = (Share(float(arm.mean()), float(comparison.mean())),)
    low = arm - comparison if cell.low is None else vector(cell.low, "per-seed bounds")
    high = arm - comparison if cell.high is None else vector(cell.high, "per-seed bounds")
    return _Side(cell, arm, comparison, low, high, shares, _step(cell, arm, comparison) if bounded else None)


def _step(cell: ContrastCell, arm: NDArray[np.float64], comparison: NDArray[np.float64]) -> float | None:
    """The step of the grid that a cell's shares lie on: that of its items, where they are known and fit; else the largest
    that fits (0 and 1 fit any grid, and a model that gets all of 100 items wrong has not been asked one)."""
    step = grid_step(arm, comparison)
    if step is None or not cell.items:
        return step
    counts = np.concatenate([arm, comparison]) * cell.items
    return min(step, 1 / cell.items) if bool(np.abs(counts - counts.round()).max() < 1e-6) else step


def _lost(cells: Sequence[ContrastCell], max_missing: float) -> dict[str, str]:
    """The cells of which so many answers are missing, or missing in such a way, that their contrast cannot be answered."""
    reasons = {}
    for cell in cells:
        of = None if cell.items is None else cell.items + cell.missing
        why = cell.unable or ("" if of is None else too_many_missing(cell.missing, of, max_missing))
        if not why and cell.items == 0:
            why = "no item was answered by both sides in every seed"
        if why:
            reasons[cell.name] = why
    return reasons


def _unable(side: _Side, margin: float, direction: Direction, level: float) -> str:
    """Why has this cell no room to answer? Empty where it has."""
    p, _ = _p_values(side.arm - side.comparison, side.step, margin)
    clear = p is not None and p < level
    for share in side.shares:
        why = no_room(
            share.arm, share.comparison, margin, clear=clear, direction=direction, by_gold=share.by_gold
        )  # fmt: skip
        together = why.startswith("both sides")
        if why and (share.harm or (together and not clear)):
            return f"on {share.name} {why}" if share.name else why
    return ""


def _unlike(sides: Sequence[_Side], margin: float, level: float) -> str:
    """Which of several cells clearly differ by more than the margin, each by itself? Empty where none does."""
    clauses = []
    for side in sides if len(sides) > 1 else ():
        difference = side.arm - side.comparison
        p, _ = _p_values(difference, side.step, margin)
        if p is not None and p < level and abs(float(difference.mean())) > margin:
            clauses.append(f"{side.cell.name} {float(difference.mean()):+.3f} ({p_text(p)})")
    return ", ".join(clauses)


def _average(sides: Sequence[_Side]) -> _Average:
    """The weighted average over cells, within each seed."""
    for side in sides[1:]:
        same_length(sides[0].arm, side.arm, "seeds of cells")
    weights = np.array([side.cell.weight for side in sides])

    def over(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = np.average(np.stack(values), axis=0, weights=weights)
        return mean

    a, b = over([side.arm for side in sides]), over([side.comparison for side in sides])
    low, high = over([side.low for side in sides]), over([side.high for side in sides])
    counts = [side.cell.items for side in sides]
    items = None if any(count is None for count in counts) else sum(count or 0 for count in counts)
    steps = [side.step for side in sides]
    step = None
    if all(step is not None for step in steps):
        step = float(np.average(np.array(steps, dtype=np.float64), weights=weights))
    missing, unanswered = (sum(getattr(side.cell, name) for side in sides) for name in ("missing", "unanswered"))
    return _Average(a - b, low, high, step, items, missing, unanswered)


def _p_values(differences: NDArray[np.float64], step: float | None, margin: float) -> PValues:
    """Of no difference, and of one as large as the margin; None with one seed."""
    if differences.size < 2:
        return None, None
    return paired_t_pvalue(differences, step=step), tost(differences, margin, step=step)


def _adjusted(p_values: Mapping[str, PValues]) -> dict[str, PValues]:
    """Holm over the p-values of difference and, separately, over those of equivalence."""
    difference, equivalence = (adjusted({name: both[at] for name, both in p_values.items()}) for at in (0, 1))
    return {name: (difference[name], equivalence[name]) for name in p_values}


def _estimate(average: _Average, direction: Direction) -> Estimate:
    """The mean difference with its t interval; identical differences on a fine grid get that of one step of it."""
    if average.items == 0:
        none = "no item was answered by both sides in every seed"
        return Estimate(math.nan, None, None, 0, average.missing, direction, method=none)
    estimate = paired_t(average.difference, direction=direction)
    n = average.difference.size
    if estimate.low is None and fine_grid(average.difference, average.step):
        assert average.step is not None
        half = t_quantile(estimate.confidence, n - 1) * average.step / n**0.5
        method = f"paired t; the differences are identical, so their spread is taken as one step of the values, {average.step:g}"
        return replace(estimate, low=estimate.value - half, high=estimate.value + half, method=method)
    return estimate


def _reasons(left_out: Mapping[str, str]) -> str:
    """Why no cell can answer, each reason with the cells of which it holds."""
    if len(left_out) == 1:
        return next(iter(left_out.values()))
    return "; ".join(f"{cell}: {why}" for cell, why in left_out.items())


def _worded_verdict(
    difference: Estimate,
    differences: NDArray[np.float64],
    p_difference: float | None,
    p_equivalence: float | None,
    margin: float,
    alpha: float,
    p_name: str,
) -> tuple[Verdict, str]:
    """Rules 2 to 5 of `judge` (`stats.decision`), on the p-values that count, and why, in words about seeds."""
    if p_difference is None or p_equivalence is None:
        return Verdict.CANNOT_TELL, "one seed cannot show how much seeds differ"
    verdict = verdict_of(difference.value, p_difference, p_equivalence, direction=difference.direction, alpha=alpha)
    mean, seeds = difference.value, difference.n
    p_diff, p_equi = p_text(p_difference, p_name), p_text(p_equivalence, p_name)
    if verdict is Verdict.EQUIVALENT:
        why = (
            f"the mean difference of {mean:+.3f} over {seeds} seeds lies within ±{margin:g} ({p_equi} for equivalence)"
        )
        if p_difference < alpha:
            why += f", and although it differs from 0 ({p_diff}) it is too small to matter: equivalence goes first"
        return verdict, why
    if verdict is not Verdict.CANNOT_TELL:
        side = "above" if mean > 0 else "below"
        why = f"the arm lies {abs(mean):.3f} {side} the comparison on average over {seeds} seeds ({p_diff})"
        if difference.direction == "lower":
            why += ", and lower is better"
        return verdict, why
    why = (
        f"the mean difference of {mean:+.3f} over {seeds} seeds is neither clearly different from 0 ({p_diff}) "
        f"nor shown to lie within ±{margin:g} ({p_equi})"
    )
    if no_spread(differences) and difference.low is None:
        why += ", as it is the same in every seed and leaves only a sign test"
    return Verdict.CANNOT_TELL, why
