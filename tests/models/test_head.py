"""The vocabulary's matrix in chunks: the plain version's values and gradients, its limits, and what stays exactly 0."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrite.models import head as heads
from pyrite.models.head import ReferenceStates, Stats, entropy, fused, soft, token_stats

N, D, V = 13, 8, 50


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parts(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden, weight, bias (all to learn) and targets."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in ((N, D), (V, D), (V,))]
    hidden, weight, bias = (tensor.requires_grad_() for tensor in tensors)
    return hidden, weight, bias, torch.randint(0, V, (N,), generator=generator)


def frozen(seed: int = 1) -> ReferenceStates:
    return ReferenceStates(*(tensor.detach() for tensor in parts(seed)[:3]))


def plain_logprobs(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = hidden @ weight.T
    return (logits if bias is None else logits + bias).double().log_softmax(-1)


def plain_parts(now: Tensor, before: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p, log(1 - p) and KL(before || now) from full log-probabilities [n, V]."""
    logp = now.gather(1, targets[:, None])[:, 0]
    return logp, torch.log1p(-logp.exp()), (before.exp() * (before - now)).sum(1)


def only_kl(stats: Stats, kl: Tensor | None, at: slice) -> Tensor:
    assert kl is not None
    return kl


def close(actual: Any, expected: Any, tolerance: float) -> None:
    for tensor, target in zip(actual, expected, strict=True):
        assert tensor.shape == target.shape
        assert float((tensor.double() - target.double()).norm()) <= tolerance * float(target.double().norm()) + 1e-12


@pytest.mark.parametrize("chunk", [1, 5, N, 100, None])
@pytest.mark.parametrize("biased", [True, False])
def test_fused_is_the_plain_loss_and_gradient(chunk: int | None, biased: bool) -> None:
    hidden, weight, bias, targets = parts()
    reference, scale = frozen(), torch.rand(N, generator=torch.Generator().manual_seed(2))
    if not biased:
        bias, reference = None, reference._replace(bias=None)  # type: ignore[assignment]

    def loss(stats: Stats, kl: Tensor | None, at: slice) -> Tensor:
        assert kl is not None
        return scale[at] * (0.5 * -stats.logp + 0.3 * -stats.log1mp + 2 * kl)

    leaves = [tensor for tensor in (hidden, weight, bias) if tensor is not None]
    result = fused(hidden, weight, bias, targets, loss, reference=reference, chunk=chunk)
    logp, log1mp, kl = plain_parts(plain_logprobs(hidden, weight, bias), plain_logprobs(*reference), targets)
    total = (scale * (0.5 * -logp + 0.3 * -log1mp + 2 * kl)).sum()
    assert result.kl is not None
    close((result.logp, result.log1mp, result.kl), (logp.detach(), log1mp.detach(), kl.detach()), 1e-6)
    assert result.total.item() == pytest.approx(total.item(), rel=1e-6)
    close(torch.autograd.grad(result.total * 3, leaves), torch.autograd.grad(total * 3, leaves), 1e-5)
    assert not result.logp.requires_grad


