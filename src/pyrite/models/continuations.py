"""How likely is what follows? Log-probabilities of continuations of contexts, under a causal language model.

What makes it fast: identical contexts are read once, a common beginning is computed once, rows are never padded
(`pyrite.models.rows`, `pyrite.models.trees`), and the vocabulary is looked at only after the tokens, and for label
words only in the rows, that are asked for. Results come in the order of the input.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.models.rows import Reader, reader_of
from pyrite.models.trees import Ask, PackedLayout, passes, split
from pyrite.models.work import BATCH_TOKENS, HEAD_ROWS, ReportProgress, Work, distinct


@dataclass(frozen=True, slots=True)
class Followed:
    """A continuation's log-probability (nats, summed over its tokens), and whether every token was the likeliest."""

    logprob: float
    greedy: bool


def continuations(
    model: Any,
    asks: Sequence[Ask],
    *,
    report_progress: ReportProgress,
    batch_tokens: int | None = None,
    relative: bool = False,
) -> tuple[list[list[Followed]], Work]:
    """How likely is each continuation of each context?

    With `relative`, log-probabilities lack one constant per context, the same for all its continuations: the
    normaliser after the context is left out, so that only the vocabulary rows of the continuations' first tokens are
    needed there (and `greedy` speaks of those tokens only). Their order and differences are exact.

    `model` is a causal language model in evaluation mode. A model that cannot be read row by row is read in batches
    of equal length by the library's own forward pass.
    """
    import torch

    if any(not ask.context or not all(ask.continuations) for ask in asks):
        raise ValueError("a context and a continuation have at least one token each")
    whole, whole_numbers = distinct(asks)
    parts = [split(ask) for ask in whole]
    unique, numbers = distinct(part for some in parts for part in some)
    work = Work(len(asks), len(whole))
    work.given = sum(len(ask.context) + len(one) - 1 for ask in asks for one in ask.continuations)
    with torch.inference_mode():
        reader = reader_of(model)
        if reader is None:
            found = plain(model, unique, work, report_progress)
        else:
            found = [[] for _ in unique]
            for hidden, flat in passes(reader, unique, work, report_progress, batch_tokens):
                for at, row in followed(reader, unique, hidden, flat, relative, work).items():
                    found[at] = row
    each = iter(found[at] for at in numbers)
    joined = [[one for _ in some for one in next(each)] for some in parts]
    return [joined[at] for at in whole_numbers], work


def followed(
    reader: Reader, asks: Sequence[Ask], hidden: Any, flat: PackedLayout, relative: bool, work: Work
) -> dict[int, list[Followed]]:
    """After one pass: how likely are the continuations of the asks (by number) that were read?"""
    import torch

    where: list[int] = []  # places of the flat sequence at which something follows,
    follows: list[list[int]] = []  # the tokens asked for there,
    chains: dict[int, list[list[int]]] = {}  # and for each continuation of each ask, its places in `where`
    for at, end in flat.ends.items():
        ask = asks[at]
        first = len(where)
        where.append(end)
        follows.append([continuation[0] for continuation in ask.continuations])
        chains[at] = []
        for one, places in zip(ask.continuations, flat.follow[at], strict=True):
            chains[at].append([first, *range(len(where), len(where) + len(places))])
            where += places
            follows += [[token] for token in one[1:]]
    hidden = hidden[torch.tensor(where, device=reader.device)]
    starts = {row[0][0] for row in chains.values() if row}
    needs_all = [not (relative and at in starts) for at in range(len(where))]
    logits, best, lse = at_positions(reader, hidden, follows, needs_all, work)
    made: dict[int, list[Followed]] = {}
    for at, row in chains.items():
        made[at] = told = []
        for column, chain in enumerate(row):
            picks = [column, *(0 for _ in chain[1:])]
            value = sum(logits[spot][pick] - lse[spot] for spot, pick in zip(chain, picks, strict=True))
            greedy = all(best[spot] == follows[spot][pick] for spot, pick in zip(chain, picks, strict=True))
            told.append(Followed(float(value), greedy))
    return made


def at_positions(
    reader: Reader, hidden: Any, follows: Sequence[Sequence[int]], needs_all: Sequence[bool], work: Work
) -> tuple[list[list[float]], list[int], list[float]]:
    """After each hidden state [positions, width]: the logits of the tokens asked for, the likeliest token, and the
    normaliser. Where the whole vocabulary is not needed, the logits are computed in fp32, the normaliser is 0 and only
    those tokens compete."""
    import torch

    head = reader.model.get_output_embeddings()
    rows = HEAD_ROWS[hidden.device.type]
    logits: list[list[float]] = [[] for _ in follows]
    best, lse = [0] * len(follows), [0.0] * len(follows)
    few = [at for at, need in enumerate(needs_all) if not need]
    for first in range(0, len(few), rows):
        part = few[first : first + rows]
        tokens = torch.tensor([token for at in part for token in follows[at]], device=hidden.device)
        source = torch.tensor([at for at in part for _ in follows[at]], device=hidden.device)
        wanted = (hidden[source].float() * head.weight[tokens].float()).sum(-1)
        if head.bias is not None:
            wanted += head.bias[tokens].float()
        told = wanted.cpu().split([len(follows[at]) for at in part])
        for at, values in zip(part, told, strict=True):
            logits[at] = values.tolist()
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


def plain(model: Any, asks: Sequence[Ask], work: Work, report_progress: ReportProgress) -> list[list[Followed]]:
    """The same by the library's own forward pass: sequences of equal length in a batch, so that nothing is padded."""
    import torch

    jobs = [(at, column) for at, ask in enumerate(asks) for column in range(len(ask.continuations))]
    groups: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for at, column in jobs:
        one = asks[at].continuations[column]
        groups[len(asks[at].context) + len(one) - 1, len(one)].append((at, column))
    found: list[list[Any]] = [[None] * len(ask.continuations) for ask in asks]
    done = 0
    for (length, kept), members in sorted(groups.items(), reverse=True):
        size = max(1, BATCH_TOKENS[model.device.type] // length)
        for first in range(0, len(members), size):
            part = members[first : first + size]
            ids = [[*asks[at].context, *asks[at].continuations[column][:-1]] for at, column in part]
            target = torch.tensor([asks[at].continuations[column] for at, column in part], device=model.device)
            out = model(input_ids=torch.tensor(ids, device=model.device), logits_to_keep=kept).logits
            value = out.float().log_softmax(-1).gather(-1, target[..., None])[..., 0].sum(-1)
            greedy = (out.argmax(-1) == target).all(-1)
            for (at, column), logprob, top in zip(part, value.tolist(), greedy.tolist(), strict=True):
                found[at][column] = Followed(logprob, top)
            work.computed += length * len(part)
            done += len(part)
            report_progress(done, len(jobs), "continuations")
    return found
