"""The run folder of a probe: what was asked, said and measured, and nothing written over anything else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.conftest import build_causal
from tests.probe.test_probe_run import ANSWERS, ITEMS, hans_file, write_answers
from tests.probe.written_kit import QUESTIONS, instructions_in, questions_in

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models.answers import Answer
from pyrite.outputs import check_folder, storable
from pyrite.probe.config import ProbeConfig
from pyrite.probe.run_folder import LONGEST, SubjectOutput, command, items_table, read_items, texts_table
from pyrite.probe.texts import Texts, of_answers, texts_of
from pyrite.records import Chat, Message
from pyrite.runs import read_run
from pyrite.tasks import mt_bench

Probe = Callable[..., tuple[int, str]]


@pytest.fixture
def probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Probe:
    def ask(*words: object) -> tuple[int, str]:
        fixed = ["--store", str(tmp_path / "store"), "--quiet", "--json", "--precision", "fp32"]
        code = run(["probe", *map(str, words), *fixed])
        out, err = capsys.readouterr()
        return code, err if code == 2 else out

    return ask


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return pl.read_parquet(folder / "results" / name).to_dicts()


def test_predictions_with_every_item_and_text(tmp_path: Path, probe: Probe) -> None:
    """By hand: ex1 is an entailment, answered with contradiction: 0; ex5 has no answer: no value and no text."""
    out = tmp_path / "run"
    task, answers = f"hans={hans_file(tmp_path)}", write_answers(tmp_path, "csv")
    code, shown = probe("--task", task, "--predictions", answers, "--out", out, "--gate", "hans.accuracy >= 0")
    assert code == 3  # fewer than ten templates: no interval
    told = read_run(out).record.as_json()
    assert (told["verb"], told["schema_version"], told["exit_code"]) == ("probe", 1, 3)
    (card,) = told["scorecards"]
    assert {name: card[name] for name in ("overall", "slices")} == {
        name: json.loads(shown)[name] for name in ("overall", "slices")
    }
    assert card["about"] == told["models"][0] == told["about"] == "answers.csv"
    assert [one["name"] for one in told["metrics"]["hans"]] == ["accuracy"]
    assert (told["clusters"], told["margin"], told["compared"]) == ({"hans": "templates"}, 0.02, [])
    assert told["gates"][0]["gate"] == "hans.accuracy >= 0"
    assert card["source"] == "hans.jsonl"
    assert told["settings"]["task"] == [task]
    assert str(tmp_path) not in json.dumps({name: value for name, value in told.items() if name != "settings"})
    assert told["command"].startswith("pyrite probe --task hans=hans.jsonl --predictions answers.csv ")
    items = {row["item"]: row for row in rows_of(out, "items.parquet")}
    assert {name: row["value"] for name, row in items.items()} == {
        "ex0": 1, "ex1": 0, "ex2": 1, "ex3": 0, "ex4": 1, "ex5": None
    }  # fmt: skip
    assert items["ex1"]["group"] == "le_passive/temp2"
    assert json.loads(items["ex1"]["slices"])["heuristic"] == "lexical_overlap"
    texts = {(row["item"], row["subject"]): row["text"] for row in rows_of(out, "texts.parquet")}
    assert texts["ex0", None] == "premise: The dog 0 saw it .\nhypothesis: The dog saw ."
    assert {item: texts[item, "gold"] for item, *_ in ITEMS} == {item: gold for item, gold, *_ in ITEMS}
    assert {item: text for (item, whom), text in texts.items() if whom == "answers.csv"} == ANSWERS
    assert len(texts) == 6 + 6 + 5


def test_two_models_on_several_tasks(tmp_path: Path, tiny_causal: Path, probe: Probe) -> None:
    pytest.importorskip("lm_eval")
    other, out = build_causal(tmp_path / "other", seed=1), tmp_path / "run"
    rows = [{"messages": [{"role": "user", "content": f"was film {n} warm"}, {"role": "assistant", "content": "yes"}]}
            for n in range(4)]  # fmt: skip
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = (f"hans={hans_file(tmp_path)}", f"ifeval={instructions_in(tmp_path)}", f"perplexity={chats}")
    words = [str(tiny_causal), str(other), *(word for task in tasks for word in ("--task", task))]
    code, text = probe(*words, "--max-new-tokens", 8, "--out", out)
    assert code == 0, text
    told = read_run(out).record.as_json()
    assert told["models"] == [tiny_causal.name, "other"]
    assert [one["task"] for one in told["compared"]] == ["hans", "ifeval", "perplexity"]
    items = rows_of(out, "items.parquet")
    assert {(row["subject"], row["task"]) for row in items} == {
        (whom, task) for whom in told["models"] for task in ("hans", "ifeval", "perplexity")
    }
    texts = rows_of(out, "texts.parquet")
    asked = {row["item"]: row["text"] for row in texts if row["task"] == "ifeval" and row["subject"] is None}
    assert set(asked.values()) == {"the film 7 was", "the film 8 was", "the film 9 was"}
    answered = [row for row in texts if row["task"] == "ifeval" and row["subject"] in told["models"]]
    assert len(answered) == 6
    read = [row for row in texts if row["task"] == "perplexity"]
    assert (read[0]["subject"], read[0]["text"]) == (None, "user: was film 0 warm\nassistant: yes")
    assert len(read) == 4  # nothing is answered there
    of_texts = {(row["task"], row["item"]) for row in texts}
    assert all({(row["task"], row["item"]), (row["task"], row["group"])} & of_texts for row in items)
    first = {file.name: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert probe(*words, "--max-new-tokens", 8, "--out", out)[0] == 0  # a probe of ours is replaced
    assert first == {file.name: file.read_bytes() for file in out.rglob("*") if file.is_file()}


def test_what_is_read_back_is_what_was_measured(tmp_path: Path, probe: Probe) -> None:
    from pyrite.tasks.scoring import ItemScore

    measured = [
        ItemScore("a", "m", 0.25, "g", {"z": "1", "a": 'qu"ote'}, 2.0),
        ItemScore("b", "m", None, "b"),
        ItemScore("a", "n", 1.0, "a", {}, 3.5),
    ]
    from pyrite.io import write_parquet
    from pyrite.probe.probe_task import Result

    told = [
        SubjectOutput("one", {"t": Result(measured, (), {})}, {}),
        SubjectOutput("two", {"t": Result(measured[:1], (), {})}, {}),
    ]
    write_parquet(items_table(told), tmp_path / "items.parquet")
    assert read_items(tmp_path / "items.parquet", "t", "one") == measured
    assert read_items(tmp_path / "items.parquet", "t", "two") == measured[:1]
    assert read_items(tmp_path / "items.parquet", "t", "three") == []


def test_two_turns_stand_together_and_a_refusal_is_no_answer(tmp_path: Path) -> None:
    items = mt_bench.read(questions_in(tmp_path))
    answers = [Answer("81", "once", "stop"), Answer("81/2", "again", "length"), Answer("82", "", "refused")]
    made = of_answers(items, texts_of(answers), 2)
    assert made.prompts["81"] == "turn 1: Write of a film.\nturn 2: Write it again."
    assert made.answers == {"81": "turn 1: once\nturn 2: again"}
    assert len(made.prompts) == len(QUESTIONS)
    one = Chat((Message("system", "be kind"), Message("user", "hello")), "x")
    assert of_answers([one], {"x": None}, 1) == Texts({"x": "system: be kind\nuser: hello"}, {})


def test_long_and_broken_texts_are_kept_as_far_as_a_file_holds_them() -> None:
    assert storable("ab" * LONGEST, LONGEST) == "ab" * (LONGEST // 2)
    assert storable("a\ud800b\x00", LONGEST) == "a?b\x00"
    told = SubjectOutput("m", {}, {"t": Texts({"i": "<script>\ud800"}, {"i": "no"})})
    assert texts_table([told]).to_pylist() == [
        {"task": "t", "item": "i", "subject": None, "text": "<script>?"},
        {"task": "t", "item": "i", "subject": "m", "text": "no"},
    ]
    assert items_table([]).num_rows == texts_table([]).num_rows == 0


def test_a_folder_in_use_is_refused_before_anything_runs(tmp_path: Path, probe: Probe) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    words = ("--task", f"hans={hans_file(tmp_path)}", "--predictions", write_answers(tmp_path, "csv"), "--out", out)
    code, err = probe(*words)
    assert code == 2
    assert "thesis.txt" in err
    (out / "run.json").write_text('{"schema_version": 1, "verb": "audit"}')
    code, err = probe(*words)
    assert code == 2
    assert "a run of pyrite audit" in err
    assert not (tmp_path / "store").exists()
    assert sorted(path.name for path in out.iterdir()) == ["run.json", "thesis.txt"]
    with pytest.raises(UserError, match="is a file"):
        check_folder(out / "thesis.txt", "probe")
    check_folder(tmp_path / "not" / "there", "probe")
    assert not (tmp_path / "not").exists()


def test_the_command_names_no_folder_of_this_machine() -> None:
    config = ProbeConfig(
        model="/a/b/model",
        other="packaged:smollm2-135m-instruct",
        task=("hans=/data/h.txt", "/x/own.yaml", "harness:gsm8k", "nli=hf://org/name", "heuristics=300"),
        harness_chat=True,
        out=Path("/runs/x"),
        store=Path("/s"),
    )
    assert command(config) == (
        "pyrite probe model packaged:smollm2-135m-instruct --task hans=h.txt --task own.yaml --task harness:gsm8k "
        "--task nli=hf://org/name --task heuristics=300 --harness-chat"
    )
