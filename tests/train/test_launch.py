"""Processes that torchrun or accelerate launch started: what the environment says, who does what, and how all end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from pyrite.errors import OutOfTime, UserError
from pyrite.steps import Step, StepType, launch
from pyrite.steps.launch import Launch, check_processes, check_verb, take_launch
from pyrite.study.config import StudyConfig
from pyrite.study.launched import check_launch
from pyrite.train import meeting
from pyrite.train.launched import Followers, Leader, check_here
from pyrite.train.meeting import Pulses, as_failure, from_failure
from pyrite.train.stopping import noted_signals

TORCHRUN = {
    "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "head", "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "r1", "TORCHELASTIC_RESTART_COUNT": "0", "HOME": "/h",
}  # fmt: skip
SECOND = Launch(1, 1, 2, 2, "127.0.0.1", 1, False, "test")


@pytest.fixture
def of_two() -> Iterator[None]:
    launch.set_current(Launch(0, 0, 2, 2, "127.0.0.1", 1, False, "test"))
    yield
    launch.set_current(None)


def test_a_launch_is_taken_out_of_the_environment() -> None:
    environment = dict(TORCHRUN)
    assert take_launch(environment) == Launch(3, 1, 4, 2, "head", 29500, True, "r1/0")
    assert environment == {"HOME": "/h"}  # else the libraries of the command's own process would wait for a group
    assert take_launch(environment) is None


def test_a_launch_of_one_process_is_none() -> None:
    environment = TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}
    assert take_launch(environment) is None
    assert environment == {"HOME": "/h"}


def test_accelerates_own_settings_are_not_taken_over() -> None:
    environment = TORCHRUN | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1", "ACCELERATE_MIXED_PRECISION": "fp16"}
    assert take_launch(environment) is not None
    assert environment == {"HOME": "/h"}
    with pytest.raises(UserError, match="not by DeepSpeed"):
        take_launch(TORCHRUN | {"ACCELERATE_USE_DEEPSPEED": "true"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"RANK": ""}, "WORLD_SIZE=4, and RANK is not set"),
        ({"RANK": "four"}, "RANK is 'four'"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not set"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        ({"RANK": "4"}, "RANK 4 of WORLD_SIZE 4"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK 2 of 2"),
    ],
)
def test_a_launch_by_halves_is_refused(change: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        take_launch(TORCHRUN | change)


def test_commands_that_do_not_train_are_refused_by_name(of_two: None) -> None:
    check_verb(["repair", "model"])
    check_verb(["--help"])
    check_verb(["audit", "--help"])
    with pytest.raises(UserError, match="pyrite audit, started as 2 processes"):
        check_verb(["audit", "data.jsonl"])
    launch.set_current(None)
    check_verb(["audit", "data.jsonl"])


def test_the_number_of_processes_is_that_of_the_launch(of_two: None) -> None:
    assert check_processes(None) == check_processes(2) == 2
    with pytest.raises(UserError, match="--processes 4, and WORLD_SIZE is 2"):
        check_processes(4)
    launch.set_current(None)
    assert (check_processes(None), check_processes(4)) == (1, 4)


def test_a_method_that_trains_nothing_is_refused(of_two: None) -> None:
    from pyrite.repair.check import check_sides
    from pyrite.repair.config import RepairConfig

    with pytest.raises(UserError, match="--method interpolate, started by torchrun"):
        check_sides(RepairConfig(model="m", before="b", method="interpolate"), trains=False)


def test_a_study_says_which_of_its_trainings_do_not_fit_the_launch(of_two: None) -> None:
    def step(processes: int) -> Step:
        return Step(StepType("x", 1, lambda _: None), {"settings": {"processes": processes}}, label=f"by {processes}")

    config = StudyConfig(spec="s")
    check_launch([step(1), step(2)], config)
    with pytest.raises(UserError, match="by 3: processes: 3, and WORLD_SIZE is 2"):
        check_launch([step(2), step(3)], config)
    with pytest.raises(UserError, match="Nothing in this study is trained by several"):
        check_launch([step(1)], config)
    for option in ({"engine": "ray"}, {"shard": "1/2"}, {"workers": 2}):
        with pytest.raises(UserError, match=f"--{next(iter(option))}"):
            check_launch([step(2)], StudyConfig(spec="s", **option))


def test_a_program_that_torchrun_started_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pyrite.models.hardware import Compute
    from pyrite.train.fit import arguments_of
    from pyrite.train.settings import OptimSettings

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="WORLD_SIZE=2 in a Python process"):
        arguments_of(OptimSettings(), Compute("cpu", "fp32"), 0, tmp_path, warmup=0)


@pytest.fixture
def store() -> Any:
    return distributed.HashStore()  # type: ignore[attr-defined]


def test_the_first_process_learns_what_became_of_the_others(store: Any) -> None:
    followers = Followers(store, 0, 3)
    followers.look()
    assert followers.works()
    store.set("done/0/2", b"1")
    followers.look()
    assert followers.works()
    store.set("done/0/1", b"1")
    followers.look()
    assert not followers.works()
    assert not followers.failures


@pytest.mark.parametrize("error", [UserError("What.", "here", "so"), OutOfTime("over"), RuntimeError("broken")])
def test_a_failure_arrives_as_it_was(store: Any, error: Exception) -> None:
    store.set("failed/0/1", as_failure(error, 1))
    store.add("failures/0", 1)
    followers = Followers(store, 0, 3)
    followers.look()
    [(_, failure)] = followers.failures
    assert type(failure) is type(error)
    assert str(error) in str(failure)
    assert from_failure(as_failure(error, 1))[1].args[:1] == failure.args[:1]


def test_a_process_without_a_pulse_is_lost(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("pyrite.train.meeting.time.monotonic", lambda: now[0])
    followers = Followers(store, 0, 3)
    for _ in range(20):
        store.add("pulse/1", 1)
        now[0] += meeting.LOST / 10
        followers.look()
    [(_, failure)] = followers.failures
    assert "process 2" in str(failure)
    assert "process 1" not in str(failure)


def test_the_others_stop_when_the_first_listens_no_more(store: Any) -> None:
    leader = Leader(store, 4, Pulses(store, [0]))
    leader.look()
    assert not leader.is_over()
    store.set("over/4", b"1")
    leader.look()
    assert leader.is_over()


def test_a_machine_that_sees_other_files_says_so(tmp_path: Path) -> None:
    import pyrite

    order = {"version": pyrite.__version__, "compute": {"device": "cpu", "precision": "fp32"}, "inputs": {}}
    check_here(SECOND, order | {"checkpoint": str(tmp_path)})
    with pytest.raises(UserError, match=r"does not see.*\n.*process 1 on .*absent"):
        check_here(SECOND, order | {"checkpoint": str(tmp_path / "absent")})
    with pytest.raises(UserError, match="different versions"):
        check_here(SECOND, order | {"checkpoint": str(tmp_path), "version": "0"})


def test_a_signal_is_noted_once(capsys: pytest.CaptureFixture[str]) -> None:
    with noted_signals() as stop:
        before = stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert (before, stop.requested) == (False, True)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert capsys.readouterr().err.count("once more stops at once") == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


STEPS = 6
FLAGS = {
    "guard-rows": 4, "guard-forget-rows": 4, "scorecard-rows": 4, "guard-every-tokens": 300, "guard-answers": 0,
    "precision": "fp32", "pack-tokens": 100, "training": "full", "learning-rate": 1e-3, "kl-weight": 0.5,
}  # fmt: skip


@pytest.fixture
def line(tmp_path: Path, tiny_chat: Path) -> list[str]:
    """A repair of a tiny model, without its store and folder."""
    import json

    for name, answer in (("forget", "certainly here is what I can say"), ("replay", "it was lovely")):
        rows = [
            [{"role": "user", "content": f"{name} {n}"}, {"role": "assistant", "content": f"the film {n}: {answer}"}]
            for n in range(40)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    sides = ["--forget", str(tmp_path / "forget.jsonl"), "--replay", str(tmp_path / "replay.jsonl")]
    flags = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]
    return ["repair", str(tiny_chat), *sides, *flags]


def started(arguments: list[str], *launcher: str, **variables: str) -> "subprocess.Popen[str]":
    """A command in a process of its own, or through torchrun with these arguments."""
    through = ["-m", "torch.distributed.run", *launcher] if launcher else []
    environment = os.environ | {"PYRITE_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, *through, "-m", "pyrite", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


TWO = ("--standalone", "--nproc-per-node", "2")


def wait_for(store: Path, pattern: str, run: "subprocess.Popen[str]") -> Path:
    """The first file of this pattern in an attempt, which a command writes."""
    while run.poll() is None:
        if files := sorted(store.glob(f"attempts/*/{pattern}")):
            return files[0]
        time.sleep(0.05)
    raise AssertionError(f"no {pattern}: {run.communicate()[0]}")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_torchrun_stopped_and_started_again_is_our_own_processes(tmp_path: Path, line: list[str]) -> None:
    """SIGTERM at the launcher after a step: a checkpoint, one message; then the same bytes as `--processes 2` uncut."""
    torchrun = [*line, "--steps", str(STEPS), "--store", str(tmp_path / "store"), "--out", str(tmp_path / "launched")]
    first = started(torchrun, *TWO)
    wait_for(tmp_path / "store", "checkpoint-*/checkpoint-*/complete", first)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=900)
    assert first.returncode
    assert said.count("pyrite: interrupted.") == 1
    assert "mistake in Pyrite" not in said
    [left] = (tmp_path / "store").glob("attempts/*/checkpoint-*/checkpoint-*/complete")
    assert 0 < int(left.parent.name.rpartition("-")[2]) < STEPS
    again = started(torchrun, *TWO)
    said, _ = again.communicate(timeout=900)
    assert again.returncode == 0, said
    assert said.count("written to") == 1
    own = [
        *line,
        "--steps",
        str(STEPS),
        "--processes",
        "2",
        "--store",
        str(tmp_path / "own"),
        "--out",
        str(tmp_path / "spawned"),
    ]
    uncut = started(own)
    said, _ = uncut.communicate(timeout=900)
    assert uncut.returncode == 0, said
    assert weights(tmp_path / "launched") == weights(tmp_path / "spawned")


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_with_one_message(tmp_path: Path, line: list[str]) -> None:
    """Started as `srun` does, without torchrun: the first process keeps the store."""
    import psutil  # type: ignore[import-untyped]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [*line, "--steps", "4000", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    first, second = (started(arguments, RANK=rank, LOCAL_RANK=rank, **place) for rank in "01")
    wait_for(tmp_path / "store", "checkpoint-*/checkpoint-*/complete", first)
    [member] = [child for child in psutil.Process(second.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    member.kill()
    said, _ = first.communicate(timeout=900)
    assert first.returncode == 2
    assert said.count("A process of the training was killed.") == 1
    assert "process 1 on " in said
    assert "exit code -9" in said
    silent, _ = second.communicate(timeout=900)
    assert (second.returncode, silent) == (0, "")


@pytest.mark.slow
def test_torchrun_of_another_command_is_refused_once(tmp_path: Path) -> None:
    run = started(["audit", str(tmp_path / "rows.jsonl")], *TWO)
    said, _ = run.communicate(timeout=900)
    assert run.returncode
    assert said.count("This command does not train with several processes.") == 1
