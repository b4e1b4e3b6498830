"""What a repair reads with the model as given before its first step: the reference's states, and values of whole rows.

A process alone reads it before the training begins. Several have the model's weights only once it is sharded, and read it
together then, all the same rows; a training that goes on from a checkpoint finds it on disk.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from pyrite.models.hardware import Compute
from pyrite.repair.reference import See
from pyrite.train import peers, sharded
from pyrite.train.packed import PackedTrainer, normalisers_of
from pyrite.train.rows import TrainingRow


class AtStart(TrainerCallback):  # type: ignore[misc]
    """Callback of several processes: does what was put off until the model is sharded, in order."""

    trainer: PackedTrainer

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self.readings: list[Callable[[See], None]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After weights were shared out, or read from a checkpoint."""
        model = self.trainer.model.model
        was = model.training
        model.eval()
        with torch.no_grad(), self.compute.autocast():
            for reading in self.readings:
                reading(self.see)
        sharded.shard_again(self.trainer.model)
        model.train(was)
        peers.wait_for_all()

    def see(self, rows: Sequence[TrainingRow], look: Callable[[Any], Any]) -> Any:
        """What is seen of the model's reader from within its forward pass."""
        return self.trainer.model_wrapped(rows, normalisers_of(rows), look=lambda module, *_: look(module.reader))
