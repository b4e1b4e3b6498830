"""A report in headless Chromium: quiet, safe, usable by mouse and keyboard, on any width, in both themes, on paper."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_kit
import pytest
from browser_kit import launched, opened, until

from pyrite.report.html import IN_CELL, render, seen

pytestmark = pytest.mark.browser
MANY = {"exclude": [["#findings article:nth-of-type(n+6)"], [".rows tbody tr:nth-child(n+8)"]]}
"""What is like its neighbours, and would only cost time."""
OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as one:
        yield one


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(page_kit.rich_page()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared(browser: Any, file: Path) -> Iterator[Any]:
    with opened(browser, file) as one:
        yield one
        one.calm()


@pytest.fixture
def page(shared: Any) -> Any:
    """The page as it was when it was opened."""
    shared.page.evaluate("localStorage.clear()")
    shared.page.goto("about:blank")
    shared.page.goto(shared.address)
    shared.asked.clear()
    return shared.page


def flagged(page: Any) -> Any:
    return page.locator("#rows .rows").first


def first_cells(page: Any) -> list[str]:
    return flagged(page).locator("tbody td:first-child").all_inner_texts()


def status(page: Any) -> Any:
    return flagged(page).get_by_role("status")


def says(page: Any, start: str) -> None:
    """Wait until the count of the flagged rows starts so."""
    until(page, f"document.querySelector('#rows .status').textContent.startsWith({start!r})")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_is_quiet_fits_and_is_accessible(browser: Any, file: Path, width: int, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with opened(browser, file, width=width, theme=theme) as one:
        one.page.evaluate(OPEN_ALL)
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
        one.calm()
        found = Axe().run(one.page, MANY).response["violations"]
        worst = [
            (rule["id"], rule["nodes"][0]["html"][:200]) for rule in found if rule["impact"] in ("serious", "critical")
        ]
        assert worst == []
        assert not {"heading-order", "region", "landmark-unique"} & {rule["id"] for rule in found}


def test_hostile_text_shows_as_text(page: Any) -> None:
    quotes = page.locator("#hostile blockquote").evaluate_all("all => all.map(one => one.textContent)")
    assert quotes[:-1] == [seen(text) for text in page_kit.HOSTILE]
    assert quotes[-1].endswith("… (980,000 more characters)")
    cells = flagged(page).locator("tbody td:nth-child(3)").evaluate_all("all => all.map(one => one.textContent)")
    wanted = [seen(row[2], IN_CELL) for row in page_kit.hostile_rows(25).rows]
    assert [cell.removesuffix("Show more") for cell in cells] == wanted
    assert page.title() == "Study of blind spots <script>window.hacked = 8</script>"


def test_the_policy_stops_what_escaping_would_have_missed(browser: Any, file: Path) -> None:
    plant = """() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 9";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.hacked = 10'><b id=styled style='color: red'>b</b>");
    }"""
    with opened(browser, file) as one:
        one.page.evaluate(plant)
        until(one.page, "window.violations.length >= 3")
        assert one.page.evaluate("window.hacked") is None
        assert one.page.evaluate("getComputedStyle(document.querySelector('#styled')).color") != "rgb(255, 0, 0)"
        assert any(one.startswith("img-src") for one in one.page.evaluate("window.violations"))


def test_rows_are_searched_filtered_and_reset(page: Any) -> None:
    rows = flagged(page)
    assert status(page).inner_text() == "Rows 1 to 25 of 1,000. This page holds 1,000 of 12,000."
    rows.get_by_label("Search all columns").fill("ROW 99")
    says(page, "11 of 1,000 rows match")
    assert first_cells(page) == ["99", *(str(number) for number in range(990, 1000))]
    rows.get_by_label("flagged by").select_option("tokens")
    assert status(page).inner_text().startswith("5 of 1,000 rows match. Rows 1 to 5 shown.")
    assert first_cells(page) == ["99", "990", "993", "996", "999"]
    rows.get_by_label("Search all columns").fill("nowhere")
    says(page, "0 of 1,000")
    assert first_cells(page) == []
    rows.get_by_role("button", name="Reset").click()
    assert status(page).inner_text().startswith("Rows 1 to 25 of 1,000.")
    assert rows.get_by_label("flagged by").input_value() == ""
    options = rows.locator("option").all_inner_texts()
    assert options == ["all", "embedding (666)", "format (334)", "tokens (334)"]


def test_search_finds_hostile_text_as_it_is_shown(page: Any) -> None:
    flagged(page).get_by_label("Search all columns").fill("⟦u+202e⟧")
    says(page, "71 of 1,000")


def test_rows_are_paged_by_mouse(page: Any) -> None:
    rows = flagged(page)
    button = {name: rows.get_by_role("button", name=name) for name in ("First", "Previous", "Next", "Last")}
    assert rows.locator(".where").inner_text() == "Page 1 of 40"
    assert button["Previous"].get_attribute("aria-disabled") == "true"
    button["Next"].click()
    assert first_cells(page)[0] == "25"
    button["Last"].click()
    assert (first_cells(page)[0], rows.locator(".where").inner_text()) == ("975", "Page 40 of 40")
    button["Next"].click(force=True)
    assert first_cells(page)[0] == "975"
    button["Previous"].click()
    button["First"].click()
    assert (len(first_cells(page)), first_cells(page)[0]) == (25, "0")


def test_rows_are_searched_sorted_and_paged_by_keyboard(page: Any) -> None:
    flagged(page).get_by_label("Search all columns").focus()
    page.keyboard.type("row 1")
    says(page, "111 of 1,000")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.localName") == "select"
    page.keyboard.type("embed")
    assert status(page).inner_text().startswith("75 of 1,000")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Reset"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "number"
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert flagged(page).locator("th").first.get_attribute("aria-sort") == "descending"
    assert first_cells(page)[0] == "199"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.do") == "next":
            break
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert flagged(page).locator(".where").inner_text() == "Page 3 of 3"
    assert page.evaluate("document.activeElement.dataset.do") == "next"


def test_tables_are_sorted_up_down_and_back_with_missing_values_last(page: Any) -> None:
    table = page.locator("#study table").first

    def order() -> list[str]:
        return table.locator("tbody th").all_inner_texts()

    before = order()
    heading = table.get_by_role("columnheader", name="change")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert order() == ["synthetic 1000", "synthetic 100", "synthetic 10000", "human 1000"]
    heading.get_by_role("button").click()
    assert order() == ["synthetic 10000", "synthetic 100", "synthetic 1000", "human 1000"]
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") is None
    assert order() == before
    table.get_by_role("button", name="verdict").click()
    assert order()[0] == "human 1000"


def test_a_long_text_is_opened_on_demand(page: Any) -> None:
    cell = flagged(page).locator("td.text", has_text="more characters").first
    short = cell.bounding_box()["height"]
    cell.get_by_role("button", name="Show more").click()
    assert cell.get_by_role("button", name="Show less").get_attribute("aria-expanded") == "true"
    assert cell.bounding_box()["height"] > 3 * short


def background(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_theme_follows_the_system_until_it_is_chosen_and_stays_chosen(page: Any) -> None:
    light = background(page)
    page.get_by_role("button", name="Dark theme").click()
    dark = background(page)
    assert dark != light
    line = "getComputedStyle(document.querySelector('.canvas path[stroke=\"var(--c1)\"]')).stroke"
    assert page.evaluate(line) == "rgb(74, 163, 224)"
    page.reload()
    assert background(page) == dark
    page.get_by_role("button", name="Light theme").click()
    assert background(page) == light
    assert page.evaluate(line) == "rgb(0, 114, 178)"


def test_a_browser_that_keeps_nothing_still_shows_the_page(browser: Any, file: Path) -> None:
    refuse = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } });"
    )
    with opened(browser, file, before=refuse) as one:
        light = background(one.page)
        one.page.get_by_role("button", name="Dark theme").click()
        assert background(one.page) != light
        one.calm()


def test_folded_parts_open_by_name_by_link_and_all_at_once(page: Any) -> None:
    page.locator(".toc.wide").get_by_role("link", name="Versions").click()
    until(page, "document.querySelector('#versions > details').open && document.querySelector('#run > details').open")
    until(page, "document.querySelector('.toc a[aria-current]') !== null")
    page.get_by_role("button", name="Open all").click()
    assert page.evaluate("[...document.querySelectorAll('main details:not(.toc)')].every(one => one.open)")
    page.get_by_role("button", name="Close all").click()
    assert not page.evaluate("[...document.querySelectorAll('main details:not(.toc)')].some(one => one.open)")


def test_the_first_stop_of_the_keyboard_skips_to_the_report(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "report"


def test_on_a_narrow_page_the_contents_are_a_menu_and_rows_stand_below_each_other(browser: Any, file: Path) -> None:
    with opened(browser, file, width=360) as one:
        assert not one.page.locator(".toc.wide").is_visible()
        one.page.locator("summary", has_text="Contents").click()
        one.page.locator(".toc.narrow").get_by_role("link", name="Rows that were flagged").click()
        rows = flagged(one.page)
        rows.get_by_label("Search all columns").fill("row 776")
        says(one.page, "1 of 1,000")
        boxes = [rows.locator("tbody td").nth(at).bounding_box() for at in range(4)]
        assert boxes[3]["y"] > boxes[2]["y"] > boxes[0]["y"]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)
        one.calm()


def test_paper_shows_everything_in_black_on_white_and_says_which_rows(browser: Any, file: Path) -> None:
    with opened(browser, file, width=800, theme="dark") as one:
        page = one.page
        page.evaluate("document.querySelector('.finding details').open = true")
        page.emulate_media(media="print")
        until(page, "[...document.querySelectorAll('details')].every(one => one.open)")
        assert background(page) == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(0, 0, 0)"
        assert not page.locator("input, select, [data-do], .toc").filter(visible=True).count()
        assert flagged(page).locator(".print").inner_text().startswith("Printed: rows 1 to 25 of 1,000.")
        assert page.evaluate(
            "[...document.querySelectorAll('.scroll')].every(one => getComputedStyle(one).overflowX === 'visible')"
        )
        page.emulate_media(media="screen")
        until(page, "document.querySelectorAll('details[open]').length === 1")
        one.calm()


def test_without_scripts_the_page_still_reads(browser: Any, file: Path) -> None:
    with opened(browser, file, java_script_enabled=False) as one:
        page = one.page
        assert "6.4 points worse" in page.locator(".verdicts").inner_text()
        assert flagged(page).locator("noscript p").is_visible()
        assert flagged(page).locator("tbody tr").count() == 25
        assert not page.locator("button, input, select").filter(visible=True).count()
        assert page.locator("#findings summary").first.is_visible()
        assert one.said == []
