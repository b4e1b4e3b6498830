"""What does a cluster cost and gain? A run's steps on Ray beside the same steps in this process; and an audit of many rows.

    python benchmarks/scale.py [--quick] [--json] [--only steps|audit] [--rows N] [--workers N ...] [--peer-python PATH]

The steps sleep: what is measured is how they are placed, started, watched and published, not how fast this machine computes, so
four of them run beside each other also where there are fewer cores. Every round runs each arm once, on a store of its own. The
clusters are started before the clock.

The audit (`scale_audit.py`) reads rows of `audit_rows.py` with the flaws that read every row, on this machine and on Ray with as many
workers, and by DataTrove's Ray executor where an environment has it (`make bench-env`). More workers than cores gain nothing there.
"""

import functools
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import audit
import audit_rows
import data
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
    rows: int = 120_000
    workers: tuple[int, ...] = (1, 2)


QUICK = Plan(cells=24, seconds=0.25, short=60, rounds=1, rows=40_000, workers=(2,))


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


Findings = tuple[dict[str, Any], list[str]]
"""What was found by name, and in lines for a reader."""


def of_steps(plan: Plan) -> Findings:
    """What Ray costs and gains in steps that sleep."""
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
    }
    lines = [f"{name}: {timing.shown(ratio)} times as fast as in this process" for name, ratio in ratios.items()]
    lines.append(
        f"a step that does nothing: {overhead:.1f} ms more on Ray than the {found['local_ms_per_step']:.1f} ms here"
    )
    return found, lines


def in_cluster(workers: int, call: Callable[[], Any]) -> Any:
    """What a call returns on a cluster of so many CPUs."""
    with cluster(workers):
        return call()


def of_audit(plan: Plan, peer_python: Path) -> Findings:
    """Rows per second and memory of an audit here, on Ray, and of DataTrove on Ray."""
    import scale_audit
    from pyrite.models.packaged import folder_of

    with tempfile.TemporaryDirectory() as folder:
        path = audit_rows.write(Path(folder) / "rows.jsonl", plan.rows)
        count, tokenizer = plan.workers[-1], folder_of(data.MODEL) / "tokenizer.json"
        lacking = scale_audit.why_no_peer(peer_python)
        peer = None if lacking else functools.partial(scale_audit.by_peer, path, count, peer_python, tokenizer)
        arms = scale_audit.arms(path, in_cluster, plan.workers, peer)
        say(f"{plan.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB")
        timed = timing.alternate(arms, rounds=plan.rounds, warm_up=dict.fromkeys(arms, lambda: None))
    seconds = {name: [result["seconds"] for result in arm.results] for name, arm in timed.items()}
    ratios = {
        f"ratio_audit_ray_{at}": timing.ratio(seconds[f"local_{at}"], seconds[f"ray_{at}"]) for at in plan.workers
    }
    ratios["ratio_audit_ray"] = ratios[f"ratio_audit_ray_{count}"]
    if peer:
        ratios["ratio_audit_peer"] = timing.ratio(seconds["peer"], seconds[f"ray_{count}"])
    rates = {name: plan.rows / statistics.median(each) for name, each in seconds.items()}
    found = {
        "ratio_audit_peer": None,
        **{name: ratio["median"] for name, ratio in ratios.items()},
        "audit_rows": plan.rows,
        "audit_rows_per_s": rates,
        "audit_runs": {name: arm.results for name, arm in timed.items()},
        "audit_no_peer": lacking,
    }
    lines = [f"{name}: {timing.shown(ratio)}" for name, ratio in ratios.items()]
    lines += [f"audit, {name}: {rate:,.0f} rows/s{memory_of(timed[name].last)}" for name, rate in rates.items()]
    return found, [*lines, *([f"no peer: {lacking}"] if lacking else [])]


def memory_of(result: dict[str, Any]) -> str:
    """What an arm of ours held, in words."""
    if "memory_mb" not in result:
        return ""
    return f", {result['memory_mb']:,.0f} MB in all processes, {result['largest_mb']:,.0f} MB in the largest"


def main() -> None:
    """Measure and print."""
    parser = timing.parser(__doc__, quick="fewer and shorter steps, fewer rows, one round")
    parser.add_argument("--only", choices=("steps", "audit"), help="only one of the two parts")
    parser.add_argument("--rows", type=int, help="rows of the audit")
    parser.add_argument("--rounds", type=int, help="rounds in which the arms take turns")
    parser.add_argument("--workers", type=int, nargs="+", help="numbers of workers of the audit")
    parser.add_argument(
        "--peer-python", type=Path, default=audit.PEER_PYTHON, help="a Python that has DataTrove and Ray"
    )
    given = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        timing.write_out({"skipped": "Ray is not installed: pip install 'pyrite[ray]'"}, [], as_json=given.json)
        return
    plan = QUICK if given.quick else Plan()
    changed = {"rows": given.rows, "rounds": given.rounds, "workers": given.workers and tuple(given.workers)}
    plan = replace(plan, **{name: value for name, value in changed.items() if value})
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])  # workers find these steps
    os.environ.setdefault("RAY_worker_niceness", "0")  # else what else runs here comes first, and only on Ray
    found: dict[str, Any] = {"machine": timing.machine()}
    lines: list[str] = []
    for name, part in (("steps", of_steps), ("audit", functools.partial(of_audit, peer_python=given.peer_python))):
        if given.only in (None, name):
            part_found, part_lines = part(plan)
            found |= part_found
            lines += part_lines
    timing.write_out(found, lines, as_json=given.json)


if __name__ == "__main__":
    from scale import main as run_main  # so that workers find the steps under the module's name

    run_main()
