"""Rows that belong together stay together when rows are divided into pools: by a field, or by a column of the file."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from pyrite.data.keys import same_text
from pyrite.errors import UserError
from pyrite.records import Labelled

Row = TypeVar("Row")


def group_of(row: Labelled, column: str) -> str | None:
    """The group of a labelled row: its field of that name (without regard to case and white space), else its column;
    None where it has neither, or nothing in it."""
    if column in row.fields:
        return same_text(row.fields[column]) or None
    return column_value(row.meta, column)


def column_value(columns: Mapping[str, object], name: str) -> str | None:
    """What a row has in a column; None where that is nothing."""
    value = columns.get(name)
    return None if value is None or value == "" else str(value)


def grouped(rows: Iterable[Row], key: Callable[[Row], str | None], source: str) -> list[list[Row]]:
    """The rows of each group, groups and rows in order of appearance; `source` names rows and column in messages.

    Raises:
        UserError: rows without a group: each would be one of its own, and what belongs to it might be elsewhere.
    """
    groups: dict[str, list[Row]] = {}
    lacking = total = 0
    for row in rows:
        total += 1
        value = key(row)
        if value is None:
            lacking += 1
        else:
            groups.setdefault(value, []).append(row)
    if lacking:
        detail = f"{source}: {lacking} of {total} rows have nothing there"
        raise UserError("Rows cannot be kept together.", detail, "name a field or column that every row fills in")
    return list(groups.values())


def whole_groups(sizes: Sequence[int], count: int) -> list[int]:
    """Which groups, in order, make up `count` rows? Those that still fit, one after the other; where they end below
    the count, also the smallest of the others. Fewer rows only where that is all there are.

    >>> whole_groups([3, 4, 2, 1], 6)
    [0, 2, 3]
    >>> whole_groups([3, 4, 5], 6)
    [0, 1]
    """
    chosen: list[int] = []
    passed: list[int] = []
    total = 0
    for at, size in enumerate(sizes):
        fits = total + size <= count
        (chosen if fits else passed).append(at)
        total += size * fits
    if total < count and passed:
        chosen.append(min(passed, key=sizes.__getitem__))
    return chosen


def balanced_groups(labels: Sequence[Mapping[str, int]], shares: Mapping[str, int]) -> list[int]:
    """Which groups make up so many rows of every label? First those, in order, that fit whole; then those that hold a
    label that is still short, and more besides. `labels` counts each group's rows by label.

    >>> balanced_groups([{"a": 1, "b": 1}, {"a": 2}, {"b": 1}, {"a": 1}], {"a": 2, "b": 2})
    [0, 2, 3]
    >>> balanced_groups([{"a": 3, "b": 1}, {"b": 2}], {"a": 2, "b": 2})
    [1, 0]
    """
    chosen: list[int] = []
    short = Counter(shares)
    remaining = list(range(len(labels)))
    for must_fit in (True, False):
        passed = []
        for at in remaining:
            helps = any(short[label] > 0 for label in labels[at])
            fits = all(short[label] >= count for label, count in labels[at].items())
            if helps and (fits or not must_fit):
                chosen.append(at)
                short.subtract(labels[at])
            else:
                passed.append(at)
        remaining = passed
    return chosen
