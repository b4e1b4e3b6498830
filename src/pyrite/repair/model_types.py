"""Which of the two types of model a folder holds: `repair.classifier` or `repair.language`, each with what a repair needs."""

from pathlib import Path

from pyrite.repair import classifier, language
from pyrite.repair.model_type import ModelType, is_classifier


def model_type_of(folder: Path) -> ModelType:
    """The type of the model in a folder."""
    model_type: ModelType = classifier if is_classifier(folder) else language
    return model_type
