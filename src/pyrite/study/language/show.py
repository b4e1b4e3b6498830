"""A study of a language model on the terminal: the plan, the pilot, the tables, the verdicts."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyrite.probe.show import table_of, wide
from pyrite.repair.show import print_frontier
from pyrite.study.language.pilot import Pilot
from pyrite.study.language.run import LanguageStudy
from pyrite.study.show import timing


def plan(told: dict[str, Any]) -> None:
    """What would run."""
    console = wide()
    seeds = len(told["seeds"])
    head = (
        f"study {told['study']}: {told['cells']} cells, {seeds} seed{'s' * (seeds != 1)}; {told['trainings']} trainings, "
        f"{told['repairs']} repairs, {told['quantised']} roundings, {told['merged']} merges; {told['models_probed']} models probed"
    )
    console.print(escape(head), highlight=False)
    if not told["damage_chosen"] and told["damage"]:
        said = f"no damage is chosen yet; planned as if it were {told['damage']}, the first of the pilot's grid"
        console.print(escape(said), highlight=False)
    table = table_of("one run of each step", ("step", "kind"), ("runs", "tokens", "FLOPs", "GPU hours"))
    for row in told["of_steps"]:
        figures = (str(row["times"]), f"{row['tokens']:,}", f"{row['flops']:.2g}", hours_of(row["gpu_hours"]))
        table.add_row(escape(row["step"]), row["kind"], *figures)
    console.print(table)
    hours = told["seconds"] / 3600
    console.print(
        f"{told['steps']} steps, {told['tokens']:,} tokens, about {hours:,.1f} h one after the other "
        f"({told['seconds_assume']}); trainings and repairs on a GPU: {hours_of(told['gpu_hours'])} h at "
        f"{told['gpu_hours_assume']}",
        highlight=False,
    )
    stored = told["stored"]
    console.print(f"in the store already: {stored['steps']} of {stored['of']} steps", highlight=False)
    for name in told["absent"]:
        console.print(f"not on this machine: {escape(name)}", highlight=False)


def hours_of(hours: float) -> str:
    """Hours, whole where there are many."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def power(told: dict[str, Any]) -> None:
    """How many seeds are called for."""
    console = Console(soft_wrap=True)
    for line in told["contrasts"]:
        about = line["contrast"]
        name = f"{about['cell']} against {about['against']} on {about['probe']}"
        console.print(
            f"{escape(name)}: sd over {line['pilot_seeds']} seeds {line['sd']:.4f} (80 % upper bound "
            f"{line['sd_upper_80']:.4f}); seeds for 80 % power: {line['seeds_for_a_difference_of_the_margin']} to see a "
            f"difference of {line['margin']:g}, {line['seeds_for_equivalence']} to show equivalence within it; "
            f"{line['the_same_at_sd_upper_80']} at the upper bound",
            highlight=False,
        )
    for line in told["left_out"]:
        console.print(escape(line), highlight=False)


def pilot(made: Pilot) -> None:
    """The damages tried, and which one is named."""
    console = wide()
    unit = " in %" if made.share else ""
    title = f"pilot of {made.study}: {made.metric}{unit}, against {made.against}, paired 95 % interval over items"
    table = table_of(title, ("damage",), ("value", "before", "difference", "items", "tokens"))
    for one in made.tried:
        difference = interval(one.difference, one.low, one.high, made.share)
        values = (interval(value, None, None, made.share, signed=False) for value in (one.value, one.before))
        table.add_row(escape(one.name), *values, difference, str(one.n), f"{one.tokens:,}")
    console.print(table)
    console.print(escape(made.sentence), highlight=False, style="bold")


