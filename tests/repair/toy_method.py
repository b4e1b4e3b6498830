"""An unlearning method from outside: the probability of each forget token is lowered as it is. Importing the module registers it."""

from torch import Tensor

from pyrite.models.head import Stats
from pyrite.repair.methods import LossWeights, Method, register_method


def probability(stats: Stats, *, scale: float) -> Tensor:
    """The probability of every learned token, times `scale`."""
    return scale * stats.logp.exp()


register_method(
    Method(
        "toy_probability",
        "lowers the probability of the forget tokens",
        "none",
        "token",
        probability,
        LossWeights(1, 0, 0),
        "weights: ours",
        options={"scale": 1.0},
        plugin=__name__,
    )
)
