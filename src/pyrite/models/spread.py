"""A model that no single device holds, spread over all GPUs of the machine, its memory and its disk (`--device-map auto`).

accelerate places the layers and moves what passes between them. Where layers lie in memory or on disk they are brought to
the device for each pass, which is slow, and correct.
"""

import contextlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

from pyrite.errors import UserError
from pyrite.models.hardware import Compute

LIMITS = "PYRITE_MAX_MEMORY"
"""The environment variable that limits what each device may hold of a model: 0=60GiB,1=60GiB,cpu=200GiB."""
SIZE = re.compile(r"\d+(\.\d+)?(KB|MB|GB|KiB|MiB|GiB)")


def spread_options(compute: Compute, folder: str) -> dict[str, Any]:
    """The options under which a model is loaded spread: in the number format that it is read in; what does not fit into memory comes
    to lie in `folder`.

    Raises:
        UserError: a limit that cannot be read.
    """
    import torch

    dtype = torch.bfloat16 if compute.precision == "bf16-mixed" else torch.float32
    return {"device_map": "auto", "max_memory": memory_limits(), "offload_folder": folder, "dtype": dtype}


def memory_limits() -> dict[int | str, str] | None:
    """What each device may hold of a model, where the environment says so.

    Raises:
        UserError: it says something else.
    """
    text = os.environ.get(LIMITS, "")
    if not text:
        return None
    limits: dict[int | str, str] = {}
    for part in text.split(","):
        device, _, size = part.strip().partition("=")
        if not (device == "cpu" or device.isdecimal()) or not SIZE.fullmatch(size):
            fix = f"{LIMITS}=0=60GiB,cpu=200GiB: numbers of GPUs or cpu, with KB, MB, GB, KiB, MiB or GiB"
            raise UserError("A limit of memory cannot be read.", f"{LIMITS}: {part.strip()}", fix)
        limits[int(device) if device.isdecimal() else device] = size
    return limits


@contextlib.contextmanager
def offload_folder() -> Iterator[str]:
    """A folder for what does not fit into memory; the block leaves it, or removes it where it ends by an error."""
    folder = tempfile.mkdtemp(prefix="pyrite-offload-")
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_with(model: Any, folder: str) -> Any:
    """The model; the folder is removed when it is gone."""
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model


def is_spread(model: Any) -> bool:
    """Does this model lie on several devices, or partly on disk?"""
    return bool(getattr(model, "hf_device_map", None)) and hasattr(model, "_hf_hook")


def device_of(model: Any) -> Any:
    """Where a model's inputs belong. A spread one's: the first GPU that holds some of it, else the CPU."""
    import torch

    if not is_spread(model):
        return model.device
    gpus = [device for device in model.hf_device_map.values() if device not in ("cpu", "disk")]
    return torch.empty(0, device=gpus[0]).device if gpus else torch.device("cpu")


def weights_at_hand(model: Any) -> Iterator[tuple[str, Any]]:
    """Every weight, by name, with its values: those that lie elsewhere are brought one module at a time."""
    from accelerate.utils import align_module_device

    for prefix, module in model.named_modules():
        names = [name for name, _ in module.named_parameters(recurse=False)]
        if names:
            with align_module_device(module):
                yield from ((f"{prefix}.{name}", getattr(module, name)) for name in names)


def check_spread(compute: Compute, what: str) -> None:
    """Refuse to spread what is not read layer by layer from where it lies.

    Raises:
        UserError: `what` is asked for with `--device-map auto`.
    """
    if compute.device_map != "one":
        raise UserError(f"{what} is not spread over devices.", "--device-map auto", "leave --device-map out")
