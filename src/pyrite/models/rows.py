"""One forward pass over rows of any length, without padding: the rows lie side by side, attention looks row by row.

Every linear layer of a transformer sees one flat sequence [1, tokens]; only attention must know where a row begins.
So Pyrite registers an attention function with the model library, and passes it a `Pass`: which stretch of the flat
sequence is which rows, which keys they may see, and where keys are kept for later. Position ids are given per token,
so each row computes exactly what it would compute alone.

Rows of equal length that lie next to each other form a `Block` and are one attention call. Rows may share a *prefix*
(computed once, its keys given), and a row may be a tree of `Segments` whose branches do not see each other
(`pyrite.models.trees`). Decoding uses `DecodeBatch`es: sequences admitted together that grow by one token a step.

Not every architecture can be read this way (recurrent layers, attention with a soft cap, ...). `RowReader` compares a
few short rows with the library's own forward pass when a model is first read, and says so where they differ.
"""

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from weakref import WeakSet

import numpy as np

from pyrite.errors import UserError
from pyrite.models.prepack import Prepacked
from pyrite.models.spread import device_of, is_spread

NAME = "pyrite_rows"
"""Our attention function's name in the model library."""

TOLERANCE, IN_FP32 = 0.05, 0.005
"""Largest difference from the library's own pass, as a share of the standard deviation of its hidden states, or of its
logits; in fp32 little but rounding is left."""

LENGTH_BOUND_ROPE = ("dynamic", "longrope")
"""Rotary positions that depend on the longest position of a whole pass: rows would change each other."""
KEYS_AT_ONCE = 131_072
"""Rows that share a prefix attend in parts of at most so many keys."""

COMPARED: "WeakSet[Any]" = WeakSet()
"""Models whose flat pass agreed with the library's own: a guard or a callback reads one model many times."""

Segments = tuple[tuple[int, int], ...]
"""A row as a tree: stretches of tokens, each with the number of the one before it (-1: none) and its length."""

Keys = list[tuple[Any, Any]]
"""Keys and values of each layer, [rows, key heads, positions, head size] each."""


@dataclass(frozen=True, slots=True)
class Block:
    """`count` rows of `length` tokens each, from token `start` of the flat sequence on.

    `mask` [length, prefix + length] is True where a token sees another; None means plain causal order (and no prefix).
    `place` [length] is each token's position in its row after the prefix: what lies how far back, for models that look
    through a window.
    """

    start: int
    count: int
    length: int
    mask: Any = None
    place: Any = None

    @property
    def end(self) -> int:
        """The first token after the block."""
        return self.start + self.count * self.length


@dataclass(slots=True)
class DecodeBatch:
    """Sequences that decode together: admitted together, right-aligned, one key a step for all of them.

    `keys` hold [capacity rows, heads, capacity positions, head size] for each layer; the first `rows` rows and `filled`
    positions count. `lead` [capacity rows] is how many positions at the left belong to no token of the row. `mask`
    [rows, 1, 1, capacity positions] is 0 where a key counts in this step, the new one included, and -inf elsewhere.
    `prefix` holds the keys before those, which all sequences share.
    """

    rows: int
    filled: int
    lead: Any
    keys: Keys = field(default_factory=list)
    start: int = 0
    mask: Any = None
    prefix: Keys | None = None

    @property
    def shared_length(self) -> int:
        """The length of the prefix that the sequences share, in tokens."""
        return 0 if self.prefix is None else self.prefix[0][0].shape[2]

    @property
    def end(self) -> int:
        """The first token after the decode batch in the flat sequence of a step."""
        return self.start + self.rows


@dataclass(slots=True)
class Pass:
    """The layout of one forward pass, for our attention function."""

    blocks: Sequence[Block] = ()
    prefix: Keys | None = None
    keep: Keys | None = None
    """Where a pass over blocks leaves the keys and values of the flat sequence, [1, heads, tokens, size] a layer."""
    batches: Sequence[DecodeBatch] = ()
    windowed: bool = False
    """Set by attention: some layer looked through a window."""


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, scaling: float | None = None, **options: Any
) -> tuple[Any, None]:
    """Attention of a flat sequence: query [1, heads, tokens, size] → [1, tokens, heads, size], row by row."""
    import torch

    attention_pass: Pass | None = options.get("pyrite_pass")
    if attention_pass is None:
        raise UserError(
            "The model was switched to row-wise attention outside a Reader.", NAME, "use models.rows.RowReader"
        )
    if options.get("softcap") is not None or options.get("s_aux") is not None:
        raise Unreadable("attention with a soft cap or sinks")
    layer = module.layer_idx
    window = options.get("sliding_window")
    attention_pass.windowed |= window is not None
    if attention_pass.keep is not None:
        if len(attention_pass.keep) != layer:
            raise Unreadable("attention that is called more than once for a layer, or not for each")
        attention_pass.keep.append((key, value))
    prefix = attention_pass.prefix[layer] if attention_pass.prefix else None
    outputs = [attend_block(block, query, key, value, prefix, scaling, window) for block in attention_pass.blocks]
    if not attention_pass.batches:
        return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0], None
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    for block, part in zip(attention_pass.blocks, outputs, strict=True):
        out[:, block.start : block.end] = part
    decode(attention_pass.batches, layer, query, key, value, scaling, window, out)
    return out, None


