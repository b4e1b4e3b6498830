"""A model as it is given: a whole one, or an adapter with its base; and the step that merges the two into a whole model."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.load import ModelRef
from pyrite.models.quantised import refuse_quantised
from pyrite.models.whole import ADAPTER_CONFIG, check_weight_files
from pyrite.repair.model_type import ModelType, is_classifier, labels_of
from pyrite.steps import Context, Source, Step, StepType
from pyrite.train.adapters import check_adapter, write_merged


@dataclass(frozen=True)
class SourceModel:
    """A model as given: a whole one, or an adapter and its base."""

    name: str
    source: Source
    base: Source | None
    labels: tuple[str, ...] = ()
    """A classifier's outputs in order, in lower case; a language model has none."""

    @cached_property
    def full_model(self) -> Step | Source:
        """The whole model: as it is, or the step that merges adapter and base."""
        return (
            self.source
            if self.base is None
            else merged_model_step(self.source, self.base, "merge the adapter as given")
        )

    @property
    def folder(self) -> Path:
        """Where its configuration lies: the whole model's folder, or the base's."""
        return Path((self.base or self.source).path)


def merge_step(context: Context) -> None:
    """Step: adds the adapters to the base's weights (in fp32) and writes the sum in the base's number format."""
    load.quiet_libraries()
    check_weight_files(context.inputs["adapter"])
    base = context.inputs["base"]
    write_merged(base, context.inputs["adapter"], context.out, model_type_of(base).load_full_model)


MERGE = StepType("repair.merge", 2, merge_step)


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
        base = load.resolve(name, adapters=True)
    except UserError as error:
        if Path(name).expanduser().is_dir():
            raise  # it is there, and broken
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


def find_model(name: str) -> SourceModel:
    """Which model is meant? An adapter brings its base.

    Raises:
        UserError: no such model, one that neither writes nor classifies, a classifier whose outputs have no names, or
            a classifier's adapter without its head.
    """
    resolved = load.resolve(name, adapters=True)
    base = base_of(resolved.folder) if (resolved.folder / ADAPTER_CONFIG).is_file() else None
    folder = resolved.folder if base is None else base.folder
    refuse_quantised(folder)
    labels = labels_of(folder) if is_classifier(folder) else ()
    if not labels and base is not None and is_of_classifier(resolved.folder):
        fix = "merge the two into one model folder whose outputs have names (id2label)"
        raise UserError("A classifier's adapter does not name its labels.", f"{resolved.folder} on {folder}", fix)
    if not labels and not load.is_causal(folder):
        fix = "give a model that writes, or a classifier with its head"
        raise UserError("Repair needs a language model or a classifier.", str(folder), fix)
    if base is not None:
        check_adapter(resolved.folder, base.folder, classifies=bool(labels))
    check_weight_files(folder)
    source = Source(str(resolved.folder), resolved.identity)
    return SourceModel(name, source, None if base is None else Source(str(base.folder), base.identity), labels)


def check_same_type(harmed: SourceModel, original: SourceModel) -> None:
    """Refuse a model before that is of another sort, or a classifier of other labels.

    Raises:
        UserError: which.
    """
    if bool(harmed.labels) != bool(original.labels):
        detail = f"{harmed.name} and {original.name}: one is a classifier"
        raise UserError("The two models are not alike.", detail, "give the model that was trained further")
    if harmed.labels != original.labels:
        detail = f"{harmed.name} says {', '.join(harmed.labels)}; {original.name} {', '.join(original.labels)}"
        fix = "give the model before with the same outputs in the same order (id2label)"
        raise UserError("The two classifiers' outputs differ.", detail, fix)


def model_type_of(folder: Path) -> ModelType:
    """Which of the two types of model a folder holds: the module `classifier` or `language`, each with what a repair needs."""
    from pyrite.repair import classifier, language

    model_type: ModelType = classifier if is_classifier(folder) else language
    return model_type
