"""Which columns make which record? One entry of `LAYOUTS` for every layout that Pyrite recognises.

A layout is found by the names of a file's columns, never by looking at the text. It turns one row into its records,
or raises `BadRow` with a reason that is counted and a detail that is shown.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from pyrite.errors import UserError
from pyrite.io.chat_turns import TURN_LISTS, ChatOptions, is_turn, parsed_text, spoken_turns, turns_of, without_tools
from pyrite.io.raw_row import ID_COLUMNS, PARSE_COLUMNS, BadRow, RawRow, as_text, require_text, short_value
from pyrite.records import Chat, Labelled, Message, Pair, Record, Text

PROMPTS = ("prompt", "instruction", "question", "query", "problem", "input")
"""Columns that can hold what was asked, the likeliest first."""
ANSWERS = ("answer", "output", "response", "completion", "solution", "reply", "generation")
"""Columns that can hold what was answered."""
SIDES = ("chosen", "rejected")
"""The two answers of a preference row."""
SYSTEM = ("system", "system_prompt")
TOOLS = ("tools", "functions")
_SYSTEMS, _TOOLS = frozenset(SYSTEM), frozenset(TOOLS)
Part = tuple[str, tuple[tuple[str, ...], ...]]
"""A part of a record, and the columns that make it: of each group of names the first that a row has."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows with certain columns become records.

    `requires` lists what a row must have, each with its other names; `optional` what is used where it is there;
    `ignored` what is known and neither text nor worth keeping; `to_meta` what is required and still goes to `meta`, as
    every other column does. `parts` says what is made of the columns.
    """

    name: str
    kind: type[Record]
    requires: tuple[tuple[str, ...], ...]
    build: Callable[[RawRow], list[Record]]
    optional: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    to_meta: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()

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

    @property
    def holds_turns(self) -> bool:
        """Is one of its columns a list of turns or instances?"""
        return any(name in (*TURN_LISTS, "instances") for names in self.requires for name in names)

    @property
    def answer_names(self) -> tuple[str, ...]:
        """Our names of the column that holds the answer; none where there is no such column."""
        return next((groups[0] for name, groups in self.parts if name == "answer"), ())


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
    return [_chat(row, [*_system(row), *_list_of_turns(row, "messages")])]


def _sharegpt(row: RawRow) -> list[Record]:
    return [_chat(row, [*_system(row), *_list_of_turns(row, "conversations")])]


def _conversation(row: RawRow) -> list[Record]:
    return [_chat(row, [*_system(row), *_list_of_turns(row, *TURN_LISTS)])]


def _alpaca(row: RawRow) -> list[Record]:
    question = _with_input(row.text("instruction"), row.optional_text("input", "context"))
    answer = row.text(*ALPACA_ANSWERS)
    turns = [*_system(row), *_history(row), Message("user", question), Message("assistant", answer)]
    return [_chat(row, turns)]


def _prompt_completion(row: RawRow) -> list[Record]:
    return [_chat(row, [*_system(row), *_side(row, ("prompt",), "user"), *_side(row, COMPLETIONS, "assistant")])]


def _question_answer(row: RawRow) -> list[Record]:
    question, answer = row.text("question"), row.text("answer")
    return [_chat(row, [*_system(row), Message("user", question), Message("assistant", answer)])]


def _prompt_answer(row: RawRow) -> list[Record]:
    column = row.column(*PROMPTS)
    extra = row.optional_text("input", "context") if column != row.column("input") else ""
    asked = _side(row, PROMPTS, "user")
    if extra.strip() and len(asked) == 1:
        asked = [Message("user", _with_input(asked[0].content, extra))]
    return [_chat(row, [*_system(row), *_history(row), *asked, *_side(row, ANSWERS, "assistant")])]


def _preference(row: RawRow) -> list[Record]:
    """A chat with one of the two answers: which one is `answer`'s column."""
    column = row.column("answer") or SIDES[0]
    value = row.value("answer")
    if isinstance(value, str):
        answer = spoken_turns(value) or [Message("assistant", row.text("answer"))]
    else:
        answer = turns_of(value, column, row.chats)
    if any(turn.role == "user" for turn in answer):  # the whole dialogue
        return [_chat(row, [*_system(row), *answer])]
    name = next((name for name in TURN_LISTS if isinstance(row.value(name), (Sequence, Mapping))), None)
    if name is not None:
        asked = turns_of(row.value(name), name, row.chats)
    else:
        asked = _side(row, PROMPTS, "user")
        extra = row.optional_text("input", "context") if row.column(*PROMPTS) != row.column("input") else ""
        if len(asked) == 1:
            asked = spoken_turns(asked[0].content) or [Message("user", _with_input(asked[0].content, extra))]
    return [_chat(row, [*_system(row), *_history(row), *asked, *answer])]


