"""Study files: every mistake named with its line and the fix; plans that need nothing; the paper's counts."""

from pathlib import Path

import pytest

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.steps import Store, closure
from pyrite.study.cells import Plan
from pyrite.study.config import StudyConfig
from pyrite.study.load import bundled, load_spec, parse_spec
from pyrite.study.notes import study_notes
from pyrite.study.plan import make_plan
from pyrite.study.plan_graph import parameters_in_name
from pyrite.study.plan_summary import plan_summary
from pyrite.study.run import resolve_spec
from pyrite.study.spec_steps import ArmSpec

CPU = Compute("cpu", "fp32")
GOOD = """\
study: small
labels: [a, b]
fields: [text]
task_model: {model: packaged:minilm-l6}
data:
  human:
    files: [x.csv]
    pools: {test: 10, more: 5, arm: 20}
starts:
  raw: {}
arms:
  human: {mix: {human.arm: 1}}
  other: {mix: {human.more: 1}}
sizes: [4]
seeds: [0]
probes:
  general: {task: labelled, data: human.test}
"""


def mistakes(text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        parse_spec(text, "s.yaml")
    return caught.value


def test_a_good_file() -> None:
    spec = parse_spec(GOOD, "s.yaml")
    assert [contrast.arm for contrast in spec.primary()] == ["other"]
    assert spec.primary()[0].against == "human"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("sizes: [4]", "sizse: [4]", 14, "did you mean 'sizes'"),
        ("arm: 20}", "arm: many}", 8, "valid integer"),
        ("mix: {human.more: 1}", "mix: {human.mor: 1}", 13, "did you mean 'human.more'"),
        ("mix: {human.more: 1}", "mix: {human.more: 0.5}", 13, "add up to 1"),
        ("task: labelled, data", "task: labeled, data", 17, "'labelled'"),
        ("  general:", "  genral:", 16, "must be called 'general'"),
        ("files: [x.csv]", "files: []", 6, "exactly one of files, grammar, synth"),
        ("seeds: [0]", "seeds: [0", 16, ""),
        ("seeds: [0]", "seeds: [0, 0]", 15, "each once"),
        ("seeds: [0]", "seeds: [0, -1]", 15, "each is 0 or more"),
        ("sizes: [4]", "sizes: [4, 0]", 14, "each is 1 or more"),
        ("labels: [a, b]", "labels: [a, b, a]", 2, "labels: each once, and a is there twice"),
        ("fields: [text]", "fields: [text, text]", 3, "fields: each once, and text is there twice"),
        ("files: [x.csv]", "files: [x.csv, x.csv]", 7, "data.human.files: each once"),
        ("files: [x.csv]", "files: [x.csv, ./x.csv]", 6, "two names are of one file"),
        ("data: human.test}", "data: human.test, metrics: [accuracy, accuracy]}", 17, "metrics: each once"),
        ("data: human.test}", "data: human.test, slices: [[gold], [gold]]}", 17, "slices: each once"),
        ("sizes: [4]", "sizes: [4]\ncontrasts: [{arm: other, starts: [raw, raw]}]", 15, "starts: each once"),
        ("mix: {human.more: 1}", "mix: {human.test: 1}", 17, "shares rows with human.test"),
        ("mix: {human.more: 1}", "mix: {human: 1}", 17, "models are trained on human"),
        ("arm: 20}", "arm: {rows: all}}", 6, "disjoint: false"),
        ("mix: {human.more: 1}", "mix: {human.more: 1}, bias: {label: a}", 13, "compares two fields"),
        ("mix: {human.more: 1}", "mix: {human.more: 1}, noise: 7", 13, "less than 1"),
        ("sizes: [4]", "sizes: [4]\ncontrasts: [{arm: other, starts: [rwa]}]", 15, "did you mean 'raw'"),
        ("sizes: [4]", "sizes: [4]\ncontrasts: [{arm: other, probe: gap}]", 15, "needs a blind spot"),
        ("sizes: [4]", "sizes: [4]\nhuman_arm: humans", 15, "did you mean 'human'"),
        ("raw: {}", "raw: {rows: {human.arm: 5}, training: {method: lora}}", 1, "share one method"),
        ("test: 10", "test: {rows: 10, disjoint: false}", 17, "data.human.pools.arm: shares_with: [test]"),
        ("test: 10", "test: {rows: 10, disjoint: false}", 17, "data.human.pools.more: shares_with: [test]"),
        ("test: 10", "test: {rows: all, disjoint: false}", 17, "give it a number of rows"),
        ("arm: 20}", "arm: {rows: 20, disjoint: false, shares_with: [tset]}}", 8, "did you mean 'test'"),
        ("arm: 20}", "arm: {rows: 20, disjoint: false, shares_with: [arm]}}", 8, "there is no 'arm'"),
        ("arm: 20}", "arm: {rows: 20, shares_with: [test]}}", 8, "arm and test are both disjoint"),
        ("data: human.test", "file: ./x.csv", 17, "cut a pool out of data.human"),
        ("    pools: {test: 10, more: 5, arm: 20}", "    group: text", 6, "add pools"),
        ("sizes: [4]", "sizes: [4]\ntexts_vary: true", 15, "no data is written by a generator"),
        ("sizes: [4]", "sizes: [6]", 13, "6 rows of human.more, which has 5"),
        ("raw: {}", "raw: {rows: {human.arm: 21}}", 10, "21 rows of human.arm, which has 20"),
        ("raw: {}", "raw: {training: {epochs: 2}}", 10, "nothing is trained here"),
        ("files: [x.csv]", "files: [x.csv]\n    train_on: human", 6, "there is no synth here"),
        ("  other:", "  oth/er:", 13, "not 'oth/er'"),
        ("  other:", "  'other [2]':", 13, "a name begins with a letter, digit or _"),
        ("more: 5", "../more: 5", 8, "not '../more'"),
        ("more: 5", "more.of: 5", 8, "no dot"),
        ("  general:", "  general: {task: labelled, data: human.test}\n  a.b:", 18, "no dot"),
        ("sizes: [4]", "sizes: [4]\ncontrasts: [{arm: other}, {arm: other, probe: general}]", 15, "there twice"),
        (
            "sizes: [4]",
            "sizes: [4]\nsynthetic_share: {shares: [0.5], human: human.arm, synthetic: human.arm}",
            15,
            "two data",
        ),
        (
            "sizes: [4]",
            "sizes: [4]\nsynthetic_share: {shares: [0.5, 1], human: human.arm, synthetic: oops}",
            15,
            "synthetic_share.synthetic: there is no 'oops'",
        ),
        (
            "sizes: [4]",
            "sizes: [4]\ncontrasts: [{arm: other}, {arm: human, against: other, probe: general.accuracy, sizes: [4]}]",
            15,
            "there twice",
        ),
        ("  general:", "  primary: {task: labelled, data: human.test}\n  general:", 17, "gates name it"),
        ("  general:", "  'two words': {task: labelled, data: human.test}\n  general:", 17, "gates name it"),
        ("  other:", f"  {'o' * 81}:", 13, "at most 80 bytes"),
        (
            "sizes: [4]",
            "sizes: [4]\nsynthetic_share: {shares: [0.5], human: human.arm, synthetic: human.more}\ncells: [{name: human, start: raw, steps: [share=0.5], size: 40}]",
            15,
            "20 rows of human.more, which has 5",
        ),
        ("seeds: [0]", "seeds: [0]\nsays: a\x07b", 16, "special characters are not allowed: U+0007"),
    ],
)
def test_mistakes_are_named_with_line_and_fix(old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    error = mistakes(GOOD.replace(old, new, 1))
    assert f"s.yaml:{line}:" in error.found
    assert says in error.found + error.fix


def test_cells_and_repairs_of_classifiers_say_nothing_without_meaning() -> None:
    repair = """
repairs:
  undo: {forget: trained, replay: human.more, settings: {steps: 2, METHOD guard: {every_tokens: 0}}}
cells:
  undone: {start: raw, steps: [other, undo], size: 4}
"""
    text = (
        GOOD.replace("other: {mix: {human.more: 1}}", "other: {mix: {human.arm: 1}}").replace("more: 5", "more: 20")
        + repair
    )
    parse_spec(text.replace("METHOD", ""), "s.yaml")
    assert "this method is for language models" in mistakes(text.replace("METHOD", "method: idk,")).found.lower()
    assert "one process" in mistakes(text.replace("METHOD", "processes: 2,")).found
    unread = text.replace("METHOD", "").replace("replay: human.more,", "replay: human.more, before: start,")
    assert "only kl_to: before and self_replay look at the model before" in mistakes(unread).found


def test_what_a_guard_watches_is_drawn_by_no_pool_that_trains() -> None:
    """`more` draws from every row, and the guard's rows are not among them."""
    text = GOOD.replace("more: 5", "more: {rows: 5, disjoint: false}, replay: 5, left: 5, kept: 5")
    text += """
repairs:
  undo: {forget: trained, replay: human.replay, guard_forget: human.left, guard_replay: human.kept, settings: {steps: 2}}
cells:
  undone: {start: raw, steps: [other, undo], size: 4}
"""
    assert division(text)["held_out"] == ["kept", "left", "test"]


def test_an_axis_makes_no_arm_that_is_written_and_takes_no_row_twice() -> None:
    axis = "synthetic_share: {shares: [0.5], human: human.arm, synthetic: human.more}\nsizes:"
    text = GOOD.replace("sizes:", axis)
    parse_spec(text, "s.yaml")
    error = mistakes(text.replace("  other:", "  share=0.5: {mix: {human.arm: 1}}\n  other:"))
    assert "arms.share=0.5: synthetic_share makes an arm of that name" in error.found
    text = GOOD.replace("{human.more: 1}", "{start: 1}").replace("raw: {}", "raw: {rows: {human.arm: 3}}")
    assert "s.yaml:13: arms.other.mix: 4 rows of the start's own, and start raw has 3" in mistakes(text).found


def test_a_file_that_is_no_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(GOOD.replace("small", "small\nsays: caf\xe9").encode("latin-1"))
    with pytest.raises(UserError, match="not in UTF-8") as caught:
        load_spec(tmp_path / "latin.yaml")
    assert "latin.yaml:2: byte 0xe9" in caught.value.found


def test_two_sources_of_one_file_are_the_same_rows() -> None:
    text = GOOD.replace("starts:", "  again: {files: [./x.csv]}\nstarts:").replace("data: human.test", "data: again")
    error = mistakes(text)
    assert (
        "s.yaml:18: probes.general: models are trained on human.arm, and again reads the same file (x.csv)"
        in error.found
    )
    parse_spec(text.replace("./x.csv", "y.csv"), "s.yaml")


TWENTY_OF_TWENTY = GOOD.replace(
    "pools: {test: 10, more: 5, arm: 20}",
    "pools: {asked: {rows: 20, disjoint: DISJOINT}, arm: {rows: all, disjoint: false}, more: 5}",
).replace("data: human.test", "data: human.asked")


def test_a_pool_that_a_probe_reads_is_trained_on_only_where_the_file_says_so_by_name() -> None:
    """The probe's 20 rows are among all rows, which the human arm draws from."""
    error = mistakes(TWENTY_OF_TWENTY.replace("DISJOINT", "false"))
    assert "s.yaml:17: probes.general: models are trained on human.arm, and human.asked" in error.found
    assert "leave out its disjoint: false (data.human.pools.asked)" in error.found
    assert "say that they may be shared (data.human.pools.arm: shares_with: [asked])" in error.found
    said = TWENTY_OF_TWENTY.replace("DISJOINT", "false")
    said = said.replace("arm: {rows: all, disjoint: false}", "arm: {rows: all, disjoint: false, shares_with: [asked]}")
    error = mistakes(said)  # the other arm does not say so yet
    assert "human.arm" not in error.found
    parse_spec(said.replace("more: 5", "more: {rows: 5, shares_with: [asked]}"), "s.yaml")
    parse_spec(TWENTY_OF_TWENTY.replace("DISJOINT", "true"), "s.yaml")  # its rows are drawn by no other pool


def division(text: str) -> dict[str, object]:
    plan = make_plan(parse_spec(text, "s.yaml"), Path("nowhere"), CPU, only_plan=True)
    (config,) = [dict(step.config) for step in plan.steps if step.kind.name == "data.pools"]
    return config


def test_pools_that_are_not_disjoint_leave_alone_what_a_probe_reads() -> None:
    text = TWENTY_OF_TWENTY.replace("DISJOINT", "true")
    assert division(text)["held_out"] == ["asked"]
    shared = text.replace("all, disjoint: false}", "all, disjoint: false, shares_with: [asked, more]}")
    config = division(shared)
    assert config["held_out"] == ["asked"]
    assert config["pools"]["arm"] == {"rows": "all", "disjoint": False, "balance": False, "shares_with": ["asked"]}
    # a study that asks for none of this is divided as it always was
    assert division(GOOD) == {
        "pools": {name: {"rows": rows, "disjoint": True, "balance": False} for name, rows in
                  (("test", 10), ("more", 5), ("arm", 20))},
        "labels": ["a", "b"],
        "seed": 0,
    }  # fmt: skip
    named = text.replace("asked", "test")  # nor is one whose probes read a pool called test
    assert set(division(named)) == {"pools", "labels", "seed"}


JUDGED = """\
study: judged
labels: [a, b]
fields: [text]
task_model: {model: packaged:minilm-l6}
data:
  human:
    files: [x.csv]
    pools: {test: 10, validation: 8, start: 20, generator: 20, arm: rest}
  synthetic:
    train_on: human.generator
    judge: second
    synth: {model: packaged:smollm2-135m-instruct, raw: 20}
starts:
  first: {rows: {human.start: 20}}
  second: {rows: {human.start: 10}, after: first}
arms:
  human: {mix: {human.arm: 1}}
  synthetic: {mix: {synthetic: 1}}
  noised: {mix: {human.arm: 1}, noise: synthetic}
sizes: [4]
seeds: [3, 0, 5]
probes:
  general: {task: labelled, data: human.test}
""".replace("arm: rest", "arm: {rows: rest}")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("first: {rows: {human.start: 20}}", "first: {rows: {human.validation: 8}}", "trained on human.validation"),
        ("second: {rows: {human.start: 10}", "second: {rows: {human: 10}", "shares rows with human.validation"),
        ("validation: 8", "validation: {rows: 8, disjoint: false}", "shares_with: [validation]"),
    ],
)
def test_a_judge_is_tried_on_rows_that_it_was_not_trained_on(old: str, new: str, says: str) -> None:
    parse_spec(JUDGED, "s.yaml")
    assert old in JUDGED
    error = mistakes(JUDGED.replace(old, new))
    assert "s.yaml:11: data.synthetic.judge: start second is tried as a judge on human.validation" in error.found
    assert says in error.found


