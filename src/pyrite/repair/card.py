"""The model card of a repaired model, in the hub's format: what was done with which data, what changed, what is unknown."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.io import is_hub
from pyrite.markdown import bullets, clean, code, escaped, fenced, table
from pyrite.repair.frontier import with_interval
from pyrite.repair.rows import FORGET, REPLAY

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


def card(told: Mapping[str, Any]) -> str:
    """The card's text, from what the repair tells (`Repair.as_json`)."""
    parts = [
        header(told),
        f"# {escaped(told['model'])}, repaired",
        opening(told),
        *(["## Before and after", *three_models(told), changes(told["compared"])] if told["compared"] else []),
        *proofs(told["proofs"]),
        *gates(told["gates"]),
        "## What was done",
        done(told),
        *(["## Data", data(told)] if told["files"] else []),
        *([] if "mixed" in told else ["## Cost", cost(told["cost"])]),
        "## What this does not say",
        bullets([*map(escaped, told["notes"]), *unsaid(told)]),
        "## Make it again",
        again(told),
    ]
    return "\n\n".join(parts) + "\n"


def unsaid(told: Mapping[str, Any]) -> tuple[str, ...]:
    """What a repair's numbers do not say, by its sort."""
    if "mixed" in told:
        return OF_WEIGHTS
    return OF_LABELS if told.get("labels") else UNSAID


def header(told: Mapping[str, Any]) -> str:
    """The YAML header that the hub reads."""
    from huggingface_hub import ModelCardData

    name = clean(told["model"])
    sets = [clean(file["name"]).removeprefix("hf://").partition("@")[0].partition(":")[0] for file in told["files"]
            if is_hub(file["name"])]  # fmt: skip
    kind = "model-merging" if "mixed" in told else "unlearning"
    fields: dict[str, Any] = {"tags": ["pyrite", kind, "model-repair", clean(told["method"])]}
    fields |= {"datasets": sorted(set(sets))} if sets else {}
    fields |= {"base_model": clean(told["base_model"])} if told["base_model"] else {}
    fields |= {"license": clean(told["licence"])} if told["licence"] else {}
    if told["settings"]["save"] == "adapter":
        fields["library_name"] = "peft"
    if measured := eval_results([one for one in told.get("scorecards", ()) if one["about"] == REPAIRED]):
        fields |= {"model_name": f"{name}, repaired", "eval_results": measured}
    return f"---\n{ModelCardData(**fields).to_yaml()}\n---"


def eval_results(cards: Sequence[Mapping[str, Any]]) -> list[Any]:
    """A model's scorecards as the hub's `EvalResult`s: every metric overall, and each gold label apart.

    The interval stands in the metric's name, which is what the hub shows, and in its `args`; what nobody answered is
    left out.
    """
    from huggingface_hub import EvalResult

    made = []
    for card in cards:
        whole = {"metric": card["metric"], "by": "overall", "name": "", **card["overall"]}
        lines = [whole, *(one for one in card["slices"] if one["by"] in ("overall", "gold"))]
        for line in lines:
            if line["value"] is None:
                continue
            part = clean(line["name"]) if line["by"] == "gold" else None
            task = clean(card["task"])
            made.append(
                EvalResult(
                    task_type=task_type(card),
                    task_name=task,
                    dataset_type=task,
                    dataset_name=task if part is None else f"{task}, {part}",
                    dataset_config=part,
                    metric_type=clean(line["metric"]),
                    metric_name=f"{clean(line['metric'])} ({doubt(line)})",
                    metric_value=line["value"],
                    metric_args={one: line[one] for one in ("low", "high", "n", "n_missing")},
                )
            )
    return made


def task_type(card: Mapping[str, Any]) -> str:
    """The hub's word for what is asked: labels, or text."""
    writes = card["task"] in ("gsm8k", "ifeval", "followbench", "mt_bench") or card["task"].startswith("harness:")
    return "text-classification" if card["metric"] == "accuracy" and not writes else "text-generation"


def doubt(line: Mapping[str, Any]) -> str:
    """An interval and the number of items, in words."""
    items = f"{line['n']:,} items"
    if line["low"] is None:
        return f"no interval: {clean(line['method'])}; {items}"
    return f"95 % interval {line['low']:.4g} to {line['high']:.4g}; {items}"


