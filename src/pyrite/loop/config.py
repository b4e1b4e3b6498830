"""The options of `pyrite run`: field = flag = help. Loads nothing heavy."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pyrite.config_base import ENGINE, CallConfig, ConfigBase


class LoopOptions(ConfigBase):
    """How to run a loop; nothing here changes a result."""

    data: Path | None = Field(
        None, description="folder that the loop's files are relative to [$PYRITE_DATA, else here]"
    )
    out: Path = Field(Path("runs"), description="folder that run folders are written to")
    until: Literal["audits", "study", "audit", "synth", "probe", "repair"] | None = Field(
        None, description="stop after this part, and report on what there is"
    )
    plan: bool = Field(False, description="say which parts would run on what, and run nothing")
    undecided: Literal["pass", "fail"] | None = Field(None, description="what an undecided gate counts as [exit 3]")
    open: bool = Field(False, description="open the page in a browser at the end")
    no_rows: bool = Field(False, description="leave every text of the data and of answers out of the report")
    workers: int | None = Field(None, ge=1, description="processes [one for each core on a CPU, one on a GPU]")
    engine: str = ENGINE
    max_time: float | None = Field(None, gt=0, description="stop after so many minutes; the same command goes on")
    store: Path | None = Field(
        None, description="folder or URL of finished steps [$PYRITE_STORE, else the user's cache]"
    )
    quiet: bool = Field(False, description="no progress display")


class LoopConfig(LoopOptions, CallConfig):
    """A loop to run."""

    loop: str = Field(description="loop file (YAML), or the name of a bundled one")
