"""Run a study: plan it, run what is missing, and write the run folder (`run_folder`); or say what would run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models import hardware
from pyrite.outputs import takes_urls
from pyrite.steps import Done, Progress, RunOptions, Step, for_several_runs, missing_steps, open_store, run_steps
from pyrite.steps.launch import current
from pyrite.steps.shard import Shard, ShardDone, refuse_beside_shard, shard_of, steps_left
from pyrite.study import chat_overlap
from pyrite.study.cells import Plan
from pyrite.study.chat_uses import at_hand, check_files, like_pilot
from pyrite.study.config import StudyConfig
from pyrite.study.contrasts import answer_primary
from pyrite.study.costs import cost_table
from pyrite.study.launched import check_launch
from pyrite.study.load import load_spec
from pyrite.study.pilot import Pilot, answer_pilot, check_apart, picked_seeds
from pyrite.study.plan import make_plan, pilot_spec
from pyrite.study.plan_price import PlanPrice, PriceOptions
from pyrite.study.plan_speed import speed_of
from pyrite.study.plan_summary import GPU_FLOPS, plan_summary, width_of
from pyrite.study.power import power_record
from pyrite.study.run_folder import Finished, Judged, Study, judged_seeds, read_pilot, write_pilot, write_run
from pyrite.study.scores import label_probe, score_answers
from pyrite.study.spec import StudySpec


@dataclass(frozen=True)
class StudyPlan:
    """What a study would run, or how many seeds its contrasts call for: plain values."""

    record: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return self.record


@dataclass(frozen=True)
class StudyPower(StudyPlan):
    """How many seeds the primary contrasts call for."""


@takes_urls(ins=("spec",), outs=("out",), below=lambda config: load_spec(config.spec)[0].study)
def study(config: StudyConfig) -> "Study | StudyPlan | StudyPower | Pilot | ShardDone":
    """Does training on this data make the model less robust; did a repair undo it? What is asked for by `plan`, `power` or
    `pilot` instead of the study itself is answered in its place: the same call as the command.

    Raises:
        UserError: a mistake in the file, absent data or models, too little data for a size, no damage chosen, items that the
            pilot has seen, no seed but the pilot's.
        OutOfTime: `max_time` is over; what is finished is stored.
    """
    if config.power and (config.plan or config.pilot):
        other = "--plan" if config.plan else "--pilot"
        raise UserError("Two things are wanted in the place of the study.", f"--power and {other}", "give one of them")
    names = ("plan", "power", "pilot", "refresh")
    refuse_beside_shard(config.shard, "a study", {name: getattr(config, name) for name in names})
    check_plan_options(config)
    if config.plan:
        return plan(config)
    if config.power:
        return power(config)
    if config.pilot:
        return pilot(config)
    shard = shard_of(config.shard)
    return run_study(config) if shard is None else run_study_shard(config, shard)


def check_plan_options(config: StudyConfig) -> None:
    """Refuse what only a plan takes into account where none is made."""
    names = ("plan_workers", "plan_speed", "plan_price", "plan_memory", "store_limit")
    changed = [name for name in names if getattr(config, name) != StudyConfig.model_fields[name].default]
    if changed and not config.plan:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UserError("This is of a plan, and none is made.", flags, "add --plan, or leave it out")


def run_study(config: StudyConfig) -> Study:
    """Run what is missing of a study, and judge it."""
    spec = resolve_spec(config)
    judged_seeds(spec, read_pilot(config.out / spec.study))
    return judge(spec, finish(spec, config), config)


def run_study_shard(config: StudyConfig, shard: Shard) -> "Study | ShardDone":
    """Run one part of a study; the job that finds all parts done judges it."""
    spec = resolve_spec(config)
    judged_seeds(spec, read_pilot(config.out / spec.study))
    ended = finish(spec, config, shard)
    with ended.store.lock(f"study-{spec.study}"):
        left = steps_left(ended.plan.targets, ended.store)
        return ShardDone(shard, "study", spec.study, left) if left else judge(spec, ended, config)


def judge(spec: StudySpec, ended: Finished, config: StudyConfig) -> Study:
    """Score the stored answers of a study, judge its contrasts, and write its run folder."""
    folder = config.out / spec.study
    before = read_pilot(folder)
    results, notes = score_answers(ended.plan, ended.store)
    if spec.pilot and before:
        check_apart(results, like_pilot(spec, at_hand(spec, config.data)), before.items)
    answers = answer_primary(results, spec, picked_seeds(spec, before))
    return write_run(spec, ended, Judged(results, notes, answers, judged_seeds(spec, before), before), folder)


def finish(spec: StudySpec, config: StudyConfig, shard: Shard | None = None) -> Finished:
    """Plan a study and run what is missing of it: first the rows and items, which are then checked, so that no model is
    trained for a study that is to be refused. With a shard, only its part of what follows is run."""
    store = open_store(config.store)
    steps, compute = planned(spec, config)
    check_refresh(config, steps.steps)
    check_launch(steps.steps, config)
    writable(config.out / spec.study / "results")
    options = RunOptions(
        workers=worker_count(spec.workers, config, compute),
        engine=config.engine,
        threads=compute.threads if compute.device == "cpu" else 0,  # fixed: bytes do not depend on the workers
        keep=spec.keep if shard is None else "all",  # weights that another job may still read
        refresh=config.refresh,
        max_seconds=None if config.max_time is None else config.max_time * 60,
    )
    todo = missing_steps(steps.targets, store, config.refresh)
    rows = steps.rows_first
    with for_several_runs(config.engine):
        first = run_steps(rows, store, replace(options, refresh=()), Progress(quiet=True))
        for name, step in steps.items.items():
            if step in rows:
                label_probe(steps, name, store)  # what is wrong with a probe is said before anything is trained
        shared = chat_overlap.overlaps(steps, store) if steps.pools else []
        if options.max_seconds is not None:
            options = replace(options, max_seconds=options.max_seconds - first.seconds)
        targets = steps.targets if shard is None else shard.of(steps.targets)
        rest = run_steps(targets, store, options, Progress(quiet=config.quiet, pace=hardware.pace(compute)))
    done = Done(len(todo), len(steps.steps) - len(todo), first.seconds + rest.seconds)
    return Finished(steps, store, compute, done, shared)


def planned(spec: StudySpec, config: StudyConfig, *, only_plan: bool = False) -> tuple[Plan, hardware.Compute]:
    """The study's steps, and what they compute with."""
    compute = hardware.choose(spec.given.precision)
    if compute.device == "cpu":
        compute = replace(compute, threads=spec.threads)
    store = Path(open_store(config.store).place)
    return make_plan(spec, config.data, compute, store=store, only_plan=only_plan), compute


