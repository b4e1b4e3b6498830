"""One rule for what a difference says: worse, better, equivalent, or nobody can tell yet."""

from collections.abc import Hashable, Mapping
from enum import StrEnum
from typing import TypeVar

from pyrite.records import Direction
from pyrite.stats.multiplicity import holm

Name = TypeVar("Name", bound=Hashable)


class Verdict(StrEnum):
    """What a contrast says."""

    WORSE = "worse"
    BETTER = "better"
    EQUIVALENT = "equivalent"
    CANNOT_TELL = "cannot tell yet"
    NOT_TESTABLE = "not testable"


def verdict_of(
    difference: float, p_difference: float | None, p_equivalence: float | None, *, direction: Direction, alpha: float
) -> Verdict:
    """What does a difference say, by the p-values that count (None: there are none)?

    Equivalence goes first: a difference may be real and too small to matter. Then *worse* or *better*, by its sign and
    by which way is better.

    >>> verdict_of(-0.05, 0.01, 0.9, direction="higher", alpha=0.05).value
    'worse'
    >>> verdict_of(-0.001, 0.01, 0.01, direction="higher", alpha=0.05).value
    'equivalent'
    """
    if p_difference is None or p_equivalence is None:
        return Verdict.CANNOT_TELL
    if p_equivalence < alpha:
        return Verdict.EQUIVALENT
    if p_difference < alpha:
        better = difference > 0 if direction == "higher" else difference < 0
        return Verdict.BETTER if better else Verdict.WORSE
    return Verdict.CANNOT_TELL


def adjusted(p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """Holm over a family, in which a member without a p-value counts as p = 1 and stays without one.

    >>> adjusted({"a": 0.01, "b": None})
    {'a': 0.02, 'b': None}
    """
    if not p_values:
        return {}
    corrected = holm([1.0 if p is None else p for p in p_values.values()])
    return {name: None if p is None else new for (name, p), new in zip(p_values.items(), corrected, strict=True)}


def p_text(p: float, name: str = "p") -> str:
    """A p-value in a sentence.

    >>> p_text(0.0412), p_text(0.0002, "adjusted p")
    ('p = 0.041', 'adjusted p < 0.001')
    """
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.3f}"
