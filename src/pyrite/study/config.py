"""The options of `pyrite study`: field = flag = help. Loads nothing heavy."""

from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, Field

from pyrite.config_base import ENGINE, CallConfig, ConfigBase


class StudyOptions(ConfigBase):
    """How to run a study; nothing here changes a result but `seeds`."""

    data: Path | None = Field(
        None, description="folder that the study's files are relative to [$PYRITE_DATA, else here]"
    )
    store: Path | None = Field(
        None, description="folder or URL of finished steps [$PYRITE_STORE, else the user's cache]"
    )
    out: Path = Field(Path("runs"), description="folder that run folders are written to")
    plan: bool = Field(False, description="say what would run, and run nothing: needs no model, data or hub")
    plan_workers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="--plan: price the run on so many workers; repeatable [1, 2, 4 … until nothing gets faster]"
    )
    plan_speed: str = Field(
        "measured",
        description="--plan: how fast a worker is: measured (this machine), FLOP/s that it sustains (4e14), or an accelerator "
        "and the share of its peak that you count on (h100@0.35: an estimate)",
    )
    plan_price: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="--plan: what a worker costs in an hour, in your currency"
    )
    plan_memory: ByteSize | None = Field(
        None, gt=0, description="--plan: memory of a worker, such as 24GB [of this machine, or of the accelerator]"
    )
    store_limit: ByteSize | None = Field(
        None, gt=0, description="--plan: how large the store may become, such as 500GB [what is free on its disk]"
    )
    power: bool = Field(False, description="say how many seeds the finished ones call for, and run nothing")
    pilot: bool = Field(
        False,
        description="run the harmful trainings of the pilot's grid, say which one does harm, and stop (studies of language models)",
    )
    seeds: str | None = Field(None, description="+N: so many seeds more than the file says; N: so many in all")
    max_time: float | None = Field(None, gt=0, description="stop after so many minutes; the same command goes on")
    workers: int | None = Field(None, ge=1, description="processes [one for each core on a CPU, one for each GPU]")
    engine: str = ENGINE
    shard: str | None = Field(
        None,
        description="I/N: run the I-th of N parts of the study, beside jobs with the same store that run the others; "
        "slurm: the part of this job in its array. Whichever job finishes last writes the results",
    )
    refresh: tuple[str, ...] = Field((), description="redo steps of this kind, such as train.classifier; repeatable")
    quiet: bool = Field(False, description="no progress display")


class StudyConfig(StudyOptions, CallConfig):
    """A study to run."""

    spec: str = Field(description="study file (YAML), or the name of a bundled one")
