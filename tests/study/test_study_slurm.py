"""A study as a job array of a real Slurm: a controller and one node of this machine, started and stopped by the test.

Runs where Debian's `slurm-wlm` is installed; who submits, who runs and who answers is one user of one machine, so that nothing
needs a key (`auth/none`).
"""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.conftest import study_line

from pyrite.cli import run

SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "slurm.sh"
FILES = ["results.parquet", "results.csv", "summary.parquet", "summary.csv", "predictions.parquet", "overlap.csv"]
TOOLS = ("slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scontrol", "scancel")
CONFIG = """
ClusterName=pyrite-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=sched_interval=2,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def wait_until(done: object, seconds: float, step: float = 0.2) -> bool:
    """Whether a condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():  # type: ignore[operator]
            return True
        time.sleep(step)
    return False


def free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def processes_of(config: Path) -> list[int]:
    """What runs with this configuration of Slurm in its environment: its daemons, their jobs, and what those started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"SLURM_CONF={config}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster of one node; the folder that holds its logs."""
    monkeypatch.setenv("PATH", os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        pytest.skip(f"Slurm is not installed (apt-get install slurm-wlm): no {', '.join(lacking)}")
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    config = folder / "slurm.conf"
    user, host = pwd.getpwuid(os.getuid()).pw_name, socket.gethostname().partition(".")[0]
    ports = {"controller": free_port(), "node": free_port()}
    config.write_text(CONFIG.format(folder=folder, user=user, host=host, **ports))
    monkeypatch.setenv("SLURM_CONF", str(config))
    commands = (["slurmctld", "-D"], ["slurmd", "-D", "-N", host])
    with (folder / "daemons.log").open("w") as log:
        daemons = [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
    try:
        if not wait_until(lambda: "idle" in told("sinfo", "--noheader", "--format=%T"), 60, 0.5):
            said = (folder / "daemons.log").read_text()[-600:]
            pytest.skip(f"Slurm does not start here: {told('sinfo', '--noheader', '--format=%T %E')} {said}")
        yield folder
    finally:
        told("scancel", "--full", "--signal=KILL", f"--user={user}")
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
        for process in set(processes_of(config)) - {os.getpid()}:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for daemon in daemons:
            daemon.wait(10)


def told(*command: str) -> str:
    """What a command of Slurm prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


@pytest.mark.slow
def test_a_job_array_is_one_study(
    tiny_study: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three jobs of the example's script, one put back into the queue while it works: the bytes of a run without them."""
    folder = tiny_study.parent
    tiny_study.write_text(tiny_study.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    monkeypatch.setenv("PYRITE_STORE", str(folder / "shared"))
    monkeypatch.setenv("PYRITE_OUT", str(folder / "of-jobs"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    limits = ["--array=1-3", "--cpus-per-task=1", "--mem=0", "--time=30", "--output=slurm/job-%a.log"]
    array = told("sbatch", "--parsable", f"--chdir={folder}", *limits, str(SCRIPT), str(tiny_study))
    assert array.isdigit(), (slurm / "slurmctld.log").read_text()[-2000:]

    def begun() -> bool:
        return any((folder / "shared" / "attempts").glob("*/out"))

    assert wait_until(begun, 240), [log.read_text() for log in slurm.glob("job-*.log")]
    subprocess.run(["scontrol", "requeue", f"{array}_1"], check=True, capture_output=True)
    assert wait_until(lambda: not told("squeue", "--noheader"), 540, 1), told("squeue")
    logs = {log.stem: log.read_text() for log in slurm.glob("job-*.log")}
    assert "Restarts=1" in told("scontrol", "show", "job", f"{array}_1"), logs
    states = re.findall(r"JobState=(\w+)", told("scontrol", "show", "job", array))
    assert states == ["COMPLETED"] * 3, (states, logs)

    assert run(study_line(tiny_study, "--json")) == 0
    alone = json.loads(capfd.readouterr().out)
    assert alone["run"]["timing"]["steps_run"] > 0, "it has a store of its own"
    for name in FILES:
        whole, parts = folder / "runs" / "tiny" / "results" / name, folder / "of-jobs" / "tiny" / "results" / name
        assert whole.read_bytes() == parts.read_bytes(), name


@pytest.mark.slow
def test_slurm_ends_with_the_test(slurm: Path) -> None:
    """The daemons and jobs that the fixture must end are found by their configuration."""
    job = told("sbatch", "--parsable", f"--output={slurm}/job.log", "--wrap", "sleep 600")
    assert wait_until(lambda: told("squeue", "--noheader", "--format=%T", f"--job={job}") == "RUNNING", 60)
    names = {Path(f"/proc/{process}/comm").read_text().strip() for process in processes_of(slurm / "slurm.conf")}
    assert {"slurmctld", "slurmd", "sleep"} <= names
