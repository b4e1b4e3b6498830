"""Repairs in weight space: a model between two others, or without what a third one learned. No training, no rows.

    interpolate    before + alpha * (model - before)           WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903
    negate         model - alpha * (forgetter - before)        task vectors, Ilharco et al. 2023, arXiv 2212.04089

Merging a model from before and after some training (arXiv 2412.19512, 2604.01538) is `interpolate`. All three models
have one architecture, vocabulary and shapes. Weights are read and written some million values at a time, whatever the
models' size. Arithmetic is done in fp32 (fp64 where a model is stored in fp32) and rounded once to the dtype of the
tensor that is repaired; where a coefficient is 0 or 1 values are copied, so alpha = 1 is the model and alpha = 0 the one
before, bit for bit. Files keep the names, the order of tensors and the header of the model that is repaired, and
everything else in its folder stays as it is.
"""

import fnmatch
import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.models.load import ADAPTER_CONFIG
from pyrite.steps import Context, StepType
from pyrite.steps.store import DROPPED, MANIFEST

if TYPE_CHECKING:
    import torch

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The dtypes that arithmetic is done on, as safetensors and torch call them; tensors of others must be equal."""
METHODS = ("interpolate", "negate")
IN_ADAPTER = "base_model.model."
"""What an adapter puts before the names of its base's modules."""
SAME_KEYS = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_labels")
"""Entries of config.json whose difference is told by name, before shapes are looked at."""
CHUNK = 1 << 24
"""Bytes copied at a time."""
BLOCK = 1 << 22
"""Values added at a time."""


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
        load.check_safetensors(self.folder)
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
Part = tuple[Weights, Callable[[str], float]]
"""A model and its coefficient for each tensor name."""


def interpolation(model: Weights, before: Weights, alpha: Callable[[str], float]) -> list[Part]:
    """before + alpha * (model - before), as the coefficients of the two."""
    return [(model, alpha), (before, lambda name: 1.0 - alpha(name))]


def negation(model: Weights, before: Weights, forgetter: Weights, alpha: Callable[[str], float]) -> list[Part]:
    """model - alpha * (forgetter - before), as the coefficients of the three."""
    return [(model, lambda name: 1.0), (before, alpha), (forgetter, lambda name: -alpha(name))]


def alphas(alpha: float, groups: Mapping[str, float]) -> Callable[[str], float]:
    """The alpha of a tensor: that of the first group whose pattern its name fits (`*` and `?` as in file names), else `alpha`.

    >>> of = alphas(0.5, {"*layers.0.*": 0.2})
    >>> of("model.layers.0.mlp.up_proj.weight"), of("model.norm.weight")
    (0.2, 0.5)
    """

    def of(name: str) -> float:
        return next((value for pattern, value in groups.items() if fits(name, pattern)), alpha)

    return of


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


@dataclass
class Changed:
    """What a combination did: tensors whose bytes changed, of how many, and the relative change of all weights."""

    tensors: int = 0
    of: int = 0
    squared_change: float = 0.0
    squared_size: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """As plain values; `rms_change` is sqrt(sum (w' - w)^2 / sum w^2)."""
        share = math.sqrt(self.squared_change / self.squared_size) if self.squared_size else 0.0
        return {"tensors_changed": self.tensors, "tensors": self.of, "rms_change": float(f"{share:.6g}")}


def combine_file(file: WeightFile, parts: Sequence[Part], out: Path, changed: Changed) -> None:
    """Write one file of the first part's model, each tensor the sum of all parts' by their coefficients."""
    partial = out.with_name(f"{out.name}.partial")
    with file.path.open("rb") as source, partial.open("wb") as sink:
        sink.write(file.header)
        for tensor in file.tensors:
            source.seek(len(file.header) + tensor.start)
            combine_tensor(file, tensor, parts, source, sink, changed)
        sink.flush()
        os.fsync(sink.fileno())
    partial.replace(out)


