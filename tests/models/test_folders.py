"""A folder zoo: each folder that people bring is read with the right values, or refused by every verb in the same words.

Refused means: exit code 2, a message with the cause and the fix, no step that was published, no run folder.
"""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.embed import sentence_embeddings
from pyrite.models.hardware import Compute
from pyrite.models.load import load_tokenizer
from pyrite.steps.store import MANIFEST

from conftest import review_rows, write_jsonl  # isort: skip
from folder_zoo import (  # isort: skip
    CODE, FP8, MXFP4, Change, added_tokens, as_in_the_hubs_cache, bombs, config, copy_of, cut, dangling, in_fp8, in_mxfp4,
    no_tokenizer, one_level_down, pickled, pointer, removed, sentence_piece, shards, spm_only, text, weights,
)  # fmt: skip

CPU = Compute("cpu", "fp32")

STUDY = """\
study: tiny
about: language
model: {model}
precision: fp32
data: {{people: {{files: [chats.jsonl], pools: {{train: 24, held_out: 12}}}}}}
trainings: {{more: {{on: people.train, settings: {{epochs: 1, batch_size: 8, learning_rate: 1.0e-6, max_tokens: 96}}}}}}
cells: {{start: [], trained: [more]}}
probes: {{people: {{task: perplexity, data: people.held_out}}}}
seeds: [0]
workers: 1
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of each sort that a verb takes."""
    folder = tmp_path_factory.mktemp("rows")
    write_jsonl(review_rows(60, 1), folder / "reviews.jsonl")
    for name, first in (("chats", 0), ("people", 100)):
        lines = [
            {"messages": [{"role": "user", "content": f"how was the film {n}"}, {"role": "assistant", "content": f"the film {n} was {name}"}]}
            for n in range(first, first + 60)
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"text": f"the film {n} was lovely"}) + "\n" for n in range(8))
    )
    return folder


def probe_line(model: Path, rows: Path, out: Path) -> list[str]:
    return ["probe", str(model), "--task", f"perplexity={rows / 'texts.jsonl'}"]


def audit_line(model: Path, rows: Path, out: Path) -> list[str]:
    line = ["audit", str(rows / "chats.jsonl"), "--reference", str(rows / "people.jsonl"), "--workers", "1"]
    return [*line, "--only", "perplexity", "--model", str(model)]


def embedder_line(model: Path, rows: Path, out: Path) -> list[str]:
    line = ["audit", str(rows / "chats.jsonl"), "--reference", str(rows / "people.jsonl"), "--workers", "1"]
    return [*line, "--only", "embedding", "--embedder", str(model)]


def repair_line(model: Path, rows: Path, out: Path) -> list[str]:
    line = ["repair", str(model), "--forget", str(rows / "chats.jsonl"), "--replay", str(rows / "people.jsonl")]
    return [*line, "--scorecard-rows", "8", "--guard-rows", "4", "--guard-forget-rows", "4", "--max-tokens", "64"]


def study_line(model: Path, rows: Path, out: Path) -> list[str]:
    file = out.with_name("study.yaml")
    file.write_text(STUDY.format(model=model))
    return ["study", str(file), "--data", str(rows)]


VERBS: dict[str, Callable[[Path, Path, Path], list[str]]] = {
    "probe": probe_line, "audit --model": audit_line, "audit --embedder": embedder_line, "repair": repair_line, "study": study_line,
}  # fmt: skip


