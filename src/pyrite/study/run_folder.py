"""The run folder of a study: tables, figure, row files and run.json. Quick, so it is redone at every call.

runs/NAME/run.json            what ran: resolved spec, versions, hardware, hashes, counts, timings, verdicts
runs/NAME/results/            results (one model a row), summary over seeds: parquet and csv; predictions.parquet (answers
                              that are labels) and items.parquet (all others), item by item; contrasts, costs, overlap
                              (rows used for two things) and frontier as csv, where the study has them
runs/NAME/rows/               labelled rows that starts and arms were trained on (of the first seed), as pyrite audit reads them
runs/NAME/figure.svg, .png    the panels; figure.txt: what they show, in words
runs/NAME/pilot.json          what --pilot found
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

import pyrite
from pyrite.charts import save
from pyrite.errors import UserError
from pyrite.models import hardware
from pyrite.repair.figure import draw_frontier
from pyrite.repair.tables import frontier_rows
from pyrite.runs import parse_record
from pyrite.runs.pilot import PilotFile, PilotRecord, TriedDamage
from pyrite.runs.schema import Frontier, Hardware
from pyrite.runs.study import (
    CutRows,
    LookRecord,
    PrimaryContrast,
    SharedRows,
    SourceCounts,
    SourceQuality,
    StudyFile,
    StudyRecord,
    Timing,
)
from pyrite.runs.write import write_record
from pyrite.steps import Done, Store
from pyrite.study import cells_figure, chat_overlap, labelled_overlap
from pyrite.study.cells import CellKey, Plan
from pyrite.study.contrasts import Answer
from pyrite.study.costs import cost_table
from pyrite.study.frontier import frontier_record
from pyrite.study.looks import looks_at, read_study_json
from pyrite.study.notes import missing_items, study_notes
from pyrite.study.pilot import Pilot, picked_seeds, same_items
from pyrite.study.row_files import file_of
from pyrite.study.scores import Notes, Scores, headline_value
from pyrite.study.spec import StudySpec
from pyrite.study.tables import (
    contrast_rows,
    grid_figure,
    items_table,
    prediction_rows,
    results_table,
    summary_table,
    table,
)
from pyrite.tasks.rows import read_rows

if TYPE_CHECKING:
    import altair
    import polars


KEPT_FOR_PILOT = ("study", "says", "model", "task_model", "precision", "data", "trainings", "pilot", "seeds")
"""Of the study file, what pilot.json holds."""


@dataclass(frozen=True)
class Study:
    """A finished study: its tables, verdicts and where they lie."""

    spec: StudySpec
    folder: Path
    answers: list[Answer]
    results: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    run: dict[str, Any]

    def table(self, *, slices: bool = False) -> "polars.DataFrame":
        """Every cell on each probe's headline (or, with `slices`, on all slices), against the cells that it is compared with."""
        return table(self.summary, self.run["spec"], slices=slices)

    def figure(self) -> "altair.VConcatChart":
        """The panels, as an Altair chart."""
        if self.spec.has_grid:
            return grid_figure(self.folder, self.run["spec"])
        return cells_figure.draw(self.results, self.summary, self.run["spec"])

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "schema_version": 1,
            "study": self.spec.study,
            "folder": str(self.folder),
            "primary": [answer.as_json() for answer in self.answers],
            "summary": self.summary,
            **({"costs": self.costs} if self.costs else {}),
            "run": self.run,
        }


@dataclass(frozen=True)
class Finished:
    """A study whose steps are all in the store, with the chats that it uses for two things."""

    plan: Plan
    store: Store
    compute: hardware.Compute
    done: Done
    shared: list[dict[str, Any]]


@dataclass(frozen=True)
class Judged:
    """A finished study's scores and verdicts: what a reader must know of each probe (`notes`), the seeds that verdicts rest on,
    and what the study's pilot found."""

    results: list[Scores]
    notes: Notes
    answers: list[Answer]
    seeds: tuple[int, ...]
    pilot: PilotRecord | None


def judged_seeds(spec: StudySpec, pilot: PilotRecord | None) -> tuple[int, ...]:
    """The seeds that verdicts rest on: all of the study's but those on whose models the pilot chose the damage.

    Raises:
        UserError: none is left.
    """
    picked = picked_seeds(spec, pilot)
    left = tuple(seed for seed in spec.seeds if seed not in picked)
    if not left:
        what = f"the pilot chose {spec.damage} on the model of seed {picked[0]}, the study's only one"
        raise UserError("No seed is left for the verdicts.", what, "train others: --seeds +3")
    return left


