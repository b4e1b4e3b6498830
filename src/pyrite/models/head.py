"""What do the vocabulary's probabilities say at each token, without ever holding [tokens, vocabulary] in full?

The output matrix and a loss on top of it, a few tokens at a time. Everything rests on one number per token, the
*margin* u = z_y - logsumexp of the other logits: log p = logsigmoid(u), log(1 - p) = logsigmoid(-u), both exact as p
goes to 0 or 1, and the gradient of any loss of p is du * (onehot_y - q), q being the softmax over the other tokens.

`fused` and `soft` compute the gradient in the forward pass, as Liger Kernel's fused linear cross-entropy does (Hsu et
al., arXiv 2410.10989): the logits of a chunk are made once. `token_stats` makes them again in the backward pass, for
losses that join a row's tokens. Liger Kernel and Cut Cross-Entropy (Wijmans et al., arXiv 2411.09009) are not used:
neither has a loss on log(1 - p), nor one joined with KL from hidden states, and their kernels (Triton) need a GPU.

Letters: n tokens, d width, V vocabulary, c tokens of a chunk. Nats. Products are made in the dtype that autocast asks
for, else in the hidden states' own (a reference's too); all else is fp32, also the sum of a weight's gradients.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

CHUNK_LOGITS = {"cpu": 2**22, "cuda": 2**27}
"""Logits of a chunk by default; twice as many where the matrix learns, whose gradient is passed over once a chunk. On a
CPU 4M (16 MB in fp32, up to four of them) are as fast as more and hold less; a GPU wants bigger products."""


class Stats(NamedTuple):
    """Of each target token [n], fp32: the log of its probability, and the log of its complement."""

    logp: Tensor
    log1mp: Tensor


class ReferenceStates(NamedTuple):
    """The frozen model's last hidden states [n, d], its output matrix [V, d] and bias [V]. Never gets a gradient."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None


class Fused(NamedTuple):
    """The differentiable sum of the losses; per token [n], detached: log p, log(1 - p), KL(reference || current)."""

    total: Tensor
    logp: Tensor
    log1mp: Tensor
    kl: Tensor | None


class Soft(NamedTuple):
    """The differentiable weighted sum of the values; per token [n], detached: the value (see `soft`) and log p."""

    total: Tensor
    values: Tensor
    logp: Tensor


TokenLoss = Callable[[Stats, Tensor | None, slice], Tensor]
"""loss(stats, kl, at) -> [c]: each token's loss from its own numbers; `at` says which of the n tokens they are."""


def fused(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    loss: TokenLoss,
    *,
    reference: ReferenceStates | None = None,
    chunk: int | None = None,
) -> Fused:
    """What is the sum of a loss of each token's own p and KL, and its gradient, in one pass over the logits?

    hidden [n, d], weight [V, d], bias [V], targets [n] token ids (the caller leaves out what does not count). `loss`
    must be elementwise: it is called once per chunk, and its gradient is taken there. The gradients are kept until the
    backward pass, which can be run once.
    """
    train = torch.is_grad_enabled()
    out = _Fused.apply(hidden, weight, bias, targets, loss, reference, chunk, train)  # type: ignore[no-untyped-call]
    return Fused(*cast(tuple[Tensor, Tensor, Tensor, Tensor | None], out))


def soft(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    teacher: ReferenceStates | None,
    shift: float,
    weights: Tensor | None = None,
    chunk: int | None = None,
) -> Soft:
    """How far is each token's distribution from a teacher's, whose target logit was lowered by `shift`?

    Cross-entropy to the teacher's softmax; math.inf takes the target away altogether. weights [n]: of each token.

    Teacher None: the model itself, detached (CE-U). The gradient is that of the cross-entropy, (p - p_shifted) * (onehot_y
    - q) for a target of probability p that the shift lowers to p_shifted. The value is not: such a cross-entropy holds its
    teacher's entropy, which moves with the model and has no gradient, so that its rise and fall says nothing of what is
    trained. The value is the primitive of the gradient, log((1 - p_shifted) / (1 - p)); without the target, where p_shifted
    is 0, that is -log(1 - p) = KL(teacher || model).
    """
    train = torch.is_grad_enabled()
    arguments = (hidden, weight, bias, targets, teacher, shift, weights, chunk, train)
    return Soft(*cast(tuple[Tensor, Tensor, Tensor], _Soft.apply(*arguments)))  # type: ignore[no-untyped-call]


