"""How much of the machine's matrix arithmetic does an engine use? Its FLOPs per second ÷ the best at the same shapes.

FLOPs executed (a multiplication and an addition count as two), from what the engine says it computed:

    2 · tokens · (weights of the linear layers inside the blocks)
  + 4 · attended · blocks · heads · head size                       (queries × keys, then weights × values)
  + 2 · logits · hidden size · vocabulary                           (the output layer, at the positions asked for)

`tokens` are the token positions that went through the blocks, padding left out; a position that was taken from a shared
prefix or a duplicate prompt was not computed and does not count. `attended` is the sum over those positions of how many
positions each one sees (itself included): the causal half, not the full square. `logits` counts positions with logits.
Norms, rotations, softmax and embedding look-ups count nothing.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TOKEN_COUNTS = (256, 512, 1024, 2048, 4096)
SQUARE = 4096


@dataclass(frozen=True)
class Work:
    """What an engine computed: token positions, positions attended to (in one layer), positions with logits."""

    tokens: int
    attended: int
    logits: int

    def __add__(self, other: "Work") -> "Work":
        return Work(self.tokens + other.tokens, self.attended + other.attended, self.logits + other.logits)


def forward(new: int, before: int = 0, logits: int = 1) -> Work:
    """The work of one sequence: `new` positions after `before` ones that are in the cache."""
    return Work(new, new * before + new * (new + 1) // 2, logits)


def block_shapes(model: Any) -> Counter[tuple[int, int]]:
    """(in, out) → how many linear layers of the blocks have this shape. The output layer is left out."""
    import torch

    head = model.get_output_embeddings()
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head]
    return Counter((layer.in_features, layer.out_features) for layer in layers)


def flops(model: Any, work: Work) -> dict[str, float]:
    """FLOPs of the linear layers, of attention and of the output layer, by the formula above."""
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    weights = sum(count * into * out for (into, out), count in block_shapes(model).items())
    return {
        "linear": 2.0 * work.tokens * weights,
        "attention": 4.0 * work.attended * config.num_hidden_layers * config.num_attention_heads * size,
        "output": 2.0 * work.logits * config.hidden_size * config.vocab_size,
    }


def product_speed(tokens: int, into: int, out: int, *, seconds: float = 0.15) -> float:
    """FLOP/s of one bf16 linear layer: the fastest of the calls that fit into `seconds`, after three to warm up."""
    import torch
    from torch.nn.functional import linear

    x, weight = torch.randn(tokens, into, dtype=torch.bfloat16), torch.randn(out, into, dtype=torch.bfloat16)
    best, calls, end = float("inf"), 0, time.perf_counter() + seconds
    with torch.inference_mode():
        for _ in range(3):
            linear(x, weight)
        while calls < 5 or time.perf_counter() < end:
            start = time.perf_counter()
            linear(x, weight)
            best = min(best, time.perf_counter() - start)
            calls += 1
    return 2.0 * tokens * into * out / best


def best_speed(model: Any, work: Work, token_counts: Sequence[int] = TOKEN_COUNTS) -> dict[str, Any]:
    """The best bf16 FLOP/s at this model's own shapes, and a large square product's beside it.

    For each (in, out) the token count that runs fastest is taken; the layers are joined by the time that their share of
    the FLOPs takes (FLOPs / Σ FLOPs_i / speed_i). Attention counts in the engine's FLOPs but has no linear layer of its
    own: the joined speed stands for it too.
    """
    config = model.config
    per_token = {shape: 2.0 * count * shape[0] * shape[1] for shape, count in block_shapes(model).items()}
    speeds = {shape: max(product_speed(tokens, *shape) for tokens in token_counts) for shape in per_token}
    head = (config.hidden_size, config.vocab_size)
    amounts = {shape: amount * work.tokens for shape, amount in per_token.items()}
    if work.logits:
        speeds[head] = max(product_speed(tokens, *head) for tokens in token_counts if tokens <= 512)
        amounts[head] = 2.0 * work.logits * head[0] * head[1]
    joined = sum(amounts.values()) / sum(amount / speeds[shape] for shape, amount in amounts.items())
    return {
        "flops_per_s": joined,
        "by_shape": {f"{into}x{out}": speed for (into, out), speed in speeds.items()},
        "square_flops_per_s": product_speed(SQUARE, SQUARE, SQUARE, seconds=1.0),
    }
