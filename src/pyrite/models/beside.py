"""What stands beside a model's weights: kept, byte for byte, where the weights are written anew.

The library writes a tokenizer and a configuration as its own release would: with other special tokens, fields and files
than those that were read. A model whose weights alone have changed keeps what it came with.
"""

import shutil
from pathlib import Path

from pyrite.models.config_file import CONFIG
from pyrite.models.packaged import COMPLETE
from pyrite.models.tokenizer import tokenizer_files
from pyrite.models.whole import ADAPTER_CONFIG, OTHER_FORMATS
from pyrite.steps.store import DROPPED, MANIFEST

GENERATION = "generation_config.json"
TEMPLATES = "additional_chat_templates"
RECORDS = {
    MANIFEST,
    DROPPED,
    "history.json",
    "took.json",
    "repair.json",
    "quantise.json",
    "weights.json",
    "training.json",
    "curve.csv",
    "guard.csv",
    "frontier.csv",
    "outcomes.csv",
    *(f"{figure}.{kind}" for figure in ("curves", "frontier") for kind in ("svg", "png")),
}
"""What our own steps and repairs write beside a model, which is not of the model."""
LEFT = {"trainer_state.json", ".git", ".cache", ".ipynb_checkpoints", COMPLETE}
"""What trainers and download tools leave, which is not of the model."""


def is_weights(path: Path) -> bool:
    """Does a path hold weights, of whatever format, an index of them, or a training's checkpoints? An optimizer's states and
    pickled arguments (`.pt`, `.bin`) are of them."""
    return (
        path.suffix in {".safetensors", *OTHER_FORMATS}
        or path.name.endswith(".index.json")
        or (path.is_dir() and path.name.startswith("checkpoint-"))
    )


def weights_in(folder: str, names: list[str]) -> set[str]:
    """Of the names in a folder, those that `is_weights`."""
    return {name for name in names if is_weights(Path(folder) / name)}


def copy_beside(model: Path, out: Path, *, config: bool = True) -> None:
    """Copy what stands beside the weights of a whole model, as it is, over what a library wrote there; its config.json, too,
    unless `out` holds another head."""
    remove_tokenizer(out)
    left = RECORDS | LEFT | {ADAPTER_CONFIG} | (set() if config else {CONFIG})
    for path in sorted(model.iterdir()):
        if path.name in left or is_weights(path):
            continue
        if path.is_dir():
            shutil.copytree(path, out / path.name, dirs_exist_ok=True, ignore=weights_in, ignore_dangling_symlinks=True)
        else:
            shutil.copyfile(path, out / path.name)
    if config and not (model / GENERATION).is_file():
        (out / GENERATION).unlink(missing_ok=True)


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copy the files of a tokenizer, its chat templates among them, as they are."""
    remove_tokenizer(out)
    for file in tokenizer_files(source):
        shutil.copyfile(file, out / file.name)
    if (source / TEMPLATES).is_dir():
        shutil.copytree(source / TEMPLATES, out / TEMPLATES, dirs_exist_ok=True)


def remove_tokenizer(folder: Path) -> None:
    """Take away the files of a tokenizer: two of them would be mixed."""
    for file in tokenizer_files(folder):
        file.unlink()
