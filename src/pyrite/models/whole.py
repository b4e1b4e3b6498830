"""A model read from its folder whole, or not at all: no weight is filled at random, and no layer is left out.

The model library draws what a folder lacks at random, and leaves out what a configuration has no place for; it says so in a
log. A model like that answers, and its answers mean nothing. Here both are a `UserError`, but for heads that are not asked
and for constants. It names the weights and, where one prefix explains them (`module.` of data-parallel training, `_orig_mod.` of torch.compile, `base_model.model.` of PEFT),
that prefix.
"""

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pyrite.errors import UserError
from pyrite.models import empty, spread
from pyrite.models.config_file import read_config, refuse_pointer, whereabouts
from pyrite.models.quantised import UNQUANTISED, as_plain_weights, check_quantisation, quantisation_in
from pyrite.models.stored import BUFFERS, check_codes, check_integers, check_shards_of_training, some, stored_tensors

Head = Literal["own", "fresh", "none"]
"""Of a model's head: the folder holds it, a fresh one is drawn, or none is used (an embedder reads hidden states)."""

TOWERS = re.compile(r"(^|\.)(vision\w*|visual\w*|audio\w*|image\w*|multi_modal_projector|mtp)\.")
"""Parts of a model of several senses, and heads for more tokens at once: text is read without them."""
POOLER = re.compile(r"(^|\.)pooler\.")
BODY = re.compile(r"(^|\.)(layers?|h|blocks?|embeddings?|embed_tokens|wte|word_embeddings|attentions|ffns)\.")
"""What stands in the name of a weight that is of no head."""
PREFIXES = {
    "module.": "it was saved from DataParallel or DDP: save model.module",
    "_orig_mod.": "it was saved from a compiled model: save model._orig_mod",
    "base_model.model.": "it was saved with its adapters: save model.merge_and_unload()",
}
CONSOLIDATED = re.compile(r"consolidated\b")
WHOLE, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OTHER_FORMATS = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".onnx", ".h5", ".msgpack", ".npz"}


def load_whole(auto_class: Any, folder: Path, *, head: Head = "own", **options: Any) -> Any:
    """A model of this class from a folder, with every weight that the folder should hold.

    Raises:
        UserError: a file of weights is a pointer, cut off or absent; a weight is missing, has no place in the model, or
            another shape; the library cannot build the model (a library of a quantised format is not installed, an
            architecture that it does not know).
    """
    from safetensors import SafetensorError
    from torch import OutOfMemoryError

    refuse_adapter_beside(folder)
    check_quantisation(folder)
    check_weight_files(folder)
    try:
        model, loaded = auto_class.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except ImportError as error:
        fix = "install what the line above names, or give the model unquantised"
        raise UserError(
            "This model needs a library that is not installed.", f"{folder}: {lines_of(error)}", fix
        ) from error
    except (
        OSError,
        RuntimeError,
        ArithmeticError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        SafetensorError,
    ) as error:
        full = isinstance(error, MemoryError | OutOfMemoryError) or "can't allocate memory" in str(error)
        if full or getattr(error, "errno", None) is not None:
            raise  # the machine's: no memory, a full disk, no permission
        quantised = quantisation_in(read_config(folder)) is not None
        fix = UNQUANTISED if quantised else cause_of(error, read_config(folder))
        raise UserError("The model cannot be loaded.", f"{folder}: {lines_of(error)}", fix) from error
    check_shapes(folder, loaded["mismatched_keys"])
    check_keys(folder, model, loaded["missing_keys"], loaded["unexpected_keys"], head)
    check_integers(folder, files_read(folder), model, [key for key in loaded["unexpected_keys"] if may_be_left(key)])
    check_numbers(folder, model)
    return model if "quantization_config" in options else as_plain_weights(model)


def refuse_adapter_beside(folder: Path) -> None:
    """Refuse an adapter beside a whole model: the library would load the adapter's base in the model's place."""
    if (folder / ADAPTER_CONFIG).is_file():
        fix = "keep them apart: the library would load the adapter's base in the place of this model"
        raise UserError("A whole model and an adapter lie in one folder.", f"{folder}: {ADAPTER_CONFIG}", fix)


def check_numbers(folder: Path, model: Any) -> None:
    """Refuse weights that are no finite numbers: whatever such a model says means nothing.

    Raises:
        UserError: with their names.
    """
    import torch

    if empty.loads_nothing():  # the first process looks
        return
    broken = [
        name
        for name, weight in (spread.weights_at_hand(model) if spread.is_spread(model) else model.named_parameters())
        if not hasattr(weight, "quant_state")  # codes, whatever the dtype that they lie in
        and weight.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
        and weight.numel()
        and not all(bound.isfinite() for bound in weight.detach().aminmax())
    ]
    if broken:
        fix = "get the model again, or train it anew with a lower learning rate"
        raise UserError(
            "The model holds weights that are not numbers (NaN or infinite).", f"{folder}: {some(broken)}", fix
        )