class Verb:
    """Runs a verb on a model folder, with a store and an output folder of its own."""

    def __init__(self, name: str, rows: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.name, self.rows, self.folder, self.capsys = name, rows, folder, capsys
        self.out, self.store = folder / "out", folder / "store"

    def run(self, model: Path, *more: str) -> tuple[int, str, str]:
        """The exit code, what was printed, and the message on one line."""
        line = [
            *VERBS[self.name](model, self.rows, self.out),
            "--store",
            str(self.store),
            "--out",
            str(self.out),
            *more,
        ]
        code = run([*line, "--quiet"])
        out, err = self.capsys.readouterr()
        return code, out, " ".join(err.split())

    def refuses(self, model: Path, *says: str, before_anything: bool = True) -> None:
        """The folder is refused in these words, and nothing is left behind."""
        code, _, err = self.run(model)
        assert code == 2, err
        assert [word for word in says if word not in err] == [], err
        assert "fix:" in err
        assert "Traceback" not in err
        assert not list(self.out.rglob("*.json"))
        if before_anything:
            assert not list(self.store.rglob(MANIFEST))


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    return Verb(request.param, rows, tmp_path, capsys)


def renamed(name: str) -> Change:
    return lambda folder: (folder / "model.safetensors").rename(folder / name) and None


REMOTE = {"auto_map": {"AutoConfig": "configuration_my.MyConfig", "AutoModelForCausalLM": "modeling_my.MyForCausalLM"}}
REFUSED: dict[str, tuple[tuple[Change, ...], tuple[str, ...]]] = {
    "pointer: weights": ((pointer("model.safetensors"),), ("pointer of git-lfs", "git lfs pull --include 'model.safetensors'")),
    "pointer: a shard": ((shards, pointer("model-00002-of-00002.safetensors")), ("git lfs pull --include 'model-00002-of-00002.safetensors'",)),
    "pointer: tokenizer": ((pointer("tokenizer.json"),), ("pointer of git-lfs", "git lfs pull --include 'tokenizer.json'")),
    "pointer: tokenizer.model": ((text("tokenizer.model", ""), pointer("tokenizer.model")), ("git lfs pull --include 'tokenizer.model'",)),
    "pointer: config": ((pointer("config.json"),), ("git lfs pull --include 'config.json'",)),
    "pointer: index": ((shards, pointer("model.safetensors.index.json")), ("git lfs pull",)),
    "cut off": ((cut("model.safetensors"),), ("cut off or damaged", "get the file again")),
    "cut off: a shard": ((shards, cut("model-00002-of-00002.safetensors")), ("model-00002-of-00002.safetensors", "cut off")),
    "missing shard": ((shards, removed("model-00002-of-00002.safetensors")), ("missing", "model-00002-of-00002.safetensors", "hf download")),
    "no shard": ((shards, removed("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")), ("model-00001-of-00002.safetensors, model-00002", "hf download")),
    "index of another folder": ((shards, text("model.safetensors.index.json", '{"weight_map": {"a": "../a.safetensors"}}')), ("file of another folder",)),
    "index is no JSON": ((shards, text("model.safetensors.index.json", "<html>")), ("index of a model's weights cannot be read",)),
    "no bytes": ((text("model.safetensors", ""),), ("cut off or damaged",)),
    "no weights in it": ((weights(lambda _: {}),), ("hold no weights", "get the folder again")),
    "no weights": ((removed("model.safetensors"),), ("holds no weights", "hf download")),
    "pickle only": ((pickled,), ("safetensors only", "pytorch_model.bin", "LlamaForCausalLM.from_pretrained(", "save_pretrained(")),
    "gguf only": ((removed("model.safetensors"), text("model.gguf", "GGUF")), ("model.gguf", "--backend openai")),
    "no tokenizer": ((no_tokenizer,), ("has no tokenizer", "AutoTokenizer.from_pretrained(BASE)")),
    "the tokenizer's settings alone": (
        (removed("tokenizer.json"), text("tokenizer_config.json", '{"tokenizer_class": "LlamaTokenizer"}')), ("has no tokenizer",),
    ),
    "a tokenizer cut off": ((cut("tokenizer.json"),), ("tokenizer cannot be read", "get its files again")),
    "a tokenizer of nothing": ((text("tokenizer.json", "{}"),), ("tokenizer cannot be read",)),
    "added tokens": ((added_tokens("<call>", "<answer>"),), ("no embedding for", "'<call>', '<answer>'", "420 rows", "resize_token_embeddings")),
    "another model's tokenizer": (
        (added_tokens(*(f"token{n}" for n in range(900))),), ("'token0', 'token1', 'token2' and 897 more", "belongs to the model"),
    ),
    "code for the tokenizer": (
        (removed("tokenizer.json"), text("tokenization_my.py", CODE), text("tokenizer_config.json", json.dumps(
            {"tokenizer_class": "MyTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_my.MyTokenizer", None]}}))),
        ("code of its own", "runs no code"),
    ),
    "no config": ((removed("config.json"),), ("has no config.json", "save_pretrained")),
    "config is no JSON": ((text("config.json", "<html>sign in</html>"),), ("config.json cannot be read", "get the file again")),
    "config is a list": ((text("config.json", "[]"),), ("no JSON object",)),
    "fewer layers than none": (
        (config(num_hidden_layers=-1),), ("a size that no model has", "num_hidden_layers is -1", "1 or more"),
    ),
    "text for a size": ((config(num_hidden_layers="two"),), ("setting that cannot be read", "write num_hidden_layers as it stands")),
    "no model_type": ((config(model_type=None),), ("does not say which architecture", "model_type")),
    "unknown model_type": ((config(model_type="llama9"),), ("does not know this architecture", "llama9", "pip install -U transformers")),
    "code": ((config(model_type="my", **REMOTE), text("modeling_my.py", CODE), text("configuration_my.py", CODE)), ("runs no code", "auto_map")),
    "code under a known name": (
        (config(architectures=["MyForCausalLM"], **REMOTE), text("modeling_my.py", CODE)), ("runs no code", "MyForCausalLM"),
    ),
    "one level down": ((one_level_down("checkpoint-500"),), ("holds no model", "name the folder in it", "checkpoint-500")),
    "the hub's cache": ((one_level_down("snapshots/0a1b"),), ("name the folder in it", "snapshots/0a1b")),
    "link to nothing: weights": ((dangling("model.safetensors"),), ("link to nothing", "model.safetensors", "cp -rL")),
    "link to nothing: tokenizer": ((dangling("tokenizer.json"),), ("link to nothing", "tokenizer.json")),
    "integers for weights": (
        (weights(lambda stored: {name: (weight * 10).to(torch.int8) for name, weight in stored.items()}),),
        ("codes of a quantised format", "model.embed_tokens.weight (I8)", "before quantisation"),
    ),
    "a dtype that there is not": ((config(dtype="float7"),), ("config.json holds a setting", "config.json:", "float7")),
    "heads that do not fit": ((config(num_attention_heads=5),), ("config.json holds a setting", "heads (5)")),
    "text for a number": ((config(hidden_size="64"),), ("config.json holds a setting", "hidden_size")),
    "shards of training": (
        (weights(lambda stored: {name: weight.new_zeros(0) for name, weight in stored.items()}),),
        ("DeepSpeed ZeRO-3", "model.embed_tokens.weight", "zero_to_fp32.py", "--safe_serialization"),
    ),
    "another tool's weights": ((renamed("consolidated.safetensors"),), ("consolidated.safetensors, and neither model.safetensors", "another tool")),
    "renamed weights": ((renamed("weights.safetensors"),), ("weights.safetensors, and neither model.safetensors", "rename the file: mv")),
    "an adapter beside": ((text("adapter_config.json", "{}"),), ("lie in one folder", "keep them apart")),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_broken_folder_is_refused_before_anything_runs(
    kind: str, verb: Verb, tiny_causal: Path, tmp_path: Path
) -> None:
    changes, says = REFUSED[kind]
    model = copy_of(tiny_causal, tmp_path / "model", *changes)
    verb.refuses(model, *says)
    assert not list(model.rglob("it-ran"))


QUANTISED: dict[str, tuple[dict[str, Any], str, str]] = {
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "optimum", "pip install optimum gptqmodel"),
    "awq": ({"quant_method": "awq", "bits": 4}, "gptqmodel", "pip install gptqmodel"),
    "compressed-tensors": ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed_tensors", "pip install compressed-tensors"),
    "hqq": ({"quant_method": "hqq"}, "hqq", "pip install hqq"),
    "torchao": ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "torchao", "pip install torchao"),
    "quanto": ({"quant_method": "quanto", "weights": "int8"}, "optimum", "pip install optimum-quanto"),
    "aqlm": ({"quant_method": "aqlm"}, "aqlm", "pip install 'aqlm[cpu,gpu]'"),
    "fbgemm_fp8": ({"quant_method": "fbgemm_fp8"}, "fbgemm_gpu", "requires a GPU"),
    "unknown": ({"quant_method": "modelopt"}, "modelopt", "transformers does not know"),
    "nameless": ({"bits": 4}, "", "an unnamed method"),
}  # fmt: skip


@pytest.mark.parametrize("method", QUANTISED)
def test_a_quantised_folder_names_the_library_to_install(
    method: str, verb: Verb, tiny_causal: Path, tmp_path: Path
) -> None:
    settings, package, says = QUANTISED[method]
    if package and find_spec(package):
        pytest.skip(f"{package} is installed")
    if method == "fbgemm_fp8" and torch.cuda.is_available():
        pytest.skip("has a GPU")
    model = copy_of(tiny_causal, tmp_path / "model", config(quantization_config=settings))
    verb.refuses(
        model,
        "quantised",
        method if method not in ("unknown", "nameless") else "quantised",
        says,
        "before quantisation",
    )


def test_a_file_that_may_not_be_read_is_named(
    verb: Verb, tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root every file may be read, so that the refusal of the system is played."""
    model = copy_of(tiny_causal, tmp_path / "model")
    path_open = Path.open

    def refused(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == model / "model.safetensors":
            raise PermissionError(13, "Permission denied", str(self))
        return path_open(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    verb.refuses(model, "may not be read", "model.safetensors", "chmod")


def test_a_file_in_the_place_of_a_folder(verb: Verb, tiny_causal: Path, tmp_path: Path) -> None:
    model = copy_of(tiny_causal, tmp_path / "model", text("model.gguf", "GGUF"))
    verb.refuses(model / "model.safetensors", "that is a file", f"give its folder: {model}")
    verb.refuses(model / "model.gguf", "--backend openai")


@pytest.mark.skipif(bool(find_spec("sentencepiece")), reason="sentencepiece is installed")
def test_a_sentencepiece_tokenizer_names_the_library_to_install(verb: Verb, tiny_causal: Path, tmp_path: Path) -> None:
    verb.refuses(copy_of(tiny_causal, tmp_path / "model", spm_only), "tokenizer.model", "pip install sentencepiece")


def test_a_sentencepiece_tokenizer_reads_as_sentencepiece_does(tiny_causal: Path, tmp_path: Path) -> None:
    pieces = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    model = copy_of(tiny_causal, tmp_path / "model", spm_only)
    expected = pieces.SentencePieceProcessor(model_proto=sentence_piece()).encode("the film was lovely")
    assert load_tokenizer(model)("the film was lovely", add_special_tokens=False)["input_ids"] == expected
    removed("tokenizer_config.json")(model)
    with pytest.raises(UserError, match="otherwise than SentencePiece"):
        load_tokenizer(model)


@pytest.mark.parametrize("name", VERBS)
def test_an_adapter_is_no_model(
    name: str, rows: Path, tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repair merges it into its base; the others say how."""
    model = tmp_path / "adapter"
    model.mkdir()
    text("adapter_config.json", '{"peft_type": "LORA"}')(model)
    shutil.copy(tiny_causal / "model.safetensors", model / "adapter_model.safetensors")
    says = (
        ("does not say which model", "base_model_name_or_path") if name == "repair" else ("holds an adapter", "merge")
    )
    Verb(name, rows, tmp_path, capsys).refuses(model, *says)


def nan(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    stored["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan
    return stored


def infinite(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    stored["model.norm.weight"][0] = -torch.inf
    return stored


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (weights(nan), ("not numbers", "layers.1.mlp.up_proj.weight")),
        (weights(infinite), ("not numbers", "norm.weight")),
        (
            config(hidden_size=32),
            ("other shapes", "embed_tokens.weight is [420, 64], config.json says [420, 32]", "two models"),
        ),
        (
            config(rope_scaling={"type": "foo"}, rope_parameters=None),
            ("does not know 'foo'", "in config.json (rope_scaling.type: 'foo')"),
        ),
        (config(tie_word_embeddings=False), ("filled at random", "lm_head.weight")),
    ],
    ids=["nan", "infinite", "shapes", "rope", "untied without a head"],
)
def test_weights_that_mean_nothing_are_refused_when_they_are_read(
    change: Change, says: tuple[str, ...], verb: Verb, tiny_causal: Path, tmp_path: Path
) -> None:
    """By then rows may be stored; no model's answers are."""
    if verb.name == "audit --embedder" and "lm_head.weight" in says:
        pytest.skip("an embedder has no head")
    verb.refuses(copy_of(tiny_causal, tmp_path / "model", change), *says, before_anything=False)


def other_head(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**stored, "lm_head.weight": stored["model.embed_tokens.weight"].flip(0)}


def wider(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    table = stored["model.embed_tokens.weight"]
    return {**stored, "model.embed_tokens.weight": torch.cat([table, torch.zeros(12, table.shape[1])])}


SAME: dict[str, tuple[Change, ...]] = {
    "shards": (shards,),
    "links of the hub's cache": (as_in_the_hubs_cache,),
    "gguf beside": (text("model.gguf", "GGUF"),),
    "pickles beside": (bombs("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "pytorch_model.bin"),),
    "a checkpoint beside": (lambda folder: (folder / "checkpoint-500").mkdir(),),
    "constants of older releases": (
        weights(lambda stored: {
            **stored, **{f"model.layers.0.self_attn.{name}": torch.ones(8) for name in ("bias", "masked_bias", "rotary_emb.inv_freq")}}),
    ),
    "weights of another tool": (pointer("consolidated.safetensors"),),
    "code that is not needed": (
        config(auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}), text("modeling_llama.py", CODE),
    ),
    "dtype as a word": (config(dtype="bfloat16"),),
    "dtype as it was called": (config(dtype=None, torch_dtype="float16"),),
    "tokens of other senses": (added_tokens("<image_soft_token>"),),
    "no generation settings": (removed("generation_config.json"),),
}  # fmt: skip


def nats(code: int, out: str, err: str) -> list[Any]:
    assert code == 0, err
    return [(entry["metric"], entry["value"]) for card in json.loads(out)["scorecards"] for entry in card["metrics"]]


@pytest.fixture(scope="module")
def probed(rows: Path, tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The perplexity of the tiny model, as the library itself computes it."""
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_causal), load_tokenizer(tiny_causal)
    with torch.inference_mode():
        ids = torch.tensor([tokenizer("the film 3 was lovely")["input_ids"]])
        return {"ids": ids, "logits": model(input_ids=ids).logits}


@pytest.mark.parametrize("kind", SAME)
def test_an_odd_folder_says_what_the_plain_one_says(
    kind: str, rows: Path, probed: dict[str, Any], tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copy_of(tiny_causal, tmp_path / "model", *SAME[kind])
    verb = Verb("probe", rows, tmp_path, capsys)
    code, _, err = verb.run(model)
    assert code == 0, err
    found = load.resolve(str(model))
    with torch.inference_mode():
        assert torch.equal(load.load_causal(found.folder, CPU)(input_ids=probed["ids"]).logits, probed["logits"])
    assert not list(model.rglob("it-ran"))


def logits_of(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = load.load_causal(load.resolve(str(folder)).folder, CPU)(input_ids=ids).logits
    return found


def test_a_head_beside_tied_embeddings_is_the_one_that_is_used(
    probed: dict[str, Any], tiny_causal: Path, tmp_path: Path
) -> None:
    """config.json says tied, the file holds a head of its own: as if it said untied."""
    tied = copy_of(tiny_causal, tmp_path / "tied", weights(other_head))
    untied = copy_of(tiny_causal, tmp_path / "untied", weights(other_head), config(tie_word_embeddings=False))
    assert torch.equal(logits_of(tied, probed["ids"]), logits_of(untied, probed["ids"]))
    assert torch.equal(logits_of(tied, probed["ids"]), probed["logits"].flip(-1))


def test_an_embedding_may_be_larger_than_the_vocabulary(
    probed: dict[str, Any], tiny_causal: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_causal, tmp_path / "model", weights(wider), config(vocab_size=432))
    torch.testing.assert_close(logits_of(model, probed["ids"])[..., :420], probed["logits"], atol=1e-6, rtol=0)


def test_fp8_reads_as_the_numbers_that_it_stands_for(
    rows: Path, probed: dict[str, Any], tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Codes times the scale of their block of 32 × 32, worked out here; repair and study refuse to train such codes."""
    model = copy_of(
        tiny_causal, tmp_path / "fp8", config(quantization_config=FP8), weights(lambda w: in_fp8(w, restored=False))
    )
    plain = copy_of(tiny_causal, tmp_path / "plain", weights(lambda w: in_fp8(w, restored=True)))
    if torch.cuda.is_available():
        pytest.skip("a GPU reads FP8 by kernels of its own")
    torch.testing.assert_close(logits_of(model, probed["ids"]), logits_of(plain, probed["ids"]), atol=1e-3, rtol=0)
    assert not torch.allclose(logits_of(model, probed["ids"]), probed["logits"], atol=1e-3)
    for name in ("repair", "study"):
        Verb(name, rows, tmp_path, capsys).refuses(model, "not trained or repaired", "fp8", "before quantisation")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU reads MXFP4 by kernels of its own")
def test_mxfp4_reads_as_the_numbers_that_it_stands_for(
    probed: dict[str, Any], tiny_causal: Path, tmp_path: Path
) -> None:
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16, "vocab_size": 420}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    folder = copy_of(tiny_causal, tmp_path / "base", removed("model.safetensors", "config.json"))
    GptOssForCausalLM(GptOssConfig(**sizes, **heads, pad_token_id=0)).save_pretrained(folder)
    plain = copy_of(folder, tmp_path / "plain", weights(lambda w: in_mxfp4(w, restored=True)))
    coded = weights(lambda w: in_mxfp4(w, restored=False))
    model = copy_of(folder, tmp_path / "mxfp4", coded, config(quantization_config=MXFP4))
    assert torch.equal(logits_of(model, probed["ids"]), logits_of(plain, probed["ids"]))
    assert not torch.allclose(logits_of(model, probed["ids"]), logits_of(folder, probed["ids"]), atol=1e-3)


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes_reads_as_the_numbers_that_it_stands_for(
    bits: int, rows: Path, probed: dict[str, Any], tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4")
    live = AutoModelForCausalLM.from_pretrained(
        tiny_causal, quantization_config=settings, device_map={"": "cpu"}, dtype=torch.float32
    )
    plain = AutoModelForCausalLM.from_pretrained(tiny_causal, dtype=torch.float32)
    for name, weight in live.named_parameters():
        if bits == 4 and hasattr(weight, "quant_state"):
            plain.get_parameter(name).data = functional.dequantize_4bit(weight.data, weight.quant_state).float()
        elif bits == 8 and hasattr(weight, "SCB"):
            plain.get_parameter(name).data = weight.data.float() * weight.SCB[:, None] / 127
    model = copy_of(tiny_causal, tmp_path / "model", removed("model.safetensors", "config.json"))
    live.save_pretrained(model)
    with torch.inference_mode():
        expected = plain(input_ids=probed["ids"]).logits
    torch.testing.assert_close(logits_of(model, probed["ids"]), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(expected, probed["logits"], atol=1e-3)
    half = load.for_generation(load.load_causal(model, CPU), Compute("cpu", "bf16-mixed"))[0]
    assert half.dtype == torch.bfloat16
    code, _, err = Verb("probe", rows, tmp_path, capsys).run(model)
    assert code == 0, err
    for name in ("repair", "study"):
        Verb(name, rows, tmp_path / name, capsys).store.mkdir(parents=True)
        Verb(name, rows, tmp_path / name, capsys).refuses(model, "not trained or repaired", "bitsandbytes")


def test_the_command_for_pickled_weights_writes_what_they_were(tiny_causal: Path, tmp_path: Path) -> None:
    """The fix that the message gives is run."""
    import shlex
    import subprocess
    import sys

    model = copy_of(tiny_causal, tmp_path / "a 'model'", pickled)
    with pytest.raises(UserError, match="safetensors only") as caught:
        load.resolve(str(model))
    words = shlex.split(caught.value.fix.partition(": ")[2])
    assert words[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True)
    before = load_file(tiny_causal / "model.safetensors")
    after = load_file(load.resolve(str(model)).folder / "model.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in before)


# sentence-transformers


def sentence_folder(source: Path, to: Path, pooling: dict[str, Any], *kinds: str, **settings: Any) -> Path:
    """A folder of sentence-transformers around an encoder."""
    folder = copy_of(source, to)
    modules = [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        *((f"{at + 2}_{kind}", kind) for at, kind in enumerate(kinds)),
    ]
    entries = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(modules)
    ]
    text("modules.json", json.dumps(entries))(folder)
    (folder / "1_Pooling").mkdir()
    text("1_Pooling/config.json", json.dumps({"word_embedding_dimension": 32, **pooling}))(folder)
    text("sentence_bert_config.json", json.dumps({"max_seq_length": 64, "do_lower_case": False, **settings}))(folder)
    return folder


TEXTS = ["the film was lovely", "a meal", "the room 3 was cold and the trip was dark and the game was poor"]


def states(folder: Path, texts: list[str], limit: int = 64) -> list[Any]:
    """The library's last hidden states, row by row."""
    from transformers import AutoModel

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), load_tokenizer(folder)
    with torch.inference_mode():
        return [
            model(torch.tensor([tokenizer(one)["input_ids"][:limit]])).last_hidden_state[0].numpy() for one in texts
        ]


@pytest.mark.parametrize(
    ("pooling", "pool"),
    [
        ({"pooling_mode_mean_tokens": True}, lambda s: s.mean(0)),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda s: s[0]),
        ({"pooling_mode_lasttoken": True}, lambda s: s[-1]),
        ({"pooling_mode_max_tokens": True}, lambda s: s.max(0)),
        ({"pooling_mode": "cls"}, lambda s: s[0]),
    ],
    ids=["mean", "cls", "last", "max", "new style"],
)
def test_an_embedder_pools_as_its_folder_says(
    pooling: dict[str, Any], pool: Callable[[Any], Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    folder = sentence_folder(tiny_encoder, tmp_path / "model", pooling, "Normalize")
    load.resolve(str(folder))
    expected = np.stack([pool(state) for state in states(tiny_encoder, TEXTS)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = sentence_embeddings(folder, TEXTS, compute=CPU, report_progress=lambda *_: None)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_embedder_reads_as_its_folder_says(tiny_encoder: Path, tmp_path: Path) -> None:
    """No more tokens, in lower case, after its prompt; and from the folder that the old layout keeps the model in."""
    folder = sentence_folder(
        tiny_encoder, tmp_path / "model", {"pooling_mode_lasttoken": True}, max_seq_length=8, do_lower_case=True
    )
    prompts = {"prompts": {"query": "the film "}, "default_prompt_name": "query"}
    text("config_sentence_transformers.json", json.dumps(prompts))(folder)
    found = sentence_embeddings(
        folder, ["WAS lovely and warm and kind and great"], compute=CPU, report_progress=lambda *_: None
    )
    tokenizer = load_tokenizer(tiny_encoder)
    ids = tokenizer("the film was lovely and warm and kind and great", truncation=True, max_length=8)["input_ids"]
    from transformers import AutoModel

    with torch.inference_mode():
        last = AutoModel.from_pretrained(tiny_encoder).eval()(torch.tensor([ids])).last_hidden_state[0, -1].numpy()
    np.testing.assert_allclose(found[0], last / np.linalg.norm(last), atol=1e-5)
    old = copy_of(folder, tmp_path / "old")
    (old / "0_Transformer").mkdir()
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
    ):
        (old / name).rename(old / "0_Transformer" / name)
    entries = json.loads((old / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    text("modules.json", json.dumps(entries))(old)
    again = sentence_embeddings(
        load.resolve(str(old)).folder,
        ["WAS lovely and warm and kind and great"],
        compute=CPU,
        report_progress=lambda *_: None,
    )
    np.testing.assert_array_equal(again, found)


def test_the_pooling_is_part_of_what_a_folder_is(tiny_encoder: Path, tmp_path: Path) -> None:
    first = sentence_folder(tiny_encoder, tmp_path / "a", {"pooling_mode_mean_tokens": True})
    second = sentence_folder(tiny_encoder, tmp_path / "b", {"pooling_mode_cls_token": True})
    assert load.resolve(str(first)).identity != load.resolve(str(second)).identity


@pytest.mark.parametrize(
    ("pooling", "kinds", "says"),
    [
        ({"pooling_mode_mean_tokens": True}, ("Dense",), "Dense"),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
            (),
            "pooling_mode_mean_tokens, pooling_mode_max_tokens",
        ),
        ({"pooling_mode_weightedmean_tokens": True}, (), "pooling_mode_weightedmean_tokens"),
        ({}, (), "no mode"),
    ],
    ids=["dense", "two at once", "weighted", "none"],
)
def test_an_embedder_with_an_unknown_module_is_refused(
    pooling: dict[str, Any], kinds: tuple[str, ...], says: str, rows: Path, tiny_encoder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = sentence_folder(tiny_encoder, tmp_path / "model", pooling, *kinds)
    Verb("audit --embedder", rows, tmp_path, capsys).refuses(folder, says, "--embedder packaged:minilm-l6")
