"""Run folders for the tests of the report: tiny ones made by the commands, and two that are written by hand."""

import json
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.repair.repair_kit import STAND_IN, chats, write

from pyrite.cli import run as command
from pyrite.io import write_parquet
from pyrite.records import Labelled
from pyrite.report.assemble import page_of
from pyrite.report.config import ReportConfig
from pyrite.report.page import Page
from pyrite.runs import Run, read_run
from pyrite.study.cells import CellKey
from pyrite.study.contrasts import answer_primary
from pyrite.study.label_probes import LabelProbe
from pyrite.study.load import parse_spec
from pyrite.study.run_folder import Study, draw_figure
from pyrite.study.scores import Scores, scores_of_labels
from pyrite.study.tables import results_table, summary_table
from pyrite.tasks.scoring import Task

PLANTED = "zebrafish-planted"
"""Stands in data and answers, and nowhere else."""
HOSTILE = f"</svg><script>alert('{PLANTED}')</script> {{{{7*7}}}} | \u202eturned\x00"
OPENING = f"Certainly! Here is a {PLANTED}"
SOFTWARE = {"pyrite": "0.1.0", "python": "3.11.9", "torch": "2.13.0"}
WORDS = [
    "river",
    "stone",
    "lamp",
    "garden",
    "winter",
    "market",
    "bridge",
    "letter",
    "orange",
    "music",
    "window",
    "paper",
]


def config(*names: str, **more: Any) -> ReportConfig:
    return ReportConfig(runs=names or ("x",), **more)


def page(*runs: Run, **more: Any) -> Page:
    return page_of(runs, config(**more))


def strings(value: Any) -> Iterator[str]:
    """Every text of a page, however deep."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for one in fields(value):
            yield from strings(getattr(value, one.name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from strings(one)


def blocks(made: Page, anchor: str) -> list[Any]:
    """The blocks of a section, by the end of its anchor."""

    def below(some: Any) -> Iterator[Any]:
        for one in some:
            yield one
            yield from below(one.sections)

    (found,) = [one for one in below(made.sections) if one.anchor == anchor]
    return list(found.blocks)


def cells(table: Any) -> list[list[str]]:
    """A table's texts."""
    return [[one if isinstance(one, str) else one.text for one in row] for row in table.rows]


def told_run(folder: Path, told: dict[str, Any]) -> Run:
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"schema_version": 1, **told}))
    return read_run(folder)


def answers(count: int, seed: int, *, flawed: bool) -> list[dict[str, str]]:
    """Questions with answers; flawed ones all open alike, one of them with hostile text."""
    rng = random.Random(seed)
    rows = []
    for at in range(count):
        text = " ".join(rng.choices(WORDS, k=rng.randint(6, 30)))
        answer = f"{OPENING} {text}." if flawed else f"{text.capitalize()}."
        rows.append({"instruction": f"tell me about {rng.choice(WORDS)} {seed} {at}", "output": answer})
    if flawed:
        rows[3]["output"] = f"{OPENING} {HOSTILE}"
    return rows


def audit_run(folder: Path) -> Run:
    """An audit of a hundred and twenty flawed rows against two human sources, without a model."""
    for name, rows in (("data", answers(120, 1, flawed=True)), ("one", answers(90, 2, flawed=False)), ("two", answers(90, 3, flawed=False))):  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["audit", str(folder / "data.jsonl"), "--reference", str(folder / "one.jsonl"), "--reference"]
    line += [str(folder / "two.jsonl"), "--only", "format,tokens,diversity", "--permutations", "199", "--sample", "90"]
    line += ["--store", str(folder / "store"), "--out", str(folder / "run"), "--gate", "severity < fail", "--quiet"]
    line += ["--workers", "1", "--json"]
    assert command(line) in (0, 1, 3)
    return read_run(folder / "run")


