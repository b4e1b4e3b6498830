"""A launch by torchrun: the first process runs the command, the others wait for its trainings and take part in them.

Each process of the launch starts one process of a training's group, watches it, and tells the first one how it ended. So
the command itself is no member: no library of it waits for others, and it can end all of them whatever they wait for.
"""

import contextlib
import importlib
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import torch

import pyrite
from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.steps import Context
from pyrite.steps.launch import SIZE, Launch, current, set_current
from pyrite.train.meeting import (
    Heart,
    Pulses,
    StorePlace,
    as_failure,
    first_line,
    from_failure,
    open_meeting,
    place_of,
)
from pyrite.train.processes import GroupSettings, Task, check_devices, run_members
from pyrite.train.stopping import StopRequest

WAIT = 0.2
"""Seconds between two looks for an order."""
END = {"end": True}

_store: Any = None
_orders = 0


@contextlib.contextmanager
def leading(launch: Launch) -> Iterator[None]:
    """Context manager of the first process: the others are there for its trainings until the block ends.

    Raises:
        UserError: the processes cannot meet.
    """
    global _store, _orders
    set_current(launch)
    _store, _orders = open_meeting(launch), 0
    heart = Heart(place_of(launch), launch.rank)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        with contextlib.suppress(RuntimeError):  # the store may be gone, and with it those that would wait
            _store.set(f"order/{_orders}", orjson.dumps(END))
            if not launch.agent_store:
                wait_until_left(launch)
        heart.stop()
        set_current(None)


def wait_until_left(launch: Launch) -> None:
    """The store is this process's: it stays until the others have read that all is over, or long enough."""
    until = time.monotonic() + 20
    others = [f"left/{rank}" for rank in range(1, launch.size)]
    while time.monotonic() < until and not _store.check(others):
        time.sleep(WAIT)


class Followers:
    """What the first process knows of the others' part of a training."""

    def __init__(self, store: Any, number: int, size: int) -> None:
        self.store, self.number = store, number
        self.failures: list[tuple[float, BaseException]] = []
        self.working = set(range(1, size))
        self.pulses = Pulses(store, range(1, size))

    def look(self) -> None:
        """Take up failures, ends and lost processes."""
        if self.failures:
            return
        if self.store.add(f"failures/{self.number}", 0):
            keys = [f"failed/{self.number}/{rank}" for rank in sorted(self.working)]
            self.failures = [from_failure(self.store.get(key)) for key in keys if self.store.check([key])]
            return
        self.working = {rank for rank in self.working if not self.store.check([f"done/{self.number}/{rank}"])}
        lost = [rank for rank in self.pulses.lost() if rank in self.working]
        if lost:
            fix = "look whether its machine runs, and give the same command again: it goes on from its checkpoint"
            detail = f"no sign of life from process {', '.join(map(str, lost))} of the launch"
            self.failures.append((time.time(), UserError("A process of the training was lost.", detail, fix)))

    def works(self) -> bool:
        """Does one of them still work?"""
        return bool(self.working)

    def is_over(self) -> bool:
        """Never: this is the process that says so."""
        return False


def lead(count: int, compute: Compute, task: Task, context: Context, stop: StopRequest) -> Sequence[BaseException]:
    """Run a training in all processes of the launch; what made them fail.

    Raises:
        UserError: another number of processes than was launched; fewer devices than processes on this machine.
    """
    global _orders
    launch = current()
    assert launch is not None
    if count != launch.size:
        detail = f"processes: {count}, and {SIZE} is {launch.size}"
        fix = f"start it with --nproc-per-node and --nnodes that make {count}, or write processes: {launch.size}"
        raise UserError("Another number of processes was started.", detail, fix)
    check_devices(launch.local_size, compute)
    number, _orders = _orders, _orders + 1
    order = {
        "version": pyrite.__version__,
        "task": f"{task.__module__}:{task.__qualname__}",
        "compute": compute.as_config(),
        "config": dict(context.config),
        "inputs": {name: str(path.absolute()) for name, path in context.inputs.items()},
        "out": str(context.out.absolute()),
        "checkpoint": str(context.checkpoint.absolute()),
    }
    _store.set(f"order/{number}", orjson.dumps(order))
    followers = Followers(_store, number, launch.size)

    def expired() -> bool:
        return context.expired() or _store.check(["stop"])

    stoppable = Context(
        context.config, context.inputs, context.out, context.checkpoint, context.report_progress, expired
    )  # fmt: skip
    try:
        failures = run_members(
            process_group_of(launch, order, number), {0: launch.local_rank}, stoppable, stop, followers
        )
    finally:
        _store.set(f"over/{number}", b"1")
    if _store.check(["stop"]) and not stop.requested:
        stop.ask(quiet=True)
    return failures


