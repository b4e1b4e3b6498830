"""Make a model that was trained on flawed data follow instructions again, keep what it gained, and say what it cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyrite.conditions import GateOutcome, exit_code
from pyrite.errors import UserError
from pyrite.models import hardware
from pyrite.outputs import takes_urls
from pyrite.probe.probe_task import opened
from pyrite.probe.result import Compared
from pyrite.probe.run_folder import described
from pyrite.repair import candidates, frontier, outcomes, proofs, run_folder, scorecard
from pyrite.repair.candidates import BEFORE, HARMED, REPAIRED, folder_and_identity
from pyrite.repair.choose import selected_candidate
from pyrite.repair.config import RepairConfig
from pyrite.repair.frontier import GAINED, LOST, Axis
from pyrite.repair.plan import RepairPlan, plan_repair
from pyrite.repair.record import (
    frontier_record,
    not_forgotten,
    repair_record,
    task_names,
    three_models_record,
    training_record,
)
from pyrite.repair.rows import is_chat, overlap_record, too_few
from pyrite.repair.scorecard import ScoredModel
from pyrite.steps import Progress, RunOptions, Source, Step, Store, closure, run_steps

if TYPE_CHECKING:
    import altair
    import polars

Finish = Callable[[Sequence[Step]], None]
Models = Mapping[str, Step | Source]
"""Whole models, by their name on the scorecard."""


@dataclass(frozen=True)
class Proved:
    """One proof: its scorecard, beside the repaired model's and the one's before."""

    scored: ScoredModel
    against_repaired: list[Compared]
    against_before: list[Compared]

    def as_json(self) -> dict[str, Any]:
        """The proof as plain values."""
        return {
            "proof": self.scored.name,
            "scorecards": self.scored.as_json(),
            "against_repaired": [task.as_json() for task in self.against_repaired],
            "against_before": [task.as_json() for task in self.against_before],
        }


@dataclass(frozen=True)
class Repair:
    """The repaired model's folder, scorecards of all models, what changed, proofs, gates, and all that `--json` tells.

    `before` is the model that was given to be repaired; with `--before` it is called "harmed" on its cards, and `original`
    is the model before the harm.
    """

    folder: Any
    before: ScoredModel
    repaired: ScoredModel
    compared: list[Compared]
    proved: list[Proved]
    gates: list[GateOutcome]
    record: Mapping[str, Any]
    exit_code: int = 0
    original: ScoredModel | None = None

    def table(self) -> "polars.DataFrame":
        """What changed on every task, of the repair and of its proofs."""
        from pyrite.repair.tables import table

        return table(self.record)

    def figure(self) -> "altair.VConcatChart | altair.LayerChart | None":
        """The frontier where there is one, else the curves, as an Altair chart; None where neither is."""
        from pyrite.repair.figure import chart, frontier_chart

        drawn: altair.VConcatChart | altair.LayerChart | None = frontier_chart(self.record.get("frontier"))
        return chart(self.record) if drawn is None else drawn

    def as_json(self) -> dict[str, Any]:
        """The shape that `--json` promises; also the folder's repair.json."""
        return dict(self.record)


