"""What would a plan take on a cluster? Hours, tokens, bytes and the clock on N workers, and where it would break."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyrite.steps import Source, Step, Store, closure
from pyrite.steps.demand import ADAPTERS, STATES, declared_memory, processes_of, times_weights, trains
from pyrite.steps.layout import Schedule, critical_path, list_schedule
from pyrite.steps.store import folder_bytes
from pyrite.study.cells import Plan
from pyrite.study.plan_bytes import bytes_in_words, droppable, free_bytes, is_adapter, peak_bytes, stays
from pyrite.study.plan_speed import PlanSpeed
from pyrite.train.classifier import TRAIN_CLASSIFIER

ALIKE = 1.01
"""Runs whose lengths differ by less than this factor are as long."""
RULES = {
    1.0: "the weights that it reads, in fp32",
    STATES: "four times the weights that it reads, in fp32",
    ADAPTERS: "one and a half times the weights that it reads, in fp32",
}
MOST_WORKERS = 1024
"""Up to which number of workers a plan is laid out where nobody says otherwise."""


@dataclass(frozen=True)
class PriceOptions:
    """What the user says of a cluster."""

    workers: tuple[int, ...] = ()
    price: float | None = None
    """Of one worker for an hour, in any currency."""
    memory: int | None = None
    store_limit: int | None = None


class PlanPrice:
    """A plan's steps that are not in the store (`todo`), as a cluster would run them: first rows and items, which are then
    checked, then all others.

    Where trainings are shared by several processes, torchrun starts so many workers, and steps run one after the other: the
    first worker runs those that are not shared.
    """

    def __init__(self, plan: Plan, todo: Sequence[Step], store: Store, speed: PlanSpeed, options: PriceOptions) -> None:
        self.plan, self.todo, self.store, self.speed, self.options = plan, todo, store, speed, options
        self.seconds = {step.key: speed.seconds(step) for step in todo}
        self.held = {step.key: self.seconds[step.key] * processes_of(step) for step in todo}
        self.together = max(map(processes_of, todo), default=1)
        first = {step.key for step in closure(plan.rows_first)}
        self.phases = [[step for step in todo if (step.key in first) is early] for early in (True, False)]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "steps": len(self.todo),
            "speed": self.speed.as_json(),
            "hours": self.hours(),
            "tokens": self.tokens(),
            "bytes": self.bytes(),
            "critical_path": self.path(),
            "useful_workers": self.useful_workers,
            "workers": self.clocks,
            "limits": {"memory": self.memory, "store": self.room},
            "breaks": self.breaks(),
        }

    # amounts

    def hours(self) -> dict[str, Any]:
        """Hours of work: of steps in which a model computes (on a CPU, of its cores), and of all others."""
        computing = sum(self.held[step.key] for step in self.todo if "compute" in step.config) / 3600
        other = sum(self.held.values()) / 3600 - computing
        threads = self.plan.spec.threads if self.speed.worker == "CPU" else 1
        name = {"GPU": "gpu", "CPU": "cpu_core", "worker": "worker"}[self.speed.worker]
        hours = {name: round(computing * threads, 4), "other": round(other, 4)}
        price = self.options.price
        return hours | ({} if price is None else {"price": round(price * (computing + other), 2)})

    def tokens(self) -> dict[str, int]:
        """How many tokens models read, learn and write."""
        trained = sum(step.cost.tokens for step in self.todo if trains(step))
        written = sum(step.cost.written for step in self.todo)
        return {
            "read": sum(step.cost.tokens for step in self.todo) - trained - written,
            "trained": trained,
            "written": written,
        }

    def bytes(self) -> dict[str, int]:
        """What the steps write into the store, and what of it stays."""
        answers = sum(stays(step) for step in self.todo)
        rows = sum(step.cost.rows for step in self.todo)
        weights = sum(droppable(step) for step in self.todo)
        keeps = self.plan.spec.keep
        stay = sum(
            droppable(step) for step in self.todo if keeps == "all" or (keeps == "adapters" and is_adapter(step))
        )
        return {"answers": answers, "rows": rows, "weights": weights, "kept": answers + rows + stay}

    def path(self) -> dict[str, Any]:
        """The longest chain of steps."""
        steps = [step for phase in self.phases for step in critical_path(phase, self.seconds)]
        seconds = sum(self.seconds[step.key] for step in steps)
        return {"seconds": round(seconds, 1), "steps": [step.label for step in steps]}

    # the clock

    def laid_out(self, workers: int | None) -> Schedule:
        """When each step runs on so many workers (None: on as many as are of use)."""
        workers = workers if self.together == 1 else 1
        spans: dict[str, tuple[float, float]] = {}
        after = 0.0
        for phase in self.phases:
            schedule = list_schedule(phase, self.seconds, workers)
            spans |= {key: (after + begin, after + end) for key, (begin, end) in schedule.spans.items()}
            after += schedule.seconds
        return Schedule(spans)

    @cached_property
    def useful_workers(self) -> int:
        """The smallest number of workers beyond which nothing gets faster (by more than one in a hundred)."""
        if self.together > 1:
            return self.together
        widest = self.laid_out(None)
        few, enough = 1, max(1, widest.width)
        while few < enough:
            middle = (few + enough) // 2
            if self.laid_out(middle).seconds <= ALIKE * widest.seconds:
                enough = middle
            else:
                few = middle + 1
        return enough

    @property
    def counts(self) -> list[int]:
        """The numbers of workers to lay the plan out on: those that were given, else each twice the one before until nothing
        gets faster; those of the launch where trainings are shared."""
        if self.together > 1:
            return [self.together]
        if self.options.workers:
            return sorted(set(self.options.workers))
        most, counts = min(self.useful_workers, MOST_WORKERS), [1]
        while counts[-1] < most:
            counts.append(min(2 * counts[-1], most))
        return counts

    @cached_property
    def clocks(self) -> list[dict[str, Any]]:
        """The run on each number of workers: its length, the share of it in which they work, what holding them takes, and the
        most that the store grows by meanwhile."""
        rows = []
        for workers in self.counts:
            schedule = self.laid_out(workers)
            held = workers * schedule.seconds
            row = {
                "workers": workers,
                "seconds": round(schedule.seconds, 1),
                "busy": round(sum(self.held.values()) / held, 3) if held else 1.0,
                "worker_hours": round(held / 3600, 4),
                "peak_bytes": peak_bytes(self.todo, schedule, self.plan.spec.keep),
            }
            price = self.options.price
            rows.append(row | ({} if price is None else {"price": round(price * held / 3600, 2)}))
        return rows

    # where it would break

    def breaks(self) -> list[dict[str, Any]]:
        """What would not work, or not help: each with its kind, and in words."""
        return [*self.too_large(), *self.too_full(), *self.too_many(), *self.other_launch()]

    @property
    def memory(self) -> int | None:
        """Bytes of memory of a worker; None where nobody knows."""
        return self.options.memory or self.speed.memory

    @cached_property
    def room(self) -> int:
        """Bytes that the store may grow by: up to its limit, else what is free on the disk."""
        limit, root = self.options.store_limit, self.store.root
        if limit is None:
            return free_bytes(root)
        return max(0, limit - (folder_bytes(root) if root.is_dir() else 0))

    def too_large(self) -> list[dict[str, Any]]:
        """Steps that declare more memory than a worker has."""
        memory = self.memory
        demands = {step.key: self.demand(step) for step in self.todo if "compute" in step.config}
        large = [step for step in self.todo if memory is not None and demands.get(step.key, 0) > memory]
        if not large or memory is None:
            return []
        worst = max(large, key=lambda step: demands[step.key])
        rule = RULES[times_weights(worst)] + f", shared by {processes_of(worst)}" * (processes_of(worst) > 1)
        worker = "GPU" if self.speed.worker == "GPU" else "machine"
        says = (
            f"{count_of(len(large), 'step')} declare{'s' * (len(large) == 1)} more memory than a {worker} of {bytes_in_words(memory)} has; the most: "
            f"{bytes_in_words(demands[worst.key])} ({rule}, and 1 GiB), {worst.label}"
        )
        return [{"kind": "memory", "says": says, "steps": len(large), "bytes": demands[worst.key], "limit": memory}]

    def demand(self, step: Step) -> int:
        """Bytes of memory that a step declares, of each of its processes."""
        weights = 0.0
        for source in step.inputs.values():
            if isinstance(source, Source):
                weights += self.plan.model_bytes.get(source.identity, 0)
            else:
                in_fp32 = is_adapter(source) or source.kind.name == TRAIN_CLASSIFIER.name
                weights += source.cost.weights * (1 if in_fp32 else self.plan.widening)
        return declared_memory(step, int(weights / processes_of(step)))

    def too_full(self) -> list[dict[str, Any]]:
        """Does the store grow beyond its limit, or the disk?"""
        beyond = [row for row in self.clocks if row["peak_bytes"] > self.room]
        if not beyond:
            return []
        most, few = max(row["peak_bytes"] for row in beyond), beyond[0]["workers"]
        limit, keep = self.options.store_limit, self.plan.spec.keep
        where = (
            f"free where {self.store.root} lies" if limit is None else f"left of --store-limit {bytes_in_words(limit)}"
        )
        drop = "; keep: predictions frees weights as soon as nothing reads them" * (keep != "predictions")
        says = (
            f"on {count_of(few, 'worker')}{' and more' * (len(beyond) > 1)} the store grows by up to {bytes_in_words(most)}, and "
            f"{bytes_in_words(self.room)} are {where}{drop}"
        )
        return [{"kind": "store", "says": says, "bytes": most, "limit": self.room}]

    def too_many(self) -> list[dict[str, Any]]:
        """Are more workers wished for than are of use?"""
        if max(self.counts) <= self.useful_workers or not self.options.workers or self.together > 1:
            return []
        says = f"beyond {count_of(self.useful_workers, 'worker')} nothing gets faster"
        return [{"kind": "workers", "says": says, "workers": self.useful_workers}]

    def other_launch(self) -> list[dict[str, Any]]:
        """Is another number of workers wished for than trainings are shared by?"""
        if self.together == 1 or set(self.options.workers) <= {self.together}:
            return []
        says = f"trainings with processes: {self.together} run on {self.together} workers, which torchrun starts, and no others"
        return [{"kind": "processes", "says": says, "workers": self.together}]


def count_of(number: int, noun: str) -> str:
    """'1 step', '2 steps'."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
