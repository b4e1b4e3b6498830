"""Conditions that a data set must meet: on the worst severity, or on how far a statistic exceeds its null or baseline.

    severity < fail              no finding is a failure
    severity < warn              no finding at all
    FLAW[.STATISTIC] OP NUMBER   the excess (of every statistic of the flaw, where none is named)

The grammar is that of `pyrite.conditions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pyrite.audit.decide import ALONE, AT_END, FEW_CLUSTERS, Finding
from pyrite.conditions import GateOutcome, Outcome, outcome_of, parse_condition
from pyrite.errors import UserError


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition as read; `bound` is a number, or a severity's name."""

    text: str
    name: str
    op: str
    bound: float | str


def examples(names: Sequence[str]) -> str:
    """Conditions that could be written: on the worst severity, and on the first and the last statistic."""
    lines = [
        "'severity < fail'",
        *(f"'{names[0]} < 5%'" for _ in names[:1]),
        *(f"'{names[-1]} <= 0'" for _ in names[1:2]),
    ]
    return f"such as {', '.join(lines)}"


def parse(text: str, names: Sequence[str]) -> Gate:
    """A condition as its text says it. `names` are the full names of all measures.

    Raises:
        UserError: the text is no condition, or names an unknown flaw or measure.
    """
    condition = parse_condition(text, examples(names))
    name, bound = condition.name, condition.bound
    is_severity = name == "severity"
    if condition.where or condition.op == "!=" or is_severity != isinstance(bound, str):
        raise UserError("That is no gate.", text, examples(names))
    if is_severity and (bound not in ("fail", "warn") or condition.op != "<"):
        raise UserError("That is no gate.", text, examples(names))
    if not is_severity and not any(full_name == name or full_name.startswith(f"{name}.") for full_name in names):
        raise UserError("A gate names an unknown flaw or measure.", name, f"known: {', '.join(names)}")
    return Gate(condition.text, name, condition.op, bound)


def compared(gate: Gate, finding: Finding, bound: float) -> tuple[Outcome, str]:
    """How one measure stands to the bound, and in words. What was counted over all rows is known without an interval:
    its share above the threshold; anything else is its excess."""
    counted, excess = finding.record["counted"], finding.record["excess"]
    if counted is not None:
        above = counted["value"] - counted["threshold"]
        words = f"{counted['value']:.3g} of {counted['rows']:,} rows, {above:.3g} above the threshold"
        return outcome_of(above, above, gate.op, bound), f"{finding.full_name}: {words}"
    outcome = outcome_of(excess["low"], excess["high"], gate.op, bound)
    between = finding.record["between_human"] or {}
    if outcome == "passed" and between.get("at_end") and gate.op in ("<", "<="):
        fix = "ask it with --no-prior and five sources or more"
        return "undecided", f"{finding.full_name}: {AT_END}, and any data would pass: {fix}"
    if outcome == "failed" and finding.severity == "warn" and "another task" in (finding.record["why"] or ""):
        return "undecided", f"{finding.full_name}: {finding.record['why']}"
    interval = "no interval" if excess["low"] is None else f"{excess['low']:.3g} to {excess['high']:.3g}"
    return outcome, f"{finding.full_name}: excess {excess['value']:.3g} ({interval})"


def capped(findings: Sequence[Finding]) -> str:
    """Warnings that could not be failures, with the reason; "anything" where no measure could be one, and nothing was
    found; "" where no failure was out of reach."""
    names: dict[str, list[str]] = {}
    for finding in findings:
        if (
            finding.severity == "warn"
            and is_capped(finding)
            and finding.record["null"] is not None
            and finding.record["why"] != ALONE
        ):
            names.setdefault(finding.record["why"], []).append(finding.full_name)
    if names:
        return "; ".join(f"{', '.join(measures)}: {why}" for why, measures in names.items())
    between = [finding.record["between_human"] for finding in findings if finding.record["null"] is not None]
    return (
        "anything"
        if between and not any(sources and sources.get("high", sources["value"]) is not None for sources in between)
        else ""
    )


def is_capped(finding: Finding) -> bool:
    """Whether this finding could not be a failure. Findings of older runs say so in their reason only."""
    return bool(finding.record.get("capped", "a warning is the most" in (finding.record["why"] or "")))


def result(gate: Gate, outcome: Outcome, why: str) -> GateOutcome:
    """How a gate came out."""
    return GateOutcome(gate.text, outcome, why, says_estimate=False)


def check_gate(gate: Gate, findings: Sequence[Finding], *, sources: int, lacking: Sequence[str]) -> GateOutcome:
    """How a gate comes out: the worst of its measures counts. What could not be measured for want of a reference
    (`lacking`: full names), or could not be a failure (too few human sources or rows, another task than theirs), leaves
    it undecided."""
    if gate.name == "severity":
        few_clusters = [finding.full_name for finding in findings if finding.record["why"] == FEW_CLUSTERS]
        worse = ("fail",) if gate.bound == "fail" else ("fail", "warn")
        bad = [finding.full_name for finding in findings if finding.severity in worse]
        if bad:
            return result(gate, "failed", ", ".join(bad))
        if gate.bound == "fail" and sources < 1:
            return result(gate, "undecided", "without a human source nothing can be called a failure")
        if gate.bound == "fail" and (few := capped(findings)):
            return result(gate, "undecided", f"a failure was out of reach: {few}")
        if few_clusters:
            return result(gate, "undecided", f"{', '.join(few_clusters)}: {FEW_CLUSTERS}")
        if lacking or not findings:
            return result(gate, "undecided", f"not measured: {', '.join(lacking) or 'anything'}")
        ends = [
            finding.full_name for finding in findings if finding.severity == "warn" and finding.record["why"] == AT_END
        ]
        apart = f"; not asked of {', '.join(ends)}: {AT_END}" if ends and gate.bound == "fail" else ""
        return result(gate, "passed", f"no such finding{apart}")
    outcomes: list[tuple[Outcome, str]] = []
    for finding in findings:
        if finding.full_name == gate.name or finding.flaw == gate.name:
            assert isinstance(gate.bound, float)
            outcomes.append(compared(gate, finding, gate.bound))
    outcomes += [
        ("undecided", f"{name}: not measured")
        for name in lacking
        if name == gate.name or name.startswith(f"{gate.name}.")
    ]
    if not outcomes:
        return result(gate, "undecided", "it could not be measured here")
    worst: tuple[Outcome, ...] = ("failed", "undecided")
    for outcome in worst:
        those = [why for reached, why in outcomes if reached == outcome]
        if those:
            return result(gate, outcome, "; ".join(those))
    return result(gate, "passed", "; ".join(why for _, why in outcomes))
