"""Processes on one S3 store that are killed, stopped and cut off from it; the server is a real one, on loopback."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
from tests.s3_server import S3Server, started
from tests.steps.remote_job import graph

from pyrite.cli import run
from pyrite.steps import open_store
from pyrite.steps.remote_store import RemoteStore, lease_name, marker_name

SUM = graph()


def job(url: str, folder: Path, *where: str, seconds: float = 0, name: str = "a", **more: str) -> subprocess.Popen[str]:
    """A process on a machine of its own, as far as its cache says."""
    environment = os.environ | {"PYRITE_STORE_CACHE": str(folder / f"cache-{name}")} | more
    words = [sys.executable, "-m", "tests.steps.remote_job", url, str(folder), str(seconds), *where]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"{out}\n{err}"
    return out if code == 0 else err


def begun(folder: Path) -> Counter[str]:
    lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
    return Counter(line for line in lines if line.startswith("begin"))


def wait_for(what: object, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.05)


def opened(url: str) -> RemoteStore:
    store = open_store(url)
    assert isinstance(store, RemoteStore)
    return store


def test_killed_at_every_boundary_a_store_is_whole(s3_url: str, tmp_path: Path) -> None:
    """What was begun and not published is run again, what was published is not; and gc clears what the kills left."""
    for point in ("before-upload", "before-publish", "after-publish"):
        assert job(s3_url, tmp_path, point, PYRITE_LEASE_SECONDS="1").wait(120) == -signal.SIGKILL
    assert ended(job(s3_url, tmp_path, name="b", PYRITE_LEASE_SECONDS="1")) == "106\n"
    assert begun(tmp_path) == {"begin 0": 3, "begin 1": 1, "begin 2": 1, "begin 3": 1, "begin 100": 1}
    store = opened(s3_url)
    markers = [orjson.loads(content) for content in store.objects.read_many(map(marker_name, keys())).values()]
    named = {f"files/{m['key'][:2]}/{m['key']}/{m['attempt']}/{name}" for m in markers for name in m["files"]}
    uploaded = set(store.objects.sizes("files"))
    assert named < uploaded, "one attempt was uploaded and never named"
    assert run(["store", "gc", "--store", s3_url]) == 0
    assert set(store.objects.sizes("files")) == named


def keys() -> list[str]:
    return [SUM.key, *(parent.key for parent in SUM.parents())]


def test_eight_jobs_on_one_store_run_each_step_once(s3_url: str, tmp_path: Path) -> None:
    jobs = [job(s3_url, tmp_path, seconds=0.5, name=str(at % 4)) for at in range(8)]  # two on each of four machines
    assert [ended(process) for process in jobs] == ["106\n"] * 8
    assert set(begun(tmp_path).values()) == {1}
    assert len(begun(tmp_path)) == 5


def test_who_is_killed_loses_its_lease(s3_url: str, tmp_path: Path) -> None:
    dying = job(s3_url, tmp_path, seconds=60, PYRITE_LEASE_SECONDS="4")
    wait_for(lambda: begun(tmp_path))
    dying.kill()
    dying.wait()
    since = time.monotonic()
    assert ended(job(s3_url, tmp_path, name="b")) == "106\n"
    assert time.monotonic() - since > 3.5, "not before the lease had run out"
    assert begun(tmp_path)["begin 0"] == 2


def test_who_was_stopped_does_not_publish_what_another_has(s3_url: str, tmp_path: Path) -> None:
    """It wakes after another process has taken its step over, and takes that one's result."""
    stopped = job(s3_url, tmp_path, seconds=3, PYRITE_LEASE_SECONDS="2")
    wait_for(lambda: begun(tmp_path))
    stopped.send_signal(signal.SIGSTOP)
    store = opened(s3_url)
    step = next(iter(SUM.parents()))
    assert ended(job(s3_url, tmp_path, name="b")) == "106\n"
    theirs = store.manifest(step.key)["attempt"]
    stopped.send_signal(signal.SIGCONT)
    assert ended(stopped) == "106\n"
    marker = store.marker(step.key)
    assert marker is not None
    assert marker["attempt"] == theirs
    assert begun(tmp_path)["begin 0"] == 2
    assert sum(begun(tmp_path).values()) == 6, "nothing else was run twice"


@pytest.mark.slow
def test_a_cluster_works_on_a_store_at_a_url(s3_url: str, tmp_path: Path) -> None:
    """The command's machine has the result; it looks at sizes only of what a step reads, and brings no weights here."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'pyrite[ray]'")
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    assert ended(job(s3_url, tmp_path, JOB_ENGINE="ray", PYTHONPATH=path)) == "106\n"
    assert set(begun(tmp_path).values()) == {1}
    assert len(begun(tmp_path)) == 5
    assert not [name for name in opened(s3_url).objects.sizes("locks") if "cluster" in name], (
        "the witness went with the run"
    )


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A server that the test may kill."""
    (tmp_path / "server").mkdir()
    server = started(tmp_path / "server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


def test_a_server_that_is_killed_and_comes_back(own_server: S3Server, tmp_path: Path) -> None:
    url = "s3://pyrite/store"
    running = job(url, tmp_path, seconds=1, PYRITE_LEASE_SECONDS="10")
    for at in range(2):
        wait_for(lambda at=at: len(begun(tmp_path)) > at)
        own_server.kill()
        time.sleep(2)
        assert running.poll() is None
        own_server.start()
    assert ended(running) == "106\n"
    assert set(begun(tmp_path).values()) == {1}
    own_server.kill()


def test_a_server_that_stays_away(own_server: S3Server, tmp_path: Path) -> None:
    """The run ends with what to do; the same command goes on where it was."""
    url = "s3://pyrite/store"
    running = job(url, tmp_path, seconds=1, PYRITE_STORE_PATIENCE="2", PYRITE_LEASE_SECONDS="2")
    wait_for(lambda: len(begun(tmp_path)) > 1)
    own_server.kill()
    message = ended(running, 2)
    assert "The object store does not answer." in message
    assert url in message
    assert "then the same command again: finished steps are kept" in message
    own_server.start()
    assert ended(job(url, tmp_path, name="b", PYRITE_LEASE_SECONDS="2")) == "106\n"
    assert begun(tmp_path)["begin 0"] == 1, "what was published before is not run again"
    own_server.kill()


def test_a_bucket_that_is_not_there_and_keys_that_do_not_fit(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["ls"], ["rm", "abc"], ["gc"]):
        assert run(["store", *words, "--store", "s3://no-such-bucket/store"]) == 2
        assert "There is no such bucket." in capsys.readouterr().err
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    assert run(["store", "ls", "--store", s3_url]) == 2
    assert "refuses access" in capsys.readouterr().err
    s3fs.S3FileSystem.clear_instance_cache()


def test_leases_are_objects_that_say_who_holds_them(s3_url: str) -> None:
    store = opened(s3_url)
    with store.lock("key"):
        content, _ = store.objects.read(lease_name("key")) or (b"{}", "")
        assert str(os.getpid()) in orjson.loads(content)["holder"]
        assert store.is_locked("key")
    assert store.is_locked("key") is False
    store.forget_lock("key")
    assert store.is_locked("key") is None
