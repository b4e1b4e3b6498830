"""Values that tables have no other way of writing: durations, NaN; and line ends within cells."""

import datetime
import decimal
import json
import uuid
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from pyrite.io import Part, ReadOptions, copy_rows, open_records, read_all
from pyrite.io.copy_rows import as_cell
from pyrite.records import Chat, Labelled

SECOND = datetime.timedelta(days=1, seconds=61)


def test_cells_by_hand() -> None:
    named = uuid.UUID(int=1)
    values = [SECOND, float("nan"), decimal.Decimal("NaN"), None, b"a", named, {"a": SECOND}, [float("nan")], True]
    expected = ["1 day, 0:01:01", "", "", "", "YQ==", str(named), '{"a":"1 day, 0:01:01"}', "[null]", "true"]
    assert [as_cell(value) for value in values] == expected


def test_durations_of_parquet_are_cells_and_meta(tmp_path: Path) -> None:
    table = pyarrow.table(
        {"instruction": ["q"], "output": ["a"], "took": pyarrow.array([SECOND], pyarrow.duration("us"))}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    reader = open_records(tmp_path / "a.parquet")
    (chat,) = list(reader)
    assert chat.meta["took"] == "1 day, 0:01:01"

    def parts() -> list[Part]:
        return [Part(reader.data_files[0], iter([(1, None)]))]

    copy_rows(parts(), tmp_path / "b.csv", all_rows=parts)
    assert (tmp_path / "b.csv").read_text() == 'instruction,output,took\nq,a,"1 day, 0:01:01"\n'


def test_nan_is_nothing(tmp_path: Path) -> None:
    rows = [
        {"premise": "p", "hypothesis": "h", "label": float("nan"), "n": float("nan")},
        {"premise": "p", "hypothesis": "h", "label": "neutral", "n": 1.5},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs, counts = read_all(tmp_path / "a.jsonl")
    assert [pair.label for pair in pairs] == [None, "neutral"]  # type: ignore[union-attr]
    assert [pair.meta["n"] for pair in pairs] == [None, 1.5]
    assert counts.kept == 2
    row = {"instruction": "q", "output": "a", "history": float("nan"), "system": float("nan"), "tools": float("nan")}
    (tmp_path / "b.jsonl").write_text(json.dumps(row) + "\n")
    (chat,), _ = read_all(tmp_path / "b.jsonl")
    assert isinstance(chat, Chat)
    assert [turn.content for turn in chat.messages] == ["q", "a"]
    assert "tools" not in chat.meta or chat.meta["tools"] is None


@pytest.mark.parametrize("long", [10, 20_000])
def test_a_table_that_ends_its_lines_in_returns_may_hold_newlines(long: int, tmp_path: Path) -> None:
    answer = "two\nlines " + "x" * long
    (tmp_path / "a.csv").write_bytes(f'instruction,output\rq,"{answer}"\rr,"b\nc"\r'.encode())
    chats, counts = read_all(tmp_path / "a.csv")
    assert counts.read == counts.kept == 2
    assert [chat.messages[1].content for chat in chats] == [answer, "b\nc"]  # type: ignore[union-attr]


def test_a_label_in_numbers_beside_nan(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1.0}\n{"text": "b", "label": NaN}\n')
    rows, _ = read_all(tmp_path / "a.jsonl", ReadOptions(text_fields=["text"]))
    assert [row.label for row in rows if isinstance(row, Labelled)] == ["1", None]


def test_a_cell_that_only_looks_like_a_value_of_pythons_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('instruction,output,more\nq,a,"{[1], 2}"\n')
    (chat,) = read_all(tmp_path / "a.csv")[0]
    assert chat.meta["more"] == "{[1], 2}"
