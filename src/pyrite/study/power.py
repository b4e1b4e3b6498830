"""How many seeds would settle a primary contrast, judging by the seeds that are finished."""

from collections.abc import Sequence
from typing import Any

from pyrite.errors import UserError
from pyrite.stats import sd_from_pilot, seeds_needed
from pyrite.study.contrasts import Answer
from pyrite.study.spec import StudySpec

ALPHA = 0.05


def power_record(spec: StudySpec, answers: Sequence[Answer]) -> dict[str, Any]:
    """What `--power` says of every primary contrast."""
    record: dict[str, Any] = {
        "schema_version": 1,
        "study": spec.study,
        "margin": spec.margin,
        "contrasts": [],
        "left_out": [],
    }
    for answer in answers:
        differences = () if answer.uneven else answer.per_seed
        add_power(record, answer.contrast, differences, answer.margin, len(spec.primary()))
    return record


def power_row(contrast: Any, differences: Sequence[float], margin: float, family: int) -> dict[str, Any]:
    """The seeds that a contrast calls for, as a line of `--power`.

    `differences` are its paired differences, one for each finished seed; `family` is how many primary contrasts are
    judged together: Holm's procedure asks the first of them for a p-value of 0.05 divided by their number, and that is
    what is planned for.

    Raises:
        UserError: fewer than two differences, or all identical.
    """
    if len(differences) < 2:
        fix = "run with --seeds 2 or more"
        raise UserError("Power needs at least two finished seeds.", f"{len(differences)}", fix)
    sd, upper = sd_from_pilot(list(differences))
    alpha = ALPHA / family

    def to_differ(spread: float) -> int | None:
        return seeds_needed(spread, effect=margin, margin=None, alpha=alpha).for_difference

    return {
        "contrast": contrast.as_json(),
        "margin": margin,
        "pilot_seeds": len(differences),
        "sd": sd,
        "sd_upper_80": upper,
        "alpha": alpha,
        "seeds_for_a_difference_of_the_margin": to_differ(sd),
        "seeds_for_equivalence": seeds_needed(sd, effect=None, margin=margin, alpha=alpha).for_equivalence,
        "the_same_at_sd_upper_80": to_differ(upper),
    }


def add_power(record: dict[str, Any], contrast: Any, differences: Sequence[float], margin: float, family: int) -> None:
    """Add a contrast's line to what `--power` tells, or name it under `left_out`: where it is not testable (no
    differences), or its seeds do not show how much they differ. No difference is told, so this is no look at the results."""
    name = f"{getattr(contrast, 'arm', None) or contrast.cell} against {contrast.against} on {contrast.probe}"
    if not differences:
        record["left_out"].append(f"{name}: not testable with what is finished")
        return
    try:
        record["contrasts"].append(power_row(contrast, differences, margin, family))
    except UserError as error:
        if len(differences) < 2:
            raise
        record["left_out"].append(f"{name}: {error.what}")
