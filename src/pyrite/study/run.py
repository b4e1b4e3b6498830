"""Run a study: plan it, run what is missing, score every answer, write the run folder.

runs/NAME/run.json            what ran: resolved spec, versions, hardware, hashes, counts, timings, verdicts
runs/NAME/results/*.parquet   row-level predictions, the tidy results, the summary over seeds (the tables also as csv)
runs/NAME/figure.svg, .png    the panels
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

import pyrite
from pyrite.charts import save
from pyrite.errors import UserError
from pyrite.models import hardware
from pyrite.steps import Done, Progress, RunOptions, Step, Store, closure, default_store, missing_steps, run_steps
from pyrite.study.config import StudyConfig
from pyrite.study.contrasts import (
    Answer,
    Probe,
    Scored,
    answer_primary,
    headline,
    results_table,
    score_model,
    summary_table,
)
from pyrite.study.data import POOLS
from pyrite.study.files import file_of
from pyrite.study.looks import Look, looks_at, remarks
from pyrite.study.overlap import leaks, overlap_table
from pyrite.study.plan import Plan, make_plan
from pyrite.study.power import add_power
from pyrite.study.spec import StudySpec, is_language, load_spec
from pyrite.tasks.rows import read_rows

if TYPE_CHECKING:
    import altair
    import polars

    from pyrite.study.language.run import LanguageStudy


@dataclass(frozen=True)
class Study:
    """A finished study: its tables, verdicts and where they lie."""

    spec: StudySpec
    folder: Path
    answers: list[Answer]
    results: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    run: dict[str, Any]

    def table(self, *, slices: bool = False) -> "polars.DataFrame":
        """Accuracy of every cell on each probe's headline slice (or, with `slices`, on all), against start and human arm."""
        from pyrite.study.objects import table

        return table(self.summary, self.run["spec"], slices=slices)

    def figure(self) -> "altair.VConcatChart":
        """The panels, as an Altair chart."""
        from pyrite.study.objects import figure

        return figure(self.folder, self.run["spec"])

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "schema_version": 1,
            "study": self.spec.study,
            "folder": str(self.folder),
            "primary": [answer.as_json() for answer in self.answers],
            "summary": self.summary,
            "run": self.run,
        }


def resolve_spec(config: StudyConfig) -> StudySpec:
    """The study file with `--seeds` applied."""
    spec, _ = load_spec(config.spec)
    return spec if config.seeds is None else spec.model_copy(update={"seeds": more_seeds(spec.seeds, config.seeds)})


def more_seeds(seeds: Sequence[int], text: str, taken: Sequence[int] = ()) -> tuple[int, ...]:
    """A study's seeds as `--seeds` wants them: N in all, or +N more, filled up with the smallest that are free; never
    with one that is `taken` (a pilot's)."""
    more, number = text.startswith("+"), text.lstrip("+")
    if not number.isdigit() or int(number) < 1:
        raise UserError("--seeds takes a number or +number.", text, "for three more seeds: --seeds +3")
    count = len(seeds) + int(number) if more else int(number)
    found = list(seeds[:count])
    candidate = 0
    while len(found) < count:
        if candidate not in seeds and candidate not in taken:
            found.append(candidate)
        candidate += 1
    return tuple(found)


def open_store(config: StudyConfig) -> Store:
    """The store that was asked for."""
    return Store(config.store or default_store())


def plan(config: StudyConfig) -> dict[str, Any]:
    """What would this study run? Needs no model, no data and no hub; what it could not find is under `absent`."""
    spec = resolve_spec(config)
    made, compute = planned(spec, config, only_plan=True)
    told = {"schema_version": 1, **made.summary(open_store(config), config.refresh)}
    told["workers"] = worker_count(spec.workers, config, compute)
    told["seconds_assume"] = f"{compute.device}, {compute.precision}, one step after the other"
    told["threads"] = compute.threads
    told["threads_advised"] = hardware.threads_for(made.width, os.cpu_count() or 1) if compute.device == "cpu" else 1
    return told