def token_stats(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, chunk: int | None = None
) -> Stats:
    """How likely is each target token? Differentiable [n], for losses that join the tokens of a row.

    The logits are made again in the backward pass: one more product than `fused`.
    """
    margin = cast(Tensor, _Margin.apply(hidden, weight, bias, targets, chunk))  # type: ignore[no-untyped-call]
    return stats_of(margin)


@torch.no_grad()
def entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, chunk: int | None = None) -> Tensor:
    """How undecided is the model about the next token? Entropy [n] in nats, fp32, without gradient."""
    head = _Head(hidden, weight, bias, chunk)
    parts = [hidden.new_zeros(0, dtype=torch.float32)]
    for at in head.chunks():
        logits = head.logits(at)
        logits.sub_(logits.amax(1, keepdim=True))
        shares = logits.exp()
        total = shares.sum(1)
        parts.append(total.log() - shares.mul_(logits.clamp_(min=-1e30)).sum(1) / total)
    return torch.cat(parts)


def stats_of(margin: Tensor) -> Stats:
    """log p and log(1 - p) from the margin z_y - logsumexp of the others."""
    return Stats(logsigmoid(margin), logsigmoid(-margin))


class _Split(NamedTuple):
    """A chunk's logits, the target apart from the others. [c], but for others [c, V]."""

    target: Tensor
    norm: Tensor
    """logsumexp of the other logits"""
    exp_others: Tensor
    """exp(logit - the highest of the others), 0 at the target"""
    total: Tensor
    """sum of `exp_others`"""

    @property
    def margin(self) -> Tensor:
        return self.target - self.norm


def _take(logits: Tensor, targets: Tensor) -> Tensor:
    """The target's logit [c, 1]; it is -inf in `logits` from then on."""
    target_logits = logits.gather(1, targets[:, None])
    logits.scatter_(1, targets[:, None], -torch.inf)
    return target_logits[:, 0]


def _split(target_logits: Tensor, logits: Tensor, *, keep: bool = False) -> _Split:
    """Needs `logits` without the target's (see `_take`); they are overwritten unless `keep`."""
    top = logits.amax(1, keepdim=True)
    exp_others = (logits - top if keep else logits.sub_(top)).exp_()
    total = exp_others.sum(1)
    return _Split(target_logits, top[:, 0] + total.log(), exp_others, total)


def _expected_gap(frozen: Tensor, now: Tensor, split: _Split, targets: Tensor) -> Tensor:
    """Mean of `frozen` - `now` logits over the softmax of the frozen others [c]; `frozen` is overwritten."""
    gap = frozen.sub_(now).scatter_(1, targets[:, None], 0.0)
    return gap.mul_(split.exp_others).sum(1) / split.total


class _Head:
    """Hidden states and the output matrix in the dtype of their product, cut into chunks; takes up the gradients."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, chunk: int | None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        kind = hidden.device.type
        autocast_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        self.dtype = dtype or autocast_dtype
        self.hidden, self.weight = hidden.detach().to(self.dtype), weight.detach().to(self.dtype)
        self.bias = None if bias is None else bias.detach().float()
        max_logits = CHUNK_LOGITS.get(kind, CHUNK_LOGITS["cuda"]) << weight.requires_grad
        self.size = chunk or max(16, max_logits // weight.shape[0])
        self.gradients: list[Tensor | None] = [None, None, None]

    def chunks(self) -> Iterator[slice]:
        for first in range(0, len(self.hidden), self.size):
            yield slice(first, min(first + self.size, len(self.hidden)))

    def logits(self, at: slice) -> Tensor:
        """[c, V], fp32, fresh."""
        with torch.autocast(self.hidden.device.type, enabled=False):
            logits = (self.hidden[at] @ self.weight.T).float()
        return logits if self.bias is None else logits.add_(self.bias)

    def wants(self, hidden: bool, weight: bool, bias: bool) -> "_Head":
        """Room for the gradients that are needed, wide: they are rounded after the backward pass has scaled them."""
        wide = torch.float32 if self.dtype == torch.float16 else self.dtype
        self.gradients = [
            torch.empty(self.hidden.shape, dtype=wide, device=self.hidden.device) if hidden else None,
            torch.zeros(self.weight.shape, dtype=torch.float32, device=self.hidden.device) if weight else None,
            torch.zeros_like(cast(Tensor, self.bias)) if bias else None,
        ]
        return self

    @property
    def learns(self) -> bool:
        return any(gradient is not None for gradient in self.gradients)

    def learn(self, at: slice, slopes: Tensor) -> None:
        """Pass the gradient of the chunk's logits [c, V] on. fp16 cannot hold small ones: they travel scaled."""
        to_hidden, to_weight, to_bias = self.gradients
        if to_bias is not None:
            to_bias += slopes.sum(0)
        unit = 1.0
        if self.dtype == torch.float16:
            unit = max(float(slopes.amax()), -float(slopes.amin()), torch.finfo(torch.float32).tiny)
            slopes.div_(unit)
        slopes = slopes.to(self.dtype)
        with torch.autocast(self.hidden.device.type, enabled=False):
            if to_hidden is not None:
                to_hidden[at] = (slopes @ self.weight).to(to_hidden.dtype) * unit
            if to_weight is not None and self.dtype == torch.float32:
                to_weight.addmm_(slopes.T, self.hidden[at])
            elif to_weight is not None:
                to_weight.add_(slopes.T @ self.hidden[at], alpha=unit)


