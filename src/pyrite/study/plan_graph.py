"""The graph of steps that a plan builds up: its inputs (files, models), its distinct steps, and what they should cost."""

import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pyrite.errors import UserError
from pyrite.models import load, packaged
from pyrite.models.hardware import FLOPS, Compute
from pyrite.models.quantised import refuse_quantised
from pyrite.models.size import FP32_BYTES, ModelSize, size_by_count, size_in
from pyrite.repair.settings import RepairTraining
from pyrite.steps import START, Cost, Source, Step
from pyrite.steps.demand import processes_of
from pyrite.study.cells import Plan
from pyrite.study.spec import data_path
from pyrite.train.settings import TrainSettings

MATMUL_PARAMETERS = {"packaged:minilm-l6": 10.7e6, "packaged:smollm2-135m-instruct": 135e6}
UNKNOWN_WEIGHTS = 1e8
"""Weights of a model of which nothing is known."""
BYTES_PER_TOKEN = 5
"""Of a row's text as it is stored, its keys and quotes among it."""
WRITING = 0.2
"""Of the rate at which text is read, the share at which answers are written: for plans."""


class StepGraph:
    """The steps planned so far, each once, and what new ones are made of.

    `base` is the model as given, as an input of steps. `lenient`: a plan only, made also where files and models are absent
    (they are listed in the plan).
    """

    def __init__(self, plan: Plan, data_folder: Path | None, compute: Compute, *, lenient: bool) -> None:
        self.plan, self.spec, self.compute = plan, plan.spec, compute
        self.folder, self.lenient = data_folder, lenient
        self.steps: dict[str, Step] = {}
        self.sizes: dict[str, ModelSize] = {}
        self.base = self.model(self.spec.given.model)

    def keep(self, step: Step, *, flops: float | None = None) -> Step:
        """The step, or the one with its key that is there already; `flops` is what it should take, for the plan. A training that
        several processes share is planned to take as many times less."""
        processes = processes_of(step)
        if processes > 1:
            seconds = START + max(0.0, step.cost.seconds - START) / processes
            step = replace(step, cost=replace(step.cost, seconds=seconds))
        if flops is not None:
            self.plan.flops[step.key] = flops
        return self.steps.setdefault(step.key, step)

    # inputs

    def miss(self, what: str) -> None:
        """Note something that a plan names and this machine does not have."""
        if what not in self.plan.absent:
            self.plan.absent.append(what)

    def file(self, name: str) -> Source:
        """A data file as an input.

        Raises:
            UserError: it is not there, and this is not only a plan.
        """
        from pyrite.io import file_hash
        from pyrite.io.hub import cached_commit

        path = data_path(name, self.folder)
        try:
            identity = cached_commit(path) if self.lenient and path.startswith("hf://") else file_hash(path)
        except UserError:
            if not self.lenient:
                raise
            identity = None
        if identity is None:
            self.miss(f"data {path}")
        return Source(path, identity or f"absent:{name}")

    def model(self, name: str, *, trains: bool = True) -> Source:
        """A model as an input; one that is trained further is not quantised."""
        if not self.lenient:
            resolved = load.resolve(name)
            if trains:
                refuse_quantised(resolved.folder)
            return Source(str(resolved.folder), resolved.identity)
        identity = load.identity_without_files(name)
        size = self.size_of(name)
        self.plan.model_bytes[identity] = int(FP32_BYTES * size.weights)
        self.plan.widening = max(1.0, FP32_BYTES * self.size.weights / max(1, self.size.bytes))
        is_local = Path(name).expanduser().is_dir() or (
            name.startswith(packaged.PREFIX) and packaged.is_fetched(name.removeprefix(packaged.PREFIX))
        )
        if not is_local and (not load.is_hub_name(name) or identity.startswith("absent:")):
            self.miss(f"model {name}")
        return Source(name, identity)

    # the model as given

    @property
    def base_name(self) -> str:
        """The model as given, by a name that means the same on every machine."""
        return load.portable_name(self.spec.given.model, self.base)

    @cached_property
    def reads(self) -> str:
        """How labelled rows are read: as a `pair` of segments by an encoder, as a `prompt` by a decoder."""
        if self.spec.given.reads != "auto":
            return self.spec.given.reads
        name = self.spec.given.model
        if name.startswith(packaged.PREFIX):
            return "prompt" if packaged.lookup(name).gguf else "pair"
        folder = Path(name).expanduser()
        if folder.is_dir():
            return "prompt" if load.is_causal(folder) else "pair"
        if self.lenient and load.identity_without_files(name).startswith("absent:"):
            return "prompt"
        return "prompt" if load.is_causal(load.resolve(name).folder) else "pair"

    # costs

    @property
    def parameters(self) -> float:
        """How many weights the model as given multiplies each token with, as far as a plan can know."""
        return self.size_of(self.spec.given.model).multiplied

    @property
    def size(self) -> ModelSize:
        """The size of the model as given, as far as a plan can know."""
        return self.size_of(self.spec.given.model)

    def size_of(self, model: str) -> ModelSize:
        """A model's size: by its files where it is at hand, else by the number of its weights, stated or in its name."""
        if model not in self.sizes:
            folder = load.folder_at_hand(model)
            read = None if folder is None else size_in(folder)
            stated = self.spec.given.parameters if model == self.spec.given.model else None
            count = stated or MATMUL_PARAMETERS.get(model)
            if read is None:
                self.sizes[model] = size_by_count(count or parameters_in_name(model) or UNKNOWN_WEIGHTS)
            else:
                self.sizes[model] = replace(read, multiplied=count or read.multiplied)
        return self.sizes[model]

    def cost(
        self, flops: float, tokens: float, *, share: float = 1.0, keeps: float = 0.0, written: bool = False
    ) -> Cost:
        """So many FLOPs at a share of this machine's rate; `written`: the tokens are written."""
        rate = FLOPS.get((self.compute.device, self.compute.precision), 1e11)
        seconds = START + flops / rate / share
        return Cost(int(tokens), seconds, int(keeps), int(tokens) * written, flops)

    def cost_of(self, model: str, tokens: float, *, training: bool, keeps: float = 0, written: bool = False) -> Cost:
        """Six FLOPs for each weight and token in training, two in reading."""
        flops = (6 if training else 2) * self.size_of(model).multiplied * tokens
        return self.cost(flops, tokens, keeps=keeps, written=written)

    def storing(self, cost: Cost, model: str, settings: TrainSettings | RepairTraining, *, merged: bool) -> Cost:
        """The cost of a training with the bytes that it stores: the model in its own number format (`merged`), or what was
        trained; and its checkpoints: trained weights and their two moments, twice while one replaces another."""
        size = self.size_of(model)
        moved = size.trained_bytes(settings.method, settings.lora.rank)
        return replace(cost, weights=size.bytes if merged else moved, checkpoint=2 * 3 * moved)


def left_out_if_bad(*rows: Step | Source) -> dict[str, str]:
    """What a step on rows is told of those that the model refuses: nothing, or to leave them out where that is said of a
    file that the rows come from."""

    def skips(step: Step | Source) -> bool:
        if not isinstance(step, Step):
            return False
        of_rows = (beneath for name, beneath in step.inputs.items() if name != "base")
        return step.config.get("on_bad_row") == "skip" or any(map(skips, of_rows))

    return {"on_bad_row": "skip"} if any(map(skips, rows)) else {}


def pinned(source: Source) -> str:
    """How a step opens a data set on the hub: its name and commit; nothing for a file, which is opened by its path."""
    return f"{source.path}#{source.identity}" if source.path.startswith("hf://") else ""


def parameters_in_name(name: str) -> float | None:
    """The size that a model's name states: 7e9 for 'Llama-2-7b-hf'."""
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])", name)
    return float(match[1]) * {"b": 1e9, "m": 1e6}[match[2].lower()] if match else None
