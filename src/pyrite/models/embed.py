"""Where does each text lie in a model's space? Sentence embeddings, and mean hidden states of a language model.

Identical texts are read once, longest first in batches of (nearly) one length; results come in the order of the input
and, but for rounding (1e-5 in fp32), do not depend on how texts were batched.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.positions import tokens_read
from pyrite.models.prepack import Prepacked
from pyrite.models.rows import Pass, RowReader, layout, reader_of
from pyrite.models.sentence_modules import Pooling, sentence_modules
from pyrite.models.whole import load_whole
from pyrite.models.work import BATCH_TOKENS, ReportProgress, length_batches, may_pad, unique_rows

Embeddings = np.ndarray[Any, np.dtype[np.float32]]
"""[texts, width], each of unit length."""

CHARACTERS = 64
"""A text is read up to so many characters for each token: a row of 100 MB is cut before the tokenizer sees it."""
AT_ONCE = 1024
"""Texts given to the tokenizer at a time."""


def sentence_embeddings(
    folder: Path,
    texts: Sequence[str],
    *,
    compute: Compute,
    max_tokens: int = 256,
    report_progress: ReportProgress,
    batch_tokens: int | None = None,
) -> Embeddings:
    """What does a sentence embedder make of each text? [texts, width] fp32, unit length, in the order of the texts.

    The last hidden states are averaged over a text's tokens, special tokens included, padding excluded, and scaled to
    unit length: what sentence-transformers does for all-MiniLM-L6-v2 (Reimers and Gurevych 2019, "Sentence-BERT", mean
    pooling). A folder of sentence-transformers is pooled as it says (`sentence_modules`): the mean, the first token (cls),
    the last one, or the largest of each dimension. Only the first `max_tokens` tokens are read, special tokens included
    (256, as that model's own settings say; fewer where the folder says so), out of the first 64 characters for each of them.
    The vector is pooled in fp32; the passes have `compute`'s precision.

    Raises:
        UserError: the folder holds no model, none in safetensors, or a module that is not known.
    """
    import torch
    from transformers import AutoModel

    modules = sentence_modules(folder)
    folder, max_tokens = modules.folder, min(max_tokens, modules.max_tokens or max_tokens)
    if modules.prompt or modules.lower:
        texts = [modules.prompt + (text.lower() if modules.lower else text) for text in texts]
    tokenizer = load.load_tokenizer(folder)
    model = load_whole(AutoModel, folder, head="none", **load.plain_loading(torch.float32)).to(compute.device)
    model, compute = load.for_generation(model, compute)
    unique, numbers = unique_rows(texts)
    room = size_limit(model, tokenizer, max_tokens)
    nothing = next((at for at in (tokenizer.cls_token_id, tokenizer.pad_token_id) if at is not None), 0)
    ids = [row or [nothing] for row in tokenize(tokenizer, unique, room)]
    vectors = np.zeros((len(unique), model.config.get_text_config().hidden_size), dtype=np.float32)
    pad = tokenizer.pad_token_id or 0
    layers = Prepacked(model)
    n_done = 0
    with torch.inference_mode(), compute.autocast():
        lengths = [len(row) for row in ids]

        def read(batch: list[int]) -> Embeddings:
            with layers.active():
                return pooled_states(model, [ids[at] for at in batch], pad, modules.pooling)

        pads = may_pad(model, read, lengths, exact=compute.precision == "fp32")
        for batch in length_batches(lengths, batch_tokens or BATCH_TOKENS[compute.device], pads=pads):
            vectors[batch] = read(batch)
            n_done += len(batch)
            report_progress(n_done, len(unique), "texts")
    return unit_length(vectors)[numbers]


def pooled_states(model: Any, ids: Sequence[Sequence[int]], pad: int, pooling: Pooling | None = None) -> Embeddings:
    """Each row's last hidden states, pooled over its own tokens [rows, width]."""
    import torch

    lengths = torch.tensor([len(row) for row in ids])
    longest = int(lengths.max())
    tokens = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in ids])
    mask = torch.arange(longest) < lengths[:, None]
    masks = {} if bool(mask.all()) else {"attention_mask": mask.long().to(model.device)}
    states = model(input_ids=tokens.to(model.device), **masks).last_hidden_state.float()
    weights = mask.to(model.device).float()
    if pooling == "cls":
        pooled = states[:, 0]
    elif pooling == "lasttoken":
        pooled = states[torch.arange(len(ids)), lengths.to(states.device) - 1]
    elif pooling == "max":
        pooled = states.masked_fill(weights[..., None] == 0, -torch.inf).amax(1)
    else:
        pooled = torch.einsum("rtw,rt->rw", states, weights) / weights.sum(1, keepdim=True)
    vectors: Embeddings = pooled.cpu().numpy()
    return vectors


