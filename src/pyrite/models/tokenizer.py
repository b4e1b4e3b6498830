"""A model's tokenizer, from its folder: whole, of this model, and without code of the folder.

Where files are absent, the library makes an empty tokenizer, which reads every text as nothing. Here that is refused.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models.config_file import (
    CONFIG,
    check_architecture,
    check_settings,
    is_pointer,
    read_config,
    refuse_pointer,
)

FILES = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model", "*.spm", "*.tiktoken",
    "tekken.json", "bpe.codes", "chat_template*", "*.jinja",
)  # fmt: skip
"""The files of a tokenizer, as patterns."""
VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "*.spm", "*.tiktoken", "tekken.json", "bpe.codes")
OTHER_SENSES = re.compile(r"image|audio|video|vision|speech", re.IGNORECASE)
"""In the names of tokens that stand for no text: a model of text alone may come with them, and has no row for them."""
PROBE = "The 3 dogs didn't see it."
"""A text that a tokenizer is tried on."""
MOST_KEPT = 4
"""So many tokenizers stay in memory: a large vocabulary takes a hundred megabytes, and a second to read."""
Stamps = tuple[tuple[Path, int, int], ...]
"""Files, their sizes in bytes and their times in nanoseconds: what says whether a file is still the one that was read."""


def load_tokenizer(folder: Path, *, model: Path | None = None) -> Any:
    """The tokenizer of a folder, with a padding token that never stands for the end of a text where one can be had.

    `model` is the folder of the model that reads its tokens, where that is another (the base of an adapter). The object is
    shared with other callers of this process until one of them changes it (its tokens, template, padding).

    Raises:
        UserError: its files are absent, pointers of git-lfs or broken; a library is needed that is not installed; it is
            code of the folder; it has tokens that the model has no embedding for.
    """
    folder, model = folder.absolute(), (model or folder).absolute()
    configs = {folder / CONFIG, model / CONFIG}
    files = [*tokenizer_files(folder), *sorted(file for file in configs if file.is_file())]
    stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    tokenizer, state = read_tokenizer(folder, model, stamps)
    if state_of(tokenizer) != state:  # whoever had it changed it, and keeps it
        read_tokenizer.cache_clear()
        tokenizer, _ = read_tokenizer(folder, model, stamps)
    return tokenizer


def state_of(tokenizer: Any) -> tuple[Any, ...]:
    """What a caller may have changed in a tokenizer: its tokens, their roles, template and padding."""
    roles = sorted((role, str(token)) for role, token in tokenizer.special_tokens_map.items())
    return len(tokenizer), roles, tokenizer.chat_template, tokenizer.padding_side, tokenizer.truncation_side


@lru_cache(maxsize=MOST_KEPT)
def read_tokenizer(folder: Path, model: Path, stamps: Stamps) -> tuple[Any, tuple[Any, ...]]:
    """A folder's tokenizer for files of these sizes and times, read once, and its state as it was read."""
    from transformers import AutoTokenizer

    for file in tokenizer_files(folder):
        refuse_pointer(file)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of as many kinds as there are formats, the base class among them
        raise refusal(folder, error) from error
    check_vocabulary(folder, tokenizer)
    check_embedding(tokenizer, folder, model)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer, state_of(tokenizer)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a tokenizer that a folder holds."""
    return sorted({file for pattern in FILES for file in folder.glob(pattern) if file.is_file()})


def copied_from(folder: Path) -> str:
    """How a tokenizer comes into a folder."""
    return (
        "put the tokenizer of the model that it was trained from beside it: "
        f"AutoTokenizer.from_pretrained(BASE).save_pretrained({str(folder)!r})"
    )


def absent(folder: Path) -> UserError:
    """The error for a folder that holds no vocabulary."""
    return UserError(
        "The model's folder has no tokenizer.", f"{folder}: no tokenizer.json, tokenizer.model or vocab file", copied_from(folder)
    )  # fmt: skip


def refusal(folder: Path, error: Exception) -> UserError:
    """What the library's error means, and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    detail = f"{folder}: {text if len(text) <= 300 else text[:300] + ' …'}"
    if "trust_remote_code" in text:
        fix = "give a tokenizer.json: Pyrite runs no code from a model's folder"
        return UserError("The tokenizer is code of its own.", f"{folder}: auto_map in tokenizer_config.json", fix)
    if not any(file.is_file() for pattern in VOCABULARIES for file in folder.glob(pattern)):
        return absent(folder)
    if (folder / CONFIG).is_file():  # the library reads it to choose the tokenizer's class
        try:
            check_architecture(folder)
            check_settings(folder)
        except UserError as of_config:
            return of_config
    pieces = next(folder.glob("*.model"), None)
    if pieces is not None and not (folder / "tokenizer.json").is_file():
        packages = missing_packages(pieces)
        if packages:
            fix = f"pip install {packages}, or add the model's tokenizer.json"
            what = "The tokenizer needs a library that is not installed."
            return UserError(what, f"{folder}: {pieces.name}, and no tokenizer.json", fix)
    return UserError("The tokenizer cannot be read.", detail, f"get its files again, or {copied_from(folder)}")


