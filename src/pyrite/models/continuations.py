"""Log-probabilities of continuations of contexts, under a causal language model.

What makes it fast: identical contexts are read once, a common beginning is computed once, rows are never padded
(`pyrite.models.rows`, `pyrite.models.trees`), and the vocabulary is looked at only after the tokens, and for label
words only in the rows, that are asked for. Results come in the order of the input.
"""

import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.models.rows import RowReader, reader_of
from pyrite.models.spread import device_of
from pyrite.models.trees import ContinuationRequest, PackedLayout, passes, split_request
from pyrite.models.work import BATCH_TOKENS, HEAD_ROWS, ReportProgress, Work, unique_rows


@dataclass(frozen=True, slots=True)
class Followed:
    """A continuation's log-probability (nats, summed over its tokens), and whether every token was the likeliest."""

    logprob: float
    greedy: bool


def continuations(
    model: Any,
    asks: Sequence[ContinuationRequest],
    *,
    report_progress: ReportProgress,
    batch_tokens: int | None = None,
    relative: bool = False,
) -> tuple[list[list[Followed]], Work]:
    """The log-probability of each continuation of each context.

    With `relative`, log-probabilities lack one constant per context, the same for all its continuations: the
    normaliser after the context is left out, so that only the vocabulary rows of the continuations' first tokens are
    needed there (and `greedy` speaks of those tokens only). Their order and differences are exact.

    `model` is a causal language model in evaluation mode. A model that cannot be read row by row is read in batches
    of equal length by the library's own forward pass.
    """
    import torch

    if any(not request.context or not all(request.continuations) for request in asks):
        raise ValueError("a context and a continuation have at least one token each")
    unique_asks, ask_numbers = unique_rows(asks)
    parts = [split_request(request) for request in unique_asks]
    unique, numbers = unique_rows(part for ask_parts in parts for part in ask_parts)
    work = Work(len(asks), len(unique_asks))
    work.given_tokens = sum(
        len(request.context) + len(continuation) - 1 for request in asks for continuation in request.continuations
    )
    with torch.inference_mode():
        reader = reader_of(model)
        if reader is None:
            rows = library_continuations(model, unique, work, report_progress)
        else:
            rows = [[] for _ in unique]
            for hidden, flat in passes(reader, unique, work, report_progress, batch_tokens):
                for at, row in followed(reader, unique, hidden, flat, relative, work).items():
                    rows[at] = row
    rows_of_parts = iter(rows[at] for at in numbers)
    joined = [[followed_row for _ in ask_parts for followed_row in next(rows_of_parts)] for ask_parts in parts]
    return [joined[at] for at in ask_numbers], work


def followed(
    reader: RowReader, asks: Sequence[ContinuationRequest], hidden: Any, flat: PackedLayout, relative: bool, work: Work
) -> dict[int, list[Followed]]:
    """The log-probabilities of the continuations that one pass read, by the number of their ask."""
    import torch

    places: list[int] = []  # places of the flat sequence at which something follows,
    follows: list[list[int]] = []  # the tokens asked for there,
    chains: dict[int, list[list[int]]] = {}  # and for each continuation of each ask, its indices into `places`
    for at, end in flat.ends.items():
        request = asks[at]
        first = len(places)
        places.append(end)
        follows.append([continuation[0] for continuation in request.continuations])
        chains[at] = []
        for continuation, branch_places in zip(request.continuations, flat.follow[at], strict=True):
            chains[at].append([first, *range(len(places), len(places) + len(branch_places))])
            places += branch_places
            follows += [[token] for token in continuation[1:]]
    hidden = hidden[torch.tensor(places, device=reader.device)]
    starts = {row[0][0] for row in chains.values() if row}
    needs_all = [not (relative and at in starts) for at in range(len(places))]
    logits, best, lse = at_positions(reader, hidden, follows, needs_all, work)
    rows: dict[int, list[Followed]] = {}
    for at, row in chains.items():
        rows[at] = followed_row = []
        for column, chain in enumerate(row):
            picks = [column, *(0 for _ in chain[1:])]
            value = sum(logits[spot][pick] - lse[spot] for spot, pick in zip(chain, picks, strict=True))
            greedy = all(best[spot] == follows[spot][pick] for spot, pick in zip(chain, picks, strict=True))
            followed_row.append(Followed(float(value), greedy))
    return rows


