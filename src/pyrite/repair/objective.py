"""The loss of a repair: `w_forget · L_forget + w_replay · L_replay + w_kl · L_kl` (arXiv 2406.12397), pack by pack.

Forget and replay rows share one forward pass. Replay cross-entropy and KL share one product with the vocabulary. The
means are over the learned tokens of a whole step (of rows, for methods that join a row's tokens), never over padding.

What a model says of rows is an objective's `forward`: of a language model, the hidden states that predict learned tokens and
the vocabulary's matrix. A classifier fits into the same words (`repair.classifier`), one target a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import torch

from pyrite.io import atomic_write
from pyrite.models.hardware import Compute
from pyrite.models.head import ReferenceStates as Teacher
from pyrite.models.head import entropy, fused, soft, token_stats
from pyrite.repair.losses import control_vector
from pyrite.repair.methods import LossWeights, Method
from pyrite.repair.reference import Forward, Outputs, Reference, See, forward_tokens
from pyrite.train import peers
from pyrite.train.packed import Normalisers, Trained, packs_of
from pyrite.train.rows import TrainingRow

FORGET, REPLAY, PREFERRED = "forget", "replay", "preferred"
"""Roles of rows. A preferred row is a forget row's prompt with an answer that says nothing."""


@dataclass(frozen=True)
class Frozen:
    """What the model as given says of forget rows, where a method asks: each row's log-likelihood, by (role, number)."""

    rows: Mapping[tuple[str, int], float]


