"""Writing whole models: as they are, or a base with its adapters added."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyrite.models import load
from pyrite.models.hardware import Compute


def write_merged(base: Path, adapter: Path, out: Path, load_full_model: Callable[[Path, Compute], Any]) -> None:
    """Write the sum of a base and its adapters, added in fp32; `load_full_model` loads a base of its type."""
    from pyrite.train.adapters import with_adapter

    model = load_full_model(base, Compute("cpu", "fp32"))
    merged = with_adapter(model, adapter, train=False).merge_and_unload(safe_merge=True)
    has_tokenizer = (adapter / "tokenizer_config.json").is_file()
    write_full_model(merged, load.load_tokenizer(adapter if has_tokenizer else base), base, out)


def write_full_model(model: Any, tokenizer: Any, base: Path, out: Path) -> None:
    """Write a model and its tokenizer, in the number format of the one that it was made from."""
    model.to(load.stored_dtype(base)).save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
