"""Looks at a study's verdicts: what was asked, what was changed after results were seen, and what a reader is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyrite.errors import UserError
from pyrite.study.load import bundled, load_spec, parse_spec
from pyrite.study.looks import NOT_THE_QUESTION, Look, looks_at, question_of, remarks
from pyrite.study.spec import StudySpec

LABELS = """\
study: small
labels: [a, b]
fields: [text]
task_model: {model: packaged:minilm-l6}
data:
  human:
    files: [x.csv]
    pools: {test: 10, more: 5, arm: 20}
starts:
  raw: {}
arms:
  human: {mix: {human.arm: 1}}
  other: {mix: {human.more: 1}}
sizes: [4]
seeds: [0, 1]
probes:
  general: {task: labelled, data: human.test}
  spot: {task: labelled, file: spot.csv, headline: {}}
margin: 0.03
"""
WORDS = """\
study: words
about: language
model: nowhere
data:
  qa: {files: [a.jsonl], pools: {damage: 5, more: 5}}
pilot:
  probe: {task: ifeval, file: p.jsonl, items: 5}
  metric: prompt_strict
  grid: {hard: {on: qa.damage}, soft: {on: qa.damage}}
damage: hard
repairs:
  full: {replay: qa.more, guard_forget: qb.a, guard_replay: qb.b, settings: {steps: 3}}
cells: {start: [], damaged: [damage]}
probes:
  other: {task: ifeval, file: q.jsonl}
contrasts:
  - {cell: damaged, against: start, probe: other.prompt_strict}
