"""What only a GPU shows; skips by name where there is none."""

from pathlib import Path

import pytest
import torch

from pyrite.models.hardware import choose
from pyrite.steps import Store
from pyrite.train.settings import LoraSettings, TrainSettings

from test_train_fit import rows_source, run, train_step, weights  # isort: skip

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_the_papers_optimiser_and_4_bit(tmp_path: Path, tiny_causal: Path) -> None:
    """QLoRA with paged 32-bit AdamW, as in arXiv 2502.07164: trains, and its adapters move."""
    settings = TrainSettings(
        method="qlora", epochs=2, batch_size=4, optimizer="paged_adamw_32bit", max_tokens=64,
        lora=LoraSettings(rank=4, alpha=8, dropout=0),
    )  # fmt: skip
    step = train_step(tiny_causal, rows_source(tmp_path / "rows"), settings)
    step = type(step)(step.kind, {**step.config, "compute": choose().as_config()}, step.inputs, label="gpu")
    trained = weights(run(step, Store(tmp_path / "store")))
    assert any("lora_B" in name and tensor.abs().max() > 0 for name, tensor in trained.items())