@dataclass
class RepairObjective:
    """A method, its weights, and the model as given."""

    method: Method
    weights: LossWeights
    reference: Reference | None
    frozen: Frozen | None = None
    layer: int | None = None
    """For methods on hidden states: after how many layers."""
    seed: int = 0
    forward: Forward = forward_tokens
    """How rows are read."""
    last: Reference | None = None
    """The model as given after all its layers, for the guard's KL."""
    keep_to: Reference | None = None
    """The model that the KL term keeps to, and the guard's KL, where it is not the model as given."""

    @property
    def options(self) -> dict[str, float]:
        """The method's own numbers."""
        return dict(self.method.options)

    @property
    def measures_kl(self) -> bool:
        """Is there a model that the guard's KL looks at?"""
        return self.keep_to is not None or self.last is not None

    def reads(self) -> tuple[str, ...]:
        """Which roles of rows have any weight? The others need not be read."""
        forget = (FORGET, PREFERRED) if self.method.kind == "pair" else (FORGET,)
        if self.method.kind == "answer":
            forget = (PREFERRED,)
        replay = (REPLAY,) if self.weights.replay or self.weights.kl else ()
        return (*(forget if self.weights.forget else ()), *replay)

    def __call__(
        self, module: Trained, rows: Sequence[TrainingRow], normalisers: Normalisers
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The pack's share of the step's loss; parts: forget, replay, kl, each unweighted."""
        on_states = self.method.kind == "hidden"
        pack = self.forward(module.reader, rows, self.layer if on_states else None)
        if on_states:
            return self.on_states(pack, normalisers)
        replay, replay_parts = self.replay(module.reader.head, pack, normalisers)
        forget, forget_parts = self.forget(module.reader.head, pack, normalisers)
        return replay + forget, replay_parts | forget_parts

    def look(self, module: Trained, rows: Sequence[TrainingRow], normalisers: Normalisers) -> dict[str, float]:
        """For the guard: a pack's parts of the objective and, whatever the method's own loss is, sums of negative
        log-likelihoods, KL and entropy."""
        pack, head = self.forward(module.reader, rows, None), module.reader.head
        if self.method.kind == "hidden":
            sums = dict(self.on_states(self.forward(module.reader, rows, self.layer), normalisers)[1])
        else:
            sums = dict(self.forget(head, pack, normalisers)[1])
        for role, name in ((REPLAY, "replay_nats"), (FORGET, "forget_nats")):
            role_rows, targets_of_role = of_roles(pack, (role,))
            if not role_rows:
                continue
            teacher, near = None, self.keep_to or self.last
            if role == REPLAY and near is not None:
                teacher = Teacher(near.hidden(role_rows), near.weight, near.bias)
            states, targets = pack.states[targets_of_role], pack.targets[targets_of_role]
            result = fused(
                states, head.weight, head.bias, targets, lambda stats, kl, at: -stats.logp, reference=teacher
            )
            sums[name] = float(result.total)
            if role == REPLAY:
                sums["entropy"] = float(entropy(states, head.weight, head.bias).sum())
                if result.kl is not None:
                    sums["kl_nats"] = float(result.kl.sum())
                if self.method.kind != "hidden":
                    sums["replay"] = sums["replay_nats"] / normalisers.tokens[REPLAY]
                    sums["kl"] = sums.get("kl_nats", 0.0) / normalisers.tokens[REPLAY]
        return sums

    def asks(self) -> tuple[str, ...]:
        """Of which roles of rows does the loss ask the model as given, at every step?"""
        replay = (self.weights.kl and self.keep_to is None) or (self.method.kind == "hidden" and self.weights.replay)
        forget = self.method.teacher == "reference" and self.weights.forget
        return (*((REPLAY,) if replay else ()), *((FORGET,) if forget else ()))

    def look_reads(self, rows: Sequence[TrainingRow]) -> tuple[int, int]:
        """Tokens that one look at these rows reads (each pass counted, the model as given among them where it is not on
        disk), and positions at which it looks at the vocabulary."""
        tokens, targets = sum(len(row.ids) for row in rows), sum(row.targets for row in rows)
        replay = [row for row in rows if row.role == REPLAY]
        forget = [row for row in rows if row.role == FORGET]
        read, looked = tokens, targets + sum(row.targets for row in (*forget, *replay))  # its own loss, NLL and entropy
        read += tokens if self.method.kind == "hidden" else 0
        near = self.keep_to or self.last
        again = [*(replay if near is not None else ()), *(replay if self.method.kind == "hidden" else ())]
        again += forget if FORGET in self.asks() else []
        looked += sum(row.targets for row in again)
        if near is not None and near.live:
            read += sum(len(row.ids) for row in again)
        return read, looked

    def replay(self, head: Any, pack: Outputs, normalisers: Normalisers) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy and KL of the replay rows, from one product with the vocabulary."""
        rows, at_targets = of_roles(pack, (REPLAY,))
        if not rows or not (self.weights.replay or self.weights.kl):
            return pack.states.new_zeros(()), {}
        total = normalisers.tokens[REPLAY]
        replay, kl_weight = self.weights.replay / total, self.weights.kl / total
        teacher = None
        if self.weights.kl:
            reference = self.keep_to or self.reference
            assert reference is not None
            teacher = Teacher(reference.hidden(rows), reference.weight, reference.bias)

        def loss(stats: Any, kl: Any, at: Any) -> Any:
            cross_entropy = -stats.logp * replay
            return cross_entropy if kl is None else cross_entropy + kl * kl_weight

        result = fused(
            pack.states[at_targets], head.weight, head.bias, pack.targets[at_targets], loss, reference=teacher
        )
        parts = {"replay": float(-result.logp.sum()) / total}
        if result.kl is not None:
            parts["kl"] = float(result.kl.sum()) / total
        return result.total, parts

    def forget(self, head: Any, pack: Outputs, normalisers: Normalisers) -> tuple[torch.Tensor, dict[str, float]]:
        """The method's own loss on the forget rows."""
        kind, weight = self.method.kind, self.weights.forget
        roles = {"pair": (FORGET, PREFERRED), "answer": (PREFERRED,)}.get(kind, (FORGET,))
        rows, at_targets = of_roles(pack, roles)
        if not rows or not weight:
            return pack.states.new_zeros(()), {}
        states, targets = pack.states[at_targets], pack.targets[at_targets]
        if kind in ("token", "answer"):
            total = normalisers.tokens[roles[0]]
            method = self.method.loss
            assert method is not None
            result = fused(
                states, head.weight, head.bias, targets,
                lambda stats, kl, at: method(stats, **self.options) * (weight / total),
            )  # fmt: skip
            return result.total, {"forget": float(result.total.detach()) / weight}
        if kind == "soft":
            total = normalisers.tokens[FORGET]
            teacher = None
            if self.method.teacher == "reference":
                assert self.reference is not None
                teacher = Teacher(self.reference.hidden(rows), self.reference.weight, self.reference.bias)
            shift = self.options.get("shift", float("inf"))
            scale = torch.full((len(targets),), weight / total, device=states.device)
            taught = soft(states, head.weight, head.bias, targets, teacher=teacher, shift=shift, weights=scale)
            return taught.total, {"forget": float(taught.total.detach()) / weight}
        stats = token_stats(states, head.weight, head.bias, targets)
        owner = pack.owner[at_targets]
        row_numbers, numbers = torch.unique(owner, return_inverse=True)
        row_logp = stats.logp.new_zeros(len(row_numbers)).index_add(0, numbers, stats.logp)
        unit_rows = [pack.rows[int(at)] for at in row_numbers]
        row_losses = self.pairs(unit_rows, row_logp) if kind == "pair" else self.rows(unit_rows, row_logp)
        share = row_losses.sum() * (weight / normalisers.rows[FORGET])
        return share, {"forget": float(share.detach()) / weight}

    def rows(self, rows: Sequence[TrainingRow], row_logp: torch.Tensor) -> torch.Tensor:
        """A loss of each row's log-likelihood."""
        assert self.method.loss is not None
        reference_logp = None
        if self.frozen is not None:
            reference_logp = torch.tensor(
                [self.frozen.rows[row.role, row.number] for row in rows], device=row_logp.device
            )
        sizes = torch.tensor([row.targets for row in rows], device=row_logp.device)
        losses: torch.Tensor = self.method.loss(row_logp, reference_logp, sizes, **self.options)
        return losses

    def pairs(self, rows: Sequence[TrainingRow], row_logp: torch.Tensor) -> torch.Tensor:
        """A loss of pairs: the preferred answer against the forget row's own."""
        assert self.method.loss is not None
        assert self.frozen is not None
        at = {(row.role, row.number): number for number, row in enumerate(rows)}
        numbers = sorted(number for role, number in at if role == FORGET)
        assert len(at) == len(rows), "a row twice in one step"
        sides = []
        for role in (PREFERRED, FORGET):
            index = torch.tensor([at[role, number] for number in numbers], device=row_logp.device)
            reference_logp = torch.tensor(
                [self.frozen.rows[role, number] for number in numbers], device=row_logp.device
            )
            sides.append((row_logp[index], reference_logp))
        (chosen, reference_chosen), (rejected, reference_rejected) = sides
        losses: torch.Tensor = self.method.loss(chosen, rejected, reference_chosen, reference_rejected, **self.options)
        return losses

    def on_states(self, pack: Outputs, normalisers: Normalisers) -> tuple[torch.Tensor, dict[str, float]]:
        """RMU: forget rows towards one random direction, replay rows towards where the model as given has them."""
        assert self.method.loss is not None
        hidden = pack.states
        parts, loss = {}, hidden.sum() * 0.0
        rows, at_targets = of_roles(pack, (FORGET,))
        if rows and self.weights.forget:
            target = control_vector(hidden.shape[1], self.options["steering"], seed=self.seed).to(hidden.device)
            term = (
                self.method.loss(hidden[at_targets], target.expand(len(at_targets), -1)).sum()
                / normalisers.tokens[FORGET]
            )
            loss, parts["forget"] = loss + self.weights.forget * term, float(term.detach())
        rows, at_targets = of_roles(pack, (REPLAY,))
        if rows and self.weights.replay:
            assert self.reference is not None
            term = self.method.loss(hidden[at_targets], self.reference.hidden(rows)).sum() / normalisers.tokens[REPLAY]
            loss, parts["replay"] = loss + self.weights.replay * term, float(term.detach())
        return loss, parts


def of_roles(pack: Outputs, roles: tuple[str, ...]) -> tuple[list[TrainingRow], torch.Tensor]:
    """The pack's rows of these roles, and which of its targets are theirs."""
    chosen = torch.tensor([row.role in roles for row in pack.rows], device=pack.owner.device)
    return [row for row in pack.rows if row.role in roles], chosen[pack.owner].nonzero()[:, 0]


def frozen_values(
    see: See, rows: Sequence[TrainingRow], pack_tokens: int, compute: Compute, forward: Forward = forward_tokens
) -> Frozen:
    """Each row's log-likelihood (nats, over its learned tokens) under the model before its first step."""
    row_logp: dict[tuple[str, int], float] = {}

    def sums_of(pack: Sequence[TrainingRow], reader: Any) -> list[float]:
        outputs, head = forward(reader, pack, None), reader.head
        logp = token_stats(outputs.states, head.weight, head.bias, outputs.targets).logp
        return [float(value) for value in logp.new_zeros(len(pack)).index_add(0, outputs.owner, logp)]

    with torch.no_grad(), compute.autocast():
        for pack in packs_of(rows, pack_tokens):
            sums = see(pack, partial(sums_of, pack))
            row_logp |= {(row.role, row.number): value for row, value in zip(pack, sums, strict=True)}
    return Frozen(row_logp)


def stored_values(file: Path, compute: Callable[[], Frozen]) -> Frozen:
    """Values that several processes compute together at the start of a training, and find on disk when it goes on."""
    if not peers.agreed(file.is_file()):
        computed = compute()
        if peers.is_first():
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as part:
                Path(part).write_bytes(orjson.dumps([[*key, value] for key, value in computed.rows.items()]))
        peers.wait_for_all()
    return Frozen({(role, number): value for role, number, value in orjson.loads(file.read_bytes())})
