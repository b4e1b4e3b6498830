"""The text of every row in a file of JSON, as it is written there: numbers keep their digits, keys their order."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pyrite.io.encodings import text_lines, utf8_content
from pyrite.io.files import File, open_uncompressed
from pyrite.io.json_values import rows_in, rows_name

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_LINE_BREAK = re.compile(r"[ \t]*[\r\n]+[ \t]*")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands before and after the rows of a JSON document."""

    before: str = ""
    after: str = ""


def line_texts(file: File) -> Iterator[tuple[int, str]]:
    """The rows of JSON lines, with their lines."""
    with open_uncompressed(file) as source:
        for number, line in enumerate(text_lines(source, file.encoding), 1):
            if not line.isspace():
                yield number, line.decode("utf-8", "surrogateescape").strip()


def document_texts(file: File) -> tuple[Surroundings, list[str]]:
    """The rows of a JSON document, and what stands around them. Rows that are held by columns are written anew."""
    with open_uncompressed(file) as source:
        text = utf8_content(source.read(), file.encoding).decode("utf-8", "surrogateescape")
    spans = list(_values(text))
    if len(spans) != 1:
        return Surroundings(), [text[start:end] for start, end in spans]
    start, end = spans[0]
    document = _DECODER.raw_decode(text, start)[0]
    rows = rows_in(file, document)
    if isinstance(document, list) and rows is document:
        return Surroundings(text[:start], text[end:]), list(_elements(text, start))
    name = rows_name(file, document) if isinstance(document, dict) else None
    if name is not None:
        at, stop = {key: (first, last) for key, first, last in _members(text, start)}[name]
        return Surroundings(text[:at], text[stop:]), list(_elements(text, at))
    if len(rows) == 1 and rows[0] is document:
        return Surroundings(), [text[start:end]]
    return Surroundings(), [json.dumps(row) for row in rows]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _values(text: str) -> Iterator[tuple[int, int]]:
    """Where each of the values after each other begins and ends."""
    at = _skip(text, 0)
    while at < len(text):
        end = _DECODER.raw_decode(text, at)[1]
        yield at, end
        at = _skip(text, end)


def _elements(text: str, at: int) -> Iterator[str]:
    """The texts of the elements of the array that begins here."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        yield text[at:end]
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _members(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """The keys of the object that begins here, and where their values begin and end."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, end = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, end) + 1)
        end = _DECODER.raw_decode(text, start)[1]
        yield key, start, end
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def on_one_line(text: str) -> str:
    """A JSON value without line breaks, which stand between its parts only."""
    return _LINE_BREAK.sub(" ", text)


def with_member(text: str, name: str, value: str) -> str:
    """A row with one more column, or another value in it."""
    if text.startswith("["):  # a chat that is a list of turns
        text = f'{{"messages":{text}}}'
    member = f"{json.dumps(name)}:{json.dumps(value)}"
    if json.dumps(name) in text:
        own = [(start, end) for key, start, end in _members(text, 0) if key == name]
        if own:
            start, end = own[-1]
            return text[:start] + json.dumps(value) + text[end:]
    head = text[:-1].rstrip()
    return f"{head}{'' if head == '{' else ','}{member}}}"
