"""The rows whose perplexity is asked: read from a file or data set, and drawn."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.io import Counts, Reader, ReadOptions, open_records, stored_options
from pyrite.models.perplexity import Part
from pyrite.records import Chat, Text


def record_reader(config: Mapping[str, Any], file: Path) -> Reader:
    """The records of the step's file or hub data set, as its configuration says to read them."""
    hub, _, revision = (config["hub"] or "").partition("#")
    options = ReadOptions(columns=config["columns"], on_bad_row=config["on_bad_row"], **stored_options(config))
    return open_records(hub or file, replace(options, revision=revision or None))


def records_of(config: Mapping[str, Any], file: Path) -> tuple[list[Chat | Text], "Part", Counts]:
    """The records that are read, which part of them counts, and what became of the file's rows.

    Raises:
        UserError: labelled rows, or answers asked of plain text.
    """
    reader = record_reader(config, file)
    records: list[Chat | Text] = []
    for record in reader:
        if not isinstance(record, Chat | Text):
            fix = "give plain text, or chats (messages, ShareGPT, Alpaca, prompt and completion, question and answer)"
            raise UserError("perplexity reads texts and chats.", f"row {record.id} is labelled", fix)
        records.append(record)
    chats = any(isinstance(record, Chat) for record in records)
    part: Part = config["part"] or ("answers" if chats else "all")
    if part == "answers" and not chats:
        raise UserError("Plain text has no answers.", str(file), "use --part all")
    chosen = perplexity_rows(len(records), config["items"], config.get("skip", 0), config["seed"])
    return [records[at] for at in chosen], part, reader.counts


def perplexity_rows(rows: int, items: int | None, skip: int, seed: int | None) -> list[int]:
    """Which rows are read, in file order? Without those that `items=skip` would draw, so many as `items` of the rest.

    So `items=N` and `skip=N` share no row. Two draws that both skip may share rows.

    >>> perplexity_rows(9, 4, 0, seed=1), perplexity_rows(9, None, 4, seed=1)
    ([2, 3, 6, 8], [0, 1, 4, 5, 7])
    """
    rng = np.random.default_rng(seed)
    left: list[int] = list(range(rows))
    if skip >= rows:
        raise UserError("--skip leaves no row.", f"--skip {skip}, {rows} rows", "skip fewer")
    if skip:
        out = {int(at) for at in rng.choice(rows, skip, replace=False)}
        left = [at for at in left if at not in out]
    if items is None or items >= len(left):
        return left
    return [left[at] for at in sorted(rng.choice(len(left), items, replace=False))]
