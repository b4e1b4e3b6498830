"""Small run folders, written by hand as the verbs write them."""

import json
import os
from pathlib import Path
from typing import Any

import polars as pl

from pyrite.audit.config import AuditConfig

MADE_WITH = {"pyrite": "0.1.0", "python": "3.11", "platform": "secret machine", "torch": "2", "transformers": "5"}
HOSTILE = "<script>alert(1)</script> | pipe | `tick` ``` \u202eturned\x00\x1b[31m [x](http://e) **b** {{7*7}}\n# title"
WRITTEN_AT = 1_700_000_000  # 2023-11-14T22:13:20 UTC


def line(value: float | None, low: float | None, high: float | None, n: int = 40, **more: Any) -> dict[str, Any]:
    plain = {"value": value, "low": low, "high": high, "n": n, "n_missing": 0, "direction": "higher"}
    return {**plain, "method": "Wilson" if low is not None else "3 templates: no interval", **more}


def card(about: str, task: str = "heuristics", *slices: dict[str, Any], **more: Any) -> dict[str, Any]:
    plain = {
        "about": about, "task": task, "source": f"/home/me/{task}.jsonl", "metric": "accuracy",
        "overall": line(0.75, 0.5, 0.875), "unmatched": 0, "intervals": "this model, on other items",
        "notes": [], "judge_noise": {}, "details": {}, "slices": list(slices),
    }  # fmt: skip
    return {**plain, **more}


def sliced(by: str, name: str, gold: str | None, value: float | None, **more: Any) -> dict[str, Any]:
    ends = (None, None) if value is None else (max(0.0, value - 0.125), min(1.0, value + 0.25))
    return {"metric": "accuracy", "by": by, "name": name, "gold": gold, **line(value, *ends, n=20, **more)}


def write_run(folder: Path, told: dict[str, Any], name: str = "run.json") -> Path:
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"schema_version": 1, **told}))
    os.utime(folder / name, (WRITTEN_AT, WRITTEN_AT))
    return folder


def write_items(folder: Path, subjects: dict[str, list[float | None]], task: str, texts: list[str]) -> None:
    """Items of one task, one value for each subject and item; what was asked, the gold label, and the answers."""
    rows, said = [], []
    for number, text in enumerate(texts):
        said += [(task, f"i{number}", None, text), (task, f"i{number}", "gold", "entailment")]
        for subject, values in subjects.items():
            rows.append((subject, task, "accuracy", f"i{number}", values[number], "t1", 1.0, '{"gold": "entailment"}'))
            if values[number] is not None:
                said.append((task, f"i{number}", subject, "entailment" if values[number] else "non-entailment"))
    names = ["subject", "task", "metric", "item", "value", "group", "weight", "slices"]
    pl.DataFrame(rows, names, orient="row").write_parquet(folder / "results" / "items.parquet")
    names = ["task", "item", "subject", "text"]
    pl.DataFrame(said, names, orient="row").write_parquet(folder / "results" / "texts.parquet")


