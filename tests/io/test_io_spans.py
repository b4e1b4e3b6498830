"""A file read in spans: the same records under the same numbers as read whole; ids that are unique in little memory."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from pyrite.io import Reader, ReadOptions, most_spans, open_records, spans_of
from pyrite.io.raw_row import Ids, SeenHashes


def all_of(reader: Reader) -> list[str]:
    return [repr(record) for record in reader]


PLAIN = ReadOptions()


def in_spans(path: Path, count: int, options: ReadOptions = PLAIN) -> list[str]:
    (file,) = open_records(path, options).data_files
    spans = spans_of(file, count)
    assert len(spans) == count
    assert all(one.end == other.start for one, other in pairwise(spans))
    return [text for span in spans for text in all_of(open_records(path, options, span))]


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Lines of many lengths, blank ones among them, a byte order mark before, no newline at the end."""
    rng = random.Random(0)
    lines = [
        json.dumps({"prompt": f"ä{at}", "response": "x" * rng.randrange(1, 300)}, ensure_ascii=False)
        for at in range(200)
    ]
    lines[7] = lines[60] = lines[199 - 1] = "  "
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    return path


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 1000])
def test_json_lines(chats: Path, count: int) -> None:
    assert in_spans(chats, count) == all_of(open_records(chats))


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_parquet(tmp_path: Path, count: int) -> None:
    path = tmp_path / "rows.parquet"
    table = pyarrow.table(
        {"prompt": [f"p{at}" for at in range(300)], "response": ["y" * (at % 90) + "." for at in range(300)]}
    )
    parquet.write_table(table, path, row_group_size=37)
    (file,) = open_records(path).data_files
    assert most_spans(file) == 9
    assert in_spans(path, count) == all_of(open_records(path))


def test_a_span_is_read_as_the_first_rows_say(tmp_path: Path) -> None:
    """Later rows that look otherwise are bad rows in a span, as they are in the file."""
    rows = [{"instruction": "a", "output": f"b{at}"} for at in range(60)] + [{"text": f"c{at}"} for at in range(60)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ReadOptions(on_bad_row="skip")
    whole = open_records(path, options)
    assert in_spans(path, 4, options) == all_of(whole)
    (file,) = whole.data_files
    last = open_records(path, options, spans_of(file, 4)[-1])
    assert all_of(last) == []
    assert (last.layout, last.counts.kept) == (whole.layout, 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"prompt,response\na,b\n"),
        ("rows.jsonl.gz", None),
        ("rows.jsonl", json.dumps({"prompt": "a", "response": "b"}).encode("utf-16")),
        ("rows.jsonl", b'{"prompt": "a", "response": "b"}\r{"prompt": "c", "response": "d"}\r'),
        ("rows.json", b'[{"prompt": "a", "response": "b"}]'),
    ],
    ids=["csv", "gz", "utf-16", "old Macs", "an array"],
)
def test_what_has_no_spans(tmp_path: Path, name: str, content: bytes | None) -> None:
    import gzip

    path = tmp_path / name
    path.write_bytes(gzip.compress(b'{"prompt": "a", "response": "b"}\n') if content is None else content)
    (file,) = open_records(path).data_files
    assert most_spans(file) == 1


def test_ids_are_unique_and_no_hash_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    own = [rng.choice([None, f"a{rng.randrange(400)}", f"s:{rng.randrange(300)}"]) for _ in range(2000)]
    at_once, sorted_in = Ids("s"), Ids("s")
    expected = [at_once.give(name, number) for number, name in enumerate(own)]
    monkeypatch.setattr(SeenHashes, "FEWEST", 7)
    assert [sorted_in.give(name, number) for number, name in enumerate(own)] == expected
    assert len(set(expected)) == len(expected)
