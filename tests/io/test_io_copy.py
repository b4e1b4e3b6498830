"""Rows are written back as they were: every column and type; what is left of a file and what is taken make the file."""

import dataclasses
import datetime
import decimal
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from pyarrow import ipc, parquet

from pyrite.audit.flag_scores import DataFile, Flags, write_split
from pyrite.errors import UserError
from pyrite.io import ReadOptions, check_target, open_records, read_all
from pyrite.io.files import find_file
from pyrite.io.formats import raw_rows

SKIP = ReadOptions(on_bad_row="skip")
TYPED = pyarrow.schema(
    [
        pyarrow.field("instruction", pyarrow.large_string()),
        pyarrow.field("output", pyarrow.string()),
        pyarrow.field("price", pyarrow.decimal128(12, 3)),
        pyarrow.field("day", pyarrow.date32()),
        pyarrow.field("at", pyarrow.timestamp("us", tz="UTC")),
        pyarrow.field("raw", pyarrow.binary()),
        pyarrow.field("small", pyarrow.int8()),
        pyarrow.field("kind", pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
        pyarrow.field("nested", pyarrow.list_(pyarrow.struct([("a", pyarrow.uint64()), ("b", pyarrow.float32())]))),
        pyarrow.field("map", pyarrow.map_(pyarrow.string(), pyarrow.int32())),
        pyarrow.field("none", pyarrow.null()),
    ],
    metadata={b"huggingface": b'{"info": {"features": {}}}', b"owner": b"me"},
)


def typed_table(rows: int) -> pyarrow.Table:
    plain = [
        {
            "instruction": f"ask {n}",
            "output": f"say {n}",
            "price": decimal.Decimal(n) / 8,
            "day": datetime.date(2024, 2, 1 + n % 28),
            "at": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
            "raw": b"\xff\x00",
            "small": n % 100,
            "kind": "ab"[n % 2],
            "nested": [{"a": 2**64 - 1, "b": 0.5}] * (n % 3),
            "map": [("k", n)],
            "none": None,
        }
        for n in range(rows)
    ]
    return pyarrow.Table.from_pylist(plain, schema=TYPED)


def divide(source: Path | Sequence[Path], flagged: Path | None, clean: Path | None, options: ReadOptions = SKIP) -> int:
    """Every third record is flagged; returns how many are."""
    files = [source] if isinstance(source, Path) else list(source)
    marks = []
    for file in files:
        count = sum(1 for _ in open_records(file, options))
        marks.append([("tokens.zipf", "format.closing") if n % 3 == 1 else () for n in range(count)])
    write_split([DataFile(str(file), options, [None]) for file in files], Flags(marks), flagged=flagged, clean=clean)
    return sum(map(bool, (names for of_file in marks for names in of_file)))


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
LINES = [
    '{"instruction": "a",  "output": 1.10, "n": 123456789012345678901234567890, "tags": ["x", {"y": null}]}',
    '{"instruction": "b", "output": "2", "half": "\\ud83d", "nan": NaN}',
    '  {"output": "c\\u2028d", "instruction": "é", "exp": 1E+2}  ',
    '{"instruction": "e", "output": "f"}',
    '{"messages": 3}',
    '{"instruction": "g", "output": "h", "flagged_by": "earlier"}',
]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
def test_lines_of_json_keep_their_text(suffix: str, packed: str, tmp_path: Path) -> None:
    pack: Callable[[bytes], bytes] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[packed]
    source = tmp_path / f"a.{suffix}{packed}"
    source.write_bytes(pack("\n".join(LINES).encode()))
    assert divide(source, tmp_path / f"f.{suffix}{packed}", tmp_path / f"c.{suffix}{packed}") == 2
    assert text_of(tmp_path / f"c.{suffix}{packed}") == [LINES[0], LINES[2].strip(), LINES[3]]
    assert text_of(tmp_path / f"f.{suffix}{packed}") == [
        LINES[1][:-1] + ',"flagged_by":"tokens.zipf, format.closing"}',
        '{"instruction": "g", "output": "h", "flagged_by": "tokens.zipf, format.closing"}',
    ]


def text_of(path: Path) -> list[str]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return (
        content.decode().splitlines() if b"\xe2\x80\xa8" not in content else content.decode().rstrip("\n").split("\n")
    )


def test_a_json_document_keeps_what_is_around_its_rows(tmp_path: Path) -> None:
    rows = ",\n ".join([LINES[0], LINES[1], '{\n  "instruction": "x",\n  "output": "y"\n }'])
    (tmp_path / "a.json").write_text(f'{{"version": "1.0", "data": [\n {rows}\n], "end": 2}}\n')
    assert divide(tmp_path / "a.json", tmp_path / "f.json", tmp_path / "c.json") == 1
    clean = (tmp_path / "c.json").read_text()
    assert clean.startswith('{"version": "1.0", "data": [')
    assert clean.endswith('], "end": 2}\n')
    assert LINES[0] in clean
    assert [row["instruction"] for row in json.loads(clean)["data"]] == ["a", "x"]
    assert [row["flagged_by"] for row in json.loads((tmp_path / "f.json").read_text())["data"]] == [
        "tokens.zipf, format.closing"
    ]
    divide(tmp_path / "a.json", None, tmp_path / "c.jsonl")
    assert text_of(tmp_path / "c.jsonl") == [LINES[0], '{ "instruction": "x", "output": "y" }']


CSVS = {
    "plain": b'text,label,note\na,1,"x, y"\n"b\nc",2,"q""q"\nd,03,\n"e",4,z',
    "Excel's": b'\xef\xbb\xbftext;label;;\r\na;1;;\r\n"b;c";2;;\r\nd;3;;\r\n',
    "with sep": b"sep=|\r\ntext|label\r\na|1\r\nb|2\r\nc|3\r\n",
    "an index": b",text,label\n0,a,1\n1,b,2\n2,c,3\n",
    "old Macs'": b"text,label\ra,1\rb,2\rc,3\r",
    "UTF-16": "\ufefftext;label\r\né;1\r\nb;2\r\nc;3\r\n".encode("utf-16-le"),
    "cp1252": "text,label\né –,1\nb,2\nü,3\n".encode("cp1252"),
}


@pytest.mark.parametrize("name", CSVS)
def test_a_csv_keeps_its_dialect_and_encoding(name: str, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(CSVS[name])
    options = ReadOptions(encoding="cp1252" if name == "cp1252" else None)
    divide(source, tmp_path / "f.csv", tmp_path / "c.csv", options)
    rows = dict(all_rows(source, options.encoding))
    clean = [values for _, values in all_rows(tmp_path / "c.csv", options.encoding)]
    flagged = [values for _, values in all_rows(tmp_path / "f.csv", options.encoding)]
    assert clean == [values for at, values in enumerate(rows.values()) if at % 3 != 1]
    marked = [{**values, "flagged_by": "tokens.zipf, format.closing"} for at, values in enumerate(rows.values()) if at % 3 == 1]  # fmt: skip
    assert flagged == marked
    if name not in ("plain",):  # whose last line has no end
        written = (tmp_path / "c.csv").read_bytes()
        encoding = "utf-16" if name == "UTF-16" else "latin-1"
        lines = CSVS[name].decode(encoding).splitlines(keepends=True)
        first = 2 if name == "with sep" else 1
        assert written.decode(encoding) == "".join([*lines[:first], lines[first], *lines[first + 2 :]])


@pytest.mark.parametrize("name", CSVS)
def test_a_flagged_csv_is_flagged_again(name: str, tmp_path: Path) -> None:
    """The column `flagged_by` of an earlier audit is replaced, wherever it stands; all else is as it was."""
    options = ReadOptions(encoding="cp1252" if name == "cp1252" else None)
    (tmp_path / "a.csv").write_bytes(CSVS[name])
    everything = [[("format.closing",)] * len(list(open_records(tmp_path / "a.csv", options)))]
    write_split(
        [DataFile(str(tmp_path / "a.csv"), options, [None])], Flags(everything), flagged=tmp_path / "f.csv", clean=None
    )
    divide(tmp_path / "f.csv", tmp_path / "f2.csv", tmp_path / "c2.csv", options)
    rows = [values for _, values in all_rows(tmp_path / "f.csv", options.encoding)]
    again = [values for _, values in all_rows(tmp_path / "f2.csv", options.encoding)]
    assert again == [{**values, "flagged_by": "tokens.zipf, format.closing"} for values in rows[1::3]]
    first = (tmp_path / "f.csv").read_bytes().splitlines(keepends=True)[0]
    assert (tmp_path / "f2.csv").read_bytes().startswith(first)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_row_names_get_a_place_in_the_header(suffix: str, tmp_path: Path) -> None:
    """R's write.table leaves it out, which one row alone would not show."""
    rows = ['"2" "a\n\nb" "1"', '"1" "b" "2"', '"7" "c" "3"']
    lines = [line.replace(" ", {"csv": ",", "tsv": "\t"}[suffix]) for line in ['"text" "label"', *rows, '"" ']]
    (tmp_path / f"a.{suffix}").write_text("\n".join(lines[:4]) + "\n")
    divide(tmp_path / f"a.{suffix}", tmp_path / f"f.{suffix}", tmp_path / f"c.{suffix}")
    assert (tmp_path / f"c.{suffix}").read_text() == f"{lines[4]}{lines[0]}\n{lines[1]}\n{lines[3]}\n"
    flagged = [values for _, values in all_rows(tmp_path / f"f.{suffix}")]
    assert flagged == [{"": "1", "text": "b", "label": "2", "flagged_by": "tokens.zipf, format.closing"}]


@pytest.mark.parametrize("target", ["csv", "tsv", "jsonl", "json", "parquet", "feather"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet", "feather"])
def test_flagged_rows_can_be_flagged_again(kind: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "prompt,flagged_by,answer,n\n" + "".join(f'"q,{n}",old,a{n},{n}\n' for n in range(9))
    )
    divide(tmp_path / "a.csv", tmp_path / f"f.{kind}", None)
    divide(tmp_path / f"f.{kind}", tmp_path / f"g.{target}", None)
    rows = [values for _, values in all_rows(tmp_path / f"g.{target}")]
    assert rows == [{"prompt": "q,4", "answer": "a4", "n": "4", "flagged_by": "tokens.zipf, format.closing"}]


def test_a_replaced_column_leaves_the_digits_of_numbers(tmp_path: Path) -> None:
    row = '{"text": "a", "flagged_by": ["x", {"flagged_by": 1}],  "n": 1.10, "e": 1E+2}'
    (tmp_path / "a.jsonl").write_text(f"{row}\n{row}\n")
    divide(tmp_path / "a.jsonl", tmp_path / "f.jsonl", None)
    assert text_of(tmp_path / "f.jsonl") == [
        '{"text": "a", "flagged_by": "tokens.zipf, format.closing",  "n": 1.10, "e": 1E+2}'
    ]


def all_rows(path: Path, encoding: str | None = None) -> Iterator[tuple[int, Any]]:
    return raw_rows(find_file(path, encoding=encoding))


def test_a_tsv_without_quotes_keeps_its_stray_ones(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b'premise\thypothesis\n"Yeah\tsaid\nb"\td\n"e\tf\n')
    divide(tmp_path / "a.tsv", tmp_path / "f.tsv", tmp_path / "c.tsv")
    assert (tmp_path / "c.tsv").read_bytes() == b'premise\thypothesis\n"Yeah\tsaid\n"e\tf\n'
    assert (tmp_path / "f.tsv").read_bytes() == (
        b'premise\thypothesis\tflagged_by\nb"\td\ttokens.zipf, format.closing\n'
    )


@pytest.mark.parametrize("target", ["parquet", "arrow", "feather", "parquet.gz", "arrow.zst"])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather"])
def test_columns_with_types_keep_them(kind: str, target: str, tmp_path: Path) -> None:
    table = typed_table(2500)
    source = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(table, source, row_group_size=700)
        table = parquet.read_table(source)  # parquet has its own idea of some types
    else:
        opened = ipc.new_stream if kind == "arrow" else ipc.new_file
        with opened(source, table.schema) as writer:
            writer.write_table(table)
    divide(source, tmp_path / f"f.{target}", tmp_path / f"c.{target}")
    clean, flagged = arrow_table(tmp_path / f"c.{target}"), arrow_table(tmp_path / f"f.{target}")
    mask = [at % 3 == 1 for at in range(2500)]
    expected = table.filter(pyarrow.array([not each for each in mask]))
    assert clean.schema.equals(expected.schema), difference(clean.schema, expected.schema)
    assert clean.schema.metadata == expected.schema.metadata
    assert clean.to_pylist() == expected.to_pylist()
    assert flagged.column_names == [*table.column_names, "flagged_by"]
    assert flagged.drop_columns(["flagged_by"]).to_pylist() == table.filter(pyarrow.array(mask)).to_pylist()


def difference(left: pyarrow.Schema, right: pyarrow.Schema) -> list[Any]:
    return [(a, b) for a, b in zip(left, right, strict=True) if a != b]


def arrow_table(path: Path) -> pyarrow.Table:
    from pyrite.io.formats import arrow_batches, arrow_schema

    file = find_file(path)
    return pyarrow.Table.from_batches(list(arrow_batches(file)), schema=arrow_schema(file))


@pytest.mark.parametrize("target", ["jsonl", "json", "csv", "tsv", "parquet", "feather", "csv.gz"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_change_their_format_without_losing_a_column(kind: str, target: str, tmp_path: Path) -> None:
    source = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        source.write_text("\n".join(LINES))
    elif kind == "csv":
        source.write_bytes(CSVS["plain"])
    else:
        parquet.write_table(typed_table(30), source)
    divide(source, tmp_path / f"f.{target}", tmp_path / f"c.{target}")
    before, after = list(open_records(source, SKIP)), read_all(tmp_path / f"c.{target}", SKIP)[0]
    assert [text_in(record) for record in after] == [text_in(record) for at, record in enumerate(before) if at % 3 != 1]
    rows = [values for _, values in all_rows(source) if isinstance(values, dict)]
    columns = set(dict.fromkeys(name for row in rows for name in row)) - ({"messages"} if kind == "jsonl" else set())
    written = {name for _, row in all_rows(tmp_path / f"c.{target}") for name in row}
    assert columns - {"half", "nan", "flagged_by"} <= written
    if kind == "jsonl" and target == "json":
        big = json.loads((tmp_path / "c.json").read_text())[0]["n"]
        assert big == 123456789012345678901234567890


CELLS: dict[str, list[dict[str, Any]]] = {
    "self-instruct": [{"instruction": f"i{n}", "instances": [{"input": "x", "output": f"{n}{m}"} for m in range(2)]} for n in range(3)],
    "labelled": [{"fields": {"b": f"{n}", "a": "2"}, "label": "x", "meta": {"k": [1]}} for n in range(3)],
    "tools": [{"messages": TURNS, "tools": [{"type": "function", "function": {"name": f"f{n}"}}]} for n in range(3)],
    "turns in two columns": [{"prompt": TURNS[:1], "completion": TURNS[1:], "n": "x"} for _ in range(3)],
    "turns in one of two": [{"prompt": TURNS[:1], "completion": "[1, 2]"} for _ in range(3)],
    "dialogues": [{"chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": "b"}]} for _ in range(3)],
    "rows in a column": [{"row": {"instruction": f"i{n}", "output": "a"}, "split": "train"} for n in range(3)],
    "turns side by side": [{"messages": {"role": ["user", "assistant"], "content": ["q", "a"]}} for _ in range(3)],
    "answers that are JSON": [{"prompt": f"q{n}", "answer": '{"text": "a"}'} for n in range(3)],
}  # fmt: skip


@pytest.mark.parametrize("target", ["jsonl", "json", "csv", "tsv", "parquet", "feather"])
@pytest.mark.parametrize("name", CELLS)
def test_lists_and_objects_in_a_table_are_read_back(name: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CELLS[name]))
    options = ReadOptions(columns={"answer": "chosen"}) if name == "dialogues" else ReadOptions()
    before = [row.records for row in open_records(tmp_path / "a.jsonl", options).rows()]
    none = Flags([[()] * sum(map(len, before))])
    write_split(
        [DataFile(str(tmp_path / "a.jsonl"), options, [None])], none, flagged=None, clean=tmp_path / f"c.{target}"
    )
    after = [row.records for row in open_records(tmp_path / f"c.{target}", options).rows()]
    assert without_ids(after) == without_ids(before)


def without_ids(rows: Sequence[Any]) -> list[Any]:
    return [[dataclasses.replace(record, id="") for record in records] for records in rows]


def text_in(record: Any) -> list[str]:
    return [turn.content for turn in record.messages] if hasattr(record, "messages") else [record.text]


def test_a_row_of_several_records_stays_one_row(tmp_path: Path) -> None:
    seeds = [{"instruction": f"i{n}", "instances": [{"input": "", "output": f"{n}{m}"} for m in range(2)]} for n in range(4)]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seeds))
    divide(tmp_path / "a.jsonl", tmp_path / "f.jsonl", tmp_path / "c.jsonl")  # records 1, 4 and 7
    assert [json.loads(line)["instruction"] for line in text_of(tmp_path / "f.jsonl")] == ["i0", "i2", "i3"]
    assert [json.loads(line) for line in text_of(tmp_path / "c.jsonl")] == [seeds[1]]


def test_several_files_in_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    (tmp_path / "b.csv").write_text("text;source\nb;x\nc;y\nd;z\n")
    (tmp_path / "c.jsonl").write_text('{"text": "e", "n": 2}\n')
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.jsonl")]
    divide(paths, tmp_path / "f.csv", tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text() == "text,label,source,n\na,1,,\nb,,x,\nd,,z,\ne,,,2\n"
    assert (tmp_path / "f.csv").read_text() == 'text,label,source,n,flagged_by\nc,,y,,"tokens.zipf, format.closing"\n'
    divide(paths, None, tmp_path / "all.parquet")
    assert parquet.read_table(tmp_path / "all.parquet").to_pylist()[-1] == {"text": "e", "label": None, "source": None, "n": 2}  # fmt: skip


def test_plain_text_stays_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one \n\ntwo\nthree")
    divide(tmp_path / "a.txt", tmp_path / "f.jsonl", tmp_path / "c.txt")
    assert (tmp_path / "c.txt").read_text() == "one \nthree\n"
    assert text_of(tmp_path / "f.jsonl") == ['{"text":"two","flagged_by":"tokens.zipf, format.closing"}']


def test_a_name_that_says_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"such as clean\.jsonl"):
        check_target(tmp_path / "clean")
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(UserError, match="no plain text"):
        check_target(tmp_path / "a.txt", [find_file(tmp_path / "a.csv")])
