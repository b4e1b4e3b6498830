"""A repair on the page: what changed, whether it lasts, how the training went, what it cost, which rows were used."""

from collections.abc import Sequence
from dataclasses import replace

from pyrite.repair.card import formula, limits_of, selection, steps
from pyrite.repair.frontier import with_interval
from pyrite.repair.rows import FORGET, REPLAY
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Facts, Lines, Section, Table, Tone, Verdict
from pyrite.report.parts import changes, shared
from pyrite.report.parts.shared import Part, ReportKind
from pyrite.runs import Run
from pyrite.runs.repair import RepairCost, RepairRecord, ShareOfItems
from pyrite.runs.schema import Comparison, Contrast, Frontier, FrontierPoint
from pyrite.runs.schema import Share as FrontierShare

MOST = 0.5
"""Of what was lost, the share that must come back for certain to be called most of it."""
HELD_OUT = ("replay", "forget")
"""Rows held out of the repair's own files: what was asked beside them is the question, and comes first."""


def repair_part(run: Run[RepairRecord], config: ReportConfig, anchor: str) -> Part:
    """A repair's share of the page."""
    record = run.record
    is_mixed = record.mixed is not None
    shares, compared = changes.metric_shares(record), record.compared
    exploratory = changes.change_tables(compared, shares, primary=False)
    slices = [Section(f"{anchor}-slices", "By slice", exploratory, folded=True)] if exploratory else []
    cards = Section(
        f"{anchor}-cards",
        "All scorecards",
        changes.scorecard_tables(record.scorecards, shares, overall=True),
        folded=True,
    )
    primary = [*changes.change_tables(compared, shares, primary=True), *changes.change_sentences(compared)]
    cost = Section(f"{anchor}-cost", "What it cost", [Facts(cost_facts(record.cost))])
    sections = [
        *frontier_section(record.frontier, anchor),
        *([Section(f"{anchor}-change", "What the repair changed", primary, [*slices, cards])] if compared else []),
        *three_models_section(record, shares, anchor),
        *proof_section(record, shares, anchor),
        *shared.gate_section(record.gates, anchor),
        *([] if is_mixed else [*curve_section(record, anchor), cost]),
        *changes.flip_section(run, config, anchor),
        *([Section(f"{anchor}-rows", "Rows used and dropped", row_table(record))] if record.files else []),
    ]
    unlearns = not is_mixed and not is_forget_gain(record)
    return Part(
        title=f"Repair of {record.model}",
        verdicts=[*frontier_verdict(record.frontier), *repair_verdicts(compared, shares, unlearns=unlearns)],
        sections=sections,
        ran=repair_facts(record),
        software=shared.software(record),
        again=shared.command_lines(record.command),
        unsaid=[*map(shared.note_sentence, record.notes), *limits_of(record)],
        settings=shared.settings_facts(record.settings.as_json()),
    )


def is_forget_gain(record: RepairRecord) -> bool:
    """Whether the rows to forget stand for what was gained, so that their becoming less likely is no success."""
    return ((record.frontier and record.frontier.gained) or "").startswith("forget.")


def frontier_verdict(frontier: Frontier | None) -> list[Verdict]:
    """What the chosen repair brings back and keeps, where there is a frontier."""
    point = next((point for point in frontier.points if point.chosen), None) if frontier else None
    if frontier is None or point is None or point.recovered is None:
        return []
    sentence = next(text for text in frontier.sentences if text.startswith(f"{point.name} "))
    label, tone = restoring(point, point.recovered, frontier.keep)
    return [Verdict(label, sentence, tone)]


def restoring(point: FrontierPoint, recovered: FrontierShare, keep: float) -> tuple[str, Tone]:
    """What a repair brings back and keeps, as a verdict and its tone."""
    if recovered.value is None or recovered.low is None or recovered.high is None:
        return "what comes back is not testable", "unsure"
    if recovered.high < 0:
        return "loses more", "bad"
    if recovered.low <= 0:
        return "not shown to bring anything back", "unsure"
    is_most = recovered.low >= MOST
    label = "brings back most of what was lost" if is_most else "brings back some of what was lost"
    if point.kept is None or point.kept.low is None or point.kept.high is None:
        return label, "unsure"
    if point.kept.high < keep:
        return f"{label}, at the gain's cost", "bad"
    if point.kept.low >= keep:
        return f"{label} and keeps the gain", "good" if is_most else "unsure"
    return label, "unsure"


