"""`--max-time` in the middle of a probe: what was read stays, and the result is that of one run."""

import itertools
import json
from pathlib import Path

import pytest
from tests.probe import test_probe_harness as harness

from pyrite.cli import run
from pyrite.steps.parts import PART_TOKENS

from conftest import Clock, set_clock  # isort: skip


@pytest.fixture
def files(tmp_path: Path) -> Path:
    words = ("the film was warm", "the song was cold and long", "the walk was kind", "the meal was poor and dear")
    pairs = [
        {"premise": f"{words[at % 4]} {at}", "hypothesis": words[(at * 3 + 1) % 4], "label": "entailment"}
        for at in range(12)
    ]
    for name, rows in (("pairs", [*pairs, *pairs[:2]]), ("texts", [{"text": f"{one} " * 4} for one in words])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "data" / "reviews").mkdir(parents=True)
    (tmp_path / "tasks" / "choice.yaml").write_text(harness.CHOICE)
    (tmp_path / "tasks" / "write.yaml").write_text(harness.WRITE)
    for split in ("train", "test"):
        lines = [json.dumps({"text": a, "sentiment": b, "letter": "w"}) + "\n" for a, b in harness.TEXTS]
        (tmp_path / "data" / "reviews" / f"{split}.jsonl").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("task", ["nli=pairs.jsonl", "perplexity=texts.jsonl", "harness:small_all"])
def test_a_probe_that_was_cut_off_is_the_probe_that_was_not(
    files: Path, tiny_causal: Path, task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    more: list[str] = []
    if task.startswith("harness"):
        datasets = pytest.importorskip("datasets")
        pytest.importorskip("lm_eval")
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", files / "tables")
        monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
        more = ["--harness-tasks", "tasks", "--harness-data", "data"]
    monkeypatch.setitem(PART_TOKENS, "cpu", 20 if task.startswith("harness") else 60)

    def command(store: str) -> list[str]:
        return ["probe", str(tiny_causal), "--task", task, "--store", store, "--precision", "fp32", "--quiet", "--json", *more]  # fmt: skip

    assert run(command("whole")) == 0
    whole = json.loads(capsys.readouterr().out)
    with monkeypatch.context() as patch:
        set_clock(patch, Clock(itertools.repeat(True)))
        cuts = 0
        while (code := run([*command("cut"), "--max-time", "1"])) == 130:
            cuts += 1
            assert "finished and stay" in capsys.readouterr().err
            assert cuts < 60
    assert code == 0
    assert cuts >= 2
    shown = json.loads(capsys.readouterr().out)
    assert (shown["overall"], shown["slices"]) == (whole["overall"], whole["slices"])
    names = ("predictions.parquet", "rows.parquet", "measured.jsonl")
    for name in names:
        ours, theirs = (sorted(Path(store).glob(f"done/*/*/{name}")) for store in ("cut", "whole"))
        assert [one.read_bytes() for one in ours] == [one.read_bytes() for one in theirs]
    assert any(Path("whole").glob(f"done/*/*/{name}") for name in names)
