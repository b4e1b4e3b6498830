"""What can the model do before and after: held-out rows of both sides, and every `--task`, item by item.

Of a language model the held-out rows' perplexity is measured; of a classifier their accuracy and the nats of their label.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pyrite.conditions import GateOutcome
from pyrite.errors import UserError
from pyrite.models.load import ModelRef
from pyrite.probe import gate as gating
from pyrite.probe.config import ProbeConfig
from pyrite.probe.gate import answer_gate, refuse_early
from pyrite.probe.labels import LabelTask, make_items_step
from pyrite.probe.parse_task import parse_task
from pyrite.probe.perplexity import METRICS, Perplexity
from pyrite.probe.probe_task import ModelUnderTest, ProbeTask, Result
from pyrite.probe.result import Compared, Scorecard, compare_two, scorecard
from pyrite.probe.run_folder import SubjectOutput
from pyrite.probe.texts import Texts
from pyrite.repair.config import RepairConfig
from pyrite.repair.rows import RowSteps
from pyrite.repair.weights import METHODS as WEIGHT_METHODS
from pyrite.steps import Step, Store
from pyrite.tasks.scoring import ItemScore, Metric, Task, label_metrics

SIDES = ("replay", "forget")
"""The held-out rows of either side may stand for what was lost or gained, by these names."""
SHARED = (
    *("items", "skip", "max_new_tokens", "judge_url", "judge_model", "judge_votes", "judge_key_variable"),
    *("margin", "seed", "precision", "device_map", "max_tokens", "on_bad_row", "chat_template_kwargs"),
)
"""Options that mean here what they mean in `pyrite probe`."""


@dataclass(frozen=True)
class HeldOut:
    """The perplexity of the rows of one side that nothing was trained on: an `ProbeTask` of our own.

    On replay rows lower is better. Forget rows have no preferred direction: a rise says that the rows were forgotten, and also
    that what the training on them had gained may be lost; unless they stand for the gain (`--gain forget`).
    """

    name: str
    inner: Perplexity
    preferred: bool
    """Is lower better?"""

    @property
    def source(self) -> str:
        """Where the items come from."""
        return f"held-out {self.name} rows"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Nats a token and bits a byte."""
        return METRICS if self.preferred else tuple(replace(metric, direction="none") for metric in METRICS)

    @property
    def margins(self) -> Mapping[str, float]:
        """`--margin` is in nats and bits here."""
        return {}

    def step(self, subject: ModelUnderTest) -> Step:
        """The step that reads the rows with the model."""
        return replace(self.inner.step(subject), label=f"{subject.name}: perplexity of {self.source}")

    def read(self, store: Store, step: Step) -> Result:
        """Each row's mean, weighted by its tokens (or bytes) in the whole."""
        return replace(self.inner.read(store, step), metrics=self.metrics)

    def texts(self, store: Store, step: Step) -> Texts:
        """The rows."""
        return self.inner.texts(store, step)


@dataclass(frozen=True)
class HeldOutLabels:
    """Accuracy, and the nats of the label, of the rows of one side that nothing was trained on, by a classifier.

    Forget rows have no preferred direction: forgetting lowers the accuracy there, which is what was asked for; unless they
    stand for the gain (`--gain forget`).
    """

    inner: LabelTask
    preferred: bool
    """Has each metric a better end?"""

    @property
    def name(self) -> str:
        """The side."""
        return self.inner.name

    @property
    def source(self) -> str:
        """Where the items come from."""
        return f"held-out {self.name} rows"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, and nats a row."""
        metrics = (*label_metrics(self.inner.task), NATS)
        return metrics if self.preferred else tuple(replace(metric, direction="none") for metric in metrics)

    @property
    def margins(self) -> Mapping[str, float]:
        """`--margin` is a share, and in nats."""
        return {}

    def step(self, subject: ModelUnderTest) -> Step:
        """The step in which the classifier answers."""
        return replace(self.inner.step(subject), label=f"{subject.name}: {self.source}")

    def read(self, store: Store, step: Step) -> Result:
        """What was right, and how probable the label was."""
        result = self.inner.read(store, step)
        logits = {label: f"logit_{label}" for label in self.inner.task.labels}
        slices = {item.item: item.slices for item in result.measured}
        nats = [
            ItemScore(row["id"], NATS.name, nats_of(row, logits), row["id"], slices[row["id"]])
            for row in predictions(store.path(step.key))
        ]
        return replace(result, measured=[*result.measured, *nats], metrics=self.metrics)

    def texts(self, store: Store, step: Step) -> Texts:
        """The rows, the classifier's labels, and the right ones."""
        return self.inner.texts(store, step)


