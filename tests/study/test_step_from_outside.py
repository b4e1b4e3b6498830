"""A step type of a study is one function and one entry: a toy one from outside doubles a model's last layer norm."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pyrite
from pyrite.errors import UserError
from pyrite.models.load import WEIGHTS
from pyrite.steps import Context, Step, StepType
from pyrite.study.load import parse_spec
from pyrite.study.other_steps import OTHER_STEPS, register_step
from pyrite.study.plan_steps import CellSteps, Place, Standing

STUDY = """\
study: toy
model: {causal}
precision: fp32
data: {{rows: {{files: [rows.jsonl], pools: {{some: 8}}}}}}
steps: {{louder: {{type: toy_scale, options: {{by: 2}}}}}}
cells: {{start: [], loud: [louder], louder_still: [louder, louder]}}
probes: {{texts: {{task: perplexity, file: texts.jsonl}}}}
seeds: [0]
workers: 1
"""


def scale_step(context: Context) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(context.inputs["base"], context.out, dirs_exist_ok=True)
    weights = load_file(context.out / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight") and "layers" not in name)
    weights[name] = weights[name] * context.config["by"]
    save_file(weights, context.out / "model.safetensors", metadata={"format": "pt"})


SCALE = StepType("toy.scale", 1, scale_step)


def plan_scale(planner: CellSteps, options: dict[str, Any], at: Standing, place: Place) -> Standing:
    step = Step(SCALE, {"by": options["by"]}, {"base": at.model or planner.base}, label=place.label, weights=WEIGHTS)
    return replace(at, model=planner.keep(step))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(OTHER_STEPS, "toy_scale", raising=False)
    register_step("toy_scale", plan_scale)


@pytest.mark.usefixtures("toy")
def test_a_toy_step_stands_in_cells(tmp_path: Path, tiny_causal: Path) -> None:
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"text": f"the word number {at}"}) + "\n" for at in range(6))
    )
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"say {at}", "completion": "it"}) + "\n" for at in range(9))
    )
    (tmp_path / "toy.yaml").write_text(STUDY.format(causal=tiny_causal))
    config = pyrite.StudyConfig(
        spec=str(tmp_path / "toy.yaml"), data=tmp_path, store=tmp_path / "store", out=tmp_path / "runs", quiet=True
    )
    told = pyrite.study(config).as_json()
    nats = {row["cell"]: row["mean"] for row in told["summary"] if row["metric"] == "nats_per_token"}
    assert len({round(value, 6) for value in nats.values()}) == 3  # every cell is another model


def test_a_type_that_is_not_registered_is_refused_and_none_is_replaced() -> None:
    with pytest.raises(UserError, match="there is no 'toy_scal'"):
        parse_spec(STUDY.format(causal="nowhere").replace("toy_scale", "toy_scal"), "s.yaml")
    register_step("toy_other", plan_scale)
    with pytest.raises(UserError, match="there already"):
        register_step("toy_other", lambda *_: None)
    del OTHER_STEPS["toy_other"]
