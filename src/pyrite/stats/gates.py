"""Does an interval meet a condition? Passed, failed, or undecided where it holds the bound. (Conditions: `pyrite.conditions`.)"""

import operator
from collections.abc import Callable, Sequence
from typing import Literal

from pyrite.conditions import Outcome

PASSED, FAILED, UNDECIDED = 0, 1, 3
"""Exit codes of `exit_code`."""
HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def outcome_of(low: float | None, high: float | None, op: str, bound: float) -> Outcome:
    """Passed where the whole interval meets the condition, failed where none of it does, else undecided.

    Without an interval nothing is decided: a bare value does not say how sure it is.
    """
    if low is None or high is None:
        return "undecided"
    at_low, at_high = (HOLDS[op](end, bound) for end in (low, high))
    if at_low and at_high:
        return "passed"
    return "undecided" if at_low or at_high else "failed"


def exit_code(outcomes: Sequence[Outcome], undecided: Literal["pass", "fail"] | None = None) -> int:
    """The exit code of all gates: 1 where any failed, else 3 where any is undecided, else 0.

    `undecided` settles those: "pass" counts them as passed, "fail" as failed.
    """
    if "failed" in outcomes or ("undecided" in outcomes and undecided == "fail"):
        return FAILED
    return UNDECIDED if "undecided" in outcomes and undecided is None else PASSED
