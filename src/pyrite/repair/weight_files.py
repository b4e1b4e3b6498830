"""Weight files of a model folder: where each tensor lies in its safetensors files, and how its values are read and copied."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.beside import RECORDS
from pyrite.models.whole import ADAPTER_CONFIG, OTHER_FORMATS, check_weight_files

if TYPE_CHECKING:
    import torch

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The dtypes that arithmetic is done on, as safetensors and torch call them; tensors of others must be equal."""
CHUNK = 1 << 24
"""Bytes copied at a time."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor's bytes lie in a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file: its header as it stands, and its tensors in the order of their bytes."""

    path: Path

    @cached_property
    def header(self) -> bytes:
        """The first eight bytes and the JSON after them.

        Raises:
            UserError: no safetensors file, or one that is cut off.
        """
        with self.path.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 2 <= size <= 100_000_000:
                raise broken(self.path, "its first bytes are no safetensors header")
            text = handle.read(size)
        if len(text) < size:
            raise broken(self.path, "it ends within its header")
        return size.to_bytes(8, "little") + text

    @cached_property
    def tensors(self) -> list[Tensor]:
        """Every tensor, in the order of their bytes."""
        try:
            entries = json.loads(self.header[8:])
        except ValueError as error:
            raise broken(self.path, str(error)) from None
        entries.pop("__metadata__", None)
        tensors = [
            Tensor(name, entry["dtype"], tuple(entry["shape"]), entry["data_offsets"][0], entry["data_offsets"][1])
            for name, entry in entries.items()
        ]
        tensors.sort(key=lambda tensor: tensor.start)
        if tensors and self.path.stat().st_size < len(self.header) + tensors[-1].end:
            raise broken(self.path, "it is shorter than its header says")
        return tensors

    def read(self, tensor: Tensor) -> "torch.Tensor":
        """A tensor, in its own dtype."""
        import torch
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            loaded: torch.Tensor = file.get_tensor(tensor.name)
        return loaded


def broken(path: Path, why: str) -> UserError:
    """The error for a file that is not whole."""
    return UserError(
        "A weight file cannot be read.", f"{path}: {why}", "get the file again (git lfs pull, hf download)"
    )


@dataclass(frozen=True)
class Weights:
    """The weights of a model folder or an adapter folder, by tensor name."""

    folder: Path
    name: str
    """What the model is called in messages."""

    @cached_property
    def files(self) -> list[WeightFile]:
        """The safetensors files of the folder: those that its index names, else all."""
        check_weight_files(self.folder)
        index = next(self.folder.glob("*.safetensors.index.json"), None)
        if index is None:
            return [WeightFile(path) for path in sorted(self.folder.glob("*.safetensors"))]
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        absent = [name for name in names if not (self.folder / name).is_file()]
        if absent:
            detail = f"{index}: {', '.join(absent)}"
            raise UserError("A model lacks some of its weight files.", detail, "get the model again")
        return [WeightFile(self.folder / name) for name in names]

    @cached_property
    def places(self) -> dict[str, tuple[WeightFile, Tensor]]:
        """Each tensor's file and place."""
        return {tensor.name: (file, tensor) for file in self.files for tensor in file.tensors}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The folder's config.json (an adapter's adapter_config.json)."""
        file = self.folder / ADAPTER_CONFIG
        if file.is_file():
            loaded: dict[str, Any] = json.loads(file.read_bytes())
            return loaded
        return load.read_config(self.folder)

    def find(self, name: str) -> tuple[WeightFile, Tensor] | None:
        """A tensor's place, or that of the one it is tied to: a model with tied embeddings may store its head or not."""
        place = self.places.get(name)
        if place is None and name.endswith(HEAD) and self.config.get("tie_word_embeddings", True):
            place = self.embedding
        return place

    @property
    def embedding(self) -> tuple[WeightFile, Tensor] | None:
        """The place of the input embedding, which a head may be tied to."""
        return next((place for name, place in self.places.items() if name.endswith(EMBEDDINGS)), None)


HEAD = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
"""How the names of an output head and of input embeddings end."""


@dataclass(frozen=True)
class TensorStream:
    """A tensor's values, to be read in order."""

    handle: BinaryIO
    dtype: str


@contextmanager
def open_values(weights: Weights, name: str) -> Iterator[TensorStream]:
    """A model's tensor of that name (or the one that it is tied to), opened where its values begin."""
    place = weights.find(name)
    assert place is not None  # checked before
    file, tensor = place
    with file.path.open("rb") as handle:
        handle.seek(len(file.header) + tensor.start)
        yield TensorStream(handle, tensor.dtype)


def read_values(handle: BinaryIO, dtype: str, count: int) -> "torch.Tensor":
    """The next so many values, as a flat tensor.

    Raises:
        UserError: the file ends before.
    """
    import torch

    kind = torch_dtype(FLOATS[dtype])
    size = torch.empty((), dtype=kind).element_size() * count
    text = bytearray(size)
    if handle.readinto(text) != size:  # type: ignore[attr-defined]
        raise UserError("A weight file cannot be read.", f"{handle.name}: it ends too early", "get the file again")
    return torch.frombuffer(text, dtype=kind)


def torch_dtype(name: str) -> Any:
    """torch's dtype of that name."""
    import torch

    return getattr(torch, name)


def read_tensor(tensor: Tensor, weights: Weights) -> "torch.Tensor":
    """A model's tensor of that name, or the one that it is tied to."""
    place = weights.find(tensor.name)
    assert place is not None  # checked before
    return place[0].read(place[1])


def same_bits(a: "torch.Tensor", b: "torch.Tensor") -> bool:
    """Are two tensors of one dtype the same, bit for bit?"""
    import torch

    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def raw_bytes(tensor: "torch.Tensor") -> memoryview:
    """A tensor's bytes as safetensors stores them: in order, little-endian."""
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


def copy_bytes(source: BinaryIO, sink: BinaryIO, count: int) -> None:
    """So many bytes from where the source stands."""
    while count:
        chunk = source.read(min(CHUNK, count))
        if not chunk:
            raise UserError("A weight file cannot be read.", f"{source.name}: it ends too early", "get the file again")
        sink.write(chunk)
        count -= len(chunk)


WEIGHT_FILES = {".safetensors", *OTHER_FORMATS}


def is_other_weights(path: Path) -> bool:
    """Does a path hold weights that are not those of the model, as they were: another format's, a training's checkpoints?"""
    return path.suffix in WEIGHT_FILES or (path.is_dir() and path.name.startswith("checkpoint-"))


def other_weights(folder: str, names: list[str]) -> set[str]:
    """Of the names in a folder, those that `is_other_weights`."""
    return {name for name in names if is_other_weights(Path(folder) / name)}


def copy_the_rest(model: Weights, out: Path) -> None:
    """Every other file and folder of the model, as it is; not weights in formats that we do not read, nor our records."""
    named = {file.path.name for file in model.files} | RECORDS
    for path in sorted(model.folder.iterdir()):
        if path.name in named or is_other_weights(path):
            continue
        if path.is_dir():
            shutil.copytree(path, out / path.name, dirs_exist_ok=True, ignore=other_weights)
        elif not (out / path.name).exists():
            shutil.copyfile(path, out / path.name)
