"""Steps on a cluster of two machines: killed at random, driven by several at once, and machines that do not fit."""

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.steps.graph import PARTS, graph

from pyrite.errors import UserError
from pyrite.steps import Store, closure

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'pyrite[ray]')")
ROOT = Path(__file__).parents[2]
COUNT = len(closure([graph()]))
pytestmark = pytest.mark.slow


def environment(**more: str) -> dict[str, str]:
    """What drivers and workers need to find the steps."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | more


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two machines, each with two CPUs and (by name only) a GPU; the name of its engine."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 2**27, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            cluster.add_node(**node)
            cluster.wait_for_nodes()
            yield f"ray:{cluster.address}"
        finally:
            cluster.shutdown()


def begin(folder: Path, engine: str, workers: int = 1, *more: str, **variables: str) -> subprocess.Popen[str]:
    """A driver at work."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.steps.graph", str(folder), engine, str(workers), *more]
    return subprocess.Popen(command, cwd=ROOT, env=environment(**variables), stderr=subprocess.PIPE, text=True)


def finish(driver: subprocess.Popen[str], seconds: float = 500) -> tuple[int, str]:
    """A driver's exit code and what it said."""
    said = driver.communicate(timeout=seconds)[1]
    return driver.returncode, said


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph, run by one process."""
    folder = tmp_path_factory.mktemp("local")
    assert finish(begin(folder, "local")) == (0, "")
    return folder


def numbers(folder: Path) -> dict[str, bytes]:
    """What the steps wrote."""
    store = Store(folder / "store")
    return {step.key: (store.path(step.key) / "number.txt").read_bytes() for step in closure([graph()])}


def lines(folder: Path, word: str) -> list[list[str]]:
    return [line.split() for line in (folder / "log").read_text().splitlines() if line.startswith(word)]


def test_two_machines_write_the_same_bytes(address: str, local: Path, tmp_path: Path) -> None:
    code, said = finish(begin(tmp_path, address))
    assert code == 0, said
    assert numbers(tmp_path) == numbers(local)
    begun = lines(tmp_path, "begin")
    assert len({key for _, key, *_ in begun}) == len(begun) == COUNT
    assert len({node for *_, node in begun}) == 2, "both machines worked"
    assert not list((tmp_path / "store" / "locks").glob("cluster-*")), "the witness is gone"


def test_workers_and_drivers_killed_at_random(address: str, local: Path, tmp_path: Path) -> None:
    """Twenty workers and five drivers: nothing is lost, no finished step or saved part is done again."""
    rng = random.Random(21)
    (tmp_path / "running").mkdir()
    killed: Counter[str] = Counter()
    drivers = 0
    driver = begin(tmp_path, address)
    while sum(killed.values()) < 20 or drivers < 5:
        time.sleep(rng.uniform(0.1, 0.6))
        assert driver.poll() is None, f"it ended after {killed} and {drivers}: {finish(driver)}"
        done = len(list((tmp_path / "store").glob("done/*/*")))
        if drivers < 5 and done >= (drivers + 1) * COUNT // 8:
            driver.kill()
            driver.wait()
            drivers += 1
            driver = begin(tmp_path, address)
        elif sum(killed.values()) < 20:
            kill_worker(tmp_path / "running", rng, killed)
    code, said = finish(driver)
    assert (code, sum(killed.values()), drivers) == (0, 20, 5), said
    assert numbers(tmp_path) == numbers(local)
    begun, parts = lines(tmp_path, "begin"), lines(tmp_path, "part")
    assert {state for _, _, state, _ in begun} == {"new"}, "no finished step began again"
    assert max(Counter((key, part) for _, key, part in parts).values()) == 1, "no saved part was done again"
    cut = len(begun) - COUNT
    assert 20 <= cut <= 20 + 5 * 4, "only cut steps began again: one for a worker, four CPUs' for a driver"


def kill_worker(running: Path, rng: random.Random, killed: Counter[str]) -> None:
    """End the process of a step at work; of none that was hit three times, since the sixth loss is an error."""
    files = sorted(file for file in running.iterdir() if killed[file.name] < 3)
    for file in rng.sample(files, len(files)):
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            process = int(file.read_text())
            if b"ray::" in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)
                file.unlink()
                killed[file.name] += 1
                return


def test_eight_drivers_on_one_store(address: str, local: Path, tmp_path: Path) -> None:
    """Alone, with two processes, and on a cluster: together they run each step once."""
    engines = [*[("local", 1)] * 3, *[("local", 2)] * 3, *[(address, 1)] * 2]
    drivers = [begin(tmp_path, engine, workers) for engine, workers in engines]
    assert [finish(driver)[0] for driver in drivers] == [0] * 8
    assert numbers(tmp_path) == numbers(local)
    assert sorted(key for _, key, *_ in lines(tmp_path, "begin")) == sorted(step.key for step in closure([graph()]))
    assert len(lines(tmp_path, "part")) == COUNT * PARTS


def test_each_gpu_step_has_a_process_of_its_own(address: str, tmp_path: Path) -> None:
    """A process that has found its GPU keeps it, so that the next step would compute on another one's."""
    code, said = finish(begin(tmp_path, address, 1, "gpu"))
    assert code == 0, said
    assert len({process for _, process, _ in lines(tmp_path, "gpu")}) == 4


