"""The store: keys, publishing, resuming, dropping weights, cleaning."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyrite.cli import run
from pyrite.errors import OutOfTime, UserError
from pyrite.steps import Context, Progress, RunOptions, Source, Step, StepType, Store, missing_steps, run_steps

RUNS: list[str] = []


def write_number(context: Context) -> None:
    RUNS.append(str(context.config["number"]))
    (context.out / "number.txt").write_text(str(context.config["number"]))
    (context.out / "model.safetensors").write_bytes(b"weights")


def add_up(context: Context) -> None:
    RUNS.append("sum")
    total = sum(int((folder / "number.txt").read_text()) for folder in context.inputs.values())
    (context.out / "sum.txt").write_text(str(total))


def full_disk(context: Context) -> None:
    (context.out / "half.txt").write_text("half")
    raise OSError(28, "No space left on device")


def in_two_parts(context: Context) -> None:
    part = context.checkpoint / "part.txt"
    if not part.exists():
        part.write_text("first")
        raise OutOfTime("time is up")
    (context.out / "whole.txt").write_text(part.read_text() + " second")


NUMBER, SUM = StepType("number", 1, write_number), StepType("sum", 1, add_up)


def number(value: int, label: str = "n") -> Step:
    return Step(NUMBER, {"number": value}, label=label, weights=("model.safetensors",))


def go(target: Step, store: Store, **options: object) -> None:
    run_steps([target], store, RunOptions(**options), Progress(quiet=True))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def forget() -> None:
    RUNS.clear()


def test_the_key_is_what_the_result_depends_on() -> None:
    assert number(1, "one name").key == number(1, "another").key
    assert number(1).key != number(2).key
    assert Step(StepType("number", 2, write_number), {"number": 1}).key != number(1).key
    first_place, second_place = Source("/a/file", "sha256:1"), Source("/b/file", "sha256:1")
    assert Step(SUM, {}, {"x": first_place}).key == Step(SUM, {}, {"x": second_place}).key
    assert Step(SUM, {}, {"x": first_place}).key != Step(SUM, {}, {"x": Source("/a/file", "sha256:2")}).key


def test_each_step_runs_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    total = Step(SUM, {}, {"a": number(1), "b": number(2), "again": number(1)}, label="total")
    go(total, store)
    assert sorted(RUNS) == ["1", "2", "sum"]
    assert (store.path(total.key) / "sum.txt").read_text() == "4"
    go(total, store)
    assert len(RUNS) == 3
    assert not list((tmp_path / "attempts").iterdir())


def test_dropped_weights_come_back_only_when_needed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    number_step = number(1)
    total = Step(SUM, {}, {"a": number_step}, label="total")
    go(total, store, keep="predictions")
    assert not (store.path(number_step.key) / "model.safetensors").exists()
    assert missing_steps([total], store) == []
    second_total = Step(SUM, {"other": True}, {"a": number_step}, label="other")
    assert [step.kind.name for step in missing_steps([second_total], store)] == ["number", "sum"]
    go(second_total, store, keep="all")
    assert (store.path(number_step.key) / "model.safetensors").exists()


def test_a_run_drops_only_what_it_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    theirs = number(1)
    go(theirs, store, keep="all")
    go(Step(SUM, {}, {"a": theirs, "b": number(2)}, label="total"), store, keep="predictions")
    assert (store.path(theirs.key) / "model.safetensors").exists()
    assert not (store.path(number(2).key) / "model.safetensors").exists()


def test_refresh_redoes_a_kind_and_what_stands_on_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    total = Step(SUM, {}, {"a": number(1)}, label="total")
    go(total, store)
    RUNS.clear()
    go(total, store, refresh=("number",))
    assert RUNS == ["1", "sum"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = Step(StepType("full", 1, full_disk), {}, label="big step")
    with pytest.raises(UserError, match="disk is full") as caught:
        go(step, store)
    assert "big step" in caught.value.what
    assert not store.has(step)
    assert not (tmp_path / "done").exists()


def test_a_cut_off_step_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = Step(StepType("parts", 1, in_two_parts), {}, label="parts")
    with pytest.raises(OutOfTime):
        go(step, store)
    assert not store.has(step)
    go(step, store)
    assert (store.path(step.key) / "whole.txt").read_text() == "first second"


def cut_reader(context: Context) -> None:
    """Reads its input's number once, keeps it in the checkpoint, and is cut off the first time."""
    part = context.checkpoint / "part.txt"
    if not part.exists():
        part.write_text((context.inputs["a"] / "number.txt").read_text())
        raise OutOfTime("time is up")
    (context.out / "whole.txt").write_text(part.read_text())


