"""What would 1,000 cells and 10^10 audited rows ask of a cluster's driver, store and merging? Measured small, counted large.

    python benchmarks/simulate_cluster.py [--quick] [--json]

Nothing here runs on a cluster. *Measured* on this machine: the scheduling loop (`run_side_by_side`) over 10,000 steps on an
engine whose clock is virtual, so that only the loop takes time; publishing steps that do nothing; planning a study of 1,000
cells; reading and merging real partial results of audits; all in seconds of the processor, so that other work on the machine counts little. *Counted*: bytes that each worker of that study would read and write,
by its plan and its list schedule. *Extrapolated*: merging at 10^10 rows, by a fit of the measured merges to the number of
partial results and of rows. Keys that begin with `extrapolated_` or `planned_` were not measured.
"""

import heapq
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import timing
from pyrite.steps import Context, Cost, Progress, RunOptions, Step, StepType, Store, closure, run_steps
from pyrite.steps.engine import run_side_by_side
from pyrite.steps.forecast import Forecast
from timing import say

WORKERS = (16, 128)
STUDY, CELLS_OF_ONE_SEED, SPEED = "zhang_pavlick_2025", 54, "h100@0.35"
"""A bundled study of a 7B model, and how fast its steps are taken to be: an estimate."""
FLAWS = ("format", "duplicates", "diversity")
ROWS, ROWS_IN_PART = 1e10, 1e6
"""Rows of the audit that is extrapolated to, and rows that one of its steps reads."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured: steps of the two graphs, steps that are published, cells, rows of a part, parts, rounds."""

    steps: tuple[int, int] = (2500, 10_000)
    published: int = 300
    cells: int = 1000
    rows: tuple[int, int] = (2000, 8000)
    parts: tuple[int, ...] = (2, 4, 8)
    rounds: int = 3


QUICK = Sizes(steps=(500, 2000), published=40, cells=108, rows=(200, 400), parts=(1, 2), rounds=1)


# ===== the scheduling loop ============================================================================================


