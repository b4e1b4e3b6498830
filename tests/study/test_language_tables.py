"""Tables and contrasts of a study of language, worked by hand on made-up items."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyrite.errors import UserError
from pyrite.probe.probe_task import Result
from pyrite.records import Chat, Message, Text
from pyrite.runs.pilot import PilotRecord
from pyrite.stats import judge_family, paired_t
from pyrite.steps import Context, Progress, RunOptions, Source, Step, StepType, Store, run_steps
from pyrite.study.cells import Cell, CellKey
from pyrite.study.chat_steps import MIX, choose_rows, mixed_row
from pyrite.study.contrasts import answer_primary
from pyrite.study.costs import cost_table
from pyrite.study.load import parse_spec
from pyrite.study.notes import missing_items
from pyrite.study.pilot import Tried, answer_pilot, check_apart, picked_seeds
from pyrite.study.pilot import choose_damage as choose_damage
from pyrite.study.plan import pilot_spec
from pyrite.study.scores import Scores, over_items, pooled, scores_of_result
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import PILOT_SEED
from pyrite.study.tables import contrast_rows, results_table, summary_table
from pyrite.tasks.scoring import ItemScore, Metric
from pyrite.train.language import read_language
from pyrite.train.split import SPLIT

RIGHT = Metric("right")
NATS = Metric("nats", "real", "lower")
SPEC = """\
study: made_up
about: language
model: nowhere
data:
  qa: {files: [a.jsonl], pools: {damage: 5, more: 5}}
trainings:
  hurt: {on: qa.damage}
damage: hurt
cells:
  start: []
  damaged: [damage]
  other: [damage, hurt]
probes:
  asked: {task: "harness:x"}
