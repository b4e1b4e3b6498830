"""Both papers in one file: arms and repairs, labels and language, whatever follows whatever, with models from a seed."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import pyrite
from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.report.config import ReportConfig
from pyrite.report.run import report
from pyrite.study.load import parse_spec
from pyrite.study.plan import make_plan
from pyrite.study.plan_summary import size_of_grid
from pyrite.study.spec import StudySpec

from conftest import review_rows, study_line, write_jsonl  # isort: skip

CLASSIFIER = """\
study: crossed
labels: [positive, negative]
fields: [text]
task_model: {{model: {encoder}, reads: pair, precision: fp32}}
data:
  human: {{files: [human.jsonl], columns: {{label: sentiment}}, pools: {{test: 60, start: 160, arm: 140, replay: 100}}}}
  flipped: {{files: [flipped.jsonl], columns: {{label: sentiment}}, label_map: {{positive: negative, negative: positive}}}}
starts: {{trained: {{rows: {{human.start: 160}}}}}}
arms:
  human: {{mix: {{human.arm: 1}}}}
  flipped: {{mix: {{flipped: 1}}}}
sizes: [100]
training:
  start: {{epochs: 10, batch_size: 16, learning_rate: 3.0e-3, max_tokens: 64}}
  arm: {{epochs: 8, batch_size: 16, learning_rate: 3.0e-3, max_tokens: 64}}
repairs:
  unlearn:
    forget: trained
    replay: human.replay
    settings: {{steps: 30, forget_rows: 4, replay_rows: 12, forget_weight: 0.01, max_tokens: 64, guard: {{every_tokens: 0}},
      training: {{method: full, learning_rate: 3.0e-3}}}}
merge:
  none_of_it: {{alpha: 0}}
  half: {{alpha: 0.5}}
cells:
  unlearned: {{start: trained, steps: [flipped, unlearn], size: 100}}
  undone: {{start: trained, steps: [flipped, none_of_it], size: 100}}
  halved: {{start: trained, steps: [flipped, half], size: 100}}
  relearned: {{start: trained, steps: [flipped, unlearn, flipped], size: 100}}
probes:
  general: {{task: labelled, data: human.test}}
  voices: {{task: labelled, file: voices.jsonl, columns: {{label: sentiment}}, slices: [[voice]], template: voice}}
contrasts:
  - {{arm: flipped, against: human, probe: voices}}
  - {{arm: unlearned, against: flipped, probe: general.accuracy}}
