"""The record of a repair (`repair.json`): rows, method, course, cost, and what a reader must know before believing the scorecard."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.models import load, packaged
from pyrite.outputs import command_line
from pyrite.redact import redact_existing_path
from pyrite.repair import frontier, outcomes, scorecard
from pyrite.repair.candidates import Candidate, folder_and_identity, null_of, record_of_weights, templates_differ
from pyrite.repair.choose import Choice, ItemsLeft
from pyrite.repair.config import RepairConfig, RepairOptions
from pyrite.repair.frontier import GAINED, LOST, Axis
from pyrite.repair.plan import RepairPlan
from pyrite.repair.rows import file_records, side_counts
from pyrite.repair.scorecard import ScoredModel
from pyrite.steps import Store, closure
from pyrite.steps.store import made_with

UNSAID = ("out", "store", "quiet", "engine", "max_time", "report_to", "undoes")
"""Flags that change nothing in the repaired model or its scorecard."""
FILES = ("forget", "replay")


def repair_record(
    planned: RepairPlan, training: Mapping[str, Any], shared: Mapping[str, Any], *, chats: bool
) -> dict[str, Any]:
    """Everything but the scorecards, as plain values. `training` is what the training step recorded, `shared` the overlap."""
    config, rows, store = planned.config, planned.rows, planned.store
    sides = {
        side: {**side_counts(step, store), "trained": training["rows"].get(side)} for side, step in rows.sides.items()
    }
    return {
        "schema_version": 1,
        "verb": "repair",
        "model": redact_existing_path(config.model),
        "model_identity": planned.harmed.source.identity,
        **before_of(planned),
        "base_model": base_model(planned),
        "licence": licence(config.model),
        "method": training["method"],
        "weights": training["weights"],
        "options": training["options"],
        **({"mixed": training["mixed"]} if "mixed" in training else {}),
        "training": training_end(training),
        **({"labels": list(planned.harmed.labels)} if planned.harmed.labels else {}),
        "settings": planned.settings.model_dump(mode="json") if planned.trains else settings_of_weights(planned),
        "compute": planned.compute.as_config(),
        "seed": config.seed,
        "files": file_records(config, rows.hashes),
        "rows": {**sides, "overlap": dict(shared)},
        **({"self_replay": side_counts(rows.answered, store)} if rows.answered is not None else {}),
        "cost": cost_record(training, planned.undone),
        "curve": list(training["curve"]),
        "guard": list(training["guard"]),
        "notes": notes(planned, training, shared, chats=chats),
        "command": command(config),
        "made_with": made_with(),
    }


def settings_of_weights(planned: RepairPlan) -> dict[str, Any]:
    """What was asked of a method of weights."""
    config = planned.config
    requested = {"task": list(planned.lost), "gain": list(planned.gained), "keep": config.keep, "select": config.select}
    return {
        "method": config.method,
        "alpha": list(planned.alphas),
        "groups": dict(planned.groups),
        "save": config.save,
        **(requested if planned.chooses else {}),
    }


def before_of(planned: RepairPlan) -> dict[str, Any]:
    """The model before the harm, and the one whose task vector was taken away, where they were named."""
    record: dict[str, Any] = {}
    for key, scorecard_model in (("before", planned.original), ("forgetter", planned.forgetter)):
        if scorecard_model is not None:
            record[key] = {
                "model": redact_existing_path(scorecard_model.name),
                "identity": scorecard_model.source.identity,
            }
    return record


def training_end(training: Mapping[str, Any]) -> dict[str, Any]:
    """How the training ended: steps made, whether the guard stopped it, which point was taken and by which rule."""
    return {name: training.get(name) for name in ("steps", "planned_steps", "stopped", "point")}


def cost_record(training: Mapping[str, Any], undone: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the repair took: processed tokens (those that the guard read apart), FLOPs, seconds, bytes at the peak.

    With the training that it undoes, also which share of its tokens (and of its FLOPs, where they are known) that is.
    """
    tokens = {"forget": 0, "replay": 0, "guard": 0, **training.get("tokens", {})}
    processed = sum(count for role, count in tokens.items() if role != "guard")
    record = {"tokens": {**tokens, "processed": processed}, "undoes": None}
    record |= {name: training.get(name, 0) for name in ("flops", "seconds", "peak_bytes")}
    if undone is not None:
        flops = record["flops"] / undone["flops"] if undone["flops"] else None
        record["undoes"] = {**undone, "share_of_tokens": processed / undone["tokens"], "share_of_flops": flops}
    return record


