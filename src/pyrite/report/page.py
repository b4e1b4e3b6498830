"""What stands on a report's page, in order, before anything is drawn as HTML. Plain text throughout: nothing here is markup.

A page is made of sections, a section of blocks. Whoever makes a page knows runs and no HTML (`pyrite.report.parts`);
whoever draws it knows HTML and no runs (`pyrite.report.html`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["bad", "unsure", "good", "plain"]
"""How a verdict or a value is marked: always by a word or sign as well as by colour."""


@dataclass(frozen=True)
class Verdict:
    """What a run says, in one sentence with its interval. `label` is the short form (FAIL, worse, cannot tell yet)."""

    label: str
    sentence: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Cell:
    """A cell of a table. `sort` is what it is sorted by where its text is not (a number)."""

    text: str
    tone: Tone = "plain"
    sort: float | None = None


@dataclass(frozen=True)
class Table:
    """A table that is read as a whole. A column whose cells all have `sort` is right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    caption: str = ""
    note: str = ""


@dataclass(frozen=True)
class Rows:
    """Many rows of data, searched and paged in the page. `filters` names columns that are offered as a choice of values.

    `total` counts what there is; `rows` may hold fewer (the caption then says so). Their text is hostile.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: int
    caption: str = ""
    filters: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """A drawing: SVG of our own drawing (`pyrite.report.draw`), whose colours follow the page's; `alt` says what it shows."""

    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values, such as settings, versions and hashes."""

    items: Sequence[tuple[str, str]]
    caption: str = ""


@dataclass(frozen=True)
class Lines:
    """Paragraphs, or a list. `quote`: text out of the data, shown as such."""

    lines: Sequence[str]
    kind: Literal["paragraphs", "list", "quote", "code"] = "paragraphs"


@dataclass(frozen=True)
class Finding:
    """One flaw: its mark, its headline, its numbers, and evidence that is shown on demand."""

    verdict: Verdict
    title: str
    blocks: "Sequence[Block]" = ()


@dataclass(frozen=True)
class Side:
    """Blocks side by side, each under its name: runs that are compared. On a narrow page they stand below each other."""

    names: Sequence[str]
    columns: "Sequence[Sequence[Block]]"


Block = Table | Rows | Figure | Facts | Lines | Finding | Side


@dataclass(frozen=True)
class Section:
    """A heading with its blocks, and sections below it. `anchor` is unique on the page: letters, digits and dashes."""

    anchor: str
    title: str
    blocks: Sequence[Block] = ()
    sections: "Sequence[Section]" = ()
    folded: bool = False
    """Shown closed, to be opened by the reader (open in print)."""


@dataclass(frozen=True)
class Page:
    """A whole report. `origin` is one line: by which version, when, of which folders."""

    title: str
    verdicts: Sequence[Verdict]
    sections: Sequence[Section]
    origin: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    """What stands right below the verdicts, such as rows that were left out."""
