"""Is this input something that a number can honestly be computed from?"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrite.errors import UserError

Values = Sequence[float] | NDArray[Any]
"""Numbers in a fixed order, mostly one per seed: a list, a tuple or a one-dimensional array."""


def vector(values: Values, noun: str) -> NDArray[np.float64]:
    """The values as a float array of shape [n], n >= 1, all finite; `noun` names them in the error."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise UserError(
            f"{noun} must be one row of numbers.",
            f"an array of shape {array.shape}",
            "Pass one value per seed or item.",
        )
    if array.size == 0:
        raise UserError(f"There are no {noun} to compute from.", "0 values", "Check that the runs wrote their results.")
    require_finite(array, noun)
    return array


def require_finite(array: NDArray[np.float64], noun: str) -> None:
    """Raises `UserError` naming the first entry of `array` that is NaN or infinite."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        position = ", ".join(str(int(i)) for i in bad[0])
        raise UserError(
            f"{noun} hold values that are not numbers.",
            f"{len(bad)} of {array.size}, the first at position {position}",
            "Leave out seeds or items without a result, on both sides, and count them as missing.",
        )


def same_length(a: NDArray[np.float64], b: NDArray[np.float64], noun: str) -> None:
    """Raises `UserError` where two paired rows differ in length."""
    if a.shape != b.shape:
        raise UserError(
            f"Paired {noun} must match one to one.",
            f"{a.size} on one side, {b.size} on the other",
            f"Keep the {noun} that both sides have, in the same order.",
        )


def fraction(value: float, name: str) -> None:
    """Raises `UserError` unless 0 < value < 1."""
    if not 0 < value < 1:
        raise UserError(f"`{name}` must lie between 0 and 1.", f"{value}", f"Pass for example {name}=0.05 or 0.95.")


def positive(value: float, name: str) -> None:
    """Raises `UserError` unless value is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"`{name}` must be a number above 0.", f"{value}", f"Pass {name} in the units of the values.")


def no_spread(values: NDArray[np.float64]) -> bool:
    """Whether all values are the same but for rounding in the last digits (0.81 - 0.80 against 0.71 - 0.70)."""
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))