def test_worked_by_hand() -> None:
    # One token, three words, logits (0, log 2, log 5): p = (1, 2, 5) / 8. Target is word 1: p = 1/4, q = (1/6, 0, 5/6).
    # -log(1 - p) = log(4/3); its gradient is p * (onehot - q) = (-1/24, 1/4, -5/24).
    # The reference is uniform: KL = sum of 1/3 * log(1/3 / p_j) = log(8/3) - log(10)/3; gradient p - 1/3.
    weight = torch.tensor([[0.0], [math.log(2)], [math.log(5)]])
    logits = torch.zeros(3, requires_grad=True)
    hidden, target = torch.ones(1, 1), torch.tensor([1])
    flat = ReferenceStates(torch.zeros(1, 1), weight)
    result = fused(hidden, weight, logits, target, lambda stats, kl, at: -stats.log1mp, reference=flat)
    assert result.total.item() == pytest.approx(math.log(4 / 3))
    assert torch.autograd.grad(result.total, logits)[0].tolist() == pytest.approx([-1 / 24, 1 / 4, -5 / 24])
    result = fused(hidden, weight, logits, target, only_kl, reference=flat)
    assert result.total.item() == pytest.approx(math.log(8 / 3) - math.log(10) / 3)
    expected = [1 / 8 - 1 / 3, 1 / 4 - 1 / 3, 5 / 8 - 1 / 3]
    assert torch.autograd.grad(result.total, logits)[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert entropy(hidden, weight, None).item() == pytest.approx(-sum(p * math.log(p) for p in (1 / 8, 1 / 4, 5 / 8)))


def test_kl_to_itself_is_exactly_zero_and_so_is_its_gradient() -> None:
    hidden, weight, bias, targets = parts()
    itself = ReferenceStates(hidden.detach(), weight.detach(), bias.detach())
    result = fused(hidden, weight, bias, targets, only_kl, reference=itself, chunk=4)
    assert result.kl is not None
    assert result.kl.tolist() == [0.0] * N
    assert all(not gradient.any() for gradient in torch.autograd.grad(result.total * 0.37, (hidden, weight, bias)))


@pytest.mark.parametrize("gap", [28.0, 60.0, 500.0])
def test_limits_of_p(gap: float) -> None:
    # Two words, logits (gap, 0). Target 0: p is within 1e-12 of 1, log(1 - p) = -gap; target 1: log p = -gap.
    hidden, weight = torch.ones(2, 1), torch.tensor([[gap], [0.0]])
    bias = torch.zeros(2, requires_grad=True)
    targets = torch.tensor([0, 1])
    result = fused(hidden, weight, bias, targets, lambda stats, kl, at: -stats.log1mp)
    assert result.log1mp.tolist() == pytest.approx([-gap, -math.exp(-gap)], rel=1e-5, abs=1e-38)
    assert result.logp.tolist() == pytest.approx([-math.exp(-gap), -gap], rel=1e-5, abs=1e-38)
    # d/dz_y = p, d/dz_other = -p: 1 and -1 from the sure token, nothing from the other (its floor).
    assert torch.autograd.grad(result.total, bias)[0].tolist() == pytest.approx([1.0, -1.0], rel=1e-5)
    stats = token_stats(hidden, weight, bias, targets)
    assert stats.log1mp.tolist() == result.log1mp.tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_products_and_small_gradients(dtype: torch.dtype) -> None:
    hidden, weight, bias, targets = parts(dtype=dtype)
    tiny = 1e-7  # below what fp16 can hold once it is spread over the vocabulary

    def gradients(scale: float) -> tuple[Tensor, ...]:
        result = fused(hidden, weight, bias, targets, lambda stats, kl, at: -stats.logp * scale, chunk=4)
        assert result.total.dtype == torch.float32
        return torch.autograd.grad(result.total * (1 / scale), (hidden, weight, bias))

    logprobs = plain_logprobs(hidden.float(), weight.float(), bias.float())
    expected = torch.autograd.grad(-logprobs.gather(1, targets[:, None]).sum(), (hidden, weight, bias))
    for actual in (gradients(1.0), gradients(tiny)):
        assert [gradient.dtype for gradient in actual] == [dtype] * 3
        close(actual, expected, 0.03)


def test_autocast_decides_the_dtype_of_the_product() -> None:
    hidden, weight, bias, targets = parts()
    cast = hidden.detach().bfloat16(), weight.detach().bfloat16(), bias.detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = fused(hidden, weight, bias, targets, lambda stats, kl, at: -stats.logp)
        stats = token_stats(hidden, weight, bias, targets)
    assert result.logp.tolist() == token_stats(*cast, targets).logp.tolist() == stats.logp.tolist()
    (result.total + stats.logp.sum()).backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    assert float(weight.grad.abs().max()) < 1e-2  # the two losses cancel: the backward pass used the same products


def test_tied_embeddings_add_up_over_several_calls() -> None:
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(V, D, generator=generator, requires_grad=True)
    ids, targets = torch.randint(0, V, (N,), generator=generator), torch.randint(0, V, (N,), generator=generator)

    def loss(read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        states = torch.tanh(table[ids])
        return read(states[:6], targets[:6]) * 2 + read(states[6:], targets[6:])

    ours = loss(lambda h, y: fused(h, table, None, y, lambda stats, kl, at: -stats.logp, chunk=4).total)
    plain = loss(lambda h, y: torch.nn.functional.cross_entropy(h @ table.T, y, reduction="sum"))
    close(torch.autograd.grad(ours, [table]), torch.autograd.grad(plain, [table]), 1e-5)
    view = table.T.contiguous().T  # neither a leaf nor contiguous
    total = fused(torch.tanh(table[ids]), view, None, targets, lambda stats, kl, at: -stats.logp, chunk=4).total
    plain = torch.nn.functional.cross_entropy(torch.tanh(table[ids]) @ table.T, targets, reduction="sum")
    close(torch.autograd.grad(total, [table]), torch.autograd.grad(plain, [table]), 1e-5)


def test_only_what_is_learned_gets_a_gradient() -> None:
    hidden, weight, bias, targets = parts()
    states = hidden.detach()
    result = fused(states, weight, bias.detach(), targets, lambda stats, kl, at: -stats.logp)
    expected = torch.autograd.grad(
        fused(hidden, weight, bias, targets, lambda stats, kl, at: -stats.logp).total, [weight]
    )
    close(torch.autograd.grad(result.total, [weight]), expected, 0)
    assert not fused(states, weight.detach(), None, targets, lambda stats, kl, at: -stats.logp).total.requires_grad
    with torch.no_grad():
        assert not fused(hidden, weight, bias, targets, lambda stats, kl, at: -stats.logp).total.requires_grad
    with pytest.raises(RuntimeError, match="one backward pass"):
        result.total.backward()


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_token_stats_join_the_tokens_of_a_row(chunk: int | None) -> None:
    hidden, weight, bias, targets = parts()
    stats = token_stats(hidden, weight, bias, targets, chunk=chunk)
    logp, log1mp, _ = plain_parts(*[plain_logprobs(hidden, weight, bias)] * 2, targets)
    close([tensor.detach() for tensor in stats], (logp.detach(), log1mp.detach()), 1e-6)
    loss, expected = stats.logp[:5].sum() ** 2 + stats.log1mp[5:].sum(), logp[:5].sum() ** 2 + log1mp[5:].sum()
    leaves = (hidden, weight, bias)
    close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves), 1e-5)


