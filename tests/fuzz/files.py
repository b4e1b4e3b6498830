"""Data files of every kind, whole and broken, and ways to read them.

A reader either refuses a file by a `UserError`, or reads it with read = kept + dropped; what was kept is written back row by row.
"""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow
import zstandard
from pyarrow import parquet

from pyrite.errors import UserError
from pyrite.io import Part, ReadOptions, copy_rows, open_records
from pyrite.io.chat_turns import CONTENTS, ROLES, SENDERS, TURN_LISTS
from pyrite.io.layouts import LAYOUTS

NAMES = sorted(
    {name for layout in LAYOUTS.values() for name in layout.uses()} | {"id", "meta", "", "Output", "flagged_by"}
)
TEXTS = [
    "", " ", "a", "b c", "é", "😀", "\u2028", "\ud83d", "\0", "\r", '"', '""', ";", "\t", ",", "[]", "{}", "NaN", "0", "neutral", "-",
    "\n\nHuman: q\n\nAssistant: a", '[{"role": "user", "content": "q"}]', "[{'from': 'gpt', 'value': 'x'}]", "x" * 300,
]  # fmt: skip
SCALARS: list[Any] = [None, True, False, 0, -1, 42, 2**70, 0.5, float("nan"), float("inf"), *TEXTS]
SUFFIXES = ("jsonl", "json", "ndjson", "csv", "tsv", "txt", "parquet", "arrow")
ENCODINGS = ("utf-8",) * 6 + ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "shift_jis", "gb18030")


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value, turns of chats more often than others."""
    kind = rng.random()
    if depth > 3 or kind < 0.5:
        return rng.choice(SCALARS)
    if kind < 0.7:
        return [turn(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind < 0.8:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return row(rng, depth + 1)


def turn(rng: random.Random, depth: int) -> Any:
    """Something like a turn."""
    if rng.random() < 0.1:
        return value(rng, depth)
    text = value(rng, depth + 1) if rng.random() < 0.3 else "a"
    item = {rng.choice(SENDERS[:3]): rng.choice([*ROLES, "User", "x"]), rng.choice(CONTENTS[:4]): text}
    if rng.random() < 0.2:
        item[rng.choice(["tool_calls", "function_call"])] = value(rng, depth + 1)
    if rng.random() < 0.1:
        item["content"] = [{"type": rng.choice(["text", "image", "tool_use"]), "text": rng.choice(TEXTS)}]
    return item


def row(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A row: mostly the columns of a layout, with values that may fit."""
    names = [rng.choice(needed) for needed in rng.choice(list(LAYOUTS.values())).requires]
    names += rng.sample(NAMES, rng.choice([0, 0, 1, 2]))
    values: dict[str, Any] = {}
    for name in names:
        likely = rng.random() < 0.8
        if likely and name in TURN_LISTS:
            values[name] = [turn(rng, depth + 1) for _ in range(rng.randrange(1, 3))]
        elif likely and name == "instances":
            values[name] = [{"input": "", "output": "a"}]
        else:
            values[name] = rng.choice(["a", "b c", "é"]) if likely else value(rng, depth + 1)
    return values


def content(rng: random.Random, suffix: str) -> bytes:
    """What a file of this kind could hold, whole or broken."""
    rows = [row(rng)] * rng.randrange(1, 3) + [row(rng) for _ in range(rng.randrange(4))]
    if suffix in ("parquet", "arrow"):
        return columnar(rng, rows, suffix)
    if suffix in ("jsonl", "ndjson"):
        text = "\n".join(json.dumps(each, ensure_ascii=rng.random() < 0.5) for each in rows)
    elif suffix == "json":
        text = json.dumps(document(rng, rows), indent=rng.choice([None, 1]))
    else:
        mark = "\t" if suffix == "tsv" else rng.choice(",;\t|")
        names = list(rows[0])
        cells = [names] + [[str(each.get(name, "")) for name in names] for each in rows]
        cells += [[rng.choice(TEXTS) for _ in range(rng.randrange(5))] for _ in range(rng.randrange(3))]
        quote = rng.choice([lambda cell: cell, lambda cell: '"' + cell.replace('"', '""') + '"'])
        text = rng.choice(["\n", "\r\n", "\r"]).join(mark.join(map(quote, line)) for line in cells)
        if rng.random() < 0.2:  # no names
            text = text.partition("\n")[2] or text
        text = rng.choice(["", "", f"sep={mark}\n"]) + text
    data = bytearray(text.encode(rng.choice(ENCODINGS), "replace"))
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        if data:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return bytes(data)


