"""Small run folders as the verbs write them."""

from pathlib import Path
from typing import Any

import orjson


def put(folder: Path, told: dict[str, Any], name: str = "run.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(orjson.dumps({"schema_version": 1, **told}))
    return folder


def difference(value: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {
        "value": value, "low": low, "high": high, "n": 3, "n_missing": 0, "direction": "higher", "confidence": 0.95,
        "method": "paired t" if low is not None else "one seed: no interval",
    }  # fmt: skip


def contrast(
    verdict: str, value: float, low: float | None, high: float | None, *, arm: str = "synthetic", probe: str = "hans"
) -> dict[str, Any]:
    about = {"arm": arm, "against": "human", "probe": probe, "starts": None, "sizes": None}
    return {"contrast": about, "verdict": verdict, "difference": difference(value, low, high), "why": f"{arm} says so"}


def study_in(folder: Path, *primary: dict[str, Any]) -> Path:
    return put(folder, study_told(*primary))


def study_told(*primary: dict[str, Any]) -> dict[str, Any]:
    timing = {"this_run_seconds": 1, "steps_run": 1, "steps_reused": 0, "seconds_of_all_steps": 1}
    return {
        "verb": "study", "study": "small", "primary": list(primary), "spec": {"probes": {}}, "counts": {}, "overlap": [],
        "notes": [], "timing": timing, "steps": {},
    }  # fmt: skip


def language(cell: str, probe: str, verdict: str, value: float, low: float, high: float) -> dict[str, Any]:
    about = {"cell": cell, "against": "start", "probe": probe, "margin": None}
    return {"contrast": about, "verdict": verdict, "difference": difference(value, low, high), "why": "so"}


def finding(flaw: str, measure: str, severity: str, low: float | None, high: float | None) -> dict[str, Any]:
    value = None if low is None or high is None else (low + high) / 2
    return {
        "flaw": flaw, "measure": measure, "severity": severity, "excess": {"value": value, "low": low, "high": high},
        "counted": None, "n": 100, "question": "Is it?", "value": value, "unit": "share", "null": None, "between_human": None,
        "why": None, "advice": None, "evidence": {"lines": [], "rows": []},
    }  # fmt: skip


def audit_in(folder: Path, *findings: dict[str, Any], **more: Any) -> Path:
    told = {
        "verb": "audit", "findings": list(findings), "not_measured": [], "needs_reference": [],
        "references": [{"source": "a"}, {"source": "b"}], "gates": [], "data": ["data.jsonl"],
        "settings": {"only": ["format"], "seed": 0, "alpha": 0.05, "flag_at": 1.0}, "flagged": None, "notes": [],
        "rows": {"read": 9, "kept": 9, "dropped": {}}, "reference_rows": {"read": 9, "kept": 9, "dropped": {}},
        "sample": {"n": 9, "of": 9, "model_n": 9, "precision": "all"}, **more,
    }  # fmt: skip
    return put(folder, told)
