"""CSV, TSV and JSON as spreadsheets, pandas and people write them; a bad row costs a row."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrite.errors import UserError
from pyrite.io import Counts, ReadOptions, open_records, read_all
from pyrite.io.copy_rows import Part, copy_rows
from pyrite.records import Chat, Labelled, Pair, Record, Text

SKIP = ReadOptions(on_bad_row="skip")


def texts(records: list[Record]) -> list[Any]:
    """The text of a text, the sides of a pair, the contents of a chat."""
    plain: list[Any] = []
    for record in records:
        match record:
            case Text():
                plain.append(record.text)
            case Pair():
                plain.append((record.premise, record.hypothesis))
            case Chat():
                plain.append(tuple(turn.content for turn in record.messages))
            case _:
                plain.append(record)
    return plain


def read(path: Path, content: bytes | str, options: ReadOptions = SKIP) -> tuple[list[Any], Counts]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    records, counts = read_all(path, options)
    return texts(records), counts


GOOD = [("Good film; really", "x"), ("Dull, slow", "y")]


def as_csv(delimiter: str, end: str = "\n") -> str:
    rows = [("premise", "hypothesis"), *GOOD]
    return "".join(delimiter.join(f'"{cell}"' for cell in row) + end for row in rows)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_delimiter_and_line_end(delimiter: str, end: str, tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", as_csv(delimiter, end))[0] == GOOD
    assert read(tmp_path / "b.csv", f"sep={delimiter}{end}" + as_csv(delimiter, end))[0] == GOOD


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"])
def test_encodings_that_the_first_bytes_show(name: str, encoding: str, tmp_path: Path) -> None:
    content = {
        "a.csv": "text,label\r\nCafé – closed,x\r\n",
        "a.tsv": "text\tlabel\r\nCafé – closed\tx\r\n",
        "a.jsonl": '{"text": "Café – closed"}\n',
        "a.json": '[\n{"text": "Café – closed"}\n]',
        "a.txt": "Café – closed\n",
    }[name]
    assert read(tmp_path / name, content.encode(encoding))[0] == ["Café – closed"]


def test_an_encoding_that_is_named(tmp_path: Path) -> None:
    content = "text,label\r\nA café – closed,x\r\nplain,y\r\n".encode("cp1252")
    path = tmp_path / "a.csv"
    assert read(path, content)[1] == Counts(2, 1, {"not UTF-8": 1})
    assert read(path, content, ReadOptions(encoding="cp1252"))[0] == ["A café – closed", "plain"]
    with pytest.raises(UserError, match=r"no such encoding(.|\n)*`--encoding cp1252`"):
        open_records(path, ReadOptions(encoding="cp125"))
    with pytest.raises(UserError, match="no such encoding"):
        open_records(path, ReadOptions(encoding="base64"))


def test_what_an_encoding_cannot_read_costs_its_row(tmp_path: Path) -> None:
    content = "text\none\ntwo\nthree\n".encode("utf-16-le")
    broken = content.replace("two".encode("utf-16-le"), struct.pack("<3H", 0xDC00, 0x77, 0x6F))
    assert read(tmp_path / "a.csv", b"\xff\xfe" + broken) == (["one", "three"], Counts(3, 2, {"not UTF-8": 1}))
    cp1252 = b"text\na\x81b\nc\n"
    options = ReadOptions(on_bad_row="skip", encoding="cp1252")
    assert read(tmp_path / "b.csv", cp1252, options) == (["c"], Counts(2, 1, {"not UTF-8": 1}))


def test_columns_without_a_name(tmp_path: Path) -> None:
    """A sheet's empty columns, rows that stop before them, empty rows below; what has no name must be empty."""
    content = "text,label,,\r\na,1,,\r\nb,2\r\nc,3,,,\r\nDull, slow,4,\r\n,,,\r\n,,\r\n"
    assert read(tmp_path / "a.csv", content) == (["a", "b", "c"], Counts(4, 3, {"wrong number of columns": 1}))
    index = read_all(write(tmp_path / "b.csv", ",text,,label\n0,a,,x\n1,b,note,y\n"))[0]
    assert [dict(record.meta) for record in index] == [
        {"": "0", "label": "x"},
        {"": "1", "column 3": "note", "label": "y"},
    ]
    with pytest.raises(UserError, match="names no column"):
        read_all(write(tmp_path / "c.csv", ",,\na,b,c\n"))


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.txt", "\t")])
@pytest.mark.parametrize("quote", ['"', ""])
def test_row_names_that_the_header_does_not_name(quote: str, name: str, delimiter: str, tmp_path: Path) -> None:
    """R's write.table(frame, sep = ","): one name fewer than cells."""
    rows = [("premise", "hypothesis"), ("4", "a", "b"), ("17", "c", "d")]
    content = "".join(delimiter.join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in rows)
    assert read(tmp_path / name, content)[0] == [("a", "b"), ("c", "d")]


