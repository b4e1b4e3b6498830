"""A probe's page: scorecards and changes as the run tells them, items that changed sides with their texts."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.report.run_kit import (
    HOSTILE,
    PLANTED,
    blocks,
    card,
    cells,
    contrast,
    interval,
    page,
    probe_run,
    probe_told,
    strings,
    told_run,
)

from pyrite.io import write_parquet
from pyrite.report.html import render
from pyrite.report.page import Cell, Rows, Verdict
from pyrite.report.parts import shared
from pyrite.report.parts.repair import repair_verdicts as of_repair
from pyrite.report.parts.shared import Part, headline
from pyrite.runs.schema import Comparison, Interval


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


ALL = "; the run's JSON file tells all of them, results/texts.parquet their texts"


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
    assert (len(some.rows), some.total, some.caption) == (1, 3, f"The first 1 of 3{ALL}")


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
    assert cells(blocks(made, "probe-change")[0])[0][-1] == "no preferred direction"
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
    assert shared.format_estimate(Interval(**one), share, signed=not share) == text
    assert isinstance(shared.estimate_cell(Interval(**one), share), Cell)


def test_settings_are_flat_and_without_folders() -> None:
    told = {"seed": 0, "task": ["nli=/home/me/dev.jsonl"], "none": None, "deep": {"er": [{"x": 1}]}, "empty": []}
    assert shared.flat(told) == [("seed", "0"), ("task", "nli=dev.jsonl"), ("deep.er 1.x", "1")]


def test_two_models_of_one_name_are_told_apart_and_their_texts_found(tmp_path: Path) -> None:
    """As older runs name them, by their folders; and no folder stands on the page."""
    told = json.loads(
        json.dumps(probe_told()).replace("model-a", "/home/me/one/m").replace("model-b", "/home/me/two/m")
    )
    told["command"] = "pyrite probe m m --task hans=hans.jsonl"
    told["compared"][0]["contrasts"][0]["sentence"] = "/home/me/two/m against /home/me/one/m: worse."
    run = told_run(tmp_path, told)
    said = [(None, "asked"), ("/home/me/one/m", "yes of the first"), ("/home/me/two/m", "no of the second")]
    rows = [{"task": "hans", "item": f"{PLANTED}-1", "subject": subject, "text": text} for subject, text in said]
    write_parquet(rows, tmp_path / "results" / "texts.parquet")
    made = page(run)
    texts = list(strings(made))
    assert "m (2) against m (1): worse." in texts
    assert any(text.startswith("m (2) against m (1) on hans") for text in texts)
    assert {"yes of the first", "no of the second"} <= set(texts)
    assert not [text for text in texts if "/home" in text]


@pytest.mark.parametrize("verdict", ["better", "worse", "equivalent"])
def test_a_verdict_without_its_numbers_is_none(verdict: str, tmp_path: Path) -> None:
    told = probe_told()
    told["compared"][0]["contrasts"][0] |= {"verdict": verdict, "difference": interval(None, None, None)}
    made = page(told_run(tmp_path / "run", told))
    assert (made.verdicts[0].label, made.verdicts[0].tone) == ("cannot tell yet", "unsure")
    assert "B against A: worse." not in list(strings(made))  # the stored sentence says the verdict, too
    assert ("no value" in made.verdicts[0].sentence, verdict in made.verdicts[0].sentence) == (True, False)


def test_an_unknown_verdict_is_shown_as_it_is(tmp_path: Path) -> None:
    told = probe_told()
    told["compared"][0]["contrasts"][0]["verdict"] = "splendid"
    made = page(told_run(tmp_path / "run", told))
    assert (made.verdicts[0].label, made.verdicts[0].tone) == ("splendid", "plain")


def forgotten(*more: dict[str, Any]) -> list[Verdict]:
    """The verdicts of a repair that made a task better, with these lines of the rows to forget."""
    task = {"task": "ifeval", "first": "before", "second": "repaired", "flips": [],
            "contrasts": [contrast(verdict="better", difference=interval(0.25, 0.125, 0.375))]}  # fmt: skip
    forget = {"task": "forget", "first": "before", "second": "repaired", "flips": [], "contrasts": list(more)}
    return of_repair(Comparison.list_of([forget, task]), {("ifeval", "accuracy"): True})


@pytest.mark.parametrize(("low", "high", "label", "tone", "says"), [
    (0.5, 1.5, "better", "good", "became less likely (nats_per_token +1, 95 % interval +0.5 to +1.5)"),
    (-1.5, -0.5, "better, nothing unlearned", "unsure", "became more likely, not less (nats_per_token -1,"),
    (-1.0, 1.0, "better, unlearning not shown", "unsure", "It cannot be told whether held-out rows to forget"),
    (None, None, "better, unlearning not shown", "unsure", "(nats_per_token +1, no interval: one seed)"),
])  # fmt: skip
def test_a_repair_says_what_became_of_the_rows_to_forget(
    low: float | None, high: float | None, label: str, tone: str, says: str
) -> None:
    value = 1.0 if low is None or high is None else (low + high) / 2 or 0.0
    line = contrast(metric="nats_per_token", verdict=None, difference=interval(value, low, high, 40, "one seed"))
    (one,) = forgotten(line)
    assert (one.label, one.tone) == (label, tone)
    assert says in one.sentence
    assert one.sentence.startswith("repaired against before on ifeval (accuracy): better")
    part = Part("t", [Verdict("equivalent", "Other.", "good"), one], [], [], [], [], [])
    if tone != "good":
        assert (headline(part, "Repair").tone, says in headline(part, "Repair").sentence) == (tone, True)


def test_a_repair_of_which_nothing_is_known_says_so() -> None:
    (one,) = forgotten()
    assert (one.label, one.tone) == ("better, unlearning not measured", "unsure")
    assert "was not measured" in one.sentence
    assert [one.label for one in of_repair([], {})] == ["unlearning not measured"]
    worse = {"task": "nli", "first": "a", "second": "b", "flips": [], "contrasts": [contrast()]}
    good = {**worse, "contrasts": [contrast(verdict="better", difference=interval(0.25, 0.125, 0.375))]}
    made = of_repair(Comparison.list_of([good, good, worse]), {})
    assert ["not measured" in one.sentence for one in made] == [True, False, True]  # the first, and the worst
