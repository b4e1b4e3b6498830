"""What can be refused before a loop's first part runs: absent files, unknown tasks, measures and gates, a folder in use."""

from pathlib import Path

from pyrite.errors import UserError
from pyrite.io import is_hub
from pyrite.loop.config import LoopConfig
from pyrite.loop.inputs import Inputs, check_names
from pyrite.loop.spec import STUDY, LoopSpec
from pyrite.runs import read_run
from pyrite.study.spec import data_path


def check(spec: LoopSpec, config: LoopConfig, inputs: Inputs) -> None:
    """Refuse a loop that would fail later.

    Raises:
        UserError: a file that is not there, a name that means nothing, a gate that cannot be asked, a folder in use.
    """
    check_folder(inputs.folder, spec.loop)
    check_names(inputs)
    rows = [
        *spec.synthetic,
        *spec.human,
        *(one for more in spec.audits.values() for one in (*more.data, *more.reference)),
    ]
    for name in rows:
        path = inputs.file(name)
        if not name.startswith(STUDY) and not is_hub(path) and not Path(path).exists():
            raise UserError(
                "A file of the loop is not there.", f"{name}: {path}", "mend its name, or give --data FOLDER"
            )
    named = [*spec.audit.against, *(one for more in spec.audits.values() for one in more.against)]
    for text in [*named, *(spec.probe.task if spec.probe else ())]:
        check_file(text, inputs)
    check_audit(spec)
    if spec.probe is not None:
        check_probe(spec, inputs)
    if spec.repair is not None and spec.probe is None:
        check_tasks(spec, [], "repair")


def check_file(text: str, inputs: Inputs) -> None:
    """Refuse `NAME=FILE`, or a task's YAML, whose file is not there."""
    name, sign, where = text.partition("=")
    file = where if sign else name if name.endswith((".yaml", ".yml")) else ""
    path = data_path(file, inputs.data)
    if file and not file.isdigit() and not is_hub(path) and not Path(path).exists():
        raise UserError("A file of the loop is not there.", f"{text}: {path}", "mend its name, or give --data FOLDER")


def check_folder(folder: Path, name: str) -> None:
    """Refuse to write into a folder that holds a run of something else."""
    if (folder / "run.json").is_file():
        found = read_run(folder)
        if found.verb != "loop":
            fix = "choose another folder with --out, or rename the loop"
            raise UserError("The loop's folder holds another run.", f"{folder}: {found.verb} {found.name}", fix)
        if found.name != name:
            raise UserError("The loop's folder holds another loop.", f"{folder}: {found.name}", "choose another --out")


def check_audit(spec: LoopSpec) -> None:
    """Refuse unknown flaws, thresholds and gates of the audits."""
    from pyrite.audit import gate as gating
    from pyrite.audit.families import measures
    from pyrite.audit.plan import wanted
    from pyrite.audit.run import thresholds

    for part in (spec.audit, *spec.audits.values()):
        known = [one.full_name for flaw in wanted(part.only) for one in measures(flaw)]
        thresholds(part.thresholds, known)
        if part is spec.audit:
            for text in spec.gates_of("audit"):
                gating.parse(text, known)


def check_probe(spec: LoopSpec, inputs: Inputs) -> None:
    """Refuse tasks and gates that cannot be asked."""
    from pyrite.probe.asked import ask
    from pyrite.probe.config import ProbeConfig

    config = ProbeConfig(**inputs.probe_options(), model=spec.model)
    asked = [ask(text, config) for text in config.task]
    check_tasks(spec, asked, "probe")
    if spec.repair is not None:
        check_tasks(spec, asked, "repair")


def check_tasks(spec: LoopSpec, asked: list, part: str) -> None:  # type: ignore[type-arg]
    """Refuse a gate on a task or metric that the part does not ask; the held-out rows of a repair are known later."""
    from pyrite.probe import gate as gating
    from pyrite.probe.run import early

    own = ["replay", "forget"] if part == "repair" and (spec.repair is None or spec.repair.scorecard_rows) else []
    for text in spec.gates_of(part):
        gate = gating.parse(text, [*(one.name for one in asked), *own])
        if gate.task not in own:
            early(gate, asked, two_models=part == "repair")
