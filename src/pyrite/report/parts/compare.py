"""Two or more runs side by side: what each says of the same thing, and that the difference was not tested."""

from collections.abc import Sequence
from typing import Any

from pyrite.redact import unlike
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Facts, Lines, Section, Side, Table, Verdict
from pyrite.report.parts import PARTS, part_of, shared
from pyrite.report.parts.loop import loop_page
from pyrite.report.parts.shared import Part
from pyrite.runs import Run

NOT_TESTED = (
    "Differences between the runs were NOT tested: each interval speaks of its own run, and two that overlap, or do not, "
    "decide nothing. What two runs say of the same thing stands in one line; nothing in a cell: the run does not have it."
)


def comparison_page(runs: Sequence[Run[Any]], config: ReportConfig) -> tuple[str, list[Verdict], list[Section]]:
    """Title, verdicts and sections of several runs."""
    names = unlike([run.name for run in runs])
    anchors = [f"run{at}" for at in range(1, len(runs) + 1)]
    verdicts: list[Verdict] = []
    parts: list[tuple[str, list[Verdict], list[Section]]] = []
    for run, name, anchor in zip(runs, names, anchors, strict=True):
        if run.verb == "loop":
            title, part_verdicts, sections = loop_page(run, config, anchor)
        else:
            part = part_of(run, config, anchor)
            title, part_verdicts, sections = part.title, list(part.verdicts), shared.all_sections(part, anchor)
        verdicts.append(shared.headline(Part(title, part_verdicts, (), (), (), (), ()), name))
        parts.append((title, part_verdicts, sections))
    each_run = [
        Section(
            anchor, f"{name}: {title}", [] if len(part_verdicts) < 2 else shared.verdict_table(part_verdicts), sections
        )
        for anchor, name, (title, part_verdicts, sections) in zip(anchors, names, parts, strict=True)
    ]
    same_kind = len({run.kind for run in runs}) == 1 and runs[0].kind in PARTS
    blocks = together(runs, names) if same_kind else beside(runs, names, parts)
    return " and ".join(names), verdicts, [Section("compare", "Side by side", blocks), *each_run]


def together(runs: Sequence[Run[Any]], names: Sequence[str]) -> list[Block]:
    """Runs of one kind: a line for each thing that they say, a column for each run."""
    blocks: list[Block] = [Lines([NOT_TESTED])]
    for caption, column_of in PARTS[runs[0].kind].columns.items():
        columns = [column_of(run) for run in runs]
        lines = list(dict.fromkeys(line for column in columns for line in column))
        rows: list[list[Cell | str]] = [[line, *(column.get(line, Cell("")) for column in columns)] for line in lines]
        if rows:
            blocks.append(Table(("what", *names), rows, caption))
    return blocks


def beside(
    runs: Sequence[Run[Any]], names: Sequence[str], parts: Sequence[tuple[str, list[Verdict], list[Section]]]
) -> list[Block]:
    """Runs of several kinds: what each says, next to each other."""
    columns: list[list[Block]] = [
        [Facts([("run of", f"pyrite {run.verb}"), ("about", title)]), *shared.verdict_table(verdicts)]
        for run, (title, verdicts, _) in zip(runs, parts, strict=True)
    ]
    return [Lines(["The runs are of several verbs: they are set side by side, not compared."]), Side(names, columns)]
