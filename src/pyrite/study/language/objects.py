"""A study of a language model as a table to look at and compute with."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars

PLAIN = {"probe": "probe", "metric": "metric", "cell": "cell", "n_seeds": "seeds", "n_items": "items", "mean": "value",
         "low": "low", "high": "high"}  # fmt: skip
INTERVALS = ("", "_low", "_high", "_items_low", "_items_high")
"""Of a difference: itself, its interval over seeds, and that over items of these models."""


def table(summary: Sequence[Mapping[str, Any]], references: Sequence[str]) -> "polars.DataFrame":
    """How does every cell stand on every metric, and how to each reference cell?

    One row for each cell, probe and metric: the mean over seeds with its t interval, the differences within seeds with
    intervals over seeds and over items, and `per_seed` in the order of the seeds. Shares are fractions.
    """
    import polars

    made = []
    for row in summary:
        told = {ours: row[theirs] for theirs, ours in PLAIN.items()}
        for name in references:
            told |= {f"against_{name}{end}": row[f"minus_{name}{end}"] for end in INTERVALS}
        made.append(told | {"per_seed": [float(value) for value in row["per_seed"].split()]})
    return polars.DataFrame(made, infer_schema_length=None)
