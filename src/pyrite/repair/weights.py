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

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from pyrite.errors import OutOfTime, UserError
from pyrite.models.whole import ADAPTER_CONFIG
from pyrite.repair.weight_checks import check_compatible, check_equal, check_groups, fits
from pyrite.repair.weight_files import (
    FLOATS,
    Tensor,
    WeightFile,
    Weights,
    copy_bytes,
    copy_the_rest,
    open_values,
    raw_bytes,
    read_values,
    same_bits,
    torch_dtype,
)
from pyrite.steps import Context, StepType

if TYPE_CHECKING:
    import torch

METHODS = ("interpolate", "negate")
BLOCK = 1 << 22
"""Values added at a time."""


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
