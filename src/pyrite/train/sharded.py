"""Several processes train one model: each holds a share of its weights (FSDP) and reads a share of every step.

The weights are sharded by `fully_shard` through accelerate: one group for each transformer layer, one for all else. A
group's weights are whole only within its forward and backward pass; embeddings and output matrix belong to the last
group, so whatever reads the model does so from within the root's forward pass. Of a checkpoint each process writes its
share (`shards`).

In a single process all of this does nothing.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from pyrite.models.empty import has_stored_buffers
from pyrite.train.peers import agreed, gathered, is_first, wait_for_all, world_size
from pyrite.train.shards import read_index, read_shards, read_values, write_shards
from pyrite.train.stored_weights import read_weights, write_weights
from pyrite.train.watch import Watch

WEIGHTS = "weights"
"""In a checkpoint: the weights that are trained."""
OPTIMIZER = "optimizer"
"""In a checkpoint of several processes: the optimiser's state and the learning rate's, as `shards` writes them."""


def sharding(model: Any) -> dict[str, Any]:
    """The Trainer's arguments that shard this model: a group for each transformer layer."""
    if world_size() == 1:
        return {}
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    embeddings = base.get_input_embeddings()
    layers = {
        type(module).__name__
        for module in base.modules()
        if type(module).__name__ in (base._no_split_modules or ())
        and all(part is not embeddings for part in module.modules())  # accelerate makes a group of those
    }
    config: dict[str, Any] = {"version": 2, "reshard_after_forward": True}
    config["cpu_ram_efficient_loading"] = not (four_bit(base) or has_stored_buffers(base))  # see `pyrite.models.empty`
    config["auto_wrap_policy"] = "TRANSFORMER_BASED_WRAP" if layers else "NO_WRAP"
    if layers:
        config["transformer_layer_cls_to_wrap"] = sorted(layers)
    return {
        "fsdp": True,
        "fsdp_config": config,
        "average_tokens_across_devices": False,  # every process counts the whole batch
    }


def four_bit(model: Any) -> bool:
    """Are this model's weights codes of four bits? Those lie on each process's device from the start."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def set_up_sharding(trainer: Any) -> None:
    """Completes the sharding set-up of accelerate, after the Trainer has made its accelerator.

    On CPUs accelerate takes an FSDP plugin and trains replicas all the same, without a word (its state knows the plugin
    for accelerators only), so state and plugin are set here, as it does itself elsewhere. And its bf16 policy rounds
    what the root's forward pass returns, which here is the loss, and sums gradients in bf16: both stay fp32.
    """
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    state = trainer.accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
        trainer.is_fsdp_enabled = True
    if trainer.args.bf16:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        state.fsdp_plugin.mixed_precision_policy = policy


def shard_again(module: Any) -> None:
    """After a pass without gradients the root's group is still whole; weights are read and written as shards."""
    if hasattr(module, "reshard"):
        module.reshard()


def optimizer_parts(optimizer: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimiser's state: its tensors, sharded as the weights are, and its counts and settings as plain values."""
    whole = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    counts: dict[str, dict[str, Any]] = {}
    for number, moments in whole["state"].items():
        counts[str(number)] = {}
        for name, value in moments.items():
            if isinstance(value, torch.Tensor) and value.ndim:
                tensors[f"{number}.{name}"] = value
            else:
                counts[str(number)][name] = float(value)
    return tensors, {"counts": counts, "param_groups": whole["param_groups"]}


def put_optimizer_parts(optimizer: Any, folder: Path) -> None:
    """Put a state that was written as `optimizer_parts` back: moments are sharded as their weights are, counts are not."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    values = read_values(folder)["optimizer"]
    names = read_index(folder)["names"]
    tensors = read_shards(folder, {name: weights[int(name.partition(".")[0])] for name in names})
    state: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        number, _, moment = name.partition(".")
        state[int(number)][moment] = tensor
    for number, counts in values["counts"].items():
        state[int(number)] |= {name: torch.tensor(value) for name, value in counts.items()}
    optimizer.load_state_dict({"state": dict(state), "param_groups": values["param_groups"]})


def summed_step(loss: torch.Tensor, parts: Mapping[str, float]) -> tuple[torch.Tensor, dict[str, float]]:
    """A step's loss and parts, from those of every process."""
    by_rank = gathered((float(loss), dict(parts)))
    total: dict[str, float] = defaultdict(float)
    for _, rank_parts in by_rank:
        for name, value in rank_parts.items():
            total[name] += value
    return torch.full_like(loss, sum(rank_loss for rank_loss, _ in by_rank)), total


class SharedWatch(Watch):
    """The first process's watch: what it decides at the end of a step, every process does."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the other callbacks."""
        if is_first():
            super().on_step_end(args, state, control, **kwargs)
        decision = agreed((self.stopped, control.should_save, control.should_training_stop))
        self.stopped, control.should_save, control.should_training_stop = decision

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """All have written their part."""
        if is_first():
            super().on_save(args, state, control, **kwargs)


class ShardedTrainer(Trainer):  # type: ignore[misc]
    """The library's Trainer, with checkpoints of which each process writes and reads its share."""

    def create_accelerator_and_postprocess(self) -> None:
        """The library's, made to shard where there are several processes."""
        super().create_accelerator_and_postprocess()
        if world_size() > 1:
            set_up_sharding(self)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The weights that are trained; of a process alone, what the library writes."""
        if world_size() == 1:
            super().save_model(output_dir, _internal_call)
            return
        write_weights(self.model, Path(output_dir or self.args.output_dir) / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if world_size() == 1:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        read_weights(self.model, Path(resume_from_checkpoint) / WEIGHTS)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if world_size() == 1:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        tensors, values = optimizer_parts(self.optimizer.optimizer)
        values = {"optimizer": values, "scheduler": self.lr_scheduler.state_dict()}
        write_shards(tensors, Path(output_dir) / OPTIMIZER, values)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        folder = Path(checkpoint or ".") / OPTIMIZER
        if world_size() == 1 or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        put_optimizer_parts(self.optimizer.optimizer, folder)
        self.lr_scheduler.load_state_dict(read_values(folder)["scheduler"])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        wait_for_all()  # it is complete when all have written their random states
