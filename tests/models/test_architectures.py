"""Every architecture of the installed library, tiny and drawn at random, against the library's own answers, row by row.

The ones that teams use most are in the everyday suite, the others are slow. What cannot be built this small, or that the
library itself cannot read, is skipped by name.
"""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.models.auto import modeling_auto as auto

from pyrite.errors import UserError
from pyrite.models import load, score
from pyrite.models.continuations import ContinuationRequest, continuations
from pyrite.models.generate import generate
from pyrite.models.hardware import Compute
from pyrite.models.int8 import is_supported, with_int8_layers
from pyrite.models.rows import reader_of
from pyrite.models.score import class_logits

from architectures import LARGEST, LISTED, REWRITE, TABLE, random_rows, table_entry, tiny_config, tiny_model  # isort: skip

CPU = Compute("cpu", "fp32")
EVERYDAY = {
    "bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "xlm-roberta", "xlm-roberta-xl", "camembert", "ernie",
    "big_bird", "mobilebert", "convbert", "nystromformer", "fnet", "canine", "yoso", "bart", "mbart", "mpnet", "modernbert", "xlm",
    "gpt2", "gpt_neox", "opt", "bloom", "llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "olmo2",
    "smollm3", "diffllama", "granite", "cohere", "mamba", "mamba2", "rwkv", "hrm_text", "moshi", "recurrent_gemma", "gpt_oss",
}  # fmt: skip
SLOW_SECONDS = 60


def listed(names: Any) -> list[Any]:
    """Architectures as parameters of a test."""
    return [pytest.param(name, marks=() if name in EVERYDAY else pytest.mark.slow) for name in sorted(names)]


@pytest.fixture(autouse=True)
def not_for_ever(request: pytest.FixtureRequest) -> Iterator[None]:
    """Some rare architectures are slow however small; of everyday ones that is a fault."""

    def give_up(*_: Any) -> None:
        end = pytest.skip if request.node.get_closest_marker("slow") else pytest.fail
        end(f"more than {SLOW_SECONDS} s, however small")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SLOW_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def build(auto_class: Any, model_type: str, **more: Any) -> Any:
    """A tiny model; skips by name where there is none."""
    try:
        with torch.device("meta"):
            size = sum(
                weight.numel() for weight in auto_class.from_config(tiny_config(model_type, **more)).parameters()
            )
        model = tiny_model(auto_class, model_type, **more) if size <= LARGEST else None
    except Exception as error:
        pytest.skip(f"cannot be built this way ({type(error).__name__})")
    if model is None:
        pytest.skip("cannot be made small this way")
    return model


def test_nearly_all_everyday_architectures_are_built() -> None:
    """So that a library's new release, or a mistake in what makes them small, does not turn their tests into skips."""

    def can_be_built(name: str) -> bool:
        with contextlib.suppress(Exception):
            tiny_config(name)
            return True
        return False

    assert [name for name in sorted(EVERYDAY) if not can_be_built(name)] == []


def test_the_table_names_every_architecture_of_the_library() -> None:
    table = json.loads(TABLE.read_text())
    assert {kind: sorted(entries) for kind, entries in table.items()} == {
        kind: sorted(listed) for kind, listed in LISTED.items()
    }, f"docs/models.json is of another release of transformers; run: {REWRITE}"


def logits_alone(model: Any, row: list[int]) -> Any:
    """What the library says of one row by itself; skips by name where it cannot."""
    try:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([row])).logits[0]
    except Exception as error:
        pytest.skip(f"the library cannot read a plain row with it ({type(error).__name__})")


@pytest.mark.parametrize("model_type", listed(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES))
def test_a_classifier_says_what_the_library_says(model_type: str) -> None:
    """Rows of several lengths at once: padded, side by side, or in batches of one length, the labels are those of each row
    alone."""
    with (
        table_entry("classifier", model_type) as entry,
        mock.patch.object(score, "may_pad", wraps=score.may_pad) as pads,
    ):
        model = build(AutoModelForSequenceClassification, model_type, num_labels=3)
        rows = random_rows(8, seed=1)
        alone = torch.stack([logits_alone(model, row) for row in rows]).numpy()
        logits, _ = class_logits(model, rows, order=[0, 1, 2], pad_id=0, compute=CPU, report_progress=lambda *_: None)
        assert np.abs(logits - alone).max() < 1e-4 * max(1.0, float(alone.std()))
        entry.how = "library" if pads.called else "engine"


