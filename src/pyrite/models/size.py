"""How large is a model? From its files where it is at hand, else from the number of its weights: for plans."""

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

from pyrite.errors import UserError
from pyrite.models.config_file import read_config
from pyrite.models.load import is_causal
from pyrite.models.quantised import quantisation_in
from pyrite.models.whole import files_read, tensors_in

FP32_BYTES = 4
PUBLISHED_BYTES = 2
"""Of a weight in files that are not at hand: most models are published in 16 bits."""
WIDTH_PER_LAYER, WEIGHTS_PER_LAYER, SIDES_PER_LAYER = 128, 12, 19
"""Of a common decoder of width d: d / 128 layers, each of 12 d² weights, whose linear layers have 19 d inputs and outputs
together (Llama 7B: 4,096 = 32 × 128; 20.3 × 4,096)."""

TABLE = re.compile(r"embed|(^|\.)w[tp]e\.")
HEAD = re.compile(r"^(lm_head|embed_out|output)\.")


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A model in numbers: all `weights`; those `multiplied` with every token; `bytes` of its files; `sides`, the inputs and
    outputs of its linear layers together, which is how many weights an adapter of rank 1 on all of them has."""

    weights: float
    multiplied: float
    bytes: int
    sides: float

    def trained_bytes(self, method: str, rank: int) -> int:
        """Bytes of what a training moves, in fp32: all weights, or the adapters of a rank."""
        return int(FP32_BYTES * (self.weights if method == "full" else rank * self.sides))


def size_by_count(weights: float) -> ModelSize:
    """The size of a model of which nothing but the number of weights is known."""
    width = (weights * WIDTH_PER_LAYER / WEIGHTS_PER_LAYER) ** (1 / 3)
    sides = SIDES_PER_LAYER * width * width / WIDTH_PER_LAYER
    return ModelSize(weights, weights, int(PUBLISHED_BYTES * weights), sides)


def size_in(folder: Path) -> ModelSize | None:
    """The size of the model in a folder; None where there is none that can be read, or one that is quantised (its tensors
    are packed).

    A table of embeddings is looked up, not multiplied; that of a decoder without an output matrix of its own is both.
    """
    try:
        if quantisation_in(read_config(folder)) is not None:
            return None
        files = files_read(folder)
        shapes = {name: shape for file in files for name, shape in tensors_in(file).items()}
    except (OSError, UserError):
        return None
    counts = {name: prod(shape) for name, shape in shapes.items()}
    tables = [name for name in shapes if TABLE.search(name)]
    layers = [
        name for name, shape in shapes.items() if len(shape) == 2 and name not in tables and not HEAD.search(name)
    ]
    heads = sum(counts[name] for name in shapes if HEAD.search(name))
    if not heads and is_causal(folder):
        heads = max((counts[name] for name in tables), default=0)
    return ModelSize(
        weights=sum(counts.values()),
        multiplied=sum(counts[name] for name in layers) + heads,
        bytes=sum(file.stat().st_size for file in files),
        sides=sum(sum(shapes[name]) for name in layers),
    )
