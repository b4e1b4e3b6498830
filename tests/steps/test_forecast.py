"""When will it end? Runs simulated on a clock of their own, with costs that the plan got wrong."""

import heapq
from collections.abc import Callable

import numpy as np
import pytest

from pyrite.models.hardware import threads_for
from pyrite.steps import Cost, Progress, Step, StepType
from pyrite.steps.forecast import Forecast, duration_in_words, expected


def step(kind: str, number: int, seconds: float, after: list[Step] | None = None) -> Step:
    inputs = {f"in{at}": parent for at, parent in enumerate(after or [])}
    return Step(StepType(kind, 1, lambda context: None), {"number": number}, inputs, label=f"{kind} {number}",
                cost=Cost(seconds=seconds))  # fmt: skip


def simulate(
    todo: list[Step], truth: Callable[[Step], float], workers: int, *, pace: float = 1.0, silent: tuple[str, ...] = ()
) -> tuple[list[tuple[float, float]], float]:
    """Run steps in order on workers; what the forecast says at every second, and when the run ends. Steps report how far
    they are twice a second, unless their kind is silent."""
    forecast = Forecast(todo, workers, pace=pace)
    waiting, running, finished = list(todo), [], set()
    now, forecasts = 0.0, []
    begun: dict[str, float] = {}
    while waiting or running:
        ready = [step for step in waiting if all(parent.key in finished for parent in step.parents())]
        for step in ready[: workers - len(running)]:
            waiting.remove(step)
            forecast.start(step.key, now)
            begun[step.key] = now
            heapq.heappush(running, (now + truth(step), len(begun), step))
        tick = now + 0.5
        while running and running[0][0] <= tick:
            end, _, step = heapq.heappop(running)
            forecast.finish(step.key, truth(step))
            finished.add(step.key)
            now = end
            if len(running) < workers:
                break
        else:
            now = tick
        for _, _, step in running:
            if step.kind.name not in silent:
                load = min(2.0, 0.2 * truth(step))  # a model is loaded first
                share = (now - begun[step.key] - load) / (truth(step) - load)
                if share > 0:
                    forecast.update(step.key, min(1.0, share), now)
        forecasts.append((now, forecast.seconds_left(now)))
    return forecasts, now


def at_a_minute(forecasts: list[tuple[float, float]]) -> tuple[float, float]:
    return next((now, seconds_left) for now, seconds_left in forecasts if now >= 60)


def test_unequal_steps_whose_costs_are_wrong_by_kind() -> None:
    """Trainings take 2.5 times as long as planned, samplings 0.4, answers a tenth; some steps are ten times larger."""
    rng = np.random.default_rng(0)
    wrong = {"train": 2.5, "sample": 0.4, "answer": 0.1}
    todo: list[Step] = [step("sample", 0, 200)]
    for number in range(24):
        trained = step("train", number, float(rng.choice([4, 10, 40])), [todo[0]] if number % 3 else [])
        todo += [trained, step("answer", number, 20, [trained])]
    for workers in (1, 2, 4):
        forecasts, end = simulate(todo, lambda step: expected(step) * wrong[step.kind.name], workers)
        now, seconds_left = at_a_minute(forecasts)
        assert 0.5 < (now + seconds_left) / end < 2, (workers, now, seconds_left, end)


def test_a_machine_much_slower_than_planned() -> None:
    todo = [step("train", number, 10) for number in range(30)]
    forecasts, end = simulate(todo, lambda step: 8 * expected(step), 2)
    now, seconds_left = at_a_minute(forecasts)
    assert 0.5 < (now + seconds_left) / end < 2, (now, seconds_left, end)
    forecasts, end = simulate(todo, lambda step: 8 * expected(step), 2, pace=8.0)
    assert 0.7 < forecasts[0][1] / end < 1.4  # where the machine was measured before, the first word is right


def test_one_long_step_tells_by_its_own_speed() -> None:
    forecasts, end = simulate([step("read", 0, 27.0)], lambda step: 420.0, 1)
    now, seconds_left = at_a_minute(forecasts)
    assert 0.8 < (now + seconds_left) / end < 1.25


