"""A real server: `vllm serve` on a loopback port with a tiny model, and `vllm run-batch`. Run where $PYRITE_VLLM names the command.

It runs in an environment of its own, on a CPU where that is what it was built for.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.conftest import review_rows, save_tokenizer, write_jsonl
from tests.models.vllm_shapes import with_marker
from tests.probe.test_probe_perplexity import CHATS, TEMPLATE, TEXTS

from pyrite.cli import run
from pyrite.models.remote_endpoint import Endpoint, Usage
from pyrite.models.remote_scorer import Scorer

pytestmark = pytest.mark.slow

COMMAND = os.environ.get("PYRITE_VLLM", "")
ENVIRONMENT = {
    **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1",
}  # fmt: skip
OPTIONS = ["--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
START = 900
"""Seconds in which the server must be up."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose heads are as wide as vLLM wants them, whose tokenizer puts a marker before each text."""
    if not COMMAND or shutil.which(COMMAND) is None:
        pytest.skip("vLLM is not installed: name its command in $PYRITE_VLLM")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("vllm") / "model"
    folder.mkdir()
    size = save_tokenizer(folder, pair=False)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=256, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True, initializer_range=0.12,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return with_marker(folder)


@pytest.fixture(scope="module")
def address(model: Path) -> Iterator[str]:
    """Where the server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        COMMAND,
        "serve",
        str(model),
        *OPTIONS,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--max-num-seqs",
        "8",
    ]
    log = model.parent / "log"
    url = f"http://127.0.0.1:{port}/v1"
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink, env=ENVIRONMENT) as process:
        try:
            end = time.monotonic() + START
            while True:
                try:
                    urllib.request.urlopen(f"{url}/models", timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
                    time.sleep(2)
            yield url
        finally:
            process.terminate()


def probe(task: str, store: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    code = run(["probe", *more, "--task", task, "--precision", "fp32", "--json", "--quiet", "--store", str(store)])
    out, err = capsys.readouterr()
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


def table(store: Path, name: str) -> pl.DataFrame:
    (file,) = store.glob(f"done/*/*/{name}.parquet")
    return pl.read_parquet(file)


def remote(address: str, *more: str) -> list[str]:
    return ["tiny", "--backend", "openai", "--base-url", address, *more]


@pytest.mark.parametrize("by_ids", [True, False], ids=["ids", "texts"])
def test_what_it_can(address: str, model: Path, by_ids: bool) -> None:
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(model)("the film was")["input_ids"]
    ability = Scorer(Endpoint(base_url=address), Usage()).find_ability(ids if by_ids else "the film was")
    assert (ability.way, ability.model) == ("prompt_logprobs" if by_ids else "echo", "tiny")
    assert ability.same_as_written in (True, None)


@pytest.mark.parametrize("by_ids", [True, False], ids=["ids", "texts"])
def test_labels(address: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], by_ids: bool) -> None:
    write_jsonl(review_rows(24, 3), tmp_path / "reviews.jsonl")
    task = "labels: [positive, negative]\nfields: [text]\nfile: reviews.jsonl\nlabel: sentiment\n"
    (tmp_path / "reviews.yaml").write_text(task)
    name = str(tmp_path / "reviews.yaml")
    probe(name, tmp_path / "here", capsys, str(model))
    probe(name, tmp_path / "there", capsys, *remote(address, *(["--tokenizer", str(model)] if by_ids else [])))
    own, others = table(tmp_path / "here", "predictions"), table(tmp_path / "there", "predictions")
    assert own["predicted"].to_list() == others["predicted"].to_list()
    gaps = [(rows["logit_positive"] - rows["logit_negative"]).to_list() for rows in (own, others)]
    assert gaps[0] == pytest.approx(gaps[1], abs=2e-3)
    assert len({round(gap, 2) for gap in gaps[0]}) > 5


@pytest.mark.parametrize("by_ids", [True, False], ids=["ids", "texts"])
def test_perplexity(
    address: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], by_ids: bool
) -> None:
    texts = [*TEXTS, "🙂 was warm", " the song 7"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    task = f"perplexity={tmp_path / 'texts.jsonl'}"
    probe(task, tmp_path / "here", capsys, str(model))
    told = probe(task, tmp_path / "there", capsys, *remote(address, *(["--tokenizer", str(model)] if by_ids else [])))
    own, others = table(tmp_path / "here", "rows"), table(tmp_path / "there", "rows")
    assert own.drop("nats").equals(others.drop("nats")), told["notes"]
    assert own["nats"].to_list() == pytest.approx(others["nats"].to_list(), rel=1e-3)


def test_answers_of_chats(address: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"messages": [{"role": role, "content": content} for role, content in chat]} for chat in CHATS]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = f"perplexity={tmp_path / 'chats.jsonl'}"
    probe(task, tmp_path / "here", capsys, str(model))
    probe(task, tmp_path / "there", capsys, *remote(address, "--tokenizer", str(model)))
    own, others = table(tmp_path / "here", "rows"), table(tmp_path / "there", "rows")
    assert own.drop("nats").equals(others.drop("nats"))
    assert own["nats"].to_list() == pytest.approx(others["nats"].to_list(), rel=1e-3)


def test_a_row_that_is_too_long(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["the film was warm", "the film was " * 300]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    told = probe(f"perplexity={tmp_path / 'texts.jsonl'}", tmp_path / "s", capsys, *remote(address))
    assert any("{'longer than the model reads': 1}" in note for note in told["notes"])


def test_run_batch(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests that we write, run by `vllm run-batch`, and its output, which we score."""
    rows = [{"question": f"what is {at}", "answer": f"#### {at}"} for at in range(4)]
    task = f"gsm8k={write_jsonl(rows, tmp_path / 'q.jsonl')}"
    flags = ["--max-new-tokens", "8"]
    (requests,) = probe(task, tmp_path / "s", capsys, "tiny", "--export", str(tmp_path / "batch"), *flags)["exported"]
    long = json.loads(Path(requests).read_text().splitlines()[0])
    long["body"]["messages"][-1]["content"] = "the film was " * 300
    lines = Path(requests).read_text().splitlines()
    Path(requests).write_text("\n".join([json.dumps(long), *lines[1:]]) + "\n")
    out = tmp_path / "out.jsonl"
    command = [COMMAND, "run-batch", "-i", requests, "-o", str(out), "--model", str(model), *OPTIONS]
    finished = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=START, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    told = probe(task, tmp_path / "s", capsys, "--predictions", str(out), *flags)
    answers = told["details"]["answers"]
    assert answers["missing"] == {"longer than the model reads": 1}
    assert answers["prompts"] == 4
    assert 0 < answers["tokens"] <= 24
    assert "answers of a batch file: 4 lines" in told["notes"]
