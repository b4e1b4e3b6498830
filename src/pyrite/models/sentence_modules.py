"""A folder of sentence-transformers: what its modules say of how a text becomes a vector.

    modules.json                    the modules, in order, each with its folder
    1_Pooling/config.json           which of a text's states are its vector
    sentence_bert_config.json       how many tokens of a text are read
    config_sentence_transformers.json   what is put before a text

Reimers and Gurevych 2019, "Sentence-BERT"; the library's layout. A module that is not known here (a dense layer, one of
the folder's own) is refused: the vectors would be others.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyrite.errors import UserError

Pooling = Literal["mean", "cls", "lasttoken", "max"]
POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
}
MODULES = "modules.json"
FIX = "give another: --embedder packaged:minilm-l6, or --embedder hidden-states"


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """How a text becomes a vector: by the model of this folder, pooled this way, of at most so many tokens."""

    folder: Path
    pooling: Pooling | None = None
    """None where the folder is none of sentence-transformers: the mean."""
    max_tokens: int | None = None
    lower: bool = False
    """Are texts put into lower case first?"""
    prompt: str = ""
    """Is put before every text."""


def sentence_modules(folder: Path) -> SentenceModules:
    """What a folder says of its vectors; the mean of all states where it says nothing.

    Raises:
        UserError: a file that cannot be read, or a module or a pooling that Pyrite does not know.
    """
    if not (folder / MODULES).is_file():
        return SentenceModules(folder)
    model, pooling = folder, None
    for entry in entries_of(folder / MODULES):
        kind, place = str(entry.get("type")).rpartition(".")[2], str(entry.get("path") or "")
        if place and (Path(place).is_absolute() or ".." in Path(place).parts):
            raise UserError("A module lies outside of its folder.", f"{folder / MODULES}: {place}", FIX)
        if kind == "Transformer":
            model = folder / place if place else folder
        elif kind == "Pooling":
            pooling = pooling_in(folder / place / "config.json")
        elif kind != "Normalize":  # every vector has unit length here
            raise UserError("The embedder has a module that Pyrite does not know.", f"{folder / MODULES}: {kind}", FIX)
    if pooling is None:
        raise UserError("The embedder does not say how states become a vector.", f"{folder / MODULES}: no Pooling", FIX)
    settings = optional(model / "sentence_bert_config.json")
    longest = settings.get("max_seq_length")
    prompts = optional(folder / "config_sentence_transformers.json")
    texts, name = prompts.get("prompts"), prompts.get("default_prompt_name")
    prompt = str(texts.get(name, "")) if isinstance(texts, Mapping) and name else ""
    limit = longest if isinstance(longest, int) and longest > 0 else None
    return SentenceModules(model, pooling, limit, bool(settings.get("do_lower_case")), prompt)


def entries_of(file: Path) -> list[Mapping[str, Any]]:
    """The modules that a modules.json names."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise ValueError("no list of modules")
    except (ValueError, RecursionError) as error:
        raise UserError("An embedder's modules cannot be read.", f"{file}: {error}", "get the folder again") from error
    return entries


def optional(file: Path) -> Mapping[str, Any]:
    """A JSON object that may be absent.

    Raises:
        UserError: it is there and cannot be read.
    """
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, Mapping):
            raise ValueError("no JSON object")
    except (ValueError, RecursionError) as error:
        detail = f"{file}: {error}"
        raise UserError("An embedder's settings cannot be read.", detail, "get the folder again") from error
    return values


def pooling_in(file: Path) -> Pooling:
    """Which states are pooled, and how.

    Raises:
        UserError: none, several at once, or a way that Pyrite does not know.
    """
    if not file.is_file():
        raise UserError("The embedder's pooling is not there.", str(file), "get the folder again, with its subfolders")
    config = optional(file)
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    named = config.get("pooling_mode")
    chosen += [f"pooling_mode_{name}" for name in ([named] if isinstance(named, str) else named or [])]
    known = {POOLINGS.get(name) or POOLINGS.get(f"{name}_token") or POOLINGS.get(f"{name}_tokens") for name in chosen}
    if len(known) != 1 or None in known:
        detail = f"{file}: {', '.join(chosen) or 'no mode'}"
        raise UserError("The embedder pools in a way that Pyrite does not know.", detail, FIX)
    if config.get("include_prompt") is False:
        raise UserError("The embedder pools in a way that Pyrite does not know.", f"{file}: include_prompt false", FIX)
    (pooling,) = known
    assert pooling is not None
    return pooling
