"""Run folders: what a verb leaves for people and for other verbs to read.

    FOLDER/run.json      what ran and what came out, with its `verb`; of a repaired model: FOLDER/repair.json
    FOLDER/results/      row-level tables
    FOLDER/…             figures, and for a loop the folders of its parts

A folder is data: nothing in it is executed, and a reader expects any text in it.
"""

from collections.abc import Mapping, Sequence
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
AGAIN = "run the command again with this Pyrite: finished steps are reused"


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
        """A loop's own runs by their name in it, in order; nothing for other runs.

        Raises:
            UserError: a part that lies outside the loop's folder, that is a loop itself, or that cannot be read.
        """
        if self.verb != "loop":
            return {}
        return {name: read_part(self.folder, name, where) for name, where in self.told["parts"].items()}

    def result(self, name: str) -> Path:
        """A row-level table of this run, such as `items.parquet`; it may be absent."""
        inside = self.folder / "results" / name
        return inside if inside.is_file() else self.folder / name


def read_run(folder: Path | str) -> Run:
    """Which run lies in a folder? A path to its JSON file is as good.

    Raises:
        UserError: no run there, a file that cannot be read or lacks what its readers look at, a run of a newer version.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name in FILES else folder
    fix = "give a folder that pyrite study, repair or run wrote, or audit or probe with --out"
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise UserError("That is no run folder.", f"{folder} holds none of: {', '.join(FILES)}", fix)
    try:
        told = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UserError("The run folder cannot be read.", f"{file}: {error}", AGAIN) from error
    verb = (told.get("verb") or ("study" if "study" in told else None)) if isinstance(told, dict) else None
    if verb not in VERBS:
        raise UserError("That JSON file is not of a run.", f"{file}: verb {verb!r}", fix)
    check(file, verb, told)
    return Run(folder, verb, told)


def check(file: Path, verb: str, told: Mapping[str, Any]) -> None:
    """Refuse a run of a newer version, and one that lacks what its readers look at."""
    from pydantic import ValidationError

    from pyrite.run_shapes import SHAPES

    version = told.get("schema_version", 0)
    if not isinstance(version, int):
        raise UserError("That JSON file is not of a run.", f"{file}: schema_version {version!r}", AGAIN)
    if version > NEWEST:
        found = f"{file}: schema_version {version}, this Pyrite reads up to {NEWEST}"
        raise UserError("The run was written by a newer Pyrite.", found, "update Pyrite")
    try:
        SHAPES[verb].model_validate(told)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)]
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError("The run is not whole.", f"{file}: {'; '.join(wrong[:3])}{more}", AGAIN) from error


def read_part(folder: Path, name: str, where: str) -> Run:
    """A part of the loop in `folder`: a run that lies within it and is no loop."""
    inside, whole = (folder / where).resolve(), folder.resolve()
    if inside == whole or not inside.is_relative_to(whole):
        raise UserError("A part of a loop lies in the loop's folder.", f"{folder}: {name} in {where}", AGAIN)
    part = read_run(folder / where)
    if part.verb == "loop":
        raise UserError("A part of a loop is no loop.", f"{folder}: {name} in {where}", AGAIN)
    return part


def read_results(
    file: Path, columns: Sequence[str], *, where: Sequence[tuple[str, str, Any]] = (), first: int | None = None
) -> list[dict[str, Any]]:
    """The rows of a row-level table: those that meet every condition of `where` (pyarrow's filters), or the `first` ones.

    Raises:
        UserError: no such file, one that is no whole table, or one without these columns.
    """
    import pyarrow
    import pyarrow.parquet as pq

    if not file.is_file():
        raise UserError("The run folder is not whole.", f"there is no {file}", AGAIN)
    try:
        with pq.ParquetFile(file) as opened:
            lacking = [name for name in columns if name not in opened.schema_arrow.names]
            if lacking:
                raise UserError("A table of the run lacks columns.", f"{file}: {', '.join(lacking)}", AGAIN)
            if first is not None:
                some = opened.iter_batches(batch_size=max(1, first))
                found: list[dict[str, Any]] = next(some, pyarrow.RecordBatch.from_pylist([])).to_pylist()[:first]
                return found
        found = pq.read_table(file, filters=list(where) or None, partitioning=None).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError("A table of the run cannot be read.", f"{file}: {error}", AGAIN) from error
    return found


def count_results(file: Path) -> int:
    """How many rows has a row-level table?

    Raises:
        UserError: a file that is no whole table.
    """
    import pyarrow
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError("A table of the run cannot be read.", f"{file}: {error}", AGAIN) from error
