"""A conversation as the model reads it, through its chat template or as plain text, and where its answers stand in it.

An answer's span is the message's own words and the marker that ends them. It is located by marks: the conversation is
rendered once more with characters of the private-use planes at the ends of each answer, and where taking them out gives the text
without them, they say where the template put each answer. So nothing that a template adds (headers, greetings, dates,
empty thoughts) counts as an answer, and templates that rewrite earlier turns need no care of their own.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from typing import Any

from pyrite.errors import UserError
from pyrite.records import Chat, Message
from pyrite.thoughts import PAIRS, has_thought, open_marker, split_thought

BETWEEN = "\n\n"
"""What stands between messages where a model has no chat template."""
TODAY = date(2024, 7, 26)
"""The date that templates are given which read the clock: the same rows give the same tokens on any day."""
MARK_PLANES = (0xF0000, 0x100000)
"""Where the private-use planes begin; the first whose characters occur nowhere in a conversation marks it."""
PLANE_SIZE = 0xFFFD
START, THOUGHT, ANSWER, END = range(4)
"""The marks of an answer: where it begins, where its thought's words do, where the words after the thought do, its end."""

OWN_NAMES = frozenset({"messages", "tools", "documents", "add_generation_prompt", "tokenize", "chat_template"})
"""What the library gives a template; no option may stand for it."""

BY_TEMPLATE = "refused by the chat template"
NOT_LOCATED = "answers that the chat template rewrites"
LEFT_OUT = "answers that the chat template leaves out"
THOUGHT_LEFT_OUT = "thought left out by the chat template"
EOM = "<|eom_id|>"
NO_END_MARKER = "answer without an end marker"
PINNED_DATE = f"the chat template writes a date: {TODAY.isoformat()}"

REMARKS = (THOUGHT_LEFT_OUT, NO_END_MARKER, PINNED_DATE)

_CLOCK = re.compile(
    r"""strftime_now\(\s*(?:format\s*=\s*)?(?P<quote>["'])(?P<format>(?:(?!(?P=quote)).)*)(?P=quote)\s*\)"""
)
_EMPTY_THOUGHT = re.compile("|".join(rf"\s*{re.escape(a)}\s*{re.escape(b)}\s*" for a, b in PAIRS))


class RowRefused(UserError):
    """A row that the model's side cannot take; `reason` is the name that it is counted under where rows are skipped."""

    def __init__(self, problem: str, detail: str, fix: str, *, reason: str) -> None:
        super().__init__(problem, detail, fix)
        self.reason = reason

    def __reduce__(self) -> Any:
        return partial(type(self), reason=self.reason), self.args


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A conversation's text, the span [from, to) of each answer in it, and `remarks`: what a reader should know of it."""

    text: str
    spans: list[tuple[int, int]]
    remarks: tuple[str, ...] = ()


