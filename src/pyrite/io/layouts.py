"""Which columns make which record? One entry of `LAYOUTS` for every layout that Pyrite recognises.

A layout is found by the names of a file's columns, never by looking at the text. It turns one row into its records,
or raises `BadRow` with a reason that is counted and a detail that is shown.
"""

import datetime
import difflib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pyrite.errors import PyriteError, UserError
from pyrite.records import Chat, Labelled, Message, Pair, Record, Text

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
)
"""Why a row can be bad: the keys of `Counts.dropped`."""

ROLES: Mapping[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
    "observation": "tool",
}

_LETTERS = {"e": "entailment", "n": "neutral", "c": "contradiction"}
_PARSES = tuple(f"sentence{side}_{kind}" for side in "12" for kind in ("binary_parse", "parse"))
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


def show(value: object, width: int = 80) -> str:
    """A value out of somebody's data, safe and short enough for a message."""
    if isinstance(value, str):
        value = value[: width + 1]
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"


class Ids:
    """Gives every row an id that is unique within its source.

    A row's own id is taken where it has one; a repeat becomes `id#number`, a row without one is `stem:number`. Eight
    bytes of every own id are remembered, nothing of the others.
    """

    def __init__(self, stem: str) -> None:
        self._prefix = f"{stem}:"
        self._seen: set[int] = set()
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
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True

    def _looks_numbered(self, name: str) -> bool:
        return name.startswith(self._prefix) and name[len(self._prefix) :].isdigit()


@dataclass(frozen=True, slots=True)
class LayoutContext:
    """What a layout has to know beside the row: what the user asked for, and what the file says about itself.

    `columns` maps our names to the file's, `names` a column to the names of its integer labels; in a `stringly` file
    (CSV, TSV) every value is text, integers too.
    """

    columns: Mapping[str, str]
    labels: Sequence[str] | None
    label_map: Mapping[str, str]
    text_fields: Sequence[str] | None
    names: Mapping[str, Sequence[str]]
    stringly: bool
    used: frozenset[str]
    ids: Ids


class RawRow:
    """One row of a file, asked for by our names of its columns."""

    __slots__ = ("_context", "number", "values")

    def __init__(self, values: Mapping[str, Any], number: int, context: LayoutContext) -> None:
        self.values = values
        self.number = number
        self._context = context

    def column(self, *names: str) -> str | None:
        """The file's name of the first of these columns that the row has."""
        for name in names:
            column = self._context.columns.get(name, name)
            if column in self.values:
                return column
        return None

    def value(self, *names: str) -> Any:
        """The value of the first of these columns that the row has, else None."""
        column = self.column(*names)
        return None if column is None else self.values[column]

    def text(self, *names: str) -> str:
        """Text that must be there."""
        column = self.column(*names)
        if column is None or self.values[column] is None:
            accepted = " or ".join(self._context.columns.get(name, name) for name in names)
            raise BadRow("missing field", f"no {accepted} among {show(list(self.values), 200)}")
        return require_text(self.values[column], column)

    def optional_text(self, *names: str) -> str:
        """Text that may be absent, null or empty; then the empty string."""
        column = self.column(*names)
        value = None if column is None else self.values[column]
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadRow("wrong type", f"{column} is {type(value).__name__} {show(value)}, not text")
        return value

    def label(self, *names: str, pair: bool, letters: bool = False) -> str | None:
        """The label by name, or None where the row has none. Never guesses what an integer means."""
        column = self.column(*names)
        raw = None if column is None else self.values[column]
        allowed = self._context.labels
        if raw is None or (raw == "" and self._context.stringly):
            if allowed is not None:
                raise BadRow("missing field", f"no label in {show(column or names[0])}; allowed: {', '.join(allowed)}")
            return None
        assert column is not None
        label = self._named(raw, column, pair, letters)
        if allowed is not None and label not in allowed and not (pair and label == NO_LABEL):
            raise BadRow("unknown label", f"{column} is {show(raw)}; allowed: {', '.join(allowed)}")
        return label

    def _named(self, raw: object, column: str, pair: bool, letters: bool) -> str:
        context = self._context
        if isinstance(raw, float) and raw.is_integer():
            raw = int(raw)
        if isinstance(raw, bool) and not pair:
            raw = "true" if raw else "false"
        if not isinstance(raw, (str, int)) or isinstance(raw, bool):
            raise BadRow("wrong type", f"{column} is {type(raw).__name__} {show(raw)}, not a label")
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
            raise BadRow("unknown label", f"{column} is {show(raw)}; label_map knows {', '.join(context.label_map)}")
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
        for name in ID_COLUMNS:
            column = context.columns.get(name, name)
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
            if value is None or isinstance(value, (str, int, float)):
                meta[column] = value
            elif isinstance(value, (datetime.date, datetime.time)):
                meta[column] = value.isoformat()
        return row_id, meta

    def extra_id(self, base: str, index: int) -> str:
        """The id of the record number `index` (from 1) out of one row."""
        return self._context.ids.give(f"{base}#{index}", self.number)


