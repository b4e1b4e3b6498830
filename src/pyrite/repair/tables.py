"""A repair as a table to look at and compute with."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars


def comparisons(record: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(first, second, one task's comparison) of the harm (with a model before), of the repair, of the repaired model
    against the one before the harm, then of each proof against the repaired model and the one that was repaired."""
    for key in ("harm", "compared", "against_original"):
        yield from ((comparison["first"], comparison["second"], comparison) for comparison in record.get(key, ()))
    for proof in record["proofs"]:
        for key in ("against_repaired", "against_before"):
            yield from ((comparison["first"], comparison["second"], comparison) for comparison in proof[key])


def table(record: Mapping[str, Any]) -> "polars.DataFrame":
    """What changed, and is it sure? One row for each comparison, task, metric and slice: both values, the paired change
    with its 95 % interval, the verdict. Slices are exploratory. `record` is what `Repair.as_json` tells."""
    import polars

    rows = [
        {"first": first, "second": second, "task": comparison["task"], "metric": line["metric"]}
        | {"slice_by": line["by"], "slice": line["name"], "primary": line["primary"]}
        | {"value_first": line["first"], "value_second": line["second"], "change": line["difference"]["value"]}
        | {name: line["difference"][name] for name in ("low", "high", "n", "n_missing", "method")}
        | {"verdict": line["verdict"]}
        for first, second, comparison in comparisons(record)
        for line in comparison["contrasts"]
    ]
    return polars.DataFrame(rows, infer_schema_length=None)


def frontier_rows(frontier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every point of a frontier on every axis: the share recovered or kept, its interval, and why there is none."""
    return [
        {
            "name": point["name"],
            "method": point["method"],
            "alpha": point["alpha"],
            "chosen": point["chosen"],
            "axis": axis,
        }
        | {name: share[name] for name in ("value", "low", "high", "n", "n_missing", "change", "why")}
        | {"interval": share["method"]}
        | {f"items_{end}": share["over_items"][end] for end in ("low", "high") if "over_items" in share}
        for point in frontier["points"]
        for axis, share in point["shares"].items()
    ]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of plain values as CSV, columns in order of first appearance; no rows, no text."""
    import csv
    import io

    names = list(dict.fromkeys(name for row in rows for name in row))
    sink = io.StringIO()
    if names:
        writer = csv.DictWriter(sink, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return sink.getvalue()
