"""A repair on the page: what changed, whether it lasts, how the training went, what it cost, which rows were used."""

from collections.abc import Sequence
from dataclasses import replace

from pyrite.repair.card import formula, selection, steps
from pyrite.repair.card import limits_of as unsaid_of
from pyrite.repair.frontier import with_interval
from pyrite.repair.rows import FORGET, REPLAY
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Facts, Lines, Section, Table, Verdict
from pyrite.report.parts import changes, shared
from pyrite.report.parts.shared import Part, Told
from pyrite.runs import Run

NAMED = (("before", "model before the harm"), ("forgetter", "model of the forget rows"))
OUTCOMES = ("healed", "newly_broken", "kept_gain")
MOST = 0.5
"""Of what was lost, the share that must come back for certain to be called most of it."""
HELD_OUT = ("replay", "forget")
"""Rows held out of the repair's own files: what was asked beside them is the question, and comes first."""


def part(run: Run, config: ReportConfig, anchor: str) -> Part:
    """A repair's share of the page."""
    told = run.told
    mixed = told.get("mixed")
    known, compared = changes.shares(told), told["compared"]
    exploratory = changes.table(compared, known, primary=False)
    slices = [Section(f"{anchor}-slices", "By slice", exploratory, folded=True)] if exploratory else []
    cards = Section(
        f"{anchor}-cards", "All scorecards", changes.scorecards(told["scorecards"], known, overall=True), folded=True
    )
    both = [*changes.table(compared, known, primary=True), *changes.sentences(compared)]
    sections = [
        *frontier(told, anchor),
        *([Section(f"{anchor}-change", "What the repair changed", both, [*slices, cards])] if compared else []),
        *three_models(told, known, anchor),
        *proofs(told, known, anchor),
        *shared.gates(told["gates"], anchor),
        *([] if mixed else curves(told, anchor)),
        *([] if mixed else [Section(f"{anchor}-cost", "What it cost", [Facts(cost(told["cost"]))])]),
        *changes.flips(run, config, anchor),
        *([Section(f"{anchor}-rows", "Rows used and dropped", rows(told))] if told["files"] else []),
    ]
    unsaid = unsaid_of(told)
    return Part(
        title=f"Repair of {told['model']}",
        verdicts=[*restored(told), *verdicts(compared, known, unlearns=not mixed and not forget_is_gain(told))],
        sections=sections,
        ran=ran(told),
        software=shared.software(told),
        again=shared.command(told.get("command")),
        unsaid=[*(f"{note[:1].upper()}{note[1:]}." for note in told["notes"]), *unsaid],
        settings=shared.settings(told["settings"]),
    )


def forget_is_gain(told: Told) -> bool:
    """Do the rows to forget stand for what was gained, so that their becoming less likely is no success?"""
    return ((told.get("frontier") or {}).get("gained") or "").startswith("forget.")


def restored(told: Told) -> list[Verdict]:
    """What the repair that was taken brings back and keeps, where there is a frontier."""
    frontier = told.get("frontier")
    point = next((one for one in (frontier or {}).get("points", ()) if one["chosen"]), None)
    if frontier is None or point is None or point["recovered"] is None:
        return []
    sentence = next(text for text in frontier["sentences"] if text.startswith(f"{point['name']} "))
    recovered, kept = point["recovered"], point["kept"]
    if recovered["value"] is None or recovered["low"] is None:
        return [Verdict("what comes back is not testable", sentence, "unsure")]
    if recovered["high"] < 0:
        return [Verdict("loses more", sentence, "bad")]
    if recovered["low"] <= 0:
        return [Verdict("not shown to bring anything back", sentence, "unsure")]
    most = recovered["low"] >= MOST
    word = "brings back most of what was lost" if most else "brings back some of what was lost"
    if kept is None or kept["low"] is None:
        return [Verdict(word, sentence, "unsure")]
    if kept["high"] < frontier["keep"]:
        return [Verdict(f"{word}, at the gain's cost", sentence, "bad")]
    if kept["low"] >= frontier["keep"]:
        return [Verdict(f"{word} and keeps the gain", sentence, "good" if most else "unsure")]
    return [Verdict(word, sentence, "unsure")]


