"""A model that a loop's study trained: found in the store, made again where its weights were dropped."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrite.errors import UserError
from pyrite.models import hardware
from pyrite.steps import Progress, RunOptions, Step, Store, open_store, run_steps
from pyrite.study.config import StudyConfig
from pyrite.study.run import planned

if TYPE_CHECKING:
    from pyrite.loop.inputs import Inputs


def model_of_study(inputs: "Inputs", name: str, common: dict[str, Any]) -> str:
    """The folder of the model of an arm (first start, largest size) or cell, of the study's first seed, under its name.

    Raises:
        UserError: the cell is the model as given, which no step made.
    """
    store = open_store(common["store"])
    step = step_of(inputs, name, store)
    if step is None:
        fix = "name the model itself under model"
        raise UserError("That cell of the study was not trained.", f"study:{name} is the model as given", fix)
    minutes = common["max_time"]
    compute = hardware.Compute(**step.config["compute"])
    options = RunOptions(
        engine=common["engine"],
        threads=compute.threads if compute.device == "cpu" else 0,  # as in the study: it is the same step
        weights=True,
        max_seconds=None if minutes is None else minutes * 60,
    )
    run_steps([step], store, options, Progress(quiet=common["quiet"]))
    link = inputs.folder / "models" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(store.path(step.key).resolve())
    return str(link)


def step_of(inputs: "Inputs", name: str, store: Store) -> Step | None:
    """The step that makes the model; None where no step does."""
    spec = inputs.study_spec()
    config = StudyConfig(spec=str(inputs.study_name()), data=inputs.data, store=Path(store.place))
    cells = [cell for cell in planned(spec, config)[0].cells if cell.name == name and cell.seed == spec.seeds[0]]
    first = next(iter(spec.starts), "")
    return max(cells, key=lambda cell: (cell.key.start == first, cell.key.size)).model
