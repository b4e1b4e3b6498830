"""A study on the terminal: the plan, the pilot, the tables, the verdicts."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyrite.probe.show import table_of, wide
from pyrite.repair.show import print_frontier
from pyrite.steps.shard import ShardDone
from pyrite.study.pilot import Pilot
from pyrite.study.run import StudyPlan, StudyPower
from pyrite.study.run_folder import Study
from pyrite.study.show_price import print_price
from pyrite.study.tables import is_headline, is_overall


def show(result: Study | StudyPlan | Pilot | ShardDone) -> None:
    """Whatever `pyrite.study` returns."""
    if isinstance(result, StudyPower):
        print_power(result.record)
    elif isinstance(result, StudyPlan):
        print_plan(result.record)
    elif isinstance(result, Pilot):
        print_pilot(result)
    elif isinstance(result, ShardDone):
        wide().print(escape(result.in_words()))
    else:
        print_study(result)


def print_plan(record: Mapping[str, Any]) -> None:
    """What would run."""
    console = wide()
    console.print(escape(head_of(record)), highlight=False)
    if record.get("damage") and not record["damage_chosen"]:
        note = f"no damage is chosen yet; planned as if it were {record['damage']}, the first of the pilot's grid"
        console.print(escape(note), highlight=False)
    if record.get("of_steps"):
        steps = table_of("one run of each step", ("step", "kind"), ("runs", "tokens", "FLOPs", "GPU hours"))
        for row in record["of_steps"]:
            figures = (str(row["times"]), f"{row['tokens']:,}", f"{row['flops']:.2g}", hours_of(row["gpu_hours"]))
            steps.add_row(escape(row["step"]), row["kind"], *figures)
        console.print(steps)
    hours, gpu = record["seconds"] / 3600, ""
    if "gpu_hours" in record:
        at = f"trainings and repairs on a GPU: {hours_of(record['gpu_hours'])} h at {record['gpu_hours_assume']}"
        gpu = f"; {at}"
    stored_size = f", {record['bytes'] / 1e6:,.0f} MB of answers"
    console.print(
        f"{record['steps']} steps, {record['tokens']:,} tokens, about {hours:,.1f} h one after the other "
        f"({record['seconds_assume']}){stored_size}{gpu}",
        highlight=False,
        soft_wrap=True,
    )
    stored = record["stored"]
    console.print(f"in the store already: {stored['steps']} of {stored['of']} steps", highlight=False)
    if record.get("threads_advised", 1) > record.get("threads", 1):
        advised = record["threads_advised"]
        console.print(
            f"few steps run a model at a time: threads: {advised} in the file would use cores that stay idle",
            soft_wrap=True,
        )
    if "cluster" in record:
        print_price(console, record["cluster"])
    for name in record["absent"]:
        console.print(f"not on this machine: {escape(name)}", highlight=False, soft_wrap=True)


def head_of(record: Mapping[str, Any]) -> str:
    """How many cells, trainings and other steps."""
    more = (
        f"{record.get('repairs', 0)} repairs, {record.get('quantised', 0)} roundings, {record.get('merged', 0)} merges"
    )
    if "trainings_of" in record:
        parts = ", ".join(f"{count} {what}" for what, count in record["trainings_of"].items())
        other_steps = f"; {more}" if "repairs" in record else ""
        return (
            f"study {record['study']}: {record['cells']} cells, {record['trainings']} trainings ({parts}){other_steps}"
        )
    seeds = len(record["seeds"])
    return (
        f"study {record['study']}: {record['cells']} cells, {seeds} seed{'s' * (seeds != 1)}; {record['trainings']} trainings, "
        f"{more}; {record['models_probed']} models probed"
    )


def hours_of(hours: float) -> str:
    """Hours, whole where there are many."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def print_power(record: Mapping[str, Any]) -> None:
    """How many seeds are called for."""
    console = Console(soft_wrap=True)
    for line in record["contrasts"]:
        about = line["contrast"]
        name = f"{about.get('arm') or about['cell']} against {about['against']} on {about['probe']}"
        console.print(
            f"{escape(name)}: sd over {line['pilot_seeds']} seeds {line['sd']:.4f} (80 % upper bound "
            f"{line['sd_upper_80']:.4f}); seeds for 80 % power: {line['seeds_for_a_difference_of_the_margin']} to see a "
            f"difference of {line['margin']:g}, {line['seeds_for_equivalence']} to show equivalence within it; "
            f"{line['the_same_at_sd_upper_80']} at the upper bound",
            highlight=False,
        )
    for line in record["left_out"]:
        console.print(escape(line), highlight=False)


