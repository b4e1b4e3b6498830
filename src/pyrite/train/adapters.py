"""Low-rank adapters: put on a base model, continued, saved under the base's name and not its path."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.whole import ADAPTER, ADAPTER_CONFIG, check_adapter_keys, check_weight_files
from pyrite.train.settings import LoraSettings


def add_adapter(
    model: Any,
    lora: LoraSettings,
    task: Literal["SEQ_CLS", "CAUSAL_LM"],
    *,
    seed: int,
    four_bit: bool = False,
    name: str = "default",
) -> Any:
    """A base model with fresh adapters (and, for a classifier, its head) to train; all else is frozen.

    A model that has adapters already keeps them, active and frozen, beneath the new ones.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

    if four_bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        task_type=task,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias="none",
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        modules_to_save=list(lora.also_train) or None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not isinstance(model, PeftModel):
            return get_peft_model(model, config, adapter_name=name)
        beneath = list(model.active_adapters)
        model.add_adapter(name, config)
    model.base_model.set_adapter([*beneath, name])
    for weight_name, weight in model.named_parameters():
        weight.requires_grad_(f".{name}." in weight_name)
    return model


def with_adapter(model: Any, folder: Path, *, train: bool) -> Any:
    """A base model with the adapters of a folder, to go on training them or to use them."""
    from peft import PeftModel

    check_weight_files(folder)
    if not (folder / ADAPTER).is_file():
        detail = f"{folder} has no {ADAPTER}"
        raise UserError("The adapter has no weights of its own.", detail, "save it again with save_pretrained()")
    adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=train, use_safetensors=True)
    check_adapter_keys(adapted, folder)
    return adapted


def has_adapter(folder: Path) -> bool:
    """Does this folder hold adapters rather than a whole model?"""
    return (folder / ADAPTER_CONFIG).is_file()


def save_trained(model: Any, tokenizer: Any, folder: Path, base_name: str, *, only: str | None = None) -> None:
    """Write a trained model (or its adapters) and its tokenizer; paths of this machine stay out of the files.

    `only` names one adapter of several: its files come to lie in the folder itself.
    """
    if hasattr(model, "peft_config"):
        for config in model.peft_config.values():
            config.base_model_name_or_path = base_name
    if only is None:
        model.save_pretrained(folder, safe_serialization=True)
    else:
        model.save_pretrained(folder, safe_serialization=True, selected_adapters=[only])
        for file in (folder / only).glob("*") if (folder / only).is_dir() else ():
            file.replace(folder / file.name)
    tokenizer.save_pretrained(folder)


def write_merged(base: Path, adapter: Path, out: Path, load_full_model: Callable[[Path, Compute], Any]) -> None:
    """Write the sum of a base and its adapters, added in fp32; `load_full_model` loads a base of its type."""
    model = load_full_model(base, Compute("cpu", "fp32"))
    merged = with_adapter(model, adapter, train=False).merge_and_unload(safe_merge=True)
    has_tokenizer = (adapter / "tokenizer_config.json").is_file()
    write_full_model(merged, load.load_tokenizer(adapter if has_tokenizer else base), base, out)


def write_full_model(model: Any, tokenizer: Any, base: Path, out: Path) -> None:
    """Write a model and its tokenizer, in the number format of the one that it was made from."""
    model.to(load.stored_dtype(base)).save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
