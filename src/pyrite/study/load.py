"""Find, read and check a study file."""

from collections.abc import Mapping
from pathlib import Path

from pyrite.config_base import from_yaml, yaml_text
from pyrite.errors import UserError
from pyrite.study.check import mistakes
from pyrite.study.spec import StudySpec


def bundled() -> Mapping[str, Path]:
    """The study files that come with Pyrite, by name."""
    module_file = Path(__file__).resolve()
    for folder in (module_file.parents[1] / "studies", module_file.parents[3] / "studies"):
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    return {}


def find_spec(name: str | Path) -> Path:
    """A study file by its path, or a bundled one by its name."""
    path = Path(name)
    if not path.is_file() and str(name) in bundled():
        path = bundled()[str(name)]
    if not path.is_file():
        fix = f"give a YAML file, or one of: {', '.join(bundled())}"
        raise UserError("That study file is not there.", str(name), fix)
    return path


def load_spec(name: str | Path) -> tuple[StudySpec, Path]:
    """Read and check a study file; every mistake is named with its line and what to write instead."""
    path = find_spec(name)
    return parse_spec(yaml_text(path, "study file"), str(path)), path


def parse_spec(text: str, where: str) -> StudySpec:
    """A study from YAML text; `where` names it in messages."""
    return from_yaml(StudySpec, text, where, what="study file", see="docs/study.md lists every key", check=mistakes)
