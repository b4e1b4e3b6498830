"""The text of every row in a file of JSON, as it is written there: numbers keep their digits, keys their order."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pyrite.io.encodings import text_lines, utf8_content
from pyrite.io.files import File, open_uncompressed
from pyrite.io.json_columns import TableText, form_of, rows_of_table, table_text
from pyrite.io.json_spans import element_spans, member_spans, value_spans
from pyrite.io.json_values import rows_in, rows_name

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
    """The rows of a JSON document, and what stands around them (nothing, where they stand in columns)."""
    text = _file_text(file)
    spans = list(value_spans(text))
    if len(spans) != 1:
        return Surroundings(), [text[span.start : span.end] for span in spans]
    start, end, document = spans[0].start, spans[0].end, spans[0].value
    rows = rows_in(file, document)
    if isinstance(document, list) and rows is document:
        return Surroundings(text[:start], text[end:]), _elements(text, start)
    name = rows_name(file, document) if isinstance(document, dict) else None
    if name is not None:
        within = dict(member_spans(text, start))[name]
        return Surroundings(text[: within.start], text[within.end :]), _elements(text, within.start)
    if len(rows) == 1 and rows[0] is document:
        return Surroundings(), [text[start:end]]
    if isinstance(document, dict) and (form := form_of(document)) is not None:
        return Surroundings(), table_text(text, start, form).row_texts()
    return Surroundings(), [json.dumps(row) for row in rows]


def document_table(file: File) -> TableText | None:
    """The table that a JSON document holds by its columns; None where it holds rows."""
    text = _file_text(file)
    spans = list(value_spans(text))
    document = spans[0].value if len(spans) == 1 else None
    if not isinstance(document, dict) or rows_name(file, document) is not None:
        return None
    form = form_of(document)
    return table_text(text, spans[0].start, form) if form is not None and rows_of_table(document, form) else None


def _file_text(file: File) -> str:
    with open_uncompressed(file) as source:
        return utf8_content(source.read(), file.encoding).decode("utf-8", "surrogateescape")


def _elements(text: str, at: int) -> list[str]:
    return [text[span.start : span.end] for span in element_spans(text, at)]


def on_one_line(text: str) -> str:
    """A JSON value without line breaks, which stand between its parts only."""
    return _LINE_BREAK.sub(" ", text)


def with_member(text: str, name: str, value: str) -> str:
    """A row with one more column, or another value in it."""
    if text.startswith("["):  # a chat that is a list of turns
        text = f'{{"messages":{text}}}'
    member = f"{json.dumps(name)}:{json.dumps(value)}"
    if json.dumps(name) in text:
        own = [span for key, span in member_spans(text, 0) if key == name]
        if own:
            return text[: own[-1].start] + json.dumps(value) + text[own[-1].end :]
    head = text[:-1].rstrip()
    return f"{head}{'' if head == '{' else ','}{member}}}"
