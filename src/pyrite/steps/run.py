"""Run what is missing of a plan, each step once, in this process or in several.

A step runs only if a target needs it: what is already in the store is left alone, and so is everything beneath it.
Steps are pure functions of their inputs, so the order among independent steps changes nothing but the time.
"""

import contextlib
import errno
import multiprocessing
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any, Literal

from pyrite.errors import OutOfTime, UserError
from pyrite.steps.progress import Progress
from pyrite.steps.step import Context, Source, Step, closure
from pyrite.steps.store import Store, made_with

Keep = Literal["predictions", "adapters", "all"]
"""What stays of a trained model once all that reads it is done: nothing, its adapter, everything."""


LITTLE_ROOM = 2**26
"""Bytes free below which a writer that broke off is taken to have met the end of the disk."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a plan."""

    workers: int = 1
    threads: int = 0
    """CPU threads for each worker; 0 leaves the libraries' own choice. Sums on another number of threads differ in their
    last bits, so a caller that promises bytes fixes it."""
    keep: Keep = "all"
    refresh: Collection[str] = ()
    """Names of step kinds to redo although they are in the store."""
    weights: bool = False
    """Whether the targets' droppable files are needed, too: a target that lost them is run again."""
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a run did: steps run, steps found in the store, seconds, and the bytes of all that the targets stand on."""

    ran: int
    reused: int
    seconds: float


def missing_steps(
    targets: list[Step], store: Store, refresh: Collection[str] = (), *, weights: bool = False
) -> list[Step]:
    """Which steps must run for the targets (with `weights`, their droppable files, too) to be there? In an order that
    respects their inputs."""
    needed: set[str] = set()

    def need(step: Step, *, weights: bool) -> None:
        if step.key in needed:
            return
        if store.has(step, weights=weights) and not any(s.kind.name in refresh for s in closure([step])):
            return
        needed.add(step.key)
        for parent in step.parents():
            need(parent, weights=True)

    for target in targets:
        need(target, weights=weights)
    return [step for step in closure(targets) if step.key in needed]


def run_steps(targets: list[Step], store: Store, options: RunOptions, progress: Progress) -> Done:
    """Finish every target; raises `OutOfTime` when `max_seconds` is over, with all finished work stored."""
    started = time.monotonic()
    deadline = None if options.max_seconds is None else time.time() + options.max_seconds
    steps = closure(targets)
    todo = missing_steps(targets, store, options.refresh, weights=options.weights)
    warn_if_made_otherwise([step for step in steps if step not in todo], store)
    progress.plan(todo, len(steps) - len(todo), options.workers)
    readers: dict[str, set[str]] = {step.key: set() for step in steps}
    for step in todo:
        for parent in step.parents():  # by key: a plan may name a step twice
            readers[parent.key].add(step.key)
    by_key = {step.key: step for step in steps}
    ran = {step.key for step in todo}  # what was here before is somebody else's to keep

    def finished(step: Step, seconds: float) -> None:
        progress.finish(step, seconds)
        for parent in step.parents():
            readers[parent.key].discard(step.key)
        for key in {step.key, *(parent.key for parent in step.parents())}:
            if key in ran and not readers[key] and options.keep != "all":
                with store.lock(key):
                    store.drop_weights(by_key[key], spare_adapters=options.keep == "adapters")

    try:
        if options.workers == 1:
            set_threads(options.threads)
            for step in todo:
                out_of_time(deadline)
                progress.start(step)
                finished(step, run_one(step, store.root, deadline, progress.report_progress, options.refresh))
        elif todo:
            run_pool(todo, store, options, deadline, progress, finished)
    finally:
        progress.close()
    return Done(len(todo), len(steps) - len(todo), time.monotonic() - started)


def run_one(
    step: Step, root: Path, deadline: float | None, report_progress: Any, refresh: Collection[str] = ()
) -> float:
    """Run one step under its lock and publish it; the seconds it took (0 if another process had just finished it)."""
    try:
        return attempt_one(step, Store(root), deadline, report_progress, refresh)
    except Exception as error:
        if is_disk_full(error, root):
            problem = f"The disk is full; the step '{step.label}' was not stored."
            raise UserError(
                problem, f"{root}: {error}", "free space (pyrite store gc) and run the same again"
            ) from error
        raise


def attempt_one(
    step: Step, store: Store, deadline: float | None, report_progress: Any, refresh: Collection[str]
) -> float:
    """Runs one step under its lock, with errors as they come; the seconds it took."""
    with store.lock(step.key):
        if store.has(step, weights=True) and not refresh:
            return 0.0
        for parent in step.parents():  # another run that shares the store may have dropped weights that this one needs
            if not store.has(parent, weights=True):
                attempt_one(parent, store, deadline, report_progress, ())
        out, checkpoint = store.attempt(step, anew=step.kind.name in refresh)
        inputs = {
            name: Path(source.path) if isinstance(source, Source) else store.path(source.key)
            for name, source in step.inputs.items()
        }
        context = Context(
            config=step.config,
            inputs=inputs,
            out=out,
            checkpoint=checkpoint,
            report_progress=lambda finished, total, unit: report_progress(step.key, finished, total, unit),
            expired=lambda: deadline is not None and time.time() > deadline,
        )
        started = time.monotonic()
        step.kind.run(context)
        seconds = time.monotonic() - started
        store.publish(step, out, seconds)
        return seconds


def run_pool(
    todo: list[Step], store: Store, options: RunOptions, deadline: float | None, progress: Progress, finished: Any
) -> None:
    """Run steps in several processes, each step as soon as its inputs are there."""
    context = multiprocessing.get_context("spawn")
    threads = options.threads or max(1, (os.cpu_count() or 1) // options.workers)
    waiting = dict.fromkeys(step.key for step in todo)
    by_key = {step.key: step for step in todo}
    running: dict[Future[float], Step] = {}
    stopped: OutOfTime | None = None
    manager = SyncManager(ctx=context)
    manager.start(end_with_parent, (os.getpid(),))
    with manager:
        progress_reports = manager.Queue()
        pool = ProcessPoolExecutor(options.workers, context, prepare_worker, (threads, os.getpid(), progress_reports))
        try:
            while waiting or running:
                if not running:
                    out_of_time(deadline)
                ready = [k for k in waiting if all(p.key not in waiting for p in by_key[k].parents())]
                busy = {step.key for step in running.values()}
                ready = [k for k in ready if k not in busy and not any(p.key in busy for p in by_key[k].parents())]
                expired = stopped is not None or (deadline is not None and time.time() > deadline)
                for key in ready[: 0 if expired else options.workers - len(running)]:
                    step = by_key[key]
                    del waiting[key]
                    progress.start(step)
                    running[pool.submit(worker_run, step, store.root, deadline, options.refresh)] = step
                completed, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                while not progress_reports.empty():
                    progress.report_progress(*progress_reports.get())
                progress.beat()
                for future in completed:
                    step = running.pop(future)
                    try:
                        finished(step, future.result())
                    except OutOfTime as error:
                        stopped = error  # the other workers save their checkpoints as well
                if stopped and not running:
                    raise stopped
        except BrokenProcessPool as error:
            names = ", ".join(step.label for step in running.values())
            raise UserError(
                "A worker process was killed.",
                f"while running: {names}",
                "if memory ran out, use --workers 1; run again",
            ) from error
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.kill()  # what they were doing is cut off, and resumed by the next run
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_progress_reports: Any = None


def prepare_worker(threads: int, parent: int, progress_reports: Any) -> None:
    """Set a worker up: its threads, no reaction to Ctrl-C of its own, and no life after its parent's."""
    global _progress_reports
    _progress_reports = progress_reports
    set_threads(threads)
    end_with_parent(parent)


