"""Where does a task of lm-evaluation-harness find its data when there is no hub? In a folder of the user's.

Looked for, in this order, for the data set ORG/NAME and its configuration CONFIG:

    FOLDER/datasets--ORG--NAME        the hub's own cache layout (also FOLDER/hub/datasets--ORG--NAME)
    FOLDER/ORG/NAME, FOLDER/ORG__NAME, FOLDER/NAME, each with CONFIG below it or without
    FOLDER/CONFIG, FOLDER

The last form, and forms without CONFIG, count only where the task reads one data set in one configuration; else all
subtasks would read the same rows. A found folder is a copy of the hub's repository (its README.md lists configurations)
or holds one file for each split, recognised by how its name begins.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.errors import UserError

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
FAMILIES = (("train",), ("test",), ("validation", "valid", "val", "dev"))
ROLES = ("training_split", "validation_split", "test_split", "fewshot_split")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_LISTS_CONFIGURATIONS = re.compile(r"\A---\n(?:.*\n)*?(?:configs|dataset_info):")


def wants(config: Mapping[str, Any]) -> str:
    """What data a task reads, in words: the data set, its configuration, and its splits by what they are for."""
    splits = [f"{role.removesuffix('_split')}: {config[role]}" for role in ROLES if config.get(role)]
    name = f", configuration '{config['dataset_name']}'" if config.get("dataset_name") else ""
    return (
        f"task {config.get('task')} reads {config.get('dataset_path')}{name}; splits {', '.join(splits) or 'unknown'}"
    )


def is_local(config: Mapping[str, Any]) -> bool:
    """Does the task name files or a folder of this machine itself?"""
    path = str(config.get("dataset_path"))
    return path in {"json", "csv", "parquet", "text", "arrow"} or Path(path).is_dir()


def how_to_lay_out(config: Mapping[str, Any]) -> str:
    """What to put where, for a task whose data was not found."""
    base = str(config.get("dataset_path")).rpartition("/")[2]
    below = "/".join(str(part) for part in (base, config.get("dataset_name")) if part)
    kinds = [f"{config[role]}.jsonl" for role in ROLES if config.get(role)]
    files = ", ".join(dict.fromkeys(kinds)) or "test.jsonl"
    return (
        f"give a folder with --harness-data: FOLDER/{below}/ with {files} (or .json, .parquet, .csv), or the hub's copy"
    )


def local_overrides(folder: Path, config: Mapping[str, Any], *, alone: bool, shots: int) -> dict[str, Any]:
    """The entries of a task's configuration that must change for it to read `folder`.

    `alone`: no other subtask reads other data. `shots`: examples shown in the prompt; with 0, the split that they
    would come from may be absent.

    Raises:
        UserError: nothing found, a split that is needed is absent, or a file that could be two splits.
    """
    if not folder.is_dir():
        raise UserError("That data folder is not there.", str(folder), how_to_lay_out(config))
    if not config.get("dataset_path"):
        fix = "run it with the hub, without --harness-data"
        raise UserError("This task fetches its data in its own code.", str(config.get("task")), fix)
    snapshot = hub_snapshot(folder, str(config["dataset_path"]))
    if snapshot is not None:
        return {"dataset_path": str(snapshot), "dataset_kwargs": {}}
    tried = []
    for place, named in candidates(folder, config, alone):
        tried.append(str(place))
        if not place.is_dir():
            continue
        if not named and is_copy(place):
            return {"dataset_path": str(place), "dataset_kwargs": {}}
        if any(split_files(place, str(config[role])) for role in ROLES if config.get(role)):
            return file_overrides(place, config, shots)
    detail = f"{wants(config)}; looked in {', '.join(tried)}"
    raise UserError("A task's data is not in the data folder.", detail, how_to_lay_out(config))


def candidates(folder: Path, config: Mapping[str, Any], alone: bool) -> list[tuple[Path, bool]]:
    """The folders to look in, best first, and whether each is of the configuration's name."""
    path, name = str(config["dataset_path"]), config.get("dataset_name")
    forms = list(dict.fromkeys([path, path.replace("/", "__"), path.rpartition("/")[2]]))
    folders = []
    for form in forms:
        if name:
            folders.append((folder / form / str(name), True))
        folders.append((folder / form, False))
    if name:
        folders.append((folder / str(name), True))
    if alone:
        folders.append((folder, False))
    return [(place, named) for place, named in folders if named or alone or not name or is_copy(place)]


