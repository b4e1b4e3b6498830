"""Trainings of studies in two and four processes (gloo, CPU) do what one does: losses, weights, cut off and resumed.

Starting processes is dear: one group runs every case, and its results are read by all tests.
"""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pyrite.errors import OutOfTime
from pyrite.models.hardware import Compute
from pyrite.records import Chat, Labelled, Message
from pyrite.steps import Context
from pyrite.tasks.rows import write_rows
from pyrite.train import peers
from pyrite.train.causal import train_generator_in_process
from pyrite.train.classifier import train_classifier_in_process
from pyrite.train.language import language_training, train_language_in_process
from pyrite.train.settings import ClassifierSettings, LoraSettings, TrainSettings
from pyrite.train.shards import read_shards
from pyrite.train.stored_weights import file_of
from pyrite.train.together import RECORD, WEIGHTS

from conftest import review_rows  # isort: skip

CPU = Compute("cpu", "fp32")
LABELS = ["positive", "negative"]
LORA = LoraSettings(rank=4, alpha=8, dropout=0)
QUICK: dict[str, Any] = {"batch_size": 6, "max_tokens": 64, "learning_rate": 1e-3, "lora": LORA, "epochs": 3}
CASES: dict[str, tuple[Callable[[Context], None], TrainSettings]] = {
    "chats, all weights": (train_language_in_process, TrainSettings(**QUICK)),
    "chats, LoRA": (train_language_in_process, TrainSettings(method="lora", **QUICK)),
    "encoder, all weights": (train_classifier_in_process, ClassifierSettings(accumulate=2, **QUICK)),
    "decoder, LoRA": (train_classifier_in_process, ClassifierSettings(method="lora", **QUICK)),
    "generator, LoRA": (train_generator_in_process, TrainSettings(method="lora", **QUICK)),
}
"""21 rows in steps of six: the last step has three, so that of four processes one has none."""
ROWS = 21


