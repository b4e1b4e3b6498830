"""Which rows do probes and trainings share? Counted by hand."""

from typing import Any

from pyrite.records import Labelled
from pyrite.study.labelled_overlap import leaks, overlap_table
from pyrite.study.load import parse_spec

from conftest import TWO_SOURCES  # isort: skip


def test_shared_rows_of_a_probe_are_told() -> None:
    spec = parse_spec(TWO_SOURCES, "s.yaml")
    shared = [
        {"a": "arm other (10, first seed)", "b": "probe spot", "rows_a": 10, "rows_b": 40, "shared": 3},
        {"a": "t", "b": "probe general", "rows_a": 40, "rows_b": 40, "shared": 40},  # the probe's own data
        {"a": "start raw", "b": "arm other (10, first seed)", "rows_a": 10, "rows_b": 10, "shared": 2},
        {"a": "start raw", "b": "probe spot", "rows_a": 10, "rows_b": 40, "shared": 0},
    ]
    (said,) = leaks(spec, shared)
    assert said == "3 texts of probe spot (40 rows) are also in arm other (10, first seed): what is asked was seen"


def pair(premise: str, hypothesis: str, kind: str = "a") -> Labelled:
    return Labelled(
        {"premise": premise, "hypothesis": hypothesis, "kind": kind}, "entailment", f"{premise}-{hypothesis}"
    )


def test_shared_texts_of_a_field_by_hand() -> None:
    """Of the probe's 20 rows two are rows of the arm (case and blanks tell nothing) and 16 more have a premise of it; two
    have neither. Of the arm's ten rows, eight have a premise of the probe. Three hypotheses are in both, one of them
    under another premise. The field of one letter is no text."""
    arm_rows = [pair(f"The dog {at} ran home", f"it moved {at}") for at in range(9)] + [pair("apart", "as ever")]
    probe = [pair("the  DOG 0 ran home", "it moved 0"), pair("the dog 1 ran home ", "It moved 1")]
    probe += [pair(f"the dog {at} ran home", f"it slept {at} {time}") for at in range(8) for time in "ab"]
    probe += [pair("nobody ran", "as ever"), pair("nobody ran at all", "so it was")]
    (line,) = overlap_table({"arm human": arm_rows, "probe general": probe})
    assert line == {
        "a": "arm human", "b": "probe general", "rows_a": 10, "rows_b": 20,
        "shared": 2, "shared_a": 2, "shared_b": 2,
        "shared_premise_a": 8, "shared_premise_b": 18,
        "shared_hypothesis_a": 3, "shared_hypothesis_b": 3,
    }  # fmt: skip


def test_a_study_of_one_field_has_no_fields_to_tell_apart() -> None:
    texts = [Labelled({"text": f"text {at % 3}"}, "a", str(at)) for at in range(6)]
    (line,) = overlap_table({"a": texts, "b": texts[:1]})
    assert line == {"a": "a", "b": "b", "rows_a": 6, "rows_b": 1, "shared": 1, "shared_a": 2, "shared_b": 1}


def test_the_most_of_what_a_probe_shares_with_training_is_one_note() -> None:
    spec = parse_spec(TWO_SOURCES.replace("fields: [text]", "fields: [premise, hypothesis]"), "s.yaml")

    def line(a: str, b: str, shared: int, premise: int, hypothesis: int, of: int = 50) -> dict[str, Any]:
        told = {"a": a, "b": b, "rows_a": 80, "rows_b": of, "shared": shared, "shared_a": shared, "shared_b": shared}
        told |= {"shared_premise_a": 7, "shared_premise_b": premise}
        return told | {"shared_hypothesis_a": 7, "shared_hypothesis_b": hypothesis}

    table = [
        line("arm human", "probe general", 2, 48, 3),
        line("arm other", "probe general", 0, 40, 0),
        line("start raw", "probe spot", 5, 5, 5),  # whole rows only
        line("t", "probe general", 50, 50, 50),  # the probe's own rows
        line("arm other", "probe fresh", 0, 0, 1, of=1000),
    ]
    assert leaks(spec, table) == [
        "2 texts of probe general (50 rows) are also in arm human: what is asked was seen",
        "5 texts of probe spot (50 rows) are also in start raw: what is asked was seen",
        "92 % of the rows of probe general (46 of 50) share their premise with arm human, the rest of the row apart: "
        "part of what is asked was seen",
        "under 1 % of the rows of probe fresh (1 of 1000) share their hypothesis with arm other, the rest of the row "
        "apart: part of what is asked was seen",
    ]
