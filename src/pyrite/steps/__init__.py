"""Content-addressed steps: what they are, where finished ones lie, and how missing ones are run."""

from pyrite.steps.progress import Progress
from pyrite.steps.run import Done, Keep, RunOptions, missing, run_steps
from pyrite.steps.step import Context, Cost, Kind, Source, Step, closure, digest
from pyrite.steps.store import Store, default_store

__all__ = [
    "Context",
    "Cost",
    "Done",
    "Keep",
    "Kind",
    "Progress",
    "RunOptions",
    "Source",
    "Step",
    "Store",
    "closure",
    "default_store",
    "digest",
    "missing",
    "run_steps",
]
