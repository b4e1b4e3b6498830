"""A probe on the page: scorecards with their intervals, slices, the comparison of two models, items that changed sides."""

from pyrite.report import names
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Facts, Lines, Section, Table, Verdict
from pyrite.report.parts import changes, shared
from pyrite.report.parts.shared import Part, ReportKind
from pyrite.runs import Run
from pyrite.runs.probe import ProbeRecord
from pyrite.runs.schema import Scorecard

UNSAID = (
    "The intervals speak of these very models on items like these. Models trained again with another seed can differ by "
    "more: that is what a study is for (pyrite study).",
    "What was not asked was not measured: other languages and tasks, facts, safety.",
)

AT_ONCE = 24
"""Lines of a table of slices that stand open."""


def probe_part(run: Run[ProbeRecord], config: ReportConfig, anchor: str) -> Part:
    """A probe's share of the page."""
    record = names.displayed_probe(run.record)
    shares, cards, compared = changes.metric_shares(record), record.scorecards, record.compared
    slice_tables = changes.scorecard_tables(cards, shares, overall=False)
    many = any(isinstance(block, Table) and len(block.rows) > AT_ONCE for block in slice_tables)
    by_slice = [Section(f"{anchor}-slices", "By slice", slice_tables, folded=many)] if slice_tables else []
    notes = changes.scorecard_notes(cards)
    overall = changes.scorecard_tables(cards, shares, overall=True)
    blocks: list[Block] = [*overall, *([Lines(notes, "list")] if notes else [])]
    sections = [Section(f"{anchor}-scorecards", "Scorecards", blocks, by_slice)]
    if compared:
        exploratory = changes.change_tables(compared, shares, primary=False)
        slices = [Section(f"{anchor}-change-slices", "By slice", exploratory, folded=True)] if exploratory else []
        primary = [*changes.change_tables(compared, shares, primary=True), *changes.change_sentences(compared)]
        title = f"{record.models[-1]} against {record.models[0]}"
        sections.append(Section(f"{anchor}-change", title, primary, slices))
    return Part(
        title=f"Probe of {' against '.join(record.models)}",
        verdicts=changes.change_verdicts(compared, shares) or [card_verdict(card, shares) for card in cards],
        sections=[*sections, *changes.flip_section(run, config, anchor), *shared.gate_section(record.gates, anchor)],
        ran=probe_facts(record),
        software=shared.software(record),
        again=shared.command_lines(record.command),
        unsaid=list(UNSAID),
        settings=shared.settings_facts(record.settings.as_json()),
    )


def card_verdict(card: Scorecard, shares: changes.Shares) -> Verdict:
    """The score of a model on one task, in a sentence."""
    share = shares.get((card.task, card.metric), False)
    overall = card.overall
    text = f"{card.about} on {card.task}: {card.metric} {shared.in_words(overall, share)}; {overall.n:,} items"
    text += f", {overall.n_missing:,} more without an answer." if overall.n_missing else "."
    return Verdict(shared.format_number(overall.value, share), text, "plain")


def probe_facts(record: ProbeRecord) -> list[Block]:
    """Which models were asked what."""
    sources = {card.task: card.source for card in record.scorecards}
    items = [("asked", ", ".join(record.models)), *((f"task {task}", source) for task, source in sources.items())]
    margin = "unknown" if record.margin is None else f"{record.margin:g}, in units of the metric"
    items += [("seed", str(record.settings.seed)), ("margin", margin)]
    meanings = [
        (f"{task}.{metric.name}", metric.says)
        for task, metrics in record.metrics.items()
        for metric in metrics
        if metric.says
    ]
    return [Facts(items), *shared.facts(meanings, "What the metrics are")]


KIND = ReportKind(
    probe_part, {"Scorecards": changes.scorecards_column, "Changes: second minus first": changes.changes_column}
)
