"""Row-wise reading says what the library's own forward pass says, whatever the batch, the order and the prefix."""

import numpy as np
import pytest
import torch
import transformers

from pyrite.models.continuations import continuations, library_continuations
from pyrite.models.hardware import Compute
from pyrite.models.prefix import Shared, group
from pyrite.models.rows import RowReader, Unreadable
from pyrite.models.score import class_logits, label_word_logits
from pyrite.models.trees import ContinuationRequest, packed, prefix_groups
from pyrite.models.work import Work, length_batches

FP32 = Compute("cpu", "fp32")
SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ARCHITECTURES = {
    "llama": {"num_key_value_heads": 2, "max_position_embeddings": 256},
    "qwen2": {"num_key_value_heads": 2, "max_position_embeddings": 256},
    "qwen3": {"num_key_value_heads": 2, "max_position_embeddings": 256, "head_dim": 8},
    "mistral": {"num_key_value_heads": 1, "max_position_embeddings": 256, "sliding_window": 6},
    "gemma": {"num_key_value_heads": 1, "max_position_embeddings": 256, "head_dim": 8},
    "gpt_neox": {"max_position_embeddings": 256},
    "phi3": {"num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0},
    "olmo2": {"num_key_value_heads": 2, "max_position_embeddings": 256},
}


def report_progress(finished: float, total: float, unit: str) -> None:
    assert finished <= total


def build(kind: str, head: str = "CausalLM", **settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **ARCHITECTURES[kind], **settings})
    model = getattr(transformers, f"AutoModelFor{head}").from_config(config).eval()
    with torch.no_grad():  # fresh models say nearly the same to everything: spread their answers
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(6)
    return model


def some_asks(seed: int = 0, rows: int = 23) -> list[ContinuationRequest]:
    rng = np.random.default_rng(seed)
    start = tuple(rng.integers(3, 97, 9).tolist())
    asks = []
    for _ in range(rows):
        context = (*start, *rng.integers(3, 97, rng.integers(1, 14)).tolist())
        sizes = rng.integers(1, 4, rng.integers(1, 4))
        asks.append(ContinuationRequest(context, tuple(tuple(rng.integers(3, 97, size).tolist()) for size in sizes)))
    return [*asks, asks[0], asks[3]]


def by_hand(model: torch.nn.Module, ask: ContinuationRequest) -> list[tuple[float, bool]]:
    rows_of_ask = []
    for continuation in ask.continuations:
        with torch.inference_mode():
            logits = model(torch.tensor([[*ask.context, *continuation]])).logits[0].float()
        rows = logits[len(ask.context) - 1 : -1]
        logprob = rows.log_softmax(-1)[torch.arange(len(continuation)), torch.tensor(continuation)].sum()
        rows_of_ask.append((float(logprob), rows.argmax(-1).tolist() == list(continuation)))
    return rows_of_ask


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_continuations_agree_with_the_models_own_forward_pass(kind: str) -> None:
    model, asks = build(kind), some_asks()
    assert RowReader(model)
    results, work = continuations(model, asks, report_progress=report_progress)
    for ask, row in zip(asks, results, strict=True):
        for followed, (logprob, greedy) in zip(row, by_hand(model, ask), strict=True):
            assert followed.logprob == pytest.approx(logprob, abs=2e-4)
            assert followed.greedy == greedy
    assert work.rows == len(asks)
    assert work.distinct == len(asks) - 2
    assert work.computed < work.given_tokens


@pytest.mark.parametrize("batch_tokens", [1, 17, 64, 10_000])
def test_neither_batch_size_nor_order_changes_a_score(batch_tokens: int) -> None:
    model, asks = build("llama"), some_asks()
    reference, _ = continuations(model, asks, report_progress=report_progress)
    order = np.random.default_rng(1).permutation(len(asks))
    mixed, _ = continuations(
        model, [asks[at] for at in order], report_progress=report_progress, batch_tokens=batch_tokens
    )
    for at, row in zip(order, mixed, strict=True):
        assert [followed.greedy for followed in row] == [followed.greedy for followed in reference[at]]
        assert [followed.logprob for followed in row] == pytest.approx(
            [followed.logprob for followed in reference[at]], abs=2e-5
        )


