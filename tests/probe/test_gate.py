"""Gates: what a condition may say, how an interval settles it, and which exit code follows."""

import doctest
import json

import pytest

from pyrite.conditions import Outcome, exit_code
from pyrite.errors import UserError
from pyrite.probe import gate as gate_module
from pyrite.probe.gate import Measurements, check_gate, gate_decision, gate_metric, parse
from pyrite.records import Estimate
from pyrite.tasks.scoring import ItemScore, Metric

HANS = (Metric("accuracy"), Metric("loss", scale="real", direction="lower"))
IFEVAL = (Metric("prompt_strict"), Metric("prompt_loose"))
TASKS = {"hans": HANS, "ifeval": IFEVAL, "harness:mmlu": (Metric("acc"),)}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("hans.accuracy >= 0.5", ("hans", "accuracy", (), False, ">=", 0.5)),
        ("ifeval.prompt_strict>=20%", ("ifeval", "prompt_strict", (), False, ">=", 0.2)),
        ("hans.accuracy[gold=non-entailment] > .1", ("hans", "accuracy", (("gold", "non-entailment"),), False, ">", 0.1)),
        ("change ifeval.prompt_strict >= -0.02", ("ifeval", "prompt_strict", (), True, ">=", -0.02)),
        ("harness:mmlu <= 1e-1", ("harness:mmlu", None, (), False, "<=", 0.1)),
        ("harness:gsm8k.exact_match,strict-match<+12.5%", ("harness:gsm8k", "exact_match,strict-match", (), False, "<", 0.125)),
        ("  change  hans [ subcase = sn_NP/S ] [gold=a b] < 29 % ", ("hans", None, (("subcase", "sn_NP/S"), ("gold", "a b")), True, "<", 0.29)),
        ("change >= 0.5", ("change", None, (), False, ">=", 0.5)),
        ("hans[kind=x >= y] >= 1", None),
        ("hans[kind=a=b] >= 1", ("hans", None, (("kind", "a=b"),), False, ">=", 1.0)),
    ],
)  # fmt: skip
def test_a_condition_is_read(text: str, read: tuple[object, ...] | None) -> None:
    gate = parse(text)
    if read is None:  # anything but brackets may stand in a value
        assert gate.slices == (("kind", "x >= y"),)
    else:
        assert (gate.task, gate.metric, gate.slices, gate.change, gate.op, gate.bound) == read


