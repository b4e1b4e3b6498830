"""A loop on Ray: every part's steps run there, on one connection; what is found is what this machine finds."""

import json
from pathlib import Path

import pytest
from loop_kit import line, make_loop

from pyrite.cli import run

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'pyrite[ray]')")


@pytest.mark.slow
def test_a_loop_on_a_cluster(
    tmp_path: Path, tiny_causal: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []
    monkeypatch.setattr(ray, "init", counting(ray.init, starts))
    records = []
    for name, options in (("here", []), ("there", ["--engine", "ray"])):
        folder = tmp_path / name
        folder.mkdir()
        path = make_loop(folder, tiny_causal, tiny_encoder)
        run(line(path, *options))
        (found,) = (folder / "runs").glob("*/run.json")
        record = json.loads(found.read_bytes())
        assert record["state"] == "finished", record["notes"]
        assert set(record["parts"]) == {"audit", "probe", "repair"}
        records.append({key: record[key] for key in ("gates", "notes", "parts", "exit_code", "settings")})
    own = json.dumps(records[0]).replace(str(tmp_path / "here"), str(tmp_path / "there"))
    assert json.loads(own) == records[1]
    assert len(starts) == 1
    assert not ray.is_initialized()


def counting(call: object, calls: list[object]) -> object:
    """A function that notes each of its calls."""

    def counted(*words: object, **options: object) -> object:
        calls.append(options)
        return call(*words, **options)  # type: ignore[operator]

    return counted
