"""A real server: `transformers serve` with the packaged chat model, started here on a free loopback port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from remote_stub import ignore_progress, prompts

from pyrite.errors import UserError
from pyrite.models import packaged
from pyrite.models.answers import Writing
from pyrite.models.remote import Endpoint, chat, ordered

pytestmark = pytest.mark.packaged

NAME = "smollm2-135m-instruct"
ASKED = prompts("Say hello.", "What is the capital of France?", "Count from one to five.")


def wait_until_it_answers(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < until:
        try:
            with opener.open(f"{address}/health", timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"the server did not start (exit status {process.poll()}):\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The endpoint of a running server; it names a model by its folder and lists only what is in the hub's cache."""
    if not packaged.is_fetched(NAME):
        pytest.skip(f"packaged:{NAME} is not fetched: run pyrite models fetch")
    model, folder = packaged.folder_of(NAME), tmp_path_factory.mktemp("server")
    (folder / "hub").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    variables = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder),
        "HF_HUB_CACHE": str(folder / "hub"),
        "OMP_NUM_THREADS": "1",
    }
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until_it_answers(process, f"http://127.0.0.1:{port}", log)
        yield Endpoint(base_url=f"http://127.0.0.1:{port}/v1", model=str(model), concurrency=3, retries=1)
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_three_prompts_and_a_resume_that_asks_nothing(server: Endpoint, tmp_path: Path) -> None:
    writing = Writing(max_new_tokens=8)
    usage = chat(server, ASKED, writing, tmp_path / "a", report_progress=ignore_progress)
    answers = [answer for answer in ordered(tmp_path / "a", ASKED) if answer]
    assert [answer.id for answer in answers] == [prompt.id for prompt in ASKED]
    assert all(answer.text.strip() for answer in answers)
    assert "Paris" in answers[1].text or "France" in answers[1].text
    assert all(1 <= (answer.tokens or 0) <= 8 and answer.finish in ("stop", "length") for answer in answers)
    assert all(answer.meta["model"].startswith(str(server.model)) for answer in answers)
    assert (usage.requests, usage.retries, usage.unknown_tokens, usage.failed) == (3, 0, 0, 0)
    assert usage.tokens == sum(answer.tokens or 0 for answer in answers)
    assert usage.prompt_tokens > 3 * 5
    again = chat(server, ASKED, writing, tmp_path / "a", report_progress=ignore_progress)
    assert (again.requests, again.kept, again.tokens) == (0, 3, usage.tokens)


def test_the_stop_string_is_not_in_the_text(server: Endpoint, tmp_path: Path) -> None:
    """The server ends after the stop string and leaves it there; the most probable tokens are the same each time."""
    chat(server, ASKED[1:2], Writing(max_new_tokens=12), tmp_path / "whole", report_progress=ignore_progress)
    (full,) = ordered(tmp_path / "whole", ASKED[1:2])
    assert full is not None
    stop = full.text.split()[2]
    chat(
        server, ASKED[1:2], Writing(max_new_tokens=12, stop=(stop,)), tmp_path / "cut", report_progress=ignore_progress
    )
    (cut,) = ordered(tmp_path / "cut", ASKED[1:2])
    assert cut is not None
    assert (cut.text, cut.finish) == (full.text[: full.text.index(stop)], "stop")
    assert (cut.tokens or 0) < (full.tokens or 0)


def test_the_server_says_what_is_wrong(server: Endpoint, tmp_path: Path) -> None:
    wrong = server.model_copy(update={"model": "another"})
    with pytest.raises(UserError, match=r"status 400: Server is pinned to .*requested 'another'"):
        chat(wrong, ASKED, Writing(max_new_tokens=8), tmp_path / "a", report_progress=ignore_progress)
    with pytest.raises(UserError, match="lists none"):
        chat(
            server.model_copy(update={"model": None}), ASKED, Writing(), tmp_path / "a", report_progress=ignore_progress
        )
