"""What a plan would run, for `--plan`: how many cells and trainings, what they should take, what of it is stored."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from pyrite.models.hardware import FLOPS
from pyrite.repair.quantise import QUANTISE
from pyrite.repair.train import REPAIR
from pyrite.repair.weights import COMBINE
from pyrite.steps import Cost, Step, Store, missing_steps
from pyrite.study.cells import COSTED, Plan
from pyrite.train.causal import TRAIN_GENERATOR
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.language import TRAIN_LANGUAGE

GPU_FLOPS = FLOPS["cuda", "bf16-mixed"]


def plan_summary(plan: Plan, store: Store, refresh: Collection[str] = ()) -> dict[str, Any]:
    """What `study --plan` says, as plain values."""
    sizes = size_of_grid(plan) if plan.spec.has_grid else size_of_paths(plan)
    return {
        "study": plan.spec.study,
        **sizes,
        **takes(plan, store, refresh),
        "primary": [contrast.as_json() for contrast in plan.spec.primary()],
    }


def size_of_grid(plan: Plan) -> dict[str, Any]:
    """How many cells and trainings; of what else cells hold, how much."""
    trainings = count_steps(plan, TRAIN_CLASSIFIER.name, TRAIN_GENERATOR.name, TRAIN_LANGUAGE.name)
    generators = count_steps(plan, TRAIN_GENERATOR.name)
    starts = sum(cell.is_start and cell.model is not None for cell in plan.cells)
    size: dict[str, Any] = {
        "cells": sum(not cell.is_start for cell in plan.cells),
        "models_probed": len(plan.cells),
        "trainings": trainings,
        "trainings_of": {"starts": starts, "generators": generators, "arms": trainings - starts - generators},
    }
    more = {
        "repairs": count_steps(plan, REPAIR.name),
        "quantised": count_steps(plan, QUANTISE.name),
        "merged": count_steps(plan, COMBINE.name),
    }
    return size | ({**more, **of_steps(plan)} if any(more.values()) else {})


def size_of_paths(plan: Plan) -> dict[str, Any]:
    """How many cells, and how often each of their steps runs."""
    kinds = {"trainings": TRAIN_LANGUAGE, "repairs": REPAIR, "quantised": QUANTISE, "merged": COMBINE}
    return {
        "about": "language",
        "cells": len(plan.spec.cells),
        "seeds": list(plan.spec.seeds),
        "models_probed": len({cell.model.key if cell.model else "" for cell in plan.cells}),
        **{name: count_steps(plan, kind.name) for name, kind in kinds.items()},
        "damage": plan.damage,
        "damage_chosen": plan.spec.damage is not None,
        **of_steps(plan),
    }


def count_steps(plan: Plan, *names: str) -> int:
    """How many steps are of these types?"""
    return sum(step.kind.name in names for step in plan.steps)


def of_steps(plan: Plan) -> dict[str, Any]:
    """Each training, repair, merge and rounding: how often it runs; tokens, FLOPs and GPU hours of one run."""
    runs: dict[str, dict[str, Step]] = {}
    for cell in plan.cells:
        for name, step in cell.path:
            if step.kind.name in COSTED:
                runs.setdefault(name, {})[step.key] = step
    table, hours = [], 0.0
    for name, steps in runs.items():
        first = next(iter(steps.values()))
        flops = plan.flops.get(first.key, 0.0)
        gpu_hours = round(flops / GPU_FLOPS / 3600, 6)
        row = {"step": name, "kind": first.kind.name, "times": len(steps), "tokens": first.cost.tokens}
        table.append({**row, "flops": flops, "gpu_hours": gpu_hours})
        hours += gpu_hours * len(steps)
    return {"of_steps": table, "gpu_hours": round(hours, 3)}


def takes(plan: Plan, store: Store, refresh: Collection[str] = ()) -> dict[str, Any]:
    """What the plan should take, and what of it is stored, as plain values."""
    todo = {step.key for step in missing_steps(plan.targets, store, refresh)}
    steps = plan.steps
    cost = total(steps)
    stored = [step for step in steps if step.key not in todo]
    return {
        "steps": len(steps),
        "tokens": cost.tokens,
        "seconds": round(cost.seconds, 1),
        "bytes": cost.bytes,
        "stored": {"steps": len(stored), "of": len(steps), "seconds_saved": round(total(stored).seconds, 1)},
        "absent": plan.absent,
    }


def total(steps: Iterable[Step]) -> Cost:
    """What these steps should take, one after the other."""
    return sum((step.cost for step in steps), Cost())


def width_of(plan: Plan) -> int:
    """How many steps that run a model can be at work at a time, at most: those that are as far from the beginning."""
    depth: dict[str, int] = {}
    at: Counter[int] = Counter()
    for step in plan.steps:
        below = max((depth[parent.key] for parent in step.parents()), default=0)
        works = "compute" in step.config
        depth[step.key] = below + works
        at[below] += works
    return max(at.values(), default=1)
