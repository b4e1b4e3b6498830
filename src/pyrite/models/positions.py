"""How many tokens can a model take? One answer, from its configuration and its tokenizer."""

from typing import Any

UNLIMITED = ("bloom", "t5", "mt5", "umt5", "longt5", "switch_transformers", "udop", "xlnet", "funnel", "cpmant")
"""Architectures with relative positions, or biases by distance, that any row fits, whatever their configurations say."""
OFFSET = {
    **dict.fromkeys((
        "roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "ibert",
        "longformer", "luke", "markuplm", "lilt", "layoutlmv3", "xmod", "esm",
    ), 1),
    "prophetnet": 2,  # it predicts two tokens ahead
}  # fmt: skip
"""Architectures that count positions from the padding token's id on, and so many more, so that their tables hold that many
more than a row may have tokens."""
FIXED_OFFSET = {"mpnet": 2}
"""The same, where the padding token's id is written into the architecture."""
NAMES = (
    "n_positions", "max_sequence_length", "max_seq_len", "max_seq_length", "n_ctx", "max_target_positions",
    "max_encoder_position_embeddings", "max_decoder_position_embeddings",
)  # fmt: skip
"""What configurations call the number where they have no `max_position_embeddings`."""
SCALED = ("linear", "dynamic", "ntk")
"""Rotary scalings that stretch `max_position_embeddings`; for others it is the stretched length already."""
NO_LIMIT = 10**9
"""Tokenizers write a huge number where nothing is known."""


def token_limit(config: Any, tokenizer: Any = None) -> int | None:
    """The most tokens of a row, special tokens included, that a model reads; None where nothing limits them.

    `config` is the library's configuration of the model. Learned positions end at their table's end; rotary ones could
    go on, but the model was trained to no more. Windows of attention do not limit a row, nor do relative positions. The
    tokenizer's own limit counts where it is smaller.
    """
    limits = [position_limit(config.get_text_config())]
    most = getattr(tokenizer, "model_max_length", None)
    if isinstance(most, int | float) and 0 < most < NO_LIMIT:
        limits.append(int(most))
    return min((limit for limit in limits if limit is not None), default=None)


def position_limit(config: Any) -> int | None:
    """How many positions a text model's configuration allows; None where it has no end."""
    model_type = getattr(config, "model_type", "")
    if model_type in UNLIMITED or getattr(config, "position_biased_input", True) is False:
        return None
    if getattr(config, "alibi", False) is True and model_type != "mpt":  # MPT builds its biases for so many tokens
        return None
    positions = whole(getattr(config, "max_position_embeddings", None))
    if positions is None:
        return min(filter(None, (whole(getattr(config, name, None)) for name in NAMES)), default=None)
    if model_type in OFFSET:
        return positions - (config.pad_token_id or 0) - OFFSET[model_type]
    return max(positions, stretched(config, positions)) - FIXED_OFFSET.get(model_type, 0)


def stretched(config: Any, positions: int) -> int:
    """How far a rotary scaling reaches (the rule of vLLM, which serves most of these models)."""
    scaling = getattr(config, "rope_parameters", None) or {}
    if any(isinstance(of_layers, dict) for of_layers in scaling.values()):  # by kind of layer
        scaling = scaling.get("full_attention") or {}
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor") or 1.0
    if kind == "yarn":
        return int(factor * (scaling.get("original_max_position_embeddings") or positions))
    stretches = kind in SCALED and not str(getattr(config, "model_type", "")).startswith("gemma3")
    return int(factor * positions) if stretches else positions


def whole(value: Any) -> int | None:
    """A number above 0, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def tokens_read(most: int, config: Any, tokenizer: Any = None) -> int:
    """How many tokens of a row are read where `most` are asked for: no more than the model can take."""
    return min(most, token_limit(config, tokenizer) or most)