def require_text(value: object, location: str) -> str:
    """Text that is text and not empty."""
    if value is None:
        raise BadRow("missing field", f"{location} is null")
    if not isinstance(value, str):
        raise BadRow("wrong type", f"{location} is {type(value).__name__} {show(value)}, not text")
    if not value.strip():
        raise BadRow("empty text", f"{location} is {show(value)}")
    return value


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows with certain columns become records.

    `requires` lists what a row must have, each with its other names; `optional` what is used where it is there;
    `ignored` what is known and neither text nor worth keeping; `to_meta` what is required and still goes to `meta`, as
    every other column does.
    """

    name: str
    kind: type[Record]
    requires: tuple[tuple[str, ...], ...]
    build: Callable[[RawRow], list[Record]]
    optional: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    to_meta: tuple[str, ...] = ()

    def fits(self, columns: set[str]) -> bool:
        """Does a row with these columns (by our names) have this layout?"""
        return all(any(name in columns for name in names) for names in self.requires)

    def uses(self) -> set[str]:
        """Every column, by our names, of which this layout makes something."""
        return ({name for names in self.requires for name in names} | set(self.optional)) - set(self.to_meta)

    def describe(self) -> str:
        """The layout in one line, for messages."""
        needed = ", ".join("|".join(names) for names in self.requires)
        extra = f" [{', '.join(self.optional)}]" if self.optional else ""
        return f"{self.name}: {needed}{extra}"


def _multinli(row: RawRow) -> list[Record]:
    premise, hypothesis = row.text("sentence1"), row.text("sentence2")
    label = row.label("gold_label", pair=True)
    return [Pair(premise, hypothesis, label, *row.name())]


def _nli(row: RawRow) -> list[Record]:
    premise, hypothesis = row.text("premise"), row.text("hypothesis")
    label = row.label("label", pair=True)
    return [Pair(premise, hypothesis, label, *row.name())]


def _anli(row: RawRow) -> list[Record]:
    premise, hypothesis = row.text("context", "premise"), row.text("hypothesis")
    label = row.label("label", pair=True, letters=True)
    return [Pair(premise, hypothesis, label, *row.name())]


def _labelled(row: RawRow) -> list[Record]:
    fields = row.fields()
    label = row.label("label", pair=False)
    return [Labelled(fields, label, *row.name())]


def _text(row: RawRow) -> list[Record]:
    return [Text(row.text("text"), *row.name())]


def _messages(row: RawRow) -> list[Record]:
    turns = [*_system(row), *_turns(row.value("messages"), "messages")]
    return [Chat(tuple(turns), *row.name())]


def _sharegpt(row: RawRow) -> list[Record]:
    turns = [*_system(row), *_turns(row.value("conversations"), "conversations")]
    return [Chat(tuple(turns), *row.name())]


def _alpaca(row: RawRow) -> list[Record]:
    question = _with_input(row.text("instruction"), row.optional_text("input", "context"))
    answer = row.text("output", "response")
    turns = [*_system(row), *_history(row), Message("user", question), Message("assistant", answer)]
    return [Chat(tuple(turns), *row.name())]


def _prompt_completion(row: RawRow) -> list[Record]:
    turns: list[Message] = []
    for names, role in ((("prompt",), "user"), (("completion", "response"), "assistant")):
        value = row.value(*names)
        if isinstance(value, Sequence) and not isinstance(value, str):
            turns += _turns(value, row.column(*names) or names[0])
        else:
            turns.append(Message(ROLES[role], row.text(*names)))
    return [Chat(tuple(turns), *row.name())]


def _question_answer(row: RawRow) -> list[Record]:
    question, answer = row.text("question"), row.text("answer")
    return [Chat((Message("user", question), Message("assistant", answer)), *row.name())]


def _self_instruct(row: RawRow) -> list[Record]:
    """One chat per instance; with several they are `id#1`, `id#2`, …. One bad instance makes the row bad."""
    instruction, instances = row.text("instruction"), row.value("instances")
    if not isinstance(instances, Sequence) or isinstance(instances, str):
        raise BadRow("wrong type", f"instances is {type(instances).__name__} {show(instances)}, not a list")
    if not instances:
        raise BadRow("missing field", "instances is an empty list")
    chats: list[tuple[Message, ...]] = []
    for index, instance in enumerate(instances, 1):
        location = f"instances[{index}]"
        if not isinstance(instance, Mapping):
            raise BadRow("wrong type", f"{location} is {show(instance)}, not an object")
        extra = instance.get("input")
        if not isinstance(extra, str | None):
            raise BadRow("wrong type", f"{location}.input is {show(extra)}, not text")
        answer = require_text(instance.get("output"), f"{location}.output")
        chats.append((Message("user", _with_input(instruction, extra or "")), Message("assistant", answer)))
    name, meta = row.name()
    if len(chats) == 1:
        return [Chat(chats[0], name, meta)]
    return [Chat(turns, row.extra_id(name, index), meta) for index, turns in enumerate(chats, 1)]


def _with_input(instruction: str, extra: str) -> str:
    return f"{instruction}\n\n{extra}" if extra.strip() else instruction


def _system(row: RawRow) -> list[Message]:
    system = row.optional_text("system")
    return [Message("system", system)] if system.strip() else []


def _history(row: RawRow) -> list[Message]:
    turns: list[Message] = []
    history = row.value("history")
    for index, pair in enumerate(history if history is not None else (), 1):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise BadRow("wrong type", f"history[{index}] is {show(pair)}, not a question and an answer")
        turns.append(Message("user", require_text(pair[0], f"history[{index}]")))
        turns.append(Message("assistant", require_text(pair[1], f"history[{index}]")))
    return turns


def _turns(value: object, location: str) -> list[Message]:
    """Messages as role and content, or as from and value. A system message may be empty, the others may not."""
    if value is None:
        raise BadRow("missing field", f"no {location}")
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRow("wrong type", f"{location} is {type(value).__name__} {show(value)}, not a list")
    if not value:
        raise BadRow("empty text", f"{location} is an empty list")
    turns = []
    for index, item in enumerate(value, 1):
        at = f"{location}[{index}]"
        if not isinstance(item, Mapping):
            raise BadRow("wrong type", f"{at} is {show(item)}, not an object")
        sender = item.get("role", item.get("from"))
        if not isinstance(sender, str) or sender not in ROLES:
            raise BadRow("unknown role", f"{at} is from {show(sender)}; known: {', '.join(ROLES)}")
        role = ROLES[sender]
        content = item.get("content", item.get("value"))
        if not (role == "system" and content == ""):
            content = require_text(content, f"{at} ({role})")
        turns.append(Message(role, cast(str, content)))
    return turns


def _layout(
    name: str,
    kind: type[Record],
    requires: str,
    build: Callable[[RawRow], list[Record]],
    optional: str = "",
    ignored: tuple[str, ...] = (),
    to_meta: str = "",
) -> Layout:
    needs = tuple(tuple(names.split("|")) for names in requires.split())
    return Layout(name, kind, needs, build, tuple(optional.split()), ignored, tuple(to_meta.split()))


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _layout("labelled", Labelled, "fields", _labelled, "label"),
        _layout(
            "hans",
            Pair,
            "gold_label sentence1 sentence2 heuristic subcase template",
            _multinli,
            ignored=_PARSES,
            to_meta="heuristic subcase template",
        ),
        _layout("multinli", Pair, "gold_label sentence1 sentence2", _multinli, ignored=_PARSES),
        _layout("anli", Pair, "uid context|premise hypothesis", _anli, "label"),
        _layout("nli", Pair, "premise hypothesis", _nli, "label"),
        _layout("messages", Chat, "messages", _messages, "system"),
        _layout("sharegpt", Chat, "conversations", _sharegpt, "system"),
        _layout("self-instruct", Chat, "instruction instances", _self_instruct),
        _layout("alpaca", Chat, "instruction output|response", _alpaca, "input context system history"),
        _layout("prompt-completion", Chat, "prompt completion|response", _prompt_completion),
        _layout("question-answer", Chat, "question answer", _question_answer),
        _layout("text", Text, "text", _text),
    )
}
"""Every layout by name, in the order in which they are tried."""

RESERVED = frozenset({"label", "meta", "id"} | {name for layout in LAYOUTS.values() for name in layout.uses()})
"""Column names that could change how a row is read: a record's `meta` never spreads into them."""


