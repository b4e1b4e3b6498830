"""A study that torchrun started: its trainings by several processes run in those of the launch, all else in the first."""

from collections.abc import Sequence

from pyrite.errors import UserError
from pyrite.steps import Step
from pyrite.steps.demand import processes_of
from pyrite.steps.launch import SIZE, current
from pyrite.study.config import StudyConfig


def check_launch(steps: Sequence[Step], config: StudyConfig) -> None:
    """Refuse a study that a launch cannot run: one in which nothing trains in so many processes, or that is divided otherwise, too.

    Raises:
        UserError: naming the option or the training.
    """
    launch = current()
    if launch is None:
        return
    for flag, is_set in (
        ("--engine", config.engine != "local"),
        ("--shard", config.shard is not None),
        ("--workers", config.workers not in (None, 1)),
    ):
        if is_set:
            fix = f"leave out {flag}, or start pyrite study once, without torchrun"
            raise UserError("A study that torchrun started runs one step at a time.", flag, fix)
    together = [step for step in steps if processes_of(step) > 1]
    other = next((step for step in together if processes_of(step) != launch.size), None)
    if other is not None:
        detail = f"{other.label}: processes: {processes_of(other)}, and {SIZE} is {launch.size}"
        raise UserError(
            "Another number of processes was started.", detail, f"processes: {launch.size}, or as many with torchrun"
        )
    if not together:
        fix = f"write processes: {launch.size} in the settings of its trainings or repairs, or start it once"
        detail = f"{launch.size} processes were started, and all its trainings have processes: 1"
        raise UserError("Nothing in this study is trained by several processes.", detail, fix)
