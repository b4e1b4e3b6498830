"""Two models on one command line: the change item by item, and gates that set the exit code."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import build_causal, review_rows, write_jsonl

from pyrite.cli import run
from pyrite.probe.gate import answer_gate, parse
from pyrite.probe.probe_task import Result
from pyrite.tasks.scoring import ItemScore, Metric

OWN = """
file: reviews.jsonl
fields: [text]
label: sentiment
labels: [positive, negative]
slices: [[voice], [voice, gold]]
"""
POSITIVE, NEGATIVE = 45, 15


def reviews() -> list[dict[str, str]]:
    """Positive and negative ones by turns, but three times as many positive ones in all."""
    rows = review_rows(2 * POSITIVE, 3)
    negative = [row for row in rows if row["sentiment"] == "negative"][NEGATIVE:]
    return [row for row in rows if row not in negative]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_causal(tmp_path_factory.mktemp("other-causal"), seed=5)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_jsonl(reviews(), folder / "reviews.jsonl")
    (folder / "own.yaml").write_text(OWN)
    return folder / "own.yaml"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that each model reads each task once."""
    return tmp_path_factory.mktemp("store")


def flags(store: Path, *more: str) -> list[str]:
    return ["--precision", "fp32", "--quiet", "--store", str(store), *more]


def both(own: Path) -> list[str]:
    return ["--task", "heuristics=60", "--task", str(own)]


