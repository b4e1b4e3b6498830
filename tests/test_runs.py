"""A run folder is data of unknown origin: whatever is wrong with it is named, and nothing outside of it is read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.report.run_kit import config, page, probe_run, probe_told, study_made, told_run

from pyrite.errors import UserError
from pyrite.gate.config import GateConfig
from pyrite.gate.run import gate
from pyrite.io import write_parquet
from pyrite.probe.run_folder import read_items
from pyrite.report.parts.audit import flagged_rows
from pyrite.report.tables import stored
from pyrite.runs import FILES, count_results, read_results, read_run


def put(folder: Path, told: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(told))
    return folder


def loop(folder: Path, parts: Any) -> Path:
    told = {"schema_version": 1, "verb": "loop", "loop": "l", "gates": [], "notes": [], "settings": {}, "parts": parts}
    return put(folder, told)


@pytest.mark.parametrize(("told", "says"), [
    ({"schema_version": 1, "verb": "audit"}, "data: Field required"),
    ({"schema_version": "x", "verb": "audit"}, "schema_version 'x'"),
    ({"schema_version": 2, "verb": "audit"}, "reads up to 1"),
    ({"verb": ["audit"]}, "not of a run"),
    ({"verb": "study", "study": "s", "spec": "x"}, "spec: Input should be"),
    ([], "not of a run"),
    (probe_told(scorecards={}), "scorecards: Input should be a valid list"),
    (probe_told(scorecards=[{}]), "scorecards.0.about: Field required"),
    (probe_told(models=[1]), "models.0"),
    (probe_told(gates=[{"gate": "x"}]), "gates.0.outcome"),
])  # fmt: skip
def test_what_a_file_lacks_is_named(told: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        read_run(put(tmp_path / "run", told))


@pytest.mark.parametrize(
    "key", ["about", "models", "scorecards", "compared", "metrics", "clusters", "gates", "settings"]
)
def test_no_key_of_a_probe_can_be_absent(key: str, tmp_path: Path) -> None:
    told = {name: value for name, value in probe_told().items() if name != key}
    with pytest.raises(UserError, match=f"{key}: Field required"):
        read_run(put(tmp_path / "run", told))


def test_runs_without_newer_keys_are_read(tmp_path: Path) -> None:
    made = study_made(tmp_path / "study")
    newer = ("verb", "looks", "rows_cut", "quality", "compute", "made_with")
    told = {
        name: value for name, value in json.loads((made.folder / "run.json").read_text()).items() if name not in newer
    }
    run = read_run(put(made.folder, told))
    assert run.verb == "study"
    assert page(run).verdicts
    probe = {name: value for name, value in probe_told().items() if name not in ("command", "made_with")}
    assert page(told_run(tmp_path / "probe", probe)).verdicts


@pytest.mark.parametrize("where", [".", "..", "../other", "a/../..", "/etc", "link", ""])
def test_a_part_lies_in_its_loop(where: str, tmp_path: Path) -> None:
    other = probe_run(tmp_path / "other")
    folder = loop(tmp_path / "loop", {"probe": where})
    (folder / "link").symlink_to(other.folder)
    for ask in (lambda: read_run(folder).parts, lambda: page(read_run(folder)),
                lambda: gate(GateConfig(run=folder, require=("probe: hans >= 0",)))):  # fmt: skip
        with pytest.raises(UserError, match="lies in the loop's folder"):
            ask()


def test_parts_are_a_mapping_and_no_loops(tmp_path: Path) -> None:
    for parts in (["probe"], {"probe": 1}, "probe"):
        with pytest.raises(UserError, match="parts"):
            read_run(loop(tmp_path / "wrong", parts))
    folder = loop(tmp_path / "outer", {"inner": "inner"})
    loop(folder / "inner", {"inner": "../inner"})
    with pytest.raises(UserError, match="is no loop"):
        _ = read_run(folder).parts
    probe_run(folder / "probe")
    assert list(read_run(loop(folder, {"probe": "probe"})).parts) == ["probe"]
    assert set(FILES) == {"run.json", "repair.json"}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"<html>"])
def test_a_broken_table_is_named(content: bytes, tmp_path: Path) -> None:
    run = probe_run(tmp_path / "probe")
    study = read_run(study_made(tmp_path / "study").folder)

    def broken(file: Path) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    items, texts = broken(run.folder / "results" / "items.parquet"), broken(run.folder / "results" / "texts.parquet")
    broken(run.folder / "results" / "flagged.parquet")
    asked: list[tuple[str, Callable[[], object]]] = [
        ("items", lambda: read_items(items, "hans", "model-a")),
        ("items", lambda: gate(GateConfig(run=run.folder, require=("hans >= 0",)))),
        ("texts", lambda: page(run)),
        ("flagged", lambda: flagged_rows(run, config(), "a")),
        ("panels", lambda: broken(study.folder / "results" / "panels.parquet") and page(study)),
        ("summary", lambda: broken(study.folder / "results" / "summary.parquet") and stored(study, "summary.parquet")),
        ("texts", lambda: read_results(texts, ())),
        ("texts", lambda: count_results(texts)),
    ]  # fmt: skip
    for name, ask in asked:
        with pytest.raises(UserError, match=rf"cannot be read[\s\S]*{name}\.parquet"):
            ask()


def test_rows_of_a_table(tmp_path: Path) -> None:
    file = tmp_path / "a=1" / "t.parquet"  # no partition, whatever the folder is called
    write_parquet([{"id": str(at), "n": at} for at in range(5)], file)
    assert read_results(file, ("id",), first=2) == [{"id": "0", "n": 0}, {"id": "1", "n": 1}]
    assert read_results(file, (), first=0) == []
    assert read_results(file, (), where=[("id", "in", ["3", "9"])]) == [{"id": "3", "n": 3}]
    assert count_results(file) == 5
    with pytest.raises(UserError, match="lacks columns"):
        read_results(file, ("id", "text"))
    shutil.rmtree(file.parent)
    with pytest.raises(UserError, match="there is no"):
        read_results(file, ())
    write_parquet([], file)
    assert read_results(file, (), first=3) == []