frontier: {{lost: general.accuracy, gained: voices.accuracy, before: start, harmed: flipped}}
seeds: [0, 1]
workers: 1
"""


GUARDED = "settings: {steps: 30, forget_rows: 4, replay_rows: 12, forget_weight: 0.01, max_tokens: 64, guard: {every_tokens: 0}"


@pytest.fixture
def crossed(tmp_path: Path, tiny_encoder: Path) -> Path:
    write_jsonl(review_rows(500, 1), tmp_path / "human.jsonl")
    write_jsonl(review_rows(160, 2), tmp_path / "flipped.jsonl")
    voices = [{**row, "voice": f"v{at % 12}"} for at, row in enumerate(review_rows(48, 3))]
    write_jsonl(voices, tmp_path / "voices.jsonl")
    file = tmp_path / "crossed.yaml"
    file.write_text(CLASSIFIER.format(encoder=tiny_encoder))
    return file


def test_a_classifier_is_trained_repaired_mixed_and_trained_again(
    crossed: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(study_line(crossed, "--json")) == 0
    told: dict[str, Any] = json.loads(capfd.readouterr().out)
    folder = crossed.parent / "runs" / "crossed"
    means = {row["arm"]: row["mean"] for row in told["summary"] if row["probe"] == "general" and row["by"] == "overall"}
    # flipped labels turn the model round; unlearning them with replay turns it back; trained on them again, it is lost again
    assert means["start"] > 0.8
    assert means["flipped"] < 0.3
    assert means["unlearned"] > 0.7
    assert means["relearned"] < 0.4
    # nothing of the arm is left with alpha 0: the start, answer by answer
    answers = pq.read_table(folder / "results" / "predictions.parquet").to_pylist()

    def labels(arm: str) -> list[str]:
        return [row["predicted"] for row in answers if row["arm"] == arm]

    assert labels("undone") == labels("start")
    assert labels("halved") != labels("flipped")
    # one record: verdicts, frontier, costs of the repair
    harm, repair = told["primary"]
    assert harm["difference"]["value"] < -0.4
    assert repair["difference"]["value"] > 0.4
    points = {point["name"]: point for point in told["run"]["frontier"]["points"]}
    assert set(points) == {"unlearned", "undone", "halved", "relearned"}
    assert points["undone"]["recovered"]["per_seed"] == pytest.approx([1.0, 1.0])
    with (folder / "results" / "costs.csv").open() as handle:
        assert {row["step"] for row in csv.DictReader(handle)} >= {"unlearn"}
    # the same answers have the same interval in a study and in a probe: of templates where items share one
    rows = pq.read_table(folder / "results" / "results.parquet").to_pylist()
    overall = [row for row in rows if row["probe"] == "voices" and row["by"] == "overall"]
    assert all("voices" in row["method"] for row in overall)
    # a page, and nothing runs again
    page = report(ReportConfig(runs=(str(folder),), out=crossed.parent / "page.html")).out.read_text()
    assert "unlearned" in page
    assert run(study_line(crossed, "--json")) == 0
    assert json.loads(capfd.readouterr().out)["run"]["timing"]["steps_run"] == 0


MIXED = """\
study: words
labels: [positive, negative]
fields: [text]
model: {causal}
precision: fp32
data:
  sums: {{holds: chats, files: [sums.jsonl], pools: {{damage: 16, held_out: 8}}}}
trainings:
  hurt: {{on: sums.damage, settings: {{epochs: 1, batch_size: 8, learning_rate: 1.0e-3, max_tokens: 96}}}}
cells: {{start: [], hurt: [hurt]}}
probes:
  gain: {{task: perplexity, data: sums.held_out}}
  voices: {{task: labelled, file: voices.jsonl, columns: {{label: sentiment}}, slices: [[voice]]}}
contrasts:
  - {{cell: hurt, against: start, probe: gain.nats_per_token}}
  - {{cell: hurt, against: start, probe: voices.accuracy}}
seeds: [0, 1]
workers: 1
"""


def test_a_language_model_is_asked_for_labels_too(
    tmp_path: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sums = [{"question": f"what is {at} and {at}", "answer": f"it is {2 * at}"} for at in range(30)]
    write_jsonl(sums, tmp_path / "sums.jsonl")
    voices = [{**row, "voice": ("guest", "critic")[at % 2]} for at, row in enumerate(review_rows(30, 3))]
    write_jsonl(voices, tmp_path / "voices.jsonl")
    (tmp_path / "words.yaml").write_text(MIXED.format(causal=tiny_causal))
    assert run(study_line(tmp_path / "words.yaml", "--json")) == 0
    told = json.loads(capfd.readouterr().out)
    rows = {(row["cell"], row["probe"], row["name"]): row for row in told["summary"] if row["metric"] == "accuracy"}
    assert {name for _, _, name in rows} == {"overall", "guest", "critic"}
    assert rows["hurt", "voices", "overall"]["n_items"] == 30
    assert told["primary"][0]["difference"]["value"] < 0  # fewer nats on what it was trained on
    assert (tmp_path / "runs" / "words" / "results" / "items.parquet").is_file()
    assert (tmp_path / "runs" / "words" / "results" / "predictions.parquet").is_file()


CHATS = """\
study: chats
model: nowhere-7b
parameters: 7.0e9
data:
  human: {files: [human.jsonl], pools: {start: 40, arm: 200, test: 50}}
  synthetic: {files: [synthetic.jsonl], pools: {arm: 200}}
