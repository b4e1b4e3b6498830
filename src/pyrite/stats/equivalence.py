"""Is a difference small enough not to matter?"""

from pyrite.stats._checks import Values, positive
from pyrite.stats.paired import paired_t_pvalue


def tost(differences: Values, margin: float, *, step: float | None = None) -> float:
    """How surprising would these differences be if the true mean were at least `margin` away from 0?

    `differences` has shape [seeds], at least two; `margin` is in their units. A small value says "equivalent within
    the margin"; a large one says nothing about harm. Two one-sided paired t tests at the same level, the larger
    p-value counts. Identical differences are judged as in `paired_t_pvalue` (with its `step`): 0.5^n where they lie within the margin.

    Raises:
        UserError: fewer than two differences, some that are not finite, or a margin that is not above 0.

    Source: Schuirmann (1987), J. Pharmacokinetics and Biopharmaceutics 15:657.

    >>> round(tost([-0.002, 0.001, 0.004], margin=0.02), 4)
    0.0041
    """
    positive(margin, "margin")
    ends = (-margin, "greater"), (margin, "less")
    return max(paired_t_pvalue(differences, end, way, step=step) for end, way in ends)  # type: ignore[arg-type]
