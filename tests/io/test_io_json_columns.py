"""Tables that stand in JSON by their columns are written back so: what is left and what is taken make the table."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pyrite.audit.flag_scores import DataFile, Flags, write_split
from pyrite.errors import UserError
from pyrite.io import Part, ReadOptions, copy_rows, open_records
from pyrite.io.files import find_file
from pyrite.io.formats import raw_rows

COLUMNS = {
    "instruction": [f"ask {n}" for n in range(7)],
    "output": [f"é\n{n}" for n in range(7)],
    "score": [1.10, 10**30, None, True, 1e-7, [1, {"a": []}], "x"],
}
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
DOCUMENTS: dict[str, Any] = {
    "lists": COLUMNS,
    "cells": {name: {str(9 - at): cell for at, cell in enumerate(cells)} for name, cells in COLUMNS.items()},
    "rows": {f"r{at}": row for at, row in enumerate(ROWS)},
    "split": {
        "index": list(range(7)),
        "columns": list(COLUMNS),
        "data": [list(row.values()) for row in ROWS],
        "note": 1,
    },
    "split without an index": {"columns": list(COLUMNS), "data": [list(row.values()) for row in ROWS]},
}


def divide(path: Path, flagged: Path, clean: Path) -> None:
    """Every third row is flagged."""
    marks: list[tuple[str, ...]] = [("format.closing",) if at % 3 == 1 else () for at in range(7)]
    write_split([DataFile(str(path), ReadOptions(), [None])], Flags([marks]), flagged=flagged, clean=clean)


def part(document: Any, name: str, *, flagged: bool) -> Any:
    """The part of a document that is flagged or clean, by hand."""
    chosen = [at for at in range(7) if (at % 3 == 1) == flagged]
    added = {"flagged_by": "format.closing"} if flagged else {}
    if name.startswith("split"):
        names = [*document["columns"], *added]
        data = [[*document["data"][at], *added.values()] for at in chosen]
        index = {"index": [document["index"][at] for at in chosen]} if "index" in document else {}
        return {**document, **index, "columns": names, "data": data}
    if name == "rows":
        return {key: {**row, **added} for at, (key, row) in enumerate(document.items()) if at in chosen}
    columns = document | dict.fromkeys(added, document["output"])
    if name == "lists":
        return {column: [added.get(column, cells[at]) for at in chosen] for column, cells in columns.items()}
    return {
        column: {key: added.get(column, cell) for at, (key, cell) in enumerate(cells.items()) if at in chosen}
        for column, cells in columns.items()
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_both_sides_keep_the_form_the_order_and_the_digits(name: str, tmp_path: Path) -> None:
    document = DOCUMENTS[name]
    (tmp_path / "a.json").write_text(json.dumps(document).replace("1.1", "1.10"), encoding="utf-8")
    divide(tmp_path / "a.json", tmp_path / "flagged.json", tmp_path / "clean.json.gz")
    for file, flagged in (("flagged.json", True), ("clean.json.gz", False)):
        expected = part(document, name, flagged=flagged)
        rows = [row for _, row in raw_rows(find_file(tmp_path / file))]
        assert len(rows) == len(list(open_records(tmp_path / file)))
        by_hand = tmp_path / "by_hand.json"
        by_hand.write_text(json.dumps(expected))
        assert rows == [row for _, row in raw_rows(find_file(by_hand))]
    written = json.loads((tmp_path / "flagged.json").read_text())
    assert written == part(document, name, flagged=True)
    assert list(written) == list(part(document, name, flagged=True)) or name.startswith("split")
    text = gzip.decompress((tmp_path / "clean.json.gz").read_bytes()).decode()
    assert json.loads(text) == part(document, name, flagged=False)
    assert "1.10" in text


def test_a_column_of_this_name_gets_other_values(tmp_path: Path) -> None:
    document = {"flagged_by": ["a"] * 7, **COLUMNS}
    (tmp_path / "a.json").write_text(json.dumps(document))
    divide(tmp_path / "a.json", tmp_path / "flagged.json", tmp_path / "clean.json")
    assert json.loads((tmp_path / "flagged.json").read_text())["flagged_by"] == ["format.closing"] * 2
    assert json.loads((tmp_path / "clean.json").read_text())["flagged_by"] == ["a"] * 5


@pytest.mark.parametrize("name", DOCUMENTS)
def test_as_lines_the_rows_keep_their_digits(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(DOCUMENTS[name]))
    divide(tmp_path / "a.json", tmp_path / "flagged.jsonl", tmp_path / "clean.jsonl")
    lines = (tmp_path / "clean.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [row for at, row in enumerate(ROWS) if at % 3 != 1]


BROKEN = {
    "a name of a column": '{\n"columns": [\n"question",\n"answer",\n"tools,\n"history"\n],\n"data": [\n["a", "b", "c", "d"]\n]\n}',
    "a part of the only row": '{"text": "a", "contents": [["b"], {"speaker":! "c"}]}',
    "a cell of a column": '{"question": ["a", "b"], "answer": ["c", {"x":! 1}]}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_table_with_a_broken_part(name: str, tmp_path: Path) -> None:
    """The rows that it is in are bad; it is nobody's text, and no column's name."""
    path = tmp_path / "a.json"
    path.write_text(BROKEN[name])
    with pytest.raises(UserError, match="broken JSON"):
        list(open_records(path, ReadOptions()))
    reader = open_records(path, ReadOptions(on_bad_row="skip"))
    if name == "a cell of a column":
        assert len(list(reader)) == 1
        assert reader.counts.dropped == {"broken JSON": 1}
        return
    with pytest.raises(UserError, match="no row could be read"):
        list(reader)


def test_a_chosen_row_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Fewer rows than were chosen are never written in silence."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n')
    parts = [Part(find_file(path), iter([(1, "x"), (2, "x")]))]
    with pytest.raises(UserError, match="cannot be written back"):
        copy_rows(parts, tmp_path / "b.jsonl", column=None, all_rows=lambda: parts)
    assert not (tmp_path / "b.jsonl").exists()
