"""Packed layout of rows with a shared prefix: one row as a tree of tokens, each attending to those above it.

A context and its possible continuations are such a tree, and so are several contexts with a common beginning (three
questions about one passage, the hypotheses of one premise). Within a flat pass (`pyrite.models.rows`) what they share
is computed once, and branches never see each other, so each row computes what it would compute alone.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyrite.models.prefix import group
from pyrite.models.rows import Block, Pass, RowReader, Segments, tree_mask
from pyrite.models.work import BATCH_TOKENS, ReportProgress, Work

BRANCH_TOKENS = 256
"""Continuations of one context share a row up to so many tokens, or twice the context's."""
GROUP_TOKENS = 96
"""Contexts that begin alike share a row while their own ends have up to so many tokens in sum, or as many as what they
share: branches do not see each other, yet attention runs over all of them."""
GROUP_SAVES = {"cpu": 16, "cuda": 256, "mps": 128}
"""Contexts share a row if that saves at least so many tokens: a row of a shape of its own is an attention call of its
own. (Measured on a CPU only.)"""


@dataclass(frozen=True, slots=True)
class ContinuationRequest:
    """A context (at least one token) and what may follow it (each at least one token)."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """How many tokens are computed for it, sharing nothing."""
        return len(self.context) + sum(len(continuation) - 1 for continuation in self.continuations)


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Asks (by number) whose contexts begin with the same `shared` tokens: one row. A lone ask shares its whole
    context with nobody."""

    members: tuple[int, ...]
    shared: int

    def segments(self, asks: Sequence[ContinuationRequest], past: int) -> Segments:
        """The tree after a prefix of `past` tokens: what is shared, each context's end, its continuations but for
        their last tokens."""
        stretches = [(-1, self.shared - past)]
        for at in self.members:
            stem = 0
            if len(asks[at].context) > self.shared:
                stem = len(stretches)
                stretches.append((0, len(asks[at].context) - self.shared))
            stretches += [
                (stem, len(continuation) - 1) for continuation in asks[at].continuations if len(continuation) > 1
            ]
        return tuple(stretches)


def split_request(request: ContinuationRequest) -> list[ContinuationRequest]:
    """An ask as several of the same context where its continuations are far longer than the context: branches do not
    see each other, yet attention runs over all of them."""
    sizes = [len(continuation) for continuation in request.continuations]
    parts = filled(sizes, max(BRANCH_TOKENS, 2 * len(request.context))) or [[]]
    return [ContinuationRequest(request.context, tuple(request.continuations[at] for at in part)) for part in parts]


def prefix_groups(
    asks: Sequence[ContinuationRequest], numbers: Sequence[int], past: int, saves: int
) -> list[PrefixGroup]:
    """The asks of these numbers, which begin with the same `past` tokens, as rows: together where that saves at least
    `saves` tokens a row."""
    groups = []
    for shared in group([asks[at].context[past:] for at in numbers], saves):
        rows = [numbers[at] for at in shared.rows]
        ends = [asks[at].tokens - past - shared.prefix for at in rows]
        for part in filled(ends, max(GROUP_TOKENS, shared.prefix)):
            members = [rows[at] for at in part]
            if shared.prefix and shared.prefix * (len(members) - 1) >= saves:
                groups.append(PrefixGroup(tuple(members), past + shared.prefix))
            else:
                groups += [PrefixGroup((at,), len(asks[at].context)) for at in members]
    return groups


def filled(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Numbers in their order, in parts whose sizes come to at most `room` (at least one each)."""
    parts: list[list[int]] = []
    remaining = 0
    for at, size in enumerate(sizes):
        if not parts or size > remaining:
            parts.append([])
            remaining = room
        parts[-1].append(at)
        remaining -= size
    return parts


def packed(
    asks: Sequence[ContinuationRequest], rows: Sequence[PrefixGroup], past: int, tokens: int
) -> list[list[tuple[Segments, PrefixGroup]]]:
    """The rows in batches of at most `tokens` computed tokens (at least one row), longest first, those of one shape
    together."""
    shaped = [(row.segments(asks, past), row) for row in rows]
    shaped.sort(key=lambda entry: (n_tokens(entry[0]), entry[0], entry[1].members), reverse=True)
    return [[shaped[at] for at in part] for part in filled([n_tokens(segments) for segments, _ in shaped], tokens)]


def n_tokens(segments: Segments) -> int:
    """How many tokens are computed for a row of this shape."""
    return sum(size for _, size in segments)


@dataclass(slots=True)
class PackedLayout:
    """A flat sequence: its tokens, their positions, which stretches are which rows, and for each ask (by number) where
    its context ends and where each token of its continuations but the last lies."""

    ids: list[int]
    positions: list[int]
    blocks: list[Block]
    ends: dict[int, int]
    follow: dict[int, list[list[int]]]


def pack_layout(
    asks: Sequence[ContinuationRequest], batch: Sequence[tuple[Segments, PrefixGroup]], past: int, device: Any
) -> PackedLayout:
    """The packed layout of a batch: its tokens side by side, and where each ask lies."""
    flat = PackedLayout([], [], [], {}, {})
    for segments, rows in itertools.groupby(batch, key=lambda entry: entry[0]):
        start = len(flat.ids)
        for _, row in rows:
            add(flat, asks[row.members[0]].context[past : row.shared], past)
            for at in row.members:
                request = asks[at]
                add(flat, request.context[row.shared :], row.shared)
                flat.ends[at] = len(flat.ids) - 1
                flat.follow[at] = [
                    add(flat, continuation[:-1], len(request.context)) for continuation in request.continuations
                ]
        length = n_tokens(segments)
        count = (len(flat.ids) - start) // length
        flat.blocks.append(Block(start, count, length, *tree_mask(segments, past, device)))
    return flat


def passes(
    reader: RowReader,
    asks: Sequence[ContinuationRequest],
    work: Work,
    report_progress: ReportProgress,
    batch_tokens: int | None = None,
) -> Iterator[tuple[Any, PackedLayout]]:
    """Flat passes over all asks: the last hidden states [tokens, width] of each pass, and its layout."""
    import torch

    kind, device = reader.device.type, reader.device
    n_done = 0
    for shared in group([request.context for request in asks]):
        past = shared.prefix
        prefix = reader.prefix(asks[shared.rows[0]].context[:past])
        work.computed += past
        work.prefixes += prefix is not None
        rows = prefix_groups(asks, shared.rows, past, GROUP_SAVES[kind])
        for batch in packed(asks, rows, past, batch_tokens or BATCH_TOKENS[kind]):
            flat = pack_layout(asks, batch, past, device)
            work.computed += len(flat.ids)
            work.scored += sum(block.count * block.length * (block.length + 2 * past) // 2 for block in flat.blocks)
            ids, positions = torch.tensor(flat.ids, device=device), torch.tensor(flat.positions, device=device)
            yield reader.hidden(ids, positions, Pass(flat.blocks, prefix)), flat
            n_done += len(flat.ends)
            report_progress(n_done, len(asks), "rows")


def add(flat: PackedLayout, tokens: Sequence[int], position: int) -> list[int]:
    """Append tokens that begin at a position of their row; returns their places in the flat sequence."""
    first = len(flat.ids)
    flat.ids += tokens
    flat.positions += range(position, position + len(tokens))
    return list(range(first, len(flat.ids)))
