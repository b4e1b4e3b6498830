"""What a study file says: models, data, steps, cells, probes, contrasts. Validated, with line numbers.

A study is named *cells*: ordered steps (train, repair, merge, quantise) from a model, with probes after any of them.
`starts` × `arms` × `sizes` (× `synthetic_share`) is a way of writing cells. With `labels`, starts and arms train a
classifier; without, they train a language model on chats.

Names of rows are dotted: `human` is a whole source, `human.start` one of its pools. Three words stand for rows that
depend on the cell: `start` (in an arm's mix: the start's own rows again), `trained` (in a repair: the rows of the cell's
last training) and `damage` (those of the training that the file chooses under `damage`; `damage.POOL` is a pool of the
same data).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_serializer, field_validator

from pyrite.config_base import DistinctConfig
from pyrite.io import path_in
from pyrite.models.hardware import PrecisionChoice
from pyrite.study.spec_data import DataSpec
from pyrite.study.spec_probes import ContrastSpec, FrontierSpec, PilotSpec, ProbeSpec
from pyrite.study.spec_steps import (
    DAMAGE,
    TRAINED,
    ArmSpec,
    CellSpec,
    MergeStep,
    OtherStep,
    RepairStep,
    ShareAxis,
    StartSpec,
    TaskModelSpec,
    TrainingSpec,
    TrainingStep,
)


class StudySpec(DistinctConfig):
    """A whole study."""

    repeatable: ClassVar[tuple[str, ...]] = ("contrasts", "cells")
    """Two that mean the same are refused by `check_contrasts` and `check_cells`."""

    study: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="its name; the run folder is called so")
    says: str = Field("", description="one sentence on what it is")
    about: Literal["labels", "language"] | None = Field(
        None, description="not needed: a study with labels trains classifiers, one without trains language models"
    )
    labels: tuple[str, ...] = Field(
        (), description="the labels that starts and arms learn to name; none: they learn from chats"
    )
    fields: tuple[str, ...] = Field(
        ("premise", "hypothesis"), min_length=1, description="text columns of labelled rows, in reading order"
    )
    task_model: TaskModelSpec | None = Field(None, description="the model that is trained and probed")
    model: str | None = Field(None, description="the same in short: its name")
    precision: PrecisionChoice = Field("auto", description="with model: see task_model")
    parameters: float | None = Field(None, gt=0, description="with model: see task_model")
    data: dict[str, DataSpec] = Field(min_length=1, description="where rows come from")
    starts: dict[str, StartSpec] = Field(default_factory=dict, description="models before augmentation")
    arms: dict[str, ArmSpec] = Field(default_factory=dict, description="what they are trained on further")
    synthetic_share: ShareAxis | None = Field(None, description="more arms, along an axis")
    human_arm: str = Field("human", description="the arm that the others are compared with at equal size")
    sizes: tuple[int, ...] = Field((), description="rows of an arm")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="how starts and arms are trained")
    arm_rows_vary: bool = Field(
        True, description="each seed draws its own rows for an arm, where there are more than needed"
    )
    pools_vary: bool = Field(
        False,
        description="each seed divides the sources into pools anew, but for the pools that a probe or judge reads, and draws its own rows for a start",
    )
    texts_vary: bool = Field(False, description="each seed samples its own raw texts of every synth source")
    trainings: dict[str, TrainingStep] = Field(default_factory=dict, description="steps that train a language model")
    damage: str | None = Field(None, description="the training (of trainings or of the pilot's grid) called damage")
    repairs: dict[str, RepairStep] = Field(default_factory=dict, description="steps that unlearn")
    quantise: dict[str, Literal["int8", "nf4"]] = Field(default_factory=dict, description="steps that round weights")
    merge: dict[str, MergeStep] = Field(
        default_factory=dict, description="steps that mix a model with the one before, without training"
    )
    steps: dict[str, OtherStep] = Field(
        default_factory=dict, description="steps of types that are registered from outside"
    )
    cells: tuple[CellSpec, ...] = Field(
        (), description="paths written out, beyond the grid: NAME: [steps], or a list of {name, start, steps, size}"
    )
    compare_with: tuple[str, ...] | None = Field(
        None,
        description="without starts: cells that every cell is compared with [start and damaged, where there are such]",
    )
    probes: dict[str, ProbeSpec] = Field(
        min_length=1,
        description="what is asked; with arms, 'general' is the general task, every other one a blind spot",
    )
    contrasts: tuple[ContrastSpec, ...] = Field(
        (),
        max_length=3,
        description="at most three primary questions; default: each arm against the human arm on the blind spot",
    )
    frontier: FrontierSpec | None = Field(
        None, description="what each cell brings back of what was lost, and keeps of what was gained"
    )
    margin: float = Field(
        0.03, gt=0, lt=1, description="differences smaller than this do not matter (shares, as a fraction of items)"
    )
    margin_real: float = Field(0.05, gt=0, description="the same for other metrics (nats, points)")
    max_missing: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="a contrast of which a larger share of items has no answer on some side is not testable",
    )
    pilot: PilotSpec | None = Field(None, description="how the damage is chosen: pyrite study FILE --pilot")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="training seeds: the unit of replication")
    tokens_per_row: int = Field(40, ge=1, description="for plans: tokens in a labelled row")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="variables of the language models' chat template, such as enable_thinking: false, in training and asking",
    )
    keep: Literal["predictions", "adapters", "all"] = Field("predictions", description="what stays of trained models")
    workers: int = Field(0, ge=0, description="processes; 0: one for each core on a CPU, one on a GPU")
    threads: int = Field(
        1,
        ge=1,
        description="CPU threads of each step; another number than 1 is part of what a step is (its sums differ in their last bits). --plan says where more would use cores that are idle",
    )

    @field_validator("cells", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return [
            {"name": name, **(path if isinstance(path, Mapping) else {"steps": path})} for name, path in value.items()
        ]

    @field_serializer("cells")
    def _in_short(self, cells: tuple[CellSpec, ...]) -> Any:
        if cells and all(cell.start is None and not cell.size for cell in cells):
            return {cell.name: list(cell.steps) for cell in cells}
        return [cell.model_dump(mode="json") for cell in cells]

    @property
    def given(self) -> TaskModelSpec:
        """The model as given."""
        if self.task_model is not None:
            return self.task_model
        assert self.model is not None
        return TaskModelSpec(model=self.model, precision=self.precision, parameters=self.parameters)

    @property
    def has_grid(self) -> bool:
        """Are cells written as starts × arms × sizes?"""
        return bool(self.starts)

    @property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """The steps of each written-out cell that begins with the model as given, by its name."""
        return {cell.name: cell.steps for cell in self.cells if cell.start is None}

    def holds(self, source: str) -> Literal["labelled", "chats"]:
        """What the rows of a source are."""
        return self.data[source].holds or ("labelled" if self.labels else "chats")

    def all_arms(self) -> dict[str, ArmSpec]:
        """The arms as written, and those of the share axis."""
        return {**self.arms, **self.axis_arms()}

    def axis_arms(self) -> dict[str, ArmSpec]:
        """The arms along the share axis."""
        arms: dict[str, ArmSpec] = {}
        if self.synthetic_share:
            axis = self.synthetic_share
            for share in axis.shares:
                human = 1 - share if axis.combine == "replace" else 1.0
                mix = {axis.human: human, axis.synthetic: share}
                arms[f"share={share:g}"] = ArmSpec(mix={k: v for k, v in mix.items() if v}, combine=axis.combine)
        return arms

    def all_trainings(self) -> dict[str, TrainingStep]:
        """The trainings and the pilot's grid."""
        return {**self.trainings, **(self.pilot.grid if self.pilot else {})}

    def primary(self) -> tuple[ContrastSpec, ...]:
        """The primary contrasts: as written, or each arm against the human arm, at most three; defaults filled in."""
        if not self.has_grid:
            return self.contrasts
        other_arms = [arm for arm in self.all_arms() if arm != self.human_arm]
        written = self.contrasts or tuple(ContrastSpec(arm=arm) for arm in other_arms[:3])
        spot = next((name for name in self.probes if name != "general"), "general")
        return tuple(
            contrast.model_copy(update={"against": contrast.against or self.human_arm, "probe": contrast.probe or spot})
            for contrast in written
        )

    def references(self) -> tuple[str, ...]:
        """Without starts: the cells that every cell is compared with."""
        named = ("start", "damaged") if self.compare_with is None else self.compare_with
        cell_names = [cell.name for cell in self.cells]
        return tuple(name for name in named if name in cell_names)

    def seed_of_start(self, name: str, seed: int) -> int:
        """The seed of a start's model where the study's is `seed`: the first of all where there is one model for all."""
        return self.seeds[0] if self.starts[name].seeds == "one" else seed

    def forgets(self, repair: RepairStep) -> str:
        """The name of the rows that a repair unlearns."""
        return repair.forget or (DAMAGE if self.damage or self.pilot else TRAINED)

    def rows(self, name: str, damage: str | None = None) -> str:
        """DATA.POOL of what a key calls rows; `damage` is the training to take for the chosen one."""
        chosen = damage or self.damage or ""
        if name.partition(".")[0] != DAMAGE:
            return name
        trained = self.all_trainings()[chosen].on if chosen in self.all_trainings() else None
        if not isinstance(trained, str):
            return name
        return trained if name == DAMAGE else f"{trained.partition('.')[0]}.{name.partition('.')[2]}"


def data_path(name: str, folder: Path | None) -> str:
    """A data file's path: below `--data` (or `$PYRITE_DATA`, or here), as it is where absolute, a URL or on the hub."""
    if name.startswith("hf://"):
        return name
    return path_in(folder or os.environ.get("PYRITE_DATA", "."), name)


def chat_pools(spec: StudySpec) -> Mapping[str, tuple[str, str]]:
    """Every DATA.POOL of chats, as its two parts."""
    return {
        f"{name}.{pool}": (name, pool)
        for name, source in spec.data.items()
        if spec.holds(name) == "chats"
        for pool in source.pools
    }