def print_pilot(result: Pilot) -> None:
    """The damages tried, and which one is named."""
    console = wide()
    unit = " in %" if result.share else ""
    title = f"pilot of {result.study}: {result.metric}{unit}, against {result.against}, paired 95 % interval over items"
    table = table_of(title, ("damage",), ("value", "before", "difference", "items", "tokens"))
    for tried in result.tried:
        difference = interval(tried.difference, tried.low, tried.high, result.share)
        values = (interval(value, None, None, result.share, signed=False) for value in (tried.value, tried.before))
        table.add_row(escape(tried.name), *values, difference, str(tried.n), f"{tried.tokens:,}")
    console.print(table)
    console.print(escape(result.sentence), highlight=False, style="bold")


def print_study(result: Study) -> None:
    """The tables, the verdicts, and where everything lies."""
    console = wide()
    for probe in result.spec.probes:
        for metric_table in tables_of(result, probe):
            console.print(metric_table)
    if result.run["frontier"]:
        print_frontier(console, result.run["frontier"])
    if result.costs:
        console.print(cost_table(result.costs))
    for name, notes in result.run["probes"].items():
        most = max(len(models) for models in notes.values())
        for note, models in notes.items():
            if len(models) == most:  # what is said of single models is in run.json
                console.print(f"{escape(name)}: {escape(note)}", highlight=False)
    for source, counted in result.run["counts"].items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in counted["dropped"].items()) or "none"
        pools = ", ".join(f"{pool} {count}" for pool, count in counted.get("pools", {}).items())
        kept_rows = f"{counted['kept']} kept" + (f" ({pools})" if pools else "")
        console.print(
            escape(f"{source}: {counted['read']} rows read, {kept_rows}, dropped: {dropped}"), highlight=False
        )
    for source, judged in result.run["quality"].items():
        console.print(
            f"{escape(source)}: a judge trained on human rows agrees with {judged['agreement']:.0%} of {judged['n']} labels "
            f"(with {judged['judge_accuracy_on_human']:.0%} of {judged['n_human']} human ones)",
            highlight=False,
        )
    cut = result.run["rows_cut"]
    if cut:
        most_cut = max(cut, key=lambda label: sum(cut[label].values()) - cut[label]["rows"])
        counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in cut[most_cut].items())
        line = f"rows cut or left out in {len(cut)} steps, the most in '{escape(most_cut)}': {counts}"
        console.print(line, highlight=False)
    for line in result.run["notes"]:
        console.print(f"note: {escape(line)}", highlight=False)
    console.print()
    for answer in result.answers:
        console.print(escape(answer.sentence), highlight=False, style="bold")
    figure = f"figure: {result.folder / 'figure.png'}; " * result.spec.has_grid
    timing(console, result.run, f"{figure}tables: {result.folder / 'results'}")


def tables_of(result: Study, probe: str) -> list[Table]:
    """The tables of a probe: of a grid its headline, else every metric that it shows."""
    spec = result.spec.probes[probe]
    rows = [row for row in result.summary if row["probe"] == probe]
    if result.spec.has_grid and spec.names_labels:
        return [grid_table(result, probe, [row for row in rows if is_headline(row, spec.model_dump())])]
    metrics = spec.metrics or tuple(dict.fromkeys(row["metric"] for row in rows))
    chosen = [[row for row in rows if row["metric"] == metric and is_shown(row, spec)] for metric in metrics]
    return [one_table(metric_rows, result) for metric_rows in chosen if metric_rows]


def is_shown(row: Mapping[str, Any], spec: Any) -> bool:
    """Is this the line of a metric that a table shows: of labels the headline slice, else all items?"""
    if spec.names_labels and row["metric"] == "accuracy":
        return is_headline(row, spec.model_dump())
    return is_overall(row)