def lines_of(error: BaseException) -> str:
    """What an error says, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = f"the library does not know {text}" if isinstance(error, KeyError) else text
    return text if len(text) <= 300 else f"{text[:300]} …"


def cause_of(error: BaseException, config: Mapping[str, Any]) -> str:
    """What to do about an error of the library."""
    if isinstance(error, KeyError) and error.args:
        places = [f"{place}: {value!r}" for place, value in settings_in(config) if value == error.args[0]]
        if places:
            return (
                f"in config.json ({', '.join(places)}), write what the model that this one was trained from has there"
            )
    if "trust_remote_code" in str(error):
        return "Pyrite runs no code from a model's folder: give a model that the installed transformers knows"
    if "model type" in str(error) or "Unrecognized" in str(error):
        return "the installed transformers does not know this architecture: pip install -U transformers, or give another model"
    return "get the model again, or write it anew with save_pretrained()"


def settings_in(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a config.json, each with its place (rope_scaling.type)."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from settings_in(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def check_shapes(folder: Path, mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Refuse weights of other shapes than config.json says: `mismatched` are their names, shapes, and the shapes expected.

    Raises:
        UserError: with all three of the first few, and how many there are.
    """
    if mismatched:
        shapes = [
            f"{name} is {list(stored)}, config.json says {list(expected)}"
            for name, stored, expected in sorted(mismatched, key=lambda entry: entry[0])
        ]
        raise UserError(
            "The model cannot be loaded: its weights have other shapes than its config.json says.",
            f"{folder}: {len(shapes)} weights: {some(shapes)}",
            "config.json and the weights are of two models: get the folder again, or the config.json that belongs to it",
        )


def check_keys(folder: Path, model: Any, missing: Collection[str], unexpected: Collection[str], head: Head) -> None:
    """Refuse weights that the folder lacks, or holds and the model has no place for.

    Raises:
        UserError: with their names, the likely prefix, and how to write the folder anew.
    """
    body = f"{model.base_model_prefix}."
    lacking = sorted(key for key in missing if not may_be_fresh(key, body, head))
    homeless = sorted(key for key in unexpected if not may_be_left(key))
    if not lacking and not homeless:
        return
    prefix = prefix_between(unexpected, [*missing, *(key.removeprefix(body) for key in missing)])
    if prefix:
        meaning = PREFIXES.get(prefix, "write the weights without it")
        raise UserError(
            "The names of this model's weights have a prefix that the model does not know.",
            f"{folder}: '{prefix}' stands before {some(sorted(unexpected))}",
            f"{meaning}, or take the prefix off the names in the safetensors file",
        )
    if lacking:
        number = f"{len(lacking)} of its weights are missing" if len(lacking) > 1 else "one of its weights is missing"
        also = f"; without a place: {some(homeless)}" if homeless else ""
        raise UserError(
            "The model is not whole, and what it lacks would be filled at random.",
            f"{folder}: {number}: {some(lacking)}{also}",
            "get the folder again, or write it with save_pretrained() from the model that was trained",
        )
    raise UserError(
        "The folder holds weights that this model has no place for.",
        f"{folder}: {len(homeless)}: {some(homeless)}",
        "config.json describes another model (fewer layers, or other parts): get the one that belongs to these weights",
    )


def may_be_fresh(key: str, body: str, head: Head) -> bool:
    """Is a weight that the folder lacks one that is drawn anew on purpose, or that nothing reads?"""
    return head != "own" and (bool(POOLER.search(key)) or (head == "fresh" and not key.startswith(body)))


def may_be_left(key: str) -> bool:
    """Is a weight that the model has no place for one that no answer hangs on: a constant, or of a head that is not asked?"""
    return bool(BUFFERS.search(key) or TOWERS.search(key) or POOLER.search(key)) or not BODY.search(key)


def prefix_between(unexpected: Collection[str], missing: Collection[str]) -> str:
    """The text that stands before the names of the weights and makes strangers of them; empty where there is none."""
    for known in PREFIXES:
        if any(key.startswith(known) for key in unexpected):
            return known
    for key in sorted(unexpected):
        for lack in missing:
            if key.endswith(f".{lack}"):
                return key.removesuffix(lack)
    return ""


def check_weight_files(folder: Path) -> None:
    """Refuse files of weights that are not what they should be, before a library meets them.

    Raises:
        UserError: no safetensors; a pointer of git-lfs in the place of a file; a file that is cut off or empty; a shard
            that the index names and that is not there; two sets of weights.
    """
    if not any(folder.glob("*.safetensors")) and not (folder / INDEX).is_file():
        names = sorted(file.name for file in folder.iterdir() if file.suffix in OTHER_FORMATS)
        detail = f"{folder} holds {', '.join(names) or 'no weights'}"
        raise UserError("Pyrite reads weights from safetensors only.", detail, conversion(folder, names))
    files = files_read(folder)
    for file in files:
        check_whole_file(file)
    if not any(tensors_in(file) for file in files):
        detail = f"{folder}: {some([file.name for file in files])}"
        raise UserError("The model's files of weights hold no weights.", detail, "get the folder again")
    check_codes(folder, files)
    check_shards_of_training(folder, files)


