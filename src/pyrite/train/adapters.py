"""Low-rank adapters: put on a base model, continued, saved under the base's name and not its path."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.beside import copy_beside, copy_tokenizer
from pyrite.models.hardware import Compute
from pyrite.models.whole import (
    ADAPTER,
    ADAPTER_CONFIG,
    check_adapter_keys,
    check_numbers,
    check_weight_files,
    files_read,
    lines_of,
    tensors_in,
)
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
    try:
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=train, use_safetensors=True)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        fix = "give the base that the adapter was trained on, or save the adapter again with save_pretrained()"
        raise UserError("The adapter does not fit its base.", f"{folder}: {lines_of(error)}", fix) from error
    check_adapter_keys(adapted, folder)
    check_numbers(folder, adapted)
    return adapted


IN_ADAPTER = "base_model.model."
"""What an adapter puts before the names of its base's modules."""


def check_adapter(folder: Path, base: Path, *, classifies: bool) -> None:
    """Refuse an adapter that cannot be added to its base: of a kind without weights to add, of another task, or for a base
    with another number of tokens.

    Raises:
        UserError: naming the kind, the task or the tensor.
    """
    file = folder / ADAPTER_CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    kind, task = str(config.get("peft_type")), config.get("task_type")
    if kind != "LORA" and not can_be_merged(kind):
        fix = "give a model of all weights: an adapter of this kind changes what the model reads, not its weights"
        raise UserError("An adapter of this kind cannot be merged into its base.", f"{file}: peft_type {kind}", fix)
    wanted = "SEQ_CLS" if classifies else "CAUSAL_LM"
    if task not in (None, wanted):
        holds = "a classifier" if classifies else "a language model"
        detail = f"{file}: task_type {task}; {base} holds {holds} ({wanted})"
        raise UserError("The adapter is of another task than its base.", detail, "give the base it was trained on")
    stored = {name: shape for weights in files_read(folder) for name, shape in tensors_in(weights).items()}
    shapes = {name: shape for weights in files_read(base) for name, shape in tensors_in(weights).items()}
    for name, shape in stored.items():
        of_base = shapes.get(name.removeprefix(IN_ADAPTER))
        if of_base is not None and of_base != shape:
            detail = f"{folder}: {name} is {list(shape)}, the base's {list(of_base)}"
            fix = (
                "give the base as it was trained on: base.resize_token_embeddings(TOKENS), save_pretrained(FOLDER), and that "
                "folder as base_model_name_or_path of adapter_config.json"
            )
            raise UserError("The adapter was trained on a base of another size.", detail, fix)
    if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        load.load_tokenizer(folder, model=base)


def can_be_merged(kind: str) -> bool:
    """Does this kind of adapter add to weights? Prompts and prefixes do not."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PromptLearningConfig

    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING or issubclass(PEFT_TYPE_TO_CONFIG_MAPPING[kind], PromptLearningConfig):
        return False
    return hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(kind), "merge_and_unload")


def has_adapter(folder: Path) -> bool:
    """Does this folder hold adapters rather than a whole model?"""
    return (folder / ADAPTER_CONFIG).is_file()


def save_trained(model: Any, base: Path, folder: Path, base_name: str, *, only: str | None = None) -> None:
    """Write a trained model and what stands beside its base, or its adapters and the tokenizer; paths of this machine stay
    out of the files.

    `base` is the folder that the tokenizer lies in. `only` names one adapter of several: its files come to lie in the folder itself.
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
    if hasattr(model, "peft_config"):
        copy_tokenizer(base, folder)
    else:
        copy_beside(base, folder, config=False)


def write_merged(base: Path, adapter: Path, out: Path, load_full_model: Callable[[Path, Compute], Any]) -> None:
    """Write the sum of a base and its adapters, added in fp32; `load_full_model` loads a base of its type."""
    model = load_full_model(base, Compute("cpu", "fp32"))
    adapted = with_adapter(model, adapter, train=False)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        fix = "merge it with the library that it was trained with, and give the merged model"
        raise UserError("The adapter cannot be merged into its base.", f"{adapter}: {lines_of(error)}", fix) from error
    has_tokenizer = (adapter / "tokenizer_config.json").is_file()
    write_full_model(merged, adapter if has_tokenizer else base, base, out)


def write_full_model(model: Any, tokenizer: Path, base: Path, out: Path) -> None:
    """Write a model in the number format of the one that it was made from, with what stands beside that one's weights, and
    the tokenizer that lies in the folder `tokenizer`."""
    model.to(load.stored_dtype(base)).save_pretrained(out, safe_serialization=True)
    copy_beside(base, out)
    if tokenizer != base:
        copy_tokenizer(tokenizer, out)
