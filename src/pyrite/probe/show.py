"""Scorecards, comparisons and gates on the terminal."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyrite.probe.compare import Contrast
from pyrite.probe.export import Exported
from pyrite.probe.result import Compared, ProbeResult, Scorecard, slice_json
from pyrite.tasks.scoring import Line, Metric

FLIPS = 8
"""How many of the items that changed sides are named on the terminal; all are in --json."""


def show(result: ProbeResult | Exported) -> None:
    """Whatever `pyrite.probe` returns."""
    if isinstance(result, Exported):
        print("\n".join(map(str, result.files)))
        return
    print_scorecards(result)


def wide() -> Console:
    """A console as wide as the terminal, or wide enough for our tables where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def table_of(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    """An empty table."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def print_scorecards(result: ProbeResult) -> None:
    """A table for each task: overall, then every slice but the templates (those are in --json); then what follows."""
    console = wide()
    for card in result.cards:
        if card.caution:
            console.print(escape(card.caution), highlight=False)
    for card in result.cards:
        console.print(scorecard_table(card))
        for note in card.result.notes:
            console.print(escape(note), highlight=False)
        for name, noise in card.result.noise.items():
            console.print(f"the judge's own noise in {name}: {noise.value:.3g} ({noise.method})", highlight=False)
        if card.unmatched:
            console.print(f"{card.unmatched} answers are for items that the task does not have", highlight=False)
    of_task = {card.task: card.result.metrics for card in result.cards}
    for compared in result.compared:
        print_comparison(console, compared, {metric.name: metric for metric in of_task[compared.task]})
    for gate in result.gates:
        console.print(f"gate {gate.outcome}: {escape(gate.gate)}: {escape(gate.why)}", highlight=False)
        if gate.hint:
            console.print(f"hint: {escape(gate.hint_line)}", highlight=False)


def scorecard_table(card: Scorecard) -> Table:
    """One task's table."""
    title = f"{card.about} on {card.task} ({card.source})"
    table = table_of(title, ("metric", "slice", "gold"), ("value", "95 % interval", "n", "missing"))
    scales = {metric.name: metric for metric in card.result.metrics}
    for line in card.lines:
        if dict(line.values).keys().isdisjoint({"template"}):
            table.add_row(*line_cells(line, scales[line.metric]))
    return table


def format_number(value: float, metric: Metric) -> str:
    """A share in percent, anything else as a number."""
    return f"{value * 100:.1f} %" if metric.scale == "share" else f"{value:.4g}"


def line_cells(line: Line, metric: Metric) -> list[str]:
    """One line as a row of the table."""
    slice_record, estimate = slice_json(line), line.estimate
    value = "" if estimate.n == 0 else format_number(estimate.value, metric)
    between = ""
    if estimate.low is not None and estimate.high is not None:
        between = f"{format_number(estimate.low, metric).removesuffix(' %')} to {format_number(estimate.high, metric).removesuffix(' %')}"
    gold = "" if slice_record["gold"] is None else str(slice_record["gold"])
    return [
        line.metric,
        escape(str(slice_record["name"])),
        escape(gold),
        value,
        between,
        str(estimate.n),
        str(estimate.n_missing),
    ]


def print_comparison(console: Console, compared: Compared, metrics: dict[str, Metric]) -> None:
    """The change of every metric, what it means, and which items changed sides."""
    first, second = compared.comparison.names
    table = table_of(
        f"{compared.task}: {second} minus {first}",
        ("metric", "slice"),
        ("first", "second", "change", "95 % interval", "verdict"),
    )
    for line in compared.comparison.lines:
        if "template" not in line.by:
            table.add_row(*change_cells(line, metrics[line.metric]))
    console.print(table)
    for line in compared.comparison.primary:
        console.print(escape(line.sentence), highlight=False)
    for name, verdict in compared.against_noise.items():
        console.print(f"{name}, the judge's own noise thought of: {verdict}", highlight=False)
    for way in ("lost", "gained"):
        items = [flip for flip in compared.flips if flip.way == way]
        if items:
            named = ", ".join(escape(flip.item) for flip in items[:FLIPS])
            more = f" and {len(items) - FLIPS} more (--json has all)" if len(items) > FLIPS else ""
            console.print(f"{way}: {len(items)} answers: {named}{more}", highlight=False)


def change_cells(line: Contrast, metric: Metric) -> list[str]:
    """One contrast as a row of the table."""
    difference = line.change.difference
    between = (
        ""
        if difference.low is None or difference.high is None
        else f"{format_number(difference.low, metric)} to {format_number(difference.high, metric)}"
    )
    means = ["" if value is None else format_number(value, metric) for value in (line.first, line.second)]
    change = "" if difference.n == 0 else format_number(difference.value, metric)
    return [line.metric, escape(line.name), *means, change, between, str(line.verdict or "")]
