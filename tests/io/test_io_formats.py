"""Every format, plain and compressed, gives the same records; what is no file, no data or half a file is named."""

import contextlib
import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from pyrite.errors import UserError
from pyrite.io import Counts, ReadOptions, open_records, read_all
from pyrite.records import Pair, Text

ROWS = [
    {"premise": "The dog ran.", "hypothesis": "A dog, moving.", "label": "entailment", "genre": "fiction"},
    {"premise": 'He said "no".', "hypothesis": "Er sagte »nein« \U0001f600", "label": "contradiction", "genre": "x"},
    {"premise": "Three", "hypothesis": "Four", "label": "neutral", "genre": "y"},
]


def as_bytes(kind: str, rows: list[dict[str, str]]) -> bytes:
    names = list(rows[0])
    table = pyarrow.Table.from_pylist(rows)
    sink = pyarrow.BufferOutputStream()
    match kind:
        case "jsonl" | "json-lines":
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        case "json":
            return json.dumps(rows, indent=2).encode()
        case "csv":
            cells = [names, *([row[name] for name in names] for row in rows)]
            return "".join(
                ",".join('"' + cell.replace('"', '""') + '"' for cell in line) + "\r\n" for line in cells
            ).encode()
        case "tsv":
            return "".join("\t".join(cells) + "\n" for cells in [names, *([*row.values()] for row in rows)]).encode()
        case "parquet":
            parquet.write_table(table, sink)
        case "arrow":
            with ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        case "arrow-file":
            with ipc.new_file(sink, table.schema) as stream:
                stream.write_table(table)
    return sink.getvalue().to_pybytes()


def pack(content: bytes, packed: str) -> bytes:
    return {"": content, ".gz": gzip.compress(content), ".zst": zstandard.compress(content)}[packed]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "json-lines", "csv", "tsv", "parquet", "arrow", "arrow-file"])
