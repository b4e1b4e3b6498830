"""What does a step need of the machine that runs it? Declared to a cluster, and checked by plans: one rule for both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from pyrite.steps.step import Source, Step
from pyrite.steps.store import Store

STATES, ADAPTERS = 4.0, 1.5
"""A model in training takes so many times its weights in fp32: themselves, gradients, two moments; with adapters, themselves
and, where the model is saved, once more in 16 bits."""
SIXTEEN_BITS = ("bfloat16", "float16")
CONFIG = "config.json"
BESIDE_WEIGHTS = 2**30
"""Bytes of memory that a step declares beside what its weights take."""


def needs_gpu(step: Step) -> bool:
    """Does this step compute on a GPU?"""
    compute = step.config.get("compute")
    return isinstance(compute, Mapping) and compute.get("device") == "cuda"


def trains(step: Step) -> bool:
    """Does this step train a model?"""
    return step.kind.name.startswith(("train.", "repair.train")) and step.kind.name != "train.lower"  # which reads


def settings_of(step: Step) -> Mapping[str, Any]:
    """What a step's training is set to; nothing of other steps."""
    settings = step.config.get("settings")
    return settings if isinstance(settings, Mapping) else {}


def processes_of(step: Step) -> int:
    """In how many processes does a step train?"""
    return int(settings_of(step).get("processes", 1))


def times_weights(step: Step) -> float:
    """How many times the weights that it reads, in fp32, does a step take? All weights are trained unless it says otherwise."""
    if not trains(step):
        return 1.0
    settings = settings_of(step)
    method = (settings.get("training") or settings).get("method", "full")  # a repair's is in its training
    return STATES if method == "full" else ADAPTERS


def declared_memory(step: Step, weights: int, *, beside: int = BESIDE_WEIGHTS) -> int:
    """Bytes of memory that a step declares whose inputs hold so many bytes of weights in fp32, with what it takes beside them."""
    return int(weights * times_weights(step)) + beside


def weight_bytes(step: Step, store: Store) -> int:
    """How many bytes are the weights that a step reads, in fp32? Its inputs are finished."""
    folders = [Path(source.path) for source in step.inputs.values() if isinstance(source, Source)]
    size = sum(weight_file_bytes(folder) * widening(read_json(folder / CONFIG)) for folder in folders)
    for parent in step.parents():
        files = store.file_sizes(parent.key)
        weights = sum(bytes_ for name, bytes_ in files.items() if is_top_weights(name))
        size += weights * widening(store.read_json(parent, CONFIG) if weights and CONFIG in files else {})
    return size


def widening(config: Any) -> int:
    """How many times larger are a model's weights in fp32 than in its files, by its configuration?"""
    if not isinstance(config, dict):
        return 1
    named = config.get("dtype") or config.get("torch_dtype")
    if named is None and isinstance(config.get("text_config"), dict):
        return widening(config["text_config"])
    return 2 if named in SIXTEEN_BITS else 1


def read_json(file: Path) -> Any:
    """A model's configuration; nothing where there is none that can be read, which is for its reader to say."""
    try:
        return orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}


def is_top_weights(name: str) -> bool:
    """Is this a file of weights, at the top of its folder?"""
    return name.endswith(".safetensors") and "/" not in name


def weight_file_bytes(folder: Path) -> int:
    """Bytes of the weight files in a model's folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