def hub_snapshot(folder: Path, path: str) -> Path | None:
    """The data set's files in a folder of the hub's cache layout: the revision that `main` names, or the only one."""
    for root in (folder, folder / "hub"):
        repository = root / f"datasets--{path.replace('/', '--')}"
        if not repository.is_dir():
            continue
        main = repository / "refs" / "main"
        if main.is_file() and (repository / "snapshots" / main.read_text().strip()).is_dir():
            return repository / "snapshots" / main.read_text().strip()
        revisions = sorted((repository / "snapshots").glob("*"))
        if len(revisions) == 1:
            return revisions[0]
        detail = f"{repository}: {len(revisions)} revisions, and refs/main names none of them"
        raise UserError("Which revision of a data set is meant?", detail, "leave one folder in snapshots/")
    return None


def is_copy(folder: Path) -> bool:
    """Is this a copy of a hub repository, whose README.md says which files are which configuration?"""
    readme = folder / "README.md"
    return readme.is_file() and bool(_LISTS_CONFIGURATIONS.match(readme.read_text(encoding="utf-8", errors="replace")))


def split_files(folder: Path, split: str) -> list[Path]:
    """The files of a split: those whose names begin with it, else with another word for it (valid, val, dev).

    Several files count as one split only where their names number them (`-00000-of-00002`).
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in FORMATS)
    words = next((family for family in FAMILIES if split in family), ())
    for word in (split, *words):
        begins = re.compile(rf"{re.escape(word)}(?![a-z])", re.IGNORECASE)
        matching = [path for path in files if begins.match(path.name)]
        if len(matching) > 1 and not all(_SHARD.search(path.stem) for path in matching):
            names = ", ".join(path.name for path in matching)
            raise UserError(f"Which file is the split '{split}'?", f"{folder}: {names}", "leave one of them there")
        if matching:
            return matching
    return []


def file_overrides(folder: Path, config: Mapping[str, Any], shots: int) -> dict[str, Any]:
    """The overrides that read one file for each split of a task."""
    fewshot = config.get("fewshot_config") or {}
    fewshot_split = fewshot.get("split") if isinstance(fewshot, Mapping) else None
    needed_splits = [str(split) for split in (*(config.get(role) for role in ROLES), fewshot_split) if split]
    files = {split: split_files(folder, split) for split in dict.fromkeys(needed_splits)}
    present = {split: paths for split, paths in files.items() if paths}
    check_splits_apart(folder, present)
    for split in needed(config, fewshot_split, shots):
        if split not in present:
            detail = f"{wants(config)}; {folder} has no file for '{split}'"
            raise UserError("A split of the task's data is not there.", detail, how_to_lay_out(config))
    kinds = {FORMATS[path.suffix.lower()] for paths in present.values() for path in paths}
    if len(kinds) > 1:
        raise UserError("The splits are files of different formats.", str(folder), "use one of jsonl, parquet and csv")
    data_files = {split: [str(path.resolve()) for path in paths] for split, paths in present.items()}
    changes: dict[str, Any] = {
        "dataset_path": kinds.pop(),
        "dataset_name": None,
        "dataset_kwargs": {"data_files": data_files},
    }
    changes |= {role: None for role in ROLES if config.get(role) and config[role] not in present}
    if fewshot_split and fewshot_split not in present:
        changes["fewshot_config"] = {key: value for key, value in fewshot.items() if key != "split"}
    return changes


def needed(config: Mapping[str, Any], fewshot_split: str | None, shots: int) -> Sequence[str]:
    """The splits without which a task cannot be run: the one it is scored on, and the one its examples come from."""
    scored = config.get("test_split") or config.get("validation_split")
    first = fewshot_split or config.get("fewshot_split")
    source = first or config.get("training_split") or config.get("validation_split") or scored
    if not first and (config.get("fewshot_config") or {}).get("samples"):
        source = None
    return [str(split) for split in (scored, source if shots else None) if split]


def check_splits_apart(folder: Path, files: Mapping[str, Sequence[Path]]) -> None:
    """Refuse one file for two splits: examples in the prompt would be the items that are scored."""
    owner: dict[Path, str] = {}
    for split, paths in files.items():
        for path in paths:
            if path in owner:
                detail = f"{folder / path.name} would be both '{owner[path]}' and '{split}'"
                raise UserError("One file stands for two splits.", detail, f"name another file {split}.jsonl")
            owner[path] = split
