"""A loop on the terminal: what each part says, worst first within it, and where the page lies."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pyrite.audit import show as show_audit
from pyrite.audit.show import WIDEST, put
from pyrite.loop.run import Loop, LoopPlan

YOUR_OWN = (
    "pyrite audit SYNTHETIC.jsonl --reference PEOPLE.jsonl       what is wrong with a data set",
    "pyrite init study SYNTHETIC.csv --human PEOPLE.csv          a study file of your own data, to read and to run",
    "pyrite init loop SYNTHETIC.jsonl --human PEOPLE.jsonl       audit, probe and repair in one",
)
"""What to run after the demo."""
MARKS = {"bad": "bold red", "unsure": "bold yellow", "good": "bold green", "plain": "bold"}


def show(result: Loop | LoopPlan) -> None:
    """Whatever `pyrite.run` returns."""
    print_plan(result.record) if isinstance(result, LoopPlan) else print_loop(result)


def print_loop(finished: Loop) -> None:
    """Print a finished loop: its parts as their verbs print them, then the verdicts."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDEST)
    for name, result in finished.results.items():
        print_part(name, result)
    put(console, f"{finished.record['loop']}: what it comes to", style="bold")
    for verdict in finished.verdicts:
        put(console, verdict.sentence, mark=f"{verdict.label}: ", style=MARKS[verdict.tone])
    for gate in finished.record["gates"]:
        put(console, f"{gate['part']}: {gate['gate']} ({gate['why']})", mark=f"{gate['outcome']} ")
    for note in finished.record["notes"]:
        put(console, note, mark="note: ")
    put(console, "the page, one file:")
    console.print(f"  {finished.report}", soft_wrap=True)
    if finished.spec.loop.partition("-")[0] == "demo":
        put(console, "the same of your own files:")
        for line in YOUR_OWN:
            console.print(f"  {line}", soft_wrap=True)


def print_part(name: str, result: Any) -> None:
    """Print one part."""
    from pyrite.probe import show as show_probe
    from pyrite.repair import show as show_repair
    from pyrite.study import show as show_study

    if name == "study":
        show_study.print_study(result)
    elif name.startswith("audit"):
        record = result.as_json()
        show_audit.brief(record, f"{name}: {', '.join(record['data'])}")
    elif name == "probe":
        show_probe.print_scorecards(result)
    elif name == "repair":
        show_repair.print_repair(result)


def print_plan(record: Mapping[str, Any]) -> None:
    """Print what a loop would do."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDEST)
    put(console, f"loop {record['loop']}: {record['says']}", style="bold")
    put(console, f"parts, in order: {', '.join(record['parts'])}, report")
    put(console, f"synthetic: {', '.join(record['synthetic'])}")
    put(console, f"human: {', '.join(record['human'])}")
    if record["model"]:
        put(
            console,
            f"model: {record['model']}; forgets {record['forget']} rows, replays {' and '.join(record['replay'])}",
        )
    for gate in record["gates"]:
        put(console, gate, mark="gate: ")
    if "study" in record:
        study_plan = record["study"]
        hours = study_plan["seconds"] / 3600
        stored = f"{study_plan['stored']['steps']} of {study_plan['steps']} steps are in the store"
        put(
            console,
            f"study {study_plan['study']}: {study_plan['steps']} steps, about {hours:.1f} h one after the other; {stored}",
        )
