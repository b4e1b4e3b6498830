"""From a model's name to a model in memory: packaged, a folder, or the hub; safetensors only, no remote code.

packaged:NAME         one of the two models that install from PyPI
./folder, /folder     a model folder
org/name[@revision]   the hub; the revision is pinned to a commit
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pyrite.data.keys import label_key
from pyrite.errors import UserError
from pyrite.io import local_place
from pyrite.io.urls import url_of
from pyrite.models import empty, packaged, spread
from pyrite.models.config_file import read_config as read_config
from pyrite.models.folder import check_model_folder, model_files, refuse_file
from pyrite.models.hardware import Compute
from pyrite.models.quantised import unpacked
from pyrite.models.tokenizer import load_tokenizer as load_tokenizer
from pyrite.models.whole import load_whole
from pyrite.steps import Source

FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
WEIGHTS = ("model*.safetensors", "adapter_model.safetensors")
"""The files of a model folder that hold weights: what a store may drop (`Step.weights`)."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model that can be loaded: the name as given, its folder, and what its content is (hash or commit)."""

    name: str
    folder: Path
    identity: str


def portable_name(model: str, source: Source) -> str:
    """A model's name for configurations and files: as given for the hub and packaged ones, its hash for a folder."""
    return source.identity if Path(model).expanduser().is_dir() or url_of(model) else model


def is_hub_name(ref: str) -> bool:
    """Does this name a model on the hub (org/name), not a packaged one or a folder, be it one that is not there in a
    folder that is?"""
    plain = ref.partition("@")[0]
    if url_of(ref) or ref.startswith((packaged.PREFIX, ".", "/", "~")) or plain.count("/") != 1:
        return False
    return not Path(plain.partition("/")[0]).is_dir() and not Path(ref).exists()


def resolve(ref: str, *, adapters: bool = False, tokenizer_only: bool = False) -> ModelRef:
    """Where is this model, and which content has it? Downloads from the hub where that is allowed.

    Its folder is looked at (`check_model_folder`): what cannot be read, or would be scored wrongly, ends here.

    Raises:
        UserError: no such model, or a folder that is broken.
    """
    if ref.startswith(packaged.PREFIX):
        return ModelRef(ref, packaged.folder_of(ref), packaged.package_identity(ref))
    folder = local_place(ref).expanduser()
    refuse_file(folder)
    quiet_libraries()
    if folder.is_dir():
        check_model_folder(folder, adapters=adapters, tokenizer_only=tokenizer_only)
        return ModelRef(ref, folder, folder_identity(str(folder.resolve())))
    if is_hub_name(ref):
        found = resolve_hub(ref)
        check_model_folder(found.folder, adapters=adapters, tokenizer_only=tokenizer_only)
        return found
    names = ", ".join(packaged.PREFIX + name for name in packaged.PACKAGED)
    raise UserError("That model is not there.", ref, f"give a model folder, a hub name (org/name), or one of: {names}")


def identity_without_files(ref: str) -> str:
    """What stands for a model in a plan made where the model is not at hand: its pinned hash, or its name."""
    if ref.startswith(packaged.PREFIX):
        return packaged.package_identity(ref)
    if Path(ref).expanduser().is_dir():
        return folder_identity(str(Path(ref).expanduser().resolve()))
    try:
        return resolve_hub(ref, download=False).identity if is_hub_name(ref) else f"absent:{ref}"
    except UserError:
        return f"absent:{ref}"


def folder_at_hand(ref: str) -> Path | None:
    """The folder of a model that is on this machine; None where nothing is, and nothing is downloaded."""
    folder = Path(ref).expanduser()
    if ref.startswith(packaged.PREFIX):
        return packaged.folder_of(ref) if packaged.is_fetched(ref.removeprefix(packaged.PREFIX)) else None
    if folder.is_dir():
        return folder
    try:
        return resolve_hub(ref, download=False).folder if is_hub_name(ref) else None
    except UserError:
        return None


