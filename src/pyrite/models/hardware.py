"""What this machine computes with: the device, and the number format that is fast and safe on it."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pyrite.errors import UserError

Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16-mixed"]
PrecisionChoice = Literal["auto", "fp32", "bf16-mixed"]


@dataclass(frozen=True, slots=True)
class Compute:
    """Device class and precision of a step that runs a model. Part of the step's key.

    `bf16-mixed` keeps fp32 weights and runs matrix products in bfloat16, in training and in scoring.
    """

    device: Device
    precision: Precision

    def as_config(self) -> dict[str, str]:
        """As plain values, for a step's configuration."""
        return asdict(self)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which a forward pass has this precision."""
        import torch

        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)


def choose(precision: PrecisionChoice = "auto") -> Compute:
    """Which device and precision does this machine get? bf16 where the hardware multiplies it natively, else fp32."""
    import torch

    device: Device = "cpu"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if torch.cuda.is_available():
        device, fast = "cuda", torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available():
        device, fast = "mps", False
    if precision == "bf16-mixed" and not fast:
        found = f"precision bf16-mixed on a {device} that has no bf16 arithmetic"
        raise UserError("This machine cannot run that precision.", found, "use precision: fp32 (or auto)")
    return Compute(device, "fp32" if precision == "fp32" or not fast else "bf16-mixed")
