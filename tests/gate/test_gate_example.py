"""The example for GitHub Actions: it loads, and every command in it is one that the command line knows."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyrite.cli import app

FILE = Path(__file__).resolve().parents[2] / "examples" / "github-actions.yml"
WORKFLOW: dict[Any, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = WORKFLOW["jobs"]["audit"]["steps"]
LINES = [line for step in STEPS for line in step.get("run", "").splitlines() if line.startswith("pyrite ")]


@pytest.mark.parametrize("line", LINES)
def test_every_command_parses(line: str) -> None:
    app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


def test_the_workflow_audits_gates_and_uploads() -> None:
    assert WORKFLOW[True]["pull_request"]["paths"] == ["data/**"]  # YAML 1.1 reads `on` as true
    assert [shlex.split(line)[1] for line in LINES] == ["models", "audit", "gate", "report"]
    gate = shlex.split(LINES[2])
    out = shlex.split(LINES[1])
    assert gate[2] == out[out.index("--out") + 1]
    upload = next(step for step in STEPS if "upload-artifact" in step.get("uses", ""))
    report = shlex.split(LINES[3])
    wanted = {report[report.index("--out") + 1], gate[gate.index("--junit") + 1]}
    assert set(upload["with"]["path"].split()) == wanted


def test_its_conditions_can_be_asked_of_an_audit() -> None:
    from pyrite.audit import gate as gating
    from pyrite.audit.flaws.registry import full_names

    words = shlex.split(LINES[2])
    conditions = [words[at + 1] for at, word in enumerate(words) if word == "--require"]
    known = full_names(("format", "duplicates", "diversity"))
    assert [gating.parse(text, known).bound for text in conditions] == ["fail", 0.01]
