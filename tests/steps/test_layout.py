"""Steps on N workers: the order in which they can begin, how long a run takes by hand, and a run of real processes beside it."""

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyrite.steps import Context, Cost, Progress, RunOptions, Step, StepType, Store, closure, run_steps
from pyrite.steps.engine import run_side_by_side
from pyrite.steps.layout import critical_path, list_schedule
from pyrite.steps.ready import ReadyQueue


def sleep(context: Context) -> None:
    time.sleep(context.config["seconds"])
    (context.out / "number.txt").write_text(str(context.config["number"]))


SLEEP = StepType("sleep", 1, sleep)


def step(name: str, seconds: float, *before: Step) -> Step:
    config = {"number": name, "seconds": seconds}
    inputs = {f"in{at}": parent for at, parent in enumerate(before)}
    return Step(SLEEP, config, inputs, label=name, cost=Cost(seconds=seconds))


def seconds_of(steps: list[Step]) -> dict[str, float]:
    return {step.key: step.cost.seconds for step in steps}


def spans_of(steps: list[Step], workers: int | None) -> dict[str, tuple[float, float]]:
    schedule = list_schedule(steps, seconds_of(steps), workers)
    return {step.label: schedule.spans[step.key] for step in steps}


class VirtualEngine:
    """Steps that take what they are expected to, by a clock of their own."""

    def __init__(self, workers: int) -> None:
        self.room, self.now = workers, 0.0
        self.running: list[tuple[float, int, Step]] = []
        self.spans: dict[str, tuple[float, float]] = {}

    def submit(self, step: Step) -> str:
        end = self.now + step.cost.seconds
        self.spans[step.key] = (self.now, end)
        heapq.heappush(self.running, (end, len(self.spans), step))
        return step.key

    def wait(self, tasks: Iterable[Any]) -> list[str]:
        self.now = self.running[0][0]
        ended = []
        while self.running and self.running[0][0] == self.now:
            ended.append(heapq.heappop(self.running)[2].key)
        return ended

    def seconds(self, task: str) -> float:
        begin, end = self.spans[task]
        return end - begin

    def reports(self) -> Iterator[Any]:
        return iter(())

    def kill(self) -> None: ...

    def close(self) -> None: ...


def random_graph(count: int, seed: int) -> list[Step]:
    rng = np.random.default_rng(seed)
    steps: list[Step] = []
    for number in range(count):
        before: Sequence[int] = (
            rng.choice(len(steps), size=min(len(steps), int(rng.integers(0, 4))), replace=False).tolist()
            if steps
            else []
        )
        steps.append(step(str(number), float(rng.integers(1, 30)), *(steps[at] for at in before)))
    return steps


def test_steps_are_ready_once_their_inputs_are_finished() -> None:
    first, second = step("first", 1), step("second", 1)
    twice = Step(SLEEP, {"number": "twice", "seconds": 1}, {"a": first, "b": first}, label="twice")
    last = step("last", 1, first, second)
    queue = ReadyQueue([first, second, twice, last])
    assert queue.take(1) == [first]
    assert queue.take(9) == [second]
    assert queue.take(9) == []
    queue.finish(second)
    assert queue.take(9) == []
    queue.finish(first)  # one of them reads it twice
    assert queue.take(9) == [twice, last]
    assert queue.waiting == 0


def test_inputs_that_are_not_among_the_steps_are_finished() -> None:
    stored = step("stored", 1)
    assert [found.label for found in ReadyQueue([step("next", 1, stored)]).take(1)] == ["next"]


def test_what_became_ready_first_waits_for_what_stands_before_it_in_the_plan() -> None:
    """One worker is free at 4: `early` became ready at 0, `late` only now; the plan has `late` first."""
    start = step("start", 4)
    late, early = step("late", 1, start), step("early", 1)
    assert spans_of([start, late, early], 1) == {"start": (0, 4), "late": (4, 5), "early": (5, 6)}


def test_a_run_by_hand() -> None:
    """Two trainings of 4 and 6 after a draw of 1, an answer of 3 to each, on one, two and three workers.

    One: 1 + 4 + 6 + 3 + 3 = 17. Two: draw 0-1, trainings 1-5 and 1-7, the first answer 5-8, the second 7-10. A third worker
    has nothing to do. The longest chain is draw, second training, second answer: 10.
    """
    draw = step("draw", 1)
    short, long = step("short", 4, draw), step("long", 6, draw)
    answers = [step("answer short", 3, short), step("answer long", 3, long)]
    steps = [draw, short, long, *answers]
    seconds = seconds_of(steps)
    assert list_schedule(steps, seconds, 1).seconds == 17
    on_two = spans_of(steps, 2)
    assert on_two == {"draw": (0, 1), "short": (1, 5), "long": (1, 7), "answer short": (5, 8), "answer long": (7, 10)}
    assert list_schedule(steps, seconds, 3).seconds == 10
    unlimited = list_schedule(steps, seconds, None)
    assert (unlimited.seconds, unlimited.width) == (10, 2)
    assert [found.label for found in critical_path(steps, seconds)] == ["draw", "long", "answer long"]


