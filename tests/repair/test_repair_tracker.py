"""The learning curve in a tracker's local store is the one in repair.json."""

from pathlib import Path

import pytest
from training_kit import repair_step, rows_folder, run, settings_of, told

from pyrite.steps import Step, Store


def test_the_curve_is_read_back_from_a_local_trackio_store(
    tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio", reason="the tracker trackio is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    plain = repair_step(tiny_causal, rows_folder(tmp_path / "rows"), settings_of(steps=3))
    step = Step(plain.kind, {**plain.config, "report_to": ["trackio"]}, plain.inputs, label="repair")
    folder = run(step, Store(tmp_path / "store"))
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs("pyrite")
    logs = [one for one in SQLiteStorage.get_logs("pyrite", name) if "train/loss" in one]
    for value in ("loss", "forget", "replay", "kl"):
        assert [one[f"train/{value}"] for one in logs] == pytest.approx([one[value] for one in told(folder)["curve"]])
