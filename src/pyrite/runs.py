"""Run folders: what a verb leaves for people and for other verbs to read.

    FOLDER/run.json      what ran and what came out, with its `verb`; of a repaired model: FOLDER/repair.json
    FOLDER/results/      row-level tables
    FOLDER/…             figures, and for a loop the folders of its parts

A folder is data: nothing in it is executed, and a reader expects any text in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import UserError

FILES = ("run.json", "repair.json")
"""Where a folder tells what ran, first found."""
VERBS = ("audit", "probe", "study", "repair", "loop")
NEWEST = 1
"""The newest `schema_version` that is read."""


@dataclass(frozen=True)
class Run:
    """A run folder as read: which verb made it, and everything that it tells."""

    folder: Path
    verb: str
    told: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the run is called: its study, else its folder."""
        return str(self.told.get("study") or self.told.get("loop") or self.folder.resolve().name)

    @property
    def parts(self) -> "dict[str, Run]":
        """A loop's own runs by their verb, in order; nothing for other runs."""
        return {name: read_run(self.folder / where) for name, where in self.told.get("parts", {}).items()}

    def result(self, name: str) -> Path:
        """A row-level table of this run, such as `items.parquet`; it may be absent."""
        inside = self.folder / "results" / name
        return inside if inside.is_file() else self.folder / name


def read_run(folder: Path) -> Run:
    """Which run lies in a folder? A path to its JSON file is as good.

    Raises:
        UserError: no run there, a file that cannot be read, a run of a newer version.
    """
    folder = folder.parent if folder.name in FILES else folder
    fix = "give a folder that pyrite study, repair or run wrote, or audit or probe with --out"
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise UserError("That is no run folder.", f"{folder} holds none of: {', '.join(FILES)}", fix)
    try:
        told = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UserError("The run folder cannot be read.", f"{file}: {error}", "run the command again") from error
    verb = (told.get("verb") or ("study" if "study" in told else None)) if isinstance(told, dict) else None
    if verb not in VERBS:
        raise UserError("That JSON file is not of a run.", f"{file}: verb {verb!r}", fix)
    if told.get("schema_version", 0) > NEWEST:
        found = f"{file}: schema_version {told['schema_version']}, this Pyrite reads up to {NEWEST}"
        raise UserError("The run was written by a newer Pyrite.", found, "update Pyrite")
    return Run(folder, verb, told)
