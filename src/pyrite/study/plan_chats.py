"""The chats of a study as steps: sources divided into pools, mixed for a training, drawn for an arm."""

from typing import Any

from pyrite.io import name_in_place, read_settings
from pyrite.steps import Cost, Source, Step
from pyrite.study.chat_steps import DRAW_CHATS, MIX
from pyrite.study.plan_graph import BYTES_PER_TOKEN, StepGraph, pinned
from pyrite.study.spec_steps import TrainingStep
from pyrite.train.split import SPLIT

CHAT_TOKENS = 200
"""For plans: tokens in a chat where the file does not say."""


class Chats:
    """Pools are named as in the file, `damage` standing for the rows of the training chosen."""

    def __init__(self, graph: StepGraph) -> None:
        self.graph, self.spec, self.plan = graph, graph.spec, graph.plan

    def pool(self, name: str) -> tuple[Step, str]:
        """The step and file that hold the chats of a pool."""
        resolved = self.spec.rows(name, self.plan.damage)
        source, _, pool = resolved.partition(".")
        return self.plan.pools.setdefault(resolved, (self.divided(source), f"{pool}.jsonl"))

    def divided(self, name: str) -> Step:
        """A source divided into its pools."""
        source = self.spec.data[name]
        inputs: dict[str, Step | Source] = {}
        names = {}
        for number, file in enumerate(source.files):
            identity = self.graph.file(file)
            inputs[f"file{number}"], names[f"file{number}"] = identity, pinned(identity) or name_in_place(file)
        config: dict[str, Any] = {
            "names": names,
            "columns": source.columns,
            "on_bad_row": source.on_bad_row,
            "duplicates": "keep" if source.duplicates == "keep" else "drop",
        }
        config |= {"pools": dict(source.pools), "seed": 0}
        config |= {"group": source.group} if source.group is not None else {}
        config |= read_settings(source, source.roles)
        cost = Cost(seconds=2, rows=sum(self.bytes_of(*self.size(f"{name}.{pool}")) for pool in source.chat_pools))
        step = self.graph.keep(Step(SPLIT, config, inputs, label=f"{name}: divide into pools", cost=cost))
        self.plan.counts[name] = step
        return step

    def size(self, name: str) -> tuple[int, int]:
        """How many rows a plan expects in a pool, and tokens in each."""
        source, _, pool = self.spec.rows(name, self.plan.damage).partition(".")
        pools, expected = self.spec.data[source].chat_pools, self.spec.data[source].expected_rows
        sized = sum(rows for rows in pools.values() if isinstance(rows, int))
        rows = pools[pool]
        count = rows if isinstance(rows, int) else max(1, (expected or sized + 1000) - sized)
        return count, self.spec.data[source].tokens_per_row or CHAT_TOKENS

    def bytes_of(self, rows: float, tokens_each: float = 1) -> int:
        """Bytes of so many rows in the store."""
        return int(BYTES_PER_TOKEN * tokens_each * rows)

    def of_training(self, training: TrainingStep) -> tuple[Step, str, float]:
        """The step and file that hold the rows of a training, mixed where they are of several pools, and how many tokens
        they should have."""
        if isinstance(training.on, str):
            rows, each = self.size(training.on)
            return (*self.pool(training.on), min(rows, training.first or rows) * each)
        shares = {self.spec.rows(name, self.plan.damage): share for name, share in training.on.items()}
        inputs: dict[str, Step | Source] = {f"part{at}": self.pool(name)[0] for at, name in enumerate(shares)}
        config = {"shares": shares, "trains": training.trains, "seed": 0}
        label = "mix " + " + ".join(f"{share:g} {name}" for name, share in shares.items())
        sizes = {name: self.size(name) for name in shares}
        tokens = min(rows * each / shares[name] for name, (rows, each) in sizes.items())
        cost = Cost(seconds=5, rows=self.bytes_of(tokens))
        step = self.graph.keep(Step(MIX, config, inputs, label=label, cost=cost))
        self.plan.counts[label] = step
        mean = 1 / sum(share / sizes[name][1] for name, share in shares.items())
        return step, "rows.jsonl", min(tokens, (training.first or tokens) * mean)

    def drawn(self, parts: list[dict[str, Any]], seed: int, label: str) -> Step:
        """So many chats of each part (a pool, or its first rows), drawn by a seed."""
        inputs: dict[str, Step | Source] = {f"part{at}": self.pool(part["name"])[0] for at, part in enumerate(parts)}
        config = {"parts": parts, "seed": seed}
        rows = sum(self.bytes_of(part["rows"], self.size(part["name"])[1]) for part in parts)
        cost = Cost(seconds=2, rows=rows)
        step = self.graph.keep(Step(DRAW_CHATS, config, inputs, label=label, cost=cost))
        self.plan.counts[label] = step
        return step
