"""The turns of a chat as the world writes them: who speaks, text in parts, calls of tools and what tools answered."""

import ast
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import orjson

from pyrite.errors import UserError
from pyrite.io.json_dump import dump_json, without_halves
from pyrite.io.raw_row import BadRow, as_text, require_text, short_value
from pyrite.io.turn_thoughts import part_thought, thought_in, with_thought
from pyrite.records import Message
from pyrite.thoughts import split_thought

Role = Literal["system", "user", "assistant", "tool"]
OUR_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_SYNONYMS: Mapping[Role, str] = {
    "system": "system developer sys system_prompt",
    "user": "user human prompter usr customer",
    "assistant": "assistant gpt model bot chatbot ai llm chatgpt gpt4 gpt_4 bard bing claude "
    "function_call tool_call tool_calls",
    "tool": "tool function observation ipython tool_response tool_result tool_output function_response "
    "function_result function_output",
}
ROLES: Mapping[str, Role] = {name: role for role, names in _SYNONYMS.items() for name in names.split()}
"""Who speaks, in other words (lower case, `_` for `-` and spaces) -> the role."""
CALLERS = frozenset({"function_call", "tool_call", "tool_calls"})
"""Roles whose whole turn is a call."""
_PLAIN_ROLES = frozenset(ROLES) - CALLERS
SENDERS = ("role", "from", "speaker", "sender", "author")
CONTENTS = ("content", "value", "text", "message", "parts")
TURN_LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "contents", "turns")
"""Columns that hold a list of turns."""
TEXT_PARTS = frozenset({None, "text", "input_text", "output_text"})
_SPOKEN = re.compile(r"(?:\A|\n\n)(Human|Assistant|System): ?")


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What the user says about chats: `roles` (theirs -> ours), and what becomes of calls of tools and their answers."""

    roles: Mapping[str, Role] = field(default_factory=dict)
    tool_calls: Literal["text", "leave-out"] = "text"


PLAIN = ChatOptions()


def check_roles(roles: Mapping[str, str] | None) -> dict[str, Role]:
    """`--roles THEIRS=OURS` as a mapping.

    Raises:
        UserError: one of ours is no role.
    """
    for theirs, ours in (roles or {}).items():
        if ours not in OUR_ROLES:
            known = " or ".join(f"`--roles {theirs}={role}`" for role in OUR_ROLES)
            raise UserError("there is no such role", f"--roles {theirs}={short_value(ours)}", known)
    return cast(dict[str, Role], dict(roles or {}))


def role_of(sender: object, roles: Mapping[str, Role] = PLAIN.roles) -> Role | None:
    """The role of whoever speaks; None where nothing says it."""
    if not isinstance(sender, str):
        return None
    role = roles.get(sender) or ROLES.get(sender)
    return role or ROLES.get(sender.strip().lower().replace("-", "_").replace(" ", "_"))


def is_turn(item: object) -> bool:
    """Is this a turn of a chat, by its keys and its speaker?"""
    if not isinstance(item, Mapping):
        return False
    spoken = any(name in item for name in (*CONTENTS, "tool_calls", "function_call"))
    return spoken and any(role_of(item.get(name)) is not None for name in SENDERS)


def is_turn_list(value: object) -> bool:
    """Is this a list of turns?"""
    return isinstance(value, list) and bool(value) and all(is_turn(item) for item in value)


def turns_of(value: object, location: str, options: ChatOptions = PLAIN) -> list[Message]:
    """The turns in a column. They may be a list, the same as JSON text, a list in an object, or lists side by side
    ({"role": [...], "content": [...]}). A system message and the answer of a tool may be empty, the others may not.

    Raises:
        BadRow: there are none, or one of them is no turn.
    """
    if isinstance(value, str):
        value = parsed_text(value, location)
    if isinstance(value, Mapping):
        value = _list_within(value)
    if value is None:
        raise BadRow("missing field", f"no {location}")
    if not isinstance(value, Sequence):
        raise BadRow("wrong type", f"{location} is {type(value).__name__} {short_value(value)}, not a list")
    if not value:
        raise BadRow("empty text", f"{location} is an empty list")
    turns: list[Message] = []
    for index, item in enumerate(value, 1):
        turn = _plain_turn(item, options)
        if turn is not None:
            turns.append(turn)
        else:
            turns += _turn(item, f"{location}[{index}]", options)
    return without_tools(turns, location) if options.tool_calls == "leave-out" else turns


def _plain_turn(item: object, options: ChatOptions) -> Message | None:
    """The turn of an item that is no more than a known role and a text, as most are; None for all others."""
    if type(item) is not dict or len(item) != 2 or options.roles:
        return None
    role, content = (item.get("role"), item.get("content")) if "role" in item else (item.get("from"), item.get("value"))
    if type(role) is not str or type(content) is not str or role not in _PLAIN_ROLES or not content.strip():
        return None
    return Message(ROLES[role], content)


def without_tools(turns: list[Message], location: str) -> list[Message]:
    """The turns without calls of tools and their answers.

    Raises:
        BadRow: nothing else was answered.
    """
    spoken = [turn for turn in turns if turn.role != "tool" and (_is_answer(turn) or turn.role == "system")]
    left = [Message(turn.role, turn.content) for turn in spoken]
    answers = [sum(turn.role == "assistant" for turn in some) for some in (turns, left)]
    if not left or (answers[0] and not answers[1]):
        raise BadRow("empty text", f"{location} has no answer beside calls of tools, which are left out")
    return left


def _is_answer(turn: Message) -> bool:
    """Is more in a turn than calls, and what was thought before them?"""
    return bool(split_thought(turn.content).answer if turn.tool_calls else turn.content)


def parsed_text(text: str, location: str) -> object:
    """The list or object that a cell holds as text.

    Raises:
        BadRow: it holds none.
    """
    if not text.strip():
        raise BadRow("empty text", f"{location} is {short_value(text)}")
    for parse in (json.loads, ast.literal_eval):  # pandas writes a list into a CSV file as Python does
        try:
            value = parse(text.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, (list, dict)):
            return without_halves(value)
    raise BadRow("wrong type", f"{location} is str {short_value(text)}, not a list")


def turn_keys(value: object) -> tuple[set[str], list[str]]:
    """Which keys of the turns in a column hold thoughts, and which hold something of which nothing is made? The ids of
    calls are no matter."""
    thoughts: set[str] = set()
    unused: dict[str, None] = {}
    with contextlib.suppress(BadRow):
        value = parsed_text(value, "") if isinstance(value, str) else value
        value = _list_within(value) if isinstance(value, Mapping) else value
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        if not isinstance(item, Mapping):
            continue
        first = [next((name for name in names if item.get(name) is not None), "") for names in (SENDERS, CONTENTS)]
        calls = next((name for name in ("tool_calls", "function_call") if item.get(name) is not None), "")
        used = {*first, calls, "tool_call_id"}
        used |= set() if first[0] else {name for name in item if role_of(name) is not None}
        is_answer = not first[0] or role_of(item[first[0]]) == "assistant"
        if is_answer and (thought := thought_in(item)[0]):
            thoughts.add(thought)
            used.add(thought)
        unused |= dict.fromkeys(str(name) for name in item if name not in used and _holds_anything(item[name]))
    return thoughts, [name for name in unused if name not in thoughts]


def _holds_anything(value: object) -> bool:
    return value is not None and not (isinstance(value, (str, Sequence, Mapping)) and not value)


def _list_within(value: Mapping[str, Any]) -> object:
    for name in TURN_LISTS:
        if name in value:
            within = value[name]
            return _list_within(within) if isinstance(within, Mapping) else within
    columns = {name: items for name, items in value.items() if isinstance(items, Sequence) and not isinstance(items, str)}  # fmt: skip
    is_table = any(name in columns for name in SENDERS) and len({len(items) for items in columns.values()}) == 1
    if is_table:
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [value] if is_turn(value) else value


def _turn(item: object, at: str, options: ChatOptions) -> list[Message]:
    """The turn, or turns, in one item of a list."""
    if not isinstance(item, Mapping):
        raise BadRow("wrong type", f"{at} is {short_value(item)}, not an object")
    sender: object = next((item[name] for name in SENDERS if item.get(name) is not None), None)
    if isinstance(sender, Mapping):  # ChatGPT's own export: {"author": {"role": "user"}}
        sender = sender.get("role")
    if sender is None and (pair := _question_and_answer(item, options)):
        turns = [Message(role, require_text(text, f"{at}.{name}", numbers=True)) for name, role, text in pair]
        thought = thought_in(item)[1]
        return [Message(turn.role, with_thought(thought, turn.content)) if turn.role == "assistant" else turn for turn in turns]  # fmt: skip
    role = role_of(sender, options.roles)
    if role is None:
        word = short_value(sender).strip("'")
        named = f"; `--roles {word}=assistant` would say so" if isinstance(sender, str) and word.isidentifier() else ""
        raise BadRow("unknown role", f"{at} is from {short_value(sender)}; known: {', '.join(ROLES)}{named}")
    calls = calls_of(item)
    thought = thought_in(item)[1] if role == "assistant" else ""
    content: object = next((item[name] for name in CONTENTS if item.get(name) is not None), None)
    if role == "assistant" and isinstance(sender, str) and _is_caller(sender, content):
        assert isinstance(content, str)
        return [Message(role, with_thought(thought, ""), _as_list(content))]
    where = f"{at} ({role})"
    if isinstance(content, Mapping) and "parts" in content:
        content = content["parts"]
    if isinstance(content, Sequence) and not isinstance(content, str):
        return _turns_of_parts(content, role, calls, where, thought)
    return [_message(role, content, calls, where, thought)]


def _message(role: Role, content: object, calls: str, where: str, thought: str = "") -> Message:
    text = as_text(content)
    if thought:
        answer = "" if content is None or text == "" else require_text(content, where, numbers=True)
        return Message(role, with_thought(thought, answer), calls)
    may_be_empty = role in ("system", "tool") or bool(calls)
    if may_be_empty and (text == "" or (text is None and (calls or role == "tool") and content is None)):
        return Message(role, "", calls)
    if may_be_empty and isinstance(text, str) and not text.strip():
        return Message(role, text, calls)
    return Message(role, require_text(content, where, numbers=True), calls)


def _question_and_answer(item: Mapping[str, Any], options: ChatOptions) -> list[tuple[str, Role, object]]:
    """{"human": …, "assistant": …}: the keys say who speaks."""
    spoken = [(name, role_of(name, options.roles), text) for name, text in item.items()]
    return [(name, role, text) for name, role, text in spoken if role is not None]


def _is_caller(sender: str, content: object) -> bool:
    name = sender.strip().lower().replace("-", "_").replace(" ", "_")
    if name not in CALLERS or not isinstance(content, str):
        return False
    try:
        return isinstance(orjson.loads(content), (dict, list))
    except orjson.JSONDecodeError:
        return False


def _turns_of_parts(parts: Sequence[Any], role: Role, calls: str, where: str, thought: str = "") -> list[Message]:
    """Text parts are joined by newlines, and so are thoughts; calls and answers of tools among them (Anthropic's blocks)
    are turns' own.

    Raises:
        BadRow: a part is an image or anything else that is no text.
    """
    texts: list[str] = []
    thoughts = [thought] if thought else []
    called: list[Any] = []
    answers: list[Message] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if isinstance(part, Mapping) and kind in TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif role == "assistant" and (thought_here := part_thought(part)) is not None:
            thoughts.append(thought_here)
        elif kind == "tool_use":
            called.append({"id": part.get("id"), "name": part.get("name"), "arguments": part.get("input")})
        elif kind == "tool_result":
            inner = part.get("content")
            inner = _turns_of_parts(inner, "tool", "", where)[0].content if isinstance(inner, list) else inner
            answers.append(_message("tool", inner, "", where))
        else:
            raise BadRow("not text", f"{where} has a part that is no text: {short_value(kind)}")
    if called:
        calls = dumped([*(orjson.loads(calls) if calls else []), *called])
    if answers and not texts:
        return answers
    thought = "\n\n".join(dict.fromkeys(filter(None, thoughts)))
    return [*answers, _message(role, "\n".join(texts), calls, where, thought)]


def calls_of(item: Mapping[str, Any]) -> str:
    """The calls of tools in a turn as a JSON list, as they are given; empty where there are none."""
    calls = item.get("tool_calls")
    if calls is None:
        calls = item.get("function_call")
    return _as_list(calls) if calls is not None else ""


def _as_list(calls: Any) -> str:
    if isinstance(calls, str):
        try:
            parsed = orjson.loads(calls)
        except orjson.JSONDecodeError:
            return dumped([calls]) if calls.strip() else ""
        if isinstance(parsed, list):
            return calls if parsed else ""
        calls = parsed
    if isinstance(calls, Mapping):
        calls = [calls]
    return dumped(list(calls)) if isinstance(calls, Sequence) and calls else ""


def dumped(value: Any) -> str:
    """A value of a row as JSON text."""
    return dump_json(value).decode()


def turn_text(turn: Message) -> str:
    """What stands in a turn: its content, then every call as a line of JSON, {"name": …, "arguments": …}, without the
    ids, which are drawn by chance."""
    if not turn.tool_calls:
        return turn.content
    return "\n".join(filter(None, [turn.content, *(_call_text(call) for call in orjson.loads(turn.tool_calls))]))


def _call_text(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(function, Mapping) or "name" not in function:
        return dumped(call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            arguments = orjson.loads(arguments)
    return dumped({"name": function["name"], "arguments": arguments})


def spoken_turns(text: str) -> list[Message] | None:
    """The turns of a dialogue in one text, "\\n\\nHuman: …\\n\\nAssistant: …" (Anthropic's HH); None where it is none."""
    begin = _SPOKEN.match(text)
    if begin is None:
        return None
    pieces = _SPOKEN.split(text)[1:]
    turns = [(ROLES[name.lower()], said.strip()) for name, said in zip(pieces[::2], pieces[1::2], strict=True)]
    if turns and turns[-1] == ("assistant", ""):  # a prompt that is open for the answer
        turns.pop()
    return [Message(role, require_text(said, f"the turn of the {role}")) for role, said in turns] or None