def plan(config: StudyConfig) -> StudyPlan:
    """What would this study run? Needs no model, no data and no hub; what it could not find is under `absent`."""
    spec = resolve_spec(config)
    planned_spec = pilot_spec(spec) if config.pilot else spec
    steps, compute = planned(planned_spec, config, only_plan=True)
    check_refresh(config, steps.steps)
    record = {"schema_version": 1, **plan_summary(steps, open_store(config.store), config.refresh)}
    record["workers"] = worker_count(spec.workers, config, compute)
    record["seconds_assume"] = f"{compute.device}, {compute.precision}, one step after the other"
    record["cluster"] = price_of(config, steps, compute).as_json()
    if config.pilot:
        record["damage"] = None
    if "gpu_hours" in record:
        record["gpu_hours_assume"] = f"{GPU_FLOPS:.1e} FLOP/s"
    if spec.has_grid:
        record["threads"] = compute.threads
        advised = hardware.threads_for(width_of(steps), os.cpu_count() or 1) if compute.device == "cpu" else 1
        record["threads_advised"] = advised
    return StudyPlan(record)


def price_of(config: StudyConfig, steps: Plan, compute: hardware.Compute) -> PlanPrice:
    """What is missing of a study, as a cluster of the machines that `--plan-…` describes would run it."""
    store = open_store(config.store)
    todo = missing_steps(steps.targets, store, config.refresh)
    speed = speed_of(config.plan_speed, compute, steps.steps, store)
    options = PriceOptions(config.plan_workers, config.plan_price, config.plan_memory, config.store_limit)
    return PlanPrice(steps, todo, store, speed, options)


