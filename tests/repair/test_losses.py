"""Each unlearning loss: a value and a gradient worked by hand, limits, masking, batch splits, and a step downhill."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyrite.models.head import Stats, fused, soft, stats_of, token_stats
from pyrite.repair import losses
from pyrite.repair.methods import METHODS, Method

R, T, D, V = 4, 6, 5, 11
"""Rows, places of a row, width, vocabulary."""

TOKEN = [name for name, method in METHODS.items() if method.kind == "token"]


def at(p: float) -> tuple[Tensor, Stats]:
    """The target's margin u = log(p / (1 - p)), to differentiate by, and its stats. Note dp/du = p * (1 - p)."""
    margin = torch.tensor([math.log(p) - math.log1p(-p)], requires_grad=True)
    return margin, stats_of(margin)


def slope(value: Tensor, by: Tensor) -> list[float]:
    gradient: list[float] = torch.autograd.grad(value.sum(), by)[0].tolist()
    return gradient


# With p = 1/4: log p = -2 log 2, log(1 - p) = log 3/4; by the margin, d log p = 1 - p = 3/4 and d log(1 - p) = -1/4.
@pytest.mark.parametrize(
    ("loss", "value", "gradient"),
    [
        # -log p: 2 log 2; gradient -(1 - p).
        (losses.cross_entropy, 2 * math.log(2), -3 / 4),
        # -log(1 - p): log 4/3; gradient p.
        (losses.lower_bounded, math.log(4 / 3), 1 / 4),
        # log p; gradient 1 - p.
        (losses.ascent, -2 * math.log(2), 3 / 4),
        # (p^2 - 1) / 2; gradient p^2 (1 - p).
        (lambda stats: losses.weighted(stats, alpha=2.0), -15 / 32, 3 / 64),
        # alpha 0: log p; gradient 1 - p.
        (lambda stats: losses.weighted(stats, alpha=0.0), -2 * math.log(2), 3 / 4),
        # minus the integral of t (1 - t)^3 from 1/4 to 1, which is x^4/4 - x^5/5 at x = 3/4; gradient p^2 (1 - p)^4.
        (lambda stats: losses.satimp(stats, beta1=2.0, beta2=3.0), -81 / 2560, 81 / 4096),
        # exponents 0: log p; gradient 1 - p.
        (lambda stats: losses.satimp(stats, beta1=0.0, beta2=0.0), -2 * math.log(2), 3 / 4),
    ],
)
def test_token_losses_by_hand(loss: Callable[[Stats], Tensor], value: float, gradient: float) -> None:
    margin, stats = at(1 / 4)
    result = loss(stats)
    assert result.tolist() == pytest.approx([value])
    assert slope(result, margin) == pytest.approx([gradient])


@pytest.mark.parametrize(("beta1", "beta2"), [(5.0, 1.0), (0.0, 1.0), (0.5, 2.5), (1e-3, 0.0), (2.0, 0.0)])
def test_satimp_is_the_integral_of_its_gradient(beta1: float, beta2: float) -> None:
    """Against the sum over many thin slices of log p, from nearly forgotten to nearly certain."""
    logp = torch.linspace(-40, 0, 400_001, dtype=torch.float64)
    middles = (logp[1:] + logp[:-1]) / 2
    slices = (beta1 * middles).exp() * (-torch.expm1(middles)) ** beta2 * (logp[1] - logp[0])
    expected = -slices.flip(0).cumsum(0).flip(0)
    primitive = losses.satimp_primitive(logp[:-1], beta1, beta2)
    torch.testing.assert_close(primitive, expected, rtol=1e-6, atol=1e-6)
    if beta2 == 0:  # it is WGA
        torch.testing.assert_close(primitive, losses.weighted(Stats(logp[:-1], logp[:-1]), beta1), rtol=1e-9, atol=1e-9)


