"""A probe as a table to look at and compute with."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars

INTERVAL = ("value", "low", "high", "n", "n_missing", "direction", "method")


def lines(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every line of a scorecard, overall of its first metric first; `by` and `name` say which slice."""
    overall = {"metric": card["metric"], "by": "overall", "name": "overall", "gold": None, **card["overall"]}
    return [overall, *card["slices"]]


def table(scorecards: Sequence[Mapping[str, Any]]) -> "polars.DataFrame":
    """How good is each subject on each task? One row for each metric and slice, with its 95 % interval.

    `method` says which interval it is or why there is none. Shares are fractions. `scorecards` are those of a run
    folder: plain values with `about`, the subject.
    """
    import polars

    rows = [
        {"subject": card["about"], "task": card["task"], "metric": line["metric"], "slice_by": line["by"]}
        | {"slice": line["name"], "gold": line["gold"]}
        | {name: line[name] for name in INTERVAL}
        for card in scorecards
        for line in lines(card)
    ]
    return polars.DataFrame(rows, infer_schema_length=None)
