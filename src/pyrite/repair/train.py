"""The step that repairs: a model, forget and replay rows → the repaired model and `repair.json` on what was done."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.errors import UserError
from pyrite.io import atomic_write
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.repair.cost import NOTHING
from pyrite.repair.job import Job, job_of, whole_folder
from pyrite.repair.methods import Method
from pyrite.repair.plan import plan_steps
from pyrite.steps import Context, StepType
from pyrite.train import adapters

if TYPE_CHECKING:
    from pyrite.repair.guard import Guard
    from pyrite.repair.objective import RepairObjective
    from pyrite.repair.reference import Reference
    from pyrite.train.packed import Trained


@dataclass(frozen=True)
class Repaired:
    """What a repair came to: what is told of it, and the model at the best point; None: the model as it was given."""

    told: dict[str, Any]
    model: Any


def run(context: Context) -> None:
    """The step."""
    load.quiet_libraries()
    job = job_of(context)
    if not any(job.weights):
        made = Repaired(NOTHING, None)
    elif job.settings.processes > 1:
        made = train_together(job)
    else:
        made = train(job)
    if made.model is not None:
        save(job, made.model)
    else:
        as_given(job)
    told = {
        "method": job.method.name,
        "weights": job.weights._asdict(),
        "options": dict(job.method.options),
        "rows": job.rows.counts,
        **made.told,
    }
    (context.out / "repair.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))


def train(job: Job) -> Repaired:
    """Take the steps under the guard."""
    from pyrite.repair import cost
    from pyrite.repair.objective import RepairObjective
    from pyrite.repair.reference import Beneath
    from pyrite.train.cost import shape_of
    from pyrite.train.packed import Trained, fit_packed

    began = time.monotonic()
    kept, read_before = keep_to_before(job)
    model = job.prepare()
    layer = layer_of(job.method, model)
    objective = RepairObjective(
        job.method, job.weights, None, layer=layer, seed=job.seed, see=job.sort.see, keep_to=kept
    )
    module = Trained(model, objective, job.sort.reader(model, job.tokenizer))
    steps = plan_steps(job.rows, job.settings, objective.reads(), job.seed)
    asked = [*references(job, module, objective, steps), *frozen(job, module, objective, steps)]
    asked += read_before
    guard = guard_of(job, model, objective)
    prepared = time.monotonic() - began
    ended = fit_packed(
        module, steps, course=job.settings.training, pack_tokens=job.pack_tokens, compute=job.compute, seed=job.seed,
        context=job.context, callbacks=[guard] if guard else [], report_to=job.context.config.get("report_to", ()),
    )  # fmt: skip
    spent = cost.spent(
        shape_of(model), steps[: ended.steps], job.settings, objective, live=isinstance(objective.reference, Beneath),
        beforehand=asked, guard=(guard.read, guard.looked_at) if guard else (0, 0),
    )  # fmt: skip
    told = {
        "steps": ended.steps,
        "planned_steps": len(steps),
        **spent,
        "seconds": prepared + ended.seconds,
        "peak_bytes": cost.peak_bytes(job.compute),
        "curve": cost.curve(ended.curve, steps),
    }
    if guard is None:
        rule = "the last point: there was no guard"
        last = {"step": ended.steps, "tokens": sum(spent["tokens"].values()), "rule": rule, "values": {}}
        return Repaired({**told, "stopped": None, "guard": [], "point": last}, ended.model)
    return Repaired(told | guard.told(), ended.model if guard.roll_back(ended.model) else None)


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


def references(
    job: Job, module: "Trained", objective: "RepairObjective", steps: Sequence[Sequence[Any]]
) -> Sequence[Any]:
    """Give the objective the model as given, for the loss and for the guard's KL: live beneath the adapter, or from disk.
    Returns the rows that were read for it, each time they were."""
    from pyrite.repair.reference import Beneath, Evenly, write_reference
    from pyrite.train import sharded

    method, training, reader, layer = job.method, job.settings.training, module.reader, objective.layer
    in_loss = (
        (job.weights.kl and job.settings.kl_to == "given") or method.teacher == "reference" or method.kind == "hidden"
    )
    if not (in_loss or job.settings.guard.every_tokens):
        return []
    if training.method != "full" and not training.lora.also_train:  # the model as given lies beneath the adapter
        objective.last = Beneath(module.model, reader, see=job.sort.see)
        live = objective.last if layer is None else Beneath(module.model, reader, layer, see=job.sort.see)
        objective.reference = live
        if sharded.size() > 1:
            module.objective = Evenly(objective, live, len(objective.asks()))
        return []
    roles = {"replay"} | ({"forget"} if method.teacher == "reference" else set())
    rows = once([*(row for step in steps for row in step), *job.rows.guard], roles)
    folder = job.context.checkpoint / "reference"
    how: dict[str, Any] = {"pack_tokens": job.pack_tokens, "compute": job.compute, "see": job.sort.see}
    with sharded.first_goes_first():
        objective.last = objective.reference = write_reference(reader, rows, folder / "last", **how)
        if layer is None:
            return rows
        objective.reference = write_reference(reader, rows, folder / "layer", **how, layer=layer)
    return [*rows, *rows]


def keep_to_before(job: Job) -> "tuple[Reference | None, Sequence[Any]]":
    """The model before the harm, for the KL term and the guard's KL, where the settings say so: its states on the replay
    rows, computed once and kept on disk; it is gone before the model that trains is loaded. With the rows that were read.

    Raises:
        UserError: the two models do not share their tokens.
    """
    if job.settings.kl_to != "before" or not job.weights.kl:
        return None, []
    from pyrite.repair.objective import RepairObjective
    from pyrite.repair.reference import write_reference
    from pyrite.repair.weights import Weights, check_vocabulary

    folder = job.context.inputs["before"]
    check_vocabulary(Weights(whole_folder(job.context), "the model"), Weights(folder, "the model before"))
    steps = plan_steps(job.rows, job.settings, RepairObjective(job.method, job.weights, None).reads(), job.seed)
    rows = once([*(row for step in steps for row in step), *job.rows.guard], {"replay"})
    model = job.sort.load_whole(folder, job.compute).eval()
    kept = write_reference(
        job.sort.reader(model, job.tokenizer), rows, job.context.checkpoint / "reference" / "before",
        pack_tokens=job.pack_tokens, compute=job.compute, see=job.sort.see,
    )  # fmt: skip
    return kept, rows


def frozen(job: Job, module: "Trained", objective: "RepairObjective", steps: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Give the objective what the model as given says of whole forget rows, where the method compares with it. Returns
    the rows that were read for it."""
    from pyrite.repair.objective import frozen_values

    if not job.method.reference or job.method.kind not in ("row", "pair"):
        return []
    rows = once([*(row for step in steps for row in step), *job.rows.guard], {"forget", "preferred"})
    objective.frozen = frozen_values(module, rows, job.pack_tokens, job.compute, job.sort.see)
    return rows


