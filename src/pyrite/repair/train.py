"""The step that repairs: a model, forget and replay rows → the repaired model and `repair.json` on what was done."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.repair.cost import NOTHING
from pyrite.repair.methods import LossWeights, Method, import_plugin, resolve_method
from pyrite.repair.model_type import ModelType, RepairRows
from pyrite.repair.row_order import plan_steps
from pyrite.repair.settings import RepairSettings
from pyrite.repair.source_model import model_type_of
from pyrite.steps import Context, StepType
from pyrite.train import adapters

if TYPE_CHECKING:
    from pyrite.repair.at_start import AtStart
    from pyrite.repair.guard import Guard
    from pyrite.repair.objective import RepairObjective
    from pyrite.repair.reference import Reference, See
    from pyrite.train.packed import Trained


@dataclass(frozen=True)
class Repaired:
    """The outcome of a repair: its record, and the model at the best checkpoint; None: the model as it was given."""

    record: dict[str, Any]
    model: Any


@dataclass(frozen=True)
class RepairTask:
    """A repair to do: settings, method, weights of the loss, model type, tokenizer and encoded rows."""

    context: Context
    settings: RepairSettings
    compute: Compute
    seed: int
    method: Method
    weights: LossWeights
    model_type: ModelType
    tokenizer: Any
    rows: RepairRows

    def prepare(self) -> Any:
        """The model, ready to train."""
        return self.model_type.prepare(self.context, self.settings, self.compute, self.seed)

    @property
    def pack_tokens(self) -> int:
        """How many tokens are read at a time."""
        from pyrite.train.packed import PACK_TOKENS

        return self.settings.pack_tokens or PACK_TOKENS[self.compute.device]


def repair_task_of(context: Context) -> RepairTask:
    """The repair task of a step, its rows read and encoded.

    Raises:
        UserError: files, rows, a method or a model that do not go together.
    """
    settings = RepairSettings.model_validate(context.config["settings"])
    import_plugin(settings.method, context.config)
    method, weights = method_and_weights(settings)
    model_type = model_type_of(full_model_folder(context))
    tokenizer = load.load_tokenizer(tokenizer_folder(context))
    rows = model_type.read_rows(context, tokenizer, settings, method)
    compute, seed = Compute(**context.config["compute"]), context.config["seed"]
    return RepairTask(context, settings, compute, seed, method, weights, model_type, tokenizer, rows)


def method_and_weights(settings: RepairSettings) -> tuple[Method, LossWeights]:
    """The method with the options given, and its weights.

    Raises:
        UserError: an unknown method or option, or a weight that would be recorded but not applied.
    """
    method = resolve_method(settings.method, settings.options)
    chosen = (settings.forget_weight, settings.replay_weight, settings.kl_weight)
    weights = [mine if mine is not None else theirs for mine, theirs in zip(chosen, method.weights, strict=True)]
    applied = LossWeights(*weights)
    if method.kind == "hidden" and applied.kl:
        detail = f"{method.name} with a weight of {applied.kl:g} for KL"
        raise UserError("This method keeps hidden states, not distributions.", detail, "leave --kl-weight out, or 0")
    if not settings.replay_rows and (applied.replay or applied.kl):
        detail = f"replay_rows 0, weights {applied.replay:g} (replay) and {applied.kl:g} (KL)"
        raise UserError("Replay and KL need replay rows.", detail, "give rows a step, or set both weights to 0")
    return method, applied


def full_model_folder(context: Context) -> Path:
    """Where the whole model lies: an adapter that is kept stands on its base (`under`)."""
    return context.inputs.get("under", context.inputs["base"])


def tokenizer_folder(context: Context) -> Path:
    """Where the tokenizer lies: with the model; with its base, for an adapter that brings none."""
    base = context.inputs["base"]
    brings = (base / "tokenizer_config.json").is_file()
    return base if brings else context.inputs.get("under", base)


def unlearn_step(context: Context) -> None:
    """Step: the repaired model (whole, or its adapter) and `repair.json` on what was done."""
    load.quiet_libraries()
    task = repair_task_of(context)
    if not any(task.weights):
        repaired = Repaired(NOTHING, None)
    elif task.settings.processes > 1:
        repaired = train_together(task)
    else:
        repaired = train(task)
    if repaired.model is not None:
        save_repaired(task, repaired.model)
    else:
        save_unchanged(task)
    record = {
        "method": task.method.name,
        "weights": task.weights._asdict(),
        "options": dict(task.method.options),
        "rows": task.rows.counts,
        **repaired.record,
    }
    (context.out / "repair.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))


def train(task: RepairTask) -> Repaired:
    """Take the steps under the guard."""
    from pyrite.repair import cost
    from pyrite.repair.at_start import AtStart
    from pyrite.repair.objective import RepairObjective
    from pyrite.repair.reference import AdapterDisabledReference
    from pyrite.train import peers
    from pyrite.train.cost import model_shape
    from pyrite.train.packed import Trained, fit_packed

    began = time.monotonic()
    before, read_before = keep_to_before(task)
    model = task.prepare()
    layer = layer_of(task.method, model)
    objective = RepairObjective(
        task.method, task.weights, None, layer=layer, seed=task.seed, forward=task.model_type.forward, keep_to=before
    )
    module = Trained(model, objective, task.model_type.reader(model, task.tokenizer))
    steps = plan_steps(task.rows, task.settings, objective.reads(), task.seed)
    start = AtStart(task.compute) if peers.world_size() > 1 else None
    reference_rows = [
        *attach_references(task, module, objective, steps, start),
        *attach_first_values(task, module, objective, steps, start),
    ]
    reference_rows += read_before
    guard = guard_of(task, model, objective)
    prepared = time.monotonic() - began
    ended = fit_packed(
        module, steps, optim=task.settings.training, pack_tokens=task.pack_tokens, compute=task.compute, seed=task.seed,
        context=task.context, callbacks=[callback for callback in (start, guard) if callback is not None], report_to=task.context.config.get("report_to", ()),
    )  # fmt: skip
    spent = cost.spent(
        model_shape(model), steps[: ended.steps], task.settings, objective,
        live=isinstance(objective.reference, AdapterDisabledReference), beforehand=reference_rows, guard=(guard.read, guard.looked_at) if guard else (0, 0),
    )  # fmt: skip
    record = {
        "steps": ended.steps,
        "planned_steps": len(steps),
        **spent,
        "seconds": prepared + ended.seconds,
        "peak_bytes": cost.peak_bytes(task.compute),
        "curve": cost.curve(ended.curve, steps),
    }
    if guard is None:
        rule = "the last point: there was no guard"
        last = {"step": ended.steps, "tokens": sum(spent["tokens"].values()), "rule": rule, "values": {}}
        return Repaired({**record, "stopped": None, "guard": [], "point": last}, ended.model)
    return Repaired(record | guard.record(), ended.model if guard.roll_back(ended.model) else None)


def layer_of(method: Method, model: Any) -> int | None:
    """After how many layers does the method look? A number below 1 is a share of the depth."""
    if method.kind != "hidden":
        return None
    depth = int(model.config.get_text_config().num_hidden_layers)
    layer = method.options["layer"]
    number = round(layer * depth) if layer < 1 else int(layer)
    if not 1 <= number <= depth:
        raise UserError("The model has no such layer.", f"layer {layer:g} of {depth}", "--option layer=N")
    return number


def attach_references(
    task: RepairTask,
    module: "Trained",
    objective: "RepairObjective",
    steps: Sequence[Sequence[Any]],
    start: "AtStart | None",
) -> Sequence[Any]:
    """Give the objective its reference, for the loss and for the guard's KL: live with the adapter disabled, or cached on
    disk, at the `start` of the training of several processes. Returns the rows that are read for it, each time they are."""
    from pyrite.repair.reference import AdapterDisabledReference, EqualPasses, see_alone, write_reference

    method, training, reader, layer = task.method, task.settings.training, module.reader, objective.layer
    in_loss = (
        (task.weights.kl and task.settings.kl_to == "given") or method.teacher == "reference" or method.kind == "hidden"
    )
    if not (in_loss or task.settings.guard.every_tokens):
        return []
    if training.method != "full" and not training.lora.also_train:  # the model as given lies beneath the adapter
        objective.last = AdapterDisabledReference(module.model, reader, forward=task.model_type.forward)
        live = (
            objective.last
            if layer is None
            else AdapterDisabledReference(module.model, reader, layer, forward=task.model_type.forward)
        )
        objective.reference = live
        if start is not None:
            module.objective = EqualPasses(objective, live, len(objective.asks()))
        return []
    roles = {"replay"} | ({"forget"} if method.teacher == "reference" else set())
    rows = once([*(row for step in steps for row in step), *task.rows.guard], roles)
    folder = task.context.checkpoint / "reference"
    options: dict[str, Any] = {
        "pack_tokens": task.pack_tokens,
        "compute": task.compute,
        "forward": task.model_type.forward,
    }

    def read(see: "See") -> None:
        objective.last = objective.reference = write_reference(reader, rows, folder / "last", **options, see=see)
        if layer is not None:
            objective.reference = write_reference(reader, rows, folder / "layer", **options, layer=layer, see=see)

    if start is None:
        read(see_alone(reader))
    else:
        start.readings.append(read)
    return rows if layer is None else [*rows, *rows]


def keep_to_before(task: RepairTask) -> "tuple[Reference | None, Sequence[Any]]":
    """The model before the harm, for the KL term and the guard's KL, where the settings say so: its states on the replay
    rows, computed once and kept on disk; it is gone before the model that trains is loaded. With the rows that were read.

    Raises:
        UserError: the two models do not share their tokens.
    """
    if task.settings.kl_to != "before" or not task.weights.kl:
        return None, []
    from pyrite.repair.objective import RepairObjective
    from pyrite.repair.reference import write_reference
    from pyrite.repair.weight_checks import check_vocabulary
    from pyrite.repair.weight_files import Weights

    folder = task.context.inputs["before"]
    check_vocabulary(Weights(full_model_folder(task.context), "the model"), Weights(folder, "the model before"))
    steps = plan_steps(task.rows, task.settings, RepairObjective(task.method, task.weights, None).reads(), task.seed)
    rows = once([*(row for step in steps for row in step), *task.rows.guard], {"replay"})
    model = task.model_type.load_full_model(folder, task.compute).eval()
    reference = write_reference(
        task.model_type.reader(model, task.tokenizer), rows, task.context.checkpoint / "reference" / "before",
        pack_tokens=task.pack_tokens, compute=task.compute, forward=task.model_type.forward,
    )  # fmt: skip
    return reference, rows


def attach_first_values(
    task: RepairTask,
    module: "Trained",
    objective: "RepairObjective",
    steps: Sequence[Sequence[Any]],
    start: "AtStart | None",
) -> Sequence[Any]:
    """Give the objective what the model as given says of whole forget rows, where the method compares with it: at the
    `start` of the training of several processes. Returns the rows that are read for it."""
    from pyrite.repair.objective import frozen_values, stored_values
    from pyrite.repair.reference import see_alone

    if not task.method.reference or task.method.kind not in ("row", "pair"):
        return []
    rows = once([*(row for step in steps for row in step), *task.rows.guard], {"forget", "preferred"})

    def read(see: "See") -> Any:
        return frozen_values(see, rows, task.pack_tokens, task.compute, task.model_type.forward)

    def read_once(see: "See") -> None:
        objective.frozen = stored_values(task.context.checkpoint / "reference" / "rows.json", lambda: read(see))

    if start is None:
        objective.frozen = read(see_alone(module.reader))
    else:
        start.readings.append(read_once)
    return rows


def once(rows: Sequence[Any], roles: set[str]) -> list[Any]:
    """The rows of these roles, each once, in their order by role and number."""
    by_key = {(row.role, row.number): row for row in rows if row.role in roles}
    return [by_key[key] for key in sorted(by_key)]


def guard_of(task: RepairTask, model: Any, objective: "RepairObjective") -> "Guard | None":
    """What watches over the steps, where it is asked for and has rows."""
    from pyrite.models.write import end_ids
    from pyrite.repair.guard import Guard, Watched

    if not task.settings.guard.every_tokens or not task.rows.guard:
        return None
    prompts = task.rows.prompts
    watched = Watched(task.rows.guard, prompts, end_ids(model, task.tokenizer) if prompts else ())
    return Guard(task.settings.guard, watched, objective, task.compute, task.context.checkpoint / "points")


def train_together(task: RepairTask) -> Repaired:
    """As `train`, in several processes that share the model; the result is a model in this one."""
    from pyrite.train import together

    record = together.train_together(task.settings.processes, task.compute, train_in_process, task.context)
    if not together.left_weights(task.context):
        return Repaired(record, None)
    return Repaired(record, together.take_weights(task.context, task_to_save(task).prepare()))


def task_to_save(task: RepairTask) -> RepairTask:
    """The task as it is prepared to take up trained weights and save them: on the CPU, which a model shared by several GPUs fits
    into, and without 4-bit codes, which are not saved."""
    training = task.settings.training
    plain = training.model_copy(update={"method": "lora" if training.method == "qlora" else training.method})
    settings = task.settings.model_copy(update={"training": plain})
    return replace(task, compute=replace(task.compute, device="cpu"), settings=settings)


def train_in_process(context: Context) -> None:
    """What each process does: the training; all leave their share of the trained weights, the first one the record."""
    from pyrite.train.together import leave

    load.quiet_libraries()
    repaired = train(repair_task_of(context))
    leave(context, repaired.record, repaired.model)


def save_repaired(task: RepairTask, model: Any) -> None:
    """The repaired model: whole, or its adapter."""
    from pyrite.repair.reference import ADAPTER

    context = task.context
    if task.settings.save == "adapter":
        adapters.save_trained(model, tokenizer_folder(context), context.out, context.config["base_name"], only=ADAPTER)
        return
    task.model_type.save_full_model(model, tokenizer_folder(context), context, task.compute)


def save_unchanged(task: RepairTask) -> None:
    """The model as it was given, written anew; no value of it changes. As an adapter: one that does nothing."""
    if task.settings.save == "adapter":
        save_repaired(task, task.prepare())
        return
    context = task.context
    model = task.model_type.load_full_model(full_model_folder(context), Compute("cpu", "fp32"))
    if "under" in context.inputs:
        model = adapters.with_adapter(model, context.inputs["base"], train=False).merge_and_unload()
    task.model_type.save_full_model(model, tokenizer_folder(context), context, task.compute)


REPAIR = StepType("repair.train", 4, unlearn_step)
