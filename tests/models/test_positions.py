"""How many tokens a model can take: what the library itself reads, over every architecture that it has."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.models.auto import modeling_auto as auto

from pyrite.models.positions import token_limit, tokens_read

from architectures import LARGEST, tiny_config, tiny_model  # isort: skip

EVERYDAY = {
    "bert", "roberta", "distilbert", "electra", "albert", "deberta", "deberta-v2", "xlm-roberta", "camembert", "mpnet",
    "longformer", "xlm", "bart", "xlnet", "funnel", "modernbert", "big_bird", "ibert", "canine", "gpt2", "gptj", "gpt_neo", "gpt_neox",
    "opt", "bloom", "mpt", "falcon", "codegen", "ctrl", "openai-gpt", "llama", "mistral", "qwen2", "gemma3_text", "phi3", "mamba",
    "biogpt", "marian", "xglm", "t5",
}  # fmt: skip
ENDLESS = {"bloom", "cpmant", "falcon_mamba", "funnel", "mamba", "mt5", "t5", "umt5", "xlnet", "xlstm"}
"""Architectures without any end."""
SOFT = {"inkling2_text", "inkling_text", "nemotron_h", "rwkv", "tapas", "xglm"}
"""Architectures that read on beyond what they were trained to, though their positions are not rotary."""
SEQUENCE = auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
NAMES = sorted({*auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *SEQUENCE})


def reads(model: Any, tokens: int) -> bool:
    """Does the library read a row of so many tokens?"""
    row = torch.full((1, tokens), 7)
    if getattr(model.config, "is_encoder_decoder", False):
        row[0, -1] = model.config.eos_token_id  # its classifier looks there
    try:
        with torch.inference_mode():
            model(input_ids=row)
    except Exception:  # an index, a shape or a size, as it comes
        return False
    return True


def build(model_type: str) -> Any:
    """A tiny model of the architecture; skips by name what cannot be built or read at all."""
    auto_class = AutoModelForSequenceClassification if model_type in SEQUENCE else AutoModelForCausalLM
    more = {"attention_types": [[["global"], 2]]} if model_type == "gpt_neo" else {}
    try:
        with torch.device("meta"):
            config = tiny_config(model_type, **more)
            size = sum(weight.numel() for weight in auto_class.from_config(config).parameters())
        model = tiny_model(auto_class, model_type, **more) if size <= LARGEST else None
    except Exception as error:
        pytest.skip(f"{model_type} cannot be built this way: {type(error).__name__}")
    if model is None or not reads(model, 20):
        pytest.skip(f"{model_type} is large, or the library cannot read a plain row with it")
    return model


@pytest.mark.parametrize(
    "model_type", [pytest.param(name, marks=() if name in EVERYDAY else pytest.mark.slow) for name in NAMES]
)
def test_a_row_of_the_limit_is_read_and_one_token_more_is_what_fails(model_type: str) -> None:
    model = build(model_type)
    limit = token_limit(model.config)
    if limit is None:
        assert model_type in ENDLESS
        assert reads(model, 700)
        return
    if limit > 1000:  # the tiny model has the scaling of the large one
        pytest.skip(f"{model_type} stretches its positions to {limit:,}")
    assert reads(model, limit)
    if reads(model, limit + 1):
        assert getattr(model.config.get_text_config(), "rope_parameters", None) or model_type in SOFT
        assert limit == 128
    else:
        assert limit in (126, 127, 128, 448)


@pytest.mark.parametrize(
    ("model_type", "settings", "limit"),
    [
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("xlm-roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("longformer", {"max_position_embeddings": 4098, "pad_token_id": 1, "attention_window": [512] * 12}, 4096),
        ("mpnet", {"max_position_embeddings": 514}, 512),
        ("gpt2", {"n_positions": 1024}, 1024),
        ("mpt", {"max_seq_len": 2048}, 2048),
        ("led", {"max_encoder_position_embeddings": 16384, "max_decoder_position_embeddings": 1024}, 1024),
        ("t5", {"n_positions": 512}, None),
        ("bloom", {"seq_length": 2048}, None),
        ("xlnet", {}, None),
        ("funnel", {}, None),
        ("whisper", {}, 448),
        ("falcon", {"alibi": True}, None),
        ("falcon", {"alibi": False, "max_position_embeddings": 2048}, 2048),
        ("deberta-v2", {"position_biased_input": False, "relative_attention": True}, None),
        ("mistral", {"max_position_embeddings": 32768, "sliding_window": 4096}, 32768),
        ("llama", {"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, 16384),
        ("qwen2", {"max_position_embeddings": 32768, "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6, "original_max_position_embeddings": 32768}}, 131072),
        ("llama", {"max_position_embeddings": 131072, "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}, 131072),
    ],
)  # fmt: skip
def test_limits_of_published_configurations(model_type: str, settings: dict[str, Any], limit: int | None) -> None:
    assert token_limit(AutoConfig.for_model(model_type, **settings)) == limit


BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 99,
    "max_position_embeddings": 66,
}
RELATIVE = {**BERT, "position_biased_input": False, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
PROPHET = {
    "vocab_size": 99,
    "hidden_size": 32,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "max_position_embeddings": 66,
    "is_decoder": True,
}
OTHERS = {
    "xlnet": ({"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "vocab_size": 99}, None),
    "funnel": ({"d_model": 32, "block_sizes": [1, 1], "n_head": 4, "d_head": 8, "d_inner": 64, "vocab_size": 99}, None),
    "deberta": (RELATIVE, None),
    "deberta-v2": (RELATIVE, None),
    "falcon": ({"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True}, None),
    "longformer": ({**BERT, "attention_window": [8, 8], "pad_token_id": 1}, 64),
    "luke": ({**BERT, "pad_token_id": 1, "entity_vocab_size": 10, "entity_emb_size": 8}, 64),
    "xmod": ({**BERT, "pad_token_id": 1, "languages": ["en_XX"], "default_language": "en_XX"}, 64),
    "esm": ({**BERT, "pad_token_id": 1, "mask_token_id": 3, "position_embedding_type": "absolute"}, 64),
    "prophetnet": ({**PROPHET, "pad_token_id": 1}, 63),
    "gpt_neo": ({"vocab_size": 99, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
                 "window_size": 8, "max_position_embeddings": 66}, 66),
}  # fmt: skip
"""What `tiny_config` cannot build, and settings that change the answer: the settings, and the tokens that fit."""


@pytest.mark.parametrize("model_type", OTHERS)
def test_architectures_with_settings_of_their_own(model_type: str) -> None:
    settings, limit = OTHERS[model_type]
    auto_class = (
        AutoModelForCausalLM
        if model_type in ("falcon", "prophetnet", "gpt_neo")
        else AutoModelForSequenceClassification
    )
    model = auto_class.from_config(AutoConfig.for_model(model_type, **settings)).eval()
    assert token_limit(model.config) == limit
    assert reads(model, limit or 700)
    assert limit is None or not reads(model, limit + 1)


@pytest.mark.parametrize(("most", "limit"), [(512, 512), (int(1e30), 1024), (1e30, 1024), (2048, 1024), (None, 1024)])
def test_a_tokenizer_limits_where_it_is_smaller(most: Any, limit: int) -> None:
    tokenizer = SimpleNamespace(model_max_length=most)
    config = AutoConfig.for_model("gpt2", n_positions=1024)
    assert token_limit(config, tokenizer) == limit
    assert tokens_read(4096, config, tokenizer) == limit
    assert tokens_read(64, config, tokenizer) == 64
    assert tokens_read(64, AutoConfig.for_model("t5")) == 64
