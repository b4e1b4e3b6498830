"""Which columns make which record? One entry of `LAYOUTS` for every layout that Pyrite recognises.

A layout is found by the names of a file's columns, never by looking at the text. It turns one row into its records,
or raises `BadRow` with a reason that is counted and a detail that is shown.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pyrite.errors import UserError
from pyrite.io.raw_row import PARSE_COLUMNS, ROLES, BadRow, RawRow, require_text, short_value
from pyrite.records import Chat, Labelled, Message, Pair, Record, Text


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
        raise BadRow("wrong type", f"instances is {type(instances).__name__} {short_value(instances)}, not a list")
    if not instances:
        raise BadRow("missing field", "instances is an empty list")
    chats: list[tuple[Message, ...]] = []
    for index, instance in enumerate(instances, 1):
        location = f"instances[{index}]"
        if not isinstance(instance, Mapping):
            raise BadRow("wrong type", f"{location} is {short_value(instance)}, not an object")
        extra = instance.get("input")
        if not isinstance(extra, str | None):
            raise BadRow("wrong type", f"{location}.input is {short_value(extra)}, not text")
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
            raise BadRow("wrong type", f"history[{index}] is {short_value(pair)}, not a question and an answer")
        turns.append(Message("user", require_text(pair[0], f"history[{index}]")))
        turns.append(Message("assistant", require_text(pair[1], f"history[{index}]")))
    return turns


def _turns(value: object, location: str) -> list[Message]:
    """Messages as role and content, or as from and value. A system message may be empty, the others may not."""
    if value is None:
        raise BadRow("missing field", f"no {location}")
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRow("wrong type", f"{location} is {type(value).__name__} {short_value(value)}, not a list")
    if not value:
        raise BadRow("empty text", f"{location} is an empty list")
    turns = []
    for index, item in enumerate(value, 1):
        at = f"{location}[{index}]"
        if not isinstance(item, Mapping):
            raise BadRow("wrong type", f"{at} is {short_value(item)}, not an object")
        sender = item.get("role", item.get("from"))
        if not isinstance(sender, str) or sender not in ROLES:
            raise BadRow("unknown role", f"{at} is from {short_value(sender)}; known: {', '.join(ROLES)}")
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
            ignored=PARSE_COLUMNS,
            to_meta="heuristic subcase template",
        ),
        _layout("multinli", Pair, "gold_label sentence1 sentence2", _multinli, ignored=PARSE_COLUMNS),
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
        f"layout {short_value(name)}",
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
        f"{location}: columns {short_value(list(columns), 300)}",
        hint
        + "name them with `--columns ours=theirs` (in a YAML file: columns), or name the text columns of a labelled task (fields); "
        "layouts:\n" + "\n".join(f"           {layout.describe()}" for layout in LAYOUTS.values()),
    )
