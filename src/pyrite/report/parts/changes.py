"""Two subjects on the same items: the changes, and the items that changed sides. Of probes and of repairs."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyrite.report import names
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Lines, Rows, Section, Table, Verdict
from pyrite.report.parts import shared
from pyrite.report.parts.shared import TONES, Column
from pyrite.runs import Run, read_results
from pyrite.runs.probe import ProbeRecord
from pyrite.runs.repair import RepairRecord
from pyrite.runs.schema import Comparison, Contrast, Flip, Scorecard, ScoredRecord, SliceScore

TEXTS = "texts.parquet"
GOLD = "gold"
"""The subject of the right labels."""
WAYS = ("lost", "gained", "changed")
"""The order in which flips stand."""

Shares = Mapping[tuple[str, str], bool]
"""(task, metric) -> whether its value is a share."""


ScoredRun = Run[ProbeRecord] | Run[RepairRecord]


def metric_shares(record: ScoredRecord) -> dict[tuple[str, str], bool]:
    """Which metrics are shares."""
    return {
        (task, metric.name): metric.scale == "share" for task, metrics in record.metrics.items() for metric in metrics
    }


def change_verdicts(compared: Sequence[Comparison], shares: Shares) -> list[Verdict]:
    """A verdict for each metric of which one way is better, overall."""
    return [
        change_verdict(comparison, line, shares)
        for comparison in compared
        for line in comparison.contrasts
        if line.primary and line.verdict is not None
    ]


def change_verdict(comparison: Comparison, line: Contrast, shares: Shares) -> Verdict:
    """The verdict on one metric, in a sentence."""
    verdict = shared.supported_verdict(line.verdict, line.difference)
    share = shares.get((comparison.task, line.metric), False)
    label = shared.verdict_words(verdict)
    text = (
        f"{comparison.second} against {comparison.first} on {comparison.task} ({metric_and_slice(line)}): {label} "
        f"({shared.in_words(line.difference, share, signed=True)}; {line.difference.n:,} items)."
    )
    return Verdict(label, text, TONES.get(verdict, "plain"))


def change_tables(compared: Iterable[Comparison], shares: Shares, *, primary: bool, caption: str = "") -> list[Block]:
    """Both values, the paired change with its interval, the verdict: overall, or by slice (exploratory)."""
    compared = list(compared)
    rows = [
        change_row(comparison, line, shares)
        for comparison in compared
        for line in comparison.contrasts
        if is_shown(line, primary)
    ]
    columns = ["task", "metric", "slice", *side_names(compared), "change [95 % interval]", "items", "verdict"]
    note = "Changes are paired: second minus first, over the items that both answered; of shares in points."
    if not rows:
        return []
    if primary:
        if all(row[2] == "overall" for row in rows):
            rows, columns = [[*row[:2], *row[3:]] for row in rows], [*columns[:2], *columns[3:]]
        note += " p-values are adjusted (Holm) over the lines of a task."
    else:
        note += " Slices are exploratory."
    return [Table(columns, rows, caption, note)]


def side_names(compared: Sequence[Comparison]) -> tuple[str, str]:
    """What the two models are called, where they are the same throughout."""
    pairs = {(comparison.first, comparison.second) for comparison in compared}
    return pairs.pop() if len(pairs) == 1 else ("first", "second")


def is_shown(line: Contrast, primary: bool) -> bool:
    """Overall lines, or slices; templates stay in the run folder."""
    return line.primary == primary and "template" not in line.by


def change_row(comparison: Comparison, line: Contrast, shares: Shares) -> list[Cell | str]:
    """One metric, overall or of a slice."""
    share = shares.get((comparison.task, line.metric), False)
    return [
        comparison.task,
        line.metric,
        slice_name(line),
        *(Cell(shared.format_number(value, share), sort=value) for value in (line.first, line.second)),
        shared.estimate_cell(line.difference, share, signed=True),
        shared.count(line.difference.n),
        shared.verdict_cell(shared.supported_verdict(line.verdict, line.difference)),
    ]


def slice_name(line: Contrast) -> str:
    """Which items a line is about."""
    return "overall" if line.by == "overall" else f"{line.by}: {line.name}"


def metric_and_slice(line: Contrast) -> str:
    """A line's metric, and its slice where it is about one."""
    return line.metric if line.by == "overall" else f"{line.metric}, {line.name}"


def change_sentences(compared: Iterable[Comparison]) -> list[Block]:
    """What each overall line says, in full."""
    lines = [line for comparison in compared for line in comparison.contrasts if line.primary and line.verdict]
    return shared.verdict_sentences(lines)


def flip_section(run: ScoredRun, config: ReportConfig, anchor: str) -> list[Section]:
    """How many items changed sides, and (text of the data) which, with what was asked and answered."""
    compared = run.record.compared
    has_flips = any(comparison.flips for comparison in compared)
    if not has_flips and not (compared and any(metric_shares(run.record).values())):
        return []  # nothing was compared, or no share was measured: there are no sides to change
    counts: list[tuple[Cell | str, ...]] = [
        (comparison.task, metric, *(shared.count(ways[way]) for way in WAYS))
        for comparison in compared
        for metric, ways in flips_by_way(comparison).items()
    ]
    if not counts:
        return [Section(f"{anchor}-flips", "Items that changed sides", [Lines(["No item changed sides."])])]
    caption = "Lost: right under the first, wrong under the second; gained: the other way round"
    blocks: list[Block] = [Table(("task", "metric", *WAYS), counts, caption)]
    return [Section(f"{anchor}-flips", "Items that changed sides", blocks + flip_rows(run, config, anchor))]


