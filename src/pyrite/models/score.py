"""Which label does a model give to each row? Classifiers by their head, language models by their label words."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyrite.models.hardware import Compute

TOKENS_PER_BATCH = 4096


def batches(lengths: Sequence[int], tokens: int = TOKENS_PER_BATCH) -> list[list[int]]:
    """Row numbers in batches of at most `tokens` padded tokens, rows of similar length together, longest first."""
    order = sorted(range(len(lengths)), key=lambda at: (-lengths[at], at))
    made: list[list[int]] = []
    for at in order:
        if made and lengths[made[-1][0]] * (len(made[-1]) + 1) <= tokens:
            made[-1].append(at)
        else:
            made.append([at])
    return made


def class_logits(
    model: Any,
    ids: Sequence[Sequence[int]],
    *,
    order: Sequence[int],
    pad_id: int,
    compute: Compute,
    tick: Callable[[float, float, str], None],
) -> np.ndarray:
    """A classifier's logits for each row [rows, labels], in the order of the rows and of our labels."""
    import torch

    logits = np.zeros((len(ids), len(order)), dtype=np.float32)
    done = 0
    with torch.inference_mode(), compute.autocast():
        for batch in batches([len(row) for row in ids]):
            longest = max(len(ids[at]) for at in batch)
            tokens = torch.full((len(batch), longest), pad_id)
            mask = torch.zeros((len(batch), longest), dtype=torch.long)
            for row, at in enumerate(batch):
                tokens[row, : len(ids[at])] = torch.tensor(ids[at])
                mask[row, : len(ids[at])] = 1
            out = model(input_ids=tokens.to(model.device), attention_mask=mask.to(model.device)).logits
            logits[batch] = out.float().cpu().numpy()[:, list(order)]
            done += sum(len(ids[at]) for at in batch)
            tick(done, sum(len(row) for row in ids), "tokens")
    return logits


def label_word_logits(
    model: Any,
    prompts: Sequence[Sequence[int]],
    words: Sequence[Sequence[int]],
    *,
    compute: Compute,
    tick: Callable[[float, float, str], None],
) -> np.ndarray:
    """A language model's log-probability of each label word after each prompt [rows, labels], in nats.

    `words` are the label words' token ids; a word of several tokens counts with the sum over them. Rows of equal
    length share a batch, so nothing is padded.
    """
    import torch

    scores = np.zeros((len(prompts), len(words)), dtype=np.float32)
    groups: dict[int, list[int]] = {}
    for at, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(at)
    done, total = 0, sum(len(prompt) for prompt in prompts)
    with torch.inference_mode(), compute.autocast():
        for length, rows in sorted(groups.items()):
            size = max(1, TOKENS_PER_BATCH // (length + max(len(word) for word in words)))
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                for column, word in enumerate(words):
                    given = torch.tensor([[*prompts[at], *word[:-1]] for at in part], device=model.device)
                    out = model(input_ids=given, logits_to_keep=len(word)).logits.float().log_softmax(-1)
                    target = torch.tensor(list(word), device=model.device).expand(len(part), -1)
                    scores[part, column] = out.gather(-1, target[..., None])[..., 0].sum(-1).cpu().numpy()
                done += length * len(part)
                tick(done, total, "tokens")
    return scores