NATS = Metric("nats_per_row", "real", "lower", "negative log-probability of the row's label")


def predictions(folder: Path) -> list[dict[str, Any]]:
    """A finished step's answers: id, gold, and one logit for each label."""
    import polars as pl

    return list(pl.read_parquet(folder / "predictions.parquet").iter_rows(named=True))


def nats_of(row: Mapping[str, Any], logits: Mapping[str, str]) -> float:
    """-log softmax of the gold label's logit.

    >>> nats_of({"gold": "a", "x": 0.0, "y": 0.0}, {"a": "x", "b": "y"})
    0.6931471805599453
    """
    values = [float(row[name]) for name in logits.values()]
    top = max(values)
    return math.log(sum(math.exp(value - top) for value in values)) + top - float(row[logits[row["gold"]]])


@dataclass(frozen=True)
class ScoredModel:
    """One model's results and the texts behind them, by task, and the scorecards that are made of them when asked for."""

    name: str
    tasks: Sequence[ProbeTask]
    results: dict[str, Result]
    seed: int
    texts: dict[str, Texts] = field(default_factory=dict)

    @cached_property
    def cards(self) -> list[Scorecard]:
        """A scorecard for each task: every metric with its interval, overall and by slice."""
        return [scorecard(self.name, task, self.results[task.name], self.seed) for task in self.tasks]

    @property
    def table_rows(self) -> SubjectOutput:
        """What the tables of items and texts hold of this model."""
        return SubjectOutput(self.name, self.results, self.texts)

    def as_json(self) -> list[dict[str, Any]]:
        """Every card as plain values."""
        return [{"about": card.about, **card.as_json()} for card in self.cards]

    def called(self, name: str) -> "ScoredModel":
        """The same under another name."""
        return replace(self, name=name)

    def on_items(self, items: Mapping[str, frozenset[str]]) -> "ScoredModel":
        """The same on some of the items of some tasks, the others' whole."""
        results = {
            task: replace(
                result, measured=[item for item in result.measured if task not in items or item.item in items[task]]
            )
            for task, result in self.results.items()
        }
        return replace(self, results=results)


def probing(config: RepairConfig) -> ProbeConfig:
    """The options of the scorecard's tasks, as `pyrite probe` has them."""
    shared = {name: getattr(config, name) for name in SHARED}
    return ProbeConfig(model=config.model, task=(*config.task, *config.gain) or SIDES, **shared)


def tasks_of(config: RepairConfig, flag: str) -> list[ProbeTask]:
    """What is asked by `--task` or by `--gain` (`flag`) beside held-out rows, in its order."""
    probe = probing(config)
    return [parse_task(text, probe) for text in getattr(config, flag) if text not in SIDES]


def flag_names(config: RepairConfig, flag: str) -> tuple[str, ...]:
    """The names of all that `--task` or `--gain` (`flag`) names, held-out rows among them.

    Raises:
        UserError: held-out rows of a side that was not given.
    """
    for text in getattr(config, flag):
        if text in SIDES and not (getattr(config, text) and config.scorecard_rows):
            fix = f"--{text} FILE (and --scorecard-rows above 0), or another task"
            raise UserError("There are no held-out rows of that side.", f"--{flag} {text}", fix)
    probe = probing(config)
    return tuple(text if text in SIDES else parse_task(text, probe).name for text in getattr(config, flag))