def planned(more: str = "") -> tuple[Plan, dict[tuple[str, int], dict[str, set[str]]]]:
    """The plan, and for each arm's model and seed the keys of the steps that it stands on, by kind."""
    plan = make_plan(parse_spec(JUDGED + more, "s.yaml"), Path("nowhere"), CPU, only_plan=True)
    kinds: dict[tuple[str, int], dict[str, set[str]]] = {}
    for cell in plan.cells:
        if cell.start == "first" and cell.model is not None:
            steps = kinds.setdefault((cell.name, cell.seed), {})
            for step in closure([cell.model]):
                steps.setdefault(step.kind.name, set()).add(step.key)
    return plan, kinds


def test_texts_that_vary_are_sampled_by_the_seed_from_one_generator() -> None:
    fixed, once = planned()
    varied, each = planned("texts_vary: true\n")
    samples = {seed: each["synthetic", seed]["synth.sample"] for seed in (3, 0, 5)}
    assert len(set.union(*samples.values())) == 3
    assert samples[0] == once["synthetic", 0]["synth.sample"] == once["synthetic", 3]["synth.sample"]
    assert len({frozenset(each["synthetic", seed]["train.generator"]) for seed in (3, 0, 5)}) == 1
    # the noise of an arm is the error rate of its own seed's texts; the first seed's is reported
    rates = {seed: each["noised", seed]["synth.quality"] for seed in (3, 0, 5)}
    assert len(set.union(*rates.values())) == 3
    assert {varied.quality["synthetic"].key} == rates[3]
    assert {"synthetic", "synthetic, seed 0", "synthetic, seed 5"} <= set(varied.counts)
    # what no generator wrote stays as it was
    assert each["human", 5] == once["human", 5]
    labels = [step.label for step in varied.steps]
    assert len(labels) == len(set(labels))
    assert plan_summary(fixed, Store(Path("nowhere")))["trainings_of"]["generators"] == 1