def test_greedy_is_true_for_what_the_model_would_write() -> None:
    model = build("llama")
    context = (5, 9, 11)
    ids = list(context)
    for _ in range(4):
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    results, _ = continuations(
        model, [ContinuationRequest(context, (tuple(ids[3:]), (ids[3], 96 - ids[4])))], report_progress=report_progress
    )
    assert [followed.greedy for followed in results[0]] == [True, False]


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt_neox"])
def test_questions_about_one_passage_share_it_and_never_see_each_other(kind: str) -> None:
    model, rng = build(kind), np.random.default_rng(4)
    passages = [tuple(rng.integers(3, 97, 30).tolist()) for _ in range(3)]
    asks = [
        ContinuationRequest(
            (*passage, *rng.integers(3, 97, size).tolist()), ((7, 9), (11,), tuple(rng.integers(3, 97, 3).tolist()))
        )
        for size in (4, 4, 6, 1)
        for passage in passages
    ]
    results, work = continuations(model, asks, report_progress=report_progress)
    for ask, row in zip(asks, results, strict=True):
        for followed, (logprob, greedy) in zip(row, by_hand(model, ask), strict=True):
            assert followed.logprob == pytest.approx(logprob, abs=2e-4)
            assert followed.greedy == greedy
    assert work.computed == 3 * 30 + sum(ask.tokens - 30 for ask in asks)


def test_rows_share_a_beginning_only_where_that_saves_enough_and_their_ends_stay_short() -> None:
    start = tuple(range(20))
    asks = [ContinuationRequest((*start, 50 + at, *range(at)), ((1,),)) for at in range(40)]
    groups = prefix_groups(asks, range(40), 0, 16)
    assert sorted(at for row in groups for at in row.members) == list(range(40))
    assert all(sum(asks[at].tokens - row.shared for at in row.members) <= 96 for row in groups if len(row.members) > 1)
    assert {row.shared for row in groups if len(row.members) > 1} == {20}
    assert [row.members for row in prefix_groups(asks[:2], range(2), 0, 21)] == [(0,), (1,)]  # 20 tokens would be saved
    assert len(prefix_groups(asks[:2], range(2), 0, 20)) == 1


def test_label_words_differ_from_full_scores_by_one_constant_a_row() -> None:
    model = build("llama")
    rng = np.random.default_rng(2)
    prompts = [rng.integers(3, 97, size).tolist() for size in (5, 9, 9, 2, 14)]
    words = [(4, 8), (7,), (9, 3, 5)]
    requests = [ContinuationRequest(tuple(prompt), tuple(words)) for prompt in prompts]
    scores, work = label_word_logits(model, requests, report_progress=report_progress)
    full = np.array(
        [[logprob for logprob, _ in by_hand(model, ContinuationRequest(tuple(row), tuple(words)))] for row in prompts]
    )
    apart = scores - full
    np.testing.assert_allclose(apart, np.repeat(apart[:, :1], 3, 1), atol=2e-4)
    assert work.head == len(prompts) * 3  # the positions inside words; none after the prompts


def test_a_model_that_cannot_be_read_row_by_row_is_read_plainly() -> None:
    config = transformers.GPTNeoConfig(
        vocab_size=97, hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global"], 2]], window_size=8,
        max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GPTNeoForCausalLM(config).eval()
    with pytest.raises(Unreadable):
        RowReader(model)
    asks = some_asks(rows=6)
    results, _ = continuations(model, asks, report_progress=report_progress)
    for ask, row in zip(asks, results, strict=True):
        assert [followed.logprob for followed in row] == pytest.approx(
            [value for value, _ in by_hand(model, ask)], abs=2e-4
        )


def test_a_soft_cap_is_not_silently_dropped() -> None:
    config = transformers.Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=8, max_position_embeddings=64)
    with pytest.raises(Unreadable):
        RowReader(transformers.Gemma2ForCausalLM(config).eval())


