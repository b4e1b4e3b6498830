"""Files → pools: every row counted, none in two pools, the same bytes for the same seed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pyrite.errors import UserError
from pyrite.io import file_hash, read_all
from pyrite.steps import Progress, RunOptions, Source, Step, Store, run_steps
from pyrite.train.split import SPLIT, read_pool


def chats(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
        for n in range(start, start + count)
    ]


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def step(files: list[Path], pools: Mapping[str, int | str], **config_extra: Any) -> Step:
    apart = config_extra.pop("apart", None)
    config = {
        "names": {f"file{at}": file.name for at, file in enumerate(files)},
        "columns": None,
        "on_bad_row": "stop",
        "duplicates": "drop",
        "pools": dict(pools),
        "seed": 0,
        **config_extra,
    }
    inputs: dict[str, Step | Source] = {
        f"file{at}": Source(str(file), file_hash(file)) for at, file in enumerate(files)
    }
    if apart is not None:
        inputs["apart"] = apart
        config["apart"] = ["forget.jsonl", "guard_forget.jsonl"]
    return Step(SPLIT, config, inputs)


def run(step: Step, folder: Path) -> Path:
    store = Store(folder)
    run_steps([step], store, RunOptions(), Progress(quiet=True))
    return store.path(step.key)


def counts(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "counts.json").read_text())
    assert record["read"] == record["kept"] + sum(record["dropped"].values())
    assert record["kept"] == sum(record["pools"].values())
    return record


def texts(folder: Path, pool: str) -> list[str]:
    return [row.messages[-1].content for row in read_pool(folder / f"{pool}.jsonl")]  # type: ignore[union-attr]


def test_pools_share_no_row_and_all_rows_are_counted(tmp_path: Path) -> None:
    rows = [*chats(20), *chats(3)]  # three repeats
    folder = run(step([write(rows, tmp_path / "a.jsonl")], {"b": 4, "a": 5, "train": "rest"}), tmp_path / "store")
    record = counts(folder)
    assert record["pools"] == {"a": 5, "b": 4, "train": 11}
    assert record["dropped"] == {"same text as an earlier row": 3}
    all_texts = [text for pool in record["pools"] for text in texts(folder, pool)]
    assert sorted(all_texts) == sorted(f"answer {n}" for n in range(20))
    assert texts(folder, "train") != sorted(texts(folder, "train"), key=lambda text: int(text.split()[1]))  # shuffled


def test_pools_are_read_back_with_the_same_ids(tmp_path: Path) -> None:
    first = write([{**row, "id": f"r{at}", "topic": "x"} for at, row in enumerate(chats(6))], tmp_path / "one.jsonl")
    second = write(chats(6, start=6), tmp_path / "two.jsonl")
    folder = run(step([first, second], {"some": 3, "more": "rest"}), tmp_path / "store")
    by_id = {record.id: record for pool in ("some", "more") for record in read_all(folder / f"{pool}.jsonl")[0]}
    assert {"file0/r0", "file1/two:1"} <= set(by_id)
    assert by_id["file0/r2"].meta["topic"] == "x"
    ours = {row.id: row for pool in ("some", "more") for row in read_pool(folder / f"{pool}.jsonl")}
    assert {name: row.messages for name, row in ours.items()} == {n: r.messages for n, r in by_id.items()}  # type: ignore[union-attr]


def test_same_seed_same_bytes_and_the_order_of_the_pools_is_of_no_matter(tmp_path: Path) -> None:
    file = write(chats(30), tmp_path / "a.jsonl")
    first, second = step([file], {"x": 5, "y": 7}), step([file], {"y": 7, "x": 5})
    assert first.key == second.key
    folders = [run(split, tmp_path / name) for split, name in ((first, "s1"), (second, "s2"))]
    assert [(folders[0] / f"{p}.jsonl").read_bytes() for p in "xy"] == [
        (folders[1] / f"{p}.jsonl").read_bytes() for p in "xy"
    ]
    other_seed = run(step([file], {"x": 5, "y": 7}, seed=1), tmp_path / "s3")
    assert texts(other_seed, "x") != texts(folders[0], "x")
    assert counts(other_seed)["dropped"] == {"in no pool": 18}


def test_kept_copies_never_stand_in_two_pools(tmp_path: Path) -> None:
    file = write(chats(10) * 3, tmp_path / "a.jsonl")
    folder = run(step([file], {"held": 4, "train": "rest"}, duplicates="keep"), tmp_path / "store")
    assert counts(folder)["pools"] == {"held": 4, "train": 18}
    assert counts(folder)["dropped"] == {"same text as a row of another pool": 8}
    assert not set(texts(folder, "held")) & set(texts(folder, "train"))


def test_rows_of_the_other_side_are_left_out_and_reported(tmp_path: Path) -> None:
    forget = step([write(chats(10), tmp_path / "f.jsonl")], {"guard_forget": 4, "forget": "rest"})
    mixed = [*chats(3), *chats(12, start=20)]
    mixed[0]["messages"][0]["content"] = " QUESTION  0"  # the same text but for case and blanks
    mixed[1]["messages"][1]["content"] = "another answer"
    folder = run(step([write(mixed, tmp_path / "r.jsonl")], {"replay": "rest"}, apart=forget), tmp_path / "store")
    assert counts(folder)["dropped"] == {"also a row of the other side": 2}
    overlap = json.loads((folder / "overlap.json").read_text())
    assert {name: overlap[name]["rows"] for name in overlap} == {"forget": 6, "guard_forget": 4}
    assert sum(pool["shared"] for pool in overlap.values()) == 2
    assert sum(pool["shared_prompts"] for pool in overlap.values()) == 1
    assert "another answer" in texts(folder, "replay")


def test_too_few_rows_say_what_is_there(tmp_path: Path) -> None:
    file = write([*chats(5), *chats(2)], tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="too few rows") as caught:
        run(step([file], {"x": 5, "y": "rest"}), tmp_path / "store")
    assert "5 rows are left (dropped: 2 same text as an earlier row); 6 are needed: 5 x + 1 y" in caught.value.found


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"premise": "a", "hypothesis": "b", "label": "entailment"}], "texts or chats"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(step([write(rows, tmp_path / "a.jsonl")], {"x": "rest"}), tmp_path / "store")


def test_chats_and_texts_together_are_refused(tmp_path: Path) -> None:
    files = [write(chats(3), tmp_path / "a.jsonl"), write([{"text": "plain"}], tmp_path / "b.jsonl")]
    with pytest.raises(UserError, match="chats and plain text") as caught:
        run(step(files, {"x": "rest"}), tmp_path / "store")
    assert "b.jsonl" in caught.value.found


def test_bad_rows_are_counted_where_asked(tmp_path: Path) -> None:
    file = write([*chats(3), {"messages": []}], tmp_path / "a.jsonl")
    folder = run(step([file], {"x": "rest"}, on_bad_row="skip"), tmp_path / "store")
    assert counts(folder)["dropped"] == {"empty text": 1}


def asked_again(groups: int) -> list[dict[str, Any]]:
    """Chats of which two to four answer each question; the topic goes over two questions."""
    return [
        {
            "messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"{n} {time}"}],
            "topic": f"topic {n // 2}",
        }
        for n in range(groups)
        for time in range(2 + n % 3)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("group", "width"), [("prompt", 1), ("topic", 2)])
def test_a_group_is_in_one_pool(group: str, width: int, seed: int, tmp_path: Path) -> None:
    file = write(asked_again(30), tmp_path / "a.jsonl")
    pools = {"guard": 11, "scorecard": 20, "train": "rest"}
    folder = run(step([file], pools, group=group, seed=seed), tmp_path / "store")
    record = counts(folder)
    assert (record["read"], record["dropped"]) == (90, {})
    assert 11 <= record["pools"]["guard"] < 11 + 7
    assert 20 <= record["pools"]["scorecard"] < 20 + 7
    groups = {pool: {int(text.split()[0]) // width for text in texts(folder, pool)} for pool in pools}
    assert sum(map(len, groups.values())) == 30 // width  # each whole, and in one pool only
    assert set.union(*groups.values()) == set(range(30 // width))


def test_groups_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    file = write(asked_again(3), tmp_path / "a.jsonl")  # 2 + 3 + 4 rows
    with pytest.raises(UserError, match=r"a\.jsonl: topci: 9 of 9 rows have nothing there"):
        run(step([file], {"train": "rest"}, group="topci"), tmp_path / "store")
    with pytest.raises(UserError, match=r"0 of 1 rows for pool train; 9 rows in 3 groups"):
        run(step([file], {"a": 8, "train": "rest"}, group="prompt"), tmp_path / "store")
    folder = run(step([file], {"a": 2}, group="prompt"), tmp_path / "store")
    assert counts(folder)["dropped"] == {"in no pool": 7}
