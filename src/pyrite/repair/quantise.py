"""A model as int8 or 4-bit quantisation would leave it, in plain weights that every probe can read.

Does a repair outlast quantisation? Rounding can undo small changes of weights, and so bring back what was unlearned
(Zhang et al. 2024, arXiv 2410.16454). Here the weights are rounded to the quantised grid and written back as ordinary
numbers: what is measured is the rounding, not the speed or the memory of a quantised kernel.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.beside import copy_beside
from pyrite.models.quantised import UNQUANTISED, method_of, quantisation_in
from pyrite.models.whole import ADAPTER_CONFIG, load_whole
from pyrite.steps import Context, StepType

if TYPE_CHECKING:
    from torch import Tensor

NF4_BLOCK = 64


def round_int8(weight: "Tensor") -> "Tensor":
    """What is left of a weight matrix `[outputs, inputs]` after int8? Same shape and dtype.

    Symmetric, one scale for each output row: q = round(127 w / max|w|), half to even, and back q · max|w| / 127, in
    fp64, then rounded once to the dtype of `weight`; a row of zeros stays. Rounding twice changes nothing. These are
    the weights of LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339, section 2), which further quantises the
    activations and keeps the columns of outlier activations in 16 bits; here the activations are not quantised.
    """
    import torch

    exact = weight.double()
    largest = exact.abs().amax(dim=1, keepdim=True)
    steps = torch.where(largest > 0, exact * 127 / largest, 0.0).round()
    return (steps * largest / 127).to(weight.dtype)


def round_nf4(weight: "Tensor") -> "Tensor":
    """What is left of a weight matrix `[outputs, inputs]` after 4 bits? Same shape and dtype.

    NF4 (QLoRA, Dettmers et al. 2023, arXiv 2305.14314, section 3): blocks of 64 consecutive weights (row by row, a
    block may cross rows), one fp32 absmax each, no double quantisation. bitsandbytes itself rounds and restores, so
    the values are those that a 4-bit load of the same dtype computes with. One difference: its AVX-512 kernel (0.50)
    restores wrong values where rows are a multiple of 16 but not of 64 long. It is given one block a row here, which
    it restores right: a matrix of such a width gets the values of the format, not those of that kernel.

    Raises `UserError` where bitsandbytes is not installed.
    """
    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    except ImportError as error:
        fix = "pip install 'pyrite[quant]', or quantise to int8"
        raise UserError("4-bit quantisation needs bitsandbytes.", "it is not installed", fix) from error
    from torch.nn.functional import pad

    blocks = pad(weight.flatten(), (0, -weight.numel() % NF4_BLOCK)).view(-1, NF4_BLOCK)  # zeros change no absmax
    packed, state = quantize_4bit(blocks, blocksize=NF4_BLOCK, compress_statistics=False, quant_type="nf4")
    restored: Tensor = dequantize_4bit(packed, state)
    return restored.flatten()[: weight.numel()].view(weight.shape)


ROUND: dict[str, Callable[["Tensor"], "Tensor"]] = {"int8": round_int8, "nf4": round_nf4}


def layers_to_round(model: Any) -> dict[str, Any]:
    """Which layers of a model does quantisation touch? Name → module, in the model's order.

    Every linear layer (and GPT-2's transposed one) except what bitsandbytes leaves alone by default in `transformers`:
    the output head (tied to the embeddings or not), parts that the model keeps in fp32, and the last module with
    parameters, which is a classifier's head. One difference: `transformers` misses that last module where it has
    a bias, and so quantises the head of an encoder's classifier; here it stays.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    last = [name for name, _ in model.named_parameters()][-1].rpartition(".")[0]
    fp32_parts = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) in (torch.nn.Linear, Conv1D)
        and module is not head
        and name != last
        and fp32_parts.isdisjoint(name.split("."))
    }


def quantise(
    model: Any, to: str, *, name: str = "the model", report_progress: Callable[[float, float, str], None] | None = None
) -> dict[str, Any]:
    """Round the weights of a loaded model in place; what was done: {"to", "layers", "parameters", "rms_change"}.

    `rms_change` is the relative root mean square change of the rounded weights, sqrt(Σ (w' − w)² / Σ w²), a fraction.
    Raises `UserError` for a layer with weights that are not finite, and where there is nothing to round.
    """
    import torch

    layers = layers_to_round(model)
    if not layers:
        detail = f"{name} ({type(model).__name__}) has no linear layer besides its head"
        raise UserError("There is nothing to quantise.", detail, "choose another model, or leave this step out")
    changed = size = 0.0
    for at, (layer, module) in enumerate(layers.items(), start=1):
        turned = type(module) is not torch.nn.Linear  # Conv1D holds [inputs, outputs]
        weight = module.weight.data.T if turned else module.weight.data
        if not weight.isfinite().all():
            detail = f"{name}, layer {layer}: NaN or infinite weights"
            raise UserError("The model holds weights that are not numbers.", detail, "train it again, or use another")
        rounded = ROUND[to](weight)
        changed += float((rounded.double() - weight.double()).square().sum())
        size += float(weight.double().square().sum())
        module.weight.data.copy_(rounded.T if turned else rounded)
        if report_progress:
            report_progress(at, len(layers), "layers")
    parameters = sum(module.weight.numel() for module in layers.values())
    change = math.sqrt(changed / size) if size else 0.0
    return {"to": to, "layers": len(layers), "parameters": parameters, "rms_change": float(f"{change:.6g}")}


def read_full_model(folder: Path, name: str) -> Any:
    """The language model or classifier of a folder, every weight in the dtype that it is stored in.

    A folder that mixes dtypes is read, and written back, in fp32, which loses nothing. Raises `UserError` for adapters
    without their base, weights that are quantised already, and models of other kinds.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if (folder / ADAPTER_CONFIG).is_file():
        detail = f"{name} is an adapter without its base"
        raise UserError("Only a whole model can be quantised.", detail, "merge it first (save: merged)")
    config = load.read_config(folder)
    if (settings := quantisation_in(config)) is not None:
        raise UserError("That model is quantised already.", f"{name}: {method_of(settings)}", UNQUANTISED)
    if any("SequenceClassification" in architecture for architecture in config.get("architectures") or []):
        kind = AutoModelForSequenceClassification
    elif load.is_causal(folder):
        kind = AutoModelForCausalLM
    else:
        detail = f"{name}: {config.get('architectures') or config.get('model_type')}"
        raise UserError("That is neither a causal language model nor a classifier.", detail, "give one of these")
    return load_whole(kind, folder, **load.plain_loading(load.stored_dtype(folder))).eval()


def quantise_step(context: Context) -> None:
    """Step: a model folder → the same model with rounded weights, and `quantise.json`."""
    load.quiet_libraries()
    base, name = context.inputs["base"], context.config["base_name"]
    model = read_full_model(base, name)
    record = quantise(model, context.config["to"], name=name, report_progress=context.report_progress)
    model.save_pretrained(context.out)
    copy_beside(base, context.out)
    (context.out / "quantise.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))


QUANTISE = StepType("repair.quantise", 2, quantise_step)
