"""The rows that steps hand to each other: labelled fields, one JSON object a line, in a fixed order."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson

from pyrite.errors import UserError
from pyrite.records import Labelled, Pair, Record


def as_labelled(record: Record, fields: Sequence[str]) -> Labelled:
    """A record as labelled fields; an NLI pair has the fields premise and hypothesis."""
    if isinstance(record, Pair) and set(fields) <= {"premise", "hypothesis"}:
        text = {"premise": record.premise, "hypothesis": record.hypothesis}
        return Labelled({name: text[name] for name in fields}, record.label, record.id, record.meta)
    if not isinstance(record, Labelled) or not set(fields) <= set(record.fields):
        has = (
            "premise, hypothesis"
            if isinstance(record, Pair)
            else ", ".join(getattr(record, "fields", {})) or "chat or plain text"
        )
        detail = f"row {record.id} holds {has}"
        raise UserError(
            f"A row does not have the fields {', '.join(fields)}.", detail, "name the file's columns with columns"
        )
    return Labelled({name: record.fields[name] for name in fields}, record.label, record.id, record.meta)


def write_rows(rows: Iterable[Labelled], path: Path) -> int:
    """Write rows to a step's folder; returns how many. (Steps publish atomically, so this need not.)"""
    count = 0
    with path.open("wb") as sink:
        for row in rows:
            plain = {"id": row.id, "fields": dict(row.fields), "label": row.label, "meta": dict(row.meta)}
            sink.write(orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
            count += 1
    return count


def read_rows(path: Path) -> list[Labelled]:
    """Read rows that a step wrote."""
    return list(iter_rows(path))


def iter_rows(path: Path) -> Iterator[Labelled]:
    """Read rows that a step wrote, one at a time."""
    with path.open("rb") as source:
        for line in source:
            row = orjson.loads(line)
            yield Labelled(row["fields"], row["label"], row["id"], row["meta"])


def by_label(rows: Iterable[Labelled], labels: Sequence[str]) -> dict[str, list[Labelled]]:
    """Rows grouped by label, in the order of `labels`, keeping the order within each."""
    groups: dict[str, list[Labelled]] = {label: [] for label in labels}
    for row in rows:
        if row.label not in groups:
            fix = f"the labels are {', '.join(labels)}; label_map renames a file's labels, three_way a grammar's"
            raise UserError("A row has an unknown label.", f"row {row.id}: {row.label!r}", fix)
        groups[row.label].append(row)
    return groups


def write_counts(folder: Path, read: int, rows: list[Labelled], dropped: Counter[str], labels: list[str]) -> None:
    """`counts.json`: rows read, kept (in all and by label), dropped by reason."""
    per_label = {label: sum(row.label == label for row in rows) for label in labels}
    counts = {"read": read, "kept": len(rows), "dropped": dict(sorted(dropped.items())), "kept_by_label": per_label}
    (folder / "counts.json").write_bytes(orjson.dumps(counts, option=orjson.OPT_INDENT_2))
