"""Rows that a model cannot be given: all of them are found before a run stops, or they are left out and counted."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from pyrite.errors import UserError
from pyrite.models.template import BY_TEMPLATE, RowRefused

Row = TypeVar("Row")
Encoded = TypeVar("Encoded")

SHOWN = 3
"""Rows that are shown where all are refused."""
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
    examples: list[RowRefused] = []
    for row in rows:
        try:
            encoded.append(encode(row))
        except RowRefused as refusal:
            if len(examples) < SHOWN:
                examples.append(refusal)
            dropped[refusal.reason] += 1
        else:
            kept.append(row)
    if examples and not skip:
        raise refused_rows(examples, dropped, len(rows), kind)
    return kept, encoded, dropped


def refused_rows(examples: Sequence[RowRefused], dropped: Counter[str], total: int, kind: str = "rows") -> UserError:
    """The message for refused rows: how many of how many, the first of them, and how to go on without them. Where none would
    be left, several of them, and what is to be mended instead."""
    first, count = examples[0], dropped.total()
    if count < total:
        fix = (
            f"{first.fix}, or count such rows and go on without them: --on-bad-row skip (in a study: on_bad_row: skip)"
        )
        return UserError(first.what, f"{count:,} of {total:,} {kind} are refused, the first: {first.found}", fix)
    listed = "\n         ".join(example.found for example in examples)
    fix = first.fix
    if set(dropped) == {BY_TEMPLATE}:
        fix = (
            "no row is to blame: mend chat_template.jinja (or chat_template in tokenizer_config.json) in the model's folder, "
            "give it the variables that it wants (--chat-template-kwargs, in a study chat_template_kwargs), or name another model"
        )
    return UserError(first.what, f"all {total:,} {kind} are refused, such as\n         {listed}", fix)
