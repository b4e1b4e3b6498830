"""Rows that a model cannot be given: all of them are found before a run stops, or they are left out and counted."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from pyrite.errors import UserError
from pyrite.models.template import RowRefused

Row = TypeVar("Row")
Encoded = TypeVar("Encoded")

TOO_LONG = "longer than the model can read"
"""The reason of rows that the model's length refuses."""


def encode_each(
    rows: Sequence[Row], encode: Callable[[Row], Encoded], *, skip: bool, kind: str = "rows"
) -> tuple[list[Row], list[Encoded], Counter[str]]:
    """The rows that can be encoded, those encoded, and how many of the others there are by reason.

    Raises:
        UserError: not `skip`, and some rows are refused: how many of how many (`kind` in the plural), and the first.
    """
    kept: list[Row] = []
    encoded: list[Encoded] = []
    dropped: Counter[str] = Counter()
    first: RowRefused | None = None
    for row in rows:
        try:
            encoded.append(encode(row))
        except RowRefused as refusal:
            first = first or refusal
            dropped[refusal.reason] += 1
        else:
            kept.append(row)
    if first is not None and not skip:
        raise all_refused(first, dropped.total(), len(rows), kind)
    return kept, encoded, dropped


def all_refused(first: RowRefused, count: int, total: int, kind: str = "rows") -> UserError:
    """The message for refused rows: how many of how many, the first of them, and how to go on without them."""
    fix = f"{first.fix}, or count such rows and go on without them: --on-bad-row skip (in a study: on_bad_row: skip)"
    return UserError(first.what, f"{count:,} of {total:,} {kind} are refused, the first: {first.found}", fix)
