"""What both sorts of plan share: what it should take, data files as inputs, a note of what this machine lacks."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.steps import Cost, Source, Step, Store, closure, missing_steps
from pyrite.study.spec import data_path


class StepPlan(ABC):
    """A study as steps. `absent` names what the plan mentions and this machine does not have."""

    absent: list[str]

    @property
    @abstractmethod
    def targets(self) -> list[Step]:
        """The steps whose results the report reads."""

    @property
    def steps(self) -> list[Step]:
        """Every step, inputs first."""
        return closure(self.targets)

    def cost(self, steps: list[Step] | None = None) -> Cost:
        """What these steps (all by default) should take, one after the other."""
        return sum((step.cost for step in (self.steps if steps is None else steps)), Cost())

    @property
    def width(self) -> int:
        """How many steps that run a model can be at work at a time, at most: those that are as far from the beginning."""
        depth: dict[str, int] = {}
        at: Counter[int] = Counter()
        for step in self.steps:
            below = max((depth[parent.key] for parent in step.parents()), default=0)
            works = "compute" in step.config
            depth[step.key] = below + works
            at[below] += works
        return max(at.values(), default=1)

    def takes(self, store: Store, refresh: Collection[str] = ()) -> dict[str, Any]:
        """What the plan should take, and what of it is stored, as plain values."""
        todo = {step.key for step in missing_steps(self.targets, store, refresh)}
        steps, cost = self.steps, self.cost()
        stored = [step for step in steps if step.key not in todo]
        return {
            "steps": len(steps),
            "tokens": cost.tokens,
            "seconds": round(cost.seconds, 1),
            "bytes": cost.bytes,
            "stored": {"steps": len(stored), "of": len(steps), "seconds_saved": round(self.cost(stored).seconds, 1)},
            "absent": self.absent,
        }


class Sources:
    """Files below a folder as inputs of steps. `lenient`: a plan only, made also where files are absent (see `absent`)."""

    def __init__(self, folder: Path | None, absent: list[str], *, lenient: bool) -> None:
        self.folder, self.absent, self.lenient = folder, absent, lenient
        self.made: dict[str, Step] = {}

    def miss(self, what: str) -> None:
        """Note something that a plan names and this machine does not have."""
        if what not in self.absent:
            self.absent.append(what)

    def keep(self, step: Step) -> Step:
        """Steps with the same key are the same object."""
        return self.made.setdefault(step.key, step)

    def file(self, name: str) -> Source:
        """A data file as an input.

        Raises:
            UserError: it is not there, and this is not only a plan.
        """
        from pyrite.io import file_hash
        from pyrite.io.hub import cached_commit

        path = data_path(name, self.folder)
        try:
            found = cached_commit(path) if self.lenient and path.startswith("hf://") else file_hash(path)
        except UserError:
            if not self.lenient:
                raise
            found = None
        if found is None:
            self.miss(f"data {path}")
        return Source(path, found or f"absent:{name}")
