"""The run folder of an audit (`--out`): row-level tables, flagged rows, figures, `run.json`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.audit.config import AuditConfig
from pyrite.audit.flag_scores import Flags, data_sources, write_flagged
from pyrite.audit.gather import DATA
from pyrite.audit.plan import Planned
from pyrite.audit.record import command
from pyrite.io import atomic_write, name_in_place
from pyrite.runs.audit import AuditRecord
from pyrite.runs.schema import InputFile
from pyrite.runs.write import write_record
from pyrite.steps import Source, Step, Store
from pyrite.steps.store import made_with


def write_run(
    config: AuditConfig, folder: Path, record: Mapping[str, Any], planned: Planned, store: Store, flagged: Flags | None
) -> None:
    """The run folder: row-level tables of every data file, the flagged rows with their texts, figures, `run.json`."""
    from pyrite.audit.figures import write_figures

    (folder / "results").mkdir(parents=True, exist_ok=True)
    old = {*(folder / "results").glob("rows-*.parquet"), *(folder / "figures").glob("*")}  # of a run before this one
    for (name, shard), steps in planned.spans.items():
        if name == DATA:
            for number, (table, before) in enumerate(row_tables(steps, store)):
                target = folder / "results" / f"rows-{shard}-part-{number}.parquet"
                with atomic_write(target) as temporary:
                    write_numbered(table, before, temporary)
                old.discard(target)
    if flagged is not None:
        write_flagged(data_sources(config, planned, store), flagged, folder / "results" / "flagged.parquet")
    for path in write_figures(record, folder):
        print(path, file=sys.stderr)
        old.discard(path)
    for path in old:
        path.unlink()
    files = [InputFile(file=name_in_place(source.path), hash=source.identity) for source in inputs(planned)]
    run = AuditRecord(**record, verb="audit", files=files, command=command(config), made_with=made_with())
    write_record(folder / "run.json", run)


def row_tables(steps: Sequence[Step], store: Store) -> list[tuple[Path, int]]:
    """The tables of a file's rows, and how many rows of the file stand before those of each."""
    tables, before = [], 0
    for step in steps:
        tables += [(table, before) for table in sorted(store.path(step.key).glob("part-*/rows.parquet"))]
        before += store.read_json(step, "counts.json")["rows"]
    return tables


def write_numbered(table: Path, before: int, out: Path) -> None:
    """Copy a table of rows whose numbers begin after those `before`."""
    import shutil

    import pyarrow
    from pyarrow import compute, parquet

    if not before:
        shutil.copyfile(table, out)
        return
    with (
        parquet.ParquetFile(table) as source,
        parquet.ParquetWriter(out, source.schema_arrow, compression="zstd") as sink,
    ):
        for batch in source.iter_batches():
            part = pyarrow.Table.from_batches([batch])
            place = part.schema.get_field_index("number")
            sink.write_table(part.set_column(place, part.field(place), compute.add(part.column(place), before)))


def inputs(planned: Planned) -> list[Source]:
    """Every file that was read, with what identifies its content."""
    sources = [step.inputs["file"] for step in planned.files.values()]
    sources += [source for name, source in planned.resources.items() if name.startswith("against ")]
    return [source for source in sources if isinstance(source, Source)]
