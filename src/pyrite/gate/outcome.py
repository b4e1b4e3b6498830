"""How a condition on a run came out, and the words for one that cannot be asked."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyrite.conditions import GateOutcome, Outcome
from pyrite.errors import UserError
from pyrite.runs import Run

WORST: tuple[Outcome, ...] = ("failed", "undecided", "passed")
"""Of several answers to one condition the worst counts."""


def condition_outcome(
    gate: str,
    outcome: Outcome,
    why: str,
    estimate: Mapping[str, Any] | None = None,
    *,
    part: str | None = None,
    hint: str = "",
) -> GateOutcome:
    """A condition on a run folder as it came out; `part` names the part of a loop that was asked."""
    return GateOutcome(gate, outcome, why, estimate, {"part": part}, hint=hint)


def of_part(outcome: GateOutcome, part: str) -> GateOutcome:
    """The outcome of a condition on a part of a loop."""
    return replace(outcome, details={**outcome.details, "part": part})


@dataclass(frozen=True)
class GateKind:
    """How runs of one kind are asked: how conditions come out, and conditions that a run can be asked."""

    check: Callable[[Run[Any], Sequence[str]], list[GateOutcome]]
    examples: Callable[[Run[Any]], list[str]]


def worst_outcome(gate: str, answers: Sequence[tuple[Outcome, str, Mapping[str, Any] | None]]) -> GateOutcome:
    """One answer out of several (outcome, why, estimate): the worst, with every reason for it and its first estimate."""
    for outcome in WORST:
        reasons = [(why, estimate) for answer, why, estimate in answers if answer == outcome]
        if reasons:
            return condition_outcome(gate, outcome, "; ".join(why for why, _ in reasons), reasons[0][1])
    raise AssertionError("a condition that matches nothing is refused before")


def unknown(what: str, name: str, existing: Iterable[str], text: str) -> UserError:
    """The error for a name that the run does not have, with the nearest one that it has."""
    names = list(dict.fromkeys(existing))
    near = difflib.get_close_matches(name, names, 1)
    guess = f"did you mean '{near[0]}'? " if near else ""
    few = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none"
    return UserError(f"A gate names an unknown {what}.", f"{text}: '{name}'", f"{guess}known: {few}")
