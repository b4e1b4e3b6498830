"""The guard of a repair: a small probe that stops the training at a breach and picks the best safe checkpoint.

Every so many tokens the guard reads rows of its own (never the scorecard's) and writes a few short answers. A breach of
a limit stops the repair. The result is the *safe* checkpoint with the lowest objective on the guard's rows, the start
included; so a repair that only did harm gives back the model as it was.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from transformers import TrainerCallback

from pyrite.conditions import HOLDS
from pyrite.io import atomic_write
from pyrite.models.hardware import Compute
from pyrite.models.rows import RowReader
from pyrite.repair.objective import FORGET, REPLAY, RepairObjective
from pyrite.repair.settings import GUARD_VALUES, GuardSettings, guard_gates
from pyrite.train import peers, sharded
from pyrite.train.packed import PackedTrainer, normalisers_of, packs_of
from pyrite.train.rows import TrainingRow
from pyrite.train.stored_weights import file_of, has_weights, read_weights, write_weights

BEST = "best"
"""In a checkpoint: the best safe checkpoint's weights."""
RULE = "the safe point, start included, with the lowest objective on the guard's rows"


@dataclass(frozen=True, slots=True)
class GuardMeasurement:
    """One measurement of the guard, after `step` steps and `tokens` tokens.

    Nats a token (of a classifier: a row); `entropy` of the next token (the label) on replay rows; `repetition` the share
    of an answer's four-token pieces that occurred in it before, mean over short answers, and `repetition_rise` how much
    that rose since the start for certain (the 95 % lower bound over the answers, which are written to the same prompts
    every time); None: not measured.
    """

    step: int
    tokens: int
    objective: float
    replay_nats: float | None
    forget_nats: float | None
    kl: float | None
    entropy: float | None
    repetition: float | None
    repetition_rise: float | None = None
    breach: str | None = None


@dataclass(frozen=True)
class Watched:
    """The guard's rows: forget and replay rows, and prompts (token ids) for short answers."""

    rows: Sequence[TrainingRow]
    prompts: Sequence[Sequence[int]]
    end_ids: Sequence[int]


@dataclass
class GuardState:
    """State of a guard: its measurements, where it stopped and why, and the step of the best safe checkpoint."""

    looks: list[GuardMeasurement] = field(default_factory=list)
    stopped: dict[str, Any] | None = None
    best: int = 0

    def best_checkpoint(self) -> GuardMeasurement:
        """The measurement at the best safe checkpoint."""
        return next(look for look in self.looks if look.step == self.best)


def breach_of(look: GuardMeasurement, start: GuardMeasurement, limits: GuardSettings) -> str | None:
    """Which limit does this look break, compared with the start? None: it is safe."""
    for name in ("objective", *GUARD_VALUES):
        value = getattr(look, name)
        if value is not None and not math.isfinite(value):
            return f"{name} is {value}"
    if look.replay_nats is not None and start.replay_nats is not None:
        rise = look.replay_nats - start.replay_nats
        if rise > limits.replay_rise:
            return f"replay rows cost {rise:.3f} nats a token more than at the start (limit {limits.replay_rise:g})"
    if look.kl is not None and look.kl - (start.kl or 0.0) > limits.kl:
        if not start.kl:
            return f"KL from the model as given is {look.kl:.3f} nats a token (limit {limits.kl:g})"
        return f"KL from the model before rose from {start.kl:.3f} to {look.kl:.3f} nats a token (limit {limits.kl:g})"
    if look.entropy is not None and start.entropy:
        ratio = max(look.entropy, 1e-9) / start.entropy
        if not 1 / limits.entropy_ratio <= ratio <= limits.entropy_ratio:
            return f"entropy went from {start.entropy:.3f} to {look.entropy:.3f} nats (factor {limits.entropy_ratio:g})"
    if look.repetition is not None and start.repetition is not None and look.repetition_rise is not None:
        rise = look.repetition - start.repetition
        if rise > limits.repetition_rise and look.repetition_rise > 0:
            return f"repeated pieces rose by {rise:.2f} to {look.repetition:.2f} (limit {limits.repetition_rise:g})"
    for name, op, bound in guard_gates(limits.gates):
        value = getattr(look, name)
        if value is None:
            return f"{name} was not measured, and the condition {name} {op} {bound:g} asks for it"
        if not HOLDS[op](value, bound):
            return f"{name} is {value:.4g}, and the condition says {op} {bound:g}"
    return None


