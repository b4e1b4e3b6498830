"""The JUnit file: every outcome as CI systems read it, whatever text a run holds."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.gate.gate_kit import contrast, put, study_in, study_told

from pyrite.errors import UserError
from pyrite.gate.config import GateConfig
from pyrite.gate.run import gate

CONDITIONS = ("better >= 0", "worse >= 0", "unsure >= 0")


def study(folder: Path) -> Path:
    return study_in(
        folder,
        contrast("better", 0.2, 0.1, 0.3, probe="better"),
        contrast("worse", -0.2, -0.3, -0.1, probe="worse"),
        contrast("cannot tell yet", 0.0, -0.1, 0.1, probe="unsure"),
    )


@pytest.mark.parametrize(
    ("undecided", "tag", "counts"),
    [
        (None, "error", {"tests": "3", "failures": "1", "errors": "1", "skipped": "0"}),
        ("pass", "skipped", {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}),
        ("fail", "failure", {"tests": "3", "failures": "2", "errors": "0", "skipped": "0"}),
    ],
)
def test_outcomes_as_ci_systems_read_them(undecided: Any, tag: str, counts: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "out" / "gates.xml"
    made = gate(GateConfig(run=study(tmp_path), require=CONDITIONS, undecided=undecided, junit=file))
    (suite,) = ElementTree.parse(file).getroot()
    assert {name: suite.get(name) for name in counts} == counts
    assert suite.get("name") == "pyrite gate small"
    passed, failed, unsure = suite
    assert [case.get("name") for case in suite] == list(CONDITIONS)
    assert {case.get("classname") for case in suite} == {"pyrite.study"}
    assert [child.tag for child in passed] == ["system-out"]
    (failure,) = failed
    assert (failure.tag, failure.get("message"), failure.get("type")) == ("failure", made.outcomes[1].why, "failed")
    (told,) = unsure
    assert (told.tag, told.get("type")) == (tag, None if tag == "skipped" else "undecided")
    assert "-0.1 to 0.1" in str(told.get("message"))


def test_text_that_xml_forbids_is_left_out(tmp_path: Path) -> None:
    arm = "a\x00\x1b[31m<script>&\ufffe]]>\"'\ud83d\ude00 \u202e"
    folder = tmp_path
    import json

    one = contrast("worse", -0.2, -0.3, -0.1, arm=arm.encode("utf-16", "surrogatepass").decode("utf-16"))
    (folder / "run.json").write_text(json.dumps(study_told(one)))
    file = tmp_path / "gates.xml"
    gate(GateConfig(run=folder, require=("hans >= 0",), junit=file))
    (suite,) = ElementTree.parse(file).getroot()
    assert "hans[arm=a[31m<script>&]]>\"'\U0001f600 \u202e][against=human]" in str(suite[0][0].get("message"))
    before = file.read_bytes()
    gate(GateConfig(run=folder, require=("hans >= 0",), junit=file))
    assert file.read_bytes() == before


def test_the_part_of_a_loop_names_the_class(tmp_path: Path) -> None:
    study(tmp_path / "study")
    folder = put(tmp_path, {"verb": "loop", "loop": "whole", "parts": {"study": "study"}})
    file = tmp_path / "gates.xml"
    gate(GateConfig(run=folder, require=("study: better >= 0",), junit=file))
    (suite,) = ElementTree.parse(file).getroot()
    assert suite[0].get("classname") == "pyrite.loop.study"


def test_the_run_itself_is_not_written_over(tmp_path: Path) -> None:
    folder = study(tmp_path)
    before = (folder / "run.json").read_bytes()
    with pytest.raises(UserError, match="name of its own"):
        gate(GateConfig(run=folder, require=CONDITIONS, junit=folder / "run.json"))
    assert (folder / "run.json").read_bytes() == before


def test_a_file_that_is_none_of_ours_stays(tmp_path: Path) -> None:
    folder, file = study(tmp_path), tmp_path / "results.xml"
    for text in ("notes", '<?xml version="1.0"?><testsuites name="pytest tests" />', "", "<!-- pyrite gate --><a/>"):
        file.write_text(text)
        with pytest.raises(UserError, match="no JUnit file of ours"):
            gate(GateConfig(run=folder, require=CONDITIONS, junit=file))
        assert file.read_text() == text
