"""One row of a file before its layout is applied: its columns by our names, its id, and the errors of a bad row."""

import datetime
import decimal
import hashlib
import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyrite.errors import PyriteError

NO_LABEL = "-"
"""The label of a pair on which annotators did not agree: `-` in MultiNLI and SNLI, -1 on the hub. Kept as it is."""
ID_COLUMNS = ("id", "pairID", "uid", "idx")
"""Columns that name a row, the first that is there wins; `id` alone does not also stay in `meta`."""
REASONS = (
    "broken JSON",
    "not an object",
    "not UTF-8",
    "broken CSV",
    "wrong number of columns",
    "missing field",
    "wrong type",
    "empty text",
    "unknown label",
    "unknown role",
    "not text",
)
"""Why a row can be bad: the keys of `Counts.dropped`."""
_LETTERS = {"e": "entailment", "n": "neutral", "c": "contradiction"}
PARSE_COLUMNS = tuple(f"sentence{side}_{kind}" for side in "12" for kind in ("binary_parse", "parse"))
_INTEGER = re.compile(r"-?[0-9]+")


class BadRow(PyriteError):
    """One row that cannot become a record: a `reason` out of `REASONS`, and what was found in it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        assert reason in REASONS, reason
        self.reason = reason
        self.detail = detail


class UnnamedLabels(PyriteError):
    """Integer labels of which nothing says what they mean; the reader says so with the file's name."""

    def __init__(self, column: str, value: str) -> None:
        super().__init__(column, value)
        self.column = column
        self.value = value


def short_value(value: object, width: int = 80) -> str:
    """A value out of somebody's data, safe and short enough for a message."""
    if isinstance(value, str):
        value = value[: width + 1]
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"


