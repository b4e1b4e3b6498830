"""What every part of a report needs: numbers with their doubt as text, facts, and the sections that all runs have."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyrite.redact import redact_path
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Facts, Lines, Section, Table, Tone, Verdict
from pyrite.runs import Run
from pyrite.runs.schema import Contrast, GateOutcome, Hardware, InputFile, Interval, Plain, RowCounts, RunRecord
from pyrite.runs.study import ContrastNames, PrimaryContrast

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


Column = Mapping[str, Cell]
"""What a run has to say beside others of its kind, by the line that it stands in."""


@dataclass(frozen=True)
class ReportKind:
    """How runs of one kind are reported.

    `part` words one run: the run, the report's options and the beginning of its anchors -> its part of the page.
    `columns` are what several runs are compared by: the caption of a table, and what a run has to say in it.
    """

    part: Callable[[Run[Any], ReportConfig, str], Part]
    columns: Mapping[str, Callable[[Run[Any]], Column]] = field(default_factory=dict)


def all_sections(part: Part, anchor: str) -> list[Section]:
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


def worst_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that a reader must not miss, of several: the first of the worst tone."""
    return min(verdicts, key=lambda verdict: WORST.index(verdict.tone))


def headline(part: Part, name: str) -> Verdict:
    """One verdict for a whole part: its worst, and how many more there are."""
    if not part.verdicts:
        return Verdict("no verdict", f"{name}: this run says nothing by itself.", "plain")
    worst = worst_verdict(part.verdicts)
    more = len(part.verdicts) - 1
    further = f" {more} more verdict{'s stand' if more > 1 else ' stands'} in its section." if more else ""
    return Verdict(worst.label, f"{name}: {worst.sentence}{further}", worst.tone)


def verdict_table(verdicts: Sequence[Verdict]) -> list[Block]:
    """Verdicts as a table, for runs whose verdicts do not all stand on top of the page."""
    rows = [(Cell(verdict.label, verdict.tone), verdict.sentence) for verdict in verdicts]
    return [Table(("verdict", "it says"), rows)] if rows else []


def format_number(value: float | None, share: bool, *, signed: bool = False) -> str:
    """A share in percent, a difference of shares in points, anything else with four figures.

    >>> format_number(0.573, True), format_number(-0.02, True, signed=True)
    ('57.3 %', '-2.0 points')
    >>> format_number(2.5, False, signed=True), format_number(None, True)
    ('+2.5', 'no value')
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
    ends = (f"{end * 100:{sign}.1f}" if share else f"{end:{sign}.4g}" for end in (low, high))
    return " to ".join(ends)


def format_estimate(interval: Interval, share: bool, *, signed: bool = False, why: str = "") -> str:
    """A value with its interval in brackets, or with the reason why there is none.

    >>> format_estimate(Interval(value=0.5, low=0.4, high=0.6), True)
    '50.0 % [40.0 to 60.0]'
    >>> format_estimate(Interval(value=0.5, low=None, high=None, method="one seed"), True)
    '50.0 % (no interval: one seed)'
    """
    reason = why_no_interval(interval, why)
    if interval.value is None or not math.isfinite(interval.value):
        return "no value" + (f" ({reason})" if reason else "")
    value = format_number(interval.value, share, signed=signed)
    ends = between(interval.low, interval.high, share, signed=signed)
    if ends:
        return f"{value} [{ends}]"
    return f"{value} (no interval{': ' + reason if reason else ''})"


def why_no_interval(interval: Interval, otherwise: str = "") -> str:
    """Why an estimate has no interval."""
    return (interval.method or otherwise).removesuffix(": no interval")


def in_words(interval: Interval, share: bool, *, signed: bool = False) -> str:
    """The same for a sentence.

    >>> in_words(Interval(value=-0.05, low=-0.08, high=-0.02), True, signed=True)
    '-5.0 points, 95 % interval -8.0 to -2.0'
    """
    ends = between(interval.low, interval.high, share, signed=signed)
    value = format_number(interval.value, share, signed=signed)
    reason = why_no_interval(interval, "unknown why")
    return f"{value}, 95 % interval {ends}" if ends else f"{value}, no interval: {reason}"


def estimate_cell(interval: Interval, share: bool, *, signed: bool = False, why: str = "") -> Cell:
    """An estimate as a cell that sorts by its value; the column says that a difference of shares is in points."""
    text = format_estimate(interval, share, signed=signed, why=why)
    return Cell(text.replace(" points", ""), sort=interval.value)


def count(value: int | float | None) -> Cell:
    """A number of things."""
    return Cell("not counted" if value is None else f"{value:,}", sort=value)


CLAIMS = ("worse", "better", "equivalent")
"""Verdicts that rest on an interval."""


def supported_verdict(verdict: str | None, difference: Interval) -> str | None:
    """The verdict, as far as its numbers are there to bear it: without an interval nobody can tell.

    >>> supported_verdict("better", Interval(value=None, low=None, high=None))
    'cannot tell yet'
    >>> supported_verdict("better", Interval(value=1, low=0.5, high=2))
    'better'
    """
    return "cannot tell yet" if verdict in CLAIMS and not difference.is_known else verdict


def verdict_sentences(contrasts: Sequence[Contrast | PrimaryContrast]) -> list[Block]:
    """What primary contrasts say, in full, as far as their numbers bear it."""
    lines = [
        contrast.sentence
        for contrast in contrasts
        if supported_verdict(contrast.verdict, contrast.difference) == contrast.verdict
    ]
    return [Lines(lines, "list")] if lines else []


def verdict_words(verdict: str | None) -> str:
    """A verdict as it is said."""
    return "no preferred direction" if verdict is None else SHORT.get(verdict, verdict)


def verdict_cell(verdict: str | None) -> Cell:
    """A verdict in a cell."""
    return Cell(verdict_words(verdict), TONES.get(verdict, "plain"))


def change_cell(verdict: str | None, difference: Interval, share: bool) -> Cell:
    """A verdict with its difference."""
    cell = verdict_cell(supported_verdict(verdict, difference))
    return Cell(f"{cell.text}: {format_estimate(difference, share, signed=True)}", cell.tone)


def contrast_name(contrast: ContrastNames) -> str:
    """A primary contrast in words."""
    return f"{contrast.name} against {contrast.against} on {contrast.probe}"


def p_value_cell(p: float | None) -> Cell:
    """A p-value in a cell."""
    return Cell("none" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}", sort=p)


def facts(items: Sequence[tuple[str, str]], caption: str = "") -> list[Block]:
    """Names and values, if there are any."""
    return [Facts(items, caption)] if items else []


def software(record: RunRecord) -> list[tuple[str, str]]:
    """Versions and hardware."""
    hardware = record.compute or Hardware()
    versions = {"device": hardware.device, "precision": hardware.precision, **(record.made_with or {})}
    return [(name, str(value)) for name, value in versions.items() if value is not None]


def input_files(files: Sequence[InputFile]) -> list[Block]:
    """The files that were read, with what identifies their content."""
    rows = [(file.side or "", redact_path(file.path), file.hash or "") for file in files]
    if not rows:
        return []
    if not any(side for side, *_ in rows):
        return [Table(("file", "hash or commit"), [row[1:] for row in rows], "Files that were read")]
    return [Table(("side", "file", "hash or commit"), rows, "Files that were read")]


def row_counts(sources: Mapping[str, RowCounts]) -> list[Block]:
    """Rows read = kept + dropped by reason, for every source."""
    rows = [
        (name, count(rows.read), count(rows.kept), reasons(rows.dropped), reasons(rows.kept_by_label or {}))
        for name, rows in sources.items()
    ]
    names = ("source", "rows read", "kept", "dropped, by reason", "kept, by label")
    if not any(row[-1] != "none" for row in rows):
        return [Table(names[:-1], [row[:-1] for row in rows], "Rows: read = kept + dropped")] if rows else []
    return [Table(names, rows, "Rows: read = kept + dropped")]


def reasons(counts: Mapping[str, int]) -> str:
    """'11 too long, 2 empty', or none."""
    return ", ".join(f"{rows:,} {reason}" for reason, rows in counts.items()) or "none"


def command_lines(text: str | None) -> list[Block]:
    """The command that makes a run again."""
    if not text:
        return [Lines(["The run folder does not tell the command that made it."])]
    return [Lines(["In a folder with the files named above:"]), Lines([text], "code")]


def settings_facts(settings: Plain, caption: str = "") -> list[Block]:
    """Settings of any depth, one line each; those that were not given are left out."""
    return facts(list(flat(settings)), caption)


def flat(values: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested plain values as (dotted name, text)."""
    if isinstance(values, Mapping):
        return [line for key, value in values.items() for line in flat(value, f"{name}.{key}" if name else str(key))]
    if values is None or values in ([], ()):
        return []
    if isinstance(values, list) and any(isinstance(value, Mapping) for value in values):
        return [line for at, value in enumerate(values, 1) for line in flat(value, f"{name} {at}")]
    return [(name, ", ".join(map(redact_path, values)) if isinstance(values, list | tuple) else redact_path(values))]


def gate_section(gates: Sequence[GateOutcome], anchor: str) -> list[Section]:
    """The conditions that were asked, and how they came out."""
    if not gates:
        return []
    has_parts = any(gate.part for gate in gates)
    rows: list[list[Cell | str]] = [
        [Cell(gate.outcome, GATES.get(gate.outcome, "plain")), *([gate.part or ""] * has_parts), gate.gate, gate.why]
        for gate in gates
    ]
    table = Table(("outcome", *(["part"] * has_parts), "condition", "why"), rows)
    return [Section(f"{anchor}-gates", "Gates", [table])]


def note_sentence(note: str) -> str:
    """A note with a capital and a full stop.

    >>> note_sentence("one seed"), note_sentence("Two.")
    ('One seed.', 'Two.')
    """
    return f"{note[:1].upper()}{note[1:]}{'' if note.endswith('.') else '.'}"
