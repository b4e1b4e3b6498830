"""Weights between two models, by hand: bit for bit at the ends, streamed, resumed, refused, adapters scaled as they are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pyrite.errors import OutOfTime, UserError
from pyrite.repair.weight_checks import check_compatible
from pyrite.repair.weight_files import Weights
from pyrite.repair.weights import alphas, combine, combine_step, interpolation, negation
from pyrite.steps import Context

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 11, "hidden_size": 4}


def context(folder: Path, config: dict[str, Any] | None = None, *, stop: Callable[[], bool] = lambda: False, **inputs: Path) -> Context:  # fmt: skip
    out, checkpoint = folder / "out", folder / "checkpoint"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return Context(config or {}, inputs, out, checkpoint, lambda *_: None, stop)


def tensors(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(*shape, generator=rng).to(dtype)
        for name, shape in {
            "model.embed_tokens.weight": (11, 4),
            "model.layers.0.mlp.up_proj.weight": (8, 4),
            "model.layers.1.mlp.up_proj.weight": (8, 4),
            "model.norm.weight": (4,),
        }.items()
    } | {"model.positions": torch.arange(5)}


def model(folder: Path, weights: dict[str, torch.Tensor], shards: int = 1, **config: Any) -> Weights:
    """A model folder: weights in so many files, a configuration, a tokenizer, and what people leave beside them."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}}))
    (folder / "README.md").write_text("mine")
    names = list(weights)
    parts = [names[at::shards] for at in range(shards)]
    files = ["model.safetensors"] if shards == 1 else [f"model-{at + 1:05}-of-{shards:05}.safetensors" for at in range(shards)]  # fmt: skip
    for file, shard_names in zip(files, parts, strict=True):
        save_file({name: weights[name] for name in shard_names}, folder / file, metadata={"format": "pt"})
    if shards > 1:
        weight_map = {name: file for file, shard_names in zip(files, parts, strict=True) for name in shard_names}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return Weights(folder, folder.name)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def between(tmp_path: Path, model_: Weights, before: Weights, alpha: float, groups: dict[str, float] | None = None) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    run_context = context(tmp_path / f"run-{alpha}")
    record = combine(interpolation(model_, before, alphas(alpha, groups or {})), run_context)
    return run_context.out, record


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shards", [1, 3])
def test_the_ends_are_the_two_models_bit_for_bit(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    harmed, before = (
        model(tmp_path / name, tensors(seed, dtype), shards) for seed, name in ((1, "harmed"), (2, "before"))
    )
    for alpha, end in ((1.0, harmed), (0.0, before)):
        out, record = between(tmp_path, harmed, before, alpha)
        mixed = weights_of(out)
        for name, tensor in weights_of(end.folder).items():
            assert torch.equal(mixed[name].view(torch.uint8), tensor.view(torch.uint8)), name
        assert record["tensors_changed"] == (0 if alpha else 4)
        for file in harmed.folder.iterdir():  # the files of the one that is repaired, and nothing else
            if alpha or file.suffix != ".safetensors":
                assert (out / file.name).read_bytes() == file.read_bytes()
        assert {file.name for file in out.iterdir()} == {file.name for file in harmed.folder.iterdir()}


def test_in_between_by_hand(tmp_path: Path) -> None:
    """before + 0.25 * (harmed - before): of 4 and 8 it is 5; of -1 and 1 it is -0.5."""
    harmed_weights = {"model.embed_tokens.weight": torch.tensor([[8.0, 1.0]]), "model.norm.weight": torch.tensor([2.0])}
    before_weights = {
        "model.embed_tokens.weight": torch.tensor([[4.0, -1.0]]),
        "model.norm.weight": torch.tensor([0.0]),
    }
    harmed, before = model(tmp_path / "harmed", harmed_weights), model(tmp_path / "before", before_weights)
    out, record = between(tmp_path, harmed, before, 0.25)
    assert weights_of(out)["model.embed_tokens.weight"].tolist() == [[5.0, -0.5]]
    assert record["tensors_changed"] == 2
    assert record["rms_change"] == pytest.approx(((9 + 2.25 + 2.25) / (64 + 1 + 4)) ** 0.5, rel=1e-5)
    out, _ = between(tmp_path / "groups", harmed, before, 0.25, {"*norm*": 1.0})
    assert weights_of(out)["model.norm.weight"].tolist() == [2.0]
    assert weights_of(out)["model.embed_tokens.weight"].tolist() == [[5.0, -0.5]]


def test_minus_what_another_model_learned_by_hand(tmp_path: Path) -> None:
    """harmed - 0.5 * (forgetter - before) = 8 - 0.5 * (6 - 4) = 7."""
    name = "model.embed_tokens.weight"
    harmed, before, forgetter = (
        model(tmp_path / name_of, {name: torch.full((1, 2), value)})
        for name_of, value in (("harmed", 8.0), ("before", 4.0), ("forgetter", 6.0))
    )
    run_context = context(tmp_path)
    combine(negation(harmed, before, forgetter, alphas(0.5, {})), run_context)
    assert weights_of(run_context.out)[name].tolist() == [[7.0, 7.0]]


def test_a_null_changes_no_bit_and_says_so(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        weights = tensors(1, dtype)
        harmed, before = (model(tmp_path / f"{dtype}" / name, weights) for name in ("harmed", "before"))
        out, record = between(tmp_path / f"{dtype}", harmed, before, 0.37)
        assert (out / "model.safetensors").read_bytes() == (harmed.folder / "model.safetensors").read_bytes()
        assert (record["tensors_changed"], record["rms_change"]) == (0, 0.0)


def test_a_head_that_one_model_stores_and_the_other_ties(tmp_path: Path) -> None:
    harmed_weights, before_weights = tensors(1), tensors(2)
    harmed_weights["lm_head.weight"] = harmed_weights["model.embed_tokens.weight"].clone()
    harmed = model(tmp_path / "harmed", harmed_weights, tie_word_embeddings=True)
    before = model(tmp_path / "before", before_weights, tie_word_embeddings=True)
    out, _ = between(tmp_path, harmed, before, 0.5)
    mixed = weights_of(out)
    assert torch.equal(mixed["lm_head.weight"], mixed["model.embed_tokens.weight"])
    out, _ = between(tmp_path / "turned", before, harmed, 0.5)
    assert "lm_head.weight" not in weights_of(out)


@pytest.mark.parametrize(
    ("change", "config", "says"),
    [
        (lambda w: w, {"vocab_size": 12}, "vocab_size: 11 in harmed, 12 in before"),
        (lambda w: w, {"model_type": "qwen2"}, "model_type: llama in harmed, qwen2 in before"),
        (
            lambda w: w | {"model.norm.weight": torch.ones(5)},
            {},
            r"model.norm.weight: \[4\] in harmed, \[5\] in before",
        ),
        (
            lambda w: {k: v for k, v in w.items() if k != "model.norm.weight"},
            {},
            "before has no tensor model.norm.weight",
        ),
        (lambda w: w | {"extra": torch.ones(1)}, {}, "harmed has no tensor extra"),
        (lambda w: w | {"model.positions": torch.arange(5) + 1}, {}, "model.positions"),
        (lambda w: w | {"model.norm.weight": torch.tensor([1.0, 2.0, torch.inf, 0.0])}, {}, "not finite"),
        (lambda w: w, {"quantization_config": {"quant_method": "gptq"}}, "before is quantised"),
    ],
)
def test_models_that_are_not_alike_are_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], config: dict[str, Any], says: str
) -> None:
    harmed, before = model(tmp_path / "harmed", tensors(1)), model(tmp_path / "before", change(tensors(2)), **config)
    with pytest.raises(UserError, match=says):
        between(tmp_path, harmed, before, 0.5)


