"""A model spread over memory and disk says what it says on one device; what cannot be spread is refused by name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pyrite.errors import UserError
from pyrite.models import load, spread
from pyrite.models.hardware import Compute, choose
from pyrite.models.perplexity import EncodedText, text_nlls
from pyrite.models.rows import reader_of

ONE, SPREAD = Compute("cpu", "fp32"), Compute("cpu", "fp32", device_map="auto")
LIMIT = "130KB"
"""Less than the tiny model's weights take."""


def read(model: Any) -> list[float]:
    rows = [EncodedText(list(range(5, 5 + size)), [True] * size, [1] * size) for size in (12, 30, 7)]
    return [nll.nats for nll in text_nlls(model, rows, max_tokens=16, report_progress=lambda *_: None)]


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(spread.LIMITS, f"cpu={LIMIT}")


@pytest.fixture
def untied(tmp_path: Path, tiny_causal: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(tiny_causal)
    config.tie_word_embeddings = False
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "untied")
    return tmp_path / "untied"


def test_layers_on_disk_give_the_same_numbers(little_memory: None, tiny_causal: Path) -> None:
    model = load.load_causal(tiny_causal, SPREAD)
    places = set(model.hf_device_map.values())
    assert "disk" in places
    assert any(weight.device.type == "meta" for weight in model.parameters())
    assert spread.device_of(model) == torch.device("cpu")
    model, compute = load.for_generation(model, SPREAD)
    assert compute.precision == "fp32"
    assert read(model) == pytest.approx(read(load.load_causal(tiny_causal, ONE)), abs=1e-4)


def test_an_output_matrix_on_disk_is_read_by_the_librarys_own_pass(little_memory: None, untied: Path) -> None:
    model = load.load_causal(untied, SPREAD)
    assert model.lm_head.weight.device.type == "meta"
    assert reader_of(model) is None
    assert read(model) == pytest.approx(read(load.load_causal(untied, ONE)), abs=1e-4)


def test_what_lies_on_disk_is_looked_at_for_broken_numbers(little_memory: None, tmp_path: Path, untied: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(untied / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = torch.nan
    save_file(weights, untied / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"not numbers.*\n.*layers.1.mlp.up_proj"):
        load.load_causal(untied, SPREAD)


def test_the_folder_of_what_lies_on_disk_goes_with_the_model(
    little_memory: None, tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = load.load_causal(tiny_causal, SPREAD)
    assert list(tmp_path.glob("pyrite-offload-*"))
    del model
    gc.collect()
    assert not list(tmp_path.glob("pyrite-offload-*"))


def test_answers_are_the_same(little_memory: None, tiny_causal: Path) -> None:
    from pyrite.models.generate import generate

    def written(compute: Compute) -> list[list[int]]:
        model = load.load_causal(tiny_causal, compute)
        texts = generate(model, [[5, 6, 7], [8, 9]], max_new_tokens=6, end_ids=[2])
        return [answer.ids for _, answer in sorted(texts, key=lambda pair: pair[0])]

    assert written(SPREAD) == written(ONE)


def test_the_command_gives_the_same_scorecard(
    tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyrite.cli import run

    file = tmp_path / "texts.jsonl"
    file.write_text(
        "".join(json.dumps({"text": f"the film {n} was lovely and the song was bright"}) + "\n" for n in range(12))
    )
    line = ["probe", str(tiny_causal), "--task", f"perplexity={file}", "--precision", "fp32", "--quiet"]
    line += ["--store", str(tmp_path / "store")]
    assert run([*line, "--out", str(tmp_path / "one")]) == 0
    monkeypatch.setenv(spread.LIMITS, f"cpu={LIMIT}")
    assert run([*line, "--out", str(tmp_path / "spread"), "--device-map", "auto"]) == 0
    cards = [json.loads((tmp_path / name / "run.json").read_text())["scorecards"] for name in ("one", "spread")]
    on_one, on_both = (list(floats_in(card)) for card in cards)
    assert len(on_one) > 4
    assert on_one == pytest.approx(on_both, abs=1e-5)
    assert len([*(tmp_path / "store").glob("done/*/*")]) == 2


def floats_in(record: Any) -> Iterator[float]:
    if isinstance(record, float):
        yield record
    elif isinstance(record, dict | list):
        for value in record.values() if isinstance(record, dict) else record:
            yield from floats_in(value)


def test_what_is_not_spread_says_so(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="A classifier is not spread"):
        load.load_classifier(tiny_encoder, ["a", "b"], SPREAD, seed=0)
    with pytest.raises(UserError, match="int8 with --device-map auto"):
        choose("int8", "auto")
    monkeypatch.setenv(spread.LIMITS, "cpu=lots")
    with pytest.raises(UserError, match="PYRITE_MAX_MEMORY: cpu=lots"):
        spread.memory_limits()


def test_a_step_on_one_device_keeps_its_key() -> None:
    assert ONE.as_config() == {"device": "cpu", "precision": "fp32"}
    assert SPREAD.as_config()["device_map"] == "auto"
    assert Compute(**SPREAD.as_config()) == SPREAD


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_give_the_numbers_of_one(untied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(spread.LIMITS, f"0={LIMIT},1=1GiB")
    compute = Compute("cuda", "fp32", device_map="auto")
    model = load.load_causal(untied, compute)
    assert {0, 1} <= set(model.hf_device_map.values())
    assert read(model) == pytest.approx(read(load.load_causal(untied, Compute("cuda", "fp32"))), abs=1e-3)
