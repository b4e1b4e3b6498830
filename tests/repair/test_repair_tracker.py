"""The learning curve in a tracker's local store is the one in repair.json."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_kit import read_record

SCRIPT = """
import json, sys
from pathlib import Path
from training_kit import repair_step, rows_folder, run, settings_of
from pyrite.steps import Step, Store
from trackio.sqlite_storage import SQLiteStorage

base, there = Path(sys.argv[1]), Path(sys.argv[2])
plain = repair_step(base, rows_folder(there / "rows"), settings_of(steps=3))
step = Step(plain.kind, {**plain.config, "report_to": ["trackio"]}, plain.inputs, label="repair")
folder = run(step, Store(there / "store"))
(name,) = SQLiteStorage.get_runs("pyrite")
(there / "read.json").write_text(json.dumps([str(folder), SQLiteStorage.get_logs("pyrite", name)]))
"""


def test_the_curve_is_read_back_from_a_local_trackio_store(tmp_path: Path, tiny_causal: Path) -> None:
    """In a process of its own: the tracker takes its folder from the environment when it is imported."""
    pytest.importorskip("trackio", reason="the tracker trackio is not installed")
    search_path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    variables = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": search_path}
    subprocess.run([sys.executable, "-c", SCRIPT, str(tiny_causal), str(tmp_path)], env=variables, check=True)
    folder, logs = json.loads((tmp_path / "read.json").read_text())
    logs = [log for log in logs if "train/loss" in log]
    for value in ("loss", "forget", "replay", "kl"):
        curve = [row[value] for row in read_record(Path(folder))["curve"]]
        assert [log[f"train/{value}"] for log in logs] == pytest.approx(curve)
