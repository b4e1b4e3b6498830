"""`pyrite audit --out`: the run folder of an audit, its table of flagged rows, its command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audit_kit import caller, write
from planted import human_rows, with_opening
from pyarrow import parquet


@pytest.fixture
def audit(tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    return caller(tmp_path, tiny_encoder, tiny_causal, capfd)


def test_the_run_folder_holds_the_flagged_rows(tmp_path: Path, audit: Any) -> None:
    """The table is the file of --flagged, row by row; two shards, numbered on; a long text is cut, none is lost."""
    rows, _ = with_opening(human_rows(300, 1, source="made"), 0.3, 1)
    long = replace(rows[3], id="long", answers=(rows[3].answer + " word" * 1000,))
    parts = [write(tmp_path / "a.jsonl", [*rows[:3], long, *rows[4:100]]), write(tmp_path / "b.jsonl", rows[100:])]
    human = write(tmp_path / "human.jsonl", human_rows(300, 2))
    out, flagged = tmp_path / "run", tmp_path / "flagged.jsonl"
    words = (*parts, "--reference", human, "--out", out)
    code, told, err = audit(*words, "--flagged", flagged, only="format")
    assert code == 0, err
    table = parquet.read_table(out / "results" / "flagged.parquet").to_pylist()
    lines = [json.loads(line) for line in flagged.read_text().splitlines()]
    assert [(row["id"], row["flagged_by"]) for row in table] == [(row["id"], row["flagged_by"]) for row in lines]
    assert told["flagged"]["flagged"] == len(table) > 50
    whole = [*rows[:3], long, *rows[4:]]
    for row in table:
        shown = whole[row["number"]]
        assert (row["id"], row["prompt"], row["answer"]) == (shown.id, shown.prompt, shown.answer[:2000])
        assert row["label"] is None
    kept = json.loads((out / "run.json").read_text())
    assert kept["verb"] == "audit"
    assert kept["settings"]["data"] == [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert str(tmp_path) not in json.dumps({name: value for name, value in kept.items() if name != "settings"})
    more = ("verb", "files", "command", "made_with")
    assert {name: value for name, value in kept.items() if name not in more} == told
    assert [one["file"] for one in kept["files"]] == ["a.jsonl", "b.jsonl", "human.jsonl"]
    assert kept["command"].startswith("pyrite audit a.jsonl b.jsonl --reference human.jsonl --only format ")
    before = (out / "results" / "flagged.parquet").read_bytes()
    code, again, _ = audit(*words, only="format")  # without --flagged the rows are marked, too
    assert again["flagged"] == told["flagged"]
    assert (out / "results" / "flagged.parquet").read_bytes() == before


def test_shards_of_two_kinds_have_one_table_of_flagged_rows(tmp_path: Path, audit: Any) -> None:
    rows, _ = with_opening(human_rows(120, 1), 0.6, 1)
    chats = write(tmp_path / "chats.jsonl", rows[:60])
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": row.answer, "id": row.id}) + "\n" for row in rows[60:]))
    human = write(tmp_path / "human.jsonl", human_rows(200, 2))
    code, told, err = audit(chats, texts, "--reference", human, "--out", tmp_path / "run", only="format")
    assert code == 0, err
    table = parquet.read_table(tmp_path / "run" / "results" / "flagged.parquet").to_pylist()
    assert len(table) == told["flagged"]["flagged"] > 0
    assert {row["number"] < 60 for row in table} == {True, False}
    assert {bool(row["prompt"]) for row in table if row["number"] >= 60} == {False}


def test_a_second_audit_leaves_no_table_of_the_first(tmp_path: Path, audit: Any) -> None:
    parts = [write(tmp_path / f"{name}.jsonl", human_rows(60, at)) for at, name in enumerate("ab")]
    human, out = write(tmp_path / "human.jsonl", human_rows(100, 2)), tmp_path / "run"
    assert audit(*parts, "--reference", human, "--out", out, only="format")[0] == 0
    assert {path.name[:6] for path in (out / "results").glob("rows-*.parquet")} == {"rows-0", "rows-1"}
    assert audit(parts[0], "--reference", human, "--out", out, only="duplicates")[0] == 0
    assert {path.name[:6] for path in (out / "results").glob("rows-*.parquet")} == {"rows-0"}
    assert not list((out / "figures").glob("*"))


def test_a_run_folder_in_use_is_left_alone(tmp_path: Path, audit: Any) -> None:
    data, out = write(tmp_path / "data.jsonl", human_rows(60, 1)), tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text('{"schema_version": 1, "verb": "probe"}')
    code, _, err = audit(data, "--out", out, only="format")
    assert code == 2
    assert "a run of pyrite probe" in err
    assert not (tmp_path / "store").exists()


def test_the_table_of_flagged_rows_holds_any_text(tmp_path: Path) -> None:
    from pyrite.audit.flag_scores import DataFile, Flags, write_flagged
    from pyrite.io import ReadOptions

    rows = [{"premise": "<script>\x00{{7*7}}", "hypothesis": "b\u202e", "label": "x", "id": str(n)} for n in range(5)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = Flags([[(), ("format.a", "format.b"), (), (), ("format.b",)]])
    write_flagged([DataFile(str(data), ReadOptions(), [None])], found, tmp_path / "flagged.parquet")
    assert parquet.read_table(tmp_path / "flagged.parquet").to_pylist() == [
        {"number": 1, "id": "1", "flagged_by": "format.a, format.b", "prompt": "<script>\x00{{7*7}}",
         "answer": "b\u202e", "label": "x"},
        {"number": 4, "id": "4", "flagged_by": "format.b", "prompt": "<script>\x00{{7*7}}", "answer": "b\u202e",
         "label": "x"},
    ]  # fmt: skip
    write_flagged([DataFile(str(data), ReadOptions(), [None])], Flags([[()] * 5]), tmp_path / "none.parquet")
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


def test_the_command_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    from pyrite.audit.config import AuditConfig
    from pyrite.audit.record import command

    config = AuditConfig(
        data=("/d/a.jsonl", "hf://org/name"), reference=("/d/human.txt",), against=("hans=/e/h.txt", "/e/own.jsonl"),
        model="packaged:smollm2-135m-instruct", embedder=str(tmp_path), gate=("severity < fail",), out=tmp_path / "run",
    )  # fmt: skip
    assert command(config) == (
        "pyrite audit a.jsonl hf://org/name --reference human.txt --against hans=h.txt --against own.jsonl "
        f"--embedder {tmp_path.name} --gate 'severity < fail'"
    )
