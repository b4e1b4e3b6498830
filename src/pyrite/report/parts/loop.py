"""A loop on the page: one verdict for each part, then the parts in their order, and once what they have in common."""

from collections.abc import Sequence

from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Facts, Lines, Section, Verdict
from pyrite.report.parts import part_of, shared
from pyrite.report.parts.shared import Part
from pyrite.report.parts.study import as_yaml
from pyrite.runs import Run
from pyrite.runs.loop import LoopRecord

ANSWERS = ("repair", "study", "audit")
"""Which part of a loop answers what it was run for, first found."""


def loop_page(
    run: Run[LoopRecord], config: ReportConfig, anchor: str = "loop"
) -> tuple[str, list[Verdict], list[Section]]:
    """Title, verdicts and sections of a loop."""
    record, runs = run.record, run.parts
    anchors = {name: f"{anchor}-part{at}" for at, name in enumerate(runs, 1)}
    parts = {name: part_of(part, config, anchors[name]) for name, part in runs.items()}
    verdicts = [shared.headline(parts[name], worded(name)) for name in answer_first(list(parts))]
    if record.state != "finished":
        left = ", ".join(record.not_run) or "its report"
        sentence = f"This loop is still running, or was cut off or stopped; not run: {left}."
        verdicts.insert(0, Verdict("not finished", sentence, "unsure"))
    sections = [
        *shared.gate_section(record.gates, anchor),
        *(part_section(name, part, anchors[name]) for name, part in parts.items()),
        *common_sections(record, parts, anchor),
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


def part_section(name: str, part: Part, anchor: str) -> Section:
    """One part: all its verdicts, its sections, what was run."""
    ran = shared.ran_section(part.ran, part.settings, anchor)
    again = Section(f"{anchor}-again", "This part alone", part.again, folded=True)
    title = f"{worded(name)}: {part.title}" if "-" in name else part.title
    verdicts = [] if len(part.verdicts) < 2 else shared.verdict_table(part.verdicts)
    return Section(anchor, title, verdicts, [*part.sections, ran, again])


def common_sections(record: LoopRecord, parts: dict[str, Part], anchor: str) -> list[Section]:
    """What all parts have in common, stated once."""
    items = [("question", record.says)] if record.says else []
    items += [("parts", ", ".join(parts) or "none")]
    items += [("not run", ", ".join(record.not_run))] if record.not_run else []
    software = dict(entry for part in parts.values() for entry in part.software) | dict(shared.software(record))
    versions = shared.facts(list(software.items()), "Software and hardware")
    ran: list[Block] = [Facts(items), *shared.input_files(record.files), *versions]
    notes = dict.fromkeys(map(shared.note_sentence, record.notes))
    return [
        shared.ran_section(ran, shared.settings_facts(record.settings), anchor),
        Section(f"{anchor}-again", "How to reproduce", loop_again(record)),
        Section(f"{anchor}-unsaid", "What cannot be concluded", loop_unsaid(list(notes), parts)),
    ]


def loop_again(record: LoopRecord) -> list[Block]:
    """The command, and the loop file as it was run."""
    as_run: list[Block] = [Lines(["The loop file:"]), Lines([as_yaml(record.settings)], "code")]
    return [*shared.command_lines(record.command), *as_run]


def loop_unsaid(notes: Sequence[str], parts: dict[str, Part]) -> list[Block]:
    """What cannot be concluded: of the loop, then of each part, each thing once."""
    blocks: list[Block] = [Lines(notes, "list")] if notes else []
    noted = set(notes)
    for name, part in parts.items():
        lines = [line for line in part.unsaid if line not in noted]
        noted.update(lines)
        blocks += [Lines([f"Of the part {name}:"]), Lines(lines, "list")] if lines else []
    return blocks