def opening(told: Mapping[str, Any]) -> str:
    """What this is, in two sentences."""
    adapter = told["settings"]["save"] == "adapter"
    version = f"`pyrite repair`, version {told['made_with']['pyrite']}"
    given = f"{code(told['model'])} ({escaped(told['model_identity'])})"
    if "mixed" in told:
        return (
            f"{'An adapter, made' if adapter else 'Made'} of {given} by adding weights ({version}), without training: "
            f"{formula(told)}."
        )
    return (
        f"{'An adapter for' if adapter else 'Made of'} {given} by unlearning ({version}), so that a pattern of the rows to "
        f"forget is unlearned and the rest is kept. Method {code(told['method'])}, {steps(told['training'])}."
    )


def formula(told: Mapping[str, Any]) -> str:
    """What a method of weights adds, in words."""
    mixed, before = told["mixed"], code(told["before"]["model"])
    groups = ", ".join(f"{alpha:g} for {code(name)}" for name, alpha in mixed["groups"].items())
    alpha = f"{mixed['alpha']:g}" + f" ({groups})" * bool(groups)
    if mixed["method"] == "negate":
        learned = "what a model of the rows to forget had learned from the model before"
        return f"{learned} ({before}) is taken away, times {alpha} (arXiv 2212.04089)"
    return f"the weights lie between the model before, {before}, and the harmed one, alpha {alpha} (arXiv 2109.01903)"


def steps(training: Mapping[str, Any]) -> str:
    """How far the training went, and which point was taken."""
    made, point = f"{training['steps']} steps", training["point"]
    if not point:
        return made
    where = "the model as given" if point["step"] == 0 else f"step {point['step']}"
    return f"{made}; the result is {where} (rule: {point['rule']})"


def three_models(told: Mapping[str, Any]) -> list[str]:
    """With a model before the harm: what each repair brings back and keeps, and what became of the items."""
    parts = []
    frontier = told.get("frontier")
    if frontier:
        parts.append(bullets(map(escaped, frontier["sentences"])))
        if chosen := frontier["selection"]:
            parts.append(escaped(selection(chosen)))
    if told.get("outcomes"):
        parts.append(outcomes(told["outcomes"]))
    if told.get("harm"):
        parts += ["### What the harm changed", changes(told["harm"])]
        parts += [
            "### Against the model before the harm",
            changes(told["against_original"]),
            "### What the repair changed",
        ]
    return parts


def selection(chosen: Mapping[str, Any]) -> str:
    """How one of several was chosen, in a sentence."""
    if chosen["share"] is None:
        by = " and ".join(dict.fromkeys(chosen["by"].values()))
        return (
            f"{chosen['name']} was chosen by {by}, other items than those that judge, of the same models: {chosen['why']}. Over "
            "training seeds its place is a little flattered by that."
        )
    return (
        f"{chosen['name']} was chosen on {chosen['share']:.0%} of the items ({chosen['why']}); all numbers here are of the "
        "items that did not choose."
    )


