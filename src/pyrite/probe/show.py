"""Scorecards on the terminal."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyrite.probe.run import ProbeResult
from pyrite.tasks.score import Slice


def wide() -> Console:
    """A console as wide as the terminal, or wide enough for our tables where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def scorecards(made: ProbeResult) -> None:
    """A table for each task: overall, then every slice but the templates (those are in --json)."""
    console = wide()
    for card in made.cards:
        table = Table(
            title=f"{escape(made.about)} on {escape(card.task)} ({escape(card.source)})",
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for column in ("metric", "slice", "gold", "accuracy", "95 % interval", "n", "missing"):
            table.add_column(
                column, justify="right" if column in ("accuracy", "95 % interval", "n", "missing") else "left"
            )
        for line in card.slices:
            if line.by != "template":
                table.add_row(*cells(line))
        console.print(table)
        if card.unmatched:
            console.print(f"{card.unmatched} answers are for items that the task does not have", highlight=False)


def cells(line: Slice) -> list[str]:
    """One slice as a row of the table."""
    estimate = line.estimate()
    value = "" if line.n == 0 else f"{estimate.value * 100:.1f} %"
    interval = (
        ""
        if estimate.low is None or estimate.high is None
        else f"{estimate.low * 100:.1f} to {estimate.high * 100:.1f}"
    )
    return [line.metric, escape(line.name), escape(line.gold or ""), value, interval, str(line.n), str(line.n_missing)]
