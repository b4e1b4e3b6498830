"""What every part of a report needs: numbers with their doubt as text, facts, and the sections that all runs have."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyrite.names import redact_path
from pyrite.report.page import Block, Cell, Facts, Lines, Section, Table, Tone, Verdict

Told = Mapping[str, Any]
TONES: dict[str | None, Tone] = {
    "worse": "bad", "better": "good", "equivalent": "good", "cannot tell yet": "unsure", "not testable": "unsure",
}  # fmt: skip
SHORT = {"equivalent": "equivalent within the margin", "not testable": "not testable here"}
GATES: dict[str, Tone] = {"passed": "good", "failed": "bad", "undecided": "unsure"}
WORST: tuple[Tone, ...] = ("bad", "unsure", "good", "plain")


@dataclass(frozen=True)
class Part:
    """One run's share of a page. `ran`: what was run, apart from `software`, which runs of a loop have in common;
    `again`: how to make it again; `unsaid`: what cannot be concluded."""

    title: str
    verdicts: Sequence[Verdict]
    sections: Sequence[Section]
    ran: Sequence[Block]
    software: Sequence[tuple[str, str]]
    again: Sequence[Block]
    unsaid: Sequence[str]
    settings: Sequence[Block] = field(default_factory=tuple)
    """Long lists of settings, shown closed."""


def whole(part: Part, anchor: str) -> list[Section]:
    """A run's sections, then those that every run has."""
    ran = [*part.ran, *facts(part.software, "Software and hardware")]
    return [
        *part.sections,
        ran_section(ran, part.settings, anchor),
        Section(f"{anchor}-again", "How to reproduce", part.again),
        Section(f"{anchor}-unsaid", "What cannot be concluded", [Lines(part.unsaid, "list")]),
    ]


