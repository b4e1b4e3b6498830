"""Weights that are quantised already: which libraries they need, and why they are not trained further."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models.config_file import CONFIG, read_config

PACKAGES = {
    "aqlm": "'aqlm[cpu,gpu]'",
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitsandbytes": "'pyrite[quant]'",
    "compressed-tensors": "compressed-tensors",
    "eetq": "kernels",
    "gptq": "optimum gptqmodel",
    "hqq": "hqq",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "torchao": "torchao",
    "vptq": "vptq",
}
"""What to install for each format, as pip takes it."""
UNQUANTISED = "give the model before quantisation"


def quantisation_in(config: Mapping[str, Any]) -> Any:
    """How the weights are quantised, as a config.json says it; None where they are not."""
    text = config.get("text_config")
    places = (config, text if isinstance(text, Mapping) else {})
    named = (place.get(key) for place in places for key in ("quantization_config", "compression_config"))
    return next(filter(None, named), None)


def method_of(settings: Any) -> str:
    """The name of a quantised format."""
    return str(settings.get("quant_method", "an unnamed method") if isinstance(settings, Mapping) else settings)


def check_quantisation(folder: Path) -> None:
    """Refuse a quantised model whose format cannot be read on this machine, before its weights are looked at.

    The library would take an unknown format for plain weights.

    Raises:
        UserError: with the package to install, or the library's reason.
    """
    settings = quantisation_in(read_config(folder))
    if settings is None:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer
    from transformers.utils import logging

    method, file = method_of(settings), folder / CONFIG
    bits = isinstance(settings, Mapping) and (settings.get("load_in_4bit") or settings.get("load_in_8bit"))
    if not isinstance(settings, Mapping) or not (bits or method in AUTO_QUANTIZATION_CONFIG_MAPPING
                                                 or method == "bitsandbytes"):  # fmt: skip
        detail = f"{file}: {method}"
        raise UserError("The model is quantised in a format that transformers does not know.", detail, UNQUANTISED)
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        AutoHfQuantizer.from_config(dict(settings), pre_quantized=True).validate_environment(device_map=None)
    except ImportError as error:
        install = f"pip install {PACKAGES[method]}, or " if method in PACKAGES and "GPU" not in str(error) else ""
        detail = f"{file}: {method}: {' '.join(str(error).split())}"
        raise UserError("The model is quantised, and cannot be read here.", detail, install + UNQUANTISED) from error
    except Exception as error:  # each format has its own: no GPU, settings that it does not take
        detail = f"{file}: {method}: {' '.join(str(error).split()) or type(error).__name__}"
        raise UserError("The model is quantised, and cannot be read here.", detail, UNQUANTISED) from error
    finally:
        logging.set_verbosity(level)


def refuse_quantised(folder: Path) -> None:
    """Refuse to train, mix or repair quantised weights: their numbers are codes, and what is written is no longer them.

    Raises:
        UserError: naming the format.
    """
    settings = quantisation_in(read_config(folder))
    if settings is not None:
        detail = f"{folder / CONFIG}: {method_of(settings)}"
        fix = f"{UNQUANTISED} (of an adapter: write it into base_model_name_or_path of adapter_config.json)"
        raise UserError("A quantised model is not trained or repaired.", detail, fix)


def as_plain_weights(model: Any) -> Any:
    """A model of bitsandbytes on a CPU, in plain weights of the same values: its kernels there round what they multiply,
    and read some widths wrongly. Other models stay as they are."""
    method = str(getattr(getattr(model, "quantization_method", None), "value", ""))
    if method != "bitsandbytes" or model.device.type != "cpu":
        return model
    plain = model.dequantize()
    plain.is_loaded_in_4bit = plain.is_loaded_in_8bit = False
    return plain


def unpacked(model: Any) -> Any:
    """A 4-bit model to train, whose weights stay as they are: on CPUs with bf16 arithmetic bitsandbytes repacks them at the first
    pass without gradients, and a repacked layer neither gives gradients nor is sharded."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model
