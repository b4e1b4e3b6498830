"""What kind of rows the data holds, so that the advice fits them: nobody cuts the endings off code."""

import re
from collections.abc import Sequence

from pyrite.audit.flaw import DataKind
from pyrite.audit.rows import Row

_FENCE = re.compile(r"^\s*(?:```|~~~)", re.M)
_CODE_LINE = re.compile(
    r"\s*(?:def \w+\(|class \w+[:({]|import \w|from [\w.]+ import |#include\b|return\b|elif |else\b[:{ ]|try\b[:{]|except\b"
    r"|(?:if|for|while|with)\b.*[:{]\s*$|(?:public|private|static|func|fn|let|const|var|function|void|int|string)\b .*[({=]"
    r"|(?:SELECT|INSERT|UPDATE|CREATE|FROM|WHERE)\b|</?\w+[^>]*>|@\w+|//|/\*|\*/|[{}\])]|[\w.\[\]]+ [-+*/]?= |[\w.]+\(.*\)\s*$)"
    r"|.*[;{}]\s*$"
)
LINES = 200
"""Lines of an answer that are looked at."""


def is_code(text: str) -> bool:
    """Whether at least half of a text's lines are code: between fences, or by what they look like.

    >>> is_code("def twice(x):\\n    return 2 * x"), is_code("It is twice as much; I can show you how.\\nLike this.")
    (True, False)
    """
    lines = [line for line in text.split("\n", LINES)[:LINES] if line.strip()]
    fenced = False
    code = 0
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
            code += 1
        else:
            code += fenced or bool(_CODE_LINE.match(line))
    return code >= 0.5 * len(lines) > 0


def data_kind(rows: Sequence[Row]) -> DataKind:
    """What most of the rows are: labelled rows, code, plain text, or answers to prompts."""
    count, answers = len(rows), [row.answer for row in rows if row.answers]
    if 2 * sum(bool(row.fields) for row in rows) > count:
        return "labelled"
    if 2 * sum(map(is_code, answers)) > len(answers):
        return "code"
    return "text" if 2 * sum(not row.prompt.strip() for row in rows) > count else "chat"
