"""Two processes that share a model by FSDP (gloo, CPU) do what one does: losses, weights, guard, cut off and resumed.

Starting processes is dear, so one pair runs every case, and its results are read by all tests.
"""

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_kit import CPU, FILES, NO_GUARD, read_record, repair_step, rows_folder, run, settings_of, weights

from pyrite.errors import OutOfTime, UserError
from pyrite.models.hardware import Compute
from pyrite.repair.settings import GuardSettings, RepairSettings
from pyrite.repair.train import RepairTask, train_in_process
from pyrite.steps import Context, Store
from pyrite.train.shards import read_shards
from pyrite.train.stored_weights import file_of
from pyrite.train.together import RECORD, WEIGHTS

GUARD = GuardSettings(every_tokens=300, answers=0, kl=50, replay_rise=50)
STRICT = GuardSettings(every_tokens=150, answers=0, replay_rise=0.2, kl=20, entropy_ratio=50)
HOW: dict[str, Any] = {"steps": 4, "rate": 1e-3, "pack_tokens": 100, "guard": GUARD}
CASES: dict[str, RepairSettings] = {
    "lora": settings_of(training="lora", **HOW),
    "tied": settings_of(training="full", **HOW),
    "untied": settings_of(training="full", **HOW),
    "qlora": settings_of(training="qlora", **HOW | {"steps": 3, "kl_weight": 1.0}),
    "pairs": settings_of("dpo", training="lora", **HOW | {"steps": 2, "guard": NO_GUARD}),
    "undial": settings_of("undial", training="lora", kl_weight=1.0, **HOW | {"steps": 2, "guard": NO_GUARD}),
    "rmu": settings_of("rmu", training="lora", options={"layer": 1}, **HOW | {"steps": 2, "guard": NO_GUARD}),
    "breach": settings_of("ga", training="full", **HOW | {"steps": 12, "rate": 5e-3, "guard": STRICT}),
}
"""Steps of three packs: one process has an empty place, and some packs hold rows of one kind alone."""
KINDS = "kinds.json"


def context_of(base: Path, name: str, settings: RepairSettings, at: Path) -> Context:
    """A context in which `train_in_process` runs as it does in the step."""
    folder = at / name
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "files": {role: f"{role}.jsonl" for role in FILES},
        "settings": settings.model_dump(mode="json"),
        "compute": CPU.as_config(),
        "seed": 0,
        "base_name": "tiny",
    }
    base_folder = base / ("untied" if name == "untied" else "tied")
    inputs = dict.fromkeys(FILES, base / "rows") | {"base": base_folder}
    return Context(config, inputs, folder, folder, report_progress=lambda *_: None, expired=lambda: False)


