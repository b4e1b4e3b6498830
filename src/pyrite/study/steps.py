"""Steps that only a study has: what stands for an absent probe, and a repair whose mistakes name the study's cells."""

from functools import partial

from pyrite.errors import UserError
from pyrite.repair.train import REPAIR
from pyrite.steps import Context, StepType


def absent_step(context: Context) -> None:
    """Step: stands, in a plan, for a probe whose file or model is not at hand."""
    raise AssertionError(f"planned without its data: {dict(context.config)}")


ABSENT = StepType("study.absent", 1, absent_step)


def repair_step(cells: tuple[str, ...], label: str, context: Context) -> None:
    """Step: what `REPAIR` does; its mistakes are told with the cells that wait for it, and how to go on without.

    Raises:
        UserError: the repair's own, such as a loss that is not finite.
    """
    try:
        REPAIR.run(context)
    except UserError as error:
        fix = (
            f"{error.fix}; or take {', '.join(cells)} out of the study's cells; a repair whose loss is not finite can be "
            "given a guard (settings: {guard: {every_tokens: N}}), which stops it before"
        )
        raise UserError(error.what, f"cells {', '.join(cells)} ({label}): {error.found}", fix) from error


def repair_of(cells: tuple[str, ...], label: str) -> StepType:
    """`REPAIR` for these cells; in the store it is the same."""
    return StepType(REPAIR.name, REPAIR.version, partial(repair_step, cells, label))
