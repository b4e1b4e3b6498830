"""The model card of a repaired model, in the hub's format: what was done with which data, what changed, what is unknown."""

from collections.abc import Sequence
from typing import Any

from pyrite.io import is_hub
from pyrite.markdown import bullets, clean, code, escaped, fenced, markdown_table
from pyrite.repair.frontier import with_interval
from pyrite.repair.rows import FORGET, REPLAY
from pyrite.runs.repair import ItemOutcomes, Proof, RepairCost, RepairRecord, RepairTraining, ShareOfItems
from pyrite.runs.schema import Comparison, GateOutcome, Interval, Measured, Scorecard, Selection, SliceScore
from pyrite.tasks.generative_tasks import GENERATIVE

REPAIRED = "repaired"
"""The repaired model's name on its scorecards."""

UNSAID = (
    "The intervals speak of these two models on items like these. Another seed, or another draw of rows, gives another "
    "model.",
    "Higher perplexity of the forget rows says that they became less likely. It does not say whether the pattern or the "
    "content was unlearned: look at the tasks for the gain.",
    "What is not in the table was not measured: other languages and tasks, facts, safety.",
)
OF_WEIGHTS = (
    "The intervals speak of these very models on items like these. Another harmful training gives another model, and "
    "another place between the two.",
    UNSAID[2],
)
OF_LABELS = (
    UNSAID[0],
    "Lower accuracy on the forget rows says that their labels became less likely there. Whether the classifier now does "
    "right where the pattern misled it, only a task with the right labels can say.",
    "What is not in the table was not measured: other data, other domains, calibration.",
)


def card(record: RepairRecord) -> str:
    """The card's text, from the record of the repair."""
    is_mixed = record.mixed is not None
    parts = [
        yaml_header(record),
        f"# {escaped(record.model)}, repaired",
        summary_sentences(record),
        *(
            ["## Before and after", *three_models_section(record), changes_table(record.compared)]
            if record.compared
            else []
        ),
        *proofs_section(record.proofs),
        *gates_section(record.gates),
        "## What was done",
        method_section(record),
        *(["## Data", data_section(record)] if record.files else []),
        *([] if is_mixed else ["## Cost", cost_text(record.cost)]),
        "## What this does not say",
        bullets([*map(escaped, record.notes), *limits_of(record)]),
        "## Make it again",
        reproduce_section(record),
    ]
    return "\n\n".join(parts) + "\n"


def limits_of(record: RepairRecord) -> tuple[str, ...]:
    """What a repair's numbers do not say, by the type of its model."""
    if record.mixed:
        return OF_WEIGHTS
    return OF_LABELS if record.labels else UNSAID


def yaml_header(record: RepairRecord) -> str:
    """The YAML header that the hub reads."""
    from huggingface_hub import ModelCardData

    name = clean(record.model)
    sets = [
        clean(file.path).removeprefix("hf://").partition("@")[0].partition(":")[0]
        for file in record.files
        if is_hub(file.path)
    ]
    kind = "model-merging" if record.mixed else "unlearning"
    fields: dict[str, Any] = {"tags": ["pyrite", kind, "model-repair", clean(record.method)]}
    fields |= {"datasets": sorted(set(sets))} if sets else {}
    fields |= {"base_model": clean(record.base_model)} if record.base_model else {}
    fields |= {"license": clean(record.licence)} if record.licence else {}
    if record.settings.save == "adapter":
        fields["library_name"] = "peft"
    if results := eval_results([scorecard for scorecard in record.scorecards if scorecard.about == REPAIRED]):
        fields |= {"model_name": f"{name}, repaired", "eval_results": results}
    return f"---\n{ModelCardData(**fields).to_yaml()}\n---"


def eval_results(cards: Sequence[Scorecard]) -> list[Any]:
    """A model's scorecards as the hub's `EvalResult`s: every metric overall, and each gold label apart.

    The interval stands in the metric's name, which is what the hub shows, and in its `args`; what nobody answered is
    left out.
    """
    return [
        eval_result(scorecard, line)
        for scorecard in cards
        for line in scorecard.lines()
        if line.by in ("overall", "gold") and line.value is not None
    ]


def eval_result(scorecard: Scorecard, line: SliceScore) -> Any:
    """One line of a scorecard as the hub's `EvalResult`."""
    from huggingface_hub import EvalResult

    part = clean(line.name) if line.by == "gold" else None
    task = clean(scorecard.task)
    return EvalResult(
        task_type=task_type(scorecard),
        task_name=task,
        dataset_type=task,
        dataset_name=task if part is None else f"{task}, {part}",
        dataset_config=part,
        metric_type=clean(line.metric),
        metric_name=f"{clean(line.metric)} ({doubt(line)})",
        metric_value=line.value,
        metric_args={"low": line.low, "high": line.high, "n": line.n, "n_missing": line.n_missing},
    )


