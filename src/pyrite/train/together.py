"""A step's training in several processes: they leave its record and the trained weights, and the step goes on from there.

What they leave lies in the step's checkpoint folder, so a step that is killed while it saves its model trains nothing again.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import OutOfTime, UserError
from pyrite.io import atomic_write
from pyrite.models.hardware import Compute
from pyrite.steps import Context
from pyrite.steps.launch import current
from pyrite.train import peers
from pyrite.train.launched import lead
from pyrite.train.processes import Task, run_here
from pyrite.train.stopping import noted_signals
from pyrite.train.stored_weights import has_weights, read_weights, write_weights

RECORD, WEIGHTS = "trained.json", "trained"
"""In the checkpoint folder: what is told of a training that is over, and its weights, where there are any worth keeping."""


def run_in_processes(count: int, compute: Compute, task: Task, context: Context) -> None:
    """Run `task(context)` in `count` processes that form one group; what it makes, it leaves in the context's folders.

    The first process reports progress and asks whether the time is up. Ctrl-C and SIGTERM stop a training after its step.

    Raises:
        UserError: fewer devices than processes; a process was killed; what the task raised as such; another number of
            processes was launched.
        OutOfTime: the task said so.
        KeyboardInterrupt: somebody asked it to stop, and it has.
        RuntimeError: any other error of a process, with its traceback.
    """
    launch = current()
    with noted_signals() as stop:
        if launch is not None:
            failures = lead(count, compute, task, context, stop)
        else:
            failures = run_here(count, compute, task, context, stop)
    for failure in failures:
        if isinstance(failure, UserError):
            raise failure
    if stop.requested:
        raise KeyboardInterrupt
    for kind in (OutOfTime, BaseException):
        for failure in failures:
            if isinstance(failure, kind):
                raise failure


def train_together(count: int, compute: Compute, task: Task, context: Context) -> dict[str, Any]:
    """Run a training, which ends with `leave`, in so many processes; its record. One that has left its record is not run again."""
    if not (context.checkpoint / RECORD).is_file():
        run_in_processes(count, compute, task, context)
    record: dict[str, Any] = orjson.loads((context.checkpoint / RECORD).read_bytes())
    return record


def to_save(context: Context) -> Context:
    """A step's context as its training is prepared to take up trained weights and save them: on the CPU, which a model shared
    by several GPUs fits into, and without 4-bit codes, which are not saved."""
    config = context.config
    settings = dict(config["settings"])
    settings["method"] = "lora" if settings["method"] == "qlora" else settings["method"]
    return replace(context, config={**config, "compute": {**config["compute"], "device": "cpu"}, "settings": settings})


def leave(context: Context, record: dict[str, Any], model: Any) -> None:
    """What every process does at the end of a training: its share of the weights (model None: there are none), and the record
    from the first."""
    with peers.first_goes_first():
        if peers.is_first():
            shutil.rmtree(context.checkpoint / WEIGHTS, ignore_errors=True)
    if model is not None:
        write_weights(model, context.checkpoint / WEIGHTS)
    if peers.is_first():
        with atomic_write(context.checkpoint / RECORD) as part:  # last: where it lies, the training is over
            Path(part).write_bytes(orjson.dumps(record))


def left_weights(context: Context) -> bool:
    """Did the training leave weights?"""
    return has_weights(context.checkpoint / WEIGHTS)


def take_weights(context: Context, model: Any) -> Any:
    """The model, with the weights that the training left."""
    read_weights(model, context.checkpoint / WEIGHTS)
    return model
