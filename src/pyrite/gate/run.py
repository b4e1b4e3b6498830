"""Tell my CI: does a finished run meet these conditions? Looks at the run folder alone: no model, no store, no data."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pyrite.conditions import GateOutcome, exit_code
from pyrite.errors import UserError
from pyrite.gate.config import GateConfig
from pyrite.gate.outcome import GateKind, condition_outcome, of_part
from pyrite.outputs import takes_urls
from pyrite.runs import FILES, Run, read_run

KINDS = {"audit": "audits", "probe": "scorecards", "repair": "scorecards", "study": "studies"}
"""The module whose `KIND` checks the runs of each verb; a loop's parts are checked each by its own."""


@dataclass(frozen=True)
class Gated:
    """How the conditions on a run came out, and the exit code that follows."""

    run: Path
    verb: str
    outcomes: Sequence[GateOutcome]
    exit_code: int

    def as_json(self) -> dict[str, Any]:
        """The shape that `--json` promises."""
        return {
            "schema_version": 1,
            "run": str(self.run),
            "verb": self.verb,
            "gates": [gate.as_json() for gate in self.outcomes],
            "exit_code": self.exit_code,
        }


@takes_urls(ins=("run",), outs=("junit",))
def gate(config: GateConfig) -> Gated:
    """Ask a run the conditions of `--require`, or those that it was made with; writes the JUnit file where asked to.

    Raises:
        UserError: no run in the folder, one without what a gate looks at, no condition, or one that cannot be asked.
    """
    run = read_run(config.run)
    check_junit(config)
    try:
        outcomes = check_conditions(run, config.require) if config.require else check_recorded(run)
    except KeyError as error:
        fix = "make the run again with this Pyrite"
        raise UserError("The run lacks what a gate looks at.", f"{run.folder}: no {error}", fix) from error
    gated = Gated(config.run, run.verb, outcomes, exit_code([gate.outcome for gate in outcomes], config.undecided))
    if config.junit is not None:
        from pyrite.gate.junit import write_junit

        write_junit(gated, run.name, config.junit, config.undecided)
    return gated


def check_junit(config: GateConfig) -> None:
    """Refuse, before anything is asked, to write the JUnit file over the run or over a file that is none of ours."""
    from pyrite.gate.junit import MARK

    file = config.junit
    if file is None:
        return
    if file.name in FILES or (file.exists() and not file.is_file()):
        raise UserError("The JUnit file needs a name of its own.", str(file), "such as --junit gates.xml")
    if file.is_file():
        with file.open("rb") as handle:
            if not MARK.match(handle.read(4096)):
                raise UserError(
                    "That file is no JUnit file of ours.", str(file), "name another with --junit, or move it"
                )


def check_conditions(run: Run[Any], texts: Sequence[str]) -> list[GateOutcome]:
    """How conditions come out, in their order; of a run that is no loop, `VERB:` before one may stand or not."""
    if run.verb != "loop":
        prefix = re.compile(rf"\s*{run.verb}\s*:")
        return kind_of(run).check(run, [prefix.sub("", text, count=1).strip() for text in texts])
    parts = run.parts
    outcomes: list[GateOutcome] = []
    for text in texts:
        part, sign, condition = (word.strip() for word in text.partition(":"))
        if sign and part in run.record.not_run:
            outcomes.append(condition_outcome(condition, "undecided", f"the part {part} was not run", part=part))
            continue
        if not sign or part not in parts:
            problem = f"{text}; this loop has the parts {', '.join(parts)}"
            raise UserError("A gate on a loop names a part.", problem, suggestion(run))
        outcomes += [of_part(outcome, part) for outcome in check_conditions(parts[part], [condition])]
    return outcomes


def check_recorded(run: Run[Any]) -> list[GateOutcome]:
    """The conditions that the run was made with, checked again from the folder.

    Raises:
        UserError: it was made without any.
    """
    record = run.record
    texts = list(record.settings.get("gates", ())) if run.verb == "loop" else [gate.gate for gate in record.gates]
    if not texts:
        raise UserError("The run was made without gates.", str(run.folder), suggestion(run))
    return check_conditions(run, texts)


def suggestion(run: Run[Any]) -> str:
    """What to write instead, with names that occur in this run."""
    return "ask for something: " + " or ".join(f"--require {shlex.quote(text)}" for text in example_conditions(run)[:3])


def example_conditions(run: Run[Any]) -> list[str]:
    """Conditions that this run can be asked."""
    if run.verb == "loop":
        return [f"{name}: {text}" for name, part in run.parts.items() for text in example_conditions(part)[:1]]
    return kind_of(run).examples(run)


def kind_of(run: Run[Any]) -> GateKind:
    """How runs of this verb are checked."""
    kind: GateKind = import_module(f"pyrite.gate.{KINDS[run.verb]}").KIND
    return kind
