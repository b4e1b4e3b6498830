"""Several processes train one model: they are started here, one a GPU (on a CPU several share it: for tests).

`run_in_processes` starts them on this machine and hands on their progress, and the error that stopped them. How they
share the model is in `sharded`.
"""

import contextlib
import datetime
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from pyrite.errors import OutOfTime, PyriteError, UserError
from pyrite.models.hardware import Compute
from pyrite.models.load import quiet_libraries
from pyrite.steps import Context

Task = Callable[[Context], None]
"""What every process does; a function of a module, since it is named to a fresh interpreter."""

PATIENCE = datetime.timedelta(hours=6)
"""How long a process waits for the others: as long as one may compute alone. A process that fails is noticed by the
parent, which ends the others at once, so this is for a deadlock only."""
GRACE = 3.0
"""Seconds in which the others may tell their own error after one has failed: the cause may lie with them."""


@dataclass(frozen=True)
class _GroupSettings:
    """The settings that every process of a group starts with."""

    count: int
    compute: Compute
    threads: int
    parent: int
    meeting: str
    task: Task
    config: Mapping[str, Any]
    inputs: Mapping[str, Path]
    out: Path
    checkpoint: Path


@dataclass
class _Process:
    """A process, the pipe to it, and what made it fail."""

    rank: int
    process: Any
    link: Connection
    failure: BaseException | None = None


def run_in_processes(count: int, compute: Compute, task: Task, context: Context) -> None:
    """Run `task(context)` in `count` processes that form one group; what it makes, it leaves in the context's folders.

    The first process reports progress and asks whether the time is up.

    Raises:
        UserError: fewer devices than processes; a process was killed; what the task raised as such.
        OutOfTime: the task said so.
        RuntimeError: any other error of a process, with its traceback.
    """
    check_devices(count, compute)
    spawn = multiprocessing.get_context("spawn")
    processes: list[_Process] = []
    with tempfile.TemporaryDirectory() as meeting:
        group = _GroupSettings(
            count, compute, max(1, torch.get_num_threads() // count), os.getpid(), str(Path(meeting) / "store"), task,
            dict(context.config), dict(context.inputs), context.out, context.checkpoint,
        )  # fmt: skip
        try:
            for rank in range(count):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=_work, args=(rank, group, theirs), daemon=True)
                process.start()
                theirs.close()
                processes.append(_Process(rank, process, ours))
            _listen(processes, context)
        finally:
            for started in processes:
                started.process.kill()
                started.process.join()
                started.link.close()
    failures = [process.failure for process in processes if process.failure is not None]
    for kind in (UserError, OutOfTime, BaseException):
        for failure in failures:
            if isinstance(failure, kind):
                raise failure


def check_devices(count: int, compute: Compute) -> None:
    """Is there a device for every process?

    Raises:
        UserError: there is not.
    """
    if compute.device == "cpu":
        return
    n_devices = int(torch.cuda.device_count()) if compute.device == "cuda" else 1
    if n_devices < count:
        detail = f"{count} processes, devices of kind {compute.device}: {n_devices}"
        raise UserError("There are fewer devices than processes.", detail, f"give at most {n_devices} processes")


def _listen(processes: Sequence[_Process], context: Context) -> None:
    """Serves the processes' messages until all have ended, or until one failed and the others had time to report."""
    running = {member.link: member for member in processes}
    until: float | None = None
    while running and (until is None or time.monotonic() < until):
        for link in wait(list(running), timeout=None if until is None else 0.1):
            process = running[link]  # type: ignore[index]
            try:
                _answer(process, process.link.recv(), context)
            except (EOFError, ConnectionResetError):
                process.process.join()
                del running[process.link]
                if process.process.exitcode and process.failure is None:
                    detail = f"process {process.rank}, exit code {process.process.exitcode}"
                    fix = "if memory ran out, use more processes or a smaller model; run again"
                    process.failure = UserError("A process of the training was killed.", detail, fix)
        if until is None and any(member.failure for member in processes):
            until = time.monotonic() + GRACE
        if any(isinstance(member.failure, PyriteError) for member in processes):
            return  # the cause is known (and out of time is said by all, when the checkpoint is complete)


def _answer(process: _Process, message: tuple[Any, ...], context: Context) -> None:
    """One message of a process."""
    match message:
        case ("progress", done, total, unit):
            context.report_progress(done, total, unit)
        case ("expired",):
            process.link.send(context.expired())
        case ("user", what, found, fix):
            process.failure = UserError(what, found, fix)
        case ("time", says):
            process.failure = OutOfTime(says)
        case ("error", says):
            process.failure = RuntimeError(f"process {process.rank} of a training failed:\n{says}")


def _work(rank: int, group: _GroupSettings, link: Connection) -> None:
    """One process, from its start to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive_no_parent, args=(group.parent,), daemon=True).start()
    quiet_libraries()
    try:
        with _group(rank, group):
            group.task(_context(rank, group, link))
            distributed.barrier()
    except UserError as error:
        link.send(("user", error.what, error.found, error.fix))
    except OutOfTime as error:
        link.send(("time", str(error)))
    except BaseException:
        link.send(("error", traceback.format_exc()))
    link.close()
    os._exit(0)  # a group that lost a member cannot be left in order


def _context(rank: int, group: _GroupSettings, link: Connection) -> Context:
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
def _group(rank: int, group: _GroupSettings) -> Iterator[None]:
    """Make this process one of its group, in the words that the libraries look for."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": group.count, "LOCAL_WORLD_SIZE": group.count}
    os.environ |= {name: str(value) for name, value in variables.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # asked for, not used: the meeting is a file
    if group.compute.device == "cuda":
        torch.cuda.set_device(rank)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # or `fully_shard` would take a GPU where there is one
    torch.set_num_threads(group.threads)
    store = distributed.FileStore(group.meeting, group.count)  # type: ignore[attr-defined]
    backend = "nccl" if group.compute.device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=group.count, timeout=PATIENCE)
    yield
    distributed.destroy_process_group()