def study(made: LanguageStudy) -> None:
    """The tables, the verdicts, and where everything lies."""
    console = wide()
    for probe, spec in made.spec.probes.items():
        rows = [row for row in made.summary if row["probe"] == probe]
        for metric in spec.metrics or tuple(dict.fromkeys(row["metric"] for row in rows)):
            some = [row for row in rows if row["metric"] == metric]
            if some:
                console.print(one_table(some, made.spec.references()))
    if made.run["frontier"]:
        print_frontier(console, made.run["frontier"])
    console.print(cost_table(made.costs))
    for name, notes in made.run["probes"].items():
        most = max(len(models) for models in notes.values())
        for note, models in notes.items():
            if len(models) == most:  # what is said of single models is in run.json
                console.print(f"{escape(name)}: {escape(note)}", highlight=False)
    for source, counted in made.run["counts"].items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in counted["dropped"].items()) or "none"
        pools = ", ".join(f"{pool} {count}" for pool, count in counted["pools"].items())
        line = f"{source}: {counted['read']} rows read, {counted['kept']} kept ({pools}), dropped: {dropped}"
        console.print(escape(line), highlight=False)
    for line in made.run["notes"]:
        console.print(f"note: {escape(line)}", highlight=False)
    console.print()
    for answer in made.answers:
        console.print(escape(answer.sentence), highlight=False, style="bold")
    timing(console, made.run, f"tables: {made.folder / 'results'}")


def one_table(rows: list[dict[str, Any]], references: tuple[str, ...]) -> Table:
    """One metric of one probe: every cell, its mean, its difference to the reference cells."""
    share = rows[0]["scale"] == "share"
    unit = "in %" if share else "as measured"
    better = {"higher": ", higher is better", "lower": ", lower is better"}.get(rows[0]["direction"], "")
    title = f"{rows[0]['probe']}.{rows[0]['metric']} {unit}{better}; mean over seeds with 95 % t interval; i: interval over items"
    table = table_of(title, ("cell",), ("mean", *(f"against {name}" for name in references), "per seed"))
    for row in rows:
        columns = [interval(row["mean"], row["low"], row["high"], share, signed=False)]
        for name in references:
            at = f"minus_{name}"
            shown = interval(row[at], row[f"{at}_low"], row[f"{at}_high"], share)
            items = interval(row[at], row[f"{at}_items_low"], row[f"{at}_items_high"], share).partition("[")[2]
            columns.append(f"{shown} i[{items}" if items else shown)
        each = " ".join(f"{float(value) * 100:.0f}" if share else value for value in row["per_seed"].split())
        table.add_row(escape(row["cell"]), *map(escape, columns), each)
    return table


def cost_table(costs: list[dict[str, Any]]) -> Table:
    """What each training and repair took; a repair also as a share of the damage that it undoes."""
    right = ("seed", "steps", "tokens", "of damage", "FLOPs", "of damage", "s", "peak MB")
    table = table_of("cost", ("step", "first cell", "method", "stopped"), right)
    for row in costs:
        shares = [row[f"share_of_damage_{unit}"] for unit in ("tokens", "flops")]
        of_tokens, of_flops = ("" if share is None else f"{share:.0%}" for share in shares)
        flops = "" if row["flops"] is None else f"{row['flops']:.2g}"
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}"
        told = (
            str(row["seed"]),
            "" if row["steps"] is None else str(row["steps"]),
            "" if row["tokens"] is None else f"{row['tokens']:,}",
            of_tokens,
            flops,
            of_flops,
            f"{row['seconds']:.0f}",
            peak,
        )
        table.add_row(
            escape(row["step"]), escape(row["cell"]), row["method"] or "", escape(row["stopped"] or ""), *told
        )
    return table


def interval(value: float | None, low: float | None, high: float | None, share: bool, *, signed: bool = True) -> str:
    """'+1.2 [-0.3, 2.7]', of shares in percent."""
    if value is None:
        return ""
    sign, scale, digits = "+" if signed else "", 100 if share else 1, 1 if share else 3
    shown = f"{value * scale:{sign}.{digits}f}"
    if low is None or high is None:
        return shown
    return f"{shown} [{low * scale:{sign}.{digits}f}, {high * scale:{sign}.{digits}f}]"
