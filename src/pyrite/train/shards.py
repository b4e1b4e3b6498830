"""Tensors that several processes share, on disk: safetensors files, one for each process, and an index in JSON.

Written and read by `torch.distributed.checkpoint` through its safetensors storage (`HuggingFaceStorageWriter`), which
shards anew for another number of processes. Its usual storage is not used: there the index (`.metadata`) is a pickle. As
the safetensors storage takes rows of a missing file for nothing, our index names the files.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import distributed
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from pyrite.errors import UserError

INDEX = "shards.json"
AGAIN = "pyrite store gc, which frees what cut-off runs left; then run the same command again"


def write_shards(tensors: Mapping[str, torch.Tensor], folder: Path, values: Mapping[str, Any] | None = None) -> None:
    """Write tensors of one dimension or more, and plain values beside them; all processes call this, each writes what it
    holds. When it returns in the first process, all have written."""
    folder.mkdir(parents=True, exist_ok=True)
    alone = not distributed.is_initialized()
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with quiet_checkpoints():
        save(
            {name: tensor.detach() for name, tensor in tensors.items()}, storage_writer=writer, no_dist=alone
        )  # fmt: skip
    if alone or distributed.get_rank() == 0:
        files = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
        index = {"files": files, "names": list(tensors), "values": dict(values or {})}
        (folder / INDEX).write_bytes(orjson.dumps(index))


def read_shards(folder: Path, like: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a folder: each on the device and sharded as the one of its name in `like`, which all processes give; or
    (in a process alone) all of them, whole, on the CPU.

    Raises:
        UserError: a file is missing or cut off; `like` has other names or shapes.
    """
    read_index(folder)
    reader = HuggingFaceStorageReader(str(folder))
    stored = reader.read_metadata().state_dict_metadata
    if like is None:
        targets = {
            name: torch.empty(tensor.size, dtype=tensor.properties.dtype)  # type: ignore[union-attr]
            for name, tensor in stored.items()
        }
    else:
        targets = {name: torch.empty_like(tensor.detach()) for name, tensor in like.items()}
        strange = {name for name, tensor in targets.items() if name not in stored or stored[name].size != tensor.shape}  # type: ignore[union-attr]
        strange |= stored.keys() - targets.keys()
        if strange:
            detail = f"{folder}: {len(strange)} tensors differ, such as {min(strange)}"
            raise UserError("A checkpoint is of another model.", detail, AGAIN)
    with quiet_checkpoints():
        load(targets, storage_reader=reader, no_dist=not distributed.is_initialized())
    return targets


def read_index(folder: Path) -> dict[str, Any]:
    """What a folder says of itself, after a look at whether it is whole.

    Raises:
        UserError: a file is missing, or not as long as it was.
    """
    if not (folder / INDEX).is_file():
        raise UserError("A checkpoint is not whole.", f"{folder}: no {INDEX}", AGAIN)
    index: dict[str, Any] = orjson.loads((folder / INDEX).read_bytes())
    sizes = {file.name: file.stat().st_size for file in folder.glob("*.safetensors")}
    wrong = sorted(name for name, size in index["files"].items() if sizes.get(name) != size)
    if wrong:
        raise UserError("A checkpoint is not whole.", f"{folder}: {', '.join(wrong)} missing or cut off", AGAIN)
    return index


def read_values(folder: Path) -> dict[str, Any]:
    """The plain values of a folder."""
    values: dict[str, Any] = read_index(folder)["values"]
    return values


@contextlib.contextmanager
def quiet_checkpoints() -> Iterator[None]:
    """Context manager: without the library's warnings that a process alone saves or loads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch.distributed")
        yield
