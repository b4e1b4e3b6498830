"""Conditions: how one is written, and whether an interval meets it.

    NAME[.METRIC][[COLUMN=VALUE]…] OP NUMBER[%]      OP is one of >= <= > < !=; some names take a word in the place of a number

is the one grammar of `--gate` and `--require`, of a guard's and a loop's conditions. What a name may be, each verb says:

    hans.accuracy[gold=non-entailment] >= 10%        a probe's or repair's task, metric and slice
    ifeval.prompt_strict[against=before] >= -0.02    the change from the first model named to the second
    format.opening_concentration < 5%                an audit's flaw and statistic; severity < fail
    blind_spot.accuracy[arm=biased][against=human] >= -0.02     a study's contrast; primary >= -2%; verdict != worse
    kl <= 0.2                                        what a repair's guard sees

Older spellings (`change TASK.METRIC …`, `ARM - AGAINST on PROBE …`) are read, too, with a hint of the new one. The text is
read by a regular expression and is never evaluated.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from pyrite.errors import UserError

Outcome = Literal["passed", "failed", "undecided"]
Op = Literal[">=", "<=", ">", "<", "!="]

OPERATORS: tuple[Op, ...] = (">=", "<=", ">", "<")
"""Those that compare numbers."""
PASSED, FAILED, UNDECIDED = 0, 1, 3
"""Exit codes of `exit_code`."""
HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
AGAINST, BEFORE = "against", "before"
"""The column of a difference, and the value that stands for the model before."""
_CONDITION = re.compile(
    r"\s*(?P<name>[^\s\[\]<>=!]+)(?P<where>(\s*\[[^\[\]]*\])*)\s*(?P<op>>=|<=|!=|>|<)\s*"
    r"(?:(?P<number>[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)\s*(?P<percent>%)?|(?P<word>[a-z][a-z_ ]*[a-z]))\s*",
    re.IGNORECASE | re.ASCII,
)
_CHANGE = re.compile(r"\s*change\s+(?P<target>.+?)\s*(?P<rest>(>=|<=|>|<)[^\[\]<>=]*)", re.IGNORECASE | re.ASCII)
_CONTRAST = re.compile(
    r"\s*(?P<arm>.+?) - (?P<against>.+?) on (?P<probe>\S+?)\s*(?P<rest>(>=|<=|>|<)[^<>=]*)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as read. `name` is NAME or NAME.METRIC; `where` the columns with their values; `bound` a fraction where the
    text gave a percentage, or a word; `hint` the new spelling where an old one was read, else empty."""

    text: str
    name: str
    where: tuple[tuple[str, str], ...]
    op: Op
    bound: float | str
    percent: bool = False
    hint: str = ""


def parse_condition(text: str, examples: str) -> Condition:
    """A condition as its text says it; `examples` ends the message for a text that is none.

    Raises:
        UserError: the text is no condition, names a column twice, or has a bound that is no finite number.

    >>> parse_condition("change hans.accuracy[gold=entailment] >= -2%", "").hint
    'hans.accuracy[gold=entailment][against=before] >= -2%'
    """
    new = new_spelling(text)
    match = _CONDITION.fullmatch(new or text)
    if match is None:
        raise UserError("That is no gate.", text, f"write NAME.METRIC OP NUMBER, {examples}")
    where: dict[str, str] = {}
    for inside in re.findall(r"\[([^\[\]]*)\]", match["where"]):
        column, sign, value = (part.strip() for part in inside.partition("="))
        if not (column and sign and value):
            raise UserError("A gate's slice is [COLUMN=VALUE].", f"{text}: [{inside}]", examples)
        if column in where:
            raise UserError("A gate names a column twice.", f"{text}: {column}", "name each column once")
        where[column] = value
    percent = match["percent"] is not None
    bound: float | str = match["word"] or 0.0
    if match["number"] is not None:
        bound = number_of(match["number"], percent)
        if not math.isfinite(bound):
            raise UserError("A gate's bound is too large a number.", text, examples)
    op: Op = match["op"]  # type: ignore[assignment]
    return Condition(text.strip(), match["name"], tuple(where.items()), op, bound, percent, new)


def number_of(text: str, percent: bool) -> float:
    """A bound as a number; infinite where it is too large for one."""
    try:
        return float(Decimal(text) / (100 if percent else 1))
    except ArithmeticError:
        return math.inf


def new_spelling(text: str) -> str:
    """A condition in an older spelling as it is written now; empty where it is written so.

    >>> new_spelling("biased - human on spot >= -2%")
    'spot[arm=biased][against=human] >= -2%'
    >>> new_spelling("spot >= 0")
    ''
    """
    contrast = _CONTRAST.fullmatch(text)
    if contrast is not None:
        arm, against = (" ".join(contrast[side].split()) for side in ("arm", AGAINST))
        return f"{contrast['probe']}[arm={arm}][{AGAINST}={against}] {contrast['rest'].strip()}"
    change = _CHANGE.fullmatch(text)
    return f"{change['target'].strip()}[{AGAINST}={BEFORE}] {change['rest'].strip()}" if change else ""


@dataclass(frozen=True)
class GateOutcome:
    """How a condition came out, and why, whoever asked it. `estimate` is the number that it looked at (None: no one number;
    `says_estimate`: whether it is told); `details` is what else is told of the condition; `hint` how it is written now."""

    gate: str
    outcome: Outcome
    why: str
    estimate: Mapping[str, Any] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    says_estimate: bool = True
    hint: str = ""

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        values: dict[str, Any] = {"gate": self.gate, **self.details, "outcome": self.outcome, "why": self.why}
        if self.says_estimate:
            values["estimate"] = None if self.estimate is None else dict(self.estimate)
        return values

    @property
    def part(self) -> str | None:
        """The part of a loop that was asked; None elsewhere."""
        return self.details.get("part")

    @property
    def hint_line(self) -> str:
        """One line on the new spelling; empty where the condition is written so."""
        return f"'{self.gate}' is now written '{self.hint}'" if self.hint else ""


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
