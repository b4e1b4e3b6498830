"""The local engine: processes of this machine, one step in each, each GPU step on a GPU of its own."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.managers import SyncManager
from typing import Any

from pyrite.errors import UserError
from pyrite.steps.attempt import run_one, set_threads, sparse_reports
from pyrite.steps.engine import Report
from pyrite.steps.step import Step
from pyrite.steps.store import Store

VISIBLE = "CUDA_VISIBLE_DEVICES"


class ProcessEngine:
    """So many processes, each with so many CPU threads.

    With `gpus` (as `visible_gpus` names them), each process sees one of them alone, before any library looks for one; processes
    beyond their number share them.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        store: Store,
        deadline: float | None,
        refresh: Collection[str],
        weights_needed: Collection[str] = (),
        *,
        gpus: Sequence[str] = (),
    ) -> None:
        self.room, self.store, self.deadline, self.refresh = workers, store, deadline, refresh
        self.weights_needed = weights_needed
        self.labels: dict[Future[float], str] = {}
        context = multiprocessing.get_context("spawn")
        threads = threads or max(1, (os.cpu_count() or 1) // workers)
        self.manager = SyncManager(ctx=context)
        with interrupts_held():
            self.manager.start(end_with_parent, (os.getpid(),))
        self.queue: Any = self.manager.Queue()
        free_gpus: Any = self.manager.Queue() if gpus else None
        for number in range(workers if gpus else 0):
            free_gpus.put(gpus[number % len(gpus)])
        arguments = (threads, os.getpid(), self.queue, free_gpus)
        self.pool = ProcessPoolExecutor(workers, context, prepare_worker, arguments)

    def submit(self, step: Step) -> Future[float]:
        """Begin a step in a free process."""
        with interrupts_held():
            task = self.pool.submit(
                worker_run, step, self.store, self.deadline, self.refresh, step.key in self.weights_needed
            )
        self.labels[task] = step.label
        return task

    def wait(self, tasks: Iterable[Future[float]]) -> Iterable[Future[float]]:
        """The tasks that have ended, after a fifth of a second at most."""
        return wait(list(tasks), timeout=0.2, return_when=FIRST_COMPLETED).done

    def seconds(self, task: Future[float]) -> float:
        """What a task took.

        Raises:
            UserError: its process was killed.
        """
        label = self.labels.pop(task)
        try:
            return task.result()
        except BrokenProcessPool as error:
            names = ", ".join([label, *self.labels.values()])
            fix = "if memory ran out, use --workers 1; run again"
            raise UserError("A worker process was killed.", f"while running: {names}", fix) from error

    def reports(self) -> Iterator[Report]:
        """What running steps said."""
        while not self.queue.empty():
            yield self.queue.get()

    def kill(self) -> None:
        """Cut the processes off."""
        for process in list((self.pool._processes or {}).values()):
            process.kill()

    def close(self) -> None:
        """End the processes."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.manager.shutdown()


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until this is over. A process that begins meanwhile never gets one: it would print a traceback of its
    imports; its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    if os.environ.get(VISIBLE):
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


_queue: Any = None
_threads = 0


def prepare_worker(threads: int, parent: int, queue: Any, free_gpus: Any) -> None:
    """Set a worker up: its GPU, its threads, no reaction to Ctrl-C of its own, and no life after its parent's."""
    global _queue, _threads
    _queue, _threads = queue, threads
    if free_gpus is not None:
        os.environ[VISIBLE] = free_gpus.get()
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(threads)
    end_with_parent(parent)


def end_with_parent(parent: int) -> None:
    """Let this process not react to Ctrl-C, which its parent does, and end where the parent does, also where that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def worker_run(step: Step, store: Store, deadline: float | None, refresh: Collection[str], weights: bool) -> float:
    """What a worker process does with one step."""
    if not step.kind.plain:
        set_threads(_threads)
    return run_one(step, store, deadline, sparse_reports(_queue.put), refresh, weights=weights)
