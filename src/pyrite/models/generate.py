"""Continuous batching with prefix sharing: continuations of many prompts at once, without padding.

Sequences that finish leave at once and waiting ones enter in their place; what many prompts share at their beginning
(all of it, where one prompt is continued many times) is computed once and looked at by them together. Sequences that
form a decode batch together (`pyrite.models.rows`), kept small and of similar prompt length, so that its keys need
little padding and attention never runs over a mask as long as the longest sequence of the whole run.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyrite.models.hardware import Compute
from pyrite.models.prefix import common_length, group
from pyrite.models.rows import Block, DecodeBatch, Keys, Pass, RowReader, layout, reader_of
from pyrite.models.sampling import GREEDY, Drawing, draw_tokens, uniforms
from pyrite.models.spread import device_of

ROWS = {"cpu": 160, "cuda": 512, "mps": 64}
"""How many sequences decode at once."""
BATCH_ROWS = 40
"""How many sequences enter together at most."""
PROMPT_TOKENS = {"cpu": 8192, "cuda": 65536, "mps": 8192}
"""Prompts are read together up to so many tokens."""
ENTER = 16
"""Waiting sequences enter when so many can at once: a pass over prompts is dear for a few, an empty place for all."""
CACHE_BYTES = 4 * 2**30
"""About how much the keys of the sequences that decode at once may take; fewer decode at once where it is not enough."""
PREFIX = 64
"""From so many tokens on, a shared beginning is looked at by a decode batch together while it decodes; a shorter one is
copied to each sequence, which costs less than looking twice."""
TOGETHER = 16
"""Prompts with a prefix of their own are a group if they are so many: decode batches must not get small."""
GROWTH = 32
"""By how many positions a decode batch's keys grow."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """One continuation: its token ids without the end marker, the mean log-probability per sampled token (nats, under
    the model at temperature 1, end marker included; nan where it was not asked for), and whether it ended by itself
    within the limit."""

    ids: list[int]
    mean_logprob: float
    ended: bool


@dataclass(slots=True)
class Unfinished:
    """A sequence under way: its prompt, its limit, and the tokens written so far."""

    number: int
    prompt: Sequence[int]
    uniforms: Any
    limit: int
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    shared_prefix: "SharedPrefix | None" = None


@dataclass(slots=True, eq=False)
class SharedPrefix:
    """A prefix that several prompts share: its tokens, their keys once computed, and how many of the prompts still wait."""

    ids: Sequence[int]
    waiting: int
    keys: Keys | None = None

    @property
    def shared_in_decoding(self) -> bool:
        """Is it long enough that decode batches attend to it jointly, without copies of its keys?"""
        return len(self.ids) >= PREFIX


Ended = Callable[[int, list[int]], bool]
"""Told a prompt's number and the tokens so far (end marker not among them): should it end here?"""


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int],
    end_ids: Sequence[int],
    drawing: Drawing = GREEDY,
    seeds: Sequence[Sequence[int]] | None = None,
    ended: Ended | None = None,
    rows: int | None = None,
    share_prefix: bool = True,
) -> Iterator[tuple[int, Continuation]]:
    """Continue every prompt; yields (number of the prompt, continuation) as each is finished.

    Sequence i depends on the model, its prompt, and `seeds[i]` only: in fp32 it is the same whatever else is in the
    batch (up to ties within rounding); in bf16 the batch's shape can change a near tie. `max_new_tokens` is one limit
    or one for each prompt. `rows` sequences decode at once, `share_prefix` computes a common beginning once.

    A model that cannot be read row by row (`RowReader`) is continued one prompt at a time by the library's own cache.
    """
    import torch

    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if drawing.temperature > 0 and seeds is None:
        raise ValueError("sampling needs a seed for each prompt")
    waiting = deque(
        Unfinished(at, prompts[at], uniforms(seeds[at], limits[at]) if seeds is not None else None, limits[at])
        for at in sorted(range(len(prompts)), key=lambda at: (len(prompts[at]), at), reverse=True)
    )
    if not waiting:
        return
    if not all(len(sequence.prompt) for sequence in waiting):
        raise ValueError("a prompt has at least one token")
    with torch.inference_mode():
        reader = reader_of(model)
        writer = DecodeLoop(reader, waiting, drawing, set(end_ids), ended, rows, share_prefix) if reader else None
    if writer is None:
        for sequence in sorted(waiting, key=lambda sequence: sequence.number):
            yield sequence.number, decode_singly(model, sequence, drawing, set(end_ids), ended)
        return
    while True:
        with torch.inference_mode():
            finished = writer.step()
        yield from finished
        if not writer.busy:
            return