def _side(row: RawRow, names: tuple[str, ...], role: str) -> list[Message]:
    """What was asked, or answered: text, or a list of turns."""
    value = row.value(*names)
    if isinstance(value, (Sequence, Mapping)) and not isinstance(value, str):
        return turns_of(value, row.column(*names) or names[0], row.chats)
    return [Message(cast(ChatRole, role), row.text(*names))]


def _list_of_turns(row: RawRow, *names: str) -> list[Message]:
    return turns_of(row.value(*names), row.column(*names) or names[0], row.chats)


def _chat(row: RawRow, turns: list[Message]) -> Chat:
    """The chat, with the tools that could be called in `meta`."""
    name, meta = row.name()
    options = cast(ChatOptions, row.chats)
    if row.has_any(_TOOLS) and (tools := row.value(*TOOLS)) is not None:
        meta["tools"] = tools
    if options.tool_calls == "leave-out":
        meta.pop("tools", None)
        if any(turn.role == "tool" or turn.tool_calls for turn in turns):
            turns = without_tools(turns, "the chat")
    return Chat(tuple(turns), name, meta)


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
        answer = require_text(instance.get("output"), f"{location}.output", numbers=True)
        chats.append((Message("user", _with_input(instruction, extra or "")), Message("assistant", answer)))
    name, meta = row.name()
    if len(chats) == 1:
        return [Chat(chats[0], name, meta)]
    return [Chat(turns, row.extra_id(name, index), meta) for index, turns in enumerate(chats, 1)]


def _with_input(instruction: str, extra: str) -> str:
    return f"{instruction}\n\n{extra}" if extra.strip() else instruction


def _system(row: RawRow) -> list[Message]:
    system = row.optional_text(*SYSTEM) if row.has_any(_SYSTEMS) else ""
    return [Message("system", system)] if system.strip() else []


def _history(row: RawRow) -> list[Message]:
    turns: list[Message] = []
    history = row.value("history")
    if history is None or history == "":
        return []
    if isinstance(history, str):
        history = parsed_text(history, "history")
    if not isinstance(history, Sequence):
        raise BadRow("wrong type", f"history is {short_value(history)}, not a list")
    for index, pair in enumerate(history, 1):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise BadRow("wrong type", f"history[{index}] is {short_value(pair)}, not a question and an answer")
        turns.append(Message("user", require_text(pair[0], f"history[{index}]")))
        turns.append(Message("assistant", require_text(pair[1], f"history[{index}]")))
    return turns


def _layout(
    name: str,
    kind: type[Record],
    requires: str,
    build: Callable[[RawRow], list[Record]],
    optional: str = "",
    ignored: tuple[str, ...] = (),
    to_meta: str = "",
    parts: str = "",
) -> Layout:
    """An entry; `parts` is "prompt=instruction+input|context answer=output"."""
    needs = tuple(tuple(names.split("|")) for names in requires.split())
    named = (part.partition("=") for part in parts.split())
    groups = tuple((part, tuple(tuple(names.split("|")) for names in columns.split("+"))) for part, _, columns in named)
    return Layout(name, kind, needs, build, tuple(optional.split()), ignored, tuple(to_meta.split()), groups)


