"""Text of any origin as Markdown that shows it and obeys nothing in it: the cards of models and data sets."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

# What starts markup anywhere in a line: HTML, entities, code, emphasis, tables, strikethrough, formulas, mentions,
# escapes; an underscore that is not inside a word; what would make a link of brackets, an address or a www name.
_ACTIVE = re.compile(r"[&<>`*|~$@\\]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|(?<=\w):(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_FIRST = re.compile(r"#{1,6}(?=\s|$)|[-+=](?=[\s=-]|$)|\d+(?P<end>[.)])(?=\s|$)")
"""What starts markup at the beginning of a line: headings, lists, lines that turn the one above into a heading."""


def clean(text: object) -> str:
    """Text on one line, without what cannot be seen: control, direction and other formatting characters.

    >>> clean("one\\ntwo \\u202eback\\x00")
    'one two back'
    """
    squeezed = " ".join(str(text).split())
    return " ".join(_seen(squeezed).split())


def escaped(text: object) -> str:
    """Text on one line that Markdown and HTML leave as it is; what they would obey becomes an entity.

    >>> print(escaped("<b> a_b | *x* [1](http://e) _y_"))
    &lt;b&gt; a_b &#124; &#42;x&#42; [1&#93;(http&#58;//e) &#95;y&#95;
    >>> escaped("# no heading"), escaped("1. no list"), escaped("-0.25 [-0.5, +0.125]")
    ('&#35; no heading', '1&#46; no list', '-0.25 [-0.5, +0.125]')
    """
    cleaned = clean(text)
    first = _FIRST.match(cleaned)
    if first is None:
        return _within(cleaned)
    at = first.start("end") if first["end"] else 0
    return f"{_within(cleaned[:at])}&#{ord(cleaned[at])};{_within(cleaned[at + 1 :])}"


def _within(line: str) -> str:
    """The same, but for what counts at the beginning of a line only."""
    names = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    return _ACTIVE.sub(lambda match: names.get(match[0], f"&#{ord(match[0])};"), line)


def code(text: object) -> str:
    """Text as code within a line, whatever backticks it holds. Not for cells of tables.

    >>> print(code("a >= 1"), code("tick ` tick"))
    `a >= 1` `` tick ` tick ``
    """
    plain = clean(text)
    fence = "`" * (longest_run(plain) + 1)
    return f"{fence}{plain}{fence}" if len(fence) == 1 and plain else f"{fence} {plain} {fence}"


def fenced(text: str, language: str = "") -> str:
    """Lines of code, in a fence longer than any of its own."""
    lines = "\n".join(_seen(line) for line in text.split("\n"))
    fence = "`" * max(3, longest_run(lines) + 1)
    return f"{fence}{language}\n{lines}\n{fence}"


def _seen(text: str) -> str:
    """Text without what cannot be seen."""
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cf", "Co", "Cs", "Cn"))


def longest_run(text: str) -> int:
    """How many backticks follow each other at most?"""
    return max(map(len, re.findall("`+", text)), default=0)


def bullets(lines: Iterable[str], mark: str = "-") -> str:
    """Lines of Markdown as a list, each on one line. Lists that follow each other stay two where their marks differ."""
    return "\n".join(f"{mark} {' '.join(line.split())}" for line in lines)


def markdown_table(names: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Texts as a table; every cell is escaped."""
    lines = [f"| {' | '.join(map(escaped, names))} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    return "\n".join(lines)
