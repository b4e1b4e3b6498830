"""Whatever stands in a file: no traceback, and every row accounted for. `python tests/io/test_io_fuzz.py --count N` runs more.

A reader either refuses a file by a `UserError`, or reads it with read = kept + dropped; what was kept is written back row by row.
"""

import argparse
import gzip
import json
import random
import tempfile
import time
from collections import Counter
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
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252")


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
        document: Any = rng.choice(
            [rows, rows[0], {"data": rows}, {"a": rows, "b": rows}, {"x": rows[0], "y": rows[0]}, value(rng)]
        )
        text = json.dumps(document, indent=rng.choice([None, 1]))
    else:
        mark = "\t" if suffix == "tsv" else rng.choice(",;\t|")
        names = list(rows[0])
        cells = [names] + [[str(each.get(name, "")) for name in names] for each in rows]
        cells += [[rng.choice(TEXTS) for _ in range(rng.randrange(5))] for _ in range(rng.randrange(3))]
        quote = rng.choice([lambda cell: cell, lambda cell: '"' + cell.replace('"', '""') + '"'])
        text = rng.choice(["\n", "\r\n", "\r"]).join(mark.join(map(quote, line)) for line in cells)
        text = rng.choice(["", "", f"sep={mark}\n"]) + text
    data = bytearray(text.encode(rng.choice(ENCODINGS), "replace"))
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        if data:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return bytes(data)


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
        columns=rng.choice([None] * 30 + [{"answer": "output"}, {"prompt": "input"}, {"text": "premise"}]),
        on_bad_row=rng.choice(["stop", "skip", "skip", "skip"]),
        roles=rng.choice([None, None, {"x": "assistant"}]),
        tool_calls=rng.choice(["text", "leave-out"]),
        encoding=rng.choice([None] * 12 + ["cp1252", "utf-16"]),
        text_fields=rng.choice([None] * 30 + [["text"]]),
    )


def check(rng: random.Random, folder: Path) -> str:
    """Read one file; what became of it."""
    suffix = rng.choice(SUFFIXES)
    packed = rng.choice(["", "", "", ".gz", ".zst"])
    path = folder / f"a.{suffix}{packed}"
    data = content(rng, suffix)
    path.write_bytes({"": data, ".gz": gzip.compress(data, 1), ".zst": zstandard.compress(data)}[packed])
    chosen = options(rng)
    source = f"{path}#{rng.choice(['chosen', 'output'])}" if rng.random() < 0.1 else path
    try:
        reader = open_records(source, chosen)
        numbers = [(number, len(records)) for _, number, records in reader.rows()]
    except UserError:
        return "refused"
    counts = reader.counts
    assert counts.read == counts.kept + sum(counts.dropped.values())
    assert counts.kept == len(numbers) == len({number for number, _ in numbers}), "a row has a number of its own"
    assert all(count for _, count in numbers)
    assert reader.read_as is not None
    reader.read_as.in_words()
    if rng.random() < 0.3:
        copy_back(rng, reader.data_files[0], [number for number, _ in numbers], folder)
    return "read"


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


def run(count: int, seed: int) -> Counter[str]:
    """So many files; what became of them. An error names the seed of its file."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            try:
                outcomes[check(random.Random(f"{seed}/{number}"), Path(folder))] += 1
            except Exception as error:
                raise AssertionError(f"file {number} of seed {seed}: {type(error).__name__}: {error}") from error
    return outcomes


def test_no_file_breaks_a_reader() -> None:
    outcomes = run(1500, seed=1)
    assert outcomes["read"] > 200
    assert outcomes["refused"] > 200


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=2)
    asked = parser.parse_args()
    began = time.monotonic()
    print(dict(run(asked.count, asked.seed)), f"{time.monotonic() - began:.0f} s")
