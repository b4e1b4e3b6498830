"""Freezing of a model's lower layers: which weights lie below a layer, and how they are held still in training."""

from contextlib import suppress
from typing import Any

import torch

from pyrite.errors import UserError


class Reached(Exception):
    """Stops a forward pass at the first layer that need not run."""


def layer_list(model: Any) -> torch.nn.ModuleList:
    """The model's layers, in order.

    Raises:
        UserError: they cannot be told (layers that are shared, or in several stacks).
    """
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count]
    if len(stacks) != 1:
        detail = f"{type(model).__name__}: {len(stacks)} lists of {count} layers"
        raise UserError("This model's layers cannot be frozen by number.", detail, "leave out freeze")
    return stacks[0]


def freeze(model: Any, layers: int) -> None:
    """Freeze everything below layer number `layers`: the embeddings and the layers before it get no gradient and
    no dropout.

    What lies above is found by a backward pass that is cut at that layer; what lies beneath, by one that begins there.

    Raises:
        UserError: the model has no layer above them, its layers cannot be told, or layers above and beneath share weights.
    """
    stack = layer_list(model)
    if layers >= len(stack):
        detail = f"freeze: {layers}, the model has {len(stack)} layers"
        raise UserError("Nothing above the frozen layers is left to train.", detail, f"at most {len(stack) - 1}")
    model.eval()
    above, beneath = moved_above(model, stack[layers]), moved_below(model, stack[layers])
    shared = sorted(above & beneath)
    if shared:
        detail = f"{type(model).__name__}: {', '.join(shared[:3])}"
        raise UserError("Layers above and beneath share weights, so the lower ones cannot stay as they are.", detail,
                        "leave out freeze")  # fmt: skip
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in above)
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.train = lambda mode=True, module=module: torch.nn.Module.train(module, False)


def moved_above(model: Any, layer: Any) -> set[str]:
    """The weights that a loss reaches without going beneath a layer."""
    cut = layer.register_forward_pre_hook(detached, with_kwargs=True)
    try:
        with torch.enable_grad():
            model(input_ids=probe_ids(model)).logits.sum().backward()
    finally:
        cut.remove()
    return take_gradients(model)


def moved_below(model: Any, layer: Any) -> set[str]:
    """The weights that make what reaches a layer."""
    captured: list[torch.Tensor] = []

    def stop(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.append(args[0] if args else kwargs["hidden_states"])
        raise Reached

    hook = layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.enable_grad(), suppress(Reached):
            model(input_ids=probe_ids(model))
        if captured[0].requires_grad:
            (captured[0] * torch.linspace(-1, 1, captured[0].shape[-1], device=captured[0].device)).sum().backward()  # type: ignore[no-untyped-call]  # a norm's sum is flat
    finally:
        hook.remove()
    return take_gradients(model)


def probe_ids(model: Any) -> torch.Tensor:
    """A few tokens to look at a model with."""
    return torch.arange(1, 9, device=model.device)[None]


def take_gradients(model: Any) -> set[str]:
    """The names of weights that have a gradient; none has one afterwards."""
    names = {name for name, weight in model.named_parameters() if weight.grad is not None}
    for weight in model.parameters():
        weight.grad = None
    return names


def detached(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A layer's input without its past."""
    if args:
        return (args[0].detach(), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": kwargs["hidden_states"].detach()}
