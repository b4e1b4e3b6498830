"""Step: rows of several pools in stated shares, as in continued pre-training on text with a little synthetic Q-A in it."""

from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from pyrite.errors import UserError
from pyrite.io import write_jsonl
from pyrite.records import Chat, Text
from pyrite.steps import Context, StepType
from pyrite.train.split import read_pool

Row = Chat | Text


def mix_step(context: Context) -> None:
    """Step: pools → `rows.jsonl` in which each has its share, and `counts.json` (read = kept + dropped).

    Shares are of characters, which need no model; tokens follow them closely within one language. The mix is as large
    as the pools allow when no row is used twice. As plain text, a chat is its turns with an empty line between them.
    """
    config = context.config
    pools = {
        name: read_pool(context.inputs[f"part{number}"] / f"{name.partition('.')[2]}.jsonl")
        for number, name in enumerate(config["shares"])
    }
    rng = np.random.default_rng(config["seed"])
    chosen = choose_rows({name: [length(row) for row in rows] for name, rows in pools.items()}, config["shares"], rng)
    rows = [mixed_row(pools[name][at], name, config["trains"]) for name, places in chosen.items() for at in places]
    write_jsonl([rows[at] for at in rng.permutation(len(rows))], context.out / "rows.jsonl")
    read = sum(len(pool_rows) for pool_rows in pools.values())
    counts = {
        "read": read,
        "kept": len(rows),
        "dropped": {"more than its share": read - len(rows)} if read > len(rows) else {},
        "pools": {name: len(places) for name, places in chosen.items()},
        "characters": {name: sum(length(pools[name][at]) for at in places) for name, places in chosen.items()},
    }
    (context.out / "counts.json").write_bytes(orjson.dumps(counts, option=orjson.OPT_INDENT_2))


def length(row: Row) -> int:
    """Characters of a row."""
    return len(row.text) if isinstance(row, Text) else sum(len(turn.content) for turn in row.messages)


def mixed_row(row: Row, pool: str, trains: str) -> Row:
    """The row with its pool in its id, as plain text where text is trained on."""
    name = f"{pool}/{row.id}"
    if trains == "chat":
        if isinstance(row, Text):
            raise UserError("Chats are mixed with plain text.", f"{pool}: row {row.id}", "say trains: text")
        return Chat(row.messages, name, row.meta)
    if isinstance(row, Chat):
        return Text("\n\n".join(turn.content for turn in row.messages), name, row.meta)
    return Text(row.text, name, row.meta)


def choose_rows(
    lengths: Mapping[str, Sequence[int]], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, list[int]]:
    """Which rows of each pool, in a random order, make up its share of the largest mix that uses no row twice?

    Rows are taken while less than half of the next one would stand over the share.

    >>> choose({"a": [10, 10, 10], "b": [10, 10]}, {"a": 0.75, "b": 0.25}, np.random.default_rng(0))["b"]
    [0]
    """
    size = min(sum(row_lengths) / shares[name] for name, row_lengths in lengths.items())
    chosen = {}
    for name, row_lengths in lengths.items():
        order = rng.permutation(len(row_lengths))
        ends = np.cumsum(np.asarray(row_lengths)[order])
        count = int(np.searchsorted(ends - np.asarray(row_lengths)[order] / 2, size * shares[name], side="left"))
        chosen[name] = [int(at) for at in order[:count]]
    return chosen


MIX = StepType("data.mix", 1, mix_step)