def notes(planned: RepairPlan, training: Mapping[str, Any], shared: Mapping[str, Any], *, chats: bool) -> list[str]:
    """What a reader must know."""
    config = planned.config
    lines = []
    if "forget" in planned.gained:
        lines.append(
            "what was gained is measured on rows to forget that this repair held out, but that the harmed model was trained "
            "on: that is memory. Rows that neither saw measure the gain"
        )
    stop, point = training.get("stopped"), training.get("point")
    if stop and point:
        start_model = "the model as given" if config.start_alpha is None else "the interpolation that it began at"
        back = start_model if point["step"] == 0 else f"step {point['step']}"
        lines.append(f"the guard stopped the repair at step {stop['step']} ({stop['why']}); the result is {back}")
    elif point and point["step"] == 0 and training["steps"]:
        lines.append("no point was better than the model as given by the stated rule: the result is that model")
    lines += of_weights(planned, training) if not planned.trains else of_training(planned, training)
    lines += of_three(planned)
    if (
        chats
        and not planned.harmed.labels
        and not load.load_tokenizer(folder_and_identity(planned.harmed.full_model, planned.store)[0]).chat_template
    ):
        lines.append("the model's tokenizer has no chat template: the turns of a chat stand one after the other")
    if shared["shared"]:
        lines.append(
            f"{shared['shared']} of {shared['rows']} forget rows were also replay rows; {shared['left_out']} replay rows "
            "were left out for it"
        )
    if shared.get("other_label"):
        lines.append(
            f"{shared['other_label']} of these have another label on the other side: the files contradict each other"
        )
    if shared["shared_prompts"]:
        lines.append(f"{shared['shared_prompts']} forget rows have the prompt of a replay row, with another answer")
    for side in (*FILES, "guard_forget", "guard_replay"):
        trained = training["rows"].get(side) or {}
        gone = ", ".join(
            f"{count} {reason}" for reason, count in sorted((trained.get("dropped") or {}).items()) if count
        )
        if gone:
            lines.append(f"{side} rows not read: {gone}, of {trained['read']}")
        if trained.get("cut"):
            lines.append(
                f"{side} rows cut at {planned.settings.max_tokens} tokens: {trained['cut']} of {trained['read']}"
            )
    if not planned.tasks:
        return [*lines, "nothing was asked, so nothing is known of what the mixed model can do: give --task"]
    labels = "no --task was asked: only rows like those of the two sides were measured, no other data"
    texts = "no --task was asked: whether instructions are followed better was not measured, only perplexity"
    return lines if config.task else [*lines, labels if planned.harmed.labels else texts]


def of_training(planned: RepairPlan, training: Mapping[str, Any]) -> list[str]:
    """What a reader must know of a repair that trains."""
    lines = []
    if not any(training["weights"].values()):
        lines.append("all weights are 0: a null repair, which changes no bit of the model")
    if not planned.settings.guard.every_tokens:
        lines.append("the guard was off: nothing would have stopped a repair that does harm")
    if planned.config.start_alpha is not None:
        lines.append(f"training began at the interpolation between both models, alpha {planned.config.start_alpha:g}")
    if planned.settings.kl_to == "before":
        lines.append("KL, the guard's too, is from the model before the harm; the guard stops where it rises")
    if planned.rows.answered is not None:
        counts = side_counts(planned.rows.answered, planned.store)
        gone = ", ".join(f"{count} {reason}" for reason, count in counts["dropped"].items()) or "none"
        lines.append(
            f"replay answers are the model before's own, sampled once at temperature {counts['temperature']:g}: "
            f"{counts['kept']} of {counts['read']} rows; dropped: {gone}"
        )
    return lines


def of_weights(planned: RepairPlan, training: Mapping[str, Any]) -> list[str]:
    """What a reader must know of a repair in weight space."""
    lines, mixed = [], training["mixed"]
    if null := null_of(planned):
        lines.append(null)
    elif not mixed["tensors_changed"]:
        lines.append("no bit of the model changed")
    else:
        size = "the adapter's second factors" if mixed.get("adapter") else "the weights' size"
        lines.append(
            f"the model itself was not trained: {mixed['tensors_changed']} of {mixed['tensors']} tensors changed, by "
            f"{mixed['rms_change']:.3g} of {size} (root mean square)"
        )
    if planned.config.method == "negate" and planned.forgetter is None:
        lines.append(
            f"the model of the forget rows is the one before, trained on them for one pass at {planned.config.learning_rate:g} "
            "(--learning-rate): a rate that teaches little takes little away"
        )
    return lines


