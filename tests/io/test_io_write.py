"""What is written is read back as it was; it appears whole or not at all; the same input gives the same bytes."""

import errno
import gzip
import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pyrite.errors import UserError
from pyrite.io import (
    LAYOUTS,
    Counts,
    ReadOptions,
    atomic_write,
    describe_reader,
    describe_source,
    file_hash,
    open_records,
    read_all,
    write_jsonl,
    write_parquet,
)
from pyrite.records import Chat, Labelled, Message, Pair, Record, Text

# --- round trips ------------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
single = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
)
columns = st.sampled_from(
    ["genre", "heuristic", "pairID", "uid", "meta", "id", "premise", "fields", "text", "label", ""]
)
metas = st.dictionaries(
    columns, single | st.lists(single, max_size=2) | st.dictionaries(columns, single, max_size=2), max_size=4
)
labels = st.none() | st.sampled_from(["entailment", "-", "0", "e", "", "-1"])
roles = st.sampled_from(["system", "user", "assistant", "tool"])
turns = st.lists(st.builds(Message, roles, text), min_size=1, max_size=4).map(tuple)
kinds = {
    Pair: st.tuples(text, text, labels),
    Labelled: st.tuples(st.dictionaries(text, text, min_size=1, max_size=3), labels),
    Chat: st.tuples(turns),
    Text: st.tuples(text),
}


@pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.__name__)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_every_kind_is_read_back_as_it_was_written(
    kind: Any, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = data.draw(
        st.lists(st.tuples(kinds[kind], text, metas), min_size=1, max_size=5, unique_by=lambda row: row[1])
    )
    records = [kind(*values, name, meta) for values, name, meta in rows]
    path = tmp_path_factory.mktemp("trip") / f"a.jsonl{data.draw(st.sampled_from(['', '.gz', '.zst']))}"
    assert write_jsonl(records, path) == len(records)
    assert read_all(path) == (records, Counts(len(records), len(records), {}))


def test_meta_becomes_columns_where_that_is_safe(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl([Pair("p", "h", "neutral", "x", {"pairID": "x", "heuristic": "c"})], path)
    assert path.read_text() == (
        '{"premise":"p","hypothesis":"h","label":"neutral","id":"x","pairID":"x","heuristic":"c"}\n'
    )
    write_jsonl([Text("t", "x", {"label": "y"})], path)
    assert path.read_text() == '{"text":"t","id":"x","meta":{"label":"y"}}\n'


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    write_jsonl([Text("t", "x", {"a": math.nan, "b": math.inf})], tmp_path / "a.jsonl")
    assert read_all(tmp_path / "a.jsonl")[0] == [Text("t", "x", {"a": None, "b": None})]


def test_one_file_holds_one_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Pair, then Text"):
        write_jsonl([Pair("p", "h", None, "a"), Text("t", "b")], tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_records_of_every_layout_survive_being_written(tmp_path: Path) -> None:
    """What came in by any layout goes out and comes back the same, ids and meta included."""
    rows = {
        "hans": '{"gold_label":"e","sentence1":"p","sentence2":"h","heuristic":"c","subcase":"s","template":"t","pairID":"7"}',
        "multinli": '{"gold_label":"-","sentence1":"p","sentence2":"h","promptID":1}',
        "anli": '{"uid":"u","context":"p","hypothesis":"h","label":"n","reason":"r"}',
        "nli": '{"premise":"p","hypothesis":"h","label":"neutral","idx":3}',
        "messages": '{"messages":[{"role":"user","content":"q"}],"source":"s"}',
        "sharegpt": '{"conversations":[{"from":"human","value":"q"}]}',
        "self-instruct": '{"instruction":"i","instances":[{"input":"1","output":"a"},{"input":"2","output":"b"}]}',
        "alpaca": '{"instruction":"i","output":"o","generator":"g"}',
        "prompt-completion": '{"prompt":"p","completion":"c"}',
        "question-answer": '{"question":"q","answer":"a"}',
        "prompt-answer": '{"query":"q","reply":"a"}',
        "conversation": '{"chat":[{"role":"user","content":"q"}]}',
        "text": '{"text":"t","label":3}',
        "labelled": '{"fields":{"a":"b"},"label":"l"}',
    }
    assert set(rows) | {"preference"} == set(LAYOUTS)
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(row + "\n" + row + "\n")
        reader = open_records(tmp_path / f"{name}.jsonl")
        records = list(reader)
        assert reader.layout == name
        write_jsonl(records, tmp_path / "copy.jsonl")
        assert read_all(tmp_path / "copy.jsonl")[0] == records


# --- parquet ----------------------------------------------------------------------------------------------------------

TABLE: Sequence[dict[str, Any]] = [{"item": f"i{n}", "value": n / 7, "seed": n % 3} for n in range(3000)]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    assert write_parquet(TABLE, tmp_path / "a.parquet") == 3000
    table = pyarrow.Table.from_pylist(list(TABLE))
    chunked = pyarrow.concat_tables([table.slice(0, 1000), table.slice(1000)])
    write_parquet(chunked, tmp_path / "b.parquet")
    write_parquet([dict(row) for row in TABLE], tmp_path / "c.parquet")
    assert len({file_hash(tmp_path / f"{name}.parquet") for name in "abc"}) == 1
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == list(TABLE)


def test_a_column_that_the_first_row_lacks_is_not_lost(tmp_path: Path) -> None:
    write_parquet([{"a": 1}, {"b": "x", "a": 2}], tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_a_table_without_rows(tmp_path: Path) -> None:
    schema = pyarrow.schema({"a": pyarrow.int64()})
    assert write_parquet([], tmp_path / "a.parquet", schema=schema) == 0
    assert parquet.read_table(tmp_path / "a.parquet").schema == schema
    assert write_parquet([], tmp_path / "b.parquet") == 0
    assert parquet.read_table(tmp_path / "b.parquet").num_rows == 0


def test_compressed_json_lines_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    records = [Text("x", str(n)) for n in range(100)]
    for packed in ("gz", "zst"):
        write_jsonl(records, tmp_path / f"a.jsonl.{packed}")
        write_jsonl(records, tmp_path / f"b.jsonl.{packed}")
        assert file_hash(tmp_path / f"a.jsonl.{packed}") == file_hash(tmp_path / f"b.jsonl.{packed}")
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).count(b"\n") == 100


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
    assert target.read_text() == "first"
    assert [entry.name for entry in target.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_trace(error: type[BaseException], tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_said_and_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: write_jsonl([Text("x", "1")], tmp_path / "a.jsonl"),
        lambda: write_parquet(TABLE, tmp_path / "b.parquet"),
    ):
        with pytest.raises(UserError, match="the disk is full") as caught:
            write()
        assert str(tmp_path) in caught.value.found
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a.jsonl", "old")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_disk_that_is_full_while_rows_are_written(tmp_path: Path) -> None:
    """The error of the write itself, from Python's files and from arrow's."""

    def write_lines() -> None:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"x" * 1_000_000)

    def write_table() -> None:
        with atomic_write(tmp_path / "b") as temporary:
            temporary.symlink_to("/dev/full")
            parquet.write_table(pyarrow.Table.from_pylist(list(TABLE)), temporary)

    for write in (write_lines, write_table):
        with pytest.raises(UserError, match="the disk is full"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write here"):
        write_jsonl([Text("x", "1")], tmp_path / "file" / "a.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write here"):
        write_jsonl([Text("x", "1")], tmp_path / "folder")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_errors_of_the_block_itself_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        (tmp_path / "absent").read_text()
    with pytest.raises(PermissionError), atomic_write(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "no", "/elsewhere")


# --- hashes and manifests ---------------------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    (tmp_path / "a.jsonl").write_bytes(content)
    assert file_hash(tmp_path / "a.jsonl") == hashlib.sha256(content).hexdigest()
    folder_hash = file_hash(tmp_path)
    (tmp_path / "b.jsonl").write_bytes(b"y")
    assert file_hash(tmp_path) != folder_hash
    with pytest.raises(UserError, match="did you mean"):
        file_hash(tmp_path / "a.json")


def test_a_manifest_says_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n{"text": ""}\n{\n')
    reader = open_records(path, ReadOptions(on_bad_row="skip"))
    records: list[Record] = list(reader)
    assert len(records) == 1
    assert describe_reader(reader) == {
        "path": str(path),
        "files": ["a.jsonl"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "revision": None,
        "split": None,
        "bytes": 29,
        "rows": {"read": 3, "kept": 1, "dropped": {"broken JSON": 1, "empty text": 1}},
        "layout": "text",
    }
    folder = describe_source(tmp_path, Counts(1, 1, {}))
    assert (folder["files"], folder["bytes"]) == (["a.jsonl"], 29)
