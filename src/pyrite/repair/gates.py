"""Conditions on what the guard sees, such as 'kl <= 0.2'. Loads nothing heavy."""

import re
from collections.abc import Sequence

from pyrite.errors import UserError

VALUES = ("replay_nats", "forget_nats", "kl", "entropy", "repetition")
"""What a guard's look measures."""
CONDITION = re.compile(rf"\s*({'|'.join(VALUES)})\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")


def parse_gates(texts: Sequence[str]) -> list[tuple[str, str, float]]:
    """Conditions on the guard's values: (value, operator, bound).

    Raises:
        UserError: a condition that cannot be read.

    >>> parse_gates(["kl <= 0.2"])
    [('kl', '<=', 0.2)]
    """
    conditions = []
    for text in texts:
        match = CONDITION.fullmatch(text)
        try:
            bound = float(match[3]) if match else None
        except ValueError:
            bound = None
        if match is None or bound is None:
            raise UserError("A guard's condition cannot be read.", text, f"'VALUE <= NUMBER', VALUE one of {VALUES}")
        conditions.append((match[1], match[2], bound))
    return conditions