def test_every_format_and_compression_gives_the_same_records(kind: str, packed: str, tmp_path: Path) -> None:
    suffix = kind.split("-")[0]
    path = tmp_path / f"data.{suffix}{packed}"
    path.write_bytes(pack(as_bytes(kind, ROWS), packed))
    reader = open_records(path)
    records = list(reader)
    assert reader.layout == "nli"
    assert reader.counts == Counts(3, 3, {})
    assert [(r.premise, r.hypothesis, r.label) for r in records if isinstance(r, Pair)] == [
        (row["premise"], row["hypothesis"], row["label"]) for row in ROWS
    ]
    assert [dict(record.meta) for record in records] == [{"genre": row["genre"]} for row in ROWS]
    assert list(reader) == records, "each iteration starts again"
    first = {"csv": 2, "tsv": 2}.get(suffix, 1)
    assert [record.id for record in records] == [f"data:{number}" for number in range(first, first + 3)]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_plain_text_is_a_row_for_every_line_that_is_not_blank(packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"web.txt{packed}"
    path.write_bytes(pack(b"\xef\xbb\xbf one \r\n\n   \ntwo\xe2\x80\xa8still two", packed))
    records, counts = read_all(path)
    assert records == [Text(" one ", "web:1"), Text("two\u2028still two", "web:4")]
    assert counts == Counts(2, 2, {})


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_a_byte_order_mark_is_no_part_of_the_data(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{kind}"
    path.write_bytes(b"\xef\xbb\xbf" + as_bytes(kind, ROWS))
    assert len(read_all(path)[0]) == 3


def test_windows_line_ends_and_a_missing_last_newline(tmp_path: Path) -> None:
    for kind in ("jsonl", "tsv", "csv"):
        path = tmp_path / f"data.{kind}"
        path.write_bytes(as_bytes(kind, ROWS).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
        records, counts = read_all(path)
        assert counts == Counts(3, 3, {})
        assert records[2].meta["genre"] == "y"


def test_a_line_of_100_megabytes(tmp_path: Path) -> None:
    size = 100_000_000
    for kind, content in (
        ("jsonl", b'{"text": "' + b"x" * size + b'"}\n{"text": "short"}\n'),
        ("csv", b'id,text\na,"' + b"x" * size + b'"\nb,short\n'),
    ):
        path = tmp_path / f"big.{kind}"
        path.write_bytes(content)
        sizes = [len(record.text) for record in open_records(path) if isinstance(record, Text)]
        assert sizes == [size, 5]
        path.unlink()


def test_rows_stream(tmp_path: Path) -> None:
    """The first record is there although the file ends in rubbish: nothing reads ahead to the end."""
    for kind, bad in (("jsonl", b"{"), ("csv", b'a,"b')):
        path = tmp_path / f"data.{kind}"
        path.write_bytes(as_bytes(kind, ROWS) + bad)
        assert next(iter(open_records(path)))


def test_many_parquet_batches_keep_their_order_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    parquet.write_table(pyarrow.table({"text": [f"row {n}" for n in range(5000)]}), path, row_group_size=700)
    records, counts = read_all(path)
    assert counts.read == 5000
    assert [record.id for record in records] == [f"many:{n + 1}" for n in range(5000)]


def test_multinli_text_with_stray_quotes_in_a_tsv(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text('premise\thypothesis\tlabel\n"Yeah, he said\tHe spoke\tneutral\nb\tc"\tentailment\n')
    records, _ = read_all(path)
    assert [record.premise for record in records if isinstance(record, Pair)] == ['"Yeah, he said', "b"]


def test_a_tsv_with_a_quoted_header_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text('"premise"\t"hypothesis"\n"a\tb"\t"c\nd"\n"e"\t"f"\n')
    records, _ = read_all(path)
    assert records == [Pair("a\tb", "c\nd", None, "dev:2"), Pair("e", "f", None, "dev:4")]


# --- what is not a whole file -----------------------------------------------------------------------------------------


def test_a_missing_file_suggests_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    with pytest.raises(UserError, match=r"did you mean .*train\.jsonl"):
        open_records(tmp_path / "trian.jsonl")
    with pytest.raises(UserError, match="is not there either"):
        open_records(tmp_path / "absent" / "train.jsonl")
    with pytest.raises(UserError, match="hf://stanfordnlp/snli"):
        open_records("stanfordnlp/snli")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    for name in ("model.pkl", "data.xlsx.gz", "data"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=r"\.jsonl \.json \.csv \.tsv \.txt \.parquet \.arrow.*\.gz or \.zst"):
            open_records(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b""),
        ("a.jsonl", b"\n  \n"),
        ("a.jsonl", b"\xef\xbb\xbf"),
        ("a.json", b""),
        ("a.json", b"[]"),
        ("a.csv", b""),
        ("a.csv", b"premise,hypothesis,label\n"),
        ("a.tsv", b"premise\thypothesis\n"),
        ("a.txt", b"\n\n"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("a.jsonl.zst", zstandard.compress(b"")),
        ("a.jsonl.zst", b""),
    ],
)
def test_an_empty_file_has_no_rows(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="no rows"):
        read_all(tmp_path / name)


def test_an_empty_parquet_has_no_rows(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no rows"):
        read_all(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", ["jsonl.gz", "jsonl.zst", "parquet", "arrow", "arrow-file", "parquet.zst"])
def test_half_a_file_is_never_taken_for_a_whole_one(kind: str, tmp_path: Path) -> None:
    base, _, packed = kind.partition(".")
    rows = [{"text": f"row {n} {n * n * 7919 % 10007}"} for n in range(4000)]
    content = pack(as_bytes(base, rows), f".{packed}" if packed else "")
    path = tmp_path / f"a.{kind.replace('-file', '')}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"not a whole .*\n.*a\.(jsonl|parquet|arrow)"):
        read_all(path, ReadOptions(on_bad_row="skip"))


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrow-file"])
def test_rubbish_in_a_file_is_a_user_error(kind: str, tmp_path: Path) -> None:
    """Bytes flipped anywhere: rows, or a UserError that names the file; never a traceback of a library."""
    content = bytearray(as_bytes(kind, [{"text": f"row {n}"} for n in range(50)]))
    path = tmp_path / f"a.{kind.split('-')[0]}"
    for at in range(0, len(content), 7):
        broken = content.copy()
        broken[at] ^= 0xFF
        path.write_bytes(broken)
        with contextlib.suppress(UserError):
            read_all(path, ReadOptions(on_bad_row="skip"))


def test_an_arrow_stream_cut_off_between_two_batches(tmp_path: Path) -> None:
    schema = pyarrow.schema({"text": pyarrow.string()})
    sink = pyarrow.BufferOutputStream()
    with ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pyarrow.record_batch({"text": ["a", "b"]}))
        end = sink.tell()
        stream.write_batch(pyarrow.record_batch({"text": ["c"]}))
    (tmp_path / "a.arrow").write_bytes(sink.getvalue().to_pybytes()[:end])
    with pytest.raises(UserError, match="not a whole"):
        read_all(tmp_path / "a.arrow")


def test_what_only_calls_itself_compressed_or_parquet(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow"):
        (tmp_path / name).write_bytes(b'{"text": "plain"}\n' * 10)
        with pytest.raises(UserError, match="not a whole"):
            read_all(tmp_path / name)


def test_compressed_files_of_several_parts_are_read_to_the_end(tmp_path: Path) -> None:
    parts = [b'{"text": "one"}\n', b'{"text": "two"}\n']
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, parts)))
    for packed in ("gz", "zst"):
        assert read_all(tmp_path / f"a.jsonl.{packed}")[1] == Counts(2, 2, {})


def test_a_json_file_that_is_not_json_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n  {"text": "a"},\n  {"text": }\n')
    with pytest.raises(UserError, match=r"a\.json:3: "):
        read_all(path, ReadOptions(on_bad_row="skip"))
    path.write_text('[\n  {"text": "a"},\n  {"text": }\n]\n')
    with pytest.raises(UserError, match=r"a\.json: row 2: Expecting value at line 3, column 12"):
        read_all(path)
    path.write_bytes(b'[\n  {"text": "a"},\n\n  {"text": "\xff"}\n]\n')
    with pytest.raises(UserError, match=r"not UTF-8(.|\n)*a\.json:4: byte 0xff at offset 32"):
        read_all(path)
    assert read_all(path, ReadOptions(on_bad_row="skip"))[1] == Counts(2, 1, {"not UTF-8": 1})
    path.write_text('{\n  "text": "one object, written over lines"\n}')
    assert read_all(path)[0] == [Text("one object, written over lines", "a:1")]


def test_repeated_column_names_and_broken_headers(tmp_path: Path) -> None:
    for name, content in (("a.csv", b"text,text\na,b\n"), ("a.tsv", b"text\ttext\na\tb\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="same name"):
            read_all(tmp_path / name)
    (tmp_path / "b.csv").write_bytes(b"te\xffxt,b\na,b\n")
    with pytest.raises(UserError, match="header"):
        read_all(tmp_path / "b.csv", ReadOptions(on_bad_row="skip"))
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="same name"):
        read_all(tmp_path / "a.parquet")


# --- folders saved with save_to_disk ----------------------------------------------------------------------------------


def test_a_saved_data_set_and_its_splits(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        premise=datasets.Value("string"),
        hypothesis=datasets.Value("string"),
        label=datasets.ClassLabel(names=["contradiction", "entailment"]),
    )
    rows = {"premise": ["a", "b", "c"], "hypothesis": ["d", "e", "f"], "label": [1, 0, -1]}
    train = datasets.Dataset.from_dict(rows, features=features)
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=train, test=train.select([1])).save_to_disk(tmp_path / "two")

    expected = [("a", "entailment"), ("b", "contradiction"), ("c", "-")]
    records, counts = read_all(tmp_path / "one")
    assert [(r.premise, r.label) for r in records if isinstance(r, Pair)] == expected
    assert counts == Counts(3, 3, {})
    assert read_all(tmp_path / "two", ReadOptions(split="test"))[0] == [Pair("b", "e", "contradiction", "test:1")]
    with pytest.raises(UserError, match="its splits: train, test"):
        open_records(tmp_path / "two")
    with pytest.raises(UserError, match="no such split"):
        open_records(tmp_path / "two", ReadOptions(split="tset"))
    with pytest.raises(UserError, match="holds no data"):
        open_records(tmp_path)
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../../secret.arrow"}]
    (tmp_path / "one" / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="outside its folder"):
        open_records(tmp_path / "one")


def test_importing_loads_nothing_heavy() -> None:
    import subprocess

    code = "import sys, pyrite.io; print([m for m in ('pyarrow','datasets','huggingface_hub','zstandard','torch') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- properties -------------------------------------------------------------------------------------------------------

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(str.strip)


@settings(max_examples=150, deadline=None)
@given(cells=st.lists(st.tuples(anything, anything), min_size=1, max_size=6))
def test_what_a_csv_writer_writes_is_read_back(
    cells: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink, quoting=csv.QUOTE_ALL)
        writer.writerow(["premise", "hypothesis"])
        writer.writerows(cells)
    records, counts = read_all(path)
    assert [(r.premise, r.hypothesis) for r in records if isinstance(r, Pair)] == cells
    assert counts == Counts(len(cells), len(cells), {})


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300), kind=st.sampled_from(["jsonl", "csv", "tsv", "txt", "json"]))
def test_no_bytes_break_the_reader_or_the_counts(
    content: bytes, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is in a file, it is read with read = kept + dropped, or refused by a UserError."""
    path = tmp_path_factory.mktemp("bytes") / f"a.{kind}"
    path.write_bytes({"csv": b"text,b\n", "tsv": b"text\tb\n"}.get(kind, b"") + content)
    for mode in ("stop", "skip"):
        try:
            records, counts = read_all(path, ReadOptions(layout="text", on_bad_row=mode))  # type: ignore[arg-type]
        except UserError:
            continue
        assert counts.read == counts.kept + sum(counts.dropped.values())
        assert len(records) == counts.kept > 0


READ_PARQUET = """
import re, sys
from pathlib import Path
from pyrite.io.files import find_file
from pyrite.io.formats import arrow_batches, raw_rows

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

small, large = (find_file(Path(name)) for name in sys.argv[1:])
read = lambda file: (sum(1 for _ in raw_rows(file)), sum(batch.num_rows for batch in arrow_batches(file)))
read(small)
before = peak()
assert read(large) == (200_000, 200_000)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of a process's memory")
def test_a_parquet_file_of_one_row_group_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """120 MB of random text in one row group, as many writers make them: reading keeps a page of it, not all."""
    rng = random.Random(0)
    texts = [rng.randbytes(300).hex() for _ in range(200_000)]
    for name, rows in (("small", 2_000), ("large", 200_000)):
        table = pyarrow.table({"text": texts[:rows]})
        parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=rows, compression="none")
    assert (tmp_path / "large.parquet").stat().st_size > 110e6
    words = [sys.executable, "-c", READ_PARQUET, str(tmp_path / "small.parquet"), str(tmp_path / "large.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30, f"{done.stdout} MiB more than for a small file"
