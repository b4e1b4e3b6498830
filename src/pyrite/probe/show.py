"""Scorecards, comparisons and gates on the terminal."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyrite.probe.compare import Contrast
from pyrite.probe.run import Compared, Exported, ProbeResult, Scorecard, slice_json
from pyrite.tasks.scoring import Line, Metric

FLIPS = 8
"""How many of the items that changed sides are named on the terminal; all are in --json."""


def show(result: ProbeResult | Exported) -> None:
    """Whatever `pyrite.probe` returns."""
    if isinstance(result, Exported):
        print("\n".join(map(str, result.files)))
        return
    scorecards(result)


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


def scorecards(made: ProbeResult) -> None:
    """A table for each task: overall, then every slice but the templates (those are in --json); then what follows."""
    console = wide()
    for card in made.cards:
        console.print(scorecard(card))
        for note in card.result.notes:
            console.print(escape(note), highlight=False)
        for name, noise in card.result.noise.items():
            console.print(f"the judge's own noise in {name}: {noise.value:.3g} ({noise.method})", highlight=False)
        if card.unmatched:
            console.print(f"{card.unmatched} answers are for items that the task does not have", highlight=False)
    of_task = {card.task: card.result.metrics for card in made.cards}
    for one in made.compared:
        comparison(console, one, {metric.name: metric for metric in of_task[one.task]})
    for gate in made.gates:
        console.print(f"gate {gate.outcome}: {escape(gate.gate)}: {escape(gate.why)}", highlight=False)
        if gate.hint:
            console.print(f"hint: {escape(gate.hint_line)}", highlight=False)


def scorecard(card: Scorecard) -> Table:
    """One task's table."""
    title = f"{card.about} on {card.task} ({card.source})"
    table = table_of(title, ("metric", "slice", "gold"), ("value", "95 % interval", "n", "missing"))
    scales = {metric.name: metric for metric in card.result.metrics}
    for line in card.lines:
        if dict(line.values).keys().isdisjoint({"template"}):
            table.add_row(*cells(line, scales[line.metric]))
    return table


def figure(value: float, metric: Metric) -> str:
    """A share in percent, anything else as a number."""
    return f"{value * 100:.1f} %" if metric.scale == "share" else f"{value:.4g}"


def cells(line: Line, metric: Metric) -> list[str]:
    """One line as a row of the table."""
    told, one = slice_json(line), line.estimate
    value = "" if one.n == 0 else figure(one.value, metric)
    between = ""
    if one.low is not None and one.high is not None:
        between = f"{figure(one.low, metric).removesuffix(' %')} to {figure(one.high, metric).removesuffix(' %')}"
    gold = "" if told["gold"] is None else str(told["gold"])
    return [line.metric, escape(str(told["name"])), escape(gold), value, between, str(one.n), str(one.n_missing)]


def comparison(console: Console, made: Compared, metrics: dict[str, Metric]) -> None:
    """The change of every metric, what it means, and which items changed sides."""
    first, second = made.comparison.names
    table = table_of(
        f"{made.task}: {second} minus {first}",
        ("metric", "slice"),
        ("first", "second", "change", "95 % interval", "verdict"),
    )
    for line in made.comparison.lines:
        if "template" not in line.by:
            table.add_row(*change_cells(line, metrics[line.metric]))
    console.print(table)
    for line in made.comparison.primary:
        console.print(escape(line.sentence), highlight=False)
    for name, verdict in made.against_noise.items():
        console.print(f"{name}, the judge's own noise thought of: {verdict}", highlight=False)
    for way in ("lost", "gained"):
        items = [flip for flip in made.flips if flip.way == way]
        if items:
            named = ", ".join(escape(flip.item) for flip in items[:FLIPS])
            more = f" and {len(items) - FLIPS} more (--json has all)" if len(items) > FLIPS else ""
            console.print(f"{way}: {len(items)} answers: {named}{more}", highlight=False)


def change_cells(line: Contrast, metric: Metric) -> list[str]:
    """One contrast as a row of the table."""
    one = line.change.difference
    between = "" if one.low is None or one.high is None else f"{figure(one.low, metric)} to {figure(one.high, metric)}"
    means = ["" if value is None else figure(value, metric) for value in (line.first, line.second)]
    change = "" if one.n == 0 else figure(one.value, metric)
    return [line.metric, escape(line.name), *means, change, between, str(line.verdict or "")]