def told(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    got = run([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert got == code, err
    shown: dict[str, Any] = json.loads(out)
    return shown


def answers_of(store: Path, model: Path) -> dict[str, tuple[str, str]]:
    """What a model answered to our own task, from the stored step: item → (gold, answer)."""
    import polars as pl

    for file in store.glob("done/*/*/predictions.parquet"):
        if json.loads((file.parent / "step.json").read_text())["label"] == f"{model}: own":
            rows = pl.read_parquet(file).select("id", "gold", "predicted").iter_rows()
            return {item: (gold, answer) for item, gold, answer in rows}
    raise AssertionError(model)


def test_two_models_item_by_item(
    tiny_causal: Path, other: Path, own: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One model calls every review negative, the other every one positive: 45 gained, 15 lost, 75 % less 25 %."""
    shown = told(capsys, ["probe", str(tiny_causal), str(other), *both(own), *flags(store)])
    assert shown["about"] == f"{tiny_causal.name} against {other.name}"
    assert [(card["about"], card["task"]) for card in shown["scorecards"]] == [
        (model.name, task) for model in (tiny_causal, other) for task in ("heuristics", "own")
    ]
    first, second = answers_of(store, tiny_causal), answers_of(store, other)
    assert {answer for _, answer in first.values()} == {"negative"}
    assert {answer for _, answer in second.values()} == {"positive"}
    heuristics, compared = shown["compared"]
    assert (heuristics["task"], compared["task"]) == ("heuristics", "own")
    assert (compared["first"], compared["second"]) == (tiny_causal.name, other.name)
    for way, gold, values in (("gained", "positive", (0, 1)), ("lost", "negative", (1, 0))):
        flips = [flip for flip in compared["flips"] if flip["way"] == way]
        assert {flip["item"] for flip in flips} == {item for item, (label, _) in first.items() if label == gold}
        assert {(flip["first"], flip["second"]) for flip in flips} == {values}
    assert len(compared["flips"]) == POSITIVE + NEGATIVE
    (line,) = [one for one in compared["contrasts"] if one["primary"]]
    assert (line["first"], line["second"]) == (0.25, 0.75)
    difference = line["difference"]
    assert (difference["value"], difference["n"], difference["n_missing"]) == (0.5, 60, 0)
    assert line["verdict"] == "better"
    assert {one["by"] for one in compared["contrasts"]} == {"overall", "voice", "voice x gold"}
    headlines = [one for one in heuristics["contrasts"] if one["primary"] and one["metric"] == "accuracy"]
    assert {(one["by"], one["difference"]["n"]) for one in headlines} == {("heuristic x gold", 10)}
    assert {one["name"].rpartition(" / ")[2] for one in headlines} == {"non-entailment"}
    assert len(headlines) == 3


def test_equal_models_do_not_differ(
    tiny_causal: Path, own: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = shutil.copytree(tiny_causal, tmp_path / tiny_causal.name)
    shown = told(capsys, ["probe", str(tiny_causal), str(twin), *both(own), *flags(store)])
    assert shown["about"] == f"{tiny_causal.name} (1) against {tiny_causal.name} (2)"
    for one in shown["compared"]:
        assert one["flips"] == []
        assert {line["difference"]["value"] for line in one["contrasts"]} == {0.0}
        assert not {line["verdict"] for line in one["contrasts"]} & {"better", "worse"}
    first, second = (card for card in shown["scorecards"] if card["task"] == "own")
    assert first["overall"] == second["overall"]


def test_the_terminal_says_what_changed(
    tiny_causal: Path, other: Path, own: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--gate", "change own >= 20%", "--gate", "own >= 70%"]
    assert run(["probe", str(tiny_causal), str(other), "--task", str(own), *flags(store), *more]) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert "on accuracy, these two models: better" in out
    assert "lost: 15 answers: " in out
    assert "gained: 45 answers: " in out
    assert "and 37 more (--json has all)" in out
    assert "gate passed: change own >= 20%" in out
    assert "gate undecided: own >= 70%" in out


@pytest.mark.parametrize(
    ("gates", "more", "outcomes", "code"),
    [  # of the second model: 45 of 60, about 63 to 84 %; the change: 50 points, about 27 to 66
        (["own >= 50%"], [], ["passed"], 0),
        (["own.accuracy > 0.95"], [], ["failed"], 1),
        (["own >= 0.75"], [], ["undecided"], 3),
        (["own >= 0.75"], ["--undecided", "pass"], ["undecided"], 0),
        (["own >= 0.75"], ["--undecided", "fail"], ["undecided"], 1),
        (["own >= 0.75", "own > 0.95"], ["--undecided", "pass"], ["undecided", "failed"], 1),
        (["own[gold=positive] > 50%", "own[gold=negative] < 50%"], [], ["passed", "passed"], 0),
        (["change own >= 10%"], [], ["passed"], 0),
        (["change own <= 0"], [], ["failed"], 1),
        (["change own >= 0.5", "own >= 50%"], [], ["undecided", "passed"], 3),
    ],
)
def test_gates_set_the_exit_code(
    gates: list[str], more: list[str], outcomes: list[str], code: int,
    tiny_causal: Path, other: Path, own: Path, store: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    named = [word for gate in gates for word in ("--gate", gate)]
    line = ["probe", str(tiny_causal), str(other), "--task", str(own), *flags(store), *named, *more]
    shown = told(capsys, line, code)
    assert shown["exit_code"] == code
    assert [(one["gate"], one["outcome"]) for one in shown["gates"]] == list(zip(gates, outcomes, strict=True))


def test_a_gate_on_one_model(tiny_causal: Path, own: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """25 % right."""
    line = ["probe", str(tiny_causal), "--task", str(own), *flags(store)]
    assert told(capsys, [*line, "--gate", "own <= 50%"])["overall"]["value"] == 0.25
    told(capsys, [*line, "--gate", "own >= 50%"], 1)


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("hans >= 0.5", "unknown task"),
        ("own is good", "That is no gate"),
        ("change own >= 0", "two models"),
        ("own.acuracy >= 0.5", "unknown metric"),
        ("own >= 50", "lies between 0 and 1"),
    ],
)
def test_a_gate_that_cannot_be_asked_is_refused_before_anything_runs(
    gate: str, says: str, tiny_causal: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["probe", str(tiny_causal), "--task", str(own), *flags(tmp_path / "s"), "--gate", gate]
    assert run(line) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_gate_on_an_unknown_slice_is_refused(
    tiny_causal: Path, own: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["probe", str(tiny_causal), "--task", str(own), *flags(store), "--gate", "own[voice=gest] >= 0"]) == 2
    assert "did you mean 'guest'?" in capsys.readouterr().err


def test_a_gate_on_a_change_from_split_votes() -> None:
    """Two votes on the first model's answers made halves, on the second's they agreed: still one metric."""
    metric = Metric("hsr", "share")

    def result(values: list[float], scale: str) -> Result:
        items = [ItemScore(f"e-{at}", "hsr", value, f"e-{at}") for at, value in enumerate(values)]
        return Result(items, (Metric("hsr", scale),), {})  # type: ignore[arg-type]

    split, whole = result([0.5, 0.0] * 15, metric.scale), result([1.0, 1.0] * 15, metric.scale)
    for before, after, change in ((split, whole, 0.75), (whole, split, -0.75)):
        told = answer_gate(parse("change followbench >= 0"), [{"followbench": before}, {"followbench": after}], 0)
        assert told.estimate["value"] == pytest.approx(change)
        assert told.outcome == ("passed" if change > 0 else "failed")


def test_a_gate_in_percent_means_the_same_when_votes_split() -> None:
    """What is accepted before the judge is asked is not refused for what the judge then says."""
    measured = [ItemScore(f"e-{at}", "hsr", value, f"e-{at}") for at, value in enumerate([0.5, 1.0] * 15)]
    result = Result(measured, (Metric("hsr", "share"),), {})
    told = answer_gate(parse("followbench.hsr >= 50%"), [{"followbench": result}], 0)
    assert (told.estimate["value"], told.outcome) == (0.75, "passed")


def test_a_task_is_asked_once(tiny_causal: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["probe", str(tiny_causal), "--task", str(own), "--task", str(own), *flags(tmp_path / "s")]
    assert run(line) == 2
    assert "asked twice" in capsys.readouterr().err
