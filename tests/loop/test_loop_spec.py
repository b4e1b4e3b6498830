"""Loop files: mistakes are named with what to write; nothing runs before all that can be refused was refused."""

from pathlib import Path
from typing import Any

import pytest
from loop_kit import LOOP, line, make_loop

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.loop.inputs import Inputs
from pyrite.loop.spec import LoopSpec, bundled, load_loop

BASE: dict[str, Any] = {"loop": "x", "synthetic": ["a.jsonl"], "human": ["b.jsonl"]}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"repair": {}}, "model: probe and repair need one"),
        ({"model": "m"}, "no model is needed"),
        ({"audit": {"reference": ["x"]}}, "reference: the loop sets this itself"),
        ({"audit": {"gate": ["severity < fail"]}}, "gate: the loop sets this itself"),
        ({"model": "m", "repair": {"task": ["ifeval=x"]}}, "task: the loop sets this itself"),
        ({"model": "m", "probe": {"task": ["a=b"], "max_tokens": 64}, "repair": {}}, "say it under repair"),
        ({"model": "m", "probe": {"task": ["a=b"], "part": "all"}, "repair": {}}, "probe.part: a repair cannot ask"),
        ({"model": "m", "probe": {"task": ["a=b"], "on_bad_row": "skip"}, "repair": {}}, "probe.on_bad_row: a repair"),
        ({"synthetic": ["study:biased"]}, "study: rows or a model of a study are named"),
        ({"gates": ["study: primary >= 0"]}, "names no part that runs"),
        ({"gates": ["severity < fail"]}, "names no part that runs"),
        ({"loop": ".."}, "should match pattern"),
        ({"audits": {"../x": {"data": ["a"]}}}, "should match pattern"),
        ({"audits": {"made": {"data": ["a"]}}}, "the name 'made'"),
        ({"synthetic": ["loop:clean"]}, "that is what the audit of these very rows leaves"),
        ({"human": ["a", "b", "a"]}, "each once, and a is there twice"),
        ({"audit": {"text_fields": ["text", "text"]}}, "each once, and text is there twice"),
        ({"audits": {"x": {"data": ["a", "a"]}}}, "each once, and a is there twice"),
        ({"model": "m", "probe": {"task": ["a=b"], "labels": ["yes", "no", "yes"]}}, "and yes is there twice"),
        ({"synth": "r.yaml"}, "synth: the rows it makes are for a study"),
        ({"model": "m", "repair": {}, "forget": "all", "replay": ["human", "clean"]}, "leave out clean"),
    ],
)
def test_what_does_not_go_together(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoopSpec.model_validate({**BASE, **extra})


def test_parts_follow_from_the_keys_and_from_what_reads_what() -> None:
    assert LoopSpec.model_validate(BASE).parts == ("audit",)
    repairing = LoopSpec.model_validate({**BASE, "model": "m", "probe": {"task": ["heuristics"]}, "repair": {}})
    assert repairing.parts == ("audit", "probe", "repair")
    before = LoopSpec.model_validate({**BASE, "synth": "r.yaml", "study": "s.yaml"})
    assert before.parts == ("audit", "synth", "study")
    after = LoopSpec.model_validate({**BASE, "synthetic": ["study:biased"], "study": "demo"})
    assert after.parts == ("study", "audit")


def test_bundled_loops_load() -> None:
    assert {"demo", "roleplay"} <= set(bundled())
    for name in bundled():
        assert load_loop(name).says


def test_a_repeated_entry_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("loop: x\nsynthetic: [a.jsonl]\nhuman: [b.jsonl]\naudit:\n  text_fields: [text, text]\n")
    with pytest.raises(UserError) as caught:
        load_loop(str(path))
    assert f"{path}:5: audit.text_fields: each once, and text is there twice" in caught.value.found


def test_a_mistake_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("loop: x\nsynthetic: [a.jsonl]\nhumans: [b.jsonl]\n")
    assert run(["run", str(path)]) == 2
    message = capsys.readouterr().err
    assert f"{path}:3" in message
    assert "did you mean 'human'" in message


REFUSED = [
    ("one.jsonl", "none.jsonl", "A file of the loop is not there"),
    ("severity < fail", "severty < fail", "That is no gate|unknown flaw"),
    ("repair: perplexity.nats_per_token", "repair: perplexity.natts", "unknown metric"),
    ("only: [format]", "only: [fromat]", "fromat"),
    ("perplexity=held.jsonl", "perplexity=nowhere.jsonl", "nowhere.jsonl"),
    ("[perplexity=held.jsonl]", "[perplexity=held.jsonl, perplexity=one.jsonl]", "asked twice"),
    ("repair: {{steps: 3", "repair: {{method: nonsense, steps: 3", "nonsense"),
    ("repair: {{steps: 3", "repair: {{undoes: nowhere.json, steps: 3", "nowhere.json"),
    ("repair: {{steps: 3", "repair: {{prove: [nonsense], steps: 3", "nonsense"),
    ("model: {causal}\nprobe", "model: no/such/folder/here\nprobe", "no/such/folder/here"),
    ("says: made-up chats", "synth: nowhere.yaml\nstudy: demo", "nowhere.yaml"),
    ("says: made-up chats", 'study: demo\naudits: {{x: {{data: ["loop:made"]}}}}', "audited by themselves"),
]


@pytest.mark.parametrize(("right", "wrong", "message"), REFUSED)
def test_refused_before_anything_runs(
    right: str, wrong: str, message: str, tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, capsys: Any
) -> None:
    import re

    path = make_loop(tmp_path, tiny_causal, tiny_encoder, LOOP.replace(right, wrong, 1))
    assert run(line(path)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "runs").exists()


def test_a_foreign_page_is_found_before_anything_runs(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, capsys: Any
) -> None:
    path = make_loop(tmp_path, tiny_causal, tiny_encoder)
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"schema_version": 1, "verb": "loop", "loop": "tiny", "parts": {}}')
    (folder / "report.html").write_text("mine")
    assert run(line(path)) == 2
    assert "no report of ours" in capsys.readouterr().err
    assert (folder / "report.html").read_text() == "mine"
    assert not (tmp_path / "store").exists()


def test_a_gate_on_a_contrast_that_the_study_lacks_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "b.jsonl").write_text('{"text": "x", "label": "y"}\n')
    path = tmp_path / "l.yaml"
    text = "loop: x\nsynthetic: [study:synthetic]\nhuman: [b.jsonl]\nstudy: demo\ngates: ['study: {gate}']\n"
    path.write_text(text.format(gate="nonsense >= -0.1"))
    assert run(line(path, "--plan")) == 2
    assert "unknown contrast" in capsys.readouterr().err
    path.write_text(text.format(gate="synthetic - human on blind_spot >= -0.1"))
    assert run(line(path, "--plan")) == 0


def test_names_below_the_data_folder(tmp_path: Path) -> None:
    """Models and files of any part are found there; a folder called like a task is no task's file."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "heuristics").mkdir()
    (tmp_path / "history.json").write_text("{}")
    spec = LoopSpec.model_validate(
        {
            **BASE,
            "audit": {"model": "mine", "embedder": "packaged:minilm-l6", "against": ["history.json", "x=history.json"]},
            "model": "mine",
            "probe": {"task": ["heuristics", "heuristics=300", "perplexity=history.json"]},
            "repair": {"undoes": "history.json"},
        }
    )
    inputs = Inputs(spec, tmp_path, tmp_path / "runs" / "x")
    history = str(tmp_path / "history.json")
    assert inputs.options(spec.audit) == {
        "model": str(tmp_path / "mine"),
        "embedder": "packaged:minilm-l6",
        "against": (history, f"x={history}"),
    }
    assert inputs.model("mine", {}) == str(tmp_path / "mine")
    tasks = ("heuristics", "heuristics=300", f"perplexity={tmp_path / 'history.json'}")
    assert inputs.probe_options()["task"] == tasks
    assert inputs.options(spec.repair)["undoes"] == str(tmp_path / "history.json")


def test_a_study_in_a_circle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"text": "x", "label": "y"}\n')
    study = (Path(__file__).parents[2] / "studies" / "nli_small.yaml").read_text()
    absent = tmp_path / "absent.yaml"
    absent.write_text("loop: x\nsynthetic: [a.jsonl]\nhuman: [b.jsonl]\nstudy: nli_small\n")
    assert run(line(absent)) == 2
    assert "mnli" in capsys.readouterr().err  # found before the audit runs
    (tmp_path / "s.yaml").write_text(study.replace("files: [", "files: [loop:clean, ", 1))
    path = tmp_path / "l.yaml"
    path.write_text("loop: x\nsynthetic: [study:synthetic]\nhuman: [b.jsonl]\nstudy: s.yaml\n")
    assert run(line(path)) == 2
    assert "turns in a circle" in capsys.readouterr().err
    (tmp_path / "s.yaml").write_text(study)
    path.write_text("loop: x\nsynthetic: [study:synthetik]\nhuman: [b.jsonl]\nstudy: s.yaml\n")
    assert run(line(path)) == 2
    assert "no such arm" in capsys.readouterr().err


def test_a_plan_runs_nothing(tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, capsys: Any) -> None:
    path = make_loop(tmp_path, tiny_causal, tiny_encoder)
    assert run(line(path, "--plan")) == 0
    assert "audit, probe, repair, report" in capsys.readouterr().out
    assert not (tmp_path / "store").exists()
