"""Write the reference pages from the code: the commands' help, and every key of study files, recipes and tasks.

python docs/generate.py            writes docs/cli.md and docs/study.md
python docs/generate.py --check    fails if they differ from the code, or if a bundled study does not load
"""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pyrite.study.spec import StudySpec, bundled, load_spec
from pyrite.synth.run import Recipe
from pyrite.tasks.custom import CustomTask

HERE = Path(__file__).parent
VERBS = ["audit", "study", "probe", "synth", "demo", "models fetch", "models ls", "store ls", "store rm", "store gc"]


def cli_page() -> str:
    """Every command's help, as the command prints it."""
    parts = [
        "# Commands",
        "",
        "Written from the code by `make docs`. Every verb takes `--json` where it has results.",
        "",
    ]
    parts += [
        "Exit codes: 0 done, 1 a gate failed, 2 user error, 3 gate undecided, 4 a mistake of Pyrite's, 130 interrupted."
    ]
    for verb in VERBS:
        command = [sys.executable, "-m", "pyrite.cli", *verb.split(), "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"COLUMNS": "100", "PATH": ""})
        lines = [line.rstrip() for line in done.stdout.strip().splitlines()]
        parts += ["", f"## pyrite {verb}", "", "```text", *lines, "```"]
    return "\n".join(parts) + "\n"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The configuration classes that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def type_name(annotation: Any) -> str:
    """A field's type in words a reader of YAML knows."""
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    for module in ("typing.", "pyrite.study.spec.", "pyrite.synth.settings.", "pyrite.train.settings."):
        text = text.replace(module, "")
    return text.replace("|", "\\|").replace("NoneType", "null").replace("None", "null")


def default_of(field: FieldInfo) -> str:
    """A field's default as YAML would show it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    return {None: "", (): "none", "": "see text"}.get(value if not isinstance(value, dict) else (), f"`{value}`")


def tables(model: type[BaseModel], seen: set[type[BaseModel]]) -> list[str]:
    """A table for a configuration class, then those of the classes in it."""
    seen.add(model)
    lines = ["", f"## {model.__name__}", "", (model.__doc__ or "").strip().splitlines()[0], ""]
    lines += ["| key | type | default | what it is |", "|---|---|---|---|"]
    inner: list[type[BaseModel]] = []
    for name, field in model.model_fields.items():
        told = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {type_name(field.annotation)} | {default_of(field)} | {told} |")
        inner += models_in(field.annotation)
    for other in inner:
        if other not in seen:
            lines += tables(other, seen)
    return lines


def study_page() -> str:
    """Every key of every YAML file that Pyrite reads."""
    lines = ["# Study files, recipes and tasks", "", "Written from the code by `make docs`.", ""]
    lines += ["Bundled studies (`pyrite study NAME`):", ""]
    for name in bundled():
        spec, _ = load_spec(name)
        lines.append(f"- `{name}`: {spec.says}")
    seen: set[type[BaseModel]] = set()
    for model in (StudySpec, Recipe, CustomTask):
        lines += tables(model, seen)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the pages, or compare them."""
    pages = {"cli.md": cli_page(), "study.md": study_page()}
    stale = [name for name, text in pages.items() if not (HERE / name).is_file() or (HERE / name).read_text() != text]
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/{name} differs from the code; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for name, text in pages.items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
