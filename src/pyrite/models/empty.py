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
    """A folder's model, its weights without values (on the device "meta"), what it computes from its configuration as it is."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **options)
    with init_empty_weights(include_buffers=False):
        return auto_class.from_config(config, dtype=dtype, trust_remote_code=False)


def has_stored_buffers(model: Any) -> bool:
    """Does the model store tensors that are no weights? Such are not shared out, so every process reads it whole."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return bool(model.state_dict().keys() - weights)


def is_empty(model: Any) -> bool:
    """Has this model no values?"""
    return any(weight.device.type == "meta" for weight in model.parameters())
