"""The programs that Pyrite is compared with, each at the best setting that we know of; nothing here is Pyrite's.

All take the same text or token ids as our own arm and return one answer per item, in the items' order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

LM_EVAL_BATCHES: tuple[int | str, ...] = (4, 16, 32)
"""lm-eval's own "auto" chose 64 on the machine of the log and spent half a minute finding it; 1, 2, 8 and 64 were not faster."""
TRAINER_BATCHES = (8, 32, 128)
TRAINER_DEFAULT_BATCH = 8
PLAIN = ("left, shared", "right, shared", "left, per word", "right, per word")


# --- scoring label words ---------------------------------------------------------------------------------------------


def lm_eval_model(folder: str, dtype: str, *, softmax_dtype: str | None = None) -> Any:
    """lm-evaluation-harness's `hf` backend on the device that torch has, with its own defaults but for `dtype`.

    Its logits cache is on (its default): one-token continuations of a context share a forward pass. `softmax_dtype`
    None is its default too, and its fastest: log-probabilities in the model's dtype.
    """
    import torch
    from lm_eval.models.huggingface import HFLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return HFLM(pretrained=folder, dtype=dtype, device=device, softmax_dtype=softmax_dtype, trust_remote_code=False)


def lm_eval_scores(
    lm: Any, prompts: Sequence[str], words: Sequence[str], batch: int | str
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Log-probability of each word after each prompt [prompts, words], by loglikelihood requests."""
    from lm_eval.api.instance import Instance

    lm.batch_size_per_gpu, lm.batch_schedule = batch, 1
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=(prompt, word), idx=at)
        for prompt in prompts
        for at, word in enumerate(words)
    ]
    found = lm.loglikelihood(asked, disable_tqdm=True)
    return np.array([score for score, _ in found], dtype=np.float32).reshape(len(prompts), len(words))


def plain_scores(
    model: Any, tokenizer: Any, prompts: Sequence[str], words: Sequence[str], how: str, batch: int = 32
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The same, as one writes it with transformers alone: batches of 32 in file order, padded to the longest.

    A word of several tokens is read in one forward pass of prompt + word, with the output layer applied only where the
    word is predicted (left padding: `logits_to_keep`; right padding: the hidden states at those places, and then
    causal attention needs no mask). `how`: "left" or "right"; "shared": words of one token are read off a pass that is
    made anyway; "per word": a pass for each word. The benchmark takes the fastest of the four.
    """
    import torch

    side, sharing = how.split(", ")
    word_ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    longer = [ids for ids in word_ids if len(ids) > 1]
    passes = (longer or word_ids[:1]) if sharing == "shared" else word_ids
    scores = np.zeros((len(prompts), len(words)), dtype=np.float32)
    with torch.inference_mode():
        for first in range(0, len(prompts), batch):
            ids = tokenizer(list(prompts[first : first + batch]))["input_ids"]
            for given in passes:
                rows = [row + given[:-1] for row in ids]
                logp = predicted(model, tokenizer.pad_token_id, rows, len(given), side).float().log_softmax(-1)
                for column, word in enumerate(word_ids):
                    if word == given or (sharing == "shared" and len(word) == 1 and given is passes[0]):
                        steps = [logp[:, at, token] for at, token in enumerate(word)]
                        scores[first : first + batch, column] = torch.stack(steps).sum(0).cpu().numpy()
    return scores


def predicted(model: Any, pad: int, rows: Sequence[Sequence[int]], keep: int, side: str) -> Any:
    """The logits at the last `keep` places of each row [rows, keep, vocabulary]."""
    import torch

    longest = max(len(row) for row in rows)
    lengths = torch.tensor([len(row) for row in rows])
    if side == "right":
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=model.device)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        at = (lengths[:, None] - keep + torch.arange(keep)[None]).to(model.device)
        return model.lm_head(hidden[torch.arange(len(rows), device=model.device)[:, None], at])
    ids = torch.tensor([[*[pad] * (longest - len(row)), *row] for row in rows], device=model.device)
    mask = (torch.arange(longest)[None] >= longest - lengths[:, None]).long().to(model.device)
    place = (mask.cumsum(-1) - 1).clamp(min=0)
    return model(input_ids=ids, attention_mask=mask, position_ids=place, use_cache=False, logits_to_keep=keep).logits