def task_type(scorecard: Scorecard) -> str:
    """The hub's word for what is asked: labels, or text."""
    generates = scorecard.task in GENERATIVE
    generates = generates or scorecard.task.startswith("harness:")
    return "text-classification" if scorecard.metric == "accuracy" and not generates else "text-generation"


def doubt(line: Measured) -> str:
    """An interval and the number of items, in words."""
    items = f"{line.n:,} items"
    if line.low is None:
        return f"no interval: {clean(line.method)}; {items}"
    return f"95 % interval {line.low:.4g} to {line.high:.4g}; {items}"


def summary_sentences(record: RepairRecord) -> str:
    """What this is, in two sentences."""
    adapter = record.settings.save == "adapter"
    version = f"`pyrite repair`, version {(record.made_with or {}).get('pyrite', 'unknown')}"
    model = f"{code(record.model)} ({escaped(record.model_identity)})"
    if record.mixed:
        return (
            f"{'An adapter, made' if adapter else 'Made'} of {model} by adding weights ({version}), without training: "
            f"{formula(record)}."
        )
    return (
        f"{'An adapter for' if adapter else 'Made of'} {model} by unlearning ({version}), so that a pattern of the rows to "
        f"forget is unlearned and the rest is kept. Method {code(record.method)}, {steps(record.training)}."
    )


def formula(record: RepairRecord) -> str:
    """What a method of weights adds, in words."""
    mixed = record.mixed
    assert mixed is not None
    before = code(record.before.model if record.before else "unknown")
    groups = ", ".join(f"{alpha:g} for {code(name)}" for name, alpha in mixed.groups.items())
    alpha = f"{mixed.alpha:g}" + f" ({groups})" * bool(groups)
    if mixed.method == "negate":
        learned = "what a model of the rows to forget had learned from the model before"
        return f"{learned} ({before}) is taken away, times {alpha} (arXiv 2212.04089)"
    return f"the weights lie between the model before, {before}, and the harmed one, alpha {alpha} (arXiv 2109.01903)"


def steps(training: RepairTraining) -> str:
    """How far the training went, and which point was taken."""
    count, point = f"{training.steps} steps", training.point
    if not point:
        return count
    where = "the model as given" if point.step == 0 else f"step {point.step}"
    return f"{count}; the result is {where} (rule: {point.rule})"


def three_models_section(record: RepairRecord) -> list[str]:
    """With a model before the harm: what each repair brings back and keeps, and what became of the items."""
    parts = []
    if frontier := record.frontier:
        parts.append(bullets(map(escaped, frontier.sentences)))
        if frontier.selection:
            parts.append(escaped(selection(frontier.selection)))
    if record.outcomes:
        parts.append(outcomes(record.outcomes))
    if record.harm:
        parts += ["### What the harm changed", changes_table(record.harm)]
        parts += [
            "### Against the model before the harm",
            changes_table(record.against_original or []),
            "### What the repair changed",
        ]
    return parts


def selection(choice: Selection) -> str:
    """How one of several was chosen, in a sentence."""
    if choice.share is None:
        by = " and ".join(dict.fromkeys(choice.by.values()))
        return (
            f"{choice.name} was chosen by {by}, other items than those that judge, of the same models: {choice.why}. Over "
            "training seeds its place is a little flattered by that."
        )
    return (
        f"{choice.name} was chosen on {choice.share:.0%} of the items ({choice.why}); all numbers here are of the "
        "items that did not choose."
    )


def outcomes(rows: Sequence[ItemOutcomes]) -> str:
    """A table of healed, newly broken and kept items, with their shares."""

    def words(share: ShareOfItems) -> str:
        return share.method if share.value is None else f"{with_interval(share.as_json())} of {share.n}"

    names = ("task", "metric", "items", "without three answers", "healed", "newly broken", "kept gain")
    cells = [
        [
            row.task,
            row.metric,
            str(row.items),
            str(row.missing),
            *(words(share) for share in (row.healed, row.newly_broken, row.kept_gain)),
        ]
        for row in rows
    ]
    note = (
        "Healed: of the items that were right before and wrong harmed, those that are right now. Newly broken: of those "
        "that were right harmed, those that are wrong now. Kept gain: of those that the harm brought, those that are right now."
    )
    return f"{markdown_table(names, cells)}\n\n{note}"


def changes_table(compared: Sequence[Comparison]) -> str:
    """A table of every task's metrics, overall: both values, the paired change with its interval, the verdict."""
    rows = [
        [
            comparison.task,
            line.metric if line.by == "overall" else f"{line.metric} ({line.name})",
            value_or_blank(line.first),
            value_or_blank(line.second),
            interval(line.difference),
            str(line.difference.n),
            line.verdict or "no preferred direction",
        ]
        for comparison in compared
        for line in comparison.contrasts
        if line.primary
    ]
    note = "Shares are fractions of 1; the change is over the items that both answered, with its 95 % interval."
    sides = (compared[0].first, compared[0].second) if compared else ("before", REPAIRED)
    names = ("task", "metric", *map(escaped, sides), "change", "items", "verdict")
    return f"{markdown_table(names, rows)}\n\n{note}"


