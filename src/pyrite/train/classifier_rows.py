"""Labelled rows as a classifier reads them, and a trained classifier as it is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.records import Labelled
from pyrite.tasks.prompts import classify
from pyrite.train import adapters

Reads = Literal["pair", "prompt"]
"""How a classifier reads a row: as one or two segments (encoders), or as a prompt (decoders)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as a classifier reads them: each row's token ids, the segment of each of its tokens (None where the tokenizer
    does not tell the texts of a pair apart), and how many rows had to be cut."""

    ids: list[list[int]]
    segments: list[list[int]] | None
    cut: int


def encode_classifier_rows(
    tokenizer: Any, rows: Sequence[Labelled], labels: Sequence[str], reads: Reads, max_tokens: int
) -> Encoded:
    """Each row in at most `max_tokens` tokens."""
    if reads == "prompt":
        texts: list[Any] = [[classify(row.fields, labels) for row in rows]]
    else:
        columns = list(zip(*(row.fields.values() for row in rows), strict=True))
        texts = (
            [list(columns[0]), [" ".join(other_texts) for other_texts in zip(*columns[1:], strict=True)]]
            if len(columns) > 1
            else [list(columns[0])]
        )
    encoded = tokenizer(*texts, truncation=False, add_special_tokens=True)
    ids, segments = encoded["input_ids"], encoded.get("token_type_ids")
    too_long = [at for at, row_ids in enumerate(ids) if len(row_ids) > max_tokens]
    for at in too_long:
        cut = tokenizer(*([column[at]] for column in texts), truncation=True, max_length=max_tokens)
        ids[at] = cut["input_ids"][0]
        if segments is not None:
            segments[at] = cut["token_type_ids"][0]
    has_segments = segments is not None and any(map(any, segments))
    return Encoded(ids, segments if has_segments else None, len(too_long))


def load_trained(
    folder: Path, base: Path, labels: Sequence[str], compute: Compute, *, seed: int = 0, four_bit: bool = False
) -> tuple[Any, list[int], Any]:
    """A trained classifier (whole, or adapters on a base) with its label order and tokenizer.

    `seed` draws the head of a folder that has none (a start that was never trained).
    """
    if adapters.has_adapter(folder):
        model, order = load.load_classifier(base, labels, compute, seed=seed, four_bit=four_bit)
        return adapters.with_adapter(model, folder, train=False).eval(), order, load.load_tokenizer(folder)
    model, order = load.load_classifier(folder, labels, compute, seed=seed)
    return model, order, load.load_tokenizer(folder)
