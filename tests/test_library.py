"""The library call and the command are the same call."""

from pathlib import Path

import pytest

import pyrite
import pyrite.study.run


def test_verbs_are_called_and_are_folders(tmp_path: Path) -> None:
    told = pyrite.study.run.plan(pyrite.StudyConfig(spec="demo", store=tmp_path))
    assert told["cells"] == 15
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
