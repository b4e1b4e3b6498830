"""Tables whose first line is a row are read by the numbers of their columns, and written back without names."""

from pathlib import Path

import pytest

from pyrite.errors import UserError
from pyrite.io import Part, ReadOptions, copy_rows, open_records, read_all

ROWS = 'What is 2+2?,It is 4.,x\nWho is he?,"He is\nBob.",y\n'
BY_NUMBER = ReadOptions(columns={"prompt": "1", "answer": "2"})


def test_all_rows_are_read_and_the_reading_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    reader = open_records(tmp_path / "a.csv", BY_NUMBER)
    chats = list(reader)
    assert [chat.messages[0].content for chat in chats] == ["What is 2+2?", "Who is he?"]  # type: ignore[union-attr]
    assert [chat.id for chat in chats] == ["a:1", "a:2"]
    assert [chat.meta for chat in chats] == [{"3": "x"}, {"3": "y"}]
    assert reader.read_as is not None
    assert reader.read_as.in_words().endswith("not used: 3 (columns by number: the first line is a row)")


def test_labelled_rows(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("I loved it\tgood\nI hated it\tbad\n")
    rows, _ = read_all(tmp_path / "a.tsv", ReadOptions(columns={"label": "2"}, text_fields=["1"]))
    assert [(row.fields, row.label) for row in rows] == [({"1": "I loved it"}, "good"), ({"1": "I hated it"}, "bad")]  # type: ignore[union-attr]


def test_a_header_of_numbers_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\nq,a\n")
    reader = open_records(tmp_path / "a.csv", BY_NUMBER)
    assert len(list(reader)) == 1
    assert "by number" not in reader.read_as.in_words()  # type: ignore[union-attr]


def test_a_number_beyond_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    with pytest.raises(UserError, match=r"no \['4'\] among \['1', '2', '3'\]"):
        read_all(tmp_path / "a.csv", ReadOptions(columns={"prompt": "1", "answer": "4"}))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_written_back_without_names(end: str, tmp_path: Path) -> None:
    content = ROWS.replace("\n", end) if end != "\r" else "a b?,b,x\rc d?,d,y\r"
    (tmp_path / "a.csv").write_bytes(content.encode())
    reader = open_records(tmp_path / "a.csv", BY_NUMBER)
    numbers = [row.number for row in reader.rows()]

    def parts(extra: str | None = None) -> list[Part]:
        return [Part(reader.data_files[0], iter([(number, extra) for number in numbers]))]

    copy_rows(parts(), tmp_path / "b.csv", all_rows=parts)
    assert (tmp_path / "b.csv").read_bytes() == content.encode()
    copy_rows(parts("f"), tmp_path / "c.csv", column="flagged_by", all_rows=parts)
    assert read_all(tmp_path / "c.csv", BY_NUMBER)[1].kept == 2
    assert (tmp_path / "c.csv").read_bytes().count(f",f{end}".encode()) == 2
    copy_rows(parts(), tmp_path / "d.jsonl", all_rows=parts)
    assert read_all(tmp_path / "d.jsonl", BY_NUMBER)[1].kept == 2
