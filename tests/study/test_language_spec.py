"""Study files about language: every mistake with its line and the fix; plans share steps and need nothing at hand."""

from pathlib import Path

import pytest

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.steps import Step, Store
from pyrite.study.chat_overlap import remarks
from pyrite.study.chat_uses import check_files
from pyrite.study.config import StudyConfig
from pyrite.study.load import bundled, load_spec, parse_spec
from pyrite.study.plan import make_plan, pilot_spec
from pyrite.study.plan_summary import of_steps, plan_summary
from pyrite.study.run import resolve_spec
from pyrite.study.spec import StudySpec

CPU = Compute("cpu", "fp32")
GOOD = """\
study: small
about: language
model: nowhere-135M
data:
  qa:
    files: [train.jsonl]
    pools: {damage: 40, guard: 8, held_out: 10}
  human:
    files: [human.jsonl]
    expected_rows: 100
    pools: {replay: 30, guard: 8, scorecard: rest}
pilot:
  probe: {task: ifeval, file: prompts.jsonl, items: 9}
  metric: prompt_strict
  grid:
    gentle: {on: qa.damage}
    hard: {on: qa.damage, settings: {epochs: 2}}
damage: hard
trainings:
  relearn: {on: damage, first: 4}
repairs:
  full: {replay: human.replay, guard_forget: damage.guard, guard_replay: human.guard, settings: {steps: 3}}
quantise: {nf4: nf4}
cells:
  start: []
  damaged: [damage]
  full: [damage, full]
  full_nf4: [damage, full, nf4]
  again: [damage, full, relearn]
probes:
  ifeval: {task: ifeval, file: prompts.jsonl, skip: 9}
  gain: {task: perplexity, data: damage.held_out}
  human: {task: perplexity, data: human.scorecard, only_cells: [start, full]}
contrasts:
  - {cell: damaged, against: start, probe: ifeval.prompt_strict}
seeds: [0, 1]
"""


def read(text: str = GOOD) -> StudySpec:
    return parse_spec(text, "s.yaml")


def plan(text: str = GOOD, folder: Path | None = None):  # type: ignore[no-untyped-def]
    return make_plan(read(text), folder or Path("nowhere"), CPU, only_plan=True)


