"""The engine of a cluster: steps as tasks of Ray, which places them by the CPUs, GPUs and memory that each declares.

A step is the same pure function as on one machine, and its result goes into the same store, which every machine must see under
the same path. Ray runs a step again where its machine or process is lost; it goes on from its checkpoint.
"""

import contextlib
import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pyrite.errors import PyriteError, UserError
from pyrite.steps.attempt import run_one, set_threads, sparse_reports
from pyrite.steps.demand import declared_memory, needs_gpu, weight_bytes
from pyrite.steps.engine import Report
from pyrite.steps.machines import Shared, Witness, by_url, enter, files_of
from pyrite.steps.step import Step
from pyrite.steps.store import Store

ADDRESS = "ray://"
CLIENT_PORT = 10001
MOST_AT_A_TIME = 1000
"""Steps that wait at Ray for a place; the others wait here."""
ATTEMPTS = 5
"""How often a step is begun again whose process or machine is lost, or that memory ran out for."""
OBJECT_STORE = 2**28
"""Bytes that a cluster of this machine sets aside for what passes between tasks: only recipes and reports do."""
LOOK_EVERY, PATIENCE = 10.0, 300.0
"""Seconds between two looks at the machines, and how long a step waits for one that is large enough to come."""
ANSWER_WITHIN = 10.0
"""Seconds in which a cluster's address must take a connection."""


