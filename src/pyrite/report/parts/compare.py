"""Two or more runs side by side: what each says of the same thing, and that the difference was not tested."""

from collections.abc import Callable, Mapping, Sequence

from pyrite.audit.show import NAMED, number
from pyrite.names import unlike
from pyrite.report.config import ReportConfig
from pyrite.report.objects import is_cells, stored
from pyrite.report.page import Block, Cell, Facts, Lines, Section, Side, Table, Verdict
from pyrite.report.parts import audit, changes, loop, shared, study
from pyrite.report.parts.shared import Part, Told
from pyrite.report.parts.verbs import part_of
from pyrite.runs import Run

NOT_TESTED = (
    "Differences between the runs were NOT tested: each interval speaks of its own run, and two that overlap, or do not, "
    "decide nothing. What two runs say of the same thing stands in one line; nothing in a cell: the run does not have it."
)
Column = dict[str, Cell]
"""What a run has to say, by the line that it stands in."""


def page(runs: Sequence[Run], config: ReportConfig) -> tuple[str, list[Verdict], list[Section]]:
    """Title, verdicts and sections of several runs."""
    names = unlike([run.name for run in runs])
    anchors = [f"run{at}" for at in range(1, len(runs) + 1)]
    verdicts: list[Verdict] = []
    parts: list[tuple[str, list[Verdict], list[Section]]] = []
    for run, name, anchor in zip(runs, names, anchors, strict=True):
        if run.verb == "loop":
            title, said, sections = loop.page(run, config, anchor)
        else:
            part = part_of(run, config, anchor)
            title, said, sections = part.title, list(part.verdicts), shared.whole(part, anchor)
        verdicts.append(shared.headline(Part(title, said, (), (), (), (), ()), name))
        parts.append((title, said, sections))
    whole = [
        Section(anchor, f"{name}: {title}", [] if len(said) < 2 else shared.said(said), sections)
        for anchor, name, (title, said, sections) in zip(anchors, names, parts, strict=True)
    ]
    kinds = {(run.verb, is_cells(run)) for run in runs}
    blocks = together(runs, names) if len(kinds) == 1 and runs[0].verb != "loop" else beside(runs, names, parts)
    return " and ".join(names), verdicts, [Section("compare", "Side by side", blocks), *whole]


def together(runs: Sequence[Run], names: Sequence[str]) -> list[Block]:
    """Runs of one verb: a line for each thing that they say, a column for each run."""
    made: list[Block] = [Lines([NOT_TESTED])]
    for caption, column in COLUMNS["cells" if is_cells(runs[0]) else runs[0].verb].items():
        columns = [column(run) for run in runs]
        lines = list(dict.fromkeys(line for one in columns for line in one))
        rows: list[list[Cell | str]] = [[line, *(column.get(line, Cell("")) for column in columns)] for line in lines]
        if rows:
            made.append(Table(("what", *names), rows, caption))
    return made


def beside(
    runs: Sequence[Run], names: Sequence[str], parts: Sequence[tuple[str, list[Verdict], list[Section]]]
) -> list[Block]:
    """Runs of several verbs: what each says, next to each other."""
    columns: list[list[Block]] = [
        [Facts([("run of", f"pyrite {run.verb}"), ("about", title)]), *shared.said(said)]
        for run, (title, said, _) in zip(runs, parts, strict=True)
    ]
    return [Lines(["The runs are of several verbs: they are set side by side, not compared."]), Side(names, columns)]


def of_audit(run: Run) -> Column:
    """Every measure: its mark, value and excess."""
    made = {}
    for one in run.told["findings"]:
        mark, excess, unit = NAMED.get(one["severity"], ("fine",))[0], one["excess"] or {"value": None}, one["unit"]
        told = "none" if excess["value"] is None else audit.over(excess["value"], unit)
        if excess.get("low") is not None:
            told += f" [{' to '.join(audit.over(excess[end], unit).partition(' ')[0] for end in ('low', 'high'))}]"
        tone = audit.TONES[one["severity"]] if one["severity"] in NAMED else "plain"
        made[f"{one['flaw']}.{one['measure']}"] = Cell(f"{mark}: {number(one['value'], unit)}; excess {told}", tone)
    return made


