"""Run a study of a language model: plan it, run what is missing, measure every answer, write the run folder.

runs/NAME/run.json            what ran: resolved spec, versions, hardware, counts, costs, timings, verdicts
runs/NAME/results/            results (models x probes x metrics x seeds), summary over seeds, contrasts, items: parquet
                              and, but for the items, csv; costs.csv, overlap.csv (rows used for two things),
                              frontier.csv (what each cell brings back and keeps, where the file asks)
runs/NAME/figure.svg, .png    every cell's headline metrics; figure.txt: what they show, in words
runs/NAME/pilot.json          what --pilot found
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrite.errors import UserError
from pyrite.models import hardware
from pyrite.models.hardware import Compute
from pyrite.probe.probe_task import Result
from pyrite.repair.figure import draw_frontier
from pyrite.repair.tables import frontier_rows
from pyrite.steps import Done, Progress, RunOptions, Store, missing_steps, run_steps
from pyrite.study.config import StudyConfig
from pyrite.study.language import overlap
from pyrite.study.language.contrasts import Answer, answer_primary, contrast_rows, missing_items
from pyrite.study.language.costs import cost_table
from pyrite.study.language.figure import write_figure
from pyrite.study.language.frontier import frontier_record
from pyrite.study.language.overlap import overlaps
from pyrite.study.language.pilot import Pilot, answer_pilot, picked_seeds
from pyrite.study.language.plan import GPU_FLOPS, Plan, make_plan, pilot_spec
from pyrite.study.language.spec import LanguageSpec
from pyrite.study.language.tables import (
    Value,
    check_apart,
    items_table,
    results_table,
    same_items,
    summary_table,
    values_of,
)
from pyrite.study.language.uses import at_hand, check_files, like_pilot
from pyrite.study.looks import Look, looks_at, read_record
from pyrite.study.looks import remarks as remarks_on_looks
from pyrite.study.power import add_power
from pyrite.study.run import (
    check_refresh,
    made_with,
    more_seeds,
    open_store,
    worker_count,
    writable,
    write_csv,
    write_json,
)
from pyrite.study.spec import load_language

if TYPE_CHECKING:
    import altair
    import polars

KEPT_FOR_PILOT = ("study", "says", "model", "precision", "data", "trainings", "pilot", "seeds")


@dataclass(frozen=True)
class LanguageStudy:
    """A finished study: its tables, verdicts and where they lie."""

    spec: LanguageSpec
    folder: Path
    answers: list[Answer]
    results: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    run: dict[str, Any]

    def table(self) -> "polars.DataFrame":
        """Every cell's metrics, their means over seeds, and the differences to the reference cells."""
        from pyrite.study.language.objects import table

        return table(self.summary, self.spec.references())

    def figure(self) -> "altair.VConcatChart":
        """Every cell's headline metrics, as an Altair chart."""
        from pyrite.study.language.figure import draw

        return draw(self.results, self.summary, self.run["spec"])

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "schema_version": 1,
            "study": self.spec.study,
            "folder": str(self.folder),
            "primary": [answer.as_json() for answer in self.answers],
            "summary": self.summary,
            "costs": self.costs,
            "run": self.run,
        }


def resolve_spec(config: StudyConfig) -> LanguageSpec:
    """The study file with `--seeds` applied; refused where files that it must keep apart are the same ones."""
    spec, _ = load_language(config.spec)
    check_files(spec, config.data)
    if config.seeds is None:
        return spec
    taken = () if spec.pilot is None else (spec.pilot.seed,)
    return spec.model_copy(update={"seeds": more_seeds(spec.seeds, config.seeds, taken)})


def plan(config: StudyConfig) -> dict[str, Any]:
    """What would this study run? Needs no model, no data and no hub; what it could not find is under `absent`."""
    spec = resolve_spec(config)
    store = open_store(config)
    whole = pilot_spec(spec) if config.pilot else spec
    compute = hardware.choose(spec.precision)
    made = make_plan(whole, config.data, compute, store=store.root, only_plan=True)
    told = {"schema_version": 1, **made.summary(store, config.refresh)}
    told["damage"] = None if config.pilot else told["damage"]
    told["workers"] = worker_count(spec.workers, config, compute)
    told["seconds_assume"] = f"{compute.device}, {compute.precision}, one step after the other"
    told["gpu_hours_assume"] = f"{GPU_FLOPS:.1e} FLOP/s"
    return told


@dataclass(frozen=True)
class Finished:
    """A study whose steps are all in the store, with the rows that it uses for two things."""

    made: Plan
    store: Store
    compute: Compute
    done: Done
    shared: list[dict[str, Any]]