def proofs_section(proved: Sequence[Proof]) -> list[str]:
    """Does the repair last? A table for each proof, against the repaired model and the one before."""
    parts = []
    for proof in proved:
        parts += [f"### Proof: {escaped(proof.proof)}", changes_table(proof.against_repaired)]
        parts += [changes_table(proof.against_before)]
    return parts


def gates_section(outcomes: Sequence[GateOutcome]) -> list[str]:
    """The conditions and how they came out."""
    if not outcomes:
        return []
    lines = (f"{gate.outcome}: {code(gate.gate)} ({escaped(gate.why)})" for gate in outcomes)
    return ["### Gates", bullets(lines)]


def method_section(record: RepairRecord) -> str:
    """The loss, the training and the guard; or which weights were added."""
    if mixed := record.mixed:
        changed = f"{mixed.tensors_changed} of {mixed.tensors} tensors changed, by {mixed.rms_change:.3g} of their size"
        return bullets([f"{code(record.method)}: {formula(record)}", changed])
    terms = " + ".join(
        f"{record.weights[name]:g} · {name}" for name in ("forget", "replay", "kl") if name in record.weights
    )
    options = ", ".join(
        f"{name} = {value:g}" if isinstance(value, int | float) else f"{name} = {value}"
        for name, value in record.options.items()
    )
    lines = [f"Loss: {terms}" + (f"; options of {code(record.method)}: {options}" if options else "")]
    settings, compute = record.settings, record.compute
    if settings.training and settings.guard and compute:
        training, every = settings.training, settings.guard.every_tokens
        lines += [
            f"Each step reads {settings.forget_rows} forget and {settings.replay_rows} replay rows of at most "
            f"{settings.max_tokens} tokens (longer ones: {settings.long_rows})",
            f"{training.method}, learning rate {training.learning_rate:g}, {training.schedule}, "
            f"{compute.precision} on {compute.device}, seed {record.seed}",
            f"Guard: every {every} tokens, on rows of its own" if every else "Guard: off",
        ]
    return bullets(lines)


def data_section(record: RepairRecord) -> str:
    """The files with their hashes, what became of their rows, and how far the sides overlap."""
    files = [[file.side or "", file.path, file.hash or "", str(file.bytes or "")] for file in record.files]
    rows = []
    for name, side, pools in (("forget", record.rows.forget, FORGET), ("replay", record.rows.replay, REPLAY)):
        if side is not None:
            dropped = ", ".join(f"{count} {reason}" for reason, count in side.dropped.items()) or "none"
            rows.append([name, str(side.read), *(str(side.pools.get(pool, 0)) for pool in pools), dropped])
    overlap = record.rows.overlap
    note = (
        f"Of {overlap.rows} forget rows {overlap.shared} are also replay rows (by normalised text; left out there: "
        f"{overlap.left_out}), {overlap.shared_prompts} share only their prompt with one."
    )
    names = (
        "side",
        "read",
        "not for the scorecard" if record.mixed else "trained on",
        "for the guard",
        "for the scorecard",
        "dropped",
    )
    return "\n\n".join(
        [markdown_table(("side", "file", "sha256 or commit", "bytes"), files), markdown_table(names, rows), note]
    )


def cost_text(spent: RepairCost) -> str:
    """What it took, and as a share of the training that it undoes."""
    tokens = spent.tokens
    lines = [
        f"{tokens.processed:,} tokens processed ({tokens.forget:,} forget, {tokens.replay:,} replay), and "
        f"{tokens.guard:,} by the guard",
        f"{spent.flops:.3g} floating-point operations (counted), {spent.seconds:,.1f} s, "
        f"{spent.peak_bytes / 2**30:.2f} GiB at the peak",
    ]
    if undoes := spent.undoes:
        flops = f", {undoes.share_of_flops:.1%} of its operations" if undoes.share_of_flops is not None else ""
        lines.append(
            f"{undoes.share_of_tokens:.1%} of the {undoes.tokens:,} tokens of the training that it undoes{flops}"
        )
    return bullets(lines)


def reproduce_section(record: RepairRecord) -> str:
    """The command, and the software it ran with."""
    versions = ", ".join(
        f"{name} {version}" for name, version in (record.made_with or {}).items() if name != "platform"
    )
    return (
        f"In a folder with the files named above:\n\n{fenced(record.command or '', 'bash')}\n\nMade with {versions}. All "
        "numbers, item counts and curves are in `repair.json` and the tables beside it."
    )


def value_or_blank(value: float | None) -> str:
    """A value, or nothing where none was measured."""
    return "" if value is None else f"{value:.4g}"


def interval(change: Interval) -> str:
    """A change with its 95 % interval, or the reason why there is none."""
    if change.value is None:
        return "no item answered by both"
    if change.low is None:
        return f"{change.value:+.4g} (no interval: {change.method})"
    return f"{change.value:+.4g} [{change.low:+.4g}, {change.high:+.4g}]"
