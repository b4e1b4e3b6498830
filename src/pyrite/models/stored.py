"""What the headers of safetensors files say of a model's tensors, and codes that would be taken for weights.

Integers in the place of weights are codes of a quantised format. Where no configuration says which, the library would read the
codes as the weights themselves.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models.config_file import CONFIG, read_config
from pyrite.models.quantised import UNQUANTISED, quantisation_in

BUFFERS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|(self_)?attn(\.attention)?\.bias|attention\.bias|masked_bias|causal_mask|"
    r"(original_)?inv_freq|cos_cached|sin_cached|num_batches_tracked|_extra_state)$"
)
"""Constants that older releases of the library stored beside the weights."""
WEIGHT = re.compile(r"(^|[._])(weight|bias)$")
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a safetensors file: its dtype as the format calls it (F32, BF16, I8), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        """Are its numbers floats (F32, BF16, F8_E4M3) rather than integers or truth values?"""
        return self.dtype.startswith(("F", "BF", "C"))


def stored_tensors(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, name by name."""
    with file.open("rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    return {
        name: Stored(str(entry["dtype"]), tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
    }


def integers_in(folder: Path, files: Sequence[Path]) -> dict[str, Stored]:
    """The tensors of integers of a model that names no quantised format, but for the library's own constants."""
    if (folder / CONFIG).is_file() and quantisation_in(read_config(folder)) is not None:
        return {}
    stored = {name: tensor for file in files for name, tensor in stored_tensors(file).items()}
    return {name: tensor for name, tensor in stored.items() if not tensor.is_float and not BUFFERS.search(name)}


def check_codes(folder: Path, files: Sequence[Path]) -> None:
    """Refuse weights and biases that are integers, where config.json names no quantised format.

    Raises:
        UserError: with their names and dtypes.
    """
    refuse_codes(folder, {name: tensor for name, tensor in integers_in(folder, files).items() if WEIGHT.search(name)})


def check_integers(folder: Path, files: Sequence[Path], model: Any, left: Collection[str]) -> None:
    """Refuse integers in the place of a model's floats, whatever their names; its own buffers of integers are welcome.

    `left` are the tensors that the model does not read.

    Raises:
        UserError: with their names and dtypes.
    """
    integers = {name: tensor for name, tensor in integers_in(folder, files).items() if name not in left}
    if not integers:
        return
    declared = {
        name.rpartition(".")[2]
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if not tensor.is_floating_point()
    }
    refuse_codes(folder, {name: integers[name] for name in integers if name.rpartition(".")[2] not in declared})


def refuse_codes(folder: Path, codes: dict[str, Stored]) -> None:
    """The refusal of integers in the place of weights; nothing where there are none."""
    if codes:
        names = some([f"{name} ({tensor.dtype})" for name, tensor in sorted(codes.items())])
        raise UserError(
            "The model's weights are integers: codes of a quantised format that config.json does not name.",
            f"{folder}: {len(codes)}: {names}",
            f"{UNQUANTISED}, or its own config.json, in which quantization_config names the format",
        )


def check_shards_of_training(folder: Path, files: Sequence[Path]) -> None:
    """Refuse the empty tensors that a process of DeepSpeed ZeRO-3 holds in the place of weights that are split between many.

    Raises:
        UserError: with their names, and how to gather them.
    """
    stored = {name: tensor for file in files for name, tensor in stored_tensors(file).items()}
    empty = [name for name, tensor in sorted(stored.items()) if 0 in tensor.shape and WEIGHT.search(name)]
    if empty:
        raise UserError(
            "The model's weights are empty: shards of DeepSpeed ZeRO-3 that were not gathered.",
            f"{folder}: {len(empty)} of {len(stored)}: {some(empty)}",
            "in the folder of the checkpoint (global_step…): python zero_to_fp32.py . OUT --safe_serialization; when training, "
            "set stage3_gather_16bit_weights_on_model_save: true",
        )


def some(keys: Sequence[str]) -> str:
    """The first few of several names."""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