@pytest.mark.parametrize("shift", [math.inf, 10.0, 0.5])
@pytest.mark.parametrize("taught", [True, False])
def test_soft_is_cross_entropy_to_the_shifted_teacher(shift: float, taught: bool) -> None:
    hidden, weight, bias, targets = parts()
    weights = torch.rand(N, generator=torch.Generator().manual_seed(4))
    teacher = frozen() if taught else None
    result = soft(hidden, weight, bias, targets, teacher=teacher, shift=shift, weights=weights, chunk=4)
    now = plain_logprobs(hidden, weight, bias)
    goal = (plain_logprobs(*teacher) if teacher is not None else now).detach().clone()
    goal[range(N), targets] -= shift
    values = -(goal.softmax(1) * now).sum(1)
    # Taught by itself, its teacher's entropy moves along and is left out: log((1 - p shifted) / (1 - p)) is what is lowered.
    lowered = (
        values
        if taught
        else (goal.softmax(1).gather(1, targets[:, None]).neg().log1p() - complement(now, targets))[:, 0]
    )
    close((result.values, result.logp), (lowered.detach(), now.gather(1, targets[:, None])[:, 0].detach()), 1e-6)
    leaves = (hidden, weight, bias)
    close(torch.autograd.grad(result.total, leaves), torch.autograd.grad((values * weights).sum(), leaves), 1e-4)


