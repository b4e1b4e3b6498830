"""What a step is: a pure function of its configuration and its inputs, named by a hash of both.

The key of a step is the hash of its name, its hand-bumped version, its resolved configuration (which holds the dtype
and the device class where a model computes), and the keys or content hashes of its inputs. Paths, labels and costs are
not part of it, so a renamed folder or a better estimate redoes nothing.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson


def digest(value: Any) -> str:
    """Which content is this? SHA-256 (hex) of the canonical JSON of a plain value."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Context:
    """What a running step is given.

    `inputs` maps each input's name to its published folder (or, for a source, its path). `out` is empty at the start
    and becomes the published folder. `checkpoint` survives a kill: whatever it holds when the step starts was left by
    an interrupted attempt at exactly this step. `report_progress(done, total, unit)` is called now and then. `expired()`
    says that the run's time is up: a long step then saves its checkpoint and raises `OutOfTime`. `cpus` says how many processes
    the step may start.
    """

    config: Mapping[str, Any]
    inputs: Mapping[str, Path]
    out: Path
    checkpoint: Path
    report_progress: Callable[[float, float, str], None]
    expired: Callable[[], bool]
    cpus: int = 1


@dataclass(frozen=True, slots=True)
class StepType:
    """A type of step: its name, the version to bump when its results change, and the function that runs it. `plain`: it needs no
    model library, so none is loaded to set its threads."""

    name: str
    version: int
    run: Callable[[Context], None]
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Something outside the store (a file, a model): where it is, and the hash of its content or its pinned revision."""

    path: str
    identity: str


START = 2.0
"""Seconds that a step in which a model computes is expected to take before and after: loading, writing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step is expected to take on this machine: tokens processed, seconds, bytes of answers kept in the store.

    Beside them, for what a cluster would take: how many of the tokens are `written`; `flops`, where a model computes (then
    seconds beyond `START` are those of the rate that the plan assumes); bytes of `weights` and other files that `keep` may
    drop; bytes of the `rows` that it writes for other steps, and of its `checkpoint` while it runs.
    """

    tokens: int = 0
    seconds: float = 0.0
    bytes: int = 0
    written: int = 0
    flops: float = 0.0
    weights: int = 0
    rows: int = 0
    checkpoint: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True, eq=False)
class Step:
    """One node of a plan. `weights` names the files that `keep` may drop once every step that reads them is done; `cpus` is how
    many processes it starts where they are free, `memory` the bytes that it takes beside its weights. Neither changes what comes
    out."""

    kind: StepType
    config: Mapping[str, Any]
    inputs: Mapping[str, "Step | Source"] = field(default_factory=dict)
    label: str = ""
    cost: Cost = field(default_factory=Cost)
    weights: tuple[str, ...] = ()
    cpus: int = 1
    memory: int = 2**30

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that the result depends on, as plain values; its digest is the key."""
        return {
            "step": self.kind.name,
            "version": self.kind.version,
            "config": dict(self.config),
            "inputs": {
                name: source.key if isinstance(source, Step) else source.identity
                for name, source in self.inputs.items()
            },
        }

    @cached_property
    def key(self) -> str:
        """The step's name in the store: 64 hex digits."""
        return digest(self.recipe)

    def parents(self) -> Iterator["Step"]:
        """The steps whose results this one reads."""
        return (source for source in self.inputs.values() if isinstance(source, Step))


def closure(targets: list[Step]) -> list[Step]:
    """Which distinct steps do these targets stand on? Each key once, every step after its inputs."""
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key in ordered:
            return
        for parent in step.parents():
            visit(parent)
        ordered[step.key] = step

    for target in targets:
        visit(target)
    return list(ordered.values())
