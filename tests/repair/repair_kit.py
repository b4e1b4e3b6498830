"""Row files, and a training step that stands in for the real one: it moves every weight a little and says so."""

import json
import shutil
from pathlib import Path
from typing import Any

from pyrite.steps import Context, StepType

THINGS = ["film", "song", "meal", "book", "room", "trip", "game", "walk"]


def chats(
    count: int, *, start: int = 0, answer: str = "it was lovely", prompt: str = "how was the"
) -> list[dict[str, Any]]:
    """Questions with answers, no two alike."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"{prompt} {THINGS[n % 8]} {n}"},
                {"role": "assistant", "content": f"the {THINGS[n % 8]} {n}: {answer}"},
            ]
        }
        for n in range(start, start + count)
    ]


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def moved(context: Context) -> None:
    """The model with a little seeded noise on its weights, and a repair.json of made-up numbers."""
    import torch
    from safetensors.torch import load_file, save_file

    base = context.inputs["base"]
    for file in base.iterdir():
        if file.suffix in {".json", ".jinja"} and file.name not in ("step.json", "repair.json"):
            shutil.copyfile(file, context.out / file.name)
    torch.manual_seed(context.config["seed"])
    weights = load_file(base / "model.safetensors")
    weights = {name: value + 0.02 * torch.randn_like(value) for name, value in weights.items()}
    save_file(weights, context.out / "model.safetensors", {"format": "pt"})
    used = {
        role: len((context.inputs[role] / context.config["files"][role]).read_text().splitlines())
        for role in ("forget", "replay", "guard_forget", "guard_replay")
    }
    record = {
        "method": context.config["settings"]["method"],
        "weights": {"forget": 0.01, "replay": 1.0, "kl": 1.0},
        "options": {},
        "steps": 2,
        "tokens": {"forget": 300, "replay": 500, "guard": 90},
        "flops": 2e9,
        "seconds": 1.5,
        "peak_bytes": 2**30,
        "stopped": None,
        "point": {"step": 2, "tokens": 800, "rule": "the lowest objective on the guard's rows", "values": {}},
        "rows": {role: {"read": n, "used": n, "split": 0, "dropped": {}} for role, n in used.items()},
        "curve": [
            {"step": 1, "tokens": 400, "loss": 2.0, "forget": 0.4, "replay": 2.0, "kl": 0.0, "lr": 1e-5},
            {"step": 2, "tokens": 800, "loss": 1.9, "forget": 0.3, "replay": 1.9, "kl": 0.1, "lr": 0.0},
        ],
        "guard": [
            {"step": 0, "tokens": 0, "replay_nats": 2.0, "forget_nats": 1.0, "kl": 0.0, "breach": None},
            {"step": 2, "tokens": 800, "replay_nats": 1.9, "forget_nats": 1.5, "kl": 0.1, "breach": None},
        ],
    }
    (context.out / "repair.json").write_text(json.dumps(record))


STAND_IN = StepType("repair.train", 900, moved)