def hidden_state_embeddings(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_tokens: int = 256,
    report_progress: ReportProgress,
    batch_tokens: int | None = None,
) -> Embeddings:
    """Where does each text lie in a language model's own space? [texts, width] fp32, unit length, in the texts' order.

    The mean of the last hidden states (after the final norm) over a text's tokens, as in the paper's comparison of
    synthetic and human data; scaled to unit length here, so that distances are angles. `model` is a causal model in
    evaluation mode. Texts are read side by side without padding where the model allows it, else one by one. An empty
    text is read as the token that begins or ends a text.
    """
    import torch

    unique, numbers = unique_rows(texts)
    room = size_limit(model, tokenizer, max_tokens)
    nothing = next((at for at in (tokenizer.bos_token_id, tokenizer.eos_token_id) if at is not None), 0)
    ids = [row or [nothing] for row in tokenize(tokenizer, unique, room)]
    vectors = np.zeros((len(unique), model.config.get_text_config().hidden_size), dtype=np.float32)
    n_done = 0
    with torch.inference_mode():
        reader = reader_of(model)
        for batch in side_by_side([len(row) for row in ids], batch_tokens or BATCH_TOKENS[model.device.type]):
            rows = [ids[at] for at in batch]
            states = [plain_states(model, row) for row in rows] if reader is None else flat_states(reader, rows)
            vectors[batch] = torch.stack([state.float().mean(0) for state in states]).cpu().numpy()
            n_done += len(batch)
            report_progress(n_done, len(unique), "texts")
    return unit_length(vectors)[numbers]


def flat_states(reader: RowReader, ids: Sequence[Sequence[int]]) -> Sequence[Any]:
    """The last hidden states of each row, [tokens, width] each, from one pass without padding."""
    import torch

    lengths = [len(row) for row in ids]
    flat = torch.tensor([token for row in ids for token in row], device=reader.device)
    positions = torch.cat([torch.arange(length, device=reader.device) for length in lengths])
    states = reader.hidden(flat, positions, Pass(layout(lengths, 0, reader.device)))
    per_row: Sequence[Any] = states.split(lengths)
    return per_row


def plain_states(model: Any, ids: Sequence[int]) -> Any:
    """The last hidden states of one row, by the library's own forward pass."""
    import torch

    tokens = torch.tensor([list(ids)], device=model.device)
    return model(input_ids=tokens, use_cache=False, output_hidden_states=True).hidden_states[-1][0]


def side_by_side(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Row numbers in batches of at most `tokens` tokens (at least one row), longest first, so that equals are neighbours."""
    groups: list[list[int]] = []
    room = 0
    for at in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        if not groups or lengths[at] > room:
            groups.append([])
            room = tokens
        groups[-1].append(at)
        room -= lengths[at]
    return groups


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """The first `max_tokens` tokens of each text, special tokens included. Halves of surrogate pairs become '?'."""
    ids: list[list[int]] = []
    for first in range(0, len(texts), AT_ONCE):
        chunk = [text[: CHARACTERS * max_tokens] for text in texts[first : first + AT_ONCE]]
        chunk = [text.encode("utf-8", "replace").decode("utf-8") for text in chunk]
        ids += tokenizer(chunk, truncation=True, max_length=max_tokens, padding=False)["input_ids"]
    return ids


def size_limit(model: Any, tokenizer: Any, max_tokens: int) -> int:
    """How many tokens of a text are read: as asked for, but no more than the model and its tokenizer can take."""
    if max_tokens < 3:
        detail = f"max_tokens={max_tokens}"
        raise UserError("A text needs room for at least three tokens.", detail, "allow more tokens, 256 say")
    return tokens_read(max_tokens, model.config, tokenizer)


def unit_length(points: Embeddings) -> Embeddings:
    """Scale every row to length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(points.astype(np.float64), axis=1, keepdims=True)
    scaled: Embeddings = (points / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled
