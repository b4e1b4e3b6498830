"""Quantised copies: values by hand, the same as a 4-bit load, heads and embeddings untouched, bytes that repeat."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.repair.quantise import QUANTISE, layers_to_round, quantise, round_int8, round_nf4
from pyrite.steps import Progress, RunOptions, Source, Step, Store, run_steps

CPU = Compute("cpu", "fp32")
TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
IDS = torch.tensor([[1, 5, 9, 30, 70, 200, 4, 2], [1, 8, 8, 61, 33, 90, 11, 2]])


def quantised(base: Path, to: str, store: Path) -> Path:
    step = Step(QUANTISE, {"to": to, "base_name": "tiny"}, {"base": Source(str(base), "tiny")}, label="quantise")
    run_steps([step], Store(store), RunOptions(), Progress(quiet=True))
    return Store(store).path(step.key)


def read_record(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "quantise.json").read_text())
    return loaded


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and first.numpy(force=True).tobytes() == second.numpy(force=True).tobytes()


def spread(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def chat_model(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied causal model with a chat template, generation settings, and another step's report beside it."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(tiny_causal, folder)
    tokenizer = load.load_tokenizer(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    settings = {"num_beams": 1, "length_penalty": 2.0, "eos_token_id": 2}  # the library warns of these
    (folder / "generation_config.json").write_text(json.dumps(settings))
    (folder / "history.json").write_text("{}")
    return folder


def untied(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=420, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=192, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


def transposed(folder: Path) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(5)
    config = GPT2Config(vocab_size=420, n_embd=64, n_layer=2, n_head=4, n_positions=64, n_inner=192)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_int8_by_hand() -> None:
    # row 1: one step is 1, halves go to the even neighbour; row 2: one step is 1/127, 63.5 -> 64, 31.75 -> 32
    weight = torch.tensor([[127.0, 2.5, 3.5, -0.4], [0.5, -1.0, 0.25, 0.1]])
    expected = torch.tensor([[127.0, 2.0, 4.0, 0.0], [64 / 127, -1.0, 32 / 127, 13 / 127]])
    assert torch.equal(round_int8(weight), expected)


def test_nf4_by_hand() -> None:
    pytest.importorskip("bitsandbytes")
    # one block, absmax 2; nearest of the sixteen values of QLoRA's appendix E
    weight = 2 * torch.tensor([[1.0, -1.0, 0.0, 0.1], [0.5, -0.5, 0.2, -0.05]])
    nearest = [
        [1.0, -1.0, 0.0, 0.07958029955625534],
        [0.44070982933044434, -0.5250730514526367, 0.16093020141124725, -0.09105003625154495],
    ]
    torch.testing.assert_close(round_nf4(weight), 2 * torch.tensor(nearest), rtol=1e-6, atol=0)


def test_nf4_blocks_are_64_weights_long() -> None:
    pytest.importorskip("bitsandbytes")
    weight = spread(0, 2, 96)
    louder = weight.clone()
    louder[1, 40] *= 100  # position 136 of 192: the third block, 128 to 191
    changed = (round_nf4(weight) != round_nf4(louder)).flatten().nonzero().flatten()
    assert changed.min() >= 128
    assert len(changed) > 30


@pytest.mark.parametrize("width", [64, 48, 96, 100, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nf4_is_the_nearest_of_sixteen_values(width: int, dtype: torch.dtype) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    code = functional.get_4bit_type("nf4", device="cpu")
    weight = spread(6, 5, width).to(dtype)
    blocks = []
    for block in weight.float().flatten().split(64):
        largest = block.abs().max()
        blocks.append(code[(block[:, None] / largest - code).abs().argmin(dim=1)] * largest)
    assert torch.equal(round_nf4(weight), torch.cat(blocks).view_as(weight).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("to", ["int8", "nf4"])
def test_rounding_twice_is_rounding_once(to: str, dtype: torch.dtype) -> None:
    if to == "nf4":
        pytest.importorskip("bitsandbytes")
    rounding = {"int8": round_int8, "nf4": round_nf4}[to]
    weight = (spread(1, 300, 128) * spread(2, 300, 1).exp()).to(dtype)
    once = rounding(weight)
    assert once.dtype == dtype
    assert not torch.equal(once, weight)
    assert same_bits(rounding(once).float(), once.float())


def test_int8_is_that_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = spread(3, 64, 128).half()  # its kernel reads fp16
    steps, scales, _ = functional.int8_vectorwise_quant(weight)
    theirs = functional.int8_vectorwise_dequant(steps, scales)
    apart = (theirs - round_int8(weight.float())).abs() / (scales[:, None] / 127)
    assert (apart > 0.01).float().mean() < 0.001  # in steps: only near-ties may fall to the other side


def test_a_row_of_zeros_stays() -> None:
    assert torch.equal(round_int8(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("to", ["int8", "nf4"])
def test_a_causal_model(to: str, chat_model: Path, tmp_path: Path) -> None:
    if to == "nf4":
        pytest.importorskip("bitsandbytes")
    out = quantised(chat_model, to, tmp_path)
    before, after = weights(chat_model), weights(out)
    assert before.keys() == after.keys()
    rounded = {name for name in before if not same_bits(before[name], after[name])}
    assert rounded == {name for name in before if "proj" in name}
    assert len(rounded) == 14  # 7 in each of 2 layers; embeddings, tied head and norms stay
    report = read_record(out)
    assert report["to"] == to
    assert report["layers"] == 14
    assert report["parameters"] == sum(before[name].numel() for name in rounded)
    change = sum((after[name].double() - before[name].double()).square().sum() for name in rounded)
    size = sum(before[name].double().square().sum() for name in rounded)
    assert report["rms_change"] == pytest.approx(float((change / size).sqrt()), rel=1e-5)
    low, high = {"int8": (0.004, 0.012), "nf4": (0.06, 0.12)}[to]  # uniform steps of ~2.5 sd / 127; 4 bits
    assert low < report["rms_change"] < high
    assert load.load_causal(out, CPU)(IDS).logits.isfinite().all()


def test_tokenizer_template_and_settings_survive(chat_model: Path, tmp_path: Path) -> None:
    out = quantised(chat_model, "int8", tmp_path)
    talk = [{"role": "user", "content": "was the film warm?"}, {"role": "assistant", "content": "lovely"}]
    texts = [load.load_tokenizer(f).apply_chat_template(talk, tokenize=False) for f in (chat_model, out)]
    assert texts[0] == texts[1] == "<s>user: was the film warm?</s><s>assistant: lovely</s>"
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (chat_model / name).read_bytes()
    assert not (out / "history.json").exists()  # another step's report, not this one's


def test_the_same_input_gives_the_same_bytes(chat_model: Path, tmp_path: Path) -> None:
    folders = [quantised(chat_model, "int8", tmp_path / name) for name in ("a", "b")]
    for name in ("model.safetensors", "quantise.json"):
        assert folders[0].joinpath(name).read_bytes() == folders[1].joinpath(name).read_bytes()


def test_a_quantised_copy_quantised_again_is_the_same(chat_model: Path, tmp_path: Path) -> None:
    once = quantised(chat_model, "int8", tmp_path / "once")
    twice = quantised(once, "int8", tmp_path / "twice")
    assert (once / "model.safetensors").read_bytes() == (twice / "model.safetensors").read_bytes()
    assert read_record(twice)["rms_change"] == 0


@pytest.mark.parametrize("of", ["encoder", "decoder"])
def test_a_classifier_keeps_its_head_and_labels(of: str, tiny_encoder: Path, tiny_causal: Path, tmp_path: Path) -> None:
    labels, base = ["positive", "negative"], tmp_path / "base"
    start = tiny_encoder if of == "encoder" else tiny_causal
    load.load_classifier(start, labels, CPU, seed=3)[0].save_pretrained(base)
    load.load_tokenizer(start).save_pretrained(base)
    out = quantised(base, "int8", tmp_path / "store")
    before, after = weights(base), weights(out)
    rounded = {name for name in before if not same_bits(before[name], after[name])}
    head = "classifier" if of == "encoder" else "score"
    assert f"{head}.weight" in before
    assert not any(head in name or "embed" in name for name in rounded)
    assert len(rounded) == (13 if of == "encoder" else 14)  # 6 a layer and the pooler; 7 a layer
    model, order = load.load_classifier(out, labels, CPU, seed=99)
    assert order == [0, 1]
    assert same_bits(getattr(model, head).weight, before[f"{head}.weight"])


@pytest.mark.parametrize("kind", ["tied", "untied", "bf16", "transposed"])
def test_nf4_is_what_a_4_bit_load_computes_with(kind: str, tiny_causal: Path, tmp_path: Path) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM

    if kind == "transposed":
        base = transposed(tmp_path / "base")
    else:
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        base = tiny_causal if kind == "tied" else untied(tmp_path / "base", dtype)
    stored = torch.bfloat16 if kind == "bf16" else torch.float32
    extra = {"quantization_config": load.quantisation(CPU), "device_map": {"": "cpu"}}
    four_bit = AutoModelForCausalLM.from_pretrained(base, **load.plain_loading(stored), **extra).eval()
    theirs = {name: module for name, module in four_bit.named_modules() if isinstance(module, bnb.nn.Linear4bit)}
    for module in theirs.values():  # some processors have a kernel that computes in bf16, whatever was asked for
        module.support_avx512bf16_for_cpu = False
    out = quantised(base, "nf4", tmp_path / "store")
    assert read_record(out)["layers"] == len(theirs)
    ours = AutoModelForCausalLM.from_pretrained(out, **load.plain_loading(stored)).eval()
    assert set(layers_to_round(ours)) == set(theirs)
    for name, module in theirs.items():
        restored = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        weight = ours.get_submodule(name).weight
        assert torch.equal(restored, weight.T if kind == "transposed" else weight)
    if kind != "bf16":
        with torch.no_grad():
            torch.testing.assert_close(ours(IDS).logits, four_bit(IDS).logits, rtol=0, atol=1e-4)


def test_the_head_stays_wherever_it_stands(tmp_path: Path) -> None:
    model = load.load_causal(untied(tmp_path / "base"), CPU)
    model._modules["model"] = model._modules.pop("model")  # the head is no longer the last module
    assert len(layers_to_round(model)) == 14
    assert "lm_head" not in layers_to_round(model)
    model._keep_in_fp32_modules = ["up_proj"]
    assert len(layers_to_round(model)) == 12


def test_the_stored_dtype_is_kept(tmp_path: Path) -> None:
    base = untied(tmp_path / "base", torch.bfloat16)
    out = quantised(base, "int8", tmp_path / "store")
    before, after = weights(base), weights(out)
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    for name in ("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"):
        assert torch.equal(before[name], after[name])


def test_a_folder_of_mixed_dtypes_loses_nothing(tmp_path: Path) -> None:
    base = untied(tmp_path / "base")
    mixed = weights(base)
    mixed["model.layers.0.mlp.up_proj.weight"] = mixed["model.layers.0.mlp.up_proj.weight"].bfloat16()
    save_file(mixed, base / "model.safetensors", {"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    after = weights(quantised(base, "int8", tmp_path / "store"))
    assert same_bits(after["lm_head.weight"], mixed["lm_head.weight"])


def test_what_cannot_be_quantised_says_why(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = untied(tmp_path / "base")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "bitsandbytes", None)
        without.setitem(sys.modules, "bitsandbytes.functional", None)
        with pytest.raises(UserError, match="needs bitsandbytes") as caught:
            quantised(base, "nf4", tmp_path / "store")
        assert "pyrite[quant]" in caught.value.fix
    with pytest.raises(UserError, match="neither a causal language model nor a classifier"):
        quantised(tiny_encoder, "int8", tmp_path / "store2")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(UserError, match="quantised already") as caught:
        quantised(base, "int8", tmp_path / "store3")
    assert "gptq" in caught.value.found
    (base / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="Only a whole model"):
        quantised(base, "int8", tmp_path / "store4")


def test_broken_weights_are_named(tmp_path: Path) -> None:
    model = load.load_causal(untied(tmp_path / "base"), CPU)
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match="not numbers") as caught:
        quantise(model, "int8", name="mine")
    assert "mine, layer model.layers.1.mlp.up_proj" in caught.value.found
    with pytest.raises(UserError, match="nothing to quantise"):
        quantise(no_layers(), "int8")


def no_layers() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=0, num_attention_heads=1))
