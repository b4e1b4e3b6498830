"""The weights that a training moves, on disk: one file, or the shares of the processes that hold them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pyrite.errors import UserError
from pyrite.train import peers
from pyrite.train.shards import AGAIN, INDEX, read_shards, write_shards


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """The weights that are trained, by name, each tensor once; sharded where the model is."""
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}


def put_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Put weights of `trained_weights` back.

    Raises:
        UserError: they are of another model.
    """
    parameters = trained_weights(model)
    if parameters.keys() != weights.keys():
        detail = f"{len(parameters.keys() ^ weights.keys())} names differ"
        raise UserError("A checkpoint is of another model.", detail, AGAIN)
    with torch.no_grad():
        for name, weight in parameters.items():
            weight.copy_(weights[name])


def file_of(path: Path) -> Path:
    """The file that holds weights which were written to `path` by a process alone."""
    return path.parent / f"{path.name}.safetensors"


def write_weights(model: Any, path: Path) -> None:
    """Write the weights that are trained: to a folder `path` from all processes, or to a file beside it from one."""
    weights = trained_weights(model)
    if peers.world_size() > 1:
        write_shards(weights, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.cpu().contiguous() for name, weight in weights.items()}, file_of(path))


def has_weights(path: Path) -> bool:
    """Were weights written to this path, to their end?"""
    return file_of(path).is_file() or (path / INDEX).is_file()


def read_weights(model: Any, path: Path) -> None:
    """Put what `write_weights` wrote back into a model, sharded (all processes ask) or not.

    Raises:
        UserError: it is of another model, or not whole.
    """
    if file_of(path).is_file():
        put_weights(model, load_file(file_of(path)))
        return
    put_weights(model, read_shards(path, trained_weights(model)))
