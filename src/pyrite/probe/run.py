"""How good is this model on its general task, and in its blind spots? One model, two to compare, or answers from a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrite.conditions import GateOutcome
from pyrite.errors import UserError
from pyrite.models import load
from pyrite.names import redact_existing_path, unlike
from pyrite.outputs import check_folder
from pyrite.probe import gate as gating
from pyrite.probe import output
from pyrite.probe.compare import Comparison, Flip, compare, flips
from pyrite.probe.config import ProbeConfig
from pyrite.probe.parse_task import parse_task
from pyrite.probe.probe_task import LabelTask, ModelUnderTest, ProbeTask, Result, opened
from pyrite.probe.texts import Texts
from pyrite.runs.probe import ProbeRecord
from pyrite.steps import Progress, RunOptions, Step, Store, default_store, run_steps
from pyrite.tasks.judge import verdict_against_noise
from pyrite.tasks.rows import read_rows
from pyrite.tasks.scoring import Line, Metric, summarise

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class Scorecard:
    """One task's scores of one subject."""

    about: str
    task: str
    source: str
    lines: list[Line]
    result: Result

    @property
    def unmatched(self) -> int:
        """Answers in the file for items that the task does not have."""
        return self.result.unmatched

    def as_json(self) -> dict[str, Any]:
        """The shape that `--json` promises: overall (of the task's first metric), then every other line."""
        overall, rest = self.lines[0], self.lines[1:]
        return {
            "task": self.task,
            "source": self.source,
            "metric": overall.metric,
            "overall": estimate_record(overall),
            "unmatched": self.unmatched,
            "intervals": overall.note,
            "notes": list(self.result.notes),
            "judge_noise": {name: noise.as_json() for name, noise in self.result.noise.items()},
            "details": dict(self.result.details),
            "slices": [slice_json(line) for line in rest],
        }


def slice_json(line: Line) -> dict[str, Any]:
    """A line as plain values, the gold label apart from the other columns."""
    return {"metric": line.metric, **slice_title(line.values), **estimate_record(line)}


def slice_title(values: Sequence[tuple[str, str]]) -> dict[str, str | None]:
    """What a slice is called, by its columns' values: `by` (columns), `name` (values) and the gold label apart."""
    plain = [(column, value) for column, value in values if column != "gold"]
    gold = dict(values).get("gold")
    by = " x ".join(column for column, _ in plain) or ("gold" if gold else "overall")
    return {"by": by, "name": " / ".join(value for _, value in plain) or gold or "overall", "gold": gold}


def estimate_record(line: Line) -> dict[str, Any]:
    """An estimate as plain values; null where nothing was answered."""
    estimate = line.estimate
    value = None if estimate.n == 0 else estimate.value
    values = {
        "value": value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "n_missing": estimate.n_missing,
    }
    return {**values, "direction": estimate.direction, "method": estimate.method}


@dataclass(frozen=True)
class Compared:
    """One task, two subjects, item by item."""

    task: str
    comparison: Comparison
    flips: list[Flip]
    against_noise: Mapping[str, str] = field(default_factory=dict)
    """By metric: the verdict once the judge's own noise is thought of."""

    def as_json(self) -> dict[str, Any]:
        """The comparison and the items that changed sides."""
        values = {"task": self.task, **self.comparison.as_json(), "flips": [flip.as_json() for flip in self.flips]}
        return values | ({"against_judge_noise": dict(self.against_noise)} if self.against_noise else {})


@dataclass(frozen=True)
class ProbeResult:
    """The scorecards of one model, two models, or a predictions file; the comparison and the gates where asked for."""

    about: str
    cards: list[Scorecard]
    compared: list[Compared] = field(default_factory=list)
    gates: list[GateOutcome] = field(default_factory=list)
    exit_code: int = 0

    def table(self) -> "polars.DataFrame":
        """Every line of every scorecard, with its interval."""
        from pyrite.probe.tables import table

        return table([{"about": card.about, **card.as_json()} for card in self.cards])

    def as_json(self) -> dict[str, Any]:
        """One task and one model: its scorecard; several: a list of them."""
        record: dict[str, Any] = {"schema_version": 1, "about": self.about}
        if len(self.cards) == 1:
            record |= self.cards[0].as_json()
        else:
            record["scorecards"] = [{"about": card.about, **card.as_json()} for card in self.cards]
        if self.compared:
            record["compared"] = [comparison.as_json() for comparison in self.compared]
        if self.gates:
            record |= {"gates": [gate.as_json() for gate in self.gates], "exit_code": self.exit_code}
        return record

    def as_run(self) -> dict[str, Any]:
        """What a run folder tells of the result: the same, always in the shape of several."""
        return {
            "schema_version": 1,
            "verb": "probe",
            "about": self.about,
            "models": list(dict.fromkeys(card.about for card in self.cards)),
            "scorecards": [{"about": card.about, **card.as_json()} for card in self.cards],
            "compared": [comparison.as_json() for comparison in self.compared],
            "gates": [gate.as_json() for gate in self.gates],
            "exit_code": self.exit_code,
        }