contrasts:
"""


def spec(*contrasts: str, more: str = "") -> StudySpec:
    lines = "".join(f"  - {{{line}}}\n" for line in contrasts)
    text = SPEC + lines if contrasts else SPEC.replace("contrasts:\n", "")
    return parse_spec(text + more, "s.yaml")


def model(cell: str, seed: int, right: Sequence[float | None], nats: Sequence[float] = ()) -> list[Scores]:
    measured = [ItemScore(f"i{at}", "right", value, f"i{at}") for at, value in enumerate(right)]
    measured += [ItemScore(f"i{at}", "nats", value, f"i{at}", weight=at + 1) for at, value in enumerate(nats)]
    return scores_of_result(CellKey(cell), seed, "asked", Result(measured, (RIGHT, NATS), {}))


def shares(cell: str, counts: Sequence[int], n: int = 20) -> list[Scores]:
    """One model for each seed, right on the first so many of n items."""
    return [one for seed, k in enumerate(counts) for one in model(cell, seed, [1] * k + [0] * (n - k))]


def test_means_are_weighted_and_missing_items_stay_missing() -> None:
    values = model("start", 0, [1, 0, None, 1], [1.0, 2.0])
    table = {row["metric"]: row for row in results_table(values, spec())}
    assert table["right"]["value"] == pytest.approx(2 / 3)
    assert (table["right"]["n"], table["right"]["n_missing"]) == (3, 1)
    assert table["nats"]["value"] == pytest.approx((1 * 1 + 2 * 2) / 3)
    assert results_table(model("start", 0, [None, None]), spec())[0]["value"] is None
    burst = results_table(model("start", 0, [1], [2.0, math.inf, math.nan]), spec())[1]  # the loss of a destroyed model
    assert (burst["value"], burst["n"], burst["n_missing"]) == (2.0, 1, 2)


def test_cells_are_compared_within_seeds() -> None:
    values = shares("start", [12, 12, 12]) + shares("damaged", [10, 9, 8])
    row = next(row for row in summary_table(values, spec()) if row["cell"] == "damaged")
    # 0.50, 0.45, 0.40 against 0.60 in each seed: -0.10, -0.15, -0.20
    assert row["mean"] == pytest.approx(0.45)
    assert row["minus_start"] == pytest.approx(-0.15)
    expected = paired_t([-0.10, -0.15, -0.20])
    assert (row["minus_start_low"], row["minus_start_high"]) == pytest.approx((expected.low, expected.high))
    assert row["per_seed"] == "0.5000 0.4500 0.4000"
    assert row["minus_damaged"] is None
    # over items: seeds averaged item by item: items 8..11 lost in 3, 2 (item 9), 1 ... of three seeds
    items = over_items([v for v in values if v.cell.name == "damaged"], [v for v in values if v.cell.name == "start"])
    assert items.value == pytest.approx(-0.15)
    assert items.low is not None
    assert items.low < -0.15 < (items.high or 0)
    assert (row["minus_start_items_low"], row["minus_start_items_high"]) == pytest.approx((items.low, items.high))


def test_a_seed_that_only_one_cell_has_is_left_out() -> None:
    values = shares("start", [12, 12]) + shares("damaged", [10, 9, 2])
    row = next(row for row in summary_table(values, spec()) if row["cell"] == "damaged")
    assert row["minus_start"] == pytest.approx(-0.125)
    assert row["n_seeds"] == 3


def test_items_are_pooled_over_seeds() -> None:
    both = model("x", 0, [1, 0, 1]) + model("x", 1, [1, 1, None])
    assert [one.value for one in pooled(both)] == [1.0, 0.5, None]


def test_a_contrast_of_shares_by_hand() -> None:
    asked = spec("cell: damaged, against: start, probe: asked.right, margin: 0.03")
    values = shares("start", [12, 12, 12]) + shares("damaged", [6, 7, 6])
    (answer,) = answer_primary(values, asked)
    assert answer.judgement.verdict == "worse"
    assert answer.per_seed == pytest.approx((-0.3, -0.25, -0.3))
    assert answer.judgement.difference.value == pytest.approx(-0.85 / 3)
    assert "damaged against start on asked.right: worse (-28.3 points" in answer.sentence
    assert "These very models on other items like these 20: -28.3 points" in answer.sentence
    rows = contrast_rows([answer])
    assert [(row["seed"], row["over"]) for row in rows] == [
        ("0", "items"), ("1", "items"), ("2", "items"), ("all", "items"), ("all", "seeds"),
    ]  # fmt: skip
    assert rows[-1]["verdict"] == "worse"


def test_of_losses_lower_is_better_and_they_have_a_margin_of_their_own() -> None:
    asked = spec("cell: damaged, against: start, probe: asked.nats", more="margin_real: 0.2\n")
    start = [v for seed in range(3) for v in model("start", seed, [1] * 9 + [0], [2.0, 2.0, 2.0])]
    lower = [v for s, x in enumerate([1.5, 1.4, 1.45]) for v in model("damaged", s, [1] * 9 + [0], [x, x, x])]
    (answer,) = answer_primary(start + lower, asked)
    assert answer.judgement.verdict == "better"
    assert answer.judgement.difference.value == pytest.approx(-0.55)
    assert answer.margin == 0.2
    near = [v for s, x in enumerate([2.01, 1.99, 2.0]) for v in model("damaged", s, [1] * 9 + [0], [x, x, x])]
    (answer,) = answer_primary(start + near, asked)
    assert answer.judgement.verdict == "equivalent"
    assert "equivalent within ±0.200" in answer.sentence


def test_holm_goes_over_contrasts_of_different_units() -> None:
    lines = (
        "cell: damaged, against: start, probe: asked.right, margin: 0.05",
        "cell: damaged, against: start, probe: asked.nats, margin: 0.4",
        "cell: other, against: damaged, probe: asked.right, margin: 0.1",
    )
    rng = np.random.default_rng(0)
    values = []
    for cell, share, loss in (("start", 12, 2.0), ("damaged", 9, 2.3), ("other", 11, 2.1)):
        for seed in range(4):
            k = share + int(rng.integers(-1, 2))
            x = loss + 0.1 * float(rng.standard_normal())
            values += model(cell, seed, [1] * k + [0] * (20 - k), [x] * 3)
    together = answer_primary(values, spec(*lines))
    raw = [answer.judgement.p_difference for answer in together]
    alone = [answer_primary(values, spec(line))[0].judgement for line in lines]
    assert raw == pytest.approx([one.p_difference for one in alone])
    assert [a.judgement.p_equivalence for a in together] == pytest.approx([one.p_equivalence for one in alone])
    for kind in ("p_difference", "p_equivalence"):
        plain_p = [float(getattr(answer.judgement, kind)) for answer in together]
        worst = 0.0
        for rank, at in enumerate(np.argsort(plain_p)):
            worst = max(worst, min(1.0, (3 - rank) * plain_p[at]))
            assert getattr(together[at].judgement, f"{kind}_adjusted") == pytest.approx(worst)
    # the same family in one unit is what judge_family itself says
    two = spec(lines[0], lines[2].replace("0.1", "0.05"))
    sides = {}
    for number, (a, b) in enumerate((("damaged", "start"), ("other", "damaged"))):
        of = {c: [v.estimate.value for v in values if v.cell.name == c and v.metric.name == "right"] for c in (a, b)}
        sides[str(number)] = (of[a], of[b])
    plain = judge_family(sides, 0.05)
    for answer, one in zip(answer_primary(values, two), plain.values(), strict=True):
        assert answer.judgement.verdict == one.verdict
        assert answer.judgement.p_difference_adjusted == pytest.approx(one.p_difference_adjusted)


def test_near_the_floor_nothing_can_be_told_and_one_seed_tells_nothing() -> None:
    asked = spec("cell: damaged, against: start, probe: asked.right, margin: 0.05")
    (answer,) = answer_primary(shares("start", [1, 1]) + shares("damaged", [0, 1]), asked)
    assert answer.judgement.verdict == "not testable"
    (answer,) = answer_primary(shares("start", [12]) + shares("damaged", [6]), asked)
    assert answer.judgement.verdict == "cannot tell yet"
    assert answer.items.low is not None
    with pytest.raises(UserError, match="compares nothing"):
        answer_primary(shares("start", [12]), asked)


def test_answers_that_are_missing_on_one_side_decide_nothing() -> None:
    """100 items, 70 right in every seed but for a jitter; `damaged` is equal on every item, and of its 30 failures ten have
    no reading: 10 of 100 are the most that is borne, and eleven are too many. Comparing own answers would say +7.8 points."""
    asked = spec("cell: damaged, against: start, probe: asked.right, margin: 0.03")
    counts = [70, 71, 69, 70, 72]

    def damaged(lost: int) -> list[Scores]:
        return [
            one
            for seed, k in enumerate(counts)
            for one in model("damaged", seed, [1.0] * k + [0.0] * (100 - k - lost) + [None] * lost)
        ]

    start = [one for seed, k in enumerate(counts) for one in model("start", seed, [1.0] * k + [0.0] * (100 - k))]
    (many,) = answer_primary(start + damaged(11), asked)
    assert many.judgement.verdict == "not testable"
    assert "11 of 100 items have no answer on one side" in many.sentence
    (ten,) = answer_primary(start + damaged(10), asked)
    assert ten.judgement.difference.value == 0.0  # on the 90 that both answered
    assert (ten.judgement.items, ten.judgement.missing) == (90, 10)
    assert ten.judgement.verdict == "cannot tell yet"
    assert "10 of 100 items lack an answer on a side" in ten.sentence
    (two,) = answer_primary(start + damaged(2), asked)
    assert two.judgement.verdict == "equivalent"
    naive = [k / (100 - 10) - k / 100 for k in counts]
    assert min(naive) > 0.07


def test_one_model_in_every_seed_is_no_replicate() -> None:
    """A cell that nothing trained (the start, rounded) is the same model in every seed: five copies are one."""
    asked = spec("cell: other, against: start, probe: asked.right, margin: 0.03")
    values = shares("start", [16] * 5) + shares("other", [10] * 5)
    (answer,) = answer_primary([replace(scores, model=scores.cell.name) for scores in values], asked)
    assert answer.judgement.verdict == "cannot tell yet"
    assert "both models are the same in every seed" in answer.sentence
    # five models that were trained apart and score alike are five models
    trained = [replace(scores, model=f"{scores.cell.name}, seed {scores.seed}") for scores in values]
    assert "both models are the same" not in answer_primary(trained, asked)[0].sentence
    jittered = shares("start", [16] * 5) + shares("other", [10, 9, 10, 11, 10])
    assert answer_primary(jittered, asked)[0].judgement.verdict == "worse"


def of_losses(*contrasts: str) -> StudySpec:
    text = SPEC.replace('"harness:x"', "perplexity, file: t.jsonl")
    return parse_spec(text + "".join(f"  - {{{line}}}\n" for line in contrasts), "s.yaml")


def losses(cell: str, *seeds: Sequence[float]) -> list[Scores]:
    metric = Metric("nats_per_token", "real", "lower")
    made = []
    for seed, nats in enumerate(seeds):
        measured = [ItemScore(f"i{at}", metric.name, value, f"i{at}") for at, value in enumerate(nats)]
        made += scores_of_result(CellKey(cell), seed, "asked", Result(measured, (metric,), {}))
    return made


def test_losses_that_are_missing_on_one_side_are_not_judged() -> None:
    line = "cell: other, against: start, probe: asked.nats_per_token"
    asked = of_losses(line)
    start = losses("start", [2.0, 2.1, 2.2], [2.0, 2.1, 2.3], [2.0, 2.2, 2.3])
    # the survivors of a destroyed model would look better than the start
    burst = losses("other", [1.0, math.inf, math.nan], [1.1, math.nan, 1.2], [1.2, 1.3, 1.4])
    (answer,) = answer_primary(start + burst, asked)
    assert answer.judgement.verdict == "not testable"
    assert "not testable here" in answer.sentence
    assert "other, seed 0: 2 of 3 items; other, seed 1: 1 of 3 items" in answer.sentence
    assert answer.as_json()["p_difference"] is None
    assert [row["verdict"] for row in contrast_rows([answer])][-1] == "not testable"
    assert contrast_rows([answer])[-1]["difference"] is None
    (note,) = missing_items(start + burst, asked)
    assert note.startswith("other on asked.nats_per_token")
    assert note.endswith("2 of 3 (seed 0), 1 of 3 (seed 1)")
    # destroyed altogether, in every seed
    gone = losses("other", *[[math.nan] * 3] * 3)
    (answer,) = answer_primary(start + gone, asked)
    assert (answer.judgement.verdict, answer.seeds, answer.per_seed) == ("not testable", (), ())
    assert "other, seed 2: 3 of 3 items" in answer.sentence
    assert contrast_rows([answer])[0]["n"] == 0
    # rows that no model has a loss of are the same on both sides: judged, and noted
    both = losses("start", *[[2.0, 2.1, math.nan]] * 3), losses("other", *[[2.5, 2.7, math.nan], [2.6, 2.6, math.nan]])
    (answer,) = answer_primary([*both[0], *both[1]], asked)
    assert answer.judgement.verdict != "not testable"
    assert len(missing_items([*both[0], *both[1]], asked)) == 2


def test_a_contrast_that_is_not_judged_still_counts_in_the_family() -> None:
    lines = ["cell: damaged, against: start, probe: asked.nats_per_token", "cell: other, against: start, probe: asked.nats_per_token"]  # fmt: skip
    start = losses("start", *[[2.0, 2.1 + seed / 50] for seed in range(3)])
    values = start + losses("damaged", *[[2.3 + seed / 30, 2.4] for seed in range(3)])
    values += losses("other", *[[2.0, math.inf]] * 3)
    first, second = answer_primary(values, of_losses(*lines))
    assert second.judgement.verdict == "not testable"
    (alone,) = answer_primary(values, of_losses(lines[0]))
    assert alone.judgement.p_difference is not None
    assert first.judgement.p_difference_adjusted == pytest.approx(2 * alone.judgement.p_difference)


def test_a_pilot_whose_damage_destroys_the_model() -> None:
    asked = spec(more=PILOT)
    values = of_pilot(shares("start", [60], 100) + shares("gentle", [50], 100) + model("hard", 0, [None] * 100))
    found = answer_pilot(asked, values, [{"step": "hard", "tokens": None}])
    assert (found.chosen, found.tried[1].n, found.tried[1].low) == ("gentle", 0, None)


def tell(context: Context) -> None:
    (context.out / context.config["file"]).write_text(json.dumps(context.config["told"]))


def test_costs_of_steps_that_tell_less(tmp_path: Path) -> None:
    train, repair = StepType("train.language", 1, tell), StepType("repair.train", 1, tell)

    def trained(seed: int, **more: float) -> Step:
        return Step(train, {"trains": "chat", "seed": seed, "file": "history.json", "told": {"tokens": 100, **more}})

    def repaired(base: Step, told: dict[str, object]) -> Step:
        return Step(repair, {"file": "repair.json", "told": told}, {"base": base})

    old, new = trained(0), trained(1, flops=1000.0)
    whole = {"method": "lbf", "steps": 2, "seconds": 3.5, "flops": 250.0, "peak_bytes": 7, "stopped": {"step": 2, "why": "kl"},
             "tokens": {"forget": 10, "replay": 20, "preferred": 5, "guard": 40}, "point": {"step": 1}}  # fmt: skip
    steps = {
        "full": repaired(old, whole),
        "bare": repaired(old, {"method": "lbf", "point": None}),
        "replay": repaired(new, {"method": "lbf", "tokens": {"replay": 30}}),
    }
    cells = [Cell(CellKey("full"), 0, (("damage", old), ("full", steps["full"])), {}),
             Cell(CellKey("bare"), 0, (("damage", old), ("bare", steps["bare"])), {}),
             Cell(CellKey("replay"), 1, (("damage", new), ("replay", steps["replay"])), {})]  # fmt: skip
    store = Store(tmp_path)
    run_steps([step for cell in cells for _, step in cell.path], store, RunOptions(), Progress(quiet=True))
    table = {(row["step"], row["seed"]): row for row in cost_table(cells, store)}
    assert set(table) == {("damage", 0), ("damage", 1), ("full", 0), ("bare", 0), ("replay", 1)}
    # a training that counted no FLOPs has those of the same one of another seed
    assert table["damage", 0]["flops"] == table["damage", 1]["flops"] == 1000.0
    full = table["full", 0]
    assert (full["tokens"], full["tokens_guard"], full["best_step"]) == (35, 40, 1)
    assert full["share_of_damage_tokens"] == pytest.approx(0.35)
    assert full["share_of_damage_flops"] == pytest.approx(0.25)
    assert full["stopped"] == "step 2: kl"
    bare = table["bare", 0]
    assert [bare[name] for name in ("tokens", "tokens_forget", "flops", "peak_bytes", "stopped", "best_step")] == [
        None
    ] * 6
    assert bare["share_of_damage_tokens"] is None
    assert (table["replay", 1]["tokens"], table["replay", 1]["tokens_forget"]) == (30, None)
    assert len({tuple(row) for row in table.values()}) == 1  # the same columns
    # nobody counted: nothing is made up
    assert all(row["share_of_damage_flops"] is None for row in cost_table(cells[:2], store))


PILOT = """\
pilot:
  probe: {task: "harness:y", items: 20}
  metric: right
  grid:
    gentle: {on: qa.damage}
    hard: {on: qa.damage}
