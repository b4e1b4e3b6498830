"""Every kind of bad row is named with its line, and counted by its reason where the user asks for that."""

import json
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pyrite.audit.flag_scores import DataFile, Flags, write_split
from pyrite.errors import UserError
from pyrite.io import Counts, ReadOptions, open_records, read_all
from pyrite.records import Pair

NLI = ("entailment", "neutral", "contradiction")
GOOD = '{"premise": "a", "hypothesis": "b", "label": "neutral"}'

BAD_LINES = {
    "broken JSON": '{"premise": "a", "hypothesis": ',
    "not an object": '["premise", "hypothesis"]',
    "missing field": '{"premise": "a", "label": "neutral"}',
    "wrong type": '{"premise": 7, "hypothesis": "b", "label": "neutral"}',
    "empty text": '{"premise": "  ", "hypothesis": "b", "label": "neutral"}',
    "unknown label": '{"premise": "a", "hypothesis": "b", "label": "maybe"}',
    "not UTF-8": b'{"premise": "\xff", "hypothesis": "b", "label": "neutral"}',
}


def write_lines(path: Path, lines: list[str | bytes]) -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return path


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_line_of_jsonl(reason: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [GOOD, "", GOOD, BAD_LINES[reason], GOOD])
    with pytest.raises(UserError, match=f"bad row: {reason}") as caught:
        read_all(path, ReadOptions(labels=NLI))
    assert caught.value.found.startswith(f"{path}:4: ")
    assert "--on-bad-row skip" in caught.value.fix
    records, counts = read_all(path, ReadOptions(labels=NLI, on_bad_row="skip"))
    assert counts == Counts(4, 3, {reason: 1})
    assert [record.id for record in records] == ["a:1", "a:3", "a:5"]


@pytest.mark.parametrize("reason", [reason for reason in BAD_LINES if reason not in ("broken JSON", "not UTF-8")])
def test_a_bad_row_of_a_json_array(reason: str, tmp_path: Path) -> None:
    line = BAD_LINES[reason]
    assert isinstance(line, str)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([json.loads(GOOD), json.loads(line), json.loads(GOOD)], indent=4))
    with pytest.raises(UserError, match=reason) as caught:
        read_all(path, ReadOptions(labels=NLI))
    assert caught.value.found.startswith(f"{path}: row 2: ")
    assert read_all(path, ReadOptions(labels=NLI, on_bad_row="skip"))[1] == Counts(3, 2, {reason: 1})


