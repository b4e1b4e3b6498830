"""Study files: every mistake named with its line and the fix; plans that need nothing; the paper's counts."""

from pathlib import Path

import pytest

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.steps import Store
from pyrite.study.config import StudyConfig
from pyrite.study.plan import arm_counts, make_plan, parameters_in_name
from pyrite.study.run import resolve_spec
from pyrite.study.spec import ArmSpec, bundled, is_language, load_spec, parse_spec

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
        ("mix: {human.more: 1}", "mix: {human.test: 1}", 17, "shares rows with human.test"),
        ("mix: {human.more: 1}", "mix: {human: 1}", 17, "models are trained on human"),
        ("arm: 20}", "arm: {rows: all}}", 6, "disjoint: false"),
        ("mix: {human.more: 1}", "mix: {human.more: 1}, bias: {label: a}", 13, "compare two fields"),
        ("mix: {human.more: 1}", "mix: {human.more: 1}, noise: 7", 13, "less than 1"),
        ("sizes: [4]", "sizes: [4]\ncontrasts: [{arm: other, starts: [rwa]}]", 15, "did you mean 'raw'"),
        ("sizes: [4]", "sizes: [4]\ncontrasts: [{arm: other, probe: gap}]", 15, "needs a blind spot"),
        ("sizes: [4]", "sizes: [4]\nhuman_arm: humans", 15, "did you mean 'human'"),
        ("raw: {}", "raw: {rows: {human.arm: 5}, training: {method: lora}}", 1, "share one method"),
    ],
)
def test_mistakes_are_named_with_line_and_fix(old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    error = mistakes(GOOD.replace(old, new, 1))
    assert f"s.yaml:{line}:" in error.found
    assert says in error.found + error.fix


def test_every_bundled_study_loads_and_plans(tmp_path: Path) -> None:
    names = [name for name in bundled() if not is_language(name)]
    assert {"demo", "nli_small", "zhang_pavlick_2025"} <= set(names)
    for name in names:
        spec, _ = load_spec(name)
        plan = make_plan(spec, tmp_path, CPU, only_plan=True)
        told = plan.summary(Store(tmp_path))
        assert told["cells"] == len(spec.starts) * len(spec.sizes) * len(spec.all_arms()) * len(spec.seeds)
        assert told["tokens"] > 0
        assert told["stored"]["steps"] == 0


def test_the_papers_plan_has_60_trainings(tmp_path: Path) -> None:
    spec, _ = load_spec("zhang_pavlick_2025")
    told = make_plan(spec, tmp_path, CPU, only_plan=True).summary(Store(tmp_path))
    assert told["trainings"] == 60
    assert told["trainings_of"] == {"starts": 5, "generators": 1, "arms": 54}
    assert any("Llama-2-7b" in name for name in told["absent"])


def test_a_plan_through_the_command_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "zhang_pavlick_2025", "--plan", "--json", "--store", str(tmp_path)]) == 0
    assert '"trainings": 60' in capsys.readouterr().out


def test_seeds() -> None:
    config = StudyConfig(spec="demo", seeds="+3")
    assert resolve_spec(config).seeds == (0, 1, 2, 3, 4, 5)
    assert resolve_spec(config.model_copy(update={"seeds": "1"})).seeds == (0,)
    with pytest.raises(UserError, match="--seeds"):
        resolve_spec(config.model_copy(update={"seeds": "many"}))


def test_shares_divide_or_add_to_the_size() -> None:
    assert arm_counts(ArmSpec(mix={"h": 0.75, "s": 0.25}), 10) == {"h": 8, "s": 2}
    assert arm_counts(ArmSpec(mix={"h": 1, "s": 0.5}, combine="add"), 10) == {"h": 10, "s": 5}
    assert arm_counts(ArmSpec(mix={"h": 0, "s": 1}), 10) == {"s": 10}


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
