"""The step that repairs: a model, forget and replay rows → the repaired model and `repair.json` on what was done."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyrite.errors import UserError
from pyrite.io import atomic_write
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.records import Chat, Message, Text
from pyrite.repair.methods import REFUSALS, Method, Weights, resolve
from pyrite.repair.settings import RepairSettings
from pyrite.steps import Context, Kind
from pyrite.train import adapters
from pyrite.train.language import load_to_train, read_language, save_whole

ROLES = ("forget", "replay", "guard_forget", "guard_replay")


@dataclass(frozen=True)
class Rows:
    """Every row of a repair, encoded: those that train, those that the guard looks at, and counts by file."""

    forget: list[Any]
    preferred: list[Any]
    replay: list[Any]
    guard: list[Any]
    prompts: list[list[int]]
    counts: dict[str, dict[str, Any]]


def chosen(settings: RepairSettings) -> tuple[Method, Weights]:
    """The method with the options given, and its weights.

    Raises:
        UserError: an unknown method or option.
    """
    method = resolve(settings.method, settings.options)
    own = (settings.forget_weight, settings.replay_weight, settings.kl_weight)
    weights = [mine if mine is not None else theirs for mine, theirs in zip(own, method.weights, strict=True)]
    return method, Weights(*weights)


def refuse(record: Chat | Text, number: int) -> Chat:
    """A forget row's prompt, answered with one of our sentences that say nothing.

    Raises:
        UserError: plain text has no prompt to answer.
    """
    if isinstance(record, Text):
        fix = "give chats, or take another method"
        raise UserError("This method needs prompts with answers.", f"row {record.id} is plain text", fix)
    until = next((at for at, turn in enumerate(record.messages) if turn.role == "assistant"), len(record.messages))
    answer = Message("assistant", REFUSALS[number % len(REFUSALS)])
    return Chat((*record.messages[:until], answer), record.id, record.meta)


def read_rows(context: Context, tokenizer: Any, settings: RepairSettings, method: Method) -> Rows:
    """Read and encode every file of the step.

    Raises:
        UserError: no row is left to forget, or to replay where replay rows are called for.
    """
    from pyrite.train.packed import encode_rows

    files = context.config["files"]
    records = {role: read_language(context.inputs[role] / files[role]) for role in ROLES if role in files}
    chats = any(isinstance(one, Chat) for some in records.values() for one in some)
    part = settings.part or ("answers" if chats else "all")
    long_rows = "drop" if method.kind in ("pair", "answer") else settings.long_rows
    encoded, counts = {}, {}
    for role, some in records.items():
        plain = role.removeprefix("guard_")
        encoded[role], counts[role] = encode_rows(
            tokenizer, some, part, settings.max_tokens, long_rows=long_rows, role=plain
        )
    for role in ("forget", "replay"):
        if role in records and not encoded[role]:
            found = f"{role}: {counts[role]}"
            raise UserError(f"No row is left to {role}.", found, "give rows with answers, or raise max_tokens")
    preferred: list[Any] = []
    if method.kind in ("pair", "answer"):
        preferred = said_nothing(tokenizer, records["forget"], encoded["forget"], part, settings)
    guard = [
        replace(row, number=row.number + len(encoded.get(row.role, [])))
        for role in ("guard_forget", "guard_replay")
        for row in encoded.get(role, [])
    ]
    if method.kind in ("pair", "answer"):
        guard = [row for row in guard if row.role == "replay"]
    prompts = [list(row.ids[: row.learned.index(True)]) for row in encoded.get("guard_replay", [])]
    told = {role: tell(some) for role, some in counts.items()}
    return Rows(encoded["forget"], preferred, encoded.get("replay", []), guard, [p for p in prompts if p], told)


def said_nothing(
    tokenizer: Any, records: Sequence[Chat | Text], forget: list[Any], part: Any, settings: RepairSettings
) -> list[Any]:
    """For every encoded forget row, its prompt with an answer that says nothing; both get one unit."""
    from pyrite.train.packed import encode_rows

    by_id = {record.id: record for record in records}
    refused = [refuse(by_id[row.id], number) for number, row in enumerate(forget)]
    made, _ = encode_rows(tokenizer, refused, part, settings.max_tokens, long_rows="drop", role="preferred")
    there = {row.id: row for row in made}
    forget[:] = [replace(row, number=at, unit=at) for at, row in enumerate(r for r in forget if r.id in there)]
    return [replace(there[row.id], number=row.number, unit=row.number) for row in forget]


def tell(counts: dict[str, int]) -> dict[str, Any]:
    """Counts with the reasons apart."""
    reasons = ("longer than max_tokens", "no tokens to learn")
    dropped = {reason: counts[reason] for reason in reasons if counts[reason]}
    return {"read": counts["read"], "used": counts["used"], "split": counts["split"], "dropped": dropped}


def plan_steps(rows: Rows, settings: RepairSettings, reads: Sequence[str], seed: int) -> list[list[Any]]:
    """Which rows does each step read? Forget and replay rows are shuffled anew in every pass, each with its own seed, and
    paired step by step; the budget in tokens counts every token that is read.

    Raises:
        UserError: a budget in which not even one step fits.
    """
    sides = []
    if "forget" in reads or "preferred" in reads:
        sides.append((rows.forget, settings.forget_rows, 0))
    if "replay" in reads and rows.replay:
        sides.append((rows.replay, settings.replay_rows, 1))
    sides = [(some, count, stream) for some, count, stream in sides if count]
    if not sides:
        return []
    steps = settings.steps
    if steps is None and settings.tokens is None:
        steps = -(-len(rows.forget) // settings.forget_rows)
    preferred = {row.number: row for row in rows.preferred}
    made: list[list[Any]] = []
    read = 0
    streams = [draws(some, count, [seed, stream]) for some, count, stream in sides]
    while steps is None or len(made) < steps:
        step = [row for stream in streams for row in next(stream)]
        if preferred:
            step += [preferred[row.number] for row in step if row.role == "forget"]
            step = [row for row in step if row.role in reads]
        read += sum(len(row.ids) for row in step)
        if settings.tokens is not None and read > settings.tokens:
            break
        made.append(step)
    if not made:
        found = f"{settings.tokens} tokens; the first step reads {read}"
        raise UserError("Not even one step fits into the budget.", found, "raise --tokens, or take fewer rows a step")
    return made


def draws(rows: Sequence[Any], count: int, seed: Sequence[int]) -> Any:
    """Endless lists of `count` rows: pass after pass, each in an order of its own."""
    left: list[Any] = []
    passes = 0
    while True:
        while len(left) < count:
            order = np.random.default_rng([*seed, passes]).permutation(len(rows))
            left += [rows[at] for at in order]
            passes += 1
        yield left[:count]
        left = left[count:]


def prepare(context: Context, settings: RepairSettings, compute: Compute, seed: int) -> Any:
    """The model, ready to train: with the repair's adapter, over one that it came with where that is kept."""
    from pyrite.repair.reference import ADAPTER

    base = context.inputs["base"]
    how = settings.training.method
    under = context.inputs.get("under")
    model = load_to_train(under or base, compute, how)
    if how == "full":
        if under is not None:
            found = "adapter: keep with training.method full"
            raise UserError("All weights cannot be trained beneath an adapter.", found, "--adapter merge, or lora")
        return model
    if under is not None:
        model = adapters.with_adapter(model, base, train=False)
    lora = settings.training.lora
    return adapters.add_adapter(model, lora, "CAUSAL_LM", seed=seed, four_bit=how == "qlora", name=ADAPTER)