ChatRole = Literal["system", "user", "assistant", "tool"]
ALPACA_ANSWERS = ("output", "response")
COMPLETIONS = ("completion", "response")
_PAIR = "premise=premise hypothesis=hypothesis label=label"
_MULTINLI = "premise=sentence1 hypothesis=sentence2 label=gold_label"
_SYSTEM = f"system={'|'.join(SYSTEM)}"
_ASKED = "|".join(PROMPTS)
_ANSWERED = "|".join(ANSWERS)
_ANY = " ".join((*SYSTEM, *TOOLS))

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _layout("labelled", Labelled, "fields", _labelled, "label", parts="fields=fields label=label"),
        _layout(
            "hans",
            Pair,
            "gold_label sentence1 sentence2 heuristic subcase template",
            _multinli,
            ignored=PARSE_COLUMNS,
            to_meta="heuristic subcase template",
            parts=_MULTINLI,
        ),
        _layout("multinli", Pair, "gold_label sentence1 sentence2", _multinli, ignored=PARSE_COLUMNS, parts=_MULTINLI),
        _layout(
            "anli",
            Pair,
            "uid context|premise hypothesis",
            _anli,
            "label",
            parts="premise=context|premise hypothesis=hypothesis label=label",
        ),
        _layout("nli", Pair, "premise hypothesis", _nli, "label", parts=_PAIR),
        _layout("messages", Chat, "messages", _messages, _ANY, parts=f"turns=messages {_SYSTEM}"),
        _layout("sharegpt", Chat, "conversations", _sharegpt, _ANY, parts=f"turns=conversations {_SYSTEM}"),
        _layout(
            "self-instruct",
            Chat,
            "instruction instances",
            _self_instruct,
            parts="prompt=instruction+instances answer=instances",
        ),
        _layout(
            "alpaca",
            Chat,
            "instruction output|response",
            _alpaca,
            f"input context history {_ANY}",
            parts=f"{_SYSTEM} history=history prompt=instruction+input|context answer=output|response",
        ),
        _layout(
            "prompt-completion",
            Chat,
            "prompt completion|response",
            _prompt_completion,
            _ANY,
            parts=f"{_SYSTEM} prompt=prompt answer=completion|response",
        ),
        _layout(
            "question-answer",
            Chat,
            "question answer",
            _question_answer,
            _ANY,
            parts=f"{_SYSTEM} prompt=question answer=answer",
        ),
        _layout(
            "preference",
            Chat,
            "chosen rejected",
            _preference,
            f"answer {' '.join(PROMPTS)} {' '.join(TURN_LISTS)} context history {_ANY}",
            parts=f"{_SYSTEM} history=history turns={'|'.join(TURN_LISTS)} prompt={_ASKED}+input|context answer=answer",
        ),
        _layout(
            "prompt-answer",
            Chat,
            f"{_ASKED} {_ANSWERED}",
            _prompt_answer,
            f"input context history {_ANY}",
            parts=f"{_SYSTEM} history=history prompt={_ASKED}+input|context answer={_ANSWERED}",
        ),
        _layout("text", Text, "text", _text, parts="text=text"),
        _layout(
            "conversation",
            Chat,
            "|".join(TURN_LISTS[2:]),
            _conversation,
            _ANY,
            parts=f"turns={'|'.join(TURN_LISTS[2:])} {_SYSTEM}",
        ),
    )
}
"""Every layout by name, in the order in which they are tried."""

RESERVED = frozenset({"label", "meta", "id"} | {name for layout in LAYOUTS.values() for name in layout.uses()})
"""Column names that could change how a row is read: a record's `meta` never spreads into them."""


