"""What a plan would take on a cluster, on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from pyrite.probe.show import table_of
from pyrite.steps.forecast import duration_in_words
from pyrite.study.plan_bytes import bytes_in_words

SHOWN = 4
"""Steps of the longest chain that are named."""
HOURS = {"gpu": "GPU hours", "cpu_core": "core hours", "worker": "worker hours"}


def print_price(console: Console, price: Mapping[str, Any]) -> None:
    """The run of what is missing on several numbers of workers; what it needs, and where it would break."""
    if not price["steps"]:
        console.print("nothing is missing: the run takes no time", highlight=False)
        return
    priced = "price" in price["workers"][0]
    columns = ("clock", "at work", "hours held", *(["price"] if priced else []), "store grows by")
    table = table_of(f"{price['steps']:,} missing steps on so many workers", ("workers",), columns)
    for row in price["workers"]:
        cost = [f"{row['price']:,.2f}"] if priced else []
        clock, grows = duration_in_words(row["seconds"]), bytes_in_words(row["peak_bytes"])
        table.add_row(
            f"{row['workers']:,}", clock, f"{row['busy']:.0%}", hours_in_words(row["worker_hours"]), *cost, grows
        )
    console.print(table)
    for line in price_lines(price):
        console.print(escape(line), highlight=False, soft_wrap=True)


def price_lines(price: Mapping[str, Any]) -> list[str]:
    """What the table does not say, line by line."""
    hours, tokens, sizes = price["hours"], price["tokens"], price["bytes"]
    work = ", ".join(f"{hours_in_words(hours[name])} {what}" for name, what in HOURS.items() if name in hours)
    cost = f" ({hours['price']:,.2f} if only work is paid)" if "price" in hours else ""
    chain = price["critical_path"]
    names = chain["steps"]
    shown = names if len(names) <= SHOWN else [*names[: SHOWN // 2], "…", *names[-SHOWN // 2 :]]
    return [
        f"work: {work}, {hours_in_words(hours['other'])} other hours{cost}; {tokens['read']:,} tokens read, "
        f"{tokens['trained']:,} trained, {tokens['written']:,} written",
        f"stored: {bytes_in_words(sizes['kept'])} stay (answers {bytes_in_words(sizes['answers'])}, rows "
        f"{bytes_in_words(sizes['rows'])}); {bytes_in_words(sizes['weights'])} of weights are written",
        f"beyond {price['useful_workers']:,} worker{'s' * (price['useful_workers'] > 1)} nothing gets faster: the longest "
        f"chain takes {duration_in_words(chain['seconds'])} ({' → '.join(shown)})",
        f"speed: {price['speed']['assumes']}",
        *(f"would break: {line['says']}" for line in price["breaks"] if line["kind"] != "workers"),
    ]


def hours_in_words(hours: float) -> str:
    """Hours, no finer than they are known.

    >>> hours_in_words(0.043), hours_in_words(12.34), hours_in_words(16742)
    ('0.043', '12', '16,742')
    """
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
