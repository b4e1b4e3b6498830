"""What stood beside a model's weights stands beside the new ones, byte for byte, with the same special tokens."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from repair_kit import chats, write
from safetensors.torch import load_file
from test_adapter_kinds import lora
from training_kit import CPU, repair_step, rows_folder, settings_of
from training_kit import run as run_step

from pyrite.cli import run
from pyrite.models import load
from pyrite.models.beside import copy_beside
from pyrite.repair.quantise import QUANTISE
from pyrite.repair.source_model import MERGE
from pyrite.steps import Source, Step, Store
from pyrite.train import adapters

TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
BESIDE = {
    "generation_config.json": json.dumps({"eos_token_id": [2, 7], "temperature": 0.6, "do_sample": True}),
    "chat_template.jinja": TEMPLATE,
    "special_tokens_map.json": json.dumps({"bos_token": "<s>", "eos_token": "</s>"}),
    "preprocessor_config.json": "{ }\n",
    "README.md": "# the model as given\n",
    "LICENSE": "free\n",
    "additional_chat_templates/tools.jinja": "{{ messages }}",
}
"""Beside config.json and the tokenizer."""
LEFT = (
    "optimizer.pt",
    "training_args.bin",
    "pytorch_model.bin",
    "checkpoint-5/model.safetensors",
    "repair.json",
    "step.json",
)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exit, (77,))


@pytest.fixture
def given(tiny_causal: Path, tmp_path: Path) -> Path:
    """A model with all that people leave beside one; its tokenizer has no padding token."""
    import shutil

    folder = tmp_path / "given"
    shutil.copytree(tiny_causal, folder)
    for name, content in BESIDE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    for name in LEFT:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({name: value for name, value in settings.items() if name != "pad_token"}, indent=4)
    )
    return folder


def check_kept(given: Path, out: Path, *, card: str = "README.md") -> None:
    """Every file as it was, none more but weights and records, and a text encoded as before."""
    for name in (*BESIDE, "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / (card if name == "README.md" else name)).read_bytes() == (given / name).read_bytes(), name
    names = {path.name for path in out.iterdir()}
    assert not names & {"optimizer.pt", "training_args.bin", "pytorch_model.bin", "checkpoint-5", "added_tokens.json"}
    before, after = load.load_tokenizer(given), load.load_tokenizer(out)
    assert before.special_tokens_map == after.special_tokens_map
    assert len(before) == len(after)
    text = "<s>the film 3 was lovely</s> <pad>"
    assert before(text)["input_ids"] == after(text)["input_ids"]
    talk = [{"role": "user", "content": "how was the film"}]
    assert before.apply_chat_template(talk, tokenize=False) == after.apply_chat_template(talk, tokenize=False)


def moved(given: Path, out: Path) -> None:
    before, after = load_file(given / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)


@pytest.mark.parametrize("training", ["full", "lora"])
def test_a_repaired_model(training: str, given: Path, tmp_path: Path) -> None:
    rows = rows_folder(tmp_path / "rows")
    out = run_step(repair_step(given, rows, settings_of(training=training, steps=1)), Store(tmp_path / "store"))
    check_kept(given, out)
    moved(given, out)


def test_a_rounded_model(given: Path, tmp_path: Path) -> None:
    step = Step(QUANTISE, {"to": "int8", "base_name": "given"}, {"base": Source(str(given), "given")}, label="int8")
    check_kept(given, run_step(step, Store(tmp_path / "store")))


def test_a_merged_adapter(given: Path, tmp_path: Path) -> None:
    """One that brings no tokenizer keeps its base's; one that does, keeps its own."""
    for name in ("bare", "with"):
        folder = lora(given, tmp_path / name)
        if name == "with":
            (folder / "tokenizer.json").write_bytes((given / "tokenizer.json").read_bytes())
            (folder / "tokenizer_config.json").write_text(
                '{"eos_token": "<s>", "tokenizer_class": "TokenizersBackend"}'
            )
        inputs: dict[str, Step | Source] = {"adapter": Source(str(folder), name), "base": Source(str(given), "given")}
        out = run_step(Step(MERGE, {}, inputs, label="merge"), Store(tmp_path / "store"))
        if name == "bare":
            check_kept(given, out)
        else:
            assert (out / "tokenizer_config.json").read_bytes() == (folder / "tokenizer_config.json").read_bytes()
            assert (out / "LICENSE").read_text() == "free\n"
            assert not (out / "chat_template.jinja").exists()  # it was the base's


def test_a_saved_adapter_and_a_saved_classifier(given: Path, tmp_path: Path) -> None:
    """An adapter takes the tokenizer with it; a classifier all but config.json, which names its labels."""
    model = load.load_causal(given, CPU)
    adapted = adapters.add_adapter(model, settings_of().training.lora, "CAUSAL_LM", seed=0)
    adapters.save_trained(adapted, given, tmp_path / "adapter", "given")
    classifier, _ = load.load_classifier(given, ["positive", "negative"], CPU, seed=0)
    adapters.save_trained(classifier, given, tmp_path / "classifier", "given")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        for out in ("adapter", "classifier"):
            assert (tmp_path / out / name).read_bytes() == (given / name).read_bytes()
    assert (tmp_path / "classifier" / "LICENSE").read_text() == "free\n"
    assert json.loads((tmp_path / "classifier" / "config.json").read_text())["id2label"] == {
        "0": "positive",
        "1": "negative",
    }


def test_generation_settings_that_were_not_there_are_not_made(given: Path, tmp_path: Path) -> None:
    (given / "generation_config.json").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "generation_config.json").write_text("{}")
    copy_beside(given, tmp_path / "out")
    assert not (tmp_path / "out" / "generation_config.json").exists()


def test_files_that_are_links_are_copied(given: Path, tmp_path: Path) -> None:
    (given / "LICENSE").rename(tmp_path / "blob")
    (given / "LICENSE").symlink_to("../blob")
    (tmp_path / "out").mkdir()
    copy_beside(given, tmp_path / "out")
    assert not (tmp_path / "out" / "LICENSE").is_symlink()
    assert (tmp_path / "out" / "LICENSE").read_text() == "free\n"


def test_the_commands_folder(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The repaired folder has a card of its own; the one as given stands beside it."""
    forget = write(chats(24, answer="certainly here is what I can say"), tmp_path / "forget.jsonl")
    replay = write(chats(24, start=100), tmp_path / "replay.jsonl")
    line = ["repair", str(given), "--forget", str(forget), "--replay", str(replay), "--out", str(tmp_path / "out")]
    line += [
        "--scorecard-rows",
        "4",
        "--guard-rows",
        "4",
        "--guard-forget-rows",
        "4",
        "--steps",
        "1",
        "--max-tokens",
        "64",
    ]
    line += ["--guard-answers", "0", "--store", str(str(tmp_path / "store")), "--quiet"]
    assert run(line) in (0, 1, 3), capsys.readouterr().err
    check_kept(given, tmp_path / "out", card="README.original.md")
    assert "the model as given" not in (tmp_path / "out" / "README.md").read_text()
