"""The docs as a site: it builds strictly, every link and anchor leads somewhere, and no page asks anyone for anything."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
LINKS_THAT_LOAD = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "manifest",
}


class Reader(HTMLParser):
    """What a page links to, what it loads, and which anchors it has."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.styles = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.styles = tag == "style"
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if given.get(LOADS.get(tag, "")):
            self.loads.append(given[LOADS[tag]])
        if tag == "link" and LINKS_THAT_LOAD & set(given.get("rel", "").split()):
            self.loads.append(given["href"])
        self.loads += re.findall(r"url\((.*?)\)", given.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.styles:
            self.loads += re.findall(r"(?:url\(|@import\s)(.*?)[);]", data)


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text())
    return reader


def build(settings: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(settings), "-d", str(folder)]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=settings.parent, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Reader]:
    return {page: read(page) for page in sorted(site.rglob("*.html"))}


def inside(page: Path, link: str) -> Iterator[tuple[Path, str]]:
    """Where a link leads to within the site, and the anchor there; nothing for links that leave it."""
    parts = urlsplit(link)
    if not parts.scheme and not parts.netloc:
        yield (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve(), unquote(parts.fragment)


def test_every_page_of_the_docs_is_there(site: Path) -> None:
    for source in (ROOT / "docs").rglob("*.md"):
        assert (site / source.relative_to(ROOT / "docs")).with_suffix(".html").is_file(), source


def test_every_link_and_anchor_leads_somewhere(pages: dict[Path, Reader]) -> None:
    anchors = {page.resolve(): reader.anchors for page, reader in pages.items()}
    dead = []
    for page, reader in pages.items():
        if page.name == "404.html":
            continue
        for link in reader.links:
            for target, anchor in inside(page, link):
                found = target.is_file() and (not anchor or anchor in anchors.get(target, {anchor}))
                dead += [] if found else [f"{page.name}: {link}"]
    assert sum(len(reader.links) for reader in pages.values()) > 500
    assert not dead


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Reader]) -> None:
    for page, reader in pages.items():
        assert reader.loads, page
        for asked in reader.loads:
            asked = asked.strip("\"'")
            assert not urlsplit(asked).scheme or asked.startswith("data:"), f"{page.name}: {asked}"
            assert not asked.startswith("//"), f"{page.name}: {asked}"
            if page.name != "404.html" and not asked.startswith("data:"):
                assert (page.parent / unquote(urlsplit(asked).path)).is_file(), f"{page.name}: {asked}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_search_works_from_disk(site: Path) -> None:
    """The index is a script, and the page has what stands in for a worker that browsers refuse to pages from disk."""
    assert (site / "search" / "search_index.js").read_text().startswith("var __index = {")
    home = read(site / "index.html")
    assert "assets/iframe-worker.js" in home.loads
    assert "window.Worker=" in (site / "assets" / "iframe-worker.js").read_text()


@pytest.mark.parametrize("line", ["[x](nowhere.md)", "[x](index.md#nowhere)"])
def test_a_dead_link_stops_the_build(line: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    settings = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings)
    shutil.copytree(ROOT / "docs" / "assets", tmp_path / "docs" / "assets")
    (tmp_path / "docs" / "index.md").write_text(f"# Here\n\n{line}\n")
    assert build(tmp_path / "mkdocs.yml", tmp_path / "site").returncode != 0
    (tmp_path / "docs" / "index.md").write_text("# Here\n\n[x](index.md#here)\n")
    assert build(tmp_path / "mkdocs.yml", tmp_path / "site").returncode == 0