def frontier_section(frontier: Frontier | None, anchor: str) -> list[Section]:
    """Every repair's place between the harmed model and the one before."""
    from pyrite.repair.figure import frontier_alt, frontier_chart
    from pyrite.report.draw import SCREEN, page_figure

    if not frontier:
        return []
    axes = [(word, name) for word, name in (("recovered", frontier.lost), ("kept", frontier.gained)) if name]
    rows: list[list[Cell | str]] = [
        [
            point.name,
            point.method,
            *(share_cell({"recovered": point.recovered, "kept": point.kept}[word]) for word, _ in axes),
            "yes" if point.chosen else "",
        ]
        for point in frontier.points
    ]
    columns = ("repair", "method", *(f"{word} of {name}" for word, name in axes), "taken")
    note = (
        "Shares of what was lost (brought back) and of what was gained (kept), with Fieller's 95 % interval over "
        f"{frontier.over}."
    )
    blocks: list[Block] = [Table(columns, rows, note=note)]
    values = frontier.as_json()
    drawn = frontier_chart(values, SCREEN)
    if drawn is not None:
        blocks.insert(0, page_figure(drawn, f"{anchor}-frontier", frontier_alt(values), titled=False))
    choice = [selection(frontier.selection)] if frontier.selection else []
    lines = Lines([*choice, *frontier.sentences])
    return [Section(f"{anchor}-front", "What comes back, and what is kept", [*blocks, lines])]


def share_cell(share: FrontierShare | None) -> Cell:
    """A share with its interval, or why it is not testable."""
    if share is None or share.value is None:
        return Cell("not testable", sort=-1e9)
    return Cell(with_interval(share.as_json()), sort=share.value)


def three_models_section(record: RepairRecord, shares: changes.Shares, anchor: str) -> list[Section]:
    """What the harm changed, how the repaired model stands to the one before, and what became of the items."""
    if not record.harm:
        return []
    against = record.against_original or []
    blocks = [*changes.change_tables(record.harm, shares, primary=True, caption="The harm")]
    blocks += changes.change_tables(against, shares, primary=True, caption="Repaired against before")
    rows: list[list[Cell | str]] = [
        [
            outcome.task,
            outcome.metric,
            shared.count(outcome.items),
            shared.count(outcome.missing),
            *(items_cell(share) for share in (outcome.healed, outcome.newly_broken, outcome.kept_gain)),
        ]
        for outcome in record.outcomes or ()
    ]
    note = (
        "Healed: of the items that the harm broke, those that are right now. Newly broken: of those that the harmed model got "
        "right, those that are wrong now. Kept gain: of those that the harm brought, those that are right now. The items are in outcomes.csv."
    )
    columns = ("task", "metric", "items", "without three answers", "healed", "newly broken", "kept gain")
    if rows:
        blocks.append(Table(columns, rows, "Item by item", note))
    return [Section(f"{anchor}-three", "Three models", blocks)]


def items_cell(share: ShareOfItems) -> Cell:
    """A share of items with its interval and their number."""
    if share.value is None:
        return Cell(share.method, sort=-1.0)
    return Cell(f"{with_interval(share.as_json())} of {share.n:,}", sort=share.value)


def repair_verdicts(compared: Sequence[Comparison], shares: changes.Shares, *, unlearns: bool = True) -> list[Verdict]:
    """What changed; whichever of them is read alone says what became of the rows to forget, too (of a repair that trains).

    What got better while nothing was shown to be unlearned is no good news: it is marked as unsure.
    """
    verdicts = changes.change_verdicts(sorted(compared, key=lambda task: task.task in HELD_OUT), shares)
    if not unlearns:
        return verdicts
    forgetting = forget_verdict(compared)
    if forgetting.tone != "good":
        verdicts = [
            replace(verdict, label=f"{verdict.label}, {forgetting.label}", tone="unsure")
            if verdict.tone == "good"
            else verdict
            for verdict in verdicts
        ]
    if not verdicts:
        return [forgetting]
    read_alone = {0, verdicts.index(shared.worst_verdict(verdicts))}
    return [
        replace(verdict, sentence=f"{verdict.sentence} {forgetting.sentence}") if at in read_alone else verdict
        for at, verdict in enumerate(verdicts)
    ]


def forget_verdict(compared: Sequence[Comparison]) -> Verdict:
    """Whether held-out rows to forget became less likely: the worst of what their negative log-likelihoods say."""
    lines = [line for comparison in compared if comparison.task == "forget" for line in comparison.contrasts]
    lines = [line for line in lines if line.primary and line.metric.startswith("nats_per")]
    if not lines:
        nothing = "Whether held-out rows to forget became less likely was not measured."
        return Verdict("unlearning not measured", nothing, "unsure")
    return shared.worst_verdict([forget_verdict_of(line) for line in lines])


def forget_verdict_of(line: Contrast) -> Verdict:
    """The same by one metric; a rise says that the rows became less likely."""
    change = line.difference
    amount = f"({line.metric} {shared.in_words(change, False, signed=True)})"
    if change.is_known and (change.low or 0.0) > 0:
        return Verdict("unlearned", f"Held-out rows to forget became less likely {amount}.", "good")
    if change.is_known and (change.high or 0.0) < 0:
        more = f"Held-out rows to forget became more likely, not less {amount}: nothing was unlearned."
        return Verdict("nothing unlearned", more, "bad")
    unknown = f"It cannot be told whether held-out rows to forget became less likely {amount}."
    return Verdict("unlearning not shown", unknown, "unsure")


