"""`pyrite run` from a loop file to its page: every part real, on tiny models; cut off, it goes on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from loop_kit import LOOP, chats, line, make_loop
from planted import human_rows, with_opening
from tests.conftest import review_rows

from pyrite.cli import run
from pyrite.runs import read_run
from pyrite.steps import progress

Looped = tuple[int, dict[str, Any], str]


@pytest.fixture
def looped(capfd: pytest.CaptureFixture[str]) -> Callable[..., Looped]:
    """Runs a loop file; returns (exit code, what --json told, stderr)."""

    def call(path: Path, *options: str) -> Looped:
        code = run(line(path, "--json", *options))
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else {}, err

    return call


def test_audit_probe_repair_report(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, looped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SHORT", 0.0)  # a line for every step, however short
    path = make_loop(tmp_path, tiny_causal, tiny_encoder)
    code, record, err = looped(path)
    assert code == 1, err  # the planted opening fails the audit's gate
    assert [(gate["part"], gate["outcome"]) for gate in record["gates"]] == [("audit", "failed"), ("repair", "passed")]
    assert list(record["parts"]) == ["audit", "probe", "repair"]
    assert record["not_run"] == []
    loop = read_run(tmp_path / "runs" / "tiny")
    audit, repair = loop.parts["audit"].told, loop.parts["repair"].told
    flagged, clean = ((loop.folder / "rows" / f"{name}.jsonl").read_text().count("\n") for name in ("flagged", "clean"))
    assert flagged == audit["flagged"]["flagged"] >= 110
    assert flagged + clean == 240
    assert repair["rows"]["forget"]["read"] == flagged  # what was flagged is forgotten
    assert repair["rows"]["replay"]["read"] == 240 + clean  # what was cleared is replayed beside people's
    assert (
        err.count("perplexity of") == 6
    )  # three texts, before and after: the probe and the repair ask one of them once
    items = pl.read_parquet(loop.parts["repair"].result("items.parquet"))
    assert set(items["subject"]) == {"before", "repaired"}
    page = (loop.folder / "report.html").read_text()
    assert "opening_concentration" in page
    assert "Certainly!" in page
    assert len(record["verdicts"]) >= 3

    again, second_record, err = looped(path)
    assert again == 1, err
    assert "steps to run" not in err  # nothing is computed twice
    assert {**second_record, "verdicts": 0} == {**record, "verdicts": 0}

    code, record, _ = looped(path, "--until", "audit", "--no-rows")
    assert list(record["parts"]) == ["audit"]
    assert "Certainly!" not in (loop.folder / "report.html").read_text()


def test_without_a_flagged_row_there_is_nothing_to_repair(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, looped: Any
) -> None:
    path = make_loop(tmp_path, tiny_causal, tiny_encoder)
    chats(human_rows(120, 9, source="made", topic=1), tmp_path / "synthetic.jsonl")
    code, record, err = looped(path)
    assert code == 3, err  # the repair's gate: what did not run has not passed
    assert list(record["parts"]) == ["audit", "probe"]
    assert record["not_run"] == ["repair"]
    assert any("nothing to unlearn" in note for note in record["notes"])


def test_without_a_cleared_row_there_is_nothing_to_replay(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, looped: Any
) -> None:
    text = LOOP.replace("repair:", "replay: [clean]\nrepair:", 1)
    path = make_loop(tmp_path, tiny_causal, tiny_encoder, text)
    rows, _ = with_opening(human_rows(120, 1, source="made"), 1.0, 1)
    chats(rows, tmp_path / "synthetic.jsonl")
    code, _, err = looped(path)
    assert code == 2
    assert "replay: [human]" in err


def test_a_part_that_cannot_run_leaves_a_report_of_the_others(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, looped: Any
) -> None:
    path = make_loop(tmp_path, tiny_causal, tiny_encoder, LOOP.replace("scorecard_rows: 12", "scorecard_rows: 900"))
    code, _, err = looped(path)
    assert code == 2
    assert "scorecard-rows" in err
    loop = read_run(tmp_path / "runs" / "tiny")
    assert list(loop.parts) == ["audit", "probe"]
    assert any("stopped before its end" in note for note in loop.told["notes"])
    assert "not finished" in (loop.folder / "report.html").read_text()
    undecided = [gate for gate in loop.told["gates"] if gate["part"] == "repair"]
    assert [gate["outcome"] for gate in undecided] == ["undecided"]  # what did not run has not passed
    assert run(["gate", str(loop.folder), "--undecided", "pass"]) == 1  # the audit's gate
    assert run(["gate", str(loop.folder), "--require", "repair: change perplexity.nats_per_token <= 5"]) == 3


def test_cut_off_after_its_data_changed_it_names_no_part_of_the_run_before(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, looped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_loop(tmp_path, tiny_causal, tiny_encoder)
    looped(path, "--until", "probe")
    folder = tmp_path / "runs" / "tiny"
    before = read_run(folder).told
    assert list(before["parts"]) == ["audit", "probe"]
    chats(human_rows(150, 9, source="made", topic=1), tmp_path / "synthetic.jsonl")

    def interrupted(running: Any) -> bool:
        raise KeyboardInterrupt

    from pyrite.loop import run as loop_run

    monkeypatch.setitem(loop_run.PARTS, "probe", interrupted)
    code, _, _ = looped(path)
    assert code == 130
    record = read_run(folder).told
    assert (record["state"], list(record["parts"]), record["not_run"]) == ("running", ["audit"], ["probe", "repair"])
    assert record["files"][0]["hash"] != before["files"][0]["hash"]
    page = (folder / "report.html").read_text()  # of what this very run has done: the old page spoke of other data
    assert "not finished" in page
    assert read_run(folder).parts.keys() == {"audit"}
    assert run(["report", str(folder), "-o", str(tmp_path / "page.html")]) == 0
    assert "not finished" in (tmp_path / "page.html").read_text()


def test_two_processes_do_not_share_a_folder(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, looped: Any
) -> None:
    from filelock import FileLock

    path = make_loop(tmp_path, tiny_causal, tiny_encoder)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "run.json").write_text(
        '{"schema_version": 1, "verb": "loop", "loop": "tiny", "parts": {}}'
    )
    with FileLock(tmp_path / "runs" / "tiny" / ".lock"):
        code, _, err = looped(path)
    assert code == 2
    assert "Another process" in err


STUDY_LOOP = """\
loop: after-study
study: {study}
synthetic: [study:synthetic]
human: [study:human]
audit: {{only: [format], permutations: 499, sample: 50, embedder: {encoder}, model: {causal}}}
model: study:synthetic
probe: {{task: [voices.yaml]}}
forget: all
replay: [human]
repair: {{steps: 2, training: full, scorecard_rows: 2, guard_rows: 2, guard_forget_rows: 2, precision: fp32, before: study:human}}
gates: ["study: primary >= -1"]
"""


def test_a_study_then_the_repair_of_one_of_its_models(
    tiny_study: Path, tiny_causal: Path, tiny_encoder: Path, looped: Any
) -> None:
    folder = tiny_study.parent
    (folder / "voices.yaml").write_text(
        "labels: [positive, negative]\nfields: [text]\nfile: voices.jsonl\nlabel: sentiment\nslices: [[voice]]\n"
    )
    tiny_study.write_text(
        tiny_study.read_text().replace("seeds: [0, 1]", "seeds: [0]").replace("sizes: [16]", "sizes: [24]")
    )
    path = folder / "loop.yaml"
    path.write_text(STUDY_LOOP.format(study=tiny_study.name, causal=tiny_causal, encoder=tiny_encoder))
    code, record, err = looped(path)
    assert code in (0, 3), err
    assert list(record["parts"]) == ["study", "audit", "probe", "repair"]
    loop = read_run(folder / "runs" / "after-study")
    assert loop.parts["repair"].told["rows"]["forget"]["read"] == 24  # the rows that the arm was trained on
    assert loop.parts["repair"].told["labels"]
    assert [card["about"] for card in loop.parts["repair"].told["scorecards"]][::3] == ["before", "harmed", "repaired"]
    assert [file["file"] for file in record["files"]] == ["arm-synthetic-24.jsonl", "arm-human-24.jsonl"]


def test_a_loop_killed_at_every_boundary_ends_the_same(tmp_path: Path, tiny_causal: Path, tiny_encoder: Path) -> None:
    killed = Path(__file__).parents[1] / "study" / "killed.py"
    ended = {}
    for kill_mode in ("never", "boundaries"):
        folder = tmp_path / kill_mode
        folder.mkdir()
        path = make_loop(folder, tiny_causal, tiny_encoder)
        finished = subprocess.run(
            [sys.executable, str(killed), kill_mode, "0", *line(path, "--quiet")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 1, finished.stderr  # the audit's gate
        loop = read_run(folder / "runs" / "tiny")
        parts = loop.parts
        items = [pl.read_parquet(parts[name].result("items.parquet")) for name in ("probe", "repair")]
        weights = (parts["repair"].folder / "model.safetensors").read_bytes()
        ended[kill_mode] = (
            loop.told["gates"],
            parts["audit"].told["findings"],
            [table.rows() for table in items],
            weights,
        )
        kills = int(finished.stdout.rpartition("kills=")[2])
    assert kills >= 15
    assert ended["never"] == ended["boundaries"]


BEFORE_LOOP = """\
loop: before
synthetic: [written.jsonl]
human: [people.jsonl]
audit: {{only: [format], permutations: 499, embedder: {encoder}, model: {causal}, layout: labelled, text_fields: [text]}}
synth: recipe.yaml
study: study.yaml
gates: ["study: verdict != worse"]
"""
RECIPE = """\
labels: [positive, negative]
fields: [text]
rows: loop:clean
synth:
  model: {causal}
  raw: 60
  training: {{epochs: 12, batch_size: 16, learning_rate: 1.0e-2, max_tokens: 96}}
  sampling: {{temperature: 0.7, max_new_tokens: 48, batch_size: 16}}
  select: {{near_duplicates: null}}
