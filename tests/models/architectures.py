"""Tiny models, drawn at random, of every architecture that the installed library has."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from transformers import AutoConfig
from transformers.models.auto import modeling_auto as auto

SMALL: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "d_inner", "n_inner", "hidden_dim",
                     "ffn_hidden_size", "moe_intermediate_size", "feed_forward_size", "shared_expert_intermediate_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
                     "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads",
                     "decoder_attention_heads", "num_key_value_heads", "num_kv_heads"), 4),
    **dict.fromkeys(("head_dim", "d_kv", "d_head", "kv_lora_rank", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim",
                     "rotary_dim"), 8),
    **dict.fromkeys(("vocab_size", "n_vocab", "n_words"), 99),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token"), 2),
}  # fmt: skip
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
VOCABULARY = 99


HYBRID = {"num_hidden_layers": 4}
"""So many layers hold one of attention, which every fourth is."""
HEADS = {"head_dim": 8}
GEMMA4 = {
    "num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8,
    "per_layer_config": {"01": {"head_dim": 16}},
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), HYBRID),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral"), HEADS),
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"]},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma4_text": GEMMA4 | {"vocab_size_per_layer_input": 99, "hidden_size_per_layer_input": 8},
    "gemma4_unified_text": GEMMA4,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "kimi_linear": {"num_hidden_layers": 5},
    "lfm3": {"num_hidden_layers": 3},
    "mamba2": {"num_heads": 8},
    "nemotron": {"num_key_value_heads": 4},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "zamba": {"num_hidden_layers": 3},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"], "mamba_ngroups": 1, "mamba_headdim": 8, "num_mem_blocks": 1},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""What single architectures need to be built this small."""


def tiny_config(model_type: str, **more: Any) -> Any:
    """The configuration of an architecture, made small: what it has of the sizes above, and can be given."""
    default = AutoConfig.for_model(model_type)
    given = {name: value for name, value in SMALL.items() if is_size(default, name)}
    config = AutoConfig.for_model(model_type, **given | OWN.get(model_type, {}), **more)
    for name, value in SPECIAL.items():
        if hasattr(config, name):
            setattr(config, name, value)
    config.pad_token_id = 0
    return config


def is_size(config: Any, name: str) -> bool:
    """Is this a number of a configuration that can be given: not worked out from others, nor different in each layer?"""
    entry = getattr(type(config), name, None)
    if isinstance(entry, property) and entry.fset is None:
        return False
    try:
        return isinstance(getattr(config, name, None), int)
    except Exception:  # the library's own sort: a different number in each layer
        return False


def tiny_model(auto_class: Any, model_type: str, **more: Any) -> Any:
    """A model of the architecture, its weights drawn from a seed and large enough that answers differ."""
    torch.manual_seed(0)
    model = auto_class.from_config(tiny_config(model_type, **more)).float().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.2)
    return model


def random_rows(count: int, *, seed: int, shortest: int = 3, longest: int = 12) -> list[list[int]]:
    """Rows of token ids of unequal lengths, which begin with 1 and end with 2."""
    drawn = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest, (count,), generator=drawn)
    return [[1, *torch.randint(5, VOCABULARY, (int(length),), generator=drawn).tolist(), 2] for length in lengths]


LARGEST = 8_000_000
"""More weights than this are not small: a part of the configuration is none of ours."""


TABLE = Path(__file__).parents[2] / "docs" / "models.json"
"""How each architecture of the library is read, as these tests measure it; `docs/models.md` is generated from it."""
LISTED = {
    "classifier": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "language model": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
}
REWRITE = "PYRITE_WRITE_MODELS=1 python -m pytest tests/models/test_architectures.py -k says && python docs/generate.py"
OF_THE_MACHINE = ("more than", "ImportError")
"""In reasons that hang on the machine: its speed, and the packages that are installed."""


@dataclass
class Entry:
    """How an architecture is read: by the row-wise engine, by the library, or not at all, and why."""

    how: str = ""


@contextmanager
def table_entry(kind: str, model_type: str) -> Iterator[Entry]:
    """What a test measures of an architecture must be what the table says; a test that is skipped says why.

    With `PYRITE_WRITE_MODELS` in the environment it is written there instead.
    """
    entry = Entry()
    try:
        yield entry
    except pytest.skip.Exception as skipped:
        entry.how = entry.how or f"not tried: {skipped}"
        compare_or_write(kind, model_type, entry.how)
        raise
    compare_or_write(kind, model_type, entry.how)


def compare_or_write(kind: str, model_type: str, how: str) -> None:
    """An entry of the table."""
    if not os.environ.get("PYRITE_WRITE_MODELS"):
        stored = json.loads(TABLE.read_text())[kind].get(model_type, "")
        of_the_machine = any(word in text for word in OF_THE_MACHINE for text in (stored, how))
        assert stored == how or of_the_machine, f"docs/models.json differs; run: {REWRITE}"
        return
    with FileLock(TABLE.with_name(".models.lock")):
        table = json.loads(TABLE.read_text()) if TABLE.is_file() else {}
        for name, listed in LISTED.items():
            entries = {**table.get(name, {}), **({model_type: how} if name == kind else {})}
            table[name] = {entry: entries[entry] for entry in sorted(entries) if entry in listed}
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    TABLE.with_name(".models.lock").unlink(missing_ok=True)
