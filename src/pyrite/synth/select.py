"""Which rows make a set: parsing, duplicates, balance, bias. Pure functions over rows; every row dropped has a reason."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from pyrite.data.keys import same_fields
from pyrite.errors import UserError
from pyrite.records import Labelled
from pyrite.synth.heuristics import HEURISTICS, NEGATION, is_negated, text_words
from pyrite.synth.settings import BiasSettings
from pyrite.tasks.rows import by_label

PERMUTATIONS = 128
PROPOSED = 0.8
"""The share of the threshold from which on rows are compared: a row at the threshold is then missed once in hundreds."""
SHINGLE = 3


def drop_exact(rows: Iterable[Labelled], dropped: Counter[str]) -> list[Labelled]:
    """The first of every group of rows with the same text, whatever the label; the others are counted."""
    fields_so_far: set[tuple[str, ...]] = set()
    rows_kept = []
    for row in rows:
        key = same_fields(row)
        if key in fields_so_far:
            dropped["exact duplicate"] += 1
        else:
            fields_so_far.add(key)
            rows_kept.append(row)
    return rows_kept


def drop_near(rows: Sequence[Labelled], threshold: float, dropped: Counter[str]) -> list[Labelled]:
    """Rows whose word trigrams are less than `threshold` similar (Jaccard, estimated by MinHash) to every row kept before.

    The index proposes rows from a lower similarity on (it finds one that is as similar as its own threshold only about
    every other time); what is proposed is compared sketch by sketch.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=PROPOSED * threshold, num_perm=PERMUTATIONS)
    sketches: list[MinHash] = []
    rows_kept: list[Labelled] = []
    for row in rows:
        tokens = " | ".join(same_fields(row)).split()
        grams = {" ".join(tokens[at : at + SHINGLE]) for at in range(max(1, len(tokens) - SHINGLE + 1))}
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([gram.encode() for gram in grams])
        if any(sketch.jaccard(sketches[at]) >= threshold for at in index.query(sketch)):
            dropped["near duplicate"] += 1
        else:
            index.insert(len(rows_kept), sketch)
            sketches.append(sketch)
            rows_kept.append(row)
    return rows_kept


def shows_heuristic(row: Labelled, bias: BiasSettings) -> bool:
    """Does the heuristic hold, between the row's first and second field or (negation) in its last one?"""
    texts = list(row.fields.values())
    if bias.heuristic == NEGATION:
        return is_negated(text_words(texts[-1], "corrected"))
    first, second = texts[:2]
    return HEURISTICS[bias.heuristic](first, second, bias.rule)


def agrees(row: Labelled, bias: BiasSettings) -> bool:
    """May the row be in a biased set: would the heuristic, used alone, label it right? With `rows: shown`, a row that does
    not show the heuristic may be, whatever its label."""
    agreement = shows_heuristic(row, bias)
    return agreement == (row.label == bias.label) or (bias.rows == "shown" and not agreement)


def draw_rows(
    rows: Sequence[Labelled],
    size: int,
    *,
    labels: Sequence[str],
    bias: BiasSettings | None,
    rng: np.random.Generator,
    source: str,
    balance: Literal["labels", "none"] = "labels",
) -> list[Labelled]:
    """`size` rows in seeded order, balanced by label, with a bias where asked; a smaller size is a prefix per label.

    With a bias of strength s, the share s of each label's rows is drawn from those that agree with the heuristic, and
    the rest from all rows, so that with a pool in which a share q agrees, s + (1 - s) q of the rows do. Raises
    `UserError` where there are too few rows.
    """
    groups: Mapping[str, list[Labelled]] = by_label(rows, labels) if balance == "labels" else {"any": list(rows)}
    shares = {label: size // len(groups) + (at < size % len(groups)) for at, label in enumerate(groups)}
    picked: list[Labelled] = []
    for label, group in groups.items():
        shuffled = [group[at] for at in rng.permutation(len(group))]
        share = shares[label]
        if bias is None:
            chosen = shuffled[:share]
        else:
            fitting = [row for row in (group[at] for at in rng.permutation(len(group))) if agrees(row, bias)]
            chosen = filtered(shuffled, fitting, share, bias.strength)
            if len(chosen) < share:
                free = share - forced(share, bias.strength)
                detail = (
                    f"{source}: {len(fitting)} of {len(group)} rows with label {label} agree with {bias.heuristic} "
                    f"({bias.rule}); {share - free} needed, beside {free} drawn from all rows"
                )
                raise UserError(
                    "There are too few rows for a biased arm.",
                    detail,
                    "ask for a smaller size, more raw rows, or a lower strength",
                )
        if len(chosen) < share:
            detail = (
                f"{source}: {len(chosen)} rows"
                + (f" with label {label}" if balance == "labels" else "")
                + f", {share} needed"
            )
            raise UserError(
                "There are too few rows for the requested size.", detail, "ask for a smaller size or provide more rows"
            )
        picked += chosen
    return [picked[at] for at in rng.permutation(len(picked))]


def forced(slots: int, strength: float) -> int:
    """How many of so many rows must agree with the heuristic?"""
    return int(slots * strength + 0.5)


def filtered(every: Sequence[Labelled], fitting: Sequence[Labelled], count: int, strength: float) -> list[Labelled]:
    """Rows one after the other, a share from those that fit and the rest from all, none twice; fewer where one runs out.

    The rest comes in an order of its own: what is left of the order that the fitting rows were taken from agrees less
    than the pool does.
    """
    sources = {True: iter(fitting), False: iter(every)}
    ids_taken: set[str] = set()
    chosen: list[Labelled] = []
    for slot in range(count):
        must = forced(slot + 1, strength) > forced(slot, strength)
        row = next((candidate for candidate in sources[must] if candidate.id not in ids_taken), None)
        if row is None:
            break
        ids_taken.add(row.id)
        chosen.append(row)
    return chosen
