"""Killed at every publishing boundary and at random times, a study ends in the bytes of an uninterrupted one."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DRIVER = Path(__file__).parent / "killed.py"
FILES = ["results.parquet", "results.csv", "summary.parquet", "summary.csv", "predictions.parquet", "overlap.csv"]


def drive(mode: str, seed: int, spec: Path, folder: Path) -> int:
    """Run the study under kills in its own store; returns how often it was killed."""
    arguments = ["study", str(spec), "--data", str(spec.parent), "--store", str(folder / "store"), "--out", str(folder)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(DRIVER), mode, str(seed), *arguments, "--quiet"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"kills=(\d+)", done.stdout)
    assert found
    return int(found[1])


@pytest.fixture(scope="module")
def short_study(make_tiny_study: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed of the tiny study: it trains, generates, judges and probes."""
    spec = make_tiny_study(tmp_path_factory.mktemp("short"))
    spec.write_text(spec.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    return spec


@pytest.fixture(scope="module")
def whole(short_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert drive("never", 0, short_study, folder) == 0
    return folder


def same_bytes(whole: Path, cut: Path) -> None:
    for name in FILES:
        assert (whole / "tiny" / "results" / name).read_bytes() == (cut / "tiny" / "results" / name).read_bytes(), name
    answers = sorted(path.relative_to(whole) for path in whole.glob("store/done/*/*/predictions.parquet"))
    assert answers
    assert answers == sorted(path.relative_to(cut) for path in cut.glob("store/done/*/*/predictions.parquet"))
    for path in answers:
        assert (whole / path).read_bytes() == (cut / path).read_bytes(), path


def test_killed_at_every_boundary_is_never_killed(short_study: Path, whole: Path, tmp_path: Path) -> None:
    assert drive("boundaries", 0, short_study, tmp_path) == 20  # ten kinds of step, before and after each publish
    same_bytes(whole, tmp_path)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_times_is_never_killed(short_study: Path, whole: Path, tmp_path: Path, seed: int) -> None:
    assert drive("random", seed, short_study, tmp_path) >= 2
    same_bytes(whole, tmp_path)
