"""What does a `--task` name? Each kind knows the step that asks a model, and how to read what the step left."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pyrite.errors import UserError
from pyrite.io import check_there, file_hash
from pyrite.models import load
from pyrite.models.folder import refuse_adapters
from pyrite.models.load import ModelRef
from pyrite.probe.texts import Texts
from pyrite.records import Estimate
from pyrite.steps import Context, Source, Step, Store
from pyrite.tasks.scoring import ItemScore, Metric

Cuts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ModelUnderTest:
    """Who is asked: a model on this machine, a model that a step will make, or (neither) a name at an endpoint."""

    name: str
    ref: ModelRef | None
    step: Step | None = None
    """Publishes the folder of a whole language model; it is asked in place of `ref`."""

    @property
    def remote(self) -> bool:
        """Is it asked through an endpoint?"""
        return self.ref is None and self.step is None


@dataclass(frozen=True)
class Result:
    """What a task measured on one subject: the items, what can be said of them, and what a reader must know."""

    measured: list[ItemScore]
    metrics: tuple[Metric, ...]
    cuts: Mapping[str, Cuts]
    """The slices of each metric, by its name; a metric that is not named has none."""
    cluster: str = "groups"
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Estimate] = field(default_factory=dict)
    """A judge's own noise, by metric: a change smaller than it says nothing."""
    unmatched: int = 0
    headlines: Mapping[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)
    """The slices that a metric's verdicts look at, by its name, in the place of all items."""


class ProbeTask(Protocol):
    """One `--task`: its name, and where its items come from."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def metrics(self) -> tuple[Metric, ...] | None:
        """What will be measured; None where only the run can say."""
        ...

    @property
    def margins(self) -> Mapping[str, float]:
        """Margins, by metric, where `--margin` is of another scale."""
        ...

    def step(self, subject: ModelUnderTest) -> Step:
        """The step whose result is measured."""
        ...

    def read(self, store: Store, step: Step) -> Result:
        """Measure a finished step."""
        ...

    def texts(self, store: Store, step: Step) -> Texts:
        """What a finished step was asked and answered, in words; nothing where that was not kept."""
        ...


def opened(step: Step) -> list[Step]:
    """The steps that reading a probe's result opens: its own, and that of its items or of the answers that it judges."""
    beneath = (step.inputs.get(name) for name in ("items", "answers"))
    return [step, *(source for source in beneath if isinstance(source, Step))]


def source(path: str) -> Source:
    """A data file or folder as an input."""
    try:
        check_there(path)
    except UserError as error:
        raise UserError("That file is not there.", path, "give the path of the task's data") from error
    return Source(path, file_hash(path))


def local_ref(subject: ModelUnderTest, doing: str) -> ModelRef:
    """The subject's model folder, where a task needs the model itself."""
    if subject.step is not None:
        fix = "ask it for written answers, perplexity or a harness task"
        raise UserError(f"{doing} needs a model that is there already.", f"{subject.name} is still to be made", fix)
    if subject.ref is None:
        raise UserError(f"{doing} needs the model itself.", f"an endpoint: {subject.name}", "use --backend local")
    refuse_adapters(subject.ref.folder)
    return subject.ref


def model_input(subject: ModelUnderTest, doing: str) -> Step | Source:
    """The language model as a step's input `base`: its folder, or the step that will make it.

    Raises:
        UserError: an endpoint, an adapter, or a model that does not write. Of a model that is still to be made, the
            step that reads it says so (`model_folder`).
    """
    if subject.step is not None:
        return subject.step
    ref = local_ref(subject, doing)
    check_writes(ref.folder, doing)
    return Source(str(ref.folder), ref.identity)


def model_folder(context: Context, doing: str) -> Path:
    """A running step's input `base`, which is a whole language model also where another step made it."""
    folder = context.inputs["base"]
    refuse_adapters(folder)
    check_writes(folder, doing)
    return folder


def check_writes(folder: Path, doing: str) -> None:
    """Refuse a model that is no language model."""
    if not load.is_causal(folder):
        raise UserError(f"{doing} needs a language model.", str(folder), "give a model that generates text")
