"""How do results reach the disk whole or not at all?

Everything goes to a temporary file in the same folder, is flushed to the disk and then renamed, so that a reader, a
killed process or a full disk never leaves half a file. The same input gives the same bytes.
"""

import contextlib
import errno
import gzip
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pyrite.errors import UserError
from pyrite.io.json_dump import dump_json
from pyrite.io.layouts import RESERVED
from pyrite.records import Chat, Labelled, Message, Pair, Record, Text

if TYPE_CHECKING:
    import pyarrow

ROWS_PER_GROUP = 65_536


def complete_lines(path: Path) -> list[bytes]:
    """What a killed run left in a file that it appended lines to; a torn last line is cut off. Empty without a file."""
    if not path.exists():
        return []
    with path.open("r+b") as file:
        lines = file.readlines()
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        file.truncate(sum(map(len, lines)))
    return lines


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path, with the same suffix, that becomes `path` when the block ends well and else leaves no trace.

    The folder is made where it is missing.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    temporary = path.parent / f".{os.getpid()}-{secrets.token_hex(4)}.tmp.{path.name[-100:]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _write_error(error, path, temporary) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_jsonl(records: Iterable[Record], path: str | Path) -> int:
    """Write records of one kind, one JSON object a line, as `open_records` reads them back; returns how many.

    A pair has the columns premise, hypothesis, label and id, a chat messages and id, a text text and id, a labelled row
    fields, label and id. The entries of `meta` become columns of their own where all of them are single values and no
    name could be taken for one of ours; else they stay together in `meta`. JSON has no NaN and no infinity: such numbers
    become null. A name that ends in `.gz` or `.zst` is compressed.
    """
    count, kind = 0, None
    with atomic_write(path) as temporary, open_packed(temporary) as handle:
        for record in records:
            if kind is not None and type(record) is not kind:
                raise ValueError(f"one file holds one kind of record: {kind.__name__}, then {type(record).__name__}")
            kind = type(record)
            handle.write(dump_json(as_row(record)) + b"\n")
            count += 1
    return count


def as_row(record: Record) -> dict[str, Any]:
    """The record as the plain values that `write_jsonl` writes."""
    row: dict[str, Any]
    match record:
        case Pair():
            row = {"premise": record.premise, "hypothesis": record.hypothesis, "label": record.label}
        case Labelled():
            row = {"fields": dict(record.fields), "label": record.label}
        case Chat():
            row = {"messages": [_turn_as_row(turn) for turn in record.messages]}
        case Text():
            row = {"text": record.text}
    row["id"] = record.id
    single = all(value is None or isinstance(value, (str, int, float)) for value in record.meta.values())
    if single and RESERVED.isdisjoint(record.meta):
        return row | dict(record.meta)
    return row | {"meta": dict(record.meta)}


def _turn_as_row(turn: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": turn.role, "content": turn.content}
    return row | {"tool_calls": turn.tool_calls} if turn.tool_calls else row


def write_parquet(
    rows: "Sequence[Mapping[str, Any]] | pyarrow.Table", path: str | Path, *, schema: "pyarrow.Schema | None" = None
) -> int:
    """Write rows as one parquet file; returns how many. Same rows, same bytes: fixed compression, no timestamps.

    Columns are those of all rows together, in order of first appearance; what a row lacks is null. Without rows it is
    the `schema` that gives the columns, else there are none.
    """
    import pyarrow
    from pyarrow import parquet

    if isinstance(rows, pyarrow.Table):
        table = rows if schema is None else rows.cast(schema)
    else:
        names = schema.names if schema is not None else list(dict.fromkeys(name for row in rows for name in row))
        columns = {name: [row.get(name) for row in rows] for name in names}
        table = pyarrow.table(columns, schema=schema)
    with atomic_write(path) as temporary:
        parquet.write_table(
            table.combine_chunks(),
            temporary,
            compression="zstd",
            compression_level=3,
            version="2.6",
            row_group_size=ROWS_PER_GROUP,
        )
    return cast(int, table.num_rows)


@contextlib.contextmanager
def open_packed(path: Path) -> Iterator[BinaryIO]:
    """A handle that compresses as the suffix says, the same content always into the same bytes."""
    with open(path, "xb") as handle:
        match path.suffix.lower():
            case ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            case ".zst":
                import zstandard

                with zstandard.ZstdCompressor().stream_writer(handle, closefd=False) as packed:
                    yield packed
            case _:
                yield handle


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last, where the system lets a folder be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_error(error: OSError, path: Path, temporary: Path) -> BaseException:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            "the disk is full",
            f"writing {path.name} into {path.parent}; nothing half-written is left",
            "free some space, or write to another folder",
        )
    ours = {str(place) for place in (temporary, path, *path.parents)}
    if error.filename is not None and str(error.filename) in ours and not isinstance(error, FileNotFoundError):
        return UserError("cannot write here", f"{path}: {error.strerror}", "choose a folder that you may write to")
    return error
