"""Linear layers in int8 on a CPU, to read and write with: weights rounded once, activations token by token.

Every output of a layer has a scale of its own for its weights, every token one for what goes in (symmetric, 127 steps
either way): dynamic W8A8 as in ZeroQuant (Yao et al., arXiv 2206.01861), with one group for each output. A token's scale
depends on that token only, so that a row still computes what it would compute alone, whatever lies beside it; one scale
for a whole pass, as PyTorch's own dynamic layers have, would not keep that. The products are PyTorch's oneDNN kernels
for whole numbers (VNNI, AMX); sums, norms, attention and embeddings stay in fp32. `benchmarks/int8.py` measures it.

Layers with fewer outputs than `LEAST_OUTPUTS` (a classifier's last one) stay as they are: they cost nothing.
"""

import contextlib
import platform
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyrite.errors import UserError

LEAST_OUTPUTS = 32
"""Layers with fewer outputs are left in fp32."""
CHUNK = 256
"""Tokens that are rounded at a time: their numbers then stay in the processor's cache."""
STEPS = 127
"""The largest whole number on either side of zero."""
MIDDLE = 128
"""What stands for zero among the kernel's unsigned numbers; it has no fast kernel for signed ones on every processor."""


def is_supported() -> bool:
    """Does this processor multiply whole numbers natively (VNNI), and has this build of the library the kernels?

    Without VNNI the same kernels gain a tenth or two, and their 16-bit sums can run over.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    vnni = torch.cpu._is_vnni_supported() or bool(capabilities.get("avx_vnni"))
    return vnni and hasattr(torch.ops.onednn, "qlinear_pointwise")


class Int8Linear(torch.nn.Module):
    """A linear layer whose product is made of whole numbers. `weight` stays at hand where others look at it (a model's
    output matrix); it has no gradient."""

    def __init__(self, layer: torch.nn.Linear, rounding: "Rounding", *, keep_weight: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rounding = layer.in_features, layer.out_features, rounding
        self.weight = layer.weight if keep_weight else None
        self.bias = layer.bias
        whole, self.scale = rounded(layer.weight.detach().float())
        self.packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self.zeros = torch.zeros(self.out_features, dtype=torch.int64)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., inputs] → [..., outputs], in the inputs' dtype."""
        whole, scale = self.rounding.rounded(inputs.reshape(-1, self.in_features).float())
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, self.rounding.one, self.rounding.middle, self.packed, self.scale, self.zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        out.mul_(scale)
        if self.bias is not None:
            out += self.bias
        return out.to(inputs.dtype).view(*inputs.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """For a model's printed form."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Rounding:
    """How a model's layers round what goes into them, a few tokens at a time in the same memory."""

    def __init__(self, width: int) -> None:
        self.floats = torch.empty(CHUNK * width)
        self.one, self.middle = torch.tensor(1.0), torch.tensor(MIDDLE, dtype=torch.int32)

    def rounded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Whole numbers around `MIDDLE` [tokens, inputs], and what one step stands for in each token [tokens, 1]."""
        wholes, scales = torch.empty(rows.shape, dtype=torch.int8), torch.empty(len(rows), 1)
        for first in range(0, len(rows), CHUNK):
            at = slice(first, first + CHUNK)
            part = rows[at]
            scales[at] = scale = scale_of(part)
            floats = self.floats[: part.numel()].view(part.shape)
            wholes[at] = torch.mul(part, scale.reciprocal(), out=floats).round_()
        return wholes.view(torch.uint8).bitwise_xor_(MIDDLE), scales  # the top bit flipped: 128 more


def scale_of(rows: Tensor) -> Tensor:
    """What one step stands for in each row [rows, 1]: its largest magnitude is `STEPS` of them."""
    largest = torch.maximum(rows.amax(1, keepdim=True), rows.amin(1, keepdim=True).neg_())
    return largest.div_(STEPS).clamp_(min=torch.finfo(torch.float32).tiny)


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Each row in whole numbers of its own scale: int8 [rows, columns] and the scales [rows].

    >>> whole, scale = rounded(torch.tensor([[1.0, -127.0], [0.0, 0.0]]))
    >>> whole.tolist(), scale[0].item()
    ([[1, -127], [0, 0]], 1.0)
    """
    scale = scale_of(rows)
    return (rows / scale).round_().to(torch.int8), scale[:, 0].contiguous()


def with_int8_layers(model: Any) -> Any:
    """The same model, its linear layers replaced by int8 ones in place: to read and write with, not to train.

    Raises:
        UserError: an architecture that looks at its layers' weights itself (Mamba, RWKV).
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    places = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) is torch.nn.Linear and layer.out_features >= LEAST_OUTPUTS
    ]
    rounding = Rounding(max((layer.in_features for _, _, layer in places), default=0))
    replaced: dict[int, Int8Linear] = {}
    for parent, name, layer in places:
        if id(layer) not in replaced:
            replaced[id(layer)] = Int8Linear(layer, rounding, keep_weight=layer is head)
        setattr(parent, name, replaced[id(layer)])
    try:
        # other errors are of the row (too short, without a special token), and say nothing of the layers
        with torch.inference_mode(), contextlib.suppress(ValueError, RuntimeError, IndexError):
            model(input_ids=torch.tensor([[1, 2]]))
    except (TypeError, AttributeError) as error:
        fix = "leave --precision int8 out"
        raise UserError("This architecture cannot be read in int8.", type(model).__name__, fix) from error
    return model
