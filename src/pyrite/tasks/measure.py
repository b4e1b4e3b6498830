"""One item's value of one metric: what every task comes down to, and what scorecards and comparisons are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pyrite.records import Direction

Scale = Literal["share", "real"]
"""`share`: every item is 0 or 1, or the share of several votes; `real`: any number (a judge's points, nats)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured on each item, and which way is better."""

    name: str
    scale: Scale = "share"
    direction: Direction = "higher"
    says: str = ""
    least: float | None = None
    most: float | None = None
    """What a real value can be at least and at most, where that is known (a judge's points); a share lies in 0-1."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the most that a value can be; None where it has no end."""
        if self.scale == "share":
            return 0.0, 1.0
        return None if self.least is None or self.most is None else (self.least, self.most)


@dataclass(frozen=True, slots=True)
class ItemScore:
    """An item's value of a metric. None: asked, but no answer (or the judge refused); never filled in.

    `group` names what the item shares with items that are alike (a template, the prompt of an instruction, a
    document); items of one group are not independent. `slices` are the columns that a scorecard can cut by.
    `weight` is the item's share in the mean (tokens, for a mean over tokens).
    """

    item: str
    metric: str
    value: float | None
    group: str
    slices: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