def test_no_machine_has_a_gpu(tmp_path: Path) -> None:
    code, said = finish(begin(tmp_path, "ray", 1, "gpu", CUDA_VISIBLE_DEVICES=""))
    assert code == 2
    assert "No machine of the cluster has what a step asks for" in said
    assert "1 GPU" in said


def test_memory_runs_out(tmp_path: Path) -> None:
    """The cluster ends processes as if almost none were left."""
    limits = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "20", "RAY_task_oom_retries": "1"}
    code, said = finish(begin(tmp_path, "ray", **limits))
    assert code == 2, said
    assert "Memory ran out for a step on the cluster" in said


@pytest.mark.parametrize("scheme", ["ray:", "ray://"])
def test_nobody_answers(scheme: str) -> None:
    from pyrite.steps.ray_engine import connect

    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(UserError, match="does not answer") as error:
            connect(ray, f"{scheme}127.0.0.1:{server.getsockname()[1]}")
        assert time.monotonic() - began < 30
    assert "ray start --head" in error.value.fix


def test_a_machine_without_the_store(tmp_path: Path) -> None:
    """A machine on which another file system lies where the store is: it says so, and writes nothing there."""
    store = tmp_path / "store"
    store.mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{store}" && exec "$@"', "-"]
    if not shutil.which("unshare") or subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not give a process a file system of its own (unshare --mount)")
    port, folder = free_port(), tmp_path / "ray"
    start = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats", "--num-gpus=0"]
    head = [
        *start,
        "--head",
        f"--port={port}",
        "--num-cpus=0",
        f"--temp-dir=/tmp/ray-{port}",
        "--include-dashboard=false",
    ]
    other = [*hidden, *start, f"--address=127.0.0.1:{port}", "--num-cpus=2"]
    folder.mkdir()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # of this cluster, and of no file
    machines = []
    try:
        for name, command in (("head", head), ("other", other)):
            with (folder / name).open("w") as log:
                machines.append(
                    subprocess.Popen(command, env=environment(**token), stdout=log, stderr=log, start_new_session=True)
                )
            time.sleep(8)
        code, said = finish(begin(tmp_path, f"ray:127.0.0.1:{port}", **token), 200)
    finally:
        for machine in machines:
            end_session(machine)
        shutil.rmtree(f"/tmp/ray-{port}", ignore_errors=True)
    assert code == 2, said
    assert "does not see the store" in said
    assert str(store) in said
    assert not list(store.glob("done/*"))


def wait_for_line(log: Path, words: str, seconds: float = 90) -> None:
    """Return when a log has these words."""
    end = time.monotonic() + seconds
    while words not in log.read_text():
        assert time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.3)


def free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    leader.terminate()
    with suppress(subprocess.TimeoutExpired):
        leader.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
