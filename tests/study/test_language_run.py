"""A whole study of language through the command: a tiny model from a seed is trained, repaired, rounded and asked."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pyrite.cli import run
from pyrite.models.hardware import Compute
from pyrite.steps import Progress, RunOptions, Store, run_steps
from pyrite.study.config import StudyConfig
from pyrite.study.plan import make_plan
from pyrite.study.run import resolve_spec

from conftest import THINGS, study_line, write_jsonl  # isort: skip

SPEC = """\
study: tiny
about: language
model: {causal}
precision: fp32
data:
  sums:
    files: [sums.jsonl]
    pools: {{damage: 24, guard: 4, held_out: 12}}
  people:
    files: [people.jsonl]
    pools: {{replay: 16, guard: 4, scorecard: rest}}
pilot:
  probe: {{task: perplexity, file: texts.jsonl, items: 12}}
  metric: nats_per_token
  grid:
    gentle: {{on: sums.damage, settings: {{epochs: 1, batch_size: 8, learning_rate: 1.0e-6, max_tokens: 96}}}}
    hard: {{on: sums.damage, settings: {{epochs: 4, batch_size: 8, learning_rate: 1.0e-2, max_tokens: 96}}}}
damage: {damage}
trainings:
  relearn: {{on: damage, first: 8, settings: {{batch_size: 8, learning_rate: 1.0e-3, warmup: 0, max_tokens: 96}}}}
repairs:
  full:
    replay: people.replay
    guard_forget: damage.guard
    guard_replay: people.guard
    settings:
      {{steps: 4, max_tokens: 96, training: {{method: full, learning_rate: 1.0e-3}}, guard: {{every_tokens: 200, answers: 0}}}}
quantise: {{int8: int8}}
cells:
  start: []
  damaged: [damage]
  full: [damage, full]
  full_int8: [damage, full, int8]
  again: [damage, full, relearn]
probes:
  gain: {{task: perplexity, data: damage.held_out, metrics: [nats_per_token]}}
  people: {{task: perplexity, data: people.scorecard, metrics: [nats_per_token]}}
  texts: {{task: perplexity, file: texts.jsonl, skip: 12}}
  sums: {{task: gsm8k, file: test.jsonl, items: 6, max_new_tokens: 8, only_cells: [start, damaged]}}
contrasts:
  - {{cell: damaged, against: start, probe: gain.nats_per_token, margin: 0.1}}
  - {{cell: full, against: damaged, probe: people.nats_per_token}}
seeds: [0, 1]
workers: 1
"""


def sums(count: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        a, b, thing = rng.randrange(2, 40), rng.randrange(2, 40), rng.choice(THINGS)
        question = f"the {thing} number {number + 1000 * seed} was {a} and then {b}, how many"
        rows.append({"question": question, "answer": f"it was {a} + {b} = <<{a}+{b}={a + b}>>{a + b}\n#### {a + b}"})
    return rows


def people(count: int) -> list[dict[str, str]]:
    rng = random.Random(7)
    words = ["lovely", "dark", "kind", "cold", "great"]
    return [
        {"prompt": f"say {at} of the {rng.choice(THINGS)}", "completion": f"the {rng.choice(THINGS)} was {rng.choice(words)}"}
        for at in range(count)
    ]  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path, tiny_causal: Path) -> Path:
    write_jsonl(sums(60, 1), tmp_path / "sums.jsonl")
    write_jsonl(sums(10, 2), tmp_path / "test.jsonl")
    write_jsonl(people(40), tmp_path / "people.jsonl")
    rng = random.Random(3)  # letters that training never shows: what it makes less likely
    texts = [{"text": "".join(rng.choices("QZXKJVWY@%&", k=30)) + str(at)} for at in range(40)]
    write_jsonl(texts, tmp_path / "texts.jsonl")
    spec = tmp_path / "tiny.yaml"
    spec.write_text(SPEC.format(causal=tiny_causal, damage="hard"))
    return spec


def told(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(capfd.readouterr().out)
    return loaded


def refused(file: Path, text: str, old: str, new: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A study file with one text in the place of another is refused, with its line and these words."""
    assert old in text
    file.write_text(text.replace(old, new))
    assert run(study_line(file, "--plan")) == 2
    err = capfd.readouterr().err
    assert says in err
    assert f"{file.name}:" in err