def test_a_step_that_reports_nothing_is_never_said_to_be_over() -> None:
    forecasts, end = simulate([step("read", 0, 5.0)], lambda step: 100.0, 1, silent=("read",))
    assert all(seconds_left > 0 for now, seconds_left in forecasts if now < end - 1)
    assert at_a_minute(forecasts)[1] >= 5


def test_a_chain_is_as_long_as_it_is() -> None:
    """Ten steps that follow each other take ten times one, however many workers there are."""
    todo: list[Step] = []
    for number in range(10):
        todo.append(step("train", number, 10, todo[-1:]))
    assert Forecast(todo, 8).seconds_left(0.0) == pytest.approx(100, abs=1)
    assert Forecast([step("train", number, 10) for number in range(10)], 5).seconds_left(0.0) == pytest.approx(
        20, abs=1
    )


def test_what_is_done_is_not_counted() -> None:
    todo = [step("train", number, 10) for number in range(4)]
    forecast = Forecast(todo, 1)
    forecast.start(todo[0].key, 0.0)
    forecast.finish(todo[0].key, 10.0)
    assert forecast.seconds_left(10.0) == pytest.approx(30, abs=1)
    for later_step in todo[1:]:
        forecast.start(later_step.key, 10.0)
        forecast.finish(later_step.key, 10.0)
    assert forecast.seconds_left(40.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "5 s"), (33, "35 s"), (61, "1 min"), (3599, "60 min"), (7300, "2 h 00 min")]
)
def test_words(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words


@pytest.mark.parametrize(
    ("width", "cores", "threads"), [(1, 1, 1), (1, 2, 2), (2, 2, 1), (15, 2, 1), (1, 64, 8), (15, 64, 4), (3, 64, 8)]
)
def test_threads_that_would_use_the_cores_a_plan_leaves_idle(width: int, cores: int, threads: int) -> None:
    assert threads_for(width, cores) == threads


def test_a_step_that_another_process_had_just_finished_says_nothing_of_the_pace() -> None:
    todo = [step("train", number, 100) for number in range(5)]
    forecast = Forecast(todo, 1)
    forecast.start(todo[0].key, 0.0)
    forecast.finish(todo[0].key, 0.0)
    assert forecast.seconds_left(0.0) == pytest.approx(400, rel=0.05)


def test_a_resumed_step_counts_for_what_was_left_of_it() -> None:
    todo = [step("train", number, 100) for number in range(5)]
    forecast = Forecast(todo, 1)
    forecast.start(todo[0].key, 0.0)
    forecast.update(todo[0].key, 0.9, 1.0)
    forecast.finish(todo[0].key, 10.0)
    assert forecast.seconds_left(10.0) == pytest.approx(400, rel=0.1)


@pytest.mark.parametrize(("share", "at"), [(1.0, 100.0), (0.3, 30.0), (0.6, 62.0)])
def test_a_first_report_that_comes_late_is_no_resumption(share: float, at: float) -> None:
    """Steps of one batch report once, at their end; a sampler after its first hundred texts."""
    todo = [step("train", number, 100) for number in range(5)]
    forecast = Forecast(todo, 1)
    forecast.start(todo[0].key, 0.0)
    forecast.update(todo[0].key, share, at)
    forecast.finish(todo[0].key, 100.0)
    assert forecast.seconds_left(100.0) == pytest.approx(400, rel=0.05)


def test_the_line_on_a_running_step_names_each_unit_once(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    progress = Progress(clock=lambda: clock[0])
    writing = step("write", 0, 60.0)
    progress.plan([writing], 0, 1)
    progress.start(writing)
    for seconds, finished in ((1.0, 0), (11.0, 4), (31.0, 12)):
        clock[0] = seconds
        progress.report_progress(writing.key, finished, 40, "answers; 20 tokens/s")
    assert "(12 of 40 answers, 20 tokens/s)" in " ".join(capsys.readouterr().err.split())
    progress.report_progress(writing.key, 14, 40, "rows")  # 14 in 30 s
    assert progress.far[writing.key] == "14 of 40 rows, 0.5 rows/s"
