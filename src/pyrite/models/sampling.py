"""Which token comes next? The most probable one, or one drawn by a sequence's own random numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CANDIDATES = 256
"""Nucleus sampling sorts so many of the likeliest tokens first, and all of them only where those do not suffice."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """How the next token is chosen. Temperature 0: the most probable one."""

    temperature: float = 0.0
    top_p: float = 1.0
    logprobs: bool = False


GREEDY = Drawing()
"""Always the most probable token."""


def uniforms(seed: Sequence[int], count: int) -> np.ndarray:
    """A sequence's own random numbers, one for each token it may draw."""
    return np.random.default_rng(list(seed)).random(count)


def draw_tokens(logits: Any, uniform: Any, drawing: Drawing) -> tuple[list[int], list[float]]:
    """One token for each row of `logits` [rows, vocabulary], and its log-probability at temperature 1 (0 where it was
    not asked for). `uniform` [rows] picks the token by inverting the cumulative distribution of the tokens in order of
    their probability, so that a row's draw does not depend on its neighbours.

    `top_p` keeps the smallest set of tokens whose probability reaches it.
    """
    import torch

    if drawing.temperature == 0:
        token = logits.max(-1).indices
    else:
        parts = zip(logits.split(32), np.split(uniform, range(32, len(uniform), 32)), strict=True)
        drawn = [
            sample_rows(part.float() / drawing.temperature, torch.from_numpy(part_uniform), drawing.top_p)
            for part, part_uniform in parts
        ]
        token = torch.cat(drawn).to(logits.device)
    logprob = [0.0] * len(token)
    if drawing.logprobs:
        norm = torch.cat([part.float().logsumexp(-1) for part in logits.split(32)])
        logprob = (logits.gather(-1, token[:, None])[:, 0].float() - norm).tolist()
    return token.tolist(), logprob


def sample_rows(scaled: Any, uniform: Any, top_p: float) -> Any:
    """The token at `uniform` of each row's cumulative distribution, likeliest first [rows], on the CPU: a few hundred
    candidates of each row are all that leaves the device, and not every device has float64."""
    import torch

    size = scaled.shape[-1]
    total = scaled.logsumexp(-1, keepdim=True)
    n_candidates = min(CANDIDATES, size)
    values, index = scaled.topk(n_candidates, -1)
    index = index.cpu()
    reached = (values - total).exp().cpu().double().cumsum(-1)
    target = uniform.double() * top_p
    if top_p < 1:  # the nucleus ends with the token that reaches top_p, so its mass is a little more
        last = torch.searchsorted(reached, torch.full_like(target, top_p)[:, None]).clamp(max=n_candidates - 1)
        inside = reached.gather(-1, last)[:, 0] >= top_p
        target = torch.where(inside, uniform.double() * reached.gather(-1, last)[:, 0], target)
        enough = inside
    else:
        enough = target < reached[:, -1]
    at = torch.searchsorted(reached, target[:, None], right=True).clamp(max=n_candidates - 1)
    token = index.gather(-1, at)[:, 0]
    beyond = (~enough).nonzero()[:, 0].tolist()
    if beyond and top_p == 1:  # among the rest, in the order of the vocabulary: no sorting
        probs = (scaled[beyond] - total[beyond]).exp().cpu()
        probs.scatter_(-1, index[beyond], 0.0)
        cumulative = probs.double().cumsum(-1)
        remaining = (target[beyond] - reached[beyond, -1]).clamp(min=0)
        remaining = torch.minimum(remaining, cumulative[:, -1] * (1 - 1e-12))
        token[beyond] = torch.searchsorted(cumulative, remaining[:, None], right=True)[:, 0].clamp(max=size - 1)
        return token
    for row in beyond:
        token[row] = sample_fully(scaled[row].cpu(), float(uniform[row]), top_p)
    return token


def sample_fully(scaled: Any, uniform: float, top_p: float) -> Any:
    """The same over the whole vocabulary, sorted."""
    import torch

    probs, index = scaled.double().softmax(-1).sort(descending=True, stable=True)
    reached = probs.cumsum(-1)
    if top_p < 1:
        reached = reached[: int(torch.searchsorted(reached, torch.tensor(top_p, dtype=torch.float64))) + 1]
    at = torch.searchsorted(reached, torch.tensor(uniform, dtype=torch.float64) * reached[-1], right=True)
    return index[min(int(at), len(reached) - 1)]
