"""The options of `pyrite study`: field = flag = help. Loads nothing heavy."""

from pathlib import Path

from pydantic import Field

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
