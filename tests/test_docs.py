"""Documents run: README commands and Python blocks are executed, generated pages are current, studies load."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pyrite.cli import app, run

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = ("# minutes", "# hours", "# needs files")


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for match in re.finditer(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL):
            found.append((page.name, match[1]))
    return found


COMMANDS = [line for _, block in blocks("bash") for line in block.splitlines() if line.startswith("pyrite ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_in_documents(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is run; those marked as long or as needing files are only parsed."""
    monkeypatch.setenv("PYRITE_STORE", str(tmp_path))
    arguments = shlex.split(line, comments=True)[1:]
    if line.rstrip().endswith(NEEDS):
        app.parse_args(arguments, exit_on_error=False, print_error=False)
    else:
        assert run(arguments) == 0


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_in_documents(page: str, code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{page}: {done.stderr}"


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_studies_in_documents(page: str, text: str) -> None:
    from pyrite.study.spec import parse_spec

    assert parse_spec(text, page).study


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_makefile_targets_in_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
