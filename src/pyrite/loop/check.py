"""What can be refused before a loop's first part runs: absent files, unknown tasks, measures and gates, a folder in use."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyrite.errors import UserError
from pyrite.gate import studies
from pyrite.io import copy_or_path, is_hub, local_place, path_in
from pyrite.loop.inputs import Inputs
from pyrite.loop.spec import GRAMMAR, LOOP, STUDY, LoopSpec, named_in
from pyrite.models import load
from pyrite.outputs import check_folder
from pyrite.report.run import check_out
from pyrite.runs import read_run
from pyrite.runs.study import ContrastNames
from pyrite.study.spec import data_path
from pyrite.study.spec_steps import START_ROWS

if TYPE_CHECKING:
    from pyrite.probe.probe_task import ProbeTask


def check_loop(spec: LoopSpec, inputs: Inputs, *, only_plan: bool = False) -> None:
    """Refuse a loop that would fail later; with `only_plan`, models are not looked for.

    Raises:
        UserError: a file that is not there, a name that means nothing, a gate that cannot be asked, a folder in use.
    """
    check_folder(inputs.folder, "loop")
    check_out(inputs.folder / "report.html")
    if (inputs.folder / "run.json").is_file() and read_run(inputs.folder).name != spec.loop:
        raise UserError("The loop's folder holds another loop.", str(inputs.folder), "choose another --out")
    check_names(inputs)
    check_loop_files(inputs)
    check_audit(spec)
    if spec.synth is not None:
        check_recipe(inputs)
    tasks = probe_tasks(spec, inputs)
    check_tasks(spec, tasks, "probe")
    check_tasks(spec, [*tasks, *gains_of(spec, inputs, tasks)], "repair")
    if spec.repair is not None:
        check_repair(spec, inputs)
    if not only_plan and spec.model is not None and not spec.model.startswith(STUDY):
        load.resolve(inputs.local(spec.model))


def check_loop_files(inputs: Inputs) -> None:
    """Refuse files that are not there; what parts of the loop leave for others is."""
    spec = inputs.spec
    for name in spec.rows:
        if not name.startswith((STUDY, GRAMMAR, "loop:")):
            check_exists(name, inputs.file(name))
        if name == "loop:made":
            raise UserError("The rows that the recipe makes are audited by themselves.", name, "leave out this audit")
    named = [*spec.audit.against, *(file for more in spec.audits.values() for file in more.against)]
    for text in named:
        check_file(text, inputs, plain=True)
    for text in (*(spec.probe.task if spec.probe else ()), *(spec.repair.gain if spec.repair else ())):
        check_file(text, inputs)


def check_file(text: str, inputs: Inputs, *, plain: bool = False) -> None:
    """Refuse `NAME=FILE`, a task's YAML, or (where `plain`) any other name, whose file is not there."""
    name, sign, where = text.partition("=")
    file = where if sign else name if plain or name.endswith((".yaml", ".yml")) else ""
    if file and not file.isdigit():
        check_exists(text, data_path(file, inputs.data))


def check_exists(name: str, path: str) -> None:
    """Refuse a file that is not there; what is on the hub is looked for by the part that reads it."""
    if not is_hub(path) and not copy_or_path(path).exists():
        raise UserError("A file of the loop is not there.", f"{name}: {path}", "mend its name, or give --data FOLDER")


def check_audit(spec: LoopSpec) -> None:
    """Refuse unknown flaws, thresholds and gates of the audits."""
    from pyrite.audit import gate as gating
    from pyrite.audit.flaws.registry import full_names
    from pyrite.audit.plan import selected_flaws
    from pyrite.audit.run import thresholds

    for part in (spec.audit, *spec.audits.values()):
        measures = full_names(selected_flaws(part.only))
        thresholds(part.thresholds, measures)
        if part is spec.audit:
            for text in spec.gates_of("audit"):
                gating.parse(text, measures)


def check_recipe(inputs: Inputs) -> None:
    """Refuse a recipe that cannot be read, or whose rows are not there."""
    from pyrite.synth.run import load_recipe

    path = local_place(inputs.local(str(inputs.spec.synth)))
    rows = load_recipe(path).rows
    if rows not in LOOP and not is_hub(rows) and not copy_or_path(path_in(path.parent, rows)).exists():
        raise UserError("The recipe's rows are not there.", f"{path}: {rows}", "mend the recipe, or name loop:clean")
    if rows == "loop:made":
        raise UserError("The recipe reads what it makes.", f"{path}: {rows}", "name loop:clean, or a file")