def proof_section(record: RepairRecord, shares: changes.Shares, anchor: str) -> list[Section]:
    """Whether the repair lasts: each proof against the repaired model, and against the one before."""
    blocks: list[Block] = []
    before = "harmed" if record.harm is not None else "before"
    for proof in record.proofs:
        for compared, name in ((proof.against_repaired, "repaired"), (proof.against_before, before)):
            caption = f"{proof.proof} against {name}"
            blocks += changes.change_tables(compared, shares, primary=True, caption=caption)
    return [Section(f"{anchor}-proofs", "Does it last?", blocks)] if blocks else []


def curve_section(record: RepairRecord, anchor: str) -> list[Section]:
    """The learning curves, and what the guard saw."""
    from pyrite.repair.figure import alt_text, chart
    from pyrite.report.draw import SCREEN, page_figure

    values = record.as_json()
    drawn = chart(values, SCREEN)
    blocks: list[Block] = [Lines([f"{steps(record.training)}."])]
    if drawn is not None:
        blocks.append(page_figure(drawn, anchor, alt_text(values), titled=False))
    if stopped := record.training.stopped:
        blocks.append(Lines([f"The guard stopped it at step {stopped.step}: {stopped.why}."]))
    return [Section(f"{anchor}-curves", "How the training went", blocks)]


def cost_facts(cost: RepairCost) -> list[tuple[str, str]]:
    """Tokens, operations, seconds, memory, and as a share of the training that it undoes."""
    tokens, undoes = cost.tokens, cost.undoes
    roles = {"forget": tokens.forget, "replay": tokens.replay, "preferred": tokens.preferred}
    by_role = ", ".join(f"{count:,} {role}" for role, count in roles.items() if count)
    facts = [
        ("tokens processed", f"{tokens.processed:,} ({by_role or 'none'}); the guard read {tokens.guard:,} more"),
        ("floating-point operations", f"{cost.flops:.3g} (counted)"),
        ("time", f"{cost.seconds:,.1f} s"),
        ("memory at the peak", f"{cost.peak_bytes / 2**30:.2f} GiB"),
    ]
    if not undoes:
        return [*facts, ("share of what it undoes", "unknown: the training that it undoes was not named (--undoes)")]
    flops = "unknown" if undoes.share_of_flops is None else f"{undoes.share_of_flops:.1%}"
    share = f"{undoes.share_of_tokens:.1%} of its {undoes.tokens:,} tokens, {flops} of its operations"
    return [*facts, ("share of what it undoes", share)]


def row_table(record: RepairRecord) -> list[Block]:
    """What became of the rows of both sides, and how far they overlap."""
    lines: list[list[Cell | str]] = []
    for name, side, pools in (("forget", record.rows.forget, FORGET), ("replay", record.rows.replay, REPLAY)):
        if side is not None:
            in_pools = (shared.count(side.pools.get(pool, 0)) for pool in pools)
            lines.append([name, shared.count(side.read), *in_pools, shared.reasons(side.dropped)])
    overlap = record.rows.overlap
    note = (
        f"Of {overlap.rows:,} forget rows {overlap.shared:,} are also replay rows (by normalised text; left out there: "
        f"{overlap.left_out:,}), {overlap.shared_prompts:,} share only their prompt with one."
    )
    trained = "not for the scorecard" if record.mixed else "trained on"
    columns = ("side", "rows read", trained, "for the guard", "for the scorecard", "dropped, by reason")
    return [Table(columns, lines, note=note)]


def repair_facts(record: RepairRecord) -> list[Block]:
    """Model, method, weights, seed, files."""
    options = ", ".join(f"{name} {value:g}" for name, value in record.options.items())
    models = (("model before the harm", record.before), ("model of the forget rows", record.forgetter))
    if record.mixed:
        change = [("weights", formula(record).replace("`", ""))]
    else:
        loss = " + ".join(f"{value:g} · {name}" for name, value in record.weights.items())
        change = [("loss", loss), ("training", steps(record.training))]
    items = [
        ("model", f"{record.model} ({record.model_identity})"),
        *((word, f"{model.model} ({model.identity})") for word, model in models if model),
        ("method", f"{record.method}" + (f" ({options})" if options else "")),
        *change,
        ("seed", str(record.seed)),
    ]
    return [Facts(items), *shared.input_files(record.files)]


KIND = ReportKind(
    repair_part,
    {"Changes: repaired minus before": changes.changes_column, "Scorecards": changes.scorecards_column},
)
