"""What flows through Pyrite: rows of data, and numbers that carry their doubt.

Every record has an `id` that is unique within its source and survives shuffling, selection and storage, so that two
arms can be compared item by item and a row can be named to the user. Records are immutable; text is never normalised
on the way in.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["higher", "lower", "none"]
"""Which way is better: higher values, lower values, or neither (a size, a share)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A premise and a hypothesis; `label` is None where the file gives none. `meta` holds the row's other columns."""

    premise: str
    hypothesis: str
    label: str | None
    id: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Any text row with a label: `fields` maps column names to text, in the order in which a model reads them."""

    fields: Mapping[str, str]
    label: str | None
    id: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `tool_calls` is the JSON list of the calls in it, as the file gave them ("" for none)."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation in order; a question with its answer is two messages."""

    messages: tuple[Message, ...]
    id: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the first answer; all of them where there is none."""
        roles = [turn.role for turn in self.messages]
        return self.messages[: roles.index("assistant")] if "assistant" in roles else self.messages


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of plain text."""

    text: str
    id: str
    meta: Mapping[str, Any] = field(default_factory=dict)


Record = Pair | Labelled | Chat | Text


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval: how large, how sure, from how many.

    `low` and `high` bound the `confidence` interval, or are both None where no interval can be given (one seed, fewer
    than ten templates); `method` says which interval it is or why there is none. `n` counts what was used and
    `n_missing` what was asked for but not there; nothing missing is ever filled in.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    n_missing: int = 0
    direction: Direction = "higher"
    confidence: float = 0.95
    method: str = ""

    def __post_init__(self) -> None:
        assert (self.low is None) == (self.high is None), self
        assert self.low is None or self.high is None or math.isnan(self.value) or self.low <= self.high, self

    def as_json(self) -> dict[str, Any]:
        """The estimate as plain values, for `--json` and run folders."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "n_missing": self.n_missing,
            "direction": self.direction,
            "confidence": self.confidence,
            "method": self.method,
        }
