"""Verbs whose data, store and run folder lie on an S3 server: the same results as on this machine. The server is real."""

import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.conftest import study_line

from pyrite.cli import run
from pyrite.models import load

TIMES = {"timing", "seconds", "date", "finished", "started"}


def put(folder: Path, url: str) -> None:
    """Upload a folder."""
    filesystem, path = fsspec.core.url_to_fs(url)
    for file in folder.rglob("*"):
        if file.is_file():
            filesystem.put_file(str(file), f"{path}/{file.relative_to(folder).as_posix()}")


def get(url: str, folder: Path) -> Path:
    """Download a folder."""
    filesystem, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    for name in filesystem.find(path):
        target = folder / name.removeprefix(f"{path}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        filesystem.get_file(name, str(target))
    return folder


def rows(path: Path, count: int, seed: int) -> Path:
    words = [
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "ran",
        "on",
        "under",
        "mat",
        "tree",
        "house",
        "quickly",
        "slowly",
        "red",
        "blue",
    ]
    lines = []
    for at in range(count):
        text = " ".join(words[(at * 7 + seed * 3 + place * (at % 5 + 1)) % len(words)] for place in range(9))
        turns = [{"role": "user", "content": f"say {at} {seed}"}, {"role": "assistant", "content": text}]
        lines.append(json.dumps({"messages": turns, "id": f"{seed}-{at}"}))
    path.write_text("\n".join(lines) + "\n")
    return path


def plain(value: Any) -> Any:
    """A record without times of day and durations."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in TIMES}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def audit_line(data: str, reference: str, store: str, out: str, flagged: str) -> list[str]:
    line = ["audit", data, "--reference", reference, "--store", store, "--out", out, "--flagged", flagged, "--json"]
    return [*line, "--only", "format,diversity", "--permutations", "499", "--workers", "1", "--quiet"]


def test_an_audit_of_urls_is_that_of_files(s3_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Findings, run folder and flagged rows; on S3 the run folder can be reported on, and gated, where it lies."""
    data = tmp_path / "data"
    data.mkdir()
    rows(data / "made.jsonl", 240, 1)
    rows(data / "human.jsonl", 240, 2)
    put(data, f"{s3_url}/data")
    local = audit_line(*(str(path) for path in (data / "made.jsonl", data / "human.jsonl", tmp_path / "store")),
                       str(tmp_path / "run"), str(tmp_path / "flagged.jsonl"))  # fmt: skip
    assert run(local) == 0
    here = json.loads(capfd.readouterr().out)
    places = (f"{s3_url}/{name}" for name in ("data/made.jsonl", "data/human.jsonl", "store", "run", "flagged.jsonl"))
    assert run(audit_line(*places)) == 0
    there = json.loads(capfd.readouterr().out)
    assert plain(there["findings"]) == plain(here["findings"])
    assert plain(there["rows"]) == plain(here["rows"])
    fetched = get(f"{s3_url}/run", tmp_path / "fetched")
    written = {
        file.relative_to(tmp_path / "run").as_posix() for file in (tmp_path / "run").rglob("*") if file.is_file()
    }
    assert {file.relative_to(fetched).as_posix() for file in fetched.rglob("*") if file.is_file()} == written
    for name in written - {"run.json"}:
        assert (fetched / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name
    flagged = get(s3_url, tmp_path / "all") / "flagged.jsonl"
    assert flagged.read_bytes() == (tmp_path / "flagged.jsonl").read_bytes()
    page = f"{s3_url}/page.html"
    assert run(["report", f"{s3_url}/run", "--out", page]) == 0
    assert b"<html" in fsspec.filesystem("s3").cat(page)[:500]
    assert run(["gate", f"{s3_url}/run", "--require", "format.shape_distance <= 1"]) in (0, 1, 3)
    capfd.readouterr()
    assert (
        run(audit_line(*(f"{s3_url}/{name}" for name in ("data/none.jsonl", "data/human.jsonl", "s", "r", "f.jsonl"))))
        == 2
    )
    assert f"{s3_url}/data/none.jsonl" in capfd.readouterr().err


def test_a_model_at_a_url_is_that_of_the_folder(s3_url: str, tiny_encoder: Path) -> None:
    """The same identity, so that what was computed with one is computed with the other."""
    put(tiny_encoder, f"{s3_url}/model")
    there = load.resolve(f"{s3_url}/model")
    assert there.identity == load.resolve(str(tiny_encoder)).identity
    assert (there.folder / "config.json").is_file()


def test_a_study_of_urls_is_that_of_files(
    tiny_study: Path, s3_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine has the whole study from the store, and runs nothing; weights that nobody reads stay there."""
    assert run(study_line(tiny_study, "--json")) == 0
    here = json.loads(capfd.readouterr().out)
    put(tiny_study.parent, f"{s3_url}/data")
    line = ["study", f"{s3_url}/data/{tiny_study.name}", "--data", f"{s3_url}/data", "--json", "--quiet"]
    line += ["--store", f"{s3_url}/store", "--out", f"{s3_url}/runs"]
    assert run(line) == 0
    there = json.loads(capfd.readouterr().out)
    for part in ("summary", "primary"):
        assert there[part] == here[part]
    fetched = get(f"{s3_url}/runs/tiny", tmp_path / "fetched")
    assert (fetched / "run.json").is_file()
    for name in ("results.csv", "summary.csv"):
        if (tmp_path / "runs" / "tiny" / name).exists():
            assert (fetched / name).read_bytes() == (tmp_path / "runs" / "tiny" / name).read_bytes()
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("PYRITE_STORE_CACHE", str(tmp_path / "another"))
    assert run(line) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["run"]["timing"]["steps_run"] == 0
    assert again["summary"] == here["summary"]
    assert not list((tmp_path / "another" / "stores").rglob("*.safetensors"))