def references(
    model: Any, reader: Any, rows: Rows, steps: Sequence[Sequence[Any]], objective: Any, settings: RepairSettings,
    compute: Compute, folder: Path, pack_tokens: int,
) -> tuple[Any, Any]:  # fmt: skip
    """The model as given, for the loss and for the guard's KL: live beneath the adapter, or from disk."""
    from pyrite.repair.reference import Beneath, write_reference

    moved = settings.training.method == "full" or bool(settings.training.lora.also_train)
    layer = objective.layer
    roles = {"replay"} | ({"forget"} if objective.method.teacher == "reference" else set())
    if not moved:
        live = Beneath(model, reader)
        return (live if layer is None else Beneath(model, reader, layer)), live
    used = {(row.role, row.number): row for step in steps for row in step if row.role in roles}
    used |= {(row.role, row.number): row for row in rows.guard if row.role in roles}
    ordered = [used[key] for key in sorted(used)]
    last = write_reference(reader, ordered, folder / "last", pack_tokens=pack_tokens, compute=compute)
    if layer is None:
        return last, last
    inner = write_reference(reader, ordered, folder / "layer", pack_tokens=pack_tokens, compute=compute, layer=layer)
    return inner, last


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
    rows = read_rows(context, tokenizer, settings, method)
    if any(weights) and settings.processes > 1:
        told, ended = train_together(context, settings, compute, seed)
    elif any(weights):
        told, ended = train(context, settings, compute, method, weights, rows, tokenizer, seed)
    else:
        told, ended = {"steps": 0, "stopped": None, "curve": [], "guard": [], "point": None}, None
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
    from pyrite.train.packed import PACK_TOKENS, Course, Trained, fit_packed

    began = time.monotonic()
    model = prepare(context, settings, compute, seed)
    objective = RepairObjective(method, weights, None, layer=layer_of(method, model), seed=seed)
    module = Trained(model, objective)
    steps = plan_steps(rows, settings, objective.reads(), seed)
    pack_tokens = settings.pack_tokens or PACK_TOKENS[compute.device]
    wants = weights.kl or method.teacher == "reference" or method.kind == "hidden" or settings.guard.every_tokens
    inner = last = None
    if wants:
        with sharded.first_goes_first():
            inner, last = references(
                model, module.reader, rows, steps, objective, settings, compute, context.checkpoint / "reference",
                pack_tokens,
            )  # fmt: skip
    objective.reference = inner
    if sharded.size() > 1 and isinstance(inner, Beneath):
        asks = (weights.kl or method.kind == "hidden", method.teacher == "reference")
        module.objective = Evenly(objective, inner, sum(map(bool, asks)))
    if method.reference and method.kind in ("row", "pair"):
        asked = [*rows.forget, *rows.preferred, *(row for row in rows.guard if row.role == "forget")]
        objective.frozen = frozen_values(module, asked, pack_tokens, compute)
    callbacks = []
    guard = None
    if settings.guard.every_tokens and rows.guard:
        watched = Watched(rows.guard, rows.prompts, end_ids(model, tokenizer))
        guard = Guard(settings.guard, watched, objective, last, compute, context.checkpoint / "points")
        callbacks.append(guard)
    course = {name: getattr(settings.training, name) for name in Course.__dataclass_fields__}
    ended = fit_packed(
        module, steps, course=Course(**course), pack_tokens=pack_tokens, compute=compute, seed=seed, context=context,
        callbacks=callbacks, report_to=context.config.get("report_to", ()),
    )  # fmt: skip
    spent = cost.spent(model, steps[: ended.steps], settings, weights, guard.read if guard else 0)
    told: dict[str, Any] = {
        "steps": ended.steps,
        "planned_steps": len(steps),
        **spent,
        "seconds": time.monotonic() - began,
        "peak_bytes": cost.peak_bytes(compute),
        "curve": cost.curve(ended.curve, steps),
    }
    if guard is None:
        last_step = {"step": ended.steps, "rule": "the last point: there was no guard"}
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
    model = prepare(context, settings, compute, seed)
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
    rows = read_rows(context, tokenizer, settings, method)
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

    base, under = context.inputs["base"], context.inputs.get("under")
    if settings.save == "adapter":
        adapters.save(model, tokenizer, context.out, context.config["base_name"], only=ADAPTER)
        return
    given = base if under is not None else None
    save_whole(model, tokenizer, under or base, context.out, compute, context.config["base_name"], beneath=given)


def as_given(tokenizer: Any, context: Context, settings: RepairSettings, compute: Compute) -> None:
    """The model as it was given, written anew; no value of it changes. As an adapter: one that does nothing."""
    from pyrite.repair.reference import ADAPTER

    base, under = context.inputs["base"], context.inputs.get("under")
    if settings.save == "adapter":
        model = prepare(context, settings, compute, context.config["seed"])
        adapters.save(model, tokenizer, context.out, context.config["base_name"], only=ADAPTER)
        return
    model = load.load_causal(under or base, Compute("cpu", "fp32"))
    if under is not None:
        model = adapters.with_adapter(model, base, train=False).merge_and_unload()
    save_whole(model, tokenizer, under or base, context.out, compute, context.config["base_name"])


REPAIR = Kind("repair.train", 1, run)