class VirtualEngine:
    """Workers whose steps take what they are expected to, by a clock that jumps from one end to the next."""

    def __init__(self, workers: int) -> None:
        self.room, self.now = workers, 0.0
        self.running: list[tuple[float, int, Step]] = []
        self.steps: dict[int, Step] = {}
        self.numbers = count()

    def submit(self, step: Step) -> int:
        """Begin a step."""
        number = next(self.numbers)
        heapq.heappush(self.running, (self.now + step.cost.seconds, number, step))
        self.steps[number] = step
        return number

    def wait(self, tasks: Iterable[int]) -> list[int]:
        """Let time pass to the next end."""
        self.now = self.running[0][0]
        ended = []
        while self.running and self.running[0][0] == self.now:
            ended.append(heapq.heappop(self.running)[1])
        return ended

    def seconds(self, task: int) -> float:
        """What a step took."""
        return self.steps.pop(task).cost.seconds

    def reports(self) -> Iterator[Any]:
        """Nothing is said."""
        return iter(())

    def kill(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is held."""


def nothing(context: Context) -> None:
    """A step that writes a line."""
    (context.out / "number.txt").write_text(str(context.config["number"]))


NOTHING = StepType("nothing", 1, nothing)


def study_graph(steps: int) -> list[Step]:
    """A grid's graph of about so many steps: for every seed a start, from it 20 cells of a draw, a training and three answers;
    minutes long, no two alike."""
    rng = np.random.default_rng(0)
    numbers = count()

    def step(label: str, seconds: float, *before: Step) -> Step:
        inputs = {f"in{at}": parent for at, parent in enumerate(before)}
        length = float(seconds * rng.uniform(0.5, 1.5))
        return Step(NOTHING, {"number": next(numbers)}, inputs, label=label, cost=Cost(seconds=length))

    rows, targets = step("rows", 5), []
    for seed in range(round(steps / 101)):
        start = step(f"start {seed}", 600, rows)
        for _ in range(20):
            trained = step("train", 300, start, step("draw", 1, rows))
            targets += [step("answer", 60, trained) for _ in range(3)]
    return closure(targets)


def loop_seconds(steps: Sequence[Step], workers: int) -> float:
    """How long the scheduling loop itself takes over a graph."""
    engine = VirtualEngine(workers)
    progress = Progress(quiet=True, clock=lambda: engine.now)
    progress.plan(list(steps), 0, workers)
    began = time.process_time()
    run_side_by_side(list(steps), engine, None, progress, progress.finish)
    return time.process_time() - began


def measure_loop(sizes: Sizes) -> tuple[dict[str, float], list[str]]:
    """Overhead of the loop for each step, and how it grows with the graph."""
    small, large = (study_graph(steps) for steps in sizes.steps)
    each: dict[str, float] = {}
    for workers in WORKERS:
        pairs = []
        for _ in range(sizes.rounds):
            pairs.append((loop_seconds(small, workers) / len(small), loop_seconds(large, workers) / len(large)))
        each[f"overhead_ms_per_step_{workers}_workers"] = 1000 * statistics.median(pair[1] for pair in pairs)
        each[f"ratio_loop_growth_{workers}_workers"] = statistics.median(pair[1] / pair[0] for pair in pairs)
    forecast = Forecast(large, WORKERS[-1])
    began = time.process_time()
    forecast.seconds_left(0.0)
    each["forecast_ms"] = 1000 * (time.process_time() - began)
    lines = [
        f"measured: a forecast of {len(large):,} steps takes {each['forecast_ms']:.0f} ms (shown, it takes 2 % of the time at most)",
        *(
            f"measured: the loop over {len(large):,} steps, {workers} workers: "
            f"{each[f'overhead_ms_per_step_{workers}_workers']:.3f} ms a step, "
            f"{each[f'ratio_loop_growth_{workers}_workers']:.2f} times that of {len(small):,} steps"
            for workers in WORKERS
        ),
    ]
    return each, lines


def measure_publishing(sizes: Sizes) -> tuple[dict[str, float], list[str]]:
    """What a step costs that does nothing: lock, manifest, flush, rename, one after the other in this process."""
    steps = [Step(NOTHING, {"number": -1 - at}) for at in range(sizes.published)]
    with tempfile.TemporaryDirectory() as folder:
        run_steps(steps[:3], Store(Path(folder)), RunOptions(), Progress(quiet=True))
        began = time.process_time()
        run_steps(steps, Store(Path(folder)), RunOptions(), Progress(quiet=True))
        each = 1000 * (time.process_time() - began) / (len(steps) - 3)
    return {"overhead_ms_published": each}, [f"measured: a step that does nothing is published in {each:.1f} ms"]


# ===== the store ======================================================================================================


def plan_traffic(sizes: Sizes) -> tuple[dict[str, float], list[str]]:
    """Plan a study of many cells (timed), and count what its workers would read from the store and write into it."""
    from pyrite.models.hardware import Compute
    from pyrite.study.load import load_spec
    from pyrite.study.plan import make_plan
    from pyrite.study.plan_price import PlanPrice, PriceOptions
    from pyrite.study.plan_speed import speed_of

    spec, _ = load_spec(STUDY)
    spec = spec.model_copy(update={"seeds": tuple(range(round(sizes.cells / CELLS_OF_ONE_SEED)))})
    began = time.process_time()
    plan = make_plan(spec, Path("nowhere"), Compute("cuda", "bf16-mixed"), only_plan=True)
    steps = plan.steps
    planning = time.process_time() - began
    cells = sum(not cell.is_start for cell in plan.cells)
    store = Store(Path("nowhere"))
    price = PlanPrice(plan, steps, store, speed_of(SPEED, Compute("cuda", "bf16-mixed"), steps, store), PriceOptions())
    found = {"cells": cells, "steps": len(steps), "planning_seconds": planning}
    lines = [f"measured: {cells:,} cells of {STUDY} are {len(steps):,} steps, planned in {planning:.1f} s"]
    for workers in WORKERS:
        schedule = price.laid_out(workers)
        flows = traffic(steps, schedule.spans, plan.model_bytes, workers)
        found |= {f"planned_{name}_{workers}_workers": value for name, value in flows.items()}
        found[f"planned_hours_{workers}_workers"] = schedule.seconds / 3600
        lines.append(
            f"by its plan, {workers} workers ({SPEED}, an estimate): {schedule.seconds / 3600:.0f} h; each worker reads "
            f"{flows['gb_read']:.0f} GB ({flows['gb_read_once']:.0f} GB if it keeps what it has read), writes "
            f"{flows['gb_written']:.0f} GB; together {flows['mb_per_second']:.0f} MB/s on average"
        )
    return found, lines


def traffic(
    steps: Sequence[Step], spans: dict[str, tuple[float, float]], models: dict[str, int], workers: int
) -> dict[str, float]:
    """Mean bytes that a worker reads and writes (GB): by inputs and outputs as planned, on workers that take the next step
    that begins. `gb_read_once`: with a cache on each worker, of any size."""
    free = [(0.0, number) for number in range(workers)]
    heapq.heapify(free)
    seen: list[set[str]] = [set() for _ in range(workers)]
    read = read_once = written = 0
    for step in sorted(steps, key=lambda step: spans[step.key][0]):
        number = heapq.heappop(free)[1]
        heapq.heappush(free, (spans[step.key][1], number))
        for source in step.inputs.values():
            name = source.key if isinstance(source, Step) else source.identity
            size = out_bytes(source) if isinstance(source, Step) else models.get(name, 0)
            read += size
            read_once += 0 if name in seen[number] else size
            seen[number].add(name)
        written += out_bytes(step)
    seconds = max(end for _, end in spans.values())
    per_worker = {"gb_read": read, "gb_read_once": read_once, "gb_written": written}
    rates = {name: total / workers / 1e9 for name, total in per_worker.items()}
    return rates | {"mb_per_second": (read + written) / seconds / 1e6}


def out_bytes(step: Step) -> int:
    """What a step publishes, by its plan."""
    return step.cost.bytes + step.cost.weights + step.cost.rows


# ===== merging ========================================================================================================


def measure_merging(sizes: Sizes) -> tuple[dict[str, Any], list[str]]:
    """Read files of two sizes, merge 2, 4, 8 of their partial results, and fit seconds = a · parts + b · rows."""
    from audit import Edits, real_rows
    from pyrite.audit.config import AuditConfig
    from pyrite.audit.plan import plan

    edits, about = real_rows(None)[0], "our own grammar"
    source = Edits(edits)
    most = max(sizes.parts)
    points: dict[str, list[tuple[int, int, float]]] = {flaw: [] for flaw in FLAWS}
    reading: list[float] = []
    sizes_on_disk: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        for rows in sizes.rows:
            files = []
            for part in range(most):
                file = Path(folder) / f"{rows}-{part}.jsonl"
                file.write_bytes(b"".join(source.lines(rows, seed=1000 * part + rows)))
                files.append(str(file))
            say(f"  reading {most} files of {rows:,} rows ({about})")
            planned = plan(AuditConfig(data=tuple(files), workers=1, quiet=True), list(FLAWS))
            streams = list(planned.streams.values())
            for step in streams:
                began = time.process_time()
                run_steps([step], store, RunOptions(), Progress(quiet=True))
                reading.append(rows / (time.process_time() - began))
            folders = [store.path(step.key) for step in streams]
            sizes_on_disk += [store.read_json(step, "counts.json")["bytes"] / rows for step in streams]
            for flaw in FLAWS:
                for parts in sizes.parts:
                    seconds = min(merge_seconds(flaw, planned.totals, folders[:parts]) for _ in range(sizes.rounds))
                    points[flaw].append((parts, parts * rows, seconds))
    return fitted(points, statistics.median(reading), statistics.median(sizes_on_disk))


def merge_seconds(flaw: str, totals: Step, folders: Sequence[Path]) -> float:
    """How long the audit's own merge of these partial results takes."""
    from pyrite.audit.extras import extras_of
    from pyrite.audit.flaws.registry import flaw_of
    from pyrite.audit.gather import parts_of, row_offsets

    merge = flaw_of(flaw, totals.config).merge
    assert merge is not None
    pairs = [
        (part, offset)
        for folder, offset in zip(folders, row_offsets(folders), strict=True)
        for part in parts_of(folder, flaw)
    ]
    with tempfile.TemporaryDirectory() as out:
        began = time.process_time()
        merge(
            [part for part, _ in pairs], Path(out), extras_of(totals.config, {}), reference=[],
            offsets=[offset for _, offset in pairs],
        )  # fmt: skip
        return time.process_time() - began


def fitted(
    points: dict[str, list[tuple[int, int, float]]], rows_per_second: float, bytes_per_row: float
) -> tuple[dict[str, Any], list[str]]:
    """The measured merges, the fit, and what it says of 10^10 rows."""
    found: dict[str, Any] = {
        "rows_per_second_read": rows_per_second,
        "sketch_bytes_per_row": bytes_per_row,
        "merges": points,
    }
    found["extrapolated_sketch_tb"] = bytes_per_row * ROWS / 1e12
    found["extrapolated_core_hours_reading"] = ROWS / rows_per_second / 3600
    parts = ROWS / ROWS_IN_PART
    lines = [
        f"measured: one core reads {rows_per_second:,.0f} rows/s ({', '.join(FLAWS)}); partial results of {bytes_per_row:,.0f} bytes a row",
        f"extrapolated: 10^10 rows: {found['extrapolated_core_hours_reading']:,.0f} core hours of reading, "
        f"{found['extrapolated_sketch_tb']:.1f} TB of partial results in {parts:,.0f} parts",
    ]
    for flaw, measured in points.items():
        matrix = np.array([[parts_of_run, rows] for parts_of_run, rows, _ in measured], dtype=float)
        seconds = np.array([seconds for *_, seconds in measured])
        (per_part, per_row), *_ = np.linalg.lstsq(matrix / matrix.max(0), seconds, rcond=None)
        per_part, per_row = max(0.0, per_part / matrix[:, 0].max()), max(0.0, per_row / matrix[:, 1].max())
        hours = (per_part * parts + per_row * ROWS) / 3600
        found |= {f"merge_ms_per_part_{flaw}": 1000 * per_part, f"merge_us_per_row_{flaw}": 1e6 * per_row}
        found[f"extrapolated_merge_hours_{flaw}"] = hours
        lines.append(
            f"measured: merging {flaw}: {1000 * per_part:.2f} ms a part and {1e6 * per_row:.2f} µs a row (up to "
            f"{max(rows for _, rows, _ in measured):,} rows); extrapolated to 10^10 rows: {hours:,.1f} h in one step"
        )
    return found, lines


def main() -> None:
    """Measure and print."""
    parser = timing.parser(__doc__, quick="smaller graphs and files, one round")
    given = parser.parse_args()
    sizes = QUICK if given.quick else Sizes()
    found: dict[str, Any] = {"machine": timing.machine()}
    lines: list[str] = []
    for part in (measure_loop, measure_publishing, plan_traffic, measure_merging):
        say(f"{part.__name__}")
        more, words = part(sizes)
        found |= more
        lines += words
    timing.write_out(found, lines, as_json=given.json)


if __name__ == "__main__":
    main()