def repair_run(folder: Path, model: Path) -> Run:
    """A repair whose training step is a stand-in of known numbers."""
    write(chats(20, answer=f"### {PLANTED}: fine"), folder / "forget.jsonl")
    write(chats(24, start=100), folder / "replay.jsonl")
    module = ModuleType("pyrite.repair.train")
    module.REPAIR = STAND_IN  # type: ignore[attr-defined]
    line = ["repair", str(model), "--forget", str(folder / "forget.jsonl"), "--replay", str(folder / "replay.jsonl")]
    line += ["--out", str(folder / "run"), "--store", str(folder / "store"), "--precision", "fp32", "--quiet", "--json"]
    line += ["--scorecard-rows", "4", "--guard-rows", "3", "--guard-forget-rows", "3", "--undoes", "8000"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pyrite.repair.train", module)
        assert command([*line, "--gate", "change replay <= 50"]) in (0, 1, 3)
    return read_run(folder / "run")


STUDY = """
study: tiny
says: Do synthetic reviews open a blind spot?
labels: [positive, negative]
fields: [text]
task_model: {model: packaged:minilm-l6, precision: fp32}
data:
  human: {files: [reviews.jsonl], pools: {test: 40, start: 20, arm: {rows: rest}}}
  made: {files: [made.jsonl]}
starts: {trained: {rows: {human.start: 20}}}
arms: {human: {mix: {human.arm: 1}}, synthetic: {mix: {made: 1}}}
human_arm: human
sizes: [16]
seeds: SEEDS
probes:
  general: {task: labelled, data: human.test}
  voices: {task: labelled, file: voices.jsonl, slices: [[voice], [voice, gold]], headline: {voice: guest}}
margin: 0.05
"""
RIGHT = {"start": (30, 20), "human": (32, 24), "synthetic": (31, 8)}
"""Of forty items of the general task and forty of the blind spot: how many each arm gets right, with seed 0."""
SHIFT = {"start": (0, 1, 0), "human": (0, 1, 0), "synthetic": (0, 0, 1)}
"""By arm: what each seed adds, in half items."""


def score_model(
    probe: LabelProbe, answers: Mapping[str, str | None], *, start: str, arm: str, size: int, seed: int
) -> Scores:
    """One model's accuracy on a probe."""
    return scores_of_labels(CellKey(arm, start, size), seed, probe, answers)[0]


def study_made(folder: Path, seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """A study of labels out of made-up answers, with the study's own tables, verdicts and figure."""
    spec = parse_spec(STUDY.replace("SEEDS", str(list(seeds))), "tiny.yaml")
    items = [Labelled({"text": f"{PLANTED} {at}"}, ("positive", "negative")[at % 2], f"{PLANTED}-{at}",
                      {"voice": ("guest", "critic")[at // 20]}) for at in range(40)]  # fmt: skip
    task = Task("labelled", ("positive", "negative"), slices=(("voice",), ("voice", "gold")))
    probes = {name: LabelProbe.of(name, items, task, spec.probes[name].headline_slice) for name in spec.probes}
    results = []
    for arm, right in RIGHT.items():
        for seed in seeds:
            for probe, count in zip(probes.values(), right, strict=True):
                known = count + 2 * SHIFT[arm][seed]
                said = {one.id: one.label if at % 20 < known / 2 else "positive" if one.label == "negative" else "negative"
                        for at, one in enumerate(items)}  # fmt: skip
                cell = {"start": "trained", "arm": arm, "size": 0 if arm == "start" else 16, "seed": seed}
                results.append(score_model(probe, said, **cell))
    answers = answer_primary(results, spec)
    table, summary = results_table(results, spec), summary_table(results, spec)
    (folder / "results").mkdir(parents=True)
    write_parquet(summary, folder / "results" / "summary.parquet")
    draw_figure(spec, results, {"results": table, "summary": summary}, folder)
    counts = {
        "made": {"read": 54, "kept": 52, "dropped": {"cut at the token limit": 2}, "kept_by_label": {"positive": 52}}
    }
    quality = {
        "agreement": 0.625,
        "n": 52,
        "judge_accuracy_on_human": 0.875,
        "n_human": 30,
        "error_rate": 0.1,
        "by_label": {},
    }
    told = {
        "verb": "study", "study": "tiny", "spec": spec.model_dump(mode="json"), "compute": {"device": "cpu"},
        "made_with": SOFTWARE, "counts": counts, "quality": {"made": quality}, "rows_cut": {}, "notes": ["a note"],
        "overlap": [{"a": "start trained", "b": "probe voices", "rows_a": 20, "rows_b": 40, "shared": 3}],
        "looks": [{"seeds": len(seeds), "asked": "cd" * 20, "at": "2026-01-02 03:04:05"}],
        "primary": [one.as_json() for one in answers], "steps": {"train": "k1", "ask": "k2"},
        "timing": {"this_run_seconds": 2.0, "steps_run": 2, "steps_reused": 0, "seconds_of_all_steps": 2.0},
    }  # fmt: skip
    told_run(folder, json.loads(json.dumps(told)))
    return Study(spec, folder, answers, table, summary, [], told)


def interval(
    value: float | None, low: float | None, high: float | None, n: int = 40, method: str = "Wilson"
) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "n_missing": 0, "direction": "higher", "method": method}


def card(about: str, value: float) -> dict[str, Any]:
    """A scorecard with one slice, and one metric that is no share."""
    plain = {"by": "gold", "name": "non-entailment", "gold": "non-entailment"}
    nats = {"metric": "nats_per_token", "by": "overall", "name": "overall", "gold": None}
    return {
        "about": about, "task": "hans", "source": "/home/me/hans.jsonl", "metric": "accuracy", "unmatched": 2,
        "overall": interval(value, value - 0.1, value + 0.1), "intervals": "this model", "notes": ["cut at 96 tokens"],
        "judge_noise": {}, "details": {},
        "slices": [{"metric": "accuracy", **plain, **interval(0.125, None, None, 8, "3 templates: no interval")},
                   {**nats, **interval(2.5, 2.25, 2.75)}],
    }  # fmt: skip


def contrast(**more: Any) -> dict[str, Any]:
    difference = interval(-0.25, -0.375, -0.125, 40, "paired bootstrap")
    return {
        "metric": "accuracy", "by": "overall", "name": "overall", "primary": True, "first": 0.75, "second": 0.5,
        "difference": difference, "margin": 0.02, "p_difference": 0.001, "p_equivalence": 0.9, "verdict": "worse",
        "why": "because", "sentence": "B against A: worse.", **more,
    }  # fmt: skip


def probe_told(**more: Any) -> dict[str, Any]:
    """What a probe of two models tells, by the contract of run folders."""
    flips = [
        {"item": f"{PLANTED}-1", "metric": "accuracy", "way": "lost", "first": 1, "second": 0, "slices": {"gold": "entailment"}},
        {"item": f"{PLANTED}-2", "metric": "accuracy", "way": "gained", "first": 0, "second": 1, "slices": {"gold": "entailment"}},
        {"item": f"{PLANTED}-3", "metric": "accuracy", "way": "lost", "first": 1, "second": 0, "slices": {"gold": "entailment"}},
    ]  # fmt: skip
    compared = {"task": "hans", "first": "model-a", "second": "model-b", "difference": "second - first",
                "contrasts": [contrast(), contrast(primary=False, by="gold", name="entailment", verdict="cannot tell yet")],
                "flips": flips}  # fmt: skip
    metrics = [{"name": "accuracy", "scale": "share", "direction": "higher", "says": "the share of right labels"},
               {"name": "nats_per_token", "scale": "real", "direction": "lower", "says": ""}]  # fmt: skip
    return {
        "verb": "probe", "about": "model-a against model-b", "models": ["model-a", "model-b"],
        "scorecards": [card("model-a", 0.75), card("model-b", 0.5)], "compared": [compared],
        "gates": [{"gate": "hans.accuracy >= 0.6", "outcome": "failed", "why": "0.5 is below"}], "exit_code": 1,
        "settings": {"seed": 7, "margin": 0.02, "task": ["hans=/home/me/hans.jsonl"]}, "margin": 0.02,
        "metrics": {"hans": metrics}, "clusters": {"hans": "templates"}, "made_with": SOFTWARE,
        "command": "pyrite probe model-a model-b --task hans=hans.jsonl", **more,
    }  # fmt: skip


def probe_run(folder: Path, *, texts: bool = True, **more: Any) -> Run:
    """A probe of two models, written by hand; one item's text is hostile."""
    made = told_run(folder, probe_told(**more))
    if texts:
        rows = []
        for at, asked in (("1", f"premise: {PLANTED}"), ("2", HOSTILE), ("3", f"premise: {PLANTED} again")):
            item = f"{PLANTED}-{at}"
            said = [(None, asked), ("gold", "entailment"), ("model-a", f"{PLANTED} yes"), ("model-b", f"{PLANTED} no")]
            rows += [{"task": "hans", "item": item, "subject": subject, "text": text} for subject, text in said]
        write_parquet(rows, folder / "results" / "texts.parquet")
    return made


LANGUAGE = """
study: words
about: language
says: Does the training harm?
model: packaged:smollm2-135m-instruct
data: {sums: {files: [sums.jsonl], pools: {damage: 4, held_out: 4}}}
trainings: {sums: {on: sums.damage}}
damage: sums
cells: {start: [], damaged: [damage]}
probes: {ifeval: {task: ifeval, file: ifeval.jsonl}, gain: {task: perplexity, data: sums.held_out}}
contrasts: [{cell: damaged, against: start, probe: ifeval.prompt_strict}]
seeds: [0, 1]
"""


def language_run(folder: Path) -> Run:
    """A study of a language model out of made-up items, with the study's own tables and verdicts."""
    from pyrite.study.load import parse_spec
    from pyrite.tasks.scoring import ItemScore, Metric

    spec = parse_spec(LANGUAGE, "words.yaml")
    strict, nats = Metric("prompt_strict"), Metric("nats_per_token", "real", "lower")
    made = []
    for cell, right, step in (("start", 30, 2), ("damaged", 18, 4)):
        for seed in (0, 1):
            for probe, metric in (("ifeval", strict), ("gain", nats)):
                values = [
                    float(at < right + step * seed) if metric is strict else 2.0 + at / 40 + seed / 10
                    for at in range(40)
                ]
                items = tuple(ItemScore(str(at), metric.name, value, str(at)) for at, value in enumerate(values))
                made.append(Scores(CellKey(cell), seed, probe, metric, items))
    answers = answer_primary(made, spec)
    told = {
        "verb": "study", "study": "words", "about": "language", "spec": spec.model_dump(mode="json"),
        "compute": {"device": "cpu", "precision": "fp32"}, "made_with": SOFTWARE, "overlap": [],
        "counts": {"sums": {"read": 9, "kept": 8, "dropped": {"no answer": 1}, "pools": {"damage": 4, "held_out": 4}}},
        "probes": {"ifeval": {"answers cut at 220 tokens": ["start, seed 0", "damaged, seed 0"]}},
        "looks": [{"seeds": 2, "asked": "ab" * 20, "at": "2026-01-02 03:04:05"}], "notes": ["two seeds give wide intervals"],
        "primary": [one.as_json() for one in answers], "steps": {"train": "k1"},
        "timing": {"this_run_seconds": 2.0, "steps_run": 1, "steps_reused": 0, "seconds_of_all_steps": 2.0},
    }  # fmt: skip
    (folder / "results").mkdir(parents=True)
    write_parquet(results_table(made, spec), folder / "results" / "results.parquet")
    write_parquet(summary_table(made, spec), folder / "results" / "summary.parquet")
    head = "cell,seed,step,method,steps,tokens,flops,seconds,peak_bytes,stopped,share_of_damage_tokens,share_of_damage_flops"
    (folder / "results" / "costs.csv").write_text(f"{head}\ndamaged,0,damage,train chat,3,1234,,7.5,,,,\n")
    return told_run(folder, json.loads(json.dumps(told)))


def loop_run(folder: Path, audit: Run, probe: Run, repair: Run) -> Run:
    """A loop of three runs that are there already."""
    for name, one in (("audit", audit), ("probe", probe), ("repair", repair)):
        shutil.copytree(one.folder, folder / name, ignore=shutil.ignore_patterns("*.safetensors"))
    told = {
        "verb": "loop", "loop": "mend", "says": "Can it be mended?", "parts": {"audit": "audit", "probe": "probe", "repair": "repair"},
        "not_run": [], "gates": [{"part": "probe", "gate": "hans >= 0", "outcome": "passed", "why": "it is"}], "exit_code": 0,
        "settings": {"loop": "mend"}, "files": [{"file": "data.jsonl", "hash": "c0ffee"}], "command": "pyrite run mend.yaml",
        "made_with": SOFTWARE, "notes": ["the recipe made 5 rows"],
    }  # fmt: skip
    return told_run(folder, told)
