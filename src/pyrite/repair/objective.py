"""The loss of a repair: `w_forget · L_forget + w_replay · L_replay + w_kl · L_kl` (arXiv 2406.12397), pack by pack.

Forget and replay rows share one forward pass. Replay cross-entropy and KL share one product with the vocabulary. The
means are over the learned tokens of a whole step (of rows, for methods that join a row's tokens), never over padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pyrite.models.hardware import Compute
from pyrite.models.head import Reference as Teacher
from pyrite.models.head import fused, soft, token_stats
from pyrite.models.rows import Reader
from pyrite.repair.losses import control_vector
from pyrite.repair.methods import Method, Weights
from pyrite.repair.reference import Reference
from pyrite.train.packed import Flat, Row, Totals, Trained, flatten, hidden_states, packs_of

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
    weights: Weights
    reference: Reference | None
    frozen: Frozen | None = None
    layer: int | None = None
    """For methods on hidden states: after how many layers."""
    seed: int = 0

    @property
    def options(self) -> dict[str, float]:
        """The method's own numbers."""
        return dict(self.method.options)

    def reads(self) -> tuple[str, ...]:
        """Which roles of rows have any weight? The others need not be read."""
        forget = (FORGET, PREFERRED) if self.method.kind == "pair" else (FORGET,)
        if self.method.kind == "answer":
            forget = (PREFERRED,)
        replay = (REPLAY,) if self.weights.replay or self.weights.kl else ()
        return (*(forget if self.weights.forget else ()), *replay)

    def __call__(self, module: Trained, rows: Sequence[Row], totals: Totals) -> tuple[torch.Tensor, dict[str, float]]:
        """The pack's share of the step's loss; parts: forget, replay, kl, each unweighted."""
        reader, pack = module.reader, flatten(rows, module.reader.device)
        on_states = self.method.kind == "hidden"
        hidden = hidden_states(reader, pack, self.layer if on_states else None)[pack.at]
        if on_states:
            return self.on_states(hidden, pack, totals)
        replay, told = self.replay(reader, hidden, pack, totals)
        forget, more = self.forget(reader, hidden, pack, totals)
        return replay + forget, told | more

    def replay(
        self, reader: Reader, hidden: torch.Tensor, pack: Flat, totals: Totals
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy and KL of the replay rows, from one product with the vocabulary."""
        rows, where = of_roles(pack, (REPLAY,))
        if not rows or not (self.weights.replay or self.weights.kl):
            return hidden.new_zeros(()), {}
        total = totals.tokens[REPLAY]
        replay, kl_weight = self.weights.replay / total, self.weights.kl / total
        teacher = None
        if self.weights.kl:
            assert self.reference is not None
            teacher = Teacher(self.reference.hidden(rows), self.reference.weight, self.reference.bias)

        def loss(stats: Any, kl: Any, at: Any) -> Any:
            made = -stats.logp * replay
            return made if kl is None else made + kl * kl_weight

        head = reader.head
        made = fused(hidden[where], head.weight, head.bias, pack.targets[where], loss, reference=teacher)
        told = {"replay": float(-made.logp.sum()) / total}
        if made.kl is not None:
            told["kl"] = float(made.kl.sum()) / total
        return made.total, told

    def forget(
        self, reader: Reader, hidden: torch.Tensor, pack: Flat, totals: Totals
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The method's own loss on the forget rows."""
        kind, weight = self.method.kind, self.weights.forget
        roles = {"pair": (FORGET, PREFERRED), "answer": (PREFERRED,)}.get(kind, (FORGET,))
        rows, where = of_roles(pack, roles)
        if not rows or not weight:
            return hidden.new_zeros(()), {}
        head, states, targets = reader.head, hidden[where], pack.targets[where]
        if kind in ("token", "answer"):
            total = totals.tokens[roles[0]]
            method = self.method.loss
            assert method is not None
            made = fused(
                states, head.weight, head.bias, targets,
                lambda stats, kl, at: method(stats, **self.options) * (weight / total),
            )  # fmt: skip
            return made.total, {"forget": float(made.total.detach()) / weight}
        if kind == "soft":
            total = totals.tokens[FORGET]
            teacher = None
            if self.method.teacher == "reference":
                assert self.reference is not None
                teacher = Teacher(self.reference.hidden(rows), self.reference.weight, self.reference.bias)
            shift = self.options.get("shift", float("inf"))
            scale = torch.full((len(targets),), weight / total, device=states.device)
            taught = soft(states, head.weight, head.bias, targets, teacher=teacher, shift=shift, weights=scale)
            return taught.total, {"forget": float(taught.total.detach()) / weight}
        stats = token_stats(states, head.weight, head.bias, targets)
        owner = pack.owner[where]
        found, numbers = torch.unique(owner, return_inverse=True)
        row_logp = stats.logp.new_zeros(len(found)).index_add(0, numbers, stats.logp)
        its = [pack.rows[int(at)] for at in found]
        made_rows = self.pairs(its, row_logp) if kind == "pair" else self.rows(its, row_logp)
        share = made_rows.sum() * (weight / totals.rows[FORGET])
        return share, {"forget": float(share.detach()) / weight}

    def rows(self, its: Sequence[Row], row_logp: torch.Tensor) -> torch.Tensor:
        """A loss of each row's log-likelihood."""
        assert self.method.loss is not None
        known = None
        if self.frozen is not None:
            known = torch.tensor([self.frozen.rows[one.role, one.number] for one in its], device=row_logp.device)
        sizes = torch.tensor([one.targets for one in its], device=row_logp.device)
        made: torch.Tensor = self.method.loss(row_logp, known, sizes, **self.options)
        return made

    def pairs(self, its: Sequence[Row], row_logp: torch.Tensor) -> torch.Tensor:
        """A loss of pairs: the preferred answer against the forget row's own."""
        assert self.method.loss is not None
        assert self.frozen is not None
        at = {(one.role, one.number): number for number, one in enumerate(its)}
        numbers = sorted(number for role, number in at if role == FORGET)
        sides = []
        for role in (PREFERRED, FORGET):
            index = torch.tensor([at[role, number] for number in numbers], device=row_logp.device)
            known = torch.tensor([self.frozen.rows[role, number] for number in numbers], device=row_logp.device)
            sides.append((row_logp[index], known))
        (chosen, known_chosen), (rejected, known_rejected) = sides
        made: torch.Tensor = self.method.loss(chosen, rejected, known_chosen, known_rejected, **self.options)
        return made

    def on_states(self, hidden: torch.Tensor, pack: Flat, totals: Totals) -> tuple[torch.Tensor, dict[str, float]]:
        """RMU: forget rows towards one random direction, replay rows towards where the model as given has them."""
        assert self.method.loss is not None
        parts, loss = {}, hidden.sum() * 0.0
        rows, where = of_roles(pack, (FORGET,))
        if rows and self.weights.forget:
            target = control_vector(hidden.shape[1], self.options["steering"], seed=self.seed).to(hidden.device)
            made = self.method.loss(hidden[where], target.expand(len(where), -1)).sum() / totals.tokens[FORGET]
            loss, parts["forget"] = loss + self.weights.forget * made, float(made.detach())
        rows, where = of_roles(pack, (REPLAY,))
        if rows and self.weights.replay:
            assert self.reference is not None
            made = self.method.loss(hidden[where], self.reference.hidden(rows)).sum() / totals.tokens[REPLAY]
            loss, parts["replay"] = loss + self.weights.replay * made, float(made.detach())
        return loss, parts


def of_roles(pack: Flat, roles: tuple[str, ...]) -> tuple[list[Row], torch.Tensor]:
    """The pack's rows of these roles, and which of its targets are theirs."""
    chosen = torch.tensor([row.role in roles for row in pack.rows], device=pack.owner.device)
    return [row for row in pack.rows if row.role in roles], chosen[pack.owner].nonzero()[:, 0]


def frozen_values(module: Trained, rows: Sequence[Row], pack_tokens: int, compute: Compute) -> Frozen:
    """Each row's log-likelihood (nats, over its learned tokens) under the model before its first step."""
    made: dict[tuple[str, int], float] = {}
    head = module.reader.head
    with torch.no_grad(), compute.autocast():
        for pack in packs_of(rows, pack_tokens):
            flat = flatten(pack, module.reader.device)
            hidden = hidden_states(module.reader, flat)[flat.at]
            logp = token_stats(hidden, head.weight, head.bias, flat.targets).logp
            sums = logp.new_zeros(len(pack)).index_add(0, flat.owner, logp)
            made |= {(row.role, row.number): float(value) for row, value in zip(pack, sums, strict=True)}
    return Frozen(made)
