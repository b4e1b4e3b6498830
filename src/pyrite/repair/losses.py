"""How much does a model still know of what it shall forget? The losses of unlearning, as pure functions.

They see no model, no padding and no mask: the caller hands over the tokens that count, sums what comes back, and
divides by the totals of the whole step, so that splitting a batch changes nothing. All work on log-probabilities
(never on raw logits), in nats, fp32.

Token losses take `Stats` and return [n]. Four of them are one family: training follows w(p) times the gradient of log p,
the weight held fixed while the gradient is taken. What a step then lowers is not w(p) * log p, as the papers write it (its
weight moves with the model and has no part in the gradient), but the primitive of w(p) / p. That is the value of each loss
here, so that two points of a training, or of a guard's looks, are compared by what is optimised:

    method    w(p)                 primitive of w(p) / p                      source
    ga        1                    log p                                      Jang et al., arXiv 2210.01504
    wga       p^alpha              (p^alpha - 1) / alpha; log p for 0         Wang et al., arXiv 2502.19301
    satimp    p^b1 * (1 - p)^b2    -(integral of t^(b1-1) (1-t)^b2, p to 1)   Yang et al., arXiv 2505.11953
    lbf       p / (1 - p)          -log(1 - p)                                Chen et al., arXiv 2406.12397

A primitive is known but for a constant: the first three are 0 at p = 1, lower-bounded forgetting is 0 at p = 0.
`log_likelihood_weight` is the second column. The gradient of lower-bounded forgetting is per token the same as that of CE-U
(Yang, arXiv 2503.01224), the cross-entropy to the model's own distribution q with the target removed: p at the target's
logit, -p * p_j / (1 - p) at every other. That cross-entropy is KL(q || p) = -log(1 - p) plus the entropy of q, which moves
with the model and has no gradient: `models.head.soft` leaves the entropy out, and the two methods have one value.

Letters: n tokens, r rows, d width. A row's log-likelihood is the sum over its learned tokens.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyrite.models.head import Stats

Family = Literal["ga", "wga", "satimp", "lbf"]


def log_likelihood_weight(
    family: Family, stats: Stats, *, alpha: float = 1.0, beta1: float = 5.0, beta2: float = 1.0
) -> Tensor:
    """By how much does each token's gradient differ from gradient ascent's? w(p) [n], detached; see the table above.

    lbf is unbounded as p goes to 1, where it meets a gradient of log p that vanishes: use `lower_bounded` to train.
    """
    logp, log1mp = stats.logp.detach(), stats.log1mp.detach()
    if family == "ga":
        return torch.ones_like(logp)
    if family == "wga":
        return (alpha * logp).exp()
    if family == "satimp":
        return (beta1 * logp + beta2 * log1mp).exp()
    return (logp - log1mp).exp()


def log1mexp(logp: Tensor) -> Tensor:
    """log(1 - exp(logp)) for logp <= 0, exact near 0 and far from it (Mächler 2012, vignette of R's Rmpfr).

    For log-probabilities of whole rows. A token's is better taken from `Stats`, which does not pass through p.
    """
    near = logp > -0.6931471805599453
    small = torch.where(near, logp, -1.0)
    large = torch.where(near, -1.0, logp)
    return torch.where(near, (-torch.expm1(small)).log(), torch.log1p(-large.exp()))


def cross_entropy(stats: Stats) -> Tensor:
    """Cross-entropy -log p [n] of each token: replay, and answers that say nothing."""
    return -stats.logp


def lower_bounded(stats: Stats) -> Tensor:
    """Lower-bounded forgetting: -log(1 - p) [n], 0 for a token that is forgotten (Chen et al., arXiv 2406.12397)."""
    return -stats.log1mp


def ascent(stats: Stats) -> Tensor:
    """Gradient ascent: log p [n], without a floor (Jang et al., arXiv 2210.01504)."""
    return stats.logp


def weighted(stats: Stats, alpha: float) -> Tensor:
    """Weighted gradient ascent: p^alpha times the gradient of log p (WGA, Wang et al., arXiv 2502.19301).

    Value [n]: (p^alpha - 1) / alpha, from -1 / alpha (forgotten) to 0; log p for alpha = 0.
    """
    logp = stats.logp.detach()
    value = torch.expm1(alpha * logp) / alpha if alpha else logp
    return _following(log_likelihood_weight("wga", stats, alpha=alpha), stats.logp, value)


def satimp(stats: Stats, beta1: float, beta2: float) -> Tensor:
    """SatImp: p^beta1 * (1 - p)^beta2 times the gradient of log p (Yang et al., arXiv 2505.11953).

    Value [n]: `satimp_primitive`, from -B(beta1, beta2 + 1) (forgotten) to 0.
    """
    weight = log_likelihood_weight("satimp", stats, beta1=beta1, beta2=beta2)
    return _following(weight, stats.logp, satimp_primitive(stats.logp.detach(), beta1, beta2))


def satimp_primitive(logp: Tensor, beta1: float, beta2: float) -> Tensor:
    """What SatImp lowers: minus the integral of t^(beta1 - 1) * (1 - t)^beta2 over t from p to 1 [n], for exponents >= 0.

    The complement of the incomplete beta function, -B(beta1, beta2 + 1) * (1 - I_p(beta1, beta2 + 1)), which is exact also
    where p is tiny. For beta1 = 0 the integral is finite but B is not: there 1e-9 stands for 0 (off by less than 1e-6 for
    p > e^-40). Worked out on the CPU in float64, without a gradient; below e^-700 p counts as e^-700.
    """
    from scipy.special import beta, betaincc

    p = logp.detach().to("cpu", torch.float64).clamp(min=-700).exp().numpy()
    first, second = max(beta1, 1e-9), beta2 + 1
    return torch.from_numpy(-beta(first, second) * betaincc(first, second, p)).to(logp)


def _following(weight: Tensor, logp: Tensor, value: Tensor) -> Tensor:
    """A loss [n] of this value whose gradient is exactly `weight` times that of log p; `value` is taken as it stands."""
    return value + weight * (logp - logp.detach())


def npo(row_logp: Tensor, reference_row_logp: Tensor, beta: float) -> Tensor:
    """Negative preference: -2/beta * log sigmoid(-beta * (log-likelihood - the frozen model's)) [r].

    Zhang et al., arXiv 2404.05868. As beta goes to 0 it is gradient ascent, but for a constant.
    """
    return -2 / beta * logsigmoid(-beta * (row_logp - reference_row_logp))


def simnpo(row_logp: Tensor, row_tokens: Tensor, beta: float, gamma: float) -> Tensor:
    """Negative preference without a reference: -2/beta * log sigmoid(-beta/tokens * log-likelihood - gamma) [r].

    Fan et al., arXiv 2410.07163. open-unlearning puts its margin inside the factor: its delta is gamma / beta.
    """
    return -2 / beta * logsigmoid(-beta * row_logp / row_tokens - gamma)


def dpo(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float) -> Tensor:
    """Does the model prefer the answer that says nothing, more than the frozen one did? [r], log-likelihoods of rows.

    -2/beta * log sigmoid(beta * (gain of the chosen - gain of the rejected)): Rafailov et al., arXiv 2305.18290, with
    the factor 2/beta of arXiv 2404.05868, so that `npo` is the same loss without a chosen answer.
    """
    return -2 / beta * logsigmoid(beta * ((chosen - reference_chosen) - (rejected - reference_rejected)))


def rmu(hidden: Tensor, target: Tensor) -> Tensor:
    """How far are hidden states [n, d] from where they shall be? Mean over the width of the squared difference [n].

    Li et al., arXiv 2403.03218: forget rows go to a control vector, replay rows to where the frozen model has them.
    """
    gap: Tensor = hidden.float() - target.float()
    return gap.square().mean(-1)


def control_vector(width: int, steering: float, *, seed: int) -> Tensor:
    """Where are forgotten states sent? [width], fp32: each entry uniform on [0, 1), then scaled to length `steering`.

    As in the authors' code (github.com/centerforaisafety/wmdp), with a seed. Always drawn on the CPU.
    """
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    vector: Tensor = drawn / drawn.norm() * steering
    return vector
