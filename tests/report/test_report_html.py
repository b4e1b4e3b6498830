"""The HTML of a report without a browser: what is escaped, what is allowed, what each block becomes."""

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import page_kit
import pytest

from pyrite.report.html import IN_CELL, LONG, ROOM, fitted, payload, render, seen, template
from pyrite.report.page import Cell, Facts, Figure, Finding, Lines, Page, Rows, Section, Side, Table, Verdict


class Read(HTMLParser):
    """What a parser sees: elements with their attributes, and the text of each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "input", "path", "rect", "circle", "line"}:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return render(page_kit.rich_page())


@pytest.fixture(scope="module")
def read(html: str) -> Read:
    return Read(html)


def page(*blocks: Any) -> Page:
    return Page("Title", [Verdict("worse", "It is worse.", "bad")], [Section("one", "One", blocks)])


def test_every_element_is_closed_and_the_same_page_gives_the_same_bytes(html: str, read: Read) -> None:
    assert read.open == []
    assert render(page_kit.rich_page()).encode() == html.encode()


def test_the_policy_names_exactly_the_style_and_the_script_of_the_page(read: Read) -> None:
    policy = next(meta["content"] for meta in read.named("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(read.texts[kind][0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(read.named("style")) == 1
    assert [attrs.get("type") for attrs in read.named("script")] == [None, "application/json"]


def test_nothing_on_the_page_is_an_inline_style_a_handler_or_an_address(read: Read) -> None:
    for tag, attrs in read.elements:
        assert not [name for name in attrs if name == "style" or name.startswith("on")], (tag, attrs)
        for name in ("src", "href", "xlink:href", "action"):
            assert (attrs.get(name) or "#").startswith(("#", "data:,")), (tag, attrs)
    assert {"img", "iframe", "object", "base", "form", "image"}.isdisjoint(tag for tag, _ in read.elements)


def test_style_and_script_are_small_and_can_stand_inline() -> None:
    style, script = template("style.css"), template("script.js")
    assert len((style + script).encode()) < 40_000
    assert "</" not in style
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert "innerHTML" not in script
    assert not re.search(r"https?:", style + script)


@pytest.mark.parametrize("text", page_kit.HOSTILE, ids=range(len(page_kit.HOSTILE)))
def test_hostile_text_reads_as_it_is_wherever_it_stands(text: str) -> None:
    drawn = Read(
        render(
            Page(
                text,
                [Verdict(text, text, "bad")],
                [
                    Section("a", text, [Lines([text], kind) for kind in ("paragraphs", "list", "quote", "code")]),
                    Section("b", text, [Table([text], [[text]], text, text), Facts([(text, text)], text)]),
                    Section("c", text, [Finding(Verdict(text, text), text), Side([text], [[Lines([text])]])]),
                    Section("d", text, [Rows(text, [text], [[text]], 1, text, [text])], folded=True),
                ],
                text,
                [text],
            )
        )
    )
    shown = seen(text)
    for tag in ("title", "h1", "blockquote", "code", "td", "dt", "dd", "h3"):
        assert shown in [one.strip() for one in drawn.texts[tag]], tag
    assert [one.strip() for one in drawn.texts["p"]].count(shown) >= 8
    assert json.loads(drawn.texts["script"][1])["rows"] == [[shown]]
    assert len(drawn.named("script")) == 2
    assert not drawn.named("img")


def test_unseen_characters_are_shown_and_writing_systems_are_left_alone() -> None:
    assert seen("a\x00b\x1bc\x7fd\x85e") == "a⟦U+0000⟧b⟦U+001B⟧c⟦U+007F⟧d⟦U+0085⟧e"
    assert seen("\u202e\u2066\u200f\u061c") == "⟦U+202E⟧⟦U+2066⟧⟦U+200F⟧⟦U+061C⟧"
    assert seen("\ud800\u2028\ufeff\u200b\U000e0041\U0010ffff") == (
        "⟦U+D800⟧⟦U+2028⟧⟦U+FEFF⟧⟦U+200B⟧⟦U+E0041⟧⟦U+10FFFF⟧"
    )
    for kept in ("two\nlines\tand a tab", "می‌خواهم", "👩‍👩‍👧 ❤️‍🔥 1️⃣", "שלום", "naïve — “quoted”", "क्‍ष", "\ufffd"):
        assert seen(kept) == kept
    assert seen("a\u200db") == "a⟦U+200D⟧b"
    assert seen("e\ufe0f") == "e⟦U+FE0F⟧"
    assert seen("é\u200c\u200d\u200cé") == "é⟦U+200C⟧⟦U+200D⟧⟦U+200C⟧é"
    assert seen("\u200dé\u200d") == "⟦U+200D⟧é⟦U+200D⟧"
    assert seen("one\r\ntwo\rthree") == "one\ntwo⟦U+000D⟧three"
    seen("".join(map(chr, range(0x110000))), 0x110000).encode()


def test_seen_text_stays_as_it_is_when_it_is_seen_again() -> None:
    once = seen("".join(page_kit.HOSTILE) + "é\u200dé\ufe0f\ufe0f\u200dé\u200c")
    assert seen(once) == once


def test_a_line_of_a_million_characters_is_cut_and_the_rest_is_counted() -> None:
    drawn = Read(render(page(Lines([page_kit.LONG_LINE], "quote"), Rows("Rows", ["text"], [[page_kit.LONG_LINE]], 1))))
    assert drawn.texts["blockquote"] == ["x" * LONG + "… (980,000 more characters)"]
    assert drawn.texts["td"] == ["x" * IN_CELL + "… (998,000 more characters)"]
    assert json.loads(drawn.texts["script"][1])["rows"] == [drawn.texts["td"]]
    worst = Read(render(page(Table(["text"], [["\U0010ffff" * 3000]]))))
    assert worst.texts["th"][1] == "⟦U+10FFFF⟧" * IN_CELL + "… (1,000 more characters)"


def test_rows_travel_whole_and_the_first_are_read_without_scripts(read: Read) -> None:
    told = json.loads(read.texts["script"][1])
    assert (len(told["rows"]), told["total"], told["columns"][1], told["filters"]) == (1000, 12000, "flagged by", [1])
    assert told["rows"][24][3].startswith("row 24 ")
    assert "row 24 " in "".join(read.texts["td"])
    assert "row 25 " not in "".join(read.texts["td"])
    assert any("need scripts" in text for text in read.texts["p"])


def test_rows_can_not_end_the_element_that_holds_them(html: str) -> None:
    data = html.split('<script type="application/json">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(data)


def test_a_column_of_numbers_is_aligned_and_keeps_what_it_is_sorted_by() -> None:
    table = Table(["arm", "change"], [["a", Cell("+1.5 points", sort=1.5)], ["b", Cell("−2 points", "bad", -2.0)]])
    drawn = Read(render(page(table)))
    assert [attrs["data-sort"] for attrs in drawn.named("td")] == ["1.5", "-2.0"]
    assert all("num" in str(attrs["class"]).split() for attrs in drawn.named("td"))
    assert [attrs["scope"] for attrs in drawn.named("th")] == ["col", "col", "row", "row"]
    assert "bad" in str(drawn.named("td")[1]["class"]).split()
    missing = replace(table, rows=[*table.rows, ["c", "no value: too few seeds"]])
    assert not [one for one in Read(render(page(missing))).named("td") if "num" in str(one["class"]).split()]


def test_marks_are_a_word_and_a_shape_beside_a_colour(read: Read) -> None:
    labels = [attrs.get("aria-label") for attrs in read.named("svg") if attrs.get("class") == "icon"]
    assert {"bad:", "unsure:", "good:", None} == set(labels)
    assert [text.strip() for text in read.texts["p"] if text.strip() in {"FAIL", "WARN", "ok", "not measured"}]


def test_headings_go_down_one_level_at_a_time(read: Read) -> None:
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - before <= 1 for before, later in itertools.pairwise(levels))


def test_a_finding_shows_its_numbers_and_folds_its_evidence() -> None:
    html = render(page(page_kit.finding(0)))
    read, evidence = html.split("<article")[1].split("<details>")
    assert "0.01 to 0.05" in read
    assert "Take out rows" in read
    assert "As an AI language model" not in read
    assert "As an AI language model" in evidence


def test_a_drawing_keeps_its_shapes_and_loses_what_could_act() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="700" height="100" onload="x()" class="marks">'
        '<defs><clipPath id="c"><rect width="5" height="5"/></clipPath></defs>'
        '<g clip-path="url(#c)" style="opacity: 0.5; cursor: pointer" onclick="x()" aria-label="y" role="graphics-symbol">'
        '<path d="M0 0h1" fill="var(--c1)"/><text>&lt;/svg&gt;&lt;script&gt;\u202e</text></g></svg>'
    )
    html = render(page(Figure(svg, 'Alt "quoted" <b>'), Figure(svg, "again")))
    first, second = re.findall(r'<svg [^>]*role="img" focusable.*?</svg>', html, re.DOTALL)
    assert first.startswith('<svg width="700" viewBox="0 0 700 100" class="wide" role="img"')
    assert 'aria-label="Alt &quot;quoted&quot; &lt;b&gt;"' in first
    assert '<path d="M0 0h1" fill="var(--c1)" />' in first
    assert 'opacity="0.5"' in first
    assert "&lt;/svg&gt;&lt;script&gt;⟦U+202E⟧" in first
    for gone in ("onload", "onclick", "cursor", "style=", "graphics-symbol", "marks"):
        assert gone not in first
    ids = [re.findall(r'id="([^"]+)"', svg)[0] for svg in (first, second)]
    assert ids[0] != ids[1]
    assert f'clip-path="url(#{ids[0]})"' in first


@pytest.mark.parametrize("inside", ["<script>1</script>", "<foreignObject/>", '<image href="x"/>', "<a><text>x</text></a>", "<style>*{}</style>"])  # fmt: skip
def test_a_drawing_that_holds_more_than_shapes_and_text_is_refused(inside: str) -> None:
    with pytest.raises(ValueError, match="a drawing holds"):
        render(page(Figure(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">{inside}</svg>', "")))


def test_a_page_that_could_not_be_drawn_as_meant_is_refused() -> None:
    ok = page()
    with pytest.raises(ValueError, match="two sections"):
        render(replace(ok, sections=[Section("a", "A"), Section("b", "B", sections=[Section("a", "A")])]))
    with pytest.raises(ValueError, match="no anchor"):
        render(replace(ok, sections=[Section('a" onclick="x', "A")]))
    with pytest.raises(ValueError, match="no column to filter by"):
        render(page(Side(["x"], [[Rows("Rows", ["a"], [["1"]], 1, filters=["b"])]])))
    with pytest.raises(ValueError, match="cells of its table"):
        render(page(Table(["a", "b"], [["1"]])))


def test_empty_blocks_say_so() -> None:
    html = render(
        page(Table(["a"], [], "Flips"), Rows("Rows", ["a"], [], 0), Rows("Left out", ["a"], [], 7), Facts([]))
    )
    for words in ("Flips: no rows.", "No rows.", "None of 7 rows stands in this page.", "Nothing is told."):
        assert words in html


def luminance(colour: str) -> float:
    colour = colour.lstrip("#")
    colour = "".join(char * 2 for char in colour) if len(colour) == 3 else colour
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_stand_out_from_what_they_stand_on(theme: int) -> None:
    style = template("style.css")
    colours = {name: pair for name, *pair in re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", style)}
    for name in ("ink", "muted", "link", "bad", "unsure", "good"):
        assert min(contrast(colours[name][theme], colours[on][theme]) for on in ("panel", "back")) >= 4.5, name
    for name in ("edge", *(f"c{number}" for number in range(1, 9))):
        assert contrast(colours[name][theme], colours["panel"][theme]) >= 3, name


def flagged(text: str, count: int) -> Rows:
    rows = [(str(at), "format", text, text) for at in range(count)]
    return Rows(
        "Flagged",
        ["number", "flagged by", "prompt", "answer"],
        rows,
        12_000,
        "The first; the run has all.",
        ["flagged by"],
    )


@pytest.mark.parametrize("text", ["x" * 2000, "<" * 2000, "\u202e" * 420, "é" * 1500, "<" * 390])
def test_many_long_rows_have_a_bounded_size(text: str) -> None:
    rows = flagged(text, 2000)
    assert len(payload(rows)) > ROOM
    made = fitted(rows)
    assert 0.5 * ROOM < len(payload(made).encode()) < 1.01 * ROOM
    left = 2000 - len(made.rows)
    assert left > 0
    assert [row[0] for row in made.rows] == [str(at) for at in range(len(made.rows))]
    assert (f"the last {left:,} of these rows are left out" in made.caption, made.total) == (True, 12_000)
    assert made.caption.startswith("The first; the run has all. To keep this page small, ")
    assert ("cut at 400 characters (in 2,000 rows)" in made.caption) == (len(text) > 400)
    if len(text) > 400:
        assert made.rows[0][2] == f"{text[:400]}… ({len(text) - 400:,} more characters)"
    page = render(Page("t", [], [Section("rows", "Rows", [rows])]))
    assert len(page.encode()) < 2_000_000
    assert f"This page holds {len(made.rows):,} of 12,000" in page


def test_texts_are_cut_before_rows_are_left_out() -> None:
    made = fitted(flagged("x" * 1000, 1000))
    assert (len(made.rows), "left out" in made.caption) == (1000, False)
    assert fitted(flagged("x" * 1000, 100)) == flagged("x" * 1000, 100)
    rows = flagged("x" * 300, 4000)
    whole = replace(rows, total=4000)
    assert fitted(whole).total == 4000
    assert len(fitted(whole).rows) < 4000
