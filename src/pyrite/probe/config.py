"""The options of `pyrite probe`: field = flag = help. Loads nothing heavy."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pyrite.models.hardware import PrecisionChoice
from pyrite.strict import Strict


class ProbeOptions(Strict):
    """What to ask, and how."""

    task: tuple[str, ...] = Field(
        min_length=1,
        description="NAME=FILE (hans, nli), heuristics[=ROWS] (fresh HANS-like pairs), or a task's YAML; repeatable",
    )
    predictions: Path | None = Field(
        None,
        description="score answers given elsewhere instead of a model: text or csv (pairID,gold_label), or parquet",
    )
    columns: tuple[str, ...] = Field(
        (), description="OURS=THEIRS: a column of the file under another name, such as label=gold; repeatable"
    )
    label_map: tuple[str, ...] = Field(
        (), description="THEIRS=OURS: what a label of the file stands for, such as 0=entailment; repeatable"
    )
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    labels: tuple[str, ...] = Field(
        (), description="label words to ask a language model for; by default the task's; repeatable"
    )
    items: int | None = Field(None, ge=1, description="at most so many items of each task, balanced over its slices")
    seed: int = Field(0, ge=0, description="seed of the choice of items")
    precision: PrecisionChoice = Field("auto", description="auto: bf16 where the hardware has it")
    max_tokens: int = Field(512, ge=8, description="longer rows are cut here")
    store: Path | None = Field(None, description="folder of finished steps [$PYRITE_STORE, else the user's cache]")
    quiet: bool = Field(False, description="no progress display")


class ProbeConfig(ProbeOptions):
    """A model (or predictions) to score."""

    model: str | None = Field(None, description="packaged:NAME, a model folder, or org/name[@revision] on the hub")
