"""Embeddings say what the plain library says, whatever the batch, the order and how often a text occurs."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from pyrite.errors import UserError
from pyrite.models import load, packaged
from pyrite.models.embed import hidden_state_embeddings, sentence_embeddings, side_by_side
from pyrite.models.hardware import Compute

FP32 = Compute("cpu", "fp32")
TEXTS = [
    "the film was lovely",
    "",
    "the meal 4 was awful and the song was cold and the walk was dark",
    "the film was lovely",
    "שלום עולם 你好 \x00 \U0001f9ff \ud83d ok",
    "a",
    "the room " * 200,
]


def report_progress(finished: float, total: float, unit: str) -> None:
    assert finished <= total


def test_mean_pooling_as_by_hand_with_the_library(tiny_encoder: Path) -> None:
    model = transformers.AutoModel.from_pretrained(tiny_encoder).eval()
    tokenizer = load.load_tokenizer(tiny_encoder)
    vectors = sentence_embeddings(
        tiny_encoder, TEXTS[:3], compute=FP32, max_tokens=128, report_progress=report_progress
    )
    for text, vector in zip(TEXTS[:3], vectors, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            mean = model(input_ids=ids).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_order_batches_and_repetition_change_nothing(tiny_encoder: Path) -> None:
    vectors = sentence_embeddings(tiny_encoder, TEXTS, compute=FP32, report_progress=report_progress)
    assert vectors.shape == (len(TEXTS), 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[0], vectors[3])
    assert not np.allclose(vectors[0], vectors[2], atol=1e-3)
    for tokens in (1, 40, 100_000):
        back = sentence_embeddings(
            tiny_encoder, TEXTS[::-1], compute=FP32, report_progress=report_progress, batch_tokens=tokens
        )
        np.testing.assert_allclose(back[::-1], vectors, atol=1e-5)


def test_only_the_first_tokens_are_read(tiny_encoder: Path) -> None:
    long = "the room was warm " * 60
    vectors = sentence_embeddings(
        tiny_encoder, [long, long + "awful"], compute=FP32, max_tokens=16, report_progress=report_progress
    )
    assert np.array_equal(vectors[0], vectors[1])
    longer = sentence_embeddings(tiny_encoder, [long], compute=FP32, max_tokens=24, report_progress=report_progress)
    assert not np.allclose(vectors[0], longer[0], atol=1e-4)
    huge = sentence_embeddings(
        tiny_encoder, ["x" * 2_000_000], compute=FP32, report_progress=report_progress
    )  # 128 positions at most
    assert np.isfinite(huge).all()


def test_no_texts_and_no_room(tiny_encoder: Path) -> None:
    assert sentence_embeddings(tiny_encoder, [], compute=FP32, report_progress=report_progress).shape == (0, 32)
    with pytest.raises(UserError, match="three tokens"):
        sentence_embeddings(tiny_encoder, ["a"], compute=FP32, max_tokens=2, report_progress=report_progress)


def test_weights_that_are_not_safetensors_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_encoder / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="safetensors only"):
        sentence_embeddings(tmp_path, ["a"], compute=FP32, report_progress=report_progress)


def test_hidden_states_are_the_mean_of_each_text_alone(tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load.load_causal(tiny_causal, FP32), load.load_tokenizer(tiny_causal)
    vectors = hidden_state_embeddings(model, tokenizer, TEXTS, report_progress=report_progress)
    assert np.array_equal(vectors[0], vectors[3])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(TEXTS[:3], vectors, strict=False):
        ids = torch.tensor([tokenizer(text)["input_ids"] or [tokenizer.bos_token_id]])
        with torch.inference_mode():
            mean = model.base_model(input_ids=ids).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    small = hidden_state_embeddings(model, tokenizer, TEXTS, report_progress=report_progress, batch_tokens=1)
    np.testing.assert_allclose(small, vectors, atol=1e-5)
    monkeypatch.setattr("pyrite.models.embed.reader_of", lambda model: None)
    np.testing.assert_allclose(
        hidden_state_embeddings(model, tokenizer, TEXTS, report_progress=report_progress), vectors, atol=1e-5
    )


def test_side_by_side_fills_batches() -> None:
    assert side_by_side([2, 5, 2, 9, 1], 6) == [[3], [1], [0, 2, 4]]
    assert side_by_side([], 6) == []


@pytest.mark.packaged
def test_the_packaged_embedder_knows_what_is_alike() -> None:
    if not packaged.is_fetched("minilm-l6"):
        pytest.skip("minilm-l6 is not fetched")
    folder = load.resolve("packaged:minilm-l6").folder
    texts = ["A man is eating a piece of bread.", "Someone eats bread.", "The stock market fell on Monday."]
    a, b, c = sentence_embeddings(folder, texts, compute=FP32, report_progress=report_progress)
    assert a @ b > 0.6
    assert a @ c < 0.2
