"""Did the blind spot fall behind?"""

import numpy as np
from numpy.typing import NDArray

from pyrite.stats._checks import Values, same_length, vector


def gap(general_arm: Values, blind_arm: Values, general_ref: Values, blind_ref: Values) -> NDArray[np.float64]:
    """By how much did the blind spot fall behind general ability, in each seed, because of the arm's data?

    All four have shape [seeds], the same seeds in the same order, scores where higher is better (fractions 0-1):
    `general_*` on ordinary items, `blind_*` on the items that a shortcut gets wrong; `*_arm` for the model under study,
    `*_ref` for what it is compared with (the human-data arm, or the model before repair). Returns shape [seeds]:

        gap = (general_arm - general_ref) - (blind_arm - blind_ref)

    Positive: the blind spot fell behind, or gained less than the rest. Zero: both moved together, which a plain
    accuracy already shows. Negative: the blind spot caught up. Lies in [-2, 2]; feed it to `paired_t`, or to `judge`
    against zeros with `bounded=False` and `direction="lower"`.

    Raises:
        UserError: no seeds, values that are not finite, or rows of different length.

    Source: a difference in differences (Card & Krueger 1994, American Economic Review 84:772).

    >>> gap([0.80], [0.30], [0.82], [0.50]).round(2).tolist()
    [0.18]
    """
    rows = [vector(row, "per-seed scores") for row in (general_arm, blind_arm, general_ref, blind_ref)]
    for row in rows[1:]:
        same_length(rows[0], row, "seeds")
    return (rows[0] - rows[2]) - (rows[1] - rows[3])
