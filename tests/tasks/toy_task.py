"""A task from outside: does an answer hold the word that its prompt asks for? Importing the module registers it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyrite.io import Counts
from pyrite.records import Chat, Message
from pyrite.tasks.generative import GenerativeTask, OnBadRow
from pyrite.tasks.generative_tasks import register_generative_task
from pyrite.tasks.scoring import ItemScore, Metric


def read(path: Path, on_bad_row: OnBadRow) -> tuple[list[Chat], Counts]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    items = [Chat((Message("user", row["ask"]),), str(at), {"word": row["word"]}) for at, row in enumerate(rows)]
    return items, Counts(len(items), len(items))


def holds_word(items: Sequence[Chat], answers: Mapping[str, str | None]) -> list[ItemScore]:
    return [
        ItemScore(item.id, "holds", None if (text := answers[item.id]) is None else float(item.meta["word"] in text), item.id)
        for item in items
    ]  # fmt: skip


register_generative_task(
    GenerativeTask(
        "toy_words", read, 8, (Metric("holds"),), usual=(10, 8), cluster="prompts", by_rule=holds_word, plugin=__name__
    )
)