def grid_table(result: Study, probe: str, rows: list[dict[str, Any]]) -> Table:
    """One probe of labels: every cell's accuracy, and its difference to the start and the human arm."""
    lines = Table(title=escape(title_of(result, probe)), title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("start", "arm", "rows", "accuracy", "against start", "against human arm", "per seed"):
        lines.add_column(column, justify="left" if column in ("start", "arm") else "right")
    for row in rows:
        lines.add_row(
            escape(row["start"]),
            escape(row["arm"]),
            str(row["size"] or ""),
            with_interval(row["mean"], row["low"], row["high"], signed=False),
            with_interval(row["minus_start"], row["minus_start_low"], row["minus_start_high"]),
            with_interval(row["minus_human"], row["minus_human_low"], row["minus_human_high"]),
            " ".join(f"{float(value) * 100:.0f}" for value in row["per_seed"].split()),
        )
    return lines


def timing(console: Console, run: Mapping[str, Any], where: str) -> None:
    """What was run, what was there already, and where the results are."""
    took = run["timing"]
    console.print(
        f"\n{took['steps_run']} steps run, {took['steps_reused']} reused, {took['this_run_seconds']:.0f} s; {where}",
        highlight=False,
        soft_wrap=True,
    )


def title_of(result: Study, probe: str) -> str:
    """A table's title."""
    spec = result.spec.probes[probe]
    part = f", {', '.join(spec.headline_slice.values())}" if spec.headline_slice else ""
    return f"{probe}: {spec.task}{part}, accuracy in %, mean over seeds with 95 % t interval"


def with_interval(value: float | None, low: float | None, high: float | None, *, signed: bool = True) -> str:
    """'+1.2 [-0.3, 2.7]' in percentage points."""
    if value is None:
        return ""
    sign = "+" if signed else ""
    text = f"{value * 100:{sign}.1f}"
    return text if low is None or high is None else f"{text} [{low * 100:{sign}.1f}, {high * 100:{sign}.1f}]"


def one_table(rows: list[dict[str, Any]], result: Study) -> Table:
    """One metric of one probe: every cell, its mean, its difference to the reference cells."""
    share, first = rows[0]["scale"] == "share", rows[0]
    unit = "in %" if share else "as measured"
    better = {"higher": ", higher is better", "lower": ", lower is better"}.get(first["direction"], "")
    which = f" ({' / '.join(filter(None, (first['name'], first['gold'])))})" if not is_overall(first) else ""
    references = ("start", "human") if result.spec.has_grid else result.spec.references()
    over = "" if result.spec.has_grid else "; i: interval over items"
    title = f"{first['probe']}.{first['metric']}{which} {unit}{better}; mean over seeds with 95 % t interval{over}"
    names = ("start", "arm", "rows") if result.spec.has_grid else ("cell",)
    lines = table_of(title, names, ("mean", *(f"against {name}" for name in references), "per seed"))
    for row in rows:
        columns = [interval(row["mean"], row["low"], row["high"], share, signed=False)]
        for name in references:
            at = f"minus_{name}"
            difference = interval(row[at], row[f"{at}_low"], row[f"{at}_high"], share)
            low, high = row.get(f"{at}_items_low"), row.get(f"{at}_items_high")
            items = interval(row[at], low, high, share).partition("[")[2]
            columns.append(f"{difference} i[{items}" if items else difference)
        each = " ".join(f"{float(value) * 100:.0f}" if share else value for value in row["per_seed"].split())
        cell = (row["start"], row["arm"], str(row["size"] or "")) if result.spec.has_grid else (row["cell"],)
        lines.add_row(*map(escape, cell), *map(escape, columns), each)
    return lines


def cost_table(costs: list[dict[str, Any]]) -> Table:
    """What each training and repair took; a repair also as a share of the damage that it undoes."""
    right = ("seed", "steps", "tokens", "of damage", "FLOPs", "of damage", "s", "peak MB")
    lines = table_of("cost", ("step", "first cell", "method", "stopped"), right)
    for row in costs:
        shares = [row[f"share_of_damage_{unit}"] for unit in ("tokens", "flops")]
        of_tokens, of_flops = ("" if share is None else f"{share:.0%}" for share in shares)
        flops = "" if row["flops"] is None else f"{row['flops']:.2g}"
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}"
        figures = (
            str(row["seed"]),
            "" if row["steps"] is None else str(row["steps"]),
            "" if row["tokens"] is None else f"{row['tokens']:,}",
            of_tokens,
            flops,
            of_flops,
            f"{row['seconds']:.0f}",
            peak,
        )
        lines.add_row(
            escape(row["step"]), escape(row["cell"]), row["method"] or "", escape(row["stopped"] or ""), *figures
        )
    return lines


def interval(value: float | None, low: float | None, high: float | None, share: bool, *, signed: bool = True) -> str:
    """'+1.2 [-0.3, 2.7]', of shares in percent."""
    if value is None:
        return ""
    sign, scale, digits = "+" if signed else "", 100 if share else 1, 1 if share else 3
    text = f"{value * scale:{sign}.{digits}f}"
    if low is None or high is None:
        return text
    return f"{text} [{low * scale:{sign}.{digits}f}, {high * scale:{sign}.{digits}f}]"