def finish(spec: LanguageSpec, config: StudyConfig) -> Finished:
    """Plan a study and run what is missing of it: first the rows, which are then compared, so that no model is trained
    for a study that is to be refused."""
    store = open_store(config)
    compute = hardware.choose(spec.precision)
    made = make_plan(spec, config.data, compute, store=store.root)
    check_refresh(config, made.steps)
    writable(config.out / spec.study / "results")
    options = RunOptions(
        workers=worker_count(spec.workers, config, compute),
        threads=compute.threads if compute.device == "cpu" else 0,  # fixed: bytes do not depend on the workers
        keep=spec.keep,
        refresh=config.refresh,
        max_seconds=None if config.max_time is None else config.max_time * 60,
    )
    todo = missing_steps(made.targets, store, config.refresh)
    early = [*made.counts.values(), *made.pool_steps]
    first = run_steps(early, store, replace(options, refresh=()), Progress(quiet=True))
    shared = overlaps(made, store)
    if options.max_seconds is not None:
        options = replace(options, max_seconds=options.max_seconds - first.seconds)
    rest = run_steps(made.targets, store, options, Progress(quiet=config.quiet, pace=hardware.pace(compute)))
    done = Done(len(todo), len(made.steps) - len(todo), first.seconds + rest.seconds)
    return Finished(made, store, compute, done, shared)


def study(config: StudyConfig) -> LanguageStudy:
    """Did the training do harm, did the repair undo it, and at what cost? Runs what is missing and judges it.

    Raises:
        UserError: a mistake in the file, absent data or models, no damage chosen, items that the pilot has seen, no seed
            but the pilot's.
        OutOfTime: `max_time` is over; what is finished is stored.
    """
    spec = resolve_spec(config)
    judged_seeds(spec, read_pilot(config.out / spec.study))
    return write_run(spec, finish(spec, config), config)


def pilot(config: StudyConfig) -> Pilot:
    """Which damage of the grid does harm that shows, on the pilot's items? Writes `pilot.json`; the user chooses.

    Raises:
        UserError: the file has no pilot, and all that `study` can raise.
        OutOfTime: `max_time` is over; what is finished is stored.
    """
    spec = resolve_spec(config)
    ended = finish(pilot_spec(spec), config)
    made = ended.made
    values, notes = collect(made, ended.store)
    costs = cost_table(made.cells, ended.store)
    answer = answer_pilot(spec, values, costs)
    folder = config.out / spec.study
    told = {
        "schema_version": 1,
        "study": spec.study,
        "spec": spec.model_dump(mode="json", include=set(KEPT_FOR_PILOT)),
        **answer.as_json(),
        "items": sorted(same_items(values, "pilot")),
        "notes": notes.get("pilot", {}),
        "overlap": ended.shared,
        "compute": ended.compute.as_config(),
        "made_with": made_with(),
        "steps": {step.label: step.key for step in made.steps},
        "seconds": ended.done.seconds,
    }
    write_json(told, folder / "pilot.json")
    return answer


def judged_seeds(spec: LanguageSpec, found: dict[str, Any] | None) -> tuple[int, ...]:
    """The seeds that verdicts rest on: all of the study's but those on whose models the pilot chose the damage.

    Raises:
        UserError: none is left.
    """
    picked = picked_seeds(spec, found)
    left = tuple(seed for seed in spec.seeds if seed not in picked)
    if not left:
        what = f"the pilot chose {spec.damage} on the model of seed {picked[0]}, the study's only one"
        raise UserError("No seed is left for the verdicts.", what, "train others: --seeds +3")
    return left


Notes = dict[str, dict[str, list[str]]]
"""By probe: what a reader must know, and the models of which it is said."""


def collect(made: Plan, store: Store) -> tuple[list[Value], Notes]:
    """Measure every stored answer; what a reader must know of each probe."""
    values: list[Value] = []
    notes: Notes = {}
    read: dict[str, Result] = {}
    for cell in made.cells:
        for name, step in cell.answers.items():
            if step.key not in read:
                read[step.key] = made.asked[name].read(store, step)
            values += values_of(cell.name, cell.seed, name, read[step.key])
            for note in read[step.key].notes:
                notes.setdefault(name, {}).setdefault(note, []).append(f"{cell.name}, seed {cell.seed}")
    return values, notes


