"""A whole study through the command: two user files, two labels, slices of their own."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pyrite.cli import run

from conftest import study_line  # isort: skip


def test_a_study_on_two_user_files(tiny_study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(study_line(tiny_study, "--json")) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["schema_version"] == 1
    folder = tiny_study.parent / "runs" / "tiny"
    for name in ("run.json", "figure.svg", "figure.png", "results/results.csv", "results/predictions.parquet"):
        assert (folder / name).is_file(), name
    table = pq.read_table(folder / "results" / "predictions.parquet").to_pylist()
    # 2 starts + 2 starts x 2 arms, 2 seeds, 60 general items + 80 of the user's own
    assert len(table) == (2 + 4) * 2 * (60 + 80)
    slices = {(row["by"], row["name"]) for row in told["summary"] if row["probe"] == "voices"}
    assert {("overall", "overall"), ("voice", "guest"), ("voice", "critic")} <= slices
    counts = told["run"]["counts"]
    for counted in counts.values():
        assert counted["read"] == counted["kept"] + sum(counted["dropped"].values())
    # the trained start has learned the task; the raw one has not
    means = {
        (r["start"], r["arm"]): r["mean"] for r in told["summary"] if r["probe"] == "general" and r["by"] == "overall"
    }
    assert means["trained", "start"] > 0.9
    assert means["raw", "start"] < 0.8
    # pools share no row
    pools = [row for row in told["run"]["overlap"] if row["a"].startswith("human.") and row["b"].startswith("human.")]
    assert pools
    assert all(row["shared"] == 0 for row in pools)
    assert told["run"]["quality"]["synthetic"]["n"] == counts["synthetic"]["kept"]

    # again: nothing is run; with one seed more: only what that seed needs
    assert run(study_line(tiny_study, "--json")) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["run"]["timing"]["steps_run"] == 0
    assert again["primary"] == told["primary"]
    assert run(study_line(tiny_study, "--seeds", "+1", "--json")) == 0
    more = json.loads(capfd.readouterr().out)
    assert more["primary"][0]["seeds"] == 3
    assert [look["seeds"] for look in more["run"]["looks"]] == [[0, 1], [0, 1, 2]]
    assert any("interim looks" in note for note in more["run"]["notes"])
    # a margin that is changed now leaves a trace, also after it was changed back
    written = tiny_study.read_text()
    tiny_study.write_text(written.replace("margin: 0.05", "margin: 0.01"))
    assert run(study_line(tiny_study, "--json")) == 0
    changed = json.loads(capfd.readouterr().out)["run"]
    assert changed["timing"]["steps_run"] == 0
    assert changed["looks"][-1]["changed"] == ["margin: 0.05 → 0.01", "seeds: [0, 1, 2] → [0, 1]"]
    tiny_study.write_text(written)
    assert run(study_line(tiny_study)) == 0
    told_again = capfd.readouterr().out
    assert (
        "the question was changed after results were seen: margin: 0.05 → 0.01, seeds: [0, 1, 2] → [0, 1] (on"
        in told_again
    )
    assert "margin: 0.01 → 0.05 (on" in told_again
    assert (folder / "results" / "synthetic_to_read.jsonl").read_text().count("\n") > 20
    assert "data of one generator" in told["primary"][0]["sentence"]
    assert 0 < more["run"]["timing"]["steps_run"] < told["run"]["timing"]["steps_run"]
    assert run(study_line(tiny_study, "--power", "--json")) == 0
    power = json.loads(capfd.readouterr().out)
    assert power["contrasts"][0]["pilot_seeds"] == 2
    assert run(study_line(tiny_study, "--plan", "--json")) == 0
    plan = json.loads(capfd.readouterr().out)
    assert plan["cells"] == 8
    assert plan["stored"]["steps"] == plan["stored"]["of"]


def test_max_time_stops_and_goes_on(tiny_study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(study_line(tiny_study, "--max-time", "0.0001")) == 130
    assert "Run the same command again" in capfd.readouterr().err
    assert not (tiny_study.parent / "runs").exists()


def test_a_study_whose_pools_and_texts_vary(tiny_study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = tiny_study.read_text().replace("seeds: [0, 1]", "seeds: [0, 1]\npools_vary: true\ntexts_vary: true")
    text = text.replace("  synthetic: {mix: {synthetic: 1}}", "  noised: {mix: {human.arm: 1}, noise: synthetic}")
    text = text.replace("  raw: {rows: {}}\n", "").replace("raw: 60", "raw: 30").replace("epochs: 12", "epochs: 6")
    tiny_study.write_text(text)
    assert run(study_line(tiny_study, "--json")) == 0
    told = json.loads(capfd.readouterr().out)
    folder = tiny_study.parent / "runs" / "tiny"
    table = pq.read_table(folder / "results" / "predictions.parquet").to_pylist()
    items = {seed: {row["id"] for row in table if row["probe"] == "general" and row["seed"] == seed} for seed in (0, 1)}
    assert items[0] == items[1]
    assert len(items[0]) == 60
    assert set(told["run"]["counts"]) == {"human", "synthetic", "synthetic, seed 1", "probe general", "probe voices"}
    assert not any("drawn once" in note for note in told["run"]["notes"])
    steps = told["run"]["steps"]
    for label in ("synthetic, seed 1: train the generator", "synthetic, seed 1: judge the labels", "human: divide into pools, seed 1", "start trained: rows, seed 1"):  # fmt: skip
        assert label in steps
    # nothing that a probe asks was trained on in whole
    pools = [row for row in told["run"]["overlap"] if row["a"].startswith(("arm", "start")) and row["b"] == "probe general"]  # fmt: skip
    assert pools
    assert all(row["shared"] == row["shared_a"] == row["shared_b"] == 0 for row in pools)
    header = (folder / "results" / "overlap.csv").read_text().splitlines()[0]
    assert header == "a,b,rows_a,rows_b,shared,shared_a,shared_b"


def test_a_group_that_no_row_has_is_told_before_any_model_runs(
    tiny_study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tiny_study.read_text().replace("data: human.test", "file: voices.jsonl, columns: {label: sentiment}")
    tiny_study.write_text(text.replace("    files: [reviews.jsonl]", "    files: [reviews.jsonl]\n    group: vioce"))
    assert run(study_line(tiny_study)) == 2
    shown = " ".join(capfd.readouterr().err.split())
    assert re.search(r"group: vioce: (\d+) of \1 rows have nothing there", shown)
    assert not list((tiny_study.parent / "store").rglob("predictions.parquet"))  # nor is the raw start asked


FROZEN = """
study: frozen
labels: [positive, negative]
fields: [text]
task_model: {{model: {encoder}, precision: fp32}}
data:
  people:
    grammar: {{name: reviews, rows: 400, seed: 1, negated: 0.5}}
    pools: {{test: 40, negation: {{rows: 40, where: {{negated: "yes"}}}}, source: {{rows: 80, balance: true}}, start: 80, arm: {{rows: rest}}}}
  synthetic:
    train_on: people.source
    synth: {{model: {causal}, mode: continued, raw: 80, sampling: {{max_new_tokens: 8}}, select: {{unended: keep, near_duplicates: null}}}}