def every_case(context: Context) -> None:
    """What both processes do, one case after the other; the last is a loss that is no number, in one of them only."""
    from accelerate.state import AcceleratorState

    from pyrite.repair import objective
    from pyrite.repair import train as module
    from pyrite.train import peers

    real, base, at = module.train, context.inputs["base"], context.checkpoint

    def looked_at(task: RepairTask) -> module.Repaired:
        repaired = real(task)
        if repaired.model is not None and peers.is_first():
            parameters = list(repaired.model.parameters())
            share = sum(parameter.to_local().numel() for parameter in parameters) / sum(
                parameter.numel() for parameter in parameters
            )
            kinds = sorted({type(parameter).__name__ for parameter in parameters})
            (task.context.checkpoint / KINDS).write_text(json.dumps({"kinds": kinds, "share": share}))
        return repaired

    module.train = looked_at
    for name, settings in CASES.items():
        train_in_process(context_of(base, name, settings, at))
        AcceleratorState._reset_state(reset_partial_state=False)
    for case in ("lora", "tied"):
        cuts = itertools.cycle([False, True])
        cut = replace(context_of(base, f"cut-{case}", CASES[case], at), expired=cuts.__next__)
        for _ in range(4):
            AcceleratorState._reset_state(reset_partial_state=False)
            try:
                train_in_process(cut)
                break
            except OutOfTime:
                assert list(cut.checkpoint.glob("checkpoint-*/complete"))
        else:
            raise AssertionError("it never came to its end")
        AcceleratorState._reset_state(reset_partial_state=False)
    train_in_process(replace(context_of(base, "left", CASES["lora"], at), checkpoint=Path(context.config["left"])))
    AcceleratorState._reset_state(reset_partial_state=False)
    if not peers.is_first():
        objective.RepairObjective.__call__ = lambda self, module, *args: (
            module.reader.head.weight.sum() * math.nan,
            {},
        )
    train_in_process(context_of(base, "broken", CASES["lora"].model_copy(update={"guard": NO_GUARD}), at))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> dict[str, Any]:
    """Every case by one process and by two; and a step of the command that was cut off, and finished by the pair."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from conftest import Clock, set_clock  # isort: skip
    from pyrite.train.together import run_in_processes

    at = tmp_path_factory.mktemp("processes")
    shutil.copytree(tiny_causal, at / "base" / "tied")
    shutil.copytree(tiny_causal, at / "base" / "untied")
    config = LlamaConfig.from_pretrained(tiny_causal)
    config.tie_word_embeddings = False
    LlamaForCausalLM(config).save_pretrained(at / "base" / "untied")
    rows = rows_folder(at / "base" / "rows")
    for name, settings in CASES.items():
        train_in_process(context_of(at / "base", name, settings, at / "one"))

    store = Store(at / "store")
    step = repair_step(at / "base" / "tied", rows, replace_processes(CASES["lora"]))
    with pytest.MonkeyPatch.context() as patch:
        set_clock(patch, Clock(itertools.chain([False, True], itertools.repeat(False))))
        with pytest.raises(OutOfTime):
            run(step, store, max_seconds=1.0)
    [checkpoint] = {folder.parent.parent for folder in (at / "store").rglob("checkpoint-2/complete")}
    shared = context_of(at / "base", "shared", CASES["lora"], at / "two")
    inputs = {**shared.inputs, "base": at / "base"}
    context = replace(shared, config={**shared.config, "left": str(checkpoint)}, inputs=inputs, checkpoint=at / "two")
    with pytest.raises(UserError) as broken:
        run_in_processes(2, CPU, every_case, context)
    return {"at": at, "broken": broken.value, "step": step, "store": store, "left": checkpoint}


def replace_processes(settings: RepairSettings) -> RepairSettings:
    return settings.model_copy(update={"processes": 2})


def record_of(cases: dict[str, Any], count: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((cases["at"] / count / name / RECORD).read_bytes())
    return loaded


def trained(cases: dict[str, Any], count: str, name: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    path = cases["at"] / count / name / WEIGHTS
    tensors: dict[str, Any] = load_file(file_of(path)) if file_of(path).is_file() else read_shards(path)
    return tensors


def same_numbers(first: Any, second: Any, tolerance: float) -> None:
    assert len(first) == len(second)
    for row, second_row in zip(first, second, strict=True):
        assert row.keys() == second_row.keys()
        for name, value in row.items():
            if isinstance(value, float):
                assert second_row[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name
            else:
                assert (second_row[name] is None) == (value is None), name


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_losses_and_weights_of_one(cases: dict[str, Any], name: str) -> None:
    by_one, by_two = record_of(cases, "one", name), record_of(cases, "two", name)
    same_numbers(by_one["curve"], by_two["curve"], 1e-5)
    same_numbers(by_one["guard"], by_two["guard"], 1e-5)
    assert by_one["tokens"] == by_two["tokens"]
    weights_of_one, weights_of_two = trained(cases, "one", name), trained(cases, "two", name)
    assert weights_of_one.keys() == weights_of_two.keys()
    assert max(float((weights_of_one[key] - weights_of_two[key]).abs().max()) for key in weights_of_one) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_the_weights_were_shared_out(cases: dict[str, Any], name: str) -> None:
    shared = json.loads((cases["at"] / "two" / name / KINDS).read_text())
    assert shared["kinds"] == ["DTensor"]
    assert shared["share"] == pytest.approx(0.5, abs=0.05)


def test_the_head_is_untied_where_it_should_be(cases: dict[str, Any]) -> None:
    names = {name: set(trained(cases, "two", name)) for name in ("tied", "untied")}
    assert names["untied"] - names["tied"] == {"lm_head.weight"}


def test_a_breach_stops_both_and_rolls_both_back(cases: dict[str, Any]) -> None:
    by_one, by_two = record_of(cases, "one", "breach"), record_of(cases, "two", "breach")
    assert by_two["stopped"] is not None
    assert by_two["point"]["step"] < by_two["stopped"]["step"] < 12
    assert (by_one["stopped"]["step"], by_one["point"]["step"]) == (by_two["stopped"]["step"], by_two["point"]["step"])


@pytest.mark.parametrize("case", ["lora", "tied"])
def test_cut_off_and_resumed_is_never_cut_off(cases: dict[str, Any], case: str) -> None:
    uncut, cut = record_of(cases, "two", case), record_of(cases, "two", f"cut-{case}")
    for name in ("curve", "guard", "point", "steps"):
        assert uncut[name] == cut[name], name
    uncut_weights, cut_weights = trained(cases, "two", case), trained(cases, "two", f"cut-{case}")
    assert all(bool((uncut_weights[key] == cut_weights[key]).all()) for key in uncut_weights)


def test_the_step_goes_on_from_where_it_was_cut_off(cases: dict[str, Any]) -> None:
    """Its time was up after two steps; a pair of processes finished the training; what is left is to save the model."""
    folder = run(cases["step"], cases["store"])
    rows = cases["step"].inputs["forget"]
    by_one = run(repair_step(cases["at"] / "base" / "tied", rows, CASES["lora"]), cases["store"])
    weights_of_one, weights_of_two = weights(by_one), weights(folder)
    assert max(float((weights_of_one[key] - weights_of_two[key]).abs().max()) for key in weights_of_one) < 1e-4
    same_numbers(read_record(by_one)["curve"], read_record(folder)["curve"], 1e-5)
    assert [look["step"] for look in read_record(folder)["guard"]] == [
        look["step"] for look in read_record(by_one)["guard"]
    ]


def test_an_error_of_one_process_reaches_the_user_as_it_is(cases: dict[str, Any]) -> None:
    assert "not a finite number" in cases["broken"].what
    assert "nan at step 1" in cases["broken"].found


def test_what_cannot_be_shared_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyrite.train.processes import check_devices

    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match="2 processes, devices of kind cuda: 1"):
        check_devices(2, Compute("cuda", "fp32"))
    with pytest.raises(UserError, match="fewer devices"):
        check_devices(2, Compute("mps", "fp32"))
    check_devices(2, CPU)
    with pytest.raises(ValueError, match="several processes need"):
        RepairSettings(processes=2, training={"optimizer": "paged_adamw_32bit"})  # type: ignore[arg-type]