def frontier(told: Told, anchor: str) -> list[Section]:
    """Every repair's place between the harmed model and the one before."""
    from pyrite.repair.figure import frontier_alt, frontier_chart
    from pyrite.report.draw import SCREEN, figure

    found = told.get("frontier")
    if not found:
        return []
    sides = [(word, found[side]) for word, side in (("recovered", "lost"), ("kept", "gained")) if found[side]]
    rows: list[list[Cell | str]] = [
        [point["name"], point["method"], *(portion(point[word]) for word, _ in sides), "yes" if point["chosen"] else ""]
        for point in found["points"]
    ]
    columns = ("repair", "method", *(f"{word} of {name}" for word, name in sides), "taken")
    note = f"Shares of what was lost (brought back) and of what was gained (kept), with Fieller's 95 % interval over {found.get('over', 'items')}."
    blocks: list[Block] = [Table(columns, rows, note=note)]
    drawn = frontier_chart(found, SCREEN)
    if drawn is not None:
        blocks.insert(0, figure(drawn, f"{anchor}-frontier", frontier_alt(found), titled=False))
    said = [selection(found["selection"])] if found["selection"] else []
    return [
        Section(f"{anchor}-front", "What comes back, and what is kept", [*blocks, Lines([*said, *found["sentences"]])])
    ]


def portion(share: Told) -> Cell:
    """A share with its interval, or why it is not testable."""
    if share["value"] is None:
        return Cell("not testable", sort=-1e9)
    return Cell(with_interval(share), sort=share["value"])


def three_models(told: Told, known: changes.Shares, anchor: str) -> list[Section]:
    """What the harm changed, how the repaired model stands to the one before, and what became of the items."""
    if not told.get("harm"):
        return []
    blocks = [*changes.table(told["harm"], known, primary=True, caption="The harm")]
    blocks += changes.table(told["against_original"], known, primary=True, caption="Repaired against before")
    rows: list[list[Cell | str]] = [
        [
            one["task"],
            one["metric"],
            shared.count(one["items"]),
            shared.count(one["missing"]),
            *(of(one[name]) for name in OUTCOMES),
        ]
        for one in told["outcomes"]
    ]
    note = (
        "Healed: of the items that the harm broke, those that are right now. Newly broken: of those that the harmed model got "
        "right, those that are wrong now. Kept gain: of those that the harm brought, those that are right now. The items are in outcomes.csv."
    )
    columns = ("task", "metric", "items", "without three answers", *(name.replace("_", " ") for name in OUTCOMES))
    if rows:
        blocks.append(Table(columns, rows, "Item by item", note))
    return [Section(f"{anchor}-three", "Three models", blocks)]


def of(share: Told) -> Cell:
    """A share of items with its interval and their number."""
    if share["value"] is None:
        return Cell(share["method"], sort=-1.0)
    return Cell(f"{with_interval(share)} of {share['n']:,}", sort=share["value"])


def verdicts(compared: Sequence[Told], known: changes.Shares, *, unlearns: bool = True) -> list[Verdict]:
    """What changed; whichever of them is read alone says what became of the rows to forget, too (of a repair that trains).

    What got better while nothing was shown to be unlearned is no good news: it is marked as unsure.
    """
    made = changes.verdicts(sorted(compared, key=lambda one: one["task"] in HELD_OUT), known)
    if not unlearns:
        return made
    said = forgetting(compared)
    if said.tone != "good":
        made = [
            replace(one, label=f"{one.label}, {said.label}", tone="unsure") if one.tone == "good" else one
            for one in made
        ]
    if not made:
        return [said]
    alone = {0, made.index(shared.worst(made))}
    return [
        replace(one, sentence=f"{one.sentence} {said.sentence}") if at in alone else one for at, one in enumerate(made)
    ]


def forgetting(compared: Sequence[Told]) -> Verdict:
    """Did held-out rows of the forget set become less likely? The worst of what their negative log-likelihoods say."""
    lines = [line for one in compared if one["task"] == "forget" for line in one["contrasts"]]
    lines = [line for line in lines if line["primary"] and line["metric"].startswith("nats_per")]
    if not lines:
        nothing = "Whether held-out rows to forget became less likely was not measured."
        return Verdict("unlearning not measured", nothing, "unsure")
    return shared.worst([one_forgetting(line) for line in lines])


def one_forgetting(line: Told) -> Verdict:
    """The same by one metric; a rise says that the rows became less likely."""
    change = line["difference"]
    known = shared.is_known(change)
    told = f"({line['metric']} {shared.in_words(change, False, signed=True)})"
    if known and change["low"] > 0:
        return Verdict("unlearned", f"Held-out rows to forget became less likely {told}.", "good")
    if known and change["high"] < 0:
        more = f"Held-out rows to forget became more likely, not less {told}: nothing was unlearned."
        return Verdict("nothing unlearned", more, "bad")
    unknown = f"It cannot be told whether held-out rows to forget became less likely {told}."
    return Verdict("unlearning not shown", unknown, "unsure")


