"""Do it all: audit, probe, repair, probe again, report; or audit, make rows anew, study, report. Each step once.

    runs/NAME/run.json       what ran, its parts, gates and notes; written last
    runs/NAME/audit/         and study/STUDY/, audit-made/, probe/, repair/: the run folders of the parts
    runs/NAME/rows/          flagged.jsonl and clean.jsonl, as the audit divided the data; made.jsonl
    runs/NAME/report.html    the page

The parts are the verbs themselves, on one store: a loop that is started again goes on where it was cut off.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import OutOfTime, PyriteError, UserError
from pyrite.loop.config import LoopConfig, LoopOptions
from pyrite.loop.inputs import Inputs
from pyrite.loop.spec import LoopSpec, load_loop
from pyrite.report.page import Verdict
from pyrite.steps.store import made_with

UNSAID = ("out", "store", "quiet", "max_time", "workers", "plan")
"""Flags that change nothing in what is found."""


@dataclass(frozen=True)
class Loop:
    """A finished loop: what its parts say, where they lie, and the exit code of its gates."""

    folder: Path
    report: Path
    verdicts: Sequence[Verdict]
    told: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    """What each part's verb returned, by the part's name."""
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        said = [{"label": one.label, "sentence": one.sentence} for one in self.verdicts]
        return {**self.told, "folder": str(self.folder), "report": str(self.report), "verdicts": said}


@dataclass
class Running:
    """A loop under way: its folder, the parts that are done, what they found of the gates, and what a reader must know."""

    spec: LoopSpec
    config: LoopConfig
    inputs: Inputs
    end: float | None
    parts: dict[str, str] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The loop's run folder."""
        return self.inputs.folder

    def common(self) -> dict[str, Any]:
        """Options that every part takes over."""
        left = None if self.end is None else (self.end - time.monotonic()) / 60
        if left is not None and left <= 0:
            raise OutOfTime("--max-time is over")
        return {"store": self.config.store, "quiet": self.config.quiet, "max_time": left}

    def done(self, part: str, where: str, made: Any) -> None:
        """A part is finished: where it lies, what its verb returned, and how its gates came out."""
        self.parts[part], self.results[part] = where, made
        self.gates += [{"part": part, **one} for one in made.as_json().get("gates", [])]


def run(config: LoopConfig) -> Loop:
    """Run what is missing of a loop, and report on it.

    Raises:
        UserError: a mistake in the file, and all that the parts can raise; what was done until then is reported all the same.
        OutOfTime: `max_time` is over; what is finished is stored.
    """
    running = begin(config)
    try:
        with said_to(config):
            for part in parts_to_run(running.spec, config):
                if not PARTS[part](running):
                    break
    except PyriteError as error:
        if running.parts:
            running.notes.append(f"stopped before its end: {' '.join(str(error).split())}")
            finish(running)
        raise
    return finish(running)


def begin(config: LoopConfig) -> Running:
    """Everything that can be refused before a part runs is refused here."""
    from pyrite.loop.check import check

    spec = load_loop(config.loop)
    if config.until is not None and config.until not in spec.parts:
        raise UserError("The loop has no such part.", f"--until {config.until}", f"one of: {', '.join(spec.parts)}")
    folder = config.out / spec.loop
    inputs = Inputs(spec, config.data, folder)
    check(spec, config, inputs)
    end = None if config.max_time is None else time.monotonic() + config.max_time * 60
    return Running(spec, config, inputs, end)


def parts_to_run(spec: LoopSpec, config: LoopConfig) -> list[str]:
    """The parts in order, up to `--until`."""
    parts = list(spec.parts)
    return parts if config.until is None else parts[: parts.index(config.until) + 1]


def plan(config: LoopConfig) -> dict[str, Any]:
    """Which parts would run, on what? Needs no model; of a study, what its own plan says."""
    from pyrite.study import run as study_run
    from pyrite.study.config import StudyConfig
    from pyrite.study.language import run as language_run
    from pyrite.study.spec import is_language

    running = begin(config)
    spec, inputs = running.spec, running.inputs
    told: dict[str, Any] = {"schema_version": 1, "loop": spec.loop, "says": spec.says}
    told["parts"] = parts_to_run(spec, config)
    told["synthetic"], told["human"] = list(spec.synthetic), list(spec.human)
    told["model"], told["forget"], told["replay"] = spec.model, spec.forget, list(inputs.replay_kinds)
    told["gates"] = list(spec.gates)
    if spec.study is not None:
        name = inputs.study_name()
        chosen = StudyConfig(spec=name, data=config.data, store=config.store, workers=config.workers)
        told["study"] = (language_run if is_language(name) else study_run).plan(chosen)
    return told


@contextmanager
def said_to(config: LoopConfig) -> Iterator[None]:
    """While a loop runs, the libraries' chatter is kept off stdout: the result alone goes there."""
    import contextlib
    import sys

    with contextlib.redirect_stdout(sys.stderr):
        yield


def audit_part(running: Running) -> bool:
    """Audit the data in question, and divide its rows; then the further comparisons."""
    from pyrite.audit import run as audit_run
    from pyrite.audit.config import AuditConfig

    spec, inputs = running.spec, running.inputs
    made = audit_run.audit(
        AuditConfig(
            **inputs.audit_options(spec.audit),
            data=inputs.files(spec.synthetic),
            reference=inputs.files(spec.human),
            flagged=inputs.rows("loop:flagged"),
            clean=inputs.rows("loop:clean"),
            gate=spec.gates_of("audit"),
            out=running.folder / "audit",
            workers=running.config.workers,
            **running.common(),
        )
    )
    running.done("audit", "audit", made)
    for name, more in spec.audits.items():
        options = inputs.audit_options(more)
        options |= {"data": inputs.files(more.data), "reference": inputs.files(more.reference)}
        config = AuditConfig(
            **options, out=running.folder / f"audit-{name}", workers=running.config.workers, **running.common()
        )
        running.done(f"audit-{name}", f"audit-{name}", audit_run.audit(config))
    return True


