"""Adapters as people have them: those that can be added to their base are, to the same answers; the others are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.repair.source_model import find_model
from pyrite.steps.store import MANIFEST
from pyrite.train.adapters import write_merged

CPU = Compute("cpu", "fp32")
IDS = torch.tensor([[1, 5, 9, 13, 17, 40, 41]])
Change = Callable[[Path], None]


def adapter(base: Path, folder: Path, kind: Any) -> Path:
    """A folder of adapters with random values, of a base named by its path."""
    from peft import get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(load.load_causal(base, CPU), kind)
    for name, weight in adapted.named_parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn(weight.shape) if "ia3" in name else 0.1 * torch.randn(weight.shape)
    adapted.save_pretrained(folder)
    return named(folder, base_model_name_or_path=str(base))


def named(folder: Path, **entries: Any) -> Path:
    """An adapter's configuration with other entries."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    return folder


def kinds() -> dict[str, Any]:
    from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, TaskType

    task, targets = TaskType.CAUSAL_LM, ["q_proj", "v_proj"]
    return {
        "lora": LoraConfig(r=4, task_type=task),
        "lora without a task": LoraConfig(r=4, target_modules=targets),
        "rank-stabilised": LoraConfig(r=4, use_rslora=True, task_type=task),
        "dora": LoraConfig(r=4, use_dora=True, task_type=task),
        "with a bias": LoraConfig(r=4, bias="lora_only", task_type=task),
        "with modules of its own": LoraConfig(r=4, modules_to_save=["norm", "up_proj"], target_modules=targets, task_type=task),
        "ia3": IA3Config(task_type=task),
        "loha": LoHaConfig(r=4, target_modules=targets, task_type=task),
        "lokr": LoKrConfig(r=4, target_modules=targets, task_type=task),
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    ["lora", "lora without a task", "rank-stabilised", "dora", "with a bias", "with modules of its own", "ia3", "loha", "lokr"],
)  # fmt: skip
def test_an_adapter_that_can_be_added_says_the_same_when_it_is(kind: str, tiny_causal: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = adapter(tiny_causal, tmp_path / "adapter", kinds()[kind])
    found = find_model(str(folder))
    assert found.base is not None
    (tmp_path / "out").mkdir()
    write_merged(Path(found.base.path), folder, tmp_path / "out", load.load_causal)
    with torch.inference_mode():
        live = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_causal), folder).eval()(IDS).logits
        plain = load.load_causal(tiny_causal, CPU)(IDS).logits
        merged = load.load_causal(load.resolve(str(tmp_path / "out")).folder, CPU)(IDS).logits
    torch.testing.assert_close(merged, live, atol=2e-5, rtol=0)
    assert not torch.allclose(merged, plain, atol=1e-3)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tiny_causal / name).read_bytes()


def prompts(base: Path, folder: Path) -> Path:
    from peft import PromptTuningConfig

    return adapter(base, folder, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))


def prefixes(base: Path, folder: Path) -> Path:
    from peft import PrefixTuningConfig

    return adapter(base, folder, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))


def lora(base: Path, folder: Path, **entries: Any) -> Path:
    from peft import LoraConfig

    return named(adapter(base, folder, LoraConfig(r=4, task_type="CAUSAL_LM")), **entries)


def on_a_resized_base(base: Path, folder: Path) -> Path:
    """Trained after tokens were added, which saves the embeddings with the adapter."""
    from peft import LoraConfig, get_peft_model

    model = load.load_causal(base, CPU)
    model.resize_token_embeddings(424)
    adapted = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM"))
    adapted.save_pretrained(folder, save_embedding_layers=True)
    return named(folder, base_model_name_or_path=str(base))


def with_tokens_of_its_own(base: Path, folder: Path) -> Path:
    lora(base, folder)
    tokenizer = load.load_tokenizer(base)
    tokenizer.add_tokens(["<call>"])
    tokenizer.save_pretrained(folder)
    return folder


def pickled(base: Path, folder: Path) -> Path:
    lora(base, folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    return folder


def pointer(base: Path, folder: Path) -> Path:
    lora(base, folder)
    (folder / "adapter_model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n"
    )
    return folder


def on_a_quantised_base(base: Path, folder: Path) -> Path:
    quantised = folder.with_name("quantised")
    shutil.copytree(base, quantised)
    config = json.loads((quantised / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    (quantised / "config.json").write_text(json.dumps(config))
    return lora(base, folder, base_model_name_or_path=str(quantised))


def on_a_broken_base(base: Path, folder: Path) -> Path:
    broken = folder.with_name("broken")
    shutil.copytree(base, broken)
    (broken / "tokenizer.json").unlink()
    return lora(base, folder, base_model_name_or_path=str(broken))


REFUSED: dict[str, tuple[Callable[[Path, Path], Path], tuple[str, ...]]] = {
    "prompt tuning": (prompts, ("cannot be merged", "PROMPT_TUNING")),
    "prefix tuning": (prefixes, ("cannot be merged", "PREFIX_TUNING")),
    "unknown kind": (lambda base, folder: lora(base, folder, peft_type="LORA9"), ("cannot be merged", "LORA9")),
    "for sequences": (lambda base, folder: lora(base, folder, task_type="SEQ_2_SEQ_LM"), ("another task", "SEQ_2_SEQ_LM", "CAUSAL_LM")),
    "for features": (lambda base, folder: lora(base, folder, task_type="FEATURE_EXTRACTION"), ("another task", "FEATURE_EXTRACTION")),
    "resized base": (on_a_resized_base, ("base of another size", "[424, 64]", "[420, 64]", "resize_token_embeddings")),
    "tokens of its own": (with_tokens_of_its_own, ("no embedding for", "'<call>'", "420 rows")),
    "base of another machine": (
        lambda base, folder: lora(base, folder, base_model_name_or_path="/home/alice/models/base"),
        ("base is not there", "/home/alice/models/base", "base_model_name_or_path"),
    ),
    "base of the hub, not here": (
        lambda base, folder: lora(base, folder, base_model_name_or_path="no-org/no-model"), ("base is not there", "no-org/no-model"),
    ),
    "no base": (lambda base, folder: lora(base, folder, base_model_name_or_path=None), ("does not say which model",)),
    "pickle": (pickled, ("safetensors only", "adapter_model.bin", "PeftModel")),
    "pointer": (pointer, ("git lfs pull --include 'adapter_model.safetensors'",)),
    "quantised base": (on_a_quantised_base, ("not trained or repaired", "fp8", "base_model_name_or_path")),
    "broken base": (on_a_broken_base, ("no tokenizer", "broken")),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_that_cannot_is_refused_before_anything_runs(
    kind: str, tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build, says = REFUSED[kind]
    folder = build(tiny_causal, tmp_path / "adapter")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "the film was lovely"}\n' * 40)
    line = ["repair", str(folder), "--forget", str(rows), "--replay", str(rows), "--out", str(tmp_path / "out")]
    assert run([*line, "--store", str(tmp_path / "store"), "--quiet"]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert [word for word in says if word not in err] == [], err
    assert "fix:" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "store").rglob(MANIFEST))


def test_a_language_adapter_on_a_classifier_is_refused(tiny_causal: Path, tmp_path: Path) -> None:
    model, _ = load.load_classifier(tiny_causal, ["positive", "negative"], CPU, seed=0)
    model.save_pretrained(tmp_path / "classifier")
    load.load_tokenizer(tiny_causal).save_pretrained(tmp_path / "classifier")
    folder = lora(tiny_causal, tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "classifier"))
    with pytest.raises(UserError, match="another task"):
        find_model(str(folder))