def proofs(told: Told, known: changes.Shares, anchor: str) -> list[Section]:
    """Does the repair last? Each proof against the repaired model, and against the one before."""
    blocks: list[Block] = []
    for one in told["proofs"]:
        name = one["proof"]
        blocks += changes.table(one["against_repaired"], known, primary=True, caption=f"{name} against repaired")
        given = "harmed" if told.get("harm") is not None else "before"
        blocks += changes.table(one["against_before"], known, primary=True, caption=f"{name} against {given}")
    return [Section(f"{anchor}-proofs", "Does it last?", blocks)] if blocks else []


def curves(told: Told, anchor: str) -> list[Section]:
    """The learning curves, and what the guard saw."""
    from pyrite.repair.figure import alt_text, chart
    from pyrite.report.draw import SCREEN, figure

    drawn = chart(told, SCREEN)
    blocks: list[Block] = [Lines([f"{steps(told['training'])}."])]
    if drawn is not None:
        blocks.append(figure(drawn, anchor, alt_text(told), titled=False))
    stopped = told["training"]["stopped"]
    if stopped:
        blocks.append(Lines([f"The guard stopped it at step {stopped['step']}: {stopped['why']}."]))
    return [Section(f"{anchor}-curves", "How the training went", blocks)]


def cost(spent: Told) -> list[tuple[str, str]]:
    """Tokens, operations, seconds, memory, and as a share of the training that it undoes."""
    tokens, undoes = spent["tokens"], spent["undoes"]
    by_role = ", ".join(f"{tokens[role]:,} {role}" for role in ("forget", "replay", "preferred") if tokens.get(role))
    told = [
        ("tokens processed", f"{tokens['processed']:,} ({by_role or 'none'}); the guard read {tokens['guard']:,} more"),
        ("floating-point operations", f"{spent['flops']:.3g} (counted)"),
        ("time", f"{spent['seconds']:,.1f} s"),
        ("memory at the peak", f"{spent['peak_bytes'] / 2**30:.2f} GiB"),
    ]
    if not undoes:
        return [*told, ("share of what it undoes", "unknown: the training that it undoes was not named (--undoes)")]
    flops = undoes["share_of_flops"]
    of_flops = "unknown" if flops is None else f"{flops:.1%}"
    return [
        *told,
        (
            "share of what it undoes",
            f"{undoes['share_of_tokens']:.1%} of its {undoes['tokens']:,} tokens, {of_flops} of its operations",
        ),
    ]


def rows(told: Told) -> list[Block]:
    """What became of the rows of both sides, and how far they overlap."""
    lines: list[list[Cell | str]] = []
    for side, pools in (("forget", FORGET), ("replay", REPLAY)):
        if (some := told["rows"].get(side)) is None:
            continue
        used = (shared.count(some["pools"].get(pool, 0)) for pool in pools)
        lines.append([side, shared.count(some["read"]), *used, shared.reasons(some["dropped"])])
    both = told["rows"]["overlap"]
    note = (
        f"Of {both['rows']:,} forget rows {both['shared']:,} are also replay rows (by normalised text; left out there: "
        f"{both['left_out']:,}), {both['shared_prompts']:,} share only their prompt with one."
    )
    trained = "not for the scorecard" if "mixed" in told else "trained on"
    columns = ("side", "rows read", trained, "for the guard", "for the scorecard", "dropped, by reason")
    return [Table(columns, lines, note=note)]


def ran(told: Told) -> list[Block]:
    """Model, method, weights, seed, files."""
    options = ", ".join(f"{name} {value:g}" for name, value in told["options"].items())
    items = [
        ("model", f"{told['model']} ({told['model_identity']})"),
        *((word, f"{told[key]['model']} ({told[key]['identity']})") for key, word in NAMED if told.get(key)),
        ("method", f"{told['method']}" + (f" ({options})" if options else "")),
        *(
            [("weights", formula(told).replace("`", ""))]
            if "mixed" in told
            else [
                ("loss", " + ".join(f"{value:g} · {name}" for name, value in told["weights"].items())),
                ("training", steps(told["training"])),
            ]
        ),
        ("seed", str(told["seed"])),
    ]
    return [Facts(items), *shared.files(told["files"])]