def test_the_known_anomaly_of_list_scheduling() -> None:
    """Graham (1969), figure 3: nine jobs on three machines end at 12; on four machines they end at 15."""
    t1, t2, t3, t4 = step("1", 3), step("2", 2), step("3", 2), step("4", 2)
    rest = [step(str(number), 4, t4) for number in (5, 6, 7, 8)]
    jobs = [t1, t2, t3, t4, *rest, step("9", 9, t1)]
    seconds = seconds_of(jobs)
    assert list_schedule(jobs, seconds, 3).seconds == 12
    assert list_schedule(jobs, seconds, 4).seconds == 15


def test_no_steps() -> None:
    schedule = list_schedule([], {}, 4)
    assert (schedule.seconds, schedule.width, critical_path([], {})) == (0.0, 0, [])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("workers", [1, 3, 8])
def test_engines_are_handed_steps_in_this_order(seed: int, workers: int) -> None:
    steps = random_graph(60, seed)
    engine, progress = VirtualEngine(workers), Progress(quiet=True)
    progress.plan(steps, 0, workers)
    run_side_by_side(steps, engine, None, progress, progress.finish)
    schedule = list_schedule(steps, seconds_of(steps), workers)
    assert schedule.spans == engine.spans
    assert schedule.width <= workers
    path = sum(found.cost.seconds for found in critical_path(steps, seconds_of(steps)))
    work = sum(found.cost.seconds for found in steps)
    assert max(path, work / workers) <= schedule.seconds <= path + work / workers  # Graham's bound
    assert list_schedule(steps, seconds_of(steps), None).seconds == path


def test_a_large_graph_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop asks each step for its inputs a few times, however many steps there are, and nobody asks for a forecast that is
    not shown."""
    root = step("root", 1)
    cells = [step(f"train {at}", 1 + at % 7, root) for at in range(1000)]
    steps = closure([step(f"answer {at}", 1, cell) for at, cell in enumerate(cells)])
    calls = {"parents": 0, "forecasts": 0}
    parents, seconds_left = Step.parents, Progress.time_left

    def counted_parents(self: Step) -> Iterator[Step]:
        calls["parents"] += 1
        return parents(self)

    def counted_forecast(self: Progress) -> str:
        calls["forecasts"] += 1
        return seconds_left(self)

    progress = Progress(quiet=True)
    progress.plan(steps, 0, 16)
    monkeypatch.setattr(Step, "parents", counted_parents)
    monkeypatch.setattr(Progress, "time_left", counted_forecast)
    run_side_by_side(steps, VirtualEngine(16), None, progress, progress.finish)
    assert progress.done == len(steps)
    assert calls["parents"] <= 3 * len(steps)
    assert calls["forecasts"] <= 2


def test_forecasts_take_a_small_part_of_the_time() -> None:
    """A clock that moves by 10 ms a step: a forecast is made anew each second, and said to be less by what has passed."""
    clock = [0.0]
    progress = Progress(clock=lambda: clock[0])
    steps = [step(str(at), 10) for at in range(300)]
    made = 0
    progress.plan(steps, 0, 1)
    seconds_left = progress.forecast.seconds_left

    def counted(now: float) -> float:
        nonlocal made
        made += 1
        return seconds_left(now)

    progress.forecast.seconds_left = counted  # type: ignore[method-assign]
    progress.guess = None
    for found in steps:
        clock[0] += 0.01
        progress.start(found)
        progress.finish(found, 10.0)
        progress.time_left()
    assert 1 <= made <= 4
    progress.guess, progress.next_guess = (clock[0], 300.0), clock[0] + 1e9
    clock[0] += 120
    assert progress.time_left() == "3 min"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_takes_as_long_as_its_layout(workers: int, tmp_path: Path) -> None:
    """Sleeping steps on real processes: the layout of what each step really took, within what placing them takes."""
    start = step("start", 0.3)
    trained = [step(f"train {at}", 0.3 + 0.1 * (at % 3), start) for at in range(6)]
    answers = [step(f"answer {at}", 0.2, parent) for at, parent in enumerate(trained)]
    store, options = Store(tmp_path), RunOptions(workers=workers, threads=1)
    run_steps([step(f"wake {at}", 1.0) for at in range(workers)], store, options, Progress(quiet=True))
    begun = time.monotonic()
    run_steps([step("import", 0.0)], store, options, Progress(quiet=True))
    starting = time.monotonic() - begun  # a process that imports the libraries
    begun = time.monotonic()
    run_steps(answers, store, options, Progress(quiet=True))
    took = time.monotonic() - begun
    steps = closure(answers)
    laid_out = list_schedule(
        steps, {found.key: store.manifest(found.key)["seconds"] for found in steps}, workers
    ).seconds
    assert laid_out == pytest.approx(4.0 / workers, rel=0.35)
    assert laid_out <= took + 0.05
    assert took < 1.6 * (laid_out + starting) + 1.0