def told_probe(*models: str, cards: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    scorecards = cards or [
        card(model, "heuristics", sliced("gold", "non-entailment", "non-entailment", 0.125),
             sliced("heuristic", "lexical_overlap", "entailment", None),
             {"metric": "accuracy_2way", "by": "overall", "name": "overall", "gold": None, **line(1.0, None, None)})
        for model in models
    ]  # fmt: skip
    plain = {
        "verb": "probe", "about": " against ".join(models), "models": list(models), "scorecards": scorecards,
        "compared": [], "gates": [], "exit_code": 0, "settings": {"items": 40, "seed": 3}, "margin": 0.02,
        "command": "pyrite probe mine --task heuristics=40", "made_with": MADE_WITH,
        "metrics": {"heuristics": [{"name": "accuracy", "scale": "share", "direction": "higher", "says": "is right"}]},
        "clusters": {"heuristics": "templates"},
    }  # fmt: skip
    return plain | more


def probe_folder(folder: Path, *models: str, texts: list[str] | None = None, **more: Any) -> Path:
    names = models or ("/home/me/models/mine",)
    write_run(folder, told_probe(*names, **more))
    asked = texts or ["premise: it rains\nhypothesis: it rains", HOSTILE, "third"]
    values: list[float | None] = [1.0, 0.0, None]
    write_items(folder, {name: values[: len(asked)] for name in names}, "heuristics", asked)
    return folder


def contrast(metric: str = "accuracy", **more: Any) -> dict[str, Any]:
    difference = line(0.25, 0.125, 0.5, method="paired t")
    return {"metric": metric, "by": "overall", "name": "overall", "primary": True, "first": 0.5, "second": 0.75,
            "difference": difference, "verdict": "better", "sentence": "better", **more}  # fmt: skip


def told_repair(**more: Any) -> dict[str, Any]:
    row = {"read": 30, "kept": 28, "dropped": {"same text as an earlier row": 2}}
    change = {"task": "heuristics", "first": "before", "second": "repaired", "contrasts": [contrast()], "flips": []}
    plain = {
        "metrics": {}, "clusters": {}, "verb": "repair", "model": "org/name@main", "model_identity": "commit:abc", "base_model": "org/name",
        "licence": None, "method": "lbf", "weights": {"forget": 0.01, "replay": 1.0, "kl": 1.0},
        "options": {"beta": 0.1}, "seed": 3,
        "training": {"steps": 9, "planned_steps": 40, "stopped": None, "point": {"step": 4, "rule": "the best"}},
        "settings": {
            "save": "merged", "forget_rows": 4, "replay_rows": 4, "max_tokens": 512, "long_rows": "split",
            "training": {"method": "lora", "learning_rate": 5e-5, "schedule": "cosine"}, "guard": {"every_tokens": 0},
        },
        "compute": {"device": "cpu", "precision": "fp32"},
        "files": [{"side": "forget", "name": "hf://org/synthetic:main@train", "hash": "c0ffee", "bytes": None},
                  {"side": "replay", "name": f"a{HOSTILE}.jsonl", "hash": "beef", "bytes": 12}],
        "rows": {
            "forget": {**row, "pools": {"forget": 20, "guard_forget": 3, "scorecard_forget": 5}},
            "replay": {**row, "pools": {"replay": 18, "guard_replay": 4, "scorecard_replay": 6}},
            "overlap": {"rows": 28, "shared": 1, "left_out": 1, "shared_prompts": 2},
        },
        "cost": {"tokens": {"forget": 3, "replay": 5, "guard": 0, "processed": 8}, "undoes": None, "flops": 2e9,
                 "seconds": 7.0, "peak_bytes": 2**30},
        "scorecards": [card("before"), card("repaired", overall=line(0.875, 0.75, 1.0))],
        "compared": [change],
        "proofs": [{"proof": "nf4", "scorecards": [card("nf4")], "against_repaired": [change],
                    "against_before": [change]}],
        "gates": [{"outcome": "undecided", "gate": "change heuristics >= 0", "why": "the interval holds 0"}],
        "exit_code": 3, "notes": ["the guard was off"], "curve": [], "guard": [],
        "command": "pyrite repair org/name --forget a --replay b", "made_with": MADE_WITH,
    }  # fmt: skip
    return plain | more


def repair_folder(folder: Path, **more: Any) -> Path:
    write_run(folder, told_repair(**more), "repair.json")
    write_items(folder, {"before": [0.0, 1.0], "repaired": [1.0, 1.0], "nf4": [1.0, None]}, "heuristics", ["a", "b"])
    return folder


def finding(severity: str, measure: str, **more: Any) -> dict[str, Any]:
    plain = {
        "flaw": "format", "measure": measure, "severity": severity, "question": "Do answers open alike?",
        "value": 0.5, "unit": "share", "null": {"mean": 0.1, "high": 0.2, "p": 0.001, "p_adjusted": 0.004},
        "between_human": {"value": 0.15, "source": "one", "value_of_data": 0.5, "n": 90},
        "excess": {"value": 0.3, "low": 0.25, "high": 0.375}, "n": 100, "counted": None,
        "evidence": {"lines": [f"27 answers begin with {HOSTILE}"],
                     "rows": [{"id": "d.jsonl:3", "excerpt": HOSTILE}], "values": {}},
        "advice": "look at them", "why": "",
    }  # fmt: skip
    return plain | more | {"severity": severity, "measure": measure}


def told_audit(**more: Any) -> dict[str, Any]:
    plain = {
        "verb": "audit", "data": ["/home/me/synthetic.jsonl"],
        "references": [{"source": "one", "rows_sampled": 90}],
        "rows": {"read": 102, "kept": 100, "dropped": {f"odd {HOSTILE}": 2}}, "records": 100,
        "reference_rows": {"read": 90, "kept": 90, "dropped": {}},
        "sample": {"n": 100, "of": 100, "model_n": 100, "precision": "a share is known to ± 9.8 points"},
        "findings": [finding("fail", "opening"), finding("warn", "length", excess={"value": 0.1, "low": None, "high":
                     None}, why="one human source"), finding("ok", "closing")],
        "not_measured": [{"measure": "tokens.entropy", "why": "needs a reference"}],
        "needs_reference": ["tokens.entropy"], "flagged": {"rows": 100, "flagged": 27, "by": {"format.opening": 27}},
        "gates": [{"gate": "severity < fail", "outcome": "failed", "why": "format.opening"}], "exit_code": 1,
        "settings": AuditConfig(data=("synthetic.jsonl",), reference=("one.jsonl",)).model_dump(mode="json"), "notes": ["one human source: give a second"],
        "command": "pyrite audit synthetic.jsonl --reference one.jsonl", "made_with": MADE_WITH,
        "files": [{"side": "data", "name": "synthetic.jsonl", "hash": "c0ffee"}],
    }  # fmt: skip
    return plain | more


def told_study(**more: Any) -> dict[str, Any]:
    answer = {
        "contrast": {"arm": "synthetic", "against": "human", "probe": "blind_spot"}, "verdict": "cannot tell yet",
        "difference": line(-0.5, -1.75, 0.625, n=3, method="paired t"), "why": "three seeds", "seeds": 3, "cells": 1,
        "over_items": None, "p_difference_adjusted": 0.4, "p_equivalence_adjusted": 1.0,
        "sentence": "Arm synthetic against arm human on blind_spot: cannot tell yet (-50 points).",
    }  # fmt: skip
    spec = {"study": "demo", "says": f"Does it open? {HOSTILE}", "margin": 0.03, "seeds": [0, 1, 2], "probes": {},
            "task_model": {"model": "packaged:minilm-l6"}}  # fmt: skip
    plain = {
        "verb": "study", "study": "demo", "spec": spec, "primary": [answer], "made_with": MADE_WITH,
        "notes": [f"the human arm is a stand-in {HOSTILE}"], "compute": {"device": "cpu", "precision": "fp32"},
        "counts": {f"human {HOSTILE}": {"read": 50, "kept": 48, "dropped": {"duplicate": 2}}}, "overlap": [],
        "steps": {}, "quality": {}, "rows_cut": {}, "looks": [],
        "timing": {"steps_run": 1, "steps_reused": 2, "seconds_of_all_steps": 3.0, "this_run_seconds": 1.0},
    }  # fmt: skip
    return plain | more


SUMMARY = (
    *("start", "arm", "size", "probe", "metric", "by", "name", "gold", "n_seeds", "n_items", "mean", "low", "high"),
    *("per_seed", "minus_start", "minus_start_low", "minus_start_high"),
    *("minus_human", "minus_human_low", "minus_human_high"),
)


def study_folder(folder: Path, **more: Any) -> Path:
    write_run(folder, told_study(**more))
    values = ("trained", f"synthetic {HOSTILE}", 16, "blind_spot", "accuracy", "overall", "overall", None, 3, 40, 0.5)
    row = (*values, 0.25, 0.75, "0.5 0.4 0.6", -0.25, -0.5, 0.0, None, None, None)
    pl.DataFrame([row], list(SUMMARY), orient="row").write_parquet(folder / "results" / "summary.parquet")
    return folder
