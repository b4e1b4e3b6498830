"""A model folder's config.json: read as data, and refused where it names no architecture that the library knows.

No code of a folder is ever run. An architecture that brings its own code is refused by name.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyrite.errors import UserError

CONFIG = "config.json"
SIZES = {
    **dict.fromkeys(
        ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "hidden_size", "n_embd", "d_model", "dim"), 1
    ),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads", "n_head", "n_heads", "vocab_size"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "encoder_layers", "decoder_layers"), 1),
    **dict.fromkeys(("head_dim", "intermediate_size", "type_vocab_size"), 0),
}
"""Settings that are whole numbers, and the least that each is in any model."""
_FIELD = re.compile(r"[Ff]ield '(\w+)'")
LFS = b"version https://git-lfs"


def is_pointer(file: Path) -> bool:
    """Is this a pointer of git-lfs that stands in the place of a file?"""
    with file.open("rb") as handle:
        return handle.read(len(LFS)) == LFS


def refuse_pointer(file: Path) -> None:
    """Refuse a pointer of git-lfs, with the command that gets the file."""
    if is_pointer(file):
        fix = f"in that folder: git lfs pull --include '{file.name}'"
        raise UserError("A file of the model is a pointer of git-lfs, not the file.", str(file), fix)


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json.

    Raises:
        UserError: there is none, it is a pointer of git-lfs, or it is no JSON object.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise UserError("That folder holds no model.", f"{folder} has no {CONFIG}", whereabouts(folder))
    refuse_pointer(file)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError("A model's config.json cannot be read.", f"{file}: {error}", "get the file again") from error
    if not isinstance(config, dict):
        raise UserError("A model's config.json is no JSON object.", str(file), "get the file again")
    return config


def whereabouts(folder: Path) -> str:
    """What to name in the place of a folder without a model: those that lie in it, the latest checkpoint first."""
    below = [
        *folder.glob("*/config.json"),
        *folder.glob("*/adapter_config.json"),
        *folder.glob("snapshots/*/config.json"),
    ]
    names = {str(file.parent.relative_to(folder)): file.stat().st_mtime for file in below}

    def newest(name: str) -> tuple[int, float]:
        number = name.rpartition("-")[2]
        return (int(number) if number.isdecimal() else 0, names[name])

    ordered = sorted(names, key=newest, reverse=True)
    if ordered:
        others = f" (there are also {', '.join(ordered[1:4])})" if len(ordered) > 1 else ""
        return f"name the folder in it: {folder / ordered[0]}{others}"
    if any(folder.glob("*.gguf")):
        return (
            "a GGUF file is no model folder: serve it (llama-server -m FILE) and ask it with --backend openai, or give the "
            "folder that it was converted from"
        )
    return "give the folder that save_pretrained() wrote"


def check_architecture(folder: Path) -> None:
    """Refuse a model that the installed library cannot build by itself.

    A folder may bring code for an architecture that the library has, too: then the library's own is used, unless the
    folder's class has another name, which the library's need not compute the same as.

    Raises:
        UserError: no model_type, one that the library does not know, or a class that is code of the folder.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = read_config(folder)
    model_type, own_code = config.get("model_type"), config.get("auto_map")
    file = folder / CONFIG
    if not isinstance(model_type, str) or not model_type:
        fix = 'write it ("model_type": "llama", say), as it stands in the model that this one was trained from'
        raise UserError("A model's config.json does not say which architecture it is.", f"{file}: no model_type", fix)
    names = [str(name) for name in config.get("architectures") or []]
    if own_code and (model_type not in CONFIG_MAPPING or not known_classes(names)):
        raise UserError(
            "The model is code of its own, and Pyrite runs no code from a model's folder.",
            f"{file}: model_type {model_type}, architectures {', '.join(names) or 'none'}, auto_map",
            "give a model of an architecture that transformers has, or serve it yourself and ask with --backend openai",
        )
    if model_type not in CONFIG_MAPPING:
        import transformers

        fix = "pip install -U transformers, or give another model"
        detail = f"{file}: model_type {model_type}, transformers {transformers.__version__}"
        raise UserError("The installed transformers does not know this architecture.", detail, fix)


def check_settings(folder: Path) -> None:
    """Refuse a config.json that the library cannot read: a dtype that there is not, text for a number, sizes that do not fit.

    Raises:
        UserError: with the library's reason.
    """
    from transformers import AutoConfig

    file = folder / CONFIG
    for name, value, least in sizes_too_small(read_config(folder)):
        fix = (
            f"write {name} as it stands in the model that this one was trained from: a whole number of {least} or more"
        )
        raise UserError("A model's config.json holds a size that no model has.", f"{file}: {name} is {value}", fix)
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except MemoryError:
        raise
    except Exception as error:  # each setting has its own: attributes, types, values, its own validation errors
        detail = f"{file}: {' '.join(str(error).split()) or type(error).__name__}"
        named = _FIELD.search(str(error))
        setting = named[1] if named else "the setting"
        fix = f"write {setting} as it stands in the model that this one was trained from, or get the file again"
        raise UserError("A model's config.json holds a setting that cannot be read.", detail, fix) from error


def sizes_too_small(config: dict[str, Any], within: str = "") -> Iterator[tuple[str, int, int]]:
    """The sizes in a configuration, and in those within it, that are less than in any model: name, value, the least."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from sizes_too_small(value, f"{within}{name}.")
        elif name in SIZES and isinstance(value, int) and not isinstance(value, bool) and value < SIZES[name]:
            yield f"{within}{name}", value, SIZES[name]


def known_classes(names: list[str]) -> bool:
    """Does the library have a class of each of these names (in whatever case: MPT's own is called Mpt there)?"""
    import transformers

    return {name.lower() for name in names} <= {name.lower() for name in dir(transformers)}
