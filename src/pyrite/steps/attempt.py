"""One step: run under its lock and published, with what a full disk makes of it in words."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io.copies import local_place, urls_named
from pyrite.steps.lease import LeaseLost
from pyrite.steps.step import Context, Source, Step
from pyrite.steps.store import Store

REPORT_EVERY = 0.3
"""Seconds between two reports of a step to another process, at least."""
LITTLE_ROOM = 2**26
"""Bytes free below which a writer that broke off is taken to have met the end of the disk."""


def run_one(
    step: Step,
    store: Store,
    deadline: float | None,
    report_progress: Any,
    refresh: Collection[str] = (),
    *,
    weights: bool = True,
) -> float:
    """Run one step under its lock and publish it; the seconds it took (0 if another process had just finished it). Where only its
    droppable files are gone, it is run again if these `weights` are wanted."""
    try:
        with urls_named():
            return attempt_one(step, store, deadline, report_progress, refresh, weights=weights)
    except Exception as error:
        if is_disk_full(error, store.root):
            problem = f"The disk is full; the step '{step.label}' was not stored."
            raise UserError(
                problem, f"{store.root}: {error}", "free space (pyrite store gc) and run the same again"
            ) from error
        raise


def attempt_one(
    step: Step,
    store: Store,
    deadline: float | None,
    report_progress: Any,
    refresh: Collection[str],
    *,
    weights: bool = True,
) -> float:
    """Runs one step under its lock, with errors as they come; the seconds it took. Where the lock was lost meanwhile, it waits
    for whoever has it."""
    while True:
        with contextlib.suppress(LeaseLost), store.lock(step.key):
            if store.has(step, weights=weights) and not refresh:
                return 0.0
            return run_locked(step, store, deadline, report_progress, refresh)


def run_locked(
    step: Step, store: Store, deadline: float | None, report_progress: Any, refresh: Collection[str]
) -> float:
    """Runs one step whose lock is held, with all that it reads; the seconds it took."""
    for parent in step.parents():  # another run that shares the store may have dropped weights that this one needs
        while not store.fetch(parent):
            attempt_one(parent, store, deadline, report_progress, ())
    out, checkpoint = store.attempt(step, anew=step.kind.name in refresh)
    inputs = {
        name: local_place(source.path) if isinstance(source, Source) else store.path(source.key)
        for name, source in step.inputs.items()
    }
    context = Context(
        config=step.config,
        inputs=inputs,
        out=out,
        checkpoint=checkpoint,
        report_progress=lambda finished, total, unit: report_progress(step.key, finished, total, unit),
        expired=lambda: deadline is not None and time.time() > deadline,
        cpus=step.cpus,
    )
    started = time.monotonic()
    step.kind.run(context)
    seconds = time.monotonic() - started
    store.publish(step, out, seconds)
    return seconds


def sparse_reports(send: Callable[[tuple[str, float, float, str]], Any]) -> Callable[[str, float, float, str], None]:
    """What a step reports its progress to where that is another process: few of its reports are sent there."""
    last = 0.0

    def report_progress(key: str, finished: float, total: float, unit: str) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY:
            last = time.monotonic()
            send((key, finished, total, unit))

    return report_progress


def set_threads(threads: int) -> None:
    """Use so many CPU threads in this process; 0 leaves the libraries' own choice."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)


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