def _backward(ctx: Any, slope: Tensor | None) -> list[Tensor | None]:
    """The gradients that the forward pass kept, times the gradient of their sum; once."""
    if slope is None:
        return [None] * 3
    if ctx.gradients is None:
        raise RuntimeError("the gradients of a fused head are kept for one backward pass only")
    gradients, ctx.gradients = ctx.gradients, None
    pairs = zip(gradients, ctx.dtypes, strict=True)
    return [
        None if gradient is None else gradient.mul_(slope.to(gradient.dtype)).to(dtype) for gradient, dtype in pairs
    ]


def _needed_gradients(ctx: Any, train: bool, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> list[bool]:
    ctx.dtypes = (hidden.dtype, weight.dtype, hidden.dtype if bias is None else bias.dtype)
    ctx.set_materialize_grads(False)
    return [train and need for need in ctx.needs_input_grad[:3]]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, loss: TokenLoss,
        reference: ReferenceStates | None, chunk: int | None, train: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
        head = _Head(hidden, weight, bias, chunk).wants(*_needed_gradients(ctx, train, hidden, weight, bias))
        frozen = None if reference is None else _Head(*reference, head.size, head.dtype)
        chunks = [_fused_chunk(head, frozen, at, targets[at], loss) for at in head.chunks()]
        ctx.gradients = head.gradients
        total = sum((chunk_result[0] for chunk_result in chunks), hidden.new_zeros((), dtype=torch.float32))
        none = hidden.new_zeros(0, dtype=torch.float32)
        logp, log1mp = stats_of(torch.cat([none, *(chunk_result[1] for chunk_result in chunks)]))
        kl = None if frozen is None else torch.cat([none, *(cast(Tensor, chunk_result[2]) for chunk_result in chunks)])
        ctx.mark_non_differentiable(logp, log1mp, *(() if kl is None else (kl,)))
        return total, logp, log1mp, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Any) -> Any:
        return (*_backward(ctx, slope), *(None,) * 5)


def _fused_chunk(
    head: _Head, frozen: _Head | None, at: slice, targets: Tensor, loss: TokenLoss
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A chunk's sum of losses, margins [c] and KLs [c]; its gradient goes to the head."""
    before = gap = None
    if frozen is not None:
        frozen_logits = frozen.logits(at)
        before = _split(_take(frozen_logits, targets), frozen_logits, keep=True)
    logits = head.logits(at)
    target_logits = _take(logits, targets)
    if before is not None:
        gap = _expected_gap(frozen_logits, logits, before, targets)
        del frozen_logits
    now = _split(target_logits, logits)
    margin = now.margin
    kl = None if before is None or gap is None else _kl(before, now, gap)
    with torch.enable_grad():
        leaves = [margin.requires_grad_(), *([] if kl is None else [kl.requires_grad_()])]
        losses = loss(stats_of(margin), kl, at)
        total = losses.float().sum()
        slopes: list[Tensor] = [torch.zeros_like(leaf) for leaf in leaves]
        if total.requires_grad:
            slopes = list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))
    margin, kl = margin.detach(), None if kl is None else kl.detach()
    if head.learns:
        head.learn(at, _slopes(now, before, slopes, targets))
    return total.detach(), margin, kl


def _kl(before: _Split, now: _Split, gap: Tensor) -> Tensor:
    """KL(before || now) [c]: that of target against others, plus the others' among themselves."""
    was, is_ = stats_of(before.margin), stats_of(now.margin)
    among = gap - (before.norm - now.norm)
    return was.logp.exp() * (was.logp - is_.logp) + was.log1mp.exp() * (was.log1mp - is_.log1mp + among)


