"""A run folder as objects: its table as a polars DataFrame, its charts as Altair charts. Both show themselves."""

from typing import TYPE_CHECKING, Any

from pyrite.errors import UserError
from pyrite.runs import Run, read_results

if TYPE_CHECKING:
    import polars

    from pyrite.charts import Palette


def table(run: Run[Any]) -> "polars.DataFrame":
    """What came out of a run, as the table() of what its verb returns.

    Raises:
        UserError: a loop, which has a table for each of its parts, or a study without its summary.
    """
    from pyrite.audit import tables as of_audit
    from pyrite.probe import tables as of_probe
    from pyrite.repair import tables as of_repair
    from pyrite.study import tables as of_study

    if run.verb == "audit":
        return of_audit.table(run.record.as_json())
    if run.verb == "probe":
        return of_probe.table([card.as_json() for card in run.record.scorecards])
    if run.verb == "repair":
        return of_repair.table(run.record.as_json())
    refuse_loop(run)
    return of_study.table(stored(run, "summary.parquet"), run.record.spec.as_json())


def figures(run: Run[Any], palette: "Palette | None" = None) -> dict[str, Any]:
    """Every chart of a run by name; nothing where it has none. `palette`: other colours than those on paper.

    Raises:
        UserError: a loop, which has charts for each of its parts, or a study without its tables.
    """
    from pyrite.audit.figures import charts
    from pyrite.charts import PRINTED
    from pyrite.repair.figure import chart
    from pyrite.study import tables as of_study
    from pyrite.study.cells_figure import draw, headline_metrics

    colours = palette or PRINTED
    if run.verb == "audit":
        return charts(run.record.as_json(), colours)
    if run.verb == "repair":
        drawn = chart(run.record.as_json(), colours)
        return {} if drawn is None else {"curves": drawn}
    if run.verb == "probe":
        return {}
    refuse_loop(run)
    spec = run.record.spec.as_json()
    if run.kind == "cells":
        results, summary = stored(run, "results.parquet"), stored(run, "summary.parquet")
        return {"panels": draw(results, summary, spec, colours)} if headline_metrics(spec, summary) else {}
    has_panels = run.result(of_study.PANELS).is_file()
    return {"panels": of_study.grid_figure(run.folder, spec, colours)} if has_panels else {}


def figure(run: Run[Any]) -> Any:
    """The first chart of a run.

    Raises:
        UserError: the run has no chart.
    """
    drawn = figures(run)
    if not drawn:
        raise UserError("That run has no figure.", f"{run.folder}, a run of pyrite {run.verb}", "look at its table")
    return next(iter(drawn.values()))


def stored(run: Run[Any], name: str) -> list[dict[str, Any]]:
    """The rows of a study's table, `summary.parquet` or `results.parquet`.

    Raises:
        UserError: the run folder does not hold it, or not all of it.
    """
    from pyrite.study.tables import GRID_COLUMNS

    columns = ["probe", "metric", "scale"] if run.kind == "cells" else [*GRID_COLUMNS, "per_seed"]
    if run.kind == "cells" and name == "summary.parquet":
        columns += ["cell", "direction", "mean", "low", "high", "per_seed", "n_seeds", "n_items"]
    return read_results(run.result(name), columns)


def refuse_loop(run: Run[Any]) -> None:
    """A loop is looked at part by part."""
    if run.verb == "loop":
        raise UserError("A loop has no table of its own.", str(run.folder), "ask one of its parts: run.parts['audit']")
