"""The options of `pyrite init`: field = flag = help. Loads nothing heavy."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pyrite.config_base import CallConfig, ConfigBase

What = Literal["audit", "study", "repair", "loop"]


class StarterOptions(ConfigBase):
    """What is known of the user's files."""

    human: tuple[str, ...] = Field(
        (), description="what people wrote, of the same kind as the data: file; repeatable, each is a source"
    )
    model: str | None = Field(
        None, description="repair, loop: the model that was trained on the data; study: the model to train"
    )
    label: str | None = Field(None, description="study: the column of the label, where its name does not tell")
    out: Path | None = Field(None, description="file to write [audit.yaml, study.yaml, repair.yaml, loop.yaml]")


class StarterConfig(StarterOptions, CallConfig):
    """A starter file to write."""

    what: What = Field(description="which file")
    data: tuple[str, ...] = Field(min_length=1, description="the data in question: file; several are shards of one")
