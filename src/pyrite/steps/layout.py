"""How long do steps take on N workers? List scheduling: whenever a worker is free, it takes the first step of the plan that
can begin. Engines do the same (`ReadyQueue`), so that this is what a run does when its steps take what they are expected to.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyrite.steps.ready import ReadyQueue
from pyrite.steps.step import Step


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each step begins and ends, in seconds from the beginning of the run, by key and in the order in which they
    begin."""

    spans: Mapping[str, tuple[float, float]]

    @property
    def seconds(self) -> float:
        """How long the run takes."""
        return max((end for _, end in self.spans.values()), default=0.0)

    @property
    def width(self) -> int:
        """How many steps are at work at a time, at most."""
        changes = [change for begin, end in self.spans.values() if end > begin for change in ((begin, 1), (end, -1))]
        running = most = 0
        for _, change in sorted(changes):  # at one moment, steps end before others begin
            running += change
            most = max(most, running)
        return most


def list_schedule(todo: Sequence[Step], seconds: Mapping[str, float], workers: int | None) -> Schedule:
    """Lay steps out on workers (None: as many as are ever of use); `seconds` has what each takes, by key."""
    queue = ReadyQueue(todo)
    spans: dict[str, tuple[float, float]] = {}
    running: list[tuple[float, int, Step]] = []
    now, room = 0.0, len(todo) if workers is None else workers
    while queue.waiting or running:
        for step in queue.take(room - len(running)):
            spans[step.key] = (now, now + seconds[step.key])
            heapq.heappush(running, (now + seconds[step.key], len(spans), step))
        now, _, ended = heapq.heappop(running)
        queue.finish(ended)
        while running and running[0][0] == now:
            queue.finish(heapq.heappop(running)[2])
    return Schedule(spans)


def critical_path(todo: Sequence[Step], seconds: Mapping[str, float]) -> list[Step]:
    """The steps that follow each other and take longest together: no number of workers makes a run shorter than they are.
    `todo` has every step after its inputs."""
    ends: dict[str, float] = {}
    before: dict[str, Step | None] = {}
    last: Step | None = None
    for step in todo:
        latest = max(
            (parent for parent in step.parents() if parent.key in ends),
            key=lambda parent: ends[parent.key],
            default=None,
        )
        before[step.key] = latest
        ends[step.key] = seconds[step.key] + (ends[latest.key] if latest else 0.0)
        if last is None or ends[step.key] > ends[last.key]:
            last = step
    path: list[Step] = []
    while last is not None:
        path.append(last)
        last = before[last.key]
    return path[::-1]
