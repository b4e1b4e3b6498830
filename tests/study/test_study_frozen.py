"""What a study plans where lower layers are frozen: which states are shared, and what the file may not say."""

from pathlib import Path

import pytest

from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.steps import Step
from pyrite.study.load import parse_spec
from pyrite.study.plan import make_plan
from pyrite.study.spec import StudySpec

TEXT = """
study: frozen
labels: [positive, negative]
fields: [text]
task_model: {model: packaged:minilm-l6, reads: pair}
data:
  people:
    grammar: {name: reviews, rows: 5000, seed: 1}
    pools: {test: 50, start: 100, arm: {rows: rest}}
starts:
  trained: {rows: {people.start: 100}}
arms:
  human: {mix: {people.arm: 1}}
  other: {mix: {people.arm: 1}, noise: 0.1}
sizes: [400]
seeds: [0, 1]
training: {start: {freeze: 4}, arm: {freeze: 4}}
probes:
  general: {task: labelled, data: people.test}
"""


def lower_steps(spec: StudySpec) -> list[Step]:
    plan = make_plan(spec, None, Compute("cpu", "fp32"), only_plan=True)
    return [step for step in plan.steps if step.kind.name == "train.lower"]


def planned(**changes: str) -> list[Step]:
    text = TEXT
    for old, new in changes.items():
        old = {"start": "start: {freeze: 4}", "size": "sizes: [400]", "seeds": "seeds: [0, 1]"}[old]
        assert old in text
        text = text.replace(old, new)
    return lower_steps(parse_spec(text, "s.yaml"))


def test_draws_from_one_pool_share_its_states() -> None:
    steps = planned()
    assert sorted(step.label for step in steps) == [
        "general: lower 4 layers", "people.arm: lower 4 layers", "people.start: lower 4 layers",
    ]  # fmt: skip
    assert not any("model" in step.inputs for step in steps)  # of the base: both seeds' starts left it as it is
    assert {step.key for step in planned(seeds="seeds: [0, 1, 2, 3]")} == {step.key for step in steps}


def test_a_pool_far_larger_than_a_draw_is_not_read_for_it() -> None:
    steps = planned(size="sizes: [40]")
    assert sum("draw" in step.label for step in steps) == 4  # each arm of each seed has rows of its own
    assert not any(step.label.startswith("people.arm") for step in steps)


def test_arms_on_a_start_that_moved_have_states_of_each_start() -> None:
    steps = planned(start="start: {freeze: 2}")
    assert sum("model" in step.inputs for step in steps) == 2 * 2  # two seeds' starts: the arm pool, and the probe
    assert {step.config["freeze"] for step in steps} == {2, 4}


def test_a_start_that_is_one_for_all_does_not_go_with_pools_that_vary() -> None:
    text = TEXT.replace("{people.start: 100}}", "{people.start: 100}, seeds: one}")
    assert parse_spec(text, "s.yaml")
    with pytest.raises(UserError) as caught:
        parse_spec(text.replace("seeds: [0, 1]", "seeds: [0, 1]\npools_vary: true"), "s.yaml")
    assert "its start is its own" in caught.value.found


def test_a_start_that_is_one_for_all_is_asked_once() -> None:
    text = TEXT.replace("{people.start: 100}}", "{people.start: 100}, seeds: one}")
    plan = make_plan(parse_spec(text, "s.yaml"), None, Compute("cpu", "fp32"), only_plan=True)
    starts = [cell for cell in plan.cells if cell.is_start]
    assert len(starts) == 2
    assert len({step.key for cell in starts for step in cell.answers.values()}) == 1


@pytest.mark.parametrize(
    ("probe", "says"),
    [
        ("{task: labelled, file: 'grammar:heuristics'}", "premise and hypothesis"),
        ("{task: hans, file: 'grammar:negation'}", "task: labelled"),
        ("{task: labelled, file: 'grammar:none'}", "none"),
    ],
)
def test_a_grammars_probe_fits_the_study(probe: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_spec(TEXT + f"  spot: {probe}\n", "s.yaml")
    assert says in caught.value.found


def test_labels_of_another_name_need_a_merge() -> None:
    text = TEXT.replace("[positive, negative]", "[good, bad]").replace("grammar: {name: reviews, rows: 5000, seed: 1}",
                                                                       "files: [a.jsonl]")  # fmt: skip
    spot = "  spot: {task: labelled, file: 'grammar:negation'%s}\n"
    with pytest.raises(UserError) as caught:
        parse_spec(text + spot % "", "s.yaml")
    assert "merge" in caught.value.found
    assert parse_spec(text + spot % ", merge: {good: positive, bad: negative}", "s.yaml")


def test_the_number_of_threads_is_the_files(tmp_path: Path) -> None:
    from pyrite.study.config import StudyConfig
    from pyrite.study.run import plan

    (tmp_path / "s.yaml").write_text(TEXT)
    (tmp_path / "two.yaml").write_text(TEXT + "threads: 2\n")
    told = [plan(StudyConfig(spec=str(tmp_path / name), store=tmp_path)).record for name in ("s.yaml", "two.yaml")]
    assert [one["threads"] for one in told] == [1, 2]
