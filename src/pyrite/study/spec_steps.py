"""What a study file says of models: where cells begin, the steps that follow, and the cells themselves."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pyrite.config_base import ConfigBase
from pyrite.models.hardware import PrecisionChoice
from pyrite.repair.settings import RepairSettings
from pyrite.synth.settings import BiasSettings
from pyrite.train.settings import ClassifierSettings, TrainSettings

START_ROWS = "start"
"""In an arm's mix: the rows that the start itself was trained on. As a contrast's other side: the start's model."""
TRAINED = "trained"
"""In a repair: the rows of the last training of the cell."""
DAMAGE = "damage"
"""As a step of a cell, the training that the file chooses; as rows, those that it is trained on."""


class TaskModelSpec(ConfigBase):
    """The model that is trained and probed."""

    model: str = Field(description="packaged:NAME, a folder, or org/name[@revision] on the hub")
    reads: Literal["auto", "pair", "prompt"] = Field(
        "auto", description="labelled rows as two segments (encoders) or as a prompt (decoders)"
    )
    precision: PrecisionChoice = Field("auto", description="auto: bf16-mixed where the hardware has it")
    parameters: float | None = Field(None, gt=0, description="number of weights, for plans made without the model")


class StartSpec(ConfigBase):
    """A model before augmentation: trained on so many rows of each source; none at all is the model as given."""

    rows: dict[str, int | Literal["all"]] = Field(default_factory=dict, description="data: rows to train on")
    after: str | None = Field(None, description="train further from this start instead of from the model as given")
    seeds: Literal["each", "one"] = Field(
        "each",
        description="each: a model of its own for every seed; one: that of the first seed for all, so that the seeds differ in what follows only",
    )
    training: ClassifierSettings | None = Field(None, description="instead of the study's start training")

    @model_validator(mode="after")
    def _trains(self) -> "StartSpec":
        if self.training is not None and self.is_given:
            raise ValueError("training: nothing is trained here, as there are no rows")
        return self

    @property
    def is_given(self) -> bool:
        """Is nothing trained here, so that the model as given (or the start before) is the start?"""
        return not self.rows or all(count == 0 for count in self.rows.values())


class ArmSpec(ConfigBase):
    """What a start is trained on further: a mix of data, a selection, label noise."""

    mix: dict[str, float] = Field(description="data: its share of the rows; 'start' is the start's own rows again")
    combine: Literal["replace", "add"] = Field(
        "replace",
        description="replace: the shares divide the size among them; add: every share is on top of the others, in parts of the size",
    )
    bias: BiasSettings | None = Field(None, description="filter rows to agree with a heuristic")
    bias_on: str | None = Field(None, description="filter only this data of the mix")
    noise: Annotated[float, Field(ge=0, lt=1)] | str | None = Field(
        None, description="share of labels flipped at random, or a synth source: its estimated error rate"
    )

    @model_validator(mode="after")
    def _shares(self) -> "ArmSpec":
        if any(share < 0 for share in self.mix.values()) or not sum(self.mix.values()) > 0:
            raise ValueError("shares are 0 or more, and not all 0")
        if self.combine == "replace" and abs(sum(self.mix.values()) - 1) > 1e-6:
            raise ValueError(f"with combine: replace the shares add up to 1, these to {sum(self.mix.values()):g}")
        return self

    def counts(self, size: int) -> dict[str, int]:
        """How many rows of each data are in the arm at this size?

        `replace`: the shares divide the size (the first takes what rounding leaves). `add`: each share is in parts of the
        size, so human 1.0 and synthetic 0.5 make one and a half times the size.
        """
        counts = {name: round(size * share) for name, share in self.mix.items()}
        if self.combine == "replace":
            first = next(iter(counts))
            counts[first] += size - sum(counts.values())
        return {name: count for name, count in counts.items() if count}