def combine_tensor(
    file: WeightFile, tensor: Tensor, parts: Sequence[Part], source: BinaryIO, sink: BinaryIO, changed: Changed
) -> None:
    """Write one tensor: the bytes of the one whose coefficient is 1 and all others' 0, else the rounded sum, some values at
    a time."""
    used = [(weights, value) for weights, of in parts if (value := of(tensor.name)) != 0.0]
    changed.of += 1
    if tensor.dtype not in FLOATS:
        check_equal(tensor, [weights for weights, _ in parts])
        copy_bytes(source, sink, tensor.end - tensor.start)
        return
    single = len(used) == 1 and used[0][1] == 1.0
    differs = False
    with ExitStack() as opened:
        streams = [(opened.enter_context(open_values(weights, tensor.name)), value) for weights, value in used]
        count = math.prod(tensor.shape)
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            base = read_values(source, tensor.dtype, size)
            terms = [(read_values(stream.handle, stream.dtype, size), value) for stream, value in streams]
            total = terms[0][0].to(base.dtype) if single else combined(base, terms, tensor.name)
            sink.write(total.view(torch_dtype("uint8")).numpy().data)
            before, after = base.double(), total.double()
            differs = differs or not same_bits(total, base)
            changed.squared_change += float((after - before).square().sum())
            changed.squared_size += float(before.square().sum())
    changed.tensors += int(differs)


def combined(values: "torch.Tensor", terms: Sequence[tuple["torch.Tensor", float]], name: str) -> "torch.Tensor":
    """The sum of some models' values by their coefficients, in the dtype of `values` (the first model's).

    Added as a base and differences to it, so that models which agree change no bit: with coefficients that sum to 1 the
    sum is w0 + c1 (w1 - w0) + ….
    """
    import torch

    wide = torch.float64 if values.dtype in (torch.float32, torch.float64) else torch.float32
    total = sum(value for _, value in terms)
    base = values.to(wide)
    combination = base * total if abs(total - 1) > 1e-9 else base.clone()
    for term, value in terms:
        combination += value * (term.to(wide) - base)
    if not combination.isfinite().all():
        detail, fix = f"{name}", "use smaller coefficients, or other models"
        raise UserError("The sum of the models' weights is not finite.", detail, fix)
    return combination.to(values.dtype)


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


def check_equal(tensor: Tensor, models: Sequence[Weights]) -> None:
    """Refuse whole numbers (positions, masks) that differ: they cannot be mixed."""
    first, *further = [read_tensor(tensor, model) for model in models]
    if any(not bool((first == tensor_values).all()) for tensor_values in further):
        detail = f"{tensor.name} ({tensor.dtype}) differs between {', '.join(model.name for model in models)}"
        raise UserError("The two models are not alike.", detail, "give a model alike")


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


def combine(parts: Sequence[Part], context: Context) -> dict[str, Any]:
    """Write the first part's folder with combined weights into the step's; what was done, as plain values.

    Files that an interrupted attempt finished are taken from the step's checkpoint. One of a model's files is the most that
    a kill can lose.

    Raises:
        UserError: models that are not alike.
        OutOfTime: the run's time is up, and at least one file was finished.
    """
    model = parts[0][0]
    check_compatible(model, [weights for weights, _ in parts[1:]])
    context.checkpoint.mkdir(parents=True, exist_ok=True)
    changed = []
    for at, file in enumerate(model.files):
        finished_file, counts_file = context.checkpoint / file.path.name, context.checkpoint / f"{file.path.name}.json"
        fresh = not (finished_file.is_file() and counts_file.is_file())
        if fresh:
            file_change = Changed()
            combine_file(file, parts, finished_file, file_change)
            counts_file.write_bytes(
                orjson.dumps(
                    [file_change.tensors, file_change.of, file_change.squared_change, file_change.squared_size]
                )
            )
        changed.append(Changed(*orjson.loads(counts_file.read_bytes())))
        context.report_progress(at + 1, len(model.files), "weight files")
        if fresh and at + 1 < len(model.files) and context.expired():
            raise OutOfTime(f"--max-time is over; {at + 1} of {len(model.files)} weight files are finished and stay")
    for file in model.files:
        shutil.move(context.checkpoint / file.path.name, context.out / file.path.name)
    copy_the_rest(model, context.out)
    total = Changed(*(sum(getattr(change, name) for change in changed) for name in Changed.__dataclass_fields__))
    return total.as_json()


