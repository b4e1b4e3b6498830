"""Conditions on an audit: those of `pyrite audit --gate`, asked of the findings in its run folder."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.audit import gate as gating
from pyrite.audit.decide import Finding
from pyrite.audit.flaws.registry import full_names
from pyrite.audit.plan import selected_flaws
from pyrite.errors import UserError
from pyrite.gate.outcome import Checked, unknown
from pyrite.runs import Run


def answer(run: Run, texts: Sequence[str]) -> list[Checked]:
    """How does each condition come out?

    Raises:
        UserError: a text that is no condition, or that names an unknown flaw or measure.
    """
    told = run.told
    findings = [finding(one) for one in told["findings"]]
    lacking = list(told["needs_reference"])
    made = []
    for text in texts:
        gate = parse(text, names(run))
        asked = gating.ask(gate, findings, sources=len(told["references"]), lacking=lacking)
        made.append(Checked(gate.text, asked.outcome, asked.why, estimate(gate, findings)))
    return made


def examples(run: Run) -> list[str]:
    """Conditions that this run can be asked."""
    return ["severity < fail", *(f"{one} < 0.05" for one in names(run)[:1])]


def names(run: Run) -> list[str]:
    """Every measure that can be named: those that were taken, those that could not be, and others of the flaws asked for."""
    told = [f"{one['flaw']}.{one['measure']}" for one in run.told["findings"]]
    told += [one["measure"] for one in run.told["not_measured"]]
    asked = selected_flaws(tuple(run.told["settings"]["only"]))
    return list(dict.fromkeys([*told, *full_names(asked)]))


def parse(text: str, known: Sequence[str]) -> gating.Gate:
    """The condition as `pyrite audit` reads it, with the nearest name where one is unknown."""
    try:
        return gating.parse(text, known)
    except UserError as error:
        if "unknown flaw or measure" not in error.what:
            raise
        flaws = [name.partition(".")[0] for name in known]
        raise unknown("flaw or measure", error.found, [*known, *flaws], text) from None


def finding(one: Mapping[str, Any]) -> Finding:
    """A finding as the audit had it; JSON has no NaN, so a number that is missing there was one."""
    excess = dict(one["excess"])
    if excess["value"] is None:
        excess["value"] = math.nan
    return Finding(one["flaw"], one["measure"], one["severity"], {**one, "excess": excess}, None)


def estimate(gate: gating.Gate, findings: Sequence[Finding]) -> dict[str, Any] | None:
    """What the condition looked at, where that is one number."""
    asked = [one for one in findings if gate.name in (one.full_name, one.flaw)]
    if len(asked) != 1:
        return None
    counted, excess = asked[0].told["counted"], asked[0].told["excess"]
    if counted is not None:
        above = counted["value"] - counted["threshold"]
        return {"value": above, "low": above, "high": above, "n": counted["rows"]}
    value = None if math.isnan(excess["value"]) else excess["value"]
    return {"value": value, "low": excess["low"], "high": excess["high"], "n": asked[0].told["n"]}