def _slopes(now: _Split, before: _Split | None, slopes: list[Tensor], targets: Tensor) -> Tensor:
    """The gradient of the logits [c, V] from those of the margin and the KL. Exactly 0 where the KL's two sides are the
    same bits and the margin's is 0. Overwrites the chunk's `exp_others`."""
    stats = stats_of(now.margin)
    at_target, by = slopes[0], -slopes[0] / now.total
    if before is None:
        return now.exp_others.mul_(by[:, None]).scatter_(1, targets[:, None], at_target[:, None])
    was, of_kl = stats_of(before.margin), slopes[1]
    by = by + of_kl * stats.log1mp.exp() / now.total
    by_before = of_kl * was.log1mp.exp() / before.total
    at_target = at_target + of_kl * (stats.logp.exp() - was.logp.exp())
    gradient = now.exp_others.mul_(by[:, None]).sub_(before.exp_others.mul_(by_before[:, None]))
    return gradient.scatter_(1, targets[:, None], at_target[:, None])


class _Soft(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, teacher: ReferenceStates | None,
        shift: float, weights: Tensor | None, chunk: int | None, train: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        head = _Head(hidden, weight, bias, chunk).wants(*_needed_gradients(ctx, train, hidden, weight, bias))
        guide = None if teacher is None else _Head(*teacher, head.size, head.dtype)
        scale = torch.ones_like(targets, dtype=torch.float32) if weights is None else weights.detach().float()
        chunks = [_soft_chunk(head, guide, at, targets[at], shift, scale[at]) for at in head.chunks()]
        ctx.gradients = head.gradients
        none = hidden.new_zeros(0, dtype=torch.float32)
        values, margin = (torch.cat([none, *(chunk_result[part] for chunk_result in chunks)]) for part in (0, 1))
        logp = logsigmoid(margin)
        ctx.mark_non_differentiable(values, logp)
        return (values * scale).sum(), values, logp

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Any) -> Any:
        return (*_backward(ctx, slope), *(None,) * 6)


def _soft_chunk(
    head: _Head, guide: _Head | None, at: slice, targets: Tensor, shift: float, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """A chunk's values and margins [c]; its gradient, scale * (softmax - teacher), goes to the head."""
    teacher = None
    if guide is not None:
        teacher_logits = guide.logits(at)
        teacher = _split(_take(teacher_logits, targets), teacher_logits)
    logits = head.logits(at)
    now = _split(_take(logits, targets), logits, keep=teacher is not None)
    taught = now if teacher is None else teacher
    stats, goal = stats_of(now.margin), stats_of(taught.margin - shift)
    share, other_share = goal.logp.exp(), goal.log1mp.exp()
    if teacher is None:
        values = goal.log1mp - stats.log1mp
    else:
        expected_logit = logits.scatter_(1, targets[:, None], 0.0).mul_(teacher.exp_others).sum(1) / teacher.total
        target_term = torch.where(share > 0, share * stats.logp, 0.0)
        values = -target_term - other_share * (expected_logit - now.norm + stats.log1mp)
    if head.learns:
        slope_at_target = scale * (stats.logp.exp() - share)
        if teacher is None:  # the same q on both sides: their difference is one number per token
            slopes = now.exp_others.mul_((-slope_at_target / now.total)[:, None])
        else:
            slopes = now.exp_others.mul_((scale * stats.log1mp.exp() / now.total)[:, None])
            slopes.sub_(teacher.exp_others.mul_((scale * other_share / teacher.total)[:, None]))
        head.learn(at, slopes.scatter_(1, targets[:, None], slope_at_target[:, None]))
    return values, now.margin


class _Margin(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk: int | None
    ) -> Tensor:
        head = _Head(hidden, weight, bias, chunk)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.chunk, ctx.product = head.size, head.dtype
        margins = [hidden.new_zeros(0, dtype=torch.float32)]
        for at in head.chunks():
            logits = head.logits(at)
            margins.append(_split(_take(logits, targets[at]), logits).margin)
        return torch.cat(margins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:
        hidden, weight, bias, targets = ctx.saved_tensors
        head = _Head(hidden, weight, bias, ctx.chunk, ctx.product).wants(*ctx.needs_input_grad[:3])
        for at in head.chunks():
            logits = head.logits(at)
            now = _split(_take(logits, targets[at]), logits)
            head.learn(at, _slopes(now, None, [slope[at]], targets[at]))
        dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        gradients = [
            None if gradient is None else gradient.to(d) for gradient, d in zip(head.gradients, dtypes, strict=True)
        ]
        return (*gradients, None, None)
