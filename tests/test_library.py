"""The library call and the command are the same call."""

from pathlib import Path

import pytest

import pyrite
from pyrite.steps import Store


def test_verbs_are_called_and_are_folders(tmp_path: Path) -> None:
    config = pyrite.StudyConfig(spec="demo", store=tmp_path, out=tmp_path / "runs", plan=True)
    assert pyrite.study(config).as_json()["cells"] == 15
    with pytest.raises(pyrite.UserError, match="not there"):
        pyrite.study(pyrite.StudyConfig(spec="no-such-study", store=tmp_path))
    with pytest.raises(pyrite.UserError, match="not there"):
        pyrite.synth(pyrite.SynthConfig(recipe=tmp_path / "none.yaml", out=tmp_path / "o.jsonl"))
    with pytest.raises(pyrite.UserError, match="Give a model"):
        pyrite.probe(pyrite.ProbeConfig(task=("heuristics",)))
    with pytest.raises(pyrite.UserError, match="not there"):
        pyrite.audit(pyrite.AuditConfig(data=("nowhere.jsonl",), only=("format",), store=tmp_path))
    with pytest.raises(AttributeError):
        _ = pyrite.no_such_name


def test_what_a_configuration_asks_for_instead_is_done_and_nothing_else(tmp_path: Path) -> None:
    """`plan`, `power`, `pilot` and `export` are honoured by the verb itself: nothing is trained, no folder is written."""
    out = tmp_path / "runs"
    study = {"spec": "demo", "store": tmp_path / "store", "out": out}
    with pytest.raises(pyrite.UserError, match="Power needs finished seeds"):
        pyrite.study(pyrite.StudyConfig(**study, power=True))
    with pytest.raises(pyrite.UserError, match="has no pilot"):
        pyrite.study(pyrite.StudyConfig(**study, pilot=True))
    loop = pyrite.run(pyrite.LoopConfig(loop="demo", store=tmp_path / "store", out=out, plan=True))
    assert loop.as_json()["study"]["cells"] == 15
    assert loop.exit_code == 0
    exported = pyrite.probe(
        pyrite.ProbeConfig(task=("heuristics=30",), export=tmp_path / "tasks", store=tmp_path / "store", quiet=True)
    )
    (file,) = exported.as_json()["exported"]
    assert Path(file).is_file()
    assert not out.exists()
    assert all(entry.step == "probe.items" for entry in Store(tmp_path / "store").entries())


def test_public_names_are_listed_and_are_there() -> None:
    names = dir(pyrite)
    assert {"study", "run", "StudyConfig", "StudyPlan", "StudyPower", "Pilot", "LoopPlan", "UserError"} <= set(names)
    assert all(getattr(pyrite, name) is not None for name in names if not name.startswith("_"))
