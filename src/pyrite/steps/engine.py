"""Several steps at a time: which are ready, who runs them, and what they say meanwhile."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pyrite.errors import OutOfTime
from pyrite.steps.progress import Progress
from pyrite.steps.step import Source, Step
from pyrite.steps.store import Store

Report = tuple[str, float, float, str]
"""A step's key, how much of it is done, of how much, in which unit."""


class Engine(Protocol):
    """Where steps run beside each other. A task is whatever the engine hands out for a step that it was given."""

    room: int
    """How many steps it takes at a time."""

    def submit(self, step: Step) -> Any:
        """Begin a step; its task."""

    def wait(self, tasks: Iterable[Any]) -> Iterable[Any]:
        """The tasks that have ended, after a moment at most."""

    def seconds(self, task: Any) -> float:
        """What an ended task took.

        Raises:
            BaseException: what the step raised.
            UserError: the process that ran it was killed, and trying again did not help.
        """

    def reports(self) -> Iterator[Report]:
        """What running steps said since the last call."""

    def kill(self) -> None:
        """Cut off all that runs."""

    def close(self) -> None:
        """Let go of the processes."""


def run_side_by_side(
    todo: list[Step],
    engine: Engine,
    deadline: float | None,
    progress: Progress,
    finished: Callable[[Step, float], None],
) -> None:
    """Run steps on an engine, each as soon as its inputs are there.

    Raises:
        OutOfTime: the deadline has passed; what ran then has saved its checkpoint.
        BaseException: the first that a step raised; what ran beside it is cut off, and resumed by the next run.
    """
    waiting = {step.key: step for step in todo}
    running: dict[Any, Step] = {}
    unfinished = set(waiting)
    stopped: OutOfTime | None = None
    try:
        while waiting or running:
            if not running and is_past(deadline):
                raise OutOfTime("--max-time is over")
            room = 0 if stopped is not None or is_past(deadline) else engine.room - len(running)
            for step in ready_steps(waiting, unfinished, room):
                del waiting[step.key]
                progress.start(step)
                running[engine.submit(step)] = step
            ended = engine.wait(running)
            keys = {step.key for step in running.values()}
            for report in engine.reports():
                if report[0] in keys:  # a late one of a step that has ended says nothing
                    progress.report_progress(*report)
            progress.beat()
            for task in list(ended):
                step = running.pop(task)
                try:
                    finished(step, engine.seconds(task))
                    unfinished.discard(step.key)
                except OutOfTime as error:
                    stopped = error  # the others save their checkpoints as well
            if stopped and not running:
                raise stopped
    except BaseException:
        engine.kill()
        raise
    finally:
        engine.close()


def ready_steps(waiting: Mapping[str, Step], unfinished: set[str], room: int) -> list[Step]:
    """At most so many waiting steps whose inputs are finished, in the order of the plan."""
    ready: list[Step] = []
    for step in waiting.values():
        if len(ready) >= room:
            break
        if not any(parent.key in unfinished for parent in step.parents()):
            ready.append(step)
    return ready


def is_past(deadline: float | None) -> bool:
    """Is the run's time up?"""
    return deadline is not None and time.time() > deadline


def needs_gpu(step: Step) -> bool:
    """Does this step compute on a GPU?"""
    compute = step.config.get("compute")
    return isinstance(compute, Mapping) and compute.get("device") == "cuda"


def weight_bytes(step: Step, store: Store) -> int:
    """How large are the weight files that a step reads? Its inputs are finished."""
    folders = [Path(source.path) for source in step.inputs.values() if isinstance(source, Source)]
    size = sum(file.stat().st_size for folder in folders if folder.is_dir() for file in folder.glob("*.safetensors"))
    stored = (store.file_sizes(parent.key) for parent in step.parents())
    return size + sum(bytes_ for sizes in stored for name, bytes_ in sizes.items() if is_top_weights(name))


def is_top_weights(name: str) -> bool:
    """Is this a file of weights, at the top of its folder?"""
    return name.endswith(".safetensors") and "/" not in name
