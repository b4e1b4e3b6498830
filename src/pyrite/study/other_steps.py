"""Step types of a study from outside: under `steps:` a file names them by type, and they are planned by what is registered.

A planner is a function `(planner, options, at, place) -> Standing`: it returns the point of the cell's path after its step
(`plan_steps.Standing`), most often `replace(at, model=planner.keep(Step(...)))` with `at.model or planner.base` as the
step's input. Its step must publish a whole model folder.
"""

from collections.abc import Callable
from typing import Any

from pyrite.errors import UserError

OTHER_STEPS: dict[str, Callable[..., Any]] = {}
"""By type: what plans one such step."""


def register_step(name: str, planner: Callable[..., Any]) -> None:
    """Add a type of step from outside.

    Raises:
        UserError: the type is registered already, by another function.
    """
    if OTHER_STEPS.get(name, planner) is not planner:
        raise UserError("A step type of that name is there already.", name, "choose another name")
    OTHER_STEPS[name] = planner
