"""Sample many continuations of one prompt: the prompt is computed once, finished sequences leave the batch.

All sequences share the prompt and therefore a length, so nothing is padded and no position is masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.models.hardware import Compute


@dataclass(frozen=True, slots=True)
class Sampled:
    """One continuation: its token ids without the end marker, the mean log-probability per sampled token (nats, under
    the model at temperature 1, end marker included), and whether it ended by itself within the limit."""

    ids: list[int]
    mean_logprob: float
    ended: bool


def sample(
    model: Any,
    prompt_ids: Sequence[int],
    *,
    seeds: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    end_ids: Sequence[int],
    compute: Compute,
    newline_ids: Sequence[int] = (),
    max_lines: int = 0,
) -> list[Sampled]:
    """Continue one prompt once per seed; sequence i depends on the model, the prompt and `seeds[i]` only (in fp32).

    Each sequence draws its uniform numbers from its own generator and inverts the cumulative distribution, so its
    neighbours in the batch do not change what it draws. `top_p` keeps the smallest set of tokens whose probability
    reaches it; temperature 0 takes the most probable token. With `max_lines`, a sequence also ends with the token
    (one of `newline_ids`) that ends its last line; that counts as ended.
    """
    import torch

    count = len(seeds)
    uniforms = torch.from_numpy(np.stack([np.random.default_rng(list(seed)).random(max_new_tokens) for seed in seeds]))
    device = model.device
    ends = torch.tensor(list(end_ids), device=device)
    breaks = torch.tensor(list(newline_ids), device=device, dtype=torch.long)
    lines = torch.zeros(count, dtype=torch.long)
    tokens: list[list[int]] = [[] for _ in range(count)]
    logprob = np.zeros(count)
    ended = np.zeros(count, dtype=bool)
    alive = torch.arange(count)
    with torch.inference_mode(), compute.autocast():
        prompt = torch.tensor([list(prompt_ids)], device=device)
        out = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        cache.batch_repeat_interleave(count)
        logits = out.logits[:, -1].float().expand(count, -1)
        for step in range(max_new_tokens):
            drawn, logp = draw(logits, uniforms[alive, step].to(device), temperature, top_p)
            finished = torch.isin(drawn, ends)
            if max_lines:
                lines[alive] += torch.isin(drawn, breaks).long().cpu()
                finished |= (lines[alive] >= max_lines).to(device)
            for at, token, lp, end in zip(
                alive.tolist(), drawn.tolist(), logp.tolist(), finished.tolist(), strict=True
            ):
                logprob[at] += lp
                ended[at] = end
                if not end:
                    tokens[at].append(token)
            keep = ~finished
            if not keep.any() or step == max_new_tokens - 1:
                break
            if finished.any():
                cache.batch_select_indices(keep.nonzero()[:, 0])
                alive = alive[keep.cpu()]
            out = model(input_ids=drawn[keep][:, None], past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits = out.logits[:, -1].float()
    lengths = np.array([len(ids) for ids in tokens]) + ended
    means = logprob / np.maximum(lengths, 1)
    return [Sampled(ids, float(mean), bool(end)) for ids, mean, end in zip(tokens, means, ended, strict=True)]


def draw(logits: Any, uniform: Any, temperature: float, top_p: float) -> tuple[Any, Any]:
    """One token for each row of `logits` [B, V] and its log-probability at temperature 1."""
    import torch

    logp = torch.log_softmax(logits, dim=-1)
    if temperature == 0:
        token = logits.argmax(-1)
        return token, logp.gather(-1, token[:, None])[:, 0]
    probs = torch.softmax(logits / temperature, dim=-1)
    if top_p < 1:
        ordered, index = probs.sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p
        probs = probs.scatter(-1, index, ordered.masked_fill(outside, 0.0))
    total = probs.cumsum(-1, dtype=torch.float64)
    at = torch.searchsorted(total, (uniform * total[:, -1])[:, None], right=True)[:, 0].clamp(max=probs.shape[-1] - 1)
    return at, logp.gather(-1, at[:, None])[:, 0]
