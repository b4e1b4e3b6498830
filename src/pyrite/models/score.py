"""What does a model say to each row? Classifiers by their head, language models by the log-probability of what follows.

What makes it fast: identical rows are scored once, a common beginning is computed once, rows are never padded
(`pyrite.models.rows`), and the vocabulary is looked at only after the tokens, and for label words only in the rows,
that are asked for. Results come in the order of the input.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.models.load import takes_segments
from pyrite.models.prefix import group
from pyrite.models.prepack import Prepacked
from pyrite.models.rows import Block, Pass, Reader, branch_mask, layout, reader_of

Ids = Sequence[int]
Tick = Callable[[float, float, str], None]

BATCH_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 8192}
BRANCH_TOKENS = 256
"""Continuations of one context share a row up to so many tokens, or twice the context's."""
HEAD_ROWS = {"cpu": 128, "cuda": 2048, "mps": 256}
"""How many positions get the whole vocabulary's logits at a time."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A context (at least one token) and what may follow it (each at least one token)."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Asks of one shape (after a prefix) can be one block: tokens of the context, then of each branch."""
        return (len(self.context), *(len(one) - 1 for one in self.continuations))


@dataclass(slots=True)
class Work:
    """What was asked for and what was computed, in tokens: the difference is what sharing saved."""

    rows: int = 0
    distinct: int = 0
    given: int = 0
    computed: int = 0
    prefixes: int = 0
    head: int = 0
    """Positions at which the whole vocabulary was looked at."""
    scored: int = 0
    """Query-key products of the attention, summed over tokens (of one head in one layer)."""

    def as_json(self) -> dict[str, int]:
        """As plain values."""
        return {
            "rows": self.rows,
            "distinct": self.distinct,
            "tokens_given": self.given,
            "tokens_computed": self.computed,
            "prefixes": self.prefixes,
        }


@dataclass(frozen=True, slots=True)
class Followed:
    """A continuation's log-probability (nats, summed over its tokens), and whether every token was the likeliest."""

    logprob: float
    greedy: bool


def distinct(rows: Iterable[Any]) -> tuple[list[Any], list[int]]:
    """The different rows in order of first appearance, and for every row its number among them."""
    numbers: dict[Any, int] = {}
    return_to = [numbers.setdefault(row, len(numbers)) for row in rows]
    return list(numbers), return_to