def write_run(spec: StudySpec, ended: Finished, judged: Judged, folder: Path) -> Study:
    """Tables, figure and run.json; quick, so it is redone at every call."""
    from pyrite.io import atomic_write, write_parquet

    steps, store, results, answers = ended.plan, ended.store, judged.results, judged.answers
    tables = {"results": results_table(results, spec), "summary": summary_table(results, spec)}
    if not spec.has_grid:
        tables["contrasts"] = contrast_rows(answers)
    costs = cost_table(steps.cells, store)
    front = frontier_record(results, spec, judged.seeds)
    (folder / "results").mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_parquet(rows, folder / "results" / f"{name}.parquet")
        write_csv(rows, folder / "results" / f"{name}.csv")
    by_item = {"predictions": prediction_rows(results, spec), "items": items_table(results, spec)}
    for name, rows in by_item.items():
        if rows:
            write_parquet(rows, folder / "results" / f"{name}.parquet")
        else:  # of an earlier run with other probes
            (folder / "results" / f"{name}.parquet").unlink(missing_ok=True)
    for name, rows in {"costs": costs, "frontier": frontier_rows(front) if front is not None else []}.items():
        if rows or (name == "costs" and not spec.has_grid):
            write_csv(rows, folder / "results" / f"{name}.csv")
        else:
            (folder / "results" / f"{name}.csv").unlink(missing_ok=True)
    draw_frontier(front, folder)
    write_row_files(steps, store, folder / "rows")
    shared = [*labelled_overlaps(steps, store), *ended.shared]
    write_csv(shared, folder / "results" / "overlap.csv")
    for name, step in steps.quality.items():
        with atomic_write(folder / "results" / f"{name}_to_read.jsonl") as temporary:
            shutil.copyfile(store.path(step.key) / "to_read.jsonl", temporary)
    looks = looks_at(spec, folder, judged.seeds)
    about = None if spec.has_grid else "language"  # as readers of older versions look for it
    run = StudyRecord(
        schema_version=1,
        verb="study",
        study=spec.study,
        **({"about": about} if about else {}),  # type: ignore[arg-type]
        spec=StudyFile.from_json(spec.model_dump(mode="json")),
        compute=Hardware.from_json(ended.compute.as_config()),
        made_with=made_with(),
        counts={
            name: SourceCounts.from_json(store.read_json(step, "counts.json"))
            for name, step in {**steps.counts, **steps.answered}.items()
        },
        rows_cut={label: CutRows.from_json(cut) for label, cut in rows_cut(steps, store).items()},
        quality={
            name: SourceQuality.from_json(store.read_json(step, "quality.json")) for name, step in steps.quality.items()
        },
        overlap=SharedRows.list_of(shared),
        probes=judged.notes,
        looks=LookRecord.list_of(looks),
        notes=[
            *study_notes(spec, looks, judged.pilot),
            *labelled_overlap.leaks(spec, shared),
            *chat_overlap.remarks(ended.shared),
            *missing_items([model for model in results if model.seed in judged.seeds], spec),
        ],
        primary=PrimaryContrast.list_of(answer.as_json() for answer in answers),
        frontier=None if front is None else Frontier.from_json(front),
        timing=Timing(
            this_run_seconds=ended.done.seconds,
            steps_run=ended.done.ran,
            steps_reused=ended.done.reused,
            seconds_of_all_steps=sum(store.manifest(key)["seconds"] for key in store.survey(steps.steps)),
        ),
        steps={step.label: step.key for step in steps.steps},
    )
    write_record(folder / "run.json", run)
    draw_figure(spec, results, tables, folder)
    return Study(spec, folder, answers, tables["results"], tables["summary"], costs, run.as_json())


def write_pilot(
    spec: StudySpec, ended: Finished, answer: Pilot, results: Sequence[Scores], notes: Notes, folder: Path
) -> None:
    """pilot.json: what was tried, what was found, on which items."""
    record = PilotRecord(
        schema_version=1,
        study=spec.study,
        spec=PilotFile.from_json(spec.model_dump(mode="json", include=set(KEPT_FOR_PILOT))),
        seed=answer.seed,
        metric=answer.metric,
        against=answer.against,
        tried=TriedDamage.list_of(answer.as_json()["tried"]),
        chosen=answer.chosen,
        sentence=answer.sentence,
        items=sorted(same_items(results, "pilot")),
        notes=notes.get("pilot", {}),
        overlap=SharedRows.list_of(ended.shared),
        compute=Hardware.from_json(ended.compute.as_config()),
        made_with=made_with(),
        steps={step.label: step.key for step in ended.plan.steps},
        seconds=ended.done.seconds,
    )
    write_record(folder / "pilot.json", record)


