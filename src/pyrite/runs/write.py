"""Writing the record of a run."""

from pathlib import Path

import orjson

from pyrite.io import atomic_write
from pyrite.runs.schema import Record

OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def as_bytes(record: Record) -> bytes:
    """The record as the bytes of a JSON file; what is not a finite number becomes null."""
    return orjson.dumps(record.as_json(), option=OPTIONS)


def write_record(file: Path, record: Record) -> None:
    """Write a record; the file appears whole or not at all."""
    with atomic_write(file) as temporary:
        Path(temporary).write_bytes(as_bytes(record))
