"""Probes of a model that a step will make, and of a part of the items; gsm8k through the command."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import review_rows
from tests.probe.written_kit import examples_in, jsonl, line, overall, told

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models import load
from pyrite.probe.config import ProbeConfig
from pyrite.probe.generative_steps import draw_prompts
from pyrite.probe.parse_task import parse_task
from pyrite.probe.perplexity_rows import perplexity_rows
from pyrite.probe.probe_task import ModelUnderTest
from pyrite.records import Chat, Message
from pyrite.steps import Context, Progress, RunOptions, Source, Step, StepType, Store, run_steps


def copy_step(context: Context) -> None:
    """Step: stands for a training; publishes a model folder."""
    shutil.copytree(context.inputs["base"], context.out, dirs_exist_ok=True)
    if context.config["adapter"]:
        (context.out / "adapter_config.json").write_text("{}")


MAKES = StepType("test.makes", 1, copy_step)


def made_of(folder: Path, *, adapter: bool = False) -> ModelUnderTest:
    found = load.resolve(str(folder))
    step = Step(MAKES, {"adapter": adapter}, {"base": Source(str(found.folder), found.identity)})
    return ModelUnderTest("made", None, step)


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """Questions in words that the tiny model knows."""
    rows = [{"question": row["text"], "answer": f"so\n#### {at}"} for at, row in enumerate(review_rows(12, 5))]
    return jsonl(rows, tmp_path / "sums.jsonl")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return jsonl([{"text": row["text"]} for row in review_rows(9, 6)], tmp_path / "texts.jsonl")


Options = Callable[..., ProbeConfig]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    def given(task: str, **more: Any) -> ProbeConfig:
        fixed: dict[str, Any] = {"precision": "fp32", "max_new_tokens": 8, "store": tmp_path / "s"}
        return ProbeConfig(task=(task,), **{**fixed, **more})

    return given


def run_them(store: Store, *steps: Step) -> None:
    run_steps(list(steps), store, RunOptions(), Progress(quiet=True))


@pytest.mark.parametrize("name", ["gsm8k", "perplexity"])
def test_a_made_model_answers_as_its_folder_does(
    name: str, tiny_causal: Path, sums: Path, texts: Path, options: Options, tmp_path: Path
) -> None:
    """Planned before the model is there; then made, asked, and measured like the folder that it is a copy of."""
    task = f"{name}={sums if name == 'gsm8k' else texts}"
    asked, store = parse_task(task, options(task)), Store(tmp_path / "s")
    subject = made_of(tiny_causal)
    later = asked.step(subject)
    assert later.inputs["base"] is subject.step
    now = asked.step(ModelUnderTest("folder", load.resolve(str(tiny_causal))))
    assert now.key != later.key
    assert now.config == later.config
    run_them(store, later, now)
    first, second = asked.read(store, later), asked.read(store, now)
    assert len(first.measured) == (24 if name == "gsm8k" else 18)
    assert first.measured == second.measured
    file = "answers.jsonl" if name == "gsm8k" else "rows.parquet"
    assert (store.path(later.key) / file).read_bytes() == (store.path(now.key) / file).read_bytes()


def test_harness_tasks_take_the_step(tiny_causal: Path, options: Options) -> None:
    pytest.importorskip("lm_eval")
    subject = made_of(tiny_causal)
    assert parse_task("harness:gsm8k", options("harness:gsm8k")).step(subject).inputs["base"] is subject.step


def test_what_cannot_be_asked_of_a_made_model(
    tiny_causal: Path, tiny_encoder: Path, sums: Path, texts: Path, options: Options, tmp_path: Path
) -> None:
    """A task of labels looks into the folder when it is planned; adapters and encoders are refused when they are read."""
    with pytest.raises(UserError, match="needs a model that is there already"):
        parse_task("heuristics=30", options("heuristics=30")).step(made_of(tiny_causal))
    store = Store(tmp_path / "s")
    for task in (f"gsm8k={sums}", f"perplexity={texts}"):
        with pytest.raises(UserError, match="holds an adapter"):
            run_them(store, parse_task(task, options(task)).step(made_of(tiny_causal, adapter=True)))
        with pytest.raises(UserError, match="needs a language model"):
            run_them(store, parse_task(task, options(task)).step(made_of(tiny_encoder)))


def test_gsm8k_through_the_command(
    tiny_causal: Path, sums: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An untrained model is never right; how the scorecard says so. A row that cannot be asked is named or counted."""
    with sums.open("a") as sink:
        sink.write('{"question": "and?", "answer": "nobody knows"}\n')
    command = line(tiny_causal, f"gsm8k={sums}", tmp_path / "s")
    assert run(command) == 2
    err = capsys.readouterr().err
    assert "sums:13" in err
    assert "--on-bad-row skip" in err
    card = told(capsys, [*command, "--on-bad-row", "skip"])
    assert (card["task"], card["metric"]) == ("gsm8k", "accuracy")
    assert {name: some[1:] for name, some in overall(card).items()} == {"accuracy": (12, 0), "format": (12, 0)}
    assert overall(card)["format"][0] == 0.0
    assert "answers are cut at 8 new tokens; the standard is 512" in card["notes"]
    assert "13 rows read, 12 kept, dropped: {'no reference number': 1}" in card["notes"]