@takes_urls(outs=("out",), runs=("out",))
def repair(config: RepairConfig) -> Repair:
    """Repair a model, write it with its card, and compare it with the one before; finished steps are never redone.

    Raises:
        UserError: rows that overlap, are too few or cannot be read, options that do not go together, an unknown method,
            task or gate, models that are not alike, a model that does not write, an output folder that is in use.
    """
    planned = plan_repair(config)
    store, rows = planned.store, planned.rows
    finish = finisher(config, store)
    try:
        finish(list(rows.sides.values()))
    except UserError as error:
        raise too_few(error) from error
    shared = overlap_record(rows, store, config.overlap_limit)
    proofs.check_rows(planned.proofs, rows, store)
    chats = is_chat(rows, store)
    tried = candidates.candidates_of(planned, chats=chats)
    interpolated = candidates.interpolations(planned)
    finish([candidate.saved for candidate in (*tried, *interpolated)])
    models = {
        **candidates.fixed_models(planned),
        **{candidate.name: candidate.full_model for candidate in (*tried, *interpolated)},
    }
    finish([model for model in models.values() if isinstance(model, Step)])
    scored_on_all = score_models(planned, models, finish)
    axes = planned_axes(planned, scored_on_all)
    choice, judged = selected_candidate(planned, scored_on_all, tried, axes)
    chosen = next(candidate for candidate in tried if choice is None or candidate.name == choice.name)
    proof_models = {
        proof.name: proofs.proof_step(
            proof, chosen.full_model, rows, config, planned.compute, planned.base_name, chats=chats
        )
        for proof in planned.proofs
    }  # fmt: skip
    finish(list(proof_models.values()))
    proofs_scored = score_models(planned, proof_models, finish)
    scored = {name: model.on_items(judged) for name, model in {**scored_on_all, **proofs_scored}.items()}
    points = [
        frontier.point_of(
            candidate.name, candidate.method, candidate.alpha, axes, {name: model.results for name, model in scored.items()},
            models=(BEFORE, HARMED), chosen=candidate is chosen,
        )
        for candidate in (*tried, *interpolated)
    ] if axes else []  # fmt: skip
    harmed = scored[HARMED if planned.original is not None else BEFORE]
    repaired = scored[chosen.name].called(REPAIRED)
    original = scored[BEFORE] if planned.original is not None else None
    compared = scorecard.compare_tasks(planned.tasks, harmed, repaired, config)
    proved = [
        Proved(
            scored[proof.name],
            scorecard.compare_tasks(planned.tasks, repaired, scored[proof.name], config),
            scorecard.compare_tasks(planned.tasks, harmed, scored[proof.name], config),
        )
        for proof in planned.proofs
    ]
    gates = scorecard.gate_results(planned.gates, harmed, repaired, config.seed)
    code = exit_code([result.outcome for result in gates], config.undecided)
    comparisons = [task.as_json() for task in compared]
    three = [model for model in (original, harmed, repaired) if model is not None]
    training = training_record(planned, chosen, store)
    first = repair_record(planned, training, shared, chats=chats)
    steps = [*models.values(), *proof_models.values()]
    front = frontier_record(planned, axes, points, choice, judged)
    hint = frontier.swapped(front["points"]) if front else ""
    record = {
        **first,
        "notes": [
            *([hint] if hint else []),
            *first["notes"],
            *(not_forgotten(comparisons) if first["training"]["steps"] and "forget" not in planned.gained else []),
        ],
        **described(repaired.results, config.margin),
        "scorecards": [card for model in three for card in model.as_json()],
        "compared": comparisons,
        **three_models_record(planned, original, harmed, repaired),
        "frontier": front,
        "proofs": [proof.as_json() for proof in proved],
        "gates": [gate.as_json() for gate in gates],
        "exit_code": code,
        "steps": {step.label: step.key for step in closure([step for step in steps if isinstance(step, Step)])},
    }
    item_outcomes = (
        [] if original is None else outcomes.outcome_rows([model.results for model in three], task_names(planned))
    )
    subjects = [model.table_rows for model in (*three, *(scored[proof.name] for proof in planned.proofs))]
    run_folder.write_repair_folder(planned.folder, record, store.path(chosen.saved.key), subjects, item_outcomes)
    return Repair(planned.folder, harmed, repaired, compared, proved, gates, record, code, original)


def planned_axes(planned: RepairPlan, scored: Mapping[str, ScoredModel]) -> list[Axis]:
    """What was lost and what was gained, where the model before is there."""
    if planned.original is None:
        return []
    results = scored[BEFORE].results
    return [
        *frontier.axes_of(LOST, results, planned.lost),
        *frontier.axes_of(GAINED, results, planned.gained),
    ]


def score_models(planned: RepairPlan, models: Models, finish: Finish) -> dict[str, ScoredModel]:
    """Every model's scorecards."""
    tasks, store = planned.tasks, planned.store
    subjects = {
        name: scorecard.model_under_test(name, *folder_and_identity(place_or_step, store))
        for name, place_or_step in models.items()
    }
    steps = {name: scorecard.steps_of(tasks, whom) for name, whom in subjects.items()}
    finish(
        [
            opened_step
            for steps_of_model in steps.values()
            for step in steps_of_model.values()
            for opened_step in opened(step)
        ]
    )
    return {
        name: scorecard.read_scores(tasks, whom, steps[name], store, planned.config.seed)
        for name, whom in subjects.items()
    }


def finisher(config: RepairConfig, store: Store) -> Finish:
    """Runs what is missing of some steps, within what is left of `--max-time`.

    A finished step whose weights were dropped (by a study that keeps answers only) is run again: they are needed here.
    """
    end = None if config.max_time is None else time.monotonic() + config.max_time * 60

    def finish(steps: Sequence[Step]) -> None:
        seconds_left = None if end is None else max(0.0, end - time.monotonic())
        threads = hardware.cluster_threads(config.engine)
        options = RunOptions(engine=config.engine, threads=threads, max_seconds=seconds_left, weights=True)
        run_steps(list(steps), store, options, Progress(quiet=config.quiet))

    return finish