def missing_packages(pieces: Path) -> str:
    """The packages that a tokenizer.model needs and that are not installed: it is SentencePiece's (protobuf) or tiktoken's
    (lines of text)."""
    from importlib.util import find_spec

    with pieces.open("rb") as handle:
        needs = ("sentencepiece", "google.protobuf") if handle.read(1) == b"\n" else ("tiktoken",)
    missing = [name for name in needs if find_spec(name.partition(".")[0]) is None or find_spec(name) is None]
    return " ".join(missing).replace("google.", "")


def check_vocabulary(folder: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that the library made of nothing, and one that it did not take from SentencePiece as it is."""
    names = set(type(tokenizer).vocab_files_names.values())
    if names and not any((folder / name).is_file() for name in (*names, "tokenizer.json", "tekken.json")):
        raise absent(folder)
    pieces = next(folder.glob("*.model"), None)
    if pieces is None or (folder / "tokenizer.json").is_file() or missing_packages(pieces):
        return
    from importlib import import_module
    from importlib.util import find_spec

    if find_spec("sentencepiece") is None:
        return
    with pieces.open("rb") as handle:
        if handle.read(1) != b"\n":
            return
    expected = import_module("sentencepiece").SentencePieceProcessor(model_file=str(pieces)).encode(PROBE, out_type=str)
    read = tokenizer.convert_ids_to_tokens(tokenizer(PROBE, add_special_tokens=False)["input_ids"])
    if read != expected:
        detail = f"{pieces}: {' '.join(expected[:6])} … is read as {' '.join(read[:6])} …"
        fix = "name the class in tokenizer_config.json (tokenizer_class), or add the model's tokenizer.json"
        raise UserError("The library reads this tokenizer otherwise than SentencePiece does.", detail, fix)


def check_embedding(tokenizer: Any, folder: Path, model: Path) -> None:
    """Refuse tokens that the model has no embedding for: those of another model, or added and never trained.

    More rows than tokens are no fault: tables are padded to round sizes.
    """
    rows = embedding_rows(model)
    if rows is None:
        return
    beyond = {at: str(token) for token, at in tokenizer.get_vocab().items() if at >= rows}
    named = [beyond[at] for at in sorted(beyond) if not OTHER_SENSES.search(beyond[at])]
    if named:
        more = f" and {len(named) - 3:,} more" if len(named) > 3 else ""
        detail = f"{folder}: {', '.join(map(repr, named[:3]))}{more}; the embedding of {model} has {rows:,} rows"
        fix = "give the tokenizer that belongs to the model, or the model that was resized for it (resize_token_embeddings)"
        raise UserError("The tokenizer has tokens that the model has no embedding for.", detail, fix)


def embedding_rows(folder: Path) -> int | None:
    """How many tokens a model has embeddings for; None where its config.json does not say."""
    if not (folder / CONFIG).is_file() or is_pointer(folder / CONFIG):
        return None
    config = read_config(folder)
    text = config.get("text_config")
    rows = (text if isinstance(text, dict) else {}).get("vocab_size", config.get("vocab_size"))
    return rows if isinstance(rows, int) and rows > 0 else None