def continuations(
    model: Any, asks: Sequence[Ask], *, tick: Tick, batch_tokens: int | None = None, relative: bool = False
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
            found = plain(model, unique, work, tick)
        else:
            found = [[] for _ in unique]
            total, done = len(unique), 0
            for shared in group([ask.context for ask in unique]):
                prefix_ids = unique[shared.rows[0]].context[: shared.prefix]
                prefix = reader.prefix(prefix_ids)
                work.computed += len(prefix_ids)
                work.prefixes += prefix is not None
                size = batch_tokens or BATCH_TOKENS[reader.device.type]
                for batch in packed([unique[at] for at in shared.rows], shared.prefix, size):
                    rows = [shared.rows[at] for at in batch]
                    for at, row in zip(
                        rows, score_batch(reader, unique, rows, prefix, shared, relative, work), strict=True
                    ):
                        found[at] = row
                    done += len(rows)
                    tick(done, total, "rows")
    flat = iter(found[at] for at in numbers)
    joined = [[one for _ in some for one in next(flat)] for some in parts]
    return [joined[at] for at in whole_numbers], work


def split(ask: Ask) -> list[Ask]:
    """An ask as several of the same context where its continuations are far longer than the context: branches do not
    see each other, yet attention runs over all of them."""
    room = max(BRANCH_TOKENS, 2 * len(ask.context))
    made: list[list[tuple[int, ...]]] = [[]]
    left = room
    for one in ask.continuations:
        if made[-1] and len(one) > left:
            made.append([])
            left = room
        made[-1].append(one)
        left -= len(one)
    return [Ask(ask.context, tuple(some)) for some in made]


def packed(asks: Sequence[Ask], prefix: int, tokens: int) -> list[list[int]]:
    """Row numbers in batches of at most `tokens` computed tokens (at least one row), rows of one shape together."""
    order = sorted(range(len(asks)), key=lambda at: (asks[at].shape, at), reverse=True)
    made: list[list[int]] = []
    room = 0
    for at in order:
        size = sum(asks[at].shape) - prefix
        if not made or size > room:
            made.append([])
            room = tokens
        made[-1].append(at)
        room -= size
    return made


def score_batch(
    reader: Reader, asks: Sequence[Ask], rows: Sequence[int], prefix: Any, shared: Any, relative: bool, work: Work
) -> list[list[Followed]]:
    """One flat pass: every context's own tokens, then its continuations but for their last tokens, as branches."""
    import torch

    ids: list[int] = []
    positions: list[int] = []
    blocks: list[Block] = []
    where: list[int] = []  # places of the flat sequence at which something follows,
    follows: list[list[int]] = []  # the tokens asked for there,
    chains: list[list[list[int]]] = []  # and for each continuation of each row, its places in `where`
    past = shared.prefix
    for shape, members in itertools.groupby(rows, key=lambda at: (len(asks[at].context) - past, *asks[at].shape[1:])):
        start = len(ids)
        for at in members:
            ask = asks[at]
            ids += ask.context[past:]
            positions += range(past, len(ask.context))
            first = len(where)
            where.append(len(ids) - 1)
            follows.append([one[0] for one in ask.continuations])
            chains.append([[first] for _ in ask.continuations])
            for chain, one in zip(chains[-1], ask.continuations, strict=True):
                for offset, token in enumerate(one[:-1]):
                    chain.append(len(where))
                    where.append(len(ids))
                    follows.append([one[offset + 1]])
                    ids.append(token)
                    positions.append(len(ask.context) + offset)
        length = sum(shape)
        blocks.append(Block(start, (len(ids) - start) // length, length, *branch_mask(shape, past, reader.device)))
    work.computed += len(ids)
    work.scored += sum(block.count * block.length * (block.length + 2 * past) // 2 for block in blocks)
    flat = torch.tensor(ids, device=reader.device)
    hidden = reader.hidden(flat, torch.tensor(positions, device=reader.device), Pass(blocks, prefix))
    hidden = hidden[torch.tensor(where, device=reader.device)]
    starts = {row[0][0] for row in chains}
    needs_all = [not (relative and at in starts) for at in range(len(where))]
    logits, best, lse = at_positions(reader, hidden, follows, needs_all, work)
    made = []
    for row in chains:
        told = []
        for column, chain in enumerate(row):
            picks = [column, *(0 for _ in chain[1:])]
            value = sum(logits[spot][pick] - lse[spot] for spot, pick in zip(chain, picks, strict=True))
            greedy = all(best[spot] == follows[spot][pick] for spot, pick in zip(chain, picks, strict=True))
            told.append(Followed(float(value), greedy))
        made.append(told)
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


def plain(model: Any, asks: Sequence[Ask], work: Work, tick: Tick) -> list[list[Followed]]:
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
            tick(done, len(jobs), "continuations")
    return found


def label_word_logits(
    model: Any, prompts: Sequence[Ids], words: Sequence[Ids], *, tick: Tick, batch_tokens: int | None = None
) -> tuple[np.ndarray, Work]:
    """What a language model says to each label word after each prompt [rows, labels]: the word's log-probability in
    nats, less a constant per row that is the same for every word (see `continuations`, relative)."""
    for one in words:
        if any(other is not one and list(other[: len(one)]) == list(one) for other in words):
            found = f"token ids {list(one)} begin another label's"
            raise UserError("A label word is the beginning of another.", found, "choose other words, with --labels")
    asks = [Ask(tuple(prompt), tuple(tuple(word) for word in words)) for prompt in prompts]
    told, work = continuations(model, asks, tick=tick, batch_tokens=batch_tokens, relative=True)
    return np.array([[one.logprob for one in row] for row in told], dtype=np.float32).reshape(
        len(asks), len(words)
    ), work


def class_logits(
    model: Any,
    ids: Sequence[Ids],
    *,
    order: Sequence[int],
    pad_id: int,
    compute: Compute,
    tick: Tick,
    segments: Sequence[Ids] | None = None,
    batch_tokens: int | None = None,
) -> tuple[np.ndarray, Work]:
    """A classifier's logits for each row [rows, labels], in the order of the rows and of our labels.

    `segments` say of every token to which text of a pair it belongs; models that were not trained to be told are not.
    """
    import torch

    if segments is None or not takes_segments(model):
        segments = [()] * len(ids)
    unique_pairs, numbers = distinct((tuple(row), tuple(some)) for row, some in zip(ids, segments, strict=True))
    unique = [row for row, _ in unique_pairs]
    work = Work(len(ids), len(unique), sum(len(row) for row in ids))
    head = getattr(model, "score", None)
    with torch.inference_mode(), compute.autocast():
        reader = reader_of(model) if head is not None else None
        if reader is not None:
            logits = causal_class_logits(reader, head, unique, work, tick, batch_tokens)
        else:
            logits = padded_class_logits(model, unique_pairs, pad_id, work, tick, batch_tokens)
    return logits[numbers][:, list(order)], work


def causal_class_logits(
    reader: Reader, head: Any, ids: Sequence[Ids], work: Work, tick: Tick, batch_tokens: int | None
) -> np.ndarray:
    """A decoder's classification head at the last token of each row."""
    import torch

    logits = np.zeros((len(ids), head.weight.shape[0]), dtype=np.float32)
    done = 0
    for shared in group(ids):
        first_ids = ids[shared.rows[0]][: shared.prefix]
        prefix = reader.prefix(first_ids)
        work.computed += len(first_ids)
        work.prefixes += prefix is not None
        asks = [Ask(tuple(ids[at]), ()) for at in shared.rows]
        for batch in packed(asks, shared.prefix, batch_tokens or BATCH_TOKENS[reader.device.type]):
            rows = [shared.rows[at] for at in batch]
            own = [ids[at][shared.prefix :] for at in rows]
            flat = torch.tensor([token for row in own for token in row], device=reader.device)
            at_each = [torch.arange(shared.prefix, shared.prefix + len(row), device=reader.device) for row in own]
            blocks = layout([len(row) for row in own], shared.prefix, reader.device)
            hidden = reader.hidden(flat, torch.cat(at_each), Pass(blocks, prefix))
            last = torch.tensor(np.cumsum([len(row) for row in own]) - 1, device=reader.device)
            logits[rows] = head(hidden[last]).float().cpu().numpy()
            work.computed += len(flat)
            done += len(rows)
            tick(done, len(ids), "rows")
    return logits


def padded_class_logits(
    model: Any, rows: Sequence[tuple[Ids, Ids]], pad_id: int, work: Work, tick: Tick, batch_tokens: int | None
) -> np.ndarray:
    """An encoder's logits: rows of (nearly) one length in a batch, so that little or nothing is padded. A row is its
    token ids and their segments (empty where the model is not told)."""
    import torch

    ids = [row for row, _ in rows]
    logits: Any = None
    layers = Prepacked(model)
    done = 0
    for batch in batches([len(row) for row in ids], batch_tokens or BATCH_TOKENS[model.device.type]):
        longest = max(len(ids[at]) for at in batch)
        tokens = torch.full((len(batch), longest), pad_id)
        for row, at in enumerate(batch):
            tokens[row, : len(ids[at])] = torch.tensor(ids[at])
        lengths = torch.tensor([len(ids[at]) for at in batch])
        mask = torch.arange(longest) < lengths[:, None]
        given = {} if bool(mask.all()) else {"attention_mask": mask.long().to(model.device)}
        if any(rows[at][1] for at in batch):
            kinds = torch.zeros_like(tokens)
            for row, at in enumerate(batch):
                kinds[row, : len(ids[at])] = torch.tensor(rows[at][1])
            given["token_type_ids"] = kinds.to(model.device)
        with layers.active():
            out = model(input_ids=tokens.to(model.device), **given).logits.float().cpu().numpy()
        if logits is None:
            logits = np.zeros((len(ids), out.shape[1]), dtype=np.float32)
        logits[batch] = out
        work.computed += tokens.numel()
        done += len(batch)
        tick(done, len(ids), "rows")
    return logits if logits is not None else np.zeros((0, model.config.num_labels), dtype=np.float32)


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Row numbers in batches of at most `tokens` padded tokens, longest first. A batch takes a shorter row only while it
    is far from full, so that most batches have one length and need no mask."""
    order = sorted(range(len(lengths)), key=lambda at: (-lengths[at], at))
    made: list[list[int]] = []
    for at in order:
        longest = lengths[made[-1][0]] if made else 0
        fits = made and longest * (len(made[-1]) + 1) <= tokens
        if fits and (lengths[at] == longest or longest * len(made[-1]) < tokens // 8):
            made[-1].append(at)
        else:
            made.append([at])
    return made


CHECKED = 64
KEPT = 0.98
"""bf16 is used where it keeps the answer of this share of the checked rows."""

Scorer = Callable[[Any, Compute, list[int]], tuple[np.ndarray, Work]]
"""Given a model, its compute and the numbers of rows: the logits of those rows [rows, labels]."""


def fast_where_it_agrees(
    load_model: Callable[[], Any], compute: Compute, count: int, score: Scorer, *, seed: int = 0
) -> tuple[np.ndarray, dict[str, Any]]:
    """Score rows in bf16 where that keeps the answers, else in fp32; returns the logits and what was checked.

    Up to 64 rows, drawn by `seed`, are scored in fp32 first. If bf16 gives the same answer to fewer than 98 % of
    them, the model is loaded again and all rows are scored in fp32.
    """
    from pyrite.models.load import for_generation

    model = load_model()
    if compute.precision == "fp32" or getattr(model, "is_loaded_in_4bit", False):
        logits, work = score(model, compute, list(range(count)))
        return logits, {**work.as_json(), "precision": compute.precision}
    sample = sorted(np.random.default_rng(seed).choice(count, min(CHECKED, count), replace=False).tolist())
    sure, _ = score(model, Compute(compute.device, "fp32"), sample)
    model, compute = for_generation(model, compute)
    logits, work = score(model, compute, list(range(count)))
    told = agreement(sure, logits[sample])
    if told["same"] < KEPT * told["checked"]:
        del model
        logits, work = score(load_model(), Compute(compute.device, "fp32"), list(range(count)))
        return logits, {**work.as_json(), "precision": "fp32", "bf16_check": told}
    return logits, {**work.as_json(), "precision": "bf16", "bf16_check": told}


def agreement(sure: np.ndarray, fast: np.ndarray) -> dict[str, Any]:
    """Does the fast precision keep the answers? Both [rows, labels]; the share of rows with the same argmax."""
    same = sure.argmax(1) == fast.argmax(1)
    return {
        "checked": len(same),
        "same": int(same.sum()),
        "largest_difference": float(
            np.abs((sure - sure.max(1, keepdims=True)) - (fast - fast.max(1, keepdims=True))).max()
        ),
    }
