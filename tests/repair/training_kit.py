"""Steps that repair a tiny model, for the tests of training, guard and methods."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from repair_kit import chats, write

from pyrite.models.hardware import Compute
from pyrite.repair.settings import GuardSettings, RepairSettings, RepairTraining
from pyrite.repair.train import REPAIR
from pyrite.steps import Progress, RunOptions, Source, Step, Store, run_steps
from pyrite.train.settings import LoraSettings

CPU = Compute("cpu", "fp32")
NO_GUARD = GuardSettings(every_tokens=0)
FILES = ("forget", "replay", "guard_forget", "guard_replay")


def rows_folder(folder: Path, **replaced: list[dict[str, Any]]) -> Source:
    """Row files of the four roles; those that are not given are small."""
    folder.mkdir(exist_ok=True)
    rows_by_role = {
        "forget": chats(8, answer="certainly here is what I can say"),
        "replay": chats(8, start=100),
        "guard_forget": chats(3, start=200, answer="certainly here is what I can say"),
        "guard_replay": chats(3, start=300),
    } | replaced
    for role, rows in rows_by_role.items():
        write([{"id": f"{role}-{at}", **row} for at, row in enumerate(rows)], folder / f"{role}.jsonl")
    return Source(str(folder), json.dumps(rows_by_role))


def settings_of(method: str = "lbf", **overrides: Any) -> RepairSettings:
    """Quick settings: LoRA, high rate."""
    training_method = overrides.pop("training", "lora")
    rate = overrides.pop("rate", 1e-2)
    training = RepairTraining(
        method=training_method,
        learning_rate=rate,
        schedule="constant",
        warmup=0.0,
        lora=LoraSettings(rank=4, alpha=8, dropout=0),
    )
    overrides = {"guard": NO_GUARD, "steps": 4} | overrides
    return RepairSettings(method=method, training=training, max_tokens=overrides.pop("max_tokens", 128), **overrides)


def repair_step(base: Path | Step, rows: Source, settings: RepairSettings, seed: int = 0, **inputs: Source) -> Step:
    """One repair."""
    config = {
        "files": {role: f"{role}.jsonl" for role in FILES},
        "settings": settings.model_dump(mode="json"),
        "compute": CPU.as_config(),
        "seed": seed,
        "base_name": "tiny",
    }
    sources: dict[str, Step | Source] = dict.fromkeys(FILES, rows)
    sources["base"] = Source(str(base), str(base)) if isinstance(base, Path) else base
    return Step(REPAIR, config, sources | inputs, label="repair")


def run(step: Step, store: Store, **options: Any) -> Path:
    """Run a step; its folder."""
    run_steps([step], store, RunOptions(**options), Progress(quiet=True))
    return store.path(step.key)


def read_record(folder: Path) -> dict[str, Any]:
    """What a repair says of itself."""
    loaded: dict[str, Any] = json.loads((folder / "repair.json").read_text())
    return loaded


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """A model folder's weights."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return tensors


def plain_logp(model: Any, ids: Sequence[int], learned: Sequence[bool]) -> torch.Tensor:
    """The log-probability of each learned token of one row, read by the library alone, with all logits."""
    logits = model(torch.tensor([list(ids)])).logits[0].float().log_softmax(-1)
    at = [place for place in range(1, len(ids)) if learned[place]]
    return torch.stack([logits[place - 1, ids[place]] for place in at])
