"""Training of language models on rows of any length without padding, on the `transformers` Trainer.

A step is a list of rows. Its rows are cut into *packs* of so many tokens; a pack is one forward pass over rows that lie
side by side (`models.rows`), and what it costs in memory does not grow with the step. Losses are sums over a pack
divided by the totals of the whole step, so how a step is cut into packs, or divided among processes, changes nothing.

What is learned is an `Objective`: from a pack to its share of the step's loss.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from transformers import set_seed

from pyrite.errors import OutOfTime, UserError
from pyrite.models.hardware import Compute
from pyrite.models.rows import Pass, RowReader, can_be_read, layout, take_as_readable
from pyrite.steps import Context
from pyrite.train import peers, sharded
from pyrite.train.fit import arguments_of, without_printers
from pyrite.train.rows import TrainingRow
from pyrite.train.settings import OptimSettings
from pyrite.train.stored_weights import read_weights, write_weights
from pyrite.train.watch import last_checkpoint

PACK_TOKENS = {"cpu": 1024, "cuda": 16_384, "mps": 2048}
"""Tokens in one forward and backward pass, by device."""
SECONDS = "seconds"
"""In a checkpoint: how long the training had taken."""


@dataclass(frozen=True, slots=True)
class FlatPack:
    """Rows side by side on a device: `ids` and `positions` [tokens]; `at` [targets] is where the hidden state lies that
    predicts `targets` [targets]; `owner` [targets] is the row that each belongs to."""

    rows: Sequence[TrainingRow]
    ids: torch.Tensor
    positions: torch.Tensor
    at: torch.Tensor
    targets: torch.Tensor
    owner: torch.Tensor


@dataclass(frozen=True, slots=True)
class Normalisers:
    """Normalisers of a step's losses: its learned tokens and rows, by role."""

    tokens: Mapping[str, int]
    rows: Mapping[str, int]


