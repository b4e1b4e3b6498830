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
from pyrite.gate.outcome import Checked, unknown, worst
from pyrite.runs import Run, read_results
from pyrite.stats import Verdict
from pyrite.stats.gates import Outcome, outcome_of

_GATE = re.compile(
    r"\s*(?P<target>.+?)\s*(?P<op>>=|<=|>|<)\s*(?P<number>[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)\s*(?P<percent>%)?\s*",
    re.IGNORECASE | re.ASCII,
)
_VERDICT = re.compile(r"\s*verdict\s*!=\s*worse\s*")
EXAMPLES = "such as 'verdict != worse', 'primary >= -2%', or 'ARM - AGAINST on PROBE >= -0.02'"
GOOD = (Verdict.BETTER, Verdict.EQUIVALENT)

Contrast = Mapping[str, Any]
"""A primary contrast as the run tells it."""


def answer(run: Run, texts: Sequence[str]) -> list[Checked]:
    """How does each condition come out?

    Raises:
        UserError: a study without a primary contrast, a text that is no condition, a contrast that the study does not
            have, or a bound that its differences cannot have.
    """
    primary = run.told["primary"]
    if not primary:
        fix = "name contrasts in the study file, and run it again"
        raise UserError("The study has no primary contrast.", str(run.folder), fix)
    return [verdicts(text, primary) if _VERDICT.fullmatch(text) else differences(run, text, primary) for text in texts]


def examples(run: Run) -> list[str]:
    """Conditions that this run can be asked."""
    named = [names(one)[0] for one in run.told["primary"][:1]]
    return ["verdict != worse", "primary >= -0.02", *(f"{name} >= -0.02" for name in named)]


def verdicts(text: str, primary: Sequence[Contrast]) -> Checked:
    """Is no primary contrast worse? Shown only by verdicts that say so."""
    told: list[tuple[Outcome, str, Mapping[str, Any] | None]] = []
    for one in primary:
        outcome: Outcome = "failed" if one["verdict"] == Verdict.WORSE else "undecided"
        outcome = "passed" if one["verdict"] in GOOD else outcome
        said = f"{names(one)[0]}: {one['verdict']}: {one['why']}{left_out(one)}"
        if outcome == "passed" and not is_known(one["difference"]):
            outcome, said = "undecided", f"{names(one)[0]}: the run says {one['verdict']}, but holds no interval for it"
        told.append((outcome, said, about(one)))
    return worst(text.strip(), told)


def check(text: str, primary: Sequence[Contrast]) -> None:
    """Can this condition be asked of these primary contrasts? To be called before a study runs.

    Raises:
        UserError: a text that is no condition, or a contrast that is not among them.
    """
    if not _VERDICT.fullmatch(text):
        meant(text, primary)


def meant(text: str, primary: Sequence[Contrast]) -> tuple[re.Match[str], list[Contrast]]:
    """A condition on differences as read, and the contrasts that it is about."""
    found = _GATE.fullmatch(text)
    if found is None:
        raise UserError("That is no gate on a study.", text, EXAMPLES)
    target = " ".join(found["target"].split())
    asked = [one for one in primary if target == "primary" or target in names(one)]
    if not asked:
        raise unknown("contrast", target, ["primary", *(name for one in primary for name in names(one))], text)
    return found, asked


def differences(run: Run, text: str, primary: Sequence[Contrast]) -> Checked:
    """How do the intervals of the named contrasts stand to the bound?"""
    found, asked = meant(text, primary)
    percent = found["percent"] is not None
    bound = float(Decimal(found["number"]) / (100 if percent else 1))
    for one in asked:
        check_bound(text, bound, percent, scale(run, one))
    return worst(text.strip(), [compared(one, found["op"], bound) for one in asked])


def compared(one: Contrast, op: str, bound: float) -> tuple[Outcome, str, Mapping[str, Any]]:
    """How one contrast stands to the bound, in words, and its difference."""
    difference = one["difference"]
    outcome = outcome_of(difference["low"], difference["high"], op, bound)
    at_worst = one.get("bounds")
    if at_worst and outcome_of(at_worst["low"], at_worst["high"], op, bound) != outcome:
        said = (
            f"{one['missing']} items have no answer on a side; counted against one side they could change the outcome"
        )
        return "undecided", f"{names(one)[0]}: {said}", about(one)
    said = f"{names(one)[0]}: "
    if difference["low"] is None or difference["value"] is None:
        return outcome, f"{said}no interval ({difference['method']})", about(one)
    interval = f"{difference['low']:.4g} to {difference['high']:.4g}"
    said += f"difference {difference['value']:.4g} ({difference['confidence']:.0%} interval {interval})"
    if one["verdict"] == Verdict.NOT_TESTABLE and outcome != "undecided":
        return "undecided", f"{said}, not testable: {one['why']}", about(one)
    if one.get("unlike") and outcome == "passed":
        return "undecided", f"{said}, but an average hides what cells say: {one['unlike']}", about(one)
    return outcome, f"{said}{left_out(one)}", about(one)


def left_out(one: Contrast) -> str:
    """The cells that could not answer; nothing where all could."""
    cells = ", ".join(cell["cell"] for cell in one.get("left_out") or () if one.get("cell_names"))
    return f" (left out, for they cannot answer: {cells})" if cells else ""


def is_known(difference: Mapping[str, Any]) -> bool:
    """Does a difference have a value and an interval?"""
    return all(difference[name] is not None and math.isfinite(difference[name]) for name in ("value", "low", "high"))


def about(one: Contrast) -> dict[str, Any]:
    """A contrast's difference, with its name."""
    return {**one["difference"], "contrast": names(one)[0]}


def names(one: Contrast) -> list[str]:
    """What a contrast may be called, the whole name first."""
    contrast = one["contrast"]
    arm, probe = contrast.get("arm", contrast.get("cell")), contrast["probe"]
    probes = [probe, *([] if probe == "gap" else [f"{probe}.accuracy"])]
    if "cell" in contrast:
        probes = [probe, probe.partition(".")[0]]
    return [*(f"{arm} - {contrast['against']} on {name}" for name in probes), *probes]


def scale(run: Run, one: Contrast) -> str:
    """What a contrast's difference is measured in: `share`, `gap` (a difference of two changes), `real`, or nothing known."""
    contrast = one["contrast"]
    if "cell" not in contrast:
        return "gap" if contrast["probe"] == "gap" else "share"
    file = run.result("results.parquet")
    if not file.is_file():
        return ""
    probe, _, metric = contrast["probe"].partition(".")
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
        meant = f"did you mean {bound:g}%? " if not percent else ""
        raise UserError(f"Such a difference lies between -{most} and {most}.", text, f"{meant}2% is 0.02")