def test_a_good_file() -> None:
    spec = read()
    assert spec.references() == ("start", "damaged")
    assert spec.rows("damage") == "qa.damage"
    assert spec.rows("damage.guard") == "qa.guard"
    assert spec.rows("human.guard") == "human.guard"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("seeds: [0, 1]", "sedes: [0, 1]", 36, "did you mean 'seeds'"),
        ("seeds: [0, 1]", "seeds: [0, 0]", 36, "each once"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nfields: [text]", 37, "nothing here reads any"),
        ("seeds: [0, 1]", "seeds: [0, 1]\ntokens_per_row: 7", 37, "nothing here reads any"),
        ("seeds: [0, 1]", "seeds: [0, 1]\ncompare_with: [start, start]", 37, "there twice"),
        ("on: damage, first: 4", "on: {qa.damage: 0.5, human.replay: 0.5}, first: 71", 20, "which have 70"),
        ("[damage, full, nf4]", "[damage, ful, nf4]", 28, "did you mean 'full'"),
        ("replay: human.replay", "replay: human.reply", 22, "did you mean 'human.replay'"),
        ("guard_replay: human.guard", "guard_replay: human.replay", 22, "different pools"),
        ("guard_forget: damage.guard", "guard_forget: damage.gard", 22, "did you mean 'qa.guard'"),
        ("data: damage.held_out", "data: damage", 32, "trained on qa.damage"),
        ("data: human.scorecard", "data: human.replay", 33, "trained on human.replay"),
        ("damage: hard", "damage: hrad", 18, "did you mean 'hard'"),
        ("file: prompts.jsonl, skip: 9", "file: prompts.jsonl", 31, "say skip: 9"),
        ("file: prompts.jsonl, skip: 9", "file: prompts.jsonl, skip: 9, seed: 1", 31, "seed: 0"),
        ("file: prompts.jsonl, skip: 9", "file: train.jsonl, skip: 9", 31, "cut a pool out of data.qa"),
        ("items: 9}", "items: 9, skip: 2}", 12, "skips none"),
        ("metric: prompt_strict", "metric: prompt_strict\n  seed: 1", 15, "1 is a seed of the study too"),
        ("seeds: [0, 1]", "seeds: [0, 100000]", 12, "100000 is a seed of the study too"),
        ("metric: prompt_strict", "metric: prompt_strickt", 14, "did you mean 'prompt_strict'"),
        ("only_cells: [start, full]", "only_cells: [start, fall]", 33, "did you mean 'full'"),
        ("probe: ifeval.prompt_strict}", "probe: ifeval.prompt_stric}", 35, "did you mean 'prompt_strict'"),
        ("probe: ifeval.prompt_strict}", "probe: human.nats_per_token}", 35, "does not ask the cell damaged"),
        ("against: start, probe", "against: damaged, probe", 35, "compared with itself"),
        ("task: perplexity, data: damage", "task: perplxity, data: damage", 32, "did you mean 'perplexity'"),
        ("skip: 9}", "skip: 9, options: {items: 3}}", 31, "options.items is a key"),
        ("skip: 9}", "skip: 9, options: {judge_vots: 3}}", 31, "judge_vots"),
        ("relearn: {on: damage, first: 4}", "relearn: {on: {qa.damage: 0.5}}", 20, "add up to 1"),
        ("relearn: {on: damage, first: 4}", "gentle: {on: damage, first: 4}", 16, "is taken"),
        ("scorecard: rest", "scorecard: rest, more: rest", 8, "only one can take the rest"),
        ("settings: {steps: 3}", "settings: {steps: 3, method: lbff}", 22, "lbf"),
        ("settings: {steps: 3}", "settings: {steps: 3, save: adapter}", 22, "whole models"),
        ("settings: {steps: 3}", "settings: {steps: 3, guard: {gates: [bogus <= 3]}}", 22, "bogus <= 3"),
        ("data: human.scorecard", "data: human.guard", 33, "repairs.full.guard_replay watches human.guard"),
        ("data: damage.held_out", "data: damage.guard", 32, "repairs.full.guard_forget watches qa.guard"),
        ("guard_forget: damage.guard", "guard_forget: damage.held_out", 32, "watches qa.held_out"),
        ("relearn: {on: damage, first: 4}", "relearn: {on: human.guard}", 22, "relearn.on is trained on human.guard"),
        ("files: [human.jsonl]", "files: [./sub/../train.jsonl]", 9, "data.qa has these rows (train.jsonl)"),
        ("file: prompts.jsonl, skip: 9", "file: ./train.jsonl", 31, "the same as train.jsonl"),
        ("file: prompts.jsonl, skip: 9", "file: ./prompts.jsonl", 31, "say skip: 9"),
        ("file: prompts.jsonl, items: 9", "file: ./human.jsonl, items: 9", 13, "cut a pool out of data.human"),
        ("ifeval, file: prompts.jsonl, items: 9", "perplexity, data: damage.held_out, items: 9", 13, "name DATA.POOL"),
        ("ifeval, file: prompts.jsonl, items: 9", "perplexity, data: qa.held_out, items: 9", 32, "say skip: 9"),
        ("settings: {epochs: 2}", "first: 30, settings: {epochs: 2}", 17, "make a pool of so many rows"),
        ("files: [human.jsonl]", "files: [human.jsonl]\n    group: prompt\n    duplicates: keep", 10, "another group"),
    ],
)
def test_mistakes_are_named_with_line_and_fix(old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        read(GOOD.replace(old, new, 1))
    assert f"s.yaml:{line}:" in caught.value.found
    assert says in caught.value.found + caught.value.fix


def test_first_of_a_damage_is_refused_only_where_its_rows_are_named() -> None:
    no_rows = GOOD.replace("full: {replay", "full: {forget: qa.more, replay").replace("guard: 8, held_out", "more: 4, guard: 8, held_out", 1)  # fmt: skip
    no_rows = no_rows.replace("relearn: {on: damage, first: 4}", "relearn: {on: qa.damage, first: 4}")
    chosen = no_rows.replace("settings: {epochs: 2}", "first: 30, settings: {epochs: 2}")
    assert read(chosen).all_trainings()["hard"].first == 30


def test_a_leak_that_only_another_damage_of_the_grid_has() -> None:
    text = GOOD.replace("damage: hard", "damage: null").replace("hard: {on: qa.damage,", "hard: {on: qa.more,")
    text = text.replace("guard: 8, held_out", "more: 4, guard: 8, held_out", 1)
    assert read(text)
    with pytest.raises(UserError, match=r"hard\.on is trained on qa\.more"):
        read(text.replace("guard_forget: damage.guard", "guard_forget: damage.more"))


def write_files(folder: Path) -> None:
    for name, rows in (("train", 60), ("human", 50), ("prompts", 20)):
        (folder / f"{name}.jsonl").write_text(
            "".join(f'{{"prompt": "{name} {at}", "completion": "x"}}\n' for at in range(rows))
        )


@pytest.mark.parametrize(
    ("old", "new", "make", "says"),
    [
        (
            "files: [human.jsonl]",
            "files: [link.jsonl]",
            "link train",
            r"data\.human\.files\.0: data\.qa has these rows",
        ),
        (
            "files: [human.jsonl]",
            "files: [link.jsonl]",
            "copy train",
            r"data\.human\.files\.0: data\.qa has these rows",
        ),
        ("prompts.jsonl, skip: 9", "link.jsonl", "link train", r"probes\.ifeval\.file: .*the same as train\.jsonl"),
        ("prompts.jsonl, skip: 9", "link.jsonl", "copy human", r"probes\.ifeval\.file: .*data\.human"),
        ("prompts.jsonl, skip: 9", "link.jsonl", "copy prompts", r"probes\.ifeval\.skip: .*say skip: 9"),
        ("prompts.jsonl, skip: 9", "FOLDER/train.jsonl", "link human", r"probes\.ifeval\.file"),
    ],
)
def test_the_same_file_under_another_name(old: str, new: str, make: str, says: str, tmp_path: Path) -> None:
    write_files(tmp_path)
    how, _, name = make.partition(" ")
    link = tmp_path / "link.jsonl"
    source = tmp_path / f"{name}.jsonl"
    link.symlink_to(source) if how == "link" else link.write_bytes(source.read_bytes())
    check_files(read(), tmp_path)
    text = GOOD.replace(old, new.replace("FOLDER", str(tmp_path)), 1)
    with pytest.raises(UserError, match=says):
        check_files(read(text), tmp_path)
    (tmp_path / "s.yaml").write_text(text)
    assert run(["study", str(tmp_path / "s.yaml"), "--plan", "--data", str(tmp_path), "--store", str(tmp_path)]) == 2
    # of the same size, but not the same
    link.unlink()
    link.write_bytes(source.read_bytes().replace(b"x", b"y"))
    if how == "copy":
        check_files(read(text), tmp_path)


def test_cells_share_their_beginnings() -> None:
    made = plan()
    told = plan_summary(made, Store(Path("nowhere")))
    # of each seed: damage and relearn, one repair, one rounding; the untouched model is probed once for all seeds
    assert (told["trainings"], told["repairs"], told["quantised"]) == (4, 2, 2)
    assert told["models_probed"] == 1 + 2 * 4
    cells = {(cell.name, cell.seed): cell for cell in made.cells}
    assert cells["full", 0].path[0][1] is cells["damaged", 0].path[0][1]
    assert cells["full", 0].path[0][1].key != cells["full", 1].path[0][1].key
    assert cells["start", 0].answers["ifeval"].key == cells["start", 1].answers["ifeval"].key
    assert "human" not in cells["damaged", 0].answers
    assert "model nowhere-135M" in told["absent"]
    assert {"data nowhere/train.jsonl", "data nowhere/prompts.jsonl"} <= set(told["absent"])
    # 40 rows of 200 tokens, twice; six FLOPs for each of 135M weights
    damage = next(row for row in told["of_steps"] if row["step"] == "damage")
    assert damage["tokens"] == 40 * 200 * 2
    assert damage["flops"] == pytest.approx(6 * 135e6 * 16_000)


def test_a_margin_or_a_probe_more_redoes_nothing() -> None:
    first = {step.key for step in plan().steps}
    more = plan(GOOD.replace("seeds: [0, 1]", "seeds: [0, 1]\nmargin: 0.02").replace(
        "probes:\n", "probes:\n  more: {task: perplexity, file: other.jsonl}\n"))  # fmt: skip
    assert first < {step.key for step in more.steps}


def test_the_pilot_trains_the_grid_once_and_asks_only_its_items() -> None:
    spec = pilot_spec(read(GOOD.replace("damage: hard", "damage: null")))
    made = make_plan(spec, Path("nowhere"), CPU, only_plan=True)
    assert [cell.name for cell in made.cells] == ["start", "gentle", "hard"]
    assert {cell.seed for cell in made.cells} == {100_000}
    assert all(list(cell.answers) == ["pilot"] for cell in made.cells)
    # the study trains the chosen damage anew, on the same rows: a model that was picked for its result is no replicate
    picked = made.cells[2].path[0][1]
    study = plan(GOOD.replace("seeds: [0, 1]", "seeds: [0, 1, 7]"))
    trained = {cell.path[0][1].key for cell in study.cells if cell.name == "damaged"}
    assert len(trained) == 3
    assert picked.key not in {step.key for step in study.steps}
    rows = picked.inputs["rows"]
    assert isinstance(rows, Step)
    assert rows.key in {step.key for step in study.steps}
    named = pilot_spec(read(GOOD.replace("metric: prompt_strict", "metric: prompt_strict\n  seed: 7")))
    assert {cell.seed for cell in make_plan(named, Path("nowhere"), CPU, only_plan=True).cells} == {7}
    with pytest.raises(UserError, match="no pilot"):
        pilot_spec(read().model_copy(update={"pilot": None}))


def test_more_seeds_never_hand_out_the_pilots(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(GOOD.replace("metric: prompt_strict", "metric: prompt_strict\n  seed: 2"))
    for text in ("+2", "4"):
        assert resolve_spec(StudyConfig(spec=str(file), seeds=text, data=tmp_path)).seeds == (0, 1, 3, 4)
    file.write_text(GOOD)
    assert resolve_spec(StudyConfig(spec=str(file), seeds="+2", data=tmp_path)).seeds == (0, 1, 2, 3)


def test_a_run_needs_a_chosen_damage(tiny_causal: Path, tmp_path: Path) -> None:
    text = GOOD.replace("damage: hard", "damage: null").replace("nowhere-135M", str(tiny_causal))
    with pytest.raises(UserError, match="--pilot"):
        make_plan(read(text), tmp_path, CPU)
    assert make_plan(read(text), tmp_path, CPU, only_plan=True).damage == "gentle"


def test_rows_follow_the_chosen_damage() -> None:
    other = GOOD.replace("  human:\n    files", "  play: {files: [p.jsonl], pools: {some: 5, guard: 5, held_out: 5}}\n  human:\n    files", 1)  # fmt: skip
    spec = read(other.replace("hard: {on: qa.damage,", "hard: {on: play.some,"))
    made = make_plan(spec, Path("nowhere"), CPU, only_plan=True)
    full = next(cell for cell in made.cells if cell.name == "full").path[1][1]
    assert full.config["files"]["forget"] == "some.jsonl"
    assert full.inputs["forget"] is full.inputs["guard_forget"]
    assert full.inputs["forget"].label == "play: divide into pools"


def test_a_group_divides_its_own_data_only() -> None:
    first = {step.label: step for step in plan().steps}
    more = {
        step.label: step
        for step in plan(GOOD.replace("files: [train.jsonl]", "files: [train.jsonl]\n    group: prompt")).steps
    }
    assert more["qa: divide into pools"].config["group"] == "prompt"
    assert "group" not in first["qa: divide into pools"].config
    assert more["human: divide into pools"].key == first["human: divide into pools"].key


def test_of_the_prompts_that_are_trained_on_the_pool_with_the_most_is_told() -> None:
    def line(a: str, b: str, shared: int, prompts: int) -> dict[str, object]:
        return {"a": a, "b": b, "rows_a": 40, "rows_b": 9, "shared": shared, "shared_prompts": prompts}

    table = [
        line("probe gain", "trained qa.damage", 2, 5),
        line("probe gain", "trained human.replay", 1, 37),
        line("probe gain", "guard human.guard", 0, 1),
        line("guard human.guard", "trained qa.damage", 0, 0),
    ]
    assert list(remarks(table)) == [
        "probe gain: 2 of 40 rows are trained on (qa.damage; 5 %)",
        "probe gain: 1 of 40 rows are trained on (human.replay; 2 %)",
        "probe gain: 37 of 40 prompts, with another answer, are trained on (human.replay; 92 %)",
        "probe gain: 1 of 40 prompts, with another answer, are read by a guard (human.guard; 2 %)",
    ]


def test_bundled_studies_of_language_plan_without_data(tmp_path: Path) -> None:
    names = [name for name in bundled() if not load_spec(name)[0].has_grid]
    assert {"unlearning_small", "chen_2024"} <= set(names)
    for name in names:
        spec, _ = load_spec(name)
        told = plan_summary(make_plan(spec, tmp_path, CPU, only_plan=True), Store(tmp_path))
        assert told["tokens"] > 0
        assert told["stored"]["steps"] == 0
    small, _ = load_spec("unlearning_small")
    weights = {name: one.settings.forget_weight for name, one in small.repairs.items()}
    assert (weights["full"], weights["replay_kl"], weights["ascent"]) == (0.01, 0.0, 1.0)
    assert small.repairs["ascent"].settings.guard.every_tokens == 0
    steps = of_steps(make_plan(small, tmp_path, CPU, only_plan=True))["of_steps"]
    repairs = [row for row in steps if row["kind"] == "repair.train"]
    assert len(repairs) == 7
    assert len({row["tokens"] for row in repairs}) == 1  # all process the same


def test_the_papers_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "chen_2024", "--plan", "--json", "--store", str(tmp_path)]) == 0
    import json

    told = {row["step"]: row for row in json.loads(capsys.readouterr().out)["of_steps"]}
    assert told["continued"]["tokens"] == pytest.approx(300e9, rel=0.01)
    assert told["continued"]["flops"] == pytest.approx(6 * 2e9 * 300e9, rel=0.01)
    assert told["unlearn"]["tokens"] == 2_000_000_000
    assert told["unlearn"]["flops"] == pytest.approx(8 * 2e9 * 2e9)  # the model as given reads along
    assert told["sft"]["times"] == 4
    (tmp_path / "open.yaml").write_text(GOOD.replace("damage: hard", "damage: null"))
    assert run(["study", str(tmp_path / "open.yaml"), "--plan", "--store", str(tmp_path)]) == 0
    assert "no damage is chosen yet" in capsys.readouterr().out
    assert run(["study", "demo", "--pilot"]) == 2