def render_chat(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    opened: bool,
    row_name: str,
    tools: Any = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The text of these turns; with `opened`, up to where the next answer begins.

    `tools` are functions that the model may call, `template_kwargs` further variables of the template (such as
    `enable_thinking`). A model without a template reads the messages with an empty line after each; its end marker
    closes an answer.

    Raises:
        RowRefused: the template refuses the conversation (a role that it does not know, say); `row_name` names the row.
        UserError: the template is no template, or reads the clock in a way that cannot be pinned.
    """
    from jinja2 import TemplateSyntaxError

    if not tokenizer.chat_template:
        return plain_chat(tokenizer, messages, opened=opened)
    options = {**(template_kwargs or {}), "add_generation_prompt": opened, "tokenize": False}
    tools = tools if isinstance(tools, list) and tools else None
    template = pinned_template(tokenizer.get_chat_template(tools=tools))
    errors = []
    for parsed in (True, False) if any(message.tool_calls for message in messages) else (True,):
        turns = [as_turn(message, parse_arguments=parsed) for message in messages]
        try:
            return str(tokenizer.apply_chat_template(turns, tools=tools, chat_template=template, **options))
        except TemplateSyntaxError as error:  # no row is to blame
            fix = "mend chat_template.jinja (or chat_template in tokenizer_config.json) in the model's folder"
            found = f"line {error.lineno}: {error.message}"
            raise UserError("The model's chat template cannot be read.", found, fix) from error
        except Exception as error:  # a template is a program: it may fail in any way
            errors.append(error)
    detail = f"{row_name}: {type(errors[0]).__name__}: {errors[0]}"
    fix = "leave it out"
    raise RowRefused("The chat template refuses a conversation.", detail, fix, reason=BY_TEMPLATE) from errors[0]


def plain_chat(tokenizer: Any, messages: Sequence[Message], *, opened: bool) -> str:
    """Messages as plain text: an empty line between them, the tokenizer's end marker after each answer."""
    end = tokenizer.eos_token or ""
    text = BETWEEN.join(message.content + end * (message.role == "assistant") for message in messages)
    return text + BETWEEN if opened and messages else text


def as_turn(message: Message, *, parse_arguments: bool) -> dict[str, Any]:
    """A message as templates read it; a call's arguments parsed, as most want them, or as text."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            tool_call(call, parse_arguments=parse_arguments) for call in json.loads(message.tool_calls)
        ]
    return turn


def tool_call(call: Any, *, parse_arguments: bool) -> Any:
    """A call in the common layout: type, function, its name and arguments."""
    if not isinstance(call, dict):
        return call
    function = dict(call["function"]) if isinstance(call.get("function"), dict) else dict(call)
    arguments = function.get("arguments")
    if parse_arguments and isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            function["arguments"] = json.loads(arguments)
    elif not parse_arguments and arguments is not None and not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    outer = {name: value for name, value in call.items() if name != "function"} if "function" in call else {}
    return {"type": "function", **outer, "function": function}


def parse_template_kwargs(pairs: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` texts as variables of a chat template; values as JSON where they are, else as text.

    >>> parse_template_kwargs(["enable_thinking=false", "date_string=1 May 2026"])
    {'enable_thinking': False, 'date_string': '1 May 2026'}

    Raises:
        UserError: no `=`, a name that the library itself gives a template, a name twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        name = name.strip()
        if not sign or not name.isidentifier() or name in OWN_NAMES | options.keys():
            fix = "such as --chat-template-kwargs enable_thinking=false; each name once"
            raise UserError("--chat-template-kwargs takes NAME=VALUE.", pair, fix)
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def for_step(template_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a step's configuration that names them; nothing where there are none, so that keys stay."""
    return {"chat_template_kwargs": dict(template_kwargs)} if template_kwargs else {}


@lru_cache
def pinned_template(template: str) -> str:
    """A template that gives the same text on any day: `TODAY` in place of every reading of the clock.

    Raises:
        UserError: the clock is read in a format that is computed.
    """
    pinned = _CLOCK.sub(lambda match: json.dumps(TODAY.strftime(match["format"]), ensure_ascii=False), template)
    if re.search(r"strftime_now\s*\(", pinned):
        fix = "write the format of strftime_now as a quoted text in the model's chat template"
        raise UserError("The chat template reads the clock.", "strftime_now of a computed format", fix)
    return pinned


def has_pinned_date(tokenizer: Any, text: str, tools: Any = None) -> bool:
    """Did the model's chat template write the pinned date into this text?"""
    if not tokenizer.chat_template:
        return False
    formats = _CLOCK.finditer(tokenizer.get_chat_template(tools=tools or None))
    return any(TODAY.strftime(match["format"]) in text for match in formats)


def opening_ids(tokenizer: Any) -> list[int]:
    """The token that the tokenizer puts before any text: one, or none."""
    ids: list[int] = tokenizer("")["input_ids"]
    return ids[:1] if ids[:1] == [tokenizer.bos_token_id] else []


def chat_with_answers(
    tokenizer: Any, chat: Chat, *, row_name: str, template_kwargs: Mapping[str, Any] | None = None
) -> RenderedChat:
    """A conversation as the model reads it, with the span of each answer: its words and the marker that ends them.

    A thought counts where the template keeps it, its opening marker unless the prompt ends with that. Words that the template
    trims off (blanks, mostly) are no part of the text. The end marker is the special token right after the words; where
    there is none (a last answer under some templates) the span ends with the words, and a remark says so. An answer that
    calls tools begins where the prompt for it ends, and ends with the marker that ends other answers.

    Raises:
        RowRefused: the template refuses the conversation, leaves an answer or a call out, or rewrites it so that it cannot
            be located.
    """
    messages, tools = chat.messages, chat.meta.get("tools")

    def render(turns: Sequence[Message], *, opened: bool = False) -> str:
        return render_chat(
            tokenizer, turns, opened=opened, row_name=row_name, tools=tools, template_kwargs=template_kwargs
        )

    text = render(messages)
    plane = next((p for p in MARK_PLANES if not any(p <= ord(c) < p + PLANE_SIZE for c in text if ord(c) >= p)), None)
    if plane is None or 4 * len(messages) > PLANE_SIZE:
        raise not_located(row_name, "private-use characters of both planes occur in it")
    ways = (positions(render(marked_turns), text, plane) for marked_turns in ways_to_mark(messages, plane))
    located = next((places for places in ways if places is not None), None)
    if located is None:
        raise not_located(row_name, "another text with marks in the answers than without")
    special = end_tokens(tokenizer)
    spans: list[tuple[int, int]] = []
    remarks = [PINNED_DATE] if has_pinned_date(tokenizer, text, tools) else []
    for at, message in enumerate(messages):
        if message.role != "assistant":
            continue
        marks = {kind: located[4 * at + kind] for kind in range(4) if 4 * at + kind in located}
        if END not in marks or not marks.keys() - {END}:
            problem, fix = "The chat template leaves an answer out.", "leave the row out"
            calls = " (a call of a tool)" if message.tool_calls else ""
            raise RowRefused(problem, f"{row_name}: message {at + 1}{calls}", fix, reason=LEFT_OUT)
        if message.tool_calls:
            prompt = render(messages[:at], opened=True).removeprefix(render(messages[:at])) if at else ""
            start, end = span_of_calls(text, marks, prompt, closings(render, special), row_name)
        else:
            start = min(place for kind, place in marks.items() if kind != END)
            if has_thought(message.content):
                if THOUGHT not in marks:
                    remarks.append(THOUGHT_LEFT_OUT)
                elif start == marks[THOUGHT]:
                    start = before_marker(text, start, render(messages[:at], opened=True))
            end = marker_end(text, marks[END], special)
        if end == marks[END]:
            remarks.append(NO_END_MARKER)
        if spans and spans[-1][1] > start:  # what was taken for the marker of the answer before begins this one
            spans[-1] = (spans[-1][0], max(start, spans[-1][0]))
        spans.append((start, end))
    return RenderedChat(text, spans, tuple(remarks))


def ways_to_mark(messages: Sequence[Message], plane: int) -> Iterator[list[Message]]:
    """The conversation with marks in its answers: around them, then within their outer blanks (which templates trim),
    each with all marks and with fewer, as a template may look at how an answer begins."""
    answers = [message for message in messages if message.role == "assistant" and not message.tool_calls]
    thoughts = any(has_thought(message.content) for message in answers)
    for within_blanks in (False, True):
        for kinds in ((0, 1, 2, 3), (1, 2, 3), (2, 3)) if thoughts else ((0, 3),):
            yield [
                marked(message, plane + 4 * at, kinds, within_blanks=within_blanks)
                if message.role == "assistant"
                else message
                for at, message in enumerate(messages)
            ]


def marked(message: Message, first: int, kinds: Sequence[int], *, within_blanks: bool) -> Message:
    """An answer with marks; one without a thought has no marks but those of its beginning and end, one that calls tools has
    them at the beginning of the first function's name and the end of the last one's."""
    if message.tool_calls:
        return marked_calls(message, first)
    content = message.content
    start = len(content) - len(content.lstrip()) if within_blanks else 0
    end = max(start, len(content.rstrip())) if within_blanks else len(content)
    places = {START: start, END: end}
    if has_thought(message.content):
        thought = split_thought(content)
        places |= {THOUGHT: thought.thought_at}
        places |= {ANSWER: thought.answer_at} if thought.closed and thought.answer else {}
        used = [kind for kind in kinds if kind in places]
    else:
        used = [START, END]
    text = content
    for kind in sorted(used, key=lambda kind: (places[kind], kind), reverse=True):
        text = text[: places[kind]] + chr(first + kind) + text[places[kind] :]
    return Message(message.role, text, message.tool_calls)


def marked_calls(message: Message, first: int) -> Message:
    """An answer that calls tools, with marks around the names of the functions, from the first to the last."""
    calls = json.loads(message.tool_calls)
    functions = [call.get("function", call) for call in calls if isinstance(call, dict)]
    named = [function for function in functions if isinstance(function, dict) and isinstance(function.get("name"), str)]
    if named:
        named[0]["name"] = chr(first + START) + named[0]["name"]
        named[-1]["name"] += chr(first + END)
    return Message(message.role, message.content, json.dumps(calls, ensure_ascii=False))


def positions(with_marks: str, text: str, plane: int) -> dict[int, int] | None:
    """Where each mark stands in the text without them; None where taking them out gives another text.

    A mark that stands twice (an answer that is quoted again) is no place: it is taken from the answer's own turn only
    where that is the first.
    """
    parts, found, size = [], dict[int, int](), 0
    for character in with_marks:
        number = ord(character) - plane
        if 0 <= number < PLANE_SIZE:
            if number in found:
                return None
            found[number] = size
        else:
            parts.append(character)
            size += 1
    return found if "".join(parts) == text else None


def before_marker(text: str, start: int, prompt: str) -> int:
    """Where a thought's opening marker begins, if it stands before its words and the prompt does not end with it."""
    marker = open_marker(text[:start])
    return start if not marker or open_marker(prompt) == marker else text.rindex(marker, 0, start)


def end_tokens(tokenizer: Any) -> list[str]:
    """The special tokens that may end an answer, longest first: all but the one that begins a text."""
    tokens = {str(token) for token in tokenizer.all_special_tokens}
    tokens |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    tokens -= {tokenizer.bos_token} - {tokenizer.eos_token}
    return sorted(tokens - {""}, key=lambda token: (-len(token), token))


def marker_end(text: str, end: int, special: Sequence[str]) -> int:
    """Where the special token ends that follows an answer's words, blanks between them aside; the words' end where none does."""
    at = end + len(text[end:]) - len(text[end:].lstrip())
    return next((at + len(token) for token in special if text.startswith(token, at)), end)


def closings(render: Any, special: Sequence[str]) -> set[str]:
    """The markers that may end an answer that calls tools: the one that ends a plain answer in this template, and the one
    with which Llama 3 hands over to a tool."""
    words = "words of an answer"
    try:
        text = render([Message("user", "a question"), Message("assistant", words)])
    except RowRefused:
        return {EOM} & set(special)
    end = text.rfind(words) + len(words)
    return ({text[end : marker_end(text, end, special)].strip()} - {""}) | ({EOM} & set(special))


def span_of_calls(text: str, marks: Mapping[int, int], prompt: str, ends: set[str], row_name: str) -> tuple[int, int]:
    """The span of an answer that calls tools: from where the prompt for it (`prompt`, what an opened turn adds) ends, an empty
    thought aside, to the first of `ends` after the last function's name; to that name's end where there is none.

    Raises:
        RowRefused: the turn does not begin as the prompt for it.
    """
    opened_thought = open_marker(prompt)
    header = prompt[: prompt.rindex(opened_thought)] if opened_thought else prompt
    header = _EMPTY_THOUGHT.sub("", header).rstrip()
    begun = text.rfind(header, 0, marks[START])
    if not header or begun < 0:
        raise not_located(row_name, "a turn that calls a tool does not begin as the prompt for it")
    start = begun + len(header)
    blanks = prompt[len(header) : len(prompt) - len(prompt[len(header) :].lstrip())]
    start += len(blanks) if text.startswith(blanks, start) else 0
    empty = _EMPTY_THOUGHT.match(text, start)
    start = empty.end() if empty is not None else start
    last = [text.find(marker, marks[END]) + len(marker) for marker in ends if text.find(marker, marks[END]) >= 0]
    return start, min(last, default=marks[END])


def not_located(row_name: str, why: str) -> RowRefused:
    """The refusal of a row whose answers cannot be told from the rest of its text."""
    fix = "use --part all where there is a choice, leave the row out"
    return RowRefused("The answers of a chat cannot be located.", f"{row_name}: {why}", fix, reason=NOT_LOCATED)
