"""A repair task: settings and method of a repair step, the model's folders, and every row, encoded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.repair.methods import LossWeights, Method, import_plugin, resolve_method
from pyrite.repair.model_type import ModelType, RepairRows
from pyrite.repair.model_types import model_type_of
from pyrite.repair.settings import RepairSettings
from pyrite.steps import Context


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
