"""What the parts of a loop read: its files by their paths, and what one part leaves for another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io import atomic_write, file_hash, is_hub
from pyrite.loop.spec import LOOP, SHARED, STUDY, AuditPart, LoopSpec, MoreAudit, named_in
from pyrite.study.spec import StudySpec, bundled, data_path, is_language, load_language, load_spec


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
        return str(self.rows(name).resolve()) if name in LOOP else data_path(name, self.data)

    def files(self, names: Sequence[str]) -> tuple[str, ...]:
        """Several."""
        return tuple(self.file(name) for name in names)

    def rows(self, name: str) -> Path:
        """Where the loop keeps `loop:clean`, `loop:flagged`, `loop:made`."""
        return self.folder / "rows" / f"{name.removeprefix('loop:')}.jsonl"

    def at(self, text: str) -> str:
        """`NAME=FILE` with the file's path: as it is where there is no such file below the data folder (a number, a name)."""
        name, sign, where = text.partition("=")
        path = data_path(where if sign else name, self.data)
        if is_hub(path) or not Path(path).exists():
            return text
        return f"{name}={path}" if sign else path

    def audit_options(self, part: AuditPart | MoreAudit) -> dict[str, Any]:
        """What the file says of an audit, as options of the verb."""
        said = part.model_dump(exclude_unset=True, exclude={"data", "reference"})
        if part.against:
            said["against"] = tuple(self.at(one) for one in part.against)
        return said

    def probe_options(self) -> dict[str, Any]:
        """What the model is asked, as options of the verb; nothing where the loop has no probe. With a repair, `SHARED` are
        the repair's, so that what is asked before it is not asked twice."""
        if self.spec.probe is None:
            return {}
        said = self.spec.probe.model_dump(exclude_unset=True)
        if self.spec.repair is not None:
            said |= {name: getattr(self.spec.repair, name) for name in SHARED}
        return {**said, "task": tuple(self.at(one) for one in self.spec.probe.task)}

    @property
    def replay_kinds(self) -> tuple[str, ...]:
        """Which rows are replayed: cleared ones only where not all are to be forgotten."""
        return tuple(one for one in self.spec.replay if one == "human" or self.spec.forget == "flagged")

    def replay(self) -> tuple[str, ...]:
        """The files of the rows to replay."""
        clean = self.rows("loop:clean")
        cleared = (str(clean),) if "clean" in self.replay_kinds and clean.stat().st_size else ()
        return (*(self.files(self.spec.human) if "human" in self.replay_kinds else ()), *cleared)

    def forget(self) -> tuple[str, ...]:
        """The files of the rows to forget; none where the audit flagged no row."""
        if self.spec.forget == "all":
            return self.files(self.spec.synthetic)
        flagged = self.rows("loop:flagged")
        return (str(flagged),) if flagged.stat().st_size else ()

    def study_name(self) -> str:
        """The study as it was named: a bundled one, or a file's path."""
        assert self.spec.study is not None
        path = data_path(self.spec.study, self.data)
        return self.spec.study if not Path(path).is_file() and self.spec.study in bundled() else path

    def study_spec(self) -> Any:
        """The study as its file says it."""
        name = self.study_name()
        return (load_language(name) if is_language(name) else load_spec(name))[0]

    def study_file(self) -> Path:
        """The study as this loop runs it, written beside its results: with the loop's rows in the place of their names,
        and with its models kept where one of them is probed or repaired."""
        from ruamel.yaml import YAML

        spec = self.study_spec()
        told = spec.model_dump(mode="json", exclude_unset=True)
        for source in told["data"].values():
            if source.get("files"):
                source["files"] = [self.file(name) if name in LOOP else name for name in source["files"]]
        if (self.spec.model or "").startswith(STUDY):
            told["keep"] = "all"
        target = self.folder / "study" / f"{spec.study}.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary, open(temporary, "w", encoding="utf-8") as sink:
            YAML().dump(told, sink)
        return target

    def recipe(self) -> Path:
        """The recipe as this loop follows it, written beside what it makes."""
        from ruamel.yaml import YAML

        from pyrite.synth.run import load_recipe

        assert self.spec.synth is not None
        path = Path(data_path(self.spec.synth, self.data))
        told = load_recipe(path).model_dump(mode="json", exclude_unset=True)
        here = self.file(told["rows"]) if told["rows"] in LOOP else str((path.parent / told["rows"]).resolve())
        told["rows"] = told["rows"] if is_hub(told["rows"]) else here
        target = self.folder / "rows" / "recipe.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary, open(temporary, "w", encoding="utf-8") as sink:
            YAML().dump(told, sink)
        return target

    def arm_rows(self, arm: str) -> Path:
        """The rows that the study drew for an arm (first seed, largest size), as its run folder has them."""
        spec = self.study_spec()
        sizes = sorted(spec.sizes) if isinstance(spec, StudySpec) else []
        return self.folder / "study" / str(spec.study) / "rows" / f"arm-{arm}-{sizes[-1]}.jsonl"

    def model(self, common: dict[str, Any]) -> str:
        """The model's name; of `study:ARM`, the folder of the finished step, made again where its weights were dropped."""
        name = self.spec.model or ""
        if not name.startswith(STUDY):
            local = Path(data_path(name, self.data))
            return str(local) if not Path(name).exists() and local.is_dir() else name
        from pyrite.loop.models import model_of_study

        return model_of_study(self, name.removeprefix(STUDY), common)

    def described(self) -> list[dict[str, Any]]:
        """The files that the loop names, with their hashes (of a data set on the hub: its commit)."""
        told = []
        for side, names in (("synthetic", self.spec.synthetic), ("human", self.spec.human)):
            for name in names:
                path = self.file(name)
                there = is_hub(path) or Path(path).exists()
                shown = name if name.startswith((STUDY, "hf://")) else Path(name).name
                told.append({"side": side, "name": shown, "hash": file_hash(path) if there else None})
        return told


def check_names(inputs: Inputs) -> None:
    """Refuse a study that reads what it is itself needed for, or arms that it does not have.

    Raises:
        UserError: the study cannot be read, has no such arm, or reads rows that come after it.
    """
    spec = inputs.spec
    if spec.study is None:
        return
    study = inputs.study_spec()
    named = named_in(study)
    if spec.study_first and named:
        fix = "name files in the place of one of the two"
        raise UserError(
            "The loop turns in a circle.", f"the study reads {named[0]}, and the audit reads the study's rows", fix
        )
    if "loop:made" in named and not spec.synth:
        raise UserError("The study reads rows that nothing makes.", "loop:made", "name a recipe under synth")
    rows = [
        *spec.synthetic,
        *spec.human,
        *(one for more in spec.audits.values() for one in (*more.data, *more.reference)),
    ]
    arms = [one.removeprefix(STUDY) for one in rows if one.startswith(STUDY)]
    if arms and not isinstance(study, StudySpec):
        raise UserError("A study about language has no arms.", f"{STUDY}{arms[0]}", "name the files themselves")
    model = (spec.model or "").removeprefix(STUDY) if (spec.model or "").startswith(STUDY) else None
    if isinstance(study, StudySpec):
        known = list(study.all_arms())
        strange = [arm for arm in arms if arm not in known]
        strange += [model] if model is not None and model not in (*known, "start") else []
    else:
        known = list(study.cells)
        strange = [model] if model is not None and model not in known else []
    if strange:
        raise UserError("The study has no such arm.", f"{STUDY}{strange[0]}", f"known: {', '.join(known)}")
