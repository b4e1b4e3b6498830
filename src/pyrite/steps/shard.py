"""One of several jobs that share a study, an audit or a recipe: which of its steps it takes, and whether all are done."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyrite.errors import UserError
from pyrite.steps.run import missing_steps
from pyrite.steps.step import Step
from pyrite.steps.store import Store

SLURM_ID = "SLURM_ARRAY_TASK_ID"
SLURM_ARRAY = (
    SLURM_ID,
    "SLURM_ARRAY_TASK_MIN",
    "SLURM_ARRAY_TASK_MAX",
    "SLURM_ARRAY_TASK_STEP",
    "SLURM_ARRAY_TASK_COUNT",
)
"""A job's number in its array, the first, the last, the distance of two, how many there are."""


@dataclass(frozen=True)
class Shard:
    """The `number`-th (from 1) of `count` jobs that run the same command on one store."""

    number: int
    count: int

    def of(self, targets: Sequence[Step]) -> list[Step]:
        """Its part of the targets: every `count`-th. What several parts stand on is run by whichever comes first."""
        return list(targets[self.number - 1 :: self.count])


@dataclass(frozen=True)
class ShardDone:
    """What a verb says with `--shard` where other jobs have not finished: how many steps are left of its study, audit or recipe,
    by name."""

    shard: Shard
    verb: str
    name: str
    steps_left: int
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        shard = f"{self.shard.number}/{self.shard.count}"
        return {"schema_version": 1, self.verb: self.name, "shard": shard, "steps_left": self.steps_left}

    def in_words(self) -> str:
        """What is left for the jobs that run the other parts."""
        part = f"part {self.shard.number} of {self.shard.count} of the {self.verb} {self.name} is done"
        return f"{part}; {self.steps_left} steps are left for the other jobs, the last of which writes the results"


def shard_of(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard | None:
    """The part that `--shard I/N` names; where it says `slurm`, the one of the job's place in its array.

    >>> shard_of("2/4", {})
    Shard(number=2, count=4)
    >>> shard_of("slurm", dict(zip(SLURM_ARRAY, ["7", "5", "9", "2", "3"])))
    Shard(number=2, count=3)

    Raises:
        UserError: no such part, or no job array of Slurm's whose numbers are evenly spaced.
    """
    if text is None:
        return None
    if text == "slurm":
        values = [environment.get(name, "") for name in SLURM_ARRAY]
        if not all(value.isdigit() for value in values):
            fix = "submit with sbatch --array=1-N, or name the part: --shard 1/4"
            raise UserError("This is no job of a Slurm array.", f"${SLURM_ID}: {values[0] or 'not set'}", fix)
        place, first, last, step, count = map(int, values)
        if (last - first) // step + 1 != count:  # else some jobs would take one another's parts, and some parts nobody
            fix = "number the jobs evenly: sbatch --array=1-N"
            raise UserError("The array's jobs are not evenly numbered.", f"{count} jobs from {first} to {last}", fix)
        shard = Shard((place - first) // step + 1, count)
    else:
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise UserError("--shard takes I/N, or slurm.", text, "for the first of four jobs: --shard 1/4")
        shard = Shard(int(match[1]), int(match[2]))
    if not 1 <= shard.number <= shard.count:
        detail, fix = f"{shard.number} of {shard.count}", "number the jobs from 1 to N"
        raise UserError("There is no such part.", detail, fix)
    return shard


def steps_left(targets: Sequence[Step], store: Store) -> int:
    """How many steps do the targets still lack?"""
    return len(missing_steps(list(targets), store))


def refuse_beside_shard(shard: str | None, what: str, flags: Mapping[str, Any]) -> None:
    """Refuse flags that jobs which share the work would each do as a whole, or anew under the others' eyes.

    Raises:
        UserError: such a flag is given beside `--shard`.
    """
    whole = [f"--{name}" for name, value in flags.items() if value]
    if shard is not None and whole:
        raise UserError(f"A part of {what} does not take this.", f"--shard and {', '.join(whole)}", "leave out --shard")