@dataclass(frozen=True)
class Exported:
    """Tasks of labels as lm-evaluation-harness reads them: their YAML files."""

    files: Sequence[Path]
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"schema_version": 1, "exported": [str(file) for file in self.files]}


def probe(config: ProbeConfig) -> ProbeResult | Exported:
    """Score a model, two models, or a predictions file, on each task; with `export`, write the tasks for another harness.

    Raises:
        UserError: all that `score` and `export_tasks` can raise.
    """
    return score(config) if config.export is None else Exported(export_tasks(config))


def score(config: ProbeConfig) -> ProbeResult:
    """Score a model, two models, or a predictions file, on each task.

    Raises:
        UserError: neither or both of model and predictions, a file that cannot be read, labels that do not match, a
            gate on a task or metric that is not there, a run folder that is in use.
    """
    if (config.model is None) == (config.predictions is None):
        raise UserError(
            "Give a model or --predictions, and not both.", f"model {config.model}", "pyrite probe MODEL --task …"
        )
    tasks = [parse_task(text, config) for text in config.task]
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise UserError("A task is asked twice.", ", ".join(names), "give each --task once")
    gates = [gating.parse(text, names) for text in config.gate]
    for gate in gates:
        early(gate, tasks, two_models=config.other is not None)
    if config.out is not None:
        check_folder(config.out, "probe")
    store = Store(config.store or default_store())
    progress = Progress(quiet=config.quiet)
    options = RunOptions(max_seconds=config.max_time * 60 if config.max_time else None)
    steps: list[dict[str, Step]] = []
    if config.predictions is not None:
        (only, *more) = tasks
        if more or not isinstance(only, LabelTask):
            raise UserError("--predictions answers one task of labels.", ", ".join(names), "give one such --task")
        run_steps([only.items], store, options, progress)
        results = [{only.name: only.read_file(store, config.predictions)}]
        subjects = [redact_existing_path(str(config.predictions))]
    else:
        models = [name for name in (config.model, config.other) if name is not None]
        subjects = unlike([redact_existing_path(name) for name in models])
        local = config.backend == "local"
        whom = [ModelUnderTest(name, load.resolve(name) if local else None) for name in models]
        steps = [{task.name: task.step(subject) for task in tasks} for subject in whom]
        run_steps(
            [
                opened_step
                for steps_of_subject in steps
                for step in steps_of_subject.values()
                for opened_step in opened(step)
            ],
            store,
            options,
            progress,
        )
        results = [
            {task.name: task.read(store, steps_of_subject[task.name]) for task in tasks} for steps_of_subject in steps
        ]
    cards = [
        scorecard(subject, task, results_of_subject[task.name], config.seed)
        for subject, results_of_subject in zip(subjects, results, strict=True)
        for task in tasks
    ]
    probed = ProbeResult(" against ".join(subjects), cards)
    if len(results) == 2:
        probed = replace(probed, compared=[compare_two(task, results, subjects, config) for task in tasks])
    if gates:
        gate_results = [answer_gate(gate, results, config.seed) for gate in gates]
        probed = replace(probed, gates=gate_results, exit_code=gating.verdict(gate_results, config.undecided))
    if config.out is not None:
        texts = texts_by_subject(config, tasks, steps, store)
        subject_outputs = [output.SubjectOutput(*parts) for parts in zip(subjects, results, texts, strict=True)]
        described = output.described(results[-1], config.margin)
        record = ProbeRecord(**probed.as_run(), **described, **output.settings(config))
        output.write_probe_run(config.out, record, subject_outputs)
    return probed


def texts_by_subject(
    config: ProbeConfig, tasks: list[ProbeTask], steps: list[dict[str, Step]], store: Store
) -> list[dict[str, Texts]]:
    """The texts of each subject, by task; of a predictions file its labels."""
    if config.predictions is not None:
        return [
            {task.name: task.texts_of_file(store, config.predictions)} for task in tasks if isinstance(task, LabelTask)
        ]
    return [{task.name: task.texts(store, steps_of_subject[task.name]) for task in tasks} for steps_of_subject in steps]


