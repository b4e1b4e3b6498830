"""The step that repairs: a model, forget and replay rows → the repaired model and `repair.json` on what was done."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.io import atomic_write
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.repair.cost import NOTHING
from pyrite.repair.methods import Method, Weights, resolve
from pyrite.repair.plan import plan_steps
from pyrite.repair.settings import RepairSettings
from pyrite.repair.sorts import Rows, sort_of
from pyrite.steps import Context, Kind
from pyrite.train import adapters


def chosen(settings: RepairSettings) -> tuple[Method, Weights]:
    """The method with the options given, and its weights.

    Raises:
        UserError: an unknown method or option, or a weight that would be told but not applied.
    """
    method = resolve(settings.method, settings.options)
    own = (settings.forget_weight, settings.replay_weight, settings.kl_weight)
    weights = [mine if mine is not None else theirs for mine, theirs in zip(own, method.weights, strict=True)]
    made = Weights(*weights)
    if method.kind == "hidden" and made.kl:
        found = f"{method.name} with a weight of {made.kl:g} for KL"
        raise UserError("This method keeps hidden states, not distributions.", found, "leave --kl-weight out, or 0")
    if not settings.replay_rows and (made.replay or made.kl):
        found = f"replay_rows 0, weights {made.replay:g} (replay) and {made.kl:g} (KL)"
        raise UserError("Replay and KL need replay rows.", found, "give rows a step, or set both weights to 0")
    return method, made


def references(
    model: Any, reader: Any, rows: Rows, steps: Sequence[Sequence[Any]], objective: Any, settings: RepairSettings,
    compute: Compute, folder: Path, pack_tokens: int,
) -> tuple[Any, Any, list[Any]]:  # fmt: skip
    """The model as given, for the loss and for the guard's KL: live beneath the adapter, or from disk; and the rows that
    were read for it."""
    from pyrite.repair.reference import Beneath, write_reference

    moved = settings.training.method == "full" or bool(settings.training.lora.also_train)
    layer = objective.layer
    roles = {"replay"} | ({"forget"} if objective.method.teacher == "reference" else set())
    if not moved:
        live = Beneath(model, reader, see=objective.see)
        return (live if layer is None else Beneath(model, reader, layer, see=objective.see)), live, []
    used = {(row.role, row.number): row for step in steps for row in step if row.role in roles}
    used |= {(row.role, row.number): row for row in rows.guard if row.role in roles}
    ordered = [used[key] for key in sorted(used)]
    how: dict[str, Any] = {"pack_tokens": pack_tokens, "compute": compute, "see": objective.see}
    last = write_reference(reader, ordered, folder / "last", **how)
    if layer is None:
        return last, last, ordered
    return write_reference(reader, ordered, folder / "layer", **how, layer=layer), last, [*ordered, *ordered]


def layer_of(method: Method, model: Any) -> int | None:
    """After how many layers does the method look? A number below 1 is a share of the depth."""
    if method.kind != "hidden":
        return None
    depth = int(model.config.get_text_config().num_hidden_layers)
    wanted = method.options["layer"]
    found = round(wanted * depth) if wanted < 1 else int(wanted)
    if not 1 <= found <= depth:
        raise UserError("The model has no such layer.", f"layer {wanted:g} of {depth}", "--option layer=N")
    return found


def whole_folder(context: Context) -> Path:
    """Where the whole model lies: an adapter that is kept stands on its base (`under`)."""
    return context.inputs.get("under", context.inputs["base"])


def tokenizer_folder(context: Context) -> Path:
    """Where the tokenizer lies: with the model; with its base, for an adapter that brings none."""
    base = context.inputs["base"]
    brings = (base / "tokenizer_config.json").is_file()
    return base if brings else context.inputs.get("under", base)


def run(context: Context) -> None:
    """The step."""
    load.quiet_libraries()
    config = context.config
    settings = RepairSettings.model_validate(config["settings"])
    compute = Compute(**config["compute"])
    seed: int = config["seed"]
    method, weights = chosen(settings)
    tokenizer = load.load_tokenizer(tokenizer_folder(context))
    rows = sort_of(whole_folder(context)).read_rows(context, tokenizer, settings, method)
    if any(weights) and settings.processes > 1:
        told, ended = train_together(context, settings, compute, seed)
    elif any(weights):
        told, ended = train(context, settings, compute, method, weights, rows, tokenizer, seed)
    else:
        told, ended = NOTHING, None
    if ended is not None:
        save(ended, tokenizer, context, settings, compute)
    else:
        as_given(tokenizer, context, settings, compute)
    told = {
        "method": method.name,
        "weights": weights._asdict(),
        "options": dict(method.options),
        "rows": rows.counts,
        **told,
    }
    (context.out / "repair.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))


def train(
    context: Context, settings: RepairSettings, compute: Compute, method: Method, weights: Weights, rows: Rows,
    tokenizer: Any, seed: int,
) -> tuple[dict[str, Any], Any]:  # fmt: skip
    """Take the steps under the guard; what is told of them, and the model at the best point (None: as it was given)."""
    from pyrite.models.write import end_ids
    from pyrite.repair import cost
    from pyrite.repair.guard import RULE, Guard, Watched
    from pyrite.repair.objective import RepairObjective, frozen_values
    from pyrite.repair.reference import Beneath, Evenly
    from pyrite.train import sharded
    from pyrite.train.cost import shape_of
    from pyrite.train.packed import PACK_TOKENS, Trained, fit_packed

    began = time.monotonic()
    sort = sort_of(whole_folder(context))
    model = sort.prepare(context, settings, compute, seed)
    objective = RepairObjective(method, weights, None, layer=layer_of(method, model), seed=seed, see=sort.see)
    module = Trained(model, objective, sort.reader(model, tokenizer))
    steps = plan_steps(rows, settings, objective.reads(), seed)
    pack_tokens = settings.pack_tokens or PACK_TOKENS[compute.device]
    before: list[Any] = []
    wants = weights.kl or method.teacher == "reference" or method.kind == "hidden" or settings.guard.every_tokens
    inner = None
    if wants:
        with sharded.first_goes_first():
            inner, objective.last, before = references(
                model, module.reader, rows, steps, objective, settings, compute, context.checkpoint / "reference",
                pack_tokens,
            )  # fmt: skip
    objective.reference = inner
    live = isinstance(inner, Beneath)
    if sharded.size() > 1 and isinstance(inner, Beneath):
        module.objective = Evenly(objective, inner, len(objective.asks()))
    if method.reference and method.kind in ("row", "pair"):
        used = {(row.role, row.number): row for step in steps for row in step if row.role != "replay"}
        used |= {(row.role, row.number): row for row in rows.guard if row.role != "replay"}
        asked = [used[key] for key in sorted(used)]
        objective.frozen = frozen_values(module, asked, pack_tokens, compute, sort.see)
        before += asked
    callbacks = []
    guard = None
    if settings.guard.every_tokens and rows.guard:
        watched = Watched(rows.guard, rows.prompts, end_ids(model, tokenizer) if rows.prompts else ())
        guard = Guard(settings.guard, watched, objective, compute, context.checkpoint / "points")
        callbacks.append(guard)
    prepared = time.monotonic() - began
    ended = fit_packed(
        module, steps, course=settings.training, pack_tokens=pack_tokens, compute=compute, seed=seed, context=context,
        callbacks=callbacks, report_to=context.config.get("report_to", ()),
    )  # fmt: skip
    spent = cost.spent(
        shape_of(model), steps[: ended.steps], settings, objective, live=live, beforehand=before,
        guard=(guard.read, guard.looked_at) if guard else (0, 0),
    )  # fmt: skip
    told: dict[str, Any] = {
        "steps": ended.steps,
        "planned_steps": len(steps),
        **spent,
        "seconds": prepared + ended.seconds,
        "peak_bytes": cost.peak_bytes(compute),
        "curve": cost.curve(ended.curve, steps),
    }
    if guard is None:
        rule = "the last point: there was no guard"
        last_step = {"step": ended.steps, "tokens": sum(spent["tokens"].values()), "rule": rule, "values": {}}
        return {**told, "stopped": None, "guard": [], "point": last_step}, ended.model
    state = guard.state
    point = {"step": state.best, "tokens": state.point().tokens, "rule": RULE, "values": cost.plain(state.point())}
    told |= {"stopped": state.stopped, "guard": [cost.plain(look) for look in state.looks], "point": point}
    return told, ended.model if guard.roll_back(ended.model) else None


def train_together(
    context: Context, settings: RepairSettings, compute: Compute, seed: int
) -> tuple[dict[str, Any], Any]:
    """As `train`, in several processes that share the model; the result is a model in this one."""
    from safetensors.torch import load_file

    from pyrite.train.packed import put_weights
    from pyrite.train.processes import together

    if not (context.checkpoint / TOLD).is_file():
        together(settings.processes, compute, one_of_several, context)
    told = orjson.loads((context.checkpoint / TOLD).read_bytes())
    if not (context.checkpoint / TRAINED).is_file():
        return told, None
    model = sort_of(whole_folder(context)).prepare(context, settings, compute, seed)
    put_weights(model, load_file(context.checkpoint / TRAINED))
    return told, model


TOLD, TRAINED = "trained.json", "trained.safetensors"
"""In a checkpoint: what several processes leave, the weights only where a step was worth keeping."""


def one_of_several(context: Context) -> None:
    """What each process does: the training; the first one leaves what is told and the trained weights, whole."""
    from safetensors.torch import save_file

    from pyrite.train import sharded
    from pyrite.train.packed import trained_weights

    load.quiet_libraries()
    settings = RepairSettings.model_validate(context.config["settings"])
    method, weights = chosen(settings)
    tokenizer = load.load_tokenizer(tokenizer_folder(context))
    rows = sort_of(whole_folder(context)).read_rows(context, tokenizer, settings, method)
    compute, seed = Compute(**context.config["compute"]), context.config["seed"]
    told, ended = train(context, settings, compute, method, weights, rows, tokenizer, seed)
    made = None if ended is None else trained_weights(ended)
    if sharded.is_first():
        (context.checkpoint / TRAINED).unlink(missing_ok=True)
        if made is not None:
            save_file(made, context.checkpoint / TRAINED)
        with atomic_write(context.checkpoint / TOLD) as part:  # last: where it lies, the training is over
            Path(part).write_bytes(orjson.dumps(told))


def save(model: Any, tokenizer: Any, context: Context, settings: RepairSettings, compute: Compute) -> None:
    """The repaired model: whole, or its adapter."""
    from pyrite.repair.reference import ADAPTER

    if settings.save == "adapter":
        adapters.save(model, tokenizer, context.out, context.config["base_name"], only=ADAPTER)
        return
    sort_of(whole_folder(context)).save_whole(model, tokenizer, context, compute)


def as_given(tokenizer: Any, context: Context, settings: RepairSettings, compute: Compute) -> None:
    """The model as it was given, written anew; no value of it changes. As an adapter: one that does nothing."""
    folder = whole_folder(context)
    sort = sort_of(folder)
    if settings.save == "adapter":
        save(sort.prepare(context, settings, compute, context.config["seed"]), tokenizer, context, settings, compute)
        return
    model = sort.load_whole(folder, Compute("cpu", "fp32"))
    if "under" in context.inputs:
        model = adapters.with_adapter(model, context.inputs["base"], train=False).merge_and_unload()
    sort.save_whole(model, tokenizer, context, compute)


REPAIR = Kind("repair.train", 1, run)