def attend_block(
    block: Block, query: Any, key: Any, value: Any, prefix: Any, scaling: float | None, window: int | None
) -> Any:
    """Attention within one block: [1, tokens of the block, heads, size]."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    past = prefix[0].shape[2] if prefix is not None else 0
    mask = block.mask
    if window is not None and past + block.length > window:
        before = torch.arange(past, device=query.device)
        near = block.place[:, None] + past - torch.cat([before, block.place + past]) < window
        mask = near & (mask if mask is not None else torch.ones_like(near).tril())
    grouped = query.shape[1] != key.shape[1]

    def rows(flat: Any, first: int, last: int) -> Any:
        part = flat[0, :, block.start + first * block.length : block.start + last * block.length]
        return part.unflatten(1, (last - first, block.length)).transpose(0, 1)

    outputs = []
    rows_at_once = max(1, KEYS_AT_ONCE // (past + block.length)) if past else block.count
    for first in range(0, block.count, rows_at_once):  # a prefix is copied for each row: for so many at a time
        last = min(first + rows_at_once, block.count)
        q, k, v = rows(query, first, last), rows(key, first, last), rows(value, first, last)
        if past:
            k = torch.cat([prefix[0].expand(last - first, -1, -1, -1), k], 2)
            v = torch.cat([prefix[1].expand(last - first, -1, -1, -1), v], 2)
        out = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None] if len(outputs) > 1 else outputs[0][None]


def decode(
    batches: Sequence[DecodeBatch],
    layer: int,
    query: Any,
    key: Any,
    value: Any,
    scaling: float | None,
    window: int | None,
    out: Any,
) -> None:
    """One token of every sequence: keys are appended to the decode batches, attention fills `out` [1, tokens, heads, size].

    Query heads that share a key head are laid along the query axis: one token sees every key, so no order is lost, and
    grouped attention needs no copies. Where a decode batch shares a prefix, all of it looks there in one product. Plain
    batched products: with a query this short they are several times faster on a CPU than the fused kernel.
    (A prefix that a window could leave is not shared here.)
    """
    import torch

    heads, groups = key.shape[1], query.shape[1] // key.shape[1]
    size = query.shape[-1]

    def product(first: Any, second: Any) -> Any:
        """A batched product, untyped in the library."""
        return torch.bmm(first, second)

    # [tokens, key heads, groups, size], scaled
    q = (query[0].transpose(0, 1) * (scaling if scaling is not None else size**-0.5)).unflatten(1, (heads, groups))
    for batch in batches:
        a, b, n, last = batch.start, batch.end, batch.rows, batch.filled
        k, v = batch.keys[layer]
        k[:n, :, last] = key[0, :, a:b].transpose(0, 1)
        v[:n, :, last] = value[0, :, a:b].transpose(0, 1)
        k, v = k[:n].flatten(0, 1), v[:n].flatten(0, 1)  # whole, with room to spare: a slice would be copied in bf16
        scores = product(q[a:b].flatten(0, 1), k.transpose(1, 2)).unflatten(0, (n, heads))
        scores += batch.mask
        if window is not None and last + 1 >= window:
            scores[..., : last + 1 - window] = -torch.inf
        if batch.prefix is None:
            out[0, a:b] = product(scores.softmax(-1).flatten(0, 1), v).unflatten(0, (n, heads)).flatten(1, 2)
            continue
        first_k, first_v = (tensor[0] for tensor in batch.prefix[layer])
        prefix_scores = product(q[a:b].transpose(0, 1).flatten(1, 2), first_k.transpose(1, 2))
        prefix_scores = prefix_scores.unflatten(1, (n, groups)).transpose(0, 1)
        weights = torch.cat([prefix_scores, scores], -1).softmax(-1)
        from_own = product(weights[..., batch.shared_length :].flatten(0, 1), v).unflatten(0, (n, heads))
        from_prefix = product(weights[..., : batch.shared_length].transpose(0, 1).flatten(1, 2), first_v)
        out[0, a:b] = (from_own + from_prefix.unflatten(1, (n, groups)).transpose(0, 1)).flatten(1, 2)


@cache
def register() -> None:
    """Make the attention function known to the model library. It builds no mask: rows carry their own."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, no_mask)


