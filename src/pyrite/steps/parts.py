"""Long steps that go row by row: some rows at a time, what is finished stays, and `--max-time` stops in between."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyrite.errors import OutOfTime
from pyrite.io import complete_lines
from pyrite.steps.step import Context, digest

PART_TOKENS = {"cpu": 65_536, "cuda": 2_097_152, "mps": 262_144}
"""About how many tokens are a part: a part is what a killed run can lose, and how late it can notice that its time is up."""

ReportProgress = Callable[[float, float, str], None]
Work = Callable[[list[int], ReportProgress], tuple[list[Any], dict[str, Any]]]
"""Given row numbers: the result of each in their order, and what else is told of the part; all plain JSON values."""


def in_parts(
    context: Context,
    name: str,
    question: Any,
    sizes: Sequence[int],
    work: Work,
    *,
    tokens: int,
    order: Sequence[int] | None = None,
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The results of all rows, in the order of the rows, and the record that `work` returned for each part.

    Rows are taken in `order` (by default their own), so many at a time that their `sizes` come to about `tokens`. Each
    part's results are appended to a file of the step's checkpoint as soon as it is finished; a run that was cut off goes
    on with the rows that are not there. The file is of `name` and of what is asked (`question`, a plain JSON value that
    tells the rows): a step may ask several times, and one question never finds the answers to another.

    Raises:
        OutOfTime: the run's time is up, and at least one part was finished in this attempt.
    """
    context.checkpoint.mkdir(parents=True, exist_ok=True)
    file = answer_file(context, name, question)
    results_by_row, part_records = left_by(file)
    todo = [at for at in (range(len(sizes)) if order is None else order) if at not in results_by_row]
    with file.open("a") as sink:
        while todo:
            part = first_part(todo, sizes, tokens)
            n_done = len(results_by_row)

            def report_progress(now: float, of: float, unit: str, part: list[int] = part, n_done: int = n_done) -> None:
                context.report_progress(n_done + len(part) * now / max(of, 1), len(sizes), "rows")

            results, part_record = work(part, report_progress)
            results_by_row |= dict(zip(part, results, strict=True))
            part_records.append(part_record)
            sink.write(json.dumps({"rows": part, "results": results, "told": part_record}) + "\n")
            sink.flush()
            todo = todo[len(part) :]
            if todo and context.expired():
                raise OutOfTime(f"--max-time is over; {len(results_by_row)} of {len(sizes)} rows are finished and stay")
    return [results_by_row[at] for at in range(len(sizes))], part_records


def answer_file(context: Context, name: str, question: Any) -> Path:
    """Where `in_parts` keeps the results of a question."""
    return context.checkpoint / f"{name}-{digest(question)[:16]}.jsonl"


def left_by(file: Path) -> tuple[dict[int, Any], list[dict[str, Any]]]:
    """The parts that an earlier attempt finished, results by row and records; a torn last line is cut off."""
    results_by_row: dict[int, Any] = {}
    part_records = []
    for line in complete_lines(file):
        part = json.loads(line)  # with NaN and Infinity, which orjson does not read
        results_by_row |= dict(zip(part["rows"], part["results"], strict=True))
        part_records.append(part["told"])
    return results_by_row, part_records


def first_part(rows: Sequence[int], sizes: Sequence[int], tokens: int) -> list[int]:
    """The first rows that come to at most `tokens` together; at least one."""
    chosen: list[int] = []
    room = tokens
    for at in rows:
        if chosen and sizes[at] > room:
            break
        chosen.append(at)
        room -= sizes[at]
    return chosen