starts: {warm: {rows: {human.start: 40}}}
synthetic_share: {shares: [0, 0.5, 1], human: human.arm, synthetic: synthetic.arm}
human_arm: share=0
sizes: [100]
repairs:
  full:
    forget: synthetic.arm
    replay: human.arm
    settings: {steps: 3, guard: {every_tokens: 0}}
cells:
  repaired: {start: warm, steps: [share=1, full], size: 100}
probes:
  general: {task: ifeval, file: ifeval.jsonl}
  people: {task: perplexity, data: human.test}
contrasts:
  - {arm: share=1, against: share=0, probe: general.prompt_strict}
  - {arm: repaired, against: share=1, probe: general.prompt_strict}
"""


def planned(text: str, tmp_path: Path) -> Any:
    return make_plan(parse_spec(text, "s.yaml"), tmp_path, Compute("cpu", "fp32"), only_plan=True)


def test_a_share_axis_of_chats_is_a_grid_too(tmp_path: Path) -> None:
    plan = planned(CHATS, tmp_path)
    drawn = {
        step.label: {part["name"]: part["rows"] for part in step.config["parts"]}
        for step in plan.steps
        if step.kind.name == "data.draw_chats"
    }
    assert drawn["arm share=0.5, 100 rows, seed 0: draw"] == {"human.arm": 50, "synthetic.arm": 50}
    assert drawn["arm share=0, 100 rows, seed 1: draw"] == {"human.arm": 100}
    arms = {cell.name: cell for cell in plan.cells if cell.seed == 0}
    assert set(arms) == {"start", "share=0", "share=0.5", "share=1", "repaired"}
    trained = arms["share=1"].model
    assert trained.kind.name == "train.language"
    assert trained.inputs["base"] is arms["start"].model
    assert arms["repaired"].model.inputs["base"] is trained
    # one start, three arms a seed
    assert size_of_grid(plan)["trainings"] == 3 * (1 + 3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{human.start: 40}", "{human.start: 400}", "400 rows of human.start, which has 40"),
        ("shares: [0, 0.5, 1]", "shares: [0, 1.5]", "s.yaml:8: synthetic_share.shares: each once, 0 to 1"),
        ("sizes: [100]", "sizes: [100]\ntraining: {arm: {freeze: 3}}", "of classifiers only"),
        ("forget: synthetic.arm", "forget: trained", "its replay (human.arm) is among them"),
    ],
)
def test_what_a_study_of_chats_would_not_do_is_refused(old: str, new: str, says: str) -> None:
    text = CHATS.replace("steps: [share=1, full]", "steps: [share=0.5, full]")
    parse_spec(text, "s.yaml")
    with pytest.raises(UserError) as caught:
        parse_spec(text.replace(old, new, 1), "s.yaml")
    assert says in caught.value.found


def test_an_arm_of_its_starts_own_rows_draws_from_those_alone(tmp_path: Path) -> None:
    text = CHATS.replace("{human.start: 40}", "{human.start: 30}").replace(
        "human_arm", "arms: {again: {mix: {start: 0.2, synthetic.arm: 0.8}}}\nhuman_arm"
    )
    parts = [step.config["parts"] for step in planned(text, tmp_path).steps if step.label.startswith("arm again")]
    assert {(part["name"], part["rows"], part["first"]) for drawn in parts for part in drawn} == {
        ("human.start", 20, 30), ("synthetic.arm", 80, None),
    }  # fmt: skip
    with pytest.raises(UserError, match="own rows needs a start with rows"):
        planned(text.replace("{warm: {rows: {human.start: 30}}}", "{warm: {}}"), tmp_path)


def test_a_mistake_in_a_part_that_is_merged_in_has_its_line() -> None:
    text = CHATS.replace("  full:\n", "  full: &full\n").replace(
        "cells:\n", "  longer: {<<: *full, epochs: 2}\ncells:\n"
    )
    with pytest.raises(UserError, match=r"s.yaml:16: repairs.longer.epochs"):
        parse_spec(text, "s.yaml")
    text = text.replace(", epochs: 2", "").replace("replay: human.arm", "replay: human.amr")
    with pytest.raises(UserError, match=r"s.yaml:14: repairs.longer.replay: there is no 'human.amr'"):
        parse_spec(text, "s.yaml")


def test_the_damage_is_a_training() -> None:
    text = """\
