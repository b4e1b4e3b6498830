"""Steps that make the chats of a study: pools mixed in stated shares, and so many rows of each of several pools."""

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

    >>> choose_rows({"a": [10, 10, 10], "b": [10, 10]}, {"a": 0.75, "b": 0.25}, np.random.default_rng(0))["b"]
    [1]
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


def draw_chats_step(context: Context) -> None:
    """Step: pools → `rows.jsonl`, in a random order, and `counts.json` (read = kept + dropped).

    Raises:
        UserError: a pool that has too few rows.
    """
    config = context.config
    rng = np.random.default_rng(config["seed"])
    drawn: list[Chat | Text] = []
    read = 0
    for number, part in enumerate(config["parts"]):
        name, count = part["name"], part["rows"]
        pool: Sequence[Chat | Text] = list(
            read_pool(context.inputs[f"part{number}"] / f"{name.partition('.')[2]}.jsonl")
        )
        read += len(pool)
        pool = pool[: part["first"]]
        if len(pool) < count:
            fix = "ask for fewer rows or provide more"
            raise UserError("There are too few rows.", f"{name}: {len(pool)} of {count}", fix)
        again = "again/" if part["first"] is not None else ""
        drawn += [renamed(pool[at], f"{again}{name}/{pool[at].id}") for at in rng.permutation(len(pool))[:count]]
    write_jsonl([drawn[at] for at in rng.permutation(len(drawn))], context.out / "rows.jsonl")
    dropped = {"not drawn": read - len(drawn)} if read > len(drawn) else {}
    counts = {
        "read": read,
        "kept": len(drawn),
        "dropped": dropped,
        "pools": {part["name"]: part["rows"] for part in config["parts"]},
    }
    (context.out / "counts.json").write_bytes(orjson.dumps(counts, option=orjson.OPT_INDENT_2))


def renamed(row: Chat | Text, name: str) -> Chat | Text:
    """The row under another id."""
    return Text(row.text, name, row.meta) if isinstance(row, Text) else Chat(row.messages, name, row.meta)


DRAW_CHATS = StepType("data.draw_chats", 1, draw_chats_step)
