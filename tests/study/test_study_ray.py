"""A study on Ray by the command line: interrupted, and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import study_line

from pyrite.cli import run

pytest.importorskip("ray", reason="Ray is not installed (pip install 'pyrite[ray]')")
FILES = ["results.parquet", "results.csv", "summary.parquet", "summary.csv", "predictions.parquet", "overlap.csv"]


@pytest.mark.slow
def test_an_interrupted_study_goes_on(tiny_study: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches the command and all that it started: code 130, whole steps only, no process left; then the same bytes."""
    tiny_study.write_text(tiny_study.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYRITE_STORE": str(tmp_path / "store")}
    line = ["study", str(tiny_study), "--data", str(tmp_path), "--out", str(tmp_path / "on-ray"), "--engine", "ray"]
    command = [sys.executable, "-c", "from pyrite.cli import main; main()", *line]
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 300
    while not list(tmp_path.glob("store/attempts/*/checkpoint-*")) or len(list(tmp_path.glob("store/done/*/*"))) < 6:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGINT)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 130, said
    assert "run the same command again to go on" in said
    assert not (tmp_path / "on-ray" / "tiny" / "run.json").exists()
    finished = {folder.name for folder in tmp_path.glob("store/done/*/*")}
    assert finished == {file.parent.name for file in tmp_path.glob("store/done/*/*/step.json")}
    end = time.monotonic() + 30
    while processes_of(first.pid):
        assert time.monotonic() < end, processes_of(first.pid)
        time.sleep(0.2)

    assert subprocess.run(command, env=environment, check=False, timeout=500).returncode == 0
    (tmp_path / "store").rename(tmp_path / "store-of-ray")
    assert run(study_line(tiny_study)) == 0
    for name in FILES:
        alone, on_ray = (tmp_path / folder / "tiny" / "results" / name for folder in ("runs", "on-ray"))
        assert alone.read_bytes() == on_ray.read_bytes(), name


def processes_of(session: int) -> list[str]:
    """What still runs of a session."""
    return subprocess.run(
        ["ps", "--no-headers", "-o", "args", "-s", str(session)], capture_output=True, text=True, check=False
    ).stdout.splitlines()
