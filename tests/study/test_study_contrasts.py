"""Contrasts, gaps, floors and missing answers: verdicts worked by hand."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pyrite.errors import UserError
from pyrite.records import Labelled
from pyrite.study.cells import CellKey
from pyrite.study.contrasts import Answer, answer_primary
from pyrite.study.label_probes import LabelProbe
from pyrite.study.load import parse_spec
from pyrite.study.scores import Scores, headline_value, scores_of_labels
from pyrite.study.spec import StudySpec
from pyrite.study.tables import summary_table
from pyrite.tasks import TASKS
from pyrite.tasks.scoring import Task

from conftest import TWO_SOURCES  # isort: skip


def score_model(
    probe: LabelProbe, answers: Mapping[str, str | None], *, start: str, arm: str, size: int, seed: int
) -> Scores:
    """One model's accuracy on a probe."""
    return scores_of_labels(CellKey(arm, start, size), seed, probe, answers)[0]


def test_contrasts_by_hand() -> None:
    """Ten items of each probe, five of the blind spot hard. Per seed 0, 1, 2 the arm `other` has 4, 3, 2 hard items
    right, the human arm 4 each, the start 3: other - human = 0, -0.2, -0.4 (mean -0.2); other - start = +0.2, 0, -0.2
    (mean 0). General is 8 of 10 for the human arm and 9 of 10 for the other (+0.1), so the gap opens by
    0.1 - (0, -0.2, -0.4) = 0.1, 0.3, 0.5 (mean 0.3), shown as -0.3. t(2) at 97.5 % is 4.302653; the standard error of
    0, -0.2, -0.4 is 0.2 / sqrt(3) = 0.115470; half width 0.496828."""
    spec = parse_spec(TWO_SOURCES, "s.yaml")
    task = Task("labelled", ("a", "b"), slices=(("kind",),))
    items = [Labelled({"text": str(at)}, "a", str(at), {"kind": "hard" if at < 5 else "easy"}) for at in range(10)]
    probes = {
        "general": LabelProbe.of("general", items, task, {}),
        "spot": LabelProbe.of("spot", items, task, {"kind": "hard"}),
    }
    results = []
    for seed, hard in enumerate((4, 3, 2)):
        for name, size, general, right in (("start", 0, 8, 3), ("human", 10, 8, 4), ("other", 10, 9, hard)):
            for probe, count in (("general", general), ("spot", right)):
                answers: dict[str, str | None] = {str(at): "a" if at < count else "b" for at in range(10)}
                results.append(score_model(probes[probe], answers, start="raw", arm=name, size=size, seed=seed))
    assert headline_value(next(r for r in results if r.cell.name == "human" and r.probe == "spot")) == 0.8
    against_human, against_start, gap = answer_primary(results, spec)
    assert against_human.judgement.difference.value == pytest.approx(-0.2)
    assert against_human.judgement.difference.low == pytest.approx(-0.2 - 0.496828, abs=1e-5)
    assert against_start.judgement.difference.value == pytest.approx(0.0)
    assert gap.judgement.difference.value == pytest.approx(-0.3)
    assert (against_human.seeds, against_human.judgement.cells) == ((0, 1, 2), ("start raw, 10 rows",))
    assert "cannot tell yet" in against_human.sentence
    rows = {(r["arm"], r["probe"], r["name"]): r for r in summary_table(results, spec)}
    assert rows["other", "spot", "hard"]["minus_human"] == pytest.approx(-0.2)
    assert rows["other", "spot", "hard"]["minus_start"] == pytest.approx(0.0)
    assert rows["other", "spot", "easy"]["mean"] == 0.0
    assert rows["human", "spot", "hard"]["minus_human"] is None
    assert np.isclose(rows["other", "general", "overall"]["minus_start"], 0.1)


def test_a_gap_at_the_floor_is_not_testable() -> None:
    """With both blind-spot sides at 0 the gap is the general task's change alone, which says nothing of a blind spot."""
    spec = parse_spec(TWO_SOURCES.replace("{arm: other}, {arm: other, against: start}, ", ""), "s.yaml")
    task = Task("labelled", ("a", "b"))
    items = [Labelled({"text": str(at)}, "a", str(at)) for at in range(10)]
    probes = {name: LabelProbe.of(name, items, task, {}) for name in ("general", "spot")}
    results = []
    for seed in range(3):
        for name, size, general in (("start", 0, 4), ("human", 10, 4), ("other", 10, 8)):
            for probe, count in (("general", general), ("spot", 0)):
                answers: dict[str, str | None] = {str(at): "a" if at < count else "b" for at in range(10)}
                results.append(score_model(probes[probe], answers, start="raw", arm=name, size=size, seed=seed))
    (gap,) = answer_primary(results, spec)
    assert gap.judgement.verdict == "not testable"
    assert "spot" in gap.judgement.why


