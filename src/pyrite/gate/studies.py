"""Conditions on a study: on the intervals of its primary contrasts, or on their verdicts.

    PROBE[.METRIC][arm=ARM][against=AGAINST] OP NUMBER[%]   the difference of every primary contrast so named; the worst counts
    primary OP NUMBER[%]                                    of every primary contrast
    verdict != worse                                        no primary contrast is worse, and every one shows that it is not

Columns that are left out fit any contrast; `cell` is the same as `arm`. A contrast that is not testable passes nothing:
where a fall has no room to show, that none is seen says nothing. The grammar is that of `pyrite.conditions`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyrite.conditions import Condition, GateOutcome, Outcome, outcome_of, parse_condition
from pyrite.errors import UserError
from pyrite.gate.outcome import GateKind, unknown, worst_outcome
from pyrite.runs import Run, read_results
from pyrite.runs.study import ContrastNames, PrimaryContrast, StudyRecord
from pyrite.stats import Verdict

EXAMPLES = "such as 'verdict != worse', 'primary >= -2%', or 'PROBE[arm=ARM][against=AGAINST] >= -0.02'"
GOOD = (Verdict.BETTER, Verdict.EQUIVALENT)

StudyRun = Run[StudyRecord]
Answer = tuple[Outcome, str, Mapping[str, Any] | None]
"""How one contrast comes out, why, and its difference."""


def check_study(run: StudyRun, texts: Sequence[str]) -> list[GateOutcome]:
    """How each condition comes out.

    Raises:
        UserError: a study without a primary contrast, a text that is no condition, a contrast that the study does not
            have, or a bound that its differences cannot have.
    """
    primary = run.record.primary
    if not primary:
        fix = "name contrasts in the study file, and run it again"
        raise UserError("The study has no primary contrast.", str(run.folder), fix)
    return [
        check_verdicts(text, primary) if is_verdict(text) else check_differences(run, text, primary) for text in texts
    ]


def study_examples(run: StudyRun) -> list[str]:
    """Conditions that this run can be asked."""
    bounds = [not_worse(metric_value(run, contrast, "direction")) for contrast in run.record.primary]
    of_first = [f"{full_name(contrast)} {bounds[0]}" for contrast in run.record.primary[:1]]
    of_all = [f"primary {bounds[0]}"] if len(set(bounds)) == 1 else []
    return ["verdict != worse", *of_all, *of_first]


def not_worse(direction: str) -> str:
    """Operator and bound of a condition that a metric of this direction did not get worse by more than 0.02."""
    return "<= 0.02" if direction == "lower" else ">= -0.02"


def check_verdicts(text: str, primary: Sequence[PrimaryContrast]) -> GateOutcome:
    """Whether no primary contrast is worse, as far as verdicts say so."""
    return worst_outcome(text.strip(), [verdict_answer(contrast) for contrast in primary])


def verdict_answer(contrast: PrimaryContrast) -> Answer:
    """How one verdict comes out."""
    name = full_name(contrast)
    outcome: Outcome = "failed" if contrast.verdict == Verdict.WORSE else "undecided"
    outcome = "passed" if contrast.verdict in GOOD else outcome
    why = f"{name}: {contrast.verdict}: {contrast.why}{silent_cells(contrast)}"
    if outcome == "passed" and not contrast.difference.is_known:
        outcome, why = "undecided", f"{name}: the run says {contrast.verdict}, but holds no interval for it"
    return outcome, why, named_difference(contrast)


def check_condition(text: str, contrasts: Sequence[ContrastNames]) -> None:
    """Refuse a condition that these primary contrasts cannot be asked; to be called before a study runs.

    Raises:
        UserError: a text that is no condition, or a contrast that is not among them.
    """
    if not is_verdict(text):
        parse_study_gate(text, contrasts)


def is_verdict(text: str) -> bool:
    """Whether a condition is about verdicts, not about differences."""
    condition = parse_condition(text, EXAMPLES)
    if isinstance(condition.bound, float):
        return False
    if condition.name != "verdict" or condition.op != "!=" or condition.bound != Verdict.WORSE or condition.where:
        raise UserError("That is no gate on a study.", text, EXAMPLES)
    return True


def parse_study_gate(text: str, contrasts: Sequence[ContrastNames]) -> tuple[Condition, list[int]]:
    """A condition on differences as read, and which of the contrasts it is about."""
    condition = parse_condition(text, EXAMPLES)
    if isinstance(condition.bound, str) or condition.op == "!=":
        raise UserError("That is no gate on a study.", text, EXAMPLES)
    where = {("arm" if column == "cell" else column): value for column, value in condition.where}
    strange = next((column for column in where if column not in ("arm", "against")), None)
    if strange:
        raise UserError(
            "A gate on a study has no such column.", f"{text}: {strange}", f"arm, cell or against; {EXAMPLES}"
        )
    places = [at for at, contrast in enumerate(contrasts) if is_about(condition.name, where, contrast)]
    if not places:
        target = (condition.hint or condition.text).partition(condition.op)[0].strip()
        names = ["primary", *(name for contrast in contrasts for name in contrast_names(contrast))]
        raise unknown("contrast", target, names, text)
    return condition, places


def is_about(name: str, where: Mapping[str, str], contrast: ContrastNames) -> bool:
    """Whether a condition's name and columns are of this contrast."""
    if where.get("arm", contrast.name) != contrast.name or where.get("against", contrast.against) != contrast.against:
        return False
    return name == "primary" or name in probe_names(contrast)


