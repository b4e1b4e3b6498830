"""Step: an adapter folder and its base → a whole model folder, so that it can be probed like any other."""

import json
from pathlib import Path

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.load import ADAPTER_CONFIG, ModelRef
from pyrite.repair.model_types import model_type_of
from pyrite.repair.write_models import write_merged
from pyrite.steps import Context, Source, Step, StepType


def merge_step(context: Context) -> None:
    """Step: adds the adapters to the base's weights (in fp32) and writes the sum in the base's number format."""
    load.quiet_libraries()
    load.check_safetensors(context.inputs["adapter"])
    base = context.inputs["base"]
    write_merged(base, context.inputs["adapter"], context.out, model_type_of(base).load_full_model)


MERGE = StepType("repair.merge", 1, merge_step)


def base_of(adapter: Path) -> ModelRef:
    """The model that an adapter folder was trained on, by the name that its adapter_config.json gives.

    Raises:
        UserError: it names none, or one that is not there.
    """
    file = adapter / ADAPTER_CONFIG
    try:
        name = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise UserError("An adapter's configuration cannot be read.", f"{file}: {error}", "save it again") from error
    fix = "write the base (a model folder, a hub name or packaged:NAME) into base_model_name_or_path, or merge it yourself"
    if not isinstance(name, str) or not name:
        raise UserError("The adapter does not say which model it belongs to.", f"{file}: {name!r}", fix)
    try:
        base = load.resolve(name)
    except UserError as error:
        raise UserError("The adapter's base is not there.", f"{file}: {name} ({error.found})", fix) from error
    if (base.folder / ADAPTER_CONFIG).is_file():
        raise UserError("The adapter's base is an adapter itself.", f"{file}: {name}", "merge that one first")
    return base


def is_of_classifier(adapter: Path) -> bool:
    """Was this adapter trained with a classifier's head?"""
    return bool(json.loads((adapter / ADAPTER_CONFIG).read_bytes()).get("task_type") == "SEQ_CLS")


def merged_model_step(adapter: Step | Source, base: Step | Source, label: str) -> Step:
    """The step that makes a whole model of an adapter and its base."""
    return Step(MERGE, {}, {"adapter": adapter, "base": base}, label=label)
