"""How bad is it? Severities out of what was measured; nothing is measured here, so thresholds can change at no cost.

A measure beyond its null (Holm over all measures of the audit, so that clean data gets any warning at all with the
chance `alpha` at most) is a warning; if its excess over the largest distance between human sources is above 0 with its
whole interval, it is a failure. With one human source there is no such distance, and nothing is worse than a warning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyrite.stats.multiplicity import holm

Severity = Literal["fail", "warn", "ok"]
ORDER: tuple[Severity, ...] = ("fail", "warn", "ok")

COUNTED = "counted over all rows: too few in the sample to compare, or no more than people have"
ONE_SOURCE = "one human source: how much people differ from people is not known, so a warning is the most"
TOO_FEW = "too few rows of each source: how much people differ is not known, so a warning is the most"
NO_REFERENCE = "no reference: measured on the data alone, so a warning is the most"


@dataclass(frozen=True)
class Finding:
    """One flaw with its evidence, as `--json` tells it."""

    flaw: str
    measure: str
    severity: Severity
    told: Mapping[str, Any]
    rule: Mapping[str, Any] | None

    @property
    def full_name(self) -> str:
        """Its name among all measures."""
        return f"{self.flaw}.{self.measure}"

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"flaw": self.flaw, "measure": self.measure, "severity": self.severity, **self.told}


def decide(
    measured: Sequence[Mapping[str, Any]], *, alpha: float, thresholds: Mapping[str, float], sources: int
) -> list[Finding]:
    """Findings, worst first: by severity, then by how far beyond the yardstick, in its standard errors.

    `measured` are the measures of all families, as `compare` told them; `thresholds`: name -> the excess up to which
    there is no finding; `sources`: how many human sources there are.
    """
    with_null = [at for at, one in enumerate(measured) if one["p"] is not None]
    adjusted = dict(zip(with_null, holm([measured[at]["p"] for at in with_null]), strict=True)) if with_null else {}
    found = []
    for at, one in enumerate(measured):
        measure = one["measure"]
        name = f"{measure['flaw']}.{measure['name']}"
        least = thresholds.get(name)
        severity, why = severity_of(one, adjusted.get(at), alpha=alpha, least=least, sources=sources)
        null = None
        if one["p"] is not None:
            null = {"mean": one["null_mean"], "high": one["null_high"], "p": one["p"], "p_adjusted": adjusted[at]}
        shown = {key: value for key, value in one["evidence"].items() if key != "rule"}
        told = {
            "question": measure["question"],
            "value": one["value"],
            "unit": measure["unit"],
            "null": null,
            "between_human": one["between"],
            "excess": {"value": one["excess"], "low": one["low"], "high": one["high"]},
            "n": one["n"],
            "counted": one.get("counted"),
            "evidence": shown,
            "advice": measure["advice"] if severity != "ok" else "",
            "why": why,
        }
        found.append(Finding(measure["flaw"], measure["name"], severity, told, one["evidence"]["rule"]))
    return sorted(found, key=lambda finding: (ORDER.index(finding.severity), -strength(finding), finding.full_name))


def severity_of(
    one: Mapping[str, Any], p: float | None, *, alpha: float, least: float | None, sources: int
) -> tuple[Severity, str]:
    """The severity of one measure, and why it is not worse."""
    counted = one.get("counted")
    if counted is not None and counted["value"] - counted["threshold"] > (least or 0.0):
        counts: tuple[Severity, str] = ("warn", COUNTED)
    else:
        counts = ("ok", "")
    if least is not None and one["excess"] <= least:
        return counts
    if one["p"] is None:
        why = NO_REFERENCE if sources == 0 else "measured on the data alone, so a warning is the most"
        return ("warn", why) if one["excess"] > 0 else ("ok", "")
    if p is None or p > alpha or one["value"] <= one["null_mean"]:
        return counts
    if one["between"] is None:
        if one.get("alone") and sources:
            return "warn", "measured on the data alone, so a warning is the most"
        return "warn", ONE_SOURCE if sources == 1 else NO_REFERENCE if sources == 0 else TOO_FEW
    if one["low"] is not None and one["low"] > 0:
        return "fail", ""
    return "warn", "within what human sources differ by, or not clearly beyond it"


def strength(finding: Finding) -> float:
    """How far beyond the yardstick, in standard errors of the excess; measures without one come last."""
    excess = finding.told["excess"]
    if excess["low"] is None or excess["value"] is None:
        return 0.0
    width = max(excess["value"] - excess["low"], 1e-9)
    return float(min(excess["value"] / width, 1e6))