class ShareAxis(ConfigBase):
    """Arms along an axis: from only human to only synthetic."""

    shares: tuple[float, ...] = Field(min_length=1, description="synthetic share of each arm, 0 to 1")
    human: str = Field(description="the human data")
    synthetic: str = Field(description="the synthetic data")
    combine: Literal["replace", "add"] = Field("replace", description="see arms")

    @field_validator("shares")
    @classmethod
    def _each_once(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len({f"{share:g}" for share in value}) < len(value) or min(value) < 0 or max(value) > 1:
            raise ValueError("each once, 0 to 1 (six digits count)")
        return value

    @model_validator(mode="after")
    def _differ(self) -> "ShareAxis":
        if self.human == self.synthetic:
            raise ValueError(f"human and synthetic are two data, not both {self.human}")
        return self


class TrainingStep(ConfigBase):
    """A step that trains a language model further: on chats (loss on answers) or on plain text (loss on every token)."""

    trains: Literal["chat", "text"] = Field("chat", description="chat: loss on the answers; text: on all tokens")
    on: str | dict[str, float] = Field(
        description="rows, as DATA.POOL; or several with their shares of the text (in characters), no row used twice"
    )
    first: int | None = Field(None, ge=1, description="only the first so many rows")
    settings: TrainSettings = Field(default_factory=TrainSettings, description="how the weights move")
    pack_tokens: int = Field(0, ge=0, description="tokens in one forward pass; 0: by the device")

    @model_validator(mode="after")
    def _shares(self) -> "TrainingStep":
        if isinstance(self.on, dict) and (
            any(share <= 0 for share in self.on.values()) or abs(sum(self.on.values()) - 1) > 1e-6
        ):
            raise ValueError(f"on: shares are above 0 and add up to 1, these to {sum(self.on.values()):g}")
        return self

    def pools(self) -> tuple[str, ...]:
        """The rows that are read."""
        return (self.on,) if isinstance(self.on, str) else tuple(self.on)


class RepairStep(ConfigBase):
    """A step that unlearns: what is unlearned, what is replayed, and the rows of its guard. Labelled rows for a classifier,
    chats for a language model."""

    forget: str | None = Field(
        None,
        description="rows to unlearn [damage, where the study names one; else trained: those of the cell's last training]",
    )
    replay: str = Field(description="rows to keep up")
    guard_forget: str | None = Field(
        None, description="the guard's own rows of the one sort; not needed without a guard"
    )
    guard_replay: str | None = Field(None, description="the guard's own rows of the other")
    before: str | None = Field(
        None,
        description="the cell whose model of the same seed is the one before, for kl_to: before and self_replay [the model as given; with starts, that of the cell's start]",
    )
    self_replay: bool = Field(
        False,
        description="replay rows (and the guard's) keep their prompts; the model before answers them, sampled once",
    )
    self_tokens: int = Field(256, ge=8, description="self_replay: answers that do not end within so many are dropped")
    self_temperature: float = Field(1.0, ge=0, description="self_replay: the temperature at which they are sampled")
    settings: RepairSettings = Field(default_factory=RepairSettings, description="see pyrite repair")

    @model_validator(mode="after")
    def _guarded(self) -> "RepairStep":
        guard = (self.guard_forget, self.guard_replay)
        if self.settings.guard.every_tokens and None in guard:
            raise ValueError(
                "a guard has rows of its own: guard_forget and guard_replay, or settings: {guard: {every_tokens: 0}}"
            )
        if self.before is not None and not self.self_replay and self.settings.kl_to != "before":
            raise ValueError("before: only kl_to: before and self_replay look at the model before; leave it out")
        if (self.guard_forget is None) != (self.guard_replay is None):
            raise ValueError("give both guard_forget and guard_replay, or neither")
        return self

    def pools(self) -> dict[str, str]:
        """The rows that are read, by their role; `forget` as the study resolves it is not among them where it is not written."""
        roles = {role: getattr(self, role) for role in ("forget", "replay", "guard_forget", "guard_replay")}
        return {role: name for role, name in roles.items() if name is not None}


class MergeStep(ConfigBase):
    """A step that mixes a model with the one before: before + alpha * (model - before), weight by weight (arXiv 2109.01903)."""

    alpha: float = Field(ge=0, le=1, description="0: the model before; 1: the model that the step is given")
    before: str | None = Field(
        None,
        description="the cell whose model of the same seed is the one before [the model as given; with starts, that of the cell's start]",
    )
    groups: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="alpha of the weights whose names fit a pattern, such as '*layers.0.*': 0.2"
    )


class OtherStep(ConfigBase):
    """A step of a type that is registered from outside (`pyrite.study.other_steps`)."""

    type: str = Field(description="the registered type")
    options: dict[str, Any] = Field(default_factory=dict, description="what its planner reads")


class CellSpec(ConfigBase):
    """One path written out: where it begins, and the steps that follow. `NAME: [steps]` is short for a cell without a start."""

    name: str = Field(description="its name in the tables, in the place of an arm's")
    start: str | None = Field(None, description="the start where it begins [the model as given]")
    steps: tuple[str, ...] = Field(
        (), description="arms, trainings, repairs, merges and roundings, in order; none is the model itself"
    )
    size: int = Field(0, ge=0, description="rows of each arm among its steps")


class TrainingSpec(ConfigBase):
    """How starts and arms are trained."""

    start: ClassifierSettings = Field(default_factory=ClassifierSettings, description="starts")
    arm: ClassifierSettings = Field(default_factory=ClassifierSettings, description="arms")
