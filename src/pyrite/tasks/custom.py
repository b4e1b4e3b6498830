"""A task of the user's own: any labelled file and a YAML of a few lines.

file: reviews.csv            # beside this file
fields: [text]               # columns that the model reads, in order
label: sentiment             # column of the gold label
labels: [positive, negative]
slices: [[language], [language, gold]]
template: source             # optional: the column that says which items are alike
merge: {very positive: positive}   # optional: model label → gold label
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pyrite.config_base import DistinctConfig, from_yaml, yaml_text
from pyrite.errors import UserError
from pyrite.io import local_place, path_in
from pyrite.tasks.scoring import Task


class CustomTask(DistinctConfig):
    """What the YAML of a task may say."""

    file: str = Field(description="the labelled file, relative to the YAML")
    fields: tuple[str, ...] = Field(min_length=1, description="columns that the model reads, in order")
    label: str = Field("label", description="column of the gold label")
    labels: tuple[str, ...] = Field(min_length=2, description="the gold labels")
    slices: tuple[tuple[str, ...], ...] = Field((), description="columns (or gold) to score apart")
    template: str | None = Field(None, description="column that says which items are alike")
    label_map: dict[str, str] | None = Field(None, description="label in the file: our label")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    merge: dict[str, str] = Field(default_factory=dict, description="model label: gold label")

    def task(self, name: str) -> Task:
        """The task that scores it."""
        return Task(name, self.labels, merge=self.merge, slices=self.slices, template=self.template)


def load_custom(path: Path) -> tuple[CustomTask, Path]:
    """Read a task's YAML; returns it and the path of its file."""
    path = local_place(path)
    if not path.is_file():
        raise UserError("That task file is not there.", str(path), "give a YAML file, or NAME=FILE")
    text = yaml_text(path, "task file")
    task = from_yaml(CustomTask, text, str(path), what="task file", see=f"keys: {', '.join(CustomTask.model_fields)}")
    return task, Path(path_in(path.parent, task.file))
