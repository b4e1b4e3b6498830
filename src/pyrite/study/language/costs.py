"""What trainings and repairs took: processed tokens, FLOPs, seconds, memory, and the share of the damage they undo."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pyrite.steps import Step, Store
from pyrite.study.language.plan import Cell
from pyrite.study.language.spec import DAMAGE


def cost_table(cells: Sequence[Cell], store: Store, parameters: float | None) -> list[dict[str, Any]]:
    """One row for each distinct training and repair, by the first cell that has it, as a share of its cell's damage.

    FLOPs of a repair are those it counted; of a training six for each weight and learned or read token
    (Kaplan et al. 2020, arXiv 2001.08361), `parameters` being the number of weights; None where it is not known.
    """
    table = []
    done: set[str] = set()
    for cell in cells:
        damage: Mapping[str, Any] = {}
        for name, step in cell.path:
            row = cost_of(store.path(step.key), step, parameters)
            if row is None:
                continue
            row |= {"seconds": row["seconds"] or store.manifest(step.key)["seconds"]}
            damage = row if name == DAMAGE else damage
            for unit in ("tokens", "flops"):
                known = name != DAMAGE and damage.get(unit) and row[unit] is not None
                row[f"share_of_damage_{unit}"] = row[unit] / damage[unit] if known else None
            if step.key not in done:
                done.add(step.key)
                table.append({"cell": cell.name, "seed": cell.seed, "step": name, **row})
    return table


def cost_of(folder: Path, step: Step, parameters: float | None) -> dict[str, Any] | None:
    """What one finished step says that it took; None of a step that neither trains nor repairs."""
    empty = dict.fromkeys(("tokens_forget", "tokens_replay", "tokens_guard", "peak_bytes", "stopped", "best_step"))
    if (folder / "repair.json").is_file():
        told = orjson.loads((folder / "repair.json").read_bytes())
        tokens = told["tokens"]
        stopped = told["stopped"]
        return {
            **empty,
            "method": told["method"],
            "steps": told["steps"],
            "tokens": tokens["forget"] + tokens["replay"],
            "flops": told["flops"],
            "seconds": told["seconds"],
            **{f"tokens_{name}": tokens[name] for name in ("forget", "replay", "guard")},
            "peak_bytes": told["peak_bytes"],
            "stopped": stopped and f"step {stopped['step']}: {stopped['why']}",
            "best_step": told["point"]["step"],
        }
    if (folder / "history.json").is_file():
        told = orjson.loads((folder / "history.json").read_bytes())
        flops = told.get("flops") or (6 * parameters * told["tokens"] if parameters else None)
        method = f"train {step.config['trains']}"
        return {
            **empty,
            "method": method,
            "steps": told.get("steps"),
            "tokens": told["tokens"],
            "flops": flops,
            "seconds": None,
        }
    return None


def parameters_of(folder: Path) -> int | None:
    """How many weights a model folder holds; None of one without safetensors (packed otherwise)."""
    from math import prod

    from safetensors import safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "numpy") as weights:
            total += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total or None