"""


def of_pilot(values: Sequence[Scores]) -> list[Scores]:
    return [Scores(v.cell, PILOT_SEED, "pilot", v.metric, v.items) for v in values]


def test_the_pilot_names_the_surest_damage() -> None:
    asked = spec(more=PILOT)
    costs = [{"step": "gentle", "tokens": 100}, {"step": "hard", "tokens": 200}]
    values = of_pilot(shares("start", [60], 100) + shares("gentle", [50], 100) + shares("hard", [40], 100))
    found = answer_pilot(asked, values, costs)
    assert found.chosen == "hard"
    assert [one.difference for one in found.tried] == pytest.approx([-0.1, -0.2])
    assert all(one.high is not None and one.high < 0 for one in found.tried)
    assert "damage: hard" in found.sentence
    assert "flatters" in found.sentence
    same = answer_pilot(asked, of_pilot(shares("start", [60], 100) + shares("gentle", [60], 100) + shares("hard", [61], 100)), costs)  # fmt: skip
    assert same.chosen is None
    assert same.sentence.startswith("No damage is found")


def test_which_seeds_of_the_study_the_pilot_picked_on() -> None:
    asked = spec(more=PILOT).model_copy(update={"damage": "hard"})
    tried = {"tried": [{"name": "gentle"}, {"name": "hard"}], "spec": {"seeds": [1, 0, 2]}}
    assert picked_seeds(asked, None) == ()
    older = PilotRecord.from_json(tried)
    assert picked_seeds(asked, older) == (1,)  # older pilots took the study's first seed
    assert picked_seeds(asked.model_copy(update={"pilot": None}), older) == (1,)
    assert picked_seeds(asked, PilotRecord.from_json({**tried, "seed": PILOT_SEED})) == ()
    assert picked_seeds(asked, PilotRecord.from_json({**tried, "seed": 2})) == (2,)  # the file was changed since
    assert picked_seeds(asked.model_copy(update={"seeds": (0, 2)}), older) == ()
    assert picked_seeds(asked.model_copy(update={"damage": "hurt"}), older) == ()


def test_a_seed_that_the_pilot_picked_on_does_not_count() -> None:
    asked = spec("cell: damaged, against: start, probe: asked.right, margin: 0.03")
    values = shares("start", [12, 12, 12, 12]) + shares("damaged", [2, 7, 6, 7])
    (whole,) = answer_primary(values, asked)
    (answer,) = answer_primary(values, asked, (0,))
    assert (answer.seeds, answer.as_json()["seeds_left_out"]) == ((1, 2, 3), [0])
    assert answer.judgement == answer_primary([one for one in values if one.seed], asked)[0].judgement
    assert answer.judgement.difference.value == pytest.approx(-0.8 / 3)
    assert answer.sentence.endswith(" Seed 0 left out: the pilot chose the damage on that model's result.")
    assert (whole.as_json()["seeds_left_out"], whole.judgement.difference.value) == ([], pytest.approx(-0.325))
    assert "left out" not in whole.sentence


def lucky_model(trial: int, training: str, seed: int, cell: str, part: str) -> list[Scores]:
    """A model that no training harms: right on half of 100 items (of this part), give or take the luck of its seed."""
    name = [trial, seed, *training.encode()]
    luck = 0.0 if training == "start" else np.random.default_rng(name).normal(0, 0.15)
    answers = np.random.default_rng([*name, *part.encode()]).random(100) < 0.5 + luck
    return model(cell, seed, [float(one) for one in answers])


@pytest.mark.parametrize("pilot_seed", [None, 0])
def test_a_pilot_does_not_bias_the_study_that_follows_it(pilot_seed: int | None) -> None:
    """Of five trainings that do no harm a pilot takes the one that looks worst; a study asks the seeds 0 to 2 for it, on
    other items. With a seed of its own the pilot leaves the study's mean difference at 0. Where it shared the study's
    seed 0, that model pulls the mean below 0, unless it is left out."""
    grid = "".join(f"    d{at}: {{on: qa.damage}}\n" for at in range(5))
    asked = spec("cell: damaged, against: start, probe: asked.right", more=PILOT.partition("    gentle")[0] + grid)
    assert asked.pilot is not None
    if pilot_seed is not None:
        asked = asked.model_copy(update={"pilot": asked.pilot.model_copy(update={"seed": pilot_seed})})
    found: dict[str, list[float]] = {"all": [], "without seed 0": []}
    for trial in range(120):
        (seed,) = pilot_spec(asked).seeds
        first = [one for name in ("start", *asked.pilot.grid) for one in lucky_model(trial, name, seed, name, "pilot")]
        first = [replace(one, probe="pilot") for one in first]
        chosen = answer_pilot(asked, first, [{"step": "start", "tokens": 1}]).chosen
        if chosen is None:
            continue
        both = {"start": "start", chosen: "damaged"}
        values = [
            v for at in asked.seeds for one, cell in both.items() for v in lucky_model(trial, one, at, cell, "study")
        ]
        found["all"].append(answer_primary(values, asked)[0].judgement.difference.value)
        found["without seed 0"].append(answer_primary(values, asked, (0,))[0].judgement.difference.value)
    assert len(found["all"]) > 60
    standardised = {name: np.mean(some) / (np.std(some) / len(some) ** 0.5) for name, some in found.items()}
    assert abs(standardised["without seed 0"]) < 3
    if pilot_seed is None:
        assert abs(standardised["all"]) < 3
    else:
        assert np.mean(found["all"]) < -0.04
        assert standardised["all"] < -5


def test_of_equal_damages_the_cheaper_one() -> None:
    def tried(name: str, low: float | None, high: float | None, tokens: int) -> Tried:
        return Tried(name, 0.4, 0.5, -0.1, low, high, 100, tokens)

    assert choose_damage([tried("b", -0.2, -0.05, 10), tried("a", -0.3, -0.05, 20)], falls=True) == "b"
    assert choose_damage([tried("b", -0.2, 0.0, 10), tried("c", None, None, 1)], falls=True) is None
    # where lower is better, harm is a rise
    assert choose_damage([tried("b", 0.02, 0.3, 10), tried("a", 0.05, 0.1, 20)], falls=False) == "a"
    assert choose_damage([tried("b", -0.2, -0.1, 10)], falls=False) is None


def test_the_pilots_items_are_not_asked_again() -> None:
    values = shares("start", [12])
    check_apart(values, ["asked"], ["j1", "j2"])
    check_apart(values, ["elsewhere"], ["i1"])
    with pytest.raises(UserError, match="1 items, the first: i3"):
        check_apart(values, ["asked"], ["i3", "j2"])


def test_a_mix_keeps_its_shares_and_uses_no_row_twice() -> None:
    lengths = {"text": [50] * 1000, "qa": [20] * 200}
    taken = choose_rows(lengths, {"text": 0.98, "qa": 0.02}, np.random.default_rng(0))
    assert all(len(set(some)) == len(some) for some in taken.values())
    text, qa = 50 * len(taken["text"]), 20 * len(taken["qa"])
    assert len(taken["text"]) == 1000  # all that there is: the mix is as large as it can be
    assert qa / (text + qa) == pytest.approx(0.02, abs=20 / (text + qa))
    chat = Chat((Message("user", "what?"), Message("assistant", "that")), "7", {})
    assert mixed_row(chat, "qa.some", "text") == Text("what?\n\nthat", "qa.some/7", {})
    assert mixed_row(chat, "qa.some", "chat") == Chat(chat.messages, "qa.some/7", {})
    with pytest.raises(UserError, match="plain text"):
        mixed_row(Text("x", "1", {}), "text.some", "chat")


def test_a_mix_as_a_step(tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": f"{at:02} " + "x" * 47}) + "\n" for at in range(60))
    )
    questions = [{"prompt": f"what {at:02}?", "completion": "y" * 11} for at in range(20)]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    parts = {}
    for name, rows in (("text", 50), ("qa", 15)):
        file = Source(str(tmp_path / f"{name}.jsonl"), name)
        config = {"names": {"file0": f"{name}.jsonl"}, "columns": None, "on_bad_row": "stop", "duplicates": "drop"}
        parts[name] = Step(SPLIT, {**config, "pools": {"some": rows}, "seed": 0}, {"file0": file})
    shares = {"text.some": 0.95, "qa.some": 0.05}
    config = {"shares": shares, "trains": "text", "seed": 0}
    mix = Step(MIX, config, {"part0": parts["text"], "part1": parts["qa"]})
    run_steps([mix], Store(tmp_path / "store"), RunOptions(), Progress(quiet=True))
    folder = Store(tmp_path / "store").path(mix.key)
    counts = json.loads((folder / "counts.json").read_text())
    assert counts["read"] == 65 == counts["kept"] + sum(counts["dropped"].values())
    assert counts["pools"] == {"text.some": 50, "qa.some": 7}  # 2500 / 0.95 * 0.05 = 131.6 characters, 19 or 20 a row
    rows = read_language(folder / "rows.jsonl")
    assert len(rows) == 57
    assert all(isinstance(row, Text) for row in rows)
    assert any("?\n\nyyy" in row.text for row in rows if isinstance(row, Text))


def test_a_share_without_spread_has_no_interval_that_is_made_up() -> None:
    rows = summary_table(shares("start", [20, 20]) + shares("damaged", [20, 20]), spec())
    row = next(row for row in rows if row["cell"] == "damaged")
    assert row["minus_start"] == 0
    assert row["minus_start_low"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())
