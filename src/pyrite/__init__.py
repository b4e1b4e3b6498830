"""Pyrite: find out what synthetic training data does to a language model, and repair the model where it did harm.

The library call and the command are the same call: `pyrite.study(StudyConfig(spec="demo"))` is `pyrite study demo`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Study": "pyrite.study.run_folder",
    "StudyConfig": "pyrite.study.config",
    "StudyPlan": "pyrite.study.run",
    "StudyPower": "pyrite.study.run",
    "Pilot": "pyrite.study.pilot",
    "ProbeResult": "pyrite.probe.run",
    "ProbeConfig": "pyrite.probe.config",
    "Synthetic": "pyrite.synth.run",
    "SynthConfig": "pyrite.synth.config",
    "Audit": "pyrite.audit.run",
    "AuditConfig": "pyrite.audit.config",
    "Repair": "pyrite.repair.run",
    "RepairConfig": "pyrite.repair.config",
    "Loop": "pyrite.loop.run",
    "LoopConfig": "pyrite.loop.config",
    "LoopPlan": "pyrite.loop.run",
    "Report": "pyrite.report.run",
    "ReportConfig": "pyrite.report.config",
    "Gated": "pyrite.gate.run",
    "GateConfig": "pyrite.gate.config",
    "Run": "pyrite.runs",
    "read_run": "pyrite.runs",
    "UserError": "pyrite.errors",
}
_VERBS = ("audit", "study", "probe", "synth", "repair", "report", "gate")


def __getattr__(name: str) -> Any:
    """Public names load their module when first used, so that importing pyrite stays instant."""
    if name in _VERBS:
        return import_module(f"pyrite.{name}")
    if name == "run":
        return import_module("pyrite.loop.run").run
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'pyrite' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion in an editor; none is loaded for it."""
    return sorted({*_NAMES, *_VERBS, "run", "__version__"})