@pytest.mark.parametrize("model_type", listed(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES))
def test_a_decoder_is_what_reads_left_to_right(model_type: str, tmp_path: Path) -> None:
    """The first position of a decoder knows nothing of the last token; that of an encoder does."""
    model = build(AutoModelForSequenceClassification, model_type, num_labels=3)
    try:
        with torch.inference_mode():
            first, other = (
                model.base_model(input_ids=torch.tensor([[1, 5, 6, last, 2]])).last_hidden_state[0, 0]
                for last in (7, 9)
            )
    except Exception as error:
        pytest.skip(f"its body cannot be read by itself: {type(error).__name__}")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)
    if model_type == "mra":
        pytest.skip("looks at blocks of 32 tokens")
    assert load.is_causal(tmp_path) == bool((first - other).abs().max() < 1e-6)


@pytest.mark.parametrize("model_type", listed(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_a_language_model_says_and_writes_what_the_library_says(model_type: str, tmp_path: Path) -> None:
    """Label words, the likelihood of a text, and twelve greedy tokens, for prompts with a common beginning."""
    with table_entry("language model", model_type) as entry:
        try:
            config = tiny_config(model_type)
        except Exception as error:
            pytest.skip(f"cannot be built this way ({type(error).__name__})")
        has_encoder = bool(getattr(config, "is_encoder_decoder", False))
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "is_encoder_decoder": has_encoder}))
        if not load.is_causal(tmp_path):
            entry.how = "refused: is no decoder as it is saved by default"
            pytest.skip(entry.how)
        model = build(AutoModelForCausalLM, model_type)
        prompts = [[1, 7, 9, 11, 13, 15], [1, 7, 9, 22, 23], [1, 7, 9, 44, 45, 46, 47, 48]]
        labels, text = ((33,), (34,)), (50, 51, 52, 53)
        expected, clear = [], []
        for prompt in prompts:
            after = logits_alone(model, prompt)[-1].float().log_softmax(-1)
            read = logits_alone(model, [*prompt, *text[:-1]])[-len(text) :].float().log_softmax(-1)
            expected.append(
                [float(after[33]), float(after[34]), float(read[torch.arange(len(text)), list(text)].sum())]
            )
            ids = list(prompt)
            while len(ids) < len(prompt) + 12:
                best = logits_alone(model, ids)[-1].float().topk(2)
                if best.values[0] - best.values[1] < 1e-3:
                    break  # a tie within rounding may go either way
                ids.append(int(best.indices[0]))
            clear.append(ids[len(prompt) :])
        asks = [ContinuationRequest(tuple(prompt), (*labels, text)) for prompt in prompts]
        rows, _ = continuations(model, asks, report_progress=lambda *_: None)
        said = np.array([[followed.logprob for followed in row] for row in rows])
        assert np.abs(said - np.array(expected)).max() < 1e-3
        written = dict(generate(model, prompts, max_new_tokens=12, end_ids=[]))
        assert [list(written[at].ids[: len(ids)]) for at, ids in enumerate(clear)] == clear
        entry.how = "library" if reader_of(model) is None else "engine"


@pytest.mark.parametrize("model_type", ["mobilebert", "convbert"])
def test_rows_that_leak_through_the_mask_are_never_padded(model_type: str) -> None:
    """Long rows of nearly one length, of which the shortest alone would not show it."""
    model = build(AutoModelForSequenceClassification, model_type, num_labels=3)
    rows = random_rows(24, seed=3, shortest=40, longest=60)
    alone = torch.stack([logits_alone(model, row) for row in rows]).numpy()
    logits, _ = class_logits(model, rows, order=[0, 1, 2], pad_id=0, compute=CPU, report_progress=lambda *_: None)
    assert (logits.argmax(1) == alone.argmax(1)).all()
    assert np.abs(logits - alone).max() < 1e-4 * max(1.0, float(alone.std()))


@pytest.mark.skipif(not is_supported(), reason="this processor has no VNNI")
@pytest.mark.parametrize("model_type", ["mamba", "rwkv"])
def test_what_looks_at_weights_itself_is_refused_in_int8(model_type: str) -> None:
    with pytest.raises(UserError, match="cannot be read in int8"):
        with_int8_layers(build(AutoModelForCausalLM, model_type))
