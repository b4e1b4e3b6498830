"""Which rows make a set: parsing, duplicates, balance, bias. Pure functions over rows; every row dropped has a reason."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Labelled
from pyrite.synth.heuristics import HEURISTICS
from pyrite.synth.settings import BiasSettings
from pyrite.tasks.rows import by_label

PERMUTATIONS = 128
SHINGLE = 3


def fields_key(row: Labelled) -> tuple[str, ...]:
    """A row's text without regard to case and white space: equal keys are exact duplicates."""
    return tuple(" ".join(text.lower().split()) for text in row.fields.values())


def drop_exact(rows: Iterable[Labelled], dropped: Counter[str]) -> list[Labelled]:
    """The first of every group of rows with the same text, whatever the label; the others are counted."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for row in rows:
        key = fields_key(row)
        if key in seen:
            dropped["exact duplicate"] += 1
        else:
            seen.add(key)
            kept.append(row)
    return kept


def drop_near(rows: Sequence[Labelled], threshold: float, dropped: Counter[str]) -> list[Labelled]:
    """Rows whose word trigrams are less than `threshold` similar (Jaccard, by MinHash) to every row kept before."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    kept: list[Labelled] = []
    for row in rows:
        tokens = " | ".join(fields_key(row)).split()
        grams = {" ".join(tokens[at : at + SHINGLE]) for at in range(max(1, len(tokens) - SHINGLE + 1))}
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([gram.encode() for gram in grams])
        if index.query(sketch):
            dropped["near duplicate"] += 1
        else:
            index.insert(len(kept), sketch)
            kept.append(row)
    return kept


def shows(row: Labelled, bias: BiasSettings) -> bool:
    """Does the heuristic hold between the row's first and second field?"""
    first, second = list(row.fields.values())[:2]
    return HEURISTICS[bias.heuristic](first, second, bias.rule)


def agrees(row: Labelled, bias: BiasSettings) -> bool:
    """Would the heuristic, used alone, label this row right?"""
    return shows(row, bias) == (row.label == bias.label)


def draw(
    rows: Sequence[Labelled],
    size: int,
    *,
    labels: Sequence[str],
    bias: BiasSettings | None,
    rng: np.random.Generator,
    where: str,
    balance: Literal["labels", "none"] = "labels",
) -> list[Labelled]:
    """`size` rows in seeded order, balanced by label, with a bias where asked; a smaller size is a prefix per label.

    With a bias of strength s, the share s of each label's rows is drawn from the rows that agree with the heuristic,
    and the rest from all others. Raises `UserError` where there are too few rows.
    """
    groups: Mapping[str, list[Labelled]] = by_label(rows, labels) if balance == "labels" else {"any": list(rows)}
    shares = {label: size // len(groups) + (at < size % len(groups)) for at, label in enumerate(groups)}
    picked: list[Labelled] = []
    for label, group in groups.items():
        shuffled = [group[at] for at in rng.permutation(len(group))]
        want = shares[label]
        if bias is None:
            chosen = shuffled[:want]
        else:
            must = round(want * bias.strength)
            fitting = [row for row in shuffled if agrees(row, bias)][:must]
            taken = {row.id for row in fitting}
            if len(fitting) < must:
                found = f"{where}: {len(fitting)} rows with label {label} agree with {bias.heuristic} ({bias.rule}), {must} needed"
                raise UserError(
                    "There are too few rows for a biased arm.",
                    found,
                    "ask for a smaller size, more raw rows, or a lower strength",
                )
            chosen = fitting + [row for row in shuffled if row.id not in taken][: want - must]
        if len(chosen) < want:
            found = (
                f"{where}: {len(chosen)} rows"
                + (f" with label {label}" if balance == "labels" else "")
                + f", {want} needed"
            )
            raise UserError(
                "There are too few rows for the requested size.", found, "ask for a smaller size or provide more rows"
            )
        picked += chosen
    return [picked[at] for at in rng.permutation(len(picked))]