def conversion(folder: Path, names: Sequence[str]) -> str:
    """How weights of other formats become safetensors."""
    where = json.dumps(str(folder))
    if "adapter_model.bin" in names:
        code = (
            "import peft, transformers as t; c=peft.PeftConfig.from_pretrained(W); "
            "m=t.AutoModelForCausalLM.from_pretrained(c.base_model_name_or_path); "
            "peft.PeftModel.from_pretrained(m,W).save_pretrained(W)"
        )
        return f"of a source that you trust: python -c {shlex.quote(code.replace('W', where))}"
    if any(name.startswith("pytorch_model") for name in names):
        import transformers

        given = read_config(folder).get("architectures") or []
        known = [name for name in given if isinstance(name, str) and name in dir(transformers)]
        code = f"import transformers as t; t.{(known or ['AutoModel'])[0]}.from_pretrained({where}).save_pretrained({where})"
        return f"of a source that you trust: python -c {shlex.quote(code)}"
    below = whereabouts(folder)
    return (
        below if names or "name the folder" in below else "get the folder again: weights are missing (hf download NAME)"
    )


def files_read(folder: Path) -> list[Path]:
    """The files of weights that the library reads: the whole model, or the shards that its index names, or an adapter. Others
    (an optimizer's, `consolidated.safetensors`) may lie beside them.

    Raises:
        UserError: a shard is missing, or old whole weights lie beside newer shards (or the other way round).
    """
    index = folder / INDEX
    shards = sorted(shards_of(index)) if index.is_file() else []
    there = [name for name in shards if (folder / name).is_file()]
    if (folder / WHOLE).is_file():
        if there and WHOLE not in shards:
            detail = f"{folder}: {WHOLE}, and {some(there)} of {INDEX}"
            raise UserError("Two sets of weights lie in one folder.", detail, "remove the older one")
        return [folder / WHOLE]
    if shards:
        absent = [name for name in shards if name not in there]
        if absent:
            raise UserError(
                "Files of this model's weights are missing.",
                f"{index}: {some(absent)}",
                "get the folder again (an interrupted download goes on: hf download NAME)",
            )
        return [folder / name for name in shards]
    if (folder / ADAPTER).is_file():
        return [folder / ADAPTER]
    names = sorted(file.name for file in folder.glob("*.safetensors"))
    if len(names) == 1 and not CONSOLIDATED.match(names[0]):
        fix = f"if they are the model's, rename the file: mv {shlex.quote(str(folder / names[0]))} {shlex.quote(str(folder / WHOLE))}"
    elif all(CONSOLIDATED.match(name) for name in names):
        fix = f"these are weights of another tool (Mistral's): get {WHOLE} or its shards from the same model (hf download NAME)"
    else:
        fix = f"get {INDEX} too, or write the model with save_pretrained()"
    detail = f"{folder}: {some(names)}, and neither {WHOLE} nor {INDEX}"
    raise UserError("The model's weights lie under a name that is not read.", detail, fix)


def shards_of(index: Path) -> Collection[str]:
    """The files that an index names: those of its own folder, and no others."""
    refuse_pointer(index)
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if any(Path(name).name != name for name in names):
            raise ValueError(f"a file of another folder: {min(names)}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        detail = f"{index}: {lines_of(error)}"
        raise UserError("The index of a model's weights cannot be read.", detail, "get the folder again") from error
    return names


def tensors_in(file: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a safetensors file, name by name, with their shapes."""
    return {name: tensor.shape for name, tensor in stored_tensors(file).items()}


def check_whole_file(file: Path) -> None:
    """Refuse a safetensors file that is a pointer or has another size than its header says."""
    size = file.stat().st_size
    refuse_pointer(file)
    with file.open("rb") as handle:
        ends = -1
        length = int.from_bytes(handle.read(8), "little")
        if size >= 8 and 8 + length <= size:
            handle.seek(8)
            try:
                header = json.loads(handle.read(length))
                spans = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
                ends = 8 + length + max(spans, default=0)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
                ends = -1
    if ends != size:
        says = f"{size:,} bytes, {f'its header speaks of {ends:,}' if ends >= 0 else 'and no header that can be read'}"
        raise UserError("A file of weights is cut off or damaged.", f"{file}: {says}", "get the file again")


def check_adapter_keys(model: Any, folder: Path) -> None:
    """Refuse an adapter of which the base has no place for a weight, or that lacks one.

    Raises:
        UserError: with the names.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / ADAPTER, framework="pt") as weights:
        stored = set(weights.keys())
    placed = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    of_base = {name.replace(".default.", ".") for name in model.state_dict()}  # embeddings that were saved beside it
    lacking, homeless = sorted(placed - stored), sorted(stored - placed - of_base)
    if lacking or homeless:
        names = f"missing: {some(lacking)}" if lacking else f"without a place: {some(homeless)}"
        fix = "give the base that the adapter was trained on, or save the adapter again with save_pretrained()"
        raise UserError("The adapter does not fit its base.", f"{folder}: {names}", fix)
