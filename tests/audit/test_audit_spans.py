"""A large file in spans: the same bytes whoever reads them, and what the file holds as a whole."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from audit_kit import caller, chat_line, read_and_merge, repeated_rows, stored_bytes, write
from planted import human_rows
from pyarrow import parquet

import pyrite
from pyrite.audit.config import AuditConfig
from pyrite.audit.gather import Sampled
from pyrite.audit.plan import Planned
from pyrite.steps import Store


@pytest.fixture
def audit(tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    return caller(tmp_path, tiny_encoder, tiny_causal, capfd)


def counted(planned: Planned, store: Store) -> dict[str, Any]:
    """What is true of all rows, but for what the division of blocks touches: the compression, and bytes on disk."""
    totals: dict[str, Any] = store.read_json(planned.totals, "whole.json")["data"]
    totals["diversity"].pop("compression")
    totals["duplicates"].pop("bytes_per_row")
    return totals


@pytest.mark.usefixtures("in_spans")
def test_the_same_bytes_with_one_two_and_four_processes(tmp_path: Path, tiny_causal: Path) -> None:
    data = write(tmp_path / "data.jsonl", repeated_rows(900))
    held = []
    for workers in (1, 2, 4):
        config = AuditConfig(
            data=(str(data),), model=str(tiny_causal), workers=workers, store=tmp_path / f"store-{workers}", quiet=True
        )
        planned, store = read_and_merge(config)
        held.append(stored_bytes(store))
    assert len(planned.reading_steps()) > 3
    assert held[0] == held[1] == held[2]


def test_spans_come_to_what_the_file_holds(tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read whole and in spans: the same counts and copies, the same rows in the sample's tables, under the same numbers."""
    rows = repeated_rows(900)
    data = write(tmp_path / "data.jsonl", rows)
    config = AuditConfig(
        data=(str(data),), model=str(tiny_causal), sample=50, workers=1, store=tmp_path / "whole", quiet=True
    )
    whole = read_and_merge(config)
    monkeypatch.setattr("pyrite.audit.spans.ALONE_BYTES", 100_000)
    spans = read_and_merge(config.model_copy(update={"store": tmp_path / "spans"}))
    assert len(whole[0].reading_steps()) == 1 < len(spans[0].reading_steps())
    assert counted(*whole) == counted(*spans)
    sampled = Sampled.read(spans[1].path(spans[0].sample.key))
    assert len(sampled.rows) == 50
    assert len({row.number for row in sampled.rows}) == 50
    for row in sampled.rows:
        assert (row.id, row.answer) == (rows[row.number].id, rows[row.number].answer)
    copies = [(planned, store.path(planned.totals.key) / "duplicates") for planned, store in (whole, spans)]
    for name in ("exact_of.npy", "copy_of.npy"):
        ours, theirs = ((folder / name).read_bytes() for _, folder in copies)
        assert ours == theirs, name


@pytest.mark.usefixtures("in_spans")
def test_a_large_table_that_has_no_spans(tmp_path: Path, tiny_causal: Path) -> None:
    """CSV cannot be read from its middle: one step divides its rows, and its processes change nothing."""
    data = tmp_path / "data.csv"
    with data.open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerows([("prompt", "response"), *((row.prompt, row.answer) for row in human_rows(2500, 1))])
    held = []
    for workers in (1, 2):
        config = AuditConfig(
            data=(str(data),), model=str(tiny_causal), workers=workers, store=tmp_path / f"store-{workers}", quiet=True
        )
        planned, store = read_and_merge(config, ["format", "diversity"])
        held.append(stored_bytes(store))
        assert len(planned.reading_steps()) == 1
    assert len([name for name in held[0] if name.endswith("rows.parquet")]) == 3  # batches of 1,000 rows, in turn
    assert held[0] == held[1]


