"""The probes of a study as steps: the items, and each model's answers."""

from dataclasses import replace
from pathlib import Path

from pyrite.errors import UserError
from pyrite.io import copy_or_path
from pyrite.models import load
from pyrite.models.load import ModelRef
from pyrite.probe.labels import ITEMS
from pyrite.probe.parse_task import parse_task
from pyrite.probe.predict import PREDICT
from pyrite.probe.probe_task import ModelUnderTest, ProbeTask
from pyrite.steps import Context, Cost, Source, Step, StepType
from pyrite.study.cells import CellKey
from pyrite.study.label_probes import by_grammar, task_of
from pyrite.study.plan_chats import Chats
from pyrite.study.plan_graph import WRITING, StepGraph, pinned
from pyrite.study.plan_labelled import LabelledRows
from pyrite.study.plan_lower import FrozenLayers
from pyrite.study.plan_training import Trainings
from pyrite.study.pool_perplexity import PoolPerplexity
from pyrite.study.spec import data_path
from pyrite.study.spec_probes import ProbeSpec
from pyrite.study.spec_steps import START_ROWS
from pyrite.tasks import TASKS
from pyrite.tasks.generative_tasks import GENERATIVE
from pyrite.tasks.scoring import Task
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.language import TRAIN_LANGUAGE

UNKNOWN = (1000, 300)
"""Items of a task that Pyrite does not know and tokens of an answer: for plans."""


def absent_step(context: Context) -> None:
    """Step: stands, in a plan, for a probe whose file or model is not at hand."""
    raise AssertionError(f"planned without its data: {dict(context.config)}")


ABSENT = StepType("study.absent", 1, absent_step)


