"""How good is this model on its general task, and in its blind spots? One model, two to compare, or answers from a file."""

from collections.abc import Sequence
from dataclasses import replace

from pyrite.conditions import exit_code
from pyrite.errors import UserError
from pyrite.models import hardware, load
from pyrite.outputs import check_folder, takes_urls
from pyrite.probe import gate as gating
from pyrite.probe import run_folder
from pyrite.probe.config import ProbeConfig
from pyrite.probe.export import Exported, export_tasks
from pyrite.probe.generative import GenerativeProbe
from pyrite.probe.labels import LabelTask
from pyrite.probe.parse_task import parse_task
from pyrite.probe.probe_task import ModelUnderTest, ProbeTask, opened
from pyrite.probe.result import ProbeResult, compare_two, scorecard
from pyrite.probe.texts import Texts
from pyrite.redact import redact_existing_path, unlike
from pyrite.runs.probe import ProbeRecord
from pyrite.steps import Progress, RunOptions, Step, Store, open_store, run_steps


@takes_urls(ins=("predictions", "harness_data", "harness_tasks"), outs=("out", "export"), runs=("out",))
def probe(config: ProbeConfig) -> ProbeResult | Exported:
    """Score a model, two models, or a predictions file, on each task; with `export`, write the tasks for another harness.

    Raises:
        UserError: neither or both of model and predictions, a file that cannot be read, labels that do not match, a
            gate on a task or metric that is not there, a run folder that is in use; of an export a task whose answers
            are no labels.
    """
    if config.export is not None:
        return Exported(export_tasks(config))
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
        gating.refuse_early(gate, tasks, two_models=config.other is not None)
    if config.out is not None:
        check_folder(config.out, "probe")
    store = open_store(config.store)
    progress = Progress(quiet=config.quiet)
    seconds = config.max_time * 60 if config.max_time else None
    options = RunOptions(engine=config.engine, threads=hardware.cluster_threads(config.engine), max_seconds=seconds)
    steps: list[dict[str, Step]] = []
    if config.predictions is not None:
        (only, *more) = tasks
        if more or not isinstance(only, LabelTask | GenerativeProbe):
            fix = "give one such --task"
            raise UserError("--predictions answers one task, of labels or of texts.", ", ".join(names), fix)
        if isinstance(only, LabelTask):
            run_steps([only.items], store, options, progress)
            results = [{only.name: only.read_file(store, config.predictions)}]
        else:
            steps = [{only.name: only.step_of_file(config.predictions)}]
            run_steps(opened(steps[0][only.name]), store, options, progress)
            results = [{only.name: only.read(store, steps[0][only.name])}]
        subjects = [redact_existing_path(str(config.predictions))]
    else:
        models = [name for name in (config.model, config.other) if name is not None]
        subjects = unlike([redact_existing_path(name) for name in models])
        local = config.backend == "local"
        whom = [ModelUnderTest(name, load.resolve(name) if local else None) for name in models]
        refuse_twin(whom)
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
        gate_results = [gating.answer_gate(gate, results, config.seed) for gate in gates]
        probed = replace(
            probed,
            gates=gate_results,
            exit_code=exit_code([result.outcome for result in gate_results], config.undecided),
        )
    if config.out is not None:
        texts = texts_by_subject(config, tasks, steps, store)
        subject_outputs = [run_folder.SubjectOutput(*parts) for parts in zip(subjects, results, texts, strict=True)]
        described = run_folder.described(results[-1], config.margin)
        record = ProbeRecord(**probed.as_run(), **described, **run_folder.settings(config))
        run_folder.write_probe_run(config.out, record, subject_outputs)
    return probed


def refuse_twin(models: Sequence[ModelUnderTest]) -> None:
    """Refuse to compare a model with itself: no item can change, which is no finding.

    Raises:
        UserError: the same folder, or the same name on an endpoint, twice.
    """
    if len(models) < 2:
        return
    first, second = models
    places = [model.ref.folder.resolve() if model.ref else model.name for model in models]
    if places[0] == places[1]:
        detail = first.name if first.name == second.name else f"{first.name} and {second.name} are {places[0]}"
        raise UserError("Both models are the same one.", detail, "name two models, or one alone")


def texts_by_subject(
    config: ProbeConfig, tasks: list[ProbeTask], steps: list[dict[str, Step]], store: Store
) -> list[dict[str, Texts]]:
    """The texts of each subject, by task; of a predictions file its labels."""
    if config.predictions is not None and not steps:
        return [
            {task.name: task.texts_of_file(store, config.predictions)} for task in tasks if isinstance(task, LabelTask)
        ]
    return [{task.name: task.texts(store, steps_of_subject[task.name]) for task in tasks} for steps_of_subject in steps]