seeds: [0, 1]
""".replace("qb.a", "qb.first").replace("qb.b", "qb.second").replace(
    "pilot:", "  qb: {files: [b.jsonl], pools: {first: 5, second: 5}}\npilot:", 1
)  # fmt: skip


def read(text: str) -> StudySpec:
    return parse_spec(text, "s.yaml")


def run(text: str, folder: Path) -> list[Look]:
    """The looks after a run of this file, which leaves a run.json."""
    spec = read(text)
    looks = looks_at(spec, folder)
    (folder / "run.json").write_text(json.dumps({"spec": spec.model_dump(mode="json"), "looks": looks}))
    return looks


@pytest.mark.parametrize(
    ("text", "old", "new", "changed"),
    [
        (LABELS, "margin: 0.03", "margin: 0.05", ["margin: 0.03 → 0.05"]),
        (LABELS, "headline: {}", "headline: {gold: a}", ['probes.spot.headline: {} → {"gold": "a"}']),
        (LABELS, "file: spot.csv", "file: hard.csv", ["probes.spot.file: spot.csv → hard.csv"]),
        (LABELS, "file: spot.csv,", "file: spot.csv, items: 9,", ["probes.spot.items: null → 9"]),
        (LABELS, "margin: 0.03", "margin: 0.03\ntraining: {arm: {epochs: 2}}", ["training.arm.epochs: 1.0 → 2.0"]),
        (LABELS, "sizes: [4]", "sizes: [4, 5]", ["sizes: [4] → [4, 5]"]),
        (LABELS, "margin: 0.03", "contrasts: [{arm: other, probe: general}]", ["contrasts.0.probe: spot → general"]),
        (LABELS, "files: [x.csv]", "files: [/home/me/y.csv]", ['data.human.files: ["x.csv"] → ["y.csv"]']),
        (WORDS, "seeds: [0, 1]", "seeds: [0, 1]\nmargin_real: 0.1", ["margin_real: 0.05 → 0.1"]),
        (WORDS, "damage: hard", "damage: soft", ["damage: hard → soft"]),
        (WORDS, "settings: {steps: 3}", "settings: {steps: 4}", ["repairs.full.settings.steps: 3 → 4"]),
        (WORDS, "items: 5}", "items: 5}\n  seed: 77", ["pilot.seed: 100000 → 77"]),
        (WORDS, "prompt_strict}", "prompt_strict, margin: 0.1}", ["contrasts.0.margin: null → 0.1"]),
    ],
)  # fmt: skip
def test_a_change_after_results_were_seen_is_named(text: str, old: str, new: str, changed: list[str], tmp_path: Path) -> None:  # fmt: skip
    (first,) = run(text, tmp_path)
    assert first["changed"] == []
    assert remarks([first]) == []
    assert old in text
    looks = run(text.replace(old, new, 1), tmp_path)
    assert [look["changed"] for look in looks] == [[], changed]
    assert looks[0]["question"] != looks[1]["question"]
    (note,) = remarks(looks)
    assert note.startswith(f"the question was changed after results were seen: {changed[0]} (on ")
    assert "after 1 look)" in note
    assert note.endswith("the p-values do not know it")
    assert run(text.replace(old, new, 1), tmp_path) == looks  # again: no other look, and the trace stays


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (LABELS, "margin: 0.03", "margin: 0.03\nsays: other words\nworkers: 3\nkeep: all\ntokens_per_row: 9"),
        (LABELS, "packaged:minilm-l6", "packaged:minilm-l6, parameters: 9"),
        (LABELS, "files: [x.csv]", "files: [x.csv]\n    expected_rows: 99"),
        (LABELS, "margin: 0.03", "contrasts: [{arm: other, against: human, probe: spot}]"),  # the default, written out
        (WORDS, "model: nowhere", "model: nowhere\nparameters: 9"),
        (WORDS, "pools: {damage", "expected_rows: 99, tokens_per_row: 7, pools: {damage"),
    ],
)
def test_what_changes_no_answer_is_no_other_question(text: str, old: str, new: str, tmp_path: Path) -> None:
    first = run(text, tmp_path)
    assert old in text
    assert run(text.replace(old, new, 1), tmp_path) == first


def test_changes_accumulate_also_where_one_is_taken_back(tmp_path: Path) -> None:
    run(LABELS, tmp_path)
    run(LABELS.replace("margin: 0.03", "margin: 0.05"), tmp_path)
    looks = run(LABELS, tmp_path)
    assert [look["changed"] for look in looks] == [[], ["margin: 0.03 → 0.05"], ["margin: 0.05 → 0.03"]]
    assert looks[0]["question"] == looks[2]["question"]
    interim, changed = remarks(looks)
    assert "looked at before, with 2 seeds;" in interim  # the first: the one between asked something else
    assert changed.index("margin: 0.03 → 0.05 (on ") < changed.index("margin: 0.05 → 0.03 (on ")
    looks = run(LABELS.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"), tmp_path)
    assert looks[-1]["changed"] == []
    interim, again = remarks(looks)
    assert "with 2, 2 seeds" in interim
    assert again == changed


def test_more_seeds_are_another_look_and_a_seed_that_is_dropped_is_named(tmp_path: Path) -> None:
    run(LABELS, tmp_path)
    looks = run(LABELS.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"), tmp_path)
    assert [look["seeds"] for look in looks] == [[0, 1], [0, 1, 2]]
    assert looks[1]["changed"] == []
    looks = run(LABELS.replace("seeds: [0, 1]", "seeds: [1, 2, 3]"), tmp_path)
    assert looks[2]["changed"] == ["seeds: [0, 1, 2] → [1, 2, 3]"]
    assert "seeds: [0, 1, 2] → [1, 2, 3] (on " in remarks(looks)[1]


def test_many_changes_are_all_recorded_and_a_few_are_named(tmp_path: Path) -> None:
    run(LABELS, tmp_path)
    new = LABELS.replace("margin: 0.03", "margin: 0.04\ntraining: {arm: {epochs: 2, batch_size: 4, max_tokens: 9}}")
    looks = run(new.replace("sizes: [4]", "sizes: [5]").replace("test: 10", "test: 11"), tmp_path)
    assert len(looks[1]["changed"]) == 6
    assert " and 2 keys more (on " in remarks(looks)[0]


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    run(LABELS, tmp_path)
    name = "x" * 200 + ".csv"
    (line,) = run(LABELS.replace("spot.csv", name), tmp_path)[1]["changed"]
    assert line == f"probes.spot.file: spot.csv → {'x' * 59}…"
    (line,) = run(LABELS.replace("spot.csv", "x" * 201 + ".csv"), tmp_path)[2]["changed"]
    assert line.endswith("(they differ in what is cut here)")


@pytest.mark.parametrize("text", [LABELS, WORDS])
def test_older_runs_are_read(text: str, tmp_path: Path) -> None:
    """Looks that know a number of seeds and the contrasts, beside a study file without the newer keys."""
    spec: dict[str, Any] = read(text).model_dump(mode="json")
    asked = looks_at(read(text), tmp_path)[0]["asked"]
    del spec["workers"]
    if text == WORDS:
        del spec["pilot"]["seed"], spec["margin_real"]
    old = [{"seeds": 2, "asked": asked, "at": "2026-11-30 10:00:00"}]
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"spec": spec, "looks": old}))
    assert looks_at(read(text), tmp_path) == old
    more = looks_at(read(text.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")), tmp_path)
    assert more[1]["changed"] == []
    assert "looked at before, with 2 seeds" in remarks(more)[0]
    changed = looks_at(read(text.replace("margin: 0.03\n", "") + "margin: 0.2\n"), tmp_path)
    assert changed[1]["changed"] == ["margin: 0.03 → 0.2"]
    # a file that this version would refuse is compared all the same
    spec["labels" if text == LABELS else "cells"] = None
    file.write_text(json.dumps({"spec": spec, "looks": old}))
    assert "margin: 0.03 → 0.2" in looks_at(read(text.replace("margin: 0.03\n", "") + "margin: 0.2\n"), tmp_path)[1]["changed"]  # fmt: skip
    file.write_text("{")
    with pytest.raises(UserError, match=r"broken run\.json"):
        looks_at(read(text), tmp_path)


def test_every_key_is_part_of_the_question_but_those_that_are_listed() -> None:
    tops = {name.partition(".")[0] for name in NOT_THE_QUESTION if "." not in name}
    for kind, text in ((StudySpec, LABELS), (StudySpec, WORDS)):
        assert set(kind.model_fields) - tops == set(question_of(read(text)))
    known = [read(text).model_dump(mode="json") for text in (LABELS, WORDS)]
    for name in NOT_THE_QUESTION:  # none is a slip of the pen
        assert any(leads_somewhere(told, name.split(".")) for told in known), name


def leads_somewhere(told: Any, path: list[str]) -> bool:
    if not path:
        return True
    inner = list(told.values()) if path[0] == "*" else [told[path[0]]] if path[0] in told else []
    return any(leads_somewhere(one, path[1:]) for one in inner)


@pytest.mark.parametrize("name", bundled())
def test_a_study_file_that_went_through_a_run_asks_the_same(name: str, tmp_path: Path) -> None:
    spec = load_spec(name)[0]
    looks = looks_at(spec, tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"spec": spec.model_dump(mode="json"), "looks": looks}))
    assert looks_at(spec, tmp_path) == looks