def outcomes(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of healed, newly broken and kept items, with their shares."""

    def share(one: Mapping[str, Any]) -> str:
        if one["value"] is None:
            return str(one["method"])
        return f"{with_interval(one)} of {one['n']}"

    names = ("task", "metric", "items", "without three answers", "healed", "newly broken", "kept gain")
    cells = [
        [
            row["task"],
            row["metric"],
            str(row["items"]),
            str(row["missing"]),
            *(share(row[name]) for name in ("healed", "newly_broken", "kept_gain")),
        ]
        for row in rows
    ]
    said = (
        "Healed: of the items that were right before and wrong harmed, those that are right now. Newly broken: of those "
        "that were right harmed, those that are wrong now. Kept gain: of those that the harm brought, those that are right now."
    )
    return f"{table(names, cells)}\n\n{said}"


def changes(compared: Sequence[Mapping[str, Any]]) -> str:
    """A table of every task's metrics, overall: both values, the paired change with its interval, the verdict."""
    rows = [
        [
            one["task"],
            line["metric"] if line.get("by", "overall") == "overall" else f"{line['metric']} ({line['name']})",
            number(line["first"]),
            number(line["second"]),
            interval(line["difference"]),
            str(line["difference"]["n"]),
            line["verdict"] or "neither way is better",
        ]
        for one in compared
        for line in one["contrasts"]
        if line["primary"]
    ]
    said = "Shares are fractions of 1; the change is over the items that both answered, with its 95 % interval."
    named = compared[0] if compared else {}
    sides = (named.get("first", "before"), named.get("second", REPAIRED))
    names = ("task", "metric", *map(escaped, sides), "change", "items", "verdict")
    return f"{table(names, rows)}\n\n{said}"


def proofs(proved: Sequence[Mapping[str, Any]]) -> list[str]:
    """Does the repair last? A table for each proof, against the repaired model and the one before."""
    parts = []
    for one in proved:
        parts += [f"### Proof: {escaped(one['proof'])}", changes(one["against_repaired"])]
        parts += [changes(one["against_before"])]
    return parts


def gates(asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """The conditions and how they came out."""
    if not asked:
        return []
    return ["### Gates", bullets(f"{one['outcome']}: {code(one['gate'])} ({escaped(one['why'])})" for one in asked)]


def done(told: Mapping[str, Any]) -> str:
    """The loss, the training and the guard; or which weights were added."""
    if "mixed" in told:
        mixed = told["mixed"]
        changed = f"{mixed['tensors_changed']} of {mixed['tensors']} tensors changed, by {mixed['rms_change']:.3g} of their size"
        return bullets([f"{code(told['method'])}: {formula(told)}", changed])
    weights, settings = told["weights"], told["settings"]
    training, guard = settings["training"], settings["guard"]
    terms = " + ".join(f"{weights[name]:g} · {name}" for name in ("forget", "replay", "kl"))
    options = ", ".join(f"{name} = {value:g}" for name, value in told["options"].items())
    lines = [
        f"Loss: {terms}" + (f"; options of {code(told['method'])}: {options}" if options else ""),
        f"Each step reads {settings['forget_rows']} forget and {settings['replay_rows']} replay rows of at most "
        f"{settings['max_tokens']} tokens (longer ones: {settings['long_rows']})",
        f"{training['method']}, learning rate {training['learning_rate']:g}, {training['schedule']}, "
        f"{told['compute']['precision']} on {told['compute']['device']}, seed {told['seed']}",
        f"Guard: every {guard['every_tokens']} tokens, on rows of its own" if guard["every_tokens"] else "Guard: off",
    ]
    return bullets(lines)


def data(told: Mapping[str, Any]) -> str:
    """The files with their hashes, what became of their rows, and how far the sides overlap."""
    files = [[file["side"], file["name"], file["hash"], str(file["bytes"] or "")] for file in told["files"]]
    rows = []
    mixed = "mixed" in told
    for side, pools in (("forget", FORGET), ("replay", REPLAY)):
        if (some := told["rows"].get(side)) is None:
            continue
        gone = ", ".join(f"{count} {reason}" for reason, count in some["dropped"].items()) or "none"
        rows.append([side, str(some["read"]), *(str(some["pools"].get(pool, 0)) for pool in pools), gone])
    shared = told["rows"]["overlap"]
    said = (
        f"Of {shared['rows']} forget rows {shared['shared']} are also replay rows (by normalised text; left out there: "
        f"{shared['left_out']}), {shared['shared_prompts']} share only their prompt with one."
    )
    names = (
        "side",
        "read",
        "not for the scorecard" if mixed else "trained on",
        "for the guard",
        "for the scorecard",
        "dropped",
    )
    return "\n\n".join([table(("side", "file", "sha256 or commit", "bytes"), files), table(names, rows), said])


def cost(spent: Mapping[str, Any]) -> str:
    """What it took, and as a share of the training that it undoes."""
    tokens = spent["tokens"]
    lines = [
        f"{tokens['processed']:,} tokens processed ({tokens['forget']:,} forget, {tokens['replay']:,} replay), and "
        f"{tokens['guard']:,} by the guard",
        f"{spent['flops']:.3g} floating-point operations (counted), {spent['seconds']:,.1f} s, "
        f"{spent['peak_bytes'] / 2**30:.2f} GiB at the peak",
    ]
    if undoes := spent["undoes"]:
        flops = f", {undoes['share_of_flops']:.1%} of its operations" if undoes["share_of_flops"] is not None else ""
        lines.append(
            f"{undoes['share_of_tokens']:.1%} of the {undoes['tokens']:,} tokens of the training that it undoes{flops}"
        )
    return bullets(lines)


def again(told: Mapping[str, Any]) -> str:
    """The command, and the software it ran with."""
    with_ = ", ".join(f"{name} {version}" for name, version in told["made_with"].items() if name != "platform")
    return (
        f"In a folder with the files named above:\n\n{fenced(told['command'], 'bash')}\n\nMade with {with_}. All numbers, "
        "item counts and curves are in `repair.json` and the tables beside it."
    )


def number(value: float | None) -> str:
    """A value, or nothing where none was measured."""
    return "" if value is None else f"{value:.4g}"


def interval(change: Mapping[str, Any]) -> str:
    """A change with its 95 % interval, or the reason why there is none."""
    if change["value"] is None:
        return "no item answered by both"
    if change["low"] is None:
        return f"{change['value']:+.4g} (no interval: {change['method']})"
    return f"{change['value']:+.4g} [{change['low']:+.4g}, {change['high']:+.4g}]"
