"""Do it all: audit, probe, repair, probe again, report; or audit, make rows anew, study, report. Each step once.

    runs/NAME/run.json       what ran: the parts of this very run, gates, notes; written after each part
    runs/NAME/audit/         and study/STUDY/, audit-made/, probe/, repair/: the run folders of the parts
    runs/NAME/rows/          flagged.jsonl and clean.jsonl, as the audit divided the data; made.jsonl
    runs/NAME/report.html    the page

The parts are the verbs themselves, on one store: a loop that is started again goes on where it was cut off.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout
from rich.console import Console

from pyrite.conditions import exit_code
from pyrite.errors import OutOfTime, PyriteError, UserError
from pyrite.loop.config import LoopConfig, LoopOptions
from pyrite.loop.inputs import Inputs
from pyrite.loop.spec import ASKED_AGAIN, LoopSpec, MoreAudit, load_loop
from pyrite.outputs import command_line, open_page, takes_urls
from pyrite.report.page import Verdict
from pyrite.runs import read_run
from pyrite.runs.loop import LoopRecord
from pyrite.runs.schema import GateOutcome
from pyrite.runs.write import write_record
from pyrite.steps import for_several_runs
from pyrite.steps.store import made_with

if TYPE_CHECKING:
    from pyrite.audit.config import AuditConfig


PAGE = "report.html"
UNSAID = ("out", "store", "quiet", "max_time", "workers", "engine", "plan", "data", "open")
"""Flags that change nothing in what is found."""


@dataclass(frozen=True)
class Loop:
    """A finished loop: what its parts say, where they lie, and the exit code of its gates."""

    spec: LoopSpec
    folder: Path
    report: Path
    verdicts: Sequence[Verdict]
    record: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    """What each part's verb returned, by the part's name."""
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        verdicts = [{"label": verdict.label, "sentence": verdict.sentence} for verdict in self.verdicts]
        return {**self.record, "folder": str(self.folder), "report": str(self.report), "verdicts": verdicts}


@dataclass
class LoopState:
    """A loop under way: its folder, the parts that are done, what they found of the gates, and what a reader must know.

    The folder's run.json tells at every moment which parts are of this very run: what lies there of an earlier one is
    named again only when it has been made again.
    """

    spec: LoopSpec
    config: LoopConfig
    inputs: Inputs
    end: float | None
    parts: dict[str, str] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    state: Literal["running", "finished", "stopped"] = "running"

    @property
    def folder(self) -> Path:
        """The loop's run folder."""
        return self.inputs.folder

    def common(self) -> dict[str, Any]:
        """Options that every part takes over."""
        left = None if self.end is None else (self.end - time.monotonic()) / 60
        if left is not None and left <= 0:
            raise OutOfTime("--max-time is over")
        config = self.config
        return {"store": config.store, "quiet": config.quiet, "engine": config.engine, "max_time": left}

    def done(self, part: str, where: str, result: Any, gates: Sequence[dict[str, Any]] | None = None) -> None:
        """A part is finished: where it lies, what its verb returned, and how its gates came out."""
        self.parts[part], self.results[part] = where, result
        gate_records = result.as_json().get("gates", []) if gates is None else gates
        self.gates += [{**gate, "part": part} for gate in gate_records]
        self.write()

    def record(self) -> LoopRecord:
        """The loop as run.json holds it; conditions on parts that did not run are undecided."""
        left = [name for name in self.spec.parts if name not in self.parts and name not in ("synth", "audits")]
        gates_left = [(name, text) for name in left for text in self.spec.gates_of(name)]
        not_asked = [
            {"gate": text, "part": name, "outcome": "undecided", "why": f"the part {name} was not run"}
            for name, text in gates_left
        ]
        gates = [*self.gates, *not_asked]
        audit = read_run(self.folder / self.parts["audit"]).record if "audit" in self.parts else None
        return LoopRecord(
            schema_version=1,
            verb="loop",
            loop=self.spec.loop,
            says=self.spec.says,
            state=self.state,
            parts=dict(self.parts),
            not_run=left,
            gates=GateOutcome.list_of(gates),
            exit_code=exit_code([gate["outcome"] for gate in gates], self.config.undecided),
            settings=self.spec.model_dump(mode="json", exclude_unset=True),
            files=audit.files if audit else [],
            command=command(self.config),
            made_with=made_with(),
            notes=list(self.notes),
        )

    def write(self) -> None:
        """Write run.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_record(self.folder / "run.json", self.record())


@dataclass(frozen=True)
class LoopPlan:
    """Which parts of a loop would run, on what: plain values."""

    record: dict[str, Any]
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return self.record


@takes_urls(ins=("loop",), outs=("out",), runs=("out",), below=lambda config: load_loop(config.loop).loop)
def run(config: LoopConfig) -> Loop | LoopPlan:
    """Run what is missing of a loop, and report on it; with `plan`, say what would run, and run nothing.

    Raises:
        UserError: all that `run_loop` can raise.
        OutOfTime: `max_time` is over; what is finished is stored.
    """
    return plan(config) if config.plan else run_loop(config)


def run_loop(config: LoopConfig) -> Loop:
    """Run what is missing of a loop, and report on it.

    Raises:
        UserError: a mistake in the file, another process at work in the folder, and all that the parts can raise; what was
            done until then is reported all the same.
        OutOfTime: `max_time` is over; what is finished is stored.
    """
    running = begin(config)
    one_block = for_several_runs(config.engine)
    with folder_lock(running.folder), redirect_stdout(sys.stderr), one_block:  # the result alone goes to stdout
        (running.folder / PAGE).unlink(missing_ok=True)
        running.write()
        try:
            parts = parts_to_run(running.spec, config)
            for part in parts:
                if not PARTS[part](running):
                    break
                if part != parts[-1]:
                    page = write_and_report(running).report
                    Console(stderr=True, quiet=config.quiet).print(f"page so far: {page}", style="", soft_wrap=True)
        except PyriteError as error:
            running.state = "stopped"
            running.notes.append(f"stopped before its end: {' '.join(str(error).split())}")
            if running.parts:
                write_and_report(running)
            raise
        running.state = "finished"
        finished = write_and_report(running)
    if config.open:
        open_page(finished.report)
    return finished


def begin(config: LoopConfig) -> LoopState:
    """Everything that can be refused before a part runs is refused here."""
    from pyrite.loop.check import check_loop

    spec = load_loop(config.loop)
    if config.until is not None and config.until not in spec.parts:
        raise UserError("The loop has no such part.", f"--until {config.until}", f"one of: {', '.join(spec.parts)}")
    inputs = Inputs(spec, config.data, config.out / spec.loop)
    check_loop(spec, inputs, only_plan=config.plan)
    end = None if config.max_time is None else time.monotonic() + config.max_time * 60
    return LoopState(spec, config, inputs, end)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the loop's folder while it runs.

    Raises:
        UserError: another process runs this loop there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        fix = "wait for it, or choose another folder with --out"
        raise UserError("Another process runs this loop.", str(folder), fix) from error


def parts_to_run(spec: LoopSpec, config: LoopConfig) -> list[str]:
    """The parts in order, up to `--until`."""
    parts = list(spec.parts)
    return parts if config.until is None else parts[: parts.index(config.until) + 1]


def plan(config: LoopConfig) -> LoopPlan:
    """Which parts would run, on what? Needs no model; of a study, what its own plan says."""
    from pyrite.study import run as study_run
    from pyrite.study.config import StudyConfig

    running = begin(config)
    spec, inputs = running.spec, running.inputs
    record: dict[str, Any] = {"schema_version": 1, "loop": spec.loop, "says": spec.says}
    record["parts"] = parts_to_run(spec, config)
    record["synthetic"], record["human"] = list(spec.synthetic), list(spec.human)
    record["model"], record["forget"], record["replay"] = spec.model, spec.forget, list(inputs.replay_kinds)
    record["gates"] = list(spec.gates)
    if spec.study is not None:
        name = inputs.study_name()
        chosen = StudyConfig(spec=name, data=config.data, store=config.store, workers=config.workers)
        record["study"] = study_run.plan(chosen).record
    return LoopPlan(record)


def run_audits_part(running: LoopState) -> bool:
    """The further comparisons that need nothing of any other part."""
    for name, more in running.spec.audits_at_once.items():
        further_audit(running, name, more)
    return True


def further_audit(running: LoopState, name: str, more: MoreAudit) -> None:
    """One further comparison."""
    from pyrite.audit import run as audit_run
    from pyrite.audit.config import AuditConfig

    inputs = running.inputs
    options = inputs.options(more, "data", "reference")
    options |= {"data": inputs.files(more.data), "reference": inputs.files(more.reference)}
    config = AuditConfig(
        **options, out=running.folder / f"audit-{name}", workers=running.config.workers, **running.common()
    )
    running.done(f"audit-{name}", f"audit-{name}", audit_run.run_audit(config))


def run_audit_part(running: LoopState) -> bool:
    """Audit the data in question, and divide its rows; then the further comparisons."""
    from pyrite.audit import run as audit_run
    from pyrite.audit.config import AuditConfig

    spec, inputs = running.spec, running.inputs
    config = AuditConfig(
        **inputs.options(spec.audit),
        data=inputs.files(spec.synthetic),
        reference=inputs.files(spec.human),
        flagged=inputs.rows("loop:flagged"),
        clean=inputs.rows("loop:clean"),
        gate=spec.gates_of("audit"),
        out=running.folder / "audit",
        workers=running.config.workers,
        **running.common(),
    )
    result = audit_run.run_audit(config)
    rewrite_as_read(config)
    running.done("audit", "audit", result)
    for name, more in spec.audits.items():
        if f"audit-{name}" not in running.parts:
            further_audit(running, name, more)
    return True


def rewrite_as_read(config: "AuditConfig") -> None:
    """Where only the audit's own options say how its rows are read, write the divided rows so that every part of the
    loop reads them."""
    from pyrite.config_base import mapping
    from pyrite.io import ReadOptions, open_records, write_jsonl

    options = ReadOptions(
        layout=config.layout,
        columns=mapping("--columns", config.columns),
        label_map=mapping("--label-map", config.label_map),
        text_fields=config.text_fields or None,
        roles=mapping("--roles", config.roles),
        tool_calls=config.tool_calls,
    )
    for path in (config.flagged, config.clean):
        if path is not None and options != ReadOptions() and path.stat().st_size:
            write_jsonl(open_records(path, options), path)


def run_synth_part(running: LoopState) -> bool:
    """Make rows anew by the recipe, and audit them against the same people."""
    from pyrite.audit import run as audit_run
    from pyrite.audit.config import AuditConfig
    from pyrite.synth import run as synth_run
    from pyrite.synth.config import SynthConfig

    spec, inputs = running.spec, running.inputs
    rows_file = inputs.rows("loop:made")
    common = running.common()
    common.pop("max_time")
    synthesis = synth_run.write_synthetic(SynthConfig(recipe=inputs.recipe(), out=rows_file, **common))
    running.notes.append(
        f"the recipe made {synthesis.rows} rows ({synthesis.counts['read']} texts sampled, {synthesis.counts['kept']} kept)"
    )
    audited = audit_run.run_audit(
        AuditConfig(
            **inputs.options(spec.audit),
            data=(str(rows_file),),
            reference=inputs.files(spec.human),
            out=running.folder / "audit-made",
            workers=running.config.workers,
            **running.common(),
        )
    )
    running.done("audit-made", "audit-made", audited)
    return True


def run_study_part(running: LoopState) -> bool:
    """Run the study."""
    from pyrite.gate.config import GateConfig
    from pyrite.gate.run import gate
    from pyrite.study import run as study_run
    from pyrite.study.config import StudyConfig

    spec, inputs = running.spec, running.inputs
    result = study_run.run_study(
        StudyConfig(
            spec=str(inputs.study_file()),
            data=running.config.data,
            out=running.folder / "study",
            workers=running.config.workers,
            **running.common(),
        )
    )
    where = f"study/{result.spec.study}"
    texts = spec.gates_of("study")
    gates = gate(GateConfig(run=running.folder / where, require=texts)).as_json()["gates"] if texts else []
    running.done("study", where, result, gates)
    return True


def run_probe_part(running: LoopState) -> bool:
    """Ask the model, before anything is done to it."""
    from pyrite.probe import run as probe_run
    from pyrite.probe.config import ProbeConfig
    from pyrite.probe.result import ProbeResult

    spec = running.spec
    result = probe_run.probe(
        ProbeConfig(
            **running.inputs.probe_options(),
            model=running.inputs.model(running.spec.model or "", running.common()),
            gate=spec.gates_of("probe"),
            out=running.folder / "probe",
            **running.common(),
        )
    )
    assert isinstance(result, ProbeResult)
    running.done("probe", "probe", result)
    return True


def run_repair_part(running: LoopState) -> bool:
    """Unlearn the rows to forget, and ask the same again. Without such rows there is nothing to repair."""
    from pyrite.repair import run as repair_run
    from pyrite.repair.config import RepairConfig

    spec, inputs = running.spec, running.inputs
    assert spec.repair is not None
    forget = inputs.forget()
    if not forget and spec.forget != "none":
        running.notes.append("the audit flagged no row, so there is nothing to unlearn: the model was not repaired")
        return False
    replay = inputs.replay()
    if not replay and spec.forget != "none":
        fix = "replay people's rows: replay: [human]"
        raise UserError("There is no row to replay: the audit cleared none.", "replay: [clean]", fix)
    probe_options = {name: value for name, value in inputs.probe_options().items() if name in ASKED_AGAIN}
    options = inputs.options(spec.repair)
    if options.get("before"):
        options["before"] = inputs.model(options["before"], running.common())
    result = repair_run.repair(
        RepairConfig(
            **{**probe_options, **options},
            model=inputs.model(spec.model or "", running.common()),
            forget=forget,
            replay=replay,
            gate=spec.gates_of("repair"),
            out=running.folder / "repair",
            **running.common(),
        )
    )
    running.done("repair", "repair", result)
    return True


PARTS: dict[str, Callable[[LoopState], bool]] = {
    "audits": run_audits_part, "study": run_study_part, "audit": run_audit_part, "synth": run_synth_part, "probe": run_probe_part, "repair": run_repair_part,
}  # fmt: skip
"""The function of each part; False: the rest of the loop has nothing to do."""


def write_and_report(running: LoopState) -> Loop:
    """Write run.json, then the report; both are quick, so they are made anew at every call."""
    from pyrite.report import run as report_run
    from pyrite.report.config import ReportConfig

    running.write()
    folder, record = running.folder, running.record().as_json()
    page = ReportConfig(runs=(str(folder),), out=folder / PAGE, no_rows=running.config.no_rows)
    report = report_run.report(page)
    return Loop(running.spec, folder, page.out, report.verdicts, record, running.results, record["exit_code"])


def command(config: LoopConfig) -> str:
    """The command that makes this again, run where the files are."""
    loop = Path(config.loop).name if Path(config.loop).is_file() else config.loop
    return command_line(["pyrite", "run", loop], config, LoopOptions, unsaid=UNSAID)