RECORDS = {
    MANIFEST,
    DROPPED,
    "history.json",
    "took.json",
    "repair.json",
    "quantise.json",
    "weights.json",
    "training.json",
    "curve.csv",
    "guard.csv",
    "frontier.csv",
    "outcomes.csv",
    *(f"{figure}.{kind}" for figure in ("curves", "frontier") for kind in ("svg", "png")),
}
"""What our own steps and repairs write beside a model, which is not of the model."""


WEIGHT_FILES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".safetensors", ".gguf", ".onnx", ".h5", ".msgpack", ".npz")


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


def combine_step(context: Context) -> None:
    """Step: a model folder with the weights of a method of `METHODS`, and `weights.json`: what was done.

    An adapter on the model before is scaled: before + alpha * (adapter's change) is the adapter with its second factor
    times alpha, which is the interpolation of the whole models without their merge.
    """
    config, inputs = context.config, context.inputs
    names = config["names"]
    of = alphas(config["alpha"], config["groups"])
    check_groups(config["groups"], Weights(inputs["model"], names["model"]).places)
    if (inputs["model"] / ADAPTER_CONFIG).is_file():
        record = scale_adapter(Weights(inputs["model"], names["model"]), of, context)
    else:
        model, before = (Weights(inputs[name], names[name]) for name in ("model", "before"))
        parts = interpolation(model, before, of)
        if config["method"] == "negate":
            parts = negation(model, before, Weights(inputs["forgetter"], names["forgetter"]), of)
        record = combine(parts, context)
    record |= {"method": config["method"], "alpha": config["alpha"], "groups": config["groups"]}
    (context.out / "weights.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))


def unscalable(config: Mapping[str, Any]) -> str:
    """Why can an adapter with this configuration not be scaled as it is? Empty where it can."""
    if config.get("peft_type") != "LORA":
        return str(config.get("peft_type"))
    if config.get("use_dora"):
        return "DoRA, whose change is not linear in one factor"
    if config.get("modules_to_save") or (config.get("bias") or "none") != "none":
        return "LORA, with modules or biases of its own"
    return ""


def scalable(folder: Path) -> bool:
    """Can the adapter in a folder be scaled as it is?"""
    return not unscalable(Weights(folder, folder.name).config)


def scale_adapter(adapter: Weights, alpha: Callable[[str], float], context: Context) -> dict[str, Any]:
    """Write an adapter whose change is alpha times as large: the second factor of each pair (lora_B) is scaled.

    Raises:
        UserError: an adapter that is not low-rank pairs alone (DoRA, whole modules, biases): its change is not linear
            in one factor, so it must be merged first.
    """
    if why := unscalable(adapter.config):
        fix = "merge it into its base (save: merged), and give the merged model"
        raise UserError("Only plain low-rank adapters can be scaled as they are.", f"{adapter.name}: {why}", fix)
    changed = Changed()
    for file in adapter.files:
        out = context.out / file.path.name
        with file.path.open("rb") as source, out.open("wb") as sink:
            sink.write(file.header)
            for tensor in file.tensors:
                source.seek(len(file.header) + tensor.start)
                value = alpha(tensor.name) if ".lora_B." in tensor.name or ".lora_embedding_B" in tensor.name else 1.0
                changed.of += 1
                second = ".lora_B." in tensor.name or ".lora_embedding_B" in tensor.name
                if second:
                    changed.squared_size += float(file.read(tensor).double().square().sum())
                if value == 1.0:
                    copy_bytes(source, sink, tensor.end - tensor.start)
                    continue
                factor = file.read(tensor)
                sink.write(raw_bytes((factor.double() * value).to(factor.dtype)))
                changed.tensors += 1
                changed.squared_change += float(((1 - value) * factor.double()).square().sum())
    copy_the_rest(adapter, context.out)
    return {**changed.as_json(), "adapter": True}


COMBINE = StepType("repair.weights", 1, combine_step)