def test_a_weight_is_passed_on_to_the_gradient_bit_by_bit() -> None:
    """The value of a loss with a detached weight is not weight * log p, but its gradient is that one's to the last bit."""
    margin = torch.linspace(-30, 30, 1001, requires_grad=True)
    stats = stats_of(margin)
    logp, log1mp = stats.logp.detach(), stats.log1mp.detach()
    for loss, weight in (
        (losses.weighted(stats, 1.5), (1.5 * logp).exp()),
        (losses.satimp(stats, 5.0, 1.0), (5.0 * logp + 1.0 * log1mp).exp()),
        (losses.ascent(stats), torch.ones_like(logp)),
    ):
        gradients = [
            torch.autograd.grad(value.sum(), margin, retain_graph=True)[0] for value in (loss, weight * stats.logp)
        ]
        assert torch.equal(*gradients)


def test_one_weight_covers_ascent_wga_satimp_and_lbf() -> None:
    margin, stats = at(1 / 4)
    expected_weights = {"ga": 1.0, "wga": 1 / 16, "satimp": 27 / 1024, "lbf": 1 / 3}
    direct = {
        "ga": losses.ascent(stats),
        "wga": losses.weighted(stats, 2.0),
        "satimp": losses.satimp(stats, 2.0, 3.0),
        "lbf": losses.lower_bounded(stats),
    }
    for family, expected in expected_weights.items():
        weight = losses.log_likelihood_weight(family, stats, alpha=2.0, beta1=2.0, beta2=3.0)  # type: ignore[arg-type]
        assert weight.tolist() == pytest.approx([expected])
        assert not weight.requires_grad
        gradients = [
            torch.autograd.grad(value.sum(), margin, retain_graph=True)[0].item()
            for value in (weight * stats.logp, direct[family])
        ]
        assert gradients[0] == pytest.approx(gradients[1])


def test_limits() -> None:
    forgotten, sure = torch.tensor([-80.0], requires_grad=True), torch.tensor([80.0], requires_grad=True)
    # p -> 0: lower-bounded forgetting is at its floor and at rest; ascent has neither.
    assert losses.lower_bounded(stats_of(forgotten)).item() == pytest.approx(math.exp(-80))
    assert slope(losses.lower_bounded(stats_of(forgotten)), forgotten) == pytest.approx([math.exp(-80)], rel=1e-4)
    assert losses.ascent(stats_of(forgotten)).item() == pytest.approx(-80)
    assert slope(losses.ascent(stats_of(forgotten)), forgotten) == pytest.approx([1])
    # so do the bounded ones: -1 / alpha, and minus the whole beta function B(5, 2) = 4! 1! / 6!.
    for loss, floor in ((lambda s: losses.weighted(s, 2.0), -1 / 2), (lambda s: losses.satimp(s, 5.0, 1.0), -1 / 30)):
        assert loss(stats_of(forgotten)).item() == pytest.approx(floor)
        assert slope(loss(stats_of(forgotten)), forgotten) == pytest.approx([0], abs=1e-30)
        assert loss(stats_of(sure)).item() == pytest.approx(0, abs=1e-30)
    # p -> 1: lower-bounded forgetting pulls with force 1, ascent with none; everything stays finite.
    assert losses.lower_bounded(stats_of(sure)).item() == pytest.approx(80)
    assert slope(losses.lower_bounded(stats_of(sure)), sure) == pytest.approx([1])
    assert slope(losses.ascent(stats_of(sure)), sure) == pytest.approx([0], abs=1e-30)
    assert math.isfinite(losses.satimp(stats_of(sure), 5.0, 1.0).item())
    # rows: fully preferred against the frozen model, NPO pulls with 2; already forgotten, with none.
    row = torch.tensor([0.0, -4000.0], requires_grad=True)
    assert slope(losses.npo(row, torch.tensor([-4000.0, 0.0]), 0.1), row) == pytest.approx([2, 0], abs=1e-30)


