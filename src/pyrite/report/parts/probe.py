"""A probe on the page: scorecards with their intervals, slices, the comparison of two models, items that changed sides."""

from pyrite.report import names
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Facts, Lines, Section, Table, Verdict
from pyrite.report.parts import changes, shared
from pyrite.report.parts.shared import Part, Told
from pyrite.runs import Run

UNSAID = (
    "The intervals speak of these very models on items like these. Models trained again with another seed can differ by "
    "more: that is what a study is for (pyrite study).",
    "What was not asked was not measured: other languages and tasks, facts, safety.",
)

AT_ONCE = 24
"""Lines of a table of slices that stand open."""


def part(run: Run, config: ReportConfig, anchor: str) -> Part:
    """A probe's share of the page."""
    told = names.of_probe(run).told
    known, cards, compared = changes.shares(told), told["scorecards"], told["compared"]
    below = changes.scorecards(cards, known, overall=False)
    many = any(isinstance(one, Table) and len(one.rows) > AT_ONCE for one in below)
    by_slice = [Section(f"{anchor}-slices", "By slice", below, folded=many)] if below else []
    notes = changes.remarks(cards)
    blocks: list[Block] = [*changes.scorecards(cards, known, overall=True), *([Lines(notes, "list")] if notes else [])]
    sections = [Section(f"{anchor}-scorecards", "Scorecards", blocks, by_slice)]
    if compared:
        exploratory = changes.table(compared, known, primary=False)
        slices = [Section(f"{anchor}-change-slices", "By slice", exploratory, folded=True)] if exploratory else []
        both = [*changes.table(compared, known, primary=True), *changes.sentences(compared)]
        sections.append(
            Section(
                f"{anchor}-change",
                f"{told['models'][-1]} against {told['models'][0]}",
                both,
                slices,
            )
        )
    return Part(
        title=f"Probe of {' against '.join(told['models'])}",
        verdicts=changes.verdicts(compared, known) or [verdict(card, known) for card in cards],
        sections=[*sections, *changes.flips(run, config, anchor), *shared.gates(told["gates"], anchor)],
        ran=ran(told),
        software=shared.software(told),
        again=shared.command(told.get("command")),
        unsaid=list(UNSAID),
        settings=shared.settings(told["settings"]),
    )


def verdict(card: Told, known: changes.Shares) -> Verdict:
    """How good is a subject on one task?"""
    share = known.get((card["task"], card["metric"]), False)
    one = card["overall"]
    text = f"{card['about']} on {card['task']}: {card['metric']} {shared.in_words(one, share)}; {one['n']:,} items"
    text += f", {one['n_missing']:,} more without an answer." if one["n_missing"] else "."
    return Verdict(shared.number(one["value"], share), text, "plain")


def ran(told: Told) -> list[Block]:
    """Who was asked what."""
    settings = told["settings"]
    asked = {card["task"]: card["source"] for card in told["scorecards"]}
    items = [
        ("asked", ", ".join(told["models"])),
        *((f"task {task}", source) for task, source in asked.items()),
    ]
    items += [("seed", str(settings.get("seed"))), ("margin", f"{told['margin']:g}, in units of the metric")]
    says = [
        (f"{task}.{one['name']}", one["says"]) for task, some in told["metrics"].items() for one in some if one["says"]
    ]
    return [Facts(items), *shared.facts(says, "What the metrics are")]
