"""One training run on the `transformers` Trainer: resumable, seeded, with nothing of its own left in the result.

The same run, killed at any point and started again, ends in the same weights: the Trainer's checkpoint holds weights,
optimiser, schedule and random states, and only a checkpoint that was written to its end is resumed from.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from transformers import TrainingArguments, set_seed

from pyrite.errors import OutOfTime, UserError
from pyrite.models.hardware import Compute
from pyrite.models.lower import Injected, padded_states
from pyrite.steps import Context
from pyrite.steps.launch import EXAMPLE, SIZE
from pyrite.train import peers, sharded
from pyrite.train.fit_together import HISTORY
from pyrite.train.settings import OptimSettings, TrainSettings
from pyrite.train.watch import last_checkpoint


@dataclass(frozen=True, slots=True)
class Example:
    """One row as a model trains on it: token ids, a class index or next-token labels (-100: not learned), and which
    text of a pair each token belongs to, for models that are told."""

    input_ids: list[int]
    labels: int | list[int]
    segments: list[int] | None = None
    states: Any = None
    """What frozen lower layers make of the row [tokens, width], where that is stored."""


class Examples(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples in the form that the Trainer indexes."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.examples[index]
        inputs: dict[str, Any] = {"input_ids": example.input_ids, "labels": example.labels}
        if example.segments is not None:
            inputs["token_type_ids"] = example.segments
        return inputs if example.states is None else {**inputs, "states": example.states}


class Order(torch.utils.data.Sampler[int]):
    """In which order are the rows of an epoch read? A function of seed and epoch alone, so that a resumed run sees
    the order of an uninterrupted one (the Trainer's own length-grouped sampler draws from the global generator).

    Rows are shuffled; where grouped by length, stretches of fifty batches are sorted by length, cut into batches, and
    the batches shuffled, so that rows of similar length share a batch and lengths come in no order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int, group: bool) -> None:
        self.lengths, self.batch, self.seed, self.group = lengths, batch_size, seed, group
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of every epoch, a resumed one too."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths)).tolist()
        if not self.group:
            return iter(order)
        stretches = [order[at : at + 50 * self.batch] for at in range(0, len(order), 50 * self.batch)]
        batches = []
        for stretch in stretches:
            stretch.sort(key=lambda row: self.lengths[row])
            batches += [stretch[at : at + self.batch] for at in range(0, len(stretch), self.batch)]
        full = [batch for batch in batches if len(batch) == self.batch]
        short = [batch for batch in batches if len(batch) < self.batch]  # only the last stretch can have one
        return iter(
            [row for at in rng.permutation(len(full)) for row in full[at]] + [row for batch in short for row in batch]
        )


class OrderedBatches(torch.utils.data.BatchSampler):
    """Row numbers of batches in our order. The Trainer calls `set_epoch` of this where it skips what a checkpoint has seen, and
    of the loader elsewhere."""

    def set_epoch(self, epoch: int) -> None:
        """At the start of every epoch."""
        self.sampler.set_epoch(epoch)  # type: ignore[union-attr]


