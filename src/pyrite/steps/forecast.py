"""When will a run end? From what its steps were expected to take, and what they have taken so far on this machine.

Plans know the size of a step (tokens, FLOPs), not the speed of the machine, and the two are related differently for every
kind of step. So each kind has a pace, learned from its finished steps and from the running ones that report how far they
are; a kind of which nothing is known yet goes by the pace of the others. What is left is laid out on the workers as the
scheduler would, so that a chain of steps is as long as it is.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pyrite.steps.step import Step

LEAST = 0.05
"""Seconds that any step takes."""
TELLING = 0.03
"""Share of a running step that must be done before its own speed says when it ends."""
WARM_UP = 3.0
"""Seconds of a running step, and of its first progress, from which on its own speed counts."""
RESUMED = 0.2
"""A step whose first report says that more is done already was resumed: what it took is of the rest."""
TRUST = 3.0
"""Expected seconds that the general pace counts for beside a kind's own."""
PRIOR_KINDS = 2.0
"""Kinds of steps that the pace of the machine as planned or measured counts for in the general pace: one kind that was
quicker than planned says little about the others."""


@dataclass(slots=True)
class RunningStep:
    """A running step: when it began, and how much of it was done at its first and its last report."""

    step: Step
    began: float
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None

    def share(self) -> float:
        """Share that is done, 0 to 1."""
        return 0.0 if self.last is None else self.last[1]

    def resumed(self, seconds: float) -> bool:
        """Was much of it done before it began? Its first report says so, and came far earlier than so much takes. (A step
        whose first report is its last one took its time before it.)"""
        if self.first is None or self.first[1] <= RESUMED:
            return False
        return (self.first[0] - self.began) / seconds < self.first[1] / 2

    def seconds(self, now: float) -> float | None:
        """How long it takes in all, by its own speed; None where that cannot be told yet.

        The time before the first report (loading a model) is not taken for work.
        """
        if self.first is None or self.last is None or self.share() < TELLING or now - self.began < WARM_UP:
            return None
        (at, share_before), (to, share) = self.first, self.last
        if share - share_before < TELLING or to - at < 1.0:
            return (to - self.began) / share if share >= 10 * TELLING else None
        rate = (share - share_before) / (to - at)
        return (to - self.began) + (1 - share) / rate


class Forecast:
    """Follows a run and says how many seconds it will still take. All times are given from outside, in seconds."""

    def __init__(self, todo: Sequence[Step], workers: int, *, pace: float = 1.0) -> None:
        """`pace` is how much slower than planned this machine is taken to be before anything has run."""
        self.steps = {step.key: step for step in todo}
        self.workers = max(1, workers)
        self.running: dict[str, RunningStep] = {}
        self.left = dict.fromkeys(self.steps)
        """Keys of the steps that are not finished, in the order of the plan."""
        self.spent: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        """Of each kind: expected and actual seconds of its finished steps, added up."""
        self.prior = pace

    def start(self, key: str, now: float) -> None:
        """A step begins."""
        self.running[key] = RunningStep(self.steps[key], now)

    def update(self, key: str, share: float, now: float) -> None:
        """A running step has done this share of its work."""
        running = self.running.get(key)
        if running is None:
            return
        if running.first is None or share < running.share():  # a second part of the work begins anew
            running.first = (now, share)
        running.last = (now, share)

    def finish(self, key: str, seconds: float) -> None:
        """A step is done, and took so long."""
        self.left.pop(key, None)
        running = self.running.pop(key, None)
        step = running.step if running else self.steps.get(key)
        if step is not None and seconds > 0:  # 0: another process had just finished it
            if running is not None and running.resumed(seconds):
                assert running.first is not None
                seconds /= max(1.0 - running.first[1], TELLING)
            self.add(self.spent, step, seconds)

    def add(self, spent: dict[str, tuple[float, float]], step: Step, seconds: float) -> None:
        """Count what a step took, beside what it was expected to, with the others of its kind."""
        planned, actual = spent[step.kind.name]
        spent[step.kind.name] = (planned + expected(step), actual + seconds)

    def paces(self, now: float) -> tuple[dict[str, float], float]:
        """How much slower than planned each kind of step is, and steps in general."""
        totals = self.spent.copy()
        for running in self.running.values():
            seconds = running.seconds(now)
            if seconds is None and now - running.began > self.prior * expected(running.step):
                seconds = now - running.began  # it takes at least so long
            if seconds is not None:
                self.add(totals, running.step, seconds)
        logs = [math.log((actual + LEAST) / (planned + LEAST)) for planned, actual in totals.values()]
        general = math.exp((sum(logs) + PRIOR_KINDS * math.log(self.prior)) / (len(logs) + PRIOR_KINDS))
        pace_by_kind = {
            kind: (actual + TRUST * general) / (planned + TRUST) for kind, (planned, actual) in totals.items()
        }
        return pace_by_kind, general

    def seconds_left(self, now: float) -> float:
        """How long still, with the steps that are left laid out on the workers in the order in which they can run."""
        paces, general = self.paces(now)

        def paced_seconds(step: Step) -> float:
            return expected(step) * paces.get(step.kind.name, general)

        free: list[float] = []
        ends: dict[str, float] = {}
        for key, running in self.running.items():
            total = running.seconds(now) or paced_seconds(running.step)
            remaining = max(
                total - (now - running.began),
                0.1 * (now - running.began) if total < now - running.began else 0.0,
                LEAST,
            )
            ends[key] = remaining
            heapq.heappush(free, remaining)
        while len(free) < self.workers:
            heapq.heappush(free, 0.0)
        for key in self.left:
            if key in ends:
                continue
            step = self.steps[key]
            ready = max((ends.get(parent.key, 0.0) for parent in step.parents()), default=0.0)
            ends[key] = max(heapq.heappop(free), ready) + max(paced_seconds(step), LEAST)
            heapq.heappush(free, ends[key])
        return max(ends.values(), default=0.0)


def expected(step: Step) -> float:
    """What the plan expects a step to take, in seconds of the machine that plans assume."""
    return max(step.cost.seconds, LEAST)


def duration_in_words(seconds: float) -> str:
    """A duration as a person would say it, no finer than it is known.

    >>> duration_in_words(14), duration_in_words(94), duration_in_words(1500), duration_in_words(9000)
    ('15 s', '2 min', '25 min', '2 h 30 min')
    """
    if seconds < 55:
        return f"{max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60 // 10 * 10:02d} min"
