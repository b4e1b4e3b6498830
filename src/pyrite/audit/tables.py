"""An audit as objects: a table to look at and compute with, charts that show themselves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars


def table(audit: Mapping[str, Any]) -> "polars.DataFrame":
    """Every statistic of an audit, worst first: one row each, with its severity, value, null, baseline and excess.

    `human_difference` is the largest distance between human sources, `chance_high` what chance stays below in 95 of
    100 draws; null where there is none. Shares are fractions. `audit` is what `Audit.as_json` returns.
    """
    import polars

    return polars.DataFrame([finding_row(finding) for finding in audit["findings"]], infer_schema_length=None)


def finding_row(finding: Mapping[str, Any]) -> dict[str, Any]:
    """One finding as a row."""
    null, between, excess = finding["null"] or {}, finding["between_human"] or {}, finding["excess"] or {}
    return {
        "severity": finding["severity"],
        "flaw": finding["flaw"],
        "measure": finding["measure"],
        "question": finding["question"],
        "value": finding["value"],
        "unit": finding["unit"],
        "excess": excess.get("value"),
        "excess_low": excess.get("low"),
        "excess_high": excess.get("high"),
        "human_difference": between.get("value"),
        "chance_high": null.get("high"),
        "p_adjusted": null.get("p_adjusted"),
        "rows": finding["n"],
        "advice": finding["advice"],
    }
