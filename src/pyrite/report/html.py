"""How does a report look? A page of plain text (`pyrite.report.page`) drawn as one HTML file that fetches nothing.

Text is hostile until it is escaped: every string that the template prints goes through `seen`, then through Jinja's
escaping; rows travel as JSON and are put on the page as text only. A Content-Security-Policy names the page's own style
and script by their hash and forbids everything else, so that a slip elsewhere stays text that does nothing.
"""

import base64
import functools
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import orjson

from pyrite.report.page import Block, Cell, Figure, Finding, Lines, Page, Rows, Section, Side, Table

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

LONG = 20_000
"""Characters of a quote or a paragraph that are shown; how many follow is told."""
IN_CELL = 2_000
"""The same of a table's cell."""
IN_SHORT = 400
"""The same of a cell of rows that are too many to stand in the page otherwise."""
ROOM = 1_500_000
"""Bytes that one block of rows takes in the page, at most."""
A_PAGE = 25
"""Rows that are shown at once, and all that are read without scripts."""

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ud800-\udfff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    + "".join(chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
"""What a reader can't see or what turns the direction of text: controls, bidi and tag characters, fillers, surrogates."""
JOINERS, STYLES, KEYCAPS = "\u200c\u200d", "\ufe0e\ufe0f", frozenset("0123456789#*")
"""Unseen, too, but part of writing systems and emoji where they stand beside the characters that they join or style."""

ELEMENTS = (
    "svg g defs clipPath path rect line circle ellipse polyline polygon text tspan title desc linearGradient stop use"
)
ATTRIBUTES = (
    "viewBox preserveAspectRatio id transform d x y x1 x2 y1 y2 dx dy cx cy r rx ry width height points offset fill "
    "fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-dasharray stroke-dashoffset stroke-linecap "
    "stroke-linejoin stroke-miterlimit opacity clip-path clip-rule clipPathUnits gradientUnits gradientTransform "
    "stop-color stop-opacity font-family font-size font-style font-weight text-anchor dominant-baseline visibility "
    "display href"
)
SVG_ELEMENTS, SVG_ATTRIBUTES = frozenset(ELEMENTS.split()), frozenset(ATTRIBUTES.split())
"""What a drawing may hold; another element is refused, another attribute left out."""


def render(page: Page) -> str:
    """The page as one self-contained HTML file; the same page gives the same bytes.

    Raises:
        ValueError: an anchor that is no name or that stands twice, a filter that is no column, a row of another length,
            a drawing that holds more than lines, shapes and text.
    """
    from markupsafe import Markup

    check(page)
    style, script = template("style.css"), template("script.js")
    drawing = environment().get_template("page.html.j2")
    count = itertools.count(1)
    return drawing.render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
        number=lambda: next(count),
        drawn=lambda figure: drawn(figure, next(count)),
        a_page=A_PAGE,
    )


