"""Run what is missing of a plan, each step once, in this process or in several.

A step runs only if a target needs it: what is already in the store is left alone, and so is everything beneath it.
Steps are pure functions of their inputs, so the order among independent steps changes nothing but the time.
"""

import contextlib
import time
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pyrite.errors import OutOfTime
from pyrite.steps.attempt import run_one, set_threads
from pyrite.steps.demand import needs_gpu
from pyrite.steps.engine import Engine, is_past, run_side_by_side
from pyrite.steps.progress import Progress
from pyrite.steps.step import Step, closure
from pyrite.steps.store import Store, made_with

LOCAL = "local"
Keep = Literal["predictions", "adapters", "all"]
"""What stays of a trained model once all that reads it is done: nothing, its adapter, everything."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a plan."""

    workers: int = 1
    engine: str = LOCAL
    """`local`: processes of this machine; `ray`, `ray:ADDRESS` or `ray://HOST:PORT`: tasks of a cluster."""
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
    return unfinished_steps(targets, store.survey(closure(targets)), refresh, weights=weights)


def unfinished_steps(
    targets: list[Step], finished: Mapping[str, bool], refresh: Collection[str], *, weights: bool
) -> list[Step]:
    """The same of a store that was looked at (`Store.survey`)."""
    needed: set[str] = set()

    def need(step: Step, *, weights: bool) -> None:
        if step.key in needed:
            return
        is_there = step.key in finished and (finished[step.key] or not weights)
        if is_there and not (refresh and any(s.kind.name in refresh for s in closure([step]))):
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
    surveyed = store.survey(steps)
    todo = unfinished_steps(targets, surveyed, options.refresh, weights=options.weights)
    ran = {step.key for step in todo}  # what was here before is somebody else's to keep
    warn_if_made_otherwise([step for step in steps if step.key not in ran], store)
    # What another run finishes meanwhile, and drops the weights of, is not made again; a step that still reads them does that itself.
    weights_needed = {step.key for step in todo if step.key in surveyed} | {
        step.key for step in targets if options.weights
    }
    progress.plan(todo, len(steps) - len(todo), options.workers)
    readers: dict[str, set[str]] = {step.key: set() for step in steps}
    for step in todo:
        for parent in step.parents():  # by key: a plan may name a step twice
            readers[parent.key].add(step.key)
    by_key = {step.key: step for step in steps}

    def finished(step: Step, seconds: float) -> None:
        progress.finish(step, seconds)
        for parent in step.parents():
            readers[parent.key].discard(step.key)
        for key in {step.key, *(parent.key for parent in step.parents())}:
            if key in ran and not readers[key] and options.keep != "all":
                with store.lock(key):
                    store.drop_weights(by_key[key], spare_adapters=options.keep == "adapters")

    try:
        if options.workers == 1 and options.engine == LOCAL:
            for step in todo:
                if is_past(deadline):
                    raise OutOfTime("--max-time is over")
                progress.start(step)
                if not step.kind.plain:
                    set_threads(options.threads)
                report = progress.report_progress
                finished(
                    step, run_one(step, store, deadline, report, options.refresh, weights=step.key in weights_needed)
                )
        elif todo:
            run_side_by_side(
                todo, engine_of(options, store, deadline, todo, weights_needed), deadline, progress, finished
            )
    finally:
        progress.close()
    if options.weights:
        for step in targets:
            store.fetch(step)
    return Done(len(todo), len(steps) - len(todo), time.monotonic() - started)


def for_several_runs(engine: str) -> contextlib.AbstractContextManager[None]:
    """A block in which several runs of steps use one connection to an engine, made where the first of them needs it."""
    if engine == LOCAL:
        return contextlib.nullcontext()
    from pyrite.steps.ray_engine import one_cluster

    return one_cluster()


def engine_of(
    options: RunOptions, store: Store, deadline: float | None, todo: list[Step], weights_needed: Collection[str]
) -> Engine:
    """Where the steps run beside each other."""
    if options.engine != LOCAL:
        from pyrite.steps.ray_engine import RayEngine

        return RayEngine(options.engine, options.threads, store, deadline, options.refresh, weights_needed)
    from pyrite.steps.processes import ProcessEngine, visible_gpus

    gpus = visible_gpus() if any(needs_gpu(step) for step in todo) else []
    return ProcessEngine(options.workers, options.threads, store, deadline, options.refresh, weights_needed, gpus=gpus)


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
