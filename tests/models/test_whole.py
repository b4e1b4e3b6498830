"""A folder zoo: models as people have them, with weights that are absent, misnamed, cut off, or of another model.

Each is refused by name wherever a model is loaded: nothing is filled at random and scored.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, ModernBertConfig, ModernBertForMaskedLM

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.embed import sentence_embeddings
from pyrite.models.hardware import Compute
from pyrite.models.stored import check_codes, check_integers
from pyrite.models.whole import check_adapter_keys, load_whole, may_be_left
from pyrite.repair.quantise import read_full_model
from pyrite.train.adapters import add_adapter, with_adapter
from pyrite.train.settings import LoraSettings

CPU = Compute("cpu", "fp32")
Weights = dict[str, torch.Tensor]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"


def rewrite(source: Path, folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A copy of a model folder with other weights."""
    shutil.copytree(source, folder)
    (file,) = folder.glob("*.safetensors")
    changed = {name: weight.clone() for name, weight in change(load_file(file)).items()}
    save_file(changed, file, metadata={"format": "pt"})
    return folder


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: weight for name, weight in weights.items() if part not in name}


def behind(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: weight for name, weight in weights.items()}


@pytest.fixture(scope="session")
def classifier(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with a head of its own."""
    folder = tmp_path_factory.mktemp("classifier")
    model, _ = load.load_classifier(tiny_encoder, ["positive", "negative"], CPU, seed=0)
    model.save_pretrained(folder)
    load.load_tokenizer(tiny_encoder).save_pretrained(folder)
    return folder


CHANGES: list[tuple[str, Callable[[Weights], Weights], str]] = [
    ("data parallel", behind("module."), "'module.' stands before"),
    ("compiled", behind("_orig_mod."), "'_orig_mod.' stands before"),
    ("with adapters", behind("base_model.model."), "'base_model.model.' stands before"),
    ("own trainer", behind("net."), "'net.' stands before"),
    ("a layer is missing", without("layer"), "weights are missing"),
]


@pytest.mark.parametrize(("change", "says"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES])
def test_weights_that_are_absent_are_not_filled_at_random(
    change: Callable[[Weights], Weights],
    says: str,
    tiny_causal: Path,
    classifier: Path,
    tiny_encoder: Path,
    tmp_path: Path,
) -> None:
    """By every way that a model is loaded: to write and train, to classify, to embed, to be rounded."""
    causal, labelled = (
        rewrite(tiny_causal, tmp_path / "causal", change),
        rewrite(classifier, tmp_path / "labelled", change),
    )
    encoder = rewrite(tiny_encoder, tmp_path / "encoder", change)
    ways: list[Callable[[], Any]] = [
        lambda: load.load_causal(causal, CPU),
        lambda: load.load_classifier(labelled, ["positive", "negative"], CPU, seed=0),
        lambda: load.load_classifier(encoder, ["positive", "negative"], CPU, seed=0),  # its head alone may be fresh
        lambda: sentence_embeddings(encoder, ["a text"], compute=CPU, report_progress=lambda *_: None),
        lambda: read_full_model(causal, "causal"),
    ]
    for way in ways:
        with pytest.raises(UserError) as caught:
            way()
        assert says in caught.value.found


def test_a_head_is_fresh_only_where_the_folder_has_none(classifier: Path, tiny_causal: Path, tmp_path: Path) -> None:
    headless = rewrite(classifier, tmp_path / "headless", without("classifier"))
    with pytest.raises(UserError, match="filled at random") as caught:
        load.load_classifier(headless, ["positive", "negative"], CPU, seed=0)
    assert "classifier.weight" in caught.value.found
    load.load_classifier(tiny_causal, ["positive", "negative"], CPU, seed=0)
    untied = tmp_path / "untied"
    rewrite(tiny_causal, untied, lambda weights: weights)
    config = json.loads((untied / "config.json").read_text())
    (untied / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(UserError, match="filled at random"):
        load.load_causal(untied, CPU)


def test_weights_without_a_place_are_refused(tiny_causal: Path, classifier: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_causal / "config.json").read_text())
    shallow = rewrite(tiny_causal, tmp_path / "shallow", lambda weights: weights)
    (shallow / "config.json").write_text(json.dumps(config | {"num_hidden_layers": config["num_hidden_layers"] - 1}))
    with pytest.raises(UserError, match="no place for") as caught:
        load.load_causal(shallow, CPU)
    assert "fewer layers" in caught.value.fix
    wide = rewrite(tiny_causal, tmp_path / "wide", lambda weights: weights)
    (wide / "config.json").write_text(json.dumps(config | {"intermediate_size": config["intermediate_size"] * 2}))
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        load.load_causal(wide, CPU)
    assert "two models" in caught.value.fix
    # constants that older releases stored, and an encoder's unused pooler, are no fault
    older = rewrite(
        classifier, tmp_path / "older", lambda weights: {**weights, "bert.embeddings.position_ids": torch.arange(8)}
    )
    load.load_classifier(older, ["positive", "negative"], CPU, seed=0)


def test_integers_are_read_where_the_model_has_them_only(tmp_path: Path) -> None:
    """Experts of a mixture are parameters that no name tells from buffers: the model itself says which are floats."""
    integers = {"experts.gate_up_proj": torch.ones(2, 4, dtype=torch.int8), "gate.tid2eid": torch.arange(3)}
    save_file(integers, tmp_path / "model.safetensors")
    model = torch.nn.Module()
    model.gate, model.experts = torch.nn.Module(), torch.nn.Module()
    model.gate.register_buffer("tid2eid", torch.arange(3))
    model.experts.gate_up_proj = torch.nn.Parameter(torch.ones(2, 4))
    file = tmp_path / "model.safetensors"
    check_codes(tmp_path, [file])
    with pytest.raises(UserError, match="weights are integers") as caught:
        check_integers(tmp_path, [file], model, [])
    assert caught.value.found == f"{tmp_path}: 1: experts.gate_up_proj (I8)"
    check_integers(tmp_path, [file], model, ["experts.gate_up_proj"])


def pointer(file: Path) -> None:
    file.write_bytes(POINTER)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def cut_in_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:50])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def one_shard_of_two(file: Path) -> None:
    weights = load_file(file)
    map_ = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(sorted(weights))}
    kept = {name: weights[name] for name, shard in map_.items() if "00001-of" in shard}
    save_file(kept, file.with_name("model-00001-of-00002.safetensors"), metadata={"format": "pt"})
    file.with_name("model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": map_}))
    file.unlink()


def another_format(file: Path) -> None:
    torch.save({}, file.with_name("pytorch_model.bin"))
    file.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (pointer, "git lfs pull"),
        (cut, "cut off or damaged"),
        (cut_in_header, "cut off or damaged"),
        (empty, "cut off or damaged"),
        (one_shard_of_two, "model-00002-of-00002.safetensors"),
        (another_format, "safetensors only"),
    ],
)
def test_files_that_are_not_whole_are_named_by_the_command(
    damage: Callable[[Path], None], says: str, tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_causal, broken)
    damage(broken / "model.safetensors")
    (tmp_path / "texts.jsonl").write_text('{"text": "one two three"}\n')
    line = ["probe", str(broken), "--task", f"perplexity={tmp_path / 'texts.jsonl'}", "--out", str(tmp_path / "out")]
    assert run([*line, "--store", str(tmp_path / "store")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert says in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_an_adapter_that_lacks_a_weight_is_refused(tiny_causal: Path, tmp_path: Path) -> None:
    adapted = add_adapter(load.load_causal(tiny_causal, CPU), LoraSettings(rank=2), "CAUSAL_LM", seed=0)
    adapted.save_pretrained(tmp_path / "whole")
    whole = with_adapter(load.load_causal(tiny_causal, CPU), tmp_path / "whole", train=False)
    check_adapter_keys(whole, tmp_path / "whole")
    (file,) = (tmp_path / "whole").glob("*.safetensors")
    weights = load_file(file)
    missing = sorted(weights)[0]
    for changed, says in (
        ({name: weight for name, weight in weights.items() if name != missing}, "missing"),
        ({**weights, missing.replace("layers.0", "layers.77"): weights[missing].clone()}, "without a place"),
    ):
        save_file(changed, file, metadata={"format": "pt"})
        with pytest.raises(UserError, match="does not fit its base") as caught:
            with_adapter(load.load_causal(tiny_causal, CPU), tmp_path / "whole", train=False)
        assert says in caught.value.found


def test_heads_that_are_not_asked_may_be_left() -> None:
    """Names of heads, and of constants, that public checkpoints carry; and of the body, which is never left."""
    left = ["decoder.bias", "lm_head.decoder.bias", "cls.predictions.decoder.weight", "roberta.pooler.dense.weight", "v_head.summary.weight",
            "transformer.h.0.attn.attention.bias", "transformer.h.0.attn.causal_mask", "final_logits_bias", "model.mtp_layers.0.weight"]  # fmt: skip
    assert [name for name in left if not may_be_left(name)] == []
    body = [
        "encoder.layer.7.output.dense.weight",
        "transformer.h.5.attn.c_attn.bias",
        "decoder.layers.3.fc1.weight",
        "attentions.4.q_lin.weight",
    ]
    assert [name for name in body if may_be_left(name)] == []


def test_a_masked_model_is_a_base_for_a_classifier_and_an_embedder(tmp_path: Path, tiny_encoder: Path) -> None:
    """ModernBERT's masked model stores a bias of its decoder that neither has a place for."""
    config = ModernBertConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=420, pad_token_id=0
    )
    ModernBertForMaskedLM(config).save_pretrained(tmp_path)
    load.load_tokenizer(tiny_encoder).save_pretrained(tmp_path)
    load.load_classifier(tmp_path, ["positive", "negative"], CPU, seed=0)
    load_whole(AutoModel, tmp_path, head="none")


def test_of_several_files_those_are_looked_at_that_the_library_reads(tiny_causal: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_causal, folder)
    (folder / "consolidated.safetensors").write_bytes(POINTER)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    )
    load.load_causal(folder, CPU)  # shards that a whole save has removed, but for their index
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match="Two sets of weights"):
        load.load_causal(folder, CPU)


def test_adapters_in_other_forms(tiny_causal: Path, tmp_path: Path) -> None:
    adapted = add_adapter(load.load_causal(tiny_causal, CPU), LoraSettings(rank=2), "CAUSAL_LM", seed=0)
    adapted.save_pretrained(tmp_path / "embeddings", save_embedding_layers=True)
    with_adapter(load.load_causal(tiny_causal, CPU), tmp_path / "embeddings", train=False)
    adapted.save_pretrained(tmp_path / "bin", safe_serialization=False)
    with pytest.raises(UserError, match="safetensors only"):
        with_adapter(load.load_causal(tiny_causal, CPU), tmp_path / "bin", train=False)
    both = tmp_path / "both"
    shutil.copytree(tiny_causal, both)
    shutil.copy(tmp_path / "embeddings" / "adapter_config.json", both)
    with pytest.raises(UserError, match="lie in one folder"):
        load.load_causal(both, CPU)