@pytest.mark.usefixtures("in_spans")
def test_parquet_by_row_groups_with_flagged_rows(tmp_path: Path, audit: Any) -> None:
    rows = human_rows(600, 1)
    table = pyarrow.table({"prompt": [row.prompt for row in rows], "response": [f"Sure! {row.answer}" for row in rows]})
    data = tmp_path / "data.parquet"
    parquet.write_table(table, data, row_group_size=70, compression="none")
    human = write(tmp_path / "human.jsonl", human_rows(200, 2))
    bad, good, out = tmp_path / "bad.parquet", tmp_path / "good.parquet", tmp_path / "out"
    outputs = ["--flagged", bad, "--clean", good, "--out", out]
    code, told, err = audit(data, "--reference", human, *outputs, only="format")
    assert code == 0, err
    flagged, clean = parquet.read_table(bad), parquet.read_table(good)
    assert flagged.num_rows + clean.num_rows == told["flagged"]["rows"] == 600
    assert flagged.num_rows > 500
    tables = sorted((out / "results").glob("rows-0-part-*.parquet"), key=lambda path: int(path.stem.split("-")[-1]))
    assert len(tables) > 2
    lines = [line for path in tables for line in parquet.read_table(path).to_pylist()]
    assert [line["number"] for line in lines] == list(range(600))
    by_number = {line["number"]: line["id"] for line in lines}
    shown = parquet.read_table(out / "results" / "flagged.parquet").to_pylist()
    assert len(shown) == flagged.num_rows
    assert all(by_number[line["number"]] == line["id"] for line in shown)


@pytest.mark.usefixtures("in_spans")
def test_a_bad_row_in_a_later_span_has_its_line(tmp_path: Path, audit: Any) -> None:
    rows = human_rows(600, 1)
    lines = [json.dumps(chat_line(row)) for row in rows]
    lines[500] = '{"messages": 3}'
    lines[2] = ""
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(lines))
    code, _, err = audit(data, only="format")
    assert code == 2
    assert "data.jsonl:501: " in err
    code, told, err = audit(data, "--on-bad-row", "skip", only="format")
    assert code == 0, err
    assert told["rows"] == {"read": 599, "kept": 598, "dropped": {"wrong type": 1}}


@pytest.mark.usefixtures("in_spans")
def test_a_file_without_a_row_is_refused(tmp_path: Path, audit: Any) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("[1]\n" * 40_000)
    code, _, err = audit(data, "--on-bad-row", "skip", only="format")
    assert code == 2
    assert "40000 not an object" in err


@pytest.mark.usefixtures("in_spans")
def test_jobs_share_an_audit(tmp_path: Path, audit: Any) -> None:
    """The parts share no reading; the last one says what the audit alone says, and nothing is left to run."""
    data = write(tmp_path / "data.jsonl", human_rows(900, 1))
    human = write(tmp_path / "human.jsonl", human_rows(200, 2))
    line = [data, "--reference", human, "--out", tmp_path / "out"]
    left = []
    for number in (1, 3):
        code, told, err = audit(*line, "--shard", f"{number}/3", only="format,diversity")
        assert code == 0, err
        assert (told["audit"], told["shard"]) == ("data.jsonl", f"{number}/3")
        left.append(told["steps_left"])
    assert left[0] > left[1] > 0
    assert not (tmp_path / "out" / "run.json").exists()
    code, merged, _ = audit(*line, "--shard", "2/3", only="format,diversity")
    assert code == 0
    assert (tmp_path / "out" / "run.json").is_file()
    _, again, err = audit(*line, only="format,diversity")
    assert again == merged
    assert "steps to run" not in err
    _, alone, _ = audit(*line, only="format,diversity", store="another")
    assert alone == merged


def test_a_part_says_what_is_left(tmp_path: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without --json, and from Python."""
    data = write(tmp_path / "data.jsonl", human_rows(60, 1))
    config = AuditConfig(
        data=(str(data),), only=("format",), shard="2/2", model=str(tiny_causal), store=tmp_path / "store", quiet=True
    )
    done = pyrite.audit.run.audit(config)
    assert done.as_json() == {"schema_version": 1, "audit": "data.jsonl", "shard": "2/2", "steps_left": 1}