def end_with_parent(parent: int) -> None:
    """Let this process not react to Ctrl-C, which its parent does, and end where the parent does, also where that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def worker_run(step: Step, root: Path, deadline: float | None, refresh: Collection[str]) -> float:
    """What a worker process does with one step."""
    last = 0.0

    def report_progress(key: str, finished: float, total: float, unit: str) -> None:
        nonlocal last
        if time.monotonic() - last > 0.3:
            last = time.monotonic()
            _progress_reports.put((key, finished, total, unit))

    return run_one(step, root, deadline, report_progress, refresh)


def set_threads(threads: int) -> None:
    """Use so many CPU threads in this process; 0 leaves the libraries' own choice."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)


def out_of_time(deadline: float | None) -> None:
    """Stop here if the run's time is up."""
    if deadline is not None and time.time() > deadline:
        raise OutOfTime("--max-time is over")


def is_disk_full(error: BaseException, root: Path | None = None) -> bool:
    """Did this come from a full disk? Libraries wrap the system's error, so the chain and the words are looked at; and
    where the model library's writer broke off without words, how much room `root` has left."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(getattr(e, "errno", None) == errno.ENOSPC or "No space left on device" in str(e) for e in chain):
        return True
    broke_off = any(words in str(e) for e in chain for words in ("PytorchStreamWriter", "inline_container", "iostream"))
    return broke_off and root is not None and shutil.disk_usage(root).free < LITTLE_ROOM


def warn_if_made_otherwise(reused: list[Step], store: Store) -> None:
    """Say once if stored results were made with other versions than today's; `--refresh` redoes them."""
    now = made_with()
    changed: set[str] = set()
    for step in reused:
        with contextlib.suppress(FileNotFoundError):
            then = store.manifest(step.key)["made_with"]
            changed |= {f"{k} {then.get(k)} → {now.get(k)}" for k in now if then.get(k) != now.get(k)}
    if changed:
        warnings.warn(f"stored steps were made with other versions ({'; '.join(sorted(changed))})", stacklevel=2)