def of_contrasts(run: Run) -> Column:
    """Every primary contrast of a study of labels."""
    return {
        name_of(one["contrast"]): judged(
            one["verdict"], study.cut(one["difference"], one["contrast"]["probe"] == "gap"), True
        )
        for one in run.told["primary"]
    }


def contrasts_of_cells(run: Run) -> Column:
    """Every primary contrast of a study of a language model."""
    scales = {f"{row['probe']}.{row['metric']}": row["scale"] == "share" for row in stored(run, "summary.parquet")}
    return {
        name_of(one["contrast"]): judged(one["verdict"], one["difference"], scales.get(one["contrast"]["probe"], False))
        for one in run.told["primary"]
    }


def name_of(contrast: Told) -> str:
    """A contrast in words."""
    return f"{contrast.get('arm') or contrast.get('cell')} against {contrast['against']} on {contrast['probe']}"


def judged(verdict: str | None, difference: Told, share: bool) -> Cell:
    """A verdict with its difference."""
    one = shared.of_verdict(shared.judged(verdict, difference))
    return Cell(f"{one.text}: {shared.estimate(difference, share, signed=True)}", one.tone)


def of_cells(run: Run) -> Column:
    """Accuracy of every cell of a grid, on each probe's headline slice."""
    from pyrite.study.tables import headline_rows

    made = {}
    for row in headline_rows(stored(run, "summary.parquet"), run.told["spec"]):
        size = f", {row['size']:,} rows" if row["size"] else ""
        at = f"{row['probe']}: {row['start']}, {row['arm']}{size}"
        made[at] = shared.cell(study.of(row, "mean"), True, why=study.few(row))
    return made


def metrics_of_cells(run: Run) -> Column:
    """Every cell and metric of a study of cells that are not a grid."""
    from pyrite.study.tables import shown_rows

    return {
        f"{row['probe']}.{row['metric']}: {row['cell']}": shared.cell(
            {"value": row["mean"], "low": row["low"], "high": row["high"]}, row["scale"] == "share", why=study.few(row)
        )
        for row in shown_rows(stored(run, "summary.parquet"), run.told["spec"])
    }


def of_scorecards(run: Run) -> Column:
    """Every metric overall; of two subjects, each in a line of its own."""
    known = changes.shares(run.told)
    several = len({card["about"] for card in run.told["scorecards"]}) > 1
    made = {}
    for card in run.told["scorecards"]:
        overall = [{"metric": card["metric"], **card["overall"]}]
        for one in overall + [line for line in card["slices"] if line["by"] == "overall"]:
            at = f"{card['task']}.{one['metric']}{f', {subject(run, card)}' if several else ''}"
            made[at] = shared.cell(one, known.get((card["task"], one["metric"]), False))
    return made


def subject(run: Run, card: Told) -> str:
    """Which of several subjects: its place, as names differ from run to run."""
    names = list(dict.fromkeys(scorecard["about"] for scorecard in run.told["scorecards"]))
    return card["about"] if run.verb == "repair" else f"model {names.index(card['about']) + 1}"


def of_changes(run: Run) -> Column:
    """Every metric's change, overall."""
    known = changes.shares(run.told)
    return {
        f"{one['task']}.{changes.of_slice(line)}": judged(
            line["verdict"], line["difference"], known.get((one["task"], line["metric"]), False)
        )
        for one in run.told["compared"]
        for line in one["contrasts"]
        if line["primary"]
    }


COLUMNS: Mapping[str, Mapping[str, Callable[[Run], Column]]] = {
    "audit": {"Measures: mark, value, excess over chance or over what human sources differ by": of_audit},
    "study": {"Primary contrasts": of_contrasts, "Accuracy of every cell, mean over seeds": of_cells},
    "cells": {"Primary contrasts": contrasts_of_cells, "Every cell, mean over seeds": metrics_of_cells},
    "probe": {"Scorecards": of_scorecards, "Changes: second minus first": of_changes},
    "repair": {"Changes: repaired minus before": of_changes, "Scorecards": of_scorecards},
}
"""What runs of one verb are compared by: a caption for each table, and what a run has to say in it."""
