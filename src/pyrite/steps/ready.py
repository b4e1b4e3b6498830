"""Which steps can begin? The one order in which engines are handed steps, and in which plans lay them out."""

import heapq
from collections import defaultdict
from collections.abc import Sequence

from pyrite.steps.step import Step


class ReadyQueue:
    """Steps that wait for their inputs, and those that wait no more.

    A step is ready when every step whose result it reads is finished or was never among these; ready ones are handed out
    in the order of the plan. A whole run of n steps with e inputs takes O(n log n + e).
    """

    def __init__(self, todo: Sequence[Step]) -> None:
        self.todo = todo
        numbers = {step.key: number for number, step in enumerate(todo)}
        self.readers: dict[str, list[int]] = defaultdict(list)
        self.lacking: list[int] = []
        """Of each step: how many of its inputs are not finished."""
        self.ready: list[int] = []
        self.waiting = len(todo)
        """Steps that were not handed out yet."""
        for number, step in enumerate(todo):
            parents = {parent.key for parent in step.parents()} & numbers.keys()  # one may be read twice
            self.lacking.append(len(parents))
            for key in parents:
                self.readers[key].append(number)
            if not parents:
                self.ready.append(number)  # in rising order: a heap

    def take(self, room: int) -> list[Step]:
        """At most so many ready steps, in the order of the plan; they are no longer handed out."""
        steps = [self.todo[heapq.heappop(self.ready)] for _ in range(min(max(room, 0), len(self.ready)))]
        self.waiting -= len(steps)
        return steps

    def finish(self, step: Step) -> None:
        """A step that was handed out is finished: those that waited for nothing else are ready now."""
        for number in self.readers.pop(step.key, ()):
            self.lacking[number] -= 1
            if not self.lacking[number]:
                heapq.heappush(self.ready, number)