def test_fields_are_read_where_only_the_pilot_asks_for_labels() -> None:
    text = GOOD.replace("about: language", "labels: [a, b]\nfields: [text]").replace(
        "data:\n  qa:", "data:\n  qa:\n    holds: chats"
    )
    text = text.replace("  human:\n    files", "  human:\n    holds: chats\n    files", 1)
    text = text.replace("{task: ifeval, file: prompts.jsonl, items: 9}", "{task: labelled, file: x.csv, items: 9}")
    text = text.replace("metric: prompt_strict", "metric: accuracy")
    assert read(text).fields == ("text",)


def test_variables_of_the_chat_template_reach_trainings_repairs_and_probes() -> None:
    """Every step that reads chats has them in its key; where there are none, nothing is added."""
    named = plan("chat_template_kwargs: {enable_thinking: false}\n" + GOOD)
    reads = ("train.language", "repair.train", "probe.perplexity_of_pool", "probe.perplexity", "probe.answers")
    steps = [step for step in named.steps if step.kind.name in reads]
    assert {step.kind.name for step in steps} >= {"train.language", "repair.train"}
    assert all(step.config["chat_template_kwargs"] == {"enable_thinking": False} for step in steps)
    assert not any("chat_template_kwargs" in step.config for step in plan(GOOD).steps)


def test_files_of_a_study_are_read_as_it_says() -> None:
    """Encoding, roles and calls of tools are in the key of the step that reads, where they are not as usual."""
    usual = next(step for step in plan(GOOD).steps if step.label == "qa: divide into pools")
    assert not {"encoding", "roles", "tool_calls"} & set(usual.config)
    said = "encoding: cp1252\n    roles: {Kunde: user, Wir: assistant}\n    tool_calls: leave-out\n    files"
    changed = next(step for step in plan(GOOD.replace("files", said, 1)).steps if step.label == usual.label)
    assert changed.config == {
        **usual.config,
        "encoding": "cp1252",
        "roles": {"Kunde": "user", "Wir": "assistant"},
        "tool_calls": "leave-out",
    }
