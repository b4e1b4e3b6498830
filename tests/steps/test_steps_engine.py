"""Steps beside each other: on processes with a GPU each, and on a cluster; lost workers and drivers cost the step at hand."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pyrite.errors import OutOfTime, UserError
from pyrite.steps import Context, Progress, RunOptions, Step, StepType, Store, run_steps
from pyrite.steps.demand import declared_memory, needs_gpu, weight_bytes
from pyrite.steps.processes import VISIBLE, visible_gpus

try:
    import ray  # noqa: F401

    HAS_RAY = True
except ModuleNotFoundError:
    HAS_RAY = False
on_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed (pip install 'pyrite[ray]')")


def write_gpu(context: Context) -> None:
    (context.out / "gpu.txt").write_text(os.environ.get(VISIBLE, "none"))
    time.sleep(0.4)  # so that no process takes every step


def write_number(context: Context) -> None:
    context.report_progress(1, 2, "numbers")
    with open(context.config["log"], "a") as log:
        log.write(f"{context.config['number']}\n")
    (context.out / "number.txt").write_text(str(context.config["number"] ** 2))


def add_up(context: Context) -> None:
    total = sum(int((folder / "number.txt").read_text()) for folder in context.inputs.values())
    (context.out / "sum.txt").write_text(str(total))


def die_twice(context: Context) -> None:
    tries = context.checkpoint / "tries.txt"
    count = int(tries.read_text()) if tries.exists() else 0
    tries.write_text(str(count + 1))
    if count < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    (context.out / "tries.txt").write_text(str(count))


def refuse(context: Context) -> None:
    raise UserError("What is wrong.", "here", "mend it")


def time_is_up(context: Context) -> None:
    raise OutOfTime("time is up")


GPU, NUMBER, SUM = StepType("gpu", 1, write_gpu), StepType("number", 1, write_number), StepType("sum", 1, add_up)


def tree(log: Path, count: int = 6) -> Step:
    numbers = {f"n{at}": Step(NUMBER, {"number": at, "log": str(log)}, label=f"number {at}") for at in range(count)}
    return Step(SUM, {}, numbers, label="sum")


def go(target: Step, root: Path, **options: object) -> None:
    run_steps([target], Store(root), RunOptions(**options), Progress(quiet=True))  # type: ignore[arg-type]


def files_of(root: Path) -> dict[str, bytes]:
    """All that finished steps wrote, by place; their records hold times."""
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted((root / "done").rglob("*.txt"))}


def test_each_process_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPUs are names only: the processes are told them, and none is looked for."""
    monkeypatch.setenv(VISIBLE, "3, GPU-7f")
    assert visible_gpus() == ["3", "GPU-7f"]
    steps = {f"s{at}": Step(GPU, {"at": at, "compute": {"device": "cuda"}}) for at in range(4)}
    assert all(needs_gpu(step) for step in steps.values())
    gather = StepType("gather", 1, list_inputs)
    go(Step(gather, {}, steps), tmp_path, workers=2, threads=1)
    seen = {(tmp_path / "done" / step.key[:2] / step.key / "gpu.txt").read_text() for step in steps.values()}
    assert seen == {"3", "GPU-7f"}


def list_inputs(context: Context) -> None:
    (context.out / "all.txt").write_text(" ".join(sorted(context.inputs)))


def test_the_weights_that_a_step_reads(tmp_path: Path) -> None:
    from pyrite.steps import Source

    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"x" * 100)
    (model / "notes.txt").write_bytes(b"x" * 7)
    step = Step(NUMBER, {}, {"base": Source(str(model), "id")})
    assert weight_bytes(step, Store(tmp_path)) == 100
    for name in ("dtype", "torch_dtype"):
        (model / "config.json").write_text(json.dumps({name: "bfloat16"}))
        assert weight_bytes(step, Store(tmp_path)) == 200, "they are read in fp32"


