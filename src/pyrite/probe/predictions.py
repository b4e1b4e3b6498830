"""Answers that were given elsewhere: a file of ids and labels, read as data and matched with a task's items."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io.files import data_suffix, find_file
from pyrite.io.formats import raw_rows
from pyrite.io.raw_row import BadRow
from pyrite.records import Labelled

ID_COLUMNS = ("pairID", "id", "uid")
ANSWER_COLUMNS = ("gold_label", "prediction", "predicted", "label")


def read_predictions(path: Path) -> list[tuple[str, str]]:
    """(id, label) of every line of a predictions file, read as data.

    Raises:
        UserError: no such file, no id or answer column, an id twice, a line without an answer column.
    """
    if not path.is_file():
        raise UserError("That predictions file is not there.", str(path), "give a text, csv, jsonl or parquet file")
    suffixes = data_suffix(path.name)
    rows: Sequence[Mapping[str, Any]]
    first = 2
    if suffixes is not None and (suffixes[0] in (".jsonl", ".json", ".parquet", ".arrow") or suffixes[1]):
        rows, first = prediction_rows(path), 1
        columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(
                "The predictions file is not UTF-8 text.", f"{path}: {error}", "save it as UTF-8"
            ) from error
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
        columns = list(reader.fieldnames or [])
        rows = list(reader)
    lookup = {name.strip().lower(): name for name in columns}
    id_column = next((lookup[name.lower()] for name in ID_COLUMNS if name.lower() in lookup), None)
    candidates = [name for name in ANSWER_COLUMNS if name in lookup and lookup[name] != id_column]
    preferred = [name for name in candidates if name in ("prediction", "predicted")] or candidates
    if id_column is None or not preferred:
        fix = f"name an id column ({', '.join(ID_COLUMNS)}) and an answer column ({', '.join(ANSWER_COLUMNS)})"
        raise UserError("The predictions file has no id or no answer column.", f"{path}: columns {columns}", fix)
    answers: list[tuple[str, str]] = []
    names: set[str] = set()
    for number, row in enumerate(rows, first):
        item, label = row.get(id_column), row.get(lookup[preferred[0]])
        if item is None or label is None:
            raise UserError(
                "A prediction is incomplete.", f"{path}:{number}: {dict(row)}", "give an id and a label on every line"
            )
        if str(item).strip() in names:
            raise UserError("An item is answered twice.", f"{path}:{number}: {item}", "leave one answer for each item")
        names.add(str(item).strip())
        answers.append((str(item).strip(), str(label).strip()))
    return answers


def prediction_rows(path: Path) -> list[Mapping[str, Any]]:
    """The rows of a file with columns of its own: JSON, parquet, arrow, and whatever is packed.

    Raises:
        UserError: a row that cannot be read.
    """
    file = find_file(path)
    rows: list[Mapping[str, Any]] = []
    for number, row in raw_rows(file):
        if isinstance(row, BadRow):
            raise UserError(
                f"A prediction cannot be read: {row.reason}.", f"{file.location(number)}: {row.detail}", "mend the row"
            )
        rows.append(row)
    return rows


def stored_predictions(path: Path) -> dict[str, str | None]:
    """The label that our own step gave to each item, by id."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["id", "predicted"]).to_pydict()
    return dict(zip(table["id"], table["predicted"], strict=True))


def match(answers: list[tuple[str, str]], items: list[Labelled], path: Path) -> tuple[Mapping[str, str | None], int]:
    """Answers by item id (blanks around an id do not count), and how many are for items that the task does not have.

    Raises:
        UserError: items whose ids differ in blanks only, or no answer to any item.
    """
    stripped = {item.id.strip(): item.id for item in items}
    alike = next((item.id for item in items if stripped[item.id.strip()] != item.id), None)
    if alike is not None:
        detail = f"{alike!r} and {stripped[alike.strip()]!r}"
        raise UserError("Items differ in blanks around their ids only.", detail, "give them ids that differ")
    matched = {stripped[item]: label for item, label in answers if item in stripped}
    if not matched:
        example = answers[0][0] if answers else "no lines"
        detail = (
            f"{path}: none of {len(answers)} ids is an item of the task (first: {example}; the task has: {items[0].id})"
        )
        raise UserError("The predictions are for other items.", detail, "give the predictions of this task's file")
    return matched, len(answers) - len(matched)
