"""Linear layers on a CPU, with their weights laid out once in the order in which the kernel reads them.

A product of few rows with a large matrix spends up to half its time on bringing the matrix into the kernel's own
order, and does so again in every call. Here that is done once for all calls of one run of scoring or writing: the
values are the same (bit for bit in bf16, up to rounding in fp32), only their place in memory differs.
`benchmarks/generate.py` and `benchmarks/score.py` measure what it gives.

The second copy of the weights costs memory, so models above `BYTES` are left as they are; so are devices other than
the CPU, number formats without a kernel, quantised layers and subclasses of `Linear`. The kernels are PyTorch's oneDNN
ones, those that its compiler calls for frozen weights.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

BYTES = 2 * 2**30
"""Models whose linear layers take more than this are not laid out a second time."""


@cache
def kernels() -> Any:
    """The two operations, or None where this build of the library or this processor lacks them."""
    import torch

    operations = torch.ops.mkldnn if torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    return (
        operations
        if hasattr(operations, "_linear_pointwise") and hasattr(operations, "_reorder_linear_weight")
        else None
    )


@cache
def has_kernel(dtype: Any) -> bool:
    """Does this processor multiply this number format natively?"""
    import torch

    return dtype is torch.float32 or (dtype is torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


@dataclass(slots=True)
class PackedWeight:
    """A weight in the kernel's order, in one number format, and which state of which weight it was made from."""

    weight: Any
    dtype: Any
    source: Any
    version: int


class Prepacked:
    """A model's linear layers, quick as long as `active`.

    Nothing is laid out before its first use, and what was laid out is dropped with this object. A weight that was
    changed in between (training, loading) is laid out anew. Passes that need gradients run as ever.
    """

    def __init__(self, model: Any) -> None:
        self.layers = linear_layers(model) if kernels() is not None else []
        self.laid: dict[int, PackedWeight] = {}

    def __contains__(self, layer: Any) -> bool:
        """Will this layer be quick?"""
        return any(own_layer is layer for own_layer in self.layers)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The time of a forward pass: layers multiply by their laid-out weights, whoever calls them."""
        import torch

        if torch.is_grad_enabled():
            yield
            return
        patched = [layer for layer in self.layers if "forward" not in vars(layer)]  # a hook's own forward stays
        for layer in patched:
            layer.forward = partial(self.product, layer)
        try:
            yield
        finally:
            for layer in patched:
                del layer.forward

    def product(self, layer: Any, inputs: Any) -> Any:
        """What the layer gives for `inputs` [..., inputs] → [..., outputs]."""
        import torch

        mixed = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if mixed else layer.weight.dtype
        if (
            not has_kernel(dtype)
            or not (mixed or inputs.dtype is dtype)
            or torch.is_grad_enabled()
            or not inputs.numel()
        ):
            return torch.nn.functional.linear(inputs, layer.weight, layer.bias)
        packed = self.laid_out(layer, dtype)
        bias = None if layer.bias is None else layer.bias.to(dtype)
        return kernels()._linear_pointwise(inputs.to(dtype), packed, bias, "none", [], "")

    def laid_out(self, layer: Any, dtype: Any) -> Any:
        """The layer's weight in the kernel's order."""
        weight = layer.weight
        version = 0 if weight.is_inference() else weight._version
        packed_weight = self.laid.get(id(layer))
        if (
            packed_weight is None
            or (packed_weight.dtype, packed_weight.version) != (dtype, version)
            or packed_weight.source is not weight
        ):
            packed = kernels()._reorder_linear_weight(weight.detach().to(dtype).contiguous())
            self.laid[id(layer)] = packed_weight = PackedWeight(packed, dtype, weight, version)
        return packed_weight.weight


def linear_layers(model: Any) -> list[Any]:
    """The layers that can be laid out: plain ones on the CPU, if all together are not too large."""
    import torch

    layers = [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear and layer.weight.device.type == "cpu" and has_kernel(layer.weight.dtype)
    ]
    return layers if sum(layer.weight.numel() * layer.weight.itemsize for layer in layers) <= BYTES else []