def test_what_a_training_takes() -> None:
    """Bytes a weight: 16 where all are trained, 6 with adapters, 4 where it is read; and what it takes beside them."""
    train, repair = StepType("train.x", 1, list_inputs), StepType("repair.train", 1, list_inputs)
    declared = [
        declared_memory(step, 4, beside=0)
        for step in (
            Step(train, {"settings": {"method": "full"}}),
            Step(train, {"settings": {"method": "qlora"}}),
            Step(repair, {"settings": {"method": "lbf", "training": {"method": "full"}}}),
            Step(repair, {"settings": {"method": "lbf", "training": {"method": "lora"}}}),
            Step(NUMBER, {}),
        )
    ]
    assert declared == [16, 6, 16, 6, 4]


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    if HAS_RAY:
        pytest.skip("Ray is installed")
    with pytest.raises(UserError, match=r"pyrite\[ray\]"):
        go(tree(tmp_path / "log"), tmp_path, engine="ray")


@pytest.fixture(scope="module")
def cluster() -> object:
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        yield
        ray.shutdown()


@on_ray
@pytest.mark.usefixtures("cluster")
def test_a_cluster_writes_the_same_bytes(tmp_path: Path) -> None:
    target = tree(tmp_path / "log")
    go(target, tmp_path / "here", threads=1)
    go(target, tmp_path / "there", threads=1, engine="ray")
    assert files_of(tmp_path / "here") == files_of(tmp_path / "there")
    assert sorted((tmp_path / "log").read_text().split()) == sorted(2 * [str(at) for at in range(6)])
    go(target, tmp_path / "there", threads=1, engine="ray")
    assert len((tmp_path / "log").read_text().split()) == 12, "finished steps are not run again"


@on_ray
@pytest.mark.usefixtures("cluster")
def test_a_step_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    target = Step(StepType("die", 1, die_twice), {}, label="dies twice")
    go(target, tmp_path, threads=1, engine="ray")
    assert (Store(tmp_path).path(target.key) / "tries.txt").read_text() == "2"


@on_ray
@pytest.mark.usefixtures("cluster")
def test_errors_of_a_cluster_are_those_of_the_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="What is wrong") as error:
        go(Step(StepType("refuse", 1, refuse), {}), tmp_path, threads=1, engine="ray")
    assert error.value.fix == "mend it"
    with pytest.raises(OutOfTime):
        go(Step(StepType("late", 1, time_is_up), {}), tmp_path, threads=1, engine="ray")


DRIVER = """
import sys
from pathlib import Path
from tests.steps.test_steps_engine import slow_tree, go
go(slow_tree(Path(sys.argv[1]) / "log"), Path(sys.argv[1]) / "store", threads=1, engine="ray")
"""


def write_slowly(context: Context) -> None:
    time.sleep(0.5)
    write_number(context)


def slow_tree(log: Path) -> Step:
    slow = StepType("slow", 1, write_slowly)
    return Step(SUM, {}, {f"n{at}": Step(slow, {"number": at, "log": str(log)}, label=f"n{at}") for at in range(8)})


@on_ray
@pytest.mark.slow
def test_a_killed_driver_goes_on(tmp_path: Path) -> None:
    """What was finished when the driver was killed is not run again; only steps that were cut off are."""
    log = tmp_path / "log"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)]
    driver = subprocess.Popen(command, env=environment)
    while not log.exists() or len(log.read_text().split()) < 3:
        assert driver.poll() is None, "it ended before it was killed"
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    time.sleep(2)
    finished = [json.loads(file.read_text())["label"] for file in (tmp_path / "store").glob("done/*/*/step.json")]
    before = len(log.read_text().split())
    subprocess.run(command, env=environment, check=True, timeout=300)
    assert (Store(tmp_path / "store").path(slow_tree(log).key) / "sum.txt").read_text() == "140"
    assert len(log.read_text().split()) - before <= 8 - len(finished)
