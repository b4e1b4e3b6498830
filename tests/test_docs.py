"""Documents run: every command and Python block is executed, generated pages are current, studies load, links lead somewhere.

A page that begins with `<!-- runs in order -->` is one story: its blocks run one after the other in one folder. Elsewhere
each command and each block runs alone. A command's line may end with a comment: `# minutes`, `# hours` and `# needs files`
are only parsed, `# exit 1` names the exit code that is expected. A YAML block that begins with `# NAME.yaml` is that file.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from pyrite.cli import app, run

ROOT = Path(__file__).resolve().parents[1]
IN_ORDER = "<!-- runs in order -->"
NOTEBOOK = ROOT / "docs" / "notebook.md"
"""Written from the notebook, which tests/test_notebook.py runs."""
PAGES = [*sorted(ROOT.glob("*.md")), *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page != NOTEBOOK)]
FOLDERS = ("benchmarks", "docs", "examples", "loops", "src", "studies", "tests")
MARKDOWN = [*sorted(ROOT.glob("*.md")), *sorted(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
STORIES = [page for page in PAGES if page.read_text().startswith(IN_ORDER)]
NEEDS = ("# minutes", "# hours", "# needs files")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page, in order: language and text."""
    return re.findall(r"^```([a-z]*)[^\n]*\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def blocks(language: str, pages: list[Path]) -> list[tuple[str, str]]:
    return [(name_of(page), text) for page in pages for kind, text in blocks_of(page) if kind == language]


def commands(text: str) -> list[str]:
    """The command lines of a console block, those that go on in the next line joined."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("pyrite ")]


def expected(line: str) -> int:
    """The exit code that a command line names, else 0."""
    found = re.search(r"# exit (\d+)\s*$", line)
    return int(found[1]) if found else 0


def run_line(line: str, page: str) -> None:
    """Run a command; those marked as long or as needing files are only parsed."""
    arguments = shlex.split(line, comments=True)[1:]
    if line.rstrip().endswith(NEEDS):
        app.parse_args(arguments, exit_on_error=False, print_error=False)
    else:
        assert run(arguments) == expected(line), f"{page}: {line}"


def run_python(code: str, page: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{page}: {done.stderr}"


ALONE = [page for page in PAGES if page not in STORIES]


@pytest.mark.parametrize(
    ("page", "line"), [(page, line) for page, text in blocks("bash", ALONE) for line in commands(text)]
)
def test_commands_in_documents(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRITE_STORE", str(tmp_path))
    run_line(line, page)


@pytest.mark.parametrize(("page", "code"), blocks("python", ALONE))
def test_python_in_documents(page: str, code: str, tmp_path: Path) -> None:
    run_python(code, page, tmp_path)


@pytest.mark.parametrize(("page", "text"), blocks("yaml", ALONE))
def test_yaml_in_documents(page: str, text: str) -> None:
    """A study or loop file is read as such; anything else is at least YAML."""
    import yaml

    from pyrite.config_base import from_yaml
    from pyrite.loop.spec import LoopSpec
    from pyrite.study.load import parse_spec

    keys = yaml.safe_load(text)
    assert isinstance(keys, dict), page
    if "loop" in keys:
        assert from_yaml(LoopSpec, text, page, what="loop file", see="docs/loop.md lists every key").loop
    elif "study" in keys:
        assert parse_spec(text, page).study


@pytest.mark.packaged
@pytest.mark.parametrize("page", STORIES, ids=name_of)
def test_stories_run_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a newcomer would: in an empty folder, block after block."""
    monkeypatch.setenv("PYRITE_STORE", str(tmp_path / "store"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for language, text in blocks_of(page):
        named = re.match(r"# ([\w.-]+\.yaml)\n", text)
        if language == "yaml":
            assert named, f"{name_of(page)}: a YAML block of a story begins with '# NAME.yaml'"
            (folder / named[1]).write_text(text)
        if language == "python":
            run_python(text, name_of(page), folder)
        for line in commands(text) if language == "bash" else ():
            run_line(line, name_of(page))


def test_there_is_a_story() -> None:
    assert ROOT / "docs" / "tutorial.md" in STORIES


def test_the_tutorial_runs_its_verbs() -> None:
    """Not one of the verbs that it teaches is only parsed."""
    ran = {
        shlex.split(line)[1]
        for language, text in blocks_of(ROOT / "docs" / "tutorial.md")
        for line in (commands(text) if language == "bash" else ())
        if not line.rstrip().endswith(NEEDS)
    }
    assert ran >= {"audit", "gate", "study", "report"}


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_method_index_stops_where_a_row_is_not_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import method_index

    good = method_index.TASKS[0]
    method_index.check(good)
    for bad in ({"file": "src/pyrite/nothing.py"}, {"test": "tests/test_nothing.py"}, {"word": "no such word here"}):
        with pytest.raises(SystemExit):
            method_index.check(good._replace(**bad))


def links_of(page: Path) -> list[str]:
    """The relative links and images of a Markdown file, those in code left out."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    return [link for link in re.findall(r"\]\(<?([^)\s>]+)", text) if not re.match(r"[a-z][a-z0-9+.-]*:", link)]


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Anchors within the docs are followed by tests/test_site.py, in the built pages."""
    for link in links_of(page):
        path = unquote(link.partition("#")[0])
        assert not path or (page.parent / path).exists(), f"{name_of(page)}: {link}"


def test_links_are_seen() -> None:
    assert "cli.md" in links_of(ROOT / "docs" / "audit.md")
    assert sum(len(links_of(page)) for page in MARKDOWN) > 50


def test_makefile_targets_in_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
