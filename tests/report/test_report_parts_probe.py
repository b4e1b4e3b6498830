"""A probe's page: scorecards and changes as the run tells them, items that changed sides with their texts."""

from pathlib import Path

import pytest
from tests.report.run_kit import HOSTILE, PLANTED, blocks, card, cells, contrast, interval, page, probe_run, strings

from pyrite.report.html import render
from pyrite.report.page import Cell, Rows
from pyrite.report.parts import shared


def test_every_value_stands_with_its_interval_or_the_reason_why_there_is_none(tmp_path: Path) -> None:
    made = page(probe_run(tmp_path / "run"))
    scores, notes = blocks(made, "probe-scorecards")
    assert cells(scores)[0] == ["hans", "accuracy", "model-a", "75.0 % [65.0 to 85.0]", "40", "0", "Wilson"]
    assert cells(scores)[1][2:4] == ["model-b", "50.0 % [40.0 to 60.0]"]
    assert cells(scores)[2][:4] == ["hans", "nats_per_token", "model-a", "2.5 [2.25 to 2.75]"]
    slices = cells(blocks(made, "probe-slices")[0])
    assert slices[0][2:5] == ["gold: non-entailment", "model-a", "12.5 % (no interval: 3 templates)"]
    assert notes.lines == ["hans: cut at 96 tokens", "hans: 2 answers are for items that the task does not have"]
    (verdict,) = made.verdicts
    assert (verdict.label, verdict.tone) == ("worse", "bad")
    assert "-25.0 points, 95 % interval -37.5 to -12.5; 40 items" in verdict.sentence
    change = cells(blocks(made, "probe-change")[0])
    assert change == [["hans", "accuracy", "75.0 %", "50.0 %", "-25.0 [-37.5 to -12.5]", "40", "worse"]]
    assert cells(blocks(made, "probe-change-slices")[0])[0][2] == "gold: entailment"


def test_items_that_changed_sides_bring_what_was_asked_and_answered(tmp_path: Path) -> None:
    counts, rows = blocks(page(probe_run(tmp_path / "run")), "probe-flips")
    assert cells(counts) == [["hans", "accuracy", "2", "1", "0"]]
    assert isinstance(rows, Rows)
    assert (rows.columns[5:], rows.filters) == (
        ("asked", "model-a", "model-b", "right label"),
        ("task", "metric", "way"),
    )
    assert rows.rows[1] == (
        f"{PLANTED}-2", "hans", "accuracy", "gained", "gold entailment", HOSTILE, f"{PLANTED} yes", f"{PLANTED} no", "entailment",
    )  # fmt: skip
    (_, some) = blocks(page(probe_run(tmp_path / "run"), rows=1), "probe-flips")
    assert (len(some.rows), some.total, some.caption) == (1, 3, "The first 1 of 3")


def test_without_texts_the_scores_stand_and_the_page_says_so(tmp_path: Path) -> None:
    (_, rows) = blocks(page(probe_run(tmp_path / "run", texts=False)), "probe-flips")
    assert rows.rows[0][5:] == ("", "1", "0")
    assert "not in the run folder" in rows.caption


def test_one_model_says_its_scores(tmp_path: Path) -> None:
    one = card("model-a", 0.75)
    one["overall"] = interval(None, None, None, 0, "no answers")
    made = page(probe_run(tmp_path / "run", scorecards=[card("model-a", 0.75), one], compared=[], models=["model-a"]))
    assert made.verdicts[0].sentence == "model-a on hans: accuracy 75.0 %, 95 % interval 65.0 to 85.0; 40 items."
    assert made.verdicts[1].label == "no value"
    assert cells(blocks(made, "probe-scorecards")[0])[1][3] == "no value (no answers)"
    assert not [one for one in made.sections if one.anchor.endswith("flips")]


def test_a_metric_of_which_neither_way_is_better_has_no_verdict(tmp_path: Path) -> None:
    both = {"task": "hans", "first": "a", "second": "b", "flips": [], "contrasts": [contrast(verdict=None)]}
    made = page(probe_run(tmp_path / "run", compared=[both]))
    assert cells(blocks(made, "probe-change")[0])[0][-1] == "neither way is better"
    assert [one.label for one in made.verdicts] == ["75.0 %", "50.0 %"]  # what the scorecards say
    assert "No item changed sides." in strings(blocks(made, "probe-flips"))


def test_hostile_text_passes_as_text_and_is_escaped_by_the_page(tmp_path: Path) -> None:
    made = page(probe_run(tmp_path / "run", models=[HOSTILE, "model-b"]))
    assert HOSTILE in " ".join(strings(made))
    assert f"<script>alert('{PLANTED}')" not in render(made)


@pytest.mark.parametrize(
    ("one", "share", "text"),
    [
        (interval(0.5, 0.25, 0.75), True, "50.0 % [25.0 to 75.0]"),
        (interval(-2.0, -3.0, 1.0), False, "-2 [-3 to +1]"),
        (interval(0.5, None, None, 1, ""), True, "50.0 % (no interval)"),
        (interval(float("nan"), None, None, 0, "no answers"), True, "no value (no answers)"),
    ],
)
def test_numbers_carry_their_doubt(one: dict[str, float], share: bool, text: str) -> None:
    assert shared.estimate(one, share, signed=not share) == text
    assert isinstance(shared.cell(one, share), Cell)


def test_settings_are_flat_and_without_folders() -> None:
    told = {"seed": 0, "task": ["nli=/home/me/dev.jsonl"], "none": None, "deep": {"er": [{"x": 1}]}, "empty": []}
    assert shared.flat(told) == [("seed", "0"), ("task", "nli=dev.jsonl"), ("deep.er 1.x", "1")]