def test_pools_that_vary_are_those_that_nothing_fixed_reads() -> None:
    fixed, once = planned()
    varied, each = planned("pools_vary: true\n")
    assert varied.items["general"].key == fixed.items["general"].key
    for arm in ("human", "synthetic"):
        starts = [each[arm, seed]["data.pools"] for seed in (3, 0, 5)]
        assert len({frozenset(one) for one in starts}) == 3
    assert each["human", 0] == once["human", 0]  # seed 0 has the rows that there are without
    # one generator, which learns from rows that no seed trains on
    divisions = [step for step in varied.steps if step.kind.name == "data.pools" and "division" in step.config]
    assert {(step.config["division"], tuple(step.config["kept"])) for step in divisions} == {
        (seed, ("generator", "test", "validation")) for seed in (3, 5)
    }
    assert plan_summary(varied, Store(Path("nowhere")))["trainings_of"]["generators"] == 1
    labels = [step.label for step in varied.steps]
    assert len(labels) == len(set(labels))
    both, each = planned("pools_vary: true\ntexts_vary: true\n")
    assert plan_summary(both, Store(Path("nowhere")))["trainings_of"]["generators"] == 3
    assert len(set.union(*(each["synthetic", seed]["train.generator"] for seed in (3, 0, 5)))) == 3


