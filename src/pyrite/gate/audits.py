"""Conditions on an audit: those of `pyrite audit --gate`, asked of the findings in its run folder."""

import math
from collections.abc import Sequence
from typing import Any

from pyrite.audit import gate as gating
from pyrite.audit.decide import Finding
from pyrite.audit.flaws.registry import full_names
from pyrite.audit.plan import selected_flaws
from pyrite.conditions import GateOutcome
from pyrite.errors import UserError
from pyrite.gate.outcome import GateKind, condition_outcome, unknown
from pyrite.runs import Run
from pyrite.runs.audit import AuditRecord, FindingRecord


def check_audit(run: Run[AuditRecord], texts: Sequence[str]) -> list[GateOutcome]:
    """How each condition comes out.

    Raises:
        UserError: a text that is no condition, or that names an unknown flaw or measure.
    """
    record = run.record
    findings = [finding_of(finding) for finding in record.findings]
    outcomes = []
    for text in texts:
        gate = parse_audit_gate(text, measure_names(record))
        result = gating.check_gate(gate, findings, sources=len(record.references), lacking=record.needs_reference)
        outcomes.append(condition_outcome(gate.text, result.outcome, result.why, gated_estimate(gate, record)))
    return outcomes


def audit_examples(run: Run[AuditRecord]) -> list[str]:
    """Conditions that this run can be asked."""
    return ["severity < fail", *(f"{name} < 0.05" for name in measure_names(run.record)[:1])]


def measure_names(record: AuditRecord) -> list[str]:
    """Every measure that can be named: those that were taken, those that could not be, and others of the flaws asked for."""
    names = [finding.full_name for finding in record.findings]
    names += [missing.measure for missing in record.not_measured]
    return list(dict.fromkeys([*names, *full_names(selected_flaws(tuple(record.settings.only)))]))


def parse_audit_gate(text: str, names: Sequence[str]) -> gating.Gate:
    """The condition as `pyrite audit` reads it, with the nearest name where one is unknown."""
    try:
        return gating.parse(text, names)
    except UserError as error:
        if "unknown flaw or measure" not in error.what:
            raise
        flaws = [name.partition(".")[0] for name in names]
        raise unknown("flaw or measure", error.found, [*names, *flaws], text) from None


def finding_of(record: FindingRecord) -> Finding:
    """A finding as the audit had it; JSON has no NaN, so a number that is missing there was one."""
    values = record.as_json()
    excess = values["excess"] or {"low": None, "high": None}
    if excess.get("value") is None:
        excess = {**excess, "value": math.nan}
    return Finding(record.flaw, record.measure, record.severity, {**values, "excess": excess}, None)


def gated_estimate(gate: gating.Gate, record: AuditRecord) -> dict[str, Any] | None:
    """What the condition looked at, where that is one number."""
    findings = [finding for finding in record.findings if gate.name in (finding.full_name, finding.flaw)]
    if len(findings) != 1:
        return None
    counted, excess = findings[0].counted, findings[0].excess
    if counted is not None:
        above = counted.value - counted.threshold
        return {"value": above, "low": above, "high": above, "n": counted.rows}
    ends = (None, None, None) if excess is None else (excess.value, excess.low, excess.high)
    return {**dict(zip(("value", "low", "high"), ends, strict=True)), "n": findings[0].n}


KIND = GateKind(check_audit, audit_examples)
