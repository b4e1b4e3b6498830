"""How a model is repaired: the method and its weights, how much is read, how it trains, what the guard watches."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from pyrite.conditions import OPERATORS, parse_condition
from pyrite.config_base import ConfigBase
from pyrite.errors import UserError
from pyrite.train.settings import NOT_PAGED, LoraSettings, OptimSettings

GUARD_VALUES = ("replay_nats", "forget_nats", "kl", "entropy", "repetition")
"""What a guard's look measures."""


def guard_gates(texts: Sequence[str]) -> list[tuple[str, str, float]]:
    """Conditions on the guard's values: (value, operator, bound).

    Raises:
        UserError: a condition that cannot be read.

    >>> guard_gates(["kl <= 0.2"])
    [('kl', '<=', 0.2)]
    """
    conditions: list[tuple[str, str, float]] = []
    fix = f"'VALUE <= NUMBER', VALUE one of {GUARD_VALUES}"
    for text in texts:
        try:
            condition = parse_condition(text, fix)
        except UserError as error:
            raise UserError("A guard's condition cannot be read.", text, fix) from error
        bound = condition.bound
        if (
            condition.name not in GUARD_VALUES
            or condition.where
            or condition.op not in OPERATORS
            or not isinstance(bound, float)
        ):
            raise UserError("A guard's condition cannot be read.", text, fix)
        conditions.append((condition.name, condition.op, bound))
    return conditions


class GuardSettings(ConfigBase):
    """A small probe on rows of its own, every so many tokens; a breach stops the repair and rolls it back."""

    every_tokens: int = Field(20_000, ge=0, description="tokens processed between two looks; 0: no guard")
    replay_rise: float = Field(
        0.1, gt=0, description="breach: the guard's replay rows cost so many nats a token more than at the start"
    )
    kl: float = Field(
        0.5,
        gt=0,
        description="breach: so many nats a token from the model as given, on replay rows; with kl_to before: more than at the start",
    )
    entropy_ratio: float = Field(
        2.0, gt=1, description="breach: mean entropy of the next token grows or shrinks by this factor"
    )
    repetition_rise: float = Field(
        0.3,
        gt=0,
        le=1,
        description="breach: the share of repeated four-token pieces in short answers rises by so much, beyond chance",
    )
    answers: int = Field(
        8, ge=0, description="short answers written at each look, to see repetition; 0: none; one tells nothing"
    )
    answer_tokens: int = Field(48, ge=8, description="their length")
    gates: tuple[str, ...] = Field(
        (), description="conditions of your own, such as 'kl <= 0.2': replay_nats, forget_nats, kl, entropy, repetition"
    )

    @model_validator(mode="after")
    def _gates(self) -> "GuardSettings":
        try:
            guard_gates(self.gates)
        except UserError as error:
            raise ValueError(f"{error.what} {error.found}; {error.fix}") from error
        return self


class RepairTraining(OptimSettings):
    """How the weights move."""

    method: Literal["lora", "full", "qlora"] = Field("lora", description="adapters, all weights, adapters on 4-bit NF4")
    lora: LoraSettings = Field(
        default_factory=lambda: LoraSettings(rank=16, alpha=32, dropout=0.0), description="adapter options"
    )


class RepairSettings(ConfigBase):
    """One repair."""

    method: str = Field("lbf", description="unlearning method, see docs/repair.md")
    options: dict[str, float] = Field(default_factory=dict, description="the method's own numbers, such as beta")
    forget_weight: float | None = Field(None, ge=0, description="weight of the forgetting loss [the method's]")
    replay_weight: float | None = Field(None, ge=0, description="weight of cross-entropy on replay rows [the method's]")
    kl_weight: float | None = Field(None, ge=0, description="weight of KL(model as given || model) [the method's]")
    kl_to: Literal["given", "before"] = Field(
        "given",
        description="the model that KL keeps to: the one that is repaired, or the one before the harmful training",
    )
    tokens: int | None = Field(None, ge=1, description="budget: forget and replay tokens that are processed")
    steps: int | None = Field(None, ge=1, description="budget in optimiser steps [one pass over the forget rows]")
    forget_rows: int = Field(4, ge=1, description="forget rows in a step")
    replay_rows: int = Field(4, ge=0, description="replay rows in a step")
    max_tokens: int = Field(512, ge=8, description="rows longer than this are split or dropped, and counted")
    long_rows: Literal["split", "drop"] = Field("split", description="what happens to rows longer than max_tokens")
    part: Literal["answers", "all"] | None = Field(
        None, description="tokens that are learned and unlearned [answers of chats, all of plain text]"
    )
    pack_tokens: int = Field(0, ge=0, description="tokens in one forward pass; more need more memory; 0: by the device")
    processes: int = Field(
        1,
        ge=1,
        description="processes that share the model by FSDP, one a GPU (they write no guard's answers); 1: this one",
    )
    adapter: Literal["merge", "keep"] = Field(
        "merge", description="an adapter that the model comes with: merged, or kept active beneath the repair's own"
    )
    save: Literal["merged", "adapter"] = Field("merged", description="what is saved: a whole model, or the adapter")
    training: RepairTraining = Field(default_factory=RepairTraining, description="how the weights move")
    guard: GuardSettings = Field(default_factory=GuardSettings, description="what stops a repair that does harm")

    def as_config(self) -> dict[str, Any]:
        """Plain values for a step; what stays at a default that came later is left out, so that older steps keep their keys."""
        return self.model_dump(mode="json", exclude={"kl_to"} if self.kl_to == "given" else None)

    @model_validator(mode="after")
    def _one_budget(self) -> "RepairSettings":
        if self.tokens is not None and self.steps is not None:
            raise ValueError("give tokens or steps, not both")
        if self.save == "adapter" and self.training.method == "full":
            raise ValueError("save: adapter needs training.method lora or qlora")
        if self.processes > 1 and self.training.optimizer == "paged_adamw_32bit":
            raise ValueError(NOT_PAGED)
        return self