def complement(logprobs: Tensor, targets: Tensor) -> Tensor:
    """log(1 - p) of the targets [n, 1], summed over the others."""
    return logprobs.scatter(1, targets[:, None], -math.inf).logsumexp(1, keepdim=True)


def test_taught_by_itself_without_the_target_the_value_is_the_divergence_from_the_teacher() -> None:
    """p = 1/2 and two others of 1/4: the teacher is 1/2, 1/2 on those. KL(teacher || model) = log(1/2 / 1/4) = log 2,
    where the cross-entropy is log 4; with others of 3/8 and 1/8 the KL is the same, and the cross-entropy is not."""
    states, targets = torch.ones(1, 1), torch.tensor([0])
    for other_shares in ((1 / 4, 1 / 4), (3 / 8, 1 / 8)):
        weight = torch.tensor([[1 / 2], *([share] for share in other_shares)]).log()
        result = soft(states, weight, None, targets, teacher=None, shift=math.inf)
        assert result.values.tolist() == pytest.approx([math.log(2)])
        assert result.total.item() == pytest.approx(math.log(2))


def test_lower_bounded_forgetting_and_ce_u_have_the_same_value_and_gradient_token_by_token() -> None:
    hidden, weight, bias, targets = parts()
    lower_bounded = fused(hidden, weight, bias, targets, lambda stats, kl, at: -stats.log1mp)
    ce_u = soft(hidden, weight, bias, targets, teacher=None, shift=math.inf)
    assert lower_bounded.total.item() == pytest.approx(ce_u.total.item(), rel=1e-6)
    torch.testing.assert_close(ce_u.values, -lower_bounded.log1mp)
    # hidden's gradient is per token: row i of it comes from token i alone
    for mine, theirs in zip(
        torch.autograd.grad(lower_bounded.total, (hidden, weight, bias)),
        torch.autograd.grad(ce_u.total, (hidden, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_entropy_is_the_plain_one_and_of_a_sure_token_zero() -> None:
    hidden, weight, bias, _ = parts()
    logprobs = plain_logprobs(hidden, weight, bias).detach()
    close([entropy(hidden, weight, bias, chunk=4)], [-(logprobs.exp() * logprobs).sum(1)], 1e-6)
    assert entropy(torch.ones(1, 1), torch.tensor([[1000.0], [0.0]]), None).tolist() == [0.0]


def test_no_tokens_are_no_loss() -> None:
    hidden, weight, bias, targets = parts()
    none = fused(hidden[:0], weight, bias, targets[:0], lambda stats, kl, at: -stats.logp, reference=frozen())
    none.total.backward()
    assert weight.grad is not None
    assert not weight.grad.any()
    assert none.total.item() == 0
    assert none.kl is not None
    assert none.kl.shape == none.logp.shape == token_stats(hidden[:0], weight, bias, targets[:0]).logp.shape == (0,)
    assert (
        entropy(hidden[:0], weight, bias).shape
        == soft(hidden[:0], weight, bias, targets[:0], teacher=None, shift=1.0).values.shape
        == (0,)
    )


def test_the_full_logits_are_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = heads._Head.logits

    def watched(self: Any, at: slice) -> Tensor:
        logits = real(self, at)
        sizes.append(logits.numel())
        return logits

    monkeypatch.setattr(heads._Head, "logits", watched)
    monkeypatch.setitem(heads.CHUNK_LOGITS, "cpu", 20 * V)
    hidden, targets = torch.randn(90, D, requires_grad=True), torch.zeros(90, dtype=torch.long)
    weight = parts()[1].detach()
    fused(hidden, weight, None, targets, lambda stats, kl, at: -stats.logp).total.backward()
    token_stats(hidden, weight, None, targets).logp.sum().backward()
    assert sum(sizes) == 3 * 90 * V
    assert max(sizes) == 20 * V
