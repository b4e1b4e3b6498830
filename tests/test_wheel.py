"""The wheel of `make dist` works without the repository: bundled studies and loops, starter files, help, in a fresh environment."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(line, check=True)
    (built,) = out.glob("pyrite-*.whl")
    return built


def test_everything_bundled_is_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("studies", "loops"):
        for file in (ROOT / folder).glob("*.yaml"):
            assert f"pyrite/{folder}/{file.name}" in names
    for file in (ROOT / "src").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert file.relative_to(ROOT / "src").as_posix() in names


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; its libraries are those that are here."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "libraries.pth").write_text(
        sysconfig.get_paths()["purelib"] + "\n"
    )  # a path alone: no hook of this repository
    return folder


def call(installed: Path, here: Path, *words: str) -> str:
    line = [str(installed / "bin" / "pyrite"), *words]
    done = subprocess.run(line, cwd=here, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_away_from_the_repository(installed: Path, tmp_path: Path) -> None:
    python = installed / "bin" / "python"
    where = subprocess.run(
        [str(python), "-c", "import pyrite; print(pyrite.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(installed) in where
    for study, trainings in (("demo", 16), ("zhang_pavlick_2025", 60)):
        told = json.loads(call(installed, tmp_path, "study", study, "--plan", "--json", "--store", "store"))
        assert told["trainings"] == trainings
    assert "audits, study, audit, probe, repair" in call(
        installed, tmp_path, "run", "demo", "--plan", "--store", "store"
    )
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "row number {at}"}}\n' for at in range(20)))
    assert "audit.yaml" in call(installed, tmp_path, "init", "audit", "a.jsonl")
    assert "packaged:minilm-l6" in call(installed, tmp_path, "models", "ls")
    for verb in ("audit", "study", "probe", "repair", "synth", "run", "report", "gate", "init", "demo"):
        assert "Usage" in call(installed, tmp_path, verb, "--help")