def key_size(config: Any) -> int:
    """How many numbers a layer of this configuration keeps as a token's key."""
    heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return heads * size


class DecodeLoop:
    """The continuous batching loop: decode batches of sequences, all advanced by one token a step."""

    def __init__(
        self,
        reader: RowReader,
        waiting: "deque[Unfinished]",
        drawing: Drawing,
        ends: set[int],
        ended: Ended | None,
        rows: int | None,
        share_prefix: bool,
    ) -> None:
        self.reader, self.drawing, self.ends, self.ended = reader, drawing, ends, ended
        self.batches: list[tuple[DecodeBatch, list[Unfinished]]] = []
        longest = max(len(sequence.prompt) + sequence.limit for sequence in waiting)
        window = getattr(reader.model.config.get_text_config(), "sliding_window", None)
        self.waiting = by_start(waiting, share=share_prefix and (window is None or longest < window))
        self.rows = self.room(rows)

    @property
    def busy(self) -> bool:
        """Is anything left to write?"""
        return bool(self.batches or self.waiting)

    def room(self, rows: int | None) -> int:
        """How many sequences decode at once: as asked, or as the memory for their keys allows."""
        if rows is not None:
            return rows
        config = self.reader.model.config.get_text_config()
        own = getattr(config, "per_layer_config", None)  # of layers that are not alike (Gemma 4)
        layers = [own[at] if own else config for at in range(config.num_hidden_layers)]
        bytes_per_token = 2 * sum(map(key_size, layers)) * self.reader.body.dtype.itemsize
        longest = max(
            len(sequence.prompt) + sequence.limit - shared_tokens(sequence, decoding=True) for sequence in self.waiting
        )
        return max(1, min(ROWS[self.reader.device.type], int(CACHE_BYTES // (bytes_per_token * longest))))

    def step(self) -> list[tuple[int, Continuation]]:
        """One step: admits waiting sequences, advances all by one token, and returns those that finished."""
        finished: list[tuple[int, Continuation]] = []
        alive = sum(batch.rows for batch, _ in self.batches)
        free = self.rows - alive
        if self.waiting and (not self.batches or free >= min(len(self.waiting), ENTER, self.rows // 4 or 1)):
            finished += self.admit(free)
        if self.batches:
            finished += self.advance()
        return finished

    def admit(self, free: int) -> list[tuple[int, Continuation]]:
        """Read the prompts of waiting sequences, similar lengths together, and choose their first token."""
        results = []
        while free > 0 and self.waiting:
            members = [self.waiting.popleft()]
            past = shared_tokens(members[0])
            tokens = len(members[0].prompt) - past
            while (
                self.waiting
                and len(members) < min(free, BATCH_ROWS)
                and self.waiting[0].shared_prefix is members[0].shared_prefix
            ):
                tokens += len(self.waiting[0].prompt) - past
                if tokens > PROMPT_TOKENS[self.reader.device.type]:
                    break
                members.append(self.waiting.popleft())
            free -= len(members)
            batch, logits = self.read(members)
            go_on, finished = self.choose(members, logits)
            results += finished
            self.keep(batch, members, go_on)
        return results

    def read(self, members: list[Unfinished]) -> tuple[DecodeBatch, Any]:
        """One flat pass over what the prompts do not share; their keys become a decode batch, right-aligned."""
        import torch

        device = self.reader.device
        shared_prefix, past = members[0].shared_prefix, shared_tokens(members[0])
        prefix = None if shared_prefix is None else self.keys_of(shared_prefix, len(members))
        lengths = [len(member.prompt) - past for member in members]
        blocks = layout(lengths, past, device)
        flat = torch.tensor([token for member in members for token in member.prompt[past:]], device=device)
        positions = torch.cat([torch.arange(past, past + length, device=device) for length in lengths])
        flat_keys: Keys = []
        hidden = self.reader.hidden(flat, positions, Pass(blocks, prefix, keep=flat_keys))
        last = torch.tensor(np.cumsum(lengths) - 1, device=device)
        logits = self.reader.logits(hidden[last])
        copied = past - shared_tokens(members[0], decoding=True)
        widest = copied + max(lengths)
        lead = torch.tensor([widest - copied - length for length in lengths], device=device)
        batch = DecodeBatch(len(members), widest, lead, prefix=None if copied else prefix)
        begin = prefix if prefix is not None and copied else [(None, None)] * len(flat_keys)
        for (key, value), (first_key, first_value) in zip(flat_keys, begin, strict=True):
            batch.keys.append((aligned(key, blocks, first_key, widest), aligned(value, blocks, first_value, widest)))
        return batch, logits

    def keys_of(self, shared_prefix: SharedPrefix, entering: int) -> Keys | None:
        """The keys of a shared prefix, computed when its first prompts enter and freed with the last."""
        keys = shared_prefix.keys or self.reader.prefix(shared_prefix.ids)
        shared_prefix.waiting -= entering
        shared_prefix.keys = keys if shared_prefix.waiting else None
        return keys

    def advance(self) -> list[tuple[int, Continuation]]:
        """One token for every sequence."""
        import torch

        device = self.reader.device
        start = 0
        positions = []
        for batch, _ in self.batches:
            grow(batch)
            batch.start = start
            start += batch.rows
            lead = batch.lead[: batch.rows]
            positions.append(batch.shared_length + batch.filled - lead)
            place = torch.arange(batch.keys[0][0].shape[2], device=device)
            unseen = (place < lead[:, None]) | (place > batch.filled)
            blank = torch.zeros(unseen.shape, dtype=batch.keys[0][0].dtype, device=device)
            batch.mask = blank.masked_fill_(unseen, -torch.inf)[:, None, None]
        flat = torch.tensor([member.ids[-1] for _, members in self.batches for member in members], device=device)
        attention_pass = Pass(batches=[batch for batch, _ in self.batches])
        hidden = self.reader.hidden(flat, torch.cat(positions), attention_pass)
        logits = self.reader.logits(hidden)
        members = [member for _, batch_members in self.batches for member in batch_members]
        go_on, finished = self.choose(members, logits)
        before, self.batches = self.batches, []
        for batch, batch_members in before:
            batch.filled += 1
            self.keep(batch, batch_members, go_on[batch.start : batch.start + len(batch_members)])
        return finished

    def choose(self, members: list[Unfinished], logits: Any) -> tuple[list[bool], list[tuple[int, Continuation]]]:
        """Draws every member's next token; returns which members go on, and the finished ones."""
        uniform = None
        if self.drawing.temperature > 0:
            uniform = np.array([member.uniforms[len(member.ids)] for member in members])
        tokens, logprobs = draw_tokens(logits, uniform, self.drawing)
        go_on, finished = [], []
        for member, token, logprob in zip(members, tokens, logprobs, strict=True):
            member.logprob += logprob
            at_end_token = token in self.ends
            if not at_end_token:
                member.ids.append(token)
            stopped = at_end_token or (self.ended is not None and self.ended(member.number, member.ids))
            goes_on = not stopped and len(member.ids) < member.limit
            go_on.append(goes_on)
            if not goes_on:
                drawn = len(member.ids) + at_end_token
                mean = member.logprob / drawn if self.drawing.logprobs else float("nan")
                finished.append((member.number, Continuation(member.ids, mean, stopped)))
        return go_on, finished

    def keep(self, batch: DecodeBatch, members: list[Unfinished], go_on: list[bool]) -> None:
        """Compacts a batch after sequences finished: its last rows move into the gaps."""
        remaining = [at for at, stays in enumerate(go_on) if stays]
        count = len(remaining)
        if not count:
            return
        holes = [at for at in range(count) if not go_on[at]]
        movers = [at for at in remaining if at >= count]
        if holes:
            filled = batch.filled
            for key, value in batch.keys:
                key[holes, :, :filled] = key[movers, :, :filled]
                value[holes, :, :filled] = value[movers, :, :filled]
            batch.lead[holes] = batch.lead[movers]
            for hole, mover in zip(holes, movers, strict=True):
                members[hole] = members[mover]
        batch.rows = count
        trim(batch)
        self.batches.append((batch, members[:count]))


def shared_tokens(sequence: Unfinished, *, decoding: bool = False) -> int:
    """Length of the prefix that a prompt shares with others; with `decoding`, of one that is shared while decoding, too."""
    return (
        0
        if sequence.shared_prefix is None or (decoding and not sequence.shared_prefix.shared_in_decoding)
        else len(sequence.shared_prefix.ids)
    )


def by_start(waiting: "deque[Unfinished]", *, share: bool) -> "deque[Unfinished]":
    """The sequences with their shared prefixes set, those of one prefix next to each other; otherwise in their order.

    Many prompts that begin alike are a group with a beginning of its own; the others share what they all begin with.
    """
    if not share or len(waiting) == 1:
        return waiting
    members = list(waiting)
    prompts = [member.prompt for member in members]
    apart = [
        (list(group_rows.rows), group_rows.prefix)
        for group_rows in group(prompts)
        if group_rows.prefix and len(group_rows.rows) >= TOGETHER
    ]
    common_rows = sorted(set(range(len(prompts))) - {at for rows, _ in apart for at in rows})
    if len(common_rows) > 1:
        shortest = min(len(prompts[at]) for at in common_rows) - 1
        apart.append(
            (common_rows, min(shortest, *(common_length(prompts[common_rows[0]], prompts[at]) for at in common_rows)))
        )
    for rows, size in apart:
        shared_prefix = SharedPrefix(prompts[rows[0]][:size], len(rows))
        for at in rows:
            members[at].shared_prefix = shared_prefix if size else None
    together: dict[int, list[Unfinished]] = {}
    for member in members:
        together.setdefault(id(member.shared_prefix), []).append(member)
    return deque(member for group_members in together.values() for member in group_members)


def aligned(flat: Any, blocks: Sequence[Block], begin: Any, widest: int) -> Any:
    """Keys of a flat pass [1, heads, tokens, size] as a decode batch's [rows, heads, positions, size], the last one at
    `widest`, with room to grow; `begin` [1, heads, tokens, size] is written before each row's own."""
    count = sum(block.count for block in blocks)
    out = flat.new_zeros(count, flat.shape[1], widest + GROWTH, flat.shape[3])
    at = 0
    for block in blocks:
        part = flat[0, :, block.start : block.end].unflatten(1, (block.count, block.length)).transpose(0, 1)
        out[at : at + block.count, :, widest - block.length : widest] = part
        if begin is not None:
            out[at : at + block.count, :, widest - block.length - begin.shape[2] : widest - block.length] = begin
        at += block.count
    return out


def grow(batch: DecodeBatch) -> None:
    """Make room for one more position."""
    if batch.filled < batch.keys[0][0].shape[2]:
        return
    for at, pair in enumerate(batch.keys):
        wider = []
        for keys in pair:
            room = keys.new_zeros(batch.rows, keys.shape[1], batch.filled + GROWTH, keys.shape[3])
            room[:, :, : batch.filled] = keys[: batch.rows, :, : batch.filled]
            wider.append(room)
        batch.keys[at] = (wider[0], wider[1])


def trim(batch: DecodeBatch) -> None:
    """Drop positions at the left that no row uses any more."""
    spare = int(batch.lead[: batch.rows].min())
    if spare < GROWTH:
        return
    batch.keys = [(key[:, :, spare:].contiguous(), value[:, :, spare:].contiguous()) for key, value in batch.keys]
    batch.lead = batch.lead - spare
    batch.filled -= spare


def decode_singly(
    model: Any, sequence: Unfinished, drawing: Drawing, ends: set[int], ended: Ended | None
) -> Continuation:
    """Continue one prompt with the library's own `generate`, which knows every architecture's cache, for models that cannot
    be read row by row. The tokens are drawn here; the model's own settings for writing (penalties, ends) are left out."""
    import torch
    from transformers import GenerationConfig, LogitsProcessor

    written: list[int] = []
    logprob, stopped, own_end = 0.0, False, False
    if not sequence.limit:
        return Continuation(written, float("nan"), False)

    class Draw(LogitsProcessor):  # type: ignore[misc]
        """Draws the next token, and leaves nothing else to choose."""

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            nonlocal logprob, stopped, own_end
            uniform = None if drawing.temperature == 0 else sequence.uniforms[len(written) : len(written) + 1]
            tokens, logprobs = draw_tokens(scores, uniform, drawing)
            logprob += logprobs[0]
            own_end = tokens[0] in ends
            if not own_end:
                written.append(tokens[0])
            stopped = own_end or (ended is not None and ended(sequence.number, written))
            drawn = torch.full_like(scores, -float("inf"))
            drawn[0, tokens[0]] = 0.0
            return drawn

    ids = torch.tensor([list(sequence.prompt)], device=device_of(model))
    holders = [model, *([model.get_base_model()] if hasattr(model, "get_base_model") else [])]
    before = [holder.generation_config for holder in holders]
    for holder in holders:
        holder.generation_config = GenerationConfig(pad_token_id=0)
    try:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=sequence.limit,
            do_sample=False,
            logits_processor=[Draw()],
            stopping_criteria=[lambda input_ids, scores, **_: torch.full((1,), stopped, device=input_ids.device)],
        )
    finally:
        for holder, settings in zip(holders, before, strict=True):
            holder.generation_config = settings
    mean = logprob / (len(written) + own_end) if drawing.logprobs else float("nan")
    return Continuation(written, mean, stopped)


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    seeds: Sequence[Sequence[int]],
    max_new_tokens: int | Sequence[int],
    temperature: float,
    top_p: float,
    end_ids: Sequence[int],
    compute: Compute,
    newline_ids: Sequence[int] = (),
    max_lines: int = 0,
    keep_last: bool = False,
) -> list[Continuation]:
    """Continue every prompt, each with its seed; in their order.

    With `max_lines`, a sequence also ends with the token (one of `newline_ids`) that ends its last line; that counts as
    ended, and the token is left out unless `keep_last` says otherwise.
    """
    breaks = set(newline_ids)
    lines = [0] * len(seeds)

    def last_line(number: int, ids: list[int]) -> bool:
        lines[number] += bool(ids) and ids[-1] in breaks
        return bool(max_lines) and lines[number] >= max_lines

    results: list[Continuation | None] = [None] * len(seeds)
    with compute.autocast():
        for number, sampled in generate(
            model, prompts, max_new_tokens=max_new_tokens, end_ids=end_ids,
            drawing=Drawing(temperature, top_p, logprobs=True), seeds=seeds, ended=last_line if max_lines else None,
        ):  # fmt: skip
            if max_lines and lines[number] >= max_lines and sampled.ended and not keep_last:
                sampled = Continuation(sampled.ids[:-1], sampled.mean_logprob, True)
            results[number] = sampled
    return [sampled for sampled in results if sampled is not None]
