"""A model's folder, looked at before anything runs: what would fail, or be scored wrongly, is refused with what to do.

Every verb takes its models through `pyrite.models.load.resolve`, which calls this.
"""

from functools import cache
from pathlib import Path

from pyrite.errors import UserError
from pyrite.models.config_file import CONFIG, check_architecture, check_settings, read_config, whereabouts
from pyrite.models.quantised import check_quantisation
from pyrite.models.sentence_modules import sentence_modules
from pyrite.models.tokenizer import load_tokenizer
from pyrite.models.whole import ADAPTER_CONFIG, check_weight_files, refuse_adapter_beside

SUFFIXES = {".json", ".safetensors", ".model", ".jinja", ".txt"}
"""The files that a model is read from, and that its identity hangs on."""


def model_files(folder: Path) -> list[Path]:
    """The files of a folder that a model is read from, those of the modules of a sentence embedder among them."""
    files = [file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file()]
    if (folder / "modules.json").is_file():
        files += [file for file in folder.glob("[0-9]_*/*") if file.suffix in SUFFIXES and file.is_file()]
    return sorted(files)


def check_readable(folder: Path) -> None:
    """Refuse files that are there by name only: links to nothing, folders in their place, no permission.

    Raises:
        UserError: naming the file.
    """
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix not in SUFFIXES:
                continue
            if path.is_symlink() and not path.exists():
                fix = "get the folder again (hf download NAME), or copy it with what its links lead to (cp -rL)"
                raise UserError("A file of the model is a link to nothing.", f"{path} -> {path.readlink()}", fix)
            if path.is_dir():
                continue
            with path.open("rb") as handle:
                handle.read(1)
    except PermissionError as error:
        fix = f"chmod -R u+rX '{folder}', or ask its owner"
        raise UserError("A file of the model may not be read.", str(error.filename or folder), fix) from error


def check_model_folder(folder: Path, *, adapters: bool = False, tokenizer_only: bool = False) -> None:
    """Refuse a folder that no model, or no whole one, can be read from.

    `adapters` says that a folder of adapters is welcome; `tokenizer_only`, that only the tokenizer is read.

    Raises:
        UserError: naming the file and what to do.
    """
    check_readable(folder)
    stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in model_files(folder))
    check_contents(folder, stamps, adapters, tokenizer_only)


@cache
def check_contents(
    folder: Path, stamps: tuple[tuple[Path, int, int], ...], adapters: bool, tokenizer_only: bool
) -> None:
    """What `check_model_folder` checks of files that can be read; once for files of these sizes and times."""
    if tokenizer_only:
        load_tokenizer(folder)
        return
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / CONFIG).is_file():
        if not adapters:
            refuse_adapters(folder)
        check_weight_files(folder)
        return
    if not (folder / CONFIG).is_file():
        folder = sentence_modules(folder).folder
    read_config(folder)
    check_architecture(folder)
    refuse_adapter_beside(folder)
    check_quantisation(folder)
    check_settings(folder)
    check_weight_files(folder)
    load_tokenizer(folder)


def refuse_adapters(folder: Path) -> None:
    """Refuse a folder of adapters: which base they belong to, it does not safely say."""
    if (folder / ADAPTER_CONFIG).is_file():
        fix = "merge it into its base first (peft: merge_and_unload, save_pretrained)"
        raise UserError("That folder holds an adapter, not a model.", str(folder), fix)


def refuse_file(path: Path) -> None:
    """Refuse a file in the place of a folder.

    Raises:
        UserError: with what to name.
    """
    if path.is_file():
        fix = whereabouts(path.parent) if path.suffix == ".gguf" else f"give its folder: {path.parent}"
        raise UserError("A model is a folder, and that is a file.", str(path), fix)
