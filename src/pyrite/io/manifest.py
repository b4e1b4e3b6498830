"""What exactly was read? The entry of one source in a run folder's `run.json`."""

from pathlib import Path
from typing import Any

from pyrite.io.copies import local_place
from pyrite.io.read import Counts, Reader
from pyrite.io.sources import file_hash, is_hub


def describe_source(
    source: str | Path,
    counts: Counts,
    *,
    layout: str | None = None,
    revision: str | None = None,
    split: str | None = None,
) -> dict[str, Any]:
    """The source by path, sha256 and size, and what became of its rows.

    A data set on the hub is named by its commit (`revision`) and the files that were read; it has no sha256.
    """
    digest: str | None
    if is_hub(source):
        from pyrite.io.hub import resolve_dataset

        dataset = resolve_dataset(str(source), revision, split=split)
        digest, revision, split = None, dataset.commit, dataset.split
        files = [file.path for file in dataset.files]
        names = [file.relative_to(dataset.folder).as_posix() for file in files]
    else:
        path = local_place(source)
        files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
        names = [path.name] if path.is_file() else [file.relative_to(path).as_posix() for file in files]
        digest = file_hash(path)
    return {
        "path": str(source),
        "files": names,
        "sha256": digest,
        "revision": revision,
        "split": split,
        "bytes": sum(file.stat().st_size for file in files),
        "rows": counts.as_json(),
        "layout": layout,
    }


def describe_reader(reader: Reader) -> dict[str, Any]:
    """The same for a reader that was read to its end."""
    revision = reader.hub.commit if reader.hub else None
    return describe_source(
        reader.path, reader.counts, layout=reader.layout, revision=revision, split=reader.options.split
    )
