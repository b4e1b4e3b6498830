"""Write me a file to begin with: look at the user's data, write a commented file for a verb, check that it is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io import atomic_write
from pyrite.io.copies import named_by_url
from pyrite.outputs import takes_urls
from pyrite.starter.config import StarterConfig
from pyrite.starter.look import FileSummary, summarise_file
from pyrite.starter.write import COMMANDS, WRITERS, out_of


@dataclass(frozen=True)
class Starter:
    """What was written, what was seen in the files, and what to run next."""

    out: Path
    files: list[FileSummary]
    next: str

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        file_records = [
            {
                "file": summary.file, "kind": summary.kind, "layout": summary.layout, "columns": list(summary.columns),
                "rows_seen": summary.rows, "whole": summary.is_whole, "label": summary.label, "labels": summary.labels,
                "texts": list(summary.texts),
            }
            for summary in self.files
        ]  # fmt: skip
        return {"schema_version": 1, "out": named_by_url(str(self.out)), "files": file_records, "next": self.next}


@takes_urls(outs=("out",))
def init(config: StarterConfig) -> Starter:
    """Write a starter file.

    Raises:
        UserError: a file that cannot be read, files that do not go together, or a file that is there already.
    """
    out = out_of(config)
    if out.exists():
        raise UserError("A starter file is written over nothing.", f"{out} is there", "name another with --out")
    data = [summarise_file(file, config.label) for file in config.data]
    human = [summarise_file(file, config.label) for file in config.human]
    text = WRITERS[config.what](config, data, human)
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    model = config.model or "MODEL"
    return Starter(
        out,
        [*data, *human],
        COMMANDS[config.what].format(data=" ".join(config.data), out=named_by_url(str(out)), model=model),
    )