def tables(folder: Path) -> dict[str, bytes]:
    names = [f"{name}.{kind}" for name in ("results", "summary", "contrasts") for kind in ("parquet", "csv")]
    return {name: (folder / "results" / name).read_bytes() for name in [*names, "items.parquet"]}


def test_a_study_from_pilot_to_verdict(tiny: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny.parent / "runs" / "tiny"
    # nothing is chosen yet: a run says so, the pilot finds the damage that shows
    tiny.write_text(SPEC.format(causal=tiny_causal, damage="null"))
    assert run(study_line(tiny, "--json")) == 2
    assert "--pilot" in capfd.readouterr().err
    assert run(study_line(tiny, "--pilot", "--json")) == 0
    pilot = told(capfd)
    assert pilot["chosen"] == "hard"
    assert [one["n"] for one in pilot["tried"]] == [12, 12]
    assert pilot["tried"][1]["low"] > 0  # lower is better: harm is a rise
    seen = json.loads((folder / "pilot.json").read_text())["items"]
    assert len(seen) == 12

    tiny.write_text(SPEC.format(causal=tiny_causal, damage="hard"))
    assert run(study_line(tiny, "--json")) == 0
    first = told(capfd)
    kept = tables(folder)
    run_json = json.loads((folder / "run.json").read_text())
    for counted in run_json["counts"].values():
        assert counted["read"] == counted["kept"] + sum(counted["dropped"].values())
        assert counted["kept"] == sum(counted["pools"].values())
    assert any("chosen on 12 items" in note for note in run_json["notes"])
    assert (pilot["seed"], json.loads((folder / "pilot.json").read_text())["seed"]) == (100_000, 100_000)
    assert not any("leave out seed" in note for note in run_json["notes"])
    items = pq.read_table(folder / "results" / "items.parquet").to_pylist()
    texts = {row["item"] for row in items if row["probe"] == "texts"}
    assert len(texts) == 40 - 12
    assert not texts & set(seen)
    assert {row["cell"] for row in items if row["probe"] == "sums"} == {"start", "damaged"}
    # training lowered the loss on rows alike, in both seeds and item by item
    summary = {(row["cell"], row["probe"], row["metric"]): row for row in first["summary"]}
    gain = summary["damaged", "gain", "nats_per_token"]
    assert gain["minus_start"] < -0.1
    assert gain["minus_start_items_high"] < 0
    assert summary["again", "gain", "nats_per_token"]["mean"] != summary["full", "gain", "nats_per_token"]["mean"]
    assert [one["seeds"] for one in first["primary"]] == [[0, 1], [0, 1]]
    assert len(first["primary"][0]["over_items_per_seed"]) == 2
    # costs: each distinct training and repair once per seed, the repair as a share of the damage
    costs = {(row["step"], row["seed"]): row for row in first["costs"]}
    assert set(costs) == {(step, seed) for step in ("damage", "full", "relearn") for seed in (0, 1)}
    damage, full = costs["damage", 0], costs["full", 0]
    assert full["tokens"] == full["tokens_forget"] + full["tokens_replay"]
    assert full["share_of_damage_tokens"] == pytest.approx(full["tokens"] / damage["tokens"])
    assert damage["share_of_damage_tokens"] is None

    # again: nothing is run; from nothing, cut off twice: the same tables
    assert run(study_line(tiny, "--json")) == 0
    again = told(capfd)
    assert again["run"]["timing"]["steps_run"] == 0
    assert tables(folder) == kept
    other = [*study_line(tiny)[:-4], "--store", str(tiny.parent / "other"), "--out", str(tiny.parent / "elsewhere")]
    assert [run([*other, "--max-time", "0.02"]), run([*other, "--max-time", "0.03"]), run(other)] == [130, 130, 0]
    assert tables(tiny.parent / "elsewhere" / "tiny") == kept
    shown = capfd.readouterr().out
    assert "full against damaged on people.nats_per_token" in shown
    assert "of damage" in shown

    # an older pilot trained with the study's first seed: the verdicts leave it out, and say so
    older = json.loads((folder / "pilot.json").read_text())
    del older["seed"], older["spec"]["pilot"]["seed"]
    assert older["spec"]["seeds"] == [0, 1]
    (folder / "pilot.json").write_text(json.dumps(older))
    assert run(study_line(tiny, "--seeds", "+1", "--json")) == 0
    less = told(capfd)
    assert [(one["seeds"], one["seeds_left_out"]) for one in less["primary"]] == [([1, 2], [0])] * 2
    assert "Seed 0 left out: the pilot chose the damage" in less["primary"][0]["sentence"]
    assert any(
        "the verdicts leave out seed 0: the pilot chose the damage hard" in note for note in less["run"]["notes"]
    )
    assert less["run"]["looks"][-1]["seeds"] == [1, 2]
    assert less["run"]["looks"][-1]["changed"] == ["seeds: [0, 1] → [1, 2]"]
    assert run(study_line(tiny, "--power", "--seeds", "+1", "--json")) == 0
    assert [one["pilot_seeds"] for one in told(capfd)["contrasts"]] == [2, 2]
    assert run(study_line(tiny, "--seeds", "1")) == 2
    assert "--seeds +3" in capfd.readouterr().err


def test_power_and_seeds(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = tiny.read_text().partition("contrasts:")[0].replace("  full_int8: [damage, full, int8]\n", "")
    small = small.replace("  again: [damage, full, relearn]\n", "").replace("  full: [damage, full]\n", "")
    tiny.write_text(
        small
        + "contrasts:\n  - {cell: damaged, against: start, probe: gain.nats_per_token}\nseeds: [0, 1]\nworkers: 1\n"
    )
    assert run(study_line(tiny, "--power")) == 2
    assert "run first" in capfd.readouterr().err
    assert run(study_line(tiny, "--json")) == 0
    told(capfd)
    assert run(study_line(tiny, "--power", "--json")) == 0
    assert told(capfd)["contrasts"][0]["pilot_seeds"] == 2
    assert run(study_line(tiny, "--seeds", "+1", "--json")) == 0
    more = told(capfd)
    assert more["primary"][0]["seeds"] == [0, 1, 2]
    assert any("looked at before, with 2 seeds" in note for note in more["run"]["notes"])
    assert run(study_line(tiny, "--plan", "--json")) == 0
    planned = told(capfd)
    assert planned["stored"]["steps"] == planned["stored"]["of"]
    assert run(study_line(tiny, "--refresh", "train.langage")) == 2
    assert "train.language" in capfd.readouterr().err


ARMS = """\
repairs:
  no_forget: {ARM forget_weight: 0, replay_weight: 1, kl_weight: 1, replay_rows: 8}}
  ascent: {ARM method: ga, forget_weight: 1, replay_weight: 0, kl_weight: 0, guard: {every_tokens: 0}}}
  "null": {ARM forget_weight: 0, replay_weight: 0, kl_weight: 0}}
cells:
  start: []
  damaged: [damage]
  no_forget: [damage, no_forget]
  ascent: [damage, ascent]
  "null": [damage, "null"]
probes:
  gain: {task: perplexity, data: damage.held_out, metrics: [nats_per_token]}
  sums: {task: gsm8k, file: test.jsonl, items: 4, max_new_tokens: 4, only_cells: [start]}
contrasts:
  - {cell: "null", against: damaged, probe: gain.nats_per_token}
seeds: [0]
workers: 1
"""
ARM = (
    "replay: people.replay, guard_forget: damage.guard, guard_replay: people.guard, settings: {steps: 2, max_tokens: 96, "
    "training: {method: full, learning_rate: RATE}, "
)


def with_arms(tiny: Path, rate: str = "1.0e-3") -> str:
    text = tiny.read_text().partition("repairs:")[0].replace("damage: hard", "damage: gentle")
    return text + ARMS.replace("ARM ", ARM.replace("RATE", rate))


def test_arms_that_read_less(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny.write_text(with_arms(tiny))
    # of the people's rows, two are also sums to train on; one question of the test is trained on with another answer
    trained = sums(60, 1)
    write_jsonl([*people(38), *({"prompt": r["question"], "completion": r["answer"]} for r in trained[:2])], tiny.parent / "people.jsonl")  # fmt: skip
    write_jsonl([*sums(9, 2), {**trained[0], "answer": "no #### 7"}], tiny.parent / "test.jsonl")
    sums_pools, people_pools = "pools: {damage: 59, guard: 1", "pools: {replay: 30, guard: 9"
    text = tiny.read_text().replace("pools: {damage: 24, guard: 4, held_out: 12}", f"{sums_pools}, held_out: rest}}")
    text = text.replace("pools: {replay: 16, guard: 4, scorecard: rest}", f"{people_pools}, scorecard: rest}}")
    write_jsonl([*trained, *sums(3, 5)], tiny.parent / "sums.jsonl")
    tiny.write_text(text)
    assert run(study_line(tiny, "--json")) == 0
    made = told(capfd)
    costs = {row["step"]: row for row in made["costs"]}
    assert set(costs) == {"damage", "no_forget", "ascent", "null"}
    assert not costs["no_forget"]["tokens_forget"]
    assert costs["no_forget"]["tokens"] == costs["no_forget"]["tokens_replay"] > 0
    assert not costs["ascent"]["tokens_replay"]
    assert costs["ascent"]["tokens"] == costs["ascent"]["tokens_forget"] > 0
    assert costs["null"]["steps"] == 0
    assert not costs["null"]["tokens"]
    # the null repair changed nothing, and one seed gives no verdict
    means = {row["cell"]: row["mean"] for row in made["summary"] if row["metric"] == "nats_per_token"}
    assert means["null"] == means["damaged"] != means["ascent"]
    # rows that two data share
    shared = {(row["a"], row["b"]): row for row in made["run"]["overlap"]}
    assert set(shared) == {
        (a, f"trained {pool}")
        for a in ("probe gain", "probe sums", "guard people.guard", "guard sums.guard")
        for pool in ("people.replay", "sums.damage")
    } | {(a, f"guard {pool}") for a in ("probe gain", "probe sums") for pool in ("people.guard", "sums.guard")}
    twice = [row for (a, _), row in shared.items() if a == "probe sums" and row["shared"]]
    assert 1 <= len(twice) <= 2  # the question is in sums.damage or its guard or held out, and among the people's
    assert all(row["rows_a"] == 10 and row["shared"] == 1 for row in twice)
    assert any("probe sums: 1 of 10 rows" in note for note in made["run"]["notes"])
    table = (tiny.parent / "runs" / "tiny" / "results" / "overlap.csv").read_text().splitlines()
    assert table[0] == "a,b,rows_a,rows_b,shared,shared_prompts"
    assert len(table) == 1 + len(shared)


def test_a_probe_whose_rows_are_all_trained_on_is_refused_before_any_training(
    tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(with_arms(tiny).replace("file: test.jsonl", "file: again.jsonl"))
    folder, store = tiny.parent, Store(tiny.parent / "store")
    write_jsonl(sums(10, 2), folder / "again.jsonl")
    config = StudyConfig(spec=str(tiny), data=folder, store=store.root, out=folder / "runs")
    made = make_plan(resolve_spec(config), folder, Compute("cpu", "fp32"))
    run_steps([made.counts["sums"]], store, RunOptions(), Progress(quiet=True))
    damage = (store.path(made.counts["sums"].key) / "damage.jsonl").read_text().splitlines()
    texts = [[turn["content"] for turn in json.loads(line)["messages"]] for line in damage]
    write_jsonl([{"question": asked.upper(), "answer": said} for asked, said in texts], folder / "again.jsonl")
    assert run(study_line(tiny)) == 2
    shown = " ".join(capfd.readouterr().err.split())
    assert "all 24 rows of probe sums are in trained sums.damage" in shown
    assert not list(store.root.rglob("history.json"))


def test_a_repair_that_ends_in_an_error_names_its_cells(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny.write_text(with_arms(tiny).replace("training: {method: full, learning_rate: 1.0e-3}, method: ga", "training: {method: full, learning_rate: 1.0e+30, warmup: 0}, method: ga"))  # fmt: skip
    assert run(study_line(tiny)) == 2
    shown = " ".join(capfd.readouterr().err.split())
    assert "cells ascent (damage + ascent, seed 0)" in shown
    assert "take ascent out of the study's cells" in shown
    assert "every_tokens" in shown


def test_models_between_a_model_and_the_one_before(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """alpha 0 answers as the start does and alpha 1 as the damaged model, to the last bit; half lies between the two."""
    text = tiny.read_text().partition("repairs:")[0]
    text += """\
merge:
  none: {alpha: 0.0}
  half: {alpha: 0.5}
  whole: {alpha: 1.0}
  from_gentle: {alpha: 0.0, before: gentle}
cells:
  start: []
  gentle: [gentle]
  damaged: [damage]
  none: [damage, none]
  half: [damage, half]
  whole: [damage, whole]
  from_gentle: [damage, from_gentle]
probes:
  gain: {task: perplexity, data: damage.held_out, metrics: [nats_per_token]}
contrasts:
  - {cell: half, against: damaged, probe: gain.nats_per_token}
seeds: [0, 1]
workers: 1
"""
    tiny.write_text(text)
    assert run(study_line(tiny, "--plan", "--json")) == 0
    planned = told(capfd)
    assert (planned["trainings"], planned["merged"]) == (4, 8)
    assert run(study_line(tiny, "--json")) == 0
    made = told(capfd)
    items = pq.read_table(tiny.parent / "runs" / "tiny" / "results" / "items.parquet").to_pylist()
    values = {(row["cell"], row["seed"], row["item"]): row["value"] for row in items}
    for (cell, seed, item), value in values.items():
        same = {"none": "start", "whole": "damaged", "from_gentle": "gentle"}.get(cell)
        assert same is None or value == values[same, seed, item]
    means = {row["cell"]: row["mean"] for row in made["summary"]}
    assert means["damaged"] < means["half"] < means["start"]
    assert {row["step"] for row in made["costs"]} == {"damage", "gentle"}  # a merge trains nothing


FRONTIER = """\
merge:
  part: {alpha: 0.3}
  half: {alpha: 0.6}
cells:
  start: []
  damaged: [damage]
  part: [damage, part]
  half: [damage, half]
  trained: [damage, full]
  from_half: [damage, half, own]
probes:
  texts: {task: perplexity, file: texts.jsonl, skip: 12, metrics: [nats_per_token]}
  texts_first: {task: perplexity, file: texts.jsonl, items: 12, only_cells: [start, damaged, part, half]}
  gain: {task: perplexity, data: damage.held_out, skip: 4, metrics: [nats_per_token]}
  gain_first: {task: perplexity, data: damage.held_out, items: 4, only_cells: [start, damaged, part, half]}
frontier:
  lost: texts.nats_per_token
  gained: gain.nats_per_token
  choose: {among: [part, half], lost: texts_first.nats_per_token, gained: gain_first.nats_per_token}
seeds: [0, 1, 2]
workers: 1
"""
OWN = """\
  own:
    replay: people.replay
    guard_forget: damage.guard
    guard_replay: people.guard
    self_replay: true
    self_tokens: 200
    settings: {steps: 2, max_tokens: 96, kl_to: before, guard: {every_tokens: 0}}
"""


HARM = """\
damage: hard
trainings:
  hard: {on: sums.damage, settings: {epochs: 4, batch_size: 8, learning_rate: 3.0e-2, max_tokens: 96}}
"""


def with_frontier(tiny: Path) -> str:
    """The tiny study without its pilot, whose items the choice would need."""
    text = tiny.read_text()
    repairs = "repairs:" + text.partition("repairs:")[2].partition("quantise:")[0]
    return text.partition("pilot:")[0].replace("held_out: 12", "held_out: 28") + HARM + repairs + OWN + FRONTIER


def endings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that never learned to end: every answer ends by itself after twelve tokens."""
    from pyrite.models import generate as engine

    real = engine.generate

    def short(model: Any, prompts: Any, **options: Any) -> Any:
        from dataclasses import replace

        for number, one in real(model, prompts, **options | {"max_new_tokens": [12] * len(prompts)}):
            yield number, replace(one, ended=True)

    monkeypatch.setattr(engine, "generate", short)


def test_a_frontier_over_seeds_by_hand(
    tiny: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endings(monkeypatch)
    tiny.write_text(with_frontier(tiny))
    assert run(study_line(tiny, "--json")) == 0, capfd.readouterr().err
    made = told(capfd)
    front = made["run"]["frontier"]
    means = {(row["cell"], row["probe"]): row for row in made["summary"]}
    assert [point["name"] for point in front["points"]] == ["part", "half", "trained", "from_half"]
    for point in front["points"]:
        start, damaged, now = (means[cell, "texts"]["mean"] for cell in ("start", "damaged", point["name"]))
        assert damaged > start  # something was lost
        back = (damaged - now) / (damaged - start)
        assert point["recovered"]["over_items"]["value"] == pytest.approx(back)
        assert point["recovered"]["value"] == (None if point["recovered"]["why"] else pytest.approx(back))
        start, damaged, now = (means[cell, "gain"]["mean"] for cell in ("start", "damaged", point["name"]))
        assert point["kept"]["value"] == pytest.approx((start - now) / (start - damaged))
        assert point["kept"]["n"] == 3
        assert point["kept"]["over_items"]["n"] == 24
        assert len(point["kept"]["per_seed"]) == 3
    picked = front["selection"]
    firsts = {cell: means[cell, "gain_first"]["mean"] for cell in ("start", "damaged", "part", "half")}
    able = [
        cell
        for cell in ("part", "half")
        if firsts["start"] - firsts[cell] >= 0.9 * (firsts["start"] - firsts["damaged"])
    ]
    best = min(able, key=lambda cell: means[cell, "texts_first"]["mean"]) if able else "half"
    assert picked["name"] == best
    assert [point["name"] for point in front["points"] if point["chosen"]] == [best]
    folder = tiny.parent / "runs" / "tiny"
    assert (folder / "frontier.svg").is_file()
    assert len((folder / "results" / "frontier.csv").read_text().splitlines()) == 1 + 4 * 2
    counted = made["run"]["counts"]
    own = [one for name, one in counted.items() if "answered by the model before" in name]
    assert len(own) == 2 * 3  # the rows and the guard's, in each seed
    assert all(one["read"] == one["kept"] + sum(one["dropped"].values()) for one in own)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("items: 12, only", "items: 11, only", "say skip: 11 in the one that judges"),
        ("lost: texts_first.nats_per_token", "lost: texts.nats_per_token", "say items: N in the one that chooses"),
        (
            "texts_first: {task: perplexity, file: texts.jsonl",
            "texts_first: {task: perplexity, file: ./texts.jsonl, on_bad_row: skip",
            "their on_bad_row differ",
        ),
        (
            "gain_first: {task: perplexity, data: damage.held_out, items: 4",
            "gain_first: {task: perplexity, data: sums.held_out, items: 3",
            "probe gain_first may ask items that gain judges by",
        ),
        ("among: [part, half]", "among: [part, start]", "an end of the frontier"),
        ("among: [part, half]", "among: [part, trained]", "does not ask the cell trained"),
        ("gained: gain.nats_per_token", "gained: gian.nats_per_token", "did you mean 'gain'"),
        ("  lost: texts.nats_per_token", "  harmed: damagd\n  lost: texts.nats_per_token", "did you mean 'damaged'"),
        ("self_replay: true", "self_replay: true\n    before: half", "cell half holds half"),
    ],
)
def test_frontiers_that_cannot_be(tiny: Path, old: str, new: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    refused(tiny, with_frontier(tiny), old, new, says, capfd)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("half: {alpha: 0.5}", "half: {alpha: 1.5}", "merge.half.alpha"),
        ("half: {alpha: 0.5}", "half: {alpha: 0.5, before: strat}", "did you mean 'start'"),
        ("half: {alpha: 0.5}", "half: {alpha: 0.5, before: merged}", "cell merged holds half"),
        ("merged: [damage, half]", "merged: [half]", "would mix the model that the cell begins with with itself"),
        ("half: {alpha: 0.5}", "damage: {alpha: 0.5}", "the name 'damage' is taken"),
    ],
)
def test_merges_that_cannot_be(tiny: Path, old: str, new: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = tiny.read_text().partition("repairs:")[0]
    text += "merge:\n  half: {alpha: 0.5}\ncells:\n  start: []\n  merged: [damage, half]\n"
    text += "probes:\n  gain: {task: perplexity, data: damage.held_out}\n"
    refused(tiny, text, old, new, says, capfd)