@pytest.mark.parametrize("name", ["gsm8k", "perplexity"])
def test_two_parts_share_no_item(
    name: str, tiny_causal: Path, sums: Path, texts: Path, options: Options, tmp_path: Path
) -> None:
    """`items=5` and `skip=5` are the whole together, and each value is that of the whole."""
    task, store = f"{name}={sums if name == 'gsm8k' else texts}", Store(tmp_path / "s")
    folder = ModelUnderTest("folder", load.resolve(str(tiny_causal)))
    some = [options(task, **more) for more in ({}, {"items": 5}, {"skip": 5}, {"skip": 5, "items": 3})]
    tasks = [parse_task(task, one) for one in some]
    steps = [one.step(folder) for one in tasks]
    assert ["skip" in step.config for step in steps] == [False, False, True, True]
    run_them(store, *steps)
    results = [one.read(store, step) for one, step in zip(tasks, steps, strict=True)]
    whole, first, rest, part = ({(one.item, one.metric): one.value for one in it.measured} for it in results)
    assert len(first) == 2 * 5
    assert len(part) == 2 * 3
    assert not first.keys() & rest.keys()
    assert first.keys() | rest.keys() == whole.keys()
    assert part.keys() < rest.keys()
    assert {**first, **rest} == pytest.approx(whole, rel=1e-5)
    assert ["asked without the" in str(one.notes) for one in results] == [False, False, True, True]


@pytest.mark.parametrize("seed", range(20))
def test_chosen_parts(seed: int) -> None:
    """Single items: parts one after the other share none. Examples of unlike size: N taken, N left out."""
    single = [Chat((Message("user", "x"),), str(at)) for at in range(40)]
    parts = [draw_prompts(single, 10, 0, seed), draw_prompts(single, 7, 10, seed), draw_prompts(single, None, 17, seed)]
    ids = [[int(item.id) for item in part] for part in parts]
    assert [len(part) for part in ids] == [10, 7, 23]
    assert sorted(at for part in ids for at in part) == list(range(40))
    assert all(part == sorted(part) for part in ids)
    grouped = [
        Chat((Message("user", "x"),), f"{example}/{at}", {"example": example})
        for example, size in enumerate((5, 2, 5, 1, 3, 5))
        for at in range(size)
    ]
    taken, rest = draw_prompts(grouped, 8, 0, seed), draw_prompts(grouped, None, 8, seed)
    assert sorted(item.id for item in [*taken, *rest]) == sorted(item.id for item in grouped)
    assert not {item.meta["example"] for item in taken} & {item.meta["example"] for item in rest}
    first, second = perplexity_rows(40, 10, 0, seed), perplexity_rows(40, 10, 10, seed)
    assert len({*first, *second}) == 20
    assert sorted([*first, *perplexity_rows(40, None, 10, seed)]) == list(range(40))


def test_what_skip_refuses(
    tiny_causal: Path, sums: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing left, no whole example so small, and tasks that do not know it."""
    store = tmp_path / "s"
    for task, said in (
        (f"gsm8k={sums}", "--skip leaves no item"),
        (f"perplexity={texts}", "--skip leaves no row"),
        ("heuristics=30", "--skip does not apply"),
        ("harness:gsm8k", "--skip does not apply"),
    ):
        assert run(line(tiny_causal, task, store, "--skip", "12")) == 2
        assert said in capsys.readouterr().err
    assert run(line(tiny_causal, f"followbench={examples_in(tmp_path)}", store, "--skip", "4")) == 2
    assert "no whole example" in capsys.readouterr().err


def test_a_judge_reads_the_same_part(
    tiny_causal: Path, tmp_path: Path, options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers and judge are told the same items."""
    task = f"followbench={examples_in(tmp_path)}"
    folder = ModelUnderTest("folder", load.resolve(str(tiny_causal)))
    judged = parse_task(task, options(task, judge_url="http://localhost:1/v1", judge_model="j", skip=5, items=5)).step(
        folder
    )
    answers = judged.inputs["answers"]
    assert isinstance(answers, Step)
    assert {one.config["skip"] for one in (judged, answers)} == {5}
    card = told(capsys, line(tiny_causal, task, tmp_path / "s", "--skip", "5"))
    assert sum(overall(card)["hsr"][1:]) == 5
    assert json.dumps(card["notes"]).count("asked without the items that --items 5 takes") == 1
