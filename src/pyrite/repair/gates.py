"""Conditions on what the guard sees, such as 'kl <= 0.2'. Loads nothing heavy."""

from collections.abc import Sequence

from pyrite.conditions import OPERATORS, parse_condition
from pyrite.errors import UserError

VALUES = ("replay_nats", "forget_nats", "kl", "entropy", "repetition")
"""What a guard's look measures."""


def parse_gates(texts: Sequence[str]) -> list[tuple[str, str, float]]:
    """Conditions on the guard's values: (value, operator, bound).

    Raises:
        UserError: a condition that cannot be read.

    >>> parse_gates(["kl <= 0.2"])
    [('kl', '<=', 0.2)]
    """
    conditions: list[tuple[str, str, float]] = []
    fix = f"'VALUE <= NUMBER', VALUE one of {VALUES}"
    for text in texts:
        try:
            condition = parse_condition(text, fix)
        except UserError as error:
            raise UserError("A guard's condition cannot be read.", text, fix) from error
        bound = condition.bound
        if (
            condition.name not in VALUES
            or condition.where
            or condition.op not in OPERATORS
            or not isinstance(bound, float)
        ):
            raise UserError("A guard's condition cannot be read.", text, fix)
        conditions.append((condition.name, condition.op, bound))
    return conditions
