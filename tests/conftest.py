"""Tiny models built from a seed, tiny labelled data, and folders of their own for every test."""

import json
import os
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.s3_server import S3Server

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

GOOD, BAD = ["lovely", "bright", "warm", "kind", "great"], ["awful", "dark", "cold", "rude", "poor"]
THINGS = ["film", "song", "meal", "book", "room", "trip", "game", "walk"]
VOICES = ["critic", "guest"]


def review_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Labelled one-sentence reviews: the adjective decides, and a voice column gives slices."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        label = ["positive", "negative"][number % 2]
        word = rng.choice(GOOD if label == "positive" else BAD)
        text = f"the {rng.choice(THINGS)} {number % 97} was {word} and the {rng.choice(THINGS)} was {word}"
        rows.append({"text": text, "sentiment": label, "voice": rng.choice(VOICES)})
    return rows


def write_jsonl(rows: list[dict[str, str]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save_tokenizer(folder: Path, *, pair: bool) -> int:
    """A byte-level BPE tokenizer trained on the reviews; returns its vocabulary size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from pyrite.tasks.prompts import write_example

    texts = [write_example({"text": row["text"]}, row["sentiment"]) for row in review_rows(400, 99)]
    texts += [
        write_example({"premise": row["text"], "hypothesis": row["text"]}, "entailment") for row in review_rows(40, 98)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if pair:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        model_input_names=["input_ids", *(["token_type_ids"] if pair else []), "attention_mask"],
    )  # fmt: skip
    fast.save_pretrained(folder)
    return len(fast)


def build_encoder(folder: Path, seed: int = 0) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    size = save_tokenizer(folder, pair=True)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128, pad_token_id=0, type_vocab_size=2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def build_causal(folder: Path, seed: int = 0) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = save_tokenizer(folder, pair=False)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(tmp_path_factory.mktemp("tiny-encoder"))


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_causal(tmp_path_factory.mktemp("tiny-causal"))


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny language model, with a chat template that adds nothing: it goes on after the last word."""
    folder = build_causal(tmp_path_factory.mktemp("tiny-chat"))
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["S3Server"]:
    """A real S3 server on loopback, for all tests of a run; skips by name where it is not installed."""
    from tests.s3_server import started

    server = started(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture
def s3_url(s3_server: "S3Server", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own on that server, with the environment that a client needs, and a cache of its own."""
    from tests.s3_server import BUCKET

    for name, value in (s3_server.environment | {"PYRITE_STORE_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of public data that `$PYRITE_DATA` names; the test skips by name where there is none."""
    folder = os.environ.get("PYRITE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("$PYRITE_DATA names no folder of public data")
    return Path(folder)


TINY_SPEC = """
study: tiny
labels: [positive, negative]
fields: [text]
task_model: {{model: {encoder}, precision: fp32}}
data:
  human:
    files: [reviews.jsonl]
    columns: {{label: sentiment}}
    pools: {{test: 60, validation: {{rows: 20, balance: true}}, generator: {{rows: 120, balance: true}}, start: 160, arm: {{rows: rest}}}}
  synthetic:
    train_on: human.generator
    judge: trained
    synth:
      model: {causal}
      raw: 60
      training: {{epochs: 12, batch_size: 16, learning_rate: 1.0e-2, max_tokens: 96}}
      sampling: {{temperature: 0.7, max_new_tokens: 48, batch_size: 16}}
      select: {{near_duplicates: null}}
starts:
  raw: {{rows: {{}}}}
  trained: {{rows: {{human.start: 160}}}}
arms:
  human: {{mix: {{human.arm: 1}}}}
  synthetic: {{mix: {{synthetic: 1}}}}
sizes: [16]
seeds: [0, 1]
training:
  start: {{epochs: 10, batch_size: 16, learning_rate: 3.0e-3, max_tokens: 64}}
  arm: {{epochs: 2, batch_size: 8, learning_rate: 1.0e-3, max_tokens: 64}}
probes:
  general: {{task: labelled, data: human.test}}
  voices:
    task: labelled
    file: voices.jsonl
    columns: {{label: sentiment}}
    slices: [[voice], [voice, gold]]
    headline: {{voice: guest}}
margin: 0.05
workers: 1
"""


@pytest.fixture(scope="session")
def make_tiny_study(tiny_encoder: Path, tiny_causal: Path) -> Callable[[Path], Path]:
    """Writes, into a folder, a study on two user files of a two-label task that is not NLI; it runs in seconds."""

    def make(folder: Path) -> Path:
        write_jsonl(review_rows(500, 1), folder / "reviews.jsonl")
        write_jsonl(review_rows(80, 2), folder / "voices.jsonl")
        spec = folder / "tiny.yaml"
        spec.write_text(TINY_SPEC.format(encoder=tiny_encoder, causal=tiny_causal))
        return spec

    return make


def study_line(spec: Path, *more: str) -> list[str]:
    """The command that runs a study file, with its data, store and run folder beside it."""
    folder = spec.parent
    return [
        "study",
        str(spec),
        "--data",
        str(folder),
        "--store",
        str(folder / "store"),
        "--out",
        str(folder / "runs"),
        *more,
    ]


@pytest.fixture
def tiny_study(tmp_path: Path, make_tiny_study: Callable[[Path], Path]) -> Path:
    return make_tiny_study(tmp_path)


class Clock:
    """Stands for the time module of the runner: the deadline passes when the script says so."""

    def __init__(self, script: object) -> None:
        self.script = script
        self.calls = 0

    def monotonic(self) -> float:
        return 0.0

    def time(self) -> float:
        import sys

        caller = sys._getframe(1).f_code.co_name
        return 1e9 if caller == "<lambda>" and next(self.script) else 0.0  # type: ignore[call-overload]


def set_clock(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Let a clock stand for the time module wherever a run looks at its deadline."""
    for module in ("run", "attempt", "engine"):
        monkeypatch.setattr(f"pyrite.steps.{module}.time", clock)


TWO_SOURCES = """
study: s
labels: [a, b]
fields: [text]
task_model: {model: packaged:minilm-l6}
data: {h: {files: [x.csv]}, t: {files: [y.csv]}}
starts: {raw: {}}
arms: {human: {mix: {h: 1}}, other: {mix: {h: 1}}}
sizes: [10]
seeds: [0, 1, 2]
probes:
  general: {task: labelled, data: t}
  spot: {task: labelled, data: t, headline: {kind: hard}}
contrasts: [{arm: other}, {arm: other, against: start}, {arm: other, probe: gap}]
"""
"""A study of two sources, human and theirs, without training."""


@pytest.fixture
def in_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit's files of more than 100 kB are large, and worth processes of their own."""
    monkeypatch.setattr("pyrite.audit.spans.ALONE_BYTES", 100_000)
    monkeypatch.setattr("pyrite.audit.runner.WORTH_WORKERS", 0.0)
