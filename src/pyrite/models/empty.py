"""Models without weights: what all but the first of several processes begin a training with.

The first process reads the weights and shares them out, layer by layer, so that a machine holds a model once and not once
a process. The others need its modules alone.
"""

from pathlib import Path
from typing import Any


def loads_nothing() -> bool:
    """Is this one of several processes that train together, and not the first?"""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0


def trains_together() -> bool:
    """Is this one of several processes that train together?"""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def empty_model(auto_class: Any, folder: Path, dtype: Any, **options: Any) -> Any:
    """A folder's model, what it computes from its configuration as it is, its weights in memory that nothing was written to: the
    system gives none to them, and yet each has an address of its own, by which accelerate tells weights from each other."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **options)
    with init_empty_weights(include_buffers=False):
        model = auto_class.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            values = torch.empty_like(weight, device="cpu")
            setattr(module, name, torch.nn.Parameter(values, requires_grad=weight.requires_grad))
    model.tie_weights()
    return model


def has_stored_buffers(model: Any) -> bool:
    """Does the model store tensors that are no weights? Such are not shared out, so every process reads it whole."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return bool(model.state_dict().keys() - weights)
