"""Which label does a model give each row? Classifiers by their head, language models by the label's words after a prompt.

What makes it fast: identical rows are scored once, a common beginning is computed once and rows are never padded
(`pyrite.models.continuations`). Results come in the order of the input.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from pyrite.errors import UserError
from pyrite.models.continuations import continuations
from pyrite.models.hardware import Compute
from pyrite.models.load import takes_segments
from pyrite.models.prepack import Prepacked
from pyrite.models.rows import RowReader, reader_of
from pyrite.models.trees import ContinuationRequest, passes
from pyrite.models.work import BATCH_TOKENS, ReportProgress, Work, length_batches, may_pad, unique_rows

if TYPE_CHECKING:
    from pyrite.models.lower import Injected, Stored

Ids = Sequence[int]


def label_word_logits(
    model: Any,
    requests: Sequence[ContinuationRequest],
    *,
    report_progress: ReportProgress,
    batch_tokens: int | None = None,
) -> tuple[np.ndarray, Work]:
    """What a language model says to each label word after each prompt [rows, labels]: the word's log-probability in
    nats, less a constant per row that is the same for every word (see `continuations`, relative).

    Each request is a prompt with its label words, as many as every other has (`tokenise.encode_choices`)."""
    refuse_beginnings({request.continuations for request in requests})
    rows, work = continuations(
        model, requests, report_progress=report_progress, batch_tokens=batch_tokens, relative=True
    )
    n_words = len(requests[0].continuations) if requests else 0
    return np.array([[followed.logprob for followed in row] for row in rows], dtype=np.float32).reshape(
        len(requests), n_words
    ), work


def refuse_beginnings(choices: Collection[tuple[tuple[int, ...], ...]]) -> None:
    """Refuse label words (token ids) of which one begins another: it would always be the likelier.

    Raises:
        UserError: with its tokens.
    """
    for words in choices:
        for at, word in enumerate(words):
            if any(other != at and words[other][: len(word)] == word for other in range(len(words))):
                detail = f"token ids {list(word)} begin another label's"
                raise UserError(
                    "A label word is the beginning of another.", detail, "choose other words, with --labels"
                )


def class_logits(
    model: Any,
    ids: Sequence[Ids],
    *,
    order: Sequence[int],
    pad_id: int,
    compute: Compute,
    report_progress: ReportProgress,
    segments: Sequence[Ids] | None = None,
    batch_tokens: int | None = None,
    stored: "Stored | None" = None,
    stored_in: str = "fp32",
) -> tuple[np.ndarray, Work]:
    """A classifier's logits for each row [rows, labels], in the order of the rows and of our labels.

    `segments` say of every token to which text of a pair it belongs; models that were not trained to be told are not.
    `stored` states of an encoder's lower layers, made in the precision `stored_in`, are used where they give the same as
    the whole model on a few rows.
    """
    import torch

    if segments is None or not takes_segments(model):
        segments = [()] * len(ids)
    unique_pairs, numbers = unique_rows(
        (tuple(row), tuple(row_segments)) for row, row_segments in zip(ids, segments, strict=True)
    )
    unique = [row for row, _ in unique_pairs]
    work = Work(len(ids), len(unique), sum(len(row) for row in ids))
    head = getattr(model, "score", None)
    with torch.inference_mode(), compute.autocast():
        reader = reader_of(model) if head is not None else None
        if reader is not None:
            logits = causal_class_logits(reader, head, unique, work, report_progress, batch_tokens)
        else:
            lower = None if stored is None else states_for_rows(model, stored, unique_pairs, pad_id, stored_in)
            logits = padded_class_logits(
                model,
                unique_pairs,
                pad_id,
                work,
                report_progress,
                batch_tokens,
                lower,
                exact=compute.precision == "fp32",
            )
    return logits[numbers][:, list(order)], work


def causal_class_logits(
    reader: RowReader,
    head: Any,
    ids: Sequence[Ids],
    work: Work,
    report_progress: ReportProgress,
    batch_tokens: int | None,
) -> np.ndarray:
    """A decoder's classification head at the last token of each row."""
    import torch

    logits = np.zeros((len(ids), head.weight.shape[0]), dtype=np.float32)
    asks = [ContinuationRequest(tuple(row), ()) for row in ids]
    for hidden, flat in passes(reader, asks, work, report_progress, batch_tokens):
        last = torch.tensor(list(flat.ends.values()), device=reader.device)
        logits[list(flat.ends)] = head(hidden[last]).float().cpu().numpy()
    return logits


