"""What is left of a p-value when several questions were asked at once?"""

from collections.abc import Sequence

import numpy as np

from pyrite.errors import UserError
from pyrite.stats._checks import vector


def holm(p_values: Sequence[float]) -> list[float]:
    """Which of these p-values still count when all were asked together? Adjusted p-values, in the order given.

    An adjusted p below alpha may be called significant; the chance of even one false call among all is then at most
    alpha, however the tests depend on each other.

    Raises:
        UserError: no p-values, or some outside 0 to 1.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = vector(p_values, "p-values")
    if p.min() < 0 or p.max() > 1:
        raise UserError(
            "A p-value lies between 0 and 1.",
            f"{p[(p < 0) | (p > 1)][0]}",
            "Pass p-values, not test statistics.",
        )
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
