"""What the trainings and repairs of a study cost, as a section of the page."""

import csv

from pyrite.errors import UserError
from pyrite.report.page import Cell, Section, Table
from pyrite.runs import AGAIN, Run
from pyrite.runs.study import StudyRecord


def cost_section(run: Run[StudyRecord], anchor: str) -> list[Section]:
    """What each training and repair took, and as a share of the damage that it undoes."""
    file = run.result("costs.csv")
    if not file.is_file():
        return []
    rows: list[list[Cell | str]] = []
    try:
        with file.open(encoding="utf-8", newline="") as source:
            for row in csv.DictReader(source):
                rows.append(cost_cells(row))
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(
            "A table of the run cannot be read.", f"{file}, line {len(rows) + 2}: {error}", AGAIN
        ) from error
    columns = ("step", "first cell", "seed", "method", "steps", "tokens", "of the damage's tokens", "FLOPs",
               "of the damage's FLOPs", "seconds", "peak, GiB", "stopped")  # fmt: skip
    note = "Tokens of a repair are those to forget, to replay and to prefer, without the guard's."
    return [Section(f"{anchor}-costs", "What it cost", [Table(columns, rows, note=note)])] if rows else []


def cost_cells(row: dict[str, str]) -> list[Cell | str]:
    """One training or repair."""

    def of(name: str, form: str = "{:,.0f}", scale: float = 1.0) -> Cell:
        text = row.get(name) or ""
        return Cell(form.format(float(text) * scale), sort=float(text)) if text else Cell("not counted")

    def part_of(name: str) -> Cell:
        text = row.get(name) or ""
        return Cell(f"{float(text):.1%}", sort=float(text)) if text else Cell("–")

    return [
        row["step"],
        row["cell"],
        row["seed"],
        row["method"] or "",
        of("steps"),
        of("tokens"),
        part_of("share_of_damage_tokens"),
        of("flops", "{:.3g}"),
        part_of("share_of_damage_flops"),
        of("seconds"),
        of("peak_bytes", "{:.2f}", 2**-30),
        row["stopped"] or "no",
    ]