class SeenHashes:
    """Hashes of 64 bits that were met: the latest as a set, the others sorted in an array, about 14 bytes each (a set takes 90)."""

    FEWEST = 1 << 19
    """So many at least before they are sorted in."""

    def __init__(self) -> None:
        self._latest: set[int] = set()
        self._sorted = array("Q")

    def __len__(self) -> int:
        return len(self._latest) + len(self._sorted)

    def is_new(self, value: int) -> bool:
        """Is this the first time? It is remembered."""
        if value in self._latest:
            return False
        at = bisect_left(self._sorted, value)
        if at < len(self._sorted) and self._sorted[at] == value:
            return False
        self._latest.add(value)
        if len(self._latest) >= max(self.FEWEST, len(self._sorted) // 16):
            self._sort_in()
        return True

    def _sort_in(self) -> None:
        import numpy as np

        latest = np.fromiter(self._latest, dtype=np.uint64, count=len(self._latest))
        merged = np.concatenate([np.frombuffer(self._sorted, dtype=np.uint64), latest])
        merged.sort()
        self._latest, self._sorted = set(), array("Q", merged.tobytes())


class Ids:
    """Gives every row an id that is unique within its source.

    A row's own id is taken where it has one; a repeat becomes `id#number`, a row without one is `stem:number`. A hash of every own
    id is remembered, nothing of the others.
    """

    def __init__(self, stem: str) -> None:
        self._prefix = f"{stem}:"
        self._seen = SeenHashes()
        self._numbered = False

    def give(self, own_id: str | None, number: int) -> str:
        """The id of row `number`, whose own id is `own_id`."""
        if own_id is None:
            name = f"{self._prefix}{number}"
            self._numbered = True
            return name if not self._seen or self._new(name) else self.give(name, number)
        name = own_id
        while not self._new(name) or (self._numbered and self._looks_numbered(name)):
            name = f"{name}#{number}"
        return name

    def _new(self, name: str) -> bool:
        digest = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        return self._seen.is_new(digest)

    def _looks_numbered(self, name: str) -> bool:
        return name.startswith(self._prefix) and name[len(self._prefix) :].isdigit()


@dataclass(frozen=True, slots=True)
class LayoutContext:
    """What a layout has to know beside the row: what the user asked for, and what the file says about itself.

    `columns` maps our names to the file's, `names` a column to the names of its integer labels; in a `stringly` file
    (CSV, TSV) every value is text, integers too. With `numbers` a number is a text, too. `chats` is how chats are read.
    """

    columns: Mapping[str, str]
    labels: Sequence[str] | None
    label_map: Mapping[str, str]
    text_fields: Sequence[str] | None
    names: Mapping[str, Sequence[str]]
    stringly: bool
    used: frozenset[str]
    ids: Ids
    numbers: bool = False
    chats: Any = None
    candidates: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    """The file's names for columns by ours: those that the first rows settled, and as they were looked up."""

    def columns_for(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The file's names of these columns, those first that the user named; a column that the user gave another name
        is free for no other."""
        if names not in self.candidates:
            if not self.columns:
                return names
            claimed = set(self.columns.values())
            renamed = [self.columns[name] for name in names if name in self.columns]
            others = [name for name in names if name not in self.columns and name not in claimed]
            self.candidates[names] = (*renamed, *others)
        return self.candidates[names]


class RawRow:
    """One row of a file, asked for by our names of its columns."""

    __slots__ = ("_context", "number", "values")

    def __init__(self, values: Mapping[str, Any], number: int, context: LayoutContext) -> None:
        self.values = values
        self.number = number
        self._context = context

    @property
    def chats(self) -> Any:
        """How chats are read (`ChatOptions`)."""
        return self._context.chats

    def column(self, *names: str) -> str | None:
        """The file's name of the first of these columns that the row has."""
        values, context = self.values, self._context
        for column in context.columns_for(names) if context.columns or context.candidates else names:
            if column in values:
                return column
        return None

    def has_any(self, names: frozenset[str]) -> bool:
        """Could the row have one of these columns? Quick where it has none."""
        return bool(self._context.columns) or not names.isdisjoint(self.values)

    def value(self, *names: str) -> Any:
        """The value of the first of these columns that the row has, else None; NaN is none."""
        column = self.column(*names)
        value = None if column is None else self.values[column]
        return None if is_nan(value) else value

    def text(self, *names: str) -> str:
        """Text that must be there."""
        column = self.column(*names)
        value = None if column is None else self.values[column]
        if type(value) is str and value.strip():
            return value
        if column is None or value is None:
            accepted = " or ".join(self._context.columns_for(names))
            raise BadRow("missing field", f"no {accepted} among {short_value(list(self.values), 200)}")
        return require_text(value, column, numbers=self._context.numbers)

    def optional_text(self, *names: str) -> str:
        """Text that may be absent, null or empty; then the empty string."""
        column = self.column(*names)
        value = None if column is None else self.values[column]
        if isinstance(value, str):
            return value
        if value is None or is_nan(value):
            return ""
        text = as_text(value) if self._context.numbers else None
        if not isinstance(text, str):
            raise BadRow("wrong type", f"{column} is {type(value).__name__} {short_value(value)}, not text")
        return text

    def label(self, *names: str, pair: bool, letters: bool = False) -> str | None:
        """The label by name, or None where the row has none. Never guesses what an integer means."""
        column = self.column(*names)
        raw = self.value(*names)
        allowed = self._context.labels
        if raw is None or (raw == "" and self._context.stringly):
            if allowed is not None:
                raise BadRow(
                    "missing field", f"no label in {short_value(column or names[0])}; allowed: {', '.join(allowed)}"
                )
            return None
        assert column is not None
        label = self._named(raw, column, pair, letters)
        if allowed is not None and label not in allowed and not (pair and label == NO_LABEL):
            raise BadRow("unknown label", f"{column} is {short_value(raw)}; allowed: {', '.join(allowed)}")
        return label

    def _named(self, raw: object, column: str, pair: bool, letters: bool) -> str:
        context = self._context
        if isinstance(raw, float) and raw.is_integer():
            raw = int(raw)
        if isinstance(raw, bool) and not pair:
            raw = "true" if raw else "false"
        if not isinstance(raw, (str, int)) or isinstance(raw, bool):
            raise BadRow("wrong type", f"{column} is {type(raw).__name__} {short_value(raw)}, not a label")
        key = str(raw)
        if key in context.label_map:
            return context.label_map[key]
        if context.labels is not None and key in context.labels:
            return key
        integer = isinstance(raw, int) or (context.stringly and _INTEGER.fullmatch(key) is not None)
        names = context.names.get(column)
        if pair and (key == NO_LABEL or (integer and int(key) == -1)):
            return NO_LABEL
        if integer and names is not None:
            if not 0 <= int(key) < len(names):
                raise BadRow("unknown label", f"{column} is {key}; the file names 0 to {len(names) - 1}")
            return context.label_map.get(names[int(key)], names[int(key)])
        if letters and key in _LETTERS:
            return context.label_map.get(_LETTERS[key], _LETTERS[key])
        if context.label_map:
            if key in context.label_map.values():
                return key
            raise BadRow(
                "unknown label", f"{column} is {short_value(raw)}; label_map knows {', '.join(context.label_map)}"
            )
        if integer and pair:
            raise UnnamedLabels(column, key)
        return key

    def fields(self) -> dict[str, str]:
        """The text columns of a labelled row, in the order in which the user, else the file, gives them."""
        context = self._context
        fields_object = self.value("fields")
        if isinstance(fields_object, Mapping):
            names = list(fields_object) if context.text_fields is None else list(context.text_fields)
            if not names:
                raise BadRow("empty text", "fields is empty")
            return {str(name): require_text(fields_object.get(name), f"fields.{name}") for name in names}
        if context.text_fields is not None:
            names = list(context.text_fields)
        else:
            names = [name for name in context.columns if name not in ("label", *ID_COLUMNS)]
        if not names:
            raise BadRow("missing field", "no `fields` object in the row, and no text_fields were named")
        return {name: self.text(name) for name in names}

    def name(self) -> tuple[str, dict[str, Any]]:
        """The row's id, and its other columns that hold one value each (a string, a number, true or false, null)."""
        context = self._context
        own_id: str | None = None
        own_column: str | None = None
        for column in context.columns_for(ID_COLUMNS):
            value = self.values.get(column)
            if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool)):
                own_id, own_column = str(value), column
                break
        row_id = context.ids.give(own_id, self.number)
        nested = self.values.get("meta")
        meta: dict[str, Any] = dict(nested) if isinstance(nested, Mapping) else {}
        for column, value in self.values.items():
            if column in context.used or (column == own_column == "id" and row_id == own_id):
                continue
            if value is None or is_nan(value):
                meta[column] = None
            elif isinstance(value, (str, int, float)):
                meta[column] = value
            elif isinstance(value, (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)):
                meta[column] = as_text(value)
        return row_id, meta

    def extra_id(self, base: str, index: int) -> str:
        """The id of the record number `index` (from 1) out of one row."""
        return self._context.ids.give(f"{base}#{index}", self.number)


def is_nan(value: object) -> bool:
    """Is this what pandas and numpy write where there is nothing?"""
    return (isinstance(value, float) and math.isnan(value)) or (isinstance(value, decimal.Decimal) and value.is_nan())


def as_text(value: object) -> str | None:
    """A value that is text, or that has one way of being written as text: a number, true or false, a day, a time, a
    duration. None for all else, and for what is no number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_nan(value):
        return None
    if isinstance(value, (int, float, decimal.Decimal, datetime.timedelta)):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return None


def require_text(value: object, location: str, *, numbers: bool = False) -> str:
    """Text that is text and not empty; with `numbers` also what `as_text` writes."""
    if value is None or is_nan(value):
        raise BadRow("missing field", f"{location} is {'null' if value is None else 'NaN'}")
    text = as_text(value) if numbers and not isinstance(value, str) else value
    if not isinstance(text, str):
        raise BadRow("wrong type", f"{location} is {type(value).__name__} {short_value(value)}, not text")
    if not text.strip():
        raise BadRow("empty text", f"{location} is {short_value(value)}")
    return text