def write_row_files(steps: Plan, store: Store, folder: Path) -> dict[str, Path]:
    """What starts and arms were trained on (of the first seed), one file each, as `pyrite audit` reads them."""
    from pyrite.io import atomic_write

    written = {}
    for name, (step, file) in steps.rows.items():
        target = folder / file_of(name)
        with atomic_write(target) as temporary:
            shutil.copyfile(store.path(step.key) / file, temporary)
        written[name] = target
    return written


def made_with() -> dict[str, Any]:
    """Versions, for the run folder."""
    from pyrite.steps.store import made_with as versions

    return versions() | {"pyrite": pyrite.__version__}


def rows_cut(steps: Plan, store: Store) -> dict[str, dict[str, int]]:
    """Training sets and probes of labels with rows that were cut, or left out as too long or refused: how many."""
    cut_rows: dict[str, dict[str, int]] = {}
    for step in steps.steps:
        for name in ("training.json", "reading.json"):
            file = store.path(step.key) / name
            if file.is_file():
                record = orjson.loads(file.read_bytes())
                cut = {key: record[key] for key in ("rows_cut", "rows_too_long", "rows_refused") if record.get(key)}
                if cut and "rows" in record:
                    cut_rows[step.label] = {"rows": record["rows"], **cut}
    return cut_rows


def read_pilot(folder: Path) -> PilotRecord | None:
    """What the pilot of this study found, where it was run."""
    values = read_study_json(folder / "pilot.json", "move it away, and run --pilot again")
    return None if values is None else parse_record(PilotRecord, folder / "pilot.json", values)


def labelled_overlaps(steps: Plan, store: Store) -> list[dict[str, Any]]:
    """What the study's labelled row files and probes share, pair by pair."""
    sets = {name: read_rows(store.path(step.key) / file) for name, (step, file) in steps.rows.items()}
    sets |= {f"probe {name}": read_rows(store.path(step.key) / "items.jsonl") for name, step in steps.items.items()}
    return labelled_overlap.overlap_table(sets)


def draw_figure(
    spec: StudySpec, results: Sequence[Scores], tables: Mapping[str, list[dict[str, Any]]], folder: Path
) -> None:
    """The panels: of a grid the general task, each blind spot, and its headline slice, with their numbers as a table, too; of
    other cells every headline metric."""
    from pyrite.io import write_parquet
    from pyrite.study import grid_figure as drawing

    if not spec.has_grid:
        cells_figure.write_figure(tables["results"], tables["summary"], spec.model_dump(mode="json"), folder)
        return
    rows, panels = panel_rows(results)
    if not rows:  # no probe of this grid asks for labels: its values are in the tables
        for file in (*folder.glob("figure.*"), folder / "results" / "panels.parquet"):
            file.unlink(missing_ok=True)
        return
    write_parquet(drawing.panel_table(rows, panels), folder / "results" / "panels.parquet")
    chart = drawing.draw(rows, panels, title=spec.study, margin=spec.margin)
    save(chart, folder, "figure", spec=True)
    (folder / "figure.txt").write_text(drawing.alt_text(rows, panels) + "\n", encoding="utf-8")


def panel_rows(results: Sequence[Scores]) -> tuple[list[dict[str, Any]], list[Any]]:
    """The numbers of a grid's figure: each model's accuracy on every probe of labels, and on its headline slice."""
    from pyrite.study.grid_figure import PanelRow

    rows: list[dict[str, Any]] = []
    panels: dict[str, PanelRow] = {}
    for model in results:
        probe = model.label_probe
        if probe is None or not model.is_headline_metric:
            continue
        title, chance = model.probe.replace("_", " "), 1 / len(probe.task.labels)
        what = "general task" if model.probe == "general" else title
        panels.setdefault(model.probe, PanelRow(model.probe, f"{what}: {probe.task.name}", chance))
        key: CellKey = model.cell
        row = {"start": key.start, "arm": key.name, "size": key.size, "seed": model.seed}
        rows.append({**row, "panel": model.probe, "value": model.estimate.value})
        if not probe.headline_is_overall:
            name = f"{model.probe}.headline"
            panels.setdefault(name, PanelRow(name, f"{title}: {probe.headline_name}", chance))
            rows.append({**row, "panel": name, "value": headline_value(model)})
    return rows, list(panels.values())


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """A table as CSV, atomically; rows may have columns of their own."""
    import csv

    from pyrite.io import atomic_write

    columns = list(dict.fromkeys(column for row in rows for column in row))
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, columns)
        writer.writeheader()
        writer.writerows(rows)
