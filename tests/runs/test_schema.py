"""What holds of every record: its keys keep their order, its numbers their kind, and nothing is converted."""

import math
from pathlib import Path

import numpy as np
import orjson
import pytest
from pydantic import ValidationError

from pyrite.runs.schema import Frontier, Interval, Measured, Scorecard, SliceScore
from pyrite.runs.write import as_bytes, write_record

INTERVAL = {"method": "Wilson", "n": 4, "value": 1, "note": {"b": [1], "a": None}, "high": 1.0, "low": 0.5}


def test_keys_stand_as_they_were_given_and_ones_that_nobody_knows_stay() -> None:
    record = Measured.from_json(INTERVAL)
    assert list(record.as_json()) == list(INTERVAL)
    assert orjson.dumps(record.as_json()) == orjson.dumps(INTERVAL)  # 1 is not 1.0, and defaults are not added
    assert (record.value, record.n_missing, record.direction) == (1, 0, "")
    built = Measured(n=4, value=0.5, low=None, high=None, method="one seed")
    assert list(built.as_json()) == ["n", "value", "low", "high", "method"]


def test_what_is_replaced_keeps_its_place() -> None:
    record = Measured.from_json(INTERVAL).replaced_by(low=0.25, confidence=0.9)
    assert record.as_json() == INTERVAL | {"low": 0.25, "confidence": 0.9}
    assert list(record.as_json()) == [*INTERVAL, "confidence"]


def test_records_within_records_are_plain_values_again(tmp_path: Path) -> None:
    point = {"alpha": 0.5, "name": "x", "method": "interpolate", "chosen": True, "recovered": None, "kept": None}
    values = {"sentences": [], "points": [point], "lost": "a", "gained": None, "keep": 1, "selection": None}
    write_record(tmp_path / "frontier.json", Frontier.from_json(values))
    assert (tmp_path / "frontier.json").read_bytes() == orjson.dumps(values, option=orjson.OPT_INDENT_2)


def test_a_number_that_is_none_is_written_as_null() -> None:
    record = Measured(value=math.nan, low=np.float64(0.5), high=math.inf, n=3)
    assert orjson.loads(as_bytes(record)) == {"value": None, "low": 0.5, "high": None, "n": 3}
    assert not record.is_known
    assert Interval(value=0.0, low=0.0, high=0.0).is_known


@pytest.mark.parametrize(
    ("key", "value"), [("n", "4"), ("n", 4.0), ("n", True), ("value", "1"), ("low", False), ("method", None)]
)
def test_nothing_is_converted(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        Measured.from_json(INTERVAL | {key: value})


def test_a_record_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Measured.from_json(INTERVAL).n = 5  # type: ignore[misc]


def test_the_lines_of_a_scorecard_begin_with_its_metric_overall() -> None:
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "n_missing": 1, "direction": "higher", "method": "Wilson"}
    slice_score = {"metric": "accuracy", "by": "gold", "name": "yes", "gold": "yes", **score}
    card = Scorecard.from_json(
        {"about": "m", "task": "nli", "source": "f", "metric": "accuracy", "overall": score, "slices": [slice_score],
         "unmatched": 0, "notes": []}
    )  # fmt: skip
    whole = SliceScore.from_json({"metric": "accuracy", "by": "overall", "name": "overall", "gold": None, **score})
    assert [line.as_json() for line in card.lines()] == [whole.as_json(), slice_score]


def test_a_repairs_record_that_lacks_what_is_shown_of_it_is_refused() -> None:
    """So that a page of it is no traceback; values that are no numbers are drawn nowhere."""
    from pydantic import ValidationError

    from pyrite.repair.figure import panel_points
    from pyrite.runs.repair import CurvePoint, RepairTokens

    assert RepairTokens.from_json({"processed": 3, "guard": 0, "preferred": 1}).preferred == 1
    for values in ({"processed": 3}, {"processed": "3", "guard": 0}):
        with pytest.raises(ValidationError):
            RepairTokens.from_json(values)
    with pytest.raises(ValidationError):
        CurvePoint.from_json({"tokens": "many", "replay": 1.0})
    rows = [{"tokens": 8, "replay": "low", "forget": 2.0}]
    assert panel_points({"curve": rows}, "curve") == [{"tokens": 8, "term": "forget", "nats": 2.0}]


def test_the_first_line_of_a_card_is_named_by_the_card() -> None:
    """Whatever else stands in what was measured overall."""
    card = Scorecard.model_construct(metric="accuracy", overall=Measured.from_json({**INTERVAL, "by": 6.1}), slices=[])
    assert card.lines()[0].by == "overall"
