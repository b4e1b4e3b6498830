"""`pyrite init`: what it sees in a file, and that what it writes is read and planned by the verb it is for."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.conftest import review_rows, write_jsonl

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.starter.config import StarterConfig
from pyrite.starter.look import summarise_file
from pyrite.starter.run import init
from pyrite.starter.write import scalar


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path, count: int, start: int = 0) -> None:
    """Reviews as a spreadsheet writes them: other names, and a column of numbers."""
    with path.open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(["Text of review", "sentiment", "stars"])
        for at in range(start, start + count):
            writer.writerow([f"film number {at} was seen by us", ("good", "bad", "no")[at % 3], at % 5])


def chats(path: Path, count: int) -> None:
    write_jsonl([{"instruction": f"do {at}", "output": f"the answer {at} is here"} for at in range(count)], path)


def test_what_is_seen_in_a_table(workdir: Path) -> None:
    table(workdir / "a.csv", 90)
    summary = summarise_file("a.csv")
    assert (summary.rows, summary.is_whole, summary.kind, summary.label) == (90, True, "labelled rows", "sentiment")
    assert summary.labels == {"good": 30, "bad": 30, "no": 30}
    assert summary.texts == ("Text of review",)


def test_more_rows_than_are_looked_at_are_not_all(workdir: Path) -> None:
    table(workdir / "a.csv", 2_001)
    assert (summarise_file("a.csv").rows, summarise_file("a.csv").is_whole) == (2_000, False)
    assert "more than 2,000 rows" in summarise_file("a.csv").in_words()


@pytest.mark.parametrize(
    ("rows", "kind", "layout"),
    [
        ([{"instruction": f"do {at}", "output": "x y"} for at in range(9)], "chats", "alpaca"),
        ([{"text": f"words and more {at}"} for at in range(9)], "plain text", "text"),
        (
            [
                {"premise": f"a {at}", "hypothesis": "b c", "label": ("entailment", "neutral")[at % 2]}
                for at in range(9)
            ],
            "pairs",
            "nli",
        ),
    ],
)
def test_layouts_are_named(workdir: Path, rows: list[dict[str, str]], kind: str, layout: str) -> None:
    write_jsonl(rows, workdir / "a.jsonl")
    assert (summarise_file("a.jsonl").kind, summarise_file("a.jsonl").layout) == (kind, layout)


def test_a_study_of_a_table_is_planned_as_it_was_written(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table(workdir / "people.csv", 240)
    table(workdir / "made.csv", 150, start=1_000)
    assert run(["init", "study", "made.csv", "--human", "people.csv"]) == 0
    out = capfd.readouterr().out
    assert "pyrite study study.yaml --plan" in out
    spec = yaml.safe_load((workdir / "study.yaml").read_text())
    assert spec["labels"] == ["good", "bad", "no"]  # 'no' stays a word
    assert spec["fields"] == ["Text of review"]
    assert run(["study", "study.yaml", "--plan", "--json", "--store", "store"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["absent"] == []
    assert record["cells"] == 10


def test_a_study_of_chats_is_one_about_language(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chats(workdir / "people.jsonl", 60)
    chats(workdir / "made.jsonl", 80)
    assert run(["init", "study", "made.jsonl", "--human", "people.jsonl", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert [file["kind"] for file in record["files"]] == ["chats", "chats"]
    assert run(["study", "study.yaml", "--plan", "--json", "--store", "store"]) == 0
    assert json.loads(capfd.readouterr().out)["absent"] == []


def test_an_audit_runs_with_its_starter(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_jsonl(review_rows(120, 4), workdir / "made.jsonl")
    write_jsonl(review_rows(120, 5), workdir / "people.jsonl")
    assert run(["init", "audit", "made.jsonl", "--human", "people.jsonl"]) == 0
    capfd.readouterr()
    line = ["audit", "made.jsonl", "--config", "audit.yaml", "--only", "tokens", "--json", "--store", "store"]
    assert run(line) in (0, 1, 3)
    record = json.loads(capfd.readouterr().out)
    assert record["rows"]["read"] == 120 if "rows" in record else record
    assert (workdir / "clean.jsonl").is_file()


def test_a_loop_is_planned_and_a_repair_is_configured(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from pyrite.repair.config import RepairConfig

    chats(workdir / "people.jsonl", 60)
    chats(workdir / "made.jsonl", 80)
    assert run(["init", "loop", "made.jsonl", "--human", "people.jsonl"]) == 0
    assert run(["run", "loop.yaml", "--plan"]) == 0
    assert "audit, probe, repair" in capfd.readouterr().out
    assert run(["init", "repair", "made.jsonl", "--human", "people.jsonl", "--model", "harmed"]) == 0
    config = RepairConfig(model="harmed", **yaml.safe_load((workdir / "repair.yaml").read_text()))
    assert config.forget == ("made.jsonl",)
    assert config.replay == ("people.jsonl",)


@pytest.mark.parametrize(
    ("make", "config", "says"),
    [
        (table, {"what": "study", "data": ("a",)}, "compares with what people wrote"),
        (table, {"what": "loop", "data": ("a",)}, "compares with what people wrote"),
        (table, {"what": "study", "data": ("a",), "human": ("b",)}, "have other names"),
        (table, {"what": "audit", "data": ("a",), "label": "mood"}, "no such column"),
        (table, {"what": "audit", "data": ("none.csv",)}, ""),
    ],
)
def test_what_does_not_go_together_is_refused_and_nothing_written(
    workdir: Path, make: Callable[[Path, int], None], config: dict[str, object], says: str
) -> None:
    make(workdir / "a.csv", 30)
    chats(workdir / "b.jsonl", 30)
    names = {"a": "a.csv", "b": "b.jsonl"}
    options = {
        key: tuple(names.get(name, name) for name in value) if isinstance(value, tuple) else value
        for key, value in config.items()
    }
    with pytest.raises(UserError) as caught:
        init(StarterConfig(**options))  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert not list(workdir.glob("*.yaml"))


def test_nothing_is_written_over(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(workdir / "a.csv", 30)
    (workdir / "audit.yaml").write_text("mine")
    assert run(["init", "audit", "a.csv"]) == 2
    assert (workdir / "audit.yaml").read_text() == "mine"
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value", ["no", "yes", "12", "1e3", "null", "a b", "it's", "x: y", "#1", "true", "-", "naïve", "C:/x", 'a"b', "pos"]
)
def test_every_value_is_read_back_as_it_was(value: str) -> None:
    assert yaml.safe_load(f"[{scalar(value)}]") == [value]


def test_a_file_that_is_sorted_by_its_label_shows_all_of_them(workdir: Path) -> None:
    with (workdir / "a.csv").open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(["text", "label"])
        for at in range(6_000):
            writer.writerow([f"film number {at} was seen", "pos" if at < 3_000 else "neg"])
    assert set(summarise_file("a.csv").labels or ()) == {"pos", "neg"}


def test_an_arm_is_no_larger_than_the_rarest_label_allows(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, start in (("people", 0), ("made", 5_000)):
        rows = [
            {"text": f"row number {start + at} it is", "label": "rare" if at % 10 == 0 else "common"}
            for at in range(300)
        ]
        write_jsonl(rows, workdir / f"{name}.jsonl")
    assert run(["init", "study", "made.jsonl", "--human", "people.jsonl"]) == 0
    spec = yaml.safe_load((workdir / "study.yaml").read_text())
    assert spec["sizes"][0] <= 2 * 30 * (1 - (75 + 100) / 300)
    write_jsonl([{"text": f"row number {at} it is", "label": "ab"[at % 2]} for at in range(12)], workdir / "few.jsonl")
    assert run(["init", "study", "few.jsonl", "--human", "few.jsonl", "--out", "few.yaml"]) == 2
    assert "too few rows" in capfd.readouterr().err


def test_a_loop_on_a_table_reads_both_sides(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table(workdir / "people.csv", 120)
    table(workdir / "made.csv", 120, start=1_000)
    assert run(["init", "loop", "made.csv", "--human", "people.csv"]) == 0
    capfd.readouterr()
    written = (workdir / "loop.yaml").read_text().replace("model_sample: 100", "only: [tokens]")
    (workdir / "loop.yaml").write_text(written)
    assert run(["run", "loop.yaml", "--store", "store", "--json"]) in (0, 1, 3)
    record = json.loads(capfd.readouterr().out)
    assert list(record["parts"]) == ["audit"]
    audit = json.loads((workdir / "runs/mine/audit/run.json").read_text())
    assert audit["rows"]["kept"] == audit["reference_rows"]["kept"] == 120
