"""A run folder as objects: its table as a polars DataFrame, its charts as Altair charts. Both show themselves."""

from typing import TYPE_CHECKING, Any

from pyrite.errors import UserError
from pyrite.runs import Run, read_results

if TYPE_CHECKING:
    import polars

    from pyrite.charts import Palette


def table(run: Run) -> "polars.DataFrame":
    """What came out of a run, as the table() of what its verb returns.

    Raises:
        UserError: a loop, which has a table for each of its parts, or a study without its summary.
    """
    from pyrite.audit import objects as of_audit
    from pyrite.probe import objects as of_probe
    from pyrite.repair import tables as of_repair
    from pyrite.study import objects as of_study
    from pyrite.study.language import figure as language
    from pyrite.study.language import objects as of_language

    if run.verb == "audit":
        return of_audit.table(run.told)
    if run.verb == "probe":
        return of_probe.table(run.told["scorecards"])
    if run.verb == "repair":
        return of_repair.table(run.told)
    refuse_loop(run)
    spec = run.told["spec"]
    if is_language(run):
        return of_language.table(stored(run, "summary.parquet"), language.references(spec))
    return of_study.table(stored(run, "summary.parquet"), spec)


def figures(run: Run, palette: "Palette | None" = None) -> dict[str, Any]:
    """Every chart of a run by name; nothing where it has none. `palette`: other colours than those on paper.

    Raises:
        UserError: a loop, which has charts for each of its parts, or a study without its tables.
    """
    from pyrite.audit.figures import charts
    from pyrite.charts import PRINTED
    from pyrite.repair.figure import chart
    from pyrite.study import objects as of_study
    from pyrite.study.language.figure import draw, headline_metrics

    colours = palette or PRINTED
    if run.verb == "audit":
        return charts(run.told, colours)
    if run.verb == "repair":
        drawn = chart(run.told, colours)
        return {} if drawn is None else {"curves": drawn}
    if run.verb == "probe":
        return {}
    refuse_loop(run)
    spec = run.told["spec"]
    if is_language(run):
        results, summary = stored(run, "results.parquet"), stored(run, "summary.parquet")
        return {"panels": draw(results, summary, spec, colours)} if headline_metrics(spec, summary) else {}
    there = run.result(of_study.PANELS).is_file()
    return {"panels": of_study.figure(run.folder, spec, colours)} if there else {}


def figure(run: Run) -> Any:
    """The first chart of a run.

    Raises:
        UserError: the run has no chart.
    """
    drawn = figures(run)
    if not drawn:
        raise UserError("That run has no figure.", f"{run.folder}, a run of pyrite {run.verb}", "look at its table")
    return next(iter(drawn.values()))


def is_language(run: Run) -> bool:
    """Is it a study of a language model?"""
    return run.told.get("about") == "language"


def stored(run: Run, name: str) -> list[dict[str, Any]]:
    """The rows of a study's table, `summary.parquet` or `results.parquet`.

    Raises:
        UserError: the run folder does not hold it, or not all of it.
    """
    from pyrite.study.objects import COLUMNS

    columns = ["probe", "metric", "scale"] if is_language(run) else [*COLUMNS, "per_seed"]
    if is_language(run) and name == "summary.parquet":
        columns += ["cell", "direction", "mean", "low", "high", "per_seed", "n_seeds", "n_items"]
    return read_results(run.result(name), columns)


def refuse_loop(run: Run) -> None:
    """A loop is looked at part by part."""
    if run.verb == "loop":
        raise UserError("A loop has no table of its own.", str(run.folder), "ask one of its parts: run.parts['audit']")
