"""A headless Chromium for tests of pages, and what a page must never do while it is open."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective + " " + event.blockedURI));
"""


def chromium() -> str | None:
    """Where Chromium lies: `$PYRITE_CHROMIUM`, else the first on the path."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("PYRITE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def launched() -> Iterator[Any]:
    """A browser of its own, with a fresh profile; the test skips by name where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on the path, and $PYRITE_CHROMIUM names none")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def until(page: Any, truth: str) -> None:
    """Wait until an expression holds. (Playwright's own way evaluates strings in the page, which the policy forbids.)"""
    end = time.monotonic() + 10
    while not page.evaluate(truth):
        assert time.monotonic() < end, f"never: {truth}"
        page.wait_for_timeout(30)


@dataclass
class Opened:
    """A page in a browser, with everything that it said and asked for."""

    page: Any
    address: str
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def calm(self) -> None:
        """Nothing on the console, nothing from elsewhere, nothing that the policy had to stop, no planted script ran."""
        assert self.said == []
        assert [one for one in self.asked if one != self.address and not one.startswith("data:")] == []
        assert self.page.evaluate("window.violations") == []
        assert self.page.evaluate("window.hacked") is None


@contextmanager
def opened(
    browser: Any, file: Path, *, width: int = 1280, theme: str = "light", before: str = "", **more: Any
) -> Iterator[Opened]:
    """A page from disk in a context of its own. `before`: a script that runs before those of the page."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **more)
    try:
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.add_init_script(WATCH + before)
        told = Opened(page, file.as_uri())
        page.on("console", lambda message: told.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: told.said.append(f"error: {error}"))
        page.on("request", lambda request: told.asked.append(request.url.partition("#")[0]))
        page.goto(file.as_uri())
        yield told
    finally:
        context.close()
