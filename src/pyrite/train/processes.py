"""Several processes train one model: they are started here, one a GPU (on a CPU several share it: for tests).

`together.run_in_processes` starts them and hands on their progress, and the error that stopped them. Under torchrun each process
of the launch starts one of them (`launched`), else this one starts all. How they share the model is in `sharded`.
"""

import contextlib
import datetime
import multiprocessing
import os
import platform
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import distributed

from pyrite.errors import OutOfTime, PyriteError, UserError
from pyrite.models.hardware import Compute
from pyrite.models.load import quiet_libraries
from pyrite.steps import Context
from pyrite.steps.launch import current
from pyrite.train.meeting import FilePlace, StorePlace
from pyrite.train.stopping import StopRequest

Task = Callable[[Context], None]
"""What every process does; a function of a module, since it is named to a fresh interpreter."""

PATIENCE = datetime.timedelta(hours=6)
"""How long a process waits for the others: as long as one may compute alone. A process that fails is noticed by the
parent, which ends the others at once, so this is for a deadlock only."""
GRACE = 3.0
"""Seconds in which the others may tell their own error after one has failed: the cause may lie with them."""
TICK = 0.2
"""Seconds between two looks at what others say, at most."""


@dataclass(frozen=True)
class GroupSettings:
    """The settings that every process of a group starts with."""

    size: int
    """How many processes there are, on all machines."""
    local_size: int
    compute: Compute
    threads: int
    parent: int
    meeting: StorePlace | FilePlace
    task: Task
    config: Mapping[str, Any]
    inputs: Mapping[str, Path]
    out: Path
    checkpoint: Path


@dataclass
class Member:
    """A process, the pipe to it, and what made it fail."""

    rank: int
    process: Any
    link: Connection
    failure: BaseException | None = None
    failed: float = 0.0
    """When it failed, by its machine's clock."""


class Elsewhere(Protocol):
    """What is known of the group's processes that others have started."""

    failures: list[tuple[float, BaseException]]
    """With the time of each."""

    def look(self) -> None:
        """Take up what is new."""
        ...

    def works(self) -> bool:
        """Does one of them still work?"""
        ...

    def is_over(self) -> bool:
        """Is there nobody left to work for?"""
        ...


class Nowhere:
    """All processes of the group are this one's own."""

    def __init__(self) -> None:
        self.failures: list[tuple[float, BaseException]] = []

    def look(self) -> None:
        """Nothing is new."""

    def works(self) -> bool:
        """No."""
        return False

    def is_over(self) -> bool:
        """No."""
        return False


def run_here(
    count: int, compute: Compute, task: Task, context: Context, stop: StopRequest
) -> Sequence[BaseException]:  # fmt: skip
    """Runs all processes of a group on this machine; what made them fail."""
    check_devices(count, compute)
    with tempfile.TemporaryDirectory() as meeting:
        group = GroupSettings(
            count, count, compute, max(1, torch.get_num_threads() // count), os.getpid(), FilePlace(str(Path(meeting) / "store"), count),
            task, dict(context.config), dict(context.inputs), context.out, context.checkpoint,
        )  # fmt: skip
        return run_members(group, {rank: rank for rank in range(count)}, context, stop, Nowhere())


def run_members(
    group: GroupSettings, ranks: Mapping[int, int], context: Context, stop: StopRequest, elsewhere: Elsewhere
) -> Sequence[BaseException]:
    """Starts some processes of a group and serves them to their end; what made these or others fail, the first first: what
    comes after it is most often that the connection to it is lost.

    `ranks` are their numbers in the group, each with the one among those of its machine.
    """
    spawn = multiprocessing.get_context("spawn")
    members: list[Member] = []
    try:
        for rank, local_rank in ranks.items():
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_work, args=(rank, local_rank, group, theirs), daemon=True)
            process.start()
            theirs.close()
            members.append(Member(rank, process, ours))
        _listen(members, context, stop, elsewhere)
    finally:
        for started in members:
            started.process.kill()
            started.process.join()
            started.link.close()
    own = [(member.failed, member.failure) for member in members if member.failure is not None]
    return [failure for _, failure in sorted([*own, *elsewhere.failures], key=lambda pair: pair[0])]