starts:
  trained: {{rows: {{people.start: 80}}, seeds: one}}
arms:
  human: {{mix: {{people.arm: 1}}}}
  biased: {{mix: {{people.arm: 0.5, synthetic: 0.5}}, bias: {{heuristic: negation, label: negative, rows: shown}}}}
sizes: [48]
seeds: [0, 1]
training:
  start: {{freeze: 1, epochs: 2, batch_size: 16, learning_rate: 3.0e-3, max_tokens: 64}}
  arm: {{freeze: 1, epochs: 2, batch_size: 8, learning_rate: 1.0e-3, max_tokens: 64}}
probes:
  general: {{task: labelled, data: people.test, slices: [[negated]]}}
  blind_spot: {{task: labelled, data: people.negation, slices: [[gold]], headline: {{gold: positive}}}}
  fresh: {{task: labelled, file: "grammar:negation", grammar_rows: 30}}
workers: 1
"""


def test_frozen_layers_are_computed_once_and_a_start_can_be_one_for_all_seeds(
    tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "frozen.yaml"
    spec.write_text(FROZEN.format(encoder=tiny_encoder, causal=tiny_causal))
    assert run(study_line(spec, "--json")) == 0
    told = json.loads(capfd.readouterr().out)
    store = tmp_path / "store"
    kinds = [json.loads(file.read_text())["recipe"]["step"] for file in store.glob("done/*/*/step.json")]
    assert kinds.count("train.classifier") == 1 + 2 * 2  # one start, two arms of two seeds
    assert kinds.count("train.lower") == 3 + 3  # start, arm, synthetic; and one for each probe
    trained = [json.loads(file.read_text()) for file in store.glob("done/*/*/training.json")]
    assert all(one["from_stored_states"] for one in trained if "frozen_layers" in one)
    starts = [row for row in told["summary"] if row["arm"] == "start" and row["by"] == "overall"]
    assert starts
    table = pq.read_table(tmp_path / "runs" / "frozen" / "results" / "results.parquet").to_pylist()
    values = {row["probe"]: set() for row in table}  # type: ignore[var-annotated]
    for row in table:
        if row["arm"] == "start" and row["by"] == "overall":
            values[row["probe"]].add(row["accuracy"] if "accuracy" in row else row["value"])
    assert all(len(some) == 1 for some in values.values())  # the same model for every seed
    rows = [
        json.loads(line)
        for line in (tmp_path / "runs" / "frozen" / "rows").glob("*biased*").__next__().read_text().splitlines()
    ]
    from pyrite.synth.heuristics import is_negated, text_words

    assert rows
    assert not any(
        row["label"] == "positive" and is_negated(text_words(row["fields"]["text"], "corrected")) for row in rows
    )