def once(rows: Sequence[Any], roles: set[str]) -> list[Any]:
    """The rows of these roles, each once, in their order by role and number."""
    found = {(row.role, row.number): row for row in rows if row.role in roles}
    return [found[key] for key in sorted(found)]


def guard_of(job: Job, model: Any, objective: "RepairObjective") -> "Guard | None":
    """What watches over the steps, where it is asked for and has rows."""
    from pyrite.models.write import end_ids
    from pyrite.repair.guard import Guard, Watched

    if not job.settings.guard.every_tokens or not job.rows.guard:
        return None
    prompts = job.rows.prompts
    watched = Watched(job.rows.guard, prompts, end_ids(model, job.tokenizer) if prompts else ())
    return Guard(job.settings.guard, watched, objective, job.compute, job.context.checkpoint / "points")


TOLD, TRAINED = "trained.json", "trained.safetensors"
"""In a checkpoint: what several processes leave, the weights only where a step was worth keeping."""


def train_together(job: Job) -> Repaired:
    """As `train`, in several processes that share the model; the result is a model in this one."""
    from safetensors.torch import load_file

    from pyrite.train.packed import put_weights
    from pyrite.train.processes import together

    left = job.context.checkpoint
    if not (left / TOLD).is_file():
        together(job.settings.processes, job.compute, one_of_several, job.context)
    told = orjson.loads((left / TOLD).read_bytes())
    if not (left / TRAINED).is_file():
        return Repaired(told, None)
    model = job.prepare()
    put_weights(model, load_file(left / TRAINED))
    return Repaired(told, model)


def one_of_several(context: Context) -> None:
    """What each process does: the training; the first one leaves what is told and the trained weights, whole."""
    from safetensors.torch import save_file

    from pyrite.train import sharded
    from pyrite.train.packed import trained_weights

    load.quiet_libraries()
    made = train(job_of(context))
    weights = None if made.model is None else trained_weights(made.model)
    if sharded.is_first():
        (context.checkpoint / TRAINED).unlink(missing_ok=True)
        if weights is not None:
            save_file(weights, context.checkpoint / TRAINED)
        with atomic_write(context.checkpoint / TOLD) as part:  # last: where it lies, the training is over
            Path(part).write_bytes(orjson.dumps(made.told))


def save(job: Job, model: Any) -> None:
    """The repaired model: whole, or its adapter."""
    from pyrite.repair.reference import ADAPTER

    context = job.context
    if job.settings.save == "adapter":
        adapters.save(model, job.tokenizer, context.out, context.config["base_name"], only=ADAPTER)
        return
    job.sort.save_whole(model, job.tokenizer, context, job.compute)


def as_given(job: Job) -> None:
    """The model as it was given, written anew; no value of it changes. As an adapter: one that does nothing."""
    if job.settings.save == "adapter":
        save(job, job.prepare())
        return
    context = job.context
    model = job.sort.load_whole(whole_folder(context), Compute("cpu", "fp32"))
    if "under" in context.inputs:
        model = adapters.with_adapter(model, context.inputs["base"], train=False).merge_and_unload()
    job.sort.save_whole(model, job.tokenizer, context, job.compute)


REPAIR = StepType("repair.train", 3, run)
