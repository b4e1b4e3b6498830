"""Tables that stand in a JSON document by their columns, or by the names of their rows: found, and written with other rows.

As pandas writes them: "lists" {COLUMN: [value, …]}, "cells" {COLUMN: {ROW: value}}, "rows" {ROW: {COLUMN: value}},
"split" {"columns": [COLUMN, …], "index": [ROW, …], "data": [[value, …], …]}.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyrite.io.chat_turns import SENDERS, TURN_LISTS, is_turn, is_turn_list
from pyrite.io.json_spans import element_spans, member_spans
from pyrite.io.layouts import layout_of_row
from pyrite.io.raw_row import BadRow

Form = Literal["lists", "cells", "rows", "split"]


def form_of(document: Mapping[str, Any]) -> Form | None:
    """How an object holds a table; None where it is one row."""
    names, table = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(table, list) and all(isinstance(row, list) for row in table):
        return "split"
    if not document or _holds_turns_or_fields(document):
        return None
    values, layout = list(document.values()), layout_of_row(document)
    if all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1:
        plain = not any(isinstance(cell, (list, dict)) for value in values for cell in value)
        if layout is not None or plain:
            return "lists" if values[0] else None
    if all(isinstance(value, dict) for value in values):
        keys = list(values[0])
        if all(list(value) == keys for value in values) and (layout is not None or _are_numbers(keys)):
            return "cells" if keys else None
        if layout is None and (_are_numbers(document) or all(layout_of_row(value) is not None for value in values)):
            return "rows"
    return None


def rows_of_table(document: Mapping[str, Any], form: Form) -> list[Any]:
    """The rows of the table that an object holds; all of them are bad under a broken name."""
    if form == "split":
        names = document["columns"]
        broken = next((name for name in names if isinstance(name, BadRow)), None)
        if broken is not None:
            return [broken] * len(document["data"])
        names = [str(name) for name in names]
        return [dict(zip(names, row, strict=True)) if len(row) == len(names) else row for row in document["data"]]
    if form == "lists":
        return [dict(zip(document, row, strict=True)) for row in zip(*document.values(), strict=True)]
    if form == "cells":
        return [{name: value[key] for name, value in document.items()} for key in next(iter(document.values()))]
    return list(document.values())


def _are_numbers(keys: Iterable[str]) -> bool:
    """Are these the numbers by which pandas names rows?"""
    return all(key.isdecimal() for key in keys)


def _holds_turns_or_fields(row: Mapping[str, Any]) -> bool:
    """Are lists and objects among the values those of one chat, or of one labelled row, and not a column's cells?"""
    fields = row.get("fields")
    if isinstance(fields, dict) and not all(isinstance(cell, dict) for cell in fields.values()):
        return True
    for name in (*TURN_LISTS, "instances"):
        value = row.get(name)
        cells = list(value.values()) if isinstance(value, dict) else value
        wrapped = isinstance(value, dict) and any(key in value for key in (*SENDERS, *TURN_LISTS))
        by_row = isinstance(cells, list) and all(isinstance(cell, list) for cell in cells)
        if name in row and (wrapped or not by_row):
            return True
    return any(is_turn(value) or is_turn_list(value) for value in row.values())


@dataclass(frozen=True, slots=True)
class TableText:
    """A table in a JSON document, by the texts of its values: `cells` of each row, by the texts of the columns' `names`;
    `keys` of the rows where they have names. `others` stands beside "columns" and "data"."""

    form: Form
    names: Sequence[str]
    keys: Sequence[str] | None
    cells: Sequence[Sequence[str]]
    others: Sequence[tuple[str, str]] = ()

    def row_texts(self) -> list[str]:
        """Each row as an object; as a list where it has other columns than the table."""
        names = [name if name.startswith('"') else json.dumps(name) for name in self.names]
        return [
            _object((name, cell) for name, cell in zip(names, row, strict=True) if cell)
            if len(row) == len(names)
            else _list(row)
            for row in self.cells
        ]

    def document(self, rows: Iterable[tuple[int, str | None]], column: str | None) -> tuple[str, int]:
        """A document of the same form with these rows (by their places from 1, each with what stands in an added column), and
        how many they are."""
        names = [*self.names]
        added = None if column is None else json.dumps(column)
        place = names.index(added) if added in names else None
        if added is not None and place is None:
            names.append(added)
        table: list[Sequence[str]] = []
        keys: list[str] = []
        for number, extra in rows:
            row = list(self.cells[number - 1])
            value = "null" if extra is None else json.dumps(extra)
            if added is not None and place is None and len(row) == len(self.names):
                row.append(value)
            elif place is not None and place < len(row):
                row[place] = value
            table.append(row)
            keys += (self.keys or ())[number - 1 : number]
        others = self.others if self.keys is None else [('"index"', _list(keys)), *self.others]
        return _document_text(self.form, names, keys, table, others), len(table)


def table_text(text: str, at: int, form: Form) -> TableText:
    """The table in the object that begins here."""
    members = {json.dumps(name): span for name, span in member_spans(text, at)}
    if form == "split":
        data = [_element_texts(text, span.start) for span in element_spans(text, members['"data"'].start)]
        names = _element_texts(text, members['"columns"'].start)
        index = members.get('"index"')
        keys = _element_texts(text, index.start) if index is not None and isinstance(index.value, list) else []
        known = {'"columns"', '"data"', *(['"index"'] if len(keys) == len(data) else [])}
        others = [(name, text[span.start : span.end]) for name, span in members.items() if name not in known]
        return TableText(form, names, keys if '"index"' in known else None, data, others)
    if form == "lists":
        columns = [_element_texts(text, span.start) for span in members.values()]
        return TableText(form, list(members), None, list(zip(*columns, strict=True)))
    inner = [_member_texts(text, span.start) for span in members.values()]
    if form == "cells":
        keys = list(inner[0])
        return TableText(form, list(members), keys, [[column[key] for column in inner] for key in keys])
    names = list(dict.fromkeys(name for row in inner for name in row))
    return TableText(form, names, list(members), [[row.get(name, "") for name in names] for row in inner])


def _document_text(
    form: Form,
    names: Sequence[str],
    keys: Sequence[str],
    table: Sequence[Sequence[str]],
    others: Sequence[tuple[str, str]],
) -> str:
    if form == "split":
        data = _list(map(_list, table), lines=True)
        return _object([('"columns"', _list(names)), *others, ('"data"', data)], lines=True)
    if form == "rows":
        rows = (_object((name, cell) for name, cell in zip(names, row, strict=True) if cell) for row in table)
        return _object(zip(keys, rows, strict=True), lines=True)
    columns = [[row[at] for row in table] for at in range(len(names))]
    inner = (_list(cells) if form == "lists" else _object(zip(keys, cells, strict=True)) for cells in columns)
    return _object(zip(names, inner, strict=True), lines=True)


def _element_texts(text: str, at: int) -> list[str]:
    return [text[span.start : span.end] for span in element_spans(text, at)]


def _member_texts(text: str, at: int) -> dict[str, str]:
    return {json.dumps(name): text[span.start : span.end] for name, span in member_spans(text, at)}


def _list(values: Iterable[str], *, lines: bool = False) -> str:
    return _between("[", values, "]", lines=lines)


def _object(members: Iterable[tuple[str, str]], *, lines: bool = False) -> str:
    return _between("{", (f"{name}:{value}" for name, value in members), "}", lines=lines)


def _between(opening: str, parts: Iterable[str], closing: str, *, lines: bool) -> str:
    return "\n".join((opening, ",\n".join(parts), closing)) if lines else f"{opening}{','.join(parts)}{closing}"