class Objective(Protocol):
    """What is learned: a pack's share of its step's loss, and named parts of it for the curves (sums over packs)."""

    def __call__(
        self, module: "Trained", rows: Sequence[TrainingRow], normalisers: Normalisers
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """`module` holds the model and its row-wise reader."""
        ...


Look = Callable[["Trained", Sequence[TrainingRow], Normalisers], Any]
"""Anything that reads rows with the model."""


def flatten(rows: Sequence[TrainingRow], device: Any) -> FlatPack:
    """Lay rows side by side."""
    ids = [token for row in rows for token in row.ids]
    at, targets, owner, offset = [], [], [], 0
    for number, row in enumerate(rows):
        for place in range(1, len(row.ids)):
            if row.learned[place]:
                at.append(offset + place - 1)
                targets.append(row.ids[place])
                owner.append(number)
        offset += len(row.ids)
    positions = np.concatenate([np.arange(len(row.ids)) for row in rows])
    return FlatPack(
        rows,
        torch.tensor(ids, device=device),
        torch.from_numpy(positions).to(device),
        torch.tensor(at, dtype=torch.long, device=device),
        torch.tensor(targets, dtype=torch.long, device=device),
        torch.tensor(owner, dtype=torch.long, device=device),
    )


def hidden_states(reader: RowReader, flat: FlatPack, layer: int | None = None) -> torch.Tensor:
    """The last hidden state of every token (or that after `layer` layers) [tokens, width], each row on its own."""
    attention_pass = Pass(layout([len(row.ids) for row in flat.rows], 0, flat.ids.device))
    return cast(torch.Tensor, reader.hidden(flat.ids, flat.positions, attention_pass, layer=layer))


def normalisers_of(rows: Sequence[TrainingRow]) -> Normalisers:
    """The normalisers of a step's losses."""
    tokens: dict[str, int] = defaultdict(int)
    count: dict[str, int] = defaultdict(int)
    for row in rows:
        tokens[row.role] += row.targets
        count[row.role] += 1
    return Normalisers(dict(tokens), dict(count))


def packs_of(rows: Sequence[TrainingRow], size: int) -> list[list[TrainingRow]]:
    """A step's rows in packs of at most `size` tokens (a longer unit is a pack of its own), as equal in size as can be;
    within a pack longer rows come first, so that equal lengths lie together, which attention likes."""
    units: dict[tuple[int, int], list[TrainingRow]] = {}
    for at, row in enumerate(rows):
        units.setdefault((row.unit, at if row.unit == -1 else 0), []).append(row)
    sizes = {key: sum(len(row.ids) for row in unit) for key, unit in units.items()}
    for count in range(min(len(units), max(1, math.ceil(sum(sizes.values()) / size))), len(units) + 1):
        packs: list[list[TrainingRow]] = [[] for _ in range(count)]
        filled, n_units = [0] * count, [0] * count
        for key in sorted(units, key=lambda key: -sizes[key]):
            least = min(range(count), key=filled.__getitem__)
            packs[least] += units[key]
            filled[least] += sizes[key]
            n_units[least] += 1
        if all(tokens <= size or units_in_pack == 1 for tokens, units_in_pack in zip(filled, n_units, strict=True)):
            break
    return [sorted(pack, key=lambda row: -len(row.ids)) for pack in packs if pack]


def row_reader(model: Any) -> RowReader:
    """A language model's row-wise reader, which training on packs needs.

    Raises:
        UserError: an architecture that cannot be read row by row.
    """
    reason = peers.agreed(can_be_read(model) if peers.is_first() else "")
    if reason:
        fix = "train it elsewhere; pyrite probe and pyrite audit read it all the same"
        raise UserError("This architecture cannot be trained or repaired here.", reason, fix)
    if not peers.is_first():
        take_as_readable(model)
    return RowReader(model)


class Trained(torch.nn.Module):
    """A model with what it learns: the module that is trained, sharded and stepped.

    `reader` is what the objective reads rows with; by default a language model's row-wise one.
    """

    def __init__(self, model: Any, objective: Objective, reader: Any = None) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.reader = row_reader(model) if reader is None else reader

    def tie_weights(self) -> None:
        """Tie again what the model ties: called where its weights are shared out."""
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        base.tie_weights()

    def forward(self, rows: Sequence[TrainingRow], normalisers: Normalisers, look: Look | None = None) -> Any:
        """A pack's share of its step's loss, and its parts; with `look`, what that sees (a sharded model must be looked
        at from within its forward pass, where its weights are whole)."""
        return (look or self.objective)(self, rows, normalisers)


class Steps(torch.utils.data.Dataset[dict[str, Any]]):
    """Planned steps in the form that the Trainer indexes."""

    def __init__(self, steps: Sequence[Sequence[TrainingRow]]) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"rows": self.steps[index]}


