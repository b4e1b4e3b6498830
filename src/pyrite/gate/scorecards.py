"""Conditions on a probe or a repair: those of `--gate`, worked out again from the items in the run folder."""

from collections.abc import Sequence

from pyrite.errors import UserError
from pyrite.gate.outcome import Checked
from pyrite.probe import gate as gating
from pyrite.probe.output import ITEMS, read_items
from pyrite.repair.candidates import BEFORE, HARMED, REPAIRED
from pyrite.runs import Run
from pyrite.tasks.measure import Metric


def answer(run: Run, texts: Sequence[str]) -> list[Checked]:
    """How does each condition come out? The same items and the same seed give the interval that the run gave.

    Raises:
        UserError: a text that is no condition, that names an unknown task, metric or slice, that asks for a change
            where there is one model, or a run folder without items.
    """
    known = tasks(run)
    *first, last = subjects(run)
    gates = [gating.parse(text, known) for text in texts]
    for gate in gates:
        gating.check(gate, known, two_models=bool(first))
    file = run.result(ITEMS)
    if not file.is_file():
        fix = "run it again with this Pyrite: probe with --out FOLDER, or repair"
        raise UserError("The run folder holds no items.", f"{run.folder}: no {ITEMS}", fix)
    made = []
    for gate in gates:
        sides = [read_items(file, gate.task, name) for name in (last, *first)]
        one = {gate.task: gating.Measurements(known[gate.task], *sides)}
        asked = gating.ask(gate, one, seed=seed(run), alike=run.told["alike"][gate.task])
        made.append(Checked(gate.text, asked.outcome, asked.why, asked.as_json()["estimate"]))
    return made


def examples(run: Run) -> list[str]:
    """Conditions that this run can be asked."""
    known = [(task, metrics[0]) for task, metrics in tasks(run).items() if metrics]
    values = {
        card["task"]: card["overall"]["value"]
        for card in run.told["scorecards"]
        if card["overall"]["value"] is not None
    }
    made = []
    for task, metric in known[:1]:
        bound = "0.5" if metric.scale == "share" else f"{values.get(task, 1):.3g}"
        made.append(f"{task}.{metric.name} {'<=' if metric.direction == 'lower' else '>='} {bound}")
        if len(subjects(run)) == 2:
            made.append(f"change {task}.{metric.name} {'<= 0.02' if metric.direction == 'lower' else '>= -0.02'}")
    return made


def tasks(run: Run) -> dict[str, tuple[Metric, ...]]:
    """What was measured, by task."""
    return {
        task: tuple(
            Metric(one["name"], one["scale"], one["direction"], one.get("says", ""), one.get("least"), one.get("most"))
            for one in some
        )
        for task, some in run.told["metrics"].items()
    }


def subjects(run: Run) -> list[str]:
    """Whose items are looked at: of two models the second, and the first for a change; of a repair the repaired one, and
    the one that was given to be repaired."""
    if run.verb == "repair":
        return [HARMED if run.told.get("harm") is not None else BEFORE, REPAIRED]
    return list(run.told["models"])


def seed(run: Run) -> int:
    """The seed of the run's intervals."""
    return int(run.told["seed"] if run.verb == "repair" else run.told["settings"]["seed"])