def at_positions(
    reader: RowReader, hidden: Any, follows: Sequence[Sequence[int]], needs_all: Sequence[bool], work: Work
) -> tuple[list[list[float]], list[int], list[float]]:
    """After each hidden state [positions, width]: the logits of the tokens asked for, the likeliest token, and the
    normaliser. Where the whole vocabulary is not needed, the logits are computed in fp32, the normaliser is 0 and only
    those tokens compete."""
    import torch

    head = reader.model.get_output_embeddings()
    rows = HEAD_ROWS[hidden.device.type]
    logits: list[list[float]] = [[] for _ in follows]
    best, lse = [0] * len(follows), [0.0] * len(follows)
    partial = [at for at, need in enumerate(needs_all) if not need]
    for first in range(0, len(partial), rows):
        part = partial[first : first + rows]
        tokens = torch.tensor([token for at in part for token in follows[at]], device=hidden.device)
        source = torch.tensor([at for at in part for _ in follows[at]], device=hidden.device)
        values = (hidden[source].float() * head.weight[tokens].float()).sum(-1)
        if head.bias is not None:
            values += head.bias[tokens].float()
        split_values = values.cpu().split([len(follows[at]) for at in part])
        for at, scores in zip(part, split_values, strict=True):
            logits[at] = scores.tolist()
            best[at] = follows[at][int(np.argmax(logits[at]))]
    full = [at for at, need in enumerate(needs_all) if need]
    work.head += len(full)
    for first in range(0, len(full), rows):
        part = full[first : first + rows]
        all_logits = reader.logits(hidden[torch.tensor(part, device=hidden.device)])
        norms, tops = all_logits.float().logsumexp(-1).tolist(), all_logits.max(-1).indices.tolist()
        for row, (at, top, norm) in enumerate(zip(part, tops, norms, strict=True)):
            best[at], lse[at] = top, norm
            logits[at] = all_logits[row, torch.tensor(follows[at], device=hidden.device)].float().tolist()
    return logits, best, lse


def library_logits(model: Any, ids: Any, count: int) -> Any:
    """The logits of the last positions [rows, count, vocabulary] by the library's own forward pass, without a cache."""
    takes = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in takes else {}
    if "logits_to_keep" in takes:
        options["logits_to_keep"] = count
    return model(input_ids=ids, **options).logits[:, -count:]


def library_continuations(
    model: Any, asks: Sequence[ContinuationRequest], work: Work, report_progress: ReportProgress
) -> list[list[Followed]]:
    """`continuations` by the library's own forward pass: sequences of equal length in a batch, without padding."""
    import torch

    jobs = [(at, column) for at, request in enumerate(asks) for column in range(len(request.continuations))]
    groups: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for at, column in jobs:
        continuation = asks[at].continuations[column]
        groups[len(asks[at].context) + len(continuation) - 1, len(continuation)].append((at, column))
    rows: list[list[Any]] = [[None] * len(request.continuations) for request in asks]
    n_done, device = 0, device_of(model)
    for (length, n_targets), members in sorted(groups.items(), reverse=True):
        size = max(1, BATCH_TOKENS[device.type] // length)
        for first in range(0, len(members), size):
            part = members[first : first + size]
            ids = [[*asks[at].context, *asks[at].continuations[column][:-1]] for at, column in part]
            target = torch.tensor([asks[at].continuations[column] for at, column in part], device=device)
            out = library_logits(model, torch.tensor(ids, device=device), n_targets)
            target = target.to(out.device)
            value = out.float().log_softmax(-1).gather(-1, target[..., None])[..., 0].sum(-1)
            greedy = (out.argmax(-1) == target).all(-1)
            for (at, column), logprob, top in zip(part, value.tolist(), greedy.tolist(), strict=True):
                rows[at][column] = Followed(logprob, top)
            work.computed += length * len(part)
            n_done += len(part)
            report_progress(n_done, len(jobs), "continuations")
    return rows
