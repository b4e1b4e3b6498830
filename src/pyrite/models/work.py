"""How much is read at a time, and how much was: budgets, batches, progress, counts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

ReportProgress = Callable[[float, float, str], None]
"""Told how much is done, of how much, and what it counts."""

BATCH_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 8192}
"""So many tokens are read at a time."""
HEAD_ROWS = {"cpu": 128, "cuda": 2048, "mps": 256}
"""How many positions get the whole vocabulary's logits at a time."""


@dataclass(slots=True)
class Work:
    """Token counts of a scoring run, requested and computed: the difference is what prefix sharing saved."""

    rows: int = 0
    distinct: int = 0
    given_tokens: int = 0
    computed: int = 0
    prefixes: int = 0
    head: int = 0
    """Positions at which the whole vocabulary was looked at."""
    scored: int = 0
    """Query-key products of the attention, summed over tokens (of one head in one layer)."""

    def __add__(self, other: "Work") -> "Work":
        mine, theirs = asdict(self), asdict(other)
        return Work(**{name: mine[name] + theirs[name] for name in mine})

    def as_json(self) -> dict[str, int]:
        """As plain values."""
        return {
            "rows": self.rows,
            "distinct": self.distinct,
            "tokens_given": self.given_tokens,
            "tokens_computed": self.computed,
            "prefixes": self.prefixes,
        }


def unique_rows(rows: Iterable[Any]) -> tuple[list[Any], list[int]]:
    """The different rows in order of first appearance, and for every row its number among them."""
    numbers: dict[Any, int] = {}
    return_to = [numbers.setdefault(row, len(numbers)) for row in rows]
    return list(numbers), return_to


def length_batches(lengths: Sequence[int], tokens: int, *, pads: bool = True) -> list[list[int]]:
    """Row numbers in batches of at most `tokens` padded tokens, longest first. A batch takes a shorter row only while it
    is far from full, so that most batches have one length and need no mask; and none where `pads` is false."""
    order = sorted(range(len(lengths)), key=lambda at: (-lengths[at], at))
    groups: list[list[int]] = []
    for at in order:
        longest = lengths[groups[-1][0]] if groups else 0
        fits = groups and longest * (len(groups[-1]) + 1) <= tokens
        if fits and (lengths[at] == longest or (pads and longest * len(groups[-1]) < tokens // 8)):
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


LEAKY = ("canine", "convbert", "fnet", "mobilebert", "nystromformer", "yoso")
"""Architectures that look past the mask: into convolutions, Fourier transforms, neighbours' embeddings, landmarks, hashes."""
COMPARED = 8


def may_pad(model: Any, read: Callable[[list[int]], np.ndarray], lengths: Sequence[int], *, exact: bool) -> bool:
    """Do rows say the same beside a longer one as alone? Else they are read in batches of one length. `exact`: in fp32, where
    little but rounding is left.

    `read` gives the outputs of rows by their numbers [rows, width]. Architectures that are known to look past the mask are
    not tried; of others a few rows of different lengths are, with differences in units of their outputs' spread.
    """
    if min(lengths, default=0) == max(lengths, default=0):
        return True
    if model.config.model_type in LEAKY:
        return False
    order = sorted(range(len(lengths)), key=lambda at: (lengths[at], at))
    shorter = [at for at in order if lengths[at] < lengths[order[-1]]]
    tried = [shorter[at] for at in sorted({round(at) for at in np.linspace(0, len(shorter) - 1, COMPARED)})]
    alone = np.concatenate([read([at]) for at in tried])
    beside = read([*tried, order[-1]])[: len(tried)]
    tolerance = 1e-3 if exact and str(model.dtype) == "torch.float32" else 0.1
    return bool(np.abs(alone - beside).max() <= tolerance * max(float(np.std(alone)), 1e-6))