def layout_named(name: str, flag: str = "--layout") -> Layout:
    """The layout of this name; an unknown one gets "did you mean"."""
    if name in LAYOUTS:
        return LAYOUTS[name]
    near = difflib.get_close_matches(name, LAYOUTS, n=1)
    raise UserError(
        "there is no such layout",
        f"layout {short_value(name)}",
        (f"did you mean `{flag} {near[0]}`? " if near else "") + f"known: {', '.join(LAYOUTS)}",
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
    if renamed.get("answer") in SIDES and set(SIDES) <= set(columns):
        return LAYOUTS["preference"]
    if "text" in renamed and {*PROMPTS, *ANSWERS, *TURN_LISTS}.isdisjoint(renamed):  # said to stand alone
        return LAYOUTS["text"]
    return next((layout for layout in LAYOUTS.values() if layout.fits(our_columns)), None)


def in_lower_case(columns: Sequence[str]) -> dict[str, str]:
    """The columns whose names are ours but for capitals: our name -> the column; none where two are one."""
    lowered = [column.strip().lower() for column in columns]
    known = {name for layout in LAYOUTS.values() for name in layout.uses()}
    return {
        name: column
        for name, column in zip(lowered, columns, strict=True)
        if name != column and name in known and lowered.count(name) == 1
    }


def layout_of_row(row: Mapping[str, object]) -> Layout | None:
    """The layout of a row by its columns, capitals or not."""
    columns = list(row)
    return detect(columns, {}) or detect(columns, in_lower_case(columns))


def nested_layouts(row: Mapping[str, object], renamed: Mapping[str, str]) -> Iterator[tuple[str, Layout]]:
    """The columns of a row that hold a whole row themselves, each with its layout."""
    for column, value in row.items():
        if isinstance(value, Mapping) and not is_turn(value):
            layout = detect([name for name in value if isinstance(name, str)], renamed)
            if layout is not None:
                yield column, layout


WRAPPERS = frozenset({"data", "row", "conversation", "example", "instance", "doc"})
"""What a column that holds the whole row is mostly called."""


def holds_text(value: object) -> bool:
    """Could this be what was asked, or answered? Several words, a turn of a chat, or either in a list or an object; no
    address."""
    if isinstance(value, str):
        return (len(value.split()) > 2 or (len(value) > 10 and not value.isascii())) and "://" not in value[:12]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return is_turn(value) or any(holds_text(part) for part in parts)


def holds_objects(value: object) -> bool:
    """Is this a list of objects, as turns are?"""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, Mapping) for item in value)


def is_id_or_label(name: str) -> bool:
    """Does the name of a column say that it names or sorts the row?"""
    name = name.lower()
    return name in map(str.lower, ID_COLUMNS) or name.endswith(("_id", "_uid", "uuid")) or "label" in name


def texts_beside(rows: Sequence[Mapping[str, object]], within: str) -> list[str]:
    """The columns beside `within` that could be what was asked, or answered; beside a wrapper of whole rows, notes in
    plain text are none."""
    names = dict.fromkeys(name for row in rows for name in row if isinstance(name, str) and name != within)
    wrapper = within.lower() in WRAPPERS

    def speaks(name: str, value: object) -> bool:
        if name.lower() in {*PROMPTS, *ANSWERS, *SIDES}:
            return bool(value)
        return holds_text(value) and not (wrapper and isinstance(value, str))

    return [name for name in names if name not in ID_COLUMNS and any(speaks(name, row.get(name)) for row in rows)]


def likely_columns(row: Mapping[str, object]) -> dict[str, str]:
    """What the columns of a row of no layout were probably meant to be called: our name -> the column; none where no
    column is near whose value could be read so."""
    for layout in LAYOUTS.values():
        lacking = [names for names in layout.requires if not any(name in row for name in names)]
        near = [match for names in lacking if (match := next(filter(None, (_near(name, row) for name in names)), None))]
        if near and len(near) == len(lacking) == len({theirs for _, theirs in near}):
            return dict(near)
    return {}


def unknown_layout(location: str, columns: Sequence[str], examples: str) -> UserError:
    """No layout has these columns: what was found, what there is, and what was probably meant."""
    return UserError(
        "the columns are of no layout that Pyrite knows",
        f"{location}: columns {short_value(list(columns), 300)}",
        examples
        + "name them with --columns OURS=THEIRS (in a YAML file: columns), or name the text columns of a labelled task (fields); "
        "layouts:\n" + "\n".join(f"           {layout.describe()}" for layout in LAYOUTS.values()),
    )


def _near(name: str, row: Mapping[str, object]) -> tuple[str, str] | None:
    fitting = [column for column, value in row.items() if isinstance(column, str) and _could_be(name, value)]
    match = difflib.get_close_matches(name, fitting, n=1, cutoff=0.7)
    return (name, match[0]) if match else None


def _could_be(name: str, value: object) -> bool:
    """Could a column of ours hold this value?"""
    if name == "fields":
        return isinstance(value, Mapping)
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if name in (*TURN_LISTS, "instances"):
        return (
            is_list or isinstance(value, Mapping) or (isinstance(value, str) and value.lstrip().startswith(("[", "{")))
        )
    return as_text(value) is not None or (is_list and all(is_turn(item) for item in cast(Sequence[object], value)))
