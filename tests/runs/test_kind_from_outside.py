"""A new kind of run comes as one file (its record and its part of the page) and two entries: the report and
its comparison of several runs know it, and nothing else was changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyrite.errors import UserError
from pyrite.report.config import ReportConfig
from pyrite.report.page import Cell, Facts, Section, Verdict
from pyrite.report.parts import PARTS
from pyrite.report.parts.shared import Column, Part, ReportKind
from pyrite.report.run import report
from pyrite.runs import RECORDS, Run, read_run
from pyrite.runs.schema import Record, RunRecord
from pyrite.runs.write import write_record


class Toss(Record):
    """One coin."""

    side: str
    share: float


class TossRecord(RunRecord):
    """A run that tossed coins."""

    verb: str
    coin: str
    tosses: list[Toss]


def toss_part(run: Run[TossRecord], config: ReportConfig, anchor: str) -> Part:
    items = [(toss.side, f"{toss.share:.0%}") for toss in run.record.tosses]
    verdict = Verdict("fair", f"The coin {run.record.coin} is fair.", "good")
    sections = [Section(f"{anchor}-tosses", "Tosses", [Facts(items)])]
    return Part(f"Tosses of {run.record.coin}", [verdict], sections, [Facts([("coin", run.record.coin)])], [], [], [])


def toss_column(run: Run[TossRecord]) -> Column:
    return {toss.side: Cell(f"{toss.share:.0%}") for toss in run.record.tosses}


@pytest.fixture
def toss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECORDS, "toss", TossRecord)
    monkeypatch.setitem(PARTS, "toss", ReportKind(toss_part, {"Share of each side": toss_column}))


def tossed(folder: Path, **more: Any) -> Path:
    folder.mkdir()
    values = {"schema_version": 1, "verb": "toss", "coin": folder.name, "tosses": [{"side": "head", "share": 0.5}]}
    write_record(folder / "run.json", TossRecord.from_json(values | more))
    return folder


@pytest.mark.usefixtures("toss")
def test_a_kind_of_run_is_one_file_and_its_entries(tmp_path: Path) -> None:
    folder = tossed(tmp_path / "penny")
    made = report(ReportConfig(runs=(str(folder),), out=tmp_path / "page.html"))
    assert [verdict.sentence for verdict in made.verdicts] == ["The coin penny is fair."]
    page = made.out.read_text(encoding="utf-8")
    assert all(text in page for text in ("Tosses of penny", "head", "50%"))
    other = tossed(tmp_path / "dime", tosses=[{"side": "head", "share": 0.75}])
    both = report(ReportConfig(runs=(str(folder), str(other)), out=tmp_path / "both.html"))
    page = both.out.read_text(encoding="utf-8")
    assert all(text in page for text in ("Share of each side", "50%", "75%", "NOT tested"))


@pytest.mark.usefixtures("toss")
def test_its_record_is_checked_as_every_other(tmp_path: Path) -> None:
    folder = tossed(tmp_path / "penny")
    values = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(values | {"tosses": [{"side": "head"}]}))
    with pytest.raises(UserError, match=r"run\.json: tosses\.0\.share: Field required[\s\S]*run the command again"):
        read_run(folder)


def test_without_its_entry_it_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="verb 'toss'"):
        read_run(tossed(tmp_path / "penny"))
