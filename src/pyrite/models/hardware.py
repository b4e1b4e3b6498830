"""What this machine computes with: the device, and the number format that is fast and safe on it."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from pyrite.errors import UserError

Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16-mixed", "int8"]
DeviceMap = Literal["one", "auto"]
ReadingPrecision = Literal["auto", "fp32", "bf16-mixed", "int8"]
"""What can be chosen where a model only reads and writes."""


def refuse_int8(value: Any) -> Any:
    """Say why a training cannot have int8, before it is called an unknown value."""
    if value == "int8":
        raise ValueError(
            "int8 is for models that read and write (pyrite probe, pyrite audit); what trains takes auto, fp32 or bf16-mixed"
        )
    return value


PrecisionChoice = Annotated[Literal["auto", "fp32", "bf16-mixed"], BeforeValidator(refuse_int8)]
"""What can be chosen where a model is trained, too."""

FLOPS: dict[tuple[Device, Precision], float] = {
    ("cpu", "bf16-mixed"): 1.5e11,
    ("cpu", "fp32"): 7e10,
    ("cpu", "int8"): 1.5e11,
    ("cuda", "bf16-mixed"): 1.2e14,
    ("cuda", "fp32"): 2e13,
    ("mps", "fp32"): 2e12,
}
"""Sustained FLOP/s that plans assume for one worker (measured on one core with AVX-512 bf16; GPUs: 0.15 of an H100's peak)."""
MOST_WORKERS, MOST_THREADS = 16, 8
"""Processes that are started, and threads that a step is given, at most, where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Device class, precision and CPU threads of a step that runs a model. Part of the step's key.

    `bf16-mixed` keeps fp32 weights and runs matrix products in bfloat16, in training and in scoring. `int8` rounds the
    linear layers of a model that reads and writes (`pyrite.models.int8`); none is trained so. Sums on another number of
    threads differ in their last bits; one thread, the usual number, is left out of the key.
    """

    device: Device
    precision: Precision
    threads: int = 1
    device_map: DeviceMap = "one"
    """auto: a model that is read is spread over all devices (`pyrite.models.spread`)."""

    def as_config(self) -> dict[str, Any]:
        """As plain values, for a step's configuration."""
        config = asdict(self)
        if self.threads == 1:
            del config["threads"]
        if self.device_map == "one":
            del config["device_map"]
        return config

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which a forward pass has this precision."""
        import torch

        if self.precision != "bf16-mixed":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)


def choose(precision: ReadingPrecision = "auto", device_map: DeviceMap = "one") -> Compute:
    """Which device and precision does this machine get? bf16 where the hardware multiplies it natively, else fp32; int8
    only where it is asked for.

    Raises:
        UserError: bf16-mixed or int8 on hardware that does not have it; int8 spread over devices.
    """
    import torch

    device: Device = "cpu"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if torch.cuda.is_available():
        device, fast = "cuda", torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available():
        device, fast = "mps", False
    if precision == "int8" and device_map != "one":
        fix = "leave out one of the two: int8 layers are read where they lie"
        raise UserError("These options do not go together.", "--precision int8 with --device-map auto", fix)
    if precision == "int8":
        return Compute(checked_for_int8(device), "int8")
    if precision == "bf16-mixed" and not fast:
        detail = f"precision bf16-mixed on a {device} that has no bf16 arithmetic"
        raise UserError("This machine cannot run that precision.", detail, "use precision: fp32 (or auto)")
    precise = precision == "fp32" or not fast
    return Compute(device, "fp32" if precise else "bf16-mixed", device_map=device_map)


def cluster_threads(engine: str) -> int:
    """CPU threads of a step on a cluster: on CPUs as many as here, since sums on another number differ in their last bits; 0
    (the libraries' own choice) where steps run in this process, or compute on another device."""
    if engine == "local" or choose().device != "cpu":
        return 0
    import torch

    return torch.get_num_threads()


def checked_for_int8(device: Device) -> Device:
    """The device, if it is one that has int8 layers.

    Raises:
        UserError: another device than a CPU, or one without VNNI.
    """
    from pyrite.models.int8 import is_supported

    what = "This machine cannot run that precision."
    if device != "cpu":
        raise UserError(what, f"precision int8 on a {device}; it is for CPUs only", "use precision: auto (or fp32)")
    if not is_supported():
        fix = "use precision: fp32 (or auto)"
        raise UserError(what, "precision int8 on a CPU that does not multiply whole numbers natively (VNNI)", fix)
    return device


def threads_for(width: int, cores: int) -> int:
    """How many CPU threads of each step would use the cores, where a plan has at most `width` models at work at a time?

    One where there is a step for every core; else what the cores come to for each, up to `MOST_THREADS`. So a chain of
    steps would use a small machine whole, and a grid of few models a large one.

    >>> threads_for(15, 2), threads_for(1, 2), threads_for(15, 64), threads_for(200, 64)
    (1, 2, 4, 4)
    """
    return max(1, min(MOST_THREADS, cores // max(1, min(width, MOST_WORKERS, cores))))


@cache
def pace(compute: Compute) -> float:
    """How much slower than plans assume is this machine? Measured in a moment on a CPU, by a matrix product of the size
    that small models have; elsewhere taken to be 1. A first guess, which a run's own steps correct."""
    if compute.device != "cpu":
        return 1.0
    if compute.precision == "int8":
        return pace(Compute("cpu", "fp32"))
    import time

    import torch

    fast = compute.precision == "bf16-mixed"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        matrix = torch.randn(512, 512, dtype=torch.bfloat16 if fast else torch.float32)
        best = float("inf")
        for _ in range(8):
            began = time.perf_counter()
            for _ in range(4):
                matrix @ matrix
            best = min(best, time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return max(0.5, FLOPS[compute.device, compute.precision] / (4 * 2 * 512**3 / best))
