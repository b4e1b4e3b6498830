"""Rows taken some at a time: nothing finished is done again, nothing is lost, and the order is that of the rows."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyrite.errors import OutOfTime
from pyrite.steps import Context, in_parts


def context_of(
    folder: Path, expired: Callable[[], bool] = lambda: False, progress_reports: list[Any] | None = None
) -> Context:
    reports: list[Any] = [] if progress_reports is None else progress_reports
    return Context({}, {}, folder / "out", folder / "checkpoint", lambda *report: reports.append(report), expired)


def test_every_row_is_worked_once_in_parts_of_a_size_and_comes_back_in_its_place(tmp_path: Path) -> None:
    parts, progress_reports = [], list[Any]()

    def work(rows: list[int], report_progress: Any) -> tuple[list[Any], dict[str, Any]]:
        parts.append(rows)
        report_progress(1, 2, "pieces")
        return [at * 10 for at in rows], {"rows": len(rows)}

    sizes = [5, 1, 9, 1, 1, 30]
    results, records = in_parts(
        context_of(tmp_path, progress_reports=progress_reports),
        "x",
        "rows",
        sizes,
        work,
        tokens=10,
        order=[5, 2, 0, 1, 3, 4],
    )
    assert results == [0, 10, 20, 30, 40, 50]
    assert parts == [[5], [2], [0, 1, 3, 4]]  # a row larger than a part is a part of its own
    assert records == [{"rows": 1}, {"rows": 1}, {"rows": 4}]
    assert progress_reports == [(0.5, 6, "rows"), (1.5, 6, "rows"), (4.0, 6, "rows")]
    assert in_parts(context_of(tmp_path), "x", "none", [], work, tokens=10) == ([], [])


def test_a_cut_run_goes_on_after_its_finished_parts_even_if_the_last_was_torn(tmp_path: Path) -> None:
    worked: list[int] = []

    def work(rows: list[int], report_progress: Any) -> tuple[list[Any], dict[str, Any]]:
        worked.extend(rows)
        return [[at, math.nan if at == 1 else -math.inf] for at in rows], {}

    with pytest.raises(OutOfTime, match="2 of 5 rows"):
        in_parts(context_of(tmp_path, lambda: True), "x", "rows", [4] * 5, work, tokens=8)
    (file,) = (tmp_path / "checkpoint").glob("x-*.jsonl")
    with file.open("a") as sink:
        sink.write('{"rows": [2, 3], "resu')
    results, records = in_parts(context_of(tmp_path), "x", "rows", [4] * 5, work, tokens=8)
    assert worked == [0, 1, 2, 3, 4]
    assert [row[0] for row in results] == [0, 1, 2, 3, 4]
    assert [math.isnan(row[1]) for row in results] == [False, True, False, False, False]
    assert results[4][1] == -math.inf
    assert len(records) == 3
    again, _ = in_parts(context_of(tmp_path), "x", "rows", [4] * 5, work, tokens=8)
    assert (len(worked), [row[0] for row in again]) == (5, [0, 1, 2, 3, 4])


def test_one_question_never_finds_the_answers_to_another(tmp_path: Path) -> None:
    def answers(texts: list[str]) -> list[Any]:
        return in_parts(
            context_of(tmp_path), "x", texts, [1] * len(texts), lambda rows, report_progress: ([texts[at] for at in rows], {}), tokens=9
        )[0]  # fmt: skip

    assert answers(["a", "b", "c"]) == ["a", "b", "c"]
    assert answers(["d", "e"]) == ["d", "e"]
    assert answers(["a", "b", "c"]) == ["a", "b", "c"]
