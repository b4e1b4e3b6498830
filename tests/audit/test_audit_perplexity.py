"""The perplexity family: values worked by hand, the slow obvious versions, planted flaws found, their twins silent."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrite.audit.baselines import DrawSettings, Measurement, measure_difference
from pyrite.audit.flaw import WITH_PROMPT, WITHOUT_PROMPT, Evidence, Extras, Population
from pyrite.audit.flaws.perplexity import statistics as perplexity
from pyrite.audit.flaws.perplexity.evidence import evidence
from pyrite.audit.flaws.perplexity.statistics import (
    STATISTICS,
    differences,
    difficulty,
    flag_scores,
    winsorised,
)
from pyrite.audit.reading import answer_nll, tokens_of
from pyrite.audit.rows import Row
from pyrite.models import load, packaged
from pyrite.models.hardware import Compute

FP32 = Compute("cpu", "fp32")
N = 150
ALL = {"shift", "narrowing", "tail_loss", "wasserstein", "instruction_difficulty"}


def tick(done: float, total: float, unit: str) -> None:
    assert done <= total


def some_rows(n: int, text: str = "row") -> list[Row]:
    return [Row(at, f"{text}-{at}", "what?", (f"{text} {at}",), source=text) for at in range(n)]


def human_nats(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, 1])
    alone = rng.lognormal(0.9, 0.35, n)
    return {WITH_PROMPT: alone * rng.uniform(0.6, 1.0, n), WITHOUT_PROMPT: alone}


def joined(*some: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([one[name] for one in some]) for name in (WITH_PROMPT, WITHOUT_PROMPT)}


def weighed(
    ours: Mapping[str, np.ndarray], human: Mapping[str, np.ndarray], permutations: int = 1999
) -> dict[str, Measurement]:
    n = len(ours[WITHOUT_PROMPT])
    rows = some_rows(n, "data") + some_rows(len(human[WITHOUT_PROMPT]), "human")
    settings = DrawSettings(permutations=permutations, halves=10, subsamples=5)
    made = {}
    for one in differences(rows, Extras(nll=joined(ours, human))):
        told = measure_difference(one, range(n), {"human": range(n, len(rows))}, settings)
        assert told is not None
        made[one.measure.name] = told
    return made


def statistics(values: np.ndarray, a: list[int], b: list[int]) -> dict[str, float]:
    """Each measure of two groups, for values that stand for both kinds."""
    made = {}
    groups = np.zeros((2, 1, len(values)), dtype=np.float32)
    groups[0, 0, a] = 1
    groups[1, 0, b] = 1
    told = {WITH_PROMPT: values, WITHOUT_PROMPT: np.full(len(values), 2.0)}
    for one in differences(some_rows(len(values)), Extras(nll=told)):
        made[one.measure.name] = float(one.statistic(*groups)[0])
    return made


def test_values_by_hand() -> None:
    """a is 1, 2, 3 and b is 4, 6, 8. Clipping at the 5 and 95 % quantiles of all, 1.25 and 7.5, gives 1.25, 2, 3 with a
    variance of 0.51389 and 4, 6, 7.5 with 2.05556: the narrowing is log 4. The 95 % quantiles are 2.9 and 7.8."""
    made = statistics(np.array([4.0, 1, 6, 2, 8, 3]), [1, 3, 5], [0, 2, 4])
    assert made["shift"] == pytest.approx(4)
    assert made["narrowing"] == pytest.approx(np.log(4), abs=1e-4)
    assert made["tail_loss"] == pytest.approx(4.9)
    assert made["wasserstein"] == pytest.approx(4)
    assert made["instruction_difficulty"] == pytest.approx((4 + 6 + 7.5 - 1.25 - 2 - 3) / 2 / 3)  # clipped as well


def test_draws_by_the_slow_obvious_versions() -> None:
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(3)
    values = rng.lognormal(0, 1, 60)
    values[[5, 17]] = values[3]  # ties
    clipped = winsorised(values)
    for draw in range(10):
        order = rng.permutation(60)
        n = 30 if draw % 2 else 11
        a, b = order[:n], order[n : 2 * n]
        made = statistics(values, a.tolist(), b.tolist())
        assert made["shift"] == pytest.approx(values[b].mean() - values[a].mean(), abs=1e-5)
        assert made["narrowing"] == pytest.approx(np.log(clipped[b].var() / clipped[a].var()), abs=1e-4)
        assert made["tail_loss"] == pytest.approx(np.quantile(values[b], 0.95) - np.quantile(values[a], 0.95))
        assert made["wasserstein"] == pytest.approx(wasserstein_distance(values[a], values[b]))


def test_easier_data_is_found() -> None:
    ours = {name: 0.8 * values for name, values in human_nats(N, 1).items()}
    found = weighed(ours, human_nats(N, 2))
    for name in ("shift", "tail_loss", "wasserstein"):
        assert found[name].p == pytest.approx(0.0005), name
    assert found["instruction_difficulty"].p > 0.01


def test_narrower_data_is_found_with_an_odd_row_in_it() -> None:
    ours = {name: values.mean() + 0.35 * (values - values.mean()) for name, values in human_nats(N, 3).items()}
    ours[WITH_PROMPT][7] = 400.0
    found = weighed(ours, human_nats(N, 4))
    assert found["narrowing"].p == pytest.approx(0.0005)
    assert found["tail_loss"].p == pytest.approx(0.0005)


def test_instructions_that_give_the_answer_away_are_found() -> None:
    ours = human_nats(N, 5)
    ours[WITH_PROMPT] = ours[WITHOUT_PROMPT] * 0.7
    assert weighed(ours, human_nats(N, 6))["instruction_difficulty"].p == pytest.approx(0.0005)


def test_the_twin_is_silent() -> None:
    for seed in (10, 20, 30):
        found = weighed(human_nats(N, seed), human_nats(N, seed + 1), 299)
        assert set(found) == ALL
        for name, one in found.items():
            assert one.p > 0.01, (seed, name)


def test_rows_that_were_not_measured_are_left_out() -> None:
    human, ours = human_nats(40, 1), human_nats(40, 2)
    ours[WITH_PROMPT][3] = ours[WITHOUT_PROMPT][3] = np.nan
    made = differences(some_rows(80), Extras(nll=joined(ours, human)))
    assert [list(one.rows or ()) for one in made] == [[at for at in range(80) if at != 3]] * 5
    assert weighed(ours, human, 49)["shift"].n == 39


def test_one_row_without_a_prompt_and_all_are_compared_alone() -> None:
    told = human_nats(40, 1)
    told[WITH_PROMPT][0] = np.nan
    name, values = perplexity.compared_nll(told, 40)
    assert name == WITHOUT_PROMPT
    assert np.array_equal(values, told[WITHOUT_PROMPT])
    assert perplexity.compared_nll(human_nats(40, 1), 40)[0] == WITH_PROMPT
    made = differences(some_rows(40), Extras(nll=told))
    assert [len(one.rows or ()) for one in made] == [40, 40, 40, 40, 39]


def test_measures_that_cannot_be_taken_are_left_out() -> None:
    nothing = np.full(10, np.nan)
    assert differences(some_rows(10), Extras()) == []
    assert differences(some_rows(10), Extras(nll={WITH_PROMPT: nothing, WITHOUT_PROMPT: nothing})) == []
    alone = differences(some_rows(10), Extras(nll={WITH_PROMPT: nothing, WITHOUT_PROMPT: np.arange(10.0)}))
    assert {one.measure.name for one in alone} == ALL - {"instruction_difficulty"}
    assert np.isnan(difficulty({WITH_PROMPT: np.ones(2), WITHOUT_PROMPT: np.array([0.0, np.nan])}, 2)).all()
    with pytest.raises(ValueError, match="10 values"):
        differences(some_rows(9), Extras(nll={WITHOUT_PROMPT: nothing}))


def test_equal_values_are_no_finding() -> None:
    made = statistics(np.full(8, 1.5), [0, 1, 2], [3, 4, 5])
    assert all(value == pytest.approx(0, abs=1e-9) for value in made.values())


HOSTILE = ["", "\x00\x1b[31m", "‮ שלום", "\ud83d", "你好" * 500_000, "  \n ", "A\nB" * 100]


def test_evidence_and_marks() -> None:
    ours, human = human_nats(100, 1), human_nats(90, 2)
    for name in ours:
        ours[name][:20] = 0.05
    ours[WITH_PROMPT][30] = ours[WITHOUT_PROMPT][30] = np.nan
    given = Extras(nll=joined(ours, human))
    data = Population([Row(500 + at, str(at), "q", (f"answer {at}",)) for at in range(100)], {})
    people = {"a": Population(some_rows(50, "a"), {}), "b": Population(some_rows(40, "b"), {})}
    shown = {one.name: evidence(one.name, data, people, given) for one in STATISTICS}
    for name, one in shown.items():
        json.dumps(one.values)
        assert one.lines, name
        assert len(one.values["grid"]) == len(one.values["data"]) == len(one.values["references"])
        step = one.values["grid"][1] - one.values["grid"][0]
        assert 0.6 < sum(one.values["data"]) * step < 1.05
        compared = (
            human[WITH_PROMPT] / human[WITHOUT_PROMPT] if name == "instruction_difficulty" else human[WITH_PROMPT]
        )
        assert one.values["quantiles"]["references"][3] == pytest.approx(np.median(compared))
    assert set(shown["shift"].rows) == set(range(500, 520))
    easy = np.mean(ours[WITH_PROMPT][np.arange(100) != 30] <= np.quantile(human[WITH_PROMPT], 0.01))
    assert 0.2 < easy < 0.25
    assert f"{100 * easy:.0f} % of the data is easier than 99 % of the references" in shown["shift"].lines
    assert shown["tail_loss"].rows == ()
    assert any("“a " in line or "“b " in line for line in shown["tail_loss"].lines)
    rule = shown["shift"].rule
    assert rule is not None
    made = flag_scores(data.rows, {"shift": json.loads(json.dumps(rule))}, Extras(), None)["shift"]
    assert made.dtype == np.float32
    below = np.quantile(human[WITH_PROMPT], 0.01)
    assert set(np.flatnonzero(made >= 0.5)) == set(np.flatnonzero(ours[WITH_PROMPT] <= below)) >= set(range(20))
    assert made.max() <= 1
    assert made[30] == 0
    assert not flag_scores(some_rows(9), {"shift": rule}, Extras(), None)["shift"].any()  # rows that were not measured


def test_evidence_of_hostile_text_and_without_references() -> None:
    rows = [Row(at, str(at), "", (text,)) for at, text in enumerate(HOSTILE)]
    told = human_nats(2 * len(rows), 1)
    for measure in STATISTICS:
        for human in ({}, {"human": Population(rows, {})}):
            few = told if human else {name: values[: len(rows)] for name, values in told.items()}
            shown = evidence(measure.name, Population(rows, {}), human, Extras(nll=few))
            assert all(line.isprintable() and len(line) < 160 for line in shown.lines)
            assert (shown.rule is not None) == (measure.name == "shift" and bool(human))
    assert evidence("shift", Population(rows, {}), {}, Extras()) == Evidence()


def nats_by_hand(folder: Path, before: list[int], ids: list[int]) -> float:
    model = load.load_causal(folder, FP32)
    with torch.inference_mode():
        told = model(torch.tensor([[*before, *ids]])).logits[0].log_softmax(-1)
    at = range(max(1, len(before)), len(before) + len(ids))
    return -sum(float(told[place - 1, [*before, *ids][place]]) for place in at) / len(at)


def test_surprises_by_hand(tiny_causal: Path) -> None:
    rows = [
        Row(0, "0", "what was the film?", ("the film was lovely",)),
        Row(1, "1", "", ("the meal 4 was awful",)),
        Row(2, "2", "what?", ("",)),
        Row(3, "3", "what was the film?", ("the film was lovely",)),
    ]
    told = answer_nll(tiny_causal, rows, compute=FP32, report_progress=tick)
    tokenizer = load.load_tokenizer(tiny_causal)
    film, meal = (tokenizer(row.answer)["input_ids"] for row in rows[:2])
    question = tokenizer("what was the film?\n\n")["input_ids"]
    assert told[WITH_PROMPT][0] == pytest.approx(nats_by_hand(tiny_causal, question, film), abs=1e-4)
    assert told[WITHOUT_PROMPT][0] == pytest.approx(nats_by_hand(tiny_causal, [], film), abs=1e-4)
    assert told[WITHOUT_PROMPT][1] == pytest.approx(nats_by_hand(tiny_causal, [], meal), abs=1e-4)
    assert np.isnan(told[WITH_PROMPT]).tolist() == [False, True, True, False]
    assert np.isnan(told[WITHOUT_PROMPT]).tolist() == [False, False, True, False]
    assert told[WITH_PROMPT][0] == told[WITH_PROMPT][3]


def test_long_and_hostile_rows_are_read_in_part(tiny_causal: Path) -> None:
    tokenizer = load.load_tokenizer(tiny_causal)
    long = "the film was lovely and " * 100
    piece, alone = tokens_of(tokenizer, long, long, 16, "row x")
    assert (len(piece.ids), sum(piece.counted)) == (32, 16)
    assert piece.ids[16:] == alone.ids == tokenizer(long)["input_ids"][:16]
    rows = [Row(at, str(at), text, (text,)) for at, text in enumerate([*HOSTILE, long])]
    told = answer_nll(tiny_causal, rows, compute=FP32, max_tokens=1000, report_progress=tick)  # the model reads 256
    assert np.isfinite(told[WITH_PROMPT][1:]).all()
    again = answer_nll(tiny_causal, rows[::-1], compute=FP32, max_tokens=1000, report_progress=tick)
    np.testing.assert_allclose(again[WITH_PROMPT][::-1], told[WITH_PROMPT], atol=1e-5)


@pytest.mark.packaged
def test_the_packaged_model_finds_the_right_answer_easier() -> None:
    if not packaged.is_fetched("smollm2-135m-instruct"):
        pytest.skip("smollm2-135m-instruct is not fetched")
    folder = load.resolve("packaged:smollm2-135m-instruct").folder
    answer = ("The capital of France is Paris.",)
    rows = [Row(0, "0", "What is the capital of France?", answer), Row(1, "1", "Write a short poem on rain.", answer)]
    told = answer_nll(folder, rows, compute=FP32, report_progress=tick)
    assert told[WITH_PROMPT][0] < 0.5 * told[WITH_PROMPT][1]
    assert told[WITHOUT_PROMPT][0] == told[WITHOUT_PROMPT][1]
    assert difficulty(told, 2)[0] < 0.5