def check_differences(run: StudyRun, text: str, primary: Sequence[PrimaryContrast]) -> GateOutcome:
    """How the intervals of the named contrasts stand to the bound."""
    condition, places = parse_study_gate(text, [contrast.contrast for contrast in primary])
    contrasts, bound = [primary[at] for at in places], condition.bound
    assert isinstance(bound, float)
    for contrast in contrasts:
        check_bound(text, bound, condition.percent, difference_scale(run, contrast))
    outcome = worst_outcome(
        condition.text, [difference_answer(contrast, condition.op, bound) for contrast in contrasts]
    )
    return replace(outcome, hint=condition.hint)


def difference_answer(contrast: PrimaryContrast, op: str, bound: float) -> Answer:
    """How one contrast stands to the bound, in words, and its difference."""
    difference, name = contrast.difference, full_name(contrast)
    about = named_difference(contrast)
    outcome = outcome_of(difference.low, difference.high, op, bound)
    at_worst = contrast.bounds
    if at_worst and outcome_of(at_worst.low, at_worst.high, op, bound) != outcome:
        why = (
            f"{contrast.missing} items have no answer on a side; counted against one side they could change the outcome"
        )
        return "undecided", f"{name}: {why}", about
    if difference.low is None or difference.value is None:
        return outcome, f"{name}: no interval ({difference.method})", about
    interval = f"{difference.low:.4g} to {difference.high:.4g}"
    why = f"{name}: difference {difference.value:.4g} ({difference.confidence:.0%} interval {interval})"
    if contrast.verdict == Verdict.NOT_TESTABLE and outcome != "undecided":
        return "undecided", f"{why}, not testable: {contrast.why}", about
    if contrast.unlike and outcome == "passed":
        return "undecided", f"{why}, but an average hides what cells say: {contrast.unlike}", about
    return outcome, f"{why}{silent_cells(contrast)}", about


def full_name(contrast: PrimaryContrast) -> str:
    """A contrast's whole name."""
    return contrast_names(contrast.contrast)[0]


def silent_cells(contrast: PrimaryContrast) -> str:
    """The cells that could not answer; nothing where all could."""
    cells = ", ".join(contrast.silent_cells)
    return f" (left out, for they cannot answer: {cells})" if cells else ""


def named_difference(contrast: PrimaryContrast) -> dict[str, Any]:
    """A contrast's difference, with its name."""
    return {**contrast.difference.as_json(), "contrast": full_name(contrast)}


def probe_names(contrast: ContrastNames) -> list[str]:
    """What a contrast's probe may be called: without its metric too, and with `accuracy` where it names none."""
    probe = contrast.probe
    if "." in probe:
        return [probe, probe.partition(".")[0]] if contrast.cell is not None else [probe]
    return [probe, *([] if probe == "gap" else [f"{probe}.accuracy"])]


def contrast_names(contrast: ContrastNames) -> list[str]:
    """What a contrast may be called, the whole name first."""
    side = "arm" if contrast.cell is None else "cell"
    names = probe_names(contrast)
    return [*(f"{name}[{side}={contrast.name}][against={contrast.against}]" for name in names), *names]


def difference_scale(run: StudyRun, contrast: PrimaryContrast) -> str:
    """What a contrast's difference is measured in: `share`, `gap` (a difference of two changes), `real`, or nothing known."""
    about = contrast.contrast
    if about.probe == "gap":
        return "gap"
    if contrast.scale is not None:
        return contrast.scale
    if not run.result("results.parquet").is_file():
        return "share" if about.cell is None and "." not in about.probe else ""
    scale = metric_value(run, contrast, "scale")
    return scale or ("share" if about.cell is None else "")  # tables of older grids have no scale: all were accuracies


def metric_value(run: StudyRun, contrast: PrimaryContrast, column: str) -> str:
    """What the table of results says of a contrast's metric (its `scale`, its `direction`); nothing where it does not."""
    file = run.result("results.parquet")
    if not file.is_file():
        return ""
    probe, _, metric = contrast.contrast.probe.partition(".")
    try:
        rows = read_results(file, ("probe", "metric", column), where=[("probe", "=", probe)])
    except UserError:  # a table of an older version
        return ""
    return next((str(row[column]) for row in rows if not metric or row["metric"] == metric), "")


def check_bound(text: str, bound: float, percent: bool, scale: str) -> None:
    """Refuse a percentage of what is no share, and a bound that no difference can reach."""
    if not math.isfinite(bound):
        raise UserError("A gate's bound is too large a number.", text, EXAMPLES)
    if scale == "real" and percent:
        raise UserError("That metric is no share.", text, "write the bound in its own units, without %")
    most = {"share": 1, "gap": 2}.get(scale)
    if most is not None and abs(bound) > most:
        guess = f"did you mean {bound:g}%? " if not percent else ""
        raise UserError(f"Such a difference lies between -{most} and {most}.", text, f"{guess}2% is 0.02")


KIND = GateKind(check_study, study_examples)