def document(rng: random.Random, rows: list[dict[str, Any]]) -> Any:
    """Rows as JSON holds them: in a list, in an object, by their columns."""
    names = list(rows[0])
    columns = {name: [each.get(name) for each in rows] for name in names}
    ways: list[Any] = [
        *(rows, rows[0], {"data": rows}, {"a": rows, "b": rows}, {"x": rows[0], "y": rows[0]}, value(rng), columns),
        {name: {str(at): cell for at, cell in enumerate(cells)} for name, cells in columns.items()},
        {"columns": names, "data": [list(each.values()) for each in rows]},
        {"columns": names, "index": [*range(len(rows))], "data": [[each.get(name) for name in names] for each in rows]},
        {str(at): each for at, each in enumerate(rows)},
    ]
    return rng.choice(ways)


def columnar(rng: random.Random, rows: list[dict[str, Any]], suffix: str) -> bytes:
    """Rows as a table, where arrow finds types for them; texts otherwise."""
    sink = pyarrow.BufferOutputStream()
    try:
        table = pyarrow.Table.from_pylist(rows)
    except Exception:
        table = pyarrow.table({"text": [text for text in TEXTS if text.isprintable()]})
    try:
        if suffix == "parquet":
            parquet.write_table(table, sink)
        else:
            with (pyarrow.ipc.new_stream if rng.random() < 0.5 else pyarrow.ipc.new_file)(sink, table.schema) as writer:
                writer.write_table(table)
    except pyarrow.ArrowException:
        return b""
    data = bytearray(sink.getvalue().to_pybytes())
    if rng.random() < 0.3 and data:
        data[rng.randrange(len(data))] ^= rng.randrange(256)
    return bytes(data)


def options(rng: random.Random) -> ReadOptions:
    """How the file is read."""
    return ReadOptions(
        layout=rng.choice([None] * 60 + sorted(LAYOUTS)),
        columns=rng.choice(
            [None] * 30
            + [
                {"answer": "output"},
                {"prompt": "input"},
                {"text": "premise"},
                {"text": "1"},
                {"prompt": "1", "answer": "2"},
            ]
        ),
        on_bad_row=rng.choice(["stop", "skip", "skip", "skip"]),
        roles=rng.choice([None, None, {"x": "assistant"}]),
        tool_calls=rng.choice(["text", "leave-out"]),
        encoding=rng.choice([None] * 12 + ["cp1252", "utf-16", "gb18030"]),
        text_fields=rng.choice([None] * 30 + [["text"], ["1"]]),
    )


def check(rng: random.Random, folder: Path) -> str:
    """Read one file; what became of it."""
    suffix = rng.choice(SUFFIXES)
    packed = rng.choice(["", "", "", ".gz", ".zst"])
    path = folder / f"a.{suffix}{packed}"
    data = content(rng, suffix)
    path.write_bytes(gzip.compress(data, 1) if packed == ".gz" else zstandard.compress(data) if packed else data)
    try:
        return read_back(rng, path, options(rng), folder)
    finally:
        path.unlink()


def read_back(rng: random.Random, path: Path, chosen: ReadOptions, folder: Path) -> str:
    """Read a file, and write it back; what became of it."""
    source = f"{path}#{rng.choice(['chosen', 'output'])}" if rng.random() < 0.1 else path
    try:
        reader = open_records(source, chosen)
        numbers = [(number, len(records)) for _, number, records in reader.rows()]
    except UserError:
        return "file refused"
    counts = reader.counts
    assert counts.read == counts.kept + sum(counts.dropped.values())
    assert counts.kept == len(numbers) == len({number for number, _ in numbers}), "a row has a number of its own"
    assert all(count for _, count in numbers)
    assert reader.read_as is not None
    reader.read_as.in_words()
    if rng.random() < 0.3:
        copy_back(rng, reader.data_files[0], [number for number, _ in numbers], folder)
    return "file read"


def copy_back(rng: random.Random, file: Any, numbers: list[int], folder: Path) -> None:
    """Write the rows that were read, in any format: as many rows."""
    target = folder / f"b.{rng.choice(['jsonl', 'json', 'csv', 'tsv', 'parquet', 'arrow', file.suffix[1:]])}"

    def parts() -> list[Part]:
        return [Part(file, iter([(number, "x") for number in numbers]))]

    if target.suffix == ".txt" and file.suffix != ".txt":
        return
    try:
        written = copy_rows(parts(), target, column=rng.choice([None, "flagged_by"]), all_rows=parts)
    except UserError:
        return
    finally:
        target.unlink(missing_ok=True)
    assert written == len(numbers), (target.name, written, numbers)