def test_log1mexp() -> None:
    logp = torch.tensor([-1e-6, -0.3, -5.0, -50.0], requires_grad=True)
    result = losses.log1mexp(logp)
    expected = [math.log(-math.expm1(value)) for value in (-1e-6, -0.3, -5.0)]
    assert result.tolist()[:3] == pytest.approx(expected, rel=1e-5)
    assert result.tolist()[3] == pytest.approx(-math.exp(-50))
    # d log(1 - p) / d log p = -p / (1 - p)
    assert slope(result, logp)[1] == pytest.approx(-math.exp(-0.3) / -math.expm1(-0.3), rel=1e-5)
    assert all(math.isfinite(value) for value in slope(losses.log1mexp(logp), logp))


def test_row_losses_by_hand() -> None:
    # NPO, beta 2: log ratio -1 - (-1 - log 3 / 2) = log 3 / 2, so sigmoid(-log 3) = 1/4: value -log(1/4) = 2 log 2;
    # gradient 2 * (1 - 1/4) = 3/2.
    row = torch.tensor([-1.0], requires_grad=True)
    result = losses.npo(row, torch.tensor([-1 - math.log(3) / 2]), beta=2.0)
    assert result.item() == pytest.approx(2 * math.log(2))
    assert slope(result, row) == pytest.approx([3 / 2])
    # SimNPO, beta 2, gamma log 3, 4 tokens of log-likelihood 0: sigmoid(0 - log 3) = 1/4, value 2 log 2; gradient
    # (2 / tokens) * (1 - 1/4) = 3/8.
    row = torch.tensor([0.0], requires_grad=True)
    result = losses.simnpo(row, torch.tensor([4]), beta=2.0, gamma=math.log(3))
    assert result.item() == pytest.approx(2 * math.log(2))
    assert slope(result, row) == pytest.approx([3 / 8])
    # DPO, beta 1: chosen gained 1, rejected 1 + log 3: sigmoid(-log 3) = 1/4, value 2 * 2 log 2; gradient -+ 2 * 3/4.
    chosen, rejected = torch.tensor([-2.0], requires_grad=True), torch.tensor([-1.0 + math.log(3)], requires_grad=True)
    result = losses.dpo(chosen, rejected, torch.tensor([-3.0]), torch.tensor([-2.0]), beta=1.0)
    assert result.item() == pytest.approx(4 * math.log(2), rel=1e-5)
    pulls = torch.autograd.grad(result.sum(), (chosen, rejected))
    assert [pull.item() for pull in pulls] == pytest.approx([-3 / 2, 3 / 2], rel=1e-5)
    # without a chosen answer it is NPO
    zero = torch.zeros(1)
    assert losses.dpo(zero, row, zero, zero - 1, 0.5).item() == pytest.approx(losses.npo(row, zero - 1, 0.5).item())


def test_npo_becomes_gradient_ascent_as_beta_goes_to_zero() -> None:
    row = torch.tensor([-3.0, -40.0], requires_grad=True)
    assert slope(losses.npo(row, torch.tensor([-2.0, -60.0]), beta=1e-5), row) == pytest.approx([1, 1], rel=1e-3)


def test_rmu_by_hand_and_its_control_vector() -> None:
    # [1, 2] to [3, 5]: (4 + 9) / 2; gradient 2 * (x - target) / 2 = (-2, -3).
    hidden = torch.tensor([[1.0, 2.0]], requires_grad=True)
    result = losses.rmu(hidden, torch.tensor([[3.0, 5.0]]))
    assert result.tolist() == [6.5]
    assert torch.autograd.grad(result.sum(), hidden)[0].tolist() == [[-2.0, -3.0]]
    vector = losses.control_vector(64, 20.0, seed=3)
    assert vector.norm().item() == pytest.approx(20, rel=1e-5)
    assert vector.tolist() == losses.control_vector(64, 20.0, seed=3).tolist()
    assert vector.tolist() != losses.control_vector(64, 20.0, seed=4).tolist()
    state = torch.get_rng_state()
    losses.control_vector(8, 1.0, seed=0)
    assert torch.equal(state, torch.get_rng_state())