def write_run(spec: LanguageSpec, ended: Finished, config: StudyConfig) -> LanguageStudy:
    """Tables and run.json from the stored answers; quick, so it is redone at every call."""
    from pyrite.io import write_parquet

    made, store, folder = ended.made, ended.store, config.out / spec.study
    values, notes = collect(made, store)
    found = read_pilot(folder)
    if spec.pilot and found:
        check_apart(values, like_pilot(spec, at_hand(spec, config.data)), found["items"])
    judged, picked = judged_seeds(spec, found), picked_seeds(spec, found)
    answers = answer_primary(values, spec, picked)
    tables = {
        "results": results_table(values),
        "summary": summary_table(values, spec.references()),
        "contrasts": contrast_rows(answers),
    }
    costs = cost_table(made.cells, store)
    front = frontier_record(values, spec, judged)
    (folder / "results").mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_parquet(rows, folder / "results" / f"{name}.parquet")
        write_csv(rows, folder / "results" / f"{name}.csv")
    write_parquet(items_table(values), folder / "results" / "items.parquet")
    write_csv(costs, folder / "results" / "costs.csv")
    write_csv(ended.shared, folder / "results" / "overlap.csv")
    if front is not None:
        write_csv(frontier_rows(front), folder / "results" / "frontier.csv")
    draw_frontier(front, folder)
    looks = looks_at(spec, folder, judged)
    steps = made.steps
    run: dict[str, Any] = {
        "schema_version": 1,
        "verb": "study",
        "study": spec.study,
        "about": "language",
        "spec": spec.model_dump(mode="json"),
        "compute": ended.compute.as_config(),
        "made_with": made_with(),
        "counts": {
            name: store.read_json(step, "counts.json") for name, step in {**made.counts, **made.answered}.items()
        },
        "overlap": ended.shared,
        "probes": notes,
        "looks": looks,
        "notes": [
            *remarks(spec, looks, found),
            *overlap.remarks(ended.shared),
            *missing_items([value for value in values if value.seed in judged], spec),
        ],
        "primary": [answer.as_json() for answer in answers],
        "frontier": front,
        "timing": {
            "this_run_seconds": ended.done.seconds,
            "steps_run": ended.done.ran,
            "steps_reused": ended.done.reused,
            "seconds_of_all_steps": sum(store.manifest(step.key)["seconds"] for step in steps if store.has(step)),
        },
        "steps": {step.label: step.key for step in steps},
    }
    write_figure(tables["results"], tables["summary"], run["spec"], folder)
    write_json(run, folder / "run.json")
    return LanguageStudy(spec, folder, answers, tables["results"], tables["summary"], costs, run)


def read_pilot(folder: Path) -> dict[str, Any] | None:
    """What the pilot of this study found, where it was run."""
    return read_record(folder / "pilot.json", "move it away, and run --pilot again")


def remarks(spec: LanguageSpec, looks: Sequence[Look], found: dict[str, Any] | None) -> list[str]:
    """What a reader must know before believing the verdicts."""
    said, picked = [], picked_seeds(spec, found)
    judged = len(spec.seeds) - len(picked)
    for seed in picked:
        said.append(
            f"the verdicts leave out seed {seed}: the pilot chose the damage {spec.damage} on the result of that very model, "
            "and a choice among several makes it look worse than another training would; the tables and the figure "
            "hold it. `--seeds +1` trains another in its place"
        )
    if judged < 2:
        said.append("one seed: no interval over seeds and no verdict can be given")
    elif judged < 5:
        said.append(
            f"{judged} seeds give wide t intervals; those over items are narrower because they speak of these "
            "models only, not of training others alike"
        )
    if len(spec.seeds) > 1:
        said.append(
            "drawn once, whatever the seed: the division of the data into pools; the verdicts speak of these rows"
        )
    said += remarks_on_looks(looks)
    if spec.pilot and spec.damage in spec.pilot.grid:
        told = f"the damage {spec.damage} was chosen on {spec.pilot.probe.items} items that this study does not ask"
        if found is None:
            told = f"the damage {spec.damage} is of the pilot's grid, but no pilot.json is in the run folder"
        elif found["chosen"] != spec.damage:
            told = f"the damage {spec.damage} is not what the pilot found ({found['chosen'] or 'none'})"
        said.append(told)
    return said


def power(config: StudyConfig) -> dict[str, Any]:
    """How many seeds do the primary contrasts call for, judging by the seeds that are finished?"""
    spec = resolve_spec(config)
    store = open_store(config)
    made = make_plan(spec, config.data, hardware.choose(spec.precision), store=store.root)
    absent = [step.label for cell in made.cells for step in cell.answers.values() if not store.has(step)]
    if absent:
        found = f"{len(absent)} answers are not in the store, the first: {absent[0]}"
        raise UserError("Power needs finished seeds.", found, f"run first: pyrite study {config.spec}")
    told: dict[str, Any] = {"schema_version": 1, "study": spec.study, "contrasts": [], "left_out": []}
    picked = picked_seeds(spec, read_pilot(config.out / spec.study))
    for answer in answer_primary(collect(made, store)[0], spec, picked):
        per_seed = () if answer.uneven else answer.per_seed
        add_power(told, answer.contrast, per_seed, answer.margin, len(spec.contrasts))
    return told