def worker_count(said: int, config: StudyConfig, compute: hardware.Compute) -> int:
    """How many processes: as asked, as the file says, as many as the cores are enough for on a CPU, one on a GPU."""
    cores = max(1, min(hardware.MOST_WORKERS, (os.cpu_count() or 1) // compute.threads))
    return config.workers or said or (cores if compute.device == "cpu" else 1)


def planned(spec: StudySpec, config: StudyConfig, *, only_plan: bool = False) -> tuple[Plan, hardware.Compute]:
    """The study's steps, and what they compute with."""
    compute = hardware.choose(spec.task_model.precision)
    if compute.device == "cpu":
        compute = replace(compute, threads=spec.threads)
    return make_plan(spec, config.data, compute, only_plan=only_plan), compute


def study(config: StudyConfig) -> "Study | LanguageStudy":
    """Does training on this data make the model less robust? Either sort of study, as its file says (`about`)."""
    if is_language(config.spec):
        from pyrite.study.language.run import study as study_of_language

        return study_of_language(config)
    return study_of_labels(config)


def study_of_labels(config: StudyConfig) -> Study:
    """Does training on this data make the model less robust? Runs what is missing of the study and judges it.

    Raises:
        UserError: a mistake in the file, absent data or models, too little data for a size.
        OutOfTime: `max_time` is over; what is finished is stored.
    """
    spec = resolve_spec(config)
    store = open_store(config)
    made, compute = planned(spec, config)
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
    divided = [step for step in made.steps if step.kind is POOLS]
    early = [
        step for step in (*made.items.values(), *divided) if not any("compute" in s.config for s in closure([step]))
    ]
    first = run_steps(early, store, replace(options, refresh=()), Progress(quiet=True))
    for name, step in made.items.items():
        if step in early:
            probe_of(made, name, store)  # what is wrong with a probe or a pool is told before anything is trained
    if options.max_seconds is not None:
        options = replace(options, max_seconds=options.max_seconds - first.seconds)
    rest = run_steps(made.targets, store, options, Progress(quiet=config.quiet, pace=hardware.pace(compute)))
    done = Done(len(todo), len(made.steps) - len(todo), first.seconds + rest.seconds)
    return write_run(spec, made, store, config.out / spec.study, compute, done)


def pilot(config: StudyConfig) -> dict[str, Any]:
    """Studies of labels have no pilot."""
    fix = "leave out --pilot; --power says how many seeds a study calls for"
    raise UserError("Only a study about language has a pilot.", str(config.spec), fix)


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


def probe_of(made: Plan, name: str, store: Store) -> Probe:
    """A probe with its items, which are stored by now."""
    items = read_rows(store.path(made.items[name].key) / "items.jsonl")
    return Probe.make(name, items, made.tasks[name], made.spec.probes[name].headline_slice)


def collect(made: Plan, store: Store) -> tuple[list[Scored], dict[str, Probe]]:
    """Score every stored answer."""
    import pyarrow.parquet as pq

    probes = {name: probe_of(made, name, store) for name in made.items}
    results = []
    for cell in made.cells:
        for name, step in cell.answers.items():
            table = pq.read_table(store.path(step.key) / "predictions.parquet", columns=["id", "predicted"]).to_pydict()
            answers = dict(zip(table["id"], table["predicted"], strict=True))
            results.append(
                score_model(probes[name], answers, start=cell.start, arm=cell.arm, size=cell.size, seed=cell.seed)
            )
    return results, probes


def write_run(spec: StudySpec, made: Plan, store: Store, folder: Path, compute: hardware.Compute, done: Done) -> Study:
    """Tables, figure and run.json from the stored answers; quick, so it is redone at every call."""
    from pyrite.io import atomic_write, write_parquet

    results, probes = collect(made, store)
    answers = answer_primary(results, probes, spec)
    table, summary = results_table(results), summary_table(results, spec.human_arm)
    (folder / "results").mkdir(parents=True, exist_ok=True)
    for name, rows in {"results": table, "summary": summary}.items():
        write_parquet(rows, folder / "results" / f"{name}.parquet")
        write_csv(rows, folder / "results" / f"{name}.csv")
    write_parquet(prediction_rows(results, probes), folder / "results" / "predictions.parquet")
    write_row_files(made, store, folder / "rows")
    shared = overlaps(made, store)
    write_csv(shared, folder / "results" / "overlap.csv")
    draw_figure(spec, results, probes, folder)
    for name, step in made.quality.items():
        with atomic_write(folder / "results" / f"{name}_to_read.jsonl") as temporary:
            shutil.copyfile(store.path(step.key) / "to_read.jsonl", temporary)
    looks = looks_at(spec, folder)
    run: dict[str, Any] = {
        "schema_version": 1,
        "verb": "study",
        "study": spec.study,
        "spec": spec.model_dump(mode="json"),
        "compute": compute.as_config(),
        "made_with": made_with(),
        "counts": counts(made, store),
        "rows_cut": rows_cut(made, store),
        "quality": {name: store.read_json(s, "quality.json") for name, s in made.quality.items()},
        "overlap": shared,
        "looks": looks,
        "notes": [*notes(spec, looks), *leaks(spec, shared)],
        "primary": [answer.as_json() for answer in answers],
        "timing": {
            "this_run_seconds": done.seconds,
            "steps_run": done.ran,
            "steps_reused": done.reused,
            "seconds_of_all_steps": sum(store.manifest(step.key)["seconds"] for step in made.steps if store.has(step)),
        },
        "steps": {step.label: step.key for step in made.steps},
    }
    write_json(run, folder / "run.json")
    return Study(spec, folder, answers, table, summary, run)


def write_row_files(made: Plan, store: Store, folder: Path) -> dict[str, Path]:
    """What starts and arms were trained on (of the first seed), one file each, as `pyrite audit` reads them."""
    from pyrite.io import atomic_write

    written = {}
    for name, (step, file) in made.rows.items():
        target = folder / file_of(name)
        with atomic_write(target) as temporary:
            shutil.copyfile(store.path(step.key) / file, temporary)
        written[name] = target
    return written


def made_with() -> dict[str, Any]:
    """Versions, for the run folder."""
    from pyrite.steps.store import made_with as versions

    return versions() | {"pyrite": pyrite.__version__}


def counts(made: Plan, store: Store) -> dict[str, Any]:
    """Rows read, kept and dropped by reason, for every source."""
    found = {}
    for name, step in made.counts.items():
        found[name] = store.read_json(step, "counts.json")
    return found


def rows_cut(made: Plan, store: Store) -> dict[str, dict[str, int]]:
    """Training sets and probes with rows longer than max_tokens: how many were cut, or left out."""
    found: dict[str, dict[str, int]] = {}
    for step in made.steps:
        for name in ("training.json", "reading.json"):
            file = store.path(step.key) / name
            if file.is_file():
                told = orjson.loads(file.read_bytes())
                cut = {key: told[key] for key in ("rows_cut", "rows_too_long") if told.get(key)}
                if cut:
                    found[step.label] = {"rows": told["rows"], **cut}
    return found


def notes(spec: StudySpec, looks: list[Look]) -> list[str]:
    """What a reader must know before believing the verdicts."""
    said = []
    if len(spec.seeds) < 2:
        said.append("one seed: no interval and no verdict can be given")
    grammars = {name for name, source in spec.data.items() if source.grammar}
    arms = spec.all_arms()
    if spec.human_arm in arms and {name.partition(".")[0] for name in arms[spec.human_arm].mix} & grammars:
        said.append("the human arm is a grammar stand-in, not text that people wrote")
    if len(spec.seeds) > 1 and (fixed := drawn_once(spec)):
        said.append(f"drawn once, whatever the seed: {'; '.join(fixed)}; the verdicts speak of these")
    return [*said, *remarks(looks)]


def drawn_once(spec: StudySpec) -> list[str]:
    """What the seeds of a study do not draw anew, with the option that lets them."""
    fixed = []
    if not spec.pools_vary and any(source.pools for source in spec.data.values()):
        fixed.append("the division of the data into pools (pools_vary)")
    if not spec.arm_rows_vary:
        fixed.append("the rows of an arm (arm_rows_vary)")
    one = [name for name, start in spec.starts.items() if start.seeds == "one" and start.rows]
    if one:
        fixed.append(f"the model of start {', '.join(one)} (seeds: each)")
    written = [name for name, source in spec.data.items() if source.synth]
    if written and not spec.texts_vary:
        fixed.append(f"the raw texts of {', '.join(written)} (texts_vary)")
    return fixed


def overlaps(made: Plan, store: Store) -> list[dict[str, Any]]:
    """What the study's row files and probes share, pair by pair."""
    sets = {name: read_rows(store.path(step.key) / file) for name, (step, file) in made.rows.items()}
    sets |= {f"probe {name}": read_rows(store.path(step.key) / "items.jsonl") for name, step in made.items.items()}
    return overlap_table(sets)


def prediction_rows(results: list[Scored], probes: Mapping[str, Probe]) -> list[dict[str, Any]]:
    """One row for each model and item: what was right."""
    rows = []
    for scored in results:
        for item, outcome, said in zip(probes[scored.probe].items, scored.correct, scored.predicted, strict=True):
            rows.append(
                {
                    "start": scored.start,
                    "arm": scored.arm,
                    "size": scored.size,
                    "seed": scored.seed,
                    "probe": scored.probe,
                    "id": item.id,
                    "gold": item.label,
                    "predicted": said,
                    "correct": None if outcome != outcome else bool(outcome),
                }
            )
    return rows


def draw_figure(spec: StudySpec, results: list[Scored], probes: Mapping[str, Probe], folder: Path) -> None:
    """The panels: general task, each blind spot, and its headline slice; their numbers as a table, too."""
    from pyrite.io import write_parquet
    from pyrite.study import figure

    panels, rows = [], []
    for name, probe in probes.items():
        chance = 1 / len(probe.task.labels)
        what = "general task" if name == "general" else name.replace("_", " ")
        whole = headline_is_overall(probe)
        panels.append(figure.PanelRow(name, f"{what}: {probe.task.name}", chance))
        if not whole:
            panels.append(
                figure.PanelRow(f"{name}.headline", f"{name.replace('_', ' ')}: {probe.headline_name}", chance)
            )
        for scored in results:
            if scored.probe != name:
                continue
            row = {"start": scored.start, "arm": scored.arm, "size": scored.size, "seed": scored.seed}
            overall = next(line for line in scored.slices if line.by == "overall" and line.metric == "accuracy")
            rows.append({**row, "panel": name, "value": overall.estimate().value})
            if not whole:
                rows.append({**row, "panel": f"{name}.headline", "value": headline(scored, probe)})
    write_parquet(figure.panel_table(rows, panels), folder / "results" / "panels.parquet")
    chart = figure.draw(rows, panels, title=spec.study, margin=spec.margin)
    save(chart, folder, "figure", spec=True)
    (folder / "figure.txt").write_text(figure.alt_text(rows, panels) + "\n", encoding="utf-8")


def headline_is_overall(probe: Probe) -> bool:
    """Is the probe's headline all of its items?"""
    return bool(probe.headline.all())


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """A table as CSV, atomically."""
    import csv

    from pyrite.io import atomic_write

    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def write_json(value: Any, path: Path) -> None:
    """A value as indented JSON, atomically."""
    from pyrite.io import atomic_write

    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


def power(config: StudyConfig) -> dict[str, Any]:
    """How many seeds do the primary contrasts call for, judging by the seeds that are finished?"""
    spec = resolve_spec(config)
    made, _ = planned(spec, config)
    store = open_store(config)
    absent = [step.label for cell in made.cells for step in cell.answers.values() if not store.has(step)]
    if absent:
        found = f"{len(absent)} answers are not in the store, the first: {absent[0]}"
        raise UserError("Power needs a finished pilot.", found, f"run first: pyrite study {config.spec}")
    results, probes = collect(made, store)
    told: dict[str, Any] = {"schema_version": 1, "study": spec.study, "margin": spec.margin, "contrasts": []}
    told["left_out"] = []
    for answer in answer_primary(results, probes, spec):
        add_power(told, answer.contrast, answer.per_seed, spec.margin, len(spec.primary()))
    return told