def ran_section(ran: Sequence[Block], settings: Sequence[Block], anchor: str) -> Section:
    """What was run; the long list of settings is closed."""
    below = [Section(f"{anchor}-settings", "All settings", settings, folded=True)] if settings else []
    return Section(f"{anchor}-ran", "What was run", ran, below)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that a reader must not miss, of several: the first of the worst tone."""
    return min(verdicts, key=lambda one: WORST.index(one.tone))


def headline(part: Part, name: str) -> Verdict:
    """One verdict for a whole part: its worst, and how many more there are."""
    if not part.verdicts:
        return Verdict("no verdict", f"{name}: this run says nothing by itself.", "plain")
    one = worst(part.verdicts)
    more = len(part.verdicts) - 1
    further = f" {more} more verdict{'s stand' if more > 1 else ' stands'} in its section." if more else ""
    return Verdict(one.label, f"{name}: {one.sentence}{further}", one.tone)


def said(verdicts: Sequence[Verdict]) -> list[Block]:
    """Verdicts as a table, for runs whose verdicts do not all stand on top of the page."""
    rows = [(Cell(verdict.label, verdict.tone), verdict.sentence) for verdict in verdicts]
    return [Table(("verdict", "it says"), rows)] if rows else []


def number(value: float | None, share: bool, *, signed: bool = False) -> str:
    """A share in percent, a difference of shares in points, anything else with four figures.

    >>> number(0.573, True), number(-0.02, True, signed=True), number(2.5, False, signed=True), number(None, True)
    ('57.3 %', '-2.0 points', '+2.5', 'no value')
    """
    if value is None or not math.isfinite(value):
        return "no value"
    sign = "+" if signed else ""
    if share:
        return f"{value * 100:{sign}.1f} {'points' if signed else '%'}"
    return f"{value:{sign}.4g}"


def between(low: float | None, high: float | None, share: bool, *, signed: bool = False) -> str:
    """An interval's bounds without their unit; nothing where there is none.

    >>> between(0.4, 0.75, True), between(-0.03, 0.05, True, signed=True), between(None, None, True)
    ('40.0 to 75.0', '-3.0 to +5.0', '')
    """
    if low is None or high is None:
        return ""
    sign = "+" if signed else ""
    ends = (f"{one * 100:{sign}.1f}" if share else f"{one:{sign}.4g}" for one in (low, high))
    return " to ".join(ends)


def estimate(one: Told, share: bool, *, signed: bool = False, why: str = "") -> str:
    """A value with its interval in brackets, or with the reason why there is none.

    >>> estimate({"value": 0.5, "low": 0.4, "high": 0.6}, True)
    '50.0 % [40.0 to 60.0]'
    >>> estimate({"value": 0.5, "low": None, "high": None, "method": "one seed"}, True)
    '50.0 % (no interval: one seed)'
    """
    reason = why_none(one, why)
    if one["value"] is None or not math.isfinite(one["value"]):
        return "no value" + (f" ({reason})" if reason else "")
    shown = number(one["value"], share, signed=signed)
    inside = between(one["low"], one["high"], share, signed=signed)
    if inside:
        return f"{shown} [{inside}]"
    return f"{shown} (no interval{': ' + reason if reason else ''})"


def why_none(one: Told, otherwise: str = "") -> str:
    """Why an estimate has no interval."""
    return (one.get("method") or otherwise).removesuffix(": no interval")


def in_words(one: Told, share: bool, *, signed: bool = False) -> str:
    """The same for a sentence.

    >>> in_words({"value": -0.05, "low": -0.08, "high": -0.02}, True, signed=True)
    '-5.0 points, 95 % interval -8.0 to -2.0'
    """
    inside = between(one["low"], one["high"], share, signed=signed)
    told = number(one["value"], share, signed=signed)
    return f"{told}, 95 % interval {inside}" if inside else f"{told}, no interval: {why_none(one, 'unknown why')}"


def cell(one: Told, share: bool, *, signed: bool = False, why: str = "") -> Cell:
    """An estimate as a cell that sorts by its value; the column says that a difference of shares is in points."""
    return Cell(estimate(one, share, signed=signed, why=why).replace(" points", ""), sort=one["value"])


def count(value: int | float | None) -> Cell:
    """A number of things."""
    return Cell("not counted" if value is None else f"{value:,}", sort=value)


CLAIMS = ("worse", "better", "equivalent")
"""Verdicts that rest on an interval."""


def judged(verdict: str | None, difference: Told) -> str | None:
    """The verdict, as far as its numbers are there to bear it: without an interval nobody can tell.

    >>> judged("better", {"value": None, "low": None, "high": None}), judged("better", {"value": 1, "low": 0.5, "high": 2})
    ('cannot tell yet', 'better')
    """
    return "cannot tell yet" if verdict in CLAIMS and not is_known(difference) else verdict


def is_known(one: Told) -> bool:
    """Has an estimate a value and an interval?"""
    return all(one[name] is not None and math.isfinite(one[name]) for name in ("value", "low", "high"))


def sentences(contrasts: Sequence[Told]) -> list[Block]:
    """What primary contrasts say, in full, as far as their numbers bear it."""
    lines = [
        contrast["sentence"]
        for contrast in contrasts
        if judged(contrast["verdict"], contrast["difference"]) == contrast["verdict"]
    ]
    return [Lines(lines, "list")] if lines else []


def words(verdict: str | None) -> str:
    """A verdict as it is said."""
    return "neither way is better" if verdict is None else SHORT.get(verdict, verdict)


def of_verdict(verdict: str | None) -> Cell:
    """A verdict in a cell."""
    return Cell(words(verdict), TONES.get(verdict, "plain"))


def p_value(p: float | None) -> Cell:
    """A p-value in a cell."""
    return Cell("none" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}", sort=p)


def facts(items: Sequence[tuple[str, str]], caption: str = "") -> list[Block]:
    """Names and values, if there are any."""
    return [Facts(items, caption)] if items else []


def software(told: Told) -> list[tuple[str, str]]:
    """Versions and hardware."""
    hardware = told.get("compute") or {}
    named = {"device": hardware.get("device"), "precision": hardware.get("precision"), **(told.get("made_with") or {})}
    return [(name, str(value)) for name, value in named.items() if value is not None]


def files(told: Sequence[Told]) -> list[Block]:
    """The files that were read, with what identifies their content."""
    rows = [
        (str(one.get("side", "")), redact_path(one.get("file") or one.get("name")), str(one["hash"])) for one in told
    ]
    if not rows:
        return []
    if not any(side for side, *_ in rows):
        return [Table(("file", "hash or commit"), [row[1:] for row in rows], "Files that were read")]
    return [Table(("side", "file", "hash or commit"), rows, "Files that were read")]


def counts(told: Mapping[str, Told]) -> list[Block]:
    """Rows read = kept + dropped by reason, for every source."""
    rows = [
        (name, count(one["read"]), count(one["kept"]), reasons(one["dropped"]), reasons(one.get("kept_by_label") or {}))
        for name, one in told.items()
    ]
    names = ("source", "rows read", "kept", "dropped, by reason", "kept, by label")
    if not any(row[-1] != "none" for row in rows):
        return [Table(names[:-1], [row[:-1] for row in rows], "Rows: read = kept + dropped")] if rows else []
    return [Table(names, rows, "Rows: read = kept + dropped")]


def reasons(told: Mapping[str, int]) -> str:
    """'11 too long, 2 empty', or none."""
    return ", ".join(f"{many:,} {why}" for why, many in told.items()) or "none"


def command(text: str | None) -> list[Block]:
    """The command that makes a run again."""
    if not text:
        return [Lines(["The run folder does not tell the command that made it."])]
    return [Lines(["In a folder with the files named above:"]), Lines([text], "code")]


def settings(told: Told, caption: str = "") -> list[Block]:
    """Settings of any depth, one line each; those that were not given are left out."""
    return facts(list(flat(told)), caption)


def flat(told: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested plain values as (dotted name, text)."""
    if isinstance(told, Mapping):
        return [line for key, value in told.items() for line in flat(value, f"{name}.{key}" if name else str(key))]
    if told is None or told in ([], ()):
        return []
    if isinstance(told, list) and any(isinstance(one, Mapping) for one in told):
        return [line for at, one in enumerate(told, 1) for line in flat(one, f"{name} {at}")]
    return [(name, ", ".join(map(redact_path, told)) if isinstance(told, list | tuple) else redact_path(told))]


def gates(told: Sequence[Told], anchor: str) -> list[Section]:
    """The conditions that were asked, and how they came out."""
    if not told:
        return []
    parts = any(one.get("part") for one in told)
    rows = [
        [Cell(one["outcome"], GATES.get(one["outcome"], "plain")), *([str(one.get("part", ""))] * parts), one["gate"], one["why"]]
        for one in told
    ]  # fmt: skip
    table = Table(("outcome", *(["part"] * parts), "condition", "why"), rows)
    return [Section(f"{anchor}-gates", "Gates", [table])]
