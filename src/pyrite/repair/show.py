"""A repair on the terminal: what was done, what changed, what it cost, where the model is."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from pyrite.probe.run import Compared, Scorecard
from pyrite.probe.show import change_cells, table_of, wide
from pyrite.repair.card import cost, steps
from pyrite.repair.rows import FORGET, REPLAY
from pyrite.repair.run import Repair


def repair(made: Repair) -> None:
    """Rows, course, the scorecard before and after, proofs, gates, cost, notes, and the folder."""
    console, told = wide(), made.told
    say(console, f"{told['method']}: {steps(told['training'])}")
    for side, pools in (("forget", FORGET), ("replay", REPLAY)):
        say(console, f"{side} rows: {rows_line(told['rows'][side], pools)}")
    changes(console, made.compared, made.repaired.cards, "before and after the repair")
    for one in made.proved:
        changes(console, one.against_repaired, made.repaired.cards, f"{one.scored.name} against repaired")
        changes(console, one.against_before, made.repaired.cards, f"{one.scored.name} against before")
    for gate in made.gates:
        say(console, f"gate {gate.outcome}: {gate.gate.text}: {gate.why}")
    for line in cost(told["cost"]).splitlines():
        say(console, line.removeprefix("- "))
    for note in told["notes"]:
        say(console, f"note: {note}")
    say(console, f"written to {made.folder}")


def say(console: Console, text: str) -> None:
    """One line, as it is."""
    console.print(escape(text), highlight=False, soft_wrap=True)


def rows_line(side: Mapping[str, Any], names: Sequence[str]) -> str:
    """What became of a side's rows, in one line."""
    pools = ", ".join(f"{side['pools'][name]} {name}" for name in names)
    gone = ", ".join(f"{count} {reason}" for reason, count in side["dropped"].items()) or "none"
    return f"{side['read']} read; {pools}; dropped: {gone}"


def changes(console: Console, compared: Sequence[Compared], cards: Sequence[Scorecard], title: str) -> None:
    """One table over all tasks: every metric overall."""
    table = table_of(title, ("task", "metric"), ("first", "second", "change", "95 % interval", "items", "verdict"))
    metrics = {card.task: {metric.name: metric for metric in card.result.metrics} for card in cards}
    for one in compared:
        for line in one.comparison.primary:
            name, part, *numbers, verdict = change_cells(line, metrics[one.task][line.metric])
            name = name if line.by == "overall" else f"{name} ({part})"
            table.add_row(escape(one.task), name, *numbers, str(line.change.difference.n), verdict)
    console.print(table)
    for one in compared:
        for line in one.comparison.primary:
            if line.verdict is not None:
                say(console, line.sentence)