class SameBatches(torch.utils.data.DataLoader[Any]):
    """The batches of one process, the same in every process of a group."""

    def set_epoch(self, epoch: int) -> None:
        """At the start of every epoch."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


class OrderedTrainer(sharded.ShardedTrainer):
    """The library's Trainer, reading rows in our order; with `lower`, stored states stand for the lower layers.

    Several processes read the same batches, and each takes its share of every one.
    """

    order: Order
    lower: Injected | None = None

    def get_train_dataloader(self) -> Any:
        """The library's; of several processes the same in each."""
        if peers.world_size() == 1:
            return super().get_train_dataloader()
        batches = OrderedBatches(self.order, self.args.per_device_train_batch_size, drop_last=False)
        return SameBatches(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss of a batch; of several processes this one's part, as many times as there are processes (their gradients
        are averaged)."""
        if self.lower is not None:
            self.lower.put(inputs.pop("states"))
        if peers.world_size() == 1:
            return super().compute_loss(model, inputs, *args, **kwargs)
        inputs, weight = own_part(inputs)
        return super().compute_loss(model, inputs, *args, **kwargs) * weight

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self.order


def own_part(batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], float]:
    """This process's rows of a batch, and what their loss is multiplied by; where there are none, a row that counts for nothing,
    since all must read."""
    count, rank = peers.world_size(), peers.rank()
    rows = len(batch["labels"])
    chosen = slice(rank, None, count) if rank < rows else slice(0, 1)
    return {name: values[chosen] for name, values in batch.items()}, float(count) if rank < rows else 0.0


def pad_batch(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """Rows of one batch, padded on the right to the longest of them."""
    ids = padded([row["input_ids"] for row in rows], pad_id)
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    targets = [row["labels"] for row in rows]
    labels = padded(targets, -100) if isinstance(targets[0], list) else torch.tensor(targets)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = padded([row["token_type_ids"] for row in rows], 0)
    if "states" in rows[0]:
        batch["states"] = padded_states([row["states"] for row in rows])
    return batch


def padded(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Whole numbers of each row, filled up on the right to the longest [rows, longest]."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=filler)


def arguments_of(
    optim: OptimSettings, compute: Compute, seed: int, folder: Path, *, warmup: float, **options: Any
) -> TrainingArguments:
    """The library's options for one of our trainings: checkpoints only when we ask for one, nothing on the terminal, one
    device a process, so that results do not depend on how many there are.

    Raises:
        UserError: torchrun started a program of the user's that trains here.
    """
    if int(os.environ.get(SIZE, "1")) > 1 and not torch.distributed.is_initialized():
        detail = f"{SIZE}={os.environ[SIZE]} in a Python process of your own"
        fix = f"start the command ({EXAMPLE}), or unset {SIZE}: the library would wait for the other processes"
        raise UserError("The processes of a launch train through the command.", detail, fix)
    named: dict[str, Any] = {
        "learning_rate": optim.learning_rate,
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.max_grad_norm,
        "warmup_steps": warmup,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(optim.schedule, optim.schedule),
        "optim": optim.optimizer,
        "bf16": compute.precision == "bf16-mixed",
        "use_cpu": compute.device == "cpu",
        "seed": seed,
        "data_seed": seed,
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }
    arguments = TrainingArguments(output_dir=str(folder), **named, **options)
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def class_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """A part's share of a step's mean cross-entropy (nats): its rows' sum over the rows of the whole step. (Classifiers
    of the library give the mean over the part, which it then neither divides by the number of parts nor weighs.)"""
    total = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def without_printers(trainer: Any) -> None:
    """Take the library's own printing off a trainer."""
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__ in ("PrinterCallback", "ProgressCallback"):
            trainer.remove_callback(callback)


def fit(
    model: Any,
    examples: Sequence[Example],
    *,
    pad_id: int,
    settings: TrainSettings,
    compute: Compute,
    seed: int,
    context: Context,
    lower: Injected | None = None,
) -> Any:
    """Train a model on the examples (with `lower`: on their stored states) and return it; writes `history.json` into the step's folder.

    Raises `OutOfTime` after saving a checkpoint when the run's time is up, and `UserError` when there is nothing to
    train on or the loss is not a finite number.
    """
    if not examples:
        raise UserError(
            "There is nothing to train on.", "no rows, or all longer than max_tokens", "raise max_tokens or give rows"
        )
    tokens = sum(len(example.input_ids) for example in examples)
    total = tokens * settings.epochs
    set_seed(seed)
    micro = max(1, settings.batch_size // settings.accumulate)
    arguments = arguments_of(
        settings,
        compute,
        seed,
        context.checkpoint,
        warmup=settings.warmup,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.accumulate,
        num_train_epochs=settings.epochs,
        logging_steps=10,
        report_to=[],
        **sharded.sharding(model),
    )
    watch = sharded.SharedWatch(context, tokens, total)
    trainer = OrderedTrainer(
        model=model,
        args=arguments,
        train_dataset=Examples(examples),
        data_collator=lambda rows: pad_batch(rows, pad_id),
        callbacks=[watch],
        compute_loss_func=class_loss if isinstance(examples[0].labels, int) else None,
    )
    lengths = [len(example.input_ids) for example in examples]
    trainer.lower = lower
    trainer.order = Order(lengths, settings.batch_size, seed=seed, group=settings.group_by_length)
    without_printers(trainer)
    peers.draw_apart(seed)
    with peers.first_goes_first():
        resume = last_checkpoint(context.checkpoint)
    with nullcontext() if lower is None else lower.active():
        outcome = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    peers.wait_for_all()
    if watch.stopped:
        raise OutOfTime("--max-time is over; the training goes on from its checkpoint")
    losses = [{"step": log["step"], "loss": log["loss"]} for log in trainer.state.log_history if "loss" in log]
    broken = [log["step"] for log in losses if not math.isfinite(log["loss"])]
    if broken or not math.isfinite(outcome.training_loss):
        detail = f"the loss is {outcome.training_loss} on average" + (f", first by step {broken[0]}" if broken else "")
        fix = f"lower learning_rate ({settings.learning_rate:g}) or max_grad_norm"
        raise UserError("The training went wrong: its loss is not a finite number.", detail, fix)
    history = {
        "rows": len(examples),
        "tokens": int(total),
        "steps": trainer.state.global_step,
        "losses": losses,
    }
    if peers.is_first():
        (context.out / HISTORY).write_bytes(orjson.dumps(history, option=orjson.OPT_INDENT_2))
    return trainer.accelerator.unwrap_model(trainer.model).eval()
