"""A repair as a table to look at and compute with."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars


def comparisons(told: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(first, second, one task's comparison) of the repair, then of each proof against the repaired model and the one
    before."""
    yield from (("before", "repaired", one) for one in told["compared"])
    for proof in told["proofs"]:
        yield from (("repaired", proof["proof"], one) for one in proof["against_repaired"])
        yield from (("before", proof["proof"], one) for one in proof["against_before"])


def table(told: Mapping[str, Any]) -> "polars.DataFrame":
    """What changed, and is it sure? One row for each comparison, task, metric and slice: both values, the paired change
    with its 95 % interval, the verdict. Slices are exploratory. `told` is what `Repair.as_json` tells."""
    import polars

    rows = [
        {"first": first, "second": second, "task": one["task"], "metric": line["metric"]}
        | {"slice_by": line["by"], "slice": line["name"], "primary": line["primary"]}
        | {"value_first": line["first"], "value_second": line["second"], "change": line["difference"]["value"]}
        | {name: line["difference"][name] for name in ("low", "high", "n", "n_missing", "method")}
        | {"verdict": line["verdict"]}
        for first, second, one in comparisons(told)
        for line in one["contrasts"]
    ]
    return polars.DataFrame(rows, infer_schema_length=None)