def test_a_checkpoint_goes_when_an_input_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key says what an input is made of: trained again on another day, its bytes may differ."""
    store = Store(tmp_path)
    number_step = number(1)
    step = Step(StepType("reader", 1, cut_reader), {}, {"a": number_step}, label="reader")
    with pytest.raises(OutOfTime):
        go(step, store)
    (store.path(number_step.key) / "number.txt").write_text("from before")
    (part,) = (tmp_path / "attempts" / step.key).glob("checkpoint-*/part.txt")
    part.write_text("from before")
    with pytest.raises(OutOfTime):
        go(step, store, refresh=("number",))  # its input is new, so it begins anew
    go(step, store)  # its input is that of the last attempt, so it goes on
    assert (store.path(step.key) / "whole.txt").read_text() == "1"


def test_refresh_begins_anew_and_a_refresh_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = Step(StepType("parts", 1, in_two_parts), {}, label="parts")
    with pytest.raises(OutOfTime):
        go(step, store)
    (part,) = (tmp_path / "attempts" / step.key).glob("checkpoint-*/part.txt")
    part.write_text("stale")
    with pytest.raises(OutOfTime):
        go(step, store, refresh=("parts",))
    (part,) = (tmp_path / "attempts" / step.key).glob("checkpoint-*/part.txt")
    assert part.read_text() == "first"
    go(step, store, refresh=("parts",))
    assert (store.path(step.key) / "whole.txt").read_text() == "first second"


def test_weights_are_kept_for_every_reader_of_the_same_step(tmp_path: Path) -> None:
    """Two readers each hold a step of their own, equal in all that counts."""

    def reader(context: Context) -> None:
        (context.out / "size.txt").write_text(str(len((context.inputs["a"] / "model.safetensors").read_bytes())))

    kind = StepType("weights", 1, reader)
    first, second = (Step(kind, {"at": at}, {"a": number(1)}, label=f"reader {at}") for at in range(2))
    store = Store(tmp_path)
    run_steps([first, second], store, RunOptions(keep="predictions"), Progress(quiet=True))
    assert RUNS == ["1"]
    assert not (store.path(number(1).key) / "model.safetensors").exists()


def test_weights_that_another_run_dropped_are_made_again(tmp_path: Path) -> None:
    """Two runs share a store: the other one drops a start's weights after this one saw them."""
    store, number_step = Store(tmp_path), number(1)

    def drops(context: Context) -> None:
        store.drop_weights(number_step)

    def reader(context: Context) -> None:
        assert (context.inputs["a"] / "model.safetensors").read_bytes() == b"weights"

    dropping = Step(StepType("other", 1, drops), {}, label="other")
    mine = Step(StepType("mine", 1, reader), {}, {"a": number_step, "after": dropping}, label="mine")
    go(mine, store)
    assert RUNS == ["1", "1"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_another_run_made_and_dropped_meanwhile_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Both were planned on an empty store; the slower one finds the start without weights, and its reader done."""
    store, start = Store(tmp_path / "store"), number(1)
    total = Step(SUM, {}, {"a": start}, label="total")
    survey = store.survey

    def other_is_quicker(steps: list[Step]) -> dict[str, bool]:
        finished = survey(steps)
        go(total, Store(tmp_path / "store"), keep="predictions")
        return finished

    with monkeypatch.context() as patch:
        patch.setattr(
            Store, "survey", lambda self, steps: survey(steps) if self is not store else other_is_quicker(steps)
        )
        go(total, store, keep="predictions", workers=workers, threads=1)
    assert RUNS == ["1", "sum"]
    assert store.manifest(start.key)["finished"] < store.manifest(total.key)["finished"], "nor by a worker"
    assert not store.has(start, weights=True)


def test_targets_whose_weights_are_wanted_get_them_back(tmp_path: Path) -> None:
    store, number_step = Store(tmp_path), number(1)
    go(Step(SUM, {}, {"a": number_step}, label="total"), store, keep="predictions")
    assert missing_steps([number_step], store) == []
    go(number_step, store, weights=True)
    assert (store.path(number_step.key) / "model.safetensors").exists()


def test_several_workers_give_the_same_files(tmp_path: Path) -> None:
    total = Step(SUM, {}, {"a": number(1), "b": number(2), "c": number(3)}, label="total")
    go(total, Store(tmp_path / "one"))
    go(total, Store(tmp_path / "two"), workers=2, threads=1)
    first, second = Store(tmp_path / "one").path(total.key), Store(tmp_path / "two").path(total.key)
    assert (first / "sum.txt").read_bytes() == (second / "sum.txt").read_bytes() == b"6"


def test_the_store_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    first, second = number(1), number(2)
    go(first, store)
    go(second, store)
    (tmp_path / "attempts" / "leftover").mkdir(parents=True)
    assert run(["store", "ls", "--store", str(tmp_path), "--json"]) == 0
    assert {step["key"] for step in json.loads(capsys.readouterr().out)["steps"]} == {first.key, second.key}
    assert run(["store", "rm", first.key[:10], "--store", str(tmp_path)]) == 0
    assert not store.has(first)
    assert run(["store", "rm", "no-such-key", "--store", str(tmp_path)]) == 2
    assert run(["store", "gc", "--store", str(tmp_path)]) == 0
    assert not (tmp_path / "attempts" / "leftover").exists()
    assert store.has(second)
    assert run(["store", "gc", "--older-than-days", "0", "--store", str(tmp_path)]) == 0
    assert not store.has(second)


ORPHANS = """
import sys, time
from pathlib import Path
from pyrite.steps import Context, Progress, RunOptions, Step, StepType, Store, run_steps

def slow(context: Context) -> None:
    Path(context.config["began"]).touch()
    time.sleep(600)

SLOW = StepType("slow", 1, slow)
if __name__ == "__main__":
    step = Step(SLOW, {"began": sys.argv[1] + "/began"}, label="slow")
    run_steps([step, Step(SLOW, {"began": sys.argv[1] + "/other"}, label="other")], Store(Path(sys.argv[1]) / "store"),
              RunOptions(workers=2, threads=1), Progress(quiet=True))
"""


def test_a_killed_run_leaves_no_process_behind(tmp_path: Path) -> None:
    """Neither the workers nor the process that their progress goes through outlive the run."""
    (tmp_path / "orphans.py").write_text(ORPHANS)
    running = subprocess.Popen([sys.executable, str(tmp_path / "orphans.py"), str(tmp_path)], start_new_session=True)
    ends = time.monotonic() + 90
    while not ((tmp_path / "began").exists() and (tmp_path / "other").exists()) and time.monotonic() < ends:
        time.sleep(0.2)
    running.kill()
    running.wait()
    while members(running.pid) and time.monotonic() < ends:
        time.sleep(0.2)
    assert not members(running.pid)


def members(session: int) -> list[str]:
    """The processes of a session that are still there."""
    listed = subprocess.run(["ps", "-s", str(session), "-o", "pid="], capture_output=True, text=True, check=False)
    return listed.stdout.split()