def scorecard_tasks(config: RepairConfig, rows: RowSteps, store: Store, labels: Sequence[str] = ()) -> list[ProbeTask]:
    """Everything on the scorecard: the held-out rows of both sides, then the tasks in their order. A method of weights may
    go without any: large models are mixed where they could not be asked.

    Raises:
        UserError: no such task, or a task asked twice.
    """
    probe = probing(config)
    part = "all" if config.part == "all" else None  # answers of chats; plain text has none to ask for
    reading = probe.model_copy(update={"items": None, "skip": 0, "part": part})
    tasks: list[ProbeTask] = []
    if config.scorecard_rows:
        for side in SIDES:
            if side not in rows.sides:
                continue
            pool = f"scorecard_{side}"
            preferred = side == "replay" or side in (*config.task, *config.gain)
            if labels:
                tasks.append(held_out_labels(side, pool, rows, labels, reading, preferred=preferred))
                continue
            file = store.path(rows.of(pool).key) / f"{pool}.jsonl"
            tasks.append(HeldOut(side, Perplexity(str(file), reading), preferred))
    tasks += [*tasks_of(config, "task"), *tasks_of(config, "gain")]
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        fix = "give each --task and --gain once, and one file of a task; replay and forget are ours"
        raise UserError("A task is asked twice.", ", ".join(names), fix)
    if not tasks and config.method not in WEIGHT_METHODS:
        fix = "give a --task, or rows (--forget, --replay) and leave --scorecard-rows as it is"
        raise UserError("The scorecard would be empty.", "no --task, and no rows are held out", fix)
    return tasks


def held_out_labels(
    side: str, pool: str, rows: RowSteps, labels: Sequence[str], config: ProbeConfig, *, preferred: bool
) -> HeldOutLabels:
    """A side's held-out rows as a task of labels."""
    items_config: dict[str, Any] = {
        "task": "labelled",
        "rows_file": f"{pool}.jsonl",
        "items": None,
        "in_full": {},
        "seed": config.seed,
    }
    items = make_items_step(items_config, {"rows": rows.of(pool)}, strata=["gold"], label=f"held-out {side} rows")
    task = Task(side, tuple(labels), slices=(("gold",),))
    return HeldOutLabels(LabelTask(task, pool, items, config), preferred)


def check_label_tasks(tasks: Sequence[ProbeTask], folder: Path) -> None:
    """Refuse, before anything runs, what the classifier in a folder cannot be asked.

    Raises:
        UserError: a task of written answers or of a text's probability, or one of labels that the classifier lacks.
    """
    whom = model_under_test("the model", folder, "")
    for task in tasks:
        if not isinstance(task, LabelTask | HeldOutLabels):
            fix = "--task nli=FILE, hans=FILE, heuristics, or a FILE.yaml of labels"
            raise UserError("A classifier answers with labels only.", f"--task {task.name}", fix)
        task.step(whom)


def gates_of(config: RepairConfig, tasks: Sequence[ProbeTask]) -> list[gating.Gate]:
    """The conditions on the repaired model, checked before anything runs."""
    gates = [gating.parse(text, [task.name for task in tasks]) for text in config.gate]
    for gate in gates:
        refuse_early(gate, list(tasks), two_models=True)
    return gates


def model_under_test(name: str, folder: Path, identity: str) -> ModelUnderTest:
    """A model in a folder. Of a folder in the store the identity is its step's key, so that a study's answers count."""
    return ModelUnderTest(name, ModelRef(name, folder, identity))


def steps_of(tasks: Sequence[ProbeTask], whom: ModelUnderTest) -> dict[str, Step]:
    """The steps in which a model is asked, by task."""
    return {task.name: task.step(whom) for task in tasks}


def read_scores(
    tasks: Sequence[ProbeTask], whom: ModelUnderTest, steps: Mapping[str, Step], store: Store, seed: int
) -> ScoredModel:
    """A model's scorecards out of the finished steps."""
    results = {task.name: task.read(store, steps[task.name]) for task in tasks}
    texts = {task.name: task.texts(store, steps[task.name]) for task in tasks}
    return ScoredModel(whom.name, tasks, results, seed, texts)


def compare_tasks(
    tasks: Sequence[ProbeTask], first: ScoredModel, second: ScoredModel, config: RepairConfig
) -> list[Compared]:
    """The second model minus the first on every task: paired intervals and verdicts."""
    results, names = [first.results, second.results], [first.name, second.name]
    return [compare_two(task, results, names, probing(config)) for task in tasks]


def gate_results(
    gates: Sequence[gating.Gate], harmed: ScoredModel, repaired: ScoredModel, seed: int
) -> list[GateOutcome]:
    """Does the repaired model meet the conditions? A change is from the model that was given to be repaired."""
    return [answer_gate(gate, [harmed.results, repaired.results], seed) for gate in gates]
