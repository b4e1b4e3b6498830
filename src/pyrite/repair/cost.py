"""What a repair cost: tokens, floating-point operations, memory; and its curve as plain rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pyrite.models.hardware import Compute
from pyrite.repair.methods import Weights
from pyrite.repair.settings import RepairSettings


def spent(
    model: Any, steps: Sequence[Sequence[Any]], settings: RepairSettings, weights: Weights, guard_tokens: int
) -> dict[str, Any]:
    """Tokens processed, by role, and floating-point operations.

    Counted, not measured: two operations for each weight of a linear layer and token in a forward pass, as many again
    for the gradient of its input, and again for that of the weight where it moves; the output matrix only at the
    positions that are learned. The model as given is one more forward pass over replay rows where KL asks for it.
    Attention's own products are left out (they are small at these lengths).
    """
    tokens: Counter[str] = Counter()
    targets: Counter[str] = Counter()
    for step in steps:
        for row in step:
            tokens[row.role] += len(row.ids)
            targets[row.role] += row.targets
    body, head = weights_of(model)
    passes = 6 if settings.training.method == "full" else 4
    flops = passes * (body * tokens.total() + head * targets.total())
    if weights.kl:
        flops += 2 * (body * tokens["replay"] + head * targets["replay"])
    flops += 2 * body * guard_tokens
    return {"tokens": {**tokens, "guard": guard_tokens}, "flops": float(flops)}


def weights_of(model: Any) -> tuple[int, int]:
    """Weights that every token is multiplied with: in linear layers of the body, and in the output matrix."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    head = model.get_output_embeddings()
    inside = {id(one.get_base_layer()) for one in model.modules() if isinstance(one, BaseTunerLayer)}
    body = sum(
        one.in_features * one.out_features
        for name, one in model.named_modules()
        if isinstance(one, torch.nn.Linear) and one is not head and ("lora_" not in name or id(one) in inside)
    )
    return body, int(head.weight.numel())


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


def plain(look: Any) -> dict[str, Any]:
    """A look as plain values."""
    return asdict(look)