def context_of(name: str, base: Path, at: Path) -> Context:
    """A context in which a case runs as it does in its step."""
    _, settings = CASES[name]
    config: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"), "compute": CPU.as_config(), "seed": 0, "base_name": "tiny",
        "rows_file": "labelled.jsonl",
    }  # fmt: skip
    if name.startswith("chats"):
        config |= {"rows_file": "chats.jsonl", "trains": "chat", "first": None, "pack_tokens": 60}
    else:
        config |= {"labels": LABELS, "reads": "pair" if name.startswith("encoder") else "prompt"}
    folder = at / name
    for part in ("out", "checkpoint"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    model = base / ("encoder" if name.startswith("encoder") else "causal")
    return Context(
        config, {"base": model, "rows": base / "rows"}, folder / "out", folder / "checkpoint",
        report_progress=lambda *_: None, expired=lambda: False,
    )  # fmt: skip


def weights_read(context: Context) -> int:
    """How often is a model read from its folder where a training is prepared?"""
    from pyrite.models import load

    real, count = load.load_whole, itertools.count()  # type: ignore[attr-defined]

    def counted(*args: Any, **options: Any) -> Any:
        next(count)
        return real(*args, **options)

    load.load_whole = counted  # type: ignore[attr-defined]
    language_training(context)
    load.load_whole = real  # type: ignore[attr-defined]
    return next(count)


def every_case(context: Context) -> None:
    """What each process does, one case after the other; then one that is cut off after every other step."""
    from accelerate.state import AcceleratorState

    base, at = context.inputs["base"], context.checkpoint
    peers.draw_apart(7)
    (at / f"drawn-{peers.rank()}").write_text(str(torch.rand(1).item()))
    (at / f"read-{peers.rank()}").write_text(str(weights_read(context_of("chats, all weights", base, at))))
    for name, (task, _) in CASES.items():
        task(context_of(name, base, at))
        AcceleratorState._reset_state(reset_partial_state=False)
    if not context.config["cut"]:
        return
    for name in ("encoder, all weights", "chats, LoRA"):
        cuts = itertools.cycle([False, True])
        cut = replace(context_of(name, base, at / "cut"), expired=cuts.__next__)
        for _ in range(9):
            AcceleratorState._reset_state(reset_partial_state=False)
            try:
                CASES[name][0](cut)
                break
            except OutOfTime:
                assert list(cut.checkpoint.glob("checkpoint-*/complete"))
        else:
            raise AssertionError("it never came to its end")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path, tiny_encoder: Path) -> Path:
    """Models without dropout (its draws differ from process to process), and rows."""
    import shutil

    at = tmp_path_factory.mktemp("together")
    shutil.copytree(tiny_causal, at / "causal")
    shutil.copytree(tiny_encoder, at / "encoder")
    config = json.loads((at / "encoder" / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (at / "encoder" / "config.json").write_text(json.dumps(config | still))
    (at / "rows").mkdir()
    rows = review_rows(ROWS, 5)
    labelled = [Labelled({"text": row["text"]}, row["sentiment"], str(number)) for number, row in enumerate(rows)]
    write_rows(labelled, at / "rows" / "labelled.jsonl")
    chats = [
        Chat((Message("user", row["voice"]), Message("assistant", row["text"])), str(number))
        for number, row in enumerate(rows)
    ]
    from pyrite.io import write_jsonl

    write_jsonl(chats, at / "rows" / "chats.jsonl")
    return at


@pytest.fixture(scope="module")
def alone(base: Path) -> Path:
    for name, (task, _) in CASES.items():
        task(context_of(name, base, base / "one"))
    return base / "one"


def group_of(count: int, base: Path, *, cut: bool) -> Path:
    from pyrite.train.together import run_in_processes

    at = base / str(count)
    at.mkdir()
    context = Context({"cut": cut}, {"base": base}, at, at, lambda *_: None, lambda: False)
    run_in_processes(count, CPU, every_case, context)
    return at


@pytest.fixture(scope="module")
def pair(base: Path) -> Path:
    return group_of(2, base, cut=True)


@pytest.fixture(scope="module")
def four(base: Path) -> Path:
    return group_of(4, base, cut=False)


def weights(at: Path, name: str) -> dict[str, torch.Tensor]:
    path = at / name / "checkpoint" / WEIGHTS
    return load_file(file_of(path)) if file_of(path).is_file() else read_shards(path)


def losses(at: Path, name: str) -> list[float]:
    """Of every step, or (of trainings by `fit`) the mean of each ten."""
    record = json.loads((at / name / "checkpoint" / RECORD).read_text())
    curve = record["curve"] if "curve" in record else record["history.json"]["losses"]
    return [point["loss"] for point in curve]


def check_same(alone: Path, together: Path, name: str) -> None:
    assert losses(alone, name) == pytest.approx(losses(together, name), rel=1e-5)
    by_one, by_many = weights(alone, name), weights(together, name)
    assert by_one.keys() == by_many.keys()
    largest = max(float((by_one[key] - by_many[key]).abs().max()) for key in by_one)
    assert largest < 1e-4
    assert all(math.isfinite(float(tensor.sum())) for tensor in by_many.values())


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_losses_and_weights_of_one(alone: Path, pair: Path, name: str) -> None:
    check_same(alone, pair, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_four_processes_give_the_losses_and_weights_of_one(alone: Path, four: Path, name: str) -> None:
    check_same(alone, four, name)


def test_each_process_draws_its_own_dropout(pair: Path) -> None:
    """They read different rows: the same draws in all of them would leave the same places out of each."""
    assert len({(pair / f"drawn-{rank}").read_text() for rank in range(2)}) == 2


def test_gradients_are_clipped_by_the_norm_over_all_shares(alone: Path, pair: Path) -> None:
    norms = [
        [
            point["grad_norm"]
            for point in json.loads((at / "chats, all weights/checkpoint" / RECORD).read_text())["curve"]
        ]
        for at in (alone, pair)
    ]
    assert min(norms[0]) > 1  # max_grad_norm: every step was clipped
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


@pytest.mark.parametrize("name", ["encoder, all weights", "chats, LoRA"])
def test_cut_off_and_resumed_is_never_cut_off(pair: Path, name: str) -> None:
    if name.startswith("chats"):  # else the mean of ten steps is of those since the last start
        assert losses(pair, name) == losses(pair / "cut", name)
    uncut, cut = weights(pair, name), weights(pair / "cut", name)
    assert all(torch.equal(uncut[key], cut[key]) for key in uncut)


@pytest.mark.parametrize("name", CASES)
def test_the_training_moved_the_weights(alone: Path, base: Path, name: str) -> None:
    moved = weights(alone, name)
    if "LoRA" in name:
        assert any("lora_B" in key and float(tensor.abs().max()) > 0 for key, tensor in moved.items())
    else:
        [file] = (base / ("encoder" if name.startswith("encoder") else "causal")).glob("*.safetensors")
        before = load_file(file)
        inside = {key: before[key.removeprefix("bert.")] for key in moved if key.removeprefix("bert.") in before}
        assert len(inside) > 15
        assert sum(not torch.equal(moved[key], tensor) for key, tensor in inside.items()) > 0.8 * len(inside)


def test_each_process_wrote_its_share(pair: Path) -> None:
    files = sorted((pair / "chats, all weights" / "checkpoint" / WEIGHTS).glob("*.safetensors"))
    assert len(files) == 2
    sizes = [sum(tensor.numel() for tensor in load_file(file).values()) for file in files]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_only_the_first_process_reads_the_weights(pair: Path) -> None:
    assert [(pair / f"read-{rank}").read_text() for rank in range(2)] == ["1", "0"]


def test_one_process_keeps_the_keys_of_earlier_versions() -> None:
    assert "processes" not in TrainSettings().model_dump(mode="json")
    assert TrainSettings(processes=2).model_dump(mode="json")["processes"] == 2
    assert TrainSettings.model_validate(TrainSettings(processes=2).model_dump(mode="json")).processes == 2


def test_what_several_processes_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="not paged"):
        TrainSettings(processes=2, optimizer="paged_adamw_32bit")
    with pytest.raises(ValueError, match="leave out freeze or processes"):
        ClassifierSettings(processes=2, freeze=1)