def trainer_logits(
    model: Any, tokenizer: Any, ids: Sequence[Sequence[int]], *, batch: int, bf16: bool, folder: str
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A classifier's logits by `Trainer.predict`, padded per batch (its usual collator), in file order.

    `bf16` is its `bf16_full_eval`, which turns the model's weights to bf16 for good: pass a copy.
    """
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    options = TrainingArguments(
        output_dir=folder,
        per_device_eval_batch_size=batch,
        bf16_full_eval=bf16,
        use_cpu=not torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=options, data_collator=DataCollatorWithPadding(tokenizer))
    rows = [{"input_ids": list(row), "attention_mask": [1] * len(row)} for row in ids]
    return np.asarray(trainer.predict(rows).predictions, dtype=np.float32)


# --- writing text ----------------------------------------------------------------------------------------------------


def until_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The tokens before the first end marker."""
    ends = set(ends)
    at = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:at])


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> dict[str, Any]:
    """Rows of token ids with padding on the left, and their mask."""
    import torch

    longest = max(len(row) for row in rows)
    return {
        "input_ids": torch.tensor([[*[pad] * (longest - len(row)), *row] for row in rows], device=device),
        "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device),
    }


def generate_greedy(
    model: Any, prompts: Sequence[Sequence[int]], *, batch: int, max_new: int, ends: Sequence[int], pad: int
) -> list[list[int]]:
    """Greedy answers by `model.generate` in left-padded batches, in file order; each without its end marker."""
    import torch
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=max_new, do_sample=False, eos_token_id=list(ends), pad_token_id=pad)
    answers: list[list[int]] = []
    with torch.inference_mode():
        for first in range(0, len(prompts), batch):
            given = left_padded(prompts[first : first + batch], pad, model.device)
            out = model.generate(**given, generation_config=config)[:, given["input_ids"].shape[1] :]
            answers += [until_end(row, ends) for row in out.tolist()]
    return answers


def generate_continuous(
    model: Any, prompts: Sequence[Sequence[int]], *, max_new: int, ends: Sequence[int], pad: int, **settings: Any
) -> list[list[int]]:
    """Greedy answers by transformers' own continuous batching (`generate_batch`); each without its end marker.

    Its defaults but for `settings` (fields of its `ContinuousBatchingConfig`). It fails by raising; an answer that is
    missing is an error too.
    """
    from transformers import ContinuousBatchingConfig, GenerationConfig

    config = GenerationConfig(max_new_tokens=max_new, do_sample=False, eos_token_id=list(ends), pad_token_id=pad)
    out = model.generate_batch(
        inputs=[list(prompt) for prompt in prompts],
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(**settings),
        progress_bar=False,
    )
    failed = [found.error for found in out.values() if found.error]
    if failed or len(out) != len(prompts):
        raise RuntimeError(f"{len(out)} of {len(prompts)} answers, {len(failed)} failed: {failed[:1]}")
    return [until_end(found.generated_tokens, ends) for found in out.values()]


def line_limit(breaks: Sequence[int], lines: int) -> Any:
    """A stopping rule of `model.generate`: a sequence is done with the token that ends its last line.

    So that the peer need not write on where our sampler stops.
    """
    import torch
    from transformers import StoppingCriteria

    class Lines(StoppingCriteria):
        """Counts line breaks as they come."""

        def __init__(self) -> None:
            self.breaks = torch.tensor(sorted(breaks))
            self.seen: Any = 0

        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            self.seen = self.seen + torch.isin(input_ids[:, -1], self.breaks.to(input_ids.device)).long()
            return self.seen >= lines

    return Lines()


def generate_sampled(
    model: Any,
    jobs: Sequence[tuple[Sequence[int], int]],
    *,
    max_new: int,
    temperature: float,
    top_p: float,
    ends: Sequence[int],
    pad: int,
    breaks: Sequence[int],
    lines: int,
    seed: int,
) -> list[list[int]]:
    """Sampled texts by `model.generate(do_sample=True)`: a batch runs until its last sequence is done.

    One prompt a batch, so nothing is padded; `top_k=0` because ours keeps all tokens too (and it is less work). A text
    ends at the marker, or with the token that ends its last line; both are counted off as our sampler does.
    """
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList

    config = GenerationConfig(
        max_new_tokens=max_new,
        do_sample=True,
        temperature=temperature,
        top_p=top_p,
        top_k=0,
        eos_token_id=list(ends),
        pad_token_id=pad,
    )
    torch.manual_seed(seed)
    texts: list[list[int]] = []
    with torch.inference_mode():
        for prompt, count in jobs:
            ids = torch.tensor([list(prompt)], device=model.device).expand(count, -1)
            rules = StoppingCriteriaList([line_limit(breaks, lines)]) if lines else None
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                stopping_criteria=rules,
            )
            texts += [sampled_part(row, ends, breaks, lines) for row in out[:, len(prompt) :].tolist()]
    return texts


def sampled_part(ids: Sequence[int], ends: Sequence[int], breaks: Sequence[int], lines: int) -> list[int]:
    """The tokens before the end marker and before the token that ends the last line."""
    kept, seen = until_end(ids, ends), 0
    breaks = set(breaks)
    for at, token in enumerate(kept):
        seen += token in breaks
        if lines and seen >= lines:
            return kept[:at]
    return kept
