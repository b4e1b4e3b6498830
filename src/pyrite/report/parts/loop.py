"""A loop on the page: one verdict for each part, then the parts in their order, and once what they have in common."""

from collections.abc import Sequence

from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Facts, Lines, Section, Verdict
from pyrite.report.parts import shared
from pyrite.report.parts.shared import Part, Told
from pyrite.report.parts.study import as_yaml
from pyrite.report.parts.verbs import part_of
from pyrite.runs import Run

ANSWERS = ("repair", "study", "audit")
"""Which part of a loop answers what it was run for, first found."""


def page(run: Run, config: ReportConfig, anchor: str = "loop") -> tuple[str, list[Verdict], list[Section]]:
    """Title, verdicts and sections of a loop."""
    anchors = {name: f"{anchor}-part{at}" for at, name in enumerate(run.parts, 1)}
    parts = {name: part_of(one, config, anchors[name]) for name, one in run.parts.items()}
    verdicts = [shared.headline(parts[name], worded(name)) for name in answer_first(list(parts))]
    if run.told.get("state", "finished") != "finished":
        left = ", ".join(run.told["not_run"]) or "its report"
        verdicts.insert(
            0,
            Verdict(
                "not finished", f"This loop is still running, or was cut off or stopped; not run: {left}.", "unsure"
            ),
        )
    sections = [
        *shared.gates(run.told.get("gates", ()), anchor),
        *(section(name, part, anchors[name]) for name, part in parts.items()),
        *common(run.told, parts, anchor),
    ]
    return f"Loop {run.name}", verdicts, sections


def answer_first(names: Sequence[str]) -> list[str]:
    """The parts in their order, but first the one that the others lead up to: the repair, else the study.

    >>> answer_first(["audit", "probe", "repair"]), answer_first(["study", "audit"])
    (['repair', 'audit', 'probe'], ['study', 'audit'])
    """
    answer = next((name for name in ANSWERS if name in names), None)
    return [*([answer] if answer else []), *(name for name in names if name != answer)]


def worded(name: str) -> str:
    """'audit-made' as a heading."""
    first, _, rest = name.partition("-")
    return f"{first.capitalize()} ({rest})" if rest else first.capitalize()


def section(name: str, part: Part, anchor: str) -> Section:
    """One part: all its verdicts, its sections, what was run."""
    ran = shared.ran_section(part.ran, part.settings, anchor)
    again = Section(f"{anchor}-again", "This part alone", part.again, folded=True)
    title = f"{worded(name)}: {part.title}" if "-" in name else part.title
    return Section(
        anchor, title, [] if len(part.verdicts) < 2 else shared.said(part.verdicts), [*part.sections, ran, again]
    )


def common(told: Told, parts: dict[str, Part], anchor: str) -> list[Section]:
    """What all parts have in common, said once."""
    items = [("question", told["says"])] if told.get("says") else []
    items += [("parts", ", ".join(parts) or "none")]
    items += [("not run", ", ".join(told["not_run"]))] if told.get("not_run") else []
    known = dict(software for part in parts.values() for software in part.software) | dict(shared.software(told))
    files = [{"hash": one.get("hash", ""), **one} for one in told.get("files", ())]
    ran: list[Block] = [Facts(items), *shared.files(files), *shared.facts(list(known.items()), "Software and hardware")]
    notes = dict.fromkeys(f"{note[:1].upper()}{note[1:]}." for note in told.get("notes", ()))
    return [
        shared.ran_section(ran, shared.settings(told.get("settings", {})), anchor),
        Section(f"{anchor}-again", "How to reproduce", again(told)),
        Section(f"{anchor}-unsaid", "What cannot be concluded", unsaid(list(notes), parts)),
    ]


def again(told: Told) -> list[Block]:
    """The command, and the loop file as it was run."""
    as_run: list[Block] = [Lines(["The loop file:"]), Lines([as_yaml(told.get("settings", {}))], "code")]
    return [*shared.command(told.get("command")), *as_run]


def unsaid(notes: Sequence[str], parts: dict[str, Part]) -> list[Block]:
    """What cannot be concluded: of the loop, then of each part, each thing once."""
    blocks: list[Block] = [Lines(notes, "list")] if notes else []
    seen = set(notes)
    for name, part in parts.items():
        lines = [line for line in part.unsaid if line not in seen]
        seen.update(lines)
        blocks += [Lines([f"Of the part {name}:"]), Lines(lines, "list")] if lines else []
    return blocks