BROKEN = {
    "a value": '{"premise": "c", "hypothesis": [{"x": 1}, {"x": }]}',
    "a quote": '{"premise": "5" tall", "hypothesis": "b"}',
    "quotes in pairs": '{"premise": "so "they" say", "hypothesis": "b"}',
    "a bracket": '{"premise": "c", "hypothesis": "b"',
    "a bracket too many": '{"premise": "c", "hypothesis": "b"}}',
    "a word": "None",
    "a key": '{premise: "c"}',
}
DOCUMENTS = {
    "a line each": "[\n{}\n]\n",
    "with an indent": "[\n  {}\n]",
    "with what is around": '{{"version": {{"n": 1}}, "data": [\n  {}\n ], "end": [1]}}\n',
    "one line": "[{}]",
    "one line in an object": '{{"data": [{}]}}',
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_of_a_json_array_costs_a_row(name: str, document: str, place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = [GOOD, GOOD.replace('"a"', '"z"')]
    rows.insert(place, BROKEN[name])
    by_line = not document.startswith("one line")
    comma = ", " if not by_line else ",\n" if document == "a line each" else ",\n  "
    path.write_text(DOCUMENTS[document].format(comma.join(rows)))
    skip = ReadOptions(on_bad_row="skip")
    if not by_line and name in ("a quote", "a bracket", "a bracket too many"):
        with pytest.raises(UserError, match="not JSON"):
            read_all(path, skip)
        return
    with pytest.raises(UserError, match=f"bad row: broken JSON(.|\n)*row {place + 1}: .*line "):
        read_all(path)
    records, counts = read_all(path, skip)
    assert counts == Counts(3, 2, {"broken JSON": 1})
    assert [(record.premise, record.id) for record in records if isinstance(record, Pair)] == [
        ("az"[at], f"a:{number}") for at, number in enumerate(n for n in (1, 2, 3) if n != place + 1)
    ]
    marks = Flags([[("tokens.zipf",), ()]])
    write_split([DataFile(str(path), skip, [None])], marks, flagged=tmp_path / "f.json", clean=tmp_path / "c.json")
    clean = json.loads((tmp_path / "c.json").read_text())
    assert (clean["data"] if isinstance(clean, dict) else clean) == [json.loads(rows[-1] if place < 2 else rows[1])]
    assert len(read_all(tmp_path / "f.json")[0]) == 1


def test_a_json_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """Nobody knows how many rows are missing."""
    whole = json.dumps([json.loads(GOOD)] * 3, indent=2)
    for at in (len(whole) - 1, len(whole) - 20, len(whole) // 2):
        (tmp_path / "a.json").write_text(whole[:at])
        with pytest.raises(UserError, match=r"not JSON(.|\n)*cut off"):
            read_all(tmp_path / "a.json", ReadOptions(on_bad_row="skip"))


def test_a_broken_object_among_objects_costs_a_row(tmp_path: Path) -> None:
    rows = [json.dumps(json.loads(GOOD), indent=2)] * 3
    rows[1] = rows[1].replace('"b"', "")
    (tmp_path / "a.json").write_text("\n".join(rows))
    counts = read_all(tmp_path / "a.json", ReadOptions(on_bad_row="skip"))[1]
    assert counts == Counts(3, 2, {"broken JSON": 1})


def test_a_comma_that_is_missing_costs_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{GOOD} {GOOD},\n{GOOD}]")
    counts = read_all(tmp_path / "a.json", ReadOptions(on_bad_row="skip"))[1]
    assert counts == Counts(3, 2, {"broken JSON": 1})


def test_the_unknown_label_is_shown_with_the_allowed_ones(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [GOOD, BAD_LINES["unknown label"]])
    with pytest.raises(UserError, match=r":2: label is 'maybe'; allowed: entailment, neutral, contradiction"):
        read_all(path, ReadOptions(labels=NLI))
    assert len(read_all(path)[0]) == 2, "without a list every name is a label"


def test_rows_before_the_first_good_one_are_counted_too(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ["{", "3", '{"other": 1}', GOOD])
    records, counts = read_all(path, ReadOptions(on_bad_row="skip"))
    assert counts == Counts(4, 1, {"broken JSON": 1, "not an object": 1, "missing field": 1})
    assert len(records) == 1


def test_many_bad_rows_before_the_first_good_one(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ["{"] * 100 + [GOOD])
    assert read_all(path, ReadOptions(on_bad_row="skip"))[1] == Counts(101, 1, {"broken JSON": 100})


def test_a_file_without_one_good_row_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ["{", "3"])
    with pytest.raises(UserError, match=r"no row could be read(.|\n)*1 broken JSON, 1 not an object.*a\.jsonl:1: "):
        read_all(path, ReadOptions(on_bad_row="skip"))


def test_csv_lines_are_right_after_quoted_newlines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('premise,hypothesis\n"one\ntwo\n\nthree",b\n\nc\n"d","e"\n"f\n",""\n')
    with pytest.raises(UserError, match="wrong number of columns") as caught:
        read_all(path)
    assert caught.value.found.startswith(f"{path}:7: 1 columns, the header has 2")
    records, counts = read_all(path, ReadOptions(on_bad_row="skip"))
    assert counts == Counts(4, 2, {"wrong number of columns": 1, "empty text": 1})
    assert [record.id for record in records] == ["a:2", "a:8"]


def test_a_stray_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    """A quote that never closes would swallow the rest of the file; reading goes on at the line after it."""
    path = tmp_path / "a.csv"
    lines = ["premise,hypothesis", 'a,"b', *(f"p{n},h{n}" for n in range(50)), 'x,"y', "last,one"]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"a\.csv:2: .*read on to line"):
        read_all(path)
    records, counts = read_all(path, ReadOptions(on_bad_row="skip"))
    assert counts == Counts(53, 51, {"broken CSV": 2})
    assert [r.premise for r in records if isinstance(r, Pair)] == [*(f"p{n}" for n in range(50)), "last"]
    assert records[0].id == "a:3"


def test_bytes_that_are_not_utf8_in_tables_and_text(tmp_path: Path) -> None:
    for name, content, line in (
        ("a.csv", b'premise,hypothesis\na,b\n"c\n\xff",d\ne,f\n', 4),
        ("a.tsv", b"premise\thypothesis\na\tb\nc\xff\td\ne\tf\n", 3),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"not UTF-8(.|\n)*:{line}: byte 0xff"):
            read_all(tmp_path / name)
        assert read_all(tmp_path / name, ReadOptions(on_bad_row="skip"))[1].kept == 2
    (tmp_path / "a.txt").write_bytes(b"a\nb\xc3\nc")
    assert read_all(tmp_path / "a.txt", ReadOptions(on_bad_row="skip"))[1] == Counts(3, 2, {"not UTF-8": 1})


