"""The run folder of an audit (`--out`): row-level tables, flagged rows, figures, `run.json`."""

import sys
from collections.abc import Mapping
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
from pyrite.steps import Source, Store
from pyrite.steps.store import made_with


def write_run(
    config: AuditConfig, folder: Path, record: Mapping[str, Any], planned: Planned, store: Store, flagged: Flags | None
) -> None:
    """The run folder: row-level tables of every data file, the flagged rows with their texts, figures, `run.json`."""
    import shutil

    from pyrite.audit.figures import write_figures

    (folder / "results").mkdir(parents=True, exist_ok=True)
    old = {*(folder / "results").glob("rows-*.parquet"), *(folder / "figures").glob("*")}  # of a run before this one
    for (name, shard), step in planned.streams.items():
        if name == DATA:
            for part in sorted(store.path(step.key).glob("part-*/rows.parquet")):
                target = folder / "results" / f"rows-{shard}-{part.parent.name}.parquet"
                with atomic_write(target) as temporary:
                    shutil.copyfile(part, temporary)
                old.discard(target)
    if flagged is not None:
        write_flagged(data_sources(config, planned), flagged, folder / "results" / "flagged.parquet")
    for path in write_figures(record, folder):
        print(path, file=sys.stderr)
        old.discard(path)
    for path in old:
        path.unlink()
    files = [InputFile(file=name_in_place(source.path), hash=source.identity) for source in inputs(planned)]
    run = AuditRecord(**record, verb="audit", files=files, command=command(config), made_with=made_with())
    write_record(folder / "run.json", run)


def inputs(planned: Planned) -> list[Source]:
    """Every file that was read, with what identifies its content."""
    sources = [step.inputs["file"] for step in planned.streams.values()]
    sources += [source for name, source in planned.resources.items() if name.startswith("against ")]
    return [source for source in sources if isinstance(source, Source)]
