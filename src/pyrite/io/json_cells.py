"""Lists and objects that stand in a cell as text: a table has no others. Pyrite writes them as JSON, pandas as Python."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.io.chat_turns import is_turn, parsed_text
from pyrite.io.layouts import detect, in_lower_case
from pyrite.io.raw_row import BadRow

STRUCTURED = ("fields", "instances", "meta", "tools", "functions")
"""Our columns that are never text. Lists of turns in `messages` and the like are parsed where they are read."""


def columns_of_json(rows: Sequence[Mapping[str, Any]], named: Mapping[str, str], *, is_table: bool) -> frozenset[str]:
    """Which columns hold lists or objects as text in all of these rows? Those that are never text; in a table also
    those whose cells all are lists of turns, and, where the columns are of no layout, whose cells all are rows."""
    columns = dict.fromkeys(name for row in rows for name in row if isinstance(name, str))
    structured = {named.get(name, name) for name in STRUCTURED}
    has_layout = detect(list(columns), {**in_lower_case(list(columns)), **named}) is not None
    chosen = set[str]()
    for column in columns:
        cells = [cell for row in rows if (cell := row.get(column)) not in (None, "")]
        values = [_parsed(cell) for cell in cells] if is_table or column in structured else []
        if not values or any(value is None for value in values):
            continue
        as_turns = is_table and all(isinstance(value, list) and value and all(map(is_turn, value)) for value in values)
        as_rows = is_table and not has_layout and all(_is_row(value, named) for value in values)
        if column in structured or as_turns or as_rows:
            chosen.add(column)
    return frozenset(chosen)


def with_json(row: Mapping[str, Any], columns: frozenset[str]) -> Mapping[str, Any]:
    """The row with the lists and objects that its cells in these columns are; a cell that is none stays text."""
    parsed = {name: value for name in columns if (value := _parsed(row.get(name))) is not None}
    return {**row, **parsed} if parsed else row


def _parsed(cell: object) -> Any:
    if not isinstance(cell, str) or not cell.lstrip().startswith(("[", "{")):
        return None
    try:
        return parsed_text(cell, "")
    except BadRow:
        return None


def _is_row(value: object, named: Mapping[str, str]) -> bool:
    return isinstance(value, dict) and not is_turn(value) and detect(list(value), named) is not None
