"""How fast is the machine that a plan is priced for? This one, as measured; or one that the user describes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pyrite.errors import UserError
from pyrite.models import hardware
from pyrite.models.accelerators import at_utilisation
from pyrite.models.hardware import FLOPS, Compute
from pyrite.steps import START, Step, Store
from pyrite.steps.forecast import Forecast, expected

MEASURED = "measured"
Worker = Literal["GPU", "CPU", "worker"]


@dataclass(frozen=True)
class PlanSpeed:
    """How long the steps of a plan take on one worker.

    `source` is where the speed is from: finished steps, a matrix product, nothing (`assumed`), the user (`given`), or a data
    sheet at a share that the user states (`estimate`). `flops` are FLOP/s; None where each kind of step has a pace of its own
    (`paces`, how much slower than planned; `pace` of all others). `memory` is that of a worker, where it is known.
    """

    source: Literal["finished steps", "matrix product", "assumed", "given", "estimate"]
    worker: Worker
    assumes: str
    planned: float
    flops: float | None = None
    paces: Mapping[str, float] = field(default_factory=dict)
    pace: float = 1.0
    memory: int | None = None

    def seconds(self, step: Step) -> float:
        """What a step should take."""
        if self.flops is None:
            return expected(step) * self.paces.get(step.kind.name, self.pace)
        work = step.cost.seconds - START if step.cost.flops else 0.0
        return expected(step) - work + work * self.planned / self.flops

    def as_json(self) -> dict[str, Any]:
        """For the plan."""
        return {"source": self.source, "assumes": self.assumes, "flops_per_second": self.flops}


def speed_of(text: str, compute: Compute, steps: Sequence[Step], store: Store) -> PlanSpeed:
    """The speed that `--plan-speed` names, for a plan of this machine's kind of device.

    Raises:
        UserError: it is neither `measured`, FLOP/s, nor a known accelerator at a share of its peak.
    """
    planned = FLOPS[compute.device, compute.precision]
    if text == MEASURED:
        return measured(compute, steps, store, planned)
    named = at_utilisation(text)
    if named is not None:
        name, accelerator, share = named
        says = f"an estimate: {share:.0%} of the peak of a {name} ({accelerator.flops:.3g} FLOP/s, bf16, dense)"
        flops = share * accelerator.flops
        return PlanSpeed("estimate", "GPU", says, planned, flops, memory=accelerator.memory)
    try:
        flops = float(text)
    except ValueError:
        flops = 0.0
    if not 0 < flops < float("inf"):
        fix = "--plan-speed measured, FLOP/s (4e14), or an accelerator and the share of its peak (h100@0.35)"
        raise UserError("--plan-speed is no speed.", text, fix)
    worker: Worker = "GPU" if compute.device == "cuda" else "worker"
    return PlanSpeed("given", worker, f"{flops:.3g} FLOP/s for each worker, as given", planned, flops)


def measured(compute: Compute, steps: Sequence[Step], store: Store, planned: float) -> PlanSpeed:
    """This machine's speed: by the steps of the plan that are finished, else by what a run first guesses."""
    guess = hardware.pace(compute)
    forecast = Forecast(steps, 1, pace=guess)
    count = 0
    for step in steps:
        if store.has(step):
            seconds = float(store.manifest(step.key)["seconds"])
            count += seconds > 0
            forecast.finish(step.key, seconds)
    paces, general = forecast.paces(0.0)
    worker: Worker = "CPU" if compute.device == "cpu" else "GPU"
    where = f"{compute.device}, {compute.precision}"
    says = f"assumed, not measured: {planned:.2g} FLOP/s ({where})"
    speed = PlanSpeed("assumed", worker, says, planned, paces=paces, pace=general, memory=memory_of(compute))
    if count:
        return replace(
            speed, source="finished steps", assumes=f"as {count} finished steps of this study took ({where})"
        )
    if compute.device == "cpu":
        says = f"this machine by a matrix product: {planned / guess:.2g} FLOP/s ({where})"
        return replace(speed, source="matrix product", assumes=says)
    return speed


def memory_of(compute: Compute) -> int | None:
    """Bytes of memory of this machine's GPU, or of the machine; None where the system does not say."""
    if compute.device == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
