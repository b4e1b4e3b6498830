"""What a repair cost: tokens, floating-point operations, memory; and its curve as plain rows."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pyrite.models.hardware import Compute
from pyrite.repair.settings import RepairSettings
from pyrite.train.cost import ModelShape

TOKENS = ("forget", "replay", "preferred", "guard")
NOTHING: dict[str, Any] = {
    "steps": 0, "planned_steps": 0, "tokens": dict.fromkeys(TOKENS, 0), "flops": 0.0, "seconds": 0.0, "peak_bytes": 0,
    "stopped": None, "curve": [], "guard": [],
    "point": {"step": 0, "tokens": 0, "rule": "a null repair: the model as given", "values": {}},
}  # fmt: skip
"""What a repair tells that took no step."""


def token_totals(rows: Sequence[Any], roles: Sequence[str] | None = None) -> tuple[int, int]:
    """Tokens and learned tokens of rows (of these roles)."""
    chosen_rows = [row for row in rows if roles is None or row.role in roles]
    return sum(len(row.ids) for row in chosen_rows), sum(row.targets for row in chosen_rows)


def spent(
    shape: ModelShape, steps: Sequence[Sequence[Any]], settings: RepairSettings, objective: Any, *,
    live: bool, beforehand: Sequence[Any], guard: tuple[int, int],
) -> dict[str, Any]:  # fmt: skip
    """Tokens processed in training, by role, and by the guard; and all floating-point operations.

    The model as given reads what the loss asks of it: each time where it is `live`, else once. `beforehand` are the
    rows that were read before the first step, `guard` the tokens and learned tokens that the guard's looks read, the
    model as given among them.
    """
    tokens: Counter[str] = Counter(dict.fromkeys(TOKENS, 0))
    flops = 0.0
    for step in steps:
        for row in step:
            tokens[row.role] += len(row.ids)
        flops += shape.training(*token_totals(step), full=settings.training.method == "full")
        if live:
            flops += shape.forward(*token_totals(step, objective.asks()))
    flops += shape.forward(*token_totals(beforehand)) + shape.forward(*guard)
    tokens["guard"] = guard[0]
    return {"tokens": dict(tokens), "flops": flops}


def peak_bytes(compute: Compute) -> int:
    """The most memory that this process has held: resident on a CPU, allocated on a GPU."""
    import resource
    import sys

    if compute.device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def curve(logs: Sequence[dict[str, float]], steps: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """The training curve: one row for each step, with the tokens processed up to it."""
    sums, read = [], 0
    for step in steps:
        read += sum(len(row.ids) for row in step)
        sums.append(read)
    names = {"loss": "loss", "forget": "forget", "replay": "replay", "kl": "kl", "learning_rate": "lr"}
    return [
        {"step": int(log["step"]), "tokens": sums[int(log["step"]) - 1]}
        | {ours: log[theirs] for theirs, ours in names.items() if theirs in log}
        for log in logs
    ]
