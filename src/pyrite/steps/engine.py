"""Several steps at a time: who runs them, and what they say meanwhile."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from pyrite.errors import OutOfTime
from pyrite.steps.progress import Progress
from pyrite.steps.ready import ReadyQueue
from pyrite.steps.step import Step

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
    queue = ReadyQueue(todo)
    running: dict[Any, Step] = {}
    at_work: set[str] = set()
    stopped: OutOfTime | None = None
    try:
        while queue.waiting or running:
            if not running and is_past(deadline):
                raise OutOfTime("--max-time is over")
            room = 0 if stopped is not None or is_past(deadline) else engine.room - len(running)
            for step in queue.take(room):
                progress.start(step)
                running[engine.submit(step)] = step
                at_work.add(step.key)
            ended = engine.wait(running)
            for report in engine.reports():
                if report[0] in at_work:  # a late one of a step that has ended says nothing
                    progress.report_progress(*report)
            progress.beat()
            for task in list(ended):
                step = running.pop(task)
                at_work.discard(step.key)
                try:
                    finished(step, engine.seconds(task))
                    queue.finish(step)
                except OutOfTime as error:
                    stopped = error  # the others save their checkpoints as well
            if stopped and not running:
                raise stopped
    except BaseException:
        engine.kill()
        raise
    finally:
        engine.close()


def is_past(deadline: float | None) -> bool:
    """Is the run's time up?"""
    return deadline is not None and time.time() > deadline
