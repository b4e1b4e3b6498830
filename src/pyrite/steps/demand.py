"""What does a step need of the machine that runs it? Declared to a cluster, and checked by plans: one rule for both."""

from collections.abc import Mapping
from pathlib import Path

from pyrite.steps.step import Source, Step
from pyrite.steps.store import Store

STATES = 4
"""A model in training takes so many times its weights: themselves, gradients, two moments."""
BESIDE_WEIGHTS = 2**30
"""Bytes of memory that a step declares beside what its weights take."""


def needs_gpu(step: Step) -> bool:
    """Does this step compute on a GPU?"""
    compute = step.config.get("compute")
    return isinstance(compute, Mapping) and compute.get("device") == "cuda"


def trains(step: Step) -> bool:
    """Does this step train a model?"""
    return step.kind.name.startswith(("train.", "repair.train"))


def declared_memory(weights: int, *, training: bool, beside: int = BESIDE_WEIGHTS) -> int:
    """Bytes of memory that a step declares whose inputs hold so many bytes of weights, with what it takes beside them.

    >>> declared_memory(10**9, training=True) - declared_memory(10**9, training=False)
    3000000000
    """
    return weights * (STATES if training else 1) + beside


def weight_bytes(step: Step, store: Store) -> int:
    """How large are the weight files that a step reads? Its inputs are finished."""
    size = sum(weight_file_bytes(Path(source.path)) for source in step.inputs.values() if isinstance(source, Source))
    stored = (store.file_sizes(parent.key) for parent in step.parents())
    return size + sum(bytes_ for sizes in stored for name, bytes_ in sizes.items() if is_top_weights(name))


def is_top_weights(name: str) -> bool:
    """Is this a file of weights, at the top of its folder?"""
    return name.endswith(".safetensors") and "/" not in name


def weight_file_bytes(folder: Path) -> int:
    """Bytes of the weight files in a model's folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