def of_three(planned: RepairPlan) -> list[str]:
    """What a reader must know of a comparison with the model before."""
    if not templates_differ(planned):
        return []
    return ["the two models' chat templates differ: the one before was asked in the harmed one's, as all others were"]


def not_forgotten(compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """Did the rows to forget become less likely at all? Says so where the held-out ones did not, over all items.

    Replay rows that resemble them (such as those that an audit cleared of the same data) can outweigh the forgetting.
    """
    lines = []
    for comparison in compared:
        for line in comparison["contrasts"]:
            change = line["difference"]
            if comparison["task"] != "forget" or not line["primary"] or not line["metric"].startswith("nats_per"):
                continue
            if change["low"] is not None and change["high"] < 0:
                lines.append(
                    f"held-out rows of the forget set became more likely, not less ({line['metric']} {change['value']:+.3g}, "
                    f"95 % interval {change['low']:+.3g} to {change['high']:+.3g}): nothing was unlearned; replay rows like them "
                    "can do this"
                )
            elif change["low"] is not None and change["low"] <= 0:
                lines.append(
                    f"it cannot be told whether held-out rows of the forget set became less likely ({line['metric']} "
                    f"{change['value']:+.3g}, 95 % interval {change['low']:+.3g} to {change['high']:+.3g})"
                )
    return lines


def command(config: RepairConfig) -> str:
    """The command that makes this again, run where the files are."""
    return command_line(["pyrite", "repair", redact_existing_path(config.model)], config, RepairOptions, unsaid=UNSAID)


def base_model(planned: RepairPlan) -> str | None:
    """The hub's name of the model, or of the adapter's base; None where it is not from the hub."""
    name = planned.config.model
    return name.partition("@")[0] if load.is_hub_name(name) else None


def licence(model: str) -> str | None:
    """The licence, where we know it."""
    known = packaged.PACKAGED.get(model.removeprefix(packaged.PREFIX)) if model.startswith(packaged.PREFIX) else None
    return known.licence.lower() if known else None


def training_record(planned: RepairPlan, chosen: Candidate, store: Store) -> dict[str, Any]:
    """What the step that made the repaired model tells of itself."""
    if planned.trains:
        record: dict[str, Any] = store.read_json(chosen.saved, "repair.json")
        return record
    step = next(
        step for step in reversed(closure([chosen.full_model])) if (store.path(step.key) / "weights.json").is_file()
    )
    return record_of_weights(store.read_json(step, "weights.json"), chosen.method, store.manifest(step.key)["seconds"])


def three_models_record(
    planned: RepairPlan, original: ScoredModel | None, harmed: ScoredModel, repaired: ScoredModel
) -> dict[str, Any]:
    """With a model before: what the harm changed, how the repaired model stands to the one before, and what became of the
    items."""
    if original is None:
        return {}
    config, tasks = planned.config, planned.tasks
    three = [model.results for model in (original, harmed, repaired)]
    return {
        "harm": [task.as_json() for task in scorecard.compare_tasks(tasks, original, harmed, config)],
        "against_original": [task.as_json() for task in scorecard.compare_tasks(tasks, original, repaired, config)],
        "outcomes": outcomes.shares_of(three, task_names(planned), config.seed),
    }


def frontier_record(
    planned: RepairPlan,
    axes: Sequence[Axis],
    points: Sequence[frontier.Point],
    choice: Choice | None,
    judged: ItemsLeft,
) -> dict[str, Any] | None:
    """The frontier as plain values; None without a model before or a task."""
    if not points:
        return None
    names: dict[str, str | None] = {
        side: next((axis.name for axis in axes if axis.side == side), None) for side in (LOST, GAINED)
    }
    point_records = [point.as_json(axes) for point in points]
    chosen = None
    if choice is not None:
        chosen = {
            "share": planned.select,
            "name": choice.name,
            "why": choice.why,
            "tried": choice.tried,
            "items_left": {task: len(items) for task, items in judged.items()},
        }
    record: dict[str, Any] = {**names, "keep": planned.config.keep, "points": point_records, "selection": chosen}
    return {
        **record,
        "sentences": [frontier.point_sentence(point, names) for point in point_records if point["recovered"]],
    }


def task_names(planned: RepairPlan) -> list[str]:
    """The names of all that is asked."""
    return [task.name for task in planned.tasks]
