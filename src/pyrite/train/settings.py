"""How a model is trained: one set of options for classifiers, generators and everything later."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from pyrite.config_base import ConfigBase

NOT_PAGED = "several processes need an optimizer that is not paged: bitsandbytes' own knows no sharded weights"


class LoraSettings(ConfigBase):
    """Low-rank adapters. The defaults are those of arXiv 2502.07164."""

    rank: int = Field(64, ge=1, description="rank r of the adapters")
    alpha: int = Field(16, ge=1, description="scale: the update is multiplied by alpha / rank")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the adapters")
    targets: tuple[str, ...] | Literal["all-linear"] = Field("all-linear", description="modules that get an adapter")
    also_train: tuple[str, ...] = Field(
        (), description="modules trained in full beside the adapters, such as embed_tokens and lm_head"
    )


class OptimSettings(ConfigBase):
    """Settings of the optimiser: how the weights move over the steps of any training."""

    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    warmup: float = Field(0.1, ge=0, lt=1, description="fraction of the steps in which the learning rate rises")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="learning rate after warm-up")
    optimizer: Literal["adamw_torch_fused", "adamw_torch", "paged_adamw_32bit"] = Field(
        "adamw_torch_fused", description="optimiser (paged: GPU only)"
    )


class TrainSettings(OptimSettings):
    """One training run."""

    method: Literal["full", "lora", "qlora"] = Field(
        "full", description="all weights, adapters, or adapters on a 4-bit NF4 base"
    )
    epochs: float = Field(1.0, gt=0, description="passes over the rows")
    batch_size: int = Field(32, ge=1, description="rows in a step")
    accumulate: int = Field(1, ge=1, description="parts into which a step's batch is split to save memory")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay")
    group_by_length: bool = Field(True, description="rows of similar length share a batch")
    max_tokens: int = Field(
        256, ge=8, description="longer rows are cut here (classifiers) or left out (generators), and counted"
    )
    lora: LoraSettings = Field(default_factory=LoraSettings, description="adapter options for lora and qlora")
    processes: int = Field(1, ge=1, description="processes that share the model by FSDP, one a GPU; 1: this one")

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """One process is left out, so that steps of earlier versions keep their keys."""
        values: dict[str, Any] = serialise(self)
        if values.get("processes") == 1:
            del values["processes"]
        return values

    @model_validator(mode="after")
    def _shared(self) -> "TrainSettings":
        if self.processes > 1 and self.optimizer == "paged_adamw_32bit":
            raise ValueError(NOT_PAGED)
        return self

    @model_validator(mode="after")
    def _whole_parts(self) -> "TrainSettings":
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size ({self.batch_size}) is not a multiple of accumulate ({self.accumulate})")
        return self


class ClassifierSettings(TrainSettings):
    """One training run of a classifier."""

    freeze: int = Field(
        0,
        ge=0,
        description="method full: the embeddings and so many of the lowest layers stay as they are, without dropout; what they make of a row is computed once for all models of a study",
    )

    @model_validator(mode="after")
    def _whole_layers(self) -> "ClassifierSettings":
        if self.freeze and self.method != "full":
            raise ValueError("freeze holds whole layers still; adapters (lora, qlora) leave all layers still anyway")
        if self.freeze and self.processes > 1:
            raise ValueError(
                "frozen layers are read once and stored, which one process does: leave out freeze or processes"
            )
        return self

    def as_config(self) -> dict[str, Any]:
        """As plain values for a step; a freeze of nothing is left out, so that older steps are found again."""
        return self.model_dump(mode="json", exclude=set() if self.freeze else {"freeze"})