def test_what_the_seeds_do_not_redraw_is_a_note() -> None:
    def told(more: str = "") -> list[str]:
        return [note for note in study_notes(parse_spec(JUDGED + more, "s.yaml"), [], None) if "drawn once" in note]

    assert told() == [
        "drawn once, whatever the seed: the division of the data into pools (pools_vary); the raw texts of synthetic "
        "(texts_vary); the verdicts speak of these"
    ]
    assert told("pools_vary: true\n") == [
        "drawn once, whatever the seed: the raw texts of synthetic (texts_vary); the verdicts speak of these"
    ]
    assert told("pools_vary: true\ntexts_vary: true\n") == []
    assert "the rows of an arm (arm_rows_vary)" in told("arm_rows_vary: false\n")[0]


def test_every_bundled_study_loads_and_plans(tmp_path: Path) -> None:
    names = [name for name in bundled() if load_spec(name)[0].has_grid]
    assert {"demo", "nli_small", "zhang_pavlick_2025"} <= set(names)
    for name in names:
        spec, _ = load_spec(name)
        plan = make_plan(spec, tmp_path, CPU, only_plan=True)
        told = plan_summary(plan, Store(tmp_path))
        grid = len(spec.starts) * len(spec.sizes) * len(spec.all_arms())
        assert told["cells"] == (grid + len(spec.cells)) * len(spec.seeds)
        assert told["tokens"] > 0
        assert told["stored"]["steps"] == 0


