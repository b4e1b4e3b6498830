"""Where the values of a JSON text begin and end, one by one, so that a broken row costs itself and not the file."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyrite.io.raw_row import BadRow, short_value

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_INDENT = re.compile(r"(?:\A|[\r\n])([ \t]*)\Z")
_BRACKET_LINE = re.compile(r"[\r\n]([ \t]*)\]")
_TOKEN = re.compile(r'"(?:[^"\\\r\n]|\\.)*"|[\[\]{},]|"')
_LONGEST_INDENT = 1000


@dataclass(frozen=True, slots=True)
class Span:
    """A value of a JSON text: where it begins and ends, and what it is; a `BadRow` where it is broken."""

    start: int
    end: int
    value: Any


def value_spans(text: str) -> Iterator[Span]:
    """The values after each other that are the text, mostly one. Broken elements of an array, and of arrays in an
    object, are bad rows; so are broken values among several.

    Raises:
        JSONDecodeError: the text is broken, and nothing shows where the next value begins.
    """
    at = start = _skip(text, 0)
    while at < len(text):
        try:
            value, end = _decode(text, at)
            span = Span(at, end, value)
        except json.JSONDecodeError as error:
            span = (_by_parts(text, at) if at == start else None) or _to_the_next_line(text, at, error)
            if isinstance(span.value, BadRow) and span.start == start and span.end == len(text):
                raise
        yield span
        at = _skip(text, span.end)


def element_spans(text: str, at: int) -> Iterator[Span]:
    """The elements of the array that begins here.

    Raises:
        JSONDecodeError: one is broken and nothing shows where the next begins, or the array does not end.
    """
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        span = _element(text, at)
        yield span
        at = _skip(text, span.end)
        at = _skip(text, at + 1) if text[at] == "," else at


def member_spans(text: str, at: int) -> Iterator[tuple[str, Span]]:
    """The keys of the object that begins here, with their values; of an array that is broken, its elements are bad rows.

    Raises:
        JSONDecodeError: something else than an element of an array is broken.
    """
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        key, end = _decode(text, at)
        start = _skip(text, end)
        _expect(text, start, ":")
        start = _skip(text, start + 1)
        try:
            value, end = _decode(text, start)
        except json.JSONDecodeError:
            if text[start : start + 1] != "[":
                raise
            value, end = _array(text, start)
        yield key, Span(start, end, value)
        at = _skip(text, end)
        _expect(text, at, ",}")
        at = _skip(text, at + 1) if text[at] == "," else at


def _by_parts(text: str, at: int) -> Span | None:
    """A broken array, or an object that holds one, read element by element; None where it is not the whole text, or
    where nothing shows where its elements begin."""
    value: Any
    if text[at] not in "[{":
        return None
    try:
        if text[at] == "[":
            value, end = _array(text, at)
        else:
            members = list(member_spans(text, at))
            if not members:
                return None
            value = {key: span.value for key, span in members}
            end = _skip(text, members[-1][1].end) + 1
    except json.JSONDecodeError:
        return None
    return Span(at, end, value) if _skip(text, end) == len(text) else None


def _array(text: str, at: int) -> tuple[list[Any], int]:
    spans = list(element_spans(text, at))
    return [span.value for span in spans], _skip(text, spans[-1].end if spans else at + 1) + 1


def _element(text: str, at: int) -> Span:
    end = at
    try:
        value, end = _decode(text, at)
        _expect(text, _skip(text, end), ",]")
    except json.JSONDecodeError as error:
        if end > at and text.startswith(("{", "["), _skip(text, end)):  # no comma after it
            return _bad(text, at, end, error)
        return _to_the_comma(text, at, error) or _to_the_next_line(text, at, error, within=True)
    return Span(at, end, value)


def _to_the_comma(text: str, at: int, error: json.JSONDecodeError) -> Span | None:
    """The broken element up to the comma after it, or the end of the array, where its quotes and brackets are in order
    and what follows is a value; None where they are not."""
    depth = 0
    for token in _TOKEN.finditer(text, at):
        mark = token[0]
        if mark in ("[", "{"):
            depth += 1
        elif depth == 0 and mark in (",", "]", "}"):
            end = token.start()
            return _bad(text, at, end, error) if end > error.pos and mark != "}" and _goes_on(text, end, mark) else None
        elif mark in ("]", "}"):
            depth -= 1
        elif mark == '"':
            return None
    return None


def _goes_on(text: str, at: int, mark: str) -> bool:
    following = _skip(text, at + 1)
    return text[following : following + 1] in (("{", "[") if mark == "," else ("", "}", ","))


def _to_the_next_line(text: str, at: int, error: json.JSONDecodeError, *, within: bool = False) -> Span:
    """The broken value up to the next that begins a line like it, with the same indent. Text in quotes has no line
    breaks, so that this holds whatever is broken. The last goes on to the end of the array, else of the text."""
    indent = _INDENT.search(text[max(0, at - _LONGEST_INDENT) : at])
    if indent is None:
        raise error
    following = re.compile(rf"[\r\n]{re.escape(indent[1] + text[at])}").search(text, at)
    if following is not None:
        end = following.start()
        before = text[at:end].rstrip()
        return _bad(text, at, at + len(before.removesuffix(",") if within else before), error)
    if not within:
        return _bad(text, at, len(text), error)
    last = next((line for line in _BRACKET_LINE.finditer(text, at) if len(line[1]) <= len(indent[1])), None)
    if last is None:
        raise error
    return _bad(text, at, last.start(), error)


def _bad(text: str, start: int, end: int, error: json.JSONDecodeError) -> Span:
    beginning = short_value(text[start : min(end, start + 200)], 60)
    return Span(
        start, end, BadRow("broken JSON", f"{error.msg} at line {error.lineno}, column {error.colno}, in {beginning}")
    )


def _decode(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError:
        raise json.JSONDecodeError("Nested too deeply", text, at) from None


def _expect(text: str, at: int, marks: str) -> None:
    if text[at : at + 1] not in tuple(marks):
        raise json.JSONDecodeError(f"Expecting {' or '.join(map(repr, marks))}", text, at)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()