def test_plain_and_row_wise_reading_agree() -> None:
    model, asks = build("llama"), some_asks()
    fast, _ = continuations(model, asks, report_progress=report_progress)
    slow = library_continuations(model, asks, Work(), report_progress)
    for fast_row, slow_row in zip(fast, slow, strict=True):
        assert [x.logprob for x in fast_row] == pytest.approx([x.logprob for x in slow_row], abs=2e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_decoders_classification_head_reads_the_last_token(kind: str) -> None:
    model = build(kind, "SequenceClassification", num_labels=3, pad_token_id=0)
    rng = np.random.default_rng(0)
    ids = [[5, 6, 7, *rng.integers(3, 97, size).tolist()] for size in (4, 1, 9, 9, 2)]
    ids.append(ids[2])
    scores, work = class_logits(model, ids, order=[2, 0, 1], pad_id=0, compute=FP32, report_progress=report_progress)
    for row, row_scores in zip(ids, scores, strict=True):
        with torch.inference_mode():
            want = model(torch.tensor([row])).logits[0]
        np.testing.assert_allclose(row_scores, want[[2, 0, 1]].numpy(), atol=2e-4)
    assert work.distinct == 5


def test_an_encoder_is_read_without_mask_where_lengths_agree() -> None:
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(**SMALL, num_labels=3, max_position_embeddings=64, pad_token_id=0)
    ).eval()
    rng = np.random.default_rng(0)
    ids = [rng.integers(3, 97, size).tolist() for size in (4, 1, 9, 9, 2, 9)]
    batched, _ = class_logits(model, ids, order=[0, 1, 2], pad_id=0, compute=FP32, report_progress=report_progress)
    alone, _ = class_logits(
        model, ids, order=[0, 1, 2], pad_id=0, compute=FP32, report_progress=report_progress, batch_tokens=1
    )
    np.testing.assert_allclose(batched, alone, atol=1e-5)


def test_batches_hold_every_row_once_and_keep_to_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 200).tolist()
    groups = length_batches(lengths, 256)
    assert sorted(at for batch in groups for at in batch) == list(range(200))
    assert all(max(lengths[at] for at in batch) * len(batch) <= 256 for batch in groups)
    padded = sum(max(lengths[at] for at in batch) * len(batch) for batch in groups)
    assert padded <= 1.05 * sum(lengths)
    asks = [ContinuationRequest(tuple(range(length + 3)), ((1,), (2, 3))) for length in lengths]
    groups = packed(asks, prefix_groups(asks, range(200), 3, 16), 3, 100)
    assert sorted(at for batch in groups for _, row in batch for at in row.members) == list(range(200))
    sizes = [[sum(size for _, size in segments) for segments, _ in batch] for batch in groups]
    assert all(sum(batch) <= 100 or len(batch) == 1 for batch in sizes)
    assert sum(map(sum, sizes)) < sum(length + 1 for length in lengths)  # these contexts begin alike


def test_rows_are_grouped_by_the_prefix_that_saves_most() -> None:
    first_prefix, second_prefix = list(range(500)), [1, *range(700, 1100)]
    rows = [[1, *first_prefix, at] for at in range(30)] + [[*second_prefix, at] for at in range(20)] + [[1, 2000]]
    groups = group(rows, overhead=100)
    assert {(shared.prefix, len(shared.rows)) for shared in groups} == {(501, 30), (401, 20), (0, 1)}
    assert group(rows, overhead=10**6) == [Shared(tuple(sorted(range(51), key=lambda at: rows[at])), 1)]
    assert group([], 10) == []
    assert group([[4, 5]], 10) == [Shared((0,), 0)]
    assert [shared.prefix for shared in group([[4, 5], [4, 5]], 0)] == [1]  # a token of each row stays outside