def resolve_hub(ref: str, *, download: bool = True) -> ModelRef:
    """A model of the hub, from the local cache or downloaded, at one commit."""
    from huggingface_hub import snapshot_download

    name, _, revision = ref.partition("@")
    try:
        folder = Path(
            snapshot_download(name, revision=revision or None, allow_patterns=FILES, local_files_only=not download)
        )
    except Exception as error:  # the hub library raises many kinds: offline, no such name, no permission
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
        raise UserError(
            f"The model {ref} is not on this machine and could not be fetched.", first, f"run: {command}"
        ) from error
    return ModelRef(ref, folder, f"commit:{folder.name}")


def folder_identity(folder: str) -> str:
    """The hash of a model folder's configuration, tokenizer and weights (read again only where a file has changed)."""
    files = model_files(Path(folder))
    return hash_of_files(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@cache
def hash_of_files(files: tuple[tuple[Path, int, int], ...]) -> str:
    """The hash of these files' names and contents; their sizes and times only say which they are."""
    total = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as handle:
            total.update(file.name.encode() + hashlib.file_digest(handle, "sha256").digest())
    return "sha256:" + total.hexdigest()


TWO_WAY = ("xlnet", "bert-generation")
"""Architectures that the library lists among causal ones, that read both ways and fill in no masks."""


def is_causal(folder: Path) -> bool:
    """Is this a decoder (reads left to right, can generate) rather than an encoder, or an encoder with a decoder?

    The library can build a decoder of most encoders (BERT, ERNIE, XLM-R) and of the decoder's half of most models with both
    (BART), so that its list of causal architectures holds them all. One that it can also build to fill in masks is a
    decoder where its configuration says so (`is_decoder`), one with an encoder where it was saved as a causal model.
    """
    from transformers.models.auto import modeling_auto as auto

    config = read_config(folder)
    model_type = config.get("model_type")
    if model_type not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return False
    if config.get("is_encoder_decoder") or model_type in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return any(name.endswith("ForCausalLM") for name in config.get("architectures") or [])
    reads_both_ways = model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES or model_type in TWO_WAY
    return not reads_both_ways or bool(config.get("is_decoder"))


def label_order(config: dict[str, Any], labels: Sequence[str], model_name: str) -> list[int]:
    """At which output of a classifier is each of our labels? By name, whatever the checkpoint's order.

    Names are compared without regard to case, and `not_entailment` is `non-entailment`. Nameless outputs (LABEL_0 …) or a
    label that the checkpoint does not have are a `UserError`: a guessed order would turn a good model into a bad score.
    """
    names = {int(index): str(name).lower() for index, name in (config.get("id2label") or {}).items()}
    order = []
    for label in labels:
        at = [index for index, name in names.items() if label_key(name) == label_key(label)]
        if len(at) != 1:
            detail = f"{model_name} has outputs {[names[i] for i in sorted(names)]}, asked for '{label}'"
            fix = f"name the outputs in config.json (id2label) after the labels {list(labels)}"
            raise UserError("The classifier's outputs do not carry the task's labels.", detail, fix)
        order.append(at[0])
    return order


def quantisation(compute: Compute) -> Any:
    """The paper's 4-bit set-up: NF4 without double quantisation, computing in bf16.

    In a group of processes the codes lie in tensors of the dtype that is computed in: they are sharded and gathered as other weights
    are, cast to that dtype, and in another one the cast would change them.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        fix = "pip install 'pyrite[quant]', or train with method: lora"
        raise UserError("4-bit training needs bitsandbytes.", "it is not installed", fix) from error
    import torch
    from transformers import BitsAndBytesConfig

    if compute.device == "mps":
        raise UserError("4-bit training does not run on this device.", compute.device, "train with method: lora")
    dtype = torch.float32 if compute.precision == "fp32" else torch.bfloat16
    shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False, bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if shared else torch.uint8,
    )  # fmt: skip


def load_causal(folder: Path, compute: Compute, *, four_bit: bool = False) -> Any:
    """A causal language model to train, in fp32 weights (4-bit where asked) on the chosen device; or one to read with, spread
    over all devices, in the number format that it is read in."""
    import torch
    from transformers import AutoModelForCausalLM

    if compute.device_map == "auto":
        with spread.offload_folder() as offload:
            options = plain_loading(torch.float32) | spread.spread_options(compute, offload)
            return spread.remove_with(load_whole(AutoModelForCausalLM, folder, **options), offload).eval()
    if not four_bit:
        model = load_or_share(AutoModelForCausalLM, folder)
        return (model if empty.trains_together() else model.to(compute.device)).eval()
    extra = {"quantization_config": quantisation(compute), "device_map": {"": compute.device}}
    return unpacked(load_whole(AutoModelForCausalLM, folder, **plain_loading(torch.float32), **extra)).eval()


def load_or_share(auto_class: Any, folder: Path, *, head: Any = "own", **options: Any) -> Any:
    """A whole model in fp32 on the CPU. Of several processes that train together only the first reads its weights, which are
    shared out when it is sharded."""
    import torch

    if empty.loads_nothing():
        model = empty.empty_model(auto_class, folder, torch.float32, **options)
        if not empty.has_stored_buffers(model):
            return model
    return load_whole(auto_class, folder, head=head, **plain_loading(torch.float32), **options)


def takes_segments(model: Any) -> bool:
    """Was this model trained to be told which text of a pair a token belongs to (BERT's token types)?"""
    kinds = getattr(model.config.get_text_config(), "type_vocab_size", 0)
    return isinstance(kinds, int) and kinds > 1


def parsed_config(folder: Path) -> Any:
    """A model folder's configuration as the library reads it, with what the file leaves to defaults."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def for_generation(model: Any, compute: Compute) -> tuple[Any, Compute]:
    """A causal model to read or write text with, and the precision to do it in.

    Where training mixes precisions, the weights themselves become bf16: re-casting them at every token costs more
    than the token. The compute that comes back needs no autocast. For int8 the linear layers are replaced.
    """
    import torch

    if compute.precision == "int8":
        from pyrite.models.int8 import with_int8_layers

        return with_int8_layers(model).eval(), compute
    if compute.device_map == "auto":
        return model.eval(), Compute(compute.device, "fp32", device_map="auto")
    if compute.precision == "fp32" or getattr(model, "quantization_method", None) is not None:
        return model.eval(), compute
    return model.to(torch.bfloat16).eval(), Compute(compute.device, "fp32")


def load_classifier(
    folder: Path, labels: Sequence[str], compute: Compute, *, seed: int, four_bit: bool = False
) -> tuple[Any, list[int]]:
    """A sequence classifier and, for each label, the index of its output.

    A folder without a classification head gets a fresh one drawn from `seed`, with the outputs in the order of
    `labels`; a classifier keeps its head and its order, mapped by name.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    spread.check_spread(compute, "A classifier")

    config = read_config(folder)
    extra: dict[str, Any] = {}
    has_head = any("SequenceClassification" in name for name in config.get("architectures") or [])
    if has_head:
        order = label_order(config, labels, str(folder))
    else:
        order = list(range(len(labels)))
        extra |= {"num_labels": len(labels), "id2label": dict(enumerate(labels))}
        extra |= {"label2id": {label: index for index, label in enumerate(labels)}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind: Any = "own" if has_head else "fresh"
        if four_bit:
            extra |= {"quantization_config": quantisation(compute), "device_map": {"": compute.device}}
            options = plain_loading(torch.float32) | extra
            model = unpacked(load_whole(AutoModelForSequenceClassification, folder, head=kind, **options))
        else:
            model = load_or_share(AutoModelForSequenceClassification, folder, head=kind, **extra)
            model = model if empty.trains_together() else model.to(compute.device)
    model.config.pad_token_id = load_tokenizer(folder).pad_token_id
    return model.eval(), order


def stored_dtype(folder: Path) -> Any:
    """In which dtype are a folder's weights? bf16 or fp16 where all are, else fp32."""
    import torch
    from safetensors import safe_open

    dtypes = set()
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            dtypes |= {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118 (not a dict)
    floats = {dtype for dtype in dtypes if dtype.startswith(("F", "BF"))}
    return {("BF16",): torch.bfloat16, ("F16",): torch.float16}.get(tuple(floats), torch.float32)


def plain_loading(dtype: Any) -> dict[str, Any]:
    """The options under which every model is read: local files, safetensors, no remote code."""
    return {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False, "local_files_only": True}


def quiet_libraries() -> None:
    """Keep the model libraries' bars and notices off the terminal; ours are shown instead."""
    import logging
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("transformers", "accelerate.big_modeling"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message="Could not find a config file", module="peft")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
