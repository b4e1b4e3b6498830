"""A study on the terminal: the plan, the table, the verdicts."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyrite.probe.show import wide
from pyrite.study.run import Study


def plan(told: dict[str, Any]) -> None:
    """What would run."""
    console = Console(soft_wrap=True)
    parts = ", ".join(f"{count} {what}" for what, count in told["trainings_of"].items())
    console.print(
        f"study {told['study']}: {told['cells']} cells, {told['trainings']} trainings ({parts})", highlight=False
    )
    hours = told["seconds"] / 3600
    console.print(
        f"{told['steps']} steps, {told['tokens']:,} tokens, about {hours:,.1f} h one after the other "
        f"({told['seconds_assume']}), {told['bytes'] / 1e6:,.0f} MB of answers",
        highlight=False,
    )
    stored = told["stored"]
    console.print(f"in the store already: {stored['steps']} of {stored['of']} steps", highlight=False)
    if told.get("threads_advised", 1) > told.get("threads", 1):
        advised = told["threads_advised"]
        console.print(f"few steps run a model at a time: threads: {advised} in the file would use cores that stay idle")
    for name in told["absent"]:
        console.print(f"not on this machine: {escape(name)}", highlight=False)


def power(told: dict[str, Any]) -> None:
    """How many seeds are called for."""
    console = Console(soft_wrap=True)
    for line in told["contrasts"]:
        about = line["contrast"]
        name = f"{about['arm']} against {about['against']} on {about['probe']}"
        console.print(
            f"{escape(name)}: sd over {line['pilot_seeds']} seeds {line['sd']:.4f} (80 % upper bound "
            f"{line['sd_upper_80']:.4f}); seeds for 80 % power: {line['seeds_for_a_difference_of_the_margin']} to see a "
            f"difference of {told['margin']:g}, {line['seeds_for_equivalence']} to show equivalence within it; "
            f"{line['the_same_at_sd_upper_80']} at the upper bound",
            highlight=False,
        )


def study(made: Study) -> None:
    """The table, the verdicts, and where everything lies."""
    console = wide()
    for probe in made.spec.probes:
        wanted = made.spec.probes[probe].headline_slice
        table = Table(title=escape(title_of(made, probe)), title_justify="left", box=box.SIMPLE_HEAD)
        for column in ("start", "arm", "rows", "accuracy", "against start", "against human arm", "per seed"):
            table.add_column(column, justify="left" if column in ("start", "arm") else "right")
        for row in made.summary:
            if row["probe"] == probe and is_shown(row, wanted):
                table.add_row(
                    escape(row["start"]),
                    escape(row["arm"]),
                    str(row["size"] or ""),
                    with_interval(row["mean"], row["low"], row["high"], signed=False),
                    with_interval(row["minus_start"], row["minus_start_low"], row["minus_start_high"]),
                    with_interval(row["minus_human"], row["minus_human_low"], row["minus_human_high"]),
                    " ".join(f"{float(value) * 100:.0f}" for value in row["per_seed"].split()),
                )
        console.print(table)
    for source, counted in made.run["counts"].items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in counted["dropped"].items()) or "none"
        console.print(
            f"{escape(source)}: {counted['read']} rows read, {counted['kept']} kept, dropped: {escape(dropped)}",
            highlight=False,
        )
    for source, told in made.run["quality"].items():
        console.print(
            f"{escape(source)}: a judge trained on human rows agrees with {told['agreement']:.0%} of {told['n']} labels "
            f"(with {told['judge_accuracy_on_human']:.0%} of {told['n_human']} human ones)",
            highlight=False,
        )
    cut = made.run["rows_cut"]
    if cut:
        most = max(cut, key=lambda label: sum(cut[label].values()) - cut[label]["rows"])
        told = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in cut[most].items())
        console.print(
            f"rows longer than max_tokens in {len(cut)} steps, the most in '{escape(most)}': {told}", highlight=False
        )
    for line in made.run["notes"]:
        console.print(f"note: {escape(line)}", highlight=False)
    console.print()
    for answer in made.answers:
        console.print(escape(answer.sentence), highlight=False, style="bold")
    timing(console, made.run, f"figure: {made.folder / 'figure.png'}; tables: {made.folder / 'results'}")


def timing(console: Console, run: Mapping[str, Any], where: str) -> None:
    """What was run, what was there already, and where the results are."""
    took = run["timing"]
    console.print(
        f"\n{took['steps_run']} steps run, {took['steps_reused']} reused, {took['this_run_seconds']:.0f} s; {where}",
        highlight=False,
        soft_wrap=True,
    )


def title_of(made: Study, probe: str) -> str:
    """A table's title."""
    spec = made.spec.probes[probe]
    part = f", {', '.join(spec.headline_slice.values())}" if spec.headline_slice else ""
    return f"{probe}: {spec.task}{part}, accuracy in %, mean over seeds with 95 % t interval"


def is_shown(row: dict[str, Any], headline: dict[str, str]) -> bool:
    """Is this summary row the probe's headline slice?"""
    if row["metric"] != "accuracy":
        return False
    if not headline:
        return bool(row["by"] == "overall")
    gold = headline.get("gold")
    columns = " x ".join(column for column in headline if column != "gold") or "gold"
    names = " / ".join(value for column, value in headline.items() if column != "gold") or gold
    return bool(row["by"] == columns and row["name"] == names and row["gold"] == gold)


def with_interval(value: float | None, low: float | None, high: float | None, *, signed: bool = True) -> str:
    """'+1.2 [-0.3, 2.7]' in percentage points."""
    if value is None:
        return ""
    sign = "+" if signed else ""
    shown = f"{value * 100:{sign}.1f}"
    return shown if low is None or high is None else f"{shown} [{low * 100:{sign}.1f}, {high * 100:{sign}.1f}]"