def layout_named(name: str) -> Layout:
    """The layout of this name; an unknown one gets "did you mean"."""
    if name in LAYOUTS:
        return LAYOUTS[name]
    near = difflib.get_close_matches(name, LAYOUTS, n=1)
    raise UserError(
        "there is no such layout",
        f"layout {show(name)}",
        (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(LAYOUTS)}",
    )


def columns_by_our_name(columns: Sequence[str], renamed: Mapping[str, str]) -> set[str]:
    """A row's columns as a layout sees them, after the user's renaming."""
    present, renamed_columns = set(columns), set(renamed.values())
    return {ours for ours, theirs in renamed.items() if theirs in present} | {
        column for column in present if column not in renamed_columns and column not in renamed
    }


def detect(columns: Sequence[str], renamed: Mapping[str, str]) -> Layout | None:
    """The layout of a row with these columns, or None."""
    our_columns = columns_by_our_name(columns, renamed)
    return next((layout for layout in LAYOUTS.values() if layout.fits(our_columns)), None)


def unknown_layout(location: str, columns: Sequence[str]) -> UserError:
    """No layout has these columns: what was found, what there is, and what was probably meant."""
    guesses = []
    for layout in LAYOUTS.values():
        lacking = [names for names in layout.requires if not any(name in columns for name in names)]
        near = [(names[0], difflib.get_close_matches(names[0], columns, n=1, cutoff=0.7)) for names in lacking]
        if near and all(match for _, match in near):
            guesses.append((layout.name, ",".join(f"{ours}={match[0]}" for ours, match in near)))
    hint = f"did you mean `--columns {guesses[0][1]}` ({guesses[0][0]})? " if guesses else ""
    return UserError(
        "the columns are of no layout that Pyrite knows",
        f"{location}: columns {show(list(columns), 300)}",
        hint
        + "name them with `--columns ours=theirs` (in a YAML file: columns), or name the text columns of a labelled task (fields); "
        "layouts:\n" + "\n".join(f"           {layout.describe()}" for layout in LAYOUTS.values()),
    )
