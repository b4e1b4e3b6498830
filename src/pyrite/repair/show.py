"""A repair on the terminal: what was done, what changed, what it cost, where the model is."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from pyrite.probe.result import Compared, Scorecard
from pyrite.probe.show import change_cells, table_of, wide
from pyrite.repair.card import cost_text, selection, steps
from pyrite.repair.frontier import with_interval
from pyrite.repair.outcomes import SHARES
from pyrite.repair.rows import FORGET, REPLAY
from pyrite.repair.run import Repair
from pyrite.runs.repair import RepairCost, RepairTraining
from pyrite.runs.schema import Selection


def print_repair(result: Repair) -> None:
    """Rows, course, the frontier, the scorecards, proofs, gates, cost, notes, and the folder."""
    console, record = wide(), result.record
    if "mixed" in record:
        print_line(console, f"{record['method']}: alpha {record['mixed']['alpha']:g}")
    else:
        print_line(console, f"{record['method']}: {steps(RepairTraining.from_json(record['training']))}")
    for side, pools in (("forget", FORGET), ("replay", REPLAY)):
        if side in record["rows"]:
            print_line(console, f"{side} rows: {rows_line(record['rows'][side], pools)}")
    three = result.original is not None
    print_changes(
        console,
        result.compared,
        result.repaired.cards,
        "harmed and repaired" if three else "before and after the repair",
    )
    if record["frontier"]:
        print_frontier(console, record["frontier"])
    for row in record.get("outcomes", ()):
        print_line(console, outcome_line(row))
    for proof in result.proved:
        print_changes(console, proof.against_repaired, result.repaired.cards, f"{proof.scored.name} against repaired")
        print_changes(
            console, proof.against_before, result.repaired.cards, f"{proof.scored.name} against {result.before.name}"
        )
    for gate in result.gates:
        print_line(console, f"gate {gate.outcome}: {gate.gate}: {gate.why}")
        if gate.hint:
            print_line(console, f"hint: {gate.hint_line}")
    for line in cost_text(RepairCost.from_json(record["cost"])).splitlines() if "mixed" not in record else ():
        print_line(console, line.removeprefix("- "))
    for note in record["notes"]:
        print_line(console, f"note: {note}")
    print_line(console, f"written to {result.folder}")


def print_line(console: Console, text: str) -> None:
    """One line, as it is."""
    console.print(escape(text), highlight=False, soft_wrap=True)


def print_frontier(console: Console, record: Mapping[str, Any]) -> None:
    """Every repair's place: what it recovers of what was lost, and keeps of what was gained."""
    sides = {"recovered": record["lost"], "kept": record["gained"]}
    columns = [f"{word} ({name})" for word, name in sides.items() if name]
    left = ", on items that did not choose" if record["selection"] else ""
    title = f"shares with 95 % intervals over {record.get('over', 'items')}{left}"
    table = table_of(title, ("repair",), (*columns, "chosen"))
    for point in record["points"]:
        cells = [with_interval(point[word]) for word, name in sides.items() if name]
        table.add_row(escape(point["name"]), *map(escape, cells), "yes" if point["chosen"] else "")
    console.print(table)
    if record["selection"]:
        print_line(console, selection(Selection.from_json(record["selection"])))
    for point, sentence in zip(record["points"], record["sentences"], strict=False):
        if point["chosen"]:
            print_line(console, sentence)


def outcome_line(row: Mapping[str, Any]) -> str:
    """What became of a metric's items, in one line."""
    parts = [
        f"{name.replace('_', ' ')} {with_interval(row[name])} of {row[name]['n']}" for name in SHARES if row[name]["n"]
    ]
    lost = f" ({row['missing']} more without three answers)" * bool(row["missing"])
    return f"{row['task']}.{row['metric']}, {row['items']} items{lost}: {'; '.join(parts) or 'no item changed sides'}"


def rows_line(side: Mapping[str, Any], names: Sequence[str]) -> str:
    """What became of a side's rows, in one line."""
    pools = ", ".join(f"{side['pools'][name]} {name}" for name in names if name in side["pools"])
    gone = ", ".join(f"{count} {reason}" for reason, count in side["dropped"].items()) or "none"
    how = "".join(f"; {words}" for words in dict.fromkeys(side.get("read_as", {}).values()))
    return f"{side['read']} read; {pools}; dropped: {gone}{how}"


def print_changes(console: Console, compared: Sequence[Compared], cards: Sequence[Scorecard], title: str) -> None:
    """One table over all tasks: every metric overall; nothing where nothing was asked."""
    if not compared:
        return
    table = table_of(title, ("task", "metric"), ("first", "second", "change", "95 % interval", "items", "verdict"))
    metrics = {card.task: {metric.name: metric for metric in card.result.metrics} for card in cards}
    for comparison in compared:
        for line in comparison.comparison.primary:
            name, part, *numbers, verdict = change_cells(line, metrics[comparison.task][line.metric])
            name = name if line.by == "overall" else f"{name} ({part})"
            table.add_row(escape(comparison.task), name, *numbers, str(line.change.difference.n), verdict)
    console.print(table)
    for comparison in compared:
        for line in comparison.comparison.primary:
            if line.verdict is not None:
                print_line(console, f"{comparison.task}: {line.sentence}")
