"""What the parts of a loop read: its files by their paths, and what one part leaves for another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.config_base import ConfigBase
from pyrite.io import atomic_write, copy_or_path, is_hub, local_place, path_in, write_jsonl
from pyrite.io.urls import url_of
from pyrite.loop.spec import GRAMMAR, LOOP, SHARED, STUDY, LoopSpec
from pyrite.study.load import bundled, load_spec
from pyrite.study.row_files import arm_title, file_of
from pyrite.study.spec import StudySpec, data_path

LISTS = ("against", "task", "gain")
"""Options whose values name files as `NAME=FILE`."""
FILES = frozenset({"model", "before", "forgetter", "tokenizer", "embedder", "undoes", "harness_data", "harness_tasks"})
"""Options that may name a file, a folder or a model."""


@dataclass(frozen=True)
class Inputs:
    """A loop's inputs: `data` is the folder that files are relative to, `folder` the loop's run folder."""

    spec: LoopSpec
    data: Path | None
    folder: Path

    def file(self, name: str) -> str:
        """A data file's path; `study:ARM` is the rows that the study drew for the arm, `loop:…` what a part wrote."""
        if name.startswith(STUDY):
            return str(self.arm_rows(name.removeprefix(STUDY)))
        if name.startswith(GRAMMAR):
            return str(self.grammar_rows(name.removeprefix(GRAMMAR)))
        return str(self.rows(name).resolve()) if name in LOOP else data_path(name, self.data)

    def files(self, names: Sequence[str]) -> tuple[str, ...]:
        """Several."""
        return tuple(self.file(name) for name in names)

    def rows(self, name: str) -> Path:
        """Where the loop keeps `loop:clean`, `loop:flagged`, `loop:made`."""
        return self.folder / "rows" / f"{name.removeprefix('loop:')}.jsonl"

    def grammar_rows(self, name: str) -> Path:
        """The rows of one of the loop's grammars, written at every call: it takes no time."""
        from pyrite.study.labelled_steps import rows_of_grammar

        target = self.folder / "rows" / f"grammar-{name}.jsonl"
        write_jsonl(rows_of_grammar(self.spec.grammars[name].as_config(), self.spec.grammars[name].fields), target)
        return target

    def local(self, name: str) -> str:
        """A file, folder or model: below the data folder where it is there, else as it was given."""
        path = data_path(name, self.data)
        return path if not is_hub(path) and copy_or_path(path).exists() else name

    def at(self, text: str, *, plain: bool) -> str:
        """A task or evaluation set, `NAME=FILE`, a task's YAML, or (where `plain`) a file, with the file's path."""
        name, sign, file_name = text.partition("=")
        if sign:
            return f"{name}={self.local(file_name)}"
        return self.local(text) if plain or text.endswith((".yaml", ".yml")) else text

    def options(self, part: ConfigBase, *left_out: str) -> dict[str, Any]:
        """What the file says of a part, as options of its verb; files and models by their paths."""
        options = part.model_dump(exclude_unset=True, exclude=set(left_out))
        options |= {
            name: tuple(self.at(entry, plain=name == "against") for entry in options[name])
            for name in LISTS
            if options.get(name)
        }
        for name in FILES & set(options):
            local_path = None if options[name] is None else self.local(str(options[name]))
            options[name] = (
                Path(local_path) if local_path is not None and isinstance(options[name], Path) else local_path
            )
        return options

    def probe_options(self) -> dict[str, Any]:
        """What the model is asked, as options of the verb; nothing where the loop has no probe. With a repair, `SHARED` are
        the repair's, so that what is asked before it is not asked twice."""
        if self.spec.probe is None:
            return {}
        options = self.options(self.spec.probe)
        if self.spec.repair is not None:
            options |= {name: getattr(self.spec.repair, name) for name in SHARED}
        return options

    @property
    def replay_kinds(self) -> tuple[str, ...]:
        """Which rows are replayed: cleared ones only where not all are to be forgotten."""
        return tuple(kind for kind in self.spec.replay if kind == "human" or self.spec.forget == "flagged")

    def replay(self) -> tuple[str, ...]:
        """The files of the rows to replay."""
        if self.spec.forget == "none":
            return ()
        clean = self.rows("loop:clean")
        cleared = (str(clean),) if "clean" in self.replay_kinds and clean.stat().st_size else ()
        return (*(self.files(self.spec.human) if "human" in self.replay_kinds else ()), *cleared)

    def forget(self) -> tuple[str, ...]:
        """The files of the rows to forget; none where the audit flagged no row, and where none is asked for."""
        if self.spec.forget == "none":
            return ()
        if self.spec.forget == "all":
            return self.files(self.spec.synthetic)
        flagged = self.rows("loop:flagged")
        return (str(flagged),) if flagged.stat().st_size else ()

    def study_name(self) -> str:
        """The study as it was named: a bundled one, or a file's path."""
        assert self.spec.study is not None
        path = data_path(self.spec.study, self.data)
        return self.spec.study if not Path(path).is_file() and self.spec.study in bundled() else path

    def study_spec(self) -> StudySpec:
        """The study as its file says it."""
        return load_spec(self.study_name())[0]

    def study_file(self) -> Path:
        """The study as this loop runs it, written beside its results: with the loop's rows in the place of their names,
        and with its models kept where one of them is probed or repaired."""
        spec = self.study_spec()
        values = spec.model_dump(mode="json", exclude_unset=True)
        for source in values["data"].values():
            if source.get("files"):
                source["files"] = [self.file(name) if name in LOOP else name for name in source["files"]]
        if any(name.startswith(STUDY) for name in self.spec.models):
            values["keep"] = "all"
        return write_yaml(values, self.folder / "study" / f"{spec.study}.yaml")

    def recipe(self) -> Path:
        """The recipe as this loop follows it, written beside what it makes."""
        from pyrite.synth.run import load_recipe

        assert self.spec.synth is not None
        path = local_place(data_path(self.spec.synth, self.data))
        values = load_recipe(path).model_dump(mode="json", exclude_unset=True)
        local_path = self.file(values["rows"]) if values["rows"] in LOOP else rows_of_recipe(path, values["rows"])
        values["rows"] = values["rows"] if is_hub(values["rows"]) else local_path
        return write_yaml(values, self.folder / "rows" / "recipe.yaml")

    def arm_rows(self, arm: str) -> Path:
        """The rows that the study drew for an arm (first seed, largest size), as its run folder has them."""
        spec = self.study_spec()
        return self.folder / "study" / spec.study / "rows" / file_of(arm_title(arm, max(spec.sizes)))

    def model(self, name: str, common: dict[str, Any]) -> str:
        """A model's name; of `study:ARM`, the folder of the finished step, made again where its weights were dropped."""
        if not name.startswith(STUDY):
            return self.local(name)
        from pyrite.loop.models import model_of_study

        return model_of_study(self, name.removeprefix(STUDY), common)


def rows_of_recipe(recipe: Path, rows: str) -> str:
    """The rows that a recipe names, wherever it is read from."""
    path = path_in(recipe.parent, rows)
    return path if url_of(path) else str(Path(path).resolve())


def write_yaml(values: dict[str, Any], target: Path) -> Path:
    """Write plain values as YAML."""
    from ruamel.yaml import YAML

    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as temporary, open(temporary, "w", encoding="utf-8") as sink:
        YAML().dump(values, sink)
    return target