def no_mask(*args: Any, **kwargs: Any) -> None:
    """The mask of a flat pass: none."""


def tree_mask(segments: Segments, past: int, device: Any) -> tuple[Any, Any]:
    """Which keys does a row's token see [tokens, past + tokens], and where in its row is each token [tokens]?

    A token sees the prefix, the segments above its own, and its own up to itself; branches never see each other. The
    mask is None where that is plain causal order.
    """
    import torch

    above = torch.eye(len(segments), dtype=torch.bool)
    begins = [0] * len(segments)
    for at, (parent, _) in enumerate(segments):
        if parent >= 0:
            above[at] |= above[parent]
            begins[at] = begins[parent] + segments[parent][1]
    segment = torch.cat([torch.full((size,), at) for at, (_, size) in enumerate(segments)])
    place = torch.cat([torch.arange(begin, begin + size) for begin, (_, size) in zip(begins, segments, strict=True)])
    if past == 0 and len(segments) == 1:
        return None, place.to(device)
    visible = above[segment][:, segment] & (place[:, None] >= place)
    return torch.cat([torch.ones(len(place), past, dtype=torch.bool), visible], 1).to(device), place.to(device)


def layout(lengths: Sequence[int], past: int, device: Any) -> list[Block]:
    """Plain rows of these lengths as blocks, equal neighbours together; every token sees the prefix of `past` tokens
    and what comes before it in its row."""
    blocks: list[Block] = []
    start = 0
    for length, equal in itertools.groupby(lengths):
        count = len(list(equal))
        blocks.append(Block(start, count, length, *tree_mask(((-1, length),), past, device)))
        start += count * length
    return blocks


def windowed(config: Any) -> bool:
    """Does any layer look through a window?"""
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)


class Unreadable(Exception):
    """Why a model cannot be read row by row. Never reaches a user: the library's own forward pass reads it instead."""


def can_be_read(model: Any) -> str:
    """Why can this model not be read row by row? Empty: it can."""
    try:
        RowReader(model)
    except Unreadable as error:
        return str(error)
    return ""


def take_as_readable(model: Any) -> None:
    """Trust that this model can be read row by row: another process, which has its weights, has compared."""
    COMPARED.add(model.get_base_model() if hasattr(model, "get_base_model") else model)


def reader_of(model: Any, *, prepack: bool = True) -> "RowReader | None":
    """The model's row-wise reader; None where only the library's own forward pass can read it. One that lives as long
    as the model is trained has no use for laid-out weights (`prepack`)."""
    try:
        return RowReader(model, Prepacked(model) if prepack else None)
    except Unreadable:
        return None