def pilot(config: StudyConfig) -> Pilot:
    """Which damage of the grid does harm that shows, on the pilot's items? Writes `pilot.json`; the user chooses.

    Raises:
        UserError: the file has no pilot, and all that `study` can raise.
        OutOfTime: `max_time` is over; what is finished is stored.
    """
    spec = resolve_spec(config)
    ended = finish(pilot_spec(spec), config)
    results, notes = score_answers(ended.plan, ended.store)
    answer = answer_pilot(spec, results, cost_table(ended.plan.cells, ended.store))
    write_pilot(spec, ended, answer, results, notes, config.out / spec.study)
    return answer


def power(config: StudyConfig) -> StudyPower:
    """How many seeds do the primary contrasts call for, judging by the seeds that are finished?"""
    spec = resolve_spec(config)
    steps, _ = planned(spec, config)
    store = open_store(config.store)
    absent = [step.label for cell in steps.cells for step in cell.answers.values() if not store.has(step)]
    if absent:
        lacking = f"{len(absent)} answers are not in the store, the first: {absent[0]}"
        raise UserError("Power needs finished seeds.", lacking, f"run first: pyrite study {config.spec}")
    picked = picked_seeds(spec, read_pilot(config.out / spec.study))
    return StudyPower(power_record(spec, answer_primary(score_answers(steps, store)[0], spec, picked)))


def resolve_spec(config: StudyConfig) -> StudySpec:
    """The study file with `--seeds` applied; refused where files that it must keep apart are the same ones."""
    spec, _ = load_spec(config.spec)
    check_files(spec, config.data)
    if config.seeds is None:
        return spec
    reserved = () if spec.pilot is None else (spec.pilot.seed,)
    return spec.model_copy(update={"seeds": more_seeds(spec.seeds, config.seeds, reserved)})


def more_seeds(seeds: Sequence[int], text: str, reserved: Sequence[int] = ()) -> tuple[int, ...]:
    """A study's seeds as `--seeds` wants them: N in all, or +N more, filled up with the smallest that are free; never
    with one that is `reserved` (a pilot's)."""
    more, number = text.startswith("+"), text.lstrip("+")
    if not number.isdigit() or int(number) < 1:
        raise UserError("--seeds takes a number or +number.", text, "for three more seeds: --seeds +3")
    count = len(seeds) + int(number) if more else int(number)
    chosen = list(seeds[:count])
    candidate = 0
    while len(chosen) < count:
        if candidate not in seeds and candidate not in reserved:
            chosen.append(candidate)
        candidate += 1
    return tuple(chosen)


def worker_count(in_file: int, config: StudyConfig, compute: hardware.Compute) -> int:
    """How many processes: as asked, as the file says, as many as the cores are enough for on a CPU, one for each GPU; one
    where torchrun started it."""
    if current() is not None:
        return 1
    cores = max(1, min(hardware.MOST_WORKERS, (os.cpu_count() or 1) // compute.threads))
    return config.workers or in_file or (cores if compute.device == "cpu" else gpu_count(compute))


def gpu_count(compute: hardware.Compute) -> int:
    """How many GPUs there are for steps that run beside each other; one where the device is another."""
    from pyrite.steps.processes import visible_gpus

    return max(1, min(hardware.MOST_WORKERS, len(visible_gpus()))) if compute.device == "cuda" else 1


def check_refresh(config: StudyConfig, steps: Sequence[Step]) -> None:
    """Refuse `--refresh` of a step that the study does not have."""
    kinds = sorted({step.kind.name for step in steps})
    for name in config.refresh:
        if name not in kinds:
            raise UserError("--refresh names no step of this study.", name, f"use one of: {', '.join(kinds)}")


def writable(folder: Path) -> None:
    """Find out before hours of work whether the run folder can be written; leaves nothing behind."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
        for path in new:
            path.rmdir()
    except OSError as error:
        fix = "choose another: --out DIR"
        raise UserError("The run folder cannot be written.", f"{folder}: {error.strerror}", fix) from error
