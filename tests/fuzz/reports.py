"""Run folders with changed records and tables: a page of them is written, or they are refused by a `UserError`."""

import contextlib
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
from altair.utils.schemapi import debug_mode
from tests.fuzz.mangle import mangled, scrambled, storable

from pyrite.errors import UserError
from pyrite.report.config import ReportConfig
from pyrite.report.run import report
from pyrite.runs import FILES, read_run

RECORDS = Path(__file__).parents[1] / "runs" / "records"


@cache
def folders() -> list[tuple[Path, dict[Path, bytes]]]:
    """The stored run folders, each with the contents of its files."""
    found = sorted({file.parent for name in FILES for file in RECORDS.rglob(name)})
    return [
        (folder, {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()})
        for folder in found
    ]


@cache
def values_of(content: bytes) -> Any:
    """The values of a JSON file."""
    return orjson.loads(content)


def check(rng: random.Random, folder: Path) -> str:
    """Report on one folder; what became of it."""
    source, contents = rng.choice(folders())
    run = folder / source.name
    changed = rng.choice([path for path in contents if path.suffix == ".json"] * 6 + list(contents))
    try:
        for path, content in contents.items():
            if path == changed and path.suffix == ".json" and rng.random() < 0.9:
                content = orjson.dumps(
                    storable(mangled(rng, values_of(content), rng.choice([1, 1, 2, 4]))), option=orjson.OPT_NON_STR_KEYS
                )
            elif path == changed:
                content = scrambled(rng, content, rng.choice([1, 3]))
            (run / path).parent.mkdir(parents=True, exist_ok=True)
            (run / path).write_bytes(content)
        return of_folder(rng, run, folder)
    finally:
        shutil.rmtree(run, ignore_errors=True)
        for name in ("page.html", "cards", "lm_eval"):
            shutil.rmtree(folder / name, ignore_errors=True) if name != "page.html" else (folder / name).unlink(
                missing_ok=True
            )


def of_folder(rng: random.Random, run: Path, folder: Path) -> str:
    """Read it, most often write its page, now and then its cards."""
    try:
        read_run(run)
        if rng.random() < 0.4:
            return "record read"
        drawn = rng.random() < 0.05  # most charts are built, and not held to their schema
        beside = {"cards": folder / "cards", "lm_eval": folder / "lm_eval"} if rng.random() < 0.2 else {}
        with (
            debug_mode(drawn),
            contextlib.nullcontext()
            if drawn
            else mock.patch("pyrite.report.draw.svg", return_value='<svg xmlns="http://www.w3.org/2000/svg"/>'),
        ):
            report(ReportConfig(runs=(str(run),), out=folder / "page.html", no_rows=rng.random() < 0.5, **beside))
    except UserError:
        return "report refused"
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "<b>" not in page.replace("&lt;b&gt;", ""), "text of a record is markup in the page"
    return "report written"