def flips_by_way(comparison: Comparison) -> dict[str, Counter[str]]:
    """By metric: how many items went which way."""
    ways: dict[str, Counter[str]] = {}
    for flip in comparison.flips:
        ways.setdefault(flip.metric, Counter())[flip.way] += 1
    return ways


def flip_rows(run: ScoredRun, config: ReportConfig, anchor: str) -> list[Block]:
    """The items, the first of them, with their texts where the run folder has them."""
    compared = run.record.compared
    flips = [(comparison, flip) for comparison in compared for flip in comparison.flips]
    if config.no_rows or not flips:
        return []
    first = flips[: config.rows]
    display_names = names.display_names(run.record.subjects())
    models = side_names([names.displayed_comparison(comparison, display_names) for comparison in compared])
    texts = item_texts(run, {flip.item for _, flip in first})
    rows: list[Sequence[str]] = [
        flip_row(comparison, flip, texts.get((comparison.task, flip.item), {})) for comparison, flip in first
    ]
    columns: Sequence[str] = ("item", "task", "metric", "way", "slices", "asked", *models, "right label")
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    caption = f"The first {len(rows):,} of {len(flips):,}" if len(rows) < len(flips) else "All items that changed sides"
    where_all = f"; the run's JSON file tells all of them, results/{TEXTS} their texts"
    caption += where_all if texts else ". The texts are not in the run folder: the scores stand in their place"
    return [Rows(f"{anchor}-flipped", columns, rows, len(flips), caption, ("task", "metric", "way"))]


def flip_row(comparison: Comparison, flip: Flip, texts: Mapping[str | None, str]) -> tuple[str, ...]:
    """One item that changed sides: its slices, what was asked, both answers, the right label."""
    slices = ", ".join(f"{name} {value}" for name, value in flip.slices.items() if name != "template")
    first = texts.get(comparison.first, str(flip.first))
    second = texts.get(comparison.second, str(flip.second))
    prompt, gold = texts.get(None, ""), texts.get(GOLD, "")
    return (flip.item, comparison.task, flip.metric, flip.way, slices, prompt, first, second, gold)


def item_texts(run: ScoredRun, items: set[str]) -> dict[tuple[str, str], dict[str | None, str]]:
    """(task, item) -> what was asked (None), the right label, and what each model answered."""
    file = run.result(TEXTS)
    if not file.is_file():
        return {}
    texts: dict[tuple[str, str], dict[str | None, str]] = {}
    columns = ("task", "item", "subject", "text")
    for row in read_results(file, columns, where=[("item", "in", sorted(items))]):
        texts.setdefault((row["task"], row["item"]), {})[row["subject"]] = row["text"]
    return texts


def scorecard_tables(cards: Sequence[Scorecard], shares: Shares, *, overall: bool) -> list[Block]:
    """Every model's values with their intervals: the metrics overall, or by slice; models below each other."""
    groups: dict[tuple[str, ...], list[list[Cell | str]]] = {}
    for card in cards:
        for line in card.lines():
            if "template" in line.by or overall != (line.by == "overall"):
                continue
            gold = f", gold {line.gold}" if line.gold and line.by != "gold" else ""
            head = (card.task, line.metric, *([] if overall else [f"{line.by}: {line.name}{gold}"]))
            value = score_cells(line, shares.get((card.task, line.metric), False))
            groups.setdefault(head, []).append([*head, card.about, *value])
    columns = ["task", "metric", "slice", "subject", "value [95 % interval]", "items", "missing", "interval by"]
    columns = [name for name in columns if not (overall and name == "slice")]
    rows = [row for group in groups.values() for row in group]
    return [Table(columns, rows)] if rows else []


def score_cells(line: SliceScore, share: bool) -> list[Cell | str]:
    """A value with its interval, its items, and which interval it is."""
    return [shared.estimate_cell(line, share), shared.count(line.n), shared.count(line.n_missing), line.method]


def scorecard_notes(cards: Sequence[Scorecard]) -> list[str]:
    """What a reader must know of the scorecards, each thing once."""
    notes: dict[str, Any] = {}
    for card in cards:
        for note in card.notes:
            notes.setdefault(f"{card.task}: {note}", None)
        for name, noise in (card.judge_noise or {}).items():
            value = math.nan if noise.value is None else noise.value
            notes[f"{card.task}: the judge's own noise in {name} is {value:.3g} ({noise.method})"] = None
        if card.unmatched:
            notes[f"{card.task}: {card.unmatched} answers are for items that the task does not have"] = None
    return list(notes)


def scorecards_column(run: ScoredRun) -> Column:
    """Every metric overall; of two models, each in a line of its own."""
    shares, cards = metric_shares(run.record), run.record.scorecards
    models = list(dict.fromkeys(card.about for card in cards))
    column = {}
    for card in cards:
        place = card.about if run.verb == "repair" else f"model {models.index(card.about) + 1}"
        for line in card.lines():
            if line.by == "overall":
                name = f"{card.task}.{line.metric}{f', {place}' if len(models) > 1 else ''}"
                column[name] = shared.estimate_cell(line, shares.get((card.task, line.metric), False))
    return column


def changes_column(run: ScoredRun) -> Column:
    """Every metric's change, overall."""
    shares = metric_shares(run.record)
    return {
        f"{comparison.task}.{metric_and_slice(line)}": shared.change_cell(
            line.verdict, line.difference, shares.get((comparison.task, line.metric), False)
        )
        for comparison in run.record.compared
        for line in comparison.contrasts
        if line.primary
    }