def test_a_cell_too_many_is_no_row_name(tmp_path: Path) -> None:
    for rows in ("1,a,b\n1,c,d\n2,e,f\n", "one,a,b\ntwo,c,d\n", "1,a,b\n"):
        with pytest.raises(UserError, match="wrong number of columns"):
            read(tmp_path / "a.csv", f"premise,hypothesis\n{rows}", ReadOptions())
    assert read(tmp_path / "b.csv", "premise,hypothesis\n1,b,\n2,d,\n")[0] == [("1", "b"), ("2", "d")]


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def test_a_row_with_too_many_fields_costs_a_row(tmp_path: Path) -> None:
    content = "premise,hypothesis\na,b\nc,d,e\nf,g\n"
    assert read(tmp_path / "a.csv", content) == ([("a", "b"), ("f", "g")], Counts(3, 2, {"wrong number of columns": 1}))


WIDTHS = {
    "fewer cells than the header": ("text,label,,", '"{}",x'),
    "more empty cells than the header": ("text,label", '"{}",x,,'),
    "a header that ends in a comma": ("text,label,", '"{}",x'),
}


@pytest.mark.parametrize("case", WIDTHS)
def test_a_row_of_several_lines_is_one_row_at_every_width(case: str, tmp_path: Path) -> None:
    header, row = WIDTHS[case]
    letters = [f"Dear {name},\nhello, all\n\nBest, me" for name in ("Anna", "Bo")]
    path = write(tmp_path / "a.csv", "\n".join([header, *(row.format(text) for text in letters)]) + "\n")
    assert read(path, path.read_bytes()) == (letters, Counts(2, 2, {}))
    for name in ("b.csv", "b.jsonl"):
        copies = [Part(file, iter([(2, None), (6, None)])) for file in open_records(path).data_files]
        assert copy_rows(copies, tmp_path / name, all_rows=list) == 2
        assert [record.text for record in read_all(tmp_path / name)[0] if isinstance(record, Text)] == letters


def test_lines_of_a_row_that_is_too_wide_are_no_rows(tmp_path: Path) -> None:
    content = 'premise,hypothesis\na,b\n"c","d,\nsay hello,dear friend\nbye",extra,more\nf,g\n'
    assert read(tmp_path / "a.csv", content) == ([("a", "b"), ("f", "g")], Counts(3, 2, {"wrong number of columns": 1}))


def test_a_byte_in_a_row_of_several_lines_costs_that_row(tmp_path: Path) -> None:
    content = b'premise,hypothesis\n"a\n\xff\nc",d\ne,f\n'
    assert read(tmp_path / "a.csv", content) == ([("e", "f")], Counts(2, 1, {"not UTF-8": 1}))


def test_a_tsv_that_pandas_quoted(tmp_path: Path) -> None:
    """pandas quotes the cells that need it, and only these."""
    pandas_style = 'premise\thypothesis\nplain\tit said "no"\n'.replace('it said "no"', '"it said ""no"""')
    pandas_style += '"a\nb"\t"c\td"\n'
    assert read(tmp_path / "a.tsv", pandas_style)[0] == [("plain", 'it said "no"'), ("a\nb", "c\td")]
    for stray in ('b\tsays "c"', '"b\tc', '"b" or\tc', 'b\tc"'):
        content = f'premise\thypothesis\n{stray}\n"d ""e"""\tf\n'
        expected = [tuple(stray.split("\t")), ('"d ""e"""', "f")]
        assert read(tmp_path / "b.tsv", content)[0] == expected, "a stray quote shows that quotes are text"


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(lambda cell: cell.strip() and not cell.endswith("\r"))  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=5), delimiter=st.sampled_from(",;\t|"))
def test_what_pandas_writes_is_read_back(
    rows: list[tuple[str, str]], delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink, delimiter=delimiter, lineterminator="\n")
        writer.writerows([("premise", "hypothesis"), *rows])
    assert texts(read_all(path)[0]) == rows