def probe_tasks(spec: LoopSpec, inputs: Inputs) -> "list[ProbeTask]":
    """What the model is asked.

    Raises:
        UserError: no such task, or a task asked twice.
    """
    from pyrite.probe.config import ProbeConfig
    from pyrite.probe.parse_task import parse_task

    if spec.probe is None:
        return []
    config = ProbeConfig(**inputs.probe_options(), model=spec.model)
    tasks = [parse_task(text, config) for text in config.task]
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise UserError("A task is asked twice.", ", ".join(names), "give each task once")
    return tasks


def gains_of(spec: LoopSpec, inputs: Inputs, tasks: "Sequence[ProbeTask]") -> "list[ProbeTask]":
    """What a repair asks beside the probe: what the harmful training gained.

    Raises:
        UserError: no such task, or one that is asked already.
    """
    from pyrite.probe.config import ProbeConfig
    from pyrite.probe.parse_task import parse_task
    from pyrite.repair.scorecard import SIDES

    gains = [text for text in inputs.options(spec.repair).get("gain", ()) if text not in SIDES] if spec.repair else []
    if not gains:
        return []
    config = ProbeConfig(**{**inputs.probe_options(), "task": tuple(gains)}, model=spec.model)
    gained_tasks = [parse_task(text, config) for text in gains]
    both = sorted({task.name for task in gained_tasks} & {task.name for task in tasks})
    if both:
        raise UserError("A task is asked twice.", both[0], "name it under probe.task or under repair.gain")
    return gained_tasks


def check_tasks(spec: LoopSpec, tasks: "Sequence[ProbeTask]", part: str) -> None:
    """Refuse a gate on a task or metric that the part does not ask; the held-out rows of a repair are known later."""
    from pyrite.probe import gate as gating
    from pyrite.probe.gate import refuse_early

    repair_tasks = (
        ["replay", "forget"] if part == "repair" and (spec.repair is None or spec.repair.scorecard_rows) else []
    )
    for text in spec.gates_of(part):
        gate = gating.parse(text, [*(task.name for task in tasks), *repair_tasks])
        if gate.task not in repair_tasks:
            refuse_early(gate, list(tasks), two_models=part == "repair")


def check_repair(spec: LoopSpec, inputs: Inputs) -> None:
    """Refuse a repair's options that do not go together, before the audit runs."""
    from pyrite.repair import proofs, run_folder
    from pyrite.repair.check import settings_of
    from pyrite.repair.config import RepairConfig

    assert spec.repair is not None
    options = inputs.options(spec.repair)
    rows = () if spec.forget == "none" else ("-",)
    config = RepairConfig(**options, model=str(spec.model), forget=rows, replay=rows)
    settings_of(config)
    proofs.parse_proofs(config.prove)
    if config.undoes is not None:
        run_folder.undone(config.undoes)


def check_names(inputs: Inputs) -> None:
    """Refuse a study that reads what it is itself needed for, or arms that it does not have.

    Raises:
        UserError: the study cannot be read, has no such arm, or reads rows that come after it.
    """
    spec = inputs.spec
    if spec.study is None:
        return
    study = inputs.study_spec()
    named = named_in(study)
    for text in spec.gates_of("study"):
        studies.check_condition(text, [ContrastNames(**contrast.as_json()) for contrast in study.primary()])
    if spec.study_first and named:
        fix = "name files in the place of one of the two"
        raise UserError(
            "The loop turns in a circle.", f"the study reads {named[0]}, and the audit reads the study's rows", fix
        )
    if "loop:made" in named and not spec.synth:
        raise UserError("The study reads rows that nothing makes.", "loop:made", "name a recipe under synth")
    arms = [row.removeprefix(STUDY) for row in spec.rows if row.startswith(STUDY)]
    if arms and not (study.has_grid and study.labels):
        raise UserError("This study has no arms of labelled rows.", f"{STUDY}{arms[0]}", "name the files themselves")
    models = [name.removeprefix(STUDY) for name in spec.models if name.startswith(STUDY)]
    names = [*study.all_arms(), *dict.fromkeys(cell.name for cell in study.cells)]
    strange = [arm for arm in arms if arm not in study.all_arms()]
    strange += [model for model in models if model not in (*names, *([START_ROWS] if study.has_grid else []))]
    if strange:
        raise UserError("The study has no such arm.", f"{STUDY}{strange[0]}", f"known: {', '.join(names)}")
    for name in (file for data in study.data.values() for file in data.files if file not in LOOP):
        check_exists(name, data_path(name, inputs.data))