class Toy:
    """Rows of hidden states with padding and prompts, and a softmax on them that learns."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.hidden = torch.randn(R, T, D, generator=generator)
        self.weight = torch.randn(V, D, generator=generator).requires_grad_()
        self.frozen = self.weight.detach().clone() + 0.3 * torch.randn(V, D, generator=generator)
        likeliest = (self.hidden @ self.weight.T).argmax(-1)  # there is something to forget
        guessed = torch.rand(R, T, generator=generator) < 0.3
        self.targets = likeliest.where(~guessed, torch.randint(0, V, (R, T), generator=generator))
        lengths, prompts = torch.tensor([6, 4, 5, 3]), torch.tensor([2, 1, 3, 0])
        places = torch.arange(T)
        self.mask = (places < lengths[:, None]) & (places >= prompts[:, None])

    def logprobs(self, weight: Tensor) -> Tensor:
        return (self.hidden.double() @ weight.double().T).log_softmax(-1)

    def chosen(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states, targets and row numbers of the tokens that count, as a packed pass hands them over."""
        mask = self.mask[rows]
        owner = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
        return self.hidden[rows][mask], self.targets[rows][mask], owner

    def row_logp(self, weight: Tensor, rows: slice) -> Tensor:
        hidden, targets, owner = self.chosen(rows)
        logp = token_stats(hidden, weight, None, targets, chunk=3).logp
        return logp.new_zeros(len(self.mask[rows])).index_add(0, owner, logp)

    def objective(self, method: Method, rows: slice = slice(None)) -> Tensor:
        """Our way, divided by the totals of all rows: parts of the batch add up."""
        hidden, targets, _ = self.chosen(rows)
        tokens, count, options = int(self.mask.sum()), R, dict(method.options)
        if method.kind in ("token", "answer"):
            assert method.loss is not None
            loss = method.loss
            return fused(hidden, self.weight, None, targets, lambda s, kl, at: loss(s, **options)).total / tokens
        if method.kind == "soft":
            from pyrite.models.head import ReferenceStates

            teacher = ReferenceStates(hidden, self.frozen) if method.teacher == "reference" else None
            shift = options.get("shift", math.inf)
            return soft(hidden, self.weight, None, targets, teacher=teacher, shift=shift).total / tokens
        assert method.loss is not None
        if method.kind == "hidden":
            states = hidden @ self.weight[:D].T
            target = losses.control_vector(D, options["steering"], seed=0)
            return method.loss(states, target.expand(len(states), -1)).sum() / tokens
        now, before = self.row_logp(self.weight, rows), self.row_logp(self.frozen, rows)
        if method.kind == "row":
            return method.loss(now, before, self.mask[rows].sum(1), **options).sum() / count
        return method.loss(now, now.flip(0) * 0.5, before, before.flip(0) * 0.5, **options).sum() / count

    def plain(self, method: Method) -> Tensor:
        """The obvious way: full logits [rows, tokens, vocabulary], and a mask."""
        now, before = self.logprobs(self.weight), self.logprobs(self.frozen)
        at = self.targets[..., None]
        logp, old = now.gather(-1, at)[..., 0], before.gather(-1, at)[..., 0]
        options = dict(method.options)
        if method.kind == "soft" and method.teacher == "reference":
            goal = before.detach().scatter_add(-1, at, torch.full_like(logp, -options["shift"])[..., None])
            per_token = -(goal.softmax(-1) * now).sum(-1)
        elif method.kind in ("token", "answer", "soft"):
            p = logp.exp()
            assert method.name != "satimp" or (options["beta1"], options["beta2"]) == (5, 1)
            per_token = {
                "lbf": lambda: -(1 - p).log(),
                "ce_u": lambda: -(1 - p).log(),
                "wga": lambda: (p ** options["alpha"] - 1) / options["alpha"],
                "satimp": lambda: p**5 / 5 - p**6 / 6 - 1 / 30,
                "idk": lambda: -logp,
            }.get(method.name, lambda: logp)()
        else:
            ours, theirs, tokens = (logp * self.mask).sum(1), (old * self.mask).sum(1), self.mask.sum(1)
            beta = options["beta"]
            if method.name == "npo":
                return (2 / beta * (1 + ((ours - theirs) * beta).exp()).log()).mean()
            if method.name == "simnpo":
                return (2 / beta * (1 + (beta * ours / tokens + options["gamma"]).exp()).log()).mean()
            gain = (ours - theirs) - (ours - theirs).flip(0) * 0.5
            return (2 / beta * (1 + (-beta * gain).exp()).log()).mean()
        return (per_token * self.mask).sum() / self.mask.sum()