@functools.cache
def environment() -> "Environment":
    """Jinja with escaping on, unknown names refused, and `seen` before whatever is printed."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import escape

    jinja = Environment(
        loader=FunctionLoader(template),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: seen(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "kind": lambda block: type(block).__name__,
        "cell": lambda cell: cell if isinstance(cell, Cell) else Cell(cell),
        "short": lambda text: escape(seen(text, IN_CELL)),
        "numeric": numeric,
        "fitted": fitted,
        "payload": payload,
        "parts": parts,
        "width": width,
    }
    return jinja


def template(name: str) -> str:
    """A file of the package's templates."""
    return (files("pyrite.report") / "templates" / name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """What the page may do: its own style and script, by their hash, and nothing else."""

    def named(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {named(style)}; script-src {named(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def seen(text: str, limit: int = LONG) -> str:
    """Text as it may be read: cut at `limit` characters with the rest counted, unseen characters as ⟦U+202E⟧.

    >>> seen("a\\u202eb")
    'a⟦U+202E⟧b'
    >>> seen("abcdef", 4)
    'abcd… (2 more characters)'
    """
    rest = len(text) - limit
    text = UNSEEN.sub(marked, text[:limit].replace("\r\n", "\n"))
    return f"{text}… ({rest:,} more {'character' if rest == 1 else 'characters'})" if rest > 0 else text


def marked(match: re.Match[str]) -> str:
    """An unseen character by its number, or as it is where it does its work."""
    char, at = match[0], match.start()
    before, after = match.string[max(at - 1, 0) : at], match.string[at + 1 : at + 2]

    def written(neighbour: str) -> bool:
        return neighbour > "\x7f" and not UNSEEN.match(neighbour)

    joins = char in JOINERS and (written(before) or (before != "" and before in STYLES)) and written(after)
    styles = char in STYLES and (written(before) or before in KEYCAPS)
    return char if joins or styles else f"⟦U+{ord(char):04X}⟧"


def width(text: str) -> str:
    """How wide a cell wants to be, as a class of the style: as long as its text, or wrapped within some width."""
    return "" if len(text) <= 26 and "\n" not in text else "some " if len(text) <= 60 else "text "


def numeric(table: Table) -> list[bool]:
    """Which columns hold numbers only: those are right-aligned."""
    columns = range(len(table.columns))
    return [
        bool(table.rows) and all(isinstance(row[at], Cell) and row[at].sort is not None for row in table.rows)  # type: ignore[union-attr]
        for at in columns
    ]


def parts(blocks: Sequence[Block]) -> tuple[Sequence[Block], Sequence[Block]]:
    """A finding's blocks that are read at once, and its evidence: from the first text of the data, table or figure on."""
    for at, block in enumerate(blocks):
        if isinstance(block, Table | Rows | Figure | Side) or (isinstance(block, Lines) and block.kind == "quote"):
            return blocks[:at], blocks[at:]
    return blocks, ()


def fitted(rows: Rows, room: int = ROOM) -> Rows:
    """Rows within `room` bytes of the page: if need be with shorter texts, and then without the last rows; the caption tells."""
    if all(total <= room for total in itertools.accumulate(map(size, rows.rows))):
        return rows
    short = [[shortened(text) for text in row] for row in rows.rows]
    cut = sum(any(len(text) > IN_SHORT for text in row) for row in rows.rows)
    sums = itertools.accumulate(map(size, short))
    fitting = sum(1 for _ in itertools.takewhile(lambda total: total <= room, sums))
    left = len(short) - fitting
    losses = [f"texts are cut at {IN_SHORT} characters (in {cut:,} rows)"] * bool(cut)
    losses += [f"the last {left:,} of these rows are left out"] * bool(left)
    caption = f"{(rows.caption or rows.name).rstrip('.')}. To keep this page small, {' and '.join(losses)}."
    return replace(rows, rows=short[:fitting], total=max(rows.total, len(rows.rows)), caption=caption)


def shortened(text: str) -> str:
    """Text cut at `IN_SHORT` characters with the rest counted, unseen characters as they are."""
    rest = len(text) - IN_SHORT
    return text if rest <= 0 else f"{text[:IN_SHORT]}… ({rest:,} more {'character' if rest == 1 else 'characters'})"


def size(row: Sequence[str]) -> int:
    """The bytes that a row takes as JSON in the page."""
    return len(as_json([seen(text, IN_CELL) for text in row]).encode()) + 1


def as_json(value: Any) -> str:
    """A value as JSON that can't end the script element that holds it."""
    text = orjson.dumps(value).decode()
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def payload(rows: Rows) -> "Markup":
    """Rows as JSON that can't end the script element that holds it."""
    from markupsafe import Markup

    table: Mapping[str, Any] = {
        "name": seen(rows.name, IN_CELL),
        "columns": [seen(column, IN_CELL) for column in rows.columns],
        "rows": [[seen(text, IN_CELL) for text in row] for row in rows.rows],
        "filters": [list(rows.columns).index(name) for name in rows.filters],
        "total": rows.total,
        "page": A_PAGE,
    }
    return Markup(as_json(table))


def drawn(figure: Figure, number: int) -> "Markup":
    """A drawing for the middle of a page: known elements and attributes only, ids of its own, as wide as it was drawn.

    A `style` attribute becomes the attributes that it stands for, as the page allows no inline style.
    """
    from markupsafe import Markup

    root = ElementTree.fromstring(seen(figure.svg, len(figure.svg)))
    for element in root.iter():
        element.tag = local_name(element.tag)
        if element.tag not in SVG_ELEMENTS:
            raise ValueError(f"a drawing holds <{element.tag}>")
        element.attrib = dict(attributes(element.attrib, f"d{number}-"))
    box = root.get("viewBox") or f"0 0 {root.get('width', '0')} {root.get('height', '0')}"
    width = float(box.replace(",", " ").split()[2])
    root.attrib.pop("height", None)
    size = "widest" if width > 800 else "wide" if width > 480 else "small"
    root.attrib |= {"viewBox": box, "width": f"{width:g}", "class": size, "role": "img", "focusable": "false"}
    root.set("aria-label", seen(figure.alt))
    root.tail = None
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def attributes(values: Mapping[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    """The attributes of a drawing's element that are kept; ids and what refers to them get the prefix."""
    styled = (rule.partition(":") for rule in values.get("style", "").split(";"))
    every = {local_name(name): value for name, value in values.items()} | {
        name.strip(): value.strip() for name, sign, value in styled if sign
    }
    for name, value in every.items():
        if name not in SVG_ATTRIBUTES or (name == "href" and not value.startswith("#")):
            continue
        value = f"{prefix}{value}" if name == "id" else f"#{prefix}{value[1:]}" if name == "href" else value
        yield name, re.sub(r"url\(\s*[\"']?#", lambda match: f"{match[0]}{prefix}", value)


def local_name(name: str) -> str:
    """A name without its XML namespace."""
    return name.rpartition("}")[2]


def check(page: Page) -> None:
    """Refuse a page that could not be drawn as it was meant."""
    anchors: set[str] = set()
    for section in sections(page.sections):
        if not re.fullmatch(r"[A-Za-z0-9-]+", section.anchor):
            raise ValueError(f"no anchor: {section.anchor!r}")
        if section.anchor in anchors:
            raise ValueError(f"two sections are called {section.anchor!r}")
        anchors.add(section.anchor)
        for block in blocks(section.blocks):
            if isinstance(block, Table | Rows) and any(len(row) != len(block.columns) for row in block.rows):
                raise ValueError(f"a row has not the {len(block.columns)} cells of its table: {list(block.columns)}")
            if isinstance(block, Rows) and (unknown := set(block.filters) - set(block.columns)):
                raise ValueError(f"no column to filter by: {sorted(unknown)}")


def sections(top: Sequence[Section]) -> Iterator[Section]:
    """Sections with all that lie below them, in the page's order."""
    for section in top:
        yield section
        yield from sections(section.sections)


def blocks(top: Sequence[Block]) -> Iterator[Block]:
    """Blocks with all that lie inside them."""
    for block in top:
        yield block
        if isinstance(block, Finding):
            yield from blocks(block.blocks)
        elif isinstance(block, Side):
            yield from blocks([inner for column in block.columns for inner in column])
