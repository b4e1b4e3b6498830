"""Trainings by `fit`, in this process or in several."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import orjson

from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.steps import Context
from pyrite.train.settings import TrainSettings

HISTORY = "history.json"
"""In a step's folder: rows, tokens, steps and losses of its training."""


class Training(Protocol):
    """A model that is ready to train, with what it is trained on."""

    @property
    def model(self) -> Any:
        """As it is before its first step."""
        ...

    def run(self, context: Context) -> Any:
        """Train it; the model."""
        ...


Prepared = TypeVar("Prepared", bound=Training)


def trained_by(
    settings: TrainSettings, context: Context, prepare: Callable[[Context], Prepared], task: Callable[[Context], None]
) -> tuple[Prepared, Any]:
    """The training of a step, and its trained model: here, or by `task` in as many processes as the settings say."""
    if settings.processes == 1:
        training = prepare(context)
        return training, training.run(context)
    from pyrite.train.together import take_weights, to_save, train_together

    record = train_together(settings.processes, Compute(**context.config["compute"]), task, context)
    (context.out / HISTORY).write_bytes(orjson.dumps(record[HISTORY], option=orjson.OPT_INDENT_2))
    training = prepare(to_save(context))
    return training, take_weights(context, training.model)


def train_and_leave(context: Context, prepare: Callable[[Context], Training]) -> None:
    """What each of several processes does: its part of the training, of which weights and history stay."""
    from pyrite.train.together import leave

    load.quiet_libraries()
    model = prepare(context).run(context)
    file = context.out / HISTORY
    leave(context, {HISTORY: orjson.loads(file.read_bytes()) if file.is_file() else None}, model)