HANS_SPEC = TWO_SOURCES.replace("labels: [a, b]", "labels: [entailment, neutral, contradiction]").replace(
    "spot: {task: labelled, data: t, headline: {kind: hard}}", "spot: {task: hans, file: hans.txt}"
)


HEURISTICS = ("lexical_overlap", "subsequence")


def hans_items() -> list[Labelled]:
    """20 items of each of two heuristics and gold labels; ids tell which."""
    return [
        Labelled({"text": str(at)}, gold, f"{heuristic}/{gold}/{at}", {"heuristic": heuristic, "template": f"t{at}"})
        for heuristic in HEURISTICS
        for gold in ("entailment", "non-entailment")
        for at in range(20)
    ]


def hans_probes(spec: StudySpec) -> tuple[list[Labelled], list[Labelled], dict[str, LabelProbe]]:
    """The items of the blind spot, those of the general probe, and both probes of a study of HANS."""
    items, general = hans_items(), [Labelled({"text": str(at)}, "neutral", str(at)) for at in range(10)]
    return (
        items,
        general,
        {
            "general": LabelProbe.of("general", general, TASKS["nli"], {}),
            "spot": LabelProbe.of("spot", items, TASKS["hans"], spec.probes["spot"].headline_slice),
        },
    )


def hans_study(right: dict[str, list[int]], seeds: int = 5) -> list[Answer]:
    """A study whose arms get so many non-entailment items of each heuristic right (and every entailment item)."""
    spec = parse_spec(HANS_SPEC.replace("[{arm: other}, {arm: other, against: start}, {arm: other, probe: gap}]", "[{arm: other}]"), "s.yaml")  # fmt: skip
    items, general, probes = hans_probes(spec)
    results = []
    for seed in range(seeds):
        for arm, size in (("start", 0), ("human", 10), ("other", 10)):
            known = right.get(arm, [0, 0])
            answers: dict[str, str | None] = {}
            for item in items:
                heuristic, gold, at = item.id.split("/")
                count = known[HEURISTICS.index(heuristic)] - (seed % 2)
                sure = gold == "entailment" or int(at) < count
                answers[item.id] = gold if sure else "entailment"
                if answers[item.id] == "non-entailment":
                    answers[item.id] = "neutral"
            results.append(score_model(probes["spot"], answers, start="raw", arm=arm, size=size, seed=seed))
            plain: dict[str, str | None] = {item.id: "neutral" for item in general}
            results.append(score_model(probes["general"], plain, start="raw", arm=arm, size=size, seed=seed))
    return answer_primary(results, spec)


def test_hans_without_a_headline_looks_at_non_entailment_for_each_heuristic() -> None:
    """Models that say "entailment" to everything are not equivalent; a heuristic at the floor is left out by name."""
    (same,) = hans_study({})
    assert same.judgement.verdict == "not testable"
    assert "non-entailment" in same.sentence
    (answer,) = hans_study({"human": [15, 0], "other": [9, 0]})
    assert answer.judgement.cells == ("start raw, 10 rows, lexical_overlap",)
    assert answer.judgement.difference.value == pytest.approx(-6 / 20)
    assert "start raw, 10 rows, subsequence: both sides lie within the margin of 0.03 of 0" in answer.sentence
    spec = parse_spec(HANS_SPEC, "s.yaml")
    assert spec.model_dump(mode="json")["probes"]["spot"]["headline"] == {"gold": "non-entailment"}
    overall = HANS_SPEC.replace("file: hans.txt", "file: hans.txt, headline: overall")
    assert parse_spec(overall, "s.yaml").probes["spot"].headline_slice == {}


def test_the_gap_of_hans_is_judged_for_each_heuristic() -> None:
    text = HANS_SPEC.replace(
        "[{arm: other}, {arm: other, against: start}, {arm: other, probe: gap}]", "[{arm: other, probe: gap}]"
    )
    spec = parse_spec(text, "s.yaml")
    items, general, probes = hans_probes(spec)
    results = []
    for seed in range(5):
        for arm, size, right in (("start", 0, 15), ("human", 10, 15), ("other", 10, 9)):
            answers: dict[str, str | None] = {}
            for item in items:
                heuristic, gold, at = item.id.split("/")
                known = gold == "entailment" or (heuristic == "lexical_overlap" and int(at) < right - seed % 2)
                answers[item.id] = gold if known else "entailment"
                answers[item.id] = "neutral" if answers[item.id] == "non-entailment" else answers[item.id]
            plain: dict[str, str | None] = {
                item.id: "neutral" if int(item.id) < 7 else "entailment" for item in general
            }
            for probe, said in (("spot", answers), ("general", plain)):
                results.append(score_model(probes[probe], said, start="raw", arm=arm, size=size, seed=seed))
    (answer,) = answer_primary(results, spec)
    assert answer.judgement.cells == ("start raw, 10 rows, lexical_overlap",)
    assert answer.judgement.difference.value == pytest.approx(
        -6 / 20
    )  # of both heuristics at the floor's half it would be -3/20
    assert "subsequence: on spot both sides" in answer.sentence


