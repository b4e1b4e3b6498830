"""What the user sees while steps run: a live display on a terminal, a line per finished step elsewhere, on stderr."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from pyrite.steps.step import Step


class Progress:
    """Follows a run: steps done of all, what each worker does and how fast, and when it should end.

    The time left is the expected cost of what is left, corrected by how the finished steps compared with theirs.
    """

    def __init__(self, *, quiet: bool = False) -> None:
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
        self.tasks: dict[str, TaskID] = {}
        self.first: dict[str, tuple[float, float]] = {}
        self.total: TaskID | None = None
        self.left: dict[str, float] = {}
        self.spent = self.expected = 0.0
        self.done = self.count = 0
        self.workers = 1

    def plan(self, todo: list[Step], reused: int, workers: int) -> None:
        """Say what will run."""
        self.left = {step.key: max(step.cost.seconds, 0.05) for step in todo}
        self.count, self.workers = len(todo), workers
        if todo:
            self.console.print(f"{len(todo)} steps to run, {reused} found in the store")
            self.bars.start()
            self.total = self.bars.add_task("steps", total=len(todo), note="")

    def start(self, step: Step) -> None:
        """A step begins."""
        self.tasks[step.key] = self.bars.add_task(f"  {step.label}", total=None, note="")

    def tick(self, key: str, done: float, total: float, unit: str) -> None:
        """A step has come so far, in its own units (tokens, rows)."""
        now = time.monotonic()
        at, since = self.first.setdefault(key, (done, now))
        rate = (done - at) / (now - since) if now > since else 0.0
        if key in self.tasks:
            note = f"{rate:,.0f} {unit}/s" if rate else ""
            self.bars.update(self.tasks[key], completed=done, total=total, note=note)

    def finish(self, step: Step, seconds: float) -> None:
        """A step is published."""
        self.done += 1
        self.spent += seconds
        self.expected += self.left.pop(step.key, 0.0)
        if step.key in self.tasks:
            self.bars.remove_task(self.tasks.pop(step.key))
        if self.total is not None:
            self.bars.update(self.total, completed=self.done, note=f"{self.done}/{self.count}, {self.eta()} left")
        if not self.live:
            self.console.print(f"[{self.done}/{self.count}] {step.label}: {seconds:.1f} s, {self.eta()} left", style="")

    def eta(self) -> str:
        """How long still, in words."""
        pace = self.spent / self.expected if self.expected else 1.0
        seconds = int(sum(self.left.values()) * pace / self.workers)
        return (
            f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
            if seconds >= 3600
            else f"{seconds // 60} min {seconds % 60:02d} s"
        )

    def close(self) -> None:
        """Stop the display."""
        self.bars.stop()
        sys.stderr.flush()