def states_for_rows(
    model: Any, stored: "Stored", rows: Sequence[tuple[Ids, Ids]], pad_id: int, precision: str
) -> "tuple[Injected, list[np.ndarray]] | None":
    """The states of rows in the place of the model's lower layers; None where they do not fit it."""
    from pyrite.models.lower import fitting_states

    segments = [row_segments for _, row_segments in rows] if any(row_segments for _, row_segments in rows) else None
    return fitting_states(model, stored, [row for row, _ in rows], segments, pad_id=pad_id, precision=precision)


def padded_class_logits(
    model: Any,
    rows: Sequence[tuple[Ids, Ids]],
    pad_id: int,
    work: Work,
    report_progress: ReportProgress,
    batch_tokens: int | None,
    lower: "tuple[Injected, list[np.ndarray]] | None" = None,
    *,
    exact: bool = True,
) -> np.ndarray:
    """An encoder's logits: rows of (nearly) one length in a batch, so that little or nothing is padded. A row is its
    token ids and their segments (empty where the model is not told). `lower`: stored states of every row."""

    ids = [row for row, _ in rows]
    logits: Any = None
    layers = Prepacked(model)
    n_done = 0
    lengths = [len(row) for row in ids]

    def read(batch: list[int]) -> np.ndarray:
        with layers.active(), nullcontext() if lower is None else lower[0].active():
            if lower is not None:
                lower[0].put_rows([lower[1][at] for at in batch])
            out: np.ndarray = model(**padded(model, [rows[at] for at in batch], pad_id)).logits.float().cpu().numpy()
        return out

    pads = lower is not None or may_pad(model, read, lengths, exact=exact)
    for batch in length_batches(lengths, batch_tokens or BATCH_TOKENS[model.device.type], pads=pads):
        out = read(batch)
        if logits is None:
            logits = np.zeros((len(ids), out.shape[1]), dtype=np.float32)
        logits[batch] = out
        work.computed += len(batch) * max(lengths[at] for at in batch)
        n_done += len(batch)
        report_progress(n_done, len(ids), "rows")
    return logits if logits is not None else np.zeros((0, model.config.num_labels), dtype=np.float32)


def padded(model: Any, rows: Sequence[tuple[Ids, Ids]], pad_id: int) -> dict[str, Any]:
    """The inputs of a batch: tokens, and where needed a mask and the segments, padded at the right."""
    import torch

    lengths = torch.tensor([len(ids) for ids, _ in rows])
    longest = int(lengths.max())
    tokens = torch.full((len(rows), longest), pad_id)
    for at, (ids, _) in enumerate(rows):
        tokens[at, : len(ids)] = torch.tensor(ids)
    mask = torch.arange(longest) < lengths[:, None]
    inputs = {"input_ids": tokens.to(model.device)}
    if not bool(mask.all()):
        inputs["attention_mask"] = mask.long().to(model.device)
    if any(segments for _, segments in rows):
        kinds = torch.zeros_like(tokens)
        for at, (_, segments) in enumerate(rows):
            kinds[at, : len(segments)] = torch.tensor(segments)
        inputs["token_type_ids"] = kinds.to(model.device)
    return inputs


CHECKED = 64
KEPT = 0.98
"""bf16 is used where it keeps the answer of this share of the checked rows."""

Scorer = Callable[[Any, Compute, list[int]], tuple[np.ndarray, Work]]
"""Given a model, its compute and the numbers of rows: the logits of those rows [rows, labels]."""


def score_in_fast_precision(
    load_model: Callable[[], Any], compute: Compute, count: int, score: Scorer, *, seed: int = 0
) -> tuple[np.ndarray, dict[str, Any]]:
    """Score rows in bf16 where that keeps the answers, else in fp32; returns the logits and what was checked.

    Up to 64 rows, drawn by `seed`, are scored in fp32 first. If bf16 gives the same answer to fewer than 98 % of
    them, the model is loaded again and all rows are scored in fp32. int8, which is never chosen unasked, is kept and
    the check reported.
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
    check = precision_agreement(sure, logits[sample])
    if compute.precision == "int8":
        return logits, {**work.as_json(), "precision": "int8", "int8_check": check}
    if check["same"] < KEPT * check["checked"]:
        del model
        logits, work = score(load_model(), Compute(compute.device, "fp32"), list(range(count)))
        return logits, {**work.as_json(), "precision": "fp32", "bf16_check": check}
    return logits, {**work.as_json(), "precision": "bf16", "bf16_check": check}


def precision_agreement(sure: np.ndarray, fast: np.ndarray) -> dict[str, Any]:
    """Does the fast precision keep the answers? Both [rows, labels]; the share of rows with the same argmax."""
    equal = sure.argmax(1) == fast.argmax(1)
    return {
        "checked": len(equal),
        "same": int(equal.sum()),
        "largest_difference": float(
            np.abs((sure - sure.max(1, keepdims=True)) - (fast - fast.max(1, keepdims=True))).max()
        ),
    }