"""
STUDY = """\
study: after-audit
labels: [positive, negative]
fields: [text]
task_model: {{model: {encoder}, precision: fp32}}
data:
  human: {{files: [people.jsonl], pools: {{test: 60, start: 80, arm: {{rows: rest}}}}}}
  as_is: {{files: [written.jsonl]}}
  cleaned: {{files: ["loop:clean"]}}
  made: {{files: ["loop:made"]}}
starts:
  trained: {{rows: {{human.start: 80}}}}
arms:
  human: {{mix: {{human.arm: 1}}}}
  as_is: {{mix: {{as_is: 1}}}}
  cleaned: {{mix: {{cleaned: 1}}}}
  made: {{mix: {{made: 1}}}}
sizes: [16]
seeds: [0, 1]
training:
  start: {{epochs: 4, batch_size: 16, learning_rate: 3.0e-3, max_tokens: 64}}
  arm: {{epochs: 1, batch_size: 8, learning_rate: 1.0e-3, max_tokens: 64}}
probes: {{general: {{task: labelled, data: human.test}}}}
workers: 1
"""


def test_before_training_rows_are_audited_made_anew_and_studied(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, looped: Any
) -> None:
    rows = [{"text": row["text"], "label": row["sentiment"]} for row in review_rows(520, 1)]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:300]))
    planted = [
        {**row, "text": f"To be honest: {row['text']}"} if at % 3 == 0 else row for at, row in enumerate(rows[300:])
    ]
    (tmp_path / "written.jsonl").write_text("".join(json.dumps(row) + "\n" for row in planted))
    for name, text in (("loop.yaml", BEFORE_LOOP), ("recipe.yaml", RECIPE), ("study.yaml", STUDY)):
        (tmp_path / name).write_text(text.format(causal=tiny_causal, encoder=tiny_encoder))
    code, record, err = looped(tmp_path / "loop.yaml")
    assert code in (0, 1, 3), err
    assert list(record["parts"]) == ["audit", "audit-made", "study"]
    loop = read_run(tmp_path / "runs" / "before")
    clean = (loop.folder / "rows" / "clean.jsonl").read_text()
    assert "To be honest" not in clean
    assert loop.parts["study"].told["counts"]["cleaned"]["read"] == clean.count("\n")
    n_written = (loop.folder / "rows" / "made.jsonl").read_text().count("\n")
    assert loop.parts["audit-made"].told["rows"]["read"] == n_written >= 16
    assert [gate["part"] for gate in record["gates"]] == ["study"]
