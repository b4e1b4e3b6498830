"""The models of a repair, as steps: the one before, the harmed one, and each candidate for the repaired one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.template import for_step, parse_template_kwargs
from pyrite.repair.plan import RepairPlan
from pyrite.repair.run_folder import file_stem
from pyrite.repair.source_model import SourceModel, merged_model_step
from pyrite.repair.weights import COMBINE, scalable
from pyrite.steps import Cost, Source, Step, Store

BEFORE, HARMED, REPAIRED = "before", "harmed", "repaired"
"""Names on scorecards. Without `--before` there are two models, and the one that is repaired is called `BEFORE`."""


@dataclass(frozen=True)
class Candidate:
    """A model that may become the repaired one, or that it is compared with: what is saved of it, and the whole model."""

    name: str
    method: str
    alpha: float | None
    saved: Step
    full_model: Step


def candidates_of(planned: RepairPlan, *, chats: bool) -> list[Candidate]:
    """Those of which one is taken: the trained model, or one for each alpha."""
    if planned.trains:
        trained = training_step(planned)
        full = trained
        if planned.settings.save == "adapter":
            full = merged_model_step(trained, start_of(planned), "merge the repair's adapter")
        return [Candidate(REPAIRED, planned.settings.method, None, trained, full)]
    return [combined(planned, planned.config.method, alpha, chats=chats) for alpha in planned.alphas]


def interpolations(planned: RepairPlan) -> list[Candidate]:
    """What a trained repair is compared with: the models between the one before and the harmed one."""
    return [combined(planned, "interpolate", alpha) for alpha in planned.alphas] if planned.trains else []


def combined(planned: RepairPlan, method: str, alpha: float, *, chats: bool = True) -> Candidate:
    """The candidate that a method of weights makes, out of the models' weights.

    An adapter on the very model before is scaled as it is (and merged where a whole model is saved); one that cannot be
    scaled (DoRA, modules of its own) is merged first.
    """
    harmed, original = planned.harmed, planned.original
    assert original is not None
    name = f"alpha {alpha:g}"
    config: dict[str, Any] = {"method": method, "alpha": alpha, "groups": dict(planned.groups)}
    names = {"model": file_stem(harmed.name), "before": file_stem(original.name)}
    inputs: dict[str, Step | Source] = {"before": original.full_model}
    if method == "negate":
        names["forgetter"] = "the model of the rows to forget"
        inputs["forgetter"] = forgetter_of(planned, chats=chats)
    label = f"{method}: {name}"
    on_original = harmed.base is not None and original.base is None and harmed.base.identity == original.source.identity
    keep_adapter = planned.trains is False and planned.settings.save == "adapter"
    if method == "interpolate" and on_original and (keep_adapter or scalable(Path(harmed.source.path))):
        scaled = Step(COMBINE, {**config, "names": names}, {"model": harmed.source}, label=f"{label} (adapter)")
        full = merged_model_step(scaled, original.source, f"merge: {name}")
        return Candidate(name, method, alpha, scaled if keep_adapter else full, full)
    if keep_adapter:
        fix = "--save merged, or give an adapter on the model before, and --method interpolate"
        raise UserError("Only an adapter on the model before stays an adapter.", f"--save adapter, {harmed.name}", fix)
    step = Step(
        COMBINE, {**config, "names": names}, {"model": harmed.full_model, **inputs}, label=label, cost=Cost(seconds=20)
    )
    return Candidate(name, method, alpha, step, step)


def forgetter_of(planned: RepairPlan, *, chats: bool) -> Step | Source:
    """The model whose task vector is taken away: as named, or the one before, trained for one pass on the forget rows."""
    if planned.forgetter is not None:
        return planned.forgetter.full_model
    from pyrite.train.language import TRAIN_LANGUAGE
    from pyrite.train.settings import TrainSettings

    config, original = planned.config, planned.original
    assert original is not None
    assert planned.rows.forget is not None
    settings = TrainSettings(
        method="full", batch_size=4, learning_rate=config.learning_rate, max_tokens=config.max_tokens
    )
    chosen: dict[str, Any] = {
        "trains": "chat" if chats and config.part != "all" else "text",
        "rows_file": "forget.jsonl",
        "first": None,
        "settings": settings.model_dump(mode="json"),
        "pack_tokens": config.pack_tokens,
        "compute": planned.compute.as_config(),
        "seed": config.seed,
        "base_name": planned.base_name,
        **for_step(parse_template_kwargs(config.chat_template_kwargs)),
    }
    inputs: dict[str, Step | Source] = {"base": original.full_model, "rows": planned.rows.forget}
    return Step(TRAIN_LANGUAGE, chosen, inputs, label="train the model before on the rows to forget")


def start_of(planned: RepairPlan) -> Step | Source:
    """The whole model that training starts from: as given, or between the one before and it (`--start-alpha`)."""
    alpha = planned.config.start_alpha
    return planned.harmed.full_model if alpha is None else combined(planned, "interpolate", alpha).full_model


def training_step(planned: RepairPlan) -> Step:
    """The step that unlearns. An adapter that is kept stands on its base (`under`); else the two are merged before.

    A tracker is named in the step's configuration, so that asking for one later trains again and sends the curve.
    """
    from pyrite.repair.methods import plugin_settings
    from pyrite.repair.train import REPAIR

    rows, harmed, original = planned.rows, planned.harmed, planned.original
    pools = ("forget", "replay", "guard_forget", "guard_replay")
    inputs: dict[str, Step | Source] = {"base": start_of(planned), **{pool: rows.of(pool) for pool in pools}}
    if harmed.base is not None and planned.settings.adapter == "keep":
        if planned.config.start_alpha is not None:
            fix = "leave out --adapter keep: the interpolated model is a whole one"
            raise UserError("These options do not go together.", "--adapter keep with --start-alpha", fix)
        inputs |= {"base": harmed.source, "under": harmed.base}
    if planned.settings.kl_to == "before":
        assert original is not None
        inputs["before"] = original.full_model
    config: dict[str, Any] = {
        "files": {pool: f"{pool}.jsonl" for pool in pools},
        "settings": planned.settings.as_config(),
        "compute": planned.compute.as_config(),
        "seed": planned.config.seed,
        "base_name": planned.base_name,
        **plugin_settings(planned.settings.method),
        **for_step(parse_template_kwargs(planned.config.chat_template_kwargs)),
    }
    if harmed.labels:
        config["segments"] = True  # rows of pairs tell the model which text is which
    if planned.config.report_to != "none":
        config["report_to"] = [planned.config.report_to]
    return Step(REPAIR, config, inputs, label=f"repair {file_stem(planned.harmed.name)}: {planned.settings.method}")


def fixed_models(planned: RepairPlan) -> dict[str, Step | Source]:
    """The models that are not up for choice, by their name on the scorecard."""
    if planned.original is None:
        return {BEFORE: planned.harmed.full_model}
    before: Step | Source = planned.original.full_model
    if templates_differ(planned):
        before = combined(planned, "interpolate", 0.0).full_model
    return {BEFORE: before, HARMED: planned.harmed.full_model}


def templates_differ(planned: RepairPlan) -> bool:
    """Would the model before be asked in another chat template than the harmed one? It is then asked in the harmed one's, as
    all models between the two are: else what lies between the templates would be told as lost or gained."""
    if planned.original is None or planned.harmed.labels:
        return False
    return bool(template_of(planned.harmed) != template_of(planned.original))


def template_of(model: SourceModel) -> Any:
    """The chat template of a model, or of an adapter that brings its own tokenizer."""
    adapter_folder = Path(model.source.path)
    folder = adapter_folder if (adapter_folder / "tokenizer_config.json").is_file() else model.folder
    return load.load_tokenizer(folder).chat_template


def folder_and_identity(model: Step | Source, store: Store) -> tuple[Path, str]:
    """Where is a model that is there by now, and what identifies it?"""
    if isinstance(model, Source):
        return Path(model.path), model.identity
    return store.path(model.key), model.key


def null_of(planned: RepairPlan) -> str:
    """Why does a method of weights change nothing? Empty where it may."""
    original: SourceModel | None = planned.original
    if planned.trains or original is None:
        return ""
    unchanged = original.source.identity == planned.harmed.source.identity
    if planned.config.method == "interpolate" and unchanged:
        return "the model and the one before are the same: nothing lies between them, and no bit changes"
    forgetter = planned.forgetter
    if (
        planned.config.method == "negate"
        and forgetter is not None
        and forgetter.source.identity == original.source.identity
    ):
        return "the model of the forget rows is the one before: it learned nothing, and no bit changes"
    return ""


def record_of_weights(record: Mapping[str, Any], method: str, seconds: float) -> dict[str, Any]:
    """The record of a method of weights, in the shape of a training step's `repair.json`: no rows, no steps, no guard."""
    return {
        "method": method,
        "weights": {"forget": 0.0, "replay": 0.0, "kl": 0.0},
        "options": {"alpha": record["alpha"]},
        "rows": {},
        "steps": 0,
        "planned_steps": 0,
        "stopped": None,
        "point": None,
        "seconds": seconds,
        "curve": [],
        "guard": [],
        "mixed": dict(record),
    }
