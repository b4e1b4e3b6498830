"""What is in a user's file? Its layout, its columns, and of labelled rows the text columns and the labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io.files import find_file
from pyrite.io.formats import raw_rows
from pyrite.io.layouts import detect
from pyrite.io.raw_row import BadRow
from pyrite.records import Chat, Labelled, Pair, Text

ROWS = 2000
"""Rows that are looked at, the first of a file."""
MOST, STRIDE = 100_000, 50
"""Of the rows after them up to so many, every fiftieth is looked at for its label."""
LABEL_NAMES = ("label", "gold_label", "labels", "sentiment", "class", "category", "target", "intent", "topic")
"""Names of columns that are taken for the label, the first that is there."""
MOST_LABELS = 20
KINDS = {Chat: "chats", Text: "plain text", Pair: "pairs", Labelled: "labelled rows"}


@dataclass(frozen=True, slots=True)
class FileSummary:
    """A file: how it is read, how many of its rows were looked at, and whether these were all.

    Of rows with a label: its column, the labels with their counts, and the columns of text in their order.
    """

    file: str
    kind: str
    layout: str | None
    columns: Sequence[str]
    rows: int
    is_whole: bool
    label: str | None = None
    labels: Mapping[str, int] | None = None
    texts: Sequence[str] = ()

    def in_words(self) -> str:
        """One line about the file."""
        count = f"{self.rows:,} rows" if self.is_whole else f"more than {self.rows:,} rows"
        reading = f"read as {self.layout}" if self.layout else "of no layout with a name"
        labels = ""
        if self.labels:
            labels = "; labels in the first of them: " if not self.is_whole else "; labels: "
            labels += ", ".join(f"{name} {n}" for name, n in self.labels.items())
        return f"{self.file}: {count} ({self.kind}), {reading}; columns {', '.join(self.columns)}{labels}"


def summarise_file(file: str, label: str | None = None) -> FileSummary:
    """Look at a file's first rows.

    Raises:
        UserError: it cannot be read, holds no row, or has no column named as `label`.
    """
    data_file = find_file(Path(file))
    rows: list[Mapping[str, Any]] = []
    spread: list[Mapping[str, Any]] = []
    beyond = False
    for at, (_, values) in enumerate(islice(raw_rows(data_file), MOST)):
        beyond = at >= ROWS
        if isinstance(values, BadRow):
            continue
        if not beyond:
            rows.append(values)
        elif at % STRIDE == 0:  # a file may be sorted by its label
            spread.append(values)
    if not rows:
        raise UserError("The file holds no row that can be read.", file, "look at it, or give another")
    columns = list(dict.fromkeys(name for row in rows[:50] for name in row))
    layout = detect(columns, {})
    if label is not None and label not in columns:
        raise UserError(
            "The file has no such column.", f"{file}: --label {label}", f"its columns: {', '.join(columns)}"
        )
    chosen = label or next((name for name in LABEL_NAMES if name in columns), None)
    labels = label_counts([*rows, *spread], chosen)
    kind = KINDS[layout.kind] if layout else "rows"
    if layout is not None and layout.kind in (Chat, Pair):
        labelled = layout.kind is Pair and labels is not None
        pair = ("premise", "hypothesis") if labelled else ()
        return FileSummary(
            file, kind, layout.name, columns, len(rows), not beyond, chosen if labelled else None,
            labels if labelled else None, pair,
        )  # fmt: skip
    texts: tuple[str, ...] = text_columns(rows, columns, chosen) if labels else ()
    kind = "labelled rows" if labels and texts else kind
    return FileSummary(
        file, kind, None if texts or layout is None else layout.name, columns, len(rows), not beyond,
        chosen if texts else None, labels if texts else None, texts,
    )  # fmt: skip


def label_counts(rows: Sequence[Mapping[str, Any]], column: str | None) -> dict[str, int] | None:
    """The labels in a column, the commonest first; None where its values are too many to be labels."""
    if column is None:
        return None
    counts = Counter(str(row[column]) for row in rows if row.get(column) not in (None, "", "-"))
    return dict(counts.most_common()) if 2 <= len(counts) <= MOST_LABELS else None


def text_columns(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], label: str | None) -> tuple[str, ...]:
    """Columns that hold text that is read: different in most rows, and more than a word long."""
    chosen = []
    for name in columns:
        values = [row[name] for row in rows if isinstance(row.get(name), str) and row[name].strip()]
        wordy = sum(len(value.split()) > 1 for value in values)
        if name != label and wordy > 0.8 * len(rows) and len(set(values)) > 0.3 * len(rows):
            chosen.append(name)
    return tuple(chosen)
