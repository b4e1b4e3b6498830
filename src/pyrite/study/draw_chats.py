"""Step: so many chats of each of several pools, as an arm of a study of a language model has them."""

from collections.abc import Sequence

import numpy as np
import orjson

from pyrite.errors import UserError
from pyrite.io import write_jsonl
from pyrite.records import Chat, Text
from pyrite.steps import Context, StepType
from pyrite.train.split import read_pool


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
