"""The audit's arms of `benchmarks/scale.py`: every row read and merged, on this machine and on Ray, and by DataTrove on Ray.

What is timed is the reading of all rows and the merge of what was gathered: the part of an audit that grows with the data. A
cluster is up before the clock starts. Memory is that of all processes that the arm started, and of the largest of them, less
what they share; every 0.2 seconds.
"""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

import audit
import audit_peer
from pyrite.audit.config import AuditConfig
from pyrite.audit.plan import plan, selected_flaws
from pyrite.audit.runner import StepRunner
from pyrite.audit.spans import FILE
from pyrite.steps import Store, for_several_runs

FLAWS = ("format", "tokens", "duplicates", "diversity")
"""Flaws that read every row, but for contamination, which needs an evaluation set."""


class Memory:
    """The most that the processes below this one held, together and the largest by itself, in MB."""

    def __init__(self) -> None:
        self.together = self.largest = 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self) -> None:
        """Look until it is over."""
        root = psutil.Process()
        while not self.over.wait(0.2):
            held = []
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):
                    memory = process.memory_info()
                    held.append((memory.rss - memory.shared) / 1e6)
            self.together, self.largest = max(self.together, sum(held)), max(self.largest, *held, 0.0)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block that is watched."""
        self.thread.start()
        try:
            yield
        finally:
            self.over.set()
            self.thread.join()


def read_all(path: Path, engine: str, workers: int, flaws: Sequence[str] = FLAWS) -> dict[str, Any]:
    """Read and merge all rows in an empty store: seconds of both, memory, and what was found."""
    store = Store(Path(tempfile.mkdtemp(dir=path.parent)))
    config = AuditConfig(
        data=(str(path),), only=tuple(flaws), workers=workers, engine=engine, store=store.root, quiet=True
    )
    memory, started = Memory(), time.perf_counter()
    with memory.watched():
        planned, runner = plan(config, selected_flaws(config.only)), StepRunner(config, store)
        with for_several_runs(engine):
            runner.read(planned.reading_steps())
            read = time.perf_counter()
            runner.run([step for step in planned.files.values() if step.kind is FILE])
            runner.run([planned.totals, planned.sample])
            ended = time.perf_counter()
    whole = store.read_json(planned.totals, "whole.json")["data"]
    found = {
        "seconds": ended - started,
        "reading": read - started,
        "merging": ended - read,
        "memory_mb": memory.together,
        "largest_mb": memory.largest,
        "spans": len(planned.reading_steps()),
        "near_copies": whole["duplicates"]["near"]["copies"],
        "tokens": whole["tokens"]["tokens"],
    }
    shutil.rmtree(store.root)
    return found


def by_peer(path: Path, workers: int, python: Path, tokenizer: Path) -> dict[str, Any]:
    """DataTrove on its Ray executor: tokens, statistics and near-duplicates of the same rows."""
    scratch = Path(tempfile.mkdtemp(dir=path.parent))
    shards = path.with_suffix(".shards")
    if not shards.exists():
        audit_peer.shards_of(path, workers)
    job = {"shards": str(shards), "scratch": str(scratch), "tokenizer": str(tokenizer), "workers": workers}
    job |= {"lean": False, "executor": "ray"}
    command = [str(python), str(Path(audit.HERE) / "audit_peer.py"), json.dumps(job)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(audit.HERE)
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    shutil.rmtree(scratch)
    if ended.returncode != 0:
        raise SystemExit(f"DataTrove stopped with {ended.returncode}:\n{ended.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def why_no_peer(python: Path) -> str | None:
    """Why DataTrove cannot be measured on Ray; None where it can."""
    if not python.exists():
        return f"there is no {python}: run `make bench-env`"
    tried = subprocess.run(
        [
            str(python),
            "-c",
            "import ray, spacy; from datatrove.executor import RayPipelineExecutor; from datatrove.pipeline.dedup import MinhashDedupSignature",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"{python}: {tried.stderr.strip().splitlines()[-1]}"


Arm = Callable[[], dict[str, Any]]


def arms(
    path: Path, on_ray: Callable[[int, Callable[[], Any]], Any], workers: Sequence[int], peer: Arm | None
) -> dict[str, Arm]:
    """Each number of workers, here and on Ray; `on_ray(workers, call)` calls on a cluster of so many CPUs."""
    by_name: dict[str, Arm] = {}
    for count in workers:
        by_name[f"local_{count}"] = lambda count=count: read_all(path, "local", count)  # type: ignore[misc]
        by_name[f"ray_{count}"] = lambda count=count: on_ray(count, lambda: read_all(path, "ray", count))  # type: ignore[misc]
    return by_name | ({"peer": peer} if peer else {})