def test_another_vocabulary_and_files_that_are_cut_off(tmp_path: Path) -> None:
    harmed, before = model(tmp_path / "harmed", tensors(1), 3), model(tmp_path / "before", tensors(2))
    (before.folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 1, "b": 0}}}))
    with pytest.raises(UserError, match="vocabularies of harmed and before differ"):
        check_compatible(harmed, [before])
    shutil.copyfile(harmed.folder / "tokenizer.json", before.folder / "tokenizer.json")
    file = harmed.folder / "model-00002-of-00003.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-3])
    with pytest.raises(UserError, match="cut off or damaged"):
        check_compatible(Weights(harmed.folder, "harmed"), [Weights(tmp_path / "before", "before")])
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    with pytest.raises(UserError, match="00002-of-00003"):
        check_compatible(Weights(harmed.folder, "harmed"), [before])
    file.unlink()
    with pytest.raises(UserError, match="weights are missing"):
        check_compatible(Weights(harmed.folder, "harmed"), [before])


def test_cut_off_after_every_file_is_the_same_as_never(tmp_path: Path) -> None:
    harmed, before = model(tmp_path / "harmed", tensors(1), 4), model(tmp_path / "before", tensors(2), 2)
    never, record = between(tmp_path, harmed, before, 0.3)
    stopped = 0
    while True:
        run_context = context(tmp_path / "cut", stop=lambda: True)
        try:
            again = combine(interpolation(harmed, before, alphas(0.3, {})), run_context)
            break
        except OutOfTime:
            stopped += 1
            (run_context.checkpoint / "model-00001-of-00004.safetensors.partial").write_bytes(b"torn")
    assert stopped >= 1
    assert again == record
    for file in never.iterdir():
        assert (run_context.out / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_three_gigabytes_in_shards_under_one_gigabyte_of_memory(tmp_path: Path) -> None:
    """Six shards of half a gigabyte in bf16, each a few tensors of 128 MB: measured in a process of its own."""
    import subprocess
    import sys

    program = f"""
import sys, torch, json, resource
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from safetensors.torch import save_file
import test_repair_weights as t
root = Path({str(tmp_path)!r})
for seed, name in ((1, "harmed"), (2, "before")):
    folder = root / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(t.CONFIG))
    where = {{}}
    for shard in range(6):
        file = f"model-{{shard + 1:05}}-of-00006.safetensors"
        some = {{}}
        for at in range(4):
            rng = torch.Generator().manual_seed(100 * seed + 10 * shard + at)
            some[f"layers.{{shard}}.{{at}}"] = torch.empty(64_000_000, dtype=torch.bfloat16).uniform_(-1, 1, generator=rng)
        save_file(some, folder / file)
        where |= dict.fromkeys(some, file)
        del some
    (folder / "model.safetensors.index.json").write_text(json.dumps({{"weight_map": where}}))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    merge = f"""
import sys, resource, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_repair_weights as t
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
root = Path({str(tmp_path)!r})
t.between(root, t.Weights(root / "harmed", "harmed"), t.Weights(root / "before", "before"), 0.5)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1e6)
"""
    finished = subprocess.run([sys.executable, "-c", merge], check=True, capture_output=True, text=True)
    assert float(finished.stdout) < 1.0  # gigabytes above what the libraries take; pages of mapped files count, too


def test_an_adapter_is_scaled_as_the_merged_model_is_interpolated(tmp_path: Path, tiny_causal: Path) -> None:
    """Half of a LoRA adapter's change, merged, is the merged model halfway to its base, to 1e-6."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny_causal, dtype=torch.float32)

    adapted = get_peft_model(
        base(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
    )
    rng = torch.Generator().manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=rng) * 0.1
    adapted.save_pretrained(tmp_path / "adapter")
    names = {"model": "adapter", "before": "base"}
    run_context = context(tmp_path, {"method": "interpolate", "alpha": 0.5, "groups": {}, "names": names}, model=tmp_path / "adapter", before=tiny_causal)  # fmt: skip
    combine_step(run_context)
    record = json.loads((run_context.out / "weights.json").read_bytes())
    assert record["tensors_changed"] > 0
    scaled = PeftModel.from_pretrained(base(), run_context.out).merge_and_unload().state_dict()
    full = PeftModel.from_pretrained(base(), tmp_path / "adapter").merge_and_unload().state_dict()
    start = base().state_dict()
    for name, tensor in scaled.items():
        assert torch.allclose(tensor, start[name] + 0.5 * (full[name] - start[name]), atol=1e-6), name
    assert any(not torch.equal(full[name], start[name]) for name in start)
    odd = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text()) | {"use_dora": True}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(odd))
    with pytest.raises(UserError, match="plain low-rank adapters"):
        combine_step(context(tmp_path, run_context.config, model=tmp_path / "adapter", before=tiny_causal))  # type: ignore[arg-type]


def test_a_head_of_its_own_is_not_dropped_in_silence(tmp_path: Path) -> None:
    """The model ties its head to the embedding and the other has one of its own: only where both say the same."""
    harmed_weights, second_weights = tensors(1), tensors(2)
    harmed = model(tmp_path / "harmed", harmed_weights, tie_word_embeddings=True)
    equal_head = model(
        tmp_path / "same",
        second_weights | {"lm_head.weight": second_weights["model.embed_tokens.weight"].clone()},
        tie_word_embeddings=False,
    )
    check_compatible(harmed, [equal_head])
    own_head = model(
        tmp_path / "own", second_weights | {"lm_head.weight": torch.ones(11, 4)}, tie_word_embeddings=False
    )
    with pytest.raises(UserError, match="head of their own"):
        check_compatible(harmed, [own_head])


def test_added_tokens_are_part_of_the_vocabulary(tmp_path: Path) -> None:
    harmed, before = (model(tmp_path / name, tensors(1)) for name in ("harmed", "before"))
    record = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<|im_start|>"}]}
    (harmed.folder / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="vocabularies"):
        check_compatible(harmed, [before])
