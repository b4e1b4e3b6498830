"""What does a cluster cost and gain? A run's steps on Ray with 1, 2 and 4 CPUs beside the same steps in this process.

    python benchmarks/scale.py [--quick] [--json]

The steps sleep: what is measured is how they are placed, started, watched and published, not how fast this machine computes, so
four of them run beside each other also where there are fewer cores. Every round runs each arm once, on a store of its own. The
clusters are started by each run; that is timed apart, on a graph of one step, and left out of the ratios.
"""

import argparse
import functools
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import timing
from pyrite.steps import Context, Progress, RunOptions, Step, StepType, Store, closure, run_steps
from timing import say

WORKERS = (1, 2, 4)


@dataclass(frozen=True)
class Plan:
    """How many steps read how many others, and how long each sleeps."""

    cells: int = 48
    seconds: float = 0.5
    short: int = 200
    rounds: int = 3


QUICK = Plan(cells=24, seconds=0.25, short=60, rounds=1)


def sleep(context: Context) -> None:
    """A step that takes its time and writes a line."""
    time.sleep(context.config["seconds"])
    (context.out / "number.txt").write_text(str(context.config["number"]))


SLEEP = StepType("sleep", 1, sleep)


def cells(count: int, seconds: float) -> list[Step]:
    """Cells of a study: a common start, a training each, and an answer that stands on it."""
    start = Step(SLEEP, {"number": -1, "seconds": seconds}, label="start")
    trained = [Step(SLEEP, {"number": at, "seconds": seconds}, {"start": start}, label="train") for at in range(count)]
    return [Step(SLEEP, {"number": -2, "seconds": seconds}, {"model": step}, label="answer") for step in trained]


def run_on(engine: str, steps: list[Step]) -> float:
    """Seconds of a run on an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run_steps(steps, Store(Path(folder)), RunOptions(engine=engine), Progress(quiet=True))
        return time.perf_counter() - began


@contextmanager
def cluster(workers: int) -> Iterator[None]:
    """Ray with so many CPUs, by name; its processes wait, so that none is started within what is timed."""
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    ray.init(address="local", num_cpus=workers, object_store_memory=2**27, **quiet)
    try:
        run_on("ray", cells(2 * workers, 0.2))
        yield
    finally:
        ray.shutdown()


def on_ray(workers: int, steps: list[Step]) -> float:
    """Seconds of a run on a cluster of so many CPUs that is up."""
    with cluster(workers):
        return run_on("ray", steps)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter steps, one round")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    given = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        timing.write_out({"skipped": "Ray is not installed: pip install 'pyrite[ray]'"}, [], as_json=given.json)
        return
    plan = QUICK if given.quick else Plan()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])  # workers find these steps
    where = timing.machine()
    graph, short = cells(plan.cells, plan.seconds), cells(plan.short, 0.0)
    arms = {"local": functools.partial(run_on, "local", graph)}
    arms |= {f"ray, {count} CPUs": functools.partial(on_ray, count, graph) for count in WORKERS}
    arms |= {"local, no work": functools.partial(run_on, "local", short)}
    arms |= {"ray, 1 CPU, no work": functools.partial(on_ray, 1, short)}
    say(f"{len(closure(graph))} steps of {plan.seconds} s, {len(closure(short))} of none")
    timed = timing.alternate(
        arms, rounds=plan.rounds, warm_up=dict.fromkeys(arms, functools.partial(run_on, "local", cells(2, 0.0)))
    )
    spent = {name: arm.results for name, arm in timed.items()}
    local, one, two, four, idle_local, idle_ray = spent.values()
    overhead = statistics.median(
        1000 * (there - here) / len(closure(short)) for there, here in zip(idle_ray, idle_local, strict=True)
    )
    ratios = {
        f"ratio_{count}_workers": timing.ratio(local, run) for count, run in zip(WORKERS, (one, two, four), strict=True)
    }
    found = {
        **{name: ratio["median"] for name, ratio in ratios.items()},
        "overhead_ms_per_step": overhead,
        "local_ms_per_step": statistics.median(1000 * seconds / len(closure(short)) for seconds in idle_local),
        "steps": len(closure(graph)),
        "seconds": spent,
        "machine": where,
    }
    lines = [f"{name}: {timing.shown(ratio)} times as fast as in this process" for name, ratio in ratios.items()]
    lines.append(
        f"a step that does nothing: {overhead:.1f} ms more on Ray than the {found['local_ms_per_step']:.1f} ms here"
    )
    timing.write_out(found, lines, as_json=given.json)


if __name__ == "__main__":
    from scale import main as run_main  # so that workers find the steps under the module's name

    run_main()