class RowReader:
    """A causal model, read row by row without padding.

    Switches the model to row-wise attention for the time of a call, so that the model works as before everywhere else.

    Raises:
        Unreadable: this architecture cannot be read this way (the caller then uses the library's own pass).
    """

    def __init__(self, model: Any, layers: Prepacked | None = None) -> None:
        register()
        self.layers = layers
        model = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft: adapters sit inside it
        self.model = model
        self.body = model.base_model
        config = model.config.get_text_config()
        self.vocabulary = config.vocab_size
        if not getattr(model, "_supports_attention_backend", False):
            raise Unreadable(f"{type(model).__name__} has attention of its own")
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        kinds = [settings for settings in (rope, *rope.values()) if isinstance(settings, dict)]
        if any((kind.get("rope_type") or kind.get("type")) in LENGTH_BOUND_ROPE for kind in kinds):
            raise Unreadable(f"{type(model).__name__} chooses its positions by the longest row of a batch")
        head = model.get_output_embeddings()
        if head is not None and is_spread(model) and head.weight.device.type == "meta":
            raise Unreadable("its output matrix lies in memory or on disk between two passes")
        if model not in COMPARED:
            self.compare()
            COMPARED.add(model)

    @property
    def device(self) -> Any:
        """Where the model is."""
        return device_of(self.model)

    @property
    def head(self) -> Any:
        """The output matrix: `weight` [vocabulary, width] and `bias` [vocabulary] or None."""
        return self.model.get_output_embeddings()

    def hidden(self, ids: Any, positions: Any, attention_pass: Pass, *, layer: int | None = None) -> Any:
        """The last hidden state of every token [tokens, width] of a flat sequence; with `layer`, that after so many
        layers. Can be differentiated through, without a prefix or decode batches."""
        before = self.body.config._attn_implementation
        self.body.set_attn_implementation(NAME)
        options = {} if layer is None else {"output_hidden_states": True}
        try:
            with self.quick():
                out = self.body(
                    input_ids=ids[None],
                    position_ids=positions[None],
                    use_cache=False,
                    pyrite_pass=attention_pass,
                    **options,
                )
        finally:
            self.body.set_attn_implementation(before)
        return (out.last_hidden_state if layer is None else out.hidden_states[layer])[0]

    def quick(self) -> AbstractContextManager[None]:
        """The time of a pass: linear layers multiply by laid-out weights, where there are such."""
        return nullcontext() if self.layers is None else self.layers.active()

    def logits(self, hidden: Any) -> Any:
        """The vocabulary's logits [tokens, vocabulary] after these hidden states, in the weights' precision.

        Without laid-out weights, written as weights times states: that order is up to twice as fast on CPUs.
        """
        import torch

        head = self.head
        if self.layers is not None and head in self.layers:
            with self.quick():
                return head(hidden)
        if hidden.device.type == "cpu" and head.bias is None and isinstance(head, torch.nn.Linear):
            return (head.weight @ hidden.T).T
        return head(hidden)

    def compare(self) -> None:
        """Does the flat pass agree with the library's own on a few short rows: hidden states, those after a prefix that was
        read before, and logits?"""
        import torch

        rng = np.random.default_rng(0)
        rows = [rng.integers(0, self.vocabulary, length).tolist() for length in (7, 7, 12)]
        flat = torch.tensor(list(itertools.chain(*rows)), device=self.device)
        positions = torch.cat([torch.arange(len(row), device=self.device) for row in rows])
        with torch.inference_mode():
            try:
                keys: Keys = []
                attention_pass = Pass(layout([len(row) for row in rows], 0, self.device), keep=keys)
                flat_states = self.hidden(flat, positions, attention_pass)
                begun = len(rows[-1]) // 2
                after = Pass(layout([len(rows[-1]) - begun], begun, self.device), self.prefix(rows[-1][:begun]))
                after_prefix = self.hidden(
                    flat[-(len(rows[-1]) - begun) :], positions[-(len(rows[-1]) - begun) :], after
                )
            except torch.OutOfMemoryError:
                raise
            except (TypeError, ValueError, AttributeError, RuntimeError, UserError) as error:
                raise Unreadable(f"{type(self.model).__name__} does not pass rows to attention") from error
            if len(keys) != self.model.config.get_text_config().num_hidden_layers:
                raise Unreadable(
                    f"{type(self.model).__name__} has layers that are no attention: what they keep is not known"
                )
            if windowed(self.model.config.get_text_config()) and not attention_pass.windowed:
                raise Unreadable(f"{type(self.model).__name__} does not tell attention of its window")
            library_states = torch.cat(
                [
                    self.body(input_ids=torch.tensor([row], device=self.device), use_cache=False).last_hidden_state[0]
                    for row in rows
                ]
            )
            read = torch.cat([flat_states, after_prefix])
            alone = torch.cat([library_states, library_states[-len(after_prefix) :]])
            difference = float((read - alone).float().abs().max() / alone.float().std())
            exact = alone.dtype == torch.float32 and not torch.is_autocast_enabled(self.device.type)
            tolerance = IN_FP32 if exact else TOLERANCE
            if not difference <= tolerance:
                raise Unreadable(f"{type(self.model).__name__} reads flat rows differently ({difference:.3g})")
            if self.model.get_output_embeddings() is not None:
                full = self.model(input_ids=torch.tensor([rows[-1]], device=self.device), use_cache=False).logits[0]
                flat_logits = self.logits(library_states[-len(rows[-1]) :])
                if (
                    flat_logits.shape != full.shape
                    or (flat_logits - full).float().abs().max() > tolerance * full.float().std()
                ):
                    raise Unreadable(f"{type(self.model).__name__} changes its logits after the output matrix")

    def prefix(self, ids: Sequence[int]) -> Keys | None:
        """The keys and values of a prefix that many rows share; None for no tokens."""
        import torch

        if not ids:
            return None
        keep: Keys = []
        flat = torch.tensor(list(ids), device=self.device)
        attention_pass = Pass(layout([len(ids)], 0, self.device), keep=keep)
        self.hidden(flat, torch.arange(len(ids), device=self.device), attention_pass)
        return [(key.contiguous(), value.contiguous()) for key, value in keep]