ON_LOGITS = [method for method in METHODS.values() if method.kind != "hidden"]


@pytest.mark.parametrize("method", ON_LOGITS, ids=lambda method: method.name)
def test_padding_and_prompts_do_not_count(method: Method) -> None:
    toy = Toy()
    ours, plain = toy.objective(method), toy.plain(method)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    expected = torch.autograd.grad(plain, toy.weight)[0]
    torch.testing.assert_close(torch.autograd.grad(ours, toy.weight)[0], expected, rtol=1e-4, atol=1e-6)
    toy.hidden[~toy.mask] = 1e3  # what is masked may be anything
    toy.targets[~toy.mask] = 0
    assert toy.objective(method).item() == ours.item()


@pytest.mark.parametrize(
    "method", [one for one in METHODS.values() if one.kind != "pair"], ids=lambda method: method.name
)
def test_a_batch_split_adds_up(method: Method) -> None:
    toy = Toy()
    unsplit = toy.objective(method)
    split = toy.objective(method, slice(0, 1)) + toy.objective(method, slice(1, R))
    assert split.item() == pytest.approx(unsplit.item(), rel=1e-5)
    gradients = [torch.autograd.grad(value, toy.weight)[0] for value in (unsplit, split)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_an_optimiser_step_lowers_the_objective(method: Method) -> None:
    toy = Toy()
    step = torch.optim.SGD([toy.weight], lr=0.01)
    before = toy.objective(method)
    before.backward()
    step.step()
    after = toy.objective(method)
    assert after < before


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_the_value_is_what_the_gradient_is_the_slope_of(method: Method) -> None:
    """Along random directions, how the value changes is what the gradient of training says: no part of it moves unseen."""
    toy = Toy()
    gradient = torch.autograd.grad(toy.objective(method), toy.weight)[0]
    for seed in range(4):
        direction = torch.randn(V, D, generator=torch.Generator().manual_seed(seed))
        direction /= direction.norm()
        expected = (gradient * direction).sum().item()
        assert change_along(toy, method, direction) == pytest.approx(
            expected, rel=5e-3, abs=2e-3 * gradient.norm().item()
        )


def change_along(toy: Toy, method: Method, direction: Tensor, size: float = 0.02) -> float:
    """The derivative of the value along a direction, from the values at four points (error of fourth order)."""
    start, values = toy.weight, []
    for steps in (1, -1, 2, -2):
        toy.weight = (start.detach() + steps * size * direction).requires_grad_()
        values.append(toy.objective(method).item())
    toy.weight = start
    return (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * size)


def stats_now(toy: Toy) -> Stats:
    hidden, targets, _ = toy.chosen(slice(None))
    return token_stats(hidden, toy.weight.detach(), None, targets)


@pytest.mark.parametrize("name", TOKEN)
def test_forgetting_lowers_the_likelihood(name: str) -> None:
    toy = Toy()
    before = stats_now(toy).logp.sum()
    toy.objective(METHODS[name]).backward()
    torch.optim.SGD([toy.weight], lr=0.05).step()
    assert stats_now(toy).logp.sum() < before
