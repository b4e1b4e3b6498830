"""Who runs the steps of an audit: this process, several of this machine, or a cluster; all of them within `--max-time`."""

import time
from collections.abc import Sequence

from pyrite.audit.config import AuditConfig
from pyrite.audit.plan import processes
from pyrite.steps import LOCAL, Progress, RunOptions, Step, Store, missing_steps, run_steps

WORTH_WORKERS = 20.0
"""Seconds of reading from which on several processes are started."""


class StepRunner:
    """Runs steps where the audit's options say."""

    def __init__(self, config: AuditConfig, store: Store) -> None:
        self.config, self.store = config, store
        self.end = time.monotonic() + config.max_time * 60 if config.max_time else None

    def run(self, steps: Sequence[Step], workers: int = 1, threads: int = 0, pace: float = 1.0) -> None:
        """Run what is missing of some steps, on this machine in so many processes.

        Raises:
            OutOfTime: `max_time` is over; what is finished is stored.
        """
        left = None if self.end is None else max(0.0, self.end - time.monotonic())
        options = RunOptions(workers=workers, engine=self.config.engine, threads=threads, max_seconds=left)
        run_steps(list(steps), self.store, options, Progress(quiet=self.config.quiet, pace=pace))

    def read(self, steps: Sequence[Step]) -> None:
        """Run steps that read rows. On this machine, a file that is divided among processes by its own step has them all; other
        steps run beside each other where that is worth the start of the processes."""
        if self.config.engine != LOCAL:
            self.run(steps)
            return
        todo = [step for step in missing_steps(list(steps), self.store) if step.cost.seconds]
        beside = [step for step in todo if step.cpus == 1]
        worth_it = sum(step.cost.seconds for step in beside) >= WORTH_WORKERS
        workers = min(processes(self.config), len(beside)) if worth_it else 1
        if workers == 1:
            self.run(steps)
            return
        self.run([step for step in steps if step.cpus > 1])
        self.run([step for step in steps if step.cpus == 1], workers)
