"""Tables whose first line is a row: how they are told from tables with names, and read by the numbers of their columns."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.io.layouts import LAYOUTS, detect

_MANY_WORDS = 8
_LONG = 60
_ENDS_A_SENTENCE = re.compile(r"[.!?…。！？।؟][\"'”’)]*$")
_NUMBER = re.compile(r"[-+]?[\d.,]*\d%?")


def columns_by_number(columns: Mapping[str, str], text_fields: Sequence[str] | None) -> frozenset[str]:
    """The columns that the user names, where all of them are numbers from 1; none otherwise."""
    fields = [columns.get(name, name) for name in text_fields or ()]
    names = frozenset([*columns.values(), *fields])
    return names if all(name.isdecimal() and int(name) > 0 for name in names) else frozenset()


def first_line_is_a_row(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Do these names of columns look like a row? One is a number, a sentence or a long text, or stands in its column
    again. Names that only count (as pandas writes them where it knows none) are names."""
    if [name for name in names if name] == [str(at) for at in range(sum(map(bool, names)))]:
        return False
    return any(_is_value(name) or any(row.get(name) == name for row in rows) for name in names if name)


def _is_value(name: str) -> bool:
    words = name.split()
    is_sentence = len(words) > 2 and _ENDS_A_SENTENCE.search(name.strip()) is not None
    is_long = len(name) > _LONG or len(words) > _MANY_WORDS or "\n" in name or "://" in name
    return is_sentence or is_long or _NUMBER.fullmatch(name.strip()) is not None


def numbered_columns(names: Sequence[str], rows: Sequence[Mapping[str, Any]], layout: str | None) -> dict[str, str]:
    """How the columns of a table without names could be named by number, ours -> number: as the layout needs them, else two
    that hold text are what was asked and answered, and one is text; none where nothing fits."""
    columns = [str(at) for at in range(1, len(names) + 1)]
    texts = [str(at) for at, name in enumerate(names, 1) if _holds_text([name, *(row.get(name) for row in rows)])]
    if layout is not None:
        ours: Sequence[str] = [needed[0] for needed in LAYOUTS[layout].requires]
    else:
        ours = ("prompt", "answer") if len(texts) > 1 else ("text",)
    chosen = texts if len(texts) >= len(ours) else columns
    named = dict(zip(ours, chosen, strict=False))
    return named if len(named) == len(ours) and detect(columns, named) is not None else {}


def _holds_text(cells: Sequence[Any]) -> bool:
    """Do most of these cells have several words?"""
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    return sum(" " in text or (len(text) > 10 and not text.isascii()) for text in texts) * 2 > len(texts)
