"""The engine of a cluster: steps as tasks of Ray, which places them by the CPUs, GPUs and memory that each declares.

A step is the same pure function as on one machine, and its result goes into the same store, which every machine must see under
the same path. Ray runs a step again where its machine or process is lost; it goes on from its checkpoint.
"""

import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from pyrite.errors import PyriteError, UserError
from pyrite.steps.attempt import run_one, set_threads
from pyrite.steps.engine import Report, needs_gpu, weight_bytes
from pyrite.steps.step import Step
from pyrite.steps.store import Store

ADDRESS = "ray://"
MOST_AT_A_TIME = 1000
"""Steps that wait at Ray for a place; the others wait here."""
ATTEMPTS = 5
"""How often a step is begun again whose process or machine is lost."""
STATES = 4
"""A model in training takes so many times its weights: themselves, gradients, two moments."""
BESIDE_WEIGHTS = 2**30
"""Bytes of memory that a step declares beside what its weights take."""
LONGEST_SILENCE = 0.3
"""Seconds between two reports of a step."""


class RayEngine:
    """Steps on the cluster at an address (`ray`: one that is started here; `ray://HOST:PORT` or `ray:ADDRESS`: one that
    runs)."""

    def __init__(self, name: str, threads: int, root: Path, deadline: float | None, refresh: Collection[str]) -> None:
        ray = imported_ray()
        self.ray, self.room = ray, MOST_AT_A_TIME
        self.threads, self.root, self.deadline, self.refresh = threads, root, deadline, refresh
        self.was_up = ray.is_initialized()
        if not self.was_up:
            connect(ray, name)
        self.mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
        self.run = ray.remote(max_retries=ATTEMPTS, max_calls=0)(ray_run)
        self.largest = max((node["Resources"].get("memory", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
        self.labels: dict[Any, str] = {}

    def submit(self, step: Step) -> Any:
        """Hand a step over."""
        gpus = 1 if needs_gpu(step) else 0
        options = {"num_cpus": max(1, self.threads), "num_gpus": gpus, "memory": self.memory(step), "name": step.label}
        task = self.run.options(**options).remote(
            step, str(self.root), self.deadline, tuple(self.refresh), self.threads, self.mailbox
        )
        self.labels[task] = step.label
        return task

    def memory(self, step: Step) -> int:
        """The memory that a step declares, in bytes; never more than the largest machine has."""
        size = weight_bytes(step, Store(self.root))
        trains = step.kind.name.startswith(("train.", "repair.train"))
        return int(min(size * (STATES if trains else 1) + BESIDE_WEIGHTS, self.largest))

    def wait(self, tasks: Iterable[Any]) -> Iterable[Any]:
        """The tasks that have ended, after a fifth of a second at most."""
        waiting = list(tasks)
        if not waiting:
            return []
        ended, left = self.ray.wait(waiting, num_returns=1, timeout=0.2)
        return [*ended, *self.ray.wait(left, num_returns=len(left), timeout=0)[0]] if ended and left else ended

    def seconds(self, task: Any) -> float:
        """What a task took; what its step raised is raised here.

        Raises:
            UserError: its process or machine was lost again and again.
        """
        label = self.labels.pop(task)
        try:
            return float(self.ray.get(task))
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from (None if isinstance(error.cause, PyriteError) else error)
        except self.ray.exceptions.RayError as error:
            fix = "look at the cluster's log (ray status, ray logs); run again, finished steps are kept"
            raise UserError("A step was lost on the cluster.", f"{label}: {error}".strip()[:600], fix) from error

    def reports(self) -> Iterator[Report]:
        """What running steps said."""
        yield from self.ray.get(self.mailbox.empty.remote())

    def kill(self) -> None:
        """Cut off all that runs."""
        for task in self.labels:
            self.ray.cancel(task, force=True)

    def close(self) -> None:
        """Leave the cluster, or end the one that was started here."""
        if self.was_up:
            self.ray.kill(self.mailbox)
        else:
            self.ray.shutdown()


class Mailbox:
    """What steps say of their progress, until the driver asks for it."""

    def __init__(self) -> None:
        self.reports: dict[str, Report] = {}

    def put(self, report: Report) -> None:
        """Keep a step's latest report."""
        self.reports[report[0]] = report

    def empty(self) -> list[Report]:
        """All that came since the last call."""
        reports = list(self.reports.values())
        self.reports.clear()
        return reports


def imported_ray() -> Any:
    """Ray.

    Raises:
        UserError: it is not installed.
    """
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise UserError("Ray is not installed.", "--engine ray", "pip install 'pyrite[ray]'") from error
    return ray


def connect(ray: Any, name: str) -> None:
    """Connect to the cluster that an engine's name says, or start one on this machine.

    Raises:
        UserError: nobody answers at the address.
    """
    address = name if name.startswith(ADDRESS) else name.removeprefix("ray").removeprefix(":") or None
    quiet = {"log_to_driver": False, "configure_logging": False, "include_dashboard": False}
    try:
        ray.init(**({"address": address, "log_to_driver": False} if address else quiet))
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        fix = "start it (ray start --head), or --engine ray for one on this machine"
        raise UserError("The cluster does not answer.", f"{name}: {error}"[:600], fix) from error


def ray_run(
    step: Step, root: str, deadline: float | None, refresh: Collection[str], threads: int, mailbox: Any
) -> float:
    """What a worker of the cluster does with one step."""
    last = 0.0

    def report_progress(key: str, finished: float, total: float, unit: str) -> None:
        nonlocal last
        if time.monotonic() - last > LONGEST_SILENCE:
            last = time.monotonic()
            mailbox.put.remote((key, finished, total, unit))

    set_threads(threads)
    return run_one(step, Path(root), deadline, report_progress, refresh)
