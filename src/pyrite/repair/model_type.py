"""The two model types of a repair, language models and classifiers, and what differs between them.

`repair.language` and `repair.classifier` are the two; each offers the functions of `ModelType`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.repair.settings import RepairSettings
from pyrite.steps import Context

if TYPE_CHECKING:
    from pyrite.repair.methods import Method

ROLES = ("forget", "replay", "guard_forget", "guard_replay")


@dataclass(frozen=True)
class RepairRows:
    """Every row of a repair, encoded: those that train, those that the guard looks at, and counts by file."""

    forget: list[Any]
    preferred: list[Any]
    replay: list[Any]
    guard: list[Any]
    prompts: list[list[int]]
    counts: dict[str, dict[str, Any]]


class ModelType(Protocol):
    """The functions that a repair needs of a model type."""

    def load_full_model(self, folder: Path, compute: Compute) -> Any:
        """The whole model of a folder, in fp32."""
        ...

    def read_rows(self, context: Context, tokenizer: Any, settings: RepairSettings, method: "Method") -> RepairRows:
        """Every file of the step, read and encoded."""
        ...

    def prepare(self, context: Context, settings: RepairSettings, compute: Compute, seed: int) -> Any:
        """The model, ready to train: with the repair's adapter, unless all weights move."""
        ...

    def reader(self, model: Any, tokenizer: Any) -> Any:
        """What reads rows with the model."""
        ...

    def forward(self, reader: Any, rows: Sequence[Any], layer: int | None = None) -> Any:
        """The model's outputs on rows: a `reference.Outputs`."""
        ...

    def save_full_model(self, model: Any, tokenizer: Path, context: Context, compute: Compute) -> None:
        """Write a trained model into the step's folder, whole, in its source's number format, with the tokenizer that lies
        in the folder `tokenizer`."""
        ...


def is_classifier(folder: Path) -> bool:
    """Does this folder hold a sequence classifier with its head?"""
    return any(
        "SequenceClassification" in str(architecture)
        for architecture in load.read_config(folder).get("architectures") or []
    )


def labels_of(folder: Path) -> tuple[str, ...]:
    """The names of a classifier's outputs, in their order and in lower case: labels are compared without regard to case.

    Raises:
        UserError: outputs without names or with one name twice, or outputs of which not exactly one is right.
    """
    config = load.read_config(folder)
    named = sorted((config.get("id2label") or {}).items(), key=lambda pair: int(pair[0]))
    labels = tuple(str(name).lower() for _, name in named)
    if config.get("problem_type") in ("regression", "multi_label_classification"):
        detail = f"{folder}: problem_type is {config['problem_type']}"
        raise UserError("Repair needs a classifier that gives each row one label.", detail, "give another model")
    nameless = [label for at, label in enumerate(labels) if label == f"label_{at}"]
    if len(set(labels)) < max(2, len(labels)) or nameless:
        fix = "name two or more outputs in its config.json (id2label) after the labels of the rows"
        raise UserError("The classifier's outputs have no names to go by.", f"{folder}: {list(labels)}", fix)
    return labels


def check_classifier(settings: RepairSettings, method: "Method") -> None:
    """Refuse what has no meaning for a classifier.

    Raises:
        UserError: a method on hidden states or on written answers, a part of the text, several processes, an adapter
            that is kept active.
    """
    from pyrite.repair.methods import METHODS

    if method.kind in ("hidden", "pair", "answer"):
        fix = "--method " + ", ".join(name for name, entry in METHODS.items() if entry.kind in ("token", "soft", "row"))
        raise UserError("This method is for language models, and the model is a classifier.", method.name, fix)
    if settings.part is not None:
        raise UserError("A classifier learns one label a row.", f"part: {settings.part}", "leave --part out")
    if settings.processes > 1:
        raise UserError("A classifier is repaired by one process.", f"processes: {settings.processes}", "processes: 1")
    if settings.adapter == "keep":
        raise UserError("A classifier's adapter is merged first.", "adapter: keep", "--adapter merge")


def check_left(encoded: Mapping[str, Sequence[Any]], counts: Mapping[str, Any]) -> None:
    """Refuse to go on without a row to forget, or to replay where replay rows are called for."""
    for role in ("forget", "replay"):
        if role in encoded and not encoded[role]:
            detail = f"{role}: {counts[role]}"
            raise UserError(f"No row is left to {role}.", detail, "give rows with answers, or raise max_tokens")


def check_guard(encoded: Mapping[str, Sequence[Any]], counts: Mapping[str, Any], settings: RepairSettings) -> None:
    """Refuse a guard that has nothing to look at on either side: it would pass what it does not see."""
    for role in ("guard_replay", "guard_forget"):
        if settings.guard.every_tokens and role in encoded and not encoded[role]:
            detail = f"{role}: {counts[role]}"
            fix = "give it more rows or longer ones (max_tokens), or do without it (guard.every_tokens: 0)"
            raise UserError("The guard has no rows to look at.", detail, fix)


def guard_rows(encoded: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The guard's rows; they are numbered (and bound to each other) after those that train."""
    rows = []
    for role in ("guard_forget", "guard_preferred", "guard_replay"):
        for row in encoded.get(role, []):
            after = len(encoded.get(row.role, []))
            unit = row.unit if row.unit == -1 else row.unit + after
            rows.append(replace(row, number=row.number + after, unit=unit))
    return rows