study: damaged
model: nowhere-7b
data:
  flawed: {files: [f.jsonl], pools: {damage: 200}}
  human: {files: [h.jsonl], pools: {replay: 100}}
trainings: {harm: {on: flawed.damage}, other: {on: human.replay}}
damage: harm
repairs: {fix: {forget: trained, replay: human.replay, settings: {guard: {every_tokens: 0}}}}
cells: {start: [], damaged: [damage], fixed: [other, damage, fix]}
probes: {texts: {task: perplexity, file: t.jsonl}}
"""
    spec_of(text)
    for old, new, says in (
        ("on: flawed.damage", "on: flawed.damage, first: 100", "fix unlearns all rows of the last training, not only its first"),
        ("on: flawed.damage", "on: flawed.damage, first: 300", "300 rows of flawed.damage, which has 200"),
        ("replay: human.replay, s", "replay: flawed.damage, s", "its replay (flawed.damage) is among them"),
    ):  # fmt: skip
        assert old in text
        with pytest.raises(UserError) as caught:
            spec_of(text.replace(old, new, 1))
        assert says in caught.value.found


def test_a_frontier_has_points_and_other_cells_may_stand_beside_them() -> None:
    text = CLASSIFIER.format(encoder="packaged:minilm-l6")
    spec_of(text.replace("cells:\n", "cells:\n  base: {start: trained}\n"))
    with pytest.raises(UserError, match="no written-out cell has start and other beside it"):
        spec_of(
            text.replace("harmed: flipped", "harmed: other").replace("cells:\n", "cells:\n  other: {start: trained}\n")
        )


def spec_of(text: str) -> StudySpec:
    return parse_spec(text, "s.yaml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("steps: [flipped, half]", "steps: [half]", "mix the model that the cell begins with with itself"),
        ("steps: [flipped, unlearn]", "steps: [unlearn]", "the rows of the last training, and there is none before it"),
        ("steps: [flipped, half], size: 100", "steps: [flipped, half]", "size: N"),
        ("steps: [flipped, unlearn], size", "steps: [flipped, unlern], size", "did you mean 'unlearn'"),
        ("{start: trained, steps: [flipped, half], size: 100}", "{steps: [flipped, half], size: 100}", "start: NAME"),
        ("general: {task: labelled, data: human.test}", "general: {task: labelled, data: human.replay}", "shares rows with human.replay"),
        ("replay: human.replay", "replay: human.reply", "there is no 'human.reply'"),
        ("learning_rate: 3.0e-3, max_tokens: 64}\nrepairs", "learning_rate: 3.0e-3, max_tokens: 64, method: lora}\nrepairs", "share one method"),
        ("voices: {task: labelled, file: voices.jsonl, columns: {label: sentiment}, slices: [[voice]], template: voice}", "voices: {task: ifeval, file: i.jsonl}", "is a classifier: name the cells"),
        ("arm: unlearned, against: flipped", "cell: unlearned, against: flipped", "with starts say arm"),
        ("probe: general.accuracy}", "probe: general.acuracy}", "did you mean 'accuracy'"),
        ("harmed: flipped", "harmed: fliped", "did you mean 'flipped'"),
        ("merge:", "quantise: {int8: int8}\nmerge:", None),
        ("guard: {every_tokens: 0}", "guard: {every_tokens: 100}", "a guard has rows of its own"),
        ("sizes: [100]\n", "", "there is no sizes"),
        ("labels: [positive, negative]\n", "", "must say which labels there are"),
        ("replay: human.replay", "replay: flipped", "its replay (flipped) is among them"),
        ("forget: trained\n    replay: human.replay", "forget: human\n    replay: human.replay", "must be different pools"),
        (GUARDED, GUARDED.replace("every_tokens: 0", "every_tokens: 100").replace("settings", "guard_forget: human.arm\n    guard_replay: human.test\n    settings"), "repairs.unlearn.guard_forget: models are trained on human.arm"),
        (GUARDED, GUARDED.replace("every_tokens: 0", "every_tokens: 100").replace("settings", "guard_forget: human.arm\n    guard_replay: human.test\n    settings"), "repairs.unlearn.guard_replay: probes.general asks human.test"),
        ("{start: trained, steps: [flipped, half]", "{start: traned, steps: [flipped, half]", "s.yaml:28: cells.halved.start: there is no 'traned', did you mean 'trained'"),
        ("steps: [flipped, half]", "steps: [flipped, hafl]", "s.yaml:28: cells.halved.steps.1: there is no 'hafl', did you mean 'half'"),
        ("  halved: {", "  trained: {", "the name 'trained' is a start's"),
        ("sizes: [100]", "sizes: [100, 100]", "sizes: each once, and 100 is there twice"),
        ("sizes: [100]", "sizes: 100", "valid list"),
        ("labels: [positive, negative]\n", "labels: [positive, negative]\nprecision: fp32\n", "not read here: it is under task_model"),
        ("seeds: [0, 1]", "seeds: [0, 1]\ncompare_with: [start]", "of studies without starts"),
        ("before: start, harmed: flipped", "before: flipped, harmed: flipped", "two cells"),
        ("gained: voices.accuracy", "gained: general.accuracy", "two metrics"),
        ("voices: {task: labelled, file", "chats: {task: perplexity, data: human.replay}\n  voices: {task: labelled, file", "human.replay holds labelled rows"),
        ("merge:\n", "trainings: {chat: {on: human.test}}\nmerge:\n", "trainings.chat.on: human.test holds labelled rows"),
        ("starts: {trained: {rows: {human.start: 160}}}", "starts: {trained: {after: other}, other: {after: trained}}", "an earlier start"),
        ("flipped: {mix: {flipped: 1}}", "flipped: {mix: {flipped: 1}, bias_on: human.arm}", "there is no bias"),
        ("before: start, harmed", "before: trained, harmed", "there is no 'trained'"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_place(old: str, new: str, says: str | None) -> None:
    text = CLASSIFIER.format(encoder="packaged:minilm-l6")
    assert old in text
    if says is None:
        spec_of(text.replace(old, new, 1))
        with pytest.raises(UserError, match="a classifier is not rounded"):
            spec_of(text.replace(old, new, 1).replace("steps: [flipped, half]", "steps: [flipped, int8]"))
        return
    with pytest.raises(UserError) as caught:
        spec_of(text.replace(old, new, 1))
    assert says in caught.value.found
    assert "s.yaml:" in caught.value.found


def test_a_chat_training_of_a_classifier_is_refused() -> None:
    text = CLASSIFIER.format(encoder="packaged:minilm-l6")
    text = text.replace("data:\n", "data:\n  talk: {holds: chats, files: [t.jsonl], pools: {all: 9}}\n", 1)
    text = text.replace("merge:", "trainings: {chat: {on: talk.all}}\nmerge:")
    spec_of(text)
    with pytest.raises(UserError, match="trains a language model, and what it is given here is a classifier"):
        spec_of(text.replace("steps: [flipped, half]", "steps: [flipped, chat]"))
    with pytest.raises(UserError, match="has chats, for a language model, and is given a classifier"):
        spec_of(text.replace("replay: human.replay", "replay: talk.all"))


def test_the_bundled_file_that_crosses_both_papers_plans(tmp_path: Path) -> None:
    plan = pyrite.study(pyrite.StudyConfig(spec="repair_blind_spot", store=tmp_path, out=tmp_path, plan=True)).as_json()
    assert (plan["trainings"], plan["repairs"], plan["merged"]) == (15, 6, 3)
    assert plan["cells"] == (3 + 4) * 3


def test_verdicts_name_what_was_compared(make_tiny_study: Callable[[Path], Path], tmp_path: Path) -> None:
    spec = parse_spec(make_tiny_study(tmp_path).read_text(), "s.yaml")
    assert spec.has_grid
    assert [contrast.about for contrast in spec.primary()]
