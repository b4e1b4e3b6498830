"""What stands on the page of an audit, a repair, a loop, and of several runs: numbers that are in the run, no text too many."""

from pathlib import Path
from typing import Any

import polars
import pytest
from tests.report.run_kit import (
    HOSTILE,
    PLANTED,
    audit_run,
    blocks,
    card,
    cells,
    loop_run,
    page,
    probe_run,
    probe_told,
    repair_run,
    strings,
    told_run,
)

from pyrite.audit.show import format_number
from pyrite.errors import UserError
from pyrite.report import tables
from pyrite.report.html import render
from pyrite.report.page import Figure, Finding, Rows, Side, Table
from pyrite.runs import Run, read_run


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return audit_run(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> Run:
    return repair_run(tmp_path_factory.mktemp("repair"), tiny_causal)


@pytest.fixture
def loop(tmp_path: Path, audited: Run, repaired: Run) -> Run:
    return loop_run(tmp_path / "loop", audited, probe_run(tmp_path / "probe"), repaired)


def test_findings_stand_worst_first_with_both_yardsticks_and_the_excess(audited: Run) -> None:
    made = page(audited)
    told = [one for one in audited.record.as_json()["findings"] if one["severity"] != "ok"]
    found = blocks(made, "audit-findings")
    assert [one.title for one in found] == [one["question"] for one in told]
    assert {one.verdict.label for one in found} <= {"FAIL", "WARN"}
    first, one = found[0], told[0]
    assert isinstance(first, Finding)
    text = " ".join(strings(first))
    assert format_number(one["value"], one["unit"]) in text
    human = one["between_human"]
    assert format_number(human["value_of_data"], one["unit"]) in text
    known = human["high"] is not None
    assert not known or format_number(human["high"], one["unit"]) in text
    assert format_number(one["null"]["high"], one["unit"]) in text
    low, high = (format_number(one["excess"][end], one["unit"]).replace(" %", " points") for end in ("low", "high"))
    assert f"95 % interval {low.partition(' ')[0]} to {high}" in first.verdict.sentence
    assert one["advice"] in text
    assert one["evidence"]["lines"][0] in text
    (verdict,) = made.verdicts
    assert verdict.tone == "bad"
    assert one["question"] in verdict.sentence
    fine = sum(one["severity"] == "ok" for one in audited.record.as_json()["findings"])
    assert f"{fine} measures fine" in verdict.sentence
    assert len(blocks(made, "audit-fine")[0].rows) == fine


def test_flagged_rows_are_there_as_they_are_and_cut_where_asked(audited: Run) -> None:
    _, by, rows = blocks(page(audited), "audit-flagged")
    assert isinstance(rows, Rows)
    flagged = audited.record.as_json()["flagged"]
    assert rows.total == flagged["flagged"] == len(rows.rows)
    assert cells(by)[0] == [max(flagged["by"], key=flagged["by"].get), f"{max(flagged['by'].values()):,}"]
    assert any(HOSTILE.strip() in text for row in rows.rows for text in row)  # as it is: the drawing escapes
    some = blocks(page(audited, rows=5), "audit-flagged")[-1]
    assert (len(some.rows), some.total) == (5, rows.total)
    assert "first 5 of" in some.caption


def test_no_rows_leaves_no_text_of_the_data_on_any_page(audited: Run, repaired: Run, loop: Run, tmp_path: Path) -> None:
    probed = probe_run(tmp_path / "other")
    for runs in ((audited,), (repaired,), (probed,), (loop,), (audited, probed), (probed, loop.parts["probe"])):
        assert any(PLANTED in text for text in strings(page(*runs))) or runs == (repaired,)
        bare = page(*runs, no_rows=True)
        assert not [text for text in strings(bare) if PLANTED in text or "<script" in text]
        assert "left out" in bare.notes[0]
        assert not page(*runs).notes
    kept = [block.columns for block in blocks(page(audited, no_rows=True), "audit-flagged") if isinstance(block, Table)]
    assert kept == [("finding", "rows")]  # numbers stay


def test_a_repair_tells_the_change_the_curves_and_the_cost(repaired: Run) -> None:
    made, told = page(repaired), repaired.record.as_json()
    table = blocks(made, "repair-change")[0]
    line = next(one for one in told["compared"][0]["contrasts"] if one["primary"])
    change = line["difference"]
    want = [told["compared"][0]["task"], line["metric"], f"{line['first']:.4g}", f"{line['second']:.4g}"]
    want += [f"{change['value']:+.4g} [{change['low']:+.4g} to {change['high']:+.4g}]", str(change["n"])]
    assert want == cells(table)[0][:-1]
    assert [one.label for one in made.verdicts] == ["cannot tell yet"] * len(made.verdicts)
    cost = dict(blocks(made, "repair-cost")[0].items)
    assert cost["tokens processed"] == "800 (300 forget, 500 replay); the guard read 90 more"
    assert cost["share of what it undoes"].startswith("10.0 % of its 8,000 tokens".replace(" %", "%"))
    (drawn,) = [one for one in blocks(made, "repair-curves") if isinstance(one, Figure)]
    assert "forget from 0.4 at 400 tokens to 0.3 at 800" in drawn.alt
    rows = cells(blocks(made, "repair-rows")[0])
    assert [row[0] for row in rows] == ["forget", "replay"]
    assert rows[0][1] == str(told["rows"]["forget"]["read"])
    assert told["command"] in strings(blocks(made, "repair-again"))
    assert "8000" not in told["command"]


def test_a_loop_says_one_verdict_a_part_and_the_shared_facts_once(loop: Run) -> None:
    made = page(loop)
    assert [one.sentence.partition(":")[0] for one in made.verdicts] == ["Repair", "Audit", "Probe"]  # the answer first
    own = [one.title.partition(" ")[0] for one in made.sections if one.anchor.startswith("loop-part")]
    assert own == ["Audit", "Probe", "Repair"]  # then in the order of the loop
    facts = [text for text in strings(made) if text == "torch"]
    assert len(facts) == 1
    assert "pyrite run mend.yaml" in strings(blocks(made, "loop-again"))
    said = [line for block in blocks(made, "loop-unsaid") for line in block.lines]
    assert "The recipe made 5 rows." in said
    assert len(said) == len(set(said))
    assert render(made)  # anchors are unique, rows fit their columns, drawings are plain


def test_runs_of_one_verb_stand_in_one_table_untested(audited: Run, tmp_path: Path) -> None:
    one, other = (
        probe_run(tmp_path / "one"),
        probe_run(tmp_path / "two", scorecards=[card("model-a", 0.25)], compared=[]),
    )
    made = page(one, other)
    says, scores, changes = blocks(made, "compare")
    assert "NOT tested" in says.lines[0]
    assert scores.columns == ("what", "one", "two")
    rows = {row[0]: row[1:] for row in cells(scores)}
    assert rows["hans.accuracy, model 2"] == ["50.0 % [40.0 to 60.0]", ""]
    assert rows["hans.accuracy"] == ["", "25.0 % [15.0 to 35.0]"]
    assert cells(changes) == [["hans.accuracy", "worse: -25.0 points [-37.5 to -12.5]", ""]]
    assert [one.anchor for one in made.sections] == ["compare", "run1", "run2"]
    assert render(made)
    (_, side) = blocks(page(one, audited), "compare")
    assert isinstance(side, Side)
    assert side.names == ["one", "run"]


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    made = page(probe_run(tmp_path / "x" / "run"), probe_run(tmp_path / "y" / "run"))
    assert made.title == "run (1) and run (2)"


def test_missing_tables_and_old_runs_do_not_break_a_page(audited: Run, tmp_path: Path) -> None:
    told = dict(audited.record.as_json()) | {"flagged": None, "findings": [], "command": None, "gates": []}
    bare = {name: value for name, value in told.items() if name not in ("files", "made_with", "command")}
    made = page(told_run(tmp_path / "bare", bare))
    assert made.verdicts[0].tone != "bad"
    assert "No finding in 0 measures." in strings(made)
    told["flagged"] = audited.record.as_json()["flagged"]
    assert "The rows themselves are not in the run folder." in strings(page(told_run(tmp_path / "rows", told)))
    render(made)


def test_the_same_run_gives_the_same_page(audited: Run) -> None:
    assert page(audited) == page(audited)
    assert "at least" in " ".join(strings(page(audited)))


def test_tables_and_charts_are_objects(audited: Run, repaired: Run, loop: Run) -> None:
    table = tables.table(audited)
    assert isinstance(table, polars.DataFrame)
    one = audited.record.as_json()["findings"][0]
    assert table.row(0, named=True)["excess_low"] == one["excess"]["low"]
    assert set(tables.figures(audited)) == {"tokens", "openings"}
    changes = tables.table(repaired)
    line = repaired.record.as_json()["compared"][0]["contrasts"][0]
    assert changes.row(0, named=True)["change"] == line["difference"]["value"]
    assert tables.figure(repaired).to_dict()["vconcat"]
    with pytest.raises(UserError, match=r"run\.parts"):
        tables.table(loop)
    with pytest.raises(UserError, match="no figure"):
        tables.figure(loop.parts["probe"])
    assert tables.table(loop.parts["probe"]).filter(polars.col("slice_by") == "overall").height == 4


def test_folders_of_this_machine_stay_off_the_page(audited: Run, repaired: Run) -> None:
    for run in (audited, repaired):
        assert not [text for text in strings(page(run)) if str(run.folder.parent) in text]


def test_a_run_reads_the_same_from_its_file(audited: Run) -> None:
    assert page(read_run(audited.folder / "run.json")).verdicts == page(audited).verdicts


def test_gates_say_how_they_came_out(tmp_path: Path) -> None:
    told: dict[str, Any] = probe_told()
    made = page(told_run(tmp_path / "run", told))
    assert cells(blocks(made, "probe-gates")[0]) == [["failed", "hans.accuracy >= 0.6", "0.5 is below"]]
