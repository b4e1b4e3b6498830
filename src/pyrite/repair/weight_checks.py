"""Checks that models can be added tensor by tensor: architecture, vocabulary, tensors, and patterns of weight names."""

import fnmatch
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.repair.weight_files import Tensor, Weights, read_tensor
from pyrite.train.adapters import IN_ADAPTER

SAME_KEYS = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_labels")
"""Entries of config.json whose difference is told by name, before shapes are looked at."""


def fits(name: str, pattern: str) -> bool:
    """Does a weight's name fit a pattern? Of an adapter's, the name in its base is looked at, too."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.removeprefix(IN_ADAPTER), pattern)


def check_groups(groups: Mapping[str, float], names: Collection[str]) -> None:
    """Refuse a pattern that no weight's name fits: a slip of the pen would change nothing, unseen.

    Raises:
        UserError: which, with some of the names.
    """
    for pattern in groups:
        if not any(fits(name, pattern) for name in names):
            examples = ", ".join(sorted(names)[:4])
            raise UserError(
                "A group fits no weight.", pattern, f"names are such as {examples}; '*' stands for anything"
            )


def check_compatible(model: Weights, further: Sequence[Weights]) -> None:
    """Refuse models that cannot be added tensor by tensor.

    Raises:
        UserError: another architecture, vocabulary, tensor or shape, quantised weights, or a file that is cut off.
    """
    for weights in (model, *further):
        if weights.config.get("quantization_config"):
            fix = "give the models before quantisation"
            raise UserError("Quantised weights cannot be added.", f"{weights.name} is quantised", fix)
    for second in further:
        for key in SAME_KEYS:
            mine, theirs = model.config.get(key), second.config.get(key)
            if mine != theirs and key in model.config and key in second.config:
                detail = f"{key}: {mine} in {model.name}, {theirs} in {second.name}"
                raise UserError(
                    "The two models are not alike.", detail, "give a model of the same architecture and size"
                )
        check_vocabulary(model, second)
        check_tensors(model, second)


def check_vocabulary(model: Weights, second: Weights) -> None:
    """Refuse two tokenizers that give a token another number."""
    files = [weights.folder / "tokenizer.json" for weights in (model, second)]
    if not all(file.is_file() for file in files):
        return
    vocabularies = [vocabulary_of(file) for file in files]
    if vocabularies[0] != vocabularies[1]:
        detail = f"the vocabularies of {model.name} and {second.name} differ"
        raise UserError("The two models are not alike.", detail, "give a model with the same tokenizer")


def vocabulary_of(file: Path) -> tuple[Any, dict[int, str]]:
    """A tokenizer's vocabulary, and the tokens that were added to it by their number."""
    tokenizer = json.loads(file.read_bytes())
    return tokenizer["model"].get("vocab"), {
        token["id"]: token["content"] for token in tokenizer.get("added_tokens") or ()
    }


def check_tensors(model: Weights, second: Weights) -> None:
    """Refuse a tensor that one of the two lacks, or has in another shape."""
    for name, (_, tensor) in model.places.items():
        place = second.find(name)
        if place is None:
            raise UserError(
                "The two models are not alike.", f"{second.name} has no tensor {name}", "give a model alike"
            )
        if place[1].shape != tensor.shape:
            detail = f"{name}: {list(tensor.shape)} in {model.name}, {list(place[1].shape)} in {second.name}"
            raise UserError("The two models are not alike.", detail, "give a model of the same shapes")
    extra = [name for name in second.places if model.find(name) is None]
    if extra:
        raise UserError("The two models are not alike.", f"{model.name} has no tensor {extra[0]}", "give a model alike")
    for name in set(second.places) - set(model.places):  # a head of its own, where the model's is tied to its embedding
        if not same_as_tied(second, name):
            detail = f"{name} of {second.name} is not its embedding, and {model.name} has no head of its own"
            raise UserError(
                "The two models are not alike.", detail, "give both with a head of their own, or both without"
            )


def same_as_tied(weights: Weights, name: str) -> bool:
    """Is a stored head the same as the embedding that others tie it to?"""
    import torch

    head, tied = weights.places[name], weights.embedding
    return tied is not None and torch.equal(head[0].read(head[1]), tied[0].read(tied[1]))


def check_equal(tensor: Tensor, models: Sequence[Weights]) -> None:
    """Refuse whole numbers (positions, masks) that differ: they cannot be mixed."""
    first, *further = [read_tensor(tensor, model) for model in models]
    if any(not bool((first == tensor_values).all()) for tensor_values in further):
        detail = f"{tensor.name} ({tensor.dtype}) differs between {', '.join(model.name for model in models)}"
        raise UserError("The two models are not alike.", detail, "give a model alike")
