"""What the user sees while steps run: a live display on a terminal, else a line for a finished step; on stderr.

Where the output is no terminal, a line now and then also says how far the running steps are.
"""

import sys
import time
from collections.abc import Callable
from itertools import islice

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from pyrite.steps.forecast import Forecast, duration_in_words
from pyrite.steps.step import Step

EVERY = 15.0
"""Seconds between two lines on running steps, at least."""
SHORT = 2.0
"""Finished steps that took less are told together with the next longer one."""
SHOWN = 20
"""Running steps that are shown by name at a time, at most: a cluster runs hundreds."""
GUESS_EVERY, GUESS_SHARE = 1.0, 0.02
"""Seconds between two forecasts, at least, and the share of the time that they may take: one looks at all steps that are left."""


class Progress:
    """Follows a run: steps done of all, what each worker does and how fast, and when it should end."""

    def __init__(self, *, quiet: bool = False, pace: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`pace` is how much slower than planned this machine is taken to be at first."""
        self.console = Console(stderr=True, quiet=quiet)
        self.live = self.console.is_terminal and not quiet
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self.clock, self.pace = clock, pace
        self.forecast = Forecast([], 1)
        self.tasks: dict[str, TaskID] = {}
        self.first: dict[str, tuple[float, float]] = {}
        self.far: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.total: TaskID | None = None
        self.done = self.count = self.short = 0
        self.said = 0.0
        self.guess: tuple[float, float] | None = None
        """The last forecast: when it was made, and how many seconds it said."""
        self.next_guess = 0.0

    def plan(self, todo: list[Step], reused: int, workers: int) -> None:
        """Say what will run."""
        self.forecast = Forecast(todo, workers, pace=self.pace)
        self.count, self.said, self.guess = len(todo), self.clock(), None
        if todo:
            guess = f", about {self.time_left()}" if sum(step.cost.seconds for step in todo) > 1 else ""
            self.console.print(
                f"{len(todo)} steps to run{guess}, {reused} found in the store", style="", soft_wrap=True
            )
            self.bars.start()
            self.total = self.bars.add_task("steps", total=len(todo), note="")

    def start(self, step: Step) -> None:
        """A step begins."""
        self.forecast.start(step.key, self.clock())
        self.labels[step.key] = step.label
        if len(self.tasks) < SHOWN:
            self.tasks[step.key] = self.bars.add_task(f"  {step.label}", total=None, note="")

    def report_progress(self, key: str, finished: float, total: float, unit: str) -> None:
        """A step has come so far, in its own units (tokens, rows); `unit; note` brings its own word on its speed."""
        now = self.clock()
        self.forecast.update(key, min(1.0, finished / total) if total else 0.0, now)
        if finished < self.first.get(key, (finished, now))[0]:  # begun again from its checkpoint, by another process
            del self.first[key]
        at, since = self.first.setdefault(key, (finished, now))
        unit, _, note = unit.partition("; ")
        rate = (finished - at) / (now - since) if now > since else 0.0
        if rate and not note:
            note = f"{rate:,.{1 if rate < 10 else 0}f} {unit}/s"
        self.far[key] = f"{finished:,.0f} of {total:,.0f} {unit}" + (f", {note}" if note else "")
        if key in self.tasks:
            self.bars.update(self.tasks[key], completed=finished, total=total, note=note)
        self.beat()

    def beat(self) -> None:
        """Called now and then: the time left, on a terminal; else, every so often, a line on what runs."""
        now = self.clock()
        if self.live and self.total is not None and now - self.said >= 1.0:
            self.said = now
            self.bars.update(self.total, note=f"{self.done}/{self.count}, {self.time_left()} left")
        elif not self.live and not self.console.quiet and self.forecast.running and now - self.said >= EVERY:
            self.said = now
            shown = islice(self.forecast.running, SHOWN)
            running = "; ".join(f"{self.labels[key]} ({self.far.get(key, 'begun')})" for key in shown)
            more = len(self.forecast.running) - SHOWN
            running += f"; and {more} more" if more > 0 else ""
            self.console.print(
                f"[{self.done}/{self.count}] running: {running}; {self.time_left()} left",
                style="",
                soft_wrap=True,
            )

    def finish(self, step: Step, seconds: float) -> None:
        """A step is published."""
        self.done += 1
        self.forecast.finish(step.key, seconds)
        self.far.pop(step.key, None)
        self.first.pop(step.key, None)
        if step.key in self.tasks:
            self.bars.remove_task(self.tasks.pop(step.key))
        if self.live and self.total is not None:
            self.bars.update(self.total, completed=self.done, note=f"{self.done}/{self.count}, {self.time_left()} left")
        if self.live or self.console.quiet:
            return
        if seconds < SHORT and self.done < self.count:
            self.short += 1
            return
        self.said = self.clock()
        short_steps = f" ({self.short} short ones before)" if self.short else ""
        end = f"; {self.time_left()} left" if self.done < self.count else ""
        self.short = 0
        self.console.print(
            f"[{self.done}/{self.count}] {step.label}: {seconds:.1f} s{short_steps}{end}", style="", soft_wrap=True
        )

    def time_left(self) -> str:
        """How long still, in words; by a forecast that is made anew now and then."""
        now = self.clock()
        if self.guess is None or now >= self.next_guess:
            began = time.perf_counter()
            self.guess = (now, self.forecast.seconds_left(now))
            self.next_guess = now + max(GUESS_EVERY, (time.perf_counter() - began) / GUESS_SHARE)
        then, seconds = self.guess
        return duration_in_words(max(0.0, seconds - (now - then)))

    def close(self) -> None:
        """Stop the display."""
        self.bars.stop()
        sys.stderr.flush()