def check_devices(count: int, compute: Compute) -> None:
    """Is there a device for every process of this machine?

    Raises:
        UserError: there is not.
    """
    if compute.device == "cpu":
        return
    n_devices = int(torch.cuda.device_count()) if compute.device == "cuda" else 1
    if n_devices < count:
        detail = f"{count} processes, devices of kind {compute.device}: {n_devices}"
        fix = f"give at most {n_devices} processes a machine (a study's workers have a device each: --workers 1)"
        raise UserError("There are fewer devices than processes.", detail, fix)


def _listen(members: Sequence[Member], context: Context, stop: StopRequest, elsewhere: Elsewhere) -> None:
    """Serves the processes' messages until all have ended, or until one failed and the others had time to report."""
    asked = replace(context, expired=lambda: stop.requested or context.expired())
    running = {member.link: member for member in members}
    until: float | None = None
    while (running or elsewhere.works()) and not elsewhere.is_over() and (until is None or time.monotonic() < until):
        for link in wait(list(running), timeout=TICK):
            member = running[link]  # type: ignore[index]
            try:
                _answer(member, member.link.recv(), asked)
            except (EOFError, ConnectionResetError):
                member.process.join()
                del running[member.link]
                if member.process.exitcode and member.failure is None:
                    member.failure, member.failed = killed(member), time.time()
        elsewhere.look()
        failures = [member.failure for member in members if member.failure is not None]
        failures += [failure for _, failure in elsewhere.failures]
        if until is None and failures:
            until = time.monotonic() + GRACE
        if any(isinstance(failure, PyriteError) for failure in failures):
            return  # the cause is known (and out of time is said by all, when the checkpoint is complete)


def killed(member: Member) -> UserError:
    """The error for a process that ended without a word."""
    where = f" on {platform.node()}" if current() is not None else ""
    detail = f"process {member.rank}{where}, exit code {member.process.exitcode}"
    fix = "if memory ran out, use more processes or a smaller model; run again"
    return UserError("A process of the training was killed.", detail, fix)


def _answer(member: Member, message: tuple[Any, ...], context: Context) -> None:
    """One message of a process."""
    match message:
        case ("progress", done, total, unit):
            context.report_progress(done, total, unit)
        case ("expired",):
            member.link.send(context.expired())
        case ("user", when, what, found, fix):
            member.failure, member.failed = UserError(what, found, fix), when
        case ("time", when, says):
            member.failure, member.failed = OutOfTime(says), when
        case ("error", when, says):
            failure = RuntimeError(f"process {member.rank} of a training failed:\n{says}")
            member.failure, member.failed = failure, when


def _work(rank: int, local_rank: int, group: GroupSettings, link: Connection) -> None:
    """One process, from its start to its end."""
    for number in (signal.SIGINT, signal.SIGTERM):  # its parent's: the first process stops all after a step
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_outlive_no_parent, args=(group.parent,), daemon=True).start()
    quiet_libraries()
    try:
        with _group(rank, local_rank, group):
            group.task(_context(rank, group, link))
            distributed.barrier()
    except UserError as error:
        link.send(("user", time.time(), error.what, error.found, error.fix))
    except OutOfTime as error:
        link.send(("time", time.time(), str(error)))
    except BaseException:
        link.send(("error", time.time(), traceback.format_exc()))
    link.close()
    os._exit(0)  # a group that lost a member cannot be left in order


def _context(rank: int, group: GroupSettings, link: Connection) -> Context:
    """The step's context in a process: the first one's questions go to the parent."""

    def expired() -> bool:
        link.send(("expired",))
        return bool(link.recv())

    return Context(
        config=group.config,
        inputs=group.inputs,
        out=group.out,
        checkpoint=group.checkpoint,
        report_progress=(lambda *progress: link.send(("progress", *progress))) if rank == 0 else (lambda *_: None),
        expired=expired if rank == 0 else (lambda: False),
    )


def _outlive_no_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextlib.contextmanager
def _group(rank: int, local_rank: int, group: GroupSettings) -> Iterator[None]:
    """Make this process one of its group, in the words that the libraries look for."""
    variables = {"RANK": rank, "LOCAL_RANK": local_rank}
    variables |= {"WORLD_SIZE": group.size, "LOCAL_WORLD_SIZE": group.local_size}
    os.environ |= {name: str(value) for name, value in variables.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # asked for, not used: the store is at hand
    if group.compute.device == "cuda":
        torch.cuda.set_device(local_rank)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # or `fully_shard` would take a GPU where there is one
    torch.set_num_threads(group.threads)
    store = group.meeting.open()
    backend = "nccl" if group.compute.device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=group.size, timeout=PATIENCE)
    yield
    distributed.destroy_process_group()
