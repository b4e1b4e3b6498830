"""Reading run folders: which run lies in a folder, its record, and the rows of its tables.

    FOLDER/run.json      what ran and what came out, with its `verb`; of a repaired model: FOLDER/repair.json
    FOLDER/results/      row-level tables
    FOLDER/…             figures, and for a loop the folders of its parts

A folder is data: nothing in it is executed, and a reader expects any text in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from pydantic import ValidationError

from pyrite.errors import UserError
from pyrite.runs.audit import AuditRecord
from pyrite.runs.loop import LoopRecord
from pyrite.runs.probe import ProbeRecord
from pyrite.runs.repair import RepairRecord
from pyrite.runs.schema import RunRecord
from pyrite.runs.study import StudyRecord

FILES = ("run.json", "repair.json")
"""The record's file in a run folder, the first that is there."""
RECORDS: dict[str, type[RunRecord]] = {
    "audit": AuditRecord,
    "probe": ProbeRecord,
    "study": StudyRecord,
    "repair": RepairRecord,
    "loop": LoopRecord,
}
"""For each verb the record of its runs."""
VERBS = tuple(RECORDS)
NEWEST = 1
"""The newest `schema_version` that is read."""
AGAIN = "run the command again with this Pyrite: finished steps are reused"

RecordType = TypeVar("RecordType", bound=RunRecord)


@dataclass(frozen=True)
class Run(Generic[RecordType]):
    """A run folder as read: the verb that wrote it, and its record."""

    folder: Path
    verb: str
    record: RecordType

    @property
    def name(self) -> str:
        """What the run is called: its study or loop, else its folder."""
        return self.record.title or self.folder.resolve().name

    @property
    def kind(self) -> str:
        """The verb, but `cells` for a study whose cells are not written as starts × arms × sizes."""
        is_cells = isinstance(self.record, StudyRecord) and self.record.about == "language"
        return "cells" if is_cells else self.verb

    @property
    def parts(self) -> "dict[str, Run[Any]]":
        """A loop's own runs by their name in it, in order; nothing for other runs.

        Raises:
            UserError: a part that lies outside the loop's folder, that is a loop itself, or that cannot be read.
        """
        if not isinstance(self.record, LoopRecord):
            return {}
        return {name: read_part(self.folder, name, place) for name, place in self.record.parts.items()}

    def result(self, name: str) -> Path:
        """A row-level table of this run, such as `items.parquet`; it may be absent."""
        table = self.folder / "results" / name
        return table if table.is_file() else self.folder / name


def read_run(folder: Path | str) -> Run[Any]:
    """The run that lies in a folder; a path to its JSON file is as good.

    Raises:
        UserError: no run there, a file that cannot be read or lacks what its readers look at, a run of a newer version.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name in FILES else folder
    fix = "give a folder that pyrite study, repair or run wrote, or audit or probe with --out"
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None and (folder / "pilot.json").is_file():
        raise UserError("A pilot has no verdict.", str(folder), "run the study itself, and give its folder")
    if file is None:
        raise UserError("That is no run folder.", f"{folder} holds none of: {', '.join(FILES)}", fix)
    try:
        values = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UserError("The run folder cannot be read.", f"{file}: {error}", AGAIN) from error
    verb = (values.get("verb") or ("study" if "study" in values else None)) if isinstance(values, dict) else None
    if verb not in tuple(RECORDS):
        raise UserError("That JSON file is not of a run.", f"{file}: verb {verb!r}", fix)
    return Run(folder, verb, read_record(file, verb, values))


def read_record(file: Path, verb: str, values: Mapping[str, Any]) -> RunRecord:
    """The record in a file's values.

    Raises:
        UserError: it is of a newer version, or lacks what its readers look at.
    """
    version = values.get("schema_version", 0)
    if not isinstance(version, int):
        raise UserError("That JSON file is not of a run.", f"{file}: schema_version {version!r}", AGAIN)
    if version > NEWEST:
        versions = f"{file}: schema_version {version}, this Pyrite reads up to {NEWEST}"
        raise UserError("The run was written by a newer Pyrite.", versions, "update Pyrite")
    return parse_record(RECORDS[verb], file, values)


def parse_record(record_type: type[RecordType], file: Path, values: Mapping[str, Any]) -> RecordType:
    """The record of a file's values.

    Raises:
        UserError: they lack what its readers look at.
    """
    try:
        return record_type.model_validate(values)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError("The run is not whole.", f"{file}: {'; '.join(wrong[:3])}{more}", AGAIN) from error


def read_part(folder: Path, name: str, place: str) -> Run[Any]:
    """A part of the loop in `folder`: a run that lies within it and is no loop."""
    part_folder, loop_folder = (folder / place).resolve(), folder.resolve()
    if part_folder == loop_folder or not part_folder.is_relative_to(loop_folder):
        raise UserError("A part of a loop lies in the loop's folder.", f"{folder}: {name} in {place}", AGAIN)
    part = read_run(folder / place)
    if part.verb == "loop":
        raise UserError("A part of a loop is no loop.", f"{folder}: {name} in {place}", AGAIN)
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
        with pq.ParquetFile(file) as table:
            lacking = [name for name in columns if name not in table.schema_arrow.names]
            if lacking:
                raise UserError("A table of the run lacks columns.", f"{file}: {', '.join(lacking)}", AGAIN)
            if first is not None:
                batches = table.iter_batches(batch_size=max(1, first))
                rows: list[dict[str, Any]] = next(batches, pyarrow.RecordBatch.from_pylist([])).to_pylist()[:first]
                return rows
        rows = pq.read_table(file, filters=list(where) or None, partitioning=None).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError("A table of the run cannot be read.", f"{file}: {error}", AGAIN) from error
    return rows


def count_results(file: Path) -> int:
    """How many rows a row-level table has.

    Raises:
        UserError: a file that is no whole table.
    """
    import pyarrow
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError("A table of the run cannot be read.", f"{file}: {error}", AGAIN) from error
