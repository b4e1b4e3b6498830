"""What trainings and repairs took: processed tokens, FLOPs, seconds, memory, and the share of the damage they undo."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pyrite.steps import Step, Store
from pyrite.study.cells import COSTED, Cell
from pyrite.study.spec_steps import DAMAGE
from pyrite.train.language import TRAIN_LANGUAGE

ROLES = ("forget", "replay", "preferred", "guard")
COLUMNS = (
    "method", "steps", "tokens", "flops", "seconds", *(f"tokens_{role}" for role in ROLES), "peak_bytes", "stopped",
    "best_step",
)  # fmt: skip


def cost_table(cells: Sequence[Cell], store: Store) -> list[dict[str, Any]]:
    """One row for each distinct training and repair, by the first cell that has it, as a share of its cell's damage.

    Tokens of a repair are those to forget, to replay and to prefer, without the guard's. FLOPs are those that the step
    counted, of trainings and repairs by one rule (docs/repair.md); a stored training that counted none takes those of
    the same training of another seed. What nobody counted is None.
    """
    table = []
    done: set[str] = set()
    counted = trained_flops(cells, store)
    for cell in cells:
        damage: Mapping[str, Any] = {}
        for name, step in cell.path:
            if step.kind.name not in COSTED:
                continue
            row = cost_of(store.path(step.key), step)
            if row is None:
                continue
            row |= {"seconds": row["seconds"] or store.manifest(step.key)["seconds"]}
            if row["flops"] is None and step.kind.name == TRAIN_LANGUAGE.name:
                row["flops"] = counted.get(name)
            damage = row if name == DAMAGE else damage
            for unit in ("tokens", "flops"):
                comparable = name != DAMAGE and damage.get(unit) and row[unit] is not None
                row[f"share_of_damage_{unit}"] = row[unit] / damage[unit] if comparable else None
            if step.key not in done:
                done.add(step.key)
                table.append({"cell": cell.name, "seed": cell.seed, "step": name, **row})
    return table


def trained_flops(cells: Sequence[Cell], store: Store) -> dict[str, float]:
    """The FLOPs of each training that counted them, by name, of the first seed that did."""
    flops_by_name: dict[str, float] = {}
    for cell in cells:
        for name, step in cell.path:
            if step.kind.name == TRAIN_LANGUAGE.name:
                flops = (cost_of(store.path(step.key), step) or {}).get("flops")
                if flops is not None:
                    flops_by_name.setdefault(name, flops)
    return flops_by_name


def cost_of(folder: Path, step: Step) -> dict[str, Any] | None:
    """What one finished step says that it took, what it leaves out being None; None of a step that neither trains nor
    repairs."""
    empty: dict[str, Any] = dict.fromkeys(COLUMNS)
    if (folder / "repair.json").is_file():
        record = orjson.loads((folder / "repair.json").read_bytes())
        tokens, stopped = record.get("tokens") or {}, record.get("stopped")
        processed = [tokens[role] for role in ROLES if role != "guard" and tokens.get(role) is not None]
        return {
            **empty,
            **{name: record.get(name) for name in ("method", "steps", "flops", "seconds", "peak_bytes")},
            "tokens": sum(processed) if processed else None,
            **{f"tokens_{role}": tokens.get(role) for role in ROLES},
            "stopped": f"step {stopped.get('step')}: {stopped.get('why')}" if stopped else None,
            "best_step": (record.get("point") or {}).get("step"),
        }
    if (folder / "history.json").is_file():
        record = orjson.loads((folder / "history.json").read_bytes())
        if (folder / "took.json").is_file():
            record |= orjson.loads((folder / "took.json").read_bytes())
        amounts = {name: record.get(name) for name in ("steps", "tokens", "flops", "seconds")}
        return {**empty, "method": f"train {step.config.get('trains', 'labels')}", **amounts}
    return None