def test_the_same_answer_to_everything_is_not_testable_under_an_overall_headline() -> None:
    spec = parse_spec(TWO_SOURCES.replace("[{arm: other}, {arm: other, against: start}, {arm: other, probe: gap}]", "[{arm: other}]"), "s.yaml")  # fmt: skip
    items = [Labelled({"text": str(at)}, "ab"[at % 2], str(at)) for at in range(20)]
    probes = {name: LabelProbe.of(name, items, Task("labelled", ("a", "b")), {}) for name in ("general", "spot")}
    answers: dict[str, str | None] = {item.id: "a" for item in items}
    results = [
        score_model(probe, answers, start="raw", arm=arm, size=size, seed=seed)
        for seed in range(10) for arm, size in (("start", 0), ("human", 10), ("other", 10)) for probe in probes.values()
    ]  # fmt: skip
    (answer,) = answer_primary(results, spec)
    assert answer.judgement.verdict == "not testable"
    assert "on every gold label" in answer.judgement.why


def test_items_missing_on_one_side_do_not_decide_a_study() -> None:
    """Two arms, equal on all 40 items (28 right); one loses the answers to failures: a third of them, then one."""
    spec = parse_spec(TWO_SOURCES.replace("[{arm: other}, {arm: other, against: start}, {arm: other, probe: gap}]", "[{arm: other}]").replace(", headline: {kind: hard}", ""), "s.yaml")  # fmt: skip
    items = [Labelled({"text": str(at)}, "ab"[at % 2], str(at)) for at in range(40)]
    probes = {name: LabelProbe.of(name, items, Task("labelled", ("a", "b")), {}) for name in ("general", "spot")}

    def answered(lost: int) -> Answer:
        results = []
        for seed in range(5):
            for arm, size in (("start", 0), ("human", 10), ("other", 10)):
                for probe in probes.values():
                    answers: dict[str, str | None] = {
                        item.id: item.label if at < 28 else "ab"[1 - at % 2] for at, item in enumerate(items)
                    }
                    if arm == "other":
                        answers |= {str(at): None for at in range(28, 28 + lost)}
                    results.append(score_model(probe, answers, start="raw", arm=arm, size=size, seed=seed))
        (answer,) = answer_primary(results, spec)
        return answer

    assert answered(0).judgement.verdict == "equivalent"
    lost = answered(5).judgement
    assert (lost.verdict, lost.missing) == ("not testable", 5)
    one = answered(1)
    assert (one.judgement.difference.value, one.judgement.items, one.judgement.missing) == (0.0, 39, 1)
    assert one.judgement.bounds is not None
    assert "1 of 40 items lack an answer on a side and are left out" in one.sentence


def test_a_contrast_that_compares_nothing_is_refused_by_the_plan(tmp_path: Path) -> None:
    from pyrite.models.hardware import Compute
    from pyrite.study.plan import make_plan

    cells = "sizes: [10]\ncells: [{name: chain, start: raw, steps: [human, other], size: 12}]"
    text = TWO_SOURCES.replace("sizes: [10]", cells)
    text = (
        text[: text.index("contrasts:")] + "contrasts: [{arm: chain}]\n"
        if "contrasts:" in text
        else text + "contrasts: [{arm: chain}]\n"
    )
    with pytest.raises(UserError, match="compares nothing"):
        make_plan(parse_spec(text, "s.yaml"), tmp_path, Compute("cpu", "fp32"), only_plan=True)


def test_power_plans_for_the_first_step_of_holm() -> None:
    from pyrite.stats import seeds_needed
    from pyrite.study.power import power_row

    spec = parse_spec(TWO_SOURCES, "s.yaml")
    differences = [-0.05, 0.0, 0.05]
    alone, of_three = (power_row(spec.primary()[0], differences, 0.05, family) for family in (1, 3))
    assert alone["seeds_for_a_difference_of_the_margin"] == 10
    wanted = seeds_needed(0.05, effect=0.05, margin=None, alpha=0.05 / 3).for_difference
    assert of_three["seeds_for_a_difference_of_the_margin"] == wanted > 10
    assert of_three["seeds_for_equivalence"] > alone["seeds_for_equivalence"]


def test_a_headline_without_items_is_refused() -> None:
    items = [Labelled({"text": "x"}, "a", "1", {"kind": "easy"})]
    with pytest.raises(UserError, match="headline slice is empty"):
        LabelProbe.of("spot", items, Task("labelled", ("a", "b")), {"kind": "hard"})
