"""A repair on the terminal: what was done, what changed, what it cost, where the model is."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from pyrite.probe.run import Compared, Scorecard
from pyrite.probe.show import change_cells, table_of, wide
from pyrite.repair.card import cost_text, selection, steps
from pyrite.repair.frontier import with_interval
from pyrite.repair.outcomes import SHARES
from pyrite.repair.rows import FORGET, REPLAY
from pyrite.repair.run import Repair
from pyrite.runs.repair import RepairCost, RepairTraining
from pyrite.runs.schema import Selection


def repair(made: Repair) -> None:
    """Rows, course, the frontier, the scorecards, proofs, gates, cost, notes, and the folder."""
    console, told = wide(), made.told
    if "mixed" in told:
        print_line(console, f"{told['method']}: alpha {told['mixed']['alpha']:g}")
    else:
        print_line(console, f"{told['method']}: {steps(RepairTraining.from_json(told['training']))}")
    for side, pools in (("forget", FORGET), ("replay", REPLAY)):
        if side in told["rows"]:
            print_line(console, f"{side} rows: {rows_line(told['rows'][side], pools)}")
    three = made.original is not None
    print_changes(
        console, made.compared, made.repaired.cards, "harmed and repaired" if three else "before and after the repair"
    )
    if told["frontier"]:
        print_frontier(console, told["frontier"])
    for row in told.get("outcomes", ()):
        print_line(console, outcome_line(row))
    for one in made.proved:
        print_changes(console, one.against_repaired, made.repaired.cards, f"{one.scored.name} against repaired")
        print_changes(console, one.against_before, made.repaired.cards, f"{one.scored.name} against {made.before.name}")
    for gate in made.gates:
        print_line(console, f"gate {gate.outcome}: {gate.gate}: {gate.why}")
        if gate.hint:
            print_line(console, f"hint: {gate.hint_line}")
    for line in cost_text(RepairCost.from_json(told["cost"])).splitlines() if "mixed" not in told else ():
        print_line(console, line.removeprefix("- "))
    for note in told["notes"]:
        print_line(console, f"note: {note}")
    print_line(console, f"written to {made.folder}")


def print_line(console: Console, text: str) -> None:
    """One line, as it is."""
    console.print(escape(text), highlight=False, soft_wrap=True)


def print_frontier(console: Console, told: Mapping[str, Any]) -> None:
    """Every repair's place: what it recovers of what was lost, and keeps of what was gained."""
    sides = {"recovered": told["lost"], "kept": told["gained"]}
    columns = [f"{word} ({name})" for word, name in sides.items() if name]
    left = ", on items that did not choose" if told["selection"] else ""
    title = f"shares with 95 % intervals over {told.get('over', 'items')}{left}"
    table = table_of(title, ("repair",), (*columns, "chosen"))
    for point in told["points"]:
        cells = [with_interval(point[word]) for word, name in sides.items() if name]
        table.add_row(escape(point["name"]), *map(escape, cells), "yes" if point["chosen"] else "")
    console.print(table)
    if told["selection"]:
        print_line(console, selection(Selection.from_json(told["selection"])))
    for point, sentence in zip(told["points"], told["sentences"], strict=False):
        if point["chosen"]:
            print_line(console, sentence)


def outcome_line(row: Mapping[str, Any]) -> str:
    """What became of a metric's items, in one line."""
    said = [
        f"{name.replace('_', ' ')} {with_interval(row[name])} of {row[name]['n']}" for name in SHARES if row[name]["n"]
    ]
    lost = f" ({row['missing']} more without three answers)" * bool(row["missing"])
    return f"{row['task']}.{row['metric']}, {row['items']} items{lost}: {'; '.join(said) or 'no item changed sides'}"


def rows_line(side: Mapping[str, Any], names: Sequence[str]) -> str:
    """What became of a side's rows, in one line."""
    pools = ", ".join(f"{side['pools'][name]} {name}" for name in names if name in side["pools"])
    gone = ", ".join(f"{count} {reason}" for reason, count in side["dropped"].items()) or "none"
    return f"{side['read']} read; {pools}; dropped: {gone}"


def print_changes(console: Console, compared: Sequence[Compared], cards: Sequence[Scorecard], title: str) -> None:
    """One table over all tasks: every metric overall; nothing where nothing was asked."""
    if not compared:
        return
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
                print_line(console, f"{one.task}: {line.sentence}")
