"""Rows longer than a model's positions: cut or left out and counted, in training, probes and repair; never a traceback."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import save_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaForSequenceClassification

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.records import Labelled
from pyrite.steps import Progress, RunOptions, Source, Step, StepType, Store, run_steps
from pyrite.tasks.rows import write_rows
from pyrite.train.causal import TRAIN_GENERATOR
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.language import TRAIN_LANGUAGE
from pyrite.train.settings import TrainSettings

CPU = Compute("cpu", "fp32")
LABELS = ["positive", "negative"]
SETTINGS = TrainSettings(epochs=1, batch_size=4, learning_rate=1e-3, max_tokens=512)
LONG = {2, 5}
"""Which of the rows are far longer than 64 tokens."""


def texts(count: int = 8) -> list[str]:
    return [f"the film {at} was lovely " * (40 if at in LONG else 1) for at in range(count)]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """66 positions, of which the first two are never a token's: 64 tokens fit, and one more is an error of the library."""
    folder = tmp_path_factory.mktemp("roberta")
    size = save_tokenizer(folder, pair=True)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=2,
        max_position_embeddings=66, pad_token_id=1, type_vocab_size=1, id2label=dict(enumerate(LABELS)),
    )  # fmt: skip
    model = RobertaForSequenceClassification(config).eval()
    with torch.inference_mode():
        model(torch.full((1, 64), 7))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, 65), 7))
    model.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"pad_token": "<s>"}  # the token of id 1
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 learned positions, under GPT-2's own name for them."""
    folder = tmp_path_factory.mktemp("gpt2")
    size = save_tokenizer(folder, pair=False)
    torch.manual_seed(0)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64, **special)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def trained(kind: StepType, base: Path, rows: Path, store: Path, **more: Any) -> Any:
    config = {
        "labels": LABELS, "fields": ["text"], "rows_file": "rows.jsonl", "settings": SETTINGS.model_dump(mode="json"),
        "compute": CPU.as_config(), "seed": 0, "base_name": "tiny", **more,
    }  # fmt: skip
    step = Step(kind, config, {"base": Source(str(base), "tiny"), "rows": Source(str(rows), "rows")}, label="train")
    run_steps([step], Store(store), RunOptions(), Progress(quiet=True))
    return json.loads((Store(store).path(step.key) / "training.json").read_text())


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = [Labelled({"text": text}, LABELS[at % 2], str(at)) for at, text in enumerate(texts())]
    write_rows(rows, tmp_path / "rows.jsonl")
    return tmp_path


def test_a_classifier_is_trained_on_cut_rows(roberta: Path, labelled: Path) -> None:
    told = trained(TRAIN_CLASSIFIER, roberta, labelled, labelled / "store", reads="pair")
    assert told == {"rows": 8, "rows_cut": 2, "max_tokens": 64}


def test_a_generator_leaves_long_rows_out(gpt2: Path, labelled: Path) -> None:
    told = trained(TRAIN_GENERATOR, gpt2, labelled, labelled / "store")
    assert told == {"rows": 8, "rows_too_long": 2, "max_tokens": 64}


@pytest.mark.parametrize("skip", [False, True])
def test_a_language_model_leaves_out_long_and_refused_chats(gpt2: Path, tmp_path: Path, skip: bool) -> None:
    base = shutil.copytree(gpt2, tmp_path / "chatty")
    (base / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }}\n{% endfor %}"
    )
    rows = [[("user", "how?"), ("assistant", text)] for text in texts()]
    rows[1] = [("system", "be kind"), *rows[1]]
    lines = [{"messages": [{"role": role, "content": content} for role, content in row]} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options: dict[str, Any] = {"trains": "chat", "first": None, "pack_tokens": 0}
    if not skip:
        with pytest.raises(UserError, match="refuses a conversation") as caught:
            trained(TRAIN_LANGUAGE, base, tmp_path, tmp_path / "store", **options)
        assert "1 of 8 learn rows are refused" in caught.value.found
        return
    told = trained(TRAIN_LANGUAGE, base, tmp_path, tmp_path / "store", **options, on_bad_row="skip")
    assert (told["rows"], told["used"], told["rows_too_long"], told["rows_refused"]) == (8, 5, 2, 1)


def test_a_probe_by_the_head_reads_cut_rows(roberta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": text, "label": LABELS[at % 2]} for at, text in enumerate(texts())]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        "file: rows.jsonl\nfields: [text]\nlabel: label\nlabels: [positive, negative]\n"
    )
    line = ["probe", str(roberta), "--task", str(tmp_path / "task.yaml"), "--max-tokens", "512", "--precision", "fp32"]
    assert run([*line, "--json", "--quiet", "--store", str(tmp_path / "s")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["overall"]["n"] == 8
    assert "2 rows were cut at 64 tokens" in told["notes"]
    tokenizer = load.load_tokenizer(roberta)
    assert len(tokenizer(texts()[2])["input_ids"]) > 64
