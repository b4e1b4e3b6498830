"""How many floating-point operations does a training take? Counted from the model's shape, not measured.

Two operations for each weight and token in a forward pass, as many for the gradient of its input, and as many for that
of the weight where it moves. The output matrix is multiplied only at the positions that are learned. Attention's own
products are left out: they are small at these lengths.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Weights that every token is multiplied with, and those of the output matrix."""

    body: int
    head: int

    def forward(self, tokens: int, targets: int) -> float:
        """A pass without gradients."""
        return 2.0 * (self.body * tokens + self.head * targets)

    def training(self, tokens: int, targets: int, *, full: bool) -> float:
        """A pass forward and back; `full`: the weights move (else only adapters, whose own products are left out)."""
        return (3 if full else 2) * self.forward(tokens, targets)


def model_shape(model: Any) -> ModelShape:
    """A model's shape: linear layers of its body, and its output matrix; of a classifier, all layers that come after the
    choice of one state a row."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    head = model.get_output_embeddings()
    adapted = {id(module.get_base_layer()) for module in model.modules() if isinstance(module, BaseTunerLayer)}
    linear = {
        id(module): module.in_features * module.out_features
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and ("lora_" not in name or id(module) in adapted)
    }
    if head is not None:
        return ModelShape(sum(linear.values()), int(head.weight.numel()))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    early = {id(module) for name, module in base.base_model.named_modules() if "pooler" not in name}
    body = sum(size for key, size in linear.items() if key in early)
    return ModelShape(body, sum(linear.values()) - body)
