"""The options of `pyrite gate`: field = flag = help. Loads nothing heavy."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pyrite.config_base import CallConfig, ConfigBase


class GateOptions(ConfigBase):
    """Which conditions a run must meet."""

    require: tuple[str, ...] = Field(
        (),
        description="a condition, as --gate of the run's verb takes it ('PART: CONDITION' for a part of a loop); repeatable [those that the run was made with]",
    )
    undecided: Literal["pass", "fail"] | None = Field(None, description="what an undecided gate counts as [exit 3]")
    junit: Path | None = Field(None, description="also write the outcome as a JUnit file")


class GateConfig(GateOptions, CallConfig):
    """The run folder to look at."""

    run: Path = Field(description="a run folder")
