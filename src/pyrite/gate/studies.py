"""Conditions on a study: on the intervals of its primary contrasts, or on their verdicts.

    [ARM - AGAINST on ]PROBE[.METRIC] OP NUMBER[%]   the difference of every primary contrast so named; the worst counts
    primary OP NUMBER[%]                             of every primary contrast
    verdict != worse                                 no primary contrast is worse, and every one shows that it is not

A contrast that is not testable passes nothing: where a fall has no room to show, that none is seen says nothing. The
text is read by a regular expression and is never evaluated.
"""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pyrite.errors import UserError
from pyrite.gate.outcome import Checked, GateKind, unknown, worst
from pyrite.runs import Run, read_results
from pyrite.runs.study import ContrastNames, PrimaryContrast, StudyRecord
from pyrite.stats import Verdict
from pyrite.stats.gates import Outcome, outcome_of

_GATE = re.compile(
    r"\s*(?P<target>.+?)\s*(?P<op>>=|<=|>|<)\s*(?P<number>[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)\s*(?P<percent>%)?\s*",
    re.IGNORECASE | re.ASCII,
)
_VERDICT = re.compile(r"\s*verdict\s*!=\s*worse\s*")
EXAMPLES = "such as 'verdict != worse', 'primary >= -2%', or 'ARM - AGAINST on PROBE >= -0.02'"
GOOD = (Verdict.BETTER, Verdict.EQUIVALENT)

StudyRun = Run[StudyRecord]
Answer = tuple[Outcome, str, Mapping[str, Any] | None]
"""How one contrast comes out, why, and its difference."""


def check_study(run: StudyRun, texts: Sequence[str]) -> list[Checked]:
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
        check_verdicts(text, primary) if _VERDICT.fullmatch(text) else check_differences(run, text, primary)
        for text in texts
    ]


def study_examples(run: StudyRun) -> list[str]:
    """Conditions that this run can be asked."""
    names = [full_name(contrast) for contrast in run.record.primary[:1]]
    return ["verdict != worse", "primary >= -0.02", *(f"{name} >= -0.02" for name in names)]


def check_verdicts(text: str, primary: Sequence[PrimaryContrast]) -> Checked:
    """Whether no primary contrast is worse, as far as verdicts say so."""
    return worst(text.strip(), [verdict_answer(contrast) for contrast in primary])


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
    if not _VERDICT.fullmatch(text):
        parse_study_gate(text, contrasts)


def parse_study_gate(text: str, contrasts: Sequence[ContrastNames]) -> tuple[re.Match[str], list[int]]:
    """A condition on differences as read, and which of the contrasts it is about."""
    match = _GATE.fullmatch(text)
    if match is None:
        raise UserError("That is no gate on a study.", text, EXAMPLES)
    target = " ".join(match["target"].split())
    places = [at for at, contrast in enumerate(contrasts) if target == "primary" or target in contrast_names(contrast)]
    if not places:
        names = ["primary", *(name for contrast in contrasts for name in contrast_names(contrast))]
        raise unknown("contrast", target, names, text)
    return match, places


def check_differences(run: StudyRun, text: str, primary: Sequence[PrimaryContrast]) -> Checked:
    """How the intervals of the named contrasts stand to the bound."""
    match, places = parse_study_gate(text, [contrast.contrast for contrast in primary])
    contrasts = [primary[at] for at in places]
    percent = match["percent"] is not None
    bound = float(Decimal(match["number"]) / (100 if percent else 1))
    for contrast in contrasts:
        check_bound(text, bound, percent, difference_scale(run, contrast))
    return worst(text.strip(), [difference_answer(contrast, match["op"], bound) for contrast in contrasts])


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


def contrast_names(contrast: ContrastNames) -> list[str]:
    """What a contrast may be called, the whole name first."""
    probe = contrast.probe
    probes = [probe, *([] if probe == "gap" else [f"{probe}.accuracy"])]
    if contrast.cell is not None:
        probes = [probe, probe.partition(".")[0]]
    return [*(f"{contrast.name} - {contrast.against} on {name}" for name in probes), *probes]


def difference_scale(run: StudyRun, contrast: PrimaryContrast) -> str:
    """What a contrast's difference is measured in: `share`, `gap` (a difference of two changes), `real`, or nothing known."""
    about = contrast.contrast
    if about.cell is None:
        return "gap" if about.probe == "gap" else "share"
    file = run.result("results.parquet")
    if not file.is_file():
        return ""
    probe, _, metric = about.probe.partition(".")
    filters = [("probe", "=", probe), ("metric", "=", metric)]
    rows = read_results(file, ("probe", "metric", "scale"), where=filters)
    return str(rows[0]["scale"]) if rows else ""


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
