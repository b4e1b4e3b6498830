"""Rows as a language model trains on them: encoded, counted, and put in the order of training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Chat


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row as a language model trains on it: token ids, and which of them are learned (the first never is).

    `role` says what the row is for; `number` counts the rows of a role, whatever step they are in. Rows of a step with
    the same `unit` (other than -1) are read in the same pass.
    """

    id: str
    ids: Sequence[int]
    learned: Sequence[bool]
    role: str = "learn"
    number: int = 0
    unit: int = -1

    @property
    def targets(self) -> int:
        """How many tokens are learned."""
        return sum(self.learned[1:])


def shuffled(rows: Sequence[TrainingRow], count: int, epochs: float, seed: int) -> list[list[TrainingRow]]:
    """Steps of `count` rows: every epoch another order, a function of seed and epoch alone."""
    remaining = round(len(rows) * epochs)
    steps: list[list[TrainingRow]] = []
    epoch = 0
    while remaining > 0:
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))[:remaining]
        steps += [[rows[at] for at in order[first : first + count]] for first in range(0, len(order), count)]
        remaining -= len(order)
        epoch += 1
    return steps


def encode_rows(
    tokenizer: Any,
    records: Sequence[Any],
    part: Any,
    max_tokens: int,
    *,
    long_rows: str,
    role: str = "learn",
    template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[list[TrainingRow], dict[str, int]]:
    """Records as rows to train on, and counts: rows read and used, split (each piece is a row), dropped by reason; then
    rows by what the chat template did to them.

    `part` is "answers" or "all"; `long_rows` "split" or "drop".

    Raises:
        UserError: chats for a model that has neither a chat template nor an end marker; a template refuses a chat.
    """
    from pyrite.models.perplexity import encode_record, windows

    if not tokenizer.chat_template and tokenizer.eos_token is None and any(isinstance(row, Chat) for row in records):
        fix = "give the tokenizer an eos_token or a chat template, or train on plain text"
        raise UserError("A model that learns chats needs to learn where an answer ends.", "no end marker", fix)

    rows: list[TrainingRow] = []
    remarks = Counter[str]()
    counts = {"read": len(records), "used": 0, "split": 0, "longer than max_tokens": 0, "no tokens to learn": 0}
    for record in records:
        row = encode_record(tokenizer, record, part, template_kwargs=template_kwargs)
        for remark in dict.fromkeys(row.remarks):
            remarks[remark] += 1
        if len(row.ids) > max_tokens and long_rows == "drop":
            counts["longer than max_tokens"] += 1
            continue
        pieces = [
            TrainingRow(record.id, row.ids[a:b], row.counted[a:b], role, len(rows) + at)
            for at, (a, b) in enumerate(windows(row, max_tokens))
        ]
        pieces = [piece for piece in pieces if piece.targets]
        counts["no tokens to learn"] += not pieces
        counts["split"] += len(row.ids) > max_tokens and bool(pieces)
        counts["used"] += bool(pieces)
        rows += [
            TrainingRow(piece.id, piece.ids, piece.learned, role, len(rows) + at) for at, piece in enumerate(pieces)
        ]
    return rows, {**counts, **dict(sorted(remarks.items()))}
