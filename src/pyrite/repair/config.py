"""The options of `pyrite repair`: field = flag = help. Loads nothing heavy; defaults come from where they are used."""

from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pyrite.config_base import CallConfig, ConfigBase
from pyrite.models.hardware import DeviceMap, PrecisionChoice
from pyrite.probe.config import ProbeOptions
from pyrite.repair.settings import GuardSettings, RepairSettings, RepairTraining


def field_like(model: type[BaseModel], name: str) -> Any:
    """A field with the default, the bounds and the words of another configuration's."""
    return copy(model.model_fields[name])


class RepairOptions(ConfigBase):
    """What to unlearn, what to keep, how to train, what to look at before and after."""

    forget: tuple[str, ...] = Field(
        (),
        description="rows whose pattern is to be unlearned: file, folder or hf://…; repeatable [interpolate needs none]",
    )
    replay: tuple[str, ...] = Field(
        (),
        description="rows like those that the model shall stay good at (people's); repeatable. self=FILE: the file's prompts, "
        "answered by the model before [interpolate needs none]",
    )
    before: str | None = Field(
        None,
        description="the model before the training that did harm: packaged:NAME, a folder, or org/name[@revision]. The "
        "scorecard then has three models, and says how much of what was lost comes back [interpolate: an adapter's base]",
    )
    out: Path | None = Field(None, description="folder of the repaired model and its card [runs/repair-NAME]")
    columns: tuple[str, ...] = Field(
        (), description="OURS=THEIRS: a column of the row files under another name, such as answer=response; repeatable"
    )
    split: str | None = Field(None, description="split of the row files, where a folder or a hub data set has several")
    encoding: str | None = field_like(ProbeOptions, "encoding")
    roles: tuple[str, ...] = field_like(ProbeOptions, "roles")
    tool_calls: Literal["text", "leave-out"] = field_like(ProbeOptions, "tool_calls")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    overlap_limit: float = Field(
        0.01, ge=0, le=1, description="refused beyond this share of forget rows that are also among the replay rows"
    )
    seed: int = Field(0, ge=0, description="seed of the division of rows, of training, of sampling and of intervals")
    precision: PrecisionChoice = Field("auto", description="auto: bf16 where the hardware has it")
    device_map: DeviceMap = Field(
        "one",
        description="auto: the scorecard's models are spread over all GPUs of the machine, its memory and its disk",
    )

    method: str = Field(
        RepairSettings().method,
        description="interpolate or negate (weights of several models, no training), or an unlearning method, see docs/repair.md",
    )
    alpha: tuple[Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)], ...] = Field(
        (),
        description="interpolate: before + alpha * (MODEL - before), 0 to 1; negate: MODEL - alpha * (forgetter - before); "
        "repeatable: one is chosen [0.15 0.3 0.5 0.7 0.85 with --task and --gain, else 0.5]. With a method that trains: "
        "interpolations to compare it with",
    )
    group: tuple[str, ...] = Field(
        (), description="PATTERN=ALPHA: the alpha of weights whose names fit, such as '*layers.0.*=0.2'; repeatable"
    )
    forgetter: str | None = Field(
        None,
        description="negate: a model that was trained on the rows to forget, from the model before [trained on --forget]",
    )
    start_alpha: float | None = Field(
        None, ge=0, le=1, description="train from before + alpha * (MODEL - before) instead of from MODEL"
    )
    option: tuple[str, ...] = Field((), description="NAME=NUMBER: the method's own, such as beta=0.1; repeatable")
    forget_weight: float | None = field_like(RepairSettings, "forget_weight")
    replay_weight: float | None = field_like(RepairSettings, "replay_weight")
    kl_weight: float | None = field_like(RepairSettings, "kl_weight")
    kl_to: Literal["given", "before"] = field_like(RepairSettings, "kl_to")
    self_tokens: int = Field(
        256, ge=8, description="replay self=FILE: answers that do not end within so many are dropped"
    )
    self_temperature: float = Field(
        1.0, ge=0, description="replay self=FILE: the temperature at which answers are sampled"
    )
    tokens: int | None = field_like(RepairSettings, "tokens")
    steps: int | None = field_like(RepairSettings, "steps")
    forget_rows: int = field_like(RepairSettings, "forget_rows")
    replay_rows: int = field_like(RepairSettings, "replay_rows")
    max_tokens: int = field_like(RepairSettings, "max_tokens")
    long_rows: Literal["split", "drop"] = field_like(RepairSettings, "long_rows")
    part: Literal["answers", "all"] | None = field_like(RepairSettings, "part")
    chat_template_kwargs: tuple[str, ...] = field_like(ProbeOptions, "chat_template_kwargs")
    pack_tokens: int = field_like(RepairSettings, "pack_tokens")
    processes: int | None = Field(
        None,
        ge=1,
        description="processes that share the model by FSDP, one a GPU (they write no guard's answers) [1; under torchrun, as many as it starts]",
    )
    adapter: Literal["merge", "keep"] = field_like(RepairSettings, "adapter")
    save: Literal["merged", "adapter"] = field_like(RepairSettings, "save")

    training: Literal["lora", "full", "qlora"] = field_like(RepairTraining, "method")
    learning_rate: float = field_like(RepairTraining, "learning_rate")
    weight_decay: float = field_like(RepairTraining, "weight_decay")
    max_grad_norm: float = field_like(RepairTraining, "max_grad_norm")
    warmup: float = field_like(RepairTraining, "warmup")
    schedule: Literal["cosine", "linear", "constant"] = field_like(RepairTraining, "schedule")
    optimizer: Literal["adamw_torch_fused", "adamw_torch", "paged_adamw_32bit"] = field_like(
        RepairTraining, "optimizer"
    )
    lora_rank: int = Field(RepairTraining().lora.rank, ge=1, description="rank r of the adapters")
    lora_alpha: int = Field(RepairTraining().lora.alpha, ge=1, description="scale: the update times alpha / rank")

    guard_every_tokens: int = field_like(GuardSettings, "every_tokens")
    guard_rows: int = Field(24, ge=1, description="replay rows held out for the guard (with or without it)")
    guard_forget_rows: int = Field(16, ge=1, description="forget rows held out for the guard")
    guard_replay_rise: float = field_like(GuardSettings, "replay_rise")
    guard_kl: float = field_like(GuardSettings, "kl")
    guard_entropy_ratio: float = field_like(GuardSettings, "entropy_ratio")
    guard_repetition_rise: float = field_like(GuardSettings, "repetition_rise")
    guard_answers: int = field_like(GuardSettings, "answers")
    guard_answer_tokens: int = Field(GuardSettings().answer_tokens, ge=8, description="tokens of such an answer")
    guard_gate: tuple[str, ...] = field_like(GuardSettings, "gates")

    scorecard_rows: int = Field(
        64,
        ge=0,
        description="rows of each side held out for the scorecard's perplexities (tasks replay and forget); below 10: no interval",
    )
    task: tuple[str, ...] = Field(
        (),
        description="ask this before and after, as pyrite probe does, such as ifeval=FILE; repeatable. With --before: what "
        "was lost",
    )
    gain: tuple[str, ...] = Field(
        (),
        description="with --before: the same, of what the harmful training gained, such as gsm8k=FILE, or forget: held-out rows to forget; repeatable",
    )
    select: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="several --alpha: share of the items that choose among them; the rest judges the one chosen [0.3]",
    )
    keep: float = Field(
        0.9,
        ge=0,
        le=1,
        description="several --alpha: the one that recovers most among those that keep so much of the gain",
    )
    items: int | None = field_like(ProbeOptions, "items")
    skip: int = field_like(ProbeOptions, "skip")
    max_new_tokens: int | None = field_like(ProbeOptions, "max_new_tokens")
    judge_url: str | None = field_like(ProbeOptions, "judge_url")
    judge_model: str | None = field_like(ProbeOptions, "judge_model")
    judge_votes: int = field_like(ProbeOptions, "judge_votes")
    judge_key_variable: str = Field(
        "OPENAI_API_KEY", description="the environment variable that holds the key of the judge's endpoint"
    )
    margin: float = field_like(ProbeOptions, "margin")
    gate: tuple[str, ...] = Field(
        (),
        description="'TASK[.METRIC][[COLUMN=VALUE]] >= NUMBER' on the repaired model, 'change' is repaired minus MODEL as given (with --before: the harmed one); repeatable",
    )
    undecided: Literal["pass", "fail"] | None = field_like(ProbeOptions, "undecided")
    prove: tuple[str, ...] = Field(
        (), description="the same scorecard after int8 or nf4 rounding, or relearn=M (on M forget rows); repeatable"
    )
    relearn_rate: float = Field(5e-5, gt=0, description="learning rate of relearn=M: one pass, all weights")
    undoes: str | None = Field(
        None, description="the training that is undone: its history.json or folder, or tokens; cost is told as a share"
    )
    report_to: Literal["none", "trackio", "mlflow", "wandb", "tensorboard"] = Field(
        "none", description="also send the learning curve to this tracker; it must be installed"
    )
    engine: str = field_like(ProbeOptions, "engine")
    max_time: float | None = field_like(ProbeOptions, "max_time")
    store: Path | None = field_like(ProbeOptions, "store")
    quiet: bool = field_like(ProbeOptions, "quiet")


class RepairConfig(RepairOptions, CallConfig):
    """A model to repair."""

    model: str = Field(description="packaged:NAME, a model or adapter folder, or org/name[@revision] on the hub")
