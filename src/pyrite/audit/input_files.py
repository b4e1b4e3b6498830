"""Which files an audit reads, out of its options: the data's, each human source's, and the evaluation sets'."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyrite.audit.config import AuditConfig
from pyrite.errors import UserError
from pyrite.io import check_there, expand, file_hash, is_hub, name_in_place, open_records
from pyrite.io.copy_rows import as_cell
from pyrite.io.formats import raw_rows
from pyrite.io.raw_row import BadRow
from pyrite.io.sources import parse_source
from pyrite.io.urls import url_of
from pyrite.steps import Source


def file_input(path: str, what: str) -> Source:
    """A data file, folder or hub data set as an input."""
    try:
        check_there(path)
    except UserError as error:
        raise UserError(f"That {what} is not there.", error.found, error.fix) from error
    return Source(path, file_hash(path))


def size_of(path: str | Path) -> int:
    """Bytes of a file (whatever column of it is read); 0 for what is several files or none."""
    place = Path(parse_source(path).place)
    return place.stat().st_size if place.is_file() else 0


SAME_ROWS = 100
"""Where so many first rows of two files are the same, and both have as many rows, one is a copy of the other."""
SHARD = re.compile(r"-\d{5}-of-\d{5}")


def reference_files(texts: Sequence[str]) -> list[str]:
    """Every file of `--reference`, in order: a text names one, or several of one source after commas."""
    return [path for text in texts for path in files_of(text)]


def files_of(text: str) -> list[str]:
    """The files that one `--reference` names."""
    texts = (
        [text] if "," not in text or Path(text).exists() else [name.strip() for name in text.split(",") if name.strip()]
    )
    return [path for name in texts for path in files_in(name)]


def files_in(text: str, flag: str = "") -> list[str]:
    """The data files of a folder or a pattern, in the order of their paths; anything else (a file, a saved data set, the
    hub) as it is."""
    return expand(text, flag)


def source_labels(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Every file of `--reference` with the human source that it belongs to: files after one `--reference`, those of a
    folder, and the shards NAME-00001-of-00004 of one folder, are one source. Called by the file's name (of several: the
    first one's, and how many more), or its path where two share it."""
    files: list[tuple[str, str]] = []
    names: dict[str, str] = {}
    for text in texts:
        paths = files_of(text)
        first = Path(paths[0])
        source = str(first.with_name(SHARD.sub("", first.name))) if len(paths) == 1 and not is_hub(text) else text
        folder = len(paths) > 1 and Path(text).is_dir()
        more = f" and {len(paths) - 1} more" if len(paths) > 1 and not folder else ""
        source = url_of(source) or source
        names[source] = name_in_place(source) if not more else f"{first.name}{more}"
        files += [(path, source) for path in paths]
    called = {source: source if list(names.values()).count(name) > 1 else name for source, name in names.items()}
    return [(path, called[source]) for path, source in files]


def evaluation_sets(texts: Sequence[str]) -> dict[str, str]:
    """The files named by `--against`, by name: the one given, else the file's, else (where two share it) the path.

    Raises:
        UserError: a name given twice.
    """
    sets: dict[str, str] = {}
    for text in texts:
        name, sign, where = text.partition("=")
        if not sign or Path(text).exists() or not name.replace("_", "").replace("-", "").isalnum():
            name, where = Path(name_in_place(text)).stem, text
            name = name if name not in sets else text
        if name in sets:
            raise UserError("An evaluation set is named twice.", text, "give each another NAME=FILE")
        sets[name] = where
    return sets


def check_references(config: AuditConfig, inputs_of: Mapping[str, Source]) -> None:
    """Refuse a reference that is given twice, or that is the data: nothing can be learned from either."""
    places: dict[str, str] = {}
    references = reference_files(config.reference)
    for path in references:
        identity = content_of(inputs_of[path])
        if identity in places:
            twin = f"{path} has the content of {places[identity]}"
            raise UserError("A reference is given twice.", twin, "give each human source once")
        places[identity] = path
    shards: dict[str, str] = {}
    for path in config.data:
        identity = content_of(inputs_of[path])
        if identity in places:
            twin = f"{path} has the content of {places[identity]}"
            raise UserError("The data is its own reference.", twin, "name text that is not the data")
        if identity in shards:
            twin = f"{path} has the content of {shards[identity]}"
            raise UserError("A file of the data is given twice.", twin, "give each file once")
        shards[identity] = path
    _refuse_copies(config.data, references)


def _refuse_copies(data: Sequence[str], references: Sequence[str]) -> None:
    """Refuse a reference that holds the rows of a file of the data in another format, or packed."""
    copies = {rows: path for path in data if (rows := _first_rows(path)) is not None}
    for path in references:
        twin = copies.get(_first_rows(path) or ())
        if twin is not None and _row_count(twin) == _row_count(path):
            found = f"{path} has the rows of {twin}"
            raise UserError("The data is its own reference.", found, "name text that is not the data")


def _first_rows(path: str) -> tuple[str, ...] | None:
    """The values of the first rows as text, whatever the format; None for the hub, and for what cannot be read (which
    the step that reads it says)."""
    if is_hub(path):
        return None
    rows: list[str] = []
    try:
        for file in open_records(path).data_files:
            for _, values in itertools.islice(raw_rows(file), SAME_ROWS - len(rows)):
                if isinstance(values, BadRow):
                    return None
                cells = {str(name): as_cell(value) for name, value in values.items()}
                rows.append(repr(sorted((name, cell) for name, cell in cells.items() if cell)))
    except UserError:
        return None
    return (parse_source(path).column or "", *rows) if rows else None


def _row_count(path: str) -> int | None:
    try:
        return sum(1 for file in open_records(path).data_files for _ in raw_rows(file))
    except UserError:
        return None


def content_of(source: Source) -> str:
    """What tells an input's content from another's: parts and splits of one data set on the hub share a commit."""
    return f"{source.path}#{source.identity}" if is_hub(source.path) else source.identity