class PackedTrainer(sharded.ShardedTrainer):
    """The library's Trainer, stepping over planned lists of rows. Every process reads the same step and takes its share
    of the packs, so the number of processes changes no step."""

    pack_tokens: int
    parts: list[dict[str, float]]
    earlier = 0.0
    began = 0.0

    def get_train_dataloader(self) -> Any:
        """The planned steps, in order, the same in every process."""
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=1, collate_fn=lambda steps: steps[0])

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One step: pack by pack, forward and backward.

        Raises:
            UserError: a loss that is not a finite number; names the rows.
        """
        model.train()
        rows: Sequence[TrainingRow] = inputs["rows"]
        normalisers = normalisers_of(rows)
        world, rank = peers.world_size(), self.accelerator.process_index
        packs = packs_of(rows, self.pack_tokens)
        real = len(packs)
        while len(packs) % world:
            packs.append(min(packs, key=tokens_in))  # all must run as many passes: this one counts for nothing
        loss = torch.zeros((), device=self.args.device)
        parts: dict[str, float] = defaultdict(float)
        for number, pack in list(enumerate(packs))[rank::world]:
            with self.compute_loss_context_manager():
                share, share_parts = model(pack, normalisers)
            if number >= real:
                share = share * 0.0
            elif not math.isfinite(value := float(share.detach())):
                raise not_finite(value, pack, self.args.learning_rate, self.state.global_step)
            else:
                loss += share.detach()
                for name, value in share_parts.items():
                    parts[name] += value
            if share.requires_grad:
                self.accelerator.backward(share * world)  # the processes' gradients are averaged, and ours are sums
        self.rows_now = rows
        if world > 1:
            loss, parts = sharded.summed_step(loss, parts)
        self.parts.append(dict(parts))
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The loss's parts go along with it."""
        if "loss" in logs and self.parts:
            names = {name for part in self.parts for name in part}
            logs |= {name: sum(part.get(name, 0.0) for part in self.parts) / len(self.parts) for name in sorted(names)}
            self.parts.clear()
        super().log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The weights that are trained."""
        folder = Path(output_dir or self.args.output_dir)
        write_weights(self.model.model, folder / sharded.WEIGHTS)
        if peers.is_first():
            (folder / SECONDS).write_text(str(self.seconds()))

    def seconds(self) -> float:
        """How long has this training taken, in all attempts?"""
        return self.earlier + time.monotonic() - self.began

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None and not math.isfinite(float(norm)):
            raise not_finite(float(norm), self.rows_now, self.args.learning_rate, self.state.global_step, "gradient")
        return norm

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        read_weights(self.model.model, Path(resume_from_checkpoint) / sharded.WEIGHTS)
        seconds_file = Path(resume_from_checkpoint) / SECONDS
        self.earlier = float(seconds_file.read_text()) if seconds_file.is_file() else 0.0


def tokens_in(pack: Sequence[TrainingRow]) -> int:
    """The number of tokens of a pack."""
    return sum(len(row.ids) for row in pack)


def not_finite(value: float, rows: Sequence[TrainingRow], rate: float, step: int, of: str = "loss") -> UserError:
    """The error for a loss that is not a finite number."""
    names = ", ".join(f"{row.id} ({row.role})" for row in rows)
    detail = f"the {of} is {value} at step {step + 1}, rows: {names}"
    fix = f"look at these rows, or lower the learning rate ({rate:g}) or max_grad_norm"
    return UserError(f"The training went wrong: its {of} is not a finite number.", detail, fix)


@dataclass(frozen=True)
class Ended:
    """The outcome of a training: the model, steps taken, and its curve (one entry each few steps)."""

    model: Any
    steps: int
    curve: list[dict[str, float]]
    seconds: float
    """Of all attempts, up to their last checkpoints."""


def fit_packed(
    module: Trained,
    steps: Sequence[Sequence[TrainingRow]],
    *,
    optim: OptimSettings,
    pack_tokens: int,
    compute: Compute,
    seed: int,
    context: Context,
    callbacks: Sequence[Any] = (),
    report_to: Sequence[str] = (),
) -> Ended:
    """Take the planned steps with a model and what it learns; resumes from the step's checkpoint.

    Raises:
        OutOfTime: the run's time is up; a checkpoint was saved.
        UserError: nothing to train on, a loss that is not finite.
    """
    if not steps:
        raise UserError("There is nothing to train on.", "no rows with tokens to learn", "give rows with answers")
    set_seed(seed)
    tokens = sum(map(tokens_in, steps))
    arguments = arguments_of(
        optim,
        compute,
        seed,
        context.checkpoint,
        warmup=min(math.ceil(optim.warmup * len(steps)), len(steps) - 1),  # one step alone must move
        per_device_train_batch_size=1,
        num_train_epochs=1,
        logging_steps=1,
        report_to=list(report_to),
        project="pyrite",
        run_name=context.checkpoint.parent.name[:12],
        **sharded.sharding(module.model),
    )
    watch = sharded.SharedWatch(context, tokens, tokens)
    trainer = PackedTrainer(model=module, args=arguments, train_dataset=Steps(steps), callbacks=[*callbacks, watch])
    trainer.pack_tokens = pack_tokens or PACK_TOKENS[compute.device]
    trainer.parts, trainer.began = [], time.monotonic()
    for callback in callbacks:
        callback.trainer = trainer
    without_printers(trainer)
    peers.draw_apart(seed)
    with peers.first_goes_first():
        resume = last_checkpoint(context.checkpoint)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    peers.wait_for_all()
    if watch.stopped:
        raise OutOfTime("--max-time is over; the training goes on from its checkpoint")
    curve = [dict(sorted(log.items())) for log in trainer.state.log_history if "loss" in log]
    return Ended(
        trainer.accelerator.unwrap_model(trainer.model).model, trainer.state.global_step, curve, trainer.seconds()
    )