def synth_part(running: Running) -> bool:
    """Make rows anew by the recipe, and audit them against the same people."""
    from pyrite.audit import run as audit_run
    from pyrite.audit.config import AuditConfig
    from pyrite.synth import run as synth_run
    from pyrite.synth.config import SynthConfig

    spec, inputs = running.spec, running.inputs
    made = inputs.rows("loop:made")
    common = running.common()
    common.pop("max_time")
    told = synth_run.synth(SynthConfig(recipe=inputs.recipe(), out=made, **common))
    running.notes.append(
        f"the recipe made {told.rows} rows ({told.counts['read']} texts sampled, {told.counts['kept']} kept)"
    )
    audited = audit_run.audit(
        AuditConfig(
            **inputs.audit_options(spec.audit),
            data=(str(made),),
            reference=inputs.files(spec.human),
            out=running.folder / "audit-made",
            workers=running.config.workers,
            **running.common(),
        )
    )
    running.done("audit-made", "audit-made", audited)
    return True


def study_part(running: Running) -> bool:
    """Run the study."""
    from pyrite.study import run as study_run
    from pyrite.study.config import StudyConfig

    inputs = running.inputs
    made = study_run.study(
        StudyConfig(
            spec=str(inputs.study_file()),
            data=running.config.data,
            out=running.folder / "study",
            workers=running.config.workers,
            **running.common(),
        )
    )
    running.done("study", f"study/{made.spec.study}", made)
    return True


def probe_part(running: Running) -> bool:
    """Ask the model, before anything is done to it."""
    from pyrite.probe import run as probe_run
    from pyrite.probe.config import ProbeConfig

    spec = running.spec
    made = probe_run.probe(
        ProbeConfig(
            **running.inputs.probe_options(),
            model=running.inputs.model(running.common()),
            gate=spec.gates_of("probe"),
            out=running.folder / "probe",
            **running.common(),
        )
    )
    running.done("probe", "probe", made)
    return True


def repair_part(running: Running) -> bool:
    """Unlearn the rows to forget, and ask the same again. Without such rows there is nothing to repair."""
    from pyrite.repair import run as repair_run
    from pyrite.repair.config import RepairConfig

    spec, inputs = running.spec, running.inputs
    assert spec.repair is not None
    forget = inputs.forget()
    if not forget:
        running.notes.append("the audit flagged no row, so there is nothing to unlearn: the model was not repaired")
        return False
    asked = {name: value for name, value in inputs.probe_options().items() if name in RepairConfig.model_fields}
    made = repair_run.repair(
        RepairConfig(
            **{**asked, **spec.repair.model_dump(exclude_unset=True)},
            model=inputs.model(running.common()),
            forget=forget,
            replay=inputs.replay(),
            gate=spec.gates_of("repair"),
            out=running.folder / "repair",
            **running.common(),
        )
    )
    running.done("repair", "repair", made)
    return True


PARTS: dict[str, Callable[[Running], bool]] = {
    "study": study_part, "audit": audit_part, "synth": synth_part, "probe": probe_part, "repair": repair_part,
}  # fmt: skip
"""The function of each part; False: the rest of the loop has nothing to do."""


def finish(running: Running) -> Loop:
    """Write run.json, then the report; both are quick, so they are made anew at every call."""
    from pyrite.gate.config import GateConfig
    from pyrite.gate.run import gate
    from pyrite.io import atomic_write
    from pyrite.report import run as report_run
    from pyrite.report.config import ReportConfig
    from pyrite.stats.gates import exit_code

    spec, config, folder = running.spec, running.config, running.folder
    if "study" in running.parts and spec.gates_of("study"):
        asked = gate(GateConfig(run=folder / running.parts["study"], require=spec.gates_of("study")))
        running.gates += [{**one, "part": "study"} for one in asked.as_json()["gates"]]
    code = exit_code([one["outcome"] for one in running.gates], config.undecided)
    left = [name for name in parts_to_run(spec, config) if name not in running.parts and name != "synth"]
    told = {
        "schema_version": 1,
        "verb": "loop",
        "loop": spec.loop,
        "says": spec.says,
        "parts": running.parts,
        "not_run": left,
        "gates": running.gates,
        "exit_code": code,
        "settings": spec.model_dump(mode="json"),
        "files": running.inputs.described(),
        "command": command(config),
        "made_with": made_with(),
        "notes": running.notes,
    }
    with atomic_write(folder / "run.json") as temporary:
        temporary.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    page = folder / "report.html"
    made = report_run.report(ReportConfig(runs=(str(folder),), out=page, no_rows=config.no_rows))
    return Loop(folder, page, made.verdicts, told, running.results, code)


def command(config: LoopConfig) -> str:
    """The command that makes this again, run where the files are."""
    words = ["pyrite", "run", config.loop if not Path(config.loop).is_file() else Path(config.loop).name]
    for name, option in LoopOptions.model_fields.items():
        value = getattr(config, name)
        if name in (*UNSAID, "data") or value == option.get_default():
            continue
        words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return shlex.join(words)