def test_a_text_file_that_is_a_table(tmp_path: Path) -> None:
    """Excel's "Unicode text" is a table, by the names of its columns."""
    content = 'question\tanswer\r\n"a ""b"""\tc\r\n'.encode("utf-16")
    assert read(tmp_path / "a.txt", content)[0] == [('a "b"', "c")]
    assert read(tmp_path / "b.txt", "a line\twith a tab\nb\n")[0] == ["a line\twith a tab", "b"]


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "json"])
def test_values_that_json_does_not_have(suffix: str, tmp_path: Path) -> None:
    rows = [
        '{"instruction": "a", "input": NaN, "output": "b"}',
        '{"instruction": "a", "input": "half \\ud83d", "output": "b \\ud83d\\ude00"}',
        '{"instruction": "a", "output": NaN}',
        '{"instruction": "a", "output": 42, "n": 1e999}',
        '{"instruction": 7, "output": false, "n": 123456789012345678901234567890}',
        '{"instruction": "a", "output": 0.5}',
    ]
    content = "[" + ",\n".join(rows) + "]" if suffix == "json" else "\n".join(rows)
    assert read(tmp_path / f"a.{suffix}", content) == (
        [("a", "b"), ("a\n\nhalf \ufffd", "b 😀"), ("a", "42"), ("7", "false"), ("a", "0.5")],
        Counts(6, 5, {"missing field": 1}),
    )


