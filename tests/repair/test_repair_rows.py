"""Rows of a repair: four uses that share none, overlap counted and refused, mistakes named with the flag."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.repair.repair_kit import chats, write

from pyrite.errors import UserError
from pyrite.io import read_all
from pyrite.repair.config import RepairConfig
from pyrite.repair.rows import FORGET, REPLAY, RowSteps, file_records, overlap_record, plan_rows, side_counts, too_few
from pyrite.steps import Progress, RunOptions, Store, run_steps


def config(forget: list[Path], replay: list[Path], **overrides: Any) -> RepairConfig:
    sizes = {"scorecard_rows": 5, "guard_rows": 4, "guard_forget_rows": 3}
    files = {"forget": tuple(map(str, forget)), "replay": tuple(map(str, replay))}
    return RepairConfig(model="m", **files, **{**sizes, **overrides})


def divide(configuration: RepairConfig, folder: Path) -> tuple[RowSteps, Store]:
    rows, store = plan_rows(configuration), Store(folder)
    run_steps([rows.forget, rows.replay], store, RunOptions(), Progress(quiet=True))
    return rows, store


def test_every_row_has_one_use(tmp_path: Path) -> None:
    forget = write(chats(20, answer="fine"), tmp_path / "forget.jsonl")
    replay = write(chats(30, start=50), tmp_path / "replay.jsonl")
    rows, store = divide(config([forget], [replay]), tmp_path / "store")
    assert side_counts(rows.forget, store)["pools"] == {"forget": 12, "guard_forget": 3, "scorecard_forget": 5}
    assert side_counts(rows.replay, store)["pools"] == {"replay": 21, "guard_replay": 4, "scorecard_replay": 5}
    contents = []
    for pool in (*FORGET, *REPLAY):
        records, _ = read_all(store.path(rows.of(pool).key) / f"{pool}.jsonl")
        contents += [record.messages[-1].content for record in records]  # type: ignore[union-attr]
    assert len(contents) == len(set(contents)) == 50


def test_overlap_within_the_limit_leaves_the_replay_rows(tmp_path: Path) -> None:
    in_both = chats(2)
    forget = write([*in_both, *chats(18, start=20)], tmp_path / "forget.jsonl")
    same_prompts = chats(3, start=20, answer="another answer")  # prompts of forget rows
    for row, theirs in zip(same_prompts, chats(3, start=20), strict=True):
        row["messages"][0] = theirs["messages"][0]
    replay = write([*in_both, *same_prompts, *chats(20, start=60)], tmp_path / "replay.jsonl")
    rows, store = divide(config([forget], [replay]), tmp_path / "store")
    record = overlap_record(rows, store, 0.1)
    assert (record["rows"], record["shared"], record["left_out"], record["shared_prompts"]) == (20, 2, 2, 3)
    assert record["share"] == pytest.approx(0.1)
    assert sum(pool["shared"] for pool in record["pools"].values()) == 2
    left_rows = "".join((store.path(rows.replay.key) / f"{pool}.jsonl").read_text() for pool in REPLAY)
    assert "film 0:" not in left_rows
    assert "another answer" in left_rows


def test_overlap_beyond_the_limit_is_refused_with_counts(tmp_path: Path) -> None:
    forget = write(chats(20), tmp_path / "forget.jsonl")
    replay = write([*chats(3), *chats(20, start=60)], tmp_path / "replay.jsonl")
    rows, store = divide(config([forget], [replay]), tmp_path / "store")
    with pytest.raises(UserError, match="also rows to keep") as caught:
        overlap_record(rows, store, 0.01)
    assert "3 of 20 forget rows (15.0%)" in caught.value.found
    assert "--overlap-limit" in caught.value.fix


@pytest.mark.parametrize("side", ["one side", "both sides", "a copy"])
def test_the_same_rows_twice_are_refused(side: str, tmp_path: Path) -> None:
    forget, replay = write(chats(9), tmp_path / "f.jsonl"), write(chats(9, start=20), tmp_path / "r.jsonl")
    copy = write(chats(9), tmp_path / "copy.jsonl")
    configuration = {
        "one side": config([forget, forget], [replay]),
        "both sides": config([forget], [replay, forget]),
        "a copy": config([forget], [replay, copy]),
    }[side]
    with pytest.raises(UserError, match="given twice") as caught:
        plan_rows(configuration)
    assert "--forget" in caught.value.found


def test_too_few_rows_name_the_flags(tmp_path: Path) -> None:
    forget, replay = write(chats(8), tmp_path / "f.jsonl"), write(chats(20, start=20), tmp_path / "r.jsonl")
    with pytest.raises(UserError) as caught:
        divide(config([forget], [replay]), tmp_path / "store")
    error = too_few(caught.value)
    assert "f.jsonl: 8 rows are left; 9 are needed" in error.found
    assert "--guard-forget-rows" in error.fix


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    replay = write(chats(9), tmp_path / "r.jsonl")
    with pytest.raises(UserError) as caught:
        plan_rows(config([tmp_path / "nowhere.jsonl"], [replay]))
    assert "nowhere.jsonl" in str(caught.value)


def test_files_are_described_without_folders(tmp_path: Path) -> None:
    forget, replay = write(chats(2), tmp_path / "f.jsonl"), write(chats(3, start=9), tmp_path / "r.jsonl")
    configuration = config([forget], [replay])
    record = file_records(configuration, plan_rows(configuration).hashes)
    assert [(file["side"], file["name"], file["bytes"]) for file in record] == [
        ("forget", "f.jsonl", forget.stat().st_size),
        ("replay", "r.jsonl", replay.stat().st_size),
    ]
    assert str(tmp_path) not in json.dumps(record)
