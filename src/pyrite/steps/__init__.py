"""Content-addressed steps: what they are, where finished ones lie, and how missing ones are run."""

from pyrite.steps.parts import PART_TOKENS, answer_file, in_parts
from pyrite.steps.place import open_store
from pyrite.steps.progress import Progress
from pyrite.steps.run import LOCAL, Done, Keep, RunOptions, for_several_runs, missing_steps, run_steps
from pyrite.steps.step import START, Context, Cost, Source, Step, StepType, closure, digest
from pyrite.steps.store import Store, default_store

__all__ = [
    "LOCAL",
    "PART_TOKENS",
    "START",
    "Context",
    "Cost",
    "Done",
    "Keep",
    "Progress",
    "RunOptions",
    "Source",
    "Step",
    "StepType",
    "Store",
    "answer_file",
    "closure",
    "default_store",
    "digest",
    "for_several_runs",
    "in_parts",
    "missing_steps",
    "open_store",
    "run_steps",
]