QA = [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]
WRAPPED: dict[str, Any] = {
    "data": {"version": "1", "data": QA},
    "any name": {"meta": {"n": 2}, "pairs": QA},
    "the hub's viewer": {"features": [{"name": "question"}], "rows": [{"row_idx": 0, "row": row} for row in QA]},
    "columns of lists": {"question": ["a", "c"], "answer": ["b", "d"]},
    "pandas' columns": {"question": {"0": "a", "1": "c"}, "answer": {"0": "b", "1": "d"}},
    "pandas' index": {"x": QA[0], "y": QA[1]},
    "pandas' split": {"columns": ["question", "answer"], "index": [0, 1], "data": [["a", "b"], ["c", "d"]]},
    "a list": QA,
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("indent", [None, 2])
def test_rows_that_are_wrapped(name: str, indent: int | None, tmp_path: Path) -> None:
    content = json.dumps(WRAPPED[name], indent=indent).encode()
    assert read(tmp_path / "a.json", content)[0] == [("a", "b"), ("c", "d")]
    assert read(tmp_path / "b.json.gz", gzip.compress(content + b"\n"))[0] == [("a", "b"), ("c", "d")]
    assert read(tmp_path / "c.json.zst", zstandard.compress(content))[0] == [("a", "b"), ("c", "d")]


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
ONE_ROW: dict[str, Any] = {
    "text": {"question": "a", "answer": "b", "sources": [{"title": "x"}, {"title": "y"}]},
    "capitals": {"Question": "a", "Answer": "b", "Sources": [{"title": "x"}]},
    "turns": {"messages": TURNS},
    "turns in an object": {"conversation": {"messages": TURNS}},
    "turns side by side": {"messages": {"role": ["user", "assistant"], "content": ["a", "b"]}},
    "turns in two columns": {"prompt": TURNS[:1], "completion": TURNS[1:]},
    "turns in objects": {"prompt": TURNS[0], "completion": TURNS[1]},
    "a row in a column": {"row": {"question": "a", "answer": "b"}, "row_idx": 3},
}


@pytest.mark.parametrize("name", ONE_ROW)
@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_that_is_one_row(name: str, indent: int | None, tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", json.dumps(ONE_ROW[name], indent=indent))[0] == [("a", "b")]


@pytest.mark.parametrize("indent", [None, 2])
def test_one_row_whose_columns_are_named(indent: int | None, tmp_path: Path) -> None:
    row = {"talk": TURNS, "n": 1}
    options = ReadOptions(columns={"messages": "talk"})
    assert read(tmp_path / "a.json", json.dumps(row, indent=indent), options)[0] == [("a", "b")]
    sides = {"prompt": TURNS[:1], "chosen": [TURNS[1]] * 2, "rejected": [TURNS[1]] * 2}
    assert read(tmp_path / "a.json", json.dumps(sides, indent=indent), ReadOptions(columns={"answer": "chosen"}))[
        0
    ] == [("a", "b", "b")]
    fields = {"fields": {"x": "a", "y": "b"}}
    assert read_all_of(tmp_path / "a.json", fields, indent) == [{"x": "a", "y": "b"}]


def read_all_of(path: Path, row: Any, indent: int | None) -> list[Any]:
    path.write_text(json.dumps(row, indent=indent))
    return [dict(record.fields) for record in read_all(path)[0] if isinstance(record, Labelled)]


def by_orient(orient: str, columns: dict[str, list[Any]]) -> Any:
    """A table as `DataFrame.to_json(orient=…)` writes it; "list" is `to_dict("list")`."""
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    match orient:
        case "columns":
            return {name: {str(at): cell for at, cell in enumerate(cells)} for name, cells in columns.items()}
        case "index":
            return {str(at): row for at, row in enumerate(rows)}
        case "split":
            return {"columns": list(columns), "index": [0, 1], "data": [list(row.values()) for row in rows]}
        case "table":
            fields = [{"name": name, "type": "string"} for name in ("index", *columns)]
            schema = {"fields": fields, "primaryKey": ["index"], "pandas_version": "1.4.0"}
            return {"schema": schema, "data": [{"index": at, **row} for at, row in enumerate(rows)]}
        case "records":
            return rows
    return columns


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("orient", ["columns", "index", "split", "table", "records", "list"])
def test_documents_that_pandas_writes(orient: str, indent: int | None, tmp_path: Path) -> None:
    """Also with names that are not ours, and with turns in a column."""
    content = json.dumps(by_orient(orient, {"ask": ["a", "c"], "reply": ["b", "d"]}), indent=indent)
    named = ReadOptions(columns={"question": "ask", "answer": "reply"})
    assert read(tmp_path / "a.json", content, named)[0] == [("a", "b"), ("c", "d")]
    content = json.dumps(by_orient(orient, {"messages": [TURNS, [*TURNS, *TURNS]], "n": [1, 2]}), indent=indent)
    assert read(tmp_path / "b.json", content)[0] == [("a", "b"), ("a", "b", "a", "b")]


@pytest.mark.parametrize("indent", [None, 1])
def test_several_lists_of_rows_in_an_object(indent: int | None, tmp_path: Path) -> None:
    content = json.dumps({"train": QA, "test": QA[:1]}, indent=indent)
    with pytest.raises(UserError, match=r"say which split(.|\n)*a\.json@train` or `.*a\.json@test`"):
        read(tmp_path / "a.json", content)
    assert read(tmp_path / "a.json", content, ReadOptions(split="test"))[0] == [("a", "b")]
    assert texts(read_all(f"{tmp_path / 'a.json'}@test")[0]) == [("a", "b")]
    with pytest.raises(UserError, match="no such split"):
        read(tmp_path / "a.json", content, ReadOptions(split="dev"))


def test_json_by_another_name_or_after_each_other(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", json.dumps(QA, indent=1))[0] == [("a", "b"), ("c", "d")]
    assert read(tmp_path / "b.jsonl", json.dumps(QA))[0] == [("a", "b"), ("c", "d")]
    each = "\n".join(json.dumps(row, indent=2) for row in QA)
    assert read(tmp_path / "c.jsonl", each)[0] == [("a", "b"), ("c", "d")]
    assert read(tmp_path / "d.json", each)[0] == [("a", "b"), ("c", "d")]


def test_a_list_of_turns_is_a_chat(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert read(tmp_path / "a.json", json.dumps(chat, indent=1))[0] == [("a", "b")]
    assert read(tmp_path / "b.json", json.dumps([chat, chat], indent=1))[0] == [("a", "b")] * 2
    assert read(tmp_path / "c.jsonl", f"{json.dumps(chat)}\n{json.dumps(chat)}\n")[0] == [("a", "b")] * 2


# --- compression ------------------------------------------------------------------------------------------------------


def test_long_windows_and_several_frames(tmp_path: Path) -> None:
    line = b'{"text": "one"}\n'
    parameters = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    long = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = long.compress(line) + long.flush()
    skipped = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    assert read(tmp_path / "a.jsonl.zst", content + skipped + zstandard.compress(line))[0] == ["one", "one"]
    assert read(tmp_path / "a.jsonl.gz", gzip.compress(line) * 2 + b"\0" * 64)[0] == ["one", "one"]