def export_tasks(config: ProbeConfig) -> list[Path]:
    """Write the label tasks into `config.export` so that lm-evaluation-harness can run them; returns their YAMLs.

    Raises:
        UserError: a task whose answers are no labels, or a file that cannot be read.
    """
    from pyrite.probe.export import export

    assert config.export is not None
    tasks = [parse_task(text, config) for text in config.task]
    store = Store(config.store or default_store())
    written = []
    for task in tasks:
        if not isinstance(task, LabelTask):
            raise UserError("Only tasks of labels can be exported.", task.name, "hans, nli, heuristics, or a YAML")
        run_steps([task.items], store, RunOptions(), Progress(quiet=config.quiet))
        items = read_rows(store.path(task.items.key) / "items.jsonl")
        written.append(
            export(items, task.task, config.export, labels=config.labels or None, name=f"pyrite_{task.name}")
        )
    return written


def early(gate: gating.Gate, tasks: list[ProbeTask], *, two_models: bool) -> None:
    """Refuse, before anything runs, a gate on a task or metric that is not asked, or on a change from nothing."""
    metrics_of = {task.name: task.metrics for task in tasks}
    if metrics_of.get(gate.task, ()) is None:  # what a harness task measures, only its run can say
        if gate.change and not two_models:
            raise UserError("A gate on a change needs two models.", gate.text, "pyrite probe BEFORE AFTER --task …")
        return
    gating.gate_metric(gate, {name: metrics or () for name, metrics in metrics_of.items()}, two_models=two_models)


def scorecard(about: str, task: ProbeTask, result: Result, seed: int) -> Scorecard:
    """Every metric overall, then by its slices."""
    lines = []
    for metric in result.metrics:
        items = [item for item in result.measured if item.metric == metric.name]
        cuts = result.cuts.get(metric.name, ((),))
        columns = {column for item in items for column in item.slices}
        cuts = tuple(cut for cut in cuts if set(cut) <= columns)
        lines += summarise(items, [metric], cuts, seed=seed, cluster=result.cluster)
    return Scorecard(about, task.name, redact_existing_path(task.source), lines, result)


def compare_two(
    task: ProbeTask, results: list[dict[str, Result]], subjects: list[str], config: ProbeConfig
) -> Compared:
    """The second model minus the first, metric by metric."""
    first, second = results[0][task.name], results[1][task.name]
    metrics = common_scales(first.metrics, second.metrics)
    cuts = {cut: None for cuts_of_metric in first.cuts.values() for cut in cuts_of_metric if cut}
    columns = {column for item in first.measured for column in item.slices}
    comparison = compare(
        first.measured,
        second.measured,
        metrics,
        tuple(cut for cut in cuts if set(cut) <= columns),
        margin=config.margin,
        margins=task.margins,
        seed=config.seed,
        names=(subjects[0], subjects[1]),
        cluster=first.cluster,
        headlines=first.headlines,
    )
    against = {}
    for name, noise in second.noise.items():
        noise_before = first.noise.get(name)
        larger = max(
            [estimate for estimate in (noise, noise_before) if estimate is not None],
            key=lambda estimate: (estimate.value != estimate.value, estimate.value),
        )
        change = next(line.change.difference for line in comparison.primary if line.metric == name)
        against[name] = str(verdict_against_noise(change, larger))
    shares = tuple(metric for metric in metrics if metric.scale == "share")
    return Compared(task.name, comparison, flips(first.measured, second.measured, shares), against)


def common_scales(first: Sequence[Metric], second: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics of both: a share only where each model's values say so (what a harness task measures is known from
    its values, and those of a model that is never right are all 0)."""
    real = {metric.name for metric in second if metric.scale == "real"}
    return tuple(replace(metric, scale="real") if metric.name in real else metric for metric in first)


def answer_gate(gate: gating.Gate, results: list[dict[str, Result]], seed: int) -> GateOutcome:
    """Does a gate hold? With two models, a plain gate looks at the second."""
    first, last = results[0][gate.task], results[-1][gate.task]
    before = first.measured if len(results) == 2 else None
    measurements = {gate.task: gating.Measurements(common_scales(first.metrics, last.metrics), last.measured, before)}
    return gating.check_gate(gate, measurements, seed=seed, cluster=last.cluster)