@pytest.mark.parametrize(
    "text",
    [
        "", "hans", "hans.accuracy", "hans.accuracy = 0.5", "hans.accuracy == 0.5", "hans.accuracy => 0.5",
        ">= 0.5", ".accuracy >= 0.5", "hans. >= 0.5", "hans.accuracy >= half", "hans.accuracy >= 0.5 points",
        "hans.accuracy >= nan", "hans.accuracy >= inf", "hans.accuracy >= 1e999", "hans.accuracy >= 1e9999999999",
        "hans[gold] >= 0.5", "hans[=x] >= 0.5", "hans[gold=] >= 0.5", "hans[] >= 0.5", "hans[a=1][a=2] >= 0.5",
        "hans[gold=x >= 0.5", "hans.accuracy >= 0.5; hans.loss < 1", "hans.accuracy >= __import__('os')",
        "hans accuracy >= 0.5", "hans.accuracy >= 0.5 and 1", "hans.accuracy >= ٣",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert text in caught.value.found
    assert "hans.accuracy" in caught.value.fix or "once" in caught.value.fix


def test_a_task_whose_name_has_a_dot_is_found_among_those_known() -> None:
    known = ["reviews", "reviews.v2", "hans"]
    assert (parse("reviews.v2.accuracy > 0", known).task, parse("reviews.v2.accuracy > 0", known).metric) == (
        "reviews.v2",
        "accuracy",
    )
    assert (parse("reviews.v2 > 0", known).metric, parse("reviews.v2 > 0").metric) == (None, "v2")


def test_check_gives_the_metric_the_first_where_none_is_named() -> None:
    assert gate_metric(parse("ifeval >= 0.2"), TASKS, two_models=False) == IFEVAL[0]
    assert gate_metric(parse("harness:mmlu.acc >= 25%"), TASKS, two_models=False).name == "acc"
    assert gate_metric(parse("change hans.loss <= -3"), TASKS, two_models=True).name == "loss"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("han.accuracy >= 0.5", "did you mean 'hans'. known: hans, ifeval, harness:mmlu"),
        ("hans.acuracy >= 0.5", "did you mean 'accuracy'. known: accuracy, loss"),
        ("change hans.accuracy >= -0.02", "two models"),
        ("hans.loss <= 20%", "without %"),
        ("hans.accuracy >= 20", "did you mean 20%"),
        ("hans.accuracy >= -0.1", "between 0 and 1"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        gate_metric(parse(text), TASKS, two_models=False)
    with pytest.raises(UserError, match="between -1 and 1"):
        gate_metric(parse("change hans.accuracy >= -2"), TASKS, two_models=True)


def estimate(low: float | None, high: float | None) -> Estimate:
    return Estimate(0.5, low, high, 10)


@pytest.mark.parametrize(
    ("op", "low", "high", "outcome"),
    [
        (">=", 0.4, 0.6, "passed"),
        (">=", 0.39, 0.6, "undecided"),
        (">=", 0.2, 0.4, "undecided"),  # the upper end meets it
        (">=", 0.2, 0.39, "failed"),
        (">", 0.4, 0.6, "undecided"),
        (">", 0.41, 0.6, "passed"),
        (">", 0.2, 0.4, "failed"),
        ("<=", 0.2, 0.4, "passed"),
        ("<=", 0.4, 0.6, "undecided"),
        ("<=", 0.41, 0.6, "failed"),
        ("<", 0.2, 0.4, "undecided"),
        ("<", 0.2, 0.39, "passed"),
        ("<", 0.4, 0.6, "failed"),
        (">=", None, None, "undecided"),
    ],
)
def test_the_whole_interval_decides(op: str, low: float | None, high: float | None, outcome: str) -> None:
    assert gate_decision(parse(f"hans.accuracy {op} 0.4"), estimate(low, high)) == outcome


@pytest.mark.parametrize(
    ("outcomes", "codes"),  # of undecided None, "pass", "fail"
    [
        ([], (0, 0, 0)),
        (["passed", "passed"], (0, 0, 0)),
        (["passed", "undecided"], (3, 0, 1)),
        (["undecided", "failed"], (1, 1, 1)),
    ],
)
def test_exit_codes(outcomes: list[Outcome], codes: tuple[int, int, int]) -> None:
    assert (exit_code(outcomes), exit_code(outcomes, "pass"), exit_code(outcomes, "fail")) == codes


def hans(right: int, count: int, gold: str) -> list[ItemScore]:
    """Items of one gold label, each its own group, of which the first `right` are right."""
    return [
        ItemScore(f"{gold}{n}", "accuracy", float(n < right), f"{gold}{n}", {"gold": gold, "odd": str(n % 2)})
        for n in range(count)
    ]


def test_a_gate_looks_at_exactly_its_slice() -> None:
    measured = [*hans(90, 100, "entailment"), *hans(2, 100, "non-entailment")]
    known = {"hans": Measurements(HANS, measured)}
    assert check_gate(parse("hans >= 0.3"), known, seed=0).outcome == "passed"
    low = check_gate(parse("hans.accuracy[gold=non-entailment] >= 0.1"), known, seed=0)
    assert (low.estimate["n"], low.estimate["value"], low.outcome) == (100, 0.02, "failed")
    assert low.why == "the 95% interval 0.005502 to 0.07001 lies wholly on the wrong side of 0.1"
    both = check_gate(parse("hans[odd=1][gold=entailment] >= 0.9"), known, seed=0)
    assert (both.estimate["n"], both.outcome) == (50, "undecided")
    told = json.loads(json.dumps(both.as_json(), allow_nan=False))
    assert told["slice"] == {"odd": "1", "gold": "entailment"}
    assert (told["gate"], told["task"], told["metric"]) == ("hans[odd=1][gold=entailment] >= 0.9", "hans", "accuracy")
    assert (told["op"], told["bound"], told["change"], told["outcome"]) == (">=", 0.9, False, "undecided")


def test_an_unknown_slice_is_refused_naming_what_there_is() -> None:
    known = {
        "hans": Measurements(HANS, [*hans(1, 2, "entailment"), ItemScore("z", "accuracy", 1, "z", {"gold": "none"})])
    }
    for text, says in (
        ("hans[gould=entailment] >= 0.1", "did you mean 'gold'. known: gold, odd"),
        ("hans[gold=entailmen] >= 0.1", "did you mean 'entailment'. known: entailment, none"),
        ("hans[gold=none][odd=1] >= 0.1", "occur together"),
    ):
        with pytest.raises(UserError, match=says):
            check_gate(parse(text), known, seed=0)


def test_a_change_is_the_second_model_minus_the_first() -> None:
    """Of 100 items the first gets 60 right and the second 40, all of them among the 60: -20 points."""
    known = {"hans": Measurements(HANS, hans(40, 100, "e"), before=hans(60, 100, "e"))}
    fall = check_gate(parse("change hans.accuracy >= -0.02"), known, seed=0)
    assert (fall.estimate["value"], fall.outcome) == (pytest.approx(-0.2), "failed")
    assert check_gate(parse("change hans.accuracy[odd=0] < 0"), known, seed=0).outcome == "passed"
    assert check_gate(parse("hans.accuracy < 0.55"), known, seed=0).outcome == "passed"  # the second model's own


def test_missing_items_and_intervals_are_said() -> None:
    asked = [ItemScore(f"i{n}", "accuracy", None if n > 1 else 1.0, "one", {}) for n in range(5)]
    few = check_gate(parse("hans >= 0.1"), {"hans": Measurements(HANS, asked)}, seed=0, cluster="templates")
    assert (few.outcome, few.why) == (
        "undecided",
        "1 has no interval (these templates only (1 < 10)); 3 of 5 items are missing",
    )
    nothing = check_gate(parse("hans >= 0.1"), {"hans": Measurements(HANS, asked[2:])}, seed=0)
    assert (nothing.outcome, nothing.why) == ("undecided", "no answers; 3 of 3 items are missing")
    assert nothing.as_json()["estimate"]["value"] is None


def test_a_model_at_the_floor_of_every_template_fails_its_gate() -> None:
    floor = [ItemScore(f"i{n}", "accuracy", 0.0, f"t{n % 60}", {}) for n in range(600)]
    assert check_gate(parse("hans >= 10%"), {"hans": Measurements(HANS, floor)}, seed=0).outcome == "failed"


def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(gate_module).failed == 0