class Probes:
    """The items of every probe, and models' answers to them. `given_model` is the model as given, as a probe asks it; None
    where a plan is made without it."""

    def __init__(
        self, graph: StepGraph, labelled: LabelledRows, chats: Chats, frozen: FrozenLayers, trainings: Trainings,
        store: Path | None,
    ) -> None:  # fmt: skip
        self.graph, self.labelled, self.chats, self.frozen, self.trainings = graph, labelled, chats, frozen, trainings
        self.spec, self.plan, self.store = graph.spec, graph.plan, store
        self.given_model = reference(self.spec.given.model, lenient=graph.lenient)

    def prepare(self, name: str, probe: ProbeSpec) -> None:
        """Plan the items of a probe, and the task that scores them."""
        if probe.names_labels:
            self.plan.items[name] = self.label_items(name, probe)
        elif (task := self.probe_task(probe)) is not None:
            self.plan.probe_tasks[name] = task

    def answers(self, cell: CellKey, model: Step | None, seed: int, label: str) -> dict[str, Step]:
        """One model's answers to the probes that ask its cell."""
        return {
            name: self.predictions(name, probe, model, seed, label)
            if probe.names_labels
            else self.written_answers(name, probe, model, label)
            for name, probe in self.spec.probes.items()
            if asks(probe, cell)
        }

    # answers that are labels

    def label_items(self, name: str, probe: ProbeSpec) -> Step:
        """The items of a probe of labels."""
        task = task_of(probe, self.spec)
        self.plan.tasks[name] = task
        strata = list(task.slices[-1]) if task.slices else []
        if task.name == "hans":
            strata = ["subcase", "gold"]
        config = {
            "task": probe.task,
            "fields": list(self.spec.fields),
            "labels": list(TASKS.get(probe.task, task).labels) if not probe.data else None,
            "items": probe.items,
            "in_full": probe.in_full,
            "strata": strata,
            "seed": probe.seed,
            "columns": probe.columns,
            "label_map": probe.label_map,
            "on_bad_row": probe.on_bad_row,
            "hub": None,
            "file": probe.file if by_grammar(probe) else None,
            "grammar_rows": probe.grammar_rows if by_grammar(probe) else None,
        }
        inputs: dict[str, Step | Source] = {}
        if probe.data:
            inputs["rows"], config["rows_file"] = self.labelled.data(probe.data)
        elif not by_grammar(probe):
            assert probe.file is not None
            inputs["file"] = file = self.graph.file(probe.file)
            config["hub"] = pinned(file) or None
        step = self.graph.keep(Step(ITEMS, config, inputs, label=f"{name}: choose items", cost=Cost(seconds=2)))
        self.plan.counts[f"probe {name}"] = step
        return step

    def items_in(self, probe: ProbeSpec) -> int:
        """How many items a plan expects a probe to have."""
        available = (
            self.labelled.rows_in(probe.data) if probe.data else probe.grammar_rows if by_grammar(probe) else 10_000
        )
        return min(available, probe.items or available)

    def predictions(self, name: str, probe: ProbeSpec, model: Step | None, seed: int, label: str) -> Step:
        """A model's labels: of a classifier by its head, of a language model by the label words."""
        items = self.items_in(probe)
        inputs: dict[str, Step | Source] = {"base": self.graph.base, "items": self.plan.items[name]}
        config = self.trainings.reading(seed)
        if not self.spec.labels or (model is not None and self.writes_text(model)):
            inputs["base"] = model or self.graph.base
            labels = self.spec.labels or label_words(probe, self.plan.tasks[name])
            config |= {"labels": list(labels), "by": "words", "reads": "prompt", "four_bit": False, "seed": 0}
            config |= {"on_bad_row": "skip"} if probe.on_bad_row == "skip" else {}
            model = None
        if model is not None:
            inputs["model"] = model
        lower = self.frozen.below(model)
        if lower is not None:
            most = self.spec.training.arm.max_tokens
            inputs["lower"] = self.frozen.stored(
                self.plan.items[name], "items.jsonl", lower, most, f"{name}: lower {lower.layers} layers", items
            )
        tokens = items * self.spec.tokens_per_row * (self.frozen.share_trained(lower.layers) if lower else 1)
        cost = self.graph.cost_of(self.spec.given.model, tokens, training=False, keeps=60 * items)
        return self.graph.keep(Step(PREDICT, config, inputs, label=f"{label}: {name}", cost=cost))

    def writes_text(self, model: Step) -> bool:
        """Is the model of a step a language model? It is what the last training before made it."""
        step: Step | Source = model
        while isinstance(step, Step):
            if step.kind.name in (TRAIN_CLASSIFIER.name, TRAIN_LANGUAGE.name):
                return step.kind.name == TRAIN_LANGUAGE.name
            step = step.inputs.get("model") or step.inputs["base"]
        return not self.spec.labels

    # answers that are text, and losses

    def probe_task(self, probe: ProbeSpec) -> ProbeTask | None:
        """The task that asks a probe; None where a plan is made without its file."""
        precision, variables = self.spec.given.precision, self.spec.chat_template_kwargs
        if probe.data:
            rows, file = self.chats.pool(probe.data)
            return PoolPerplexity(file, probe.config(None, precision, self.store, variables), rows=rows)
        path = data_path(probe.file, self.graph.folder) if probe.file else ""
        if self.graph.lenient and (
            probe.file is None or (not path.startswith("hf://") and not copy_or_path(path).exists())
        ):
            self.graph.miss(f"data {path}" if path else f"task {probe.task}")
            return None
        return parse_task(probe.text(path), probe.config(path, precision, self.store, variables))

    def probe_cost(self, probe: ProbeSpec) -> Cost:
        """What asking one model for text should take."""
        task = GENERATIVE.get(probe.task)
        items, tokens = UNKNOWN if task is None else task.usual
        if probe.data:
            items, tokens = self.chats.size(probe.data)
        count = min(probe.items or items, items)
        writes = task is not None
        total = count * ((probe.max_new_tokens or tokens) if writes else tokens)
        return self.graph.cost(
            2 * self.graph.parameters * total,
            total,
            share=WRITING if writes else 1.0,
            keeps=500 * count,
            written=writes,
        )

    def written_answers(self, name: str, probe: ProbeSpec, model: Step | None, label: str) -> Step:
        """A model's answers in text, or what it makes of text."""
        subject = ModelUnderTest(label, None, model) if model else ModelUnderTest(label, self.given_model)
        if name not in self.plan.probe_tasks or (model is None and self.given_model is None):
            step = Step(ABSENT, probe.model_dump(mode="json"), {"base": model or self.graph.base})
        else:
            step = self.plan.probe_tasks[name].step(subject)
        return self.graph.keep(replace(step, label=f"{label}: {name}", cost=self.probe_cost(probe)))


def asks(probe: ProbeSpec, cell: CellKey) -> bool:
    """Does a probe ask this cell? `only_cells` may name its arm or cell, or its start where nothing follows it."""
    names = {cell.name, cell.start} if cell.name == START_ROWS else {cell.name}
    return probe.only_cells is None or bool(names & set(probe.only_cells))


def reference(name: str, *, lenient: bool) -> ModelRef | None:
    """A model as a probe asks it; None where a plan is made without it."""
    if not lenient:
        return load.resolve(name)
    try:
        at_hand = Path(name).expanduser().is_dir() or name.startswith("packaged:")
        return load.resolve(name) if at_hand else load.resolve_hub(name, download=False)
    except UserError:
        return None


def label_words(probe: ProbeSpec, task: Task) -> tuple[str, ...]:
    """The labels that a language model chooses among, where the study names none: those of the task; of HANS the three of
    NLI, which it merges."""
    labels: tuple[str, ...] = TASKS["nli"].labels if probe.task == "hans" else task.labels
    return labels