class RayEngine:
    """Steps on the cluster at an address (`ray`: one that is started here; `ray://HOST:PORT` or `ray:ADDRESS`: one that
    runs)."""

    def __init__(
        self,
        name: str,
        threads: int,
        store: Store,
        deadline: float | None,
        refresh: Collection[str],
        weights_needed: Collection[str] = (),
    ) -> None:
        ray = imported_ray()
        self.ray, self.room = ray, MOST_AT_A_TIME
        self.threads, self.store, self.deadline, self.refresh = threads, store.absolute(), deadline, refresh
        self.weights_needed = weights_needed
        _connection.open(ray, name)
        self.may_grow = _connection.may_grow
        self.witness = Witness(self.store)
        self.mailbox = ray.remote(num_cpus=0, max_restarts=-1)(Mailbox).remote()
        self.mail: Any = None
        self.run = ray.remote(max_retries=ATTEMPTS)(ray_run)
        self.run_on_gpu = ray.remote(max_retries=ATTEMPTS, max_calls=1)(ray_run)  # a process keeps its first GPU
        self.machines = self.living_machines()
        self.next_look, self.short_since = 0.0, 0.0
        self.labels: dict[Any, str] = {}
        self.demands: dict[Any, dict[str, float]] = {}

    def living_machines(self) -> list[dict[str, float]]:
        """What each machine of the cluster has."""
        return [dict(node["Resources"]) for node in self.ray.nodes() if node["Alive"]]

    def submit(self, step: Step) -> Any:
        """Hand a step over."""
        demand = self.demand(step)
        run = self.run_on_gpu if demand["GPU"] else self.run
        options = {"num_cpus": demand["CPU"], "num_gpus": demand["GPU"], "memory": demand["memory"]}
        step = replace(step, cpus=int(demand["CPU"]))
        task = run.options(name=step.label, **options).remote(
            by_url(step),
            self.witness.shared,
            files_of(step),
            self.deadline,
            tuple(self.refresh),
            self.threads,
            self.mailbox,
            step.key in self.weights_needed,
        )
        self.labels[task], self.demands[task] = step.label, demand
        return task

    def demand(self, step: Step) -> dict[str, float]:
        """What a step declares; of CPUs and memory (bytes) never more than the largest machine has."""
        memory = declared_memory(step, weight_bytes(step, self.store), beside=step.memory)
        return {
            "CPU": max(1, min(max(self.threads, step.cpus), int(self.most("CPU")))),
            "GPU": 1 if needs_gpu(step) else 0,
            "memory": int(min(memory, self.most("memory"))),
        }

    def most(self, resource: str) -> float:
        """How much of a resource has the machine that has most of it?"""
        return max((machine.get(resource, 0.0) for machine in self.machines), default=0.0)

    def wait(self, tasks: Iterable[Any]) -> Iterable[Any]:
        """The tasks that have ended, after a fifth of a second at most.

        Raises:
            UserError: no machine has what a step declares.
        """
        waiting = list(tasks)
        if not waiting:
            return []
        if time.monotonic() >= self.next_look:
            self.check_room()
        ended, left = self.ray.wait(waiting, num_returns=1, timeout=0.2)
        return [*ended, *self.ray.wait(left, num_returns=len(left), timeout=0)[0]] if ended and left else ended

    def check_room(self) -> None:
        """Does every step that was handed over fit some machine? Ray would wait for one without end.

        Raises:
            UserError: one has fitted none for a while; at once where no machine can come.
        """
        now = time.monotonic()
        self.next_look, self.machines = now + LOOK_EVERY, self.living_machines()
        short = [task for task, demand in self.demands.items() if not any(fits(demand, m) for m in self.machines)]
        self.short_since = (self.short_since or now) if short else 0.0
        if short and (not self.may_grow or now - self.short_since > PATIENCE):
            demand = ", ".join(f"{value:,.0f} {name}" for name, value in self.demands[short[0]].items() if value)
            found = f"{self.labels[short[0]]}: {demand}; machines: {len(self.machines)}"
            fix = "add one that has it (ray status), or give the command where the device that it chooses is the cluster's"
            raise UserError("No machine of the cluster has what a step asks for.", found, fix)

    def seconds(self, task: Any) -> float:
        """What a task took; what its step raised is raised here.

        Raises:
            UserError: its process or machine was lost again and again, or memory ran out.
        """
        label = self.labels.pop(task)
        del self.demands[task]
        try:
            return float(self.ray.get(task))
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from (None if isinstance(error.cause, PyriteError) else error)
        except self.ray.exceptions.OutOfMemoryError as error:
            fix = "smaller batches, or machines with more memory; run again, finished steps are kept"
            raise UserError("Memory ran out for a step on the cluster.", f"{label}: {error}"[:600], fix) from error
        except self.ray.exceptions.RayError as error:
            fix = (
                "if memory ran out, smaller batches or larger machines; else look at the cluster's log (ray status, "
                "ray logs); run again, finished steps are kept"
            )
            raise UserError("A step was lost on the cluster.", f"{label}: {error}".strip()[:600], fix) from error

    def reports(self) -> Iterator[Report]:
        """What running steps said; nothing while the machine that collects it is being replaced."""
        self.mail = self.mail or self.mailbox.empty.remote()
        if self.ray.wait([self.mail], timeout=0)[0]:
            mail, self.mail = self.mail, None
            with contextlib.suppress(self.ray.exceptions.RayError):
                yield from self.ray.get(mail)

    def kill(self) -> None:
        """Cut off all that runs."""
        for task in self.labels:
            self.ray.cancel(task, force=True)

    def close(self) -> None:
        """Leave the cluster."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(self.mailbox)
        _connection.close()
        self.witness.close()


@dataclass
class Connection:
    """How this process came to its cluster: `ours` if Pyrite connected, `may_grow` if other machines may join; and how many blocks of
    `one_cluster` want it kept."""

    ours: bool = False
    may_grow: bool = True
    blocks: int = 0

    def open(self, ray: Any, name: str) -> None:
        """Connect, unless that was done: by an engine before, or by whoever called us.

        Raises:
            UserError: nobody answers at the address.
        """
        if not ray.is_initialized():
            self.may_grow = connect(ray, name)
            self.ours = True

    def close(self) -> None:
        """Leave the cluster, or end the one that was started here; not while a block wants it kept, or where it is not ours."""
        if self.ours and not self.blocks:
            imported_ray().shutdown()
            self.ours, self.may_grow = False, True


_connection = Connection()


@contextlib.contextmanager
def one_cluster() -> Iterator[None]:
    """Keep the cluster to which the first run of steps in this block connects for the others: one of this machine takes seconds to
    start."""
    _connection.blocks += 1
    try:
        yield
    finally:
        _connection.blocks -= 1
        _connection.close()


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


def fits(demand: Mapping[str, float], machine: Mapping[str, float]) -> bool:
    """Has an idle machine what a step declares?"""
    return all(machine.get(name, 0.0) >= value for name, value in demand.items())


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


def connect(ray: Any, name: str) -> bool:
    """Connect to the cluster that an engine's name says, else to `$RAY_ADDRESS`, else start one on this machine; whether it is
    one that machines may join.

    Raises:
        UserError: nobody answers at the address.
    """
    address = name if name.startswith(ADDRESS) else name.removeprefix("ray").removeprefix(":")
    address = address or os.environ.get("RAY_ADDRESS", "")
    fix = (
        "start it (ray start --head), or --engine ray for one on this machine; if it asks for a token, it is the one of "
        "$RAY_AUTH_TOKEN"
    )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody unless the user wants it
    os.environ.setdefault("RAY_task_oom_retries", str(ATTEMPTS))  # else a step that is too large is begun for ever
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        if address:
            check_answer(address, ray.util.get_node_ip_address())
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", object_store_memory=OBJECT_STORE, include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        if "ray[client]" in str(error):
            fix = "pip install 'pyrite[ray]'"
        raise UserError("The cluster does not answer.", f"{name}: {error}"[:600], fix) from error
    return bool(address)


def check_answer(address: str, own: str) -> None:
    """Does somebody take a connection at an address? Ray would try for minutes. This machine's name may also stand for
    its address in the network (`own`), where Ray listens.

    Raises:
        OSError: nobody does.
    """
    parts = urlsplit(address if "//" in address else f"//{address}")
    if parts.hostname is None or (parts.port is None and not address.startswith(ADDRESS)):
        return  # a word of Ray's, such as auto
    hosts = [parts.hostname, *([own] if parts.hostname in ("localhost", "127.0.0.1") else [])]
    for at, host in enumerate(hosts):
        try:
            socket.create_connection((host, parts.port or CLIENT_PORT), ANSWER_WITHIN).close()
            return
        except OSError:
            if at == len(hosts) - 1:
                raise


def ray_run(
    step: Step,
    shared: Shared,
    files: Sequence[str],
    deadline: float | None,
    refresh: Collection[str],
    threads: int,
    mailbox: Any,
    weights: bool,
) -> float:
    """What a worker of the cluster does with one step."""
    enter(shared, files)
    os.environ["RAYON_NUM_THREADS"] = str(threads or 1)
    if not step.kind.plain:
        set_threads(threads)
    return run_one(step, shared.store, deadline, sparse_reports(mailbox.put.remote), refresh, weights=weights)
