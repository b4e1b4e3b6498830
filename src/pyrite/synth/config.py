"""The options of `pyrite synth`: field = flag = help. Loads nothing heavy."""

from pathlib import Path

from pydantic import Field

from pyrite.config_base import ENGINE, CallConfig, ConfigBase


class SynthOptions(ConfigBase):
    """Where rows and finished steps go."""

    out: Path = Field(description="file to write the rows to (.jsonl)")
    store: Path | None = Field(
        None, description="folder or URL of finished steps [$PYRITE_STORE, else the user's cache]"
    )
    engine: str = ENGINE
    shard: str | None = Field(
        None,
        description="I/N: sample the I-th of N parts of the texts, beside jobs with the same store that sample the others; "
        "slurm: the part of this job in its array. Whichever job finishes last writes the rows",
    )
    quiet: bool = Field(False, description="no progress display")


class SynthConfig(SynthOptions, CallConfig):
    """A recipe to follow."""

    recipe: Path = Field(
        description="recipe (YAML): labels, fields, rows to learn from, generator, sampling, selection"
    )