def test_the_papers_plan_has_60_trainings(tmp_path: Path) -> None:
    spec, _ = load_spec("zhang_pavlick_2025")
    told = plan_summary(make_plan(spec, tmp_path, CPU, only_plan=True), Store(tmp_path))
    assert told["trainings"] == 60
    assert told["trainings_of"] == {"starts": 5, "generators": 1, "arms": 54}
    assert any("Llama-2-7b" in name for name in told["absent"])


def test_a_plan_through_the_command_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "zhang_pavlick_2025", "--plan", "--json", "--store", str(tmp_path)]) == 0
    assert '"trainings": 60' in capsys.readouterr().out


def test_seeds() -> None:
    config = StudyConfig(spec="demo", seeds="+3")
    assert resolve_spec(config).seeds == (0, 1, 2, 3, 4, 5, 6, 7)
    assert resolve_spec(config.model_copy(update={"seeds": "1"})).seeds == (0,)
    with pytest.raises(UserError, match="--seeds"):
        resolve_spec(config.model_copy(update={"seeds": "many"}))


def test_shares_divide_or_add_to_the_size() -> None:
    assert ArmSpec(mix={"h": 0.75, "s": 0.25}).counts(10) == {"h": 8, "s": 2}
    assert ArmSpec(mix={"h": 1, "s": 0.5}, combine="add").counts(10) == {"h": 10, "s": 5}
    assert ArmSpec(mix={"h": 0, "s": 1}).counts(10) == {"s": 10}


def test_the_share_axis_makes_arms() -> None:
    text = GOOD.replace(
        "sizes: [4]", "sizes: [4]\nsynthetic_share: {shares: [0, 0.25, 1], human: human.arm, synthetic: human.more}"
    )
    arms = parse_spec(text, "s.yaml").all_arms()
    assert dict(arms["share=0.25"].mix) == {"human.arm": 0.75, "human.more": 0.25}
    assert dict(arms["share=0"].mix) == {"human.arm": 1.0}


def test_the_size_in_a_models_name() -> None:
    assert parameters_in_name("meta-llama/Llama-2-7b-hf") == 7e9
    assert parameters_in_name("x/SmolLM2-135M") == 135e6
    assert parameters_in_name("x/nameless") is None
