"""Continuations are what each prompt gets alone, greedy and sampled, whoever else is in the batch."""

import numpy as np
import pytest
import torch
import transformers
from tests.models.test_score import build

import pyrite.models.generate
from pyrite.models.generate import generate, sample
from pyrite.models.hardware import Compute
from pyrite.models.rows import RowReader
from pyrite.models.sampling import Drawing, sample_rows

END = (2,)


def prompts(count: int = 17, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    start = rng.integers(3, 97, 6).tolist()
    return [[*start, *rng.integers(3, 97, rng.integers(1, 30)).tolist()] for _ in range(count)]


def written(model: torch.nn.Module, prompt_list: list[list[int]], **options: object) -> list[tuple[list[int], bool]]:
    arguments = {"max_new_tokens": 90, "end_ids": END, **options}
    by_number = dict(generate(model, prompt_list, **arguments))
    assert sorted(by_number) == list(range(len(prompt_list)))
    return [(by_number[at].ids, by_number[at].ended) for at in range(len(prompt_list))]


def library(model: torch.nn.Module, prompt: list[int], limit: int = 90) -> tuple[list[int], bool]:
    ids = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        max_new_tokens=limit, eos_token_id=list(END), pad_token_id=0,
    )[0].tolist()[len(prompt) :]  # fmt: skip
    return (ids[:-1], True) if ids[-1] in END else (ids, False)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "gpt_neox"])
@pytest.mark.parametrize("share", [True, False])
def test_greedy_text_is_the_librarys(kind: str, share: bool) -> None:
    model, prompt_list = build(kind), prompts()
    texts = written(model, prompt_list, share_prefix=share)
    assert texts == [library(model, prompt) for prompt in prompt_list]


def test_greedy_text_ends_at_the_marker_sometimes() -> None:
    model, prompt_list = build("llama"), prompts(40)
    ends = [ended for _, ended in written(model, prompt_list, end_ids=tuple(range(2, 6)))]
    assert 0 < sum(ends) < 40 or all(ends)


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_text_does_not_depend_on_the_batch_or_the_order(rows: int, temperature: float) -> None:
    model, prompt_list = build("llama"), prompts()
    seeds = [[7, at] for at in range(len(prompt_list))]
    ends = tuple(range(2, 8))  # so that sequences leave at different times
    options = {"end_ids": ends, "drawing": Drawing(temperature, 0.9)}
    together = written(model, prompt_list, seeds=seeds, **options)
    assert len({len(ids) for ids, _ in together}) > 4
    order = np.random.default_rng(1).permutation(len(prompt_list)).tolist()
    mixed = written(model, [prompt_list[at] for at in order], seeds=[seeds[at] for at in order], rows=rows, **options)
    assert mixed == [together[at] for at in order]


@pytest.mark.parametrize("rows", [9, 64])
@pytest.mark.parametrize("aside", [4, 64, 1000])
def test_beginnings_of_many_are_read_once_and_change_no_text(
    rows: int, aside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rng, computed = build("llama"), np.random.default_rng(3), []
    starts = [rng.integers(3, 97, size).tolist() for size in (70, 80, 75)]
    prompt_list = [
        [*start, *rng.integers(3, 97, 5 * (at % 3)).tolist()] for start in starts for at in range(20)
    ] + prompts(7)
    order = rng.permutation(len(prompt_list)).tolist()
    prompt_list = [prompt_list[at] for at in order]
    alone = [written(model, [prompt], max_new_tokens=12)[0] for prompt in prompt_list]
    monkeypatch.setattr(pyrite.models.generate, "PREFIX", aside)
    prefix = RowReader.prefix
    monkeypatch.setattr(RowReader, "prefix", lambda self, ids: (computed.append(list(ids)), prefix(self, ids))[1])
    assert written(model, prompt_list, max_new_tokens=12, rows=rows) == alone
    # whole prompts are among them: a token of each stays outside
    assert sorted(map(len, computed)) == [6, 69, 74, 79]


def test_each_prompt_has_its_own_limit_and_stop() -> None:
    model, prompt_list = build("llama"), prompts(6)
    limits = [1, 5, 2, 90, 7, 3]
    texts = written(
        model, prompt_list, max_new_tokens=limits, end_ids=(), ended=lambda at, ids: at == 3 and len(ids) == 11
    )
    assert [len(ids) for ids, _ in texts] == [1, 5, 2, 11, 7, 3]
    assert [ended for _, ended in texts] == [False, False, False, True, False, False]


def test_a_model_that_cannot_be_read_row_by_row_writes_the_same_way() -> None:
    config = transformers.Gemma2Config(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Gemma2ForCausalLM(config).eval()
    prompt_list = prompts(4)
    assert written(model, prompt_list, max_new_tokens=12) == [library(model, prompt, 12) for prompt in prompt_list]


def test_sampled_tokens_follow_the_distribution() -> None:
    probs = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    scaled = probs.log().expand(4000, -1)
    uniform = torch.from_numpy(np.random.default_rng(0).random(4000))
    share = torch.bincount(sample_rows(scaled, uniform, 1.0), minlength=5) / 4000
    assert torch.allclose(share, probs, atol=0.025)
    nucleus = torch.bincount(sample_rows(scaled, uniform, 0.8), minlength=5) / 4000
    assert torch.allclose(nucleus, torch.tensor([0.5, 0.2, 0.15, 0, 0]) / 0.85, atol=0.025)
    assert nucleus[3:].sum() == 0


def test_a_flat_distribution_over_a_large_vocabulary_uses_all_of_it() -> None:
    scaled = torch.zeros(300, 5000)
    uniform = torch.from_numpy(np.random.default_rng(0).random(300))
    drawn = sample_rows(scaled, uniform, 1.0)
    assert drawn.max() > 4000
    assert len(set(drawn.tolist())) > 250
    assert len(set(sample_rows(scaled, uniform, 0.5).tolist())) > 200


def test_mean_logprob_is_the_models_own() -> None:
    model = build("llama")
    (sampled,) = sample(
        model, prompts(1), seeds=[[3]], max_new_tokens=6, temperature=1.0, top_p=1.0, end_ids=(), compute=Compute("cpu", "fp32")
    )  # fmt: skip
    ids = [*prompts(1)[0], *sampled.ids]
    with torch.inference_mode():
        logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    want = [float(logp[at - 1, ids[at]]) for at in range(len(ids) - 6, len(ids))]
    assert sampled.mean_logprob == pytest.approx(np.mean(want), abs=1e-4)


def test_lines_end_a_sample() -> None:
    model = build("llama")
    samples = sample(
        model, prompts(1) * 9, seeds=[[at] for at in range(9)], max_new_tokens=60, temperature=2.0, top_p=1.0, end_ids=(),
        compute=Compute("cpu", "fp32"), newline_ids=list(range(20, 40)), max_lines=2,
    )  # fmt: skip
    assert all(sampled.ended for sampled in samples)
    assert all(sum(20 <= token < 40 for token in sampled.ids) == 1 for sampled in samples)


def test_a_later_refill_writes_what_one_prompt_alone_gets() -> None:
    model, prompt_list = build("llama"), prompts(30, seed=5)
    alone = [written(model, [prompt])[0] for prompt in prompt_list]
    assert written(model, prompt_list, rows=4) == alone
