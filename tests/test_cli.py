"""The command: instant help, exit codes, wrong input that leaves nothing half-written, Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyrite.cli import run

from conftest import study_line  # isort: skip

VERBS = [
    [],
    ["audit"],
    ["study"],
    ["probe"],
    ["repair"],
    ["synth"],
    ["demo"],
    ["models"],
    ["models", "fetch"],
    ["models", "ls"],
]
VERBS += [["store"], ["store", "ls"], ["store", "rm"], ["store", "gc"]]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_loads_no_model_library(verb: list[str]) -> None:
    script = "import sys; from pyrite.cli import run; code = run(sys.argv[1:]); "
    script += (
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'altair', 'scipy', 'numpy'} & set(sys.modules); "
    )
    script += "assert not heavy, heavy; sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", script, *verb, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_python_m_pyrite_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyrite", "store", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: pyrite store" in done.stdout


def files_below(folder: Path) -> set[str]:
    """Everything but the store's bookkeeping: locks, and steps that finished before the mistake was met."""
    kept = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in kept if path.parts[0] != "store" or path.parts[1] == "attempts"}


def edit(old: str, new: str) -> "tuple[str, str]":
    return old, new


WRONG = {
    "missing file": (edit("reviews.jsonl", "reviewz.jsonl"), "reviewz.jsonl"),
    "unknown key": (edit("sizes:", "sizse:"), "did you mean 'sizes'"),
    "too small": (edit("sizes: [16]", "sizes: [4000]"), "too few rows"),
    "unknown label": (edit("labels: [positive, negative]", "labels: [positive, bad]"), "negative"),
    "no such column": (edit("fields: [text]", "fields: [body]"), "body"),
    "absent model": (edit("precision: fp32}", "precision: fp32, parameters: 1}"), ""),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_input_is_named_and_nothing_is_half_written(
    case: str, tiny_study: Path, capsys: pytest.CaptureFixture[str], tiny_encoder: Path
) -> None:
    (old, new), says = WRONG[case]
    text = tiny_study.read_text()
    assert old in text
    text = text.replace(old, new, 1)
    if case == "absent model":
        text, says = text.replace(str(tiny_encoder), "packaged:no-such-model"), "no packaged model"
    tiny_study.write_text(text)
    folder = tiny_study.parent
    before = files_below(folder)
    code = run(study_line(tiny_study, "--quiet"))
    message = capsys.readouterr().err
    assert code == 2, message
    assert says in message
    assert "fix:" in message
    assert "Traceback" not in message
    assert files_below(folder) == before


def test_broken_json_is_named_by_line(tiny_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_study.parent
    lines = (folder / "reviews.jsonl").read_text().splitlines()
    lines[6] = lines[6][:-4]
    (folder / "reviews.jsonl").write_text("\n".join(lines))
    line = study_line(tiny_study, "--quiet")
    assert run(line) == 2
    message = capsys.readouterr().err
    assert "reviews.jsonl:7" in message
    assert not (folder / "runs").exists()


def test_a_full_disk_is_a_message(
    tiny_study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyrite.synth.rows as rows

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rows, "write_rows", full)
    folder = tiny_study.parent
    line = study_line(tiny_study, "--quiet")
    assert run(line) == 2
    assert "disk is full" in capsys.readouterr().err
    assert not (folder / "runs").exists()
    assert not (folder / "store" / "done").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_stops_at_once_and_goes_on(tiny_study: Path, workers: str) -> None:
    folder = tiny_study.parent
    line = [sys.executable, "-m", "pyrite.cli", *study_line(tiny_study, "--quiet", "--workers", workers)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        line,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list((folder / "store").glob("done/*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=30)
    assert process.returncode == 130, message
    assert "run the same command again" in message
    assert "Traceback" not in message
    assert not (folder / "runs").exists()
    if workers == "1":
        assert subprocess.run(line, env=environment, check=False, capture_output=True).returncode == 0
        assert (folder / "runs" / "tiny" / "run.json").is_file()


def test_an_unwritable_run_folder_is_met_before_the_work(tiny_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny_study.parent / "runs").write_text("a file")
    assert run(study_line(tiny_study, "--quiet")) == 2
    assert "run folder cannot be written" in capsys.readouterr().err
    assert not (tiny_study.parent / "store").exists()


def test_a_value_that_a_flag_does_not_take_is_told_by_the_flag_and_the_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["probe", "m", "--task", "nli=x", "--max-time", "[b]1h[/b]", "--items", "-3"]) == 2
    out, err = capsys.readouterr()
    shown = " ".join(err.replace("│", " ").split())
    assert "--max-time [b]1h[/b]: input should be a valid number" in shown
    assert "--items -3: input should be greater than or equal to 1" in shown
    assert (out, "pydantic" in shown) == ("", False)
    assert run(["probe", "m", "--tsk", "nli=x"]) == 2
    assert "Did you mean --task?" in capsys.readouterr().err


def test_refresh_of_an_unknown_step(tiny_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(study_line(tiny_study, "--quiet", "--refresh", "train.clasifier")) == 2
    assert "train.classifier" in capsys.readouterr().err


def test_a_configuration_file_gives_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"store: {tmp_path}\nplan: true\nseeds: '1'\njson: true\n")
    assert run(["study", "demo", "--config", str(config)]) == 0
    assert '"cells": 3' in capsys.readouterr().out
    assert run(["study", "demo", f"--config={config}", "--seeds", "2"]) == 0
    assert '"cells": 6' in capsys.readouterr().out
    config.write_text("sedes: 3\n")
    assert run(["study", "demo", "--plan", "--config", str(config)]) == 2
    assert "sedes" in capsys.readouterr().err
    assert run(["study", "demo", "--plan", "--config", str(tmp_path / "none.yaml")]) == 2


def test_our_own_mistakes_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyrite.models.packaged as packaged

    monkeypatch.setattr(packaged, "is_fetched", lambda name: 1 / 0)
    assert run(["models", "ls"]) == 4
    message = capsys.readouterr().err
    assert "ZeroDivisionError" in message
    assert "mistake in Pyrite" in message


def test_an_empty_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An unset shell variable would mean the current folder."""
    assert run(["audit", "data.jsonl", "--reference", ""]) == 2
    assert "An argument is empty" in capsys.readouterr().err


def test_a_file_of_flags_that_is_no_yaml_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text("only: format\nreference: [a, b\nquiet: true\n")
    assert run(["audit", "data.jsonl", "--config", str(file)]) == 2
    assert re.search(rf"{re.escape(str(file))}:[234]: ", capsys.readouterr().err)
    file.write_text("- only\n")
    assert run(["audit", "data.jsonl", "--config", str(file)]) == 2
    assert "holds no flags" in capsys.readouterr().err


def test_a_wrong_option_of_an_endpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = tmp_path / "x.jsonl"
    questions.write_text('{"question": "2 + 2?", "answer": "#### 4"}\n')
    line = ["probe", "m", "--backend", "openai", "--base-url", "http://127.0.0.1:9/v1", "--task", f"gsm8k={questions}"]
    assert run([*line, "--store", str(tmp_path), "--rename", "seed"]) == 2
    assert "--rename" in capsys.readouterr().err