def repetition_of(answer: Sequence[int], size: int = 4) -> float:
    """Share of an answer's pieces of `size` tokens that occurred in it before; 0 without pieces."""
    pieces = [tuple(answer[at : at + size]) for at in range(len(answer) - size + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


def certain_rise(now: Sequence[float], before: Sequence[float]) -> float | None:
    """How much have paired values risen for certain? The lower 95 % bound (one-sided, paired t) of the mean rise; None
    for fewer than two, of which no spread is known."""
    from scipy.stats import t

    if len(now) < 2:
        return None
    rises = np.array(now) - np.array(before)
    return float(rises.mean() - t.ppf(0.95, len(rises) - 1) * rises.std(ddof=1) / len(rises) ** 0.5)


class Guard(TrainerCallback):  # type: ignore[misc]
    """Callback that measures the model every so many tokens, keeps the best safe checkpoint in `folder`, and stops the
    training at a breach."""

    trainer: PackedTrainer

    def __init__(
        self,
        settings: GuardSettings,
        watched: Watched,
        objective: RepairObjective,
        compute: Compute,
        folder: Path,
    ) -> None:
        self.settings, self.watched, self.objective = settings, watched, objective
        self.compute, self.folder = compute, folder
        self.state = GuardState()
        self.tokens = 0
        self.since = 0
        self.read = 0
        """Tokens that the guard itself read and wrote, each pass counted."""
        self.looked_at = 0
        """Positions at which it looked at the vocabulary."""
        self.first_repetitions: list[float] = []
        """Of each short answer that was written at the start."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the start, or take up what a checkpoint knows."""
        if state.global_step:
            self.restore(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            return
        if peers.is_first():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.look(0, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the step's tokens; look where it is time, and after the last step."""
        size = sum(len(row.ids) for row in self.trainer.rows_now)
        self.tokens += size
        self.since += size
        if self.since >= self.settings.every_tokens or state.global_step >= state.max_steps:
            self.since = 0
            self.look(state.global_step, control)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What the guard knows goes into the checkpoint: measurements, and the best safe checkpoint's weights."""
        if not peers.is_first():
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        record = {
            "looks": [asdict(look) for look in self.state.looks],
            "stopped": self.state.stopped,
            "best": self.state.best,
            "tokens": self.tokens,
            "since": self.since,
            "read": self.read,
            "looked_at": self.looked_at,
            "first_repetitions": self.first_repetitions,
        }
        with atomic_write(folder / "guard.json") as part:
            Path(part).write_bytes(orjson.dumps(record))
        copy_weights(self.folder / str(self.state.best), folder / BEST)

    def restore(self, checkpoint: Path) -> None:
        """Take up what a checkpoint knows."""
        record = orjson.loads((checkpoint / "guard.json").read_bytes())
        self.state = GuardState(
            [GuardMeasurement(**look) for look in record["looks"]], record["stopped"], record["best"]
        )
        self.tokens, self.since = record["tokens"], record["since"]
        self.read, self.looked_at = record["read"], record["looked_at"]
        self.first_repetitions = record["first_repetitions"]
        if not peers.is_first():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        copy_weights(checkpoint / BEST, self.folder / str(self.state.best))

    def look(self, step: int, control: Any) -> None:
        """Takes one measurement, judges it, and stops the training at a breach."""
        from dataclasses import replace

        model = self.trainer.model.model
        was = model.training
        model.eval()
        with torch.no_grad():
            measured = peers.agreed(self.measure(step))
        sharded.shard_again(self.trainer.model)
        model.train(was)
        if step and (breach := breach_of(measured, self.state.looks[0], self.settings)):
            measured = replace(measured, breach=breach)
            self.state.stopped = {"step": step, "tokens": self.tokens, "why": breach}
            control.should_training_stop = True
        self.state.looks.append(measured)
        if measured.breach is None and (step == 0 or measured.objective < self.state.best_checkpoint().objective):
            self.state.best = step
            if step:
                self.keep(step, model)

    def keep(self, step: int, model: Any) -> None:
        """Write the best safe checkpoint's weights in the place of the one before."""
        with peers.first_goes_first():
            if peers.is_first():
                shutil.rmtree(self.folder, ignore_errors=True)
        write_weights(model, self.folder / str(step))

    def measure(self, step: int) -> GuardMeasurement:
        """The values of one look."""
        normalisers = normalisers_of(self.watched.rows)
        sums = dict.fromkeys(("forget", "replay", "kl", "replay_nats", "forget_nats", "kl_nats", "entropy"), 0.0)
        with self.compute.autocast():
            for pack in packs_of(list(self.watched.rows), self.trainer.pack_tokens):
                for name, value in self.trainer.model_wrapped(pack, normalisers, look=self.objective.look).items():
                    sums[name] += value
                tokens, targets = self.objective.look_reads(pack)
                self.read, self.looked_at = self.read + tokens, self.looked_at + targets
            repeated = self.repetitions(self.trainer.model.reader)
        if not step:
            self.first_repetitions = repeated
        weights = self.objective.weights
        objective = weights.forget * sums["forget"] + weights.replay * sums["replay"] + weights.kl * sums["kl"]
        replay, forget = normalisers.tokens.get(REPLAY, 0), normalisers.tokens.get(FORGET, 0)
        return GuardMeasurement(
            step,
            self.tokens,
            objective,
            sums["replay_nats"] / replay if replay else None,
            sums["forget_nats"] / forget if forget else None,
            sums["kl_nats"] / replay if replay and self.objective.measures_kl else None,
            sums["entropy"] / replay if replay else None,
            float(np.mean(repeated)) if repeated else None,
            certain_rise(repeated, self.first_repetitions) if step else None,
        )

    def repetitions(self, reader: RowReader) -> list[float]:
        """Short greedy answers to the guard's prompts; how much of each repeats."""
        from pyrite.models.generate import generate
        from pyrite.models.sampling import Drawing

        prompts = self.watched.prompts[: self.settings.answers]
        if not prompts or peers.world_size() > 1:  # writing reads the model outside of the root's forward pass
            return []
        written = generate(
            reader.model, prompts, max_new_tokens=self.settings.answer_tokens, end_ids=self.watched.end_ids,
            drawing=Drawing(0.0, 1.0), seeds=[[0]] * len(prompts),
        )  # fmt: skip
        answers = [sample.ids for _, sample in sorted(written, key=lambda pair: pair[0])]
        written_tokens = sum(map(len, answers))
        self.read, self.looked_at = self.read + written_tokens + sum(map(len, prompts)), self.looked_at + written_tokens
        return [repetition_of(answer) for answer in answers]

    def record(self) -> dict[str, Any]:
        """The guard's part of the record: where it stopped and why, every measurement, and the checkpoint that was chosen."""
        point = {"step": self.state.best, "tokens": self.state.best_checkpoint().tokens, "rule": RULE}
        values = asdict(self.state.best_checkpoint())
        looks = [asdict(look) for look in self.state.looks]
        return {"stopped": self.state.stopped, "guard": looks, "point": point | {"values": values}}

    def roll_back(self, model: Any) -> bool:
        """Put the best safe checkpoint's weights into the model; False where that is the start, to which nothing was kept."""
        if self.state.best == 0:
            return False
        read_weights(model, self.folder / str(self.state.best))
        return True


def copy_weights(source: Path, target: Path) -> None:
    """Copy what `write_weights` wrote, if anything."""
    if file_of(source).is_file():
        shutil.copyfile(file_of(source), file_of(target))
    elif has_weights(source):
        shutil.copytree(source, target)
