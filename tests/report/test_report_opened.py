"""Whole reports in headless Chromium: of hostile data through the commands, and of any page that `$PYRITE_REPORT` names.

PYRITE_REPORT=runs/demo-loop/report.html python -m pytest tests/report/test_report_opened.py
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import launched, opened, until

from pyrite.cli import run
from pyrite.report.html import seen

pytestmark = pytest.mark.browser
OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"
HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    "</title></style></textarea><svg onload='window.hacked = 3'>",
    "{{7*7}} ${7*7} {% raw %}",
    "right\u202eto left\u202c and \u2067isolated\u2069",
    "nul \x00 bell \x07 escape \x1b[31m",
    "line\u2028separator \ufeff mark",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as one:
        yield one


def checked(browser: Any, file: Path, width: int, theme: str) -> None:
    """Quiet, as wide as the window, and without a serious violation of accessibility rules."""
    from axe_playwright_python.sync_playwright import Axe

    with opened(browser, file, width=width, theme=theme) as one:
        one.page.evaluate(OPEN_ALL)
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
        one.calm()
        some = {"exclude": [[".rows tbody tr:nth-child(n+8)"]]}
        found = Axe().run(one.page, some).response["violations"]
        assert [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")] == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an audit whose rows hold whatever a page could obey; one row is a megabyte."""
    folder = tmp_path_factory.mktemp("hostile")
    openings = [f"{text} planted {at % 3}" for at, text in enumerate(HOSTILE * 20)]
    rows = [{"instruction": f"ask {at} {text}", "output": f"{text} answer {at}"} for at, text in enumerate(openings)]
    rows.append({"instruction": "long", "output": HOSTILE[0] + " x" * 500_000})
    people = [{"instruction": f"say {at}", "output": f"word{at} and word{at * 7 % 90} once more"} for at in range(140)]
    for name, some in (("data.jsonl", rows), ("people.jsonl", people)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some))
    line = [
        "audit",
        str(folder / "data.jsonl"),
        "--reference",
        str(folder / "people.jsonl"),
        "--only",
        "format,duplicates",
    ]
    line += [
        "--out",
        str(folder / "run"),
        "--store",
        str(folder / "store"),
        "--permutations",
        "199",
        "--workers",
        "1",
        "--quiet",
    ]
    assert run(line) == 0
    assert run(["report", str(folder / "run"), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_hostile_data_makes_a_calm_page(browser: Any, hostile: Path, width: int, theme: str) -> None:
    checked(browser, hostile, width, theme)


def test_hostile_data_shows_as_text(browser: Any, hostile: Path) -> None:
    with opened(browser, hostile) as one:
        one.page.evaluate(OPEN_ALL)
        until(one.page, "document.querySelectorAll('.rows tbody tr').length > 1")
        shown = one.page.evaluate("document.body.textContent")
        for text in HOSTILE:
            marked = seen(text)
            assert marked in shown, marked
        assert "49" not in one.page.locator(".rows tbody").first.inner_text().split()
        one.calm()
    assert hostile.stat().st_size < 5_000_000


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_that_is_named(browser: Any, width: int, theme: str) -> None:
    named = os.environ.get("PYRITE_REPORT")
    if not named:
        pytest.skip("$PYRITE_REPORT names no page")
    file = Path(named).resolve()
    checked(browser, file, width, theme)
    with opened(browser, file, width=width, theme=theme) as one:
        rows = one.page.locator(".rows").first
        if rows.count():
            one.page.evaluate(OPEN_ALL)
            box = rows.get_by_role("searchbox")
            before = rows.get_by_role("status").inner_text()
            box.fill("zzz no such text zzz")
            until(one.page, f"document.querySelector('.rows [role=status], .rows .status').textContent !== {before!r}")
            assert rows.get_by_role("status").inner_text().startswith("0")
        one.calm()