def test_a_tsv_with_too_many_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("premise\thypothesis\na\tb\tc\nd\te\n")
    with pytest.raises(UserError, match=r"a\.tsv:2: 3 columns, the header has 2"):
        read_all(path)
    assert read_all(path, ReadOptions(on_bad_row="skip"))[1] == Counts(2, 1, {"wrong number of columns": 1})


def test_a_bad_row_of_parquet_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = pyarrow.array([f"t{n}" for n in range(1500)] + [None, ""], pyarrow.string())
    parquet.write_table(pyarrow.table({"text": texts}), path)
    with pytest.raises(UserError, match=r"a\.parquet: row 1501: text is null|no text"):
        read_all(path)
    counts = read_all(path, ReadOptions(on_bad_row="skip"))[1]
    assert counts == Counts(1502, 1500, {"missing field": 1, "empty text": 1})


def test_text_of_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    raw = pyarrow.array([b"good", b"\xff\xfe", b"fine"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, raw.buffers())
    parquet.write_table(pyarrow.table({"text": text}), path)
    with pytest.raises(UserError, match=r"row 2: bytes in a text column"):
        read_all(path)
    assert read_all(path, ReadOptions(on_bad_row="skip"))[1] == Counts(3, 2, {"not UTF-8": 1})


def test_what_the_data_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    row = {"premise": "a", "hypothesis": "b", "label": "\x1b[2J\x07" + "x" * 1000}
    path = write_lines(tmp_path / "a.jsonl", [json.dumps(row)])
    with pytest.raises(UserError) as caught:
        read_all(path, ReadOptions(labels=NLI))
    assert "\x1b" not in str(caught.value)
    assert len(caught.value.found) < 400


def test_the_counts_are_not_known_before_the_end(tmp_path: Path) -> None:
    reader = open_records(write_lines(tmp_path / "a.jsonl", [GOOD, GOOD]))
    next(iter(reader))
    with pytest.raises(AssertionError, match="exhausted"):
        reader.counts  # noqa: B018


def test_counts_that_do_not_add_up_cannot_be_made() -> None:
    with pytest.raises(AssertionError):
        Counts(3, 1, {"empty text": 1})


lines_of_jsonl = st.sampled_from(["good", *BAD_LINES])


@settings(max_examples=80, deadline=None)
@given(kinds=st.lists(lines_of_jsonl, min_size=1, max_size=60))
def test_every_row_is_kept_or_dropped_for_its_reason(
    kinds: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_lines(
        tmp_path_factory.mktemp("rows") / "a.jsonl", [GOOD if kind == "good" else BAD_LINES[kind] for kind in kinds]
    )
    options = ReadOptions(labels=NLI, on_bad_row="skip", layout="nli")
    if "good" not in kinds:
        with pytest.raises(UserError, match="no row could be read"):
            read_all(path, options)
        return
    _, counts = read_all(path, options)
    reasons = {kind: kinds.count(kind) for kind in sorted(set(kinds) - {"good"})}
    assert counts == Counts(len(kinds), kinds.count("good"), reasons)


@pytest.mark.parametrize("content", [b"x}", b'"}', b"x}\n[1]", b"tru}", b"{x}", b"{,}"])
def test_what_ends_as_an_object_and_is_none_is_no_json(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError):
        read_all(tmp_path / "a.json", ReadOptions(on_bad_row="skip"))


def test_values_of_arrow_that_are_none_of_pythons(tmp_path: Path) -> None:
    """An object with one name twice costs its row, and is no traceback."""
    twice = pyarrow.StructArray.from_arrays([pyarrow.array([1, 2]), pyarrow.array([3, 4])], names=["a", "a"])
    table = pyarrow.table({"text": ["x", "y"], "more": twice})
    with pyarrow.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(UserError, match="bad row: wrong type"):
        read_all(tmp_path / "a.arrow")
    with pytest.raises(UserError, match=r"2 wrong type; the first is .*row 1: a value that cannot be read"):
        read_all(tmp_path / "a.arrow", ReadOptions(on_bad_row="skip"))
