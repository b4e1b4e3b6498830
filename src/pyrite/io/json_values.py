"""JSON as people write it: rows a line, arrays, objects around the rows, columns of lists; and what is not quite JSON."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.io.chat_turns import is_turn_list
from pyrite.io.encodings import utf8_content
from pyrite.io.files import File, line_start, not_utf8, open_uncompressed
from pyrite.io.json_columns import form_of, rows_of_table
from pyrite.io.json_dump import without_halves
from pyrite.io.json_spans import value_spans
from pyrite.io.layouts import layout_of_row
from pyrite.io.raw_row import BadRow, short_value

_NOT_UTF8 = re.compile("[\udc80-\udcff]")
ROW_LISTS = ("data", "rows", "examples", "items", "records", "instances")
"""What the list of rows in an object is mostly called: taken first where there are several lists."""


def json_row(line: bytes) -> Mapping[str, Any] | BadRow:
    """The row that one line holds."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        bad = not_utf8(line)
        if bad is not None:
            return bad
        try:
            value = parse_values(line.decode("utf-8"))  # also NaN, numbers of any size, halves of surrogate pairs
        except (ValueError, RecursionError):
            hint = " (an array of rows belongs into a .json file)" if line.startswith(b"[") else ""
            return BadRow("broken JSON", f"{error.msg} at column {error.pos + 1} of {line_start(line)}{hint}")
    return row_object(value)


def parse_values(text: str) -> Any:
    """A row's values out of its text, whole numbers of any size."""
    return without_halves(json.loads(text))


def row_object(value: object) -> Mapping[str, Any] | BadRow:
    """A row is an object; a list of turns is a chat."""
    if isinstance(value, dict):
        return value
    if is_turn_list(value):
        return {"messages": value}
    return BadRow(
        "not an object", f"a row is an object with columns, this is {type(value).__name__} {short_value(value)}"
    )


def json_rows(file: File) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    """The rows of a JSON file, with their places from 1.

    Raises:
        UserError: it is not JSON, or holds several lists of rows and none was named.
    """
    with open_uncompressed(file) as source:
        content = utf8_content(source.read(), file.encoding)
    if not content or content.isspace():
        return
    try:
        values: list[Any] = [orjson.loads(content)]
        lenient = False
    except orjson.JSONDecodeError as error:
        values, lenient = _lenient_values(file, content, error), True
    del content
    rows = rows_in(file, values[0]) if len(values) == 1 else values
    for number, row in enumerate(rows, 1):
        if lenient and (broken := _broken(row)):
            yield number, broken
        elif lenient and (byte := _undecodable(row)):
            yield number, BadRow("not UTF-8", f"byte {byte:#04x}")
        else:
            yield number, row_object(without_halves(row) if lenient else row)


def _lenient_values(file: File, content: bytes, error: orjson.JSONDecodeError) -> list[Any]:
    """Several values after each other (as jq writes them), NaN, halves of surrogate pairs, bytes that are not UTF-8, and
    broken rows, which are bad ones."""
    try:
        return [span.value for span in value_spans(content.decode("utf-8", "surrogateescape"))]
    except json.JSONDecodeError as broken:
        raise UserError(
            "this is not JSON",
            f"{file.display_name}:{broken.lineno}: {broken.msg} at column {broken.colno}",
            "mend the file, which may be cut off; with one object a line (.jsonl), single bad rows can be left out (--on-bad-row skip)",
        ) from error


def _broken(value: Any) -> BadRow | None:
    """The first broken part of a value, which makes its row a bad one; None where all is whole."""
    if isinstance(value, BadRow):
        return value
    parts: Sequence[Any] = value if isinstance(value, list) else [*value.values()] if isinstance(value, dict) else ()
    return next((broken for part in parts if (broken := _broken(part)) is not None), None)


def _undecodable(value: Any) -> int | None:
    """The first byte of a value that is not UTF-8; None where all is."""
    if isinstance(value, str):
        match = _NOT_UTF8.search(value)
        return ord(match[0]) - 0xDC00 if match else None
    parts: Sequence[Any] = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else ()  # fmt: skip
    return next((byte for part in parts if (byte := _undecodable(part)) is not None), None)


def rows_in(file: File, document: Any) -> Sequence[Any]:
    """The rows of a whole document: those of an array, of the list in an object, of columns side by side; an object
    that has a layout itself is one row.

    Raises:
        UserError: an object holds several lists of rows, and none was named; or none of the name given.
    """
    if isinstance(document, list):
        return [document] if is_turn_list(document) else document
    if not isinstance(document, dict):
        return [document]
    name = rows_name(file, document)
    if name is not None:
        return [_datasets_server_row(row) for row in document[name]]
    form = form_of(document)
    return (rows_of_table(document, form) if form is not None else []) or [document]


def rows_name(file: File, document: Mapping[str, Any]) -> str | None:
    """Under which name does an object hold the rows? None where it is a row itself, or its columns are."""
    if layout_of_row(document) is not None and file.split is None:
        return None
    names = [name for name, value in document.items() if _is_rows(value)]
    if file.split is not None:
        if file.split in names:
            return file.split
        known = f"its lists of rows: {', '.join(names)}" if names else "leave the split out: it holds no lists of rows"
        raise UserError("there is no such split", f"{file.display_name}, split {short_value(file.split)}", known)
    usual = [name for name in ROW_LISTS if name in names]
    if len(names) > 1 and not usual:
        fix = "write " + " or ".join(f"`{shlex.quote(f'{file.display_name}@{name}')}`" for name in names)
        raise UserError("say which split to read", f"{file.display_name} holds {', '.join(names)}", fix)
    return usual[0] if usual else next(iter(names), None)


def _is_rows(value: Any) -> bool:
    rows = value[:20] if isinstance(value, list) else []
    return bool(rows) and all(isinstance(row, (dict, BadRow)) for row in rows) and not is_turn_list(rows)


def _datasets_server_row(row: Any) -> Any:
    """The hub's viewer wraps each row: {"row_idx": 0, "row": {…}, "truncated_cells": []}."""
    return row["row"] if isinstance(row, dict) and "row_idx" in row and isinstance(row.get("row"), dict) else row