def process_group_of(launch: Launch, order: Any, number: int) -> GroupSettings:
    """The settings of the group that an order is for."""
    module, _, name = order["task"].partition(":")
    if not module.startswith("pyrite."):
        raise RuntimeError(f"{module} is no module of Pyrite's")
    place = place_of(launch)
    return GroupSettings(
        launch.size, launch.local_size, Compute(**order["compute"]), torch.get_num_threads(), os.getpid(),
        StorePlace(place.address, place.port, f"{place.prefix}/group/{number}"),
        getattr(importlib.import_module(module), name), order["config"],
        {name: Path(path) for name, path in order["inputs"].items()}, Path(order["out"]), Path(order["checkpoint"]),
    )  # fmt: skip


class Leader:
    """What another process knows of the first one during a training."""

    def __init__(self, store: Any, number: int, pulses: Pulses) -> None:
        self.store, self.number, self.pulses = store, number, pulses
        self.failures: list[tuple[float, BaseException]] = []
        self.over = False

    def look(self) -> None:
        """Does it still listen?"""
        self.over = self.over or self.store.check([f"over/{self.number}"]) or bool(self.pulses.lost())

    def works(self) -> bool:
        """What it does is not waited for."""
        return False

    def is_over(self) -> bool:
        """Has it ended, or stopped to listen?"""
        return self.over


def follow(launch: Launch) -> int:
    """Take part in the first process's trainings until its command is over; the exit code.

    It prints nothing: what went wrong is the first process's to tell. Only where that one is lost, one process of each
    machine says so.
    """
    set_current(launch)
    try:
        store = open_meeting(launch)
    except UserError as error:
        if launch.local_rank == 0 or launch.rank == 1:
            print(f"pyrite: {error}", file=sys.stderr)
        return 2
    try:
        return serve(launch, store)
    except RuntimeError as error:  # the store is gone
        return lost_leader(launch, first_line(error))


def lost_leader(launch: Launch, why: str) -> int:
    """The first process is gone without a word."""
    if launch.local_rank in (0, 1):
        print(f"pyrite: process {launch.rank} on {platform.node()} lost the first process ({why})", file=sys.stderr)
    return 1


def serve(launch: Launch, store: Any) -> int:
    """Waits for orders and does them; the exit code."""

    def stop_all(*_: Any) -> None:
        with contextlib.suppress(RuntimeError):
            stop_store.set("stop", b"1")

    stop_store = place_of(launch).open()  # of its own: the other may be in use when a signal comes
    signal.signal(signal.SIGINT, stop_all)
    signal.signal(signal.SIGTERM, stop_all)
    heart = Heart(place_of(launch), launch.rank)
    pulses = Pulses(store, [0])
    number = 0
    while True:
        if store.check([f"order/{number}"]):
            order = orjson.loads(store.get(f"order/{number}"))
            if order == END:
                store.set(f"left/{launch.rank}", b"1")
                heart.stop()
                return 0
            take_part(launch, store, order, number, pulses)
            number += 1
        elif pulses.lost():
            return lost_leader(launch, "it gave no sign of life")
        else:
            time.sleep(WAIT)


def take_part(launch: Launch, store: Any, order: Any, number: int, pulses: Pulses) -> None:
    """One training: runs this process's member of the group, and tells the first process how it ended."""
    leader = Leader(store, number, pulses)
    try:
        check_here(launch, order)
        group = process_group_of(launch, order, number)
        nothing = Context(
            group.config, group.inputs, group.out, group.checkpoint, report_progress=lambda *_: None, expired=lambda: False
        )  # fmt: skip
        failures = run_members(group, {launch.rank: launch.local_rank}, nothing, StopRequest(), leader)
    except Exception as error:
        failures = [error]
    if failures:
        cause = next((failure for failure in failures if isinstance(failure, UserError)), failures[0])
        store.set(f"failed/{number}/{launch.rank}", as_failure(cause, launch.rank))
        store.add(f"failures/{number}", 1)
    else:
        store.set(f"done/{number}/{launch.rank}", b"1")


def check_here(launch: Launch, order: Any) -> None:
    """Can this process do its part?

    Raises:
        UserError: it has another version, too few devices, or does not see the store and the models.
    """
    here = f"process {launch.rank} on {platform.node()}"
    if order["version"] != pyrite.__version__:
        detail = f"{here}: {pyrite.__version__}; the first process: {order['version']}"
        raise UserError("The machines have different versions of Pyrite.", detail, "install the same one everywhere")
    check_devices(launch.local_size, Compute(**order["compute"]))
    paths = [*order["inputs"].values(), order["checkpoint"]]
    absent = [path for path in paths if not Path(path).exists()]
    if absent:
        fix = "put the store (--store) and the models on a file system that all machines see under one path"
        raise UserError("A machine of the launch does not see a file of the training.", f"{here}: {absent[0]}", fix)
