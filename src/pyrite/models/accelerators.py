"""Accelerators by name, for plans of machines that are not at hand: what their makers' data sheets say, nothing measured."""

import re
from dataclasses import dataclass

from pyrite.errors import UserError


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Peak FLOP/s of matrix products in bf16, dense (without sparsity), and bytes of memory."""

    flops: float
    memory: int


ACCELERATORS = {
    "a10": Accelerator(125e12, 24 * 10**9),
    "a100-40gb": Accelerator(312e12, 40 * 10**9),
    "a100-80gb": Accelerator(312e12, 80 * 10**9),
    "b200": Accelerator(2250e12, 180 * 10**9),
    "h100": Accelerator(989.4e12, 80 * 10**9),  # SXM
    "h200": Accelerator(989.4e12, 141 * 10**9),
    "l4": Accelerator(121e12, 24 * 10**9),
    "l40s": Accelerator(362e12, 48 * 10**9),
    "mi300x": Accelerator(1307.4e12, 192 * 10**9),
}
"""Data sheets of NVIDIA (half of the figures "with sparsity") and AMD."""

NAMED = re.compile(r"([a-z0-9-]+)@(0?\.\d+|1(?:\.0*)?)", re.IGNORECASE)


def at_utilisation(text: str) -> tuple[str, Accelerator, float] | None:
    """A named accelerator and the share of its peak that is reached, of `NAME@SHARE`; None where the text has another form.

    >>> at_utilisation("h100@0.35")[2], at_utilisation("4e14")
    (0.35, None)

    Raises:
        UserError: an accelerator that is not in the table, or a share of nothing.
    """
    match = NAMED.fullmatch(text)
    if match is None:
        return None
    name, share = match[1].lower(), float(match[2])
    if name not in ACCELERATORS or not share:
        known = ", ".join(ACCELERATORS)
        fix = f"known: {known}; of another, give FLOP/s that it sustains: --plan-speed 4e14"
        raise UserError("There is no such accelerator to plan with.", text, fix)
    return name, ACCELERATORS[name], share
