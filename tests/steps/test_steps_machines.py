"""What a machine of a cluster must share with the command: found out before a step runs on it."""

import dataclasses
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrite.errors import UserError
from pyrite.steps import Context, Progress, Source, Step, StepType, Store
from pyrite.steps.engine import run_side_by_side
from pyrite.steps.lease import Lease
from pyrite.steps.machines import Witness, enter, files_of
from pyrite.steps.objects import FolderRegister
from pyrite.steps.ray_engine import check_answer, fits


def nothing(context: Context) -> None:
    pass


STEP = Step(StepType("nothing", 1, nothing), {}, label="nothing")


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    held = Witness(Store(tmp_path / "store"))
    yield held
    held.close()


def test_a_machine_that_sees_the_same(witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works in the command's folder, and takes on the variables that change what a step does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYRITE_CHECKPOINT_SECONDS", "1")
    shared = dataclasses.replace(witness.shared, environment=(("PYRITE_CHECKPOINT_SECONDS", "7"),), folder=Path("/"))
    enter(shared, [str(tmp_path)])
    assert os.environ["PYRITE_CHECKPOINT_SECONDS"] == "7"
    assert Path.cwd() == Path("/")


def test_a_machine_that_sees_something_else(witness: Witness, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another Pyrite"):
        enter(dataclasses.replace(witness.shared, code="0"), [])
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(UserError, match="does not see the store"):
        enter(dataclasses.replace(witness.shared, store=Store(elsewhere)), [])
    assert not elsewhere.exists(), "no store of its own"
    with pytest.raises(UserError, match="does not see an input"):
        enter(witness.shared, [str(tmp_path / "rows.jsonl")])
    witness.held.close()
    with pytest.raises(UserError, match="each other's locks"):
        enter(witness.shared, [])


def test_the_witness_goes_with_the_run(tmp_path: Path) -> None:
    witness = Witness(Store(tmp_path))
    assert len(list((tmp_path / "locks").iterdir())) == 1
    witness.close()
    assert not list((tmp_path / "locks").iterdir())


def test_inputs_are_looked_for_where_this_machine_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").touch()
    sources = {"rows": Source("rows.jsonl", "1"), "hub": Source("hf://datasets/org/name", "2")}
    assert files_of(Step(STEP.kind, {}, sources)) == (str(tmp_path / "rows.jsonl"),)


def no_flock(_file: int, _operation: int) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


def test_where_there_are_no_locks_everybody_locks_by_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also machines that have locks, once one has none."""
    store, other = Store(tmp_path), Store(tmp_path)
    with monkeypatch.context() as without:
        without.setattr(fcntl, "flock", no_flock)
        with store.lock("key"):
            assert store.is_locked("key")
    assert store.is_locked("key") is False
    with other.lock("key"):
        assert "key" in other.leases, "this machine has locks, and does not use them here"
        assert not Lease(FolderRegister(tmp_path / "locks"), "key.lease").try_once()


def test_a_store_whose_locks_others_use_is_refused_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that stand for locks would stay where a machine dies, and the step would be waited for without end."""
    with Store(tmp_path).lock("theirs"):
        pass
    monkeypatch.setattr(fcntl, "flock", no_flock)
    with pytest.raises(UserError, match="has no locks"), Store(tmp_path).lock("key"):
        pass


def test_what_fits_a_machine() -> None:
    demand = {"CPU": 2.0, "GPU": 0.0, "memory": 2.0**30}
    assert fits(demand, {"CPU": 2.0, "memory": 2.0**30, "node:here": 1.0})
    assert not fits(demand, {"CPU": 1.0, "memory": 2.0**30})
    assert not fits(demand | {"GPU": 1.0}, {"CPU": 4.0, "memory": 2.0**31})


def test_words_of_ray_are_no_addresses() -> None:
    check_answer("auto", "127.0.0.1")
    with pytest.raises(OSError, match="refused"):
        check_answer("127.0.0.1:1", "127.0.0.1")


class ScriptedEngine:
    """One step, which reports twice: while it runs, and after it has ended."""

    room = 1

    def __init__(self) -> None:
        self.looks = 0

    def submit(self, step: Step) -> str:
        return step.key

    def wait(self, tasks: object) -> list[str]:
        self.looks += 1
        return [] if self.looks == 1 else list(tasks)  # type: ignore[call-overload]

    def seconds(self, task: str) -> float:
        return 1.0

    def reports(self) -> list[tuple[str, float, float, str]]:
        return [(STEP.key, 3.0, 4.0, "rows"), ("another", 1.0, 4.0, "rows")]

    def kill(self) -> None: ...

    def close(self) -> None: ...


def test_reports_of_steps_that_do_not_run_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=True)
    progress.plan([STEP], 0, 1)
    run_side_by_side([STEP], ScriptedEngine(), None, progress, progress.finish)
    assert (progress.far, progress.first) == ({}, {})


def test_a_step_that_began_again_has_no_negative_speed() -> None:
    """900 of 1,000 rows were done when its process was lost; the next goes on from a checkpoint at 500."""
    now = [0.0]
    progress = Progress(quiet=True, clock=lambda: now[0])
    progress.plan([STEP], 0, 1)
    progress.start(STEP)
    for seconds, rows in [(0.0, 800.0), (10.0, 900.0), (30.0, 500.0), (40.0, 700.0)]:
        now[0] = seconds
        progress.report_progress(STEP.key, rows, 1000.0, "rows")
    assert progress.far[STEP.key] == "700 of 1,000 rows, 20 rows/s"
